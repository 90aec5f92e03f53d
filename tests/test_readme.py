"""Every command of the README and its pages exists and takes its arguments.

test_pipeline.py and test_readme_servers.py run the long ones.
"""

import importlib
import importlib.util
import re
import shlex
import shutil

import pytest
import yaml
from readme import PAGES, README, commands
from tiny_project import ROOT

from rhs.cli import parser
from rhs.config.compose import compose
from rhs.study.settings import load_study
from rhs.tuning.settings import load_settings

OWN = "conf/experiment/mine.yaml"  # which the reader writes
LOADED = {"pipelines.tune": load_settings, "pipelines.study": load_study}


def check_make(words: list[str]) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert words[1] in targets
    given = dict(word.split("=", 1) for word in words[2:])
    changes = given.get("ARGS", "").split()
    if words[1] == "tune":
        load_settings(given["TUNE"], changes)
    elif words[1] == "study":
        load_study(given["STUDY"], changes)


def check_dvc(words: list[str]) -> None:
    if words[1:3] == ["exp", "run"]:
        assert set(words[3::2]) == {"-S"}
        compose(words[4::2])
    elif words[1] == "remote":
        assert words[2:5] == ["add", "-d", "store"]
    elif words[1] in ("push", "pull", "repro"):  # test_remotes.py runs them
        stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
        assert words[-1] in stages
        assert words[2:-1] in ([], ["--single-item"])
    else:
        assert words[1:3] in (["exp", "show"], ["metrics", "show"])


def check_python(words: list[str]) -> None:
    assert words[1] == "-m"
    assert importlib.util.find_spec(words[2]) is not None
    if words[2] in LOADED:
        name, changes, base = importlib.import_module(words[2]).divided(words[3:])
        LOADED[words[2]](name, changes)
        compose(base)
        return
    compose([word for word in words[3:] if "=" in word and not word.startswith("--")])


def check_ray(words: list[str]) -> None:
    assert words[1:3] == ["job", "submit"]
    check_python(words[words.index("--") + 1 :])


def check_source(words: list[str]) -> None:
    assert words[1] == ".venv/bin/activate"


def check_export(words: list[str]) -> None:
    assert re.fullmatch(r"[A-Z_]+=\w+", words[1])


def check_rhs(words: list[str]) -> None:
    parser().parse_args(words[1:])  # test_cli.py and test_pipeline.py run them


CHECKS = {
    "make": check_make,
    "dvc": check_dvc,
    "python": check_python,
    "ray": check_ray,
    "source": check_source,
    "export": check_export,
    "rhs": check_rhs,
}


@pytest.mark.parametrize("command", commands())
def test_command_is_real(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    words = shlex.split(command)
    CHECKS[words[0]](words)


def test_files_and_settings_named_in_the_text_exist() -> None:
    text = "\n".join(PAGES.values())
    paths = set(re.findall(r"`((?:rhs|conf|pipelines)/[\w/.]*)`", text))
    assert {path for path in paths if not (ROOT / path).exists()} == {OWN}


def test_an_experiment_of_ones_own_keeps_the_choice(tmp_path, monkeypatch) -> None:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGES["docs/pipeline.md"], re.DOTALL)
    (tmp_path / OWN).write_text(text)
    monkeypatch.chdir(tmp_path)
    params = compose(["experiment=mine", "train.epochs=20"])
    assert (params.dataset.name, params.dataset.source) == ("folder", "photos.tar")
    assert (params.model.name, params.train.epochs) == ("efficientnet_lite0", 20)


def test_links_and_pictures_lead_somewhere() -> None:
    """Those of the README; `mkdocs build --strict` looks at the others."""
    links = [link for link in re.findall(r"\]\(([^)\s#]+)", README) if "://" not in link]
    assert "docs/gallery.png" in links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 160
