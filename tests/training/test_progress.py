"""Counting and averaging over an epoch, interrupted or not."""

import json

import numpy as np
import pytest
import torch

from rhs.training.progress import Progress, StepMetrics


def measured(progress: Progress, *values: float, record=None, steps: int = 3) -> None:
    meter = StepMetrics(progress, steps, record)
    for value in values:
        meter.batch_is_here()
        meter.step_is_done(torch.tensor(value), {"share": torch.tensor(value / 10)})
    assert not meter.is_due()
    meter.settle()


def test_means_of_an_epoch():
    progress = Progress()
    measured(progress, 1.0, 2.0, 6.0)
    progress.end_epoch(3, lr=0.5)
    (row,) = progress.history
    assert (row["epoch"], row["step"], row["lr"]) == (1, 3, 0.5)
    assert row["loss"] == pytest.approx(3.0)
    assert row["share"] == pytest.approx(0.3)
    assert (progress.epochs_done, progress.step, progress.sums) == (1, 0, {})


def test_means_of_an_interrupted_epoch_are_the_same_to_the_last_digit():
    random = np.random.default_rng(0)
    values = random.normal(size=250).tolist()
    whole, parted = Progress(), Progress()
    measured(whole, *values, steps=250)
    for part in (values[:7], values[7:130], values[130:]):
        parted = Progress(**parted.state())
        measured(parted, *part, steps=250)
    assert parted == whole


def test_evenly_spaced_steps_of_a_long_epoch_are_recorded_wherever_it_is_interrupted():
    rows: list[dict] = []
    progress = Progress(epochs_done=1)
    for count in (130, 1, 319):
        measured(progress, *[1.0] * count, record=rows.extend, steps=450)
    assert [row["step"] for row in rows] == list(range(451, 901, 3))


def test_a_state_is_a_copy():
    progress = Progress()
    measured(progress, 1.0)
    state = progress.state()
    measured(progress, 5.0)
    assert state["sums"]["loss"] == [1.0, 1]
    assert json.loads(json.dumps(state)) == state
