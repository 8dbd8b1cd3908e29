"""Layers that lock to what the search put into them.

Each layer is resolved as locking will: by itself, on top of the layers below it.
What its requirements would not bring in, or in another version, is required by its
version. Where that does not help, the search has to do without: a framework
holds nothing on that platform, and an application stands on no framework.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from stackbuild.importers.plan import choose, plan, requested, without
from stackbuild.spec.model import LayerKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from packaging.utils import NormalizedName
    from packaging.version import Version

    from stackbuild.importers.frameworks import Choice
    from stackbuild.importers.holdings import Held, Resolver, Wanted
    from stackbuild.importers.plan import Environment, Planned
    from stackbuild.platforms import Platform

    Versions = Mapping[NormalizedName, Version]

_ROUNDS = 4
"""The last one only tells; what can be helped is helped in one or two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsettled:
    """A layer that would not lock to what it is to hold."""

    layer: Planned
    platform: Platform
    found: Versions | None
    own: Versions

    @property
    def reason(self) -> str:
        """What is wrong, for the report."""
        if self.found is None:
            return "the requirements of the layers do not go together"
        more = [name for name in sorted(self.found) if name not in self.own]
        other = [name for name in sorted(self.own) if self.found.get(name) != self.own[name]]
        parts = [f"{', '.join(more)} would come in"] if more else []
        parts += [f"{', '.join(other)} would not be what it is"] if other else []
        return " and ".join(parts)


def settle(
    environments: Sequence[Environment], resolver: Resolver
) -> tuple[dict[Version, Choice], list[Planned], list[str]]:
    """The layers for variants that are resolved, and a line for each exception made."""
    choices = choose(environments)
    alone: dict[str, None] = {}
    barred: dict[tuple[Version, frozenset[str], Platform], None] = {}
    told: list[str] = []
    while True:
        layers = plan(environments, choices)
        unsettled = complete(layers, resolver)
        if not unsettled:
            return choices, layers, told
        frameworks = [item for item in unsettled if item.layer.kind is LayerKind.FRAMEWORK]
        # An application may well stand on what becomes of the frameworks.
        for item in frameworks or unsettled:
            layer = item.layer
            names = [member.variant.name for member in layer.members]
            if layer.kind is LayerKind.FRAMEWORK:
                barred[layer.python, frozenset(names), item.platform] = None
                shared = f"nothing is shared there by {', '.join(names)} alone"
                told.append(f"on {item.platform} {shared}: {item.reason}")
            elif layer.name not in alone:
                alone[layer.name] = None
                reason = f"on {item.platform} {item.reason}"
                told.append(f"{layer.name} stands on no framework: {reason}")
        choices = without(environments, choices, alone, barred)


def complete(layers: Sequence[Planned], resolver: Resolver) -> list[Unsettled]:
    """Add what the layers lack; the result are those where that does not do."""
    frameworks = {layer.name: layer for layer in layers if layer.kind is LayerKind.FRAMEWORK}
    for layer in frameworks.values():
        for platform in layer.contents:
            for name in _unreached(layer, platform):
                _pin(layer, platform, name)
    pending = [(layer, platform) for layer in layers for platform in _checked(layer)]

    def ask(pair: tuple[Planned, Platform]) -> Versions | None:
        return _locked(*pair, frameworks, resolver)

    for _ in range(_ROUNDS):
        with ThreadPoolExecutor(max(len(pending), 1)) as pool:
            answers = list(pool.map(ask, pending))
        unsettled = [
            Unsettled(layer=layer, platform=platform, found=found, own=own)
            for (layer, platform), found in zip(pending, answers, strict=True)
            if found != (own := _own(layer, platform, frameworks))
        ]
        for item in unsettled:
            for name, version in item.own.items():
                if (item.found or {}).get(name) != version:
                    _pin(item.layer, item.platform, name)
        pending = [(item.layer, item.platform) for item in unsettled]
    return unsettled


def _checked(layer: Planned) -> list[Platform]:
    """Where something is known about a layer that it does not hold by itself anyway."""
    if layer.kind is LayerKind.FRAMEWORK:
        return list(layer.contents)
    held = layer.members[0].held
    return [p for p in layer.platforms if layer.frameworks and p in held and not held[p].problem]


def _held(layer: Planned, platform: Platform) -> Held:
    return next(item.held[platform] for item in layer.members if platform in item.held)


def _own(layer: Planned, platform: Platform, frameworks: Mapping[str, Planned]) -> Versions:
    """What a layer is to hold itself."""
    if layer.kind is LayerKind.FRAMEWORK:
        names = set(layer.contents.get(platform, {}))
    else:
        lower = [frameworks[name].contents.get(platform, {}) for name in layer.frameworks]
        held = layer.members[0].held.get(platform)
        names = set(held.versions if held else ()).difference(*lower)
    return {name: _held(layer, platform).versions[name] for name in names}


def _pin(layer: Planned, platform: Platform, name: NormalizedName) -> None:
    text = f"{name}=={_held(layer, platform).versions[name]}"
    layer.requests[text].add(platform)


def _unreached(layer: Planned, platform: Platform) -> list[NormalizedName]:
    """What nothing that the framework requires leads to; of several in a row the first."""
    contents, needs = layer.contents[platform], _held(layer, platform).needs
    reached: set[NormalizedName] = set()

    def reach(names: list[NormalizedName]) -> None:
        while names:
            name = names.pop()
            if name in contents and name not in reached:
                reached.add(name)
                names += needs[name]

    reach([canonicalize_name(item.name) for item in requested(layer, platform)])
    lacking = []
    # Whatever others need comes with them, so those that nobody needs go first.
    needed = {other for name in contents for other in needs[name] if other != name}
    for name in sorted(contents, key=lambda name: (name in needed, name)):
        if name not in reached:
            lacking.append(name)
            reach([name])
    return lacking


def _locked(
    layer: Planned, platform: Platform, frameworks: Mapping[str, Planned], resolver: Resolver
) -> Versions | None:
    """What locking would put into a layer itself; None without an answer."""
    if not requested(layer, platform):
        return {}
    pins: dict[NormalizedName, Version] = {}
    for name in layer.frameworks:
        pins = {**_own(frameworks[name], platform, frameworks), **pins}
    first = layer.platforms[0]
    preferences = {} if first == platform else _own(layer, first, frameworks)
    found = resolver.versions(_wanted(layer, platform), pins, preferences)
    if found is None:
        return None
    return {name: version for name, version in found.items() if name not in pins}


def _wanted(layer: Planned, platform: Platform) -> Wanted:
    """What a layer asks for; of a framework only what its members agree on."""
    present = [item for item in layer.members if platform in item.variant.platforms]
    wanted = [item.wanted(platform) for item in present]
    overrides = wanted[0].overrides
    own = layer.kind is LayerKind.APPLICATION
    return replace(
        wanted[0],
        name=layer.name,
        requirements=requested(layer, platform),
        # What has no wheel is known to be missing in an application only.
        excluded=_held(layer, platform).excluded
        if own
        else frozenset.intersection(*(item.skipped for item in wanted)),
        overrides={
            name: text
            for name, text in overrides.items()
            if all(item.overrides.get(name) == text for item in wanted)
        },
        no_deps=frozenset.intersection(*(frozenset(item.config.no_deps) for item in layer.members)),
    )
