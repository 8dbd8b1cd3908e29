"""Names and first bytes of native modules and bytecode, and the tags of wheels."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from stackbuild.platforms import Platform
from stackbuild.verify.model import Finding
from stackbuild.verify.modules import MAGIC, check_bytecode, check_modules, check_tags
from stackbuild.verify.record_check import ReadLayer
from tests.support.deployed import SITE, distribution, layer
from tests.support.handmade import interpreters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stackbuild.verify.deployed import Distribution


def read_of(files: Mapping[str, bytes], owner: Distribution | None = None) -> ReadLayer:
    magics = {f"{SITE}/{name}": data for name, data in files.items()}
    return ReadLayer(len(files), (), {}, dict.fromkeys(magics, owner) if owner else {}, magics)


ANY = "a-1-py3-none-any.whl"
ELF = b"\x7fELF"
MACHO = b"\xcf\xfa\xed\xfe"


@pytest.mark.parametrize(
    ("files", "wheel", "found"),
    [
        ({"a.cpython-310-x86_64-linux-gnu.so": ELF}, None, True),
        ({"a.cpython-312-aarch64-linux-gnu.so": ELF}, None, True),
        ({"a.cpython-312-x86_64-linux-musl.so": ELF}, None, True),
        ({"a.pypy310-pp73-x86_64-linux-gnu.so": ELF}, None, True),
        ({"a.pyd": b"MZ\0\0"}, None, True),
        # The interpreter imports the one beside it.
        ({"a.cpython-310-x86_64-linux-gnu.so": ELF, "a.abi3.so": ELF}, None, False),
        ({"a.cp312-win_amd64.pyd": b"MZ\0\0", "a.so": ELF}, None, False),
        ({"a.cpython-310-x86_64-linux-gnu.so": ELF, "a.py": b"impo"}, None, True),
        (
            {"a.cpython-310-x86_64-linux-gnu.so": ELF, "a.py": b"impo"},
            ANY,
            False,
        ),
        ({"a.pyd": b"MZ\0\0", "a/__init__.py": b""}, ANY, False),
        ({"a.pyd": b"MZ\0\0"}, ANY, True),
        ({"tests/a.pyd": b"MZ\0\0"}, None, False),
        # Formats.
        ({"a.abi3.so": MACHO}, ANY, True),
        ({"a.abi3.so": b""}, None, True),
        ({"a.abi3.so": b"text"}, None, True),
        ({"liba.so": b"INPU", "a.so": b"", "liba.so.1": ELF}, None, False),
        ({"liba.so.1": MACHO}, None, True),
        ({"liba.so.1": MACHO}, ANY, False),
        ({"darwin/liba.so": MACHO, "lib/macosx_11_0/a.so": MACHO}, None, False),
        ({"liba.dylib": MACHO, "a.dll": b"MZ\0\0", "a.exe": b"MZ\0\0"}, None, False),
        ({"p/.so": MACHO}, None, False),
    ],
)
def test_modules_that_cannot_be_loaded(
    files: Mapping[str, bytes], wheel: str | None, found: bool
) -> None:
    owner = replace(distribution("a"), wheel=wheel or "a-1-cp312-cp312-linux_x86_64.whl")
    findings = [*check_modules(layer("app"), read_of(files, owner), ())]
    assert [one.distribution for one in findings] == (["a 1.0"] if found else [])
    assert [*check_modules(layer("app"), read_of(files, owner), ("*a",))] == []


def test_what_is_said_of_a_module() -> None:
    app = layer("app")
    misnamed = Finding(
        check="module",
        layer="app",
        distribution="a 1.0",
        file=f"{SITE}/p/b.cpython-310-x86_64-linux-gnu.so",
        message="is a native module for another Python or platform, so it cannot be imported",
        expected="b.cpython-312-x86_64-linux-gnu.so",
        found="b.cpython-310-x86_64-linux-gnu.so",
        remedy="use another version of a, or build it for linux-x64; if nothing uses it there, add "
        '"p.b" to `skip-modules` in [tool.stackbuild.layers.app.verify]',
    )
    misformed = replace(
        misnamed,
        distribution=None,
        file=f"{SITE}/q/r/__init__.abi3.so",
        message="is not in the format of this platform, so it cannot be loaded",
        expected="ELF (Linux)",
        found="Mach-O (macOS)",
        remedy="use another version of the file, or build it for linux-x64; if nothing uses it "
        'there, add "q.r" to `skip-modules` in [tool.stackbuild.layers.app.verify]',
    )
    files = {
        "a.abi3.so": ELF,
        "p/b.cpython-310-x86_64-linux-gnu.so": ELF,
        "q/r/__init__.abi3.so": MACHO,
    }
    read = read_of(files, distribution("a"))
    del read.owners[f"{SITE}/q/r/__init__.abi3.so"]  # type: ignore[attr-defined]  # a dict
    assert [*check_modules(app, read, ())] == [misnamed, misformed]
    assert [*check_modules(app, read, ("p.b",))] == [misformed]


def test_pyd_is_always_a_module() -> None:
    app = layer("app", platform=Platform.WINDOWS_X64)
    files = {"linux/liba.pyd": ELF, "linux/liba.dll": ELF}
    assert [one.file for one in check_modules(app, read_of(files), ())] == [
        f"{SITE}/linux/liba.pyd"
    ]


@pytest.mark.parametrize(
    ("magic", "found"),
    [
        (b"\xcf\xfa\xed\xfe", "Mach-O (macOS)"),
        (b"\xce\xfa\xed\xfe", "Mach-O (macOS)"),
        (b"\xca\xfe\xba\xbe", "Mach-O (macOS)"),
        (b"\xca\xfe\xba\xbf", "Mach-O (macOS)"),
        (b"MZ\x90\0", "PE (Windows)"),
        (b"text", "another format"),
        (b"", "an empty file"),
    ],
)
def test_the_format_of_a_module_is_named(magic: bytes, found: str) -> None:
    (finding,) = check_modules(layer("app"), read_of({"a.abi3.so": magic}), ())
    assert (finding.expected, finding.found) == ("ELF (Linux)", found)


def test_parts_that_a_compiler_generated_are_checked_and_tests_are_not() -> None:
    parts = {"md__mypyc.cpython-311-x86_64-linux-gnu.so": ELF, "a/__x.cpython-310.so": ELF}
    files = {**parts, "a/tests/x.cpython-310.so": ELF, "a/_vendor/y/x.cpython-310.so": ELF}
    found = [one.file for one in check_modules(layer("app"), read_of(files), ())]
    assert found == [f"{SITE}/{path}" for path in sorted(parts)]
    stale = {"a/__pycache__/__main__.cpython-312.pyc": b"\xa7\r\r\n"}
    assert [one.file for one in check_bytecode(layer("app"), read_of(stale), ())] == [
        f"{SITE}/{path}" for path in stale
    ]


@pytest.mark.parametrize(
    "place",
    [
        *("darwin", "macos", "osx", "apple", "ios", "mac"),
        *("windows", "win", "win32", "win64", "win_arm64", "msvc", "mingw"),
    ],
)
def test_libraries_in_a_place_for_their_system_are_there_on_purpose(place: str) -> None:
    magic = MACHO if place in {"darwin", "macos", "osx", "apple", "ios", "mac"} else b"MZ\x90\0"
    app = layer("app")
    assert [*check_modules(app, read_of({f"{place}/liba.so.1.2": magic}), ())] == []
    assert [*check_modules(app, read_of({f"x{place}/liba.so.1.2": magic}), ())]
    other = b"MZ\x90\0" if magic == MACHO else MACHO
    assert [*check_modules(app, read_of({f"{place}/liba.so.1.2": other}), ())]


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ((), False),
        (("py3-none-any",), False),
        (("cp310-cp310-manylinux_2_17_x86_64", "cp312-cp312-manylinux_2_17_x86_64"), False),
        (("cp39-abi3-manylinux_2_34_x86_64",), False),
        (("cp312-cp312-linux_x86_64",), False),
        (("cp310-cp310-manylinux_2_17_x86_64",), True),
        (("cp313-abi3-manylinux_2_17_x86_64",), True),
        (("cp312-cp312-manylinux_2_17_aarch64",), True),
        (("cp312-cp312-musllinux_1_2_x86_64",), True),
        (("py2-none-any",), True),
        (("nonsense", "cp310-cp310-manylinux_2_17_x86_64"), True),
    ],
)
def test_tags_of_other_pythons_and_platforms(tags: tuple[str, ...], found: bool) -> None:
    app = layer("app", replace(distribution("a"), tags=tags))
    findings = [*check_tags(app, "3.12.10")]
    expected = Finding(
        check="module",
        layer="app",
        distribution="a 1.0",
        file=f"{SITE}/a-1.0.dist-info/WHEEL",
        message="has no tag for the Python and platform of the layer",
        expected="a tag for CPython 3.12 on linux-x64",
        found=", ".join(tags),
        remedy="use another version of a, or build it for linux-x64",
    )
    assert findings == ([expected] if found else [])


def test_magic_numbers_are_those_of_the_interpreters() -> None:
    code = "import importlib.util as u; print(int.from_bytes(u.MAGIC_NUMBER[:2], 'little'))"
    for minor, python in interpreters().items():
        said = subprocess.run(
            [python, "-I", "-c", code], capture_output=True, text=True, check=True
        )
        assert int(said.stdout) == MAGIC[minor]


def test_bytecode_that_is_not_used_may_be_of_any_python() -> None:
    own = MAGIC["3.12"].to_bytes(2, "little") + b"\r\n"
    files = {
        "a.py": b"",
        "a.pyc": b"old!",
        "__pycache__/a.cpython-312.pyc": own,
        "__pycache__/a.cpython-310.pyc": b"old!",
        "tests/b.pyc": b"old!",
    }
    app = layer("app")
    assert [*check_bytecode(app, read_of(files), ())] == []
    wrong = {"__pycache__/a.cpython-312.opt-1.pyc": b"\x6f\x0d\r\n", "b.pyc": b""}
    (finding,) = check_bytecode(app, read_of(files | wrong), ())
    assert finding == Finding(
        check="bytecode",
        layer="app",
        file=f"{SITE}/__pycache__/a.cpython-312.opt-1.pyc",
        message="has the magic number of another Python, so the bytecode is not used",
        expected="3531 (CPython 3.12)",
        found="3439 (CPython 3.10), in 2 files",
        remedy=app.remedy(f"{SITE}/__pycache__/a.cpython-312.opt-1.pyc"),
    )
    assert [*check_bytecode(app, read_of(wrong), ("a", "b"))] == []


def test_bytecode_of_an_unknown_python_is_named_for_each_distribution() -> None:
    read = read_of({"a.pyc": b"\x01\0\r\n", "b.pyc": b"\x01\0\r\n"}, distribution("a"))
    read.owners[f"{SITE}/b.pyc"] = distribution("b")  # type: ignore[index]  # a dict
    found = [*check_bytecode(layer("app"), read, ())]
    assert [(one.distribution, one.file, one.found) for one in found] == [
        ("a 1.0", f"{SITE}/a.pyc", "1"),
        ("b 1.0", f"{SITE}/b.pyc", "1"),
    ]
