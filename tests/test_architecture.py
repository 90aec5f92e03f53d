"""Who imports whom, as pyproject.toml has it."""

from importlinter.cli import lint_imports
from tiny_project import ROOT


def test_packages_import_from_lower_floors(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert lint_imports("pyproject.toml", no_cache=True, no_logo=True) == 0, capsys.readouterr().out
