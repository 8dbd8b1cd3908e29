"""Reading the policy fields, merging shared ones into a layer's, and the policy of one platform."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, cast

from stackbuild.platforms import parse_platform
from stackbuild.spec.model import Policy, Setting
from stackbuild.spec.policy_fields import BY_KEY, POLICY_FIELDS
from stackbuild.spec.settings import on_platform as settings_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stackbuild.platforms import Platform
    from stackbuild.spec.model import Layer, Settings, Stack
    from stackbuild.spec.settings import Context, Field, Node
    from stackbuild.spec.table import Problems, Table

SPECIFIC = "platform-specific"
_TARGETS = {"linux_target": "linux", "macosx_target": "macos"}
"""Fields that concern layers for one operating system."""


def merge(shared: Settings, own: Settings) -> Settings:
    """`own` on top of `shared`.

    Tables are merged key by key. Lists are joined without duplicates, the shared
    part first. Any other value of `own` replaces the shared one.
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


def read_settings(
    table: Table,
    by_platform: Callable[[Table], Iterable[tuple[Platform, Table]]],
    context: Context,
) -> Settings:
    """The policy fields that `table` sets; `by_platform` gives the subtables of `SPECIFIC`."""
    specific: dict[str, Node] = {}
    for platform, entry in by_platform(table.part(SPECIFIC)):
        specific[str(platform)] = _read(
            entry, (field for field in POLICY_FIELDS if field.specific), context
        )
        entry.done()
    found = _read(table, (field for field in POLICY_FIELDS if field.general), context)
    return {**found, SPECIFIC: specific} if specific else found


def _read(table: Table, chosen: Iterable[Field], context: Context) -> dict[str, Node]:
    found = {field.key: field.kind.read(table, field.key, context) for field in chosen}
    return {key: node for key, node in found.items() if node}


def on_platform(settings: Settings, platform: Platform) -> Settings:
    """`settings` on `platform`, without the level of platform names."""
    chosen: dict[str, Node] = {}
    for key, node in settings.items():
        found: Node | None = node
        if key in BY_KEY:
            found = settings_on(BY_KEY[key].kind, node, platform)
        elif key == "downloads":
            downloads = cast("Settings", node).items()
            found = next((one for name, one in downloads if parse_platform(name) == platform), None)
        if found and key != SPECIFIC and _TARGETS.get(key, platform.os) == platform.os:
            chosen[key] = found
    specific = cast("Settings", settings.get(SPECIFIC, {}))
    return merge(chosen, cast("Settings", specific.get(platform, {})))


def policy_on_chain(stack: Stack, layer: Layer, platform: Platform) -> Policy:
    """The policy of `layer`, with the `exclude`, `overrides` and `no-deps` of the layers below.

    Otherwise a layer would install again what a lower layer left out. The layer's
    own entries have priority, and what it requires by name on `platform` is not
    excluded because of a lower layer.
    """
    from packaging.utils import canonicalize_name

    own = layer.policy(platform)
    lower = [stack.layers[name].policy(platform) for name in reversed(layer.lower)]
    named = {canonicalize_name(item.name) for item in stack.requirements_for(layer, platform)}
    exclude = {name: why for one in lower for name, why in one.exclude.items() if name not in named}
    overrides = {name: text for one in lower for name, text in one.overrides.items()}
    no_deps = dict.fromkeys([*own.no_deps, *(name for one in lower for name in one.no_deps)])
    return replace(
        own,
        exclude={**exclude, **own.exclude},
        overrides={**overrides, **own.overrides},
        no_deps=tuple(no_deps),
    )


def with_policy(layer: Layer, settings: Settings) -> Layer:
    """`layer` with its merged `settings`."""
    by_platform = {platform: on_platform(settings, platform) for platform in layer.platforms}
    specific = cast("Mapping[str, Settings]", settings.get(SPECIFIC, {}))
    own = {
        platform: _value(specific.get(platform, {}), "copy-files") for platform in layer.platforms
    }
    return replace(
        layer,
        policies={
            platform: policy_of(chosen) for platform, chosen in by_platform.items() if chosen
        },
        registries=(_value(settings, "registries") or {}).get("additional", ()),
        settings={**layer.settings, **settings},
        copy_files=_value(settings, "copy-files") or (),
        platform_copy_files={platform: files for platform, files in own.items() if files},
    )


def check_registries(layers: Iterable[Layer], problems: Problems) -> None:
    """Report additional registries without distributions, which would have no effect."""
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
                "no distribution is assigned to this registry, so it has no effect",
                found=name,
                hint="assign its distributions in the layer that needs them: "
                f'package_indexes = {{ torch = "{name}" }}',
            )


def policy_of(settings: Settings) -> Policy:
    """The `Policy` for the `settings` of one platform."""
    names = {field.name for field in fields(Policy)}
    chosen = (BY_KEY[key] for key in settings if key in BY_KEY)
    return Policy(
        **{item.attribute: _value(settings, item.key) for item in chosen if item.attribute in names}
    )


def _value(settings: Settings, key: str) -> Any:
    """The value of a policy field in the model; None if it is not set."""
    return BY_KEY[key].kind.value(settings[key]) if key in settings else None
