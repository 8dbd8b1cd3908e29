"""Results of the commands that work on a root."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from stackbuild.compose.manifest import IndexEntry, Manifest
    from stackbuild.compose.report import LayerFailure
    from stackbuild.platforms import Platform

DifferenceKind = Literal[
    "edited",
    "missing",
    "added",
    "another link",
    "another kind of file",
    "another mode",
    "frame not in the store",
]

PackedFormat = Literal["tar.gz", "tar.zst", "zip"]
"""The format of an archive that holds a whole chain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledLayer:
    """A layer that is installed in a root."""

    manifest: Manifest
    """What was published; `manifest.directory` is the layer's directory in the root."""
    asked: bool
    """Whether the user asked for the layer; others are installed as its lower layers."""
    needed_by: tuple[str, ...]
    """The names of the installed layers that depend on it."""
    origin: str | None
    """The directory or address it was installed from."""
    version: str | None
    """The version that it was published as; None if an older stackbuild installed it."""
    python_version: str
    """The version of the interpreter that runs it, such as ``3.12.10``."""

    @property
    def files(self) -> int:
        """The number of its files and links."""
        return sum(placed.frame.files for placed in self.manifest.frames)

    @property
    def size(self) -> int:
        """Bytes of its files with their tar headers."""
        return sum(placed.frame.content_size for placed in self.manifest.frames)


@dataclass(frozen=True, slots=True, kw_only=True)
class AvailableLayer:
    """A layer that is published for one platform."""

    layer: str
    platform: Platform
    entry: IndexEntry
    """The current version."""
    older: tuple[IndexEntry, ...]
    """Earlier versions that are still published, newest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallReport:
    """The result of an install or uninstall."""

    root: Path
    platform: Platform
    generation: int
    """The number of the generation in use."""
    layers: tuple[InstalledLayer, ...]
    """All layers now in the root, lower layers first."""
    added: tuple[str, ...] = ()
    """Directories of layers that are new, in another version, or repaired."""
    repaired: tuple[str, ...] = ()
    """The directories in `added` whose layers were damaged."""
    removed: tuple[str, ...] = ()
    """Directories of layers that were removed."""
    fetched_frames: int = 0
    fetched_bytes: int = 0
    """Compressed bytes of the frames that were fetched."""
    changed: bool = False
    """Whether there is a new generation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerVersion:
    """A version of a layer."""

    version: str | None
    """The version that it was published as, or that of its lock; None if it is not known."""
    digest: str
    """sha256 (hex) of its contents."""
    python_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributionChange:
    """A distribution that differs between two versions of a layer."""

    name: str
    before: str | None
    """Its version; None if it is added."""
    after: str | None
    """Its version; None if it is removed. If it equals `before`, its wheel is another file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerChange:
    """A layer that differs between two places or times."""

    layer: str
    directory: str
    platform: Platform
    before: LayerVersion | None
    """None if the layer is added."""
    after: LayerVersion | None
    """None if the layer is removed."""
    distributions: tuple[DistributionChange, ...]
    """Sorted by name. Empty if only other files differ: of the project, bytecode, metadata."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """What changes from one set of layers to another."""

    layers: tuple[LayerChange, ...]
    """The layers that differ: lower layers first, removed ones last."""
    fetched_frames: int
    fetched_bytes: int
    """Compressed bytes of the frames to fetch; 0 for locks, which have no frames."""
    disk_bytes: int
    """Bytes of the files of these frames, with their tar headers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A generation of a root."""

    number: int
    created: str | None
    """When it was made, such as ``2026-01-31T08:00:00Z``; None if an older stackbuild made it."""
    current: bool
    """Whether it is in use."""
    processes: tuple[int, ...] | None
    """The ids of the processes that run in it; None if the system does not tell."""
    layers: tuple[InstalledLayer, ...] | None
    """Lower layers first; None if its state is damaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """The result of an export."""

    directory: Path
    platform: Platform
    layers: tuple[Manifest, ...]
    """The layers that were copied, lower layers first."""
    copied_links: bool
    """Whether links became copies, because the file system has no links."""
    failures: tuple[LayerFailure, ...] = ()
    """The layers that could not be composed; then nothing was copied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackReport:
    """The result of writing layers to one file."""

    path: Path | None
    """The file; None if layers could not be composed."""
    platform: Platform
    layers: tuple[Manifest, ...]
    """The layers in the file, lower layers first."""
    size: int = 0
    """Of the file, in bytes."""
    failures: tuple[LayerFailure, ...] = ()
    """The layers that could not be composed; then nothing was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairReport:
    """The result of a repair."""

    root: Path
    generation: int
    """The number of the generation in use."""
    layers: tuple[str, ...]
    """Directories of the installed layers, lower layers first."""
    done: tuple[str, ...]
    """A sentence for each repair; empty if nothing was damaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """An installed file that differs from what was published."""

    kind: DifferenceKind
    layer: str
    """The directory of the layer."""
    file: str
    """Relative to the layer; for a frame, its directory in the store."""
    distribution: str | None
    """The distribution or other part that the file belongs to; None for an added file."""
    expected: str | None = None
    found: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesReport:
    """The result of comparing installed files with what was published."""

    layers: tuple[str, ...]
    """Directories of the layers that were compared, lower layers first."""
    files: int
    """The number of files and links that were compared."""
    differences: tuple[Difference, ...]
    bytecode: int
    """The number of bytecode files that an interpreter wrote after the install."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Freed:
    """A file or directory that was, or could be, removed."""

    what: str
    path: Path
    size: int
    """Bytes of disk: files without a hard link elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanReport:
    """The result of cleaning."""

    freed: tuple[Freed, ...]
    """What was removed."""
    kept: tuple[Freed, ...]
    """Caches that were not removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """A process that runs a command in an installed layer."""

    executable: Path
    arguments: tuple[str, ...]
    """Without the name of the program."""
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerVariables:
    """The environment variables of an installed layer."""

    layer: str
    """Its name."""
    environment: Mapping[str, str]
    """Their values."""
