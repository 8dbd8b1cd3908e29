"""What an older repository says, and the notes of the import."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stackbuild.platforms import DEFAULT_PLATFORMS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from packaging.requirements import Requirement
    from packaging.utils import NormalizedName
    from packaging.version import Version

    from stackbuild.platforms import Platform

    Keys = tuple[str, ...]
    """The keys that lead to a setting in `[tool.stackbuild.layers.<name>]`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """One of the dependencies: a requirement (PEP 508), and where it is written."""

    requirement: Requirement
    place: str

    @property
    def name(self) -> NormalizedName:
        """The distribution's normalised name."""
        from packaging.utils import canonicalize_name

        return canonicalize_name(self.requirement.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """An entry of `copyFiles`: from the variant's directory into the environment."""

    source: str
    target: str
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One configuration file, shared or a variant's; or a variant's merged with the shared one.

    The platform None means all platforms.
    """

    dependencies: Mapping[Platform | None, tuple[Dependency, ...]] = field(default_factory=dict)
    copies: Mapping[Platform | None, tuple[Copy, ...]] = field(default_factory=dict)
    overrides: Mapping[NormalizedName, str] = field(default_factory=dict)
    """Distribution to a version or specifier, as written."""
    registries: tuple[str, ...] = ()
    """Addresses of additional package indexes."""
    replaced: Mapping[Keys, Any] = field(default_factory=dict)
    """Settings where a variant's entry replaces the shared entry as a whole, such as
    ``("skip", "numpy")``. An empty entry removes the shared one."""
    joined: Mapping[Keys, Any] = field(default_factory=dict)
    """Settings that `[tool.stackbuild]` merges as the older project did, such as
    ``("build", "timeout")``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One run environment of the repository. It becomes an application."""

    directory: Path
    """`python-<version>[-<variant>]`."""
    name: str
    """That of the application."""
    python: Version
    own: Config
    config: Config = field(default_factory=Config)
    """`own` merged with the shared configuration."""
    platforms: tuple[Platform, ...] = DEFAULT_PLATFORMS
    description: str | None = None

    @property
    def file(self) -> str:
        """Its configuration file, as notes name it."""
        return f"{self.directory.name}/config.json"

    def dependencies(self) -> dict[Platform | None, dict[str, Dependency]]:
        """By platform, then by text: the dependencies; None for those on all its platforms."""
        everywhere = {
            str(item.requirement): item for item in self.config.dependencies.get(None, ())
        }
        found: dict[Platform | None, dict[str, Dependency]] = {None: everywhere}
        for platform in self.platforms:
            own = self.config.dependencies.get(platform, ())
            texts = {str(item.requirement): item for item in own}
            found[platform] = {k: item for k, item in texts.items() if k not in everywhere}
        # What each platform names becomes a dependency of all platforms.
        for text in list(found[self.platforms[0]]):
            if all(text in found[platform] for platform in self.platforms):
                everywhere[text] = found[self.platforms[0]][text]
                for platform in self.platforms:
                    del found[platform][text]
        return found

    def asked(self) -> Iterator[Dependency]:
        """All dependencies, on whichever platform."""
        for items in self.dependencies().values():
            yield from items.values()

    def names(self) -> set[NormalizedName]:
        """The distributions that it names on any platform."""
        return {item.name for item in self.asked()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """Everything that was read."""

    directory: Path
    shared: Config
    variants: tuple[Variant, ...]
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One line of the report."""

    kind: str
    """One of `KINDS`."""
    place: str
    """Its location in the repository: ``python-3.12.10-atls/config.json: packages.skip``."""
    text: str


KINDS = {
    "became": "converted",
    "question": "needs a decision",
    "without-counterpart": "has no counterpart",
    "unknown": "unknown, not converted",
    "needless": "has no effect",
}
"""The kinds of `Note`, in the order of the report, each with its heading."""
