"""A search as a whole, in the one Ray of the test run."""

import numpy as np
import pytest
from fake_searches import SPACE, make_settings
from tiny_project import SMALL, write_shards

from rhs.config.compose import compose
from rhs.errors import UserError
from rhs.tracking.tracker import NullTracker
from rhs.tuning.search import concurrent, search, search_folder
from rhs.tuning.trial_log import TrialLog

BASE = [*SMALL, "train.epochs=2", "train.classes=100"]
# The defaults, with which the first trial begins, ask for more classes than there are.
CLASSES = {"train.classes": {"choice": [100, 3, 4, 5]}}


class Told(NullTracker):
    """Keeps what a search tells of itself."""

    def __init__(self):
        self.rows = []

    def metrics(self, values, step, group="train", model_id=None):
        self.rows.append((group, step, values))


def test_a_search_survives_a_failed_trial_and_is_done_once(ray_cluster, tiny_shards, project):
    settings = make_settings(trials=3, seed=2, space=CLASSES | SPACE)
    said, told = [], Told()
    found = search(BASE, settings, tiny_shards, project / "tuning", told, said.append)
    assert {trial["number"]: trial["state"] for trial in found.trials}[0] == "failed"
    assert "train.classes is 100" in found.trials[0]["reason"]
    good = [trial for trial in found.trials if trial["state"] == "finished"]
    assert good
    assert all(trial["epochs"] == 2 for trial in good)
    assert found.value == max(trial["objective"] for trial in good)
    assert found.overrides[0] in ("train.classes=3", "train.classes=4", "train.classes=5")
    assert len(said) == 3
    assert told.rows[-1] == ("tune", 3, {"best": found.value, "ended": 3})
    assert not list(found.folder.rglob("checkpoints"))
    again = search(BASE, settings, tiny_shards, project / "tuning", told, said.append)
    assert again == found
    assert len(said) == 3


def test_asha_stops_the_worse_ones_early(ray_cluster, tmp_path, project):
    shards = write_shards(tmp_path / "shards", train=[4] * 8, val=[4] * 30, test=[4] * 3)
    settings = make_settings(
        trials=4,
        concurrent=1,
        objective="map@r",
        scheduler={"grace": 1, "reduction": 2},
        space={"train.lr": {"low": 1e-6, "high": 3e-3, "log": True}},
    )
    base = [*SMALL, "method=npair", "train.epochs=2"]
    found = search(base, settings, shards, project / "tuning", say=lambda line: None)
    first = {t.number: t.curve[1] for t in TrialLog(found.folder / "trials.jsonl").trials}
    ends = {trial["number"]: trial["state"] for trial in found.trials}
    assert set(ends.values()) == {"finished", "stopped"}
    for number, end in ends.items():  # the better half of those that have come to the first rung
        before = [first[other] for other in range(number + 1)]
        assert (end == "finished") == (first[number] >= np.percentile(before, 50))
        assert found.trials[number]["epochs"] == (2 if end == "finished" else 1)


def test_another_search_never_counts(tiny_shards, project):
    def home(*base, **settings):
        return search_folder([*BASE, *base], make_settings(**settings), tiny_shards, project)

    same = home()
    assert home("cluster.num_workers=1", trials=6, concurrent=1, workers=2, name="b") == same
    others = [
        home("train.lr=0.1"),
        home(seed=1),
        home(objective="map@r"),
        home(trials=30),
        home(space=CLASSES),
        home(scheduler={"grace": 1, "reduction": 2}),
    ]
    assert len({same, *others}) == 7


def test_without_held_out_classes(tmp_path, project):
    shards = write_shards(tmp_path / "shards", train=[4] * 8, test=[4] * 3)
    with pytest.raises(UserError, match=r"no held-out classes .* dataset.validation above 0"):
        search(BASE, make_settings(), shards, project / "tuning")
    assert not (project / "tuning").exists()


@pytest.mark.parametrize(
    ("base", "said"),
    [(["train.nope=1"], "nope"), (["cluster.storage=memory://bucket"], "it takes null")],
)
def test_what_no_search_can_have(base, said, tiny_shards, project):
    with pytest.raises(UserError, match=said):
        search([*BASE, *base], make_settings(), tiny_shards, project / "tuning")
    assert not (project / "tuning").exists()


@pytest.mark.parametrize(
    ("resources", "settings", "overrides", "expected"),
    [
        ({"CPU": 2}, {}, (), 2),
        ({"CPU": 2}, {"workers": 2}, (), 1),
        ({"CPU": 16, "GPU": 3}, {}, ("cluster=one_gpu",), 3),
        ({"CPU": 9, "GPU": 3}, {}, ("cluster=one_gpu",), 2),
        ({"CPU": 16}, {"concurrent": 3}, (), 3),
        ({"CPU": 16}, {}, (), 4),  # trials
        ({"CPU": 1}, {"workers": 2}, (), 1),
    ],
)
def test_trials_at_once(resources, settings, overrides, expected, project):
    params = compose([*BASE, *overrides])
    assert concurrent(make_settings(**settings), params, resources) == expected
