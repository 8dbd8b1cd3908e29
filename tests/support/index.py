"""A package index on loopback that serves a folder of wheels.

The simple repository API: HTML (PEP 503), and JSON with sizes (PEP 691, PEP
700) where asked for. Files answer HEAD and Range requests, as uv needs to read
metadata out of a wheel without downloading it.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote

from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_JSON = "application/vnd.pypi.simple.v1+json"
_HTML = "text/html; charset=utf-8"


class IndexServer:
    """Serves the wheels and source archives in `directory` while it is open.

    With `user` and `password` every request needs basic authentication. With
    `json` the pages are JSON that tells sizes; HTML pages do not. Without
    `hashes` HTML pages tell no sha256 either.
    """

    def __init__(
        self,
        directory: Path,
        *,
        json: bool = False,
        hashes: bool = True,
        user: str | None = None,
        password: str | None = None,
    ) -> None:
        self.directory = directory
        self.json = json
        self.hashes = hashes
        self.files_at = "files"
        """The folder of the addresses of files."""
        self.uploaded: dict[str, str] = {}
        """The start of a file's name to its time of upload, which JSON pages tell (PEP 700)."""
        self._own = os.urandom(4).hex()
        """Tests share uv's cache, and a later server may get the port of this one."""
        self._userinfo = f"{user}:{password}" if user is not None else None
        self.sent = 0
        """Bytes of all answers so far, without their headers."""
        self._requests: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        server = self
        handler = type("Handler", (_Handler,), {"index": server})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """The index's address, without credentials."""
        return f"http://127.0.0.1:{self._server.server_port}/{self._own}/simple/"

    @property
    def url_with_credentials(self) -> str:
        """The index's address with its user and password."""
        return self.url.replace("://", f"://{self._userinfo}@")

    @property
    def requests(self) -> tuple[tuple[str, str], ...]:
        """The method and path of each answered request, in order."""
        with self._lock:
            return tuple(self._requests)

    def count(self, method: str, part: str = "") -> int:
        """How many requests of `method` had `part` in their path."""
        return sum(verb == method and part in path for verb, path in self.requests)

    def forget(self) -> None:
        """Start counting again."""
        with self._lock:
            self.sent = 0
            self._requests.clear()

    def files(self) -> dict[str, list[Path]]:
        """The files of each distribution, by normalised name."""
        found: dict[str, list[Path]] = {}
        for path in sorted(self.directory.iterdir()):
            if path.suffix == ".whl":
                name = path.name.partition("-")[0]
            elif path.name.endswith(".tar.gz"):
                name = path.name.removesuffix(".tar.gz").rpartition("-")[0]
            else:
                continue
            found.setdefault(canonicalize_name(name), []).append(path)
        return found

    def upload_time(self, file: str) -> dict[str, str]:
        """The key of `file` in a JSON page for its time of upload, if it has one."""
        times = [time for start, time in self.uploaded.items() if file.startswith(start)]
        return {"upload-time": times[0]} if times else {}

    def allows(self, authorization: str | None) -> bool:
        """Whether a request with this header may be answered."""
        if self._userinfo is None:
            return True
        token = base64.b64encode(self._userinfo.encode()).decode()
        return authorization == f"Basic {token}"

    def record(self, method: str, path: str) -> None:
        """Remember a request."""
        with self._lock:
            self._requests.append((method, path))

    def count_sent(self, size: int) -> None:
        """Remember the size of an answer."""
        with self._lock:
            self.sent += size


def _page(files: list[Path], index: IndexServer) -> bytes:
    entries = [(path, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]
    if index.json:
        listing = [
            {
                "filename": path.name,
                "url": f"../../{index.files_at}/{path.name}",
                "hashes": {"sha256": digest},
                "size": path.stat().st_size,
                **index.upload_time(path.name),
            }
            for path, digest in entries
        ]
        return json.dumps({"meta": {"api-version": "1.1"}, "name": "x", "files": listing}).encode()
    links = [
        f'<a href="../../{index.files_at}/{html.escape(path.name)}'
        f'{f"#sha256={digest}" * index.hashes}">'
        f"{path.name}</a><br/>"
        for path, digest in entries
    ]
    return ("<!DOCTYPE html><html><body>\n" + "\n".join(links) + "\n</body></html>\n").encode()


class _Handler(BaseHTTPRequestHandler):
    index: IndexServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        path = unquote(self.path)
        self.index.record(self.command, path)
        if not self.index.allows(self.headers.get("Authorization")):
            self._send(401, b"", _HTML, body, {"WWW-Authenticate": 'Basic realm="index"'})
        elif match := re.fullmatch(r".*/simple/([^/]+)/", path):
            self._project(match[1], body)
        elif match := re.fullmatch(rf".*/{self.index.files_at}/([^/]+)", path):
            self._file(match[1], body)
        else:
            self._send(404, b"", _HTML, body)

    def _project(self, name: str, body: bool) -> None:
        files = self.index.files().get(name)
        if files is None:
            self._send(404, b"", _HTML, body)
        else:
            kind = _JSON if self.index.json else _HTML
            self._send(200, _page(files, self.index), kind, body)

    def _file(self, name: str, body: bool) -> None:
        path = self.index.directory / name
        if not path.is_file():
            self._send(404, b"", _HTML, body)
            return
        content = path.read_bytes()
        headers = {"Accept-Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            self._send(200, content, "application/octet-stream", body, headers)
            return
        total = len(content)
        start = int(wanted[1]) if wanted[1] else max(0, total - int(wanted[2]))
        stop = min(total, int(wanted[2]) + 1) if wanted[1] and wanted[2] else total
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{total}"
        self._send(206, content[start:stop], "application/octet-stream", body, headers)

    def _send(
        self,
        status: int,
        content: bytes,
        kind: str,
        body: bool,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.index.count_sent(len(content))
            self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""
