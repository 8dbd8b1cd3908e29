"""A real HTTP server on loopback, whose misbehaviour is scripted.

    with serving(files={"/a.whl": b"..."}) as server:
        server.script("/a.whl", Status(503), CutAfter(100))
        download(server.url + "/a.whl", ...)
        assert server.count("/a.whl") == 3

Each request to a path takes the next step of its script; without one, the
file is sent as it is. A directory can be served as well.
"""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Status:
    """Answer with a status and no file."""

    code: int
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Redirect:
    """Answer with a redirect to `target`."""

    target: str
    code: int = 302


@dataclass(frozen=True)
class CutAfter:
    """Promise the whole file, send `count` bytes of what was asked for, and hang up."""

    count: int


@dataclass(frozen=True)
class Send:
    """Send `data` instead of the file, once."""

    data: bytes


@dataclass(frozen=True)
class Page:
    """Send `body` with a media type, and with other headers."""

    body: bytes
    kind: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Hang:
    """Read the request and answer nothing for `seconds` (or until the server stops)."""

    seconds: float = 60.0


@dataclass(frozen=True)
class Trickle:
    """Promise the whole file, and send `count` bytes of it every `pause` seconds."""

    count: int
    pause: float


@dataclass(frozen=True)
class Raw:
    """Send `data` as it is, status line and headers too, `count` bytes every `pause` seconds."""

    data: bytes
    count: int = 1 << 16
    pause: float = 0.0


Step = Page | Trickle | Raw | Status | Redirect | CutAfter | Send | Hang


@dataclass(frozen=True)
class Request:
    """A request as it arrived; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    query: str = ""
    body: bytes = b""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, files: Mapping[str, bytes], directory: Path | None, ranges: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = dict(files)
        self.directory = directory
        self.ranges = ranges
        self.requests: list[Request] = []
        self.stopping = threading.Event()
        self.bytes_sent = 0
        self._scripts: dict[str, list[Step]] = {}
        self._lock = threading.Lock()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    def script(self, path: str, *steps: Step) -> None:
        """What the next requests to `path` get, one step each."""
        self._scripts.setdefault(path, []).extend(steps)

    def forget(self, path: str) -> None:
        """Drop what is left of the script of `path`."""
        with self._lock:
            self._scripts.pop(path, None)

    def count(self, path: str | None = None, method: str | None = None) -> int:
        """How many requests came (to `path`)."""
        return sum(
            path in (None, request.path) and method in (None, request.method)
            for request in self.requests
        )

    def next_step(self, request: Request) -> Step | None:
        with self._lock:
            self.requests.append(request)
            steps = self._scripts.get(request.path)
            return steps.pop(0) if steps else None

    def content(self, path: str) -> bytes | None:
        if path in self.files:
            return self.files[path]
        if self.directory is None:
            return None
        file = self.directory / path.lstrip("/")
        inside = file.resolve().is_relative_to(self.directory.resolve())
        return file.read_bytes() if inside and file.is_file() else None

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Silence."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        step = self.server.next_step(Request(self.command, path, headers, parts.query, body))
        match step:
            case Status(code, extra):
                self._answer(code, dict(extra), b"")
            case Redirect(target, code):
                self._answer(code, {"Location": target}, b"")
            case Hang(seconds):
                self.server.stopping.wait(seconds)
                self.close_connection = True
            case Send(data):
                self._file(data, None)
            case Page(body, kind, extra):
                self._answer(200, {"Content-Type": kind, **extra}, body)
            case CutAfter(count):
                self._file(self.server.content(path), count)
            case Trickle(count, pause):
                body = self.server.content(path) or b""
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self._slowly(body, count, pause)
            case Raw(data, count, pause):
                self._slowly(data, count, pause)
            case None:
                self._file(self.server.content(path), None)

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815 - the base looks them up by these names

    def _slowly(self, data: bytes, count: int, pause: float) -> None:
        self.close_connection = True
        for start in range(0, len(data), count):
            self.wfile.write(data[start : start + count])
            self.server.bytes_sent += len(data[start : start + count])
            if self.server.stopping.wait(pause):
                return

    def _file(self, data: bytes | None, cut: int | None) -> None:
        if data is None:
            self._answer(404, {}, b"")
            return
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked or not self.server.ranges:
            self._answer(200, {}, data, cut)
            return
        first = int(asked[1])
        last = min(int(asked[2]) if asked[2] else len(data) - 1, len(data) - 1)
        if first >= len(data):
            self._answer(416, {"Content-Range": f"bytes */{len(data)}"}, b"")
            return
        span = {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
        self._answer(206, span, data[first : last + 1], cut)

    def _answer(
        self, code: int, headers: dict[str, str], body: bytes, cut: int | None = None
    ) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        if self.server.ranges:
            self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if self.command == "HEAD":
            return
        sent = body if cut is None else body[:cut]
        # Counted first: the client may have read it all before this thread goes on.
        self.server.bytes_sent += len(sent)
        self.wfile.write(sent)
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True


@contextmanager
def serving(
    files: Mapping[str, bytes] | None = None,
    *,
    directory: Path | None = None,
    ranges: bool = True,
) -> Iterator[Server]:
    """A server for `files` (by path, such as ``/a.whl``) and the files below `directory`."""
    server = Server(files or {}, directory, ranges)
    # The default half second of polling would be paid by every test on shutdown.
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()
