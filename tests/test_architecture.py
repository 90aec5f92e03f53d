"""Who imports whom, as pyproject.toml has it, and ARCHITECTURE.md."""

import re

from importlinter.cli import lint_imports
from tiny_project import ROOT


def test_packages_import_from_lower_floors(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert lint_imports("pyproject.toml", no_cache=True, no_logo=True) == 0, capsys.readouterr().out


def test_every_path_of_the_page_exists():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    paths = re.findall(r"`((?:rhs|pipelines|tests|conf)/[^`]*|\w+\.(?:toml|md))`", text)
    assert len(paths) > 30
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_page_has_every_package():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    packages = [path.parent.name for path in (ROOT / "rhs").glob("*/__init__.py")]
    assert [name for name in packages if f"`rhs/{name}/`" not in text] == []
