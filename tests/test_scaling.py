"""The cost model against counted bytes and real objects, and the accounts of benchmarks.scaling."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from tiny_project import method_config

from benchmarks import checkpoint as checkpoint_study
from benchmarks import cost, cost_check, scaling, traffic
from benchmarks.support import cost_model, step_timer, worker_pool
from benchmarks.support.collective_trace import Call
from rhs.methods.objective import build_objective
from rhs.methods.tiles import LARGE
from rhs.models.convnet import ConvNet
from rhs.models.embedder import Embedder
from rhs.training import checkpoint
from rhs.training.loop import training_step
from rhs.training.optimization import build_optimizer

BATCH, DIM = 8, 16
LINK = cost_model.Link(latency=2e-4, bandwidth=1e9)
MACHINE = cost_model.Machine(
    LINK,
    image=1e-3,
    loss=5e-3,
    flops=1e11,
    memory_bandwidth=1e10,
    memory=1e9,
    parameter=1e-9,
    overlap=0.5,
    copy=1e9,
    write=1e8,
)


@pytest.mark.parametrize("workers", [2, 3, 5])
def test_a_ring_sends_what_the_formulas_say(workers):
    """Played through: in each turn every rank sends one part to its neighbor."""
    parts = np.random.default_rng(0).normal(size=(workers, workers, 6))  # rank, part
    total, sent = parts.sum(0), 0
    for gathering in (False, True):
        for turn in range(workers - 1):
            moved = [(rank - turn + gathering) % workers for rank in range(workers)]
            messages = [parts[rank, moved[rank]].copy() for rank in range(workers)]
            sent += messages[0].nbytes
            for rank, message in enumerate(messages):
                there = parts[(rank + 1) % workers, moved[rank]]
                there[:] = message if gathering else there + message
    np.testing.assert_allclose(parts, np.stack([total] * workers))
    assert sent == pytest.approx(cost_model.all_reduce_bytes(total.nbytes, workers))
    assert sent / 2 == pytest.approx(cost_model.all_gather_bytes(total.nbytes, workers))


@pytest.mark.parametrize(
    ("method", "centers"),
    [
        ("npair", None),
        ("triplet", None),
        ("rhs_npair", "ema"),
        ("rhs_npair_batch", "batch"),
        ("rhs_npair_epoch", "epoch"),
        ("rhs_npair_proxy", "proxy"),
    ],
)
def test_a_step_sends_what_the_formulas_say(gloo_pool, method, centers):
    for calls in gloo_pool.run(traffic.record, 2, "convnet", method, BATCH, DIM):
        seen = {
            group: [(call.kind, call.bytes) for call in calls if call.group == group]
            for group in traffic.GROUPS
        }
        told = cost_model.gather_payloads(BATCH, DIM, 2)
        assert seen["gather"] == [("all_gather", told["embeddings"] // 2)]
        trained = Embedder(ConvNet([32, 64, 128, 256]), DIM, 48, [0.5] * 3, [0.5] * 3)
        parameters = sum(p.numel() for p in trained.parameters())
        assert sum(size for _, size in seen["gradient"]) == 4 * parameters
        if method in cost.LOSSES:
            assert cost.LOSSES[method].centers == centers


@pytest.mark.parametrize("method", ["npair", "rhs_npair", "triplet"])
def test_a_large_batch_sends_its_gradients_back(gloo_pool, method):
    """Once, with the few sums of the loss between; gloo adds gradients up by an all-reduce."""
    large = math.isqrt(LARGE)
    for calls in gloo_pool.run(traffic.record, 2, "convnet", method, large, 4):
        told = cost_model.gather_payloads(large, 4, 2)
        first, sums, last = (call for call in calls if call.group == "gather")
        assert (first.kind, first.bytes) == ("all_gather", told["embeddings"] // 2)
        assert sums.kind == "all_reduce"
        assert sums.bytes < 100
        assert (last.kind, last.bytes) == ("all_reduce", told["gradients"])


@pytest.mark.parametrize("method", ["npair", "rhs_npair", "rhs_npair_epoch", "rhs_npair_proxy"])
def test_a_checkpoint_is_as_large_as_the_formula_says(method):
    classes = 5000
    embedder = Embedder(ConvNet([8]), DIM, 16, [0.5] * 3, [0.5] * 3)
    objective = build_objective(method_config(method))
    objective.prepare(classes, DIM)
    optimizer = build_optimizer(embedder, objective, 1e-3, 0.0, 1.0)
    images = torch.randint(256, (BATCH, 3, 16, 16), dtype=torch.uint8)
    training_step(embedder, objective, optimizer, images, torch.arange(BATCH) // 2, 0.5)
    optimizer.step()
    tensors = checkpoint.state_tensors(embedder, objective, optimizer)
    kind = {"npair": None, "rhs_npair": "ema"}.get(method, method.removeprefix("rhs_npair_"))
    parameters = sum(p.numel() for p in embedder.parameters())
    expected = cost_model.checkpoint_bytes(parameters, kind, classes, DIM)
    # Besides them each parameter's optimizer counts its steps.
    assert 0 <= sum(t.nbytes for t in tensors.values()) - expected <= 8 * len(tensors)


def test_more_workers_share_the_model_and_repeat_the_loss_of_a_small_batch():
    loss = cost_model.Loss(products=6, passes=10, rows=20, centers="ema")
    one, two, many = (cost_model.step(MACHINE, loss, w, 512, 64, 10**6) for w in (1, 2, 64))
    assert one["gather"] == one["gradients"] == 0
    assert two["model"] == pytest.approx(one["model"] / 2)
    assert two["loss"] == many["loss"] == one["loss"]
    assert two["optimizer"] == one["optimizer"]
    # An all-gather on two ranks: one message, of half of the bytes.
    assert two["gather"] == pytest.approx(2e-4 + 4 * 64 * 256 / 1e9)
    assert two["gradients"] == 0  # behind the backward pass, which is long
    hidden = 0.5 * 2 / 3 * many["model"]
    whole = cost_model.all_reduce_seconds(4 * 10**6, 64, LINK)
    assert many["gradients"] == pytest.approx(whole - hidden)


def test_more_workers_share_the_loss_of_a_large_batch():
    loss = cost_model.Loss(products=6, passes=10, rows=0)
    one, two, many = (
        cost_model.loss_seconds(loss, 4096, 64, MACHINE, w) - MACHINE.loss for w in (1, 2, 8)
    )
    assert two == pytest.approx(one / 2 * 3 / 4)  # in one tile: nothing is computed again
    assert many == pytest.approx(two / 4)
    parts = cost_model.step(MACHINE, loss, 2, 4096, 64, 10**6)
    # Embeddings and their gradients, half of each; and the sums, there and back.
    assert parts["gather"] == pytest.approx(4 * 2e-4 + 4 * 64 * 4096 / 1e9)


def test_so_many_images_just_hide_the_gradients():
    loss = cost_model.Loss(1, 1, 1)
    images = cost_model.exposed_images(MACHINE, 64, 10**8)
    shown = [
        cost_model.step(MACHINE, loss, 64, 64 * each, DIM, 10**8)["gradients"]
        for each in (images - 1, images)
    ]
    assert shown[0] > shown[1] == 0


@pytest.mark.parametrize("kind", ["ema", "epoch", "proxy"])
def test_so_many_classes_just_fit_beside_their_survey(kind):
    most = cost_model.most_classes(kind, DIM, 1e9)
    held = [
        cost_model.table_bytes(kind, count, DIM) + cost_model.survey_bytes(kind, count, DIM)
        for count in (most, most + 1)
    ]
    assert held[0] <= 1e9 < held[1]


def test_every_kind_of_checkpoints_has_every_place_in_a_round():
    kinds = dict.fromkeys(checkpoint_study.KINDS)
    turns = checkpoint_study.Turns(kinds, steps=2)
    for step in range(1, 1 + checkpoint_study.EPOCH + 2 * len(kinds) ** 2):
        turns.due(step)
    told = [kind for kind, ends in turns.turns if len(ends) == 2]
    rounds = [told[start : start + len(kinds)] for start in range(0, len(told), len(kinds))]
    assert len(rounds) == len(kinds)
    for seen in (*rounds, *zip(*rounds, strict=True)):
        assert sorted(seen) == sorted(kinds)


def test_lists_of_collectives_are_kept_once_and_found_again(gloo_pool):
    grid = [("convnet", batch, DIM) for batch in (BATCH, 2 * BATCH)]
    rows, parts = gloo_pool.run(traffic.measure, 2, grid, ["npair", "triplet", "rhs_npair"], 1)[0]
    lists = [json.dumps(part["calls"]) for part in parts]
    assert len(set(lists)) == len(lists) == 3  # two gathers, and the gradients
    for row in traffic.joined({"rows": rows, "parts": parts}):
        whole = cost_model.gather_payloads(row["batch"], DIM, 2)["embeddings"]
        assert row["gather"]["bytes"] == whole // 2
        assert min(row[group]["seconds"] for group in traffic.GROUPS) > 0


def test_constants_are_found_again_from_made_up_measurements():
    rows, parts = [], []
    for batch in (128, 512):
        calls = {
            "gather": [Call("all_gather", "gather", (batch // 2, 64), "float32")],
            "gradient": [Call("all_reduce", "gradient", (10**6,), "float32")],
        }
        row = {"model": "convnet", "batch": batch, "dim": 64}
        for group, made in calls.items():
            sent = sum(call.sent(2) for call in made)
            messages = sum(1 if call.kind == "all_gather" else 2 for call in made)
            part = {
                "calls": [asdict(call) for call in made],
                "seconds": messages * LINK.latency + sent / LINK.bandwidth,
            }
            if part not in parts:
                parts.append(part)
            row[group] = parts.index(part)
        rows.append(row)
    link, told = cost_check.fit_link(json.loads(json.dumps({"rows": rows, "parts": parts})))
    assert (link.latency, link.bandwidth) == pytest.approx((LINK.latency, LINK.bandwidth))
    assert len(told) == 1  # what the larger batch gathers
    for _, predicted, measured in told:
        assert predicted == pytest.approx(measured)


def test_the_parts_of_a_step_add_up_and_waiting_is_told_apart():
    def marks(late: float) -> dict:
        """Of a rank whose forward takes `late` seconds longer; collectives take one each."""
        first, second, bucket = 3.0 + late, 5.5, 8.0 + late / 2
        return {
            "last": 0.0,
            "here": 0.5,
            "forward": 0.5,
            "forward done": 2.5 + late,
            "loss": 2.5 + late,
            "calls": [(first, 5.0), (second, 6.5)],
            "loss done": 5.25,
            "backward": 7.0,
            "last bucket": bucket,
            "backward done": 10.0,
            "end": 10.5,
        }

    early, late = marks(0.0), marks(1.0)
    told = step_timer.parts([[early]])
    assert told["waiting"] == 0
    assert sum(told.values()) == pytest.approx(10.5)
    told = step_timer.parts([[early], [late]])
    assert sum(told.values()) == pytest.approx(10.5)
    assert told["waiting"] == pytest.approx((1.0 + 0.5) / 2)  # the early rank's, of both
    assert told["gather"] == pytest.approx(2.0)
    assert told["gradients"] == pytest.approx(1.5)
    assert told["model forward"] == pytest.approx(2.5)
    assert told["input"] == pytest.approx(0.5)


def test_what_two_workers_lose_adds_up():
    random = np.random.default_rng(0)
    kinds = (*worker_pool.ALONE, worker_pool.TOGETHER)
    run = {kind: dict(zip(step_timer.PARTS, random.random(9), strict=True)) for kind in kinds}
    efficiency = sum(run["one core"].values()) / 2 / sum(run[worker_pool.TOGETHER].values())
    lost = scaling.losses(run)
    assert sum(lost.values()) == pytest.approx(1 - efficiency)
    assert not set(lost) & set(scaling.MODEL)


def test_two_workers_tell_where_their_time_goes(gloo_pool):
    ranks = gloo_pool.run(worker_pool.train, 2, "convnet", "rhs_npair", BATCH, 2)
    told = step_timer.parts(ranks)
    assert set(told) == set(step_timer.PARTS)
    assert all(seconds > -1e-4 for seconds in told.values())
    for name in ("model forward", "loss", "gather", "model backward", "optimizer"):
        assert told[name] > 1e-5, name
    # Of embeddings.
    assert {len(marks["calls"]) for rank in ranks for marks in rank} == {1}
