"""The last epoch's model or the best one's, whichever is asked for."""

import pytest
import torch
from tiny_project import small_model_config, small_params

from rhs.config.instantiate import build
from rhs.errors import UserError
from rhs.models.embedder import build_embedder, load_config, load_embedder
from rhs.run import Run, identify
from rhs.storage.store import open_store
from rhs.training import checkpoint
from rhs.training.export import export
from rhs.training.model_selection import load_selected

# The first of two that are as good is the best; it is not the last.
RECALLS = {1: 0.4, 2: 0.6, 3: 0.6, 4: 0.5}


def save_run(run: Run, recalls: dict[int, float | None]) -> None:
    """A checkpoint of each epoch, in whose head every weight is the epoch's number."""
    embedder = build_embedder(small_model_config())
    rest = build({"_target_": "rhs.methods.centers.BatchCenters"})
    optimizer = torch.optim.SGD(embedder.parameters())
    history: list[dict] = []
    for epoch, recall in recalls.items():
        torch.nn.init.constant_(embedder.head.weight, epoch)
        more = {} if recall is None else {"val_recall@1": recall}
        history.append({"epoch": epoch, "step": 5 * epoch, "loss": 1.0} | more)
        tensors = checkpoint.cpu_copies(checkpoint.state_tensors(embedder, rest, optimizer))
        state = {"epochs_done": epoch, "history": history}
        checkpoint.save(open_store(run.checkpoints), 5 * epoch, tensors, state)


@pytest.fixture
def run(tmp_path):
    run = Run("tiny-run", tmp_path / "run")
    save_run(run, RECALLS)
    return run


def params(*more: str):
    return small_params("train.epochs=4", *more)


@pytest.mark.parametrize(("which", "epoch"), [("last", 4), ("best", 2)])
def test_the_model_is_that_of_the_epoch(tmp_path, run, which, epoch):
    export(params(f"train.select={which}"), run, tmp_path / "model")
    assert load_embedder(tmp_path / "model").head.weight.unique().tolist() == [epoch]
    taken = load_config(tmp_path / "model")["checkpoint"]
    assert taken == {"select": which, "epoch": epoch, "step": 5 * epoch}
    assert len((tmp_path / "model" / "history.csv").read_text().splitlines()) == 1 + len(RECALLS)


def test_the_best_may_be_the_last(tmp_path):
    run = Run("tiny-run", tmp_path / "run")
    save_run(run, {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4})
    config = params()
    chosen = load_selected(config, open_store(run.checkpoints), "best")
    assert (chosen.which, chosen.epoch, chosen.step) == ("best", 4, 20)


def test_without_held_out_classes_there_is_no_best(tmp_path):
    run = Run("tiny-run", tmp_path / "run")
    save_run(run, dict.fromkeys(RECALLS))
    with pytest.raises(UserError, match="needs held-out classes, and the run had none"):
        export(params("train.select=best"), run, tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("harm", ["gone", "damaged"])
def test_a_best_checkpoint_that_cannot_be_read_is_not_replaced(tmp_path, run, harm):
    for file in (run.folder / "checkpoints").glob("000000010.*"):
        if harm == "gone":
            file.unlink()
        elif file.suffix == ".safetensors":
            file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"checkpoint of epoch 2, the best .* cannot be read"):
        export(params("train.select=best"), run, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_the_choice_does_not_make_another_run():
    runs = [identify(params(f"train.select={which}"), "digest") for which in ("last", "best")]
    assert runs[0] == runs[1]
    assert identify(params("train.trunk=frozen"), "digest") != runs[0]
