"""The revision that a run is of: said by who submits it, or git's, or unknown."""

import subprocess

from rhs.tracking.provenance import _git_commit


def test_who_submits_a_run_says_its_revision(monkeypatch):
    monkeypatch.setenv("RHS_REVISION", "abc-dirty")
    assert _git_commit() == "abc-dirty"  # though there is a checkout here
    monkeypatch.setenv("RHS_REVISION", "")  # an image that was built without one
    assert len(_git_commit().removesuffix("-dirty")) == 40


def test_without_git(monkeypatch, tmp_path):
    monkeypatch.delenv("RHS_REVISION", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _git_commit() == "unknown"
    monkeypatch.setattr(
        subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 128, "")
    )
    assert _git_commit() == "unknown"  # no checkout
