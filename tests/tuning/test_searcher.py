"""Optuna and ASHA know what a search has done, whenever it was killed."""

from types import SimpleNamespace

import pytest
from fake_searches import make_settings
from tiny_project import composed

from rhs.tuning.searcher import make_scheduler, make_searcher, optuna_study


@pytest.fixture
def base():
    return composed("method=rhs_npair", "train.lr=0.003")


def test_the_study_is_made_again_from_the_record(record, base):
    trials = optuna_study(make_settings(), record, base).trials
    assert [trial.state.name for trial in trials] == [
        "COMPLETE",
        "COMPLETE",
        "FAIL",
        "COMPLETE",
        "WAITING",
    ]
    assert [trial.value for trial in trials] == [0.5, 0.1, None, 0.45, None]
    assert trials[3].params["method.original_weight"] == 0.5


def test_the_interrupted_trial_comes_first_and_then_new_ones(record, base):
    told = []
    searcher = make_searcher(make_settings(), record, base, lambda o: told.append(o) or {"o": o})
    assert searcher.suggest("a")["number"] == 4
    assert told == [["method=npair", "train.lr=0.002"]]
    assert searcher.suggest("b")["number"] == 5
    assert record.trials[5].overrides == told[1]  # before it begins


def test_a_new_search_begins_with_the_defaults(tmp_path, base):
    from rhs.tuning.trial_log import TrialLog

    record = TrialLog(tmp_path / "trials.jsonl")
    searcher = make_searcher(make_settings(), record, base, lambda overrides: {})
    searcher.suggest("a")
    assert record.trials[0].values == {
        "method": "rhs_npair",
        "train.lr": 0.003,
        "method.original_weight": 0.5,
    }
    searcher.on_trial_complete("a", {"refusal": "no"})
    searcher.suggest("b")
    searcher.on_trial_complete("b", {"objective": 0.5, "training_iteration": 1})
    states = [trial.state.name for trial in searcher._ot_study.trials]
    assert states == ["FAIL", "COMPLETE"]


def test_suggestions_depend_on_the_seed_alone(tmp_path, base):
    from rhs.tuning.trial_log import TrialLog

    def suggested(seed, name):
        record = TrialLog(tmp_path / name)
        searcher = make_searcher(make_settings(seed=seed), record, base, lambda overrides: {})
        for number in range(4):
            searcher.suggest(str(number))
        return [trial.values for trial in record.trials]

    assert suggested(3, "a") == suggested(3, "b")
    assert suggested(3, "c") != suggested(4, "d")


def test_the_scheduler_compares_with_trials_of_before(record):
    settings = make_settings(scheduler={"grace": 1, "reduction": 2})
    result = {"epoch": 1, "objective": 0.05}
    for known, decision in ((True, "STOP"), (False, "CONTINUE")):
        scheduler = make_scheduler(settings, record if known else SimpleNamespace(ended=[]), 3)
        new = SimpleNamespace(trial_id="new")
        scheduler.on_trial_add(None, new)
        assert scheduler.on_trial_result(None, new, result) == decision


def test_without_a_scheduler_or_with_few_epochs_all_are_trained_to_the_end(record):
    for settings in (make_settings(), make_settings(scheduler={"grace": 3, "reduction": 2})):
        assert type(make_scheduler(settings, record, 3)).__name__ == "FIFOScheduler"
