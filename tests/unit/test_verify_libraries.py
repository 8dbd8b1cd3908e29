"""Libraries and processors of native files, in the formats of all systems."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackbuild.errors import ComposeError
from stackbuild.messages import Silent
from stackbuild.platforms import Platform
from stackbuild.verify.binary import Binary
from stackbuild.verify.build_paths import BuildPaths
from stackbuild.verify.formats import read_binary
from stackbuild.verify.host_libraries import of_windows
from stackbuild.verify.known import entries_of
from stackbuild.verify.libraries import check_libraries
from stackbuild.verify.reading import ReadLayer, read_layer
from tests.support import images
from tests.support.deployed import SITE, distribution, layer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from stackbuild.verify.deployed import DeployedLayer

WINDOWS_SITE = "Lib/site-packages"
MAC, ARM_WINDOWS = Platform.MACOSX_AARCH64, Platform.WINDOWS_AARCH64
NAMES = st.lists(st.from_regex(r"[A-Za-z0-9_.+-]{1,20}\.dll", fullmatch=True), max_size=6)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file.dll"


def read(path: Path, data: bytes, platform: Platform) -> Binary | None:
    path.write_bytes(data)
    return read_binary(path, data[:4], platform)


# --- reading


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
    with pytest.raises(ComposeError, match="a program file is damaged"):
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
            ]
        )
    )
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(0, 4))):
        bad[data.draw(st.integers(4, min(len(bad), 700) - 1))] = data.draw(st.integers(0, 255))
    # Whatever it is that is wrong, no other error may come of it.
    with contextlib.suppress(ComposeError):
        read(file, bytes(bad[: data.draw(st.integers(4, len(bad)))]), platform)


def test_truncated_macho_files_are_damaged(file: Path) -> None:
    data = images.macho(needed=["@rpath/liba.dylib"])
    for size in (6, 20, 40, len(data) - 30):
        with pytest.raises(ComposeError, match="a program file is damaged"):
            read(file, data[:size], MAC)


def test_reading_a_pe_file_is_what_loads_its_reader(file: Path) -> None:
    sys.modules.pop("pefile", None)
    read(file, images.elf(), Platform.LINUX_X64)
    read(file, images.macho(), MAC)
    assert "pefile" not in sys.modules


# --- finding


def deployed(
    directory: Path,
    platform: Platform,
    files: Mapping[str, bytes],
    *,
    wheel: str = "own-1.0-cp312-cp312-any_any.whl",
    runtime_files: Iterable[str] = (),
    base_files: Iterable[str] = (),
) -> tuple[list[DeployedLayer], ReadLayer]:
    """An application with `files`, owned by one distribution, on a framework and a runtime."""
    for name, data in files.items():
        path = directory / "app" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for name, others in (("base", base_files), ("cpython", runtime_files)):
        for other in others:
            (directory / name / other).parent.mkdir(parents=True, exist_ok=True)
            (directory / name / other).touch()
    runtime = layer("cpython", directory=directory, platform=platform, files=runtime_files)
    base = layer("base", below=[runtime], directory=directory, platform=platform, files=base_files)
    owner = replace(distribution("own"), wheel=wheel)
    app = layer(
        "app", owner, below=[base, runtime], directory=directory, platform=platform, files=files
    )
    with Silent().task("reading", None) as task:
        seen = read_layer(app, BuildPaths([], []), 1, task)
    assert seen.findings == ()
    owned = ReadLayer(seen.files, (), seen.binaries, dict.fromkeys(files, owner))
    return [app, base, runtime], owned


def test_elf_libraries_are_found_in_the_chain_or_on_every_host(tmp_path: Path) -> None:
    (tmp_path / "app" / SITE / "own").mkdir(parents=True)
    (tmp_path / "app" / SITE / "own" / "libbeside.so").touch()
    base = layer("base", files=[f"{SITE}/b.libs/liblower.so.1"], links=["lib/liblink.so.2"])
    needed = (
        *("libc.so.6", "libstdc++.so.6", "libcuda.so.1", "liblower.so.1", "liblink.so.2"),
        *("libbeside.so", "libssl.so.3", "libodd-1.so"),
    )
    runtime = layer("cpython", provenance={"runtime": {"host_libraries": ["libssl.so.3"]}})
    app = layer("app", below=[base, runtime], directory=tmp_path)
    binary = Binary(machines=("x86_64",), needed=needed, search=("$ORIGIN",))
    binaries = {f"{SITE}/own/{name}.so": binary for name in ("a", "b")}
    read = ReadLayer(2, (), binaries, {f"{SITE}/own/a.so": distribution("own")})
    found = check_libraries(app, read, [app, base, runtime], ["libodd-*"])
    assert [(one.distribution, one.expected, one.file) for one in found] == [
        ("own 1.0", "libssl.so.3", f"{SITE}/own/a.so"),
        (None, "libssl.so.3", f"{SITE}/own/b.so"),
    ]
    # What a stand-in needs of its host is granted to the runtime alone.
    module = Binary(machines=("x86_64",), needed=("libssl.so.3",))
    own = ReadLayer(1, (), {"lib-dynload/_ssl.so": module}, {})
    assert check_libraries(runtime, own, [runtime], []) == []


FOUND_BY_DYLD = [
    *("/usr/lib/libSystem.B.dylib", "/System/Library/Frameworks/X.framework/X"),
    *("@loader_path/.dylibs/liba.dylib", "@loader_path/../own/./.dylibs/liba.dylib"),
    "@executable_path/../lib/libpython3.12.dylib",
    *("@rpath/liba.dylib", "@rpath/libbase.dylib", "@rpath/libnotfar.dylib", "libbase.dylib"),
    "@rpath/libswiftCore.dylib",
]
NOT_FOUND_BY_DYLD = [
    *("/opt/homebrew/lib/libomp.dylib", "/usr/local/lib/libodd.dylib", "@rpath/libomp.dylib"),
    # Those are in the chain, but elsewhere; and the one outside of it is nobody's.
    *("@loader_path/liba.dylib", "@executable_path/libpython3.12.dylib"),
    "@loader_path/../../../../../outside.dylib",
]


@pytest.mark.parametrize(
    ("name", "there"),
    [*((name, True) for name in FOUND_BY_DYLD), *((name, False) for name in NOT_FOUND_BY_DYLD)],
)
def test_where_dyld_finds_libraries(tmp_path: Path, name: str, there: bool) -> None:
    (tmp_path / "outside.dylib").touch()
    rpaths = ["@loader_path/.dylibs", "@loader_path/../far"]
    rpaths += ["/usr/lib/swift"] if "swift" in name else []
    chain, seen = deployed(
        tmp_path,
        MAC,
        {
            f"{SITE}/own/_own.cpython-312-darwin.so": images.macho(
                needed=[name], rpaths=rpaths, kind=images.BUNDLE
            ),
            f"{SITE}/own/.dylibs/liba.dylib": b"",
            f"{SITE}/far/libnotfar.dylib": b"",
        },
        runtime_files=["lib/libpython3.12.dylib"],
        base_files=[f"{SITE}/lib/libbase.dylib"],
    )
    found = check_libraries(chain[0], seen, chain, [])
    assert [one.expected for one in found] == ([] if there else [name])
    if not there:
        last = name.rpartition("/")[2]
        assert check_libraries(chain[0], seen, chain, [last]) == []
        assert check_libraries(chain[0], seen, chain, [name]) == []


def test_a_program_is_its_own_executable(tmp_path: Path) -> None:
    data = images.macho(needed=["@executable_path/../lib/libown.dylib"], kind=images.PROGRAM)
    files = {f"{SITE}/own/bin/tool": data, f"{SITE}/own/lib/libown.dylib": b""}
    chain, seen = deployed(tmp_path, MAC, files)
    assert check_libraries(chain[0], seen, chain, []) == []


def test_where_windows_finds_dlls(tmp_path: Path) -> None:
    needed = [
        *("KERNEL32.dll", "api-ms-win-crt-heap-l1-1-0.dll", "WINSPOOL.DRV", "nvcuda.dll"),
        *("python312.dll", "VCRUNTIME140.dll", "VCRUNTIME140_1.dll"),
        *("beside.dll", "openblas-0123.dll", "Lower.dll"),
        *("MSVCP140.dll", "tbb12.dll"),
    ]
    chain, seen = deployed(
        tmp_path,
        Platform.WINDOWS_X64,
        {
            f"{WINDOWS_SITE}/own/_own.cp312-win_amd64.pyd": images.pe("x86_64", needed),
            f"{WINDOWS_SITE}/own/more.pyd": images.pe("x86_64", ["msvcp140.DLL"]),
            f"{WINDOWS_SITE}/own/Beside.DLL": images.pe("x86_64"),
            f"{WINDOWS_SITE}/own.libs/openblas-0123.dll": images.pe("x86_64"),
        },
        runtime_files=["python312.dll", "vcruntime140.dll"],
        base_files=[f"{WINDOWS_SITE}/lib/lower.dll"],
    )
    found = check_libraries(chain[0], seen, chain, [])
    first = f"{WINDOWS_SITE}/own/_own.cp312-win_amd64.pyd"
    assert [(one.file, one.distribution, one.expected, one.found) for one in found] == [
        (first, "own 1.0", "msvcp140.dll", "2 files that need it"),
        (first, "own 1.0", "tbb12.dll", None),
        (first, "own 1.0", "vcruntime140_1.dll", None),
    ]
    patterns = ["MSVCP140*.dll", "vcruntime140_1.dll", "TBB12.dll"]
    assert check_libraries(chain[0], seen, chain, patterns) == []


@pytest.mark.parametrize(
    ("name", "own"),
    [
        *(("ucrtbase.dll", True), ("ws2_32.dll", True), ("ext-ms-win-ntuser-x-l1-1-0.dll", True)),
        *(("vcruntime140.dll", False), ("msvcp140.dll", False), ("vcomp140.dll", False)),
        *(("python312.dll", False), ("kernel32", False)),
    ],
)
def test_what_windows_has(name: str, own: bool) -> None:
    assert of_windows(name) is own


# --- processors

OTHERS = [
    (Platform.LINUX_AARCH64, "own/_own.so", images.elf("x86_64"), "x86_64"),
    (Platform.LINUX_X64, "own/_own.so", images.elf("i386"), "i386"),
    (Platform.LINUX_X64, "own/kernels.hsaco", images.elf("amdgpu"), None),
    (Platform.LINUX_X64, "own/_own.so", images.pe("aarch64"), None),
    (MAC, "own/_own.so", images.macho("x86_64"), "x86_64"),
    (MAC, "own/tool", images.macho("x86_64", kind=images.PROGRAM), "x86_64"),
    (
        MAC,
        "own/_own.so",
        images.fat({"x86_64": images.macho("x86_64"), "arm64e": images.macho("arm64e")}),
        "x86_64, arm64e",
    ),
    (Platform.WINDOWS_X64, "own/own.dll", images.pe("aarch64"), "aarch64"),
    (ARM_WINDOWS, "own/own.dll", images.pe("i386", ["nowhere.dll"]), "i386"),
    (ARM_WINDOWS, "own/own.dll", images.pe("i386", managed=True), None),
    # What Windows runs by emulation, and what says itself that it is for another processor.
    (ARM_WINDOWS, "own/tool.exe", images.pe("x86_64", program=True), None),
    (Platform.WINDOWS_X64, "own/tool.exe", images.pe("aarch64", program=True), "aarch64"),
    (Platform.WINDOWS_X64, "own/t64-arm64.exe", images.pe("aarch64", program=True), None),
    (Platform.WINDOWS_X64, "own/attach_x86.dll", images.pe("i386"), None),
    (Platform.WINDOWS_X64, "own/x86_64/own.dll", images.pe("i386"), "i386"),
    (Platform.LINUX_X64, "own/_own.cpython-312-aarch64-linux-gnu.so", images.elf("aarch64"), None),
]


@pytest.mark.parametrize(("platform", "name", "data", "other"), OTHERS)
def test_files_for_another_processor(
    tmp_path: Path, platform: Platform, name: str, data: bytes, other: str | None
) -> None:
    site = WINDOWS_SITE if platform.os == "windows" else SITE
    chain, seen = deployed(tmp_path, platform, {f"{site}/{name}": data})
    found = check_libraries(chain[0], seen, chain, [])
    expected = [("is not made for this processor", f"{site}/{name}", platform.machine, other)]
    assert [(one.message, one.file, one.expected, one.found) for one in found] == (
        expected if other else []
    )


def test_a_wheel_for_any_platform_picks_its_own(tmp_path: Path) -> None:
    data = images.macho("x86_64", ["@rpath/libnowhere.dylib"])
    files = {f"{SITE}/own/{name}": data for name in ("a.dylib", "b.dylib")}
    for wheel, count in (("own-1-py3-none-any.whl", 0), ("own-1-py3-none-macosx_11_0.whl", 1)):
        chain, seen = deployed(tmp_path, MAC, files, wheel=wheel)
        found = check_libraries(chain[0], seen, chain, [])
        assert [one.found for one in found] == ["x86_64, in 2 files"] * count


# --- known import errors


@pytest.mark.parametrize(
    ("platform", "module", "data", "table", "allowed"),
    [
        (MAC, "own/pool.cpython-312-darwin.so", images.macho(needed=["@rpath/libtbb.12.dylib"]),
         {"own-*": {"own.pool": "libtbb.12.dylib"}}, True),
        (MAC, "own/pool.cpython-312-darwin.so", images.macho(needed=["@rpath/libtbb.12.dylib"]),
         {"own-*": {"own.pool": "libomp.dylib"}}, False),
        (MAC, "own/pool.cpython-312-darwin.so", images.macho(needed=["@rpath/libtbb.12.dylib"]),
         {"own-*": {"own.other": "libtbb"}, "other-*": {"own.*": "libtbb.12.dylib"}}, False),
        (Platform.WINDOWS_X64, "own/pool.cp312-win_amd64.pyd", images.pe(needed=["tbb12.dll"]),
         {"own-*": {"own.*": "DLL load failed while importing pool"}}, True),
        (Platform.WINDOWS_X64, "own/pool.dll", images.pe(needed=["tbb12.dll"]),
         {"own-*": {"*": "DLL load failed"}}, False),
    ],
)  # fmt: skip
def test_known_errors_where_nothing_is_imported(
    tmp_path: Path,
    platform: Platform,
    module: str,
    data: bytes,
    table: Mapping[str, Mapping[str, str]],
    allowed: bool,
) -> None:
    site = WINDOWS_SITE if platform.os == "windows" else SITE
    chain, seen = deployed(tmp_path, platform, {f"{site}/{module}": data})
    found = check_libraries(chain[0], seen, chain, [], entries_of("app", table))
    assert (found == []) is allowed
