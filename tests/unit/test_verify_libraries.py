"""Libraries and processors of native files, in the formats of all systems."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import tomli

from stackbuild.frames.model import Binary, FrameKind
from stackbuild.linking.host_libraries import of_windows
from stackbuild.messages import Silent
from stackbuild.platforms import Platform
from stackbuild.verify.build_paths import BuildPaths
from stackbuild.verify.check import _is_explained
from stackbuild.verify.expected_failures import Tried, entries_of
from stackbuild.verify.libraries import check_libraries, search_path_warnings
from stackbuild.verify.model import Finding, Outcome, Rules
from stackbuild.verify.modules import check_modules
from stackbuild.verify.record_check import ReadLayer, read_layer
from stackbuild.verify.requirements import check_requirements
from tests.support import images
from tests.support.deployed import SITE, distribution, layer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from stackbuild.verify.deployed import DeployedLayer

WINDOWS_SITE = "Lib/site-packages"
MAC, ARM_WINDOWS = Platform.MACOSX_AARCH64, Platform.WINDOWS_AARCH64


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
    base = layer("base", files=[f"{SITE}/b.libs/liblower.so.1"], links=["lib/liblink.so.2"])
    needed = (
        *("libc.so.6", "libstdc++.so.6", "libcuda.so.1", "liblower.so.1", "liblink.so.2"),
        *("libbeside.so", "libssl.so.3", "libodd-1.so"),
    )
    needs: dict[str, object] = {"runtime": {"host_libraries": ["libssl.so.3"]}}
    runtime = layer("cpython", provenance=needs)
    app = layer(
        "app",
        below=[base, runtime],
        directory=tmp_path,
        provenance=needs,
        files=[f"{SITE}/own/libbeside.so"],
    )
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


def test_headers_in_remedies_are_toml(tmp_path: Path) -> None:
    """A dot in the name of a layer must not divide its table."""
    module = f"{SITE}/a.cpython-310-x86_64-linux-gnu.so"
    owner = distribution("own", requires=["absent"])
    app = layer("my.app", owner, below=[layer("cpython")], directory=tmp_path, files=[module])
    chain = [app, layer("cpython")]
    binary = Binary(machines=("x86_64",), needed=("libodd.so.1",))
    read = ReadLayer(1, (), {module: binary}, {module: owner}, {module: b"\x7fELF"})
    (tmp_path / "my.app").mkdir()
    (tmp_path / "my.app/made.cfg").write_text("home = /tmp/someone/python\n")
    own = replace(app, kinds={"made.cfg": FrameKind.HEAD})
    with Silent().task("reading", None) as task:
        findings = [*read_layer(own, BuildPaths([], []), 1, task).findings]
    findings += check_libraries(app, read, chain, [])
    findings += check_modules(app, read, [])
    findings += check_requirements(chain, Rules())
    assert [one.check for one in findings] == ["path", "library", "module", "requirement"]
    for one in findings:
        headers = re.findall(r"\[tool\.stackbuild[^\s;,]*\]", one.remedy or "")
        assert headers, one
        for header in headers:
            assert list(tomli.loads(header)["tool"]["stackbuild"]["layers"]) == ["my.app"]


@pytest.mark.parametrize(
    ("needed", "there"),
    [
        ("$ORIGIN/../lib/libpython3.9.so.1.0", True),
        ("${ORIGIN}/../lib/libpython3.9.so.1.0", True),
        ("$ORIGIN/libpython3.9.so.1.0", False),
        ("$ORIGIN/../../outside.so", False),
        ("/lib/libpython3.9.so.1.0", False),
    ],
)
def test_a_needed_elf_library_may_be_named_with_its_path(
    tmp_path: Path, needed: str, there: bool
) -> None:
    """Interpreters of python-build-standalone 3.9 name their libpython like this."""
    (tmp_path / "outside.so").touch()
    files = {
        "bin/python3.9": images.elf(needed=[needed, "libc.so.6"]),
        "lib/libpython3.9.so.1.0": images.elf(needed=["libc.so.6"]),
    }
    chain, seen = deployed(tmp_path, Platform.LINUX_X64, files)
    found = check_libraries(chain[0], seen, chain, [])
    assert [one.expected for one in found] == ([] if there else [needed])


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


HOME, OWN = "/Users/fx/lib", "@loader_path/.dylibs"


@pytest.mark.parametrize(
    ("name", "rpaths", "found"),
    [
        ("@rpath/liba.dylib", [HOME, OWN], [HOME]),
        ("@rpath/liba.dylib", ["/opt/x/lib", HOME, OWN], ["/opt/x/lib", HOME]),
        # As in wheels of scipy, scikit-learn and torchvision.
        ("@rpath/liba.dylib", [OWN, HOME], []),
        ("@loader_path/.dylibs/liba.dylib", [HOME], []),
        ("@rpath/libnotfar.dylib", [HOME], []),
        # macOS's own directory, which others cannot write.
        ("@rpath/liba.dylib", ["/usr/lib/swift", OWN], []),
    ],
)
def test_search_paths_of_the_host_before_those_of_the_layer(
    tmp_path: Path, name: str, rpaths: list[str], found: list[str]
) -> None:
    module = f"{SITE}/own/_own.cpython-312-darwin.so"
    files = {
        module: images.macho(needed=[name], rpaths=rpaths, kind=images.BUNDLE),
        f"{SITE}/own/.dylibs/liba.dylib": b"",
        f"{SITE}/far/libnotfar.dylib": b"",
    }
    chain, seen = deployed(tmp_path, MAC, files)
    text = (
        f"app: own 1.0 searches {', '.join(found)} of the host before its own directories for"
        f" shared libraries, in {module}; add globs on them to `allow-paths` in"
        " [tool.stackbuild.layers.app.verify] if no host has them"
    )
    assert search_path_warnings(chain[0], seen, chain) == ([text] if found else [])
    assert search_path_warnings(chain[0], seen, chain, found) == []


def test_search_paths_of_elf_files(tmp_path: Path) -> None:
    library, module = f"{SITE}/own.libs/liba.so.1", f"{SITE}/own/a.so"
    app = layer("app", below=[layer("cpython")], directory=tmp_path, files=[library, module])
    chain = [app, layer("cpython")]

    def is_found(*search: str) -> bool:
        needed = ("liba.so.1", "libc.so.6")
        binary = Binary(machines=("x86_64",), needed=needed, search=search)
        read = ReadLayer(1, (), {module: binary}, {})
        return bool(search_path_warnings(app, read, chain))

    assert is_found("/usr/local/lib", "$ORIGIN/../own.libs")
    assert not is_found("$ORIGIN/../own.libs", "/usr/local/lib")
    assert not is_found("/usr/local/lib")


def test_where_a_missing_library_is_searched_on_the_host(tmp_path: Path) -> None:
    data = images.macho(needed=["@rpath/libomp.dylib"], rpaths=["/opt/homebrew/lib", OWN])
    chain, seen = deployed(tmp_path, MAC, {f"{SITE}/own/a.so": data})
    (one,) = check_libraries(chain[0], seen, chain, [])
    assert (one.expected, one.found) == ("@rpath/libomp.dylib", "the search path /opt/homebrew/lib")
    assert search_path_warnings(chain[0], seen, chain) == []


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

POOL = "own/pool.cpython-312-darwin.so", images.macho(needed=["@rpath/libtbb.12.dylib"])
WINDOWS_POOL = "own/pool.cp312-win_amd64.pyd", images.pe(needed=["tbb12.dll"])


@pytest.mark.parametrize(
    ("platform", "file", "table", "allowed"),
    [
        (MAC, POOL, {"own-*": {"own.pool": "not loaded: @rpath/libtbb.12.dylib"}}, True),
        (MAC, POOL, {"own-*": {"own.p*": "LIBTBB"}}, True),
        (MAC, POOL, {"own-*": {"own.pool": "libomp.dylib"}}, False),
        (MAC, POOL, {"own-*": {"own.other": "libtbb"}}, False),
        (MAC, POOL, {"other-*": {"own.*": "libtbb"}}, False),
        (Platform.WINDOWS_X64, WINDOWS_POOL, {"own-*": {"own.*": "DLL load failed while"}}, True),
        (Platform.WINDOWS_X64, WINDOWS_POOL, {"own-*": {"own.x": "DLL load failed while"}}, False),
        # What is no module cannot be imported, so no failure of it is known.
        (
            Platform.WINDOWS_X64,
            ("own/pool.dll", WINDOWS_POOL[1]),
            {"own-*": {"*": "DLL load failed"}},
            False,
        ),
    ],
)
def test_known_errors_where_nothing_is_imported(
    tmp_path: Path,
    platform: Platform,
    file: tuple[str, bytes],
    table: Mapping[str, Mapping[str, str]],
    allowed: bool,
) -> None:
    site = WINDOWS_SITE if platform.os == "windows" else SITE
    chain, seen = deployed(tmp_path, platform, {f"{site}/{file[0]}": file[1]})
    found = check_libraries(
        chain[0], seen, chain, [], entries_of("app", Rules(allow_import_errors=table))
    )
    assert (found == []) is allowed


@pytest.mark.parametrize(
    ("file", "text", "explained"),
    [
        ("own/pool.cpython-312-darwin.so", "Library not loaded: @rpath/libtbb.12.dylib", True),
        ("own/pool.cp312-win_amd64.pyd", "ImportError: DLL load failed while importing", True),
        ("own/more.cp312-win_amd64.pyd", "ImportError: DLL load failed while importing", False),
        ("own/pool.cpython-312-darwin.so", "ImportError: no driver", False),
    ],
)
def test_a_known_error_explains_the_library_it_lacks(file: str, text: str, explained: bool) -> None:
    finding = Finding(
        check="library",
        layer="app",
        message="",
        distribution="own 1.0",
        file=file,
        expected="@rpath/libtbb.12.dylib",
    )
    outcome = Outcome(module="own.pool", result="error", at="own.pool", text=text)
    tried = Tried(
        layer="app", distribution="own 1.0", wheel="own-1.0.whl", outcome=outcome, chain=("app",)
    )
    assert _is_explained(finding, [tried]) is explained
