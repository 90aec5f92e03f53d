"""A server of a made-up file, and downloads that do not wait long."""

import pytest
from fake_release import CONTENT
from file_server import serving

from rhs.datasets.download.downloads import Downloads


@pytest.fixture(autouse=True)
def _plain_surroundings(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("RHS_MIRROR", raising=False)


@pytest.fixture
def server():
    with serving({"birds.tgz": CONTENT}) as server:
        yield server


@pytest.fixture
def hasty(tmp_path):
    """Makes a `Downloads` that does not wait long between attempts."""

    def make(**parameters):
        downloads = Downloads(tmp_path / "downloads", **{"timeout": 5.0, **parameters})
        downloads.patience = downloads.patience._replace(first_wait=0.02, longest_wait=0.1)
        return downloads

    return make
