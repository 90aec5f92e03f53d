"""A published file arrives whole and verified, or a sentence says why not: with a real server."""

import hashlib
import inspect
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from birds import CONTENT, HALF, MD5, OLDER, SHA256, birds, left_beside
from file_server import Answer
from filelock import FileLock
from omegaconf import OmegaConf

from rhs.datasets.download import Downloads, Unavailable
from rhs.errors import UserError
from rhs.stage import explain

ROOT = Path(__file__).parents[2]
CHILD = """
import sys
from rhs.datasets.download import Downloads, RemoteFile
folder, url, digest = sys.argv[1:]
print(Downloads(folder).get(RemoteFile("birds.tgz", (url,), digest), "birds"))
"""


@pytest.mark.parametrize("digest", [MD5, SHA256, MD5.upper().replace("MD5", "md5"), None])
def test_a_file_is_brought_once(server, hasty, capsys, digest):
    file = birds(server.url("birds.tgz"), digest=digest)
    path = hasty().get(file, "birds")
    assert path.read_bytes() == CONTENT
    assert path.parts[-3:] == ("downloads", "birds", "birds.tgz")
    assert left_beside(path) == ({".verified"} if digest else set())
    said = capsys.readouterr()
    assert said.out.count("\n") == 2  # no terminal: a line at the start, one at the end
    assert said.err == ""
    assert hasty().get(file, "birds") == path
    assert len(server.requests) == 1
    assert capsys.readouterr().out == ""


def test_a_terminal_shows_rate_and_time_left(server, hasty, monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    server.always = Answer(pace=0.03)
    hasty().get(birds(server.url("birds.tgz")), "birds")
    pattern = re.compile(r"birds\.tgz: +\d+%\|.*k/1\.00M \[\d\d:\d\d<\d\d:\d\d, +[\d.]+[kM]B/s\]")
    assert any(pattern.fullmatch(shown) for shown in terminal.getvalue().split("\r"))


def test_wrong_bytes_are_tried_once_more_and_never_kept(server, hasty, tmp_path):
    server.answers = [Answer(body=OLDER)]
    path = hasty().get(birds(server.url("birds.tgz")), "birds")
    assert path.read_bytes() == CONTENT
    server.always = Answer(body=OLDER)
    with pytest.raises(Unavailable) as caught:
        hasty().get(birds(server.url("birds.tgz")), "again")
    found = hashlib.md5(OLDER).hexdigest()
    assert f"wrong bytes, md5:{found} instead of {MD5}" in str(caught.value)
    assert "birds.tgz" in str(caught.value)
    assert len(server.requests) == 4
    again = tmp_path / "downloads" / "again" / "birds.tgz"
    assert left_beside(again) == set()
    assert not again.exists()


def test_a_file_that_is_there_is_verified_once(server, hasty, tmp_path, capsys, monkeypatch):
    path = tmp_path / "downloads" / "birds" / "birds.tgz"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    file = birds(server.url("birds.tgz"))
    assert hasty().get(file, "birds") == path
    assert server.requests == []
    assert left_beside(path) == {".verified"}
    with monkeypatch.context() as patch, FileLock(path.with_name("birds.tgz.lock")):
        patch.setattr(hashlib, "new", lambda *_, **__: pytest.fail("it is hashed again"))
        hasty().get(file, "birds")  # nor does it wait for somebody else's lock
    os.utime(path, (1, 1))  # the same bytes at another time
    hasty().get(file, "birds")
    assert server.requests == []
    path.write_bytes(OLDER[:HALF])  # other bytes at the same time
    os.utime(path, (1, 1))
    hasty().get(file, "birds")
    assert path.read_bytes() == CONTENT
    assert len(server.requests) == 1
    assert path.with_name("birds.tgz.wrong").read_bytes() == OLDER[:HALF]
    assert "now named birds.tgz.wrong" in capsys.readouterr().out
    path.with_name("birds.tgz.verified").write_text("{")  # killed while it was written
    assert hasty().get(file, "birds") == path


def test_a_wrong_file_is_not_used_where_there_is_no_other(hasty, tmp_path):
    path = tmp_path / "downloads" / "birds" / "birds.tgz"
    path.parent.mkdir(parents=True)
    path.write_bytes(OLDER)
    with pytest.raises(Unavailable, match=r"now named birds\.tgz\.wrong"):
        hasty().get(birds(), "birds")
    assert not path.exists()


def child(folder: Path, url: str) -> subprocess.Popen:
    arguments = [sys.executable, "-c", CHILD, str(folder), url, MD5]
    return subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_two_processes_bring_one_file(server, tmp_path):
    server.always = Answer(pace=0.05)
    folder, url = tmp_path / "downloads", server.url("birds.tgz")
    said = [
        process.communicate(timeout=60)[0] for process in (child(folder, url), child(folder, url))
    ]
    path = folder / "birds" / "birds.tgz"
    assert [text.splitlines()[-1] for text in said] == [str(path)] * 2
    assert path.read_bytes() == CONTENT
    assert server.sent == [len(CONTENT)]
    assert sum("waiting" in text for text in said) == 1


def test_a_killed_process_leaves_what_came(server, hasty, tmp_path):
    server.answers = [Answer(stall=HALF)]
    folder, url = tmp_path / "downloads", server.url("birds.tgz")
    part = folder / "birds" / "birds.tgz.part"
    process = child(folder, url)
    while not (part.exists() and part.stat().st_size == HALF):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert not part.with_name("birds.tgz").exists()
    assert hasty().get(birds(url), "birds").read_bytes() == CONTENT
    assert server.requests[1][1:3] == (f"bytes={HALF}-", '"v1"')
    assert left_beside(part.with_name("birds.tgz")) == {".verified"}


def test_killed_between_the_last_byte_and_the_name(server, hasty, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            hasty().get(birds(server.url("birds.tgz"), digest=None), "birds")
    path = hasty().get(birds(server.url("birds.tgz"), digest=None), "birds")
    assert path.read_bytes() == CONTENT
    assert len(server.requests) == 1


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


@pytest.mark.parametrize("kind", ["said by the server", "known before", "in a mirror folder"])
def test_too_little_space_is_said_before_the_first_byte(server, hasty, tmp_path, monkeypatch, kind):
    usage = shutil.disk_usage(tmp_path)._replace(free=len(CONTENT) - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    server.always = Answer(chunked=kind == "known before")
    mirror = None
    if kind == "in a mirror folder":
        mirror = str(tmp_path / "mirror")
        (tmp_path / "mirror").mkdir()
        (tmp_path / "mirror" / "birds.tgz").write_bytes(CONTENT)
    file = birds(server.url("birds.tgz"), size=len(CONTENT))
    with pytest.raises(UserError, match=r"birds\.tgz needs 1\.00MB more.* has 1\.00MB free"):
        hasty(mirror=mirror).get(file, "birds")
    assert left_beside(tmp_path / "downloads" / "birds" / "birds.tgz") <= {".part.json"}


def test_a_full_disk_keeps_what_came(server, hasty, small_disk):
    server.always = Answer(chunked=True)  # the size is not known before
    downloads = hasty()
    downloads.folder = disk = small_disk("640k")
    with pytest.raises(OSError, match="No space left") as caught:
        downloads.get(birds(server.url("birds.tgz")), "birds")
    assert f"disk that holds {disk}/birds/birds.tgz" in explain(caught.value)
    kept = (disk / "birds" / "birds.tgz.part").stat().st_size
    assert 400_000 < kept < 660_000
    subprocess.run(["mount", "-o", "remount,size=2m", str(disk)], check=True)
    assert downloads.get(birds(server.url("birds.tgz")), "birds").read_bytes() == CONTENT
    assert server.requests[-1].range == f"bytes={kept}-"


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"retries": -1}, "fetch.retries is -1"),
        ({"retries": 1.5}, "fetch.retries is 1.5"),
        ({"timeout": 0}, "fetch.timeout is 0"),
        ({"timeout": "soon"}, "fetch.timeout is 'soon'"),
    ],
)
def test_bad_parameters(parameters, sentence):
    with pytest.raises(UserError, match=sentence):
        Downloads(**parameters)


@pytest.mark.parametrize("how", ["fetch.mirror", "RHS_MIRROR"])
@pytest.mark.parametrize("mirror", ["s3://me:secret@bucket", "/not/there"])
def test_a_mirror_that_is_not_there_is_a_mistake_once_a_file_is_asked_for(
    server, hasty, monkeypatch, how, mirror
):
    monkeypatch.setenv("RHS_MIRROR", mirror)
    downloads = hasty(mirror=mirror if how == "fetch.mirror" else None)
    said = f"{how} is {mirror.replace('me:secret@', '')!r}, which is no folder here; accepted: a f"
    with pytest.raises(UserError, match=said):
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
    with pytest.raises(Unavailable, match=r"//127\.0\.0\.1:.*connection cut") as caught:
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


def test_a_name_that_is_anybodys_is_only_taken_from_the_folder_of_the_data_set(
    server, hasty, tmp_path
):
    file = birds(digest=None, own_folder=True)
    (tmp_path / "mirror" / "birds").mkdir(parents=True)
    (tmp_path / "mirror" / "birds.tgz").write_bytes(OLDER)
    server.files = {"birds.tgz": OLDER}
    for mirror in (str(tmp_path / "mirror"), server.url("")):
        with pytest.raises(Unavailable):
            hasty(mirror=mirror).get(file, "birds")
    (tmp_path / "mirror" / "birds" / "birds.tgz").write_bytes(CONTENT)
    assert hasty(mirror=str(tmp_path / "mirror")).get(file, "birds").read_bytes() == CONTENT


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"fetch\.folder is .*nothing can be written"):
        Downloads(tmp_path / "file").get(birds(), "birds")


def test_the_configuration_is_the_constructor():
    written = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "fetch" / "default.yaml"))
    parameters = inspect.signature(Downloads).parameters
    assert written == {name: p.default for name, p in parameters.items()}
