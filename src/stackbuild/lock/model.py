"""The contents of a layer's lock.

A `LayerLock` is `layers/<layer>/pylock.<platform>.toml` (PEP 751 with a
`[tool.stackbuild]` table); a `RuntimeLock` is `layers/<runtime>/runtime.toml`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from stackbuild.strictjson import digest_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from packaging.utils import NormalizedName
    from packaging.version import Version

    from stackbuild.platforms import Platform
    from stackbuild.spec.model import Download

    Imported = Mapping[NormalizedName, tuple["LayerLock", "LockedDistribution"]]


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
    """The platforms of the stack that it is compatible with."""
    stale: tuple[StaleLock, ...]
    """The locks that omit the distribution or name another wheel of it."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectSource:
    """A project of the repository, in the state that a wheel was built from."""

    path: str
    """Relative to the spec, with slashes."""
    sha256: str
    """The digest of its files (`lock.projects.OwnProjects`), hex."""


Source = LockedFile | VcsSource | ProjectSource
"""The source of a wheel: a source distribution, a commit, or a project of the repository."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequirement:
    """A distribution in the build environment of a wheel, pinned to one wheel."""

    name: NormalizedName
    version: Version
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """How a wheel was built from its source, and its requirements.

    With it a layer can be locked again without the wheel and without a build.
    """

    recipe: str
    """sha256 (hex) of the build's inputs (`resolve.build_orders.recipe`)."""
    requirements: tuple[BuildRequirement, ...] | None = None
    """Sorted by name; None for a wheel that was built elsewhere and cannot be built again."""
    dependencies: tuple[str, ...] = ()
    """Requirements (PEP 508) of the wheel."""
    extras: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedDistribution:
    """A distribution that the layer itself installs."""

    name: NormalizedName
    version: Version
    wheel: LockedFile
    source: LockedFile | VcsSource | ProjectSource | None = None
    """The source of a wheel that was built here; None for a wheel of a package index. A
    built wheel is in no index: it is in the wheelhouse, or built again."""
    build: Build | None = None
    """Set where `source` is."""
    index: str | None = None
    """The name of the package index that it comes from, if it has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A distribution that the layer leaves out, and why."""

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
    """A requirement of a lower layer that is not met, as a nearer layer has another version."""

    name: NormalizedName
    version: Version
    layer: str
    """The imported version, and its layer."""
    hidden_version: Version
    hidden_layer: str
    """The version that meets the requirement, and its layer."""
    requirement: str
    """Without its marker."""
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
    """sha256 (hex) of all inputs of this lock; if it changes, the lock is stale."""
    parts: tuple[str, ...] = ()
    """The inputs by name (`inputs.Inputs.parts`); empty in locks of formats 1 and 2."""
    version: int
    """Incremented with every change of `digest` (venvstacks' lock_version)."""
    locked_at: str
    """When `digest` last changed, ISO 8601 in UTC."""
    distributions: tuple[LockedDistribution, ...]
    """Sorted by name."""
    inherited: tuple[Inherited, ...]
    """Sorted by name."""
    digest: str
    """sha256 (hex) of the contents: names, versions and files, for a runtime its
    interpreter too, and for a versioned layer `own`. Independent of time and of
    the file's formatting."""
    own: str | None = None
    """sha256 (hex) of a versioned layer's own files (`current.Locks.own`); None for
    other layers."""
    interpreter: str | None = None
    """sha256 (hex) of the interpreter's archive; None for other layers, and for runtimes
    that are always packed from a local interpreter."""
    skipped: tuple[LeftOut, ...] = ()
    """Distributions that `skip` and `exclude` left out, sorted by name."""
    omitted: tuple[LeftOut, ...] = ()
    """Distributions that are not available, omitted by `strict-missing = false`, sorted by name."""

    tried: tuple[str, ...] = ()
    """sha256 (hex) of the added wheels of `omitted` distributions that did not help, sorted."""
    conflicts: tuple[Conflict, ...] = ()
    """Requirements that are not met, which `sibling-conflicts = "warn"` allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleLock:
    """A lock that is missing, or that was made from other inputs than the current ones."""

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
    """The address of an archive that the spec names; None for python-build-standalone's."""


def content_digest(
    distributions: Iterable[LockedDistribution], interpreter: str | None, own: str | None = None
) -> str:
    """The digest of what is installed (`LayerLock.digest`)."""
    files = [
        [item.name, str(item.version), item.wheel.name, item.wheel.size, item.wheel.sha256]
        + ([asdict(item.source)] if item.source else [])
        for item in distributions
    ]
    return digest_of([files, interpreter, *([own] if own else [])])


def imported(chain: Iterable[LayerLock]) -> Imported:
    """The distributions of `chain`, nearest layer first, that are imported, with their locks."""
    found: dict[NormalizedName, tuple[LayerLock, LockedDistribution]] = {}
    for lock in chain:
        for item in lock.distributions:
            found.setdefault(item.name, (lock, item))
    return found
