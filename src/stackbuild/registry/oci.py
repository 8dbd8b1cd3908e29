"""Published layers in a container registry.

The registry has a repository for the stack, whose tag `index` is the stack's index, and one below
it for each layer. Each frame is a blob, so the registry shares frames between versions, platforms
and layers, and a consumer fetches the blobs that it lacks.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from stackbuild.errors import IntegrityError
from stackbuild.messages import SILENT
from stackbuild.registry.base import INDEX_NAME, Registry
from stackbuild.registry.oci_format import (
    frames_of,
    manifest_tag,
    patches_of,
    read_document_manifest,
    read_layer_manifest,
)
from stackbuild.strictjson import MAX_SIZE
from stackbuild.transport.oci import OciClient
from stackbuild.transport.references import digest_of, is_digest
from stackbuild.transport.retries import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future

    from stackbuild.compose.manifest import IndexEntry, Manifest
    from stackbuild.messages import Messages
    from stackbuild.registry.oci_format import Blob, FoundLayer, Tag

SCHEME = "oci://"
REQUESTS = 4
"""Blobs that are sent or fetched at the same time."""
_SMALL = 1 << 20
"""Blobs of at most this many bytes are fetched ahead."""
_AHEAD = 16
"""Blobs that are fetched ahead, at most."""


class _Part(NamedTuple):
    """A part of a blob."""

    digest: str
    start: int
    stop: int
    is_whole: bool


class OciRegistry(Registry):
    """A repository of a container registry, and the repositories of layers below it."""

    def __init__(self, host: str, repository: str, messages: Messages = SILENT) -> None:
        super().__init__()
        self._host = host
        self._repository = repository
        self._messages = messages
        self._client = OciClient(host, messages)

    @property
    def location(self) -> str:
        """The address of the stack's repository."""
        return f"{SCHEME}{self._host}/{self._repository}"

    def document(self, name: str) -> bytes:
        """The small file `name`, such as the index."""
        return self._document(name)[0]

    def manifest_bytes(self, entry: IndexEntry) -> bytes:
        """The JSON of the manifest of `entry`, which is a blob."""
        repository = self._of_layer(self._tag(entry).repository)
        return self._blob(repository, f"sha256:{entry.sha256}")

    def read(
        self, entry: IndexEntry, manifest: Manifest, spans: Sequence[tuple[int, int]]
    ) -> Iterator[bytes]:
        """Yield the bytes of the archive in `spans`: of the frames that they overlap."""
        return self._read(entry, _parts(frames_of(manifest), spans))

    def read_patches(
        self, entry: IndexEntry, manifest: Manifest, spans: Sequence[tuple[int, int]]
    ) -> Iterator[bytes]:
        """Yield the bytes of the file of patches in `spans`."""
        return self._read(entry, _parts(patches_of(manifest), spans))

    def _read(self, entry: IndexEntry, parts: Iterator[_Part]) -> Iterator[bytes]:
        repository = self._of_layer(self._tag(entry).repository)
        with ThreadPoolExecutor(REQUESTS) as pool:
            waiting: deque[tuple[_Part, Future[bytes] | None]] = deque()
            while True:
                while len(waiting) < _AHEAD and (part := next(parts, None)):
                    small = part.stop - part.start <= _SMALL
                    future = pool.submit(self._whole, repository, part) if small else None
                    waiting.append((part, future))
                if not waiting:
                    return
                part, future = waiting.popleft()
                yield from self._pieces(repository, part) if future is None else [future.result()]

    def _whole(self, repository: str, part: _Part) -> bytes:
        return b"".join(self._pieces(repository, part))

    def _pieces(self, repository: str, part: _Part) -> Iterator[bytes]:
        spans = [(part.start, None if part.is_whole else part.stop)]
        at = part.start
        try:
            for piece in self._client.read_blob(repository, part.digest, spans, self._count):
                at += len(piece)
                yield piece
                if at > part.stop:
                    break
        except NotFoundError as error:
            raise self._lost(repository, part.digest) from error
        if at != part.stop:
            raise IntegrityError(
                "a blob does not have the size that the manifest says",
                file=self._name(repository, part.digest),
                expected=f"{part.stop} bytes",
                found=f"{at} bytes",
                remedy="report it to the operator of the registry",
            )

    def _count(self, arrived: int) -> None:
        self.transferred += arrived

    def _tag(self, entry: IndexEntry) -> Tag:
        """The place of the manifest of `entry`. Raises IntegrityError."""
        if tag := manifest_tag(entry.manifest):
            return tag
        raise IntegrityError(
            "the index of a container registry names something that is not there",
            file=f"{self.location}/{INDEX_NAME}",
            expected="such as linux-x64/<layer>-<12 digits>.json",
            found=entry.manifest,
            remedy="publish the layer again as tar.zst",
        )

    def _of_layer(self, repository: str) -> str:
        return f"{self._repository}/{repository}"

    def _name(self, repository: str, reference: str) -> str:
        """The address of a manifest or blob for messages."""
        mark = "@" if is_digest(reference) else ":"
        return f"{SCHEME}{self._host}/{repository}{mark}{reference}"

    def _lost(self, repository: str, digest: str) -> NotFoundError:
        return NotFoundError(
            "the registry does not have a blob that the index or a manifest names",
            file=self._name(repository, digest),
            remedy="publish the layer again; registries that remove old blobs must keep those of "
            "manifests with a tag",
        )

    def _found_layer(self, tag: Tag) -> FoundLayer | None:
        repository = self._of_layer(tag.repository)
        try:
            data = self._client.manifest(repository, tag.name).data
        except NotFoundError:
            return None
        return read_layer_manifest(data, self._name(repository, tag.name))

    def _digest(self, repository: str, name: str) -> str | None:
        """The digest of the manifest with the tag `name`; None if there is none."""
        try:
            return self._client.manifest(repository, name).digest
        except NotFoundError:
            return None

    def _document(self, name: str) -> tuple[bytes, str]:
        """A small file, and the digest of its manifest. Raises NotFoundError."""
        tag = document_tag(name)
        found = self._client.manifest(self._repository, tag)
        document = read_document_manifest(found.data, self._name(self._repository, tag))
        return self._blob(self._repository, document.digest), found.digest

    def _blob(self, repository: str, digest: str) -> bytes:
        """A small blob, whose digest is checked."""
        data = bytearray()
        try:
            for piece in self._client.read_blob(repository, digest):
                data += piece
                if len(data) > MAX_SIZE:
                    break
        except NotFoundError as error:
            raise self._lost(repository, digest) from error
        if digest_of(bytes(data)) != digest:
            raise IntegrityError(
                "the registry sends another blob than requested",
                file=self._name(repository, digest),
                expected=digest,
                found=f"{len(data)} bytes" if len(data) > MAX_SIZE else digest_of(bytes(data)),
                remedy="report it to the operator of the registry",
            )
        return bytes(data)


def document_tag(name: str) -> str:
    """The tag of the small file `name`."""
    return name.removesuffix(".json")


def _parts(blobs: Sequence[Blob], spans: Sequence[tuple[int, int]]) -> Iterator[_Part]:
    """The parts of `blobs` that `spans` of their file are made of."""
    for start, stop in spans:
        for blob in blobs:
            first, last = max(start - blob.offset, 0), min(stop - blob.offset, blob.size)
            if first < last:
                yield _Part(blob.digest, first, last, (first, last) == (0, blob.size))
