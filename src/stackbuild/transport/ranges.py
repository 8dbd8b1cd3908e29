"""Stream parts of files from an address."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from stackbuild.errors import FetchError
from stackbuild.files import open_regular
from stackbuild.messages import SILENT, size_text
from stackbuild.transport.connection import open_url, reason_of
from stackbuild.transport.retries import (
    PATIENCE,
    Attempts,
    BrokenTransferError,
    NotFoundError,
    Pace,
    Patience,
    UnreachableError,
)
from stackbuild.transport.urls import path_of, redact, split_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import urllib3

    from stackbuild.messages import Messages


class Opener(Protocol):
    """Requests an address as `open_url` does."""

    def __call__(
        self, url: str, *, headers: Mapping[str, str] | None = None, patience: Patience = PATIENCE
    ) -> urllib3.BaseHTTPResponse:
        """The answer (status 200, 206 or 416)."""


CHUNK = 1 << 20
_NUMBER = "[0-9]{1,18}"
_READ = 1 << 18
"""Bytes requested from the system at once; it returns what has arrived without waiting."""


def read_spans(
    url: str,
    spans: Sequence[tuple[int, int | None]],
    *,
    chunk: int = CHUNK,
    patience: Patience = PATIENCE,
    messages: Messages = SILENT,
    count: Callable[[int], None] | None = None,
    opener: Opener = open_url,
) -> Iterator[bytes]:
    """Yield the bytes of `spans` as they arrive.

    A span is (start, stop) without the byte at `stop`, which is None for the end of the file. Spans
    are sorted and not empty. Each is a separate request. If the server does not support range
    requests, the whole file is read once, and a message says so. Interrupted transfers are resumed.
    A piece has at most `chunk` bytes. `count` is called with the number of received bytes,
    including unwanted ones. Raises FetchError, also if the file ends before a span does.

    Example::

        head, tail = (0, 1024), (4096, None)
        b"".join(read_spans("https://example.org/a.tar.zst", [head, tail]))
    """
    attempts = Attempts(url, patience, messages)
    left = list(spans)
    noted = False
    while left:
        before, asked = left[0]
        at, spans_left = before, len(left)
        try:
            with open_from(url, at, asked, patience, chunk, opener) as answer:
                if answer.unasked is not None and not noted:
                    noted = True
                    _note_no_ranges(url, answer.unasked, spans, messages)
                position = answer.first
                for piece in answer.pieces:
                    if count is not None:
                        count(len(piece))
                    for wanted in _of_spans(piece, position, left):
                        at += len(wanted)
                        yield wanted
                    position += len(piece)
                    if not left:
                        return
            start, stop = left[0]
            if stop is None and (asked is None or answer.first != before):
                return
            if len(left) < spans_left:
                continue
            raise BrokenTransferError(f"the file ends at byte {start}, before {stop}")
        except BrokenTransferError as error:
            attempts.failed(error, at - before)


def _note_no_ranges(
    url: str, size: int, spans: Sequence[tuple[int, int | None]], messages: Messages
) -> None:
    wanted = sum((size if stop is None else stop) - start for start, stop in spans)
    if wanted < size:
        messages.note(
            f"{urlsplit(url).hostname} does not support range requests: {redact(url)} is read "
            f"as a whole ({size_text(size)}), although only {size_text(wanted)} are needed"
        )


def _of_spans(piece: bytes, position: int, left: list[tuple[int, int | None]]) -> Iterator[bytes]:
    """The parts of a piece at `position` that are in `left`; removes them from `left`."""
    end = position + len(piece)
    while left and left[0][0] < end:
        start, stop = left[0]
        until = end if stop is None else min(stop, end)
        if until == stop:
            del left[0]
        else:
            left[0] = (until, stop)
        if until > start:
            yield piece[start - position : until - position]
        if until == end:
            return


def read_bytes(
    url: str, limit: int = 64 << 20, *, patience: Patience = PATIENCE, messages: Messages = SILENT
) -> bytes:
    """The whole file at `url`. Raises FetchError, also for more than `limit` bytes."""
    pieces = []
    total = 0
    for piece in read_spans(url, [(0, None)], patience=patience, messages=messages):
        total += len(piece)
        if total > limit:
            raise FetchError("the file is too large", file=redact(url), expected=f"{limit} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def content_length(
    url: str, *, patience: Patience = PATIENCE, messages: Messages = SILENT
) -> int | None:
    """The size in bytes of the file at `url`; None if the server does not send it.

    Raises FetchError if there is no file.
    """
    if (path := _file_path(url)) is not None:
        return path.stat().st_size
    attempts = Attempts(url, patience, messages)
    while True:
        try:
            return _length(url, patience)
        except BrokenTransferError as error:
            attempts.failed(error, 0)


def _length(url: str, patience: Patience) -> int | None:
    try:
        response = open_url(url, method="HEAD", patience=patience)
        response.close()
        if (size := _announced(response)) is not None:
            return size
    except NotFoundError:
        raise
    except FetchError as error:
        if isinstance(error, UnreachableError):
            raise
        # Some servers do not support HEAD; the answer to a request for one byte has the size too.
    with open_url(url, headers={"Range": "bytes=0-0"}, patience=patience) as response:
        size = _announced(response) if response.status == 200 else _content_range(response)[1]
        # Without support for range requests the body is the whole file.
        response.close()
        return size


def _announced(response: urllib3.BaseHTTPResponse) -> int | None:
    """The size in Content-Length (RFC 9110, section 8.6)."""
    value = response.headers.get("Content-Length", "")
    return int(value) if re.fullmatch(_NUMBER, value) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeResponse:
    """The part of a file that a server sends."""

    first: int
    """The offset of the first piece: the requested one, or 0."""
    pieces: Iterator[bytes]
    unasked: int | None = None
    """The size of the whole file if it is sent although only a part was requested."""


@contextmanager
def open_from(
    url: str,
    start: int,
    stop: int | None,
    patience: Patience,
    chunk: int = CHUNK,
    opener: Opener = open_url,
) -> Iterator[RangeResponse]:
    """The bytes of the file at `url` from `start` to before `stop` (None: to the end).

    Raises FetchError, and BrokenTransferError if a retry may succeed.
    """
    if (path := _file_path(url)) is not None:
        with open_regular(path) as file:
            file.seek(start)
            yield RangeResponse(first=start, pieces=iter(lambda: file.read(chunk), b""))
        return
    headers = {}
    if start or stop is not None:
        headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
    response = _ranged(url, headers, start, patience, opener)
    try:
        if response.status == 200:
            unasked = _announced(response) if headers else None
            pieces = received(response, chunk, patience)
            yield RangeResponse(first=0, pieces=pieces, unasked=unasked)
            return
        first, total = _content_range(response)
        if response.status == 416:
            # Nothing is left to send: all bytes have arrived, or too many.
            yield RangeResponse(first=start if total == start else 0, pieces=iter(()))
            if total != start:
                raise BrokenTransferError(f"the file has {total} bytes and none from {start} on")
            return
        if first not in {0, start}:
            raise _bad_range(response, url, start)
        yield RangeResponse(first=first, pieces=received(response, chunk, patience))
    finally:
        # A connection with unread bytes must not return to the pool.
        response.close()


def _ranged(
    url: str, headers: dict[str, str], start: int, patience: Patience, opener: Opener
) -> urllib3.BaseHTTPResponse:
    """The answer for a range, or for the whole file if a valid range is refused."""
    response = opener(url, headers=headers, patience=patience)
    total = _content_range(response)[1]
    if response.status != 416 or (total is not None and total <= start):
        return response
    response.close()
    response = opener(url, patience=patience)
    if response.status == 416:
        response.close()
        raise FetchError(
            "the server refuses the request",
            file=redact(url),
            expected="HTTP status 200, because no range was requested",
            found="HTTP status 416 Range Not Satisfiable",
            remedy="report it to the server's operator, or use another mirror",
        )
    return response


def _bad_range(response: urllib3.BaseHTTPResponse, url: str, start: int) -> FetchError:
    found = response.headers.get("Content-Range")
    return FetchError(
        "the server sends another part of the file than requested",
        file=redact(url),
        expected=f"Content-Range: bytes {start}-",
        found=f"Content-Range: {found[:80]}" if found else "no Content-Range",
        remedy="report it to the server's operator, or use another mirror",
    )


def received(response: urllib3.BaseHTTPResponse, chunk: int, patience: Patience) -> Iterator[bytes]:
    """The body of `response` as it arrives. Raises BrokenTransferError."""
    from urllib3.exceptions import HTTPError

    pace = Pace(patience)
    try:
        while True:
            # Never read more than the rest of the file.
            left = response.length_remaining
            before = time.monotonic()
            piece = response.read1(min(chunk, _READ, left or _READ))
            if not piece:
                break
            pace.arrived(len(piece), time.monotonic() - before)
            yield piece
    except (HTTPError, OSError) as error:
        raise BrokenTransferError(reason_of(error)) from error
    response.release_conn()


def _content_range(response: urllib3.BaseHTTPResponse) -> tuple[int | None, int | None]:
    """First byte and complete length of a Content-Range (RFC 9110, section 14.4)."""
    pattern = rf"bytes\s+(?:({_NUMBER})-{_NUMBER}|\*)/({_NUMBER}|\*)"
    match = re.fullmatch(pattern, response.headers.get("Content-Range", "").strip())
    if match is None:
        return None, None
    first, total = match.groups()
    return (None if first is None else int(first)), (None if total == "*" else int(total))


def _file_path(url: str) -> Path | None:
    """The path of a file: address, None for http and https. Raises FetchError for others."""
    path = path_of(split_address(url))
    if path is None:
        return None
    try:
        found = path.is_file()
    except ValueError:
        # The path contains a NUL.
        found = False
    if not found:
        raise NotFoundError("there is no such file", file=path)
    return path
