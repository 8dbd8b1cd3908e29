"""Read pages of package indexes: the files that an index has for a project.

The simple repository API, as HTML (PEP 503, 592, 658) and as JSON (PEP 691, 700, 714):
https://packaging.python.org/en/latest/specifications/simple-repository-api/
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from stackbuild import strictjson
from stackbuild.errors import FetchError
from stackbuild.files import read_regular
from stackbuild.messages import SILENT
from stackbuild.transport.connection import follow
from stackbuild.transport.ranges import CHUNK, received
from stackbuild.transport.retries import PATIENCE, Attempts, BrokenTransferError, NotFoundError
from stackbuild.transport.urls import path_of, redact, split_address, without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stackbuild.messages import Messages
    from stackbuild.transport.retries import Patience

_JSON = re.compile(r"application/(vnd\.pypi\.simple\.[a-z0-9]+\+)?json\b", re.IGNORECASE)
_HTML = re.compile(r"(application/vnd\.pypi\.simple\.[a-z0-9]+\+html|text/html)\b", re.IGNORECASE)
_HEADERS = {
    "Accept": "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2,"
    " text/html;q=0.1",
    # A compressed page is ten times smaller, and pages are never requested in parts.
    "Accept-Encoding": "gzip",
}
_LIMIT = strictjson.MAX_SIZE
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KINDS = (".whl", ".tar.gz", ".zip")
"""File name extensions of wheels and source distributions; pages may link to other files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFile:
    """A file listed on a page."""

    name: str
    url: str
    """Absolute address, without credentials and fragment."""
    sha256: str | None = None
    size: int | None = None
    """In bytes; only in JSON pages."""
    requires_python: str | None = None
    """A version specifier, as on the page."""
    yanked: bool = False
    has_metadata: bool = False
    """Whether the wheel's metadata is at `url` with ``.metadata`` (PEP 658)."""
    uploaded: str | None = None
    """ISO 8601; only in JSON pages."""


def read_page(
    url: str, *, messages: Messages = SILENT, patience: Patience = PATIENCE
) -> tuple[IndexFile, ...]:
    """The wheels and source distributions on the page at `url` (http, https or file), in its order.

    Raises NotFoundError if there is no such page, and FetchError if it cannot be read: no
    connection, access refused, longer than 32 MiB, or not a page of the simple API, version 1.
    """
    if path := path_of(split_address(url)):
        try:
            content = read_regular(path, _LIMIT + 1)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFoundError("there is no such file", file=path) from None
        except OSError as error:
            raise FetchError(
                "the page of the package index cannot be read",
                file=path,
                found=error.strerror or str(error),
            ) from error
        kind, address = "text/html", url
    else:
        content, kind, address = _receive(url, messages, patience)
    if len(content) > _LIMIT:
        raise _bad_page(url, f"more than {_LIMIT} bytes")
    try:
        if _JSON.match(kind):
            found = _from_json(content)
        elif not kind or _HTML.match(kind):
            found = _from_html(content, kind)
        else:
            raise ValueError(f"content of the type {kind}, neither JSON nor HTML")
        return tuple(_absolute(file, address) for file in found if file.name.endswith(_KINDS))
    except strictjson.JsonError as error:
        raise _bad_page(url, error.reason) from error
    except ValueError as error:
        raise _bad_page(url, str(error)) from error


def read_directory(directory: Path) -> tuple[IndexFile, ...]:
    """The wheels and source distributions in `directory`, sorted by name.

    Raises NotFoundError if it cannot be listed.
    """
    try:
        paths = sorted(path for path in directory.iterdir() if path.name.endswith(_KINDS))
    except OSError as error:
        raise NotFoundError(
            "there is no such directory", file=directory, found=error.strerror
        ) from error
    return tuple(
        IndexFile(name=path.name, url=path.as_uri(), size=path.stat().st_size) for path in paths
    )


def _receive(url: str, messages: Messages, patience: Patience) -> tuple[bytes, str, str]:
    """Content, media type and final address of a page."""
    attempts = Attempts(url, patience, messages)
    while True:
        try:
            response, address = follow(url, headers=_HEADERS, patience=patience)
            try:
                pieces = received(response, CHUNK, patience)
                if response.headers.get("Content-Encoding", "").strip().lower() == "gzip":
                    pieces = _unpacked(pieces)
                content = _joined(pieces)
            finally:
                response.close()
            return content, response.headers.get("Content-Type", ""), address
        except BrokenTransferError as error:
            attempts.failed(error, 0)


def _joined(pieces: Iterator[bytes]) -> bytes:
    """All of `pieces`, or just enough to exceed the limit."""
    content = bytearray()
    for piece in pieces:
        content += piece
        if len(content) > _LIMIT:
            break
    return bytes(content)


def _unpacked(pieces: Iterator[bytes]) -> Iterator[bytes]:
    decoder = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        for piece in pieces:
            rest = piece
            while rest:
                # Bounded, because a few bytes may expand to very many.
                yield decoder.decompress(rest, CHUNK)
                rest = decoder.unconsumed_tail
    except zlib.error as error:
        raise BrokenTransferError(f"the page is not valid gzip: {error}") from error
    if not decoder.eof:
        raise BrokenTransferError("the compressed page ends too early")


def _bad_page(url: str, found: str) -> FetchError:
    return FetchError(
        "the package index sends a page that cannot be read",
        file=redact(url),
        expected="a page of the simple repository API, version 1",
        found=found,
        remedy="check the address of the index",
    )


def _absolute(file: IndexFile, address: str) -> IndexFile:
    url, fragment = urldefrag(urljoin(address, file.url))
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https", "file"}:
        raise ValueError(f"{file.name} is at {redact(url)}")
    if parts.scheme == "file" and urlsplit(address).scheme != "file":
        raise ValueError(f"{file.name} is a file on this machine: {url}")
    sha256 = fragment.removeprefix("sha256=").lower() if file.sha256 is None else file.sha256
    valid = sha256 if _SHA256.fullmatch(sha256) else None
    return replace(file, url=without_credentials(url), sha256=valid)


def _check_version(version: object) -> None:
    if not isinstance(version, str) or version.partition(".")[0] != "1":
        raise ValueError(f"version {version!r} of the simple repository API")


def _from_json(content: bytes) -> Iterator[IndexFile]:
    page = strictjson.parse(content, "the page")
    if not isinstance(page, dict) or not isinstance(page.get("meta"), dict):
        raise ValueError("JSON without `meta`")
    _check_version(page["meta"].get("api-version"))
    files = page.get("files")
    if not isinstance(files, list):
        raise ValueError("JSON without `files`")
    for number, file in enumerate(files):
        if not isinstance(file, dict):
            raise ValueError(f"files[{number}] is not an object")
        name, url, hashes = file.get("filename"), file.get("url"), file.get("hashes", {})
        if not isinstance(name, str) or not isinstance(url, str) or not isinstance(hashes, dict):
            raise ValueError(f"files[{number}] without `filename`, `url` or `hashes`")
        size = file.get("size")
        metadata = file.get("core-metadata", file.get("dist-info-metadata"))
        yield IndexFile(
            name=name,
            url=url,
            sha256=str(hashes.get("sha256", "")).lower(),
            size=size if type(size) is int and size >= 0 else None,
            requires_python=_text(file.get("requires-python")),
            # The reason or true; an empty reason also means yanked.
            yanked=file.get("yanked", False) is not False,
            has_metadata=metadata is True or isinstance(metadata, dict),
            uploaded=_text(file.get("upload-time")),
        )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _from_html(content: bytes, kind: str) -> Iterator[IndexFile]:
    charset = re.search(r"charset=\"?([A-Za-z0-9._-]+)", kind)
    try:
        text = content.decode(charset[1] if charset else "utf-8", errors="replace")
    except LookupError as error:
        raise ValueError(str(error)) from error
    parser = _Links()
    parser.feed(text)
    parser.close()
    for attributes in parser.links:
        metadata = attributes.get("data-core-metadata", attributes.get("data-dist-info-metadata"))
        yield IndexFile(
            name=unquote(urlsplit(attributes["href"]).path).rpartition("/")[2],
            url=urljoin(parser.base, attributes["href"]),
            requires_python=attributes.get("data-requires-python") or None,
            yanked="data-yanked" in attributes,
            has_metadata=metadata not in (None, "false"),
        )


class _Links(HTMLParser):
    """Collects the attributes of links, with resolved entities."""

    def __init__(self) -> None:
        super().__init__()
        self.base = ""
        self.links: list[dict[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes)
        elif tag == "base" and not self.base:
            self.base = attributes.get("href", "")
        elif tag == "meta" and attributes.get("name") == "pypi:repository-version":
            _check_version(attributes.get("content"))
