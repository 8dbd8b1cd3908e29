"""The policy fields of `[tool.stackbuild.shared]` and `[tool.stackbuild.layers.<name>]`.

They are read into `Settings`, which keep the place of every value, so that
merging them can be explained; `spec.policy` merges them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from stackbuild.reading import Item, Table, did_you_mean
from stackbuild.spec.model import Setting
from stackbuild.spec.overlays import read_copy_files
from stackbuild.spec.values import (
    read_distribution,
    read_override,
    read_platform,
    read_requirement,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from pathlib import Path

    from stackbuild.platforms import Platform
    from stackbuild.reading import Problems
    from stackbuild.spec.model import PackageIndex, Settings

    Node = Setting | tuple[Setting, ...] | Settings

PACKAGE_ROOT = "{packageRoot}"
"""The placeholder for a layer's directory, in `config-settings`."""

_SOURCE_LISTS = ("allow-source-list", "force-no-binary-list", "only-binary-list")
_LONGEST_BUILD = 7 * 24 * 3600
_PLACEHOLDER = re.compile(r"\{[A-Za-z_-]+\}")


def read_settings(
    table: Table,
    by_platform: Callable[[Table | None], Iterable[tuple[Platform, Table]]],
    indexes: Collection[PackageIndex],
    overlays: Path | None,
) -> Settings:
    """The policy fields that `table` sets.

    `by_platform` gives the subtables of `platform-specific`; `overlays` is the
    layer's directory of overlays, None for shared fields, whose overlays are
    looked for in the directory of each layer.
    """
    specific: dict[str, Node] = {}
    for platform, entry in by_platform(table.table("platform-specific")):
        specific[str(platform)] = _set(
            ("dependencies", _dependencies(entry)),
            ("resolution", _resolution(_part(entry, "resolution"))),
            ("allow-import-errors", _import_errors(_part(entry, "allow-import-errors"))),
            ("copy-files", read_copy_files(entry, overlays)),
        )
        entry.done()
    return _set(
        ("skip", _reasons(_part(table, "skip"))),
        ("force-source", _reasons(_part(table, "force-source"))),
        ("build-wheel", _build_wheel(_part(table, "build-wheel"))),
        ("no-deps", _names(table, "no-deps")),
        ("overrides", _overrides(_part(table, "overrides"))),
        ("resolution", _resolution(_part(table, "resolution"))),
        ("registries", _registries(_part(table, "registries"), indexes)),
        ("build", _build(_part(table, "build"))),
        ("allow-import-errors", _import_errors(_part(table, "allow-import-errors"))),
        ("copy-files", read_copy_files(table, overlays)),
        ("platform-specific", specific),
    )


def _set(*entries: tuple[str, Node | None]) -> dict[str, Node]:
    """What is there at all."""
    return {key: node for key, node in entries if node}


def _part(table: Table, key: str) -> Table:
    """The table below `key`; an empty one where there is none."""
    return table.table(key) or Table({}, table.place_of(key), table.problems)


def _distributions(table: Table) -> Iterator[tuple[str, str]]:
    """The keys of a table that name distributions, each with its normalised name."""
    seen: set[str] = set()
    for key in table.values:
        name = read_distribution(Item(table.place_of(key), key), table.problems)
        if name and _is_new(name, key, table, seen):
            yield key, name


def _platforms(table: Table) -> Iterator[tuple[str, str]]:
    """The keys of a table that name platforms, each with the platform's own name."""
    seen: set[str] = set()
    for key in table.values:
        platform = read_platform(Item(table.place_of(key), key), table.problems)
        if platform and _is_new(platform, key, table, seen):
            yield key, str(platform)


def _is_new(name: str, key: str, table: Table, seen: set[str]) -> bool:
    if name in seen:
        table.problems.add(table.place_of(key), f"{name} is named already", found=key)
        return False
    seen.add(name)
    return True


def _text(table: Table, key: str, *, required: bool = False) -> Setting | None:
    text = table.text(key, required=required)
    return Setting(text, table.place_of(key)) if text is not None else None


def _reasons(table: Table) -> Settings:
    """Distribution to platform to reason."""
    found = {}
    for key, name in _distributions(table):
        entry = _part(table, key)
        found[name] = _set(
            *((platform, _text(entry, word)) for word, platform in _platforms(entry))
        )
    return found


def _build_wheel(table: Table) -> Settings:
    """Distribution to platform to the way it is built."""
    found = {}
    for key, name in _distributions(table):
        entry = _part(table, key)
        found[name] = _set(
            *((platform, _build_of(_part(entry, word))) for word, platform in _platforms(entry))
        )
    return found


def _build_of(table: Table) -> Settings:
    reason = _text(table, "reason", required=True)
    requires = tuple(
        Setting(str(requirement), item.place)
        for item in table.texts("build-requires") or ()
        if (requirement := read_requirement(item, table.problems))
    )
    settings = _config_settings(_part(table, "config-settings"))
    table.done()
    if reason is None:
        return {}
    return _set(("reason", reason), ("build-requires", requires), ("config-settings", settings))


def _config_settings(table: Table) -> Settings:
    found: dict[str, Node] = {}
    for key, value in table.values.items():
        if isinstance(value, list):
            texts = table.texts(key) or ()
            found[key] = tuple(_setting(item, table.problems) for item in texts)
        elif text := table.text(key):
            found[key] = _setting(Item(table.place_of(key), text), table.problems)
    return found


def _setting(item: Item[str], problems: Problems) -> Setting:
    """A value for a build backend; words in braces that are none of ours are the backend's."""
    for word in _PLACEHOLDER.findall(item.value):
        hint = did_you_mean(word, [PACKAGE_ROOT])
        if hint and word != PACKAGE_ROOT:
            problems.add(item.place, "unknown placeholder", found=item.value, hint=hint)
    return Setting(item.value, item.place)


def _names(table: Table, key: str) -> tuple[Setting, ...]:
    """The distributions that an array names."""
    found: dict[str, Setting] = {}
    for item in table.texts(key) or ():
        name = read_distribution(item, table.problems)
        if name in found:
            table.problems.add(item.place, "named twice", found=item.value)
        elif name is not None:
            found[name] = Setting(name, item.place)
    return tuple(found.values())


def _overrides(table: Table) -> Settings:
    """Distribution to version specifier."""
    found: dict[str, Node] = {}
    for key, name in _distributions(table):
        text = table.text(key)
        place = table.place_of(key)
        if text and (specifier := read_override(Item(place, text), table.problems)):
            found[name] = Setting(specifier, place)
    return found


def _resolution(table: Table) -> Settings:
    found = _flags(table, "allow-source-all", "strict-missing")
    found |= _set(*((key, _names(table, key)) for key in _SOURCE_LISTS))
    table.done()
    return found


def _flags(table: Table, *keys: str) -> dict[str, Node]:
    values = {key: table.flag(key, default=False) for key in keys}
    return {
        key: Setting(value, table.place_of(key)) for key, value in values.items() if table.has(key)
    }


def _registries(table: Table, indexes: Collection[PackageIndex]) -> Settings:
    """The names of indexes, each given as such or by its address."""
    known = {index.name: index.name for index in indexes if index.name}
    known |= {index.url: index.name for index in indexes if index.name}
    found: dict[str, Setting] = {}
    for item in table.texts("additional") or ():
        name = known.get(item.value)
        if name is None:
            names = list(dict.fromkeys(known.values()))
            table.problems.add(
                item.place,
                "not a package index of this file",
                expected="the name or the address of a [[tool.uv.index]] that has a name",
                found=item.value,
                hint=did_you_mean(item.value, names)
                or "write it as [[tool.uv.index]] with name, url and explicit = true, and give"
                " it its distributions in `package_indexes` of the layer",
            )
        elif name in found:
            table.problems.add(item.place, "named twice", found=item.value)
        else:
            found[name] = Setting(name, item.place)
    table.done()
    return _set(("additional", tuple(found.values())))


def _build(table: Table) -> Settings:
    found = _flags(table, "logging", "parallel-downloads")
    timeout = table.integer("timeout", default=1, low=1, high=_LONGEST_BUILD)
    if table.has("timeout"):
        found["timeout"] = Setting(timeout, table.place_of("timeout"))
    table.done()
    return found


def _import_errors(table: Table) -> Settings:
    """Glob on the name of a wheel to module to a part of the error."""
    return {
        glob: _set(*((module, _text(entry, module)) for module in entry.values))
        for glob, entry in table.subtables()
    }


def _dependencies(table: Table) -> tuple[Setting, ...]:
    found: dict[str, Setting] = {}
    for item in table.texts("dependencies") or ():
        if requirement := read_requirement(item, table.problems):
            found.setdefault(str(requirement), Setting(requirement, item.place))
    return tuple(found.values())
