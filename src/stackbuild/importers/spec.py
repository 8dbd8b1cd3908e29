"""The text of the `venvstacks.toml` that an older repository becomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stackbuild.platforms import DEFAULT_PLATFORMS, Platform
from stackbuild.spec.model import LayerKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from packaging.utils import NormalizedName
    from packaging.version import Version
    from tomlkit import TOMLDocument
    from tomlkit.items import Array, InlineTable, Table

    from stackbuild.importers.plan import Planned
    from stackbuild.spec.model import PackageIndex

_INLINE = ("copy-files", "resolution", "build", "overrides", "registries", "config-settings")
"""Tables that are short enough for one line."""
_HEADER = (
    "Imported by `stackbuild import runenv`, and yours to change from here on.",
    "`stackbuild show` prints the layers as a tree, `stackbuild lock` locks them.",
)
LAUNCH_FILE = "launch/run_environment.py"
"""The launch module of every application: venvstacks asks for one."""
LAUNCH_TEXT = '''\
"""Runs the script named first, with the arguments after it; without any, a console."""

import code
import runpy
import sys

if len(sys.argv) > 1:
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
else:
    code.interact()
'''
_LINE = 88
"""Arrays longer than this have a line for each value."""


def runtime_names(versions: Sequence[Version]) -> dict[Version, str]:
    """The runtimes' names: the minor version, or all of it where two have the same."""
    minors = [(version.major, version.minor) for version in versions]
    return {
        version: f"cpython-{version}"
        if minors.count((version.major, version.minor)) > 1
        else f"cpython-{version.major}.{version.minor}"
        for version in versions
    }


def stack_text(
    layers: Sequence[Planned],
    comments: Mapping[str, str],
    indexes: Sequence[PackageIndex],
    package_indexes: Mapping[str, Mapping[NormalizedName, str]],
    shared: Mapping[str, Any],
    settings: Mapping[str, Mapping[str, Any]],
) -> str:
    """The file; `comments`, `package_indexes` and `settings` are by layer."""
    import tomlkit

    document = tomlkit.document()
    for line in _HEADER:
        document.add(tomlkit.comment(line))
    document.add(tomlkit.nl())
    versions = sorted({layer.python for layer in layers}, reverse=True)
    runtimes = runtime_names(versions)
    _append(
        document,
        "runtimes",
        [_runtime(runtimes[version], version, layers) for version in versions],
    )
    chains = {layer.name: layer.frameworks for layer in layers}
    for kind in (LayerKind.FRAMEWORK, LayerKind.APPLICATION):
        tables = []
        for layer in layers:
            if layer.kind is kind:
                table = _layer(layer, runtimes[layer.python], chains)
                if text := comments.get(layer.name):
                    table["name"].comment(" ".join(text.split()))
                if given := package_indexes.get(layer.name):
                    table["package_indexes"] = _inline(given)
                tables.append(table)
        _append(document, f"{kind}s", tables)
    tool = _tool(indexes, shared, settings)
    if len(tool):
        document["tool"] = tool
    return tomlkit.dumps(document)


def _append(document: TOMLDocument, key: str, tables: Sequence[Table]) -> None:
    import tomlkit

    if tables:
        array = tomlkit.aot()
        for table in tables:
            array.append(table)
        document[key] = array


def _tool(
    indexes: Sequence[PackageIndex],
    shared: Mapping[str, Any],
    settings: Mapping[str, Mapping[str, Any]],
) -> Table:
    import tomlkit

    tool = tomlkit.table(is_super_table=True)
    if indexes:
        tool["uv"] = _indexes(indexes)
    own = tomlkit.table(is_super_table=True)
    if shared:
        own["shared"] = _settings(shared)
    if any(settings.values()):
        layers = tomlkit.table(is_super_table=True)
        for name, values in settings.items():
            if values:
                layers[name] = _settings(values)
        own["layers"] = layers
    if len(own):
        tool["stackbuild"] = own
    return tool


def _runtime(name: str, version: Version, layers: Sequence[Planned]) -> Table:
    import tomlkit

    table = tomlkit.table()
    table["name"] = name
    table["python_implementation"] = f"cpython@{version}"
    made = {p for layer in layers if layer.python == version for p in layer.platforms}
    if not made <= set(DEFAULT_PLATFORMS):
        table["platforms"] = _array(
            [p.venvstacks_name for p in Platform if p in made or p in DEFAULT_PLATFORMS]
        )
    table["requirements"] = _array([])
    return table


def _layer(layer: Planned, runtime: str, chains: Mapping[str, tuple[str, ...]]) -> Table:
    import tomlkit

    table = tomlkit.table()
    table["name"] = layer.name
    implied = {name for below in layer.frameworks for name in chains[below]}
    frameworks = [name for name in layer.frameworks if name not in implied]
    if frameworks:
        table["frameworks"] = _array(frameworks)
    else:
        table["runtime"] = runtime
    if layer.kind is LayerKind.APPLICATION:
        table["launch_module"] = LAUNCH_FILE
    if layer.platforms != DEFAULT_PLATFORMS:
        table["platforms"] = _array([platform.venvstacks_name for platform in layer.platforms])
    table["requirements"] = _array(layer.general())
    return table


def _indexes(indexes: Sequence[PackageIndex]) -> Table:
    import tomlkit

    uv = tomlkit.table(is_super_table=True)
    tables = tomlkit.aot()
    for index in indexes:
        table = tomlkit.table()
        for key, value in (
            ("name", index.name),
            ("url", index.url),
            ("default", index.default),
            ("explicit", index.explicit),
        ):
            if value:
                table[key] = value
        tables.append(table)
    uv["index"] = tables
    return uv


def _settings(values: Mapping[str, Any], key: str = "") -> Table:
    """A table whose tables of tables have headers of their own."""
    import tomlkit

    plain = {k: v for k, v in values.items() if not isinstance(v, dict) or k in _INLINE}
    table = tomlkit.table(is_super_table=not plain)
    for name, value in plain.items():
        table[name] = _value(value)
    for name, value in values.items():
        if name in plain:
            continue
        deep = any(isinstance(item, dict) for item in value.values())
        flat = key in ("skip", "force-source") or (not deep and key != "platform-specific")
        table[name] = _inline(value) if flat and key else _settings(value, name)
    return table


def _value(value: object) -> object:
    if isinstance(value, dict):
        return _inline(value)
    return _array(value) if isinstance(value, list) else value


def _inline(values: Mapping[Any, Any]) -> InlineTable:
    import tomlkit

    table = tomlkit.inline_table()
    for key, value in values.items():
        table[str(key)] = _value(value)
    return table


def _array(values: Sequence[object]) -> Array:
    import tomlkit

    array = tomlkit.array()
    for value in values:
        array.append(_value(value))
    long = sum(len(str(value)) + 4 for value in values) > _LINE
    return array.multiline(long or any(isinstance(value, dict) for value in values))
