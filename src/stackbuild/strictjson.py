"""Parse JSON from untrusted sources, within limits.

`parse` accepts interoperable JSON (RFC 8259, sections 4, 6 and 8): UTF-8 without surrogates, unique
keys, finite numbers in the range of a 64-bit integer or a double. Size and nesting are limited,
because the memory and stack of the standard library's parser grow with them.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from stackbuild.errors import IntegrityError
from stackbuild.files import read_regular

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_SIZE = 32 << 20
"""Bytes of a document. An index of this size has about 45,000 entries."""
MAX_DEPTH = 64
"""Nested arrays and objects. stackbuild's own files have fewer than ten levels."""
MAX_VALUES = 1_000_000
"""Values of a document. An empty array is two bytes of JSON and 64 bytes of memory, so a limit for
the size alone would not limit the memory."""
MAX_INTEGER = 2**63 - 1
_MAX_DIGITS = len(str(MAX_INTEGER)) + 1

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_BLOCK = 1 << 20
_NOT_STRUCTURE = bytes(set(range(256)) - set(b"[]{},"))
_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


class JsonError(IntegrityError):
    """The input is not valid JSON or exceeds the limits; `reason` says why in a few words."""

    def __init__(self, source: str, reason: str, *, in_value: bool = False) -> None:
        if in_value:
            super().__init__(f"{source} is damaged: {reason}")
        else:
            super().__init__(f"{source} is damaged", expected="JSON", found=reason)
        self.reason = reason


def read(path: Path) -> Any:
    """The JSON in the file at `path`.

    Raises JsonError, and OSError, also if it is not a regular file.
    """
    return parse(read_regular(path, MAX_SIZE + 1), str(path))


def parse(data: bytes, source: str, *, doubled: list[str] | None = None) -> Any:
    """Parse the JSON in `data`; `source` is its name in messages.

    With `doubled`, duplicate keys of objects are added to that list, and the last value is used;
    otherwise they are an error. Raises JsonError.
    """
    if len(data) > MAX_SIZE:
        raise JsonError(source, f"more than {MAX_SIZE} bytes")
    hooks = _Hooks(doubled)
    try:
        _check_structure(data)
        text = data.decode()
        value = json.loads(
            text,
            object_pairs_hook=hooks.pairs,
            parse_int=hooks.integer,
            parse_float=hooks.real,
            parse_constant=hooks.constant,
        )
    except UnicodeDecodeError as error:
        byte = data[error.start]
        reason = f"byte 0x{byte:02x} at position {error.start}, which is not UTF-8"
        raise JsonError(source, reason) from None
    except (ValueError, RecursionError) as error:
        raise JsonError(source, str(error)) from None
    if hooks.refused or _SURROGATE_ESCAPE.search(text):
        for place, problem in _problems(value, ""):
            raise JsonError(source, f"{place or 'it'} {problem}", in_value=True)
    return value


def digest_of(value: object) -> str:
    """The sha256 (hex) of `value` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _check_structure(data: bytes) -> None:
    """Raise ValueError if nesting or number of values exceed the limits."""
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH and data.count(b",") < MAX_VALUES // 2:
        return
    structure = _structure(data)
    values = structure.count(b",") + _openings(structure)
    if values > MAX_VALUES:
        raise ValueError(f"more than {MAX_VALUES} values")
    nested = structure.translate(None, delete=b",")
    for _ in range(MAX_DEPTH):
        nested = nested.replace(b"[]", b"").replace(b"{}", b"")
    # The rest is nested too deeply, or has no end.
    if b"[]" in nested or b"{}" in nested or _openings(nested) > MAX_DEPTH:
        raise ValueError(f"more than {MAX_DEPTH} arrays and objects inside each other")


def _structure(data: bytes) -> bytes:
    """The brackets and commas of `data` outside strings.

    Stops after `MAX_VALUES`, and at an unterminated string, like the parser.
    """
    found = bytearray()
    start, length = 0, _BLOCK
    # In blocks, because a substitution needs memory for each removed string.
    while start < len(data) and len(found) <= 3 * MAX_VALUES:
        block = data[start : start + length]
        bare = _STRING.sub(b"", block)
        unfinished = bare.find(b'"')
        rest = 0 if unfinished < 0 else len(bare) - unfinished
        if start + length >= len(data) or rest < len(block):
            found += bare[: len(bare) - rest].translate(None, delete=_NOT_STRUCTURE)
            start += len(block) - rest if start + length < len(data) else len(block)
            length = _BLOCK
        else:
            length *= 2
    return bytes(found)


def _openings(structure: bytes) -> int:
    return structure.count(b"[") + structure.count(b"{")


class _Refused:
    """Placeholder in the parsed value for invalid content."""

    def __init__(self, problem: str) -> None:
        self.problem = problem


class _Hooks:
    """Hooks of the parser. They do not know the place, so they store errors for later."""

    def __init__(self, doubled: list[str] | None) -> None:
        self.refused = False
        self._doubled = doubled

    def _refuse(self, problem: str) -> _Refused:
        self.refused = True
        return _Refused(problem)

    def pairs(self, pairs: list[tuple[str, object]]) -> object:
        result = dict(pairs)
        if len(result) == len(pairs):
            return result
        twice = sorted(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        if self._doubled is None:
            return self._refuse(f"has the key {json.dumps(twice[0])} twice")
        self._doubled += twice
        return result

    def integer(self, digits: str) -> object:
        if len(digits) > _MAX_DIGITS or abs(int(digits)) > MAX_INTEGER:
            return self._refuse(f"is a number of {len(digits)} digits")
        return int(digits)

    def real(self, digits: str) -> object:
        value = float(digits)
        return value if math.isfinite(value) else self._refuse("is a number that is too large")

    def constant(self, name: str) -> object:
        return self._refuse(f"is {name}, which is not JSON")


def _problems(value: object, place: str) -> Iterator[tuple[str, str]]:
    """The places of errors, such as ``layers.atls[0].size``, with the problem."""
    if isinstance(value, _Refused):
        yield place, value.problem
    elif isinstance(value, str):
        if _SURROGATE.search(value):
            yield place, "contains a lone surrogate"
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _problems(item, f"{place}[{number}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            if _SURROGATE.search(key):
                yield place, "has a key with a lone surrogate"
            yield from _problems(item, f"{place}.{key}" if place else key)
