"""The site of `make docs`: whole, without a broken link, and with every public name."""

import inspect
import re
import subprocess
import sys

import pytest
import torch
from tiny_project import ROOT

import rhs

NAMES = [name for name in rhs.__all__ if name != "__version__"]
LIBRARY = (ROOT / "docs/library.md").read_text()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as `make docs` does; a broken link ends that."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_documented(name):
    public = getattr(rhs, name)
    assert len(inspect.getdoc(public) or "") > 20
    if inspect.isclass(public):
        assert public.__doc__  # its own, not that of a class it comes from
    assert f"\n::: rhs.{name}\n" in (ROOT / "docs/api.md").read_text()


def test_every_public_name_is_on_its_page(site):
    page = (site / "api.html").read_text()
    assert [name for name in NAMES if f'id="rhs.{name}"' not in page] == []


def test_every_page_can_be_found(site):
    """In the list on the left of each page."""
    start = (site / "index.html").read_text()
    pages = {f"{page.stem}.html" for page in (ROOT / "docs").glob("*.md")} - {"index.html"}
    assert {page for page in pages if f'href="{page}" class="md-nav__link"' not in start} == set()


def test_nothing_is_fetched_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 50
    fetched = re.compile(
        r"<(?:script|img|iframe)[^>]+src=\"?https?:|<link[^>]+href=\"?https?://(?!.*canonical)"
    )
    assert [page.name for page in pages if fetched.search(page.read_text())] == []


def test_formulas_are_drawn(site):
    page = (site / "methods.html").read_text()
    assert page.count("<math") > 50
    assert "FORMULA" not in page
    assert "$$" not in page


def test_every_setting_is_on_a_page(site):
    for file in (ROOT / "conf").rglob("*.yaml"):
        path = file.relative_to(ROOT / "conf").with_suffix("")
        page = site / "configuration" / f"{path.parts[0]}.html"
        assert f"<code>{path.as_posix()}</code>" in page.read_text()
    assert (
        "decoded as needed), ray (decoded on any node)"
        in (site / "configuration/cluster.html").read_text()
    )


@pytest.mark.filterwarnings("ignore:.*only one class")
def test_the_library_page_does_what_it_says(tmp_path, monkeypatch):
    pytest.importorskip("pytorch_metric_learning")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    blocks = re.findall(r"```python\n(.*?)```", LIBRARY, re.DOTALL)
    assert len(blocks) > 12
    names: dict = {}
    for block in blocks:
        exec(compile(block, block.splitlines()[0], "exec"), names)


def test_the_readme_has_the_same_five_lines():
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names = {"embeddings": torch.randn(8, 128), "labels": torch.arange(8) // 2}
    exec(block, names)
    assert names["loss"].shape == ()
