"""The interface of a registry, and code that all kinds share."""

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
    """A source of published layers: an index, manifests and archives."""

    def __init__(self) -> None:
        self.transferred = 0
        """Bytes of archives that were transferred so far, including unwanted ones."""

    @property
    @abstractmethod
    def location(self) -> str:
        """The directory or address, without credentials."""

    @abstractmethod
    def document(self, name: str) -> bytes:
        """The file `name` beside the index, or a manifest. Raises NotFoundError, FetchError."""

    @abstractmethod
    def read(
        self, entry: IndexEntry, manifest: Manifest, spans: Sequence[tuple[int, int]]
    ) -> Iterator[bytes]:
        """Yield the bytes of the archive in `spans`, in pieces.

        A span is (start, stop) without the byte at `stop`; spans are sorted. Raises FetchError,
        also if the archive is too short.
        """

    @abstractmethod
    def read_patches(
        self, entry: IndexEntry, manifest: Manifest, spans: Sequence[tuple[int, int]]
    ) -> Iterator[bytes]:
        """Yield the bytes of the file of patches in `spans`, as `read` does of the archive."""

    def index(self) -> Index:
        """The index of published layers. Raises FetchError, IntegrityError."""
        from stackbuild.compose.serialize import index_from_json

        try:
            data = self.document(INDEX_NAME)
        except NotFoundError as error:
            raise FetchError(
                f"nothing is published in {self.location}",
                expected=f"a file {INDEX_NAME}",
                remedy="name the directory or address that `stackbuild publish` wrote to",
            ) from error
        return index_from_json(data, f"{self.location}/{INDEX_NAME}")

    def manifest_bytes(self, entry: IndexEntry) -> bytes:
        """The JSON of the manifest of `entry`; its sha256 is checked. Raises as `manifest`."""
        data = self.document(entry.manifest)
        found = hashlib.sha256(data).hexdigest()
        if found != entry.sha256:
            raise IntegrityError(
                "the manifest does not match the index",
                file=f"{self.location}/{entry.manifest}",
                expected=f"sha256 {entry.sha256}",
                found=f"sha256 {found}",
                remedy=publish_again(self.location, ""),
            )
        return data

    def manifest(self, entry: IndexEntry) -> Manifest:
        """The manifest of `entry`. Raises FetchError, IntegrityError."""
        return self.parsed(entry, self.manifest_bytes(entry))

    def parsed(self, entry: IndexEntry, data: bytes) -> Manifest:
        """The manifest of `entry` with the JSON `data`. Raises IntegrityError."""
        from stackbuild.compose.serialize import manifest_from_json

        manifest = manifest_from_json(data, f"{self.location}/{entry.manifest}")
        if manifest.digest != entry.digest or manifest.lock != entry.lock:
            raise IntegrityError(
                "the index and the manifest contradict each other",
                file=f"{self.location}/{entry.manifest}",
                expected=f"digest {entry.digest}, lock {entry.lock}",
                found=f"digest {manifest.digest}, lock {manifest.lock}",
                remedy=publish_again(self.location, ""),
            )
        return manifest


def archive_path(entry: IndexEntry, manifest: Manifest) -> str:
    """The archive of `manifest`, relative to the index, with forward slashes."""
    return posixpath.join(posixpath.dirname(entry.manifest), manifest.archive.name)


def patches_path(entry: IndexEntry, manifest: Manifest) -> str:
    """The file with the patches of `manifest`, which has some, relative to the index."""
    name = manifest.patch_file.name if manifest.patch_file else ""
    return posixpath.join(posixpath.dirname(entry.manifest), name)


def publish_again(location: str, words: str) -> str:
    """The command that repairs the layers published in `location`; `words` select layers.

    It also repairs a damaged file whose modification time did not change.
    """
    command = f"stackbuild publish {words}--check"
    if location.startswith(("http://", "https://")):
        return f"{command}, in the project of the stack; then copy its exports to the server"
    return f"in the project of the stack: {command} --to {quoted(location)}"


def publish_layer_again(location: str, manifest: Manifest) -> str:
    """The command that repairs the archive of `manifest` in `location`."""
    words = f"--layer {manifest.layer} --platform {manifest.platform} "
    return publish_again(location, words)
