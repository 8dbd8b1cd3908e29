"""JSON within bounds: what is refused, with the place, and how much memory it may take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackbuild import strictjson
from stackbuild.strictjson import MAX_DEPTH, MAX_SIZE, MAX_VALUES, JsonError, parse, read

if TYPE_CHECKING:
    from pathlib import Path

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=100,
)


@given(VALUES, st.booleans())
def test_what_json_writes_is_read(value: object, ascii_only: bool) -> None:
    assert parse(json.dumps(value, ensure_ascii=ascii_only).encode(), "x") == value


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a": [1, 1e999]}', "x is damaged: a[1] is a number that is too large"),
        (b'{"a": [NaN]}', "x is damaged: a[0] is NaN, which is not JSON"),
        (b"-Infinity", "x is damaged: it is -Infinity, which is not JSON"),
        (b'[9223372036854775808, {"b": 1}]', "x is damaged: [0] is a number of 19 digits"),
        (b'{"a": ' + b"1" * 5000 + b"}", "x is damaged: a is a number of 5000 digits"),
        (b'{"a": {"b": 1, "c": 2, "b": 3}}', 'x is damaged: a has the key "b" twice'),
        (
            rb'{"a": ["\ud800"]}',
            "x is damaged: a[0] contains a lone surrogate",
        ),
        (
            rb'{"a": {"\udfff": 1}}',
            "x is damaged: a has a key with a lone surrogate",
        ),
        (b'{"a": "\xed\xa0\x80"}', "found: byte 0xed at position 7, which is not UTF-8"),
        ('{"a": "é"}'.encode("latin-1"), "found: byte 0xe9 at position 7, which is not UTF-8"),
        ('"a"'.encode("utf-16"), "found: byte 0xff at position 0, which is not UTF-8"),
        (b'{"a": 1,\n "b" 2}', "found: Expecting ':' delimiter: line 2 column 6 (char 14)"),
        (b"", "found: Expecting value: line 1 column 1 (char 0)"),
        (b"[" * 200_000, f"found: more than {MAX_DEPTH} arrays and objects inside each other"),
        (
            b'[{"a":' * 1500 + b"1" + b"}]" * 1500,
            f"found: more than {MAX_DEPTH} arrays and objects inside each other",
        ),
        # Unfinished, and long: the parser's own message is the better one.
        (b'[{"a": [[' + b'{"b": 1},' * 100, "found: Expecting value: line 1 column 910"),
        (b'[{"a": "' + b"[" * 1000, "found: Unterminated string starting at: line 1 column 8"),
    ],
    ids=range(17),
)
def test_refused(data: bytes, message: str) -> None:
    with pytest.raises(JsonError) as caught:
        parse(data, "x")
    assert message in str(caught.value)
    assert len(str(caught.value)) < 300


def test_nesting_at_the_bound() -> None:
    parse(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, "x")
    # What looks like nesting in a text is none.
    parse(json.dumps(["[{" * 500, '"[', "\\", "[[" * 500] * 20).encode(), "x")
    with pytest.raises(JsonError, match="more than 64 arrays and objects inside each other"):
        parse(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "x")


def test_a_surrogate_pair_and_an_escaped_backslash_are_characters() -> None:
    assert parse(rb'["\ud83d\ude00", "\\ud800"]', "x") == ["\U0001f600", r"\ud800"]


def test_doubled_keys_can_be_collected() -> None:
    doubled: list[str] = []
    found = parse(b'{"a": 1, "a": 2, "b": {"c": 1, "c": 1}, "a": 3}', "x", doubled=doubled)
    assert found == {"a": 3, "b": {"c": 1}}
    assert doubled == ["c", "a"]


def test_size_and_count_have_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(JsonError, match=f"found: more than {MAX_SIZE} bytes"):
        parse(b" " * (MAX_SIZE + 1), "x")
    with pytest.raises(JsonError, match=f"more than {MAX_VALUES} values"):
        parse(b"[" + b"0," * (MAX_VALUES - 1) + b"0,0]", "x")
    # Commas in texts do not count.
    monkeypatch.setattr(strictjson, "MAX_VALUES", 10)
    assert parse(json.dumps(["a,b,c"] * 8).encode(), "x") == ["a,b,c"] * 8


@given(VALUES, st.integers(1, 40), st.integers(0, 200))
def test_structure_is_what_is_in_no_string(value: object, block: int, cut: int) -> None:
    data = json.dumps([value, "\\", '[{"'], ensure_ascii=False).encode()
    expected = bytearray()
    inside = escaped = False
    for byte in data[:-cut] if cut else data:
        if inside:
            escaped, inside = byte == 0x5C and not escaped, byte != 0x22 or escaped
        elif byte == 0x22:
            inside = True
        elif byte in b"[]{},":
            expected.append(byte)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strictjson, "_BLOCK", block)
        assert strictjson._structure(data[:-cut] if cut else data) == expected


def test_a_file_is_read_only_when_it_is_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'{"a": 1}')
    assert read(path) == {"a": 1}
    with pytest.raises(IsADirectoryError):
        read(tmp_path)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "b.json")
    path.write_bytes(b"{")
    with pytest.raises(JsonError, match=r"a\.json is damaged"):
        read(path)
    with path.open("wb") as file:
        file.truncate(MAX_SIZE * 4)
    with pytest.raises(
        JsonError, match=r"a\.json is damaged\n  expected: JSON\n  found: more than"
    ):
        read(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_nobody_waits_for_a_named_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="it is a named pipe and not a regular file"):
        read(tmp_path / "pipe")
    with pytest.raises(OSError, match="it is a device or socket and not a regular file"):
        read(type(tmp_path)(os.devnull))


HOSTILE = {
    "arrays": 'b"[" + b"[],"*n + b"[]]"',
    "objects": 'b"[" + b\'{"a":0},\'*n + b"{}]"',
    "large characters": 'b\'["\' + "\\U0001f600".encode() + b"a"*(2*n) + b\'"]\'',
    "texts": 'b"[" + b\'"ab",\'*n + b"0]"',
}

MEASURE = """
import resource, sys
from stackbuild.strictjson import JsonError, MAX_SIZE, parse
n = {n}
data = {data}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    parse(data, "x")
except JsonError:
    pass
print(len(data), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measured in the unit of Linux")
@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("n", [490_000, 2_000_000])
def test_memory_is_bounded(kind: str, n: int) -> None:
    program = MEASURE.format(n=n, data=HOSTILE[kind])
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert int(done.stdout.split()[1]) < 300, "MB"
