"""The manifest of a published layer and the index of all of them.

Both are JSON. The manifest stands beside its archive and describes it; the
index names, for each layer and platform, the current manifest and older ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from stackbuild.layout import layout_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stackbuild.frames.model import Frame
    from stackbuild.layout import Layout
    from stackbuild.lock.model import LeftOut
    from stackbuild.platforms import Platform
    from stackbuild.spec.model import LayerKind

MANIFEST_FORMAT = 2
COVERED_PROVENANCE = 1
"""The format whose digests cover the provenance too. It is still read."""
INDEX_FORMAT = 1

ArchiveFormat = Literal["tar.zst", "tar.xz", "tar.gz", "zip"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainLink:
    """A lower layer that a published layer was composed for.

    `lock` is that layer's `LayerLock.digest`, so that a consumer finds the
    published manifest that fits, also when it was published elsewhere.
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
class Shipped:
    """A distribution in the archive, and the wheel it came from."""

    name: str
    version: str
    wheel: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """The file that holds the layer. `name` is relative to the manifest.

    Only in the format ``tar.zst`` are the frames found at their offsets; the
    other formats hold the same files, compressed anew.
    """

    name: str
    size: int
    sha256: str
    format: ArchiveFormat = "tar.zst"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything a consumer must know of one layer on one platform."""

    layer: str
    kind: LayerKind
    platform: Platform
    directory: str
    python_version: str
    """Of the interpreter the layer runs on: the exact one for a runtime that holds
    it, otherwise the one the spec asks for."""
    lock: str
    """`LayerLock.digest` of the layer."""
    digest: str
    """sha256 (hex) of the canonical JSON of the manifest without `archive`, `provenance`
    and itself: of what the layer holds and stands on, wherever it was made."""
    chain: tuple[ChainLink, ...]
    """The layers below, nearest first, the runtime last."""
    frames: tuple[PlacedFrame, ...]
    archive: Archive
    distributions: tuple[Shipped, ...]
    skipped: tuple[LeftOut, ...] = ()
    """Distributions that the spec's `skip` keeps out of the layer on this platform."""
    omitted: tuple[LeftOut, ...] = ()
    """Distributions that could not be had, where the spec allows that (`strict-missing`)."""
    provenance: Mapping[str, object] = field(default_factory=dict)
    """How it was made: versions of stackbuild and zstandard, compression level, the
    runtime's source and the host libraries a stand-in needs. JSON values only."""
    format: int = MANIFEST_FORMAT

    @property
    def layout(self) -> Layout:
        """Where things stand in the layer."""
        from packaging.version import Version

        return layout_for(self.platform, Version(self.python_version))


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexEntry:
    """A manifest that the index names, and what tells people whether it is what they want.

    `manifest` is a path relative to the index.
    """

    manifest: str
    sha256: str
    """Of the manifest's bytes (hex)."""
    digest: str
    lock: str
    kind: LayerKind
    version: str
    """The one the spec gives the layer, otherwise that of its lock."""
    python_version: str
    chain: tuple[str, ...]
    """The names of the layers below, nearest first, the runtime last."""
    size: int
    """Of the archive, in bytes."""
    content_size: int
    """Of the files with their tar headers, in bytes."""
    files: int
    """How many files and links there are."""
    deprecated: str | None = None
    """Why nobody should begin to use it."""
    superseded_by: str | None = None
    """The layer to use instead. Older manifests of a layer are superseded by newer ones
    without being told so."""

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why one should think twice before using the layer, in words."""
        why = (f"deprecated: {self.deprecated}",) if self.deprecated else ()
        instead = (f"superseded by {self.superseded_by}",) if self.superseded_by else ()
        return (*why, *instead)


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """`index.json`: layer, then platform, to its manifests, the current one first.

    So it is also the catalogue of what is published: one file that tells which
    environments there are.
    """

    entries: Mapping[str, Mapping[Platform, tuple[IndexEntry, ...]]]
