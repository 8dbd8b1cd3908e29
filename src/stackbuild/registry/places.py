"""The interface of places: registries that layers can be sent to.

`push` sends in this order: archives, manifests, the index. So a reader never finds an index that
names something incomplete.
"""

from __future__ import annotations

import hashlib
import time
from abc import abstractmethod
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from stackbuild.errors import IntegrityError
from stackbuild.registry.base import Registry, archive_path, patches_path, publish_layer_again

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from contextlib import AbstractContextManager

    from stackbuild.compose.manifest import Index, IndexEntry, Manifest, PublishedFile
    from stackbuild.messages import Messages

REUSED_SECONDS = 24 * 3600
"""A file that the index does not name is used again if it is newer than this, and otherwise sent
again. So `prune`, which removes old ones, does not remove it before the index names it."""


class IndexChangedError(Exception):
    """The index is not the one that was read; nothing was written."""


class Upload(NamedTuple):
    """A published layer of `source` that is to be sent to a place."""

    source: Registry
    entry: IndexEntry
    manifest: Manifest
    document: bytes
    """The manifest as it is published, whose sha256 is in the entry."""

    def archive(self) -> Iterator[bytes]:
        """The archive in pieces. Raises as `source`; IntegrityError after the last wrong byte."""
        return self._pieces("archive", self.manifest.archive, self.source.read)

    def patches(self) -> Iterator[bytes]:
        """The file of patches in pieces. Raises as `archive`."""
        file = self.manifest.patch_file
        if not file:
            return iter(())
        return self._pieces("file of patches", file, self.source.read_patches)

    def _pieces(
        self, what: str, file: PublishedFile, read: Callable[..., Iterator[bytes]]
    ) -> Iterator[bytes]:
        digest = hashlib.sha256()
        for piece in read(self.entry, self.manifest, [(0, file.size)]):
            digest.update(piece)
            yield piece
        if digest.hexdigest() != file.sha256:
            raise IntegrityError(
                f"the {what} does not match its manifest",
                layer=self.manifest.layer,
                platform=self.manifest.platform,
                file=f"{self.source.location}/{self.manifest.platform}/{file.name}",
                expected=f"sha256 {file.sha256}",
                found=f"sha256 {digest.hexdigest()}",
                remedy=publish_layer_again(self.source.location, self.manifest),
            )


class Place(Registry):
    """A registry that layers can be sent to."""

    def prepare(self, messages: Messages) -> None:
        """Check that this place may be written, before the first change. Raises StackbuildError."""

    @abstractmethod
    def tagged_index(self) -> tuple[Index, str | None]:
        """The index, and a tag of this version of it, such as an ETag.

        An empty one and None if there is no index. Raises FetchError, IntegrityError.
        """

    @abstractmethod
    def replace_index(self, data: bytes, tag: str | None) -> None:
        """Replace the index with the JSON in `data` if `tag` is still that of the index.

        Raises IndexChangedError if it is another one now, FetchError, OSError.
        """

    @abstractmethod
    def missing(self, upload: Upload, *, named: bool) -> int:
        """The number of bytes that `send` would transfer; 0 if the layer is complete here.

        `named`: the index of this place names the manifest. Raises FetchError, OSError.
        """

    @abstractmethod
    def send(self, upload: Upload, *, named: bool) -> None:
        """Send what is missing of a layer: first the archive, then the manifest.

        The layer is complete afterwards, but the index does not name it yet. Raises FetchError,
        IntegrityError for a damaged source, OSError.
        """

    @abstractmethod
    def put_document(self, name: str, data: bytes) -> None:
        """Write a small file beside the index. Raises FetchError, OSError."""

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep others from changing the index in the `with` block, where a place can do that."""
        return nullcontext()

    @abstractmethod
    def unnamed(self, kept: Collection[tuple[IndexEntry, Manifest]]) -> Mapping[str, float]:
        """The files of layers that those of `kept` do not need, by name.

        The values are the times when they were written, in seconds since the epoch. Raises
        FetchError, OSError.
        """

    @abstractmethod
    def remove(self, names: Collection[str]) -> None:
        """Remove files that `unnamed` returned. Raises FetchError, OSError."""


class Stored(NamedTuple):
    """A file at a place."""

    size: int
    sha256: str | None
    """None if the place does not know it."""
    modified: float
    """Seconds since the epoch."""


class _File(NamedTuple):
    """A file to send."""

    name: str
    size: int
    sha256: str
    read: Callable[[], Iterator[bytes]]
    """Gives its bytes in pieces."""


class FilePlace(Place):
    """A place of files with names, such as a directory; names have forward slashes."""

    @abstractmethod
    def stored(self, name: str) -> Stored | None:
        """The file `name`, or None. Raises FetchError, OSError."""

    @abstractmethod
    def put(self, name: str, size: int, sha256: str, pieces: Iterator[bytes]) -> None:
        """Write a file. It appears when it is complete. Raises FetchError, OSError."""

    @abstractmethod
    def files(self) -> Mapping[str, float]:
        """The published files that may be removed, and when they were written.

        Those of layers only, in seconds since the epoch. Raises FetchError, OSError.
        """

    def missing(self, upload: Upload, *, named: bool) -> int:
        """The bytes of the files that are missing, have another size, or another sha256."""
        return sum(file.size for file in self._lacking(upload, named=named))

    def send(self, upload: Upload, *, named: bool) -> None:
        """Send the files that are missing, the manifest last."""
        for name, size, sha256, read in self._lacking(upload, named=named):
            self.put(name, size, sha256, read())

    def unnamed(self, kept: Collection[tuple[IndexEntry, Manifest]]) -> Mapping[str, float]:
        """The files of layers that those of `kept` do not need."""
        names = {
            name
            for entry, manifest in kept
            for name in (
                entry.manifest,
                archive_path(entry, manifest),
                patches_path(entry, manifest),
            )
        }
        return {name: time_ for name, time_ in self.files().items() if name not in names}

    def _lacking(self, upload: Upload, *, named: bool) -> list[_File]:
        """The files to send, in this order."""
        entry, archive, patches = upload.entry, upload.manifest.archive, upload.manifest.patch_file
        files = [
            _File(
                archive_path(entry, upload.manifest), archive.size, archive.sha256, upload.archive
            )
        ]
        if patches:
            name = patches_path(entry, upload.manifest)
            files.append(_File(name, patches.size, patches.sha256, upload.patches))
        document = partial(iter, [upload.document])
        files.append(_File(entry.manifest, len(upload.document), entry.sha256, document))
        return [
            one
            for one in files
            if not _is_same(self.stored(one.name), one.size, one.sha256, named=named)
        ]


def _is_same(found: Stored | None, size: int, sha256: str, *, named: bool) -> bool:
    if found is None or found.size != size or found.sha256 not in {None, sha256}:
        return False
    return named or found.modified > time.time() - REUSED_SECONDS
