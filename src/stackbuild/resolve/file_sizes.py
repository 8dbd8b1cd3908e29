"""The size and sha256 of each file that uv chose, even if the index omits them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from stackbuild.lock.model import LockedFile
from stackbuild.lock.url_cache import Address, Addresses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stackbuild.lock.indexes import IndexSettings
    from stackbuild.messages import Messages
    from stackbuild.resolve.request import Found
    from stackbuild.workspace import Workspace

_REQUESTS = 8
"""Concurrent downloads for each layer."""


class Sizes:
    """Turns uv's results into locked files, and remembers their addresses."""

    def __init__(self, workspace: Workspace, messages: Messages) -> None:
        self._addresses = Addresses(workspace.addresses)
        self._messages = messages

    def complete(self, found: Sequence[Found], indexes: IndexSettings) -> list[LockedFile]:
        """The file of each of `found`, in their order. Raises FetchError."""
        if not found:
            return []
        with ThreadPoolExecutor(_REQUESTS) as pool:
            return list(pool.map(lambda item: self._file(item, indexes), found))

    def _file(self, item: Found, indexes: IndexSettings) -> LockedFile:
        sha256, size = item.sha256, item.size
        if sha256 is not None and size is None and (known := self._addresses.get(sha256)):
            size = known.size
        if sha256 is not None and size is None:
            from stackbuild.transport.ranges import content_length

            size = content_length(indexes.with_credentials(item.url), messages=self._messages)
        if sha256 is None or size is None:
            sha256, size = self._measure(item, indexes)
        self._addresses.remember(sha256, Address(url=item.url, size=size))
        return LockedFile(name=item.file, size=size, sha256=sha256)

    def _measure(self, item: Found, indexes: IndexSettings) -> tuple[str, int]:
        """Download and measure the file, for an index that gives neither size nor sha256."""
        from stackbuild.transport.transfer import download, sha256_file

        with TemporaryDirectory(prefix="stackbuild-") as name:
            path = Path(name) / item.file
            url = indexes.with_credentials(item.url)
            download(url, path, sha256=item.sha256, messages=self._messages)
            return sha256_file(path), path.stat().st_size
