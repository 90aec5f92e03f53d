"""A search that was never run."""

from pathlib import Path

import pytest
from fake_searches import fill, make_settings

from rhs.tuning.search import SearchResult, found_in
from rhs.tuning.trial_log import TrialLog


@pytest.fixture
def home(tmp_path) -> Path:
    return tmp_path / "tuning" / "0123abcd"


@pytest.fixture
def record(home) -> TrialLog:
    made = TrialLog(home / "trials.jsonl")
    fill(made)
    return made


@pytest.fixture
def found(record, home) -> SearchResult:
    return found_in(record, make_settings(), home)
