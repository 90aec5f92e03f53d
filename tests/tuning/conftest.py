"""A search that was never run."""

from pathlib import Path

import pytest
from tuned import fill, make_settings

from rhs.tuning.record import Record
from rhs.tuning.search import Found, found_in


@pytest.fixture
def home(tmp_path) -> Path:
    return tmp_path / "tuning" / "0123abcd"


@pytest.fixture
def record(home) -> Record:
    made = Record(home / "trials.jsonl")
    fill(made)
    return made


@pytest.fixture
def found(record, home) -> Found:
    return found_in(record, make_settings(), home)
