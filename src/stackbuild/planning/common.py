"""The fields and settings of a framework that its applications have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from stackbuild.lock.targets import target_of
from stackbuild.platforms import Platform

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from packaging.utils import NormalizedName

    from stackbuild.lock.model import LockedDistribution
    from stackbuild.planning.held import Held
    from stackbuild.spec.model import Layer, Setting, Stack

    Applications = Mapping[str, Mapping[Platform, Held]]
    Contents = Mapping[Platform, Mapping[NormalizedName, LockedDistribution]]

_SHARED = "tool.stackbuild.shared."
"""The locations of settings that a framework has anyway."""
_TARGETS = {"linux_target": Platform.LINUX_X64, "macosx_target": Platform.MACOSX_X64}


def common_fields(stack: Stack, layers: Sequence[Layer], contents: Contents) -> dict[str, Any]:
    """The fields of the `[[frameworks]]` table of a framework below `layers`."""
    fields: dict[str, Any] = {}
    first = layers[0]
    if indexes := _indexes(stack, layers, contents):
        fields["package_indexes"] = dict(sorted(indexes.items()))
    if first.priority_indexes and len({layer.priority_indexes for layer in layers}) == 1:
        fields["priority_indexes"] = list(first.priority_indexes)
    for key, platform in _TARGETS.items():
        # A wheel that each application chose runs on the lowest of their targets.
        if any(getattr(layer, key) for layer in layers):
            python = stack.python_version(first)
            lowest = min(layers, key=lambda item: target_of(item, platform, python).level)
            if text := getattr(lowest, key):
                fields[key] = text
    return fields


def _indexes(stack: Stack, layers: Sequence[Layer], contents: Contents) -> dict[str, str]:
    """The indexes that only some distributions come from."""
    everywhere = stack.layers[layers[0].runtime].package_indexes
    found: dict[str, str] = {}
    for layer in layers:
        for items in contents.values():
            for name, item in items.items():
                index = layer.package_indexes.get(name)
                if index is None and item.index in layer.priority_indexes:
                    index = item.index
                if index and everywhere.get(name) != index:
                    found.setdefault(name, index)
    return found


def common_settings(
    layers: Sequence[Layer],
    fields: Mapping[str, Any],
    contents: Contents,
    members: Applications,
) -> dict[str, Any]:
    """`[tool.stackbuild.layers.<name>]` of a framework below `layers`.

    `fields` are those of its `[[frameworks]]` table, `members` the contents of each layer.
    """
    settings: dict[str, Any] = {}
    used = fields.get("package_indexes", {}).values()
    additional = _part(layers[0], "registries").get("additional", ())
    registries = [
        str(item.value)
        for item in cast("tuple[Setting, ...]", additional)
        if not item.place.startswith(_SHARED)
        and item.value in used
        and all(item.value in layer.registries for layer in layers)
    ]
    if registries:
        settings["registries"] = {"additional": registries}
    if exclude := _exclude(layers, contents, members):
        settings["exclude"] = exclude
    names = {name for items in contents.values() for name in items}
    bare = {name for held in members.values() for item in held.values() for name in item.bare}
    listed = cast("tuple[Setting, ...]", layers[0].settings.get("no-deps", ()))
    shared = {item.value for item in listed if item.place.startswith(_SHARED)}
    if no_deps := sorted((bare & names) - shared):
        settings["no-deps"] = no_deps
    if overrides := _overrides(layers, contents, members):
        settings["overrides"] = overrides
    return settings


def _part(layer: Layer, key: str) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", layer.settings.get(key, {}))


def _exclude(
    layers: Sequence[Layer], contents: Contents, members: Applications
) -> dict[str, dict[str, str]]:
    """Dependencies of a framework that all its applications leave out."""
    found: dict[str, dict[str, str]] = {}
    for platform, items in contents.items():
        present = [held[platform] for held in members.values() if platform in held]
        lacking = {name for held in present for item in items for name in held.lacks[item]}
        for name in sorted(lacking):
            # If one of them has it, it is from an extra that the framework does not require.
            if any(name in held.distributions for held in present):
                continue
            given = _part(layers[0], "exclude").get(name, {}).get(platform)
            if given is None or not given.place.startswith(_SHARED):
                reason = next(held.left_out[name] for held in present if name in held.left_out)
                found.setdefault(name, {})[str(platform)] = reason
    return found


def _overrides(
    layers: Sequence[Layer], contents: Contents, members: Applications
) -> dict[str, str]:
    """The overrides of all `layers` for distributions that a framework has or requires."""
    concerned = {name for items in contents.values() for name in items}
    for held in members.values():
        for platform, items in contents.items():
            if platform in held:
                concerned.update(*(held[platform].needs[name] for name in items))
    return {
        name: str(given.value).removeprefix("==")
        for name, given in sorted(_part(layers[0], "overrides").items())
        if name in concerned
        and not given.place.startswith(_SHARED)
        and all(name in _part(layer, "overrides") for layer in layers)
    }
