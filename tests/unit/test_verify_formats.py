"""What is read of programs and shared libraries, in the formats of all systems."""

from __future__ import annotations

import contextlib
import struct
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackbuild.errors import ComposeError
from stackbuild.frames.binaries import read_binary
from stackbuild.frames.model import Binary
from stackbuild.platforms import Platform
from tests.support import images

if TYPE_CHECKING:
    from pathlib import Path

MAC, ARM_WINDOWS = Platform.MACOSX_AARCH64, Platform.WINDOWS_AARCH64
NAMES = st.lists(st.from_regex(r"[A-Za-z0-9_.+-]{1,20}\.dll", fullmatch=True), max_size=6)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file.dll"


def read(path: Path, data: bytes, platform: Platform) -> Binary | None:
    path.write_bytes(data)
    return read_binary(path, data[:4], platform)


def test_what_a_macho_file_needs(file: Path) -> None:
    data = images.macho(
        needed=["/usr/lib/libSystem.B.dylib", "@rpath/libä.dylib"],
        weak=["@rpath/libmaybe.dylib"],
        reexported=["@loader_path/libmore.dylib"],
        rpaths=["@loader_path/../lib", "/usr/lib/swift"],
        name="@rpath/libitself.dylib",
    )
    assert read(file, data, MAC) == Binary(
        machines=("aarch64",),
        needed=(
            *("/usr/lib/libSystem.B.dylib", "@rpath/libä.dylib"),
            "@loader_path/libmore.dylib",
        ),
        search=("@loader_path/../lib", "/usr/lib/swift"),
    )
    # The mode of its file tells nothing of a program; the header does.
    found = read(file, images.macho(kind=images.PROGRAM), MAC)
    assert found == Binary(machines=("aarch64",), program=True)


def test_the_slice_of_the_processor_counts(file: Path) -> None:
    intel, arm = images.macho("x86_64", ["intel"]), images.macho("aarch64", ["arm"])
    both = images.fat({"x86_64": intel, "aarch64": arm})
    for platform, needed in ((MAC, ("arm",)), (Platform.MACOSX_X64, ("intel",))):
        found = read(file, both, platform)
        assert found == Binary(machines=("x86_64", "aarch64"), needed=needed)
    lone = read(file, images.fat({"x86_64": intel, "arm64e": images.macho("arm64e")}), MAC)
    assert lone == Binary(machines=("x86_64", "arm64e"))


def test_what_dyld_does_not_load(file: Path) -> None:
    java = b"\xca\xfe\xba\xbe\x00\x00\x00\x34" + b"\0" * 200
    archive = images.fat({"x86_64": b"!<arch>\n", "aarch64": b"!<arch>\n"})
    for data in (java, archive, images.macho(kind=images.DEBUG_SYMBOLS), b"\x7fELF", b"", b"MZ"):
        assert read(file, data, MAC) is None


@pytest.mark.parametrize("machine", ["i386", "x86_64", "aarch64"])
def test_what_a_pe_file_needs(file: Path, machine: str) -> None:
    found = read(file, images.pe(machine, ["KERNEL32.dll", "Foo-1.DLL"]), ARM_WINDOWS)
    assert found == Binary(machines=(machine,), needed=("kernel32.dll", "foo-1.dll"))
    program = read(file, images.pe(machine, program=True), ARM_WINDOWS)
    assert program == Binary(machines=(machine,), program=True)


def test_code_of_dotnet_is_for_any_processor(file: Path) -> None:
    assert read(file, images.pe("i386", managed=True), ARM_WINDOWS) == Binary(machines=())


def test_what_only_begins_like_a_program(tmp_path: Path) -> None:
    text = b"MZ is how it begins.\n" * 9
    assert read(tmp_path / "notes.txt", text, ARM_WINDOWS) is None
    with pytest.raises(ComposeError, match="a binary file is damaged"):
        read(tmp_path / "notes.dll", text, ARM_WINDOWS)


@given(names=NAMES)
def test_any_names_of_dlls(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    file = tmp_path_factory.getbasetemp() / "any.dll"
    found = read(file, images.pe("x86_64", names), ARM_WINDOWS)
    assert found is not None
    assert found.needed == tuple(name.lower() for name in names)


@given(st.data())
def test_damaged_files_are_told_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    file = tmp_path_factory.getbasetemp() / "damaged.dll"
    good, platform = data.draw(
        st.sampled_from(
            [
                (images.macho(needed=["a" * 9, "b"], rpaths=["c"]), MAC),
                (images.fat({"aarch64": images.macho(needed=["a"])}), MAC),
                (images.pe("aarch64", ["a.dll", "b.dll"]), ARM_WINDOWS),
                (images.elf(needed=["a.so", "b.so"]), Platform.LINUX_X64),
            ]
        )
    )
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(0, 4))):
        bad[data.draw(st.integers(4, min(len(bad), 700) - 1))] = data.draw(st.integers(0, 255))
    # Whatever it is that is wrong, no other error may come of it.
    with contextlib.suppress(ComposeError):
        read(file, bytes(bad[: data.draw(st.integers(4, len(bad)))]), platform)


@pytest.mark.parametrize("offset", [2**63 - 1, 2**63, 2**64 - 1])
def test_elf_files_with_wrong_offsets_are_damaged(file: Path, offset: int) -> None:
    data = bytearray(images.elf(needed=["liba.so"]))
    struct.pack_into("<Q", data, 64 + 56 + 8, offset)  # of the dynamic segment
    with pytest.raises(ComposeError, match="a binary file is damaged"):
        read(file, bytes(data), Platform.LINUX_X64)


def test_truncated_macho_files_are_damaged(file: Path) -> None:
    data = images.macho(needed=["@rpath/liba.dylib"])
    for size in (6, 20, 40, len(data) - 30):
        with pytest.raises(ComposeError, match="a binary file is damaged"):
            read(file, data[:size], MAC)


def test_reading_a_pe_file_is_what_loads_its_reader(file: Path) -> None:
    sys.modules.pop("pefile", None)
    read(file, images.elf(), Platform.LINUX_X64)
    read(file, images.macho(), MAC)
    assert "pefile" not in sys.modules
