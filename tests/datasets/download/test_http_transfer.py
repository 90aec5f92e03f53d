"""Bytes over HTTP from a server that is busy, broken or odd."""

import time
from email.utils import formatdate

import pytest
from fake_release import CONTENT, HALF, MD5, OLDER, birds
from file_server import Answer

from rhs.datasets.download.downloads import Unavailable


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
