"""A real HTTP server on this machine that serves files well, or badly in the way a test asks."""

import base64
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """How one request is answered; the default is what a good server does."""

    status: int | None = None  # an error or redirect without the file
    headers: Mapping[str, str] = MappingProxyType({})  # added, and replacing
    body: bytes | None = None  # instead of the file
    version: str | None = '"v1"'  # ETag; None: neither ETag nor Last-Modified
    ranges: bool = True  # whether Range is honored
    if_range: bool = True  # whether If-Range is
    most: int | None = None  # bytes given of a range that was asked for
    cut: int | None = None  # close the connection after that many bytes of the body
    stall: int | None = None  # send no more after that many bytes, and keep the connection
    pace: float = 0.0  # seconds before every 64 KiB
    length: bool = True  # whether Content-Length is said
    chunked: bool = False


class Request(NamedTuple):
    path: str
    range: str | None
    if_range: str | None
    encodings: str | None
    login: str = ""  # "user:password"


class FileServer(ThreadingHTTPServer):
    """Answers with `answers`, one a request, then as a good server; `requests` says who asked."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.answers, self.always = files, [], Answer()
        self.requests: list[Request] = []
        self.sent: list[int] = []  # bytes of the body, a request
        self.closing = threading.Event()
        self.one_at_a_time = threading.Lock()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in the middle is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FileServer

    def do_GET(self) -> None:
        with self.server.one_at_a_time:
            asked = map(self.headers.get, ("Range", "If-Range", "Accept-Encoding"))
            login = self.headers.get("Authorization", "").removeprefix("Basic ")
            login = base64.b64decode(login).decode()
            self.server.requests.append(Request(self.path[1:], *asked, login))
            self.server.sent.append(0)
            self.number = len(self.server.sent) - 1
            answer = self.server.answers.pop(0) if self.server.answers else self.server.always
        content = self.server.files.get(self.path[1:]) if answer.body is None else answer.body
        if answer.status or content is None:
            self._send(answer.status or 404, b"no such file", {}, Answer(headers=answer.headers))
        else:
            self._send_file(content, answer)

    def _send_file(self, content: bytes, answer: Answer) -> None:
        headers = {"ETag": answer.version} if answer.version else {}
        first = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        asked_version = self.headers.get("If-Range") if answer.if_range else None
        if not first or not answer.ranges or asked_version not in (None, answer.version):
            self._send(200, content, headers, answer)
        elif int(first[1]) >= len(content):
            self._send(416, b"", {"Content-Range": f"bytes */{len(content)}"}, answer)
        else:
            start = int(first[1])
            body = content[start:][: answer.most]
            headers["Content-Range"] = f"bytes {start}-{start + len(body) - 1}/{len(content)}"
            self._send(206, body, headers, answer)

    def _send(self, status: int, body: bytes, headers: dict[str, str], answer: Answer) -> None:
        self.send_response(status)
        if answer.chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif answer.length:
            headers["Content-Length"] = str(len(body))
        for name, value in {**headers, **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        stop = next((n for n in (answer.cut, answer.stall) if n is not None), len(body))
        for start in range(0, stop, 1 << 16):
            self.server.closing.wait(answer.pace)
            piece = body[start : min(start + (1 << 16), stop)]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if answer.chunked else piece)
            self.server.sent[self.number] += len(piece)
        if answer.stall is not None:
            self.server.closing.wait(30)
        elif answer.cut is None and answer.chunked:
            self.wfile.write(b"0\r\n\r\n")
        if answer.cut is not None or answer.stall is not None or not answer.length:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *arguments: Any) -> None:
        """Quiet."""


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[FileServer]:
    """A server of `files` (path without the first slash -> content) for as long as the block."""
    server = FileServer(files)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
