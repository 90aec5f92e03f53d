"""Settings and records of searches that were never run."""

from rhs.tuning.settings import TuneSettings, load_settings
from rhs.tuning.trial_log import TrialLog

SPACE = {
    "method": {"choice": ["npair", "rhs_npair"]},
    "train.lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "method.original_weight": {
        "low": 0.0,
        "high": 1.0,
        "step": 0.5,
        "when": {"method": "rhs_npair"},
    },
}


def make_settings(**more) -> TuneSettings:
    return load_settings({"name": "tiny", "trials": 4, "space": SPACE} | more)


def fill(record: TrialLog) -> None:
    """Two finished trials, one stopped, one failed, one interrupted."""
    for number, (method, rate, curve) in enumerate(
        [
            ("npair", 0.003, [0.3, 0.5, 0.4]),
            ("npair", 0.01, [0.1]),
            ("npair", 0.1, [0.6]),
            ("rhs_npair", 0.001, [0.2, 0.4, 0.45]),
            ("npair", 0.002, [0.2]),
        ]
    ):
        more = {"method.original_weight": 0.5} if method == "rhs_npair" else {}
        values = {"method": method, "train.lr": rate, **more}
        record.begin(number, values, [f"{path}={value}" for path, value in values.items()])
        for epoch, value in enumerate(curve, 1):
            record.epoch(number, epoch, value)
    for number, state in ((0, "finished"), (1, "stopped"), (3, "finished")):
        record.end(number, state)
    record.end(2, "failed", "The loss is nan.")
