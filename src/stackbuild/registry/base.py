"""What every kind of registry offers, and what they share."""

from __future__ import annotations

import hashlib
import posixpath
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from stackbuild.errors import FetchError, IntegrityError, quoted
from stackbuild.transport.retries import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stackbuild.compose.manifest import Index, IndexEntry, Manifest

INDEX_NAME = "index.json"


class Registry(ABC):
    """A place that holds an index, manifests and archives."""

    def __init__(self) -> None:
        self.transferred = 0
        """Bytes of archives that were brought from there so far, wanted or not."""

    @property
    @abstractmethod
    def location(self) -> str:
        """Where it is, as a user may read it: without a password."""

    @abstractmethod
    def _document(self, relative: str) -> bytes:
        """The index or a manifest. Raises NotFoundError, FetchError."""

    @abstractmethod
    def read(
        self, entry: IndexEntry, manifest: Manifest, spans: Sequence[tuple[int, int]]
    ) -> Iterator[bytes]:
        """The archive's bytes of `spans`, one after the other, in pieces.

        A span goes from its first byte up to and without its second; they rise.
        Raises FetchError, also where the archive is shorter.
        """

    def index(self) -> Index:
        """What is published here. Raises FetchError, IntegrityError."""
        from stackbuild.compose.serialize import index_from_json

        try:
            data = self._document(INDEX_NAME)
        except NotFoundError as error:
            raise FetchError(
                f"nothing is published in {self.location}",
                expected=f"a file {INDEX_NAME}",
                remedy="name the place that `stackbuild publish` wrote to",
            ) from error
        return index_from_json(data, f"{self.location}/{INDEX_NAME}")

    def manifest(self, entry: IndexEntry) -> Manifest:
        """The manifest of `entry`; its sha256 is checked. Raises FetchError, IntegrityError."""
        from stackbuild.compose.serialize import manifest_from_json

        data = self._document(entry.manifest)
        found = hashlib.sha256(data).hexdigest()
        if found != entry.sha256:
            raise IntegrityError(
                "the manifest is not the one that the index names",
                file=f"{self.location}/{entry.manifest}",
                expected=f"sha256 {entry.sha256}",
                found=f"sha256 {found}",
                remedy=publish_again(self.location, ""),
            )
        manifest = manifest_from_json(data, f"{self.location}/{entry.manifest}")
        if manifest.digest != entry.digest or manifest.lock != entry.lock:
            raise IntegrityError(
                "the index says something else of the manifest than the manifest itself",
                file=f"{self.location}/{entry.manifest}",
                expected=f"digest {entry.digest}, lock {entry.lock}",
                found=f"digest {manifest.digest}, lock {manifest.lock}",
                remedy=publish_again(self.location, ""),
            )
        return manifest


def archive_path(entry: IndexEntry, manifest: Manifest) -> str:
    """The archive of `manifest`, relative to the index, with forward slashes."""
    return posixpath.join(posixpath.dirname(entry.manifest), manifest.archive.name)


def publish_again(location: str, words: str) -> str:
    """The command that repairs what is published in `location`; `words` choose layers.

    It works also where the time of the damaged file was kept.
    """
    command = f"stackbuild publish {words}--check"
    if "://" in location:
        return f"{command}, in the project of the stack; then copy its exports to the server"
    return f"in the project of the stack: {command} --to {quoted(location)}"


def publish_layer_again(location: str, manifest: Manifest) -> str:
    """The command that repairs the archive of `manifest` in `location`."""
    words = f"--layer {manifest.layer} --platform {manifest.platform} "
    return publish_again(location, words)
