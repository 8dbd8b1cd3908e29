"""Write whole TOML files in a fixed style, and find the lines of keys in others.

tomlkit is used to edit files of people. For new files it takes ten times as long, which was a third
of the processor time of `stackbuild lock`.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def section(header: str, values: Mapping[str, object], *, multiline: bool = False) -> str:
    """A table: `header` (``[tool.stackbuild]``), and a line for each of `values`.

    With `multiline` each item of a list has a line of its own.
    """
    return f"\n{header}\n{fields(values, multiline=multiline)}"


def fields(values: Mapping[str, object], *, multiline: bool = False) -> str:
    """A line for each of `values`, as `section` has them."""
    lines = []
    for key, value in values.items():
        text = inline(value)
        if multiline and value and isinstance(value, list | tuple):
            text = "[\n" + "".join(f"    {inline(item)},\n" for item in value) + "]"
        lines.append(f"{quoted_key(key)} = {text}\n")
    return "".join(lines)


def inline(value: object) -> str:
    """A text, integer, truth value, list or table on one line.

    Raises TypeError for any other value.
    """
    if isinstance(value, dict):
        pairs = (f"{quoted_key(key)} = {inline(item)}" for key, item in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(inline, value)) + "]"
    # JSON's form of the other values is valid TOML, except that TOML also escapes U+007F.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def layer_table(layer: str, *keys: str) -> str:
    """The header of the table with the settings of `layer`, or of the table at `keys` in it."""
    path = ("tool", "stackbuild", "layers", layer, *keys)
    return f"[{'.'.join(map(quoted_key, path))}]"


def quoted_key(text: str) -> str:
    """`text` as a key, quoted if that is needed."""
    return text if re.fullmatch("[A-Za-z0-9_-]+", text) else inline(text)


_STEP = re.compile(r'\.?("(?:[^"\\]|\\.)*"|[A-Za-z0-9_-]+)|\[(\d+)\]')


def line_of(text: str, place: str) -> int | None:
    """The line of the TOML file `text` where the statement begins that sets `place`.

    `place` is such as ``frameworks[1].requirements[0]``. None if nothing sets it.
    """
    import tomli

    lines = text.split("\n")
    steps = [int(number) if number else key.strip('"') for key, number in _STEP.findall(place)]

    def is_set(count: int) -> bool:
        """Whether `place` is set by the first `count` lines, and the rest of their statement."""
        for end in range(count, len(lines) + 1):
            with suppress(tomli.TOMLDecodeError):
                return _has(tomli.loads("\n".join(lines[:end])), steps)
        return False

    line = bisect_left(range(len(lines) + 1), True, key=is_set)
    return line if line <= len(lines) else None


def _has(data: Any, steps: Iterable[str | int]) -> bool:
    for step in steps:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            return False
    return True
