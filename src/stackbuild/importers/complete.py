"""Frameworks that lock to what the search put into them.

A framework is locked by itself, so its requirements must bring in all that it
is to hold, at the same versions. Whatever they do not is required by its version.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from stackbuild.spec.model import LayerKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from packaging.utils import NormalizedName
    from packaging.version import Version

    from stackbuild.importers.holdings import Held, Resolver, Wanted
    from stackbuild.importers.plan import Planned
    from stackbuild.platforms import Platform

_ROUNDS = 3


def complete(layers: Sequence[Planned], resolver: Resolver) -> list[str]:
    """Add what the frameworks lack; the result tells where that could not be settled."""
    frameworks = {layer.name: layer for layer in layers if layer.kind is LayerKind.FRAMEWORK}
    for layer in frameworks.values():
        for platform in layer.contents:
            for name in _unreached(layer, platform):
                _pin(layer, platform, name)
    pending = [(layer, platform) for layer in frameworks.values() for platform in layer.contents]
    for _ in range(_ROUNDS):
        with ThreadPoolExecutor(max(len(pending), 1)) as pool:
            answers = list(
                pool.map(lambda pair: _differing(pair[0], pair[1], frameworks, resolver), pending)
            )
        again = []
        for (layer, platform), names in zip(pending, answers, strict=True):
            for name in names:
                _pin(layer, platform, name)
            again += [(layer, platform)] if names else []
        pending = again
    return [
        f"{layer.name} on {platform} may be locked to other versions than those counted here"
        for layer, platform in pending
    ]


def _held(layer: Planned, platform: Platform) -> Held:
    return next(item.held[platform] for item in layer.members if platform in item.held)


def _pin(layer: Planned, platform: Platform, name: NormalizedName) -> None:
    text = f"{name}=={_held(layer, platform).versions[name]}"
    layer.requests[text].add(platform)


def _requested(layer: Planned, platform: Platform) -> Iterator[Requirement]:
    for text, platforms in layer.requests.items():
        if platform in platforms:
            yield Requirement(text)


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

    reach([canonicalize_name(item.name) for item in _requested(layer, platform)])
    lacking = []
    # Whatever others need comes with them, so those that nobody needs go first.
    needed = {other for name in contents for other in needs[name] if other != name}
    for name in sorted(contents, key=lambda name: (name in needed, name)):
        if name not in reached:
            lacking.append(name)
            reach([name])
    return lacking


def _differing(
    layer: Planned, platform: Platform, frameworks: Mapping[str, Planned], resolver: Resolver
) -> list[NormalizedName]:
    """What the framework would not lock to the version that was counted."""
    pins: dict[NormalizedName, Version] = {}
    for name in layer.frameworks:
        lower = frameworks[name]
        if platform in lower.contents:
            held = _held(lower, platform)
            pins.update((item, held.versions[item]) for item in lower.contents[platform])
    found = resolver.versions(framework_wanted(layer, platform), pins)
    versions = _held(layer, platform).versions
    required = {
        canonicalize_name(item.name)
        for item in _requested(layer, platform)
        if str(item.specifier).startswith("==")
    }
    return sorted(
        name
        for name in layer.contents[platform]
        if name not in required and (found or {}).get(name) != versions[name]
    )


def framework_wanted(layer: Planned, platform: Platform) -> Wanted:
    """What a framework asks for: only what its members agree on."""
    present = [item for item in layer.members if platform in item.variant.platforms]
    wanted = [item.wanted(platform) for item in present]
    overrides = wanted[0].overrides
    return replace(
        wanted[0],
        name=layer.name,
        requirements=tuple(_requested(layer, platform)),
        excluded=frozenset.intersection(*(item.held[platform].excluded for item in present)),
        overrides={
            name: text
            for name, text in overrides.items()
            if all(item.overrides.get(name) == text for item in wanted)
        },
        no_deps=frozenset.intersection(*(item.no_deps for item in wanted)),
    )
