"""Values of a JSON file that know their place in it, for strict reading.

Every method checks what it returns and raises IntegrityError naming the file
and the value's path, such as ``frames[3].offset``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

from stackbuild import strictjson
from stackbuild.errors import IntegrityError
from stackbuild.names import LAYER_NAME, is_directory_of, layer_name_fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from enum import StrEnum

_PYTHON_VERSION = re.compile(
    r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}(?:(?:a|b|rc)[0-9]{1,3})?(?:\+[a-z0-9.]{0,100})?"
)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[^\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff/\\:]{1,255}")
"""One component of a path on every system, `.` and `..` apart. Without what moves the cursor of a
terminal, or turns the direction of text (Unicode's Bidi_Control)."""

_Enum = TypeVar("_Enum", bound="StrEnum")
_Text = TypeVar("_Text", bound=str)


def read_json(data: bytes, source: str) -> Value:
    """The outermost value of the JSON in `data`; `source` is what messages call the file.

    Raises IntegrityError for what `strictjson.parse` does not take.
    """
    return Value(source, "", strictjson.parse(data, source))


@dataclass(frozen=True, slots=True)
class Value:
    """What stands at `place` of the file `source`."""

    source: str
    place: str
    found: object

    def error(self, problem: str, expected: str) -> IntegrityError:
        """The error that says what is wrong with this value."""
        return IntegrityError(
            f"{self.source} is damaged: {self.place or 'it'} {problem}",
            expected=expected,
            found=_shown(self.found),
        )

    def _wrong(self, expected: str) -> IntegrityError:
        return self.error(f"is not {expected}", expected)

    def table(self) -> dict[str, object]:
        """An object."""
        if not isinstance(self.found, dict):
            raise self._wrong("an object")
        return self.found

    def fields(self, keys: Sequence[str], *, formats: Sequence[int] = ()) -> None:
        """Check that this is an object with exactly `keys`.

        With `formats`, its `format` must be one of them; this is looked at
        first, so that a newer file is called newer and not damaged.
        """
        table = self.table()
        if formats:
            self._check_format(table.get("format"), formats)
        for key in table:
            if key not in keys:
                raise self[key].error("is not known", f"one of {', '.join(keys)}")
        for key in keys:
            if key not in table:
                raise Value(self.source, self._below(key), None).error("is missing", "a value")

    def _check_format(self, found: object, known: Sequence[int]) -> None:
        if type(found) is int and found > max(known):
            raise IntegrityError(
                f"{self.source} was written by a newer stackbuild",
                expected=f"format {max(known)}",
                found=f"format {found}",
                remedy="use the stackbuild it was published with, or a newer one",
            )
        if type(found) is not int or found not in known:
            expected = " or ".join(map(str, known))
            raise Value(self.source, self._below("format"), found).error("is wrong", expected)

    def _below(self, key: str) -> str:
        return f"{self.place}.{key}" if self.place else key

    def __getitem__(self, key: str) -> Value:
        """The value at `key` of this object."""
        return Value(self.source, self._below(key), self.table()[key])

    def pairs(self) -> Iterator[tuple[Value, Value]]:
        """The keys, as values themselves, and the values of this object."""
        for key in self.table():
            yield Value(self.source, self._below(key), key), self[key]

    def items(self) -> Iterator[Value]:
        """The values of this array."""
        if not isinstance(self.found, list):
            raise self._wrong("an array")
        for number, item in enumerate(self.found):
            yield Value(self.source, f"{self.place}[{number}]", item)

    def python_version(self) -> str:
        """The whole version of an interpreter, such as 3.12.10 or 3.14.0rc1."""
        if not isinstance(self.found, str) or not _PYTHON_VERSION.fullmatch(self.found):
            raise self._wrong("a version of Python")
        return self.found

    def text(self) -> str:
        """A string that is not empty."""
        if not isinstance(self.found, str) or not self.found:
            raise self._wrong("a string")
        return self.found

    def optional_text(self) -> str | None:
        """A string that is not empty, or null."""
        return None if self.found is None else self.text()

    def name(self) -> str:
        """A string that is one component of a path, so that it cannot leave a directory."""
        text = self.text()
        if not _NAME.fullmatch(text) or text in {".", ".."}:
            raise self._wrong("the name of a file")
        return text

    def layer_name(self) -> str:
        """The name of a layer (`names.layer_name_fault`)."""
        text = self.text()
        if fault := layer_name_fault(text):
            raise self.error(fault, f"a layer name: {LAYER_NAME}")
        return text

    def directory_of(self, layer: str) -> str:
        """The directory of `layer` in a root: its name, with ``@`` and a number if versioned."""
        text = self.text()
        if not is_directory_of(text, layer):
            expected = f"{layer}, or {layer}@ and a number"
            raise self.error(f"is not the directory of {layer}", expected)
        return text

    def relative_path(self) -> str:
        """A path with forward slashes that cannot leave the directory it is relative to."""
        text = self.text()
        parts = text.split("/")
        if not all(_NAME.fullmatch(part) and part not in {".", ".."} for part in parts):
            raise self._wrong("a relative path")
        return text

    def sha256(self) -> str:
        """A sha256 in hex."""
        text = self.text()
        if not _SHA256.fullmatch(text):
            raise self._wrong("a sha256 (64 digits, 0-9 and a-f)")
        return text

    def count(self) -> int:
        """A whole number, not negative."""
        if type(self.found) is not int or self.found < 0:
            raise self._wrong("a whole number")
        return self.found

    def choice(self, kind: type[_Enum]) -> _Enum:
        """A target of `kind`."""
        return kind(self.one_of([str(target) for target in kind]))

    def one_of(self, allowed: Sequence[_Text]) -> _Text:
        """One of the strings `allowed`."""
        if self.found not in allowed:
            raise self.error("has an unknown value", " or ".join(allowed))
        return cast("_Text", self.found)


def _shown(found: object) -> str:
    text = "nothing" if found is None else json.dumps(found, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}…"
