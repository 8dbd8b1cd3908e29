"""`[tool.stackbuild]`: the additions of stackbuild to the format of venvstacks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar, cast, get_args

from stackbuild.platforms import DEFAULT_PLATFORMS
from stackbuild.reading import Item, did_you_mean
from stackbuild.spec.model import (
    Catalogue,
    CheckSettings,
    Download,
    FrameSettings,
    LayerKind,
    RuntimeSettings,
    RuntimeSource,
    SiblingConflicts,
)
from stackbuild.spec.overlays import check_copy_files, check_directories
from stackbuild.spec.policy import (
    check_registries,
    merge,
    on_platform,
    read_settings,
    with_policy,
)
from stackbuild.spec.settings import Context, as_written
from stackbuild.spec.table import Problems, Table, join
from stackbuild.spec.values import as_address, as_index, as_platform, as_sha256, in_order
from stackbuild.variables import LONGEST, as_variable, case_clashes, merged

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from packaging.utils import NormalizedName

    from stackbuild.platforms import Platform
    from stackbuild.spec.layers import LayerReader
    from stackbuild.spec.model import Layer, PackageIndex, Setting, Settings
    from stackbuild.spec.uv_table import UvTable

T = TypeVar("T", bound=str)

_SOURCES: tuple[RuntimeSource, ...] = get_args(RuntimeSource)
_SIBLING_CONFLICTS: tuple[SiblingConflicts, ...] = get_args(SiblingConflicts)
_LEFT_OUT_BY_DEFAULT = cast("tuple[NormalizedName, ...]", ("pip", "setuptools", "wheel"))

_SHARED = "shared"
_HOST_LIBRARIES = "host-libraries"
_ELSEWHERE = ("build", "registries")
_CATALOGUE = "catalogue"
_SHOWN = (
    *("sources", "mirror", "path", "keep", "downloads"),
    *("sibling-conflicts", _CATALOGUE, "verify"),
)
"""The settings of one layer that are no policy; `show --effective` prints them, too."""
_COMMON = ("sibling-conflicts", "index-platforms")
"""The same of all layers."""
_LONGEST_IMPORT = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolTable:
    """The contents of the table."""

    platforms: tuple[Platform, ...]
    frames: FrameSettings
    local_wheels: tuple[str, ...]
    index_platforms: Mapping[str, tuple[Platform, ...]]
    layers: Mapping[str, Layer]
    """The layers, completed by their settings in the table."""


def read_tool_table(table: Table, reader: LayerReader, overlays: Path, uv: UvTable) -> ToolTable:
    """Read and check `[tool.stackbuild]`.

    `reader` has read the layers of the file, and `overlays` contains a directory of overlays
    for each of them; `uv` is `[tool.uv]`.
    """
    layers, indexes = reader.layers, uv.indexes
    platforms = _platforms(table, layers, reader.named_platforms)
    frames = _frames(table.part("frames"))
    local_wheels = tuple(item.value for item in table.texts("local-wheels") or ())
    served = table.part("index-platforms")
    index_platforms: dict[str, tuple[Platform, ...]] = {}
    for key, name in served.names(as_index(uv.index_names)):
        _refuse_empty(served, key, "at least one platform")
        items = served.distinct(key, as_platform) or ()
        index_platforms[name] = in_order(item.value for item in items)
    common = table.part(_SHARED)
    given = read_settings(common, _by_any_platform, Context(indexes=indexes))
    common.done()
    plain = cast("Mapping[str, Setting]", uv.policy.get("overrides", {}))
    _check_overrides(given, {**uv.overrides, **plain}, table.problems)
    shared = merge(uv.policy, given)
    conflicts = table.word("sibling-conflicts", _conflicts) or "error"
    common_settings = as_written(table, _COMMON)
    changed = {
        name: replace(
            layer, sibling_conflicts=conflicts, settings={**layer.settings, **common_settings}
        )
        for name, layer in layers.items()
    }
    own: dict[str, Settings] = {}
    entries = table.part("layers")
    for name, entry in entries.subtables():
        if name in layers:
            changed[name], own[name] = _layer(entry, changed[name], indexes, overlays)
            _check_overrides(own[name], uv.overrides, table.problems)
            chosen = entry.word("sibling-conflicts", _conflicts)
            changed[name] = replace(
                changed[name],
                sibling_conflicts=chosen or conflicts,
                catalogue=_read_catalogue(entry.part(_CATALOGUE), name, layers),
                checks=_read_checks(entry.part("verify")),
                settings={**changed[name].settings, **as_written(entry, _SHOWN)},
            )
            for key in ("version", "deprecated", "superseded-by"):
                entry.refuse(key, f"belongs in [{entry.place_of(_CATALOGUE)}]")
            entry.done()
        else:
            hint = did_you_mean(name, layers)
            table.problems.add(entry.place, "no layer has this name", hint=hint)
    _check_successors({name: layer.catalogue for name, layer in changed.items()}, entries)
    for key in _ELSEWHERE:
        table.refuse(key, f"belongs in [{table.place_of(_SHARED)}] or in the table of a layer")
    table.done()
    check_directories(layers, overlays, table.problems)
    for name, layer in changed.items():
        _check_shared_overlays(shared, layer, overlays, table.problems)
        changed[name] = with_policy(layer, merge(shared, own.get(name, {})))
    check_registries(changed.values(), table.problems)
    _check_variables(changed, entries)
    return ToolTable(
        platforms=platforms,
        frames=frames,
        local_wheels=local_wheels,
        index_platforms=index_platforms,
        layers=changed,
    )


def _check_overrides(settings: Settings, others: Mapping[str, Setting], problems: Problems) -> None:
    """Report `overrides` in `settings` that differ from those `others`, of `[tool.uv]`."""
    for name, setting in cast("Mapping[str, Setting]", settings.get("overrides", {})).items():
        if name in others and others[name].value != setting.value:
            problems.add(
                setting.place,
                f"{name} is overridden in {others[name].place} already",
                expected=str(others[name].value),
                found=setting.value,
                hint="remove one of the two",
            )


def _check_variables(layers: Mapping[str, Layer], table: Table) -> None:
    """Report variables of a chain that are too long, or one on Windows; `table` is `layers`."""
    for name, layer in layers.items():
        for platform in layer.platforms:
            # A reference to a layer that does not exist is reported elsewhere.
            chain = [layers[one] for one in (*layer.lower, name) if one in layers]
            of_chain = merged(one.policy(platform).environment for one in chain)
            of_builds = layer.policy(platform).build.environment
            for key, variables, where in (
                ("environment", of_chain, "all layers of the chain"),
                ("build.environment", of_builds, "the spec"),
            ):
                place = f"{join(table.place, name)}.{key}"
                for first, second in case_clashes(variables) if platform.os == "windows" else ():
                    table.problems.add(
                        place,
                        f"{first} and {second} are one variable on {platform}",
                        hint=f"write the name in one way in {where}",
                    )
                for word, variable in variables.items():
                    size = len(f"{word}={variable.on('', ':')}".encode())
                    limit = LONGEST.get(platform.os, size)
                    if size > limit:
                        table.problems.add(
                            f"{place}.{word}",
                            f"{size} bytes with the name; {platform} does not start programs then",
                            expected=f"at most {limit} bytes from {where}",
                        )


def _conflicts(item: Item[str]) -> SiblingConflicts:
    return item.word_of(_SIBLING_CONFLICTS)


def _check_shared_overlays(
    shared: Settings, layer: Layer, overlays: Path, problems: Problems
) -> None:
    for platform in layer.platforms:
        entries = cast("tuple[Setting, ...]", on_platform(shared, platform).get("copy-files", ()))
        found = Problems()
        check_copy_files(entries, overlays / layer.name, found)
        problems.found += [problem for problem in found.found if problem not in problems.found]


def _platforms(
    table: Table, layers: Mapping[str, Layer], named: Collection[Platform]
) -> tuple[Platform, ...]:
    """The platforms that commands work on; `named` are those that a layer names.

    By default windows-aarch64 is one only where it is named, as few distributions have wheels for
    it, and only if a layer that no other needs is made for it: a framework may name more platforms
    than the applications above it can have.
    """
    made = {platform for layer in layers.values() for platform in layer.platforms}
    items = table.distinct("platforms", as_platform)
    if items is None:
        # An application without platforms is switched off, and needs nothing.
        needed = {name for layer in layers.values() if layer.platforms for name in layer.lower}
        tops = (layer for name, layer in layers.items() if name not in needed)
        used = {platform for layer in tops for platform in layer.platforms}
        return in_order(made.intersection({*DEFAULT_PLATFORMS, *used.intersection(named)}))
    _refuse_empty(table, "platforms", "at least one platform")
    for item in items:
        if layers and item.value not in made:
            table.problems.add(
                item.place,
                f"no layer is made for {item.value}",
                hint="add it to `platforms` of the layers",
            )
    return in_order(item.value for item in items)


def _frames(table: Table) -> FrameSettings:
    default = FrameSettings()
    settings = FrameSettings(
        level=table.integer("level", default=default.level, low=1, high=22),
        bytecode=table.flag("bytecode", default=default.bytecode),
        patches=table.integer("patches", default=default.patches, low=0, high=10),
    )
    table.done()
    return settings


def _layer(
    table: Table, layer: Layer, indexes: Collection[PackageIndex], overlays: Path
) -> tuple[Layer, Settings]:
    runtime = None
    if layer.kind is LayerKind.RUNTIME:
        runtime = _runtime_settings(table, layer, overlays.parent)
    else:
        for key in ("sources", "mirror", "path", "keep", "downloads"):
            table.refuse(key, f"only for a runtime, and {layer.name} is not one")
    context = Context(indexes=indexes, overlays=overlays / layer.name)
    settings = read_settings(table, lambda entry: _by_platform(entry, layer), context)
    return replace(layer, runtime_settings=runtime), settings


def _by_platform(table: Table, layer: Layer) -> Iterator[tuple[Platform, Table]]:
    """The subtables of a table whose keys are platforms of `layer`."""
    for platform, entry in _by_any_platform(table):
        if platform in layer.platforms:
            yield platform, entry
        else:
            entry.problems.add(entry.place, f"{layer.name} is not made for {platform}")


def _by_any_platform(table: Table) -> Iterator[tuple[Platform, Table]]:
    """The subtables of a table whose keys are platforms."""
    for key, platform in table.names(as_platform):
        if entry := table.table(key):
            yield platform, entry


def _runtime_settings(table: Table, layer: Layer, project: Path) -> RuntimeSettings:
    sources = _words(table, "sources", _SOURCES)
    _refuse_empty(table, "sources", f"one of {', '.join(_SOURCES)}")
    path = table.text("path")
    downloads = {
        platform: download
        for platform, entry in _by_platform(table.part("downloads"), layer)
        if (download := _download(entry))
    }
    return RuntimeSettings(
        sources=sources or RuntimeSettings().sources,
        mirror=table.word("mirror", as_address),
        path=project / path if path else None,
        downloads=downloads,
        keep=_words(table, "keep", _LEFT_OUT_BY_DEFAULT),
    )


def _refuse_empty(table: Table, key: str, expected: str) -> None:
    if table.values.get(key) == []:
        table.problems.add(table.place_of(key), "empty", expected=expected)


def _words(table: Table, key: str, valid: Sequence[T]) -> tuple[T, ...]:
    items = table.distinct(key, lambda item: item.word_of(valid)) or ()
    return tuple(item.value for item in items)


def _download(table: Table) -> Download | None:
    url = table.word("url", as_address, required=True)
    sha256 = table.word("sha256", as_sha256, required=True)
    libraries = tuple(item.value for item in table.texts(_HOST_LIBRARIES) or ())
    table.done()
    return Download(url=url, sha256=sha256, host_libraries=libraries) if url and sha256 else None


def _read_catalogue(table: Table, name: str, layers: Collection[str]) -> Catalogue:
    """The table `catalogue` of the layer `name`."""
    successor = table.text("superseded-by")
    if successor is not None and (successor == name or successor not in layers):
        problem = "a layer cannot supersede itself" if successor == name else "no such layer"
        others = [layer for layer in layers if layer != name]
        hint = did_you_mean(successor, others)
        table.problems.add(table.place_of("superseded-by"), problem, found=successor, hint=hint)
    catalogue = Catalogue(
        title=table.text("title"),
        description=table.text("description"),
        version=table.text("version"),
        deprecated=table.text("deprecated"),
        superseded_by=successor,
    )
    table.done()
    return catalogue


def _check_successors(catalogues: Mapping[str, Catalogue], table: Table) -> None:
    """Report layers that supersede each other; `table` contains the tables of the layers."""
    settled: set[str] = set()
    for name in catalogues:
        way = [name]
        while (successor := catalogues[way[-1]].superseded_by) in catalogues:
            if successor in way or successor in settled:
                break
            way.append(str(successor))
        if successor == name and len(way) > 1:
            place = join(join(join(table.place, name), _CATALOGUE), "superseded-by")
            circle = " -> ".join([*way, name])
            table.problems.add(place, "layers supersede each other", found=circle)
            settled.update(way)


def _read_checks(table: Table) -> CheckSettings:
    """The table `verify` of a layer."""
    environment = dict(table.pairs("environment"))
    for name, item in environment.items():
        table.checked(Item(item.place, name), as_variable)
    default = CheckSettings()
    limit = table.integer("time-limit", default=default.time_limit, low=1, high=_LONGEST_IMPORT)
    settings = CheckSettings(
        skip_modules=tuple(item.value for item in table.texts("skip-modules") or ()),
        host_libraries=tuple(item.value for item in table.texts(_HOST_LIBRARIES) or ()),
        allow_paths=tuple(item.value for item in table.texts("allow-paths") or ()),
        environment={name: item.value for name, item in environment.items()},
        time_limit=limit,
    )
    table.done()
    return settings
