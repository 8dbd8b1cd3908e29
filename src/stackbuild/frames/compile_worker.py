"""Compile sources from standard input; run by the interpreter of a layer.

This is a script: it runs without site-packages on any CPython from 3.9 on, and does not import from
its own directory.

It first writes its version as a line. A request is the lengths of path and source as two
little-endian 32-bit numbers, the path, and the source. The answer is a length and a `.pyc`; a
length of 0 means that the source does not compile.
"""

from __future__ import annotations

import sys

del sys.path[0]  # this file's directory

import gc  # noqa: E402 - only the standard library is left on the path
import marshal  # noqa: E402
from _imp import source_hash  # noqa: E402
from importlib.util import MAGIC_NUMBER  # noqa: E402

_UNCHECKED_HASH = (1).to_bytes(4, "little")
"""Flags of PEP 552: hash-based, unchecked."""
_HASH_KEY = int.from_bytes(MAGIC_NUMBER, "little")
_CODE = type((lambda: None).__code__)
_TUPLES = ("co_names", "co_varnames", "co_freevars", "co_cellvars", "co_consts")

_CHARACTERS = [sys.intern(chr(code)) for code in range(256)]
"""Keeps the single-character strings of Latin-1 interned."""


def parts_in(value: object, strings: list[str], sets: list[object]) -> None:
    """Collect all strings and frozen sets in `value`, which is code or a constant."""
    if isinstance(value, str):
        strings.append(value)
    elif isinstance(value, _CODE):
        strings += (value.co_name, value.co_filename, getattr(value, "co_qualname", ""))
        for name in _TUPLES:
            parts_in(getattr(value, name), strings, sets)
    elif isinstance(value, (tuple, frozenset)):  # no unions in Python 3.9
        if isinstance(value, frozenset):
            sets.append(value)
        for item in value:
            parts_in(item, strings, sets)


def code_bytes(source: bytes, path: str) -> bytes:
    """The marshalled code of `source`, independent of what was compiled before.

    Three effects are avoided. (1) marshal flags values that have other references, such as strings
    shared with other modules; so each string gets one more reference. (2) A frozen set is copied,
    and no longer shared inside its module, if one of its strings equals an interned one; so a
    module with such sets is compiled again while all its strings exist. (3) A character that was
    once interned is written as interned; so all single characters are interned.
    """
    strings: list[str] = []
    sets: list[object] = []
    code = compile(source, path, "exec", dont_inherit=True, optimize=0)
    parts_in(code, strings, sets)
    if sets:
        code = compile(source, path, "exec", dont_inherit=True, optimize=0)
        parts_in(code, strings, sets)
    return marshal.dumps(code)


def compiled(path: str, source: bytes) -> bytes:
    """The `.pyc` of `source`; empty if it does not compile."""
    try:
        code = code_bytes(source, path)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return b""
    return MAGIC_NUMBER + _UNCHECKED_HASH + source_hash(_HASH_KEY, source) + code


def main() -> None:
    """Answer requests until the end of input."""
    gc.disable()  # nothing lives long enough
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    answers.write("{}.{}.{}\n".format(*sys.version_info).encode())
    answers.flush()
    while len(lengths := requests.read(8)) == 8:
        path = requests.read(int.from_bytes(lengths[:4], "little")).decode()
        pyc = compiled(path, requests.read(int.from_bytes(lengths[4:], "little")))
        answers.write(len(pyc).to_bytes(4, "little"))
        answers.write(pyc)
        answers.flush()


main()
