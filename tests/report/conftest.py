"""A browser for the tests of the explorer page."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from browser import browser, complaints, missing
from explorer_page import Page, unit
from pages import NASTY, clusters, write


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One real browser for the whole test run; skips without one, fails with RHS_BROWSER=1."""
    if why := missing():
        stop = pytest.fail if os.environ.get("RHS_BROWSER") else pytest.skip
        stop(f"the explorer is tested in Chromium, by Selenium: {why}")
    with browser(tmp_path_factory.mktemp("browser")) as driver:
        yield driver


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Two runs on the same 60 images, and one on other data."""
    folder = tmp_path_factory.mktemp("explorers")
    embeddings, labels = clusters(60, 6)
    other = embeddings + 0.8 * np.random.default_rng(5).normal(size=embeddings.shape)
    write(folder / "here", embeddings, labels, run="first")
    write(folder / "there", other.astype(np.float32), labels, run=f"second {NASTY}")
    write(folder / "else", *clusters(24, 4))
    return folder, unit(embeddings) @ unit(embeddings).T, unit(other) @ unit(other).T, labels


@pytest.fixture
def page(chromium, made):
    page = Page(chromium).open(made[0] / "here" / "explorer.html")
    yield page
    assert complaints(chromium) == []
