"""The loop: it learns, it says what a person should know, it refuses what cannot work."""

import math

import numpy as np
import pytest
import torch
from tiny_project import method_config, small_model_config, train_config

from rhs.config.instantiate import build
from rhs.data.batch_sampler import BalancedBatchSampler
from rhs.data.loader import TrainLoader, evaluation_batches
from rhs.data.transforms import Augmentation
from rhs.errors import UserError
from rhs.metrics.retrieval import score
from rhs.models.embedder import build_embedder
from rhs.training import loop
from rhs.training.hooks import RunHooks
from rhs.training.loop import train, training_step, warn_of_identity
from rhs.training.optimization import build_optimizer
from rhs.training.progress import Progress


class Faint:
    """Classes that differ by a faint stripe pattern under strong noise."""

    def __init__(self, classes: int = 6, per_class: int = 4):
        self.labels = np.repeat(np.arange(classes), per_class)
        rows = np.arange(16)
        noise = np.random.default_rng(0).integers(-90, 90, (len(self.labels), 16, 16, 3))
        waves = [40 * np.sin(2 * math.pi * (k + 1) * rows / 16) for k in range(classes)]
        pixels = [128 + noise[i] + waves[k][:, None, None] for i, k in enumerate(self.labels)]
        self.pixels = np.stack(pixels).clip(0, 255).astype(np.uint8)
        self.names = [f"image {i}" for i in range(len(self.labels))]

    def __len__(self) -> int:
        return len(self.labels)

    def decode(self, i: int) -> np.ndarray:
        return self.pixels[i]


def parts(method: str = "rhs_npair", classes: int = 6, per_class: int = 2):
    embedder = build_embedder(small_model_config(), seed=3)
    objective = build(method_config(method))
    objective.prepare(classes, embedder.dim)
    optimizer = build_optimizer(embedder, objective, 0.003, 0.0, 1.0)
    images = Faint(classes)
    loader = TrainLoader(
        images, BalancedBatchSampler(images.labels, classes, per_class, 0), Augmentation(), 16
    )
    return embedder, objective, optimizer, loader


def run(
    made, epochs: int, end_of_epoch=lambda progress, times: None, say=lambda line: None
) -> Progress:
    embedder, objective, optimizer, loader = made
    progress = Progress()
    settings = train_config(epochs=epochs)
    train(
        embedder,
        objective,
        optimizer,
        loader,
        settings,
        progress,
        seed=0,
        device=torch.device("cpu"),
        end_of_epoch=end_of_epoch,
        hooks=RunHooks(say=say),
    )
    return progress


def own_recall(embedder, images) -> float:
    batches = evaluation_batches(images, range(len(images)), 16, 32)
    x = torch.cat([embedder.eval().embed(batch) for batch in batches])
    return score(x.numpy(), images.labels, [1], draws=0).values["recall@1"]


@pytest.mark.parametrize("method", ["npair", "symm_npair", "rhs_npair"])
def test_it_learns_a_small_set_by_heart(method):
    made = parts(method)
    embedder, images = made[0], made[3].images
    before = own_recall(embedder, images)
    history = run(made, epochs=40).history
    assert history[-1]["loss"] < 0.2 * history[0]["loss"]
    assert before < 0.7
    assert own_recall(embedder, images) > 0.95


def test_the_history_of_an_epoch():
    made, seen = parts(), []
    clock = []

    def end_of_epoch(progress, times):
        seen.append(dict(progress.history[-1]))
        clock.append(times)

    progress = run(made, epochs=2, end_of_epoch=end_of_epoch)
    assert progress.epochs_done == 2
    assert progress.history == seen
    for epoch, row in enumerate(seen, 1):
        assert row["epoch"] == epoch
        assert row["step"] == epoch * made[3].plan.steps
        assert 0 <= row["rotations_unmoved"] <= 1
    assert seen[1]["lr"] < seen[0]["lr"]
    for times in clock:
        assert 0 <= times["input_wait"] <= 1
        assert times["images_per_second"] > 0
        assert not times.keys() & seen[0].keys()  # the history is the same on any machine's clock


def test_a_finished_run_does_nothing():
    made = parts()
    before = made[0].head.weight.clone()
    settings = train_config(epochs=2)
    train(
        *made,
        settings,
        Progress(epochs_done=2),
        seed=0,
        device=torch.device("cpu"),
        end_of_epoch=pytest.fail,
        hooks=RunHooks(say=pytest.fail),
    )
    assert torch.equal(made[0].head.weight, before)


def test_bfloat16_trains_with_float32_weights_and_loss():
    embedder, objective, optimizer, loader = parts()
    images, labels = next(loader.epoch(0))
    loss, _ = training_step(
        embedder, objective, optimizer, images, labels, 0.5, precision="bfloat16"
    )
    assert loss.dtype == torch.float32
    assert {p.grad.dtype for p in embedder.parameters()} == {torch.float32}
    exact, _ = training_step(
        embedder, objective, optimizer, images, labels, 0.5, precision="float32"
    )
    assert loss != exact
    assert loss.item() == pytest.approx(exact.item(), rel=0.1)


def test_gradients_do_not_add_up_over_steps():
    embedder, objective, optimizer, loader = parts("npair")
    images, labels = next(loader.epoch(0))
    gradients = []
    for _ in range(2):
        training_step(embedder, objective, optimizer, images, labels, 0.5)
        gradients.append(embedder.head.weight.grad.clone())
    assert torch.equal(*gradients)


def test_a_loss_that_is_not_finite_stops_before_the_update(monkeypatch):
    made = parts()
    weights = {}
    real, count = loop.training_step, [0]

    def broken(model, *rest, **more):
        count[0] += 1
        loss, diagnostics = real(model, *rest, **more)
        if count[0] == 2:
            weights.update({k: v.clone() for k, v in model.state_dict().items()})
            loss = loss * math.nan
        return loss, diagnostics

    monkeypatch.setattr(loop, "training_step", broken)
    with pytest.raises(
        UserError,
        match=r"nan in epoch 1, step 2 \(12 images, the first are image \d.*no update.*train\.lr",
    ):
        run(made, epochs=1)
    assert weights
    assert all(torch.equal(value, weights[k]) for k, value in made[0].state_dict().items())


def test_a_gradient_that_is_not_finite_stops_before_the_update():
    made = parts("npair")
    made[0].head.weight.register_hook(lambda grad: grad * math.inf)
    before = made[0].head.bias.clone()
    with pytest.raises(UserError, match=r"gradient's norm is (nan|inf) in epoch 1, step 1"):
        run(made, epochs=1)
    assert torch.equal(made[0].head.bias, before)


def test_every_step_is_recorded():
    embedder, objective, optimizer, loader = parts()
    settings = train_config(epochs=2)
    progress, rows = Progress(), []
    train(
        embedder,
        objective,
        optimizer,
        loader,
        settings,
        progress,
        seed=0,
        device=torch.device("cpu"),
        end_of_epoch=lambda progress, times: None,
        hooks=RunHooks(record=rows.extend),
    )
    assert [row["step"] for row in rows] == list(range(1, 2 * loader.plan.steps + 1))
    names = {"loss", "hardness_gained", "rotations_unmoved", "intra_inter_ratio", "effective_rank"}
    assert all(names <= row.keys() for row in rows)
    first = rows[: loader.plan.steps]
    mean = sum(row["effective_rank"] for row in first) / len(first)
    assert progress.history[0]["effective_rank"] == pytest.approx(mean)


def test_what_the_objective_draws_does_not_depend_on_what_the_model_drew():
    """The model's share of a batch, and with it what dropout draws, depends on the world size."""
    seen = []

    class Drawing(torch.nn.Module):
        def forward(self, x, labels, progress, values=None, alike=False):
            seen.append(torch.rand(()).item())
            return x.sum(), {}

    class Dropping(torch.nn.Linear):
        draws = 0

        def forward(self, x):
            torch.rand(self.draws)
            return super().forward(x)

    for draws in (0, 7):
        model = Dropping(2, 2)
        model.draws = draws
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        training_step(model, Drawing(), optimizer, torch.ones(1, 2), None, 0.0, seed=5)
    training_step(model, Drawing(), optimizer, torch.ones(1, 2), None, 0.0, seed=6)
    assert seen[0] == seen[1] != seen[2]


def unmoved(*shares: float) -> list[dict]:
    return [{"rotations_unmoved": share} for share in shares]


def warnings_over(history: list[dict]) -> list[str]:
    said = []
    for epoch in range(len(history)):
        warn_of_identity(history[: epoch + 1], said.append)
    return said


def test_rotations_that_move_nothing_are_told_once():
    said = warnings_over(unmoved(0.1, 0.8, 0.9, 0.2, 0.95))
    assert len(said) == 1
    assert said[0].startswith("warning: 80% of the rotations in epoch 2 moved nothing")
    assert "per_class" in said[0]
    assert "EMACenters" in said[0]
    assert warnings_over(unmoved(0.5, 0.4)) == []
    assert warnings_over([{"loss": 1.0}, {"loss": 0.9}]) == []


def test_the_warning_comes_in_training_with_two_per_class_about_their_mean():
    made = list(parts())
    centers = {"_target_": "rhs.methods.centers.BatchCenters"}
    made[1] = build(method_config("rhs_npair") | {"centers": centers})
    said = []
    history = run(made, epochs=2, say=said.append).history
    assert [row["rotations_unmoved"] for row in history] == [1.0, 1.0]
    assert len([line for line in said if line.startswith("warning")]) == 1


def test_no_warning_with_the_methods_own_centers():
    said = []
    history = run(parts("rhs_npair"), epochs=3, say=said.append).history
    assert [line for line in said if line.startswith("warning")] == []
    assert history[-1]["rotations_unmoved"] < 0.05
