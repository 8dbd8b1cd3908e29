"""Published layers behind a web server; any that gives out files will do."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from stackbuild.messages import SILENT
from stackbuild.registry.base import (
    INDEX_NAME,
    Registry,
    archive_path,
)
from stackbuild.strictjson import MAX_SIZE
from stackbuild.transport.ranges import read_bytes, read_spans
from stackbuild.transport.urls import redact

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stackbuild.compose.manifest import IndexEntry, Manifest
    from stackbuild.messages import Messages


class HttpRegistry(Registry):
    """The files of a published directory below an http or https address.

    Parts of archives are asked for by Range (RFC 9110, section 14); of a server that
    knows none the archive is read once, and what is not wanted is dropped.
    """

    def __init__(self, url: str, messages: Messages = SILENT) -> None:
        super().__init__()
        base, mark, query = url.partition("?")
        self._base = base.removesuffix(INDEX_NAME).rstrip("/")
        # Some stores sign their addresses with a query, which each request must carry.
        self._query = mark + query
        self._messages = messages

    @property
    def location(self) -> str:
        """The address, without a password."""
        return redact(self._base)

    def read(
        self, entry: IndexEntry, manifest: Manifest, spans: Sequence[tuple[int, int]]
    ) -> Iterator[bytes]:
        """The archive's bytes of `spans`, one after the other, in pieces."""
        url = self._url(archive_path(entry, manifest))
        return read_spans(url, spans, messages=self._messages, count=self._count)

    def _count(self, arrived: int) -> None:
        self.transferred += arrived

    def _document(self, relative: str) -> bytes:
        return read_bytes(self._url(relative), MAX_SIZE, messages=self._messages)

    def _url(self, relative: str) -> str:
        return f"{self._base}/{quote(relative)}{self._query}"
