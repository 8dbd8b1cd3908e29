"""Writes the text of a `venvstacks.toml`, or of a part of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stackbuild.tomltext import fields, quoted_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_INLINE = ("copy-files", "resolution", "build", "overrides", "registries", "config-settings")
"""Tables that are short enough for one line."""
_LINES = ("skip", "exclude", "force-source", "environment", "index-platforms")
"""Tables whose entries have a line each."""
_LINE = 88
"""Lists longer than this have a line for each item."""


def spec_text(
    layers: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    indexes: Sequence[Mapping[str, Any]] = (),
    tool: Mapping[str, Any] | None = None,
    shared: Mapping[str, Any] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    header: Sequence[str] = (),
) -> str:
    """The text of a spec.

    `layers` are by the array that contains them, their fields in the order of the file; `indexes`
    are `[[tool.uv.index]]`, `tool` is `[tool.stackbuild]`, `shared` is `[tool.stackbuild.shared]`,
    and `settings` are the tables below `[tool.stackbuild.layers]`.
    """
    parts = ["".join(f"# {line}\n" for line in header)]
    parts += [f"[[{key}]]\n{_fields(item)}" for key, items in layers.items() for item in items]
    parts += [f"[[tool.uv.index]]\n{_fields(index)}" for index in indexes]
    parts += _sections("tool.stackbuild", tool or {})
    parts += _sections("tool.stackbuild.shared", shared or {})
    for name, table in (settings or {}).items():
        parts += _sections(f"tool.stackbuild.layers.{quoted_key(name)}", table)
    return "\n".join(filter(None, parts))


def _sections(header: str, values: Mapping[str, Any], key: str = "") -> Iterator[str]:
    """A table, and those in it that have headers of their own."""

    def is_inline(name: str, value: object) -> bool:
        if not isinstance(value, dict) or name in _INLINE or key in _LINES:
            return True
        deep = any(isinstance(item, dict) for item in value.values())
        return bool(key) and key != "platform-specific" and not deep

    inline = {name: value for name, value in values.items() if is_inline(name, value)}
    if inline:
        yield f"[{header}]\n{_fields(inline)}"
    for name, value in values.items():
        if name not in inline:
            yield from _sections(f"{header}.{quoted_key(name)}", value, name)


def _fields(values: Mapping[str, Any]) -> str:
    return "".join(fields({key: value}, multiline=_is_long(value)) for key, value in values.items())


def _is_long(value: object) -> bool:
    return isinstance(value, list) and (
        any(isinstance(item, dict) for item in value)
        or sum(len(str(item)) + 4 for item in value) > _LINE
    )
