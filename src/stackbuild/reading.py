"""Read typed values from parsed TOML and JSON, each with its place in the file.

An `Item` checks one value and raises `ReadError`. Locks, manifests, indexes and states are read
with it, up to the first error. `spec.table.Table` uses the same checks for files that people write,
and collects the errors, so that all problems of a file are reported at once.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from stackbuild import strictjson
from stackbuild.errors import IntegrityError
from stackbuild.platforms import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from enum import StrEnum

    from packaging.utils import NormalizedName
    from packaging.version import Version

    Readers = Mapping[str, Callable[["Item[object]"], object]]
    """The function that reads the value of each key."""

S = TypeVar("S")
T = TypeVar("T")
_Enum = TypeVar("_Enum", bound="StrEnum")
_Text = TypeVar("_Text", bound=str)
_Made = TypeVar("_Made")

_UNSAFE_TEXT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_CREDENTIALS = re.compile(r"(?<=://)[^/\n]*@")
_LONGEST_SHOWN = 70
_LONGEST_TEXT = 4000
"""In characters; less than the limits for paths and numbers in requirements."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


class ReadError(Exception):
    """A value does not match the format.

    `message` follows the place in a sentence, such as ``is missing``; None means that the value has
    another type than `expected`.
    """

    def __init__(
        self,
        place: str,
        found: object,
        expected: str | None,
        message: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(place, message)
        self.place = place
        self.message = message
        self.expected = expected
        self.found = found
        self.hint = hint

    def __str__(self) -> str:
        """Place and message as a sentence."""
        return f"{self.place or 'it'} {self.message or f'is not {self.expected}'}"

    def damage(self, source: str) -> IntegrityError:
        """This error for the file `source`."""
        return IntegrityError(
            f"{source} is damaged: {self}", expected=self.expected, found=shown(self.found)
        )


class NewerFormatError(ReadError):
    """The file has a `format` of a newer stackbuild."""

    def damage(self, source: str) -> IntegrityError:
        """This error for the file `source`."""
        return IntegrityError(
            f"{source} was written by a newer stackbuild",
            expected=f"format {self.expected}",
            found=f"format {self.found}",
            remedy="use the version of stackbuild that wrote it, or a newer one",
        )


def records(make: Callable[..., T], readers: Readers) -> Callable[[Item[object]], tuple[T, ...]]:
    """A reader of an array of tables, each with the keys of `readers` (`Item.record`)."""
    return lambda value: value.tuple_of(lambda item: item.record(make, readers))


def read_json(data: bytes, source: str, read: Callable[[Item[object]], T]) -> T:
    """Parse the JSON in `data` and read it with `read`; `source` is the file in messages.

    Raises IntegrityError for invalid JSON (`strictjson.parse`), and for errors of `read`.

    Example::

        read_json(b'{"size": 3}', "x.json", lambda item: item["size"].count())  # 3
    """
    try:
        return read(Item("", strictjson.parse(data, source)))
    except ReadError as error:
        raise error.damage(source) from None


def redacted(text: str) -> str:
    """`text` with user and password in an address masked."""
    return _CREDENTIALS.sub("***@", text)


def shown(value: object) -> str:
    """`value` for a message: short, on one line, without credentials."""
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


def did_you_mean(name: str, valid: Iterable[str], cutoff: float = 0.6) -> str | None:
    """A hint with the nearest valid name, or None; `cutoff` is as in difflib."""
    guess = nearest(name, valid, cutoff)
    return f"did you mean {guess!r}?" if guess else None


class Item(Generic[T]):
    """A value with its place, such as ``frames[3].offset``; empty for the whole file.

    The methods check the value and raise ReadError.
    """

    __slots__ = ("place", "value")

    def __init__(self, place: str, value: T) -> None:
        self.place = place
        self.value = value

    def error(
        self, message: str, expected: str | None = None, hint: str | None = None
    ) -> ReadError:
        """An error about this value."""
        return ReadError(self.place, self.value, expected, message, hint)

    def wrong_type(self, expected: str) -> ReadError:
        """The error for a value that is not `expected`."""
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
        """The values of an array, each read by `read`."""
        return tuple(map(read, self.items()))

    def strings(self) -> tuple[str, ...]:
        """An array of strings."""
        if isinstance(self.value, list) and all(isinstance(text, str) for text in self.value):
            return tuple(self.value)
        return self.tuple_of(Item.string)

    def pairs(self) -> Iterator[tuple[Item[str], Item[object]]]:
        """The keys, as values themselves, and the values of a table."""
        for key, value in self.table().items():
            place = f"{self.place}.{key}" if self.place else key
            yield Item(place, key), Item(place, value)

    def __getitem__(self, key: str) -> Item[object]:
        """The value at `key` of a table; raises an error if it is missing."""
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
        """Read a table with the keys `required` and `optional`, and call `make` with the values.

        The arguments have the names of the keys with `_` for `-`. With `formats`, the table has a
        key `format` with one of these numbers. It is checked first, so that a newer file is
        reported as newer and not as damaged.
        """
        table = self.table()
        known = {**required, **(optional or {})}
        if formats:
            self._check_format(formats)
        for key in table:
            if key not in known and not (formats and key == "format"):
                raise self[key].error("is not known", f"one of {', '.join(known)}")
        given: dict[str, object] = {}
        for key, read in known.items():
            if key in table or key in required:
                given[key.replace("-", "_")] = read(self[key])
        return make(**given)

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
        """The value read by `read`, or None for null."""
        return None if self.value is None else read(self)

    def line(self) -> str:
        """A string written by people: not blank, of limited length, on one line."""
        value = self.value
        if not isinstance(value, str):
            raise self.wrong_type("a string")
        if not value.strip():
            raise ReadError(self.place, None, "some text", "empty")
        if len(value) > _LONGEST_TEXT:
            raise self.error(f"longer than {_LONGEST_TEXT} characters", None)
        if _UNSAFE_TEXT.search(value):
            raise self.error("contains a control character", None)
        return value

    def flag(self) -> bool:
        """True or false."""
        if not isinstance(self.value, bool):
            raise self.wrong_type("true or false")
        return self.value

    def integer(self, low: int, high: int) -> int:
        """An integer from `low` to `high`."""
        expected = f"a whole number from {low} to {high}"
        value: object = self.value
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong_type(expected)
        if not low <= value <= high:
            raise self.error("out of range", expected)
        return value

    def count(self) -> int:
        """A non-negative integer."""
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

    def moment(self) -> str:
        """A time in UTC, to the second, as `compose.manifest.now` writes it."""
        text = self.text()
        try:
            if _MOMENT.fullmatch(text) and datetime.fromisoformat(text):
                return text
        except ValueError:
            pass
        raise self.wrong_type("a time such as 2026-01-31T08:00:00Z")

    def choice(self, kind: type[_Enum]) -> _Enum:
        """A member of `kind`."""
        return kind(self.one_of([str(member) for member in kind]))

    def one_of(self, allowed: Sequence[_Text]) -> _Text:
        """One of the strings `allowed`."""
        if self.value not in allowed:
            raise self.error("has an unknown value", " or ".join(allowed))
        return cast("_Text", self.value)

    def word_of(self, valid: Sequence[_Text]) -> _Text:
        """One of the words `valid`, in a file written by people."""
        if self.value in valid:
            return cast("_Text", self.value)
        hint = did_you_mean(str(self.value), valid)
        raise self.error("unknown value", f"one of {', '.join(valid)}", hint)

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
