"""The manifest of a published layer and the index of all of them.

Both are JSON. The manifest is beside its archive and describes it; the index
names, for each layer and platform, the current manifest and older ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from stackbuild.layout import layout_for

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from stackbuild.frames.model import Frame
    from stackbuild.layout import Layout
    from stackbuild.lock.model import LeftOut
    from stackbuild.platforms import Platform
    from stackbuild.spec.model import LayerKind
    from stackbuild.variables import Variable

MANIFEST_FORMAT = 4
WITHOUT_PATCHES = (1, 2, 3)
"""The formats without patches and the sha256 of contents. They are still read."""
WITHOUT_VARIABLES = (1, 2)
"""The formats without the variables of a layer. They are still read."""
COVERED_PROVENANCE = 1
"""The format whose digests cover the provenance too."""
INDEX_FORMAT = 3
WITHOUT_TITLES = 1
"""The format without titles and descriptions. It is still read."""
WITHOUT_DATES = (WITHOUT_TITLES, 2)
"""The formats without dates and versions of locks. They are still read."""

ArchiveFormat = Literal["tar.zst", "tar.xz", "tar.gz", "zip"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainLink:
    """A lower layer that a published layer was composed for.

    `lock` is that layer's `LayerLock.digest`, by which a consumer finds the matching
    manifest, also if it was published elsewhere.
    """

    layer: str
    kind: LayerKind
    directory: str
    """The layer's directory in a root: its name, with `@<lock version>` if versioned."""
    lock: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedFrame:
    """A frame at its place in the archive."""

    frame: Frame
    offset: int
    """Of the first compressed byte, in bytes from the archive's start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """A patch that makes the contents of frames from those of others (`frames.patches`)."""

    sources: tuple[str, ...]
    """The sha256 of the frames of an older version that it needs, in order."""
    frames: tuple[str, ...]
    """The sha256 of the frames of the manifest whose contents it gives, in order."""
    offset: int
    """Of its first byte, in bytes from the start of the file of patches."""
    size: int
    sha256: str
    """Of its bytes, hex."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """A distribution in the archive, and its wheel."""

    name: str
    version: str
    wheel: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFile:
    """A file beside the manifest. `name` is relative to the manifest."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive(PublishedFile):
    """The archive file of the layer.

    Only the format ``tar.zst`` has the frames at their offsets; the other formats
    contain the same files, compressed again.
    """

    format: ArchiveFormat = "tar.zst"


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchFile(PublishedFile):
    """The file with the patches of the layer."""

    patches: tuple[Patch, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The description of one published layer on one platform."""

    layer: str
    kind: LayerKind
    platform: Platform
    directory: str
    python_version: str
    """That of the layer's interpreter: the exact one for a runtime that contains it,
    otherwise the one that the spec requires."""
    lock: str
    """`LayerLock.digest` of the layer."""
    digest: str
    """sha256 (hex) of the canonical JSON of the manifest without `archive`, `provenance`
    and itself: of the layer's contents and the layers below, independent of the machine."""
    chain: tuple[ChainLink, ...]
    """The layers below, nearest first, the runtime last."""
    frames: tuple[PlacedFrame, ...]
    archive: Archive
    distributions: tuple[Shipped, ...]
    skipped: tuple[LeftOut, ...] = ()
    """Distributions that the spec's `skip` and `exclude` keep out of the layer on this platform."""
    omitted: tuple[LeftOut, ...] = ()
    """Distributions that are not available, if the spec allows that (`strict-missing`)."""
    environment: Mapping[str, Variable] = field(default_factory=dict)
    """The variables of the layer with those of the layers below, by name, sorted. Their only
    placeholder is ``{root}``, the directory that contains the layers."""
    provenance: Mapping[str, object] = field(default_factory=dict)
    """How it was made: versions of stackbuild and zstd, compression level, the
    runtime's source and the host libraries that it needs. JSON values only."""
    patch_file: PatchFile | None = None
    """The patches from older versions of the layer. They are no part of `digest`, because they
    depend on what was published before."""
    format: int = MANIFEST_FORMAT

    @property
    def files(self) -> tuple[PublishedFile, ...]:
        """The files beside the manifest."""
        return (self.archive, self.patch_file) if self.patch_file else (self.archive,)

    @property
    def patches(self) -> tuple[Patch, ...]:
        """The patches in `patch_file`."""
        return self.patch_file.patches if self.patch_file else ()

    @property
    def layout(self) -> Layout:
        """The layout of the layer."""
        from packaging.version import Version

        return layout_for(self.platform, Version(self.python_version))

    @property
    def host_libraries(self) -> tuple[str, ...]:
        """The libraries that the interpreter of a runtime needs of its host, in `provenance`."""
        about = self.provenance.get("runtime")
        names = about.get("host_libraries") if isinstance(about, dict) else None
        return tuple(map(str, names)) if isinstance(names, list) else ()


def patches_for(
    manifest: Manifest, missing: Collection[str], has: Callable[[str], bool]
) -> list[Patch]:
    """The patches that save bytes where the frames `missing` (sha256) must be fetched.

    `has` tells whether a frame can be a source. Each missing frame is in one patch at most.
    """
    sizes = {placed.frame.sha256: placed.frame.size for placed in manifest.frames}
    left = set(missing)
    chosen = []
    for patch in sorted(manifest.patches, key=lambda patch: patch.size):
        saved = sum(sizes[sha256] for sha256 in left.intersection(patch.frames))
        if patch.size < saved and all(map(has, patch.sources)):
            chosen.append(patch)
            left.difference_update(patch.frames)
    return chosen


def fetched_bytes(
    manifests: Iterable[Manifest], missing: Collection[str], has: Callable[[str], bool]
) -> int:
    """The bytes of the patches and frames that an install fetches for the frames `missing`.

    `has` is that of `patches_for`.
    """
    left = set(missing)
    total = 0
    for manifest in manifests:
        sizes = {placed.frame.sha256: placed.frame.size for placed in manifest.frames}
        for patch in patches_for(manifest, left.intersection(sizes), has):
            total += patch.size
            left.difference_update(patch.frames)
        total += sum(sizes[sha256] for sha256 in left.intersection(sizes))
        left.difference_update(sizes)
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexEntry:
    """A manifest in the index, with a summary for users.

    `manifest` is a path relative to the index.
    """

    manifest: str
    sha256: str
    """Of the manifest's bytes (hex)."""
    digest: str
    lock: str
    kind: LayerKind
    version: str
    """The layer's version in the spec, otherwise that of its lock."""
    python_version: str
    chain: tuple[str, ...]
    """The names of the layers below, nearest first, the runtime last."""
    size: int
    """Of the archive, in bytes."""
    content_size: int
    """Of the files with their tar headers, in bytes."""
    files: int
    """The number of files and links."""
    lock_version: int | None = None
    """The version of its lock; None for an entry of an older format."""
    published: str | None = None
    """When the manifest was entered first: ``2026-01-31T08:00:00Z`` (RFC 3339, UTC); None for an
    entry of an older format."""
    title: str | None = None
    """The layer's name for people."""
    description: str | None = None
    deprecated: str | None = None
    """Why new users should not choose it; None if it is not deprecated."""
    superseded_by: str | None = None
    """The layer to use instead. It is not set for older manifests of the same layer."""

    @property
    def doubts(self) -> tuple[str, ...]:
        """Warnings about the layer: deprecated, superseded."""
        why = (f"deprecated: {self.deprecated}",) if self.deprecated else ()
        instead = (f"superseded by {self.superseded_by}",) if self.superseded_by else ()
        return (*why, *instead)


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """`index.json`: layer, then platform, to its manifests, the current one first.

    So it is also the catalogue of all published environments.
    """

    entries: Mapping[str, Mapping[Platform, tuple[IndexEntry, ...]]]


def now() -> str:
    """The current time as `IndexEntry.published`."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
