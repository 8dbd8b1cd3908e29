"""The tables of `[tool.stackbuild]` that the configuration becomes.

A shared entry stays in `shared` if it means the same for each variant; otherwise each layer gets
the entry that holds for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stackbuild.importers.runenv.merge import specifier
from stackbuild.importers.runenv.registries import given

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packaging.utils import NormalizedName

    from stackbuild.importers.runenv.model import Keys, Repository, Variant
    from stackbuild.importers.runenv.registries import Registry

    Table = dict[str, Any]

_BY_PLATFORM = ("skip", "force-source", "build-wheel")
"""Fields whose entries have a table for each platform."""


def shared_settings(repository: Repository, registries: Mapping[str, Registry]) -> Table:
    """`[tool.stackbuild.shared]`."""
    shared = repository.shared
    overrides, replaced = kept_overrides(repository), kept_entries(repository)
    used = {r.name for v in repository.variants for r in given_to(v, registries).values()}
    return nested(
        {
            ("registries", "additional"): _used(shared.registries, registries, used),
            **{keys: value for keys, value in shared.replaced.items() if keys in replaced},
            **shared.joined,
            **{("overrides", name): shared.overrides[name] for name in sorted(overrides)},
        }
    )


def kept_entries(repository: Repository) -> set[Keys]:
    """The shared entries that mean the same for each variant.

    A stack merges tables key by key. For a variant that replaces an entry this gives the same if
    its own entry has all keys of the shared one.
    """
    return {
        keys
        for keys, entry in repository.shared.replaced.items()
        if all(
            keys not in variant.own.replaced
            or (keys[0] != "build-wheel" and entry.keys() <= variant.own.replaced[keys].keys())
            for variant in repository.variants
        )
    }


def kept_overrides(repository: Repository) -> set[NormalizedName]:
    """The shared overrides that mean the same for each variant.

    In a stack an override also holds for what distributions require of each other, so it stays
    shared only if each variant names the distribution.
    """
    own = {name for variant in repository.variants for name in variant.own.overrides}
    everywhere = [variant.names() for variant in repository.variants]
    return {
        name
        for name in repository.shared.overrides
        if name not in own and all(name in names for names in everywhere)
    }


def layer_settings(
    variant: Variant,
    repository: Repository,
    registries: Mapping[str, Registry],
    overlays: Mapping[Keys, list[dict[str, str]]],
) -> Table:
    """`[tool.stackbuild.layers.<name>]` of a variant; `overlays` are its `copy-files`."""
    shared = repository.shared
    kept, overrides = kept_entries(repository), kept_overrides(repository)
    used = {registry.name for registry in given_to(variant, registries).values()}
    own = [url for url in variant.config.registries if url not in shared.registries]
    own_entries = variant.own.replaced.keys()
    names = variant.names()
    settings: dict[Keys, Any] = {
        ("registries", "additional"): _used(own, registries, used),
        **{k: v for k, v in variant.config.replaced.items() if k not in kept - own_entries},
        **variant.own.joined,
        **{
            ("overrides", name): specifier(text).removeprefix("==")
            for name, text in variant.config.overrides.items()
            if name in names and name not in overrides
        },
        **{
            ("platform-specific", platform, "dependencies"): list(items)
            for platform, items in variant.dependencies().items()
            if platform
        },
        **overlays,
    }
    for keys in list(settings):
        if keys[0] in _BY_PLATFORM:
            entry = settings[keys]
            settings[keys] = {p: entry[p] for p in variant.platforms if p in entry}
        elif keys[0] == "platform-specific" and keys[1] not in variant.platforms:
            del settings[keys]
    return nested(settings)


def given_to(variant: Variant, registries: Mapping[str, Registry]) -> dict[str, Registry]:
    """Each distribution of a variant that comes from an additional index."""
    return given(variant.asked(), [registries[url] for url in variant.config.registries])


def index_fields(variant: Variant, registries: Mapping[str, Registry]) -> Table:
    """`package_indexes` and `priority_indexes` of a variant's layer.

    What CUDA packages require of each other is known only when they are resolved, so an index
    of NVIDIA that is used is also searched first for everything else.
    """
    found = given_to(variant, registries)
    first = dict.fromkeys(item.name for item in found.values() if item.is_nvidia)
    fields: Table = {}
    if found:
        fields["package_indexes"] = {name: item.name for name, item in found.items()}
    if first:
        fields["priority_indexes"] = list(first)
    return fields


def _used(
    urls: tuple[str, ...] | list[str], registries: Mapping[str, Registry], used: set[str]
) -> list[str]:
    names = dict.fromkeys(registries[url].name for url in urls)
    return [name for name in names if name in used]


def nested(settings: Mapping[Keys, Any]) -> Table:
    """The tables that `settings` make, without what is empty."""
    tables: Table = {}
    for keys, value in settings.items():
        table = tables
        for key in keys[:-1]:
            table = table.setdefault(str(key), {})
        table[str(keys[-1])] = value
    return _without_empty(tables)


def _without_empty(table: Mapping[str, Any]) -> Table:
    found: Table = {}
    for key, value in table.items():
        kept = _without_empty(value) if isinstance(value, dict) else value
        if kept not in ({}, []):
            found[str(key)] = kept
    return found
