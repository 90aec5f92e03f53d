"""A published file arrives whole and verified, or a sentence says why not: with a real server."""

import hashlib
import inspect
import io
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from email.utils import formatdate
from pathlib import Path

import pytest
from file_server import Answer, serving
from filelock import FileLock
from omegaconf import OmegaConf

from rhs.datasets.download import Downloads, RemoteFile, Unavailable
from rhs.errors import UserError
from rhs.stage import explain

ROOT = Path(__file__).parents[2]
CONTENT = random.Random(0).randbytes(1_000_000)
OLDER = random.Random(1).randbytes(1_000_000)
HALF = len(CONTENT) // 2
MD5, SHA256 = (f"{kind}:{hashlib.new(kind, CONTENT).hexdigest()}" for kind in ("md5", "sha256"))
CHILD = """
import sys
from rhs.datasets.download import Downloads, RemoteFile
folder, url, digest = sys.argv[1:]
print(Downloads(folder).get(RemoteFile("birds.tgz", (url,), digest), "birds"))
"""


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


def birds(*urls: str, digest: str | None = MD5, **more) -> RemoteFile:
    return RemoteFile("birds.tgz", urls, digest, **more)


def left_beside(path: Path) -> set[str]:
    return {p.name.removeprefix(path.name) for p in path.parent.iterdir()} - {"", ".lock"}


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


@pytest.mark.parametrize(
    ("first", "why"),
    [
        (Answer(cut=HALF), "connection cut after 500kB of 1.00MB"),
        (Answer(cut=HALF, chunked=True), "connection cut after"),
        (Answer(stall=HALF), "no byte for 0.4 s after 500kB of 1.00MB"),
    ],
)
def test_what_came_before_a_broken_connection_is_kept(server, hasty, capsys, first, why):
    server.answers = [first]
    path = hasty(timeout=0.4).get(birds(server.url("birds.tgz")), "birds")
    assert path.read_bytes() == CONTENT
    had = len(CONTENT) - server.sent[1]
    assert server.requests[1][1:3] == (f"bytes={had}-", '"v1"')
    assert HALF - (1 << 16) < had <= HALF
    assert why in capsys.readouterr().out


@pytest.mark.parametrize(
    "again",
    [
        Answer(ranges=False),
        Answer(headers={"Content-Range": "bytes 7-999999/1000000"}),  # not what was asked
        Answer(headers={"Content-Range": f"bytes {HALF}-1000006/1000007"}),  # another size
        Answer(headers={"Content-Range": "nonsense"}),
        Answer(status=416, headers={"Content-Range": "bytes */400000"}),
        Answer(status=416),
    ],
)
@pytest.mark.parametrize("digest", [MD5, None])
def test_an_answer_that_does_not_continue_starts_again(server, hasty, again, digest):
    server.answers = [Answer(cut=HALF), again]
    path = hasty().get(birds(server.url("birds.tgz"), digest=digest), "birds")
    assert path.read_bytes() == CONTENT
    assert server.requests[1].range == f"bytes={HALF}-"
    assert server.requests[-1].range is None or not again.ranges
    assert len(server.requests) == (3 if again.ranges else 2)


@pytest.mark.parametrize("honest", [True, False])
def test_two_versions_are_never_joined(server, hasty, honest):
    server.answers = [Answer(body=OLDER, cut=HALF, version='"v0"')]
    server.always = Answer(if_range=honest)
    path = hasty().get(birds(server.url("birds.tgz"), digest=None), "birds")
    assert path.read_bytes() == CONTENT
    assert server.requests[1].if_range == '"v0"'


@pytest.mark.parametrize("version", [None, 'W/"v1"'])
def test_where_no_version_is_named_only_a_digest_allows_to_go_on(server, hasty, version):
    server.always = Answer(version=version)
    server.answers = [Answer(cut=HALF, version=version)]
    hasty().get(birds(server.url("birds.tgz"), digest=None), "unchecked")
    assert [r.range for r in server.requests] == [None, None]
    server.answers = [Answer(body=OLDER, cut=HALF, version=version)]
    path = hasty().get(birds(server.url("birds.tgz")), "checked")
    assert path.read_bytes() == CONTENT  # the digest saw that the halves do not belong together
    assert [r.range for r in server.requests[2:]] == [None, f"bytes={HALF}-", None]


def test_last_modified_names_a_version(server, hasty):
    dated = Answer(version=None, headers={"Last-Modified": "Sat, 03 Jan 2026 10:00:00 GMT"})
    server.answers, server.always = [dated._replace(cut=HALF)], dated._replace(if_range=False)
    hasty().get(birds(server.url("birds.tgz"), digest=None), "birds")
    assert server.requests[1][1:3] == (f"bytes={HALF}-", "Sat, 03 Jan 2026 10:00:00 GMT")
    assert server.sent[1] == HALF


def test_another_address_goes_on_where_the_first_gave_up(server, hasty):
    server.files["other"] = CONTENT
    server.answers = [Answer(cut=HALF)]
    file = birds(server.url("birds.tgz"), server.url("other"))
    assert hasty(retries=0).get(file, "birds").read_bytes() == CONTENT
    assert server.requests[1][:3] == ("other", f"bytes={HALF}-", None)


def test_a_server_that_gives_less_than_was_asked(server, hasty):
    server.answers = [Answer(cut=HALF), Answer(most=1000)]
    path = hasty().get(birds(server.url("birds.tgz"), digest=None), "birds")
    assert path.read_bytes() == CONTENT
    assert server.requests[2].range == f"bytes={HALF + 1000}-"


@pytest.mark.parametrize("notes", [None, "{"])  # the latter: killed while writing them
@pytest.mark.parametrize("kept", [HALF, len(CONTENT), len(CONTENT) + 9])
def test_a_part_without_notes(server, hasty, tmp_path, kept, notes):
    part = tmp_path / "downloads" / "birds" / "birds.tgz.part"
    part.parent.mkdir(parents=True)
    part.write_bytes((CONTENT + b"not of it")[:kept])
    if notes:
        part.with_name("birds.tgz.part.json").write_text(notes)
    path = hasty().get(birds(server.url("birds.tgz")), "birds")
    assert path.read_bytes() == CONTENT
    assert sum(server.sent) == (len(CONTENT) if kept > len(CONTENT) else len(CONTENT) - kept)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 408])
def test_a_busy_server_is_asked_again(server, hasty, status):
    server.answers = [Answer(status=status)] * 3
    path = hasty(retries=3).get(birds(server.url("birds.tgz")), "birds")
    assert path.read_bytes() == CONTENT
    server.answers = [Answer(status=status)] * 4
    with pytest.raises(Unavailable, match=f"answered {status}"):
        hasty(retries=3).get(birds(server.url("birds.tgz")), "again")
    assert len(server.requests) == 8


def test_retries_count_attempts_that_bring_nothing_new(server, hasty):
    step = len(CONTENT) // 8
    server.answers = [Answer(cut=step)] * 7
    path = hasty(retries=1).get(birds(server.url("birds.tgz")), "birds")
    assert path.read_bytes() == CONTENT
    server.answers = [Answer(cut=step, ranges=False)] * 7  # each as far as the one before
    with pytest.raises(Unavailable, match="the next run goes on from there"):
        hasty(retries=2).get(birds(server.url("birds.tgz")), "again")
    assert len(server.requests) == 8 + 3


@pytest.mark.parametrize("after", [lambda: "1", lambda: formatdate(time.time() + 2, usegmt=True)])
def test_retry_after_is_honored_up_to_a_bound(server, hasty, after):
    server.answers = [Answer(status=503, headers={"Retry-After": after()})]
    downloads = hasty()
    downloads.patience = downloads.patience._replace(longest_wait=5.0)
    began = time.monotonic()
    downloads.get(birds(server.url("birds.tgz")), "birds")
    assert 0.9 < time.monotonic() - began < 4
    server.answers = [Answer(status=503, headers={"Retry-After": "3600"})]
    began = time.monotonic()
    hasty().get(birds(server.url("birds.tgz")), "again")
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_an_address_that_does_not_have_it_is_left_at_once(server, hasty, status):
    server.files["other"] = CONTENT
    server.answers = [Answer(status=status)]
    file = birds(server.url("gone"), server.url("other"))
    assert hasty().get(file, "birds").read_bytes() == CONTENT
    assert [r.path for r in server.requests] == ["gone", "other"]


@pytest.mark.parametrize("length", [True, False])
def test_bytes_are_taken_as_they_are(server, hasty, length):
    """Some servers call a .tgz an encoding of a .tar: it is not decoded on the way."""
    server.always = Answer(length=length, headers={"Content-Encoding": "gzip"})
    assert hasty().get(birds(server.url("birds.tgz")), "birds").read_bytes() == CONTENT
    assert server.requests[0].encodings == "identity"


def test_redirects_are_followed_to_http_only(server, hasty, tmp_path):
    server.files["there"] = CONTENT
    server.answers = [Answer(status=302, headers={"Location": "/there"})]
    assert hasty().get(birds(server.url("here")), "birds").read_bytes() == CONTENT
    (tmp_path / "secret").write_bytes(CONTENT)
    for location in (f"file://{tmp_path}/secret", "ftp://127.0.0.1/secret"):
        server.answers = [Answer(status=302, headers={"Location": location})]
        with pytest.raises(Unavailable, match=location.split(":", 1)[0]):
            hasty().get(birds(server.url("here")), "again")


def test_a_web_page_is_not_the_file(server, hasty):
    page = Answer(body=b"<html>log in", headers={"Content-Type": "text/html; charset=utf-8"})
    server.answers = [page]
    with pytest.raises(Unavailable, match="web page"):
        hasty().get(birds(server.url("birds.tgz"), digest=None), "birds")


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


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=640k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk is not permitted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_keeps_what_came(server, hasty, small_disk):
    server.always = Answer(chunked=True)  # the size is not known before
    downloads = hasty()
    downloads.folder = small_disk
    with pytest.raises(OSError, match="No space left") as caught:
        downloads.get(birds(server.url("birds.tgz")), "birds")
    assert f"disk that holds {small_disk}/birds/birds.tgz" in explain(caught.value)
    kept = (small_disk / "birds" / "birds.tgz.part").stat().st_size
    assert 400_000 < kept < 660_000
    subprocess.run(["mount", "-o", "remount,size=2m", str(small_disk)], check=True)
    assert downloads.get(birds(server.url("birds.tgz")), "birds").read_bytes() == CONTENT
    assert server.requests[-1].range == f"bytes={kept}-"


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"retries": -1}, "fetch.retries is -1"),
        ({"retries": 1.5}, "fetch.retries is 1.5"),
        ({"timeout": 0}, "fetch.timeout is 0"),
        ({"timeout": "soon"}, "fetch.timeout is 'soon'"),
        ({"mirror": "s3://bucket"}, "fetch.mirror is 's3://bucket'.*a folder or an http"),
        ({"mirror": "/not/there"}, "fetch.mirror is '/not/there', which is no folder"),
    ],
)
def test_bad_parameters(parameters, sentence):
    with pytest.raises(UserError, match=sentence):
        Downloads(**parameters)


def test_a_mirror_of_the_environment_that_is_not_there(monkeypatch):
    monkeypatch.setenv("RHS_MIRROR", "/not/there")
    with pytest.raises(UserError, match="RHS_MIRROR is '/not/there'"):
        Downloads()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"fetch\.folder is .*nothing can be written"):
        Downloads(tmp_path / "file").get(birds(), "birds")


def test_the_configuration_is_the_constructor():
    written = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "fetch" / "default.yaml"))
    parameters = inspect.signature(Downloads).parameters
    assert written == {name: p.default for name, p in parameters.items()}
