"""Where a model is, by what people call it. MLflow's part is in test_serving.py."""

import shutil

import pytest
import yaml
from searchable import save_model

from rhs.errors import UserError
from rhs.inference.locate_model import ModelLocation, locate_model


@pytest.fixture
def project(mine, monkeypatch):
    monkeypatch.chdir(mine.root)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return mine.root


def as_strings(place: ModelLocation) -> tuple[str, str | None]:
    return str(place.model), place.index and str(place.index)


def test_the_only_model_is_taken_and_several_are_listed(project):
    assert as_strings(locate_model(None)) == ("models/tiny", str(project / "index/tiny"))
    (project / "models/half").mkdir()
    assert locate_model(None).model.name == "tiny", "half is no model"
    save_model(project / "models/other", 2)
    with pytest.raises(UserError, match=r"several models: .* \(models/other, models/tiny\)"):
        locate_model(None)
    shutil.rmtree(project / "models")
    with pytest.raises(UserError, match=r"no model in .*models: run the train stage"):
        locate_model(None)


def test_a_folder(project, tmp_path):
    assert as_strings(locate_model("models/tiny")) == ("models/tiny", str(project / "index/tiny"))
    shutil.rmtree(project / "index")
    assert as_strings(locate_model("models/tiny")) == ("models/tiny", None)
    alone = tmp_path / "sent"
    shutil.copytree(project / "models/tiny", alone / "model")
    assert as_strings(locate_model(str(alone))) == (str(alone / "model"), None)
    (alone / "index").mkdir()
    assert locate_model(str(alone)).index is None, "an empty folder is no index"
    (alone / "index/index.json").write_text("{}")
    assert locate_model(str(alone)).index == alone / "index"
    with pytest.raises(UserError, match=r"holds no model: model.safetensors and config.json"):
        locate_model(str(tmp_path))


def test_the_name_of_a_run(project):
    name = "tiny-npair-convnet-00c0ffee"
    with pytest.raises(UserError, match="No model is called 'tiny-npair"):
        locate_model(name)
    (project / "runs" / name).mkdir(parents=True)
    assert as_strings(locate_model(name)) == ("models/tiny", str(project / "index/tiny"))
    (project / "runs/other").mkdir()
    with pytest.raises(UserError, match="Run 'other' has no model"):
        locate_model("other")


def test_what_mlflow_keeps_of_a_model_stays_within_its_folder(project, tmp_path):
    logged = tmp_path / "logged"
    shutil.copytree(project / "models/tiny", logged / "artifacts/0/tiny")
    shutil.copytree(project / "index/tiny", logged / "artifacts/1/tiny")

    def write(**paths):
        artifacts = {name: {"path": path} for name, path in paths.items()}
        text = yaml.safe_dump({"flavors": {"python_function": {"artifacts": artifacts}}})
        (logged / "MLmodel").write_text(text)

    write(model="artifacts/0/tiny", index="artifacts/1/tiny")
    place = locate_model(str(logged))
    assert place == ModelLocation(logged / "artifacts/0/tiny", logged / "artifacts/1/tiny")
    write(model="artifacts/0/tiny", index=str(project / "index/tiny"))
    assert locate_model(str(logged)).index is None
    for outside in ("../project/models/tiny", str(project / "models/tiny"), "nowhere"):
        write(model=outside)
        with pytest.raises(UserError, match="none that this project registered"):
            locate_model(str(logged))
    for text in ("flavors: {sklearn: {}}", "- 1", ": :", "!!python/object:os.system {}"):
        (logged / "MLmodel").write_text(text)
        with pytest.raises(UserError, match="none that this project registered"):
            locate_model(str(logged))


@pytest.mark.parametrize("where", ["nonsense", "a/b", "runs/none", "0" * 31, "~nobody-here/x", ""])
def test_what_names_nothing_lists_what_is_accepted(project, where):
    if where == "":
        (project / "models/tiny/config.json").unlink()  # or the present folder would be looked at
    with pytest.raises(UserError, match=r"(accepted: a folder with a model|holds no model)"):
        locate_model(where)


@pytest.mark.parametrize("where", ["rhs-tiny@champion", "models:/rhs-tiny/1", "0" * 32])
def test_mlflow_is_not_made_by_asking_it(project, where):
    with pytest.raises(UserError, match=r"was not looked for: there is no database .*mlflow.db"):
        locate_model(where)
    assert not (project / "mlflow.db").exists()
