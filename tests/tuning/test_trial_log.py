"""What a search remembers of itself."""

from rhs.tuning.trial_log import TrialLog


def test_it_reads_back_what_was_written(record):
    again = TrialLog(record.file)
    assert again.trials == record.trials
    assert [trial.state for trial in again.trials] == [
        "finished",
        "stopped",
        "failed",
        "finished",
        "unfinished",
    ]
    assert len(again.ended) == 4


def test_a_trial_is_worth_its_best_epoch(record):
    first = record.trials[0]
    assert (first.objective, first.best_epoch, first.epochs) == (0.5, 2, 3)
    assert record.best is first  # not the failed one, which was ahead
    assert record.trials[2].reason == "The loss is nan."


def test_of_equal_epochs_the_first_is_the_best(record):
    record.begin(5, {}, [])
    for epoch in (1, 2, 3):
        record.epoch(5, epoch, 0.7)
    assert record.trials[5].best_epoch == 1


def test_a_line_cut_short_is_written_over(record):
    with record.file.open("a") as file:
        file.write('{"trial": 4, "epo')
    again = TrialLog(record.file)
    assert again.trials == record.trials
    again.epoch(4, 2, 0.25)
    assert TrialLog(record.file).trials[4].curve == {1: 0.2, 2: 0.25}


def test_what_is_told_again_counts_once(record):
    lines = record.file.read_text()
    record.begin(0, {"train.lr": 1.0}, ["train.lr=1.0"])
    record.epoch(0, 1, 0.9)
    record.end(0, "failed", "again")
    assert record.file.read_text() == lines
    assert record.trials[0].curve[1] == 0.3


def test_what_is_lacking_of_the_first_trials(tmp_path):
    record = TrialLog(tmp_path / "trials.jsonl")
    for number in range(4):
        record.begin(number, {}, [])
    record.end(3, "finished")
    assert (record.lacks(3), record.lacks(4), record.lacks(6)) == (3, 3, 5)
