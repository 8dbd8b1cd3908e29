"""What an older repository says, and the notes of the import.

A variant's configuration is merged with the shared one by the rules of the older project. Lists are
joined. Entries of `skip` and similar fields are merged package by package, and the variant's entry
replaces the shared one as a whole. A variant with dependencies of its own does not get the shared
ones. `overrides` then replace the versions of pinned dependencies.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from stackbuild.importers.runenv.registries import given
from stackbuild.platforms import DEFAULT_PLATFORMS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from packaging.requirements import Requirement
    from packaging.utils import NormalizedName
    from packaging.version import Version

    from stackbuild.importers.runenv.registries import Registry
    from stackbuild.platforms import Platform

    Keys = tuple[str, ...]
    """The keys that lead to a setting in `[tool.stackbuild.layers.<name>]`."""

T = TypeVar("T")
OLDER = {"skip": "skip", "force-source": "forceSource", "build-wheel": "buildWheel"}
"""The older names of the fields that name distributions, then platforms."""
_SOURCE_LISTS = ("allow-source-list", "force-no-binary-list")
NoteKind = Literal["differs", "without-counterpart", "unknown", "question", "became", "needless"]


@dataclass(frozen=True, slots=True)
class Note:
    """One line of the report."""

    kind: NoteKind
    """What became of the field or file: ``differs`` (has another effect), ``without-counterpart``,
    ``unknown`` (not converted), ``question`` (needs an answer), ``became`` (converted) or
    ``needless`` (has no effect)."""
    place: str
    """Its location in the repository: ``python-3.12.10-atls/config.json: packages.skip``."""
    text: str


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

    @property
    def is_source(self) -> bool:
        """Whether it is an address, and not that of a wheel."""
        url = self.requirement.url
        return url is not None and not url.partition("#")[0].endswith(".whl")

    def is_overridden(self, overrides: Mapping[NormalizedName, str]) -> bool:
        """Whether an override replaces its version: only if it is pinned or bare."""
        text = str(self.requirement.specifier)
        pinned = not text or text.startswith("==")
        return self.name in overrides and self.requirement.url is None and pinned

    def overridden(self, overrides: Mapping[NormalizedName, str]) -> Dependency:
        """The dependency with the version of its override."""
        from packaging.requirements import Requirement
        from packaging.specifiers import SpecifierSet

        if not self.is_overridden(overrides):
            return self
        requirement = Requirement(str(self.requirement))
        requirement.specifier = SpecifierSet(specifier(overrides[self.name]))
        return replace(self, requirement=requirement)


def specifier(override: str) -> str:
    """An override as a version specifier."""
    return override if override[:1] in "<>=!~" else f"=={override}"


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

    def merged(self, own: Config) -> Config:
        """This shared configuration, merged with a variant's own; `joined` stays the variant's."""
        overrides = {**self.overrides, **own.overrides}
        general = own.dependencies.get(None) or self.dependencies.get(None, ())
        return Config(
            dependencies={
                **_joined(self.dependencies, own.dependencies),
                None: tuple(item.overridden(overrides) for item in general),
            },
            copies=_joined(self.copies, own.copies),
            overrides=overrides,
            registries=tuple(dict.fromkeys((*self.registries, *own.registries))),
            replaced={**self.replaced, **own.replaced},
            joined=own.joined,
        )


def _joined(
    first: Mapping[Platform | None, tuple[T, ...]], second: Mapping[Platform | None, tuple[T, ...]]
) -> dict[Platform | None, tuple[T, ...]]:
    return {key: (*first.get(key, ()), *second.get(key, ())) for key in {**first, **second}}


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
    version: str | None = None
    """That of its npm package."""
    catalogue: Mapping[str, str] = field(default_factory=dict)
    """The table `catalogue` of its layer."""
    environment: Mapping[str, Any] = field(default_factory=dict)
    """The variables of its layer, as in `environment`."""

    @property
    def file(self) -> str:
        """Its configuration file, as notes name it."""
        return f"{self.directory.name}/config.json"

    def dependencies(self) -> dict[Platform | None, dict[str, Dependency]]:
        """By platform, then by text: the dependencies; None for those on all its platforms."""
        found: dict[Platform | None, dict[str, Dependency]] = {
            platform: {
                str(item.requirement): item for item in self.config.dependencies.get(platform, ())
            }
            for platform in (None, *self.platforms)
        }
        # What each platform names becomes a dependency of all platforms.
        for text, item in found[self.platforms[0]].items():
            if all(text in found[platform] for platform in self.platforms):
                found[None].setdefault(text, item)
        for platform in self.platforms:
            found[platform] = {k: v for k, v in found[platform].items() if k not in found[None]}
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

    shared: Config
    variants: tuple[Variant, ...]
    registries: Mapping[str, Registry]
    """The additional package indexes, by the address that was written."""
    notes: tuple[Note, ...]

    def kept_entries(self) -> set[Keys]:
        """The entries of `shared.replaced` that mean the same for each variant.

        A stack merges tables key by key. For a variant that replaces an entry this gives the same
        if its own entry has all keys of the shared one. In a stack `force-source` and `build-wheel`
        also hold for what others require, so they stay shared only if each variant names the
        distribution.
        """
        return {
            keys
            for keys, entry in self.shared.replaced.items()
            if all(
                (keys[0] in ("skip", "platform-specific") or keys[1] in variant.names())
                and (
                    keys not in variant.own.replaced
                    or (
                        keys[0] != "build-wheel"
                        and entry.keys() <= variant.own.replaced[keys].keys()
                    )
                )
                for variant in self.variants
            )
        }

    def kept_overrides(self) -> set[NormalizedName]:
        """The shared overrides that mean the same for each variant.

        In a stack an override also holds for what distributions require of each other, so it stays
        shared only if each variant names the distribution.
        """
        own = {name for variant in self.variants for name in variant.own.overrides}
        named = [variant.names() for variant in self.variants]
        return {
            name
            for name in self.shared.overrides
            if name not in own and all(name in names for names in named)
        }

    def builds_from_source(self, variant: Variant) -> bool:
        """Whether the older build may have left a dependency of `variant` as source.

        Blocks built it when they installed it, with the variables of the variant.
        """
        joined = [*self.shared.joined.items(), *variant.own.joined.items()]
        lists = [value for keys, value in joined if keys[-1] in _SOURCE_LISTS]
        return (
            any(value for keys, value in joined if keys[-1] == "allow-source-all")
            or any(not variant.names().isdisjoint(names) for names in lists)
            or any(
                entry
                for (field, *_), entry in variant.config.replaced.items()
                if field == "force-source"
            )
            or any(item.is_source for item in variant.asked())
        )

    def indexes_of(self, variant: Variant) -> dict[str, Registry]:
        """Each distribution of a variant that comes from an additional index."""
        registries = [self.registries[url] for url in variant.config.registries]
        return given((item.requirement for item in variant.asked()), registries)
