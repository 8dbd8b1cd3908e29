"""The layers that an older repository becomes: which requirement stands where.

A requirement goes to the layer that holds what it asks for: a framework that
the search chose, else the variant's own application. Where that differs from
platform to platform, it stands in `platform-specific`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import count, islice
from typing import TYPE_CHECKING

from stackbuild.importers.contents import name_of
from stackbuild.importers.frameworks import Choice, choose_again, choose_frameworks
from stackbuild.importers.holdings import Wanted, environment_of, pinned_version
from stackbuild.importers.merge import effective
from stackbuild.spec.model import LayerKind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from packaging.requirements import Requirement
    from packaging.utils import NormalizedName
    from packaging.version import Version

    from stackbuild.importers.contents import Environment as Holder
    from stackbuild.importers.frameworks import Framework
    from stackbuild.importers.holdings import Held
    from stackbuild.importers.model import Config, Repository, Variant, Wish
    from stackbuild.importers.registries import Registry
    from stackbuild.platforms import Platform

LAYER_BYTES = 4_000
"""What a layer's head takes in an archive, as measured: a framework that saves less is none."""


@dataclass(slots=True, kw_only=True)
class Planned:
    """A layer to be written."""

    kind: LayerKind
    name: str
    python: Version
    platforms: tuple[Platform, ...]
    members: tuple[Environment, ...] = ()
    """The variants that stand on it; an application is one of its own."""
    frameworks: tuple[str, ...] = ()
    """Of all its chain, nearest first."""
    contents: dict[Platform, dict[NormalizedName, str]] = field(default_factory=dict)
    """Of a framework: the keys of what it holds."""
    requests: dict[str, set[Platform]] = field(default_factory=lambda: defaultdict(set))
    """Requirement to the platforms it is for."""
    neutral: dict[str, set[Platform]] = field(default_factory=lambda: defaultdict(set))
    """Requirement to the platforms where it is asked for and skipped."""

    def general(self) -> list[str]:
        """The requirements for all platforms."""
        return [text for text in self.requests if self._everywhere(text)]

    def specific(self) -> dict[Platform, list[str]]:
        """Those for some platforms only."""
        found: dict[Platform, list[str]] = defaultdict(list)
        for text, platforms in self.requests.items():
            if not self._everywhere(text):
                for platform in self.platforms:
                    if platform in platforms:
                        found[platform].append(text)
        return found

    def _everywhere(self, text: str) -> bool:
        return self.requests[text] | self.neutral.get(text, set()) >= set(self.platforms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A variant with what is known about it."""

    variant: Variant
    config: Config
    """Merged with the shared one."""
    registries: tuple[Registry, ...]
    """The shared ones first."""
    held: Mapping[Platform, Held] = field(default_factory=dict)
    """Empty where no index was asked."""

    def wishes(self, platform: Platform) -> Iterator[Wish]:
        """What it asks for on a platform, also what it skips there."""
        seen = set()
        specific = self.config.platform_dependencies.get(platform, ())
        for wish in (*self.config.dependencies, *specific):
            if str(wish.requirement) not in seen:
                seen.add(str(wish.requirement))
                yield wish

    def skips(self, name: NormalizedName, platform: Platform) -> bool:
        """Whether a distribution is left out on a platform."""
        return platform in self.config.skip.get(name, {})

    def from_source(self, platform: Platform) -> frozenset[NormalizedName]:
        """What is built from source on a platform even where it has a wheel."""
        specific = self.config.platform_resolution.get(platform)
        found = {
            name
            for table in (self.config.force_source, self.config.build_wheel)
            for name, entry in table.items()
            if platform in entry
        }
        found |= set(self.config.resolution.force_no_binary_list)
        return frozenset(found | set(specific.force_no_binary_list if specific else ()))

    def names(self) -> set[NormalizedName]:
        """What it asks for by name on any platform."""
        return {wish.name for platform in self.variant.platforms for wish in self.wishes(platform)}

    def wanted(self, platform: Platform) -> Wanted:
        """The question for an index."""
        config = self.config
        skipped = {name for name in config.skip if self.skips(name, platform)}
        return Wanted(
            name=self.variant.name,
            platform=platform,
            python=self.variant.python,
            requirements=tuple(wish.requirement for wish in self.wishes(platform)),
            excluded=frozenset(skipped) | self.from_source(platform),
            skipped=frozenset(skipped),
            overrides=specifiers(config.overrides, self.names()),
            no_deps=frozenset(config.no_deps),
            registries=self.registries,
        )


def specifiers(
    overrides: Mapping[NormalizedName, str], names: Iterable[NormalizedName]
) -> dict[NormalizedName, str]:
    """The overrides of `names`, which are all that the older project heeded."""
    return {
        name: text if text[:1] in "<>=!~" else f"=={text}"
        for name, text in overrides.items()
        if name in set(names)
    }


def environments_of(
    repository: Repository, registries: Mapping[str, Registry]
) -> list[Environment]:
    """The variants with their effective configuration."""
    found = []
    for variant in repository.variants:
        config = effective(repository.shared, variant.own)
        known = tuple(registries[url] for url in config.registries)
        found.append(Environment(variant=variant, config=config, registries=known))
    return found


def choose(environments: Sequence[Environment]) -> dict[Version, Choice]:
    """The frameworks for the variants of each version of Python."""
    return {
        python: choose_frameworks(group, layer_bytes=LAYER_BYTES)
        for python, group in _groups(environments).items()
    }


def without(
    environments: Sequence[Environment],
    choices: Mapping[Version, Choice],
    alone: Collection[str],
    barred: Collection[tuple[Version, frozenset[str], Platform]],
) -> dict[Version, Choice]:
    """`choices` with the variants `alone` on no framework.

    Of `barred` are variants whose framework is to hold nothing on a platform.
    """
    return {
        python: choose_again(
            group,
            choices[python],
            alone=alone,
            barred=[(names, platform) for version, names, platform in barred if version == python],
            layer_bytes=LAYER_BYTES,
        )
        for python, group in _groups(environments).items()
    }


def _groups(environments: Sequence[Environment]) -> dict[Version, dict[str, Holder]]:
    """The variants of each version of Python, as the search sees them."""
    groups: dict[Version, dict[str, Holder]] = defaultdict(dict)
    for item in environments:
        groups[item.variant.python][item.variant.name] = environment_of(item.held)
    return groups


def plan(environments: Sequence[Environment], choices: Mapping[Version, Choice]) -> list[Planned]:
    """The frameworks, lower ones first, then the applications in the order of the variants."""
    by_name = {item.variant.name: item for item in environments}
    taken = {name.lower() for name in by_name}
    frameworks: dict[tuple[Version, int], Planned] = {}
    for python, choice in choices.items():
        for number, framework in enumerate(choice.frameworks):
            members = tuple(
                item for item in environments if item.variant.name in framework.environments
            )
            layer = _framework(python, framework, members)
            layer.frameworks = tuple(frameworks[python, below].name for below in framework.below)
            layer.name = _free_name(layer, by_name, taken)
            frameworks[python, number] = layer
    applications = []
    for item in environments:
        variant = item.variant
        below = choices[variant.python].chains[variant.name] if choices else ()
        chain = [frameworks[variant.python, number] for number in below]
        application = Planned(
            kind=LayerKind.APPLICATION,
            name=variant.name,
            python=variant.python,
            platforms=variant.platforms,
            members=(item,),
            frameworks=tuple(layer.name for layer in chain),
        )
        _distribute(item, chain, application)
        applications.append(application)
    for layer in frameworks.values():
        _settle(layer)
    return [*frameworks.values(), *applications]


def _framework(python: Version, framework: Framework, members: tuple[Environment, ...]) -> Planned:
    from packaging.utils import canonicalize_name

    made = {platform for item in members for platform in item.variant.platforms}
    platforms = tuple(platform for platform in type(next(iter(made))) if platform in made)
    return Planned(
        kind=LayerKind.FRAMEWORK,
        name="",
        python=python,
        platforms=platforms,
        members=members,
        contents={
            platform: {canonicalize_name(name_of(key)): key for key in framework.contents[platform]}
            for platform in platforms
            if platform in framework.contents
        },
    )


def _free_name(layer: Planned, by_name: Mapping[str, Environment], taken: set[str]) -> str:
    """`common` for what all share, else after the largest distribution that is asked for."""
    of_python = [item for item in by_name.values() if item.variant.python == layer.python]
    wished = set().union(*(item.names() for item in layer.members))
    sizes: dict[NormalizedName, int] = defaultdict(int)
    for platform, keys in layer.contents.items():
        held = next(item.held[platform] for item in layer.members if platform in item.held)
        for name in keys:
            sizes[name] += held.sizes.get(name, 0)
    largest = sorted(sizes, key=lambda name: (name not in wished, -sizes[name], name))
    base = "common" if len(layer.members) == len(of_python) else f"with-{largest[0]}"
    of_this_python = f"{base}-py{layer.python.major}.{layer.python.minor}"
    numbered = (f"{of_this_python}-{number}" for number in count(2))
    names = (base, of_this_python, *islice(numbered, len(taken)))
    free = next(name for name in names if name not in taken)
    taken.add(free)
    return free


def _distribute(item: Environment, chain: Sequence[Planned], application: Planned) -> None:
    """Give each of a variant's requirements to the layer that holds what it asks for."""
    for platform in item.variant.platforms:
        for wish in item.wishes(platform):
            text = str(wish.requirement)
            if item.skips(wish.name, platform):
                application.neutral[text].add(platform)
                continue
            holder = next(
                (layer for layer in chain if wish.name in layer.contents.get(platform, {})), None
            )
            if holder is None or wish.requirement.url or wish.requirement.extras:
                application.requests[text].add(platform)
            if holder is not None and not wish.requirement.url:
                if wish.requirement.extras and not _agreed(holder, wish, platform):
                    # The extras of some are of no concern to the others.
                    text = f"{wish.name}=={item.held[platform].versions[wish.name]}"
                holder.requests[text].add(platform)


def _agreed(layer: Planned, wish: Wish, platform: Platform) -> bool:
    """Whether all who stand on `layer` on a platform want the extras of `wish`."""

    def extras(item: Environment) -> set[str]:
        return {
            extra
            for other in item.wishes(platform)
            if other.name == wish.name
            and str(other.requirement.marker or wish.requirement.marker)
            == str(wish.requirement.marker)
            for extra in other.requirement.extras
        }

    present = [item for item in layer.members if platform in item.variant.platforms]
    return all(wish.requirement.extras <= extras(item) for item in present)


def _settle(layer: Planned) -> None:
    """Leave out what a pin of the same name makes pointless, and find where all skip."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    parsed = {text: Requirement(text) for text in layer.requests}
    names = {text: canonicalize_name(item.name) for text, item in parsed.items()}
    pinned = {
        (names[text], platform)
        for text, item in parsed.items()
        for platform in layer.requests[text]
        if pinned_version(item) and not item.extras and not item.marker
    }
    for text, item in parsed.items():
        if not pinned_version(item) and not item.extras:
            layer.requests[text] -= {p for p in layer.requests[text] if (names[text], p) in pinned}
        users = {
            platform: [m for m in layer.members if platform in m.variant.platforms]
            for platform in layer.platforms
        }
        layer.neutral[text] = {
            platform
            for platform, members in users.items()
            if all(member.skips(names[text], platform) for member in members)
        }
    for text in [text for text, platforms in layer.requests.items() if not platforms]:
        del layer.requests[text]


def requested(layer: Planned, platform: Platform) -> tuple[Requirement, ...]:
    """What a layer requires on a platform."""
    from packaging.requirements import Requirement

    return tuple(
        Requirement(text) for text, platforms in layer.requests.items() if platform in platforms
    )


def reached(layer: Planned, platform: Platform) -> set[NormalizedName]:
    """What the requirements of a layer lead to on a platform, be it in the layer or below."""
    from packaging.utils import canonicalize_name

    names = [canonicalize_name(item.name) for item in requested(layer, platform)]
    held = next((item.held[platform] for item in layer.members if platform in item.held), None)
    found: set[NormalizedName] = set()
    while names:
        name = names.pop()
        if name not in found:
            found.add(name)
            names += held.needs.get(name, ()) if held else ()
    return found
