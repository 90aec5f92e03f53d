import copy
from dataclasses import asdict

import pytest
from omegaconf import OmegaConf
from tiny_project import small_params

from rhs.config.compose import compose, load_params
from rhs.config.instantiate import locate
from rhs.config.renames import KEYS, VALUES
from rhs.config.schema import BadSetting, keys, read_params
from rhs.config.target_checks import check_target
from rhs.errors import UserError
from rhs.inference.faiss_index import check_index_settings
from rhs.methods.generators.rotation import ROTATED


def renamed(key: str) -> dict:
    """Good parameters with a key's old name in place of its new one."""
    params = copy.deepcopy(asdict(small_params()))
    *above, new = KEYS[key].split(".")
    group = params
    for each in above:
        group = group[each]
    group[key.rpartition(".")[2]] = group.pop(new)
    return params


@pytest.mark.parametrize("key", KEYS)
def test_an_old_key_is_refused_with_the_new_one(key, tmp_path, monkeypatch):
    with pytest.raises(BadSetting, match=f"^{key} is called {KEYS[key]} now") as caught:
        read_params(renamed(key))
    assert caught.value.key == key
    for override in (f"{key}=1", f"+{key}=1"):
        with pytest.raises(UserError, match=f"{key} is called {KEYS[key]} now"):
            compose([override])
    monkeypatch.chdir(tmp_path)
    OmegaConf.save(OmegaConf.create(renamed(key)), "params.yaml")
    with pytest.raises(UserError, match=f"^params.yaml: {key} is called {KEYS[key]} now"):
        load_params()


def test_an_index_made_in_python_is_told_too():
    with pytest.raises(UserError, match=r"index.hnsw.links is called index.hnsw.M now"):
        check_index_settings({"hnsw": {"links": 16}})


def test_an_old_value_is_refused_with_the_new_one():
    said = r"method.generator.only is 'nearer', which is called 'same_side' now"
    with pytest.raises(UserError, match=said):
        compose(["method=rhs_npair_same_side", "method.generator.only=nearer"])
    method = compose(["method=rhs_npair_same_side"]).method
    method["generator"]["only"] = "nearer"
    with pytest.raises(UserError, match=said):
        check_target("method", method, "rhs.")
    assert VALUES["only"].keys().isdisjoint(ROTATED)


@pytest.mark.parametrize("old", VALUES["_target_"])
def test_an_old_target_is_refused_with_the_new_one(old):
    new = VALUES["_target_"][old]
    locate(new, "rhs.", ())
    with pytest.raises(UserError, match="does not exist"):
        locate(old, "rhs.", ())
    with pytest.raises(UserError, match=f"method.mining._target_ is '{old}'.*'{new}' now"):
        compose([f"method.mining._target_={old}"])


def test_the_new_names_are_known_and_the_old_are_not():
    known = set(keys()) | {"method.original_weight"}
    assert set(KEYS.values()) <= known
    assert known.isdisjoint(KEYS)
