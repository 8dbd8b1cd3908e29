"""Merging shared settings into those of a layer, and what comes out for one platform."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from stackbuild.spec.model import BuildSettings, BuildWheel, Policy, Setting, SourcePolicy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stackbuild.platforms import Platform
    from stackbuild.reading import Problems
    from stackbuild.spec.model import Layer, Settings, Stack

    Node = Setting | tuple[Setting, ...] | Settings

SPECIFIC = "platform-specific"
_BY_PLATFORM = ("skip", "force-source", "build-wheel")


def merge(shared: Settings, own: Settings) -> Settings:
    """`own` on top of `shared`.

    Tables are merged key by key, lists joined without duplicates, the shared
    part first, and any other value of `own` replaces the shared one.
    """
    merged = dict(shared)
    for key, node in own.items():
        other = merged.get(key)
        if isinstance(node, Mapping) and isinstance(other, Mapping):
            merged[key] = merge(other, node)
        elif isinstance(node, tuple) and isinstance(other, tuple):
            merged[key] = _joined(other, node)
        else:
            merged[key] = node
    return merged


def _joined(first: tuple[Setting, ...], second: tuple[Setting, ...]) -> tuple[Setting, ...]:
    found = list(first)
    for item in second:
        if all(item.value != other.value for other in found):
            found.append(item)
    return tuple(found)


def on_platform(settings: Settings, platform: Platform) -> Settings:
    """What `settings` come to on `platform`, without the level that names platforms."""
    chosen: dict[str, Node] = {}
    for key, node in settings.items():
        if key in _BY_PLATFORM:
            named = cast("Settings", node)
            entries = {name: cast("Settings", entry).get(platform) for name, entry in named.items()}
            chosen[key] = {name: entry for name, entry in entries.items() if entry}
        elif key != SPECIFIC:
            chosen[key] = node
    specific = cast("Settings", settings.get(SPECIFIC, {}))
    chosen = dict(merge(chosen, cast("Settings", specific.get(platform, {}))))
    return {key: node for key, node in chosen.items() if node}


def policy_on_chain(stack: Stack, layer: Layer, platform: Platform) -> Policy:
    """The policy of `layer`, with what was decided below for what it takes from there.

    What a lower layer skips, overrides or takes without dependencies would
    otherwise come back with the next layer that depends on the same. The
    layer's own entries count first, and what it requires by name on `platform` is
    not skipped for a lower layer's sake.
    """
    from packaging.utils import canonicalize_name

    own = layer.policy(platform)
    lower = [stack.layers[name].policy(platform) for name in reversed(layer.lower)]
    named = {canonicalize_name(item.name) for item in stack.requirements_for(layer, platform)}
    skip = {name: why for one in lower for name, why in one.skip.items() if name not in named}
    overrides = {name: text for one in lower for name, text in one.overrides.items()}
    no_deps = dict.fromkeys([*own.no_deps, *(name for one in lower for name in one.no_deps)])
    return replace(
        own,
        skip={**skip, **own.skip},
        overrides={**overrides, **own.overrides},
        no_deps=tuple(no_deps),
    )


def with_policy(layer: Layer, settings: Settings) -> Layer:
    """`layer` with what the merged `settings` say about it."""
    by_platform = {platform: on_platform(settings, platform) for platform in layer.platforms}
    specific = cast("Settings", settings.get(SPECIFIC, {}))
    own = {
        platform: _plain(cast("Settings", specific.get(platform, {}))).get("copy-files", ())
        for platform in layer.platforms
    }
    return replace(
        layer,
        policies={
            platform: policy_of(chosen) for platform, chosen in by_platform.items() if chosen
        },
        registries=_plain(settings).get("registries", {}).get("additional", ()),
        settings=merge(layer.settings, settings),
        copy_files=_plain(settings).get("copy-files", ()),
        platform_copy_files={platform: files for platform, files in own.items() if files},
    )


def check_registries(layers: Iterable[Layer], problems: Problems) -> None:
    """Report additional registries that no layer takes anything from.

    Indexes are never mixed, so that one to which no distribution is given
    would have no effect.
    """
    given: set[str] = set()
    named: dict[str, str] = {}
    for layer in layers:
        registries = cast("Settings", layer.settings.get("registries", {}))
        for item in cast("tuple[Setting, ...]", registries.get("additional", ())):
            named.setdefault(item.place, str(item.value))
            if item.value in layer.package_indexes.values():
                given.add(item.place)
    for place, name in named.items():
        if place not in given:
            problems.add(
                place,
                "no distribution is given to this registry, and indexes are never mixed",
                found=name,
                hint="say which come from it, in the layer that needs them: "
                f'package_indexes = {{ torch = "{name}" }}',
            )


def policy_of(settings: Settings) -> Policy:
    """The policy that `settings` of one platform mean."""
    values = _plain(settings)
    return Policy(
        skip=values.get("skip", {}),
        force_source=values.get("force-source", {}),
        build_wheel={
            name: BuildWheel(**_fields(entry))
            for name, entry in values.get("build-wheel", {}).items()
        },
        no_deps=values.get("no-deps", ()),
        overrides=values.get("overrides", {}),
        resolution=SourcePolicy(**_fields(values.get("resolution", {}))),
        dependencies=values.get("dependencies", ()),
        build=BuildSettings(**_fields(values.get("build", {}))),
        allow_import_errors=values.get("allow-import-errors", {}),
    )


def _plain(settings: Settings) -> dict[str, Any]:
    """The values without their places."""
    return {key: _value(node) for key, node in settings.items()}


def _value(node: Node) -> object:
    if isinstance(node, Setting):
        return node.value
    if isinstance(node, tuple):
        return tuple(item.value for item in node)
    return _plain(node)


def _fields(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key.replace("-", "_"): value for key, value in values.items()}
