"""The order for a wheel that has to be built, and what the spec decides of a build.

Building needs the layer's interpreter, so `builds` does it, further along the flow;
locking and fetching are given a `Builder`.
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
"""Goes up when wheels are built in another way, so that all are built again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOrder:
    """A wheel that is wanted: of what, and for which layer and platform."""

    layer: Layer
    target: Target
    name: NormalizedName
    version: Version | None
    """None for a commit, whose version building tells."""
    source: Source
    runtime: RuntimeLock
    indexes: IndexSettings
    """Where the requirements of the build are looked up."""
    recipe: str
    url: str | None = None
    """Where the source distribution is, without credentials; None where that is not known."""
    requirements: tuple[BuildRequirement, ...] | None = None
    """What must be there, no more and no less; None where that is to be chosen."""
    preferences: Mapping[NormalizedName, Version] = field(default_factory=dict)
    """Versions to choose where nothing speaks against them: those the layer runs with."""

    @property
    def platform(self) -> Platform:
        """The platform that the wheel is for."""
        return self.target.platform

    @property
    def settings(self) -> BuildWheel | None:
        """The way of its own that the spec gives the build."""
        return self.layer.policy(self.platform).build_wheel.get(self.name)

    @property
    def subject(self) -> str:
        """For messages: what is built."""
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

It may be called in any thread, and raises LockError when building fails.
"""


def recipe(
    layer: Layer,
    target: Target,
    name: NormalizedName,
    source: Source,
    overlays: Path,
) -> str:
    """The sha256 (hex) of all that the spec and the source decide of a build.

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
