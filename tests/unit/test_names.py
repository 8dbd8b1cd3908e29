"""Which names layers and their files can have."""

from __future__ import annotations

import re
import string
from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackbuild.names import (
    MAX_DEPTH,
    MAX_PATH,
    is_directory_of,
    layer_directory,
    layer_name_fault,
    path_fault,
)

LETTERS = string.ascii_letters + string.digits
RESERVED = ["con", "PRN", "aux", "NUL", "com1", "LPT9", "com\u00b9", "CONIN$", "aux.py", "nul .txt"]
PARTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/\\:"), min_size=1)


@given(st.text(LETTERS + "._@-", min_size=1, max_size=60).filter(lambda text: text[0] in LETTERS))
def test_a_valid_layer_name_is_safe(name: str) -> None:
    fault = layer_name_fault(name)
    if fault is None:
        assert path_fault(name) is None
        assert path_fault(name, "windows") is None
        assert name.lower() not in {"current", "generations", "state", "damaged", "lock"}
    else:
        assert name.endswith(".") or path_fault(name, "windows") or "stackbuild" in fault


@given(st.text(max_size=12))
def test_any_other_character_is_refused(name: str) -> None:
    if not re.fullmatch(f"[{LETTERS}][{LETTERS}._@-]*", name):
        assert layer_name_fault(name) == "is not a valid layer name"


@pytest.mark.parametrize(
    "name",
    [
        *("cpython-3.12", "framework", "atls", "report@1", "scipy@5", "app-scipy-import", "3.11"),
        *("a" * 100, "constant", "auxiliary", "com10", "nullable", "statement", "A_b.c-d@e"),
    ],
)
def test_usual_names_are_valid(name: str) -> None:
    assert layer_name_fault(name) is None


@pytest.mark.parametrize("name", ["state", "State", "damaged", "current", "lock", "state.json"])
def test_names_of_our_own_files_are_refused(name: str) -> None:
    assert layer_name_fault(name) == ("is used for a file of stackbuild in installed roots")


@given(
    st.text(LETTERS, min_size=1, max_size=9),
    st.none() | st.integers(0, 999_999_999),
    st.text(LETTERS + "@", min_size=1, max_size=9),
)
def test_a_directory_belongs_to_one_layer(name: str, version: int | None, other: str) -> None:
    directory = layer_directory(name, version)
    assert is_directory_of(directory, name)
    assert is_directory_of(directory, other) == (other in {name, directory})


@pytest.mark.parametrize("directory", ["a@", "a@01", "a@x", "a@1@2", "a1", "@1", "A", "b", ""])
def test_other_directories_are_none_of_a_layer(directory: str) -> None:
    assert not is_directory_of(directory, "a")


@given(st.lists(PARTS, min_size=1, max_size=6).map("/".join))
def test_what_windows_cannot_have_is_found(path: str) -> None:
    if path_fault(path) is None and path_fault(path, "windows") is None:
        for part in path.split("/"):
            assert not set(part) & set('<>:"|?*\\') | {c for c in part if c < " "}
            assert part == part.rstrip(" .")
            assert not PureWindowsPath(part).is_reserved()


@pytest.mark.parametrize("name", RESERVED)
@pytest.mark.parametrize("around", ["{}", "lib/{}", "{}/x.py", "a/{}/b"])
def test_names_of_devices(name: str, around: str) -> None:
    path = around.format(name)
    assert path_fault(path, "windows") == "has a name that Windows reserves for a device"
    assert path_fault(path, "linux") is None
    assert path_fault(path, "macos") is None
    assert path_fault(around.format(f"x{name}"), "windows") is None
    assert path_fault(around.format(f"{name.partition('.')[0].strip()}x"), "windows") is None


@pytest.mark.parametrize("character", '<>:"|?*')
def test_characters_that_windows_reserves(character: str) -> None:
    fault = path_fault(f"lib/a{character}b.py", "windows")
    assert fault == 'has one of the characters < > : " | ? * that Windows reserves'
    assert path_fault(f"lib/a{character}b.py", "linux") is None


@pytest.mark.parametrize("path", ["a./b", "a /b", "b/a.", "b/a ", "a. "])
def test_a_dot_or_a_space_at_the_end(path: str) -> None:
    fault = "has a dot or a space at the end of a name, which Windows drops"
    assert path_fault(path, "windows") == fault
    assert path_fault(path, "linux") is None


def test_a_control_character_on_windows() -> None:
    fault = "has a control character, which Windows does not allow"
    assert path_fault("a\nb", "windows") == fault


def test_lengths_that_are_accepted_can_be_created(tmp_path: Path) -> None:
    for name in ("x" * 255, "\u00e9" * 127):
        assert path_fault(name) is None
        (tmp_path / name).write_text("")
        assert (
            path_fault(f"lib/{name}{'x' * (256 - len(name.encode()))}")
            == "has a name of more than 255 bytes"
        )


def test_lengths_and_depths() -> None:
    assert path_fault("/".join(["a"] * MAX_DEPTH)) is None
    assert path_fault("/".join(["a"] * (MAX_DEPTH + 1))) == ("has more than 100 nested directories")
    long = "/".join(["a" * 204] * 5)
    assert len(long) == MAX_PATH
    assert path_fault(long) is None
    assert path_fault(f"{long}a") == "is longer than 1024 bytes"


@pytest.mark.parametrize(
    "path", ["", "/a", "a//b", "a/", "./a", "a/..", "..", "a\\b", "c:/x", "a\0"]
)
def test_paths_that_leave_or_name_nothing(path: str) -> None:
    assert path_fault(path) is not None
