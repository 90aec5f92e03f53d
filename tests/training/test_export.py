"""The model folder: what a run's last checkpoint becomes."""

import csv
import json

import pytest
import torch
from tiny_project import small_model_config, small_params

from rhs.config.instantiate import build
from rhs.errors import UserError
from rhs.models.embedder import build_embedder, load_config, load_embedder
from rhs.run import Run
from rhs.storage.store import open_store
from rhs.training import checkpoint
from rhs.training.export import export, write_history

HISTORY = [
    {"epoch": 1, "step": 4, "loss": 2.5},
    {"epoch": 2, "step": 8, "loss": 1.25, "val_recall@1": 0.5},
]


@pytest.fixture
def run(tmp_path):
    """A run with two checkpoints, whose weights are 1 and 2 steps away from those of the seed."""
    run = Run("tiny-run", tmp_path / "runs" / "tiny-run")
    embedder = build_embedder(small_model_config(), seed=1)
    objective = build({"_target_": "rhs.methods.centers.BatchCenters"})
    optimizer = torch.optim.SGD(embedder.parameters())
    for step in (4, 8):
        with torch.no_grad():
            for parameter in embedder.parameters():
                parameter += 0.01
        state = {"epochs_done": step // 4, "history": HISTORY[: step // 4]}
        tensors = checkpoint.cpu_copies(checkpoint.state_tensors(embedder, objective, optimizer))
        checkpoint.save(open_store(run.checkpoints), step, tensors, state)
    return run, embedder


def test_the_last_checkpoint_can_be_loaded_and_embeds_the_same(tmp_path, run):
    run, embedder = run
    out = tmp_path / "models" / "tiny"
    export(small_params("train.epochs=2"), run, out)
    assert {"model.safetensors", "config.json", "history.csv"} == {p.name for p in out.iterdir()}
    images = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
    torch.testing.assert_close(
        load_embedder(out).embed(images), embedder.eval().embed(images), rtol=0, atol=0
    )


def test_the_configuration_says_what_made_it(tmp_path, run):
    export(small_params("train.epochs=2"), run[0], tmp_path / "out")
    config = load_config(tmp_path / "out")
    assert config["run"] == "tiny-run"
    assert config["preprocess"] == {"short_side": 256, "quality": 95}
    assert config["trunk"]["widths"] == [8, 16]
    json.dumps(config)


def test_an_older_model_is_replaced_as_a_whole(tmp_path, run):
    out = tmp_path / "out"
    export(small_params("train.epochs=2"), run[0], out)
    (out / "sha256.json").write_text("of another run")
    export(small_params("train.epochs=2"), run[0], out)
    assert not (out / "sha256.json").exists()


def test_a_folder_with_a_file_of_the_users_is_not_replaced(tmp_path, run):
    mine = tmp_path / "out" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("of the user")
    with pytest.raises(UserError, match=r"holds mine\.txt, which no stage made"):
        export(small_params("train.epochs=2"), run[0], mine.parent)
    assert mine.read_text() == "of the user"


def test_history(tmp_path):
    write_history(tmp_path / "history.csv", HISTORY)
    rows = list(csv.DictReader((tmp_path / "history.csv").open(newline="")))
    assert list(rows[0]) == ["epoch", "step", "loss", "val_recall@1"]
    assert [row["val_recall@1"] for row in rows] == ["", "0.5"]
    assert [float(row["loss"]) for row in rows] == [2.5, 1.25]


def test_a_run_without_a_checkpoint(tmp_path):
    with pytest.raises(AssertionError, match="no checkpoint"):
        export(small_params(), Run("empty", tmp_path / "empty"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_last_checkpoint_that_was_damaged_is_not_replaced_by_one_before(tmp_path, run):
    with pytest.raises(UserError, match="damaged after training: run the same"):
        export(small_params("train.epochs=3"), run[0], tmp_path / "out")
    assert not (tmp_path / "out").exists()
