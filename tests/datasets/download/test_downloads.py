"""A published file arrives whole and verified, or a sentence says why not: with a real server."""

import hashlib
import inspect
import io
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_release import CONTENT, HALF, MD5, OLDER, SHA256, birds, left_beside
from file_server import Answer
from filelock import FileLock
from omegaconf import OmegaConf

from rhs.datasets.download.downloads import Downloads, Unavailable
from rhs.errors import UserError
from rhs.explain import explain

ROOT = Path(__file__).parents[3]
CHILD = """
import sys
from rhs.datasets.download.downloads import Downloads, RemoteFile
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
    path.write_bytes(OLDER[1:])
    with pytest.raises(Unavailable, match=r"now named birds\.tgz\.wrong1"):
        hasty().get(birds(), "birds")
    assert path.with_name("birds.tgz.wrong").read_bytes() == OLDER
    assert path.with_name("birds.tgz.wrong1").read_bytes() == OLDER[1:]


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
