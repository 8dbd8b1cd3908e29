"""The effective settings of a layer on a platform, as text and as plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.spec.model import CopyFiles, Setting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stackbuild.api import Platform
    from stackbuild.api.types import Settings


def effective(layer: str, platform: Platform, settings: Settings) -> Iterator[str]:
    """A line for each value, with its place behind it."""
    yield f"{layer} on {platform}"
    rows = list(_rows(settings, "  "))
    width = max((len(text) for text, place in rows if place), default=0)
    for text, place in rows:
        yield f"{text:<{width}}  # {place}" if place else text


def _rows(settings: Settings, indent: str) -> Iterator[tuple[str, str | None]]:
    for key, node in settings.items():
        if isinstance(node, Setting):
            yield f"{indent}{key} = {_shown(node.value)}", node.place
        else:
            yield f"{indent}{key}", None
            if isinstance(node, tuple):
                yield from ((f"{indent}  {_shown(item.value)}", item.place) for item in node)
            else:
                yield from _rows(node, f"{indent}  ")


def _shown(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case CopyFiles():
            return overlay_text(value)
        case _:
            return str(value)


def as_json(settings: Settings) -> dict[str, object]:
    """Each value as ``{"value": …, "from": place}``, in its tables and arrays."""
    plain: dict[str, object] = {}
    for key, node in settings.items():
        if isinstance(node, Setting):
            plain[key] = _entry(node)
        elif isinstance(node, tuple):
            plain[key] = [_entry(item) for item in node]
        else:
            plain[key] = as_json(node)
    return plain


def overlay_text(copy: CopyFiles, where: str = "") -> str:
    """An entry of `copy-files` as text; `where` names its platform."""
    overwriting = ", overwriting" if copy.overwrite else ""
    ignored = ", including files that git ignores" if copy.include_ignored else ""
    return f"{copy.source} to {copy.target}{where}{overwriting}{ignored}"


def _entry(setting: Setting) -> dict[str, object]:
    value = setting.value
    if isinstance(value, CopyFiles):
        value = value.as_entry()
    elif not isinstance(value, bool | int):
        value = str(value)
    return {"value": value, "from": setting.place}
