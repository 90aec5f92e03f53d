"""The studies under benchmarks/, on a data set of a few small pictures."""

import json
import sys

import numpy as np
import pytest
from tiny_project import ROOT, SMALL, write_shards

from benchmarks import collapse, retrieval, retrieval_peers
from benchmarks.retrieval_peers import CONTENDERS

# class000 to class003 are the group "class00", the other four the group "class0".
GROUPS = "dataset.coarse='class00(?=[0-3])|class0'"


def study(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict:
    """What a run of `python -m benchmarks.collapse` leaves, two arms and one seed if not told."""
    small = [word for word in SMALL if not word.startswith(("train.", "model=", "tracking="))]
    command = [*small, GROUPS, "train.classes=2", "train.per_class=4", "--out=results", *arguments]
    monkeypatch.setattr(sys, "argv", ["collapse", *command])
    collapse.main()
    with open("results/collapse_glyphs.json") as file:
        return json.load(file)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with the project's configuration and eight small training classes."""
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    write_shards(tmp_path / "data/shards/glyphs", train=[4] * 8, val=[], test=[4] * 3)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_study_of_collapse_has_its_columns_and_curves(project, monkeypatch):
    made = study(monkeypatch, "train.epochs=1", "--arms=random,easy", "--seeds=0")
    assert (made["groups"], made["classes"], made["unseen_classes"]) == (2, 8, 3)
    assert [arm["name"] for arm in made["arms"]] == ["random", "easy"]
    for arm in made["arms"]:
        (cell,) = arm["cells"]
        assert list(cell["scores"]) == list(made["columns"]) == list(collapse.COLUMNS)
        assert [row["epoch"] for row in cell["curve"]] == [0, 1]
        assert cell["curve"][1]["recall_seen"] == cell["scores"]["recall_seen"]
    first, second = (arm["cells"][0] for arm in made["arms"])
    assert first["curve"][0] == second["curve"][0]  # the same untrained network
    assert first["curve"][1] != second["curve"][1]
    text = (project / "results/collapse_glyphs.md").read_text()
    assert "--seeds=0 --arms=random,easy" in text
    for title, note, _ in collapse.COLUMNS.values():
        assert f"{title}, {note}" in text


def test_a_study_continues_where_it_was_cut_off(project, monkeypatch):
    arguments = ("train.epochs=2", "--arms=easy", "--seeds=1")
    whole = study(monkeypatch, *arguments)
    (kept,) = project.glob("runs/*/collapse.json")
    log = kept.with_suffix(".jsonl")
    for lost in (0, 1):  # after the last measurement; between the last epoch and its measurement
        kept.unlink()
        log.write_text("".join(log.read_text().splitlines(True)[: 2 - lost]))
        assert study(monkeypatch, *arguments)["arms"] == whole["arms"]


def test_the_spread_tells_collapsed_groups_from_open_ones():
    random = np.random.default_rng(0)
    groups, labels = np.repeat([0, 1], 60), np.repeat(np.arange(6), 20)
    group_at, class_at = 5 * np.eye(2, 8)[groups], np.eye(6, 8, k=2)[labels]
    noise = 0.05 * random.normal(size=(120, 8))
    collapsed = collapse.spread(group_at + noise, labels, groups)
    kept = collapse.spread(group_at + 3 * class_at + noise, labels, groups)
    assert collapsed["intra_inter_ratio"] < 0.1 < kept["intra_inter_ratio"]
    assert collapsed["class_share"] < 0.1
    assert kept["class_share"] > 0.95
    assert collapsed["effective_rank"] < 1.1
    assert kept["effective_rank"] > 1.5


def test_a_spread_of_points_in_one_place_is_no_error():
    told = collapse.spread(np.ones((6, 3)), np.repeat([0, 1, 2], 2), np.repeat([0, 1], 3))
    assert all(np.isfinite(value) for value in told.values())


@pytest.fixture(scope="module")
def products():
    """A hundredth of Stanford Online Products, as benchmarks.retrieval makes them."""
    return retrieval.embeddings(605, 16, 113, 0.8)


def test_embeddings_of_the_retrieval_benchmark_are_what_it_says(products):
    x_ND, labels_N = products
    assert (x_ND.shape, x_ND.dtype) == ((605, 16), np.float32)
    np.testing.assert_allclose(np.linalg.norm(x_ND, axis=1), 1, atol=1e-6)
    sizes = np.unique(labels_N, return_counts=True)[1]
    assert (len(sizes), sizes.min(), sizes.max() <= 12) == (113, 2, True)


@pytest.mark.parametrize("name", [name for name in CONTENDERS if name not in ("ours", "oml1000")])
def test_the_contenders_of_the_retrieval_benchmark_find_our_numbers(products, name):
    made = CONTENDERS[name][1](*products, "cpu")
    ours = CONTENDERS["ours"][1](*products, "cpu")
    assert 0.3 < ours["map@r"] < ours["r_precision"] < ours["recall@1"] < 0.95
    assert set(made) <= set(ours)
    assert made == pytest.approx({metric: ours[metric] for metric in made}, abs=1e-9)
    assert bool(made) == (name != "product")


def test_the_retrieval_benchmark_writes_its_tables(tmp_path, monkeypatch):
    def here(name, folder, options):  # in a process of its own it would load everything again
        if name == "sklearn1000":
            return {"failed": "out of | memory"}
        return retrieval_peers.measure(name, folder, options.device)

    out = tmp_path / "out.md"
    arguments = ["--only=ours,faiss10,sklearn1000", "--size=0.01", "--rounds=2", f"--out={out}"]
    monkeypatch.setattr(retrieval, "_measured", here)
    monkeypatch.setattr(sys, "argv", ["retrieval", *arguments])
    retrieval.main()
    lines = out.read_text().splitlines()
    assert (
        "`python -m benchmarks.retrieval --only=ours,faiss10,sklearn1000 --size=0.01`" in lines[0]
    )
    assert "605 x 512, 113 classes of 2 to 12" in lines[2]
    cells = {line.split(" | ")[0]: line.split(" | ") for line in lines if " | " in line}
    times = [line for line in lines if line.startswith(("| ours | `", "| faiss10 | faiss"))]
    assert times[0].split(" | ")[3] == "1.00"
    assert float(times[1].split(" | ")[3]) > 0
    assert any("failed: out of   memory" in line for line in lines)
    assert cells["| faiss10"][-2:] == ["0.0e+00", " |"]  # the last table: as ours
    assert cells["| faiss10"][1:3] == cells["| ours"][1:3]
