"""The order for a wheel that must be built, and the settings of its build.

A build needs the layer's interpreter, so it is done by the package `builds`;
locking and fetching get a `Builder`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from stackbuild.lock.digests import contents, uses_package_root
from stackbuild.lock.model import VcsSource
from stackbuild.strictjson import digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from packaging.utils import NormalizedName
    from packaging.version import Version

    from stackbuild.lock.indexes import IndexSettings
    from stackbuild.lock.model import Build, BuildRequirement, LockedFile, RuntimeLock, Source
    from stackbuild.lock.targets import Target
    from stackbuild.platforms import Platform
    from stackbuild.spec.model import BuildWheel, Layer

RECIPE = 1
"""Raised when the way of building changes, so that all wheels are built again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOrder:
    """A wheel to be built: its source, layer and platform."""

    layer: Layer
    target: Target
    name: NormalizedName
    version: Version | None
    """None for a commit, whose version is known after the build."""
    source: Source
    runtime: RuntimeLock
    indexes: IndexSettings
    """The package indexes for the requirements of the build."""
    recipe: str
    url: str | None = None
    """The address of the source distribution, without credentials; None if unknown."""
    requirements: tuple[BuildRequirement, ...] | None = None
    """The exact build requirements; None if they are to be resolved."""
    preferences: Mapping[NormalizedName, Version] = field(default_factory=dict)
    """Preferred versions: those that the layer runs with."""

    @property
    def platform(self) -> Platform:
        """The platform that the wheel is for."""
        return self.target.platform

    @property
    def settings(self) -> BuildWheel | None:
        """The `build-wheel` settings of the spec."""
        return self.layer.policy(self.platform).build_wheel.get(self.name)

    @property
    def subject(self) -> str:
        """The distribution, for messages."""
        if isinstance(self.source, VcsSource):
            return f"{self.name} (commit {self.source.commit[:12]})"
        return f"{self.name} {self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltWheel:
    """A wheel that was built from source."""

    path: Path
    """In the cache."""
    version: Version
    wheel: LockedFile
    build: Build


Builder: TypeAlias = "Callable[[BuildOrder], BuiltWheel]"
"""Builds the wheel of an order for this machine's platform, or takes it from the cache.

Thread-safe. Raises LockError if the build fails.
"""


def recipe(
    layer: Layer,
    target: Target,
    name: NormalizedName,
    source: Source,
    overlays: Path,
) -> str:
    """The sha256 (hex) of all inputs of a build from the spec and the source.

    `overlays` is the project's directory of overlays. The recipe is the same
    on every machine; two builds of one recipe may differ in the versions of
    what they were built with.
    """
    settings = layer.policy(target.platform).build_wheel.get(name)
    described = {
        "recipe": RECIPE,
        "name": name,
        "source": [source.commit, source.subdirectory]
        if isinstance(source, VcsSource)
        else source.sha256,
        "platform": target.platform,
        "level": target.level,
        "python": str(target.python),
        "build-requires": settings.build_requires if settings else (),
        "config-settings": asdict(settings)["config_settings"] if settings else {},
        "package-root": contents(overlays / layer.name) if uses_package_root(settings) else None,
    }
    return digest_of(described)
