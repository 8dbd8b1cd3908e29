"""Typed values out of parsed TOML; what is wrong is collected, not raised.

A `Table` is asked for its keys one by one. Each answer is a value of the type
that was asked for, or a harmless one after a `Problem` has been noted; so the
whole file is read in one go, and all its problems are told at once.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Generic, TypeVar

from stackbuild.errors import Problem
from stackbuild.platforms import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

T = TypeVar("T")

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_UNSAFE_TEXT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_CREDENTIALS = re.compile(r"(?<=://)[^/\n]*@")
_LONGEST_SHOWN = 70
_LONGEST_TEXT = 4000
"""In characters; below what a path or a number in a requirement may have."""


class Problems:
    """The problems found so far, in the order of reading."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def add(
        self,
        place: str,
        message: str,
        *,
        expected: str | None = None,
        found: object | None = None,
        hint: str | None = None,
    ) -> None:
        """Note a problem; `found` is the offending value itself."""
        self.found.append(
            Problem(
                place=place,
                message=message,
                expected=expected,
                found=None if found is None else shown(found),
                hint=hint,
            )
        )


def redacted(text: str) -> str:
    """`text` with the user and password of an address made unreadable."""
    return _CREDENTIALS.sub("***@", text)


def shown(value: object) -> str:
    """`value` as a message shows it: short, on one line, without credentials."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            text = repr(redacted(value))
            return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"
        case int():
            return str(value) if value.bit_length() <= 64 else "a very large integer"
        case float():
            return repr(value)
        case list() | dict():
            return "an array" if isinstance(value, list) else "a table"
        case _:
            return "a date or time"


def did_you_mean(name: str, valid: Iterable[str]) -> str | None:
    """A hint with the nearest valid name, if there is one near enough."""
    guess = nearest(name, valid)
    return f"did you mean {guess!r}?" if guess else None


def why(error: OSError) -> str:
    """Why a file cannot be used, as the end of a sentence."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "does not exist"
    return f"cannot be read ({error.strerror})"


def mode_of(path: Path) -> int:
    """The `st_mode` of what is at `path`; 0 where that is nothing, or cannot be known."""
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def join(place: str, key: str) -> str:
    """The place of `key` in the table at `place`, quoted where TOML needs it."""
    word = key
    if not _BARE_KEY.fullmatch(key):
        text = shown(key)[1:-1].replace('"', '\\"')
        word = f'"{text}"'
    return f"{place}.{word}" if place else word


class Item(Generic[T]):
    """A value with its place."""

    __slots__ = ("place", "value")

    def __init__(self, place: str, value: T) -> None:
        self.place = place
        self.value = value


class Table:
    """A TOML table that is read key by key.

    `done` reports the keys that nobody asked for, so the code that reads a
    table is also the list of what the table may hold.
    """

    def __init__(self, values: Mapping[str, object], place: str, problems: Problems) -> None:
        self.values = values
        self.place = place
        self.problems = problems
        self._known: set[str] = set()
        self._silent: set[str] = set()

    def place_of(self, key: str) -> str:
        """Where `key` stands in the file."""
        return join(self.place, key)

    def has(self, key: str) -> bool:
        """Whether the file sets `key`."""
        return key in self.values

    def _get(self, key: str) -> object | None:
        self._known.add(key)
        return self.values.get(key)

    def _wrong_type(self, place: str, expected: str, value: object) -> None:
        self.problems.add(place, "wrong type", expected=expected, found=value)

    def missing(self, key: str, expected: str) -> None:
        """Report that a required `key` is not there."""
        self.problems.add(self.place_of(key), "missing", expected=expected)

    def text(self, key: str, *, required: bool = False) -> str | None:
        """A string that is not empty, or None."""
        value = self._get(key)
        if value is None:
            if required:
                self.missing(key, "a string")
            return None
        return self._checked_text(self.place_of(key), value)

    def _checked_text(self, place: str, value: object) -> str | None:
        if not isinstance(value, str):
            self._wrong_type(place, "a string", value)
        elif not value.strip():
            self.problems.add(place, "empty", expected="some text")
        elif len(value) > _LONGEST_TEXT:
            self.problems.add(place, f"longer than {_LONGEST_TEXT} characters", found=value)
        elif _UNSAFE_TEXT.search(value):
            self.problems.add(place, "holds a control character", found=value)
        else:
            return value
        return None

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false."""
        value = self._get(key)
        if value is None or isinstance(value, bool):
            return default if value is None else value
        self._wrong_type(self.place_of(key), "true or false", value)
        return default

    def integer(self, key: str, *, default: int, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        value = self._get(key)
        if value is None:
            return default
        expected = f"a whole number from {low} to {high}"
        if not isinstance(value, int) or isinstance(value, bool):
            self._wrong_type(self.place_of(key), expected, value)
        elif not low <= value <= high:
            self.problems.add(self.place_of(key), "out of range", expected=expected, found=value)
        else:
            return value
        return default

    def array(self, key: str, expected: str) -> list[Item[object]] | None:
        """The values of an array, of any type, or None where there is none."""
        value = self._get(key)
        if value is None:
            return None
        if not isinstance(value, list):
            self._wrong_type(self.place_of(key), expected, value)
            return None
        place = self.place_of(key)
        return [Item(f"{place}[{number}]", item) for number, item in enumerate(value)]

    def texts(self, key: str, *, required: bool = False) -> list[Item[str]] | None:
        """The strings of an array; None where there is no array."""
        expected = "an array of strings"
        if required and key not in self.values:
            self.missing(key, expected)
        items = self.array(key, expected)
        if items is None:
            return None
        checked = ((item.place, self._checked_text(item.place, item.value)) for item in items)
        return [Item(place, text) for place, text in checked if text is not None]

    def table(self, key: str) -> Table | None:
        """The table below `key`, or None."""
        value = self._get(key)
        if value is None:
            return None
        return self._as_table(self.place_of(key), value)

    def _as_table(self, place: str, value: object) -> Table | None:
        if isinstance(value, dict):
            return Table(value, place, self.problems)
        self._wrong_type(place, "a table", value)
        return None

    def tables(self, key: str) -> list[Table]:
        """The tables of an array of tables."""
        items = self.array(key, "an array of tables") or []
        found = (self._as_table(item.place, item.value) for item in items)
        return [table for table in found if table is not None]

    def subtables(self) -> Iterator[tuple[str, Table]]:
        """All keys of this table, which must be tables, with them."""
        for key in self.values:
            table = self.table(key)
            if table is not None:
                yield key, table

    def pairs(self, key: str) -> list[tuple[str, Item[str]]]:
        """The table below `key` as names and strings, whatever its keys are."""
        table = self.table(key)
        if table is None:
            return []
        texts = ((name, table.text(name)) for name in table.values)
        return [(name, Item(table.place_of(name), text)) for name, text in texts if text]

    def refuse(self, key: str, message: str, *, hint: str | None = None) -> None:
        """Report `key`, if it is set, as one that is known but cannot be used.

        It is never offered as the nearest name of a misspelt key.
        """
        self._silent.add(key)
        if key in self.values:
            self.problems.add(self.place_of(key), message, hint=hint)

    def done(self) -> None:
        """Report the keys that nobody asked for."""
        valid = sorted(self._known)
        for key in self.values:
            if key in self._known or key in self._silent:
                continue
            hint = did_you_mean(key, valid)
            self.problems.add(
                self.place_of(key),
                "unknown key",
                expected=None if hint else f"one of {', '.join(valid)}",
                hint=hint,
            )
