"""What the tests of searching share."""

import pytest
from searchable import Searchable, make_searchable


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Searchable:
    """A project with an index; not to be changed."""
    return make_searchable(tmp_path_factory.mktemp("searchable"))


@pytest.fixture
def mine(tmp_path) -> Searchable:
    """One to be changed."""
    return make_searchable(tmp_path / "project")
