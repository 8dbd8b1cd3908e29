"""Make the image layer of a stack layer.

It is a tar archive with the files of the stack layer below `PREFIX`, where all layers are side by
side, so that the relative links between them hold. It is made of the frames in one stream; no tree
of files is written. Its bytes depend on the frames, the directory of the layer and the version of
zlib. gzip is used because every container engine and registry reads it.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from stackbuild import strictjson
from stackbuild.errors import ComposeError
from stackbuild.files import atomic_file
from stackbuild.frames.binaries import BinaryReader
from stackbuild.frames.tarformat import END, header, padding
from stackbuild.images.blobs import GZIP_TYPE, read_digest
from stackbuild.install.archive import (
    GZIP_LEVEL,
    gzip_stream,
    keep_frames,
    layer_members,
    member_header,
)
from stackbuild.install.run import LAYER_METADATA
from stackbuild.linking.host_libraries import DRIVERS, on_host

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stackbuild.compose.manifest import Manifest
    from stackbuild.frames.cache import FrameCache
    from stackbuild.frames.tarformat import Member
    from stackbuild.images.blobs import Blob, BlobCache
    from stackbuild.messages import Messages
    from stackbuild.reading import Readers
    from stackbuild.registry.find import Published

PREFIX = "opt/stackbuild"
"""The directory of the layers in an image, relative to its top. It is the same for all stacks, so
that two applications share the image layers below them."""

_FORMAT = 1
_WHITEOUT = ".wh."
"""How the names of files begin that delete other files (OCI image specification, layers)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeLayer:
    """What is known of an image layer that was made."""

    digest: str
    size: int
    diff_id: str
    """The digest of the uncompressed archive."""
    metadata: str
    """The file `install.run.LAYER_METADATA`; empty if the layer has none."""
    needed: tuple[str, ...]
    """Libraries that programs and libraries of the layer expect on the host."""
    included: tuple[str, ...]
    """The names of those libraries that the layer itself has."""


def made_layer(
    manifest: Manifest,
    published: Published,
    cache: BlobCache,
    frames: FrameCache,
    messages: Messages,
) -> tuple[MadeLayer, bool]:
    """The image layer of `manifest`, whose blob is in `cache` then, and whether it was made now.

    Raises FetchError, IntegrityError, OSError, and ComposeError for a file that an image layer
    cannot contain.
    """
    name = f"layers/{_key(manifest)}"
    known = cache.record(name, lambda item: item.record(MadeLayer, _READERS))
    if known is not None and cache.has(known.digest, known.size):
        return known, False
    with TemporaryDirectory(dir=cache.directory, prefix=".work-") as work:
        directory = Path(work)
        last = keep_frames(manifest, published, directory, messages)
        total = sum(placed.frame.content_size for placed in manifest.frames)
        binaries = BinaryReader("linux", frames)
        seen = _Seen(binaries=binaries)
        packed = directory / "blob"
        digest = hashlib.sha256()
        with (
            messages.task(f"packing {manifest.layer}", total) as task,
            packed.open("xb") as file,
        ):
            members = layer_members(manifest, directory, last, task)
            for data in gzip_stream(_tar(members, manifest, seen)):
                digest.update(data)
                file.write(data)
        made = MadeLayer(
            digest=f"sha256:{digest.hexdigest()}",
            size=packed.stat().st_size,
            diff_id=f"sha256:{seen.content.hexdigest()}",
            metadata=seen.metadata.decode("utf-8", "replace"),
            needed=seen.needed(),
            included=tuple(sorted(name for name in seen.names if on_host(name, "linux"))),
        )
        with atomic_file(cache.path(made.digest), durable=False) as target:
            packed.rename(target)
    cache.note(name, made)
    return made, True


def _key(manifest: Manifest) -> str:
    frames = [placed.frame.sha256 for placed in manifest.frames]
    versions = [_FORMAT, PREFIX, GZIP_LEVEL, zlib.ZLIB_RUNTIME_VERSION]
    return strictjson.digest_of([*versions, manifest.directory, *frames])


@dataclass(slots=True)
class _Seen:
    """What was seen of the files of a layer while they passed."""

    binaries: BinaryReader
    content: hashlib._Hash = field(default_factory=hashlib.sha256)
    names: set[str] = field(default_factory=set)
    """The last parts of paths."""
    metadata: bytes = b""

    def needed(self) -> tuple[str, ...]:
        names = {name for binary in self.binaries.found({}) for name in binary.needed}
        host = {name for name in names - DRIVERS if on_host(name, "linux")}
        return tuple(sorted(host - self.names))


def _tar(members: Iterable[Member], manifest: Manifest, seen: _Seen) -> Iterator[bytes]:
    """The archive of the image layer."""
    for data in _entries(members, manifest, seen):
        seen.content.update(data)
        yield data


def _entries(members: Iterable[Member], manifest: Manifest, seen: _Seen) -> Iterator[bytes]:
    directories = {""}
    for member in members:
        path = f"{PREFIX}/{manifest.directory}/{member.path}"
        if f"/{_WHITEOUT}" in path:
            raise ComposeError(
                "an image cannot contain a file of this name: it would delete another file",
                layer=manifest.layer,
                platform=manifest.platform,
                file=member.path,
                expected=f"names that do not begin with {_WHITEOUT} (OCI image specification)",
                remedy="rename it, or keep it out of the layer with `exclude`",
            )
        # Engines disagree about the permissions of directories without an entry.
        yield from _missing(path.rpartition("/")[0], directories)
        if member.is_directory:
            yield from _missing(path, directories)
            continue
        seen.names.add(path.rpartition("/")[2])
        yield member_header(member._replace(path=path))
        chunks = member.data()
        if member.path == LAYER_METADATA and member.size <= strictjson.MAX_SIZE:
            seen.metadata = b"".join(chunks)
            yield seen.metadata
        else:
            yield from seen.binaries.watch(member.path, chunks)
        yield padding(member.size)
    yield END


def _missing(directory: str, known: set[str]) -> Iterator[bytes]:
    """The entries of `directory` and its parents that are not `known`, which become so."""
    if directory not in known:
        yield from _missing(directory.rpartition("/")[0], known)
        known.add(directory)
        yield header(f"{directory}/")


_READERS: Readers = {
    "digest": read_digest,
    "size": lambda item: item.count(),
    "diff_id": read_digest,
    "metadata": lambda item: item.string(),
    "needed": lambda item: item.strings(),
    "included": lambda item: item.strings(),
}


def blob_of(made: MadeLayer, cache: BlobCache) -> Blob:
    """The blob of an image layer."""
    return cache.blob(GZIP_TYPE, made.digest, made.size)
