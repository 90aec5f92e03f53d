"""Whatever a parameter names is refused where stages replace and delete, and stays as it is."""

import os
from pathlib import Path

import pytest
from folders import files, make_images
from tiny_project import composed

from pipelines.ensure_shards import prepared
from rhs.datasets.input_guard import refuse_input, refuse_inputs, refuse_target
from rhs.errors import UserError
from rhs.storage.outputs import OUTPUTS, PLACES

FOLDERS = [place for place in PLACES if "." not in place]


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    here = tmp_path / "project"
    (here / "data/raw").mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.delenv("RHS_MIRROR", raising=False)
    return here


def params_of(source: object, data: str = "folder", **fetch: object) -> dict:
    recipe = {"_target_": f"rhs.datasets.{data}.fetch", **fetch}
    return {"dataset": {"name": "birds", "source": source, "fetch": recipe}}


def refused(params: dict) -> str:
    with pytest.raises(UserError) as caught:
        refuse_inputs(params)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("place", FOLDERS)
def test_a_source_in_every_output(project, place):
    inside, link = project / place / "mine", project / "link"
    make_images(inside, [1])
    link.symlink_to(inside)
    (project / "way").mkdir()
    outside = project.parent / "beside"
    outside.symlink_to(project / place.split("/")[0])
    rest = "/".join([*place.split("/")[1:], "mine"])
    for source in (
        place,
        f"{place}/",
        f"{place}/mine",
        str(inside),
        f"./way/../{place}/mine",
        "link",
        str(link),
        f"{outside}/{rest}",
        f"{place}/mine/class0",
        f"{place}/not_there.tar",
    ):
        said = refused(params_of(source))
        assert said.startswith(f"dataset.source is {source}, which ")
        assert f" {place}, where stages replace and delete files: move it elsewhere, " in said
        assert "and set dataset.source=data/originals/" in said


@pytest.mark.parametrize("source", [".", "data", "..", "../project/data", "/", "link/project"])
def test_a_source_above(project, source):
    (project / "link").symlink_to(project.parent)
    said = refused(params_of(source))
    assert said.startswith(f"dataset.source is {source}, which holds data/")
    assert said.endswith("give a folder that holds nothing but your own files.")


def test_an_output_that_is_a_link(project):
    """Whether the link, or what it leads to, is named."""
    big = project.parent / "big"
    make_images(big / "birds", [1])
    (project / "data/raw").rmdir()
    (project / "data/raw").symlink_to(big)
    for source in ("data/raw/birds", str(big / "birds"), str(big), str(big.parent)):
        refused(params_of(source))


def test_a_home(project, monkeypatch):
    monkeypatch.setenv("HOME", str(project))
    assert "dataset.source is ~/runs/x, which lies in runs" in refused(params_of("~/runs/x"))


@pytest.mark.parametrize(
    "source",
    [
        "rhs/datasets/glyphs.py",
        "images",
        "photos.tar",
        "data/originals/birds",
        "../photos",
        "data/rawest",
        "data/downloads/mine.tar",
        "modelship",
        2024,
        "",
        None,
        True,
    ],
)
def test_what_lies_elsewhere_is_taken(project, source):
    refuse_inputs(params_of(source))


def test_a_source_that_its_data_set_does_not_read(project):
    for data in ("glyphs", "cub200", "cars196", "sop", "inshop", "omniglot"):
        refuse_inputs(composed(f"dataset={data}"))
        said = refused(params_of("photos", data))
        assert said.startswith(f"dataset.source is photos, which {data} does not read")
        assert "dataset=folder" in said


@pytest.mark.parametrize("place", PLACES)
def test_what_else_parameters_name(project, place, monkeypatch):
    inside = f"{place}/x"
    (project / place).mkdir(parents=True, exist_ok=True)
    (project / inside).write_text("a\n")
    dataset = params_of("images")["dataset"]
    for name, more in (
        ("dataset.train_classes", {"dataset": dataset | {"train_classes": inside}}),
        ("dataset.test_classes", {"dataset": dataset | {"test_classes": inside}}),
        ("dataset.fetch.root", params_of("a.csv", "table", root=inside)),
        ("fetch.mirror", {"fetch": {"mirror": inside}}),
        ("fetch.folder", {"fetch": {"folder": inside}}),
        ("dataset.source", params_of(inside, "table")),
    ):
        assert refused(more).startswith(f"{name} is {inside}, which lies in {place}, ")
    refuse_inputs({"fetch": {"mirror": "https://example.org/data/raw", "folder": "data"}})
    monkeypatch.setenv("RHS_MIRROR", inside)
    assert refused({}).startswith(f"RHS_MIRROR is {inside}, which lies in {place}, ")
    refuse_inputs({"fetch": {"mirror": "data/downloads"}})
    with pytest.raises(UserError, match=r"^study\.datasets is "):
        refuse_input("study.datasets", inside, whole=False)
    with pytest.raises(UserError, match=r"^--out is "):
        refuse_target("--out", Path(inside))


def test_class_names_and_expressions_are_no_files(project):
    dataset = params_of("images")["dataset"]
    for classes in (["data/raw", "models"], "models|runs", "data/raw/nothing"):
        refuse_inputs({"dataset": dataset | {"train_classes": classes}})


@pytest.mark.parametrize("place", FOLDERS)
def test_images_of_a_table(project, place):
    make_images(project / place / "mine", [1])
    make_images(project / "photos", [1])
    image, good = f"{place}/mine/class0/0.png", "photos/class0/0.png"
    (project / "photos/link.png").symlink_to(project / image)
    os.symlink(project / place, project / "way")
    windows = image.replace("/", "\\")
    for row in (image, str(project / image), "way/mine/class0/0.png", "photos/link.png", windows):
        Path("a.csv").write_text(f"path,label\n{good},a\n{row},b\n")
        said = refused(params_of("a.csv", "table"))
        assert said.startswith("dataset.source ")
        assert f"a.csv lists {project}/" in said
        assert f", which lies in {place}, " in said
    Path("a.csv").write_text(f"file,label\n{place}/mine/class0/0.png,b\n")
    refused(params_of("a.csv", "table", path="file"))
    Path("a.csv").write_text("path,label\nmine/class0/0.png,b\n")
    refused(params_of("a.csv", "table", root=place))
    Path("a.csv").write_text(f"path,label\n{good},a\n")
    refuse_inputs(params_of("a.csv", "table"))  # the table beside the outputs
    refuse_inputs(params_of("a.csv", "table", root="."))


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"dataset": None},
        {"dataset": "x"},
        {"dataset": {"source": ["a", None], "fetch": 3}},
        {"fetch": []},
        params_of("missing.csv", "table"),
        params_of(None, "table"),
    ],
)
def test_what_the_stages_themselves_refuse_is_passed_over(project, params):
    refuse_inputs(params)


def test_a_queued_experiments_copy(project, monkeypatch):
    copy = project / ".dvc/tmp/exps/tmp1"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    for source in (str(project / "data/raw/birds"), "data/raw/birds", "../../../../runs"):
        refused(params_of(source))
    refuse_inputs(params_of(str(project / "photos")))


def test_the_projects_own_data_sets():
    for name in ("glyphs", "folder", "table", "cub200"):
        refuse_inputs(composed(f"dataset={name}"))


def test_stages_refuse_and_touch_nothing(project, tmp_path):
    """Where no DVC is between, as tune and study call fetch."""
    make_images(project / "data/raw/folder", [6] * 4)
    before = files(project)
    params = composed("dataset=folder", "dataset.source=data/raw/folder", "fetch.mirror=null")
    with pytest.raises(UserError, match=r"dataset\.source is data/raw/folder"):
        prepared(params)
    assert files(project) == before


def test_outputs_are_where_dvc_has_them():
    from tiny_project import ROOT
    from yaml import safe_load

    stages = safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    entries = [entry for stage in stages for entry in [*stage["outs"], *stage.get("metrics", [])]]
    assert all(settings["persist"] for entry in entries for settings in entry.values())
    paths = {path.replace("${dataset.name}", "*") for entry in entries for path in entry}
    assert {
        path for path in paths if path not in OUTPUTS and os.path.dirname(path) not in OUTPUTS
    } == {"metrics.json"}
