"""Where files come from: a mirror, then public addresses, or a sentence that says what to do."""

import re
import socket
import time
from pathlib import Path

import pytest
from fake_release import CONTENT, HALF, MD5, OLDER, birds, left_beside
from file_server import Answer

from rhs.datasets.download.downloads import Unavailable
from rhs.errors import UserError

ROOT = Path(__file__).parents[2]
CHILD = """
import sys
from rhs.datasets.download.downloads import Downloads, RemoteFile
folder, url, digest = sys.argv[1:]
print(Downloads(folder).get(RemoteFile("birds.tgz", (url,), digest), "birds"))
"""


@pytest.mark.parametrize("layout", ["birds.tgz", "birds/birds.tgz"])
@pytest.mark.parametrize("kind", ["folder", "url"])
@pytest.mark.parametrize("how", ["parameter", "environment"])
def test_a_mirror_comes_first(server, hasty, tmp_path, monkeypatch, layout, kind, how):
    server.files = {"public": CONTENT, f"site/mirror/{layout}": CONTENT}
    (tmp_path / "mirror" / layout).parent.mkdir(parents=True)
    (tmp_path / "mirror" / layout).write_bytes(CONTENT)
    mirror = str(tmp_path / "mirror") if kind == "folder" else server.url("site/mirror/")
    if how == "environment":
        monkeypatch.setenv("RHS_MIRROR", mirror)
    downloads = hasty(mirror=mirror if how == "parameter" else None)
    path = downloads.get(birds(server.url("public")), "birds")
    assert path.read_bytes() == CONTENT
    assert left_beside(path) == {".verified"}
    assert "public" not in {r.path for r in server.requests}
    assert (tmp_path / "mirror" / layout).read_bytes() == CONTENT


def test_a_mirror_with_wrong_bytes_is_passed_by(server, hasty, tmp_path):
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "birds.tgz").write_bytes(OLDER)
    downloads = hasty(mirror=str(tmp_path / "mirror"))
    assert downloads.get(birds(server.url("birds.tgz")), "birds").read_bytes() == CONTENT
    with pytest.raises(Unavailable, match="wrong bytes"):
        downloads.get(birds(), "again")


def test_without_network_one_sentence_says_what_to_do(hasty, tmp_path, capsys):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}/birds.tgz"
    unknown = "http://nobody.invalid/birds.tgz"
    page = "https://example.org/birds"
    (tmp_path / "mirror").mkdir()
    began = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        hasty(mirror=str(tmp_path / "mirror")).get(
            birds(nobody, unknown, size=1_150_585_339, page=page), "birds"
        )
    assert time.monotonic() - began < 5
    said = str(caught.value)
    assert "\n" not in said
    for part in (
        f"birds.tgz (1.15GB, {MD5})",
        f"{nobody}: no connection",
        f"{unknown}: no connection",
        f"{tmp_path / 'mirror' / 'birds.tgz'}: no such file",
        f"put it at {tmp_path / 'downloads' / 'birds' / 'birds.tgz'}",
        "fetch.mirror or RHS_MIRROR",
        f"get it at {page}",
    ):
        assert part in said
    assert "0x" not in said  # no names of objects
    assert capsys.readouterr().out.count("trying again") == 2  # once an address: nobody answers


def test_a_network_that_swallows_everything(hasty):
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for other in waiting:  # the queue of those who want to connect is full
            other.setblocking(False)
            other.connect_ex(deaf.getsockname())
        address = f"http://127.0.0.1:{deaf.getsockname()[1]}/birds.tgz"
        with pytest.raises(Unavailable, match=r"birds\.tgz: no connection in 0\.3 s"):
            hasty(timeout=0.3).get(birds(address), "birds")
        for other in waiting:
            other.close()


def test_a_file_without_public_address(hasty, tmp_path):
    with pytest.raises(Unavailable, match="it has no public address") as caught:
        hasty().get(birds(digest=None), "birds")
    place = tmp_path / "downloads" / "birds" / "birds.tgz"
    assert f"put it at {place}" in str(caught.value)
    place.write_bytes(b"whatever a person put there")
    assert hasty().get(birds(digest=None), "birds") == place


@pytest.mark.parametrize("how", ["fetch.mirror", "RHS_MIRROR"])
@pytest.mark.parametrize("mirror", ["s3://me:secret@bucket", "/not/there"])
def test_a_mirror_that_is_not_there_is_a_mistake_once_a_file_is_asked_for(
    server, hasty, monkeypatch, how, mirror
):
    monkeypatch.setenv("RHS_MIRROR", mirror)
    downloads = hasty(mirror=mirror if how == "fetch.mirror" else None)
    shown = mirror.replace("me:secret@", "***@")
    said = f"{how} is {shown!r}, which is no folder here; accepted: a f"
    with pytest.raises(UserError, match=re.escape(said)):
        downloads.get(birds(server.url("birds.tgz")), "birds")
    assert server.requests == []
    assert not downloads.folder.exists()


def test_a_login_is_sent_to_the_mirror_and_never_shown(server, hasty, capsys):
    mirror = server.url("site").replace("://", "://me:secret@")
    downloads = hasty(mirror=mirror, retries=1)
    server.files = {"site/birds/birds.tgz": CONTENT}
    server.answers = [Answer(), Answer(status=503), Answer(body=OLDER)]
    path = downloads.get(birds(), "birds")
    assert {request.login for request in server.requests} == {"me:secret"}
    server.files["site/again/birds.tgz"] = CONTENT
    server.always = Answer(cut=HALF, ranges=False)
    with pytest.raises(Unavailable, match=r"//\*\*\*@127\.0\.0\.1:.*connection cut") as caught:
        downloads.get(birds(size=1), "again")
    shown = capsys.readouterr().out
    assert "trying again" in shown
    assert "once more from the start" in shown
    notes = [file.read_text() for file in downloads.folder.rglob("*.part.json")]
    for text in (shown, str(caught.value), *notes):
        assert "127.0.0.1" in text
        assert "secret" not in text
    assert path.read_bytes() == CONTENT
    assert notes
