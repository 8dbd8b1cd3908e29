"""The only place that writes to stdout and stderr.

Much of the output comes from outside: names in an index, file names in a wheel, the answer of
a server. Every character that a terminal would act on is escaped here, for all commands
(`tests/unit/test_repository.py` refuses `print` elsewhere).
"""

from __future__ import annotations

import json
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackbuild.messages import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def print_lines(lines: Iterable[str]) -> None:
    """Print the result of a command to stdout; a line break inside a line is escaped."""
    for line in lines:
        print(one_line(line))


def print_json(value: object) -> None:
    """Print the result of a command to stdout as JSON, in which escapes keep the value."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=_plain)
    print("\n".join(map(_json_line, text.split("\n"))))


def print_answer(
    value: object, lines: Iterable[str], *, as_json: bool, quiet: bool = False
) -> None:
    """Print the result of a command: `value` with `as_json`, else `lines`.

    With `quiet` the lines are left out: commands pass it for a summary of what they did.
    """
    if as_json:
        print_json(value)
    elif not quiet:
        print_lines(lines)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """`rows` as lines with aligned columns."""
    # Escaped before they are measured, so that the columns align.
    rows = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def grouped(texts: Mapping[Any, Iterable[str]]) -> list[tuple[str, str]]:
    """`texts` by platform, as pairs: all platforms that have the same ones, and these."""
    platforms: dict[str, list[str]] = {}
    for platform, found in texts.items():
        for text in found:
            platforms.setdefault(text, []).append(platform)
    pairs: dict[str, list[str]] = {}
    for text, where in platforms.items():
        pairs.setdefault(", ".join(where), []).append(text)
    return [(where, ", ".join(found)) for where, found in pairs.items()]


def _plain(value: object) -> object:
    """A path as text, and a dataclass as an object with its fields."""
    if isinstance(value, Path):
        return str(value)
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    raise TypeError(f"{value!r} has no form in JSON")


def _json_line(line: str) -> str:
    # Line breaks inside strings are escaped already. What remains are non-printable
    # characters in strings, which JSON allows.
    if line.isprintable():
        return line
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in line)


def message_text(text: str) -> str:
    """A message or error for stderr; its line breaks are kept."""
    return "\n".join(map(one_line, text.split("\n")))


def print_message(text: str) -> None:
    """Print a message or an error to stderr."""
    print(message_text(text), file=sys.stderr, flush=True)
