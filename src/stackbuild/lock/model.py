"""The contents of a layer's lock.

A `LayerLock` is `layers/<layer>/pylock.<platform>.toml` (PEP 751 with a
`[tool.stackbuild]` table); a `RuntimeLock` is `layers/<runtime>/runtime.toml`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packaging.utils import NormalizedName
    from packaging.version import Version

    from stackbuild.platforms import Platform
    from stackbuild.spec.model import Download


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedFile:
    """A wheel: its file name, size in bytes and sha256 (hex). Never its address."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelAddition:
    """A wheel that `stackbuild wheel add` put into the wheelhouse."""

    wheel: LockedFile
    platforms: tuple[Platform, ...]
    """The platforms of the stack that it fits."""
    stale: tuple[str, ...]
    """Layers, each with its platform, whose locks name another wheel of this distribution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VcsSource:
    """A commit of a git repository (`packages.vcs` of PEP 751)."""

    url: str
    """Without the prefix ``git+`` and without credentials."""
    commit: str
    """The full commit, 40 or 64 hexadecimal digits."""
    requested: str | None = None
    """The branch, tag or commit that the spec names; None means the default branch."""
    subdirectory: str | None = None


Source = LockedFile | VcsSource
"""What a wheel is built from: a source distribution, or a commit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequirement:
    """A distribution that was there when a wheel was built, pinned to one wheel."""

    name: NormalizedName
    version: Version
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """How a wheel came out of its source, and what it asks for.

    With it a layer can be locked anew where the wheel is not and cannot be built.
    """

    recipe: str
    """sha256 (hex) of what the spec decides of the build (`resolve.build_orders.recipe`)."""
    requirements: tuple[BuildRequirement, ...] | None = None
    """Sorted by name; None for a wheel that was built elsewhere, and so cannot be built again."""
    dependencies: tuple[str, ...] = ()
    """Requirements (PEP 508) of the wheel."""
    extras: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedDistribution:
    """A distribution that the layer itself installs."""

    name: NormalizedName
    version: Version
    wheel: LockedFile
    source: LockedFile | VcsSource | None = None
    """What the wheel was built from here; None for a wheel of a package index. The wheel of
    a source is in no index: it is in the wheelhouse, or built again."""
    build: Build | None = None
    """Set where `source` is."""
    index: str | None = None
    """The name of the package index that it comes from, where that has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A distribution that the layer does without, and why."""

    name: NormalizedName
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inherited:
    """A distribution that the layer needs and takes from a lower layer."""

    name: NormalizedName
    version: Version
    layer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """A requirement of a layer below that is not met, as a nearer layer has another version."""

    name: NormalizedName
    version: Version
    layer: str
    """What is imported, and the layer that has it."""
    hidden_version: Version
    hidden_layer: str
    """What meets the requirement, and the layer that has it."""
    requirement: str
    """As it is asked for, without its marker."""
    asked_by: str
    """A layer (``other``), or a distribution of one (``lib 1.0 of other``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerLock:
    """One layer on one platform."""

    layer: str
    platform: Platform
    python_version: Version
    requirements: tuple[str, ...]
    """The layer's requirements as they were when it was locked."""
    inputs: str
    """sha256 (hex) of everything that decided this lock; another one means stale."""
    version: int
    """Counts up by one with every change of `digest` (venvstacks' lock_version)."""
    locked_at: str
    """When `digest` last changed, ISO 8601 in UTC."""
    distributions: tuple[LockedDistribution, ...]
    """Sorted by name."""
    inherited: tuple[Inherited, ...]
    """Sorted by name."""
    digest: str
    """sha256 (hex) of what is installed: names, versions and files, for a runtime
    its interpreter too, and for a versioned layer `own`. Independent of time and of
    the file's formatting."""
    own: str | None = None
    """sha256 (hex) of what a versioned layer holds beside distributions
    (`digests.own_digest`); None for the others, whose directory does not tell a version."""
    interpreter: str | None = None
    """sha256 (hex) of the interpreter's archive; None for layers that are no
    runtimes, and for runtimes that are only ever packed from a local one."""
    skipped: tuple[LeftOut, ...] = ()
    """What `skip` left out here, sorted by name; a skip that met nothing is not in it."""
    omitted: tuple[LeftOut, ...] = ()
    """What could not be had and was omitted by `strict-missing = false`, sorted by name."""

    conflicts: tuple[Conflict, ...] = ()
    """Requirements that are not met, which `sibling-conflicts = "warn"` allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleLock:
    """A lock that is missing, or that was made from other inputs than those of now."""

    layer: str
    platform: Platform
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeLock:
    """The interpreter of a runtime: one archive for each platform."""

    layer: str
    python_version: Version
    archives: Mapping[Platform, Download]
    from_spec: frozenset[Platform] = frozenset()
    """Where the archive is one that the spec names, not python-build-standalone's."""
