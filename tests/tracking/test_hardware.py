"""What this machine, and its user, say of themselves."""

import pytest

from rhs.errors import UserError
from rhs.tracking.hardware import threads


@pytest.mark.parametrize(
    ("given", "wanted"),
    [(None, 1), ("", 1), (" ", 1), ("4", 4), (" 3 ", 3), ("4,2", 4), ("2, 8", 2)],
)
def test_threads(monkeypatch, given, wanted):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert threads() == wanted


@pytest.mark.parametrize("given", ["abc", "0", "-1", "2.5", "4,", "4,0", "²", "1e3", "4 2"])
def test_what_is_no_number_of_threads(monkeypatch, given):
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    with pytest.raises(UserError, match=r"^OMP_NUM_THREADS is '.*'; it must be a number"):
        threads()
