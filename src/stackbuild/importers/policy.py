"""The policy fields of each layer, in the words of `[tool.stackbuild]`, and what became of them.

An entry stands in `shared` where it was shared and no variant replaces it;
else in the layer that holds the distribution it is about. Entries that could
never have an effect are left out, and told.
"""

from __future__ import annotations

import re
from collections import defaultdict
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from stackbuild.importers.plan import reached, specifiers
from stackbuild.importers.registries import owner
from stackbuild.spec.model import LayerKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from packaging.utils import NormalizedName

    from stackbuild.importers.model import Build, BuildOptions, Config, Repository, Resolution
    from stackbuild.importers.plan import Environment, Planned
    from stackbuild.importers.registries import Registry
    from stackbuild.platforms import Platform

    Table = dict[str, Any]

_BY_PACKAGE = ("skip", "force_source", "build_wheel")


def shared_settings(
    repository: Repository,
    environments: Sequence[Environment],
    registries: Mapping[str, Registry],
) -> Table:
    """`[tool.stackbuild.shared]`."""
    shared = repository.shared
    kept = kept_shared(repository, environments)
    given = {name for item in environments for name in given_indexes(item).values()}
    settings: Table = {
        "registries": _given([registries[url].name for url in shared.registries], given),
        **_by_package(shared, kept),
        "no-deps": list(shared.no_deps),
        "overrides": {
            name: text for name, text in shared.overrides.items() if name in kept["overrides"]
        },
        "resolution": _resolution(shared.resolution),
        "build": _build(shared.build),
        "platform-specific": {
            platform: {"resolution": _resolution(entry)}
            for platform, entry in shared.platform_resolution.items()
        },
    }
    return clean(settings)


def kept_shared(
    repository: Repository, environments: Sequence[Environment]
) -> dict[str, set[NormalizedName]]:
    """By field, the shared entries that mean the same for every variant."""
    shared = repository.shared
    kept: dict[str, set[NormalizedName]] = {}
    for key in _BY_PACKAGE:
        replaced = {name for item in repository.variants for name in getattr(item.own, key)}
        kept[key] = set(getattr(shared, key)) - replaced
    replaced = {name for item in repository.variants for name in item.own.overrides}
    # Here an override also counts for what others depend on; there it did not.
    kept["overrides"] = {
        name
        for name in shared.overrides
        if name not in replaced and all(name in item.names() for item in environments)
    }
    return kept


def layer_settings(
    layer: Planned, layers: Mapping[str, Planned], repository: Repository, kept: Any
) -> Table:
    """`[tool.stackbuild.layers.<name>]`, but for its overlays."""
    if layer.kind is LayerKind.FRAMEWORK:
        return clean(_framework_settings(layer, repository, kept))
    (item,) = layer.members
    own, config = item.variant.own, item.config
    chain = [layers[name] for name in layer.frameworks]
    settings: Table = {
        "registries": _given(
            [entry.name for entry in item.registries[len(set(repository.shared.registries)) :]],
            set(given_indexes(item).values()),
        ),
        **_by_package(config, {key: set(getattr(config, key)) - kept[key] for key in _BY_PACKAGE}),
        "no-deps": [name for name in config.no_deps if name not in repository.shared.no_deps],
        "overrides": {
            name: text.removeprefix("==")
            for name, text in specifiers(config.overrides, item.names()).items()
            if name not in kept["overrides"]
        },
        "resolution": _resolution(own.resolution),
        "build": _build(own.build),
    }
    for key in ("skip", "force-source", "build-wheel"):
        settings[key] = _on(layer.platforms, settings[key])
    settings["skip"] = _without_lower(settings["skip"], layer, chain, kept)
    specific: dict[Platform, Table] = defaultdict(dict)
    for platform, texts in layer.specific().items():
        specific[platform]["dependencies"] = texts
    for platform, entry in own.platform_resolution.items():
        specific[platform]["resolution"] = _resolution(entry)
    _add_import_errors(specific, layer, item, chain)
    settings["platform-specific"] = {
        platform: specific[platform] for platform in layer.platforms if platform in specific
    }
    return clean(settings)


def _framework_settings(layer: Planned, repository: Repository, kept: Any) -> Table:
    specific: dict[Platform, Table] = defaultdict(dict)
    for platform, texts in layer.specific().items():
        specific[platform]["dependencies"] = texts
    for item in layer.members:
        _add_import_errors(specific, layer, item, [layer])
    names = {name for names in layer.contents.values() for name in names}
    overrides = [specifiers(item.config.overrides, item.names()) for item in layer.members]
    no_deps = frozenset.intersection(*(frozenset(i.config.no_deps) for i in layer.members))
    return {
        "skip": framework_skips(layer, kept),
        "no-deps": sorted((no_deps & names) - set(repository.shared.no_deps)),
        "overrides": {
            name: text.removeprefix("==")
            for name, text in overrides[0].items()
            if name not in kept["overrides"] and all(o.get(name) == text for o in overrides)
        },
        "platform-specific": {p: specific[p] for p in layer.platforms if p in specific},
    }


def framework_skips(layer: Planned, kept: Any) -> dict[NormalizedName, dict[Platform, str]]:
    """What all variants on a framework leave out, where something in it would need it."""
    found: dict[NormalizedName, dict[Platform, str]] = defaultdict(dict)
    for platform in layer.platforms:
        present = [item for item in layer.members if platform in item.variant.platforms]
        lacking = _lacking(layer, platform)
        for name, reasons in present[0].config.skip.items():
            left_out = all(item.skips(name, platform) for item in present)
            if left_out and name in lacking and name not in kept["skip"]:
                found[name][platform] = reasons[platform]
    return dict(found)


def given_indexes(item: Environment) -> dict[NormalizedName, str]:
    """Each distribution of a variant that comes from an additional index, with its name."""
    found = {name: index for held in item.held.values() for name, index in held.indexes.items()}
    for name in item.names():
        if name not in found and (registry := owner(name, None, item.registries)):
            found[name] = registry.name
    return found


def package_indexes(layer: Planned, chain: Sequence[Planned]) -> dict[NormalizedName, str]:
    """`package_indexes` of a layer: for what it holds itself."""
    given = given_indexes(layer.members[0])
    if layer.kind is LayerKind.FRAMEWORK:
        held = {name for names in layer.contents.values() for name in names}
        return {name: index for name, index in sorted(given.items()) if name in held}
    lower = {name for below in chain for names in below.contents.values() for name in names}
    return {name: index for name, index in sorted(given.items()) if name not in lower}


def clean(table: Table) -> Table:
    """`table` without what is empty."""
    found: Table = {}
    for key, value in table.items():
        kept = clean(value) if isinstance(value, dict) else value
        if kept is not None and kept not in ({}, []):
            found[str(key)] = kept
    return found


def _given(names: Sequence[str], given: set[str]) -> Table:
    return {"additional": [name for name in names if name in given]}


def _by_package(config: Config, names: Mapping[str, set[NormalizedName]]) -> Table:
    return {
        "skip": {name: entry for name, entry in config.skip.items() if name in names["skip"]},
        "force-source": {
            name: entry
            for name, entry in config.force_source.items()
            if name in names["force_source"]
        },
        "build-wheel": {
            name: {platform: _build_wheel(build) for platform, build in entry.items()}
            for name, entry in config.build_wheel.items()
            if name in names["build_wheel"]
        },
    }


def _on(platforms: Sequence[Platform], table: Table) -> Table:
    return {
        name: {platform: value for platform, value in entry.items() if platform in platforms}
        for name, entry in table.items()
    }


def _lacking(layer: Planned, platform: Platform) -> set[NormalizedName]:
    """What locking a layer leads to of what is left out on a platform."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found = {canonicalize_name(Requirement(text).name) for text in layer.general()}
    held = [item.held[platform] for item in layer.members if platform in item.held]
    # Also what stands in the layers below is followed to what it needs.
    names = reached(layer, platform)
    return found.union(*(item.lacks.get(name, ()) for item in held for name in names))


def _without_lower(
    skips: Mapping[NormalizedName, Mapping[Platform, str]],
    layer: Planned,
    chain: Sequence[Planned],
    kept: Any,
) -> Table:
    """`skips` without those of a framework which nothing in the application itself leads to."""
    lower = [framework_skips(below, kept) for below in chain]
    lacking = {platform: _lacking(layer, platform) for platform in layer.platforms}
    return {
        name: {
            platform: reason
            for platform, reason in reasons.items()
            if name in lacking[platform]
            or not any(platform in entry.get(name, {}) for entry in lower)
        }
        for name, reasons in skips.items()
    }


def _build_wheel(build: Build) -> Table:
    return {
        "reason": build.reason,
        "build-requires": list(build.build_requires),
        "config-settings": {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in build.config_settings.items()
        },
    }


def _resolution(resolution: Resolution) -> Table:
    return {
        "allow-source-all": resolution.allow_source_all,
        "strict-missing": resolution.strict_missing,
        "allow-source-list": list(resolution.allow_source_list),
        "force-no-binary-list": list(resolution.force_no_binary_list),
        "only-binary-list": list(resolution.only_binary_list),
    }


def _build(options: BuildOptions) -> Table:
    return {
        "logging": options.logging,
        "parallel-downloads": options.parallel_downloads,
        "timeout": options.timeout,
    }


def _add_import_errors(
    specific: Mapping[Platform, Table],
    layer: Planned,
    item: Environment,
    chain: Sequence[Planned],
) -> None:
    """Known import errors stand in each layer that holds a wheel they are about."""
    framework = layer.kind is LayerKind.FRAMEWORK
    for platform, wheels in item.config.allow_import_errors.items():
        if platform not in layer.platforms:
            continue
        lower = {name for below in chain for name in below.contents.get(platform, {})}
        held = item.held[platform].versions if platform in item.held else {}
        for wheel, errors in wheels.items():
            shared = _matching(wheel, lower)
            own = _matching(wheel, held.keys() - lower)
            if shared if framework else own or not shared:
                entries = specific[platform].setdefault("allow-import-errors", {})
                entries.setdefault(wheel, {}).update(errors)


def _matching(wheel: str, names: Iterable[NormalizedName]) -> bool:
    """Whether a pattern for names of wheels may be about any of `names`."""
    pattern = re.sub(r"[_.]+", "-", wheel.partition("-")[0]).lower()
    return any(fnmatchcase(name, pattern) for name in names)
