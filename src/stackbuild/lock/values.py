"""Values of a lock file, each taken with its place, so that damage can be pointed at."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from packaging.utils import NormalizedName
    from packaging.version import Version

_SHA256 = re.compile(r"[0-9a-f]{64}")


class DamageError(Exception):
    """`place: what is wrong there`; becomes a LockError that names the file."""


@dataclass(frozen=True, slots=True)
class Reader:
    """A table of the file; every method raises DamageError for a value of another kind."""

    place: str
    """Such as ``packages[3].wheels[0]``; empty for the whole file."""
    values: Mapping[str, Any]

    def text(self, key: str) -> str:
        """A string."""
        return str(self._value(key, str, "a string"))

    def number(self, key: str) -> int:
        """A whole number, not below zero."""
        value = self._value(key, int, "a whole number")
        if isinstance(value, bool) or value < 0:
            self._wrong(key, "a whole number, not below zero")
        return int(value)

    def sha256(self, key: str) -> str:
        """A sha256 in lower-case hexadecimal digits."""
        value = self.text(key)
        if not _SHA256.fullmatch(value):
            self._wrong(key, "64 hexadecimal digits")
        return value

    def version(self, key: str) -> Version:
        """A version (PEP 440)."""
        from packaging.version import InvalidVersion, Version

        try:
            return Version(self.text(key))
        except InvalidVersion:
            self._wrong(key, "a version")

    def name(self, key: str) -> NormalizedName:
        """The normalised name of a distribution (PEP 503)."""
        from packaging.utils import canonicalize_name

        value = self.text(key)
        if canonicalize_name(value) != value:
            self._wrong(key, "a normalised name")
        return canonicalize_name(value)

    def texts(self, key: str) -> list[str]:
        """An array of strings."""
        value = self._value(key, list, "an array of strings")
        if not all(isinstance(item, str) for item in value):
            self._wrong(key, "an array of strings")
        return list(value)

    def table(self, key: str) -> Reader:
        """A table."""
        return Reader(self.place_of(key), self._value(key, dict, "a table"))

    def tables(self) -> Iterator[tuple[str, Reader]]:
        """All entries, each of them a table."""
        for key in self.values:
            yield key, self.table(key)

    def list_of_tables(self, key: str) -> list[Reader]:
        """An array of tables."""
        value = self._value(key, list, "an array of tables")
        if not all(isinstance(item, dict) for item in value):
            self._wrong(key, "an array of tables")
        return [Reader(f"{self.place_of(key)}[{at}]", item) for at, item in enumerate(value)]

    def place_of(self, key: str) -> str:
        """The place of one value."""
        return f"{self.place}.{key}" if self.place else key

    def _value(self, key: str, kind: type, expected: str) -> Any:
        if key not in self.values:
            raise DamageError(f"{self.place_of(key)}: missing")
        value = self.values[key]
        if not isinstance(value, kind):
            self._wrong(key, expected)
        return value

    def _wrong(self, key: str, expected: str) -> NoReturn:
        raise DamageError(f"{self.place_of(key)}: expected {expected}")
