"""What Tune tells of its trials, and what is made of it."""

import pickle
from types import SimpleNamespace

import pytest

from rhs.errors import UserError
from rhs.tracking.tracker import NullTracker
from rhs.tuning.callback import DIED, Asked, TrialCallback, TrialRuns, line_of
from rhs.tuning.trial_log import TrialLog


@pytest.fixture
def watched(tmp_path):
    record = TrialLog(tmp_path / "trials.jsonl")
    record.begin(0, {"train.lr": 0.1}, ["train.lr=0.1"])
    said, signals = [], []
    children = TrialRuns(NullTracker(), "search", tmp_path, {})
    watch = TrialCallback(record, children, "recall@1", 3, signals, said.append)
    params = SimpleNamespace(train=SimpleNamespace(epochs=2))
    config = {"number": 0, "params": params}
    trial = SimpleNamespace(config=config, get_pickled_error=lambda: None)
    yield SimpleNamespace(record=record, watch=watch, said=said, signals=signals, trial=trial)
    watch.bar.close()


def epoch(watched, number, value):
    row = {"epoch": number, "step": number}
    result = {"epoch": number, "value": value, "objective": value, "row": row}
    watched.watch.on_trial_result(0, [], watched.trial, result)


def test_a_trial_that_ends_early_and_one_that_does_not(watched, tmp_path):
    (tmp_path / "trials/000/checkpoints").mkdir(parents=True)
    epoch(watched, 1, 0.25)
    watched.watch.on_trial_complete(0, [], watched.trial)
    assert watched.record.trials[0].state == "stopped"
    assert watched.said == [
        "1/3  trial 0: recall@1 25.0% (epoch 1 of 1, stopped early)  train.lr=0.1"
    ]
    assert not (tmp_path / "trials/000/checkpoints").exists()
    watched.record.trials[0].state = "unfinished"
    epoch(watched, 2, 0.5)
    watched.watch.on_trial_complete(0, [], watched.trial)
    assert watched.record.trials[0].state == "finished"


def test_failures_have_reasons(watched):
    watched.watch.on_trial_result(0, [], watched.trial, {"refusal": "The loss is nan."})
    watched.watch.on_trial_complete(0, [], watched.trial)
    assert watched.record.trials[0].reason == "The loss is nan."
    assert watched.said == ["1/3  trial 0 failed: The loss is nan.  train.lr=0.1"]


def test_a_process_that_died(watched):
    watched.watch.on_trial_recover(0, [], watched.trial)
    watched.watch.on_trial_error(0, [], watched.trial)
    assert watched.record.trials[0].reason == DIED
    assert "starts again" in watched.said[0]


def test_after_a_signal_nothing_is_a_failure(watched):
    watched.signals.append(15)
    watched.watch.on_trial_error(0, [], watched.trial)
    assert watched.record.trials[0].state == "unfinished"
    assert watched.said == []
    with pytest.raises(Asked):
        watched.watch.on_step_begin(0, [])


def test_where_the_disk_is_full_no_trial_has_failed(watched):
    full = {"refusal": "No space left on the disk that holds x.", "halts": True}
    watched.watch.on_trial_result(0, [], watched.trial, full)
    watched.watch.on_trial_complete(0, [], watched.trial)
    assert watched.record.trials[0].state == "unfinished"
    with pytest.raises(UserError, match="No space left"):
        watched.watch.on_step_begin(0, [])


def test_tune_may_keep_a_copy(watched):
    assert isinstance(pickle.loads(pickle.dumps(watched.watch)), TrialCallback)


def test_lines(record):
    assert line_of(record.trials[2], "recall@1").startswith("trial 2 failed: The loss is nan.")
    assert "recall@1 50.0% (epoch 2 of 3, finished)" in line_of(record.trials[0], "recall@1")
