"""Reads the tables of the spec key by key. Problems are noted and not raised."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from stackbuild.errors import Problem
from stackbuild.reading import Item, ReadError, did_you_mean, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

S = TypeVar("S")
T = TypeVar("T")

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class Problems:
    """The problems found so far, in the order of reading."""

    def __init__(self) -> None:
        self.found: list[Problem] = []
        self.remarks: list[str] = []
        """Places of settings that are accepted and have no effect."""
        self.warnings: list[str] = []

    def remark(self, place: str) -> None:
        """Note a setting that is accepted and has no effect."""
        self.remarks.append(place)

    def note(self, error: ReadError) -> None:
        """Note the problem of one value."""
        self.add(
            error.place,
            error.message or "wrong type",
            expected=error.expected,
            found=error.found,
            hint=error.hint,
        )

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


def join(place: str, key: str) -> str:
    """The location of `key` in the table at `place`, quoted if TOML requires it."""
    word = key
    if not _BARE_KEY.fullmatch(key):
        text = shown(key)[1:-1].replace('"', '\\"')
        word = f'"{text}"'
    return f"{place}.{word}" if place else word


class Table:
    """A TOML table that is read key by key.

    `done` reports the keys that were not read, so the code that reads a table
    also defines its valid keys.
    """

    named: ClassVar[str] = "a table"
    """What such a value is called in messages."""

    def __init__(self, values: Mapping[str, object], place: str, problems: Problems) -> None:
        self.values = values
        self.place = place
        self.problems = problems
        self._known: set[str] = set()
        self._silent: set[str] = set()

    def place_of(self, key: str) -> str:
        """The location of `key` in the file."""
        return join(self.place, key)

    def has(self, key: str) -> bool:
        """Whether the file sets `key`."""
        return key in self.values

    def _get(self, key: str) -> object | None:
        self._known.add(key)
        return self.values.get(key)

    def missing(self, key: str, expected: str) -> None:
        """Report that a required `key` is missing."""
        self.problems.add(self.place_of(key), "missing", expected=expected)

    def checked(self, item: Item[S], read: Callable[[Item[S]], T]) -> T | None:
        """The result of `read` for `item`; None if it raises ReadError, which is noted."""
        try:
            return read(item)
        except ReadError as error:
            self.problems.note(error)
            return None

    def take(self, key: str, read: Callable[[Item[Any]], T]) -> T | None:
        """The value at `key`, checked by `read`; None if it is missing or invalid."""
        value = self._get(key)
        return None if value is None else self.checked(Item(self.place_of(key), value), read)

    def text(self, key: str, *, required: bool = False) -> str | None:
        """A string that is not empty, or None."""
        if required and self._get(key) is None:
            self.missing(key, "a string")
        return self.take(key, Item.line)

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false."""
        value = self.take(key, Item.flag)
        return default if value is None else value

    def integer(self, key: str, *, default: int, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        value = self.take(key, lambda item: item.integer(low, high))
        return default if value is None else value

    def array(self, key: str, expected: str) -> list[Item[object]] | None:
        """The values of an array, of any type; None if there is no array."""
        return self.take(key, lambda item: item.items(expected))

    def texts(self, key: str, *, required: bool = False) -> list[Item[str]] | None:
        """The strings of an array; None if there is no array."""
        expected = "an array of strings"
        if required and key not in self.values:
            self.missing(key, expected)
        items = self.array(key, expected)
        if items is None:
            return None
        return self._each(items, Item.line)

    def _each(self, items: Iterable[Item[S]], read: Callable[[Item[S]], T]) -> list[Item[T]]:
        checked = ((item.place, self.checked(item, read)) for item in items)
        return [Item(place, value) for place, value in checked if value is not None]

    def word(self, key: str, read: Callable[[Item[str]], T], *, required: bool = False) -> T | None:
        """The string at `key`, converted by `read`."""
        text = self.text(key, required=required)
        return None if text is None else self.checked(Item(self.place_of(key), text), read)

    def words(
        self, key: str, read: Callable[[Item[str]], T], *, required: bool = False
    ) -> list[Item[T]]:
        """The strings of an array, converted by `read`."""
        return self._each(self.texts(key, required=required) or (), read)

    def distinct(self, key: str, read: Callable[[Item[str]], T]) -> list[Item[T]] | None:
        """The strings of an array, converted by `read`, each once; None if there is no array."""
        items = self.texts(key)
        if items is None:
            return None
        found: dict[T, Item[T]] = {}
        for item in items:
            value = self.checked(item, read)
            if value in found:
                self.problems.add(item.place, "named twice", found=item.value)
            elif value is not None:
                found[value] = Item(item.place, value)
        return list(found.values())

    def names(self, read: Callable[[Item[str]], T]) -> Iterator[tuple[str, T]]:
        """The keys of this table, each with its value converted by `read`, once."""
        seen: set[T] = set()
        for key in self.values:
            name = self.checked(Item(self.place_of(key), key), read)
            if name in seen:
                self.problems.add(self.place_of(key), f"{name} is named already", found=key)
            elif name is not None:
                seen.add(name)
                yield key, name

    def _below(self, item: Item[object]) -> Self:
        return type(self)(item.table(self.named), item.place, self.problems)

    def table(self, key: str) -> Self | None:
        """The table below `key`, or None."""
        return self.take(key, self._below)

    def part(self, key: str) -> Self:
        """The table below `key`; an empty one if there is none."""
        return self.table(key) or type(self)({}, self.place_of(key), self.problems)

    def tables(self, key: str) -> list[Self]:
        """The tables of an array of tables."""
        items = self.array(key, "an array of tables") or ()
        return [item.value for item in self._each(items, self._below)]

    def subtables(self) -> Iterator[tuple[str, Self]]:
        """All keys of this table with their values, which must be tables."""
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
        """Report `key`, if it is set, as known but not usable. It is never a suggested spelling."""
        self._silent.add(key)
        if key in self.values:
            self.problems.add(self.place_of(key), message, hint=hint)

    def ignore(self, key: str) -> None:
        """Note `key`, if it is set, as a setting without effect. It is never suggested."""
        self._silent.add(key)
        if key in self.values:
            self.problems.remark(self.place_of(key))

    def unread(self) -> list[str]:
        """The keys that were not read."""
        return [key for key in self.values if key not in self._known | self._silent]

    def done(self) -> None:
        """Report the keys that were not read."""
        valid = sorted(self._known)
        for key in self.unread():
            hint = did_you_mean(key, valid)
            self.problems.add(
                self.place_of(key),
                "unknown key",
                expected=None if hint else f"one of {', '.join(valid)}",
                hint=hint,
            )
