"""Typed values out of parsed TOML and JSON, each with its place in the file.

An `Item` checks one value and raises `ReadError`: formats that are written by
stackbuild itself are read so, and their first mistake ends the reading. A
`Table` is asked for its keys one by one and notes what is wrong in `Problems`:
so a file that people write is read in one go, and all its problems are told at once.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from stackbuild import strictjson
from stackbuild.errors import IntegrityError, Problem
from stackbuild.platforms import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from enum import StrEnum

    from packaging.utils import NormalizedName
    from packaging.version import Version

    Readers = Mapping[str, Callable[["Item[object]"], object]]
    """By key, what reads the value of a field."""

T = TypeVar("T")
_Enum = TypeVar("_Enum", bound="StrEnum")
_Text = TypeVar("_Text", bound=str)
_Made = TypeVar("_Made")

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_UNSAFE_TEXT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_CREDENTIALS = re.compile(r"(?<=://)[^/\n]*@")
_LONGEST_SHOWN = 70
_LONGEST_TEXT = 4000
"""In characters; below what a path or a number in a requirement may have."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


class ReadError(Exception):
    """A value is not what its format says.

    `message` follows the place in a sentence, such as ``is missing``; None means that the
    value is of another type than the one expected.
    """

    def __init__(
        self, place: str, found: object, expected: str | None, message: str | None = None
    ) -> None:
        super().__init__(place, message)
        self.place = place
        self.message = message
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        """Place and message as a sentence."""
        return f"{self.place or 'it'} {self.message or f'is not {self.expected}'}"

    def damage(self, source: str) -> IntegrityError:
        """This error as that of the file that messages call `source`."""
        return IntegrityError(
            f"{source} is damaged: {self}", expected=self.expected, found=shown(self.found)
        )


class NewerFormatError(ReadError):
    """The file has a `format` that only a later stackbuild knows."""

    def damage(self, source: str) -> IntegrityError:
        """This error as that of the file that messages call `source`."""
        return IntegrityError(
            f"{source} was written by a newer stackbuild",
            expected=f"format {self.expected}",
            found=f"format {self.found}",
            remedy="use the stackbuild it was published with, or a newer one",
        )


def records(make: Callable[..., T], readers: Readers) -> Callable[[Item[object]], tuple[T, ...]]:
    """What reads an array of tables, each with the keys of `readers` (`Item.record`)."""
    return lambda value: value.tuple_of(lambda item: item.record(make, readers))


def read_json(data: bytes, source: str, read: Callable[[Item[object]], T]) -> T:
    """What `read` makes of the JSON in `data`; `source` is what messages call the file.

    Raises IntegrityError for what is not JSON (`strictjson.parse`), and for what `read` refuses.
    """
    try:
        return read(Item("", strictjson.parse(data, source)))
    except ReadError as error:
        raise error.damage(source) from None


class Problems:
    """The problems found so far, in the order of reading."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def note(self, error: ReadError) -> None:
        """Note what the reading of one value found wrong."""
        self.add(
            error.place, error.message or "wrong type", expected=error.expected, found=error.found
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
        case _:
            words = {list: "an array", dict: "a table", type(None): "nothing"}
            return words.get(type(value), "a date or time")


def did_you_mean(name: str, valid: Iterable[str]) -> str | None:
    """A hint with the nearest valid name, if there is one near enough."""
    guess = nearest(name, valid)
    return f"did you mean {guess!r}?" if guess else None


def join(place: str, key: str) -> str:
    """The place of `key` in the table at `place`, quoted where TOML needs it."""
    word = key
    if not _BARE_KEY.fullmatch(key):
        text = shown(key)[1:-1].replace('"', '\\"')
        word = f'"{text}"'
    return f"{place}.{word}" if place else word


class Item(Generic[T]):
    """A value with its place, such as ``frames[3].offset``; empty for the whole file.

    Every method that returns the value checks it, and raises ReadError.
    """

    __slots__ = ("place", "value")

    def __init__(self, place: str, value: T) -> None:
        self.place = place
        self.value = value

    def error(self, message: str, expected: str | None) -> ReadError:
        """The error that says what is wrong with this value."""
        return ReadError(self.place, self.value, expected, message)

    def wrong_type(self, expected: str) -> ReadError:
        """The error that says that this value is not `expected`."""
        return ReadError(self.place, self.value, expected)

    def table(self, expected: str = "an object") -> dict[str, object]:
        """A table of TOML, an object of JSON."""
        if not isinstance(self.value, dict):
            raise self.wrong_type(expected)
        return self.value

    def items(self, expected: str = "an array") -> list[Item[object]]:
        """The values of an array."""
        if not isinstance(self.value, list):
            raise self.wrong_type(expected)
        place = self.place
        return [Item(f"{place}[{number}]", value) for number, value in enumerate(self.value)]

    def tuple_of(self, read: Callable[[Item[object]], _Made]) -> tuple[_Made, ...]:
        """The values of an array, each as `read` gives it."""
        return tuple(map(read, self.items()))

    def pairs(self) -> Iterator[tuple[Item[str], Item[object]]]:
        """The keys, as values themselves, and the values of a table."""
        for key, value in self.table().items():
            place = f"{self.place}.{key}" if self.place else key
            yield Item(place, key), Item(place, value)

    def __getitem__(self, key: str) -> Item[object]:
        """The value at `key` of a table; one that is not there is an error."""
        table = self.table()
        place = f"{self.place}.{key}" if self.place else key
        if key not in table:
            raise ReadError(place, None, "a value", "is missing")
        return Item(place, table[key])

    def record(
        self,
        make: Callable[..., _Made],
        required: Readers,
        optional: Readers | None = None,
        *,
        formats: Sequence[int] = (),
    ) -> _Made:
        """What `make` makes of a table with the keys `required`, and any of those `optional`.

        It is called with what the readers give, by the names of the keys with `_` for `-`.
        With `formats`, the table has a key `format` with one of these numbers, which is looked
        at first, so that a newer file is called newer and not damaged.
        """
        table = self.table()
        known = {**required, **(optional or {})}
        if formats:
            self._check_format(formats)
        for key in table:
            if key not in known and not (formats and key == "format"):
                raise self[key].error("is not known", f"one of {', '.join(known)}")
        return make(
            **{
                key.replace("-", "_"): read(self[key])
                for key, read in known.items()
                if key in table or key in required
            }
        )

    def _check_format(self, known: Sequence[int]) -> None:
        item = self["format"]
        found = item.value
        if type(found) is int and found > max(known):
            raise NewerFormatError(item.place, found, str(max(known)))
        if type(found) is not int or found not in known:
            raise item.error("is wrong", " or ".join(map(str, known)))

    def string(self) -> str:
        """A string, which may be empty."""
        if not isinstance(self.value, str):
            raise self.wrong_type("a string")
        return self.value

    def text(self) -> str:
        """A string that is not empty."""
        if not isinstance(self.value, str) or not self.value:
            raise self.wrong_type("a string")
        return self.value

    def optional(self, read: Callable[[Item[T]], _Made]) -> _Made | None:
        """What `read` gives, or None for null."""
        return None if self.value is None else read(self)

    def line(self) -> str:
        """A string that people wrote: not blank, of bounded length, on one line."""
        value = self.value
        if not isinstance(value, str):
            raise self.wrong_type("a string")
        if not value.strip():
            raise ReadError(self.place, None, "some text", "empty")
        if len(value) > _LONGEST_TEXT:
            raise self.error(f"longer than {_LONGEST_TEXT} characters", None)
        if _UNSAFE_TEXT.search(value):
            raise self.error("holds a control character", None)
        return value

    def flag(self) -> bool:
        """True or false."""
        if not isinstance(self.value, bool):
            raise self.wrong_type("true or false")
        return self.value

    def integer(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        expected = f"a whole number from {low} to {high}"
        value: object = self.value
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong_type(expected)
        if not low <= value <= high:
            raise self.error("out of range", expected)
        return value

    def count(self) -> int:
        """A whole number, not negative."""
        value: object = self.value
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.wrong_type("a whole number, not negative")
        return value

    def sha256(self) -> str:
        """A sha256 in hex."""
        text = self.text()
        if not _SHA256.fullmatch(text):
            raise self.wrong_type("a sha256 (64 digits, 0-9 and a-f)")
        return text

    def choice(self, kind: type[_Enum]) -> _Enum:
        """A member of `kind`."""
        return kind(self.one_of([str(member) for member in kind]))

    def one_of(self, allowed: Sequence[_Text]) -> _Text:
        """One of the strings `allowed`."""
        if self.value not in allowed:
            raise self.error("has an unknown value", " or ".join(allowed))
        return cast("_Text", self.value)

    def version(self) -> Version:
        """A version (PEP 440)."""
        from packaging.version import InvalidVersion, Version

        try:
            return Version(self.text())
        except InvalidVersion:
            raise self.wrong_type("a version") from None

    def distribution(self) -> NormalizedName:
        """The normalised name of a distribution (PEP 503)."""
        from packaging.utils import canonicalize_name

        name = canonicalize_name(self.text())
        if name != self.value:
            raise self.wrong_type("a normalised name")
        return name


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

    def _checked(self, place: str, value: object, read: Callable[[Item[object]], T]) -> T | None:
        try:
            return read(Item(place, value))
        except ReadError as error:
            self.problems.note(error)
            return None

    def _take(self, key: str, read: Callable[[Item[object]], T]) -> T | None:
        value = self._get(key)
        return None if value is None else self._checked(self.place_of(key), value, read)

    def text(self, key: str, *, required: bool = False) -> str | None:
        """A string that is not empty, or None."""
        if required and self._get(key) is None:
            self.missing(key, "a string")
        return self._take(key, Item.line)

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false."""
        value = self._take(key, Item.flag)
        return default if value is None else value

    def integer(self, key: str, *, default: int, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        value = self._take(key, lambda item: item.integer(low, high))
        return default if value is None else value

    def array(self, key: str, expected: str) -> list[Item[object]] | None:
        """The values of an array, of any type, or None where there is none."""
        return self._take(key, lambda item: item.items(expected))

    def texts(self, key: str, *, required: bool = False) -> list[Item[str]] | None:
        """The strings of an array; None where there is no array."""
        expected = "an array of strings"
        if required and key not in self.values:
            self.missing(key, expected)
        items = self.array(key, expected)
        if items is None:
            return None
        checked = ((one.place, self._checked(one.place, one.value, Item.line)) for one in items)
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
