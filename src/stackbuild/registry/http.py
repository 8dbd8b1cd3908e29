"""Published layers on a web server; any server of static files works."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from stackbuild.messages import SILENT
from stackbuild.registry.base import (
    INDEX_NAME,
    Registry,
    archive_path,
    patches_path,
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

    Parts of archives are fetched with range requests (RFC 9110, section 14). If the server does not
    support them, the whole archive is read once and unneeded bytes are dropped.
    """

    def __init__(self, url: str, messages: Messages = SILENT) -> None:
        super().__init__()
        base, mark, query = url.partition("?")
        self._base = base.removesuffix(INDEX_NAME).rstrip("/")
        # Some object stores sign addresses with a query; every request must include it.
        self._query = mark + query
        self._messages = messages

    @property
    def location(self) -> str:
        """The address, without credentials."""
        return redact(self._base)

    def read(
        self, entry: IndexEntry, manifest: Manifest, spans: Sequence[tuple[int, int]]
    ) -> Iterator[bytes]:
        """Yield the bytes of the archive in `spans`, in pieces."""
        url = self._url(archive_path(entry, manifest))
        return read_spans(url, spans, messages=self._messages, count=self._count)

    def read_patches(
        self, entry: IndexEntry, manifest: Manifest, spans: Sequence[tuple[int, int]]
    ) -> Iterator[bytes]:
        """Yield the bytes of the file of patches in `spans`, in pieces."""
        url = self._url(patches_path(entry, manifest))
        return read_spans(url, spans, messages=self._messages, count=self._count)

    def _count(self, arrived: int) -> None:
        self.transferred += arrived

    def document(self, name: str) -> bytes:
        """The file `name` beside the index, or a manifest."""
        return read_bytes(self._url(name), MAX_SIZE, messages=self._messages)

    def _url(self, relative: str) -> str:
        return f"{self._base}/{quote(relative)}{self._query}"
