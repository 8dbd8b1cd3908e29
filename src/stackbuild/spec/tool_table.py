"""`[tool.stackbuild]`: what stackbuild adds to the format of venvstacks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar, cast, get_args

from stackbuild.spec.fields import Item, Table, did_you_mean
from stackbuild.spec.model import Download, FrameSettings, LayerKind, RuntimeSettings, RuntimeSource
from stackbuild.spec.overlays import read_copy_files
from stackbuild.spec.values import (
    in_order,
    read_address,
    read_platform,
    read_platforms,
    read_sha256,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from packaging.utils import NormalizedName

    from stackbuild.platforms import Platform
    from stackbuild.spec.model import CopyFiles, Layer

T = TypeVar("T", bound=str)

_SOURCES: tuple[RuntimeSource, ...] = get_args(RuntimeSource)
_LEFT_OUT_BY_DEFAULT = cast("tuple[NormalizedName, ...]", ("pip", "setuptools", "wheel"))

_LATER = ("build", "registries", "shared")
_LATER_OF_LAYERS = (
    "allow-import-errors",
    "build-wheel",
    "force-source",
    "no-deps",
    "overrides",
    "registries",
    "resolution",
    "skip",
)
_LATER_OF_PLATFORMS = ("dependencies", "resolution")
_NOT_YET = "not supported yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolTable:
    """What the table says."""

    platforms: tuple[Platform, ...]
    frames: FrameSettings
    layers: Mapping[str, Layer]
    """The layers it was given, with what the table adds to them."""


def read_tool_table(table: Table, layers: Mapping[str, Layer], overlays: Path) -> ToolTable:
    """Read and check `[tool.stackbuild]`.

    `overlays` is the directory with a directory of overlays for each of the
    `layers`.
    """
    platforms = _platforms(table, layers)
    frames = _frames(table.table("frames"))
    changed = dict(layers)
    entries = table.table("layers")
    for name, entry in entries.subtables() if entries else ():
        if name in layers:
            changed[name] = _layer(entry, layers[name], overlays)
        else:
            hint = did_you_mean(name, layers)
            table.problems.add(entry.place, "no layer has this name", hint=hint)
    for key in _LATER:
        table.refuse(key, _NOT_YET)
    table.done()
    return ToolTable(platforms=platforms, frames=frames, layers=changed)


def _platforms(table: Table, layers: Mapping[str, Layer]) -> tuple[Platform, ...]:
    made = {platform for layer in layers.values() for platform in layer.platforms}
    items = read_platforms(table, "platforms")
    if items is None:
        return in_order(made)
    if not items and table.values["platforms"] == []:
        table.problems.add(table.place_of("platforms"), "empty", expected="at least one platform")
    for item in items:
        if layers and item.value not in made:
            table.problems.add(
                item.place,
                f"no layer is made for {item.value}",
                hint="add it to `platforms` of the layers",
            )
    return in_order(item.value for item in items)


def _frames(table: Table | None) -> FrameSettings:
    if table is None:
        return FrameSettings()
    default = FrameSettings()
    settings = FrameSettings(
        level=table.integer("level", default=default.level, low=1, high=22),
        bytecode=table.flag("bytecode", default=default.bytecode),
    )
    table.done()
    return settings


def _layer(table: Table, layer: Layer, overlays: Path) -> Layer:
    settings = None
    if layer.kind is LayerKind.RUNTIME:
        settings = _runtime_settings(table, layer, overlays.parent)
    else:
        for key in ("sources", "mirror", "path", "keep", "downloads"):
            table.refuse(key, f"only for a runtime, and {layer.name} is not one")
    directory = overlays / layer.name
    changed = replace(
        layer,
        copy_files=read_copy_files(table, directory),
        platform_copy_files=_platform_copy_files(
            table.table("platform-specific"), layer, directory
        ),
        runtime_settings=settings,
    )
    for key in _LATER_OF_LAYERS:
        table.refuse(key, _NOT_YET)
    table.done()
    return changed


def _platform_copy_files(
    table: Table | None, layer: Layer, directory: Path
) -> dict[Platform, tuple[CopyFiles, ...]]:
    found = {}
    for platform, entry in _by_platform(table, layer):
        found[platform] = read_copy_files(entry, directory)
        for key in _LATER_OF_PLATFORMS:
            entry.refuse(key, _NOT_YET)
        entry.done()
    return found


def _by_platform(table: Table | None, layer: Layer) -> Iterator[tuple[Platform, Table]]:
    """The subtables of a table whose keys are platforms of `layer`."""
    seen: set[Platform] = set()
    for key, entry in table.subtables() if table else ():
        platform = read_platform(Item(entry.place, key), entry.problems)
        if platform is None:
            continue
        if platform in seen:
            entry.problems.add(entry.place, f"{platform} has a table already")
        elif platform not in layer.platforms:
            entry.problems.add(entry.place, f"{layer.name} is not made for {platform}")
        else:
            yield platform, entry
        seen.add(platform)


def _runtime_settings(table: Table, layer: Layer, project: Path) -> RuntimeSettings:
    sources = _words(table, "sources", _SOURCES)
    if table.values.get("sources") == []:
        table.problems.add(
            table.place_of("sources"), "empty", expected=f"one of {', '.join(_SOURCES)}"
        )
    path = table.text("path")
    downloads = {
        platform: download
        for platform, entry in _by_platform(table.table("downloads"), layer)
        if (download := _download(entry))
    }
    return RuntimeSettings(
        sources=sources or RuntimeSettings().sources,
        mirror=read_address(table, "mirror"),
        path=project / path if path else None,
        downloads=downloads,
        keep=_words(table, "keep", _LEFT_OUT_BY_DEFAULT) or (),
    )


def _download(table: Table) -> Download | None:
    url = read_address(table, "url", required=True)
    sha256 = read_sha256(table, "sha256")
    table.done()
    return Download(url=url, sha256=sha256) if url and sha256 else None


def _words(table: Table, key: str, valid: Sequence[T]) -> tuple[T, ...] | None:
    """Each of the `valid` words that an array names, in its order; None without an array."""
    items = table.texts(key)
    if items is None:
        return None
    found: list[T] = []
    for item in items:
        if item.value in found:
            table.problems.add(item.place, "named twice", found=item.value)
        elif item.value in valid:
            found.append(valid[valid.index(item.value)])
        else:
            table.problems.add(
                item.place,
                "unknown value",
                expected=f"one of {', '.join(valid)}",
                found=item.value,
                hint=did_you_mean(item.value, valid),
            )
    return tuple(found)
