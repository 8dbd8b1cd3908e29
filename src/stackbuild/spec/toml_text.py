"""The text of a `venvstacks.toml` that stackbuild writes, or of a part of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tomlkit.items import AoT, Array, InlineTable, Table

_INLINE = ("copy-files", "resolution", "build", "overrides", "registries", "config-settings")
"""Tables that are short enough for one line."""
_LINE = 88
"""Arrays longer than this have a line for each value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerText:
    """One of `[[runtimes]]`, `[[frameworks]]` or `[[applications]]`."""

    fields: Mapping[str, Any]
    """Text, lists and tables, in the order of the file."""
    comment: str | None = None
    """Stands behind the name."""


def spec_text(
    layers: Mapping[str, Sequence[LayerText]],
    *,
    indexes: Sequence[Mapping[str, Any]] = (),
    shared: Mapping[str, Any] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    header: Sequence[str] = (),
) -> str:
    """The text of a spec.

    `layers` are by the array that they stand in; `indexes` are `[[tool.uv.index]]`, `shared` is
    `[tool.stackbuild.shared]`, and `settings` are the tables below `[tool.stackbuild.layers]`.
    Arrays and tables without entries are left out.
    """
    import tomlkit

    document = tomlkit.document()
    for line in header:
        document.add(tomlkit.comment(line))
    if header:
        document.add(tomlkit.nl())
    for key, items in layers.items():
        if items:
            document[key] = _array_of_tables(items)
    tables = _array_of_tables([LayerText(fields=fields) for fields in indexes])
    below = _super({name: _settings(table) for name, table in (settings or {}).items()})
    own = _super({"shared": _settings(shared or {}), "layers": below})
    tool = _super({"uv": _super({"index": tables}), "stackbuild": own})
    if len(tool):
        document["tool"] = tool
    return tomlkit.dumps(document)


def _super(tables: Mapping[str, Table | AoT]) -> Table:
    """A table without a header of its own, with those of `tables` that are not empty."""
    import tomlkit

    table = tomlkit.table(is_super_table=True)
    for name, value in tables.items():
        if len(value):
            table[name] = value
    return table


def _array_of_tables(items: Sequence[LayerText]) -> AoT:
    import tomlkit

    array = tomlkit.aot()
    for item in items:
        table = tomlkit.table()
        for key, value in item.fields.items():
            table[key] = _value(value)
        if item.comment:
            table["name"].comment(" ".join(item.comment.split()))
        array.append(table)
    return array


def _settings(values: Mapping[str, Any], key: str = "") -> Table:
    """A table. Tables in it have headers of their own, except for short ones."""
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
