"""Packing an interpreter: the parts that are pure functions, and small trees of files."""

from __future__ import annotations

import errno
import gc
import gzip
import hashlib
import io
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.utils import canonicalize_name
from packaging.version import Version

from stackbuild.errors import ComposeError, IntegrityError
from stackbuild.files import sha256_file
from stackbuild.messages import Silent
from stackbuild.platforms import Platform
from stackbuild.runtimes.contents import Entry, belongs, posix_contents, windows_contents
from stackbuild.runtimes.download import addresses, file_name, mirror_base
from stackbuild.runtimes.elf import Elf, find_needed, read_elf, relative_search
from stackbuild.runtimes.macho import (
    host_libraries,
    install_name_arguments,
    is_macho,
    parse_otool,
)
from stackbuild.runtimes.names import archive_name, release_path, release_tag
from stackbuild.runtimes.pack import kept_distributions
from stackbuild.runtimes.probe import (
    Facts,
    facts_from,
    find_interpreters,
    may_be,
    nearest_first,
    objection,
)
from stackbuild.runtimes.relocate import relocate_texts, with_header
from stackbuild.runtimes.system import system_contents
from stackbuild.runtimes.tarball import GzipWriter, unpack_tarball, write_tarball
from tests.support.interpreters import Listener
from tests.support.zstd import compressed

if TYPE_CHECKING:
    from stackbuild.messages import Messages

RELEASES = "https://github.com/astral-sh/python-build-standalone/releases/download"
NAME = "cpython-3.12.10%2B20250529-x86_64-unknown-linux-gnu-install_only_stripped.tar.gz"


def tree(directory: Path, *paths: str, text: str = "x") -> Path:
    for path in paths:
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return directory


def facts(tmp_path: Path, **changes: object) -> Facts:
    tree(tmp_path, "bin/python3.12", "lib/python3.12/os.py")
    answer = {
        "implementation": "cpython",
        "version": "3.12.1",
        "prefix": str(tmp_path),
        "stdlib": str(tmp_path / "lib/python3.12"),
        "framework": "",
        "abi": "",
        "soabi": "cpython-312-x86_64-linux-gnu",
        "wide": True,
        "built": "May  9 2026 07:36:12",
    }
    return facts_from(answer | changes)


class TestNames:
    def test_archive_name(self) -> None:
        assert archive_name(Version("3.12.1"), "20240107", Platform.LINUX_X64) == (
            "cpython-3.12.1+20240107-x86_64-unknown-linux-gnu-install_only.tar.gz"
        )
        assert archive_name(Version("3.13.0"), "1", Platform.MACOSX_AARCH64) == (
            "cpython-3.13.0+1-aarch64-apple-darwin-install_only.tar.gz"
        )
        assert "x86_64-pc-windows-msvc" in archive_name(
            Version("3.13.0"), "1", Platform.WINDOWS_X64
        )

    def test_release_tag_is_that_of_the_published_version(self) -> None:
        built = "May  9 2026 07:36:12"
        assert release_tag(Version("3.12.1"), Platform.LINUX_X64, built) == "20240107"
        assert release_tag(Version("3.12.99"), Platform.LINUX_X64, built) == "20260509"
        assert release_tag(Version("3.12.99"), Platform.LINUX_X64, "unknown") == "19800101"

    def test_release_path(self) -> None:
        assert release_path(f"{RELEASES}/20250529/{NAME}") == ("20250529", NAME)
        assert release_path("https://example.org/python.tar.gz") is None

    def test_a_mirror_replaces_the_releases_page(self) -> None:
        url = f"{RELEASES}/20250529/{NAME}"
        assert addresses(url, None) == [url]
        assert addresses(url, "https://example.org/m") == [
            f"https://example.org/m/20250529/{NAME}",
            f"https://example.org/m/{NAME}",
        ]
        assert addresses("https://a.org/x/python.tgz", "file:///m") == ["file:///m/python.tgz"]

    def test_the_mirror_of_the_spec_comes_before_that_of_the_environment(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PBS_INSTALLER_BASE_URL", "https://environment/")
        assert mirror_base(None) == "https://environment"
        assert mirror_base("https://spec/m/") == "https://spec/m"
        monkeypatch.setenv("PBS_INSTALLER_BASE_URL", "")
        assert mirror_base(None) is None

    @pytest.mark.parametrize(
        ("url", "name"),
        [
            (f"{RELEASES}/20250529/{NAME}", NAME.replace("%2B", "+")),
            ("https://example.org/a%2F..%2F..%2Fb", "b"),
            ("https://example.org/", "archive"),
            ("https://example.org/x?y=z", "x"),
        ],
    )
    def test_file_name_stays_in_its_directory(self, url: str, name: str) -> None:
        assert file_name(url) == name


class TestContents:
    @pytest.mark.parametrize(
        "path",
        [
            "lib/python3.12/test",
            "lib/python3.12/ctypes/test",
            "lib/python3.12/idlelib/idle_test",
            "lib/python3.12/sqlite3/test",
            "lib/python3.12/site-packages",
            "lib/python3.12/dist-packages",
            "lib/python3.12/json/__pycache__",
            "lib/python3.12/config-3.12-x86_64-linux-gnu/libpython3.12.a",
            "lib/python3.12/lib-dynload/_testcapi.cpython-312-x86_64-linux-gnu.so",
            "lib/python3.12/lib-dynload/_ctypes_test.cpython-312-x86_64-linux-gnu.so",
            "lib/python3.12/lib-dynload/xxlimited_35.cpython-312-x86_64-linux-gnu.so",
            "lib/python3.12/EXTERNALLY-MANAGED",
            "lib/python3.12/sitecustomize.py",
        ],
    )
    def test_left_out(self, path: str) -> None:
        assert not belongs(path, "lib/python3.12")

    @pytest.mark.parametrize(
        "path",
        [
            "lib/python3.12/os.py",
            "lib/python3.12/unittest",
            "lib/python3.12/doctest.py",
            "lib/python3.12/email/test.py",
            "lib/python3.12/lib-dynload/_ssl.cpython-312-x86_64-linux-gnu.so",
            "lib/python3.12/lib-dynload/_xxsubinterpreters.cpython-312-x86_64-linux-gnu.so",
            "lib/python3.12/config-3.12-x86_64-linux-gnu/Makefile",
            "include/python3.12/Python.h",
            "lib/tcl8.6/test",
        ],
    )
    def test_taken(self, path: str) -> None:
        assert belongs(path, "lib/python3.12")

    def test_takes_nothing_else_out_of_a_shared_prefix(self, tmp_path: Path) -> None:
        tree(
            tmp_path,
            *("bin/python3.12", "bin/python3.13", "bin/pip3", "bin/git", "bin/pydoc3.12"),
            *("lib/python3.12/os.py", "lib/python3.13/os.py", "lib/libgit.so", "share/doc/x"),
            *("lib/libpython3.12.so.1.0", "lib/libpython3.13.so.1.0", "lib/python3.12/test/x.py"),
            *("include/python3.12/Python.h", "include/git.h"),
        )
        (tmp_path / "bin/python3").symlink_to("python3.13")
        (tmp_path / "lib/libpython3.12.so").symlink_to(tmp_path / "lib/libpython3.12.so.1.0")
        entries = posix_contents(tmp_path, "3.12")
        assert sorted(entries) == [
            "bin/pydoc3",
            "bin/pydoc3.12",
            "bin/python",
            "bin/python3",
            "bin/python3.12",
            "include/python3.12/Python.h",
            "lib/libpython3.12.so",
            "lib/libpython3.12.so.1.0",
            "lib/python3.12/os.py",
        ]
        assert entries["bin/python3"].link == "python3.12"
        assert entries["lib/libpython3.12.so"].link == "libpython3.12.so.1.0"

    def test_a_link_out_of_the_prefix_becomes_the_file(self, tmp_path: Path) -> None:
        prefix = tree(tmp_path / "prefix", "bin/python3.12", "lib/python3.12/os.py")
        tree(tmp_path, "elsewhere.py", text="elsewhere")
        (prefix / "lib/python3.12/linked.py").symlink_to(tmp_path / "elsewhere.py")
        (prefix / "lib/python3.12/broken.py").symlink_to(tmp_path / "nothing")
        entries = posix_contents(prefix, "3.12")
        assert entries["lib/python3.12/linked.py"].read() == b"elsewhere"
        assert "lib/python3.12/broken.py" not in entries

    def test_a_directory_that_is_a_link_is_refused(self, tmp_path: Path) -> None:
        prefix = tree(tmp_path / "prefix", "bin/python3.12", "lib/python3.12/os.py")
        (prefix / "lib/python3.12/json").symlink_to(tmp_path)
        with pytest.raises(ComposeError, match="one of its directories is a link"):
            posix_contents(prefix, "3.12")

    def test_windows(self, tmp_path: Path) -> None:
        tree(
            tmp_path,
            *("python.exe", "pythonw.exe", "python312.dll", "vcruntime140.dll", "LICENSE.txt"),
            *("DLLs/_ssl.pyd", "DLLs/_testcapi.pyd", "Lib/os.py", "Lib/test/test_os.py"),
            *("Lib/site-packages/pip/x.py", "Scripts/pip.exe", "include/Python.h", "NEWS.txt"),
            *("libs/python312.lib", "tcl/tcl8.6/init.tcl", "Doc/python312.chm"),
        )
        assert sorted(windows_contents(tmp_path)) == [
            "DLLs/_ssl.pyd",
            "LICENSE.txt",
            "Lib/os.py",
            "include/Python.h",
            "libs/python312.lib",
            "python.exe",
            "python312.dll",
            "pythonw.exe",
            "tcl/tcl8.6/init.tcl",
            "vcruntime140.dll",
        ]


class TestRelocate:
    DATA = """# generated
build_time_vars = {'BINDIR': '/opt/py/bin', 'CC': '/usr/bin/clang-17 -pthread', 'CXX': 'clang++',
 'CONFIG_ARGS': "'--prefix=/opt/py' 'LDFLAGS=-L/opt/py/lib -Wl,-rpath,/opt/py/lib'",
 'LDSHARED': 'clang -shared -L/opt/py/lib -Wl,-rpath,/opt/py/lib -O2', 'LINKCC': '$(PURIFY) clang',
 'AR': 'x86_64-linux-gnu-ar', 'HAVE_X': 1, 'MAKE': '/tmp/build.1/Python-3.12.1/x', 'CPP': '',
 'OTHER': '/opt/python-other', 'abs_builddir': '/tmp/build.1/Python-3.12.1', 'prefix': '/opt/py',
 'srcdir': '.'}
"""
    PATH = "lib/python3.12/_sysconfigdata__linux_x86_64-linux-gnu.py"

    def relocated(self, path: str, text: str, prefix: str = "/home/ann/py") -> str:
        entries = {
            path: Entry(data=text.encode()),
            self.PATH: Entry(data=(text if path == self.PATH else self.DATA).encode()),
        }
        return relocate_texts(entries, "3.12", [prefix], "linux")[path].read().decode()

    def test_sysconfigdata(self) -> None:
        namespace: dict[str, dict[str, object]] = {}
        exec(self.relocated(self.PATH, self.DATA), namespace)
        assert namespace["build_time_vars"] == {
            "BINDIR": "/install/bin",
            "CC": "gcc -pthread",
            "CXX": "g++",
            "CONFIG_ARGS": "'--prefix=/install' 'LDFLAGS=-L/install/lib '",
            "LDSHARED": "gcc -shared -L/install/lib -O2",
            "LINKCC": "$(PURIFY) clang",
            "AR": "ar",
            "HAVE_X": 1,
            "MAKE": "/build/x",
            "CPP": "",
            "OTHER": "/opt/python-other",
            "abs_builddir": "/build",
            "prefix": "/install",
            "srcdir": ".",
        }

    def test_makefile(self) -> None:
        text = (
            "CC=\t\tclang -pthread\nprefix=\t/opt/py\nLIBS= -Wl,-rpath,/opt/py/lib -lm\nX=$(CC)\n"
        )
        path = "lib/python3.12/config-3.12-x86_64-linux-gnu/Makefile"
        assert self.relocated(path, text) == (
            "CC=\t\tgcc -pthread\nprefix=\t/install\nLIBS= -lm\nX=$(CC)\n"
        )

    @pytest.mark.parametrize(
        "path",
        [
            "lib/pkgconfig/python-3.12.pc",
            "bin/python3.12-config",
            "lib/python3.12/build-details.json",
            "lib/python3.12/_sysconfig_vars__linux_x86_64-linux-gnu.json",
        ],
    )
    def test_other_texts(self, path: str) -> None:
        # Both the prefix that it was built for and the one it is in now.
        text = "a=/opt/py\nb='/home/ann/py/lib'\nc=/opt/python\n"
        assert self.relocated(path, text) == "a=/install\nb='/install/lib'\nc=/opt/python\n"

    def test_settings_that_cannot_be_read_are_refused(self) -> None:
        with pytest.raises(ComposeError, match="its build settings are not readable"):
            self.relocated(self.PATH, "build_time_vars = open('x')")

    def test_sources_are_left_alone(self) -> None:
        text = "where = '/opt/py'"
        assert self.relocated("lib/python3.12/os.py", text) == text

    def test_a_script_finds_the_interpreter_beside_it(self, tmp_path: Path) -> None:
        script = with_header(b"#!/opt/py/bin/python3.12\nimport sys; print(sys.argv[1:])\n", "3.12")
        assert script is not None
        directory = tmp_path / "with space é"
        directory.mkdir()
        (directory / "python3.12").symlink_to(sys.executable)
        (directory / "tool").write_bytes(script)
        (directory / "tool").chmod(0o755)
        (tmp_path / "link").symlink_to(directory / "tool")
        done = subprocess.run([tmp_path / "link", "a b", "$c"], capture_output=True, check=True)
        assert done.stdout == b"['a b', '$c']\n"

    @pytest.mark.parametrize("data", [b"#!/bin/sh\necho python\n", b"\x7fELF", b""])
    def test_other_files_get_no_header(self, data: bytes) -> None:
        assert with_header(data, "3.12") is None


class TestElf:
    @pytest.mark.parametrize(
        ("path", "search"),
        [
            ("bin/python3.12", "$ORIGIN/../lib"),
            ("lib/libpython3.12.so.1.0", "$ORIGIN"),
            ("lib/python3.12/lib-dynload/_ssl.so", "$ORIGIN/../.."),
        ],
    )
    def test_relative_search(self, path: str, search: str) -> None:
        assert relative_search(path) == search

    def test_find_needed(self, tmp_path: Path) -> None:
        tree(tmp_path, "lib/liba.so", "other/libb.so", "other/liba.so")
        elf = Elf(("liba.so", "libb.so", "libc.so.6"), ("$ORIGIN/../lib", str(tmp_path / "other")))
        assert find_needed(elf, tmp_path / "bin") == {
            "liba.so": tmp_path / "lib/liba.so",
            "libb.so": tmp_path / "other/libb.so",
        }

    def test_find_needed_by_path(self, tmp_path: Path) -> None:
        tree(tmp_path, "lib/libpython3.9.so.1.0")
        by_path = "$ORIGIN/../lib/libpython3.9.so.1.0"
        elf = Elf((by_path, "$ORIGIN/../lib/libgone.so"), ("$ORIGIN/../lib",))
        found = find_needed(elf, tmp_path / "bin")
        assert found == {by_path: tmp_path / "lib/libpython3.9.so.1.0"}

    def test_other_files_are_no_elf(self, tmp_path: Path) -> None:
        tree(tmp_path, "script", text="#!/bin/sh")
        assert read_elf(tmp_path / "script") is None

    def test_a_damaged_file_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "x.so").write_bytes(b"\x7fELF\x09\x09damaged")
        with pytest.raises(ComposeError, match="a binary file is damaged"):
            read_elf(tmp_path / "x.so")

    @pytest.mark.skipif(sys.platform != "linux", reason="ELF is the format of Linux")
    def test_the_interpreter_that_runs_this(self) -> None:
        elf = read_elf(Path(sys.executable).resolve())
        assert elf is not None
        assert "libc.so.6" in elf.needed


class TestMachO:
    OTOOL = """/opt/py/bin/python3.12:
\t/opt/py/lib/libpython3.12.dylib (compatibility version 3.12.0, current version 3.12.0)
\t/opt/homebrew/opt/openssl@3/lib/libssl.3.dylib (compatibility version 3.0.0, current version 3)
\t/usr/lib/libSystem.B.dylib (compatibility version 1.0.0, current version 1351.0.0)
"""
    PACKED = ("bin/python3.12", "lib/libpython3.12.dylib", "lib/python3.12/lib-dynload/_ssl.so")

    def test_parse_otool(self) -> None:
        assert parse_otool(self.OTOOL) == [
            "/opt/py/lib/libpython3.12.dylib",
            "/opt/homebrew/opt/openssl@3/lib/libssl.3.dylib",
            "/usr/lib/libSystem.B.dylib",
        ]

    def test_arguments(self) -> None:
        found = parse_otool(self.OTOOL)
        library = "/opt/py/lib/libpython3.12.dylib"
        assert install_name_arguments("bin/python3.12", found, self.PACKED) == [
            *("-change", library, "@loader_path/../lib/libpython3.12.dylib")
        ]
        assert install_name_arguments("lib/libpython3.12.dylib", [library], self.PACKED) == [
            *("-id", "@rpath/libpython3.12.dylib")
        ]
        assert install_name_arguments(self.PACKED[2], [library], self.PACKED) == [
            *("-change", library, "@loader_path/../../libpython3.12.dylib")
        ]
        relative = ["@rpath/libpython3.12.dylib"]
        assert install_name_arguments("bin/python3.12", relative, self.PACKED) == []

    def test_host_libraries(self) -> None:
        assert host_libraries(parse_otool(self.OTOOL), self.PACKED) == {
            "/opt/homebrew/opt/openssl@3/lib/libssl.3.dylib"
        }

    def test_is_macho(self) -> None:
        assert is_macho(b"\xcf\xfa\xed\xfe\x00")
        assert not is_macho(b"\x7fELF")


class TestFind:
    @pytest.mark.parametrize(
        ("name", "possible"),
        [
            ("python3.12", True),
            ("python3", True),
            ("python3.12.exe", True),
            ("python", True),
            ("python.exe", True),
            ("pythonw.exe", False),
            ("python3.12-config", False),
            ("python3.1", False),
            ("python3.13", False),
            ("python2", False),
            ("pypy3.12", False),
            ("cpython", False),
        ],
    )
    def test_names(self, name: str, possible: bool) -> None:
        assert may_be(name, "3.12") is possible

    def test_broken_ones_scripts_and_dead_links_are_left_out(self, tmp_path: Path) -> None:
        minor = f"{sys.version_info[0]}.{sys.version_info[1]}"
        shim = tmp_path / f"shims/python{minor}"
        broken = tmp_path / f"broken/python{minor}"
        tree(tmp_path, f"shims/python{minor}", text=f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        tree(tmp_path, f"broken/python{minor}", text="\x7fELF no more")
        for path in (shim, broken):
            path.chmod(0o755)
        dead = tmp_path / "python3"
        dead.symlink_to(tmp_path / "nothing")
        assert find_interpreters(minor, [shim, broken, dead]) == []

    def test_a_virtual_environment_gives_the_interpreter_below_it(self, tmp_path: Path) -> None:
        minor = f"{sys.version_info[0]}.{sys.version_info[1]}"
        words = [sys.executable, "-m", "venv", "--without-pip"]
        subprocess.run([*words, tmp_path / "linked"], check=True)
        subprocess.run([*words, "--copies", tmp_path / "copied"], check=True)
        for name in ("linked", "copied"):
            (found,) = find_interpreters(minor, [tmp_path / name / f"bin/python{minor}"])
            assert found.prefix == Path(sys.base_prefix).resolve()

    def test_nearest_first(self, tmp_path: Path) -> None:
        found = [facts(tmp_path, version=f"3.12.{micro}") for micro in (1, 12, 8, 10)]
        order = [item.version.micro for item in nearest_first(found, Version("3.12.10"))]
        assert order == [10, 12, 8, 1]

    def test_the_operating_systems_own_comes_last(self, tmp_path: Path) -> None:
        system = facts(tmp_path, version="3.12.10", prefix="/usr")
        found = [system, *(facts(tmp_path, version=f"3.12.{micro}") for micro in (1, 8))]
        assert nearest_first(found, Version("3.12.10"))[-1] == system

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"implementation": "pypy"}, "it is pypy, not CPython"),
            ({"abi": "t"}, "free-threaded"),
            ({"abi": "d"}, "debug"),
            ({"wide": False}, "32-bit program"),
            ({"soabi": "cpython-312-x86_64-linux-musl"}, "musl"),
            ({"framework": "Python"}, "framework build"),
            ({"prefix": "/", "stdlib": "/lib/python3.12"}, "belongs to the operating system"),
            ({"stdlib": "/elsewhere/lib64/python3.12"}, "its standard library is in /elsewhere"),
            ({"version": "3.13.0"}, "its standard library is in"),
        ],
    )
    def test_objections(self, tmp_path: Path, changes: dict[str, object], words: str) -> None:
        assert objection(facts(tmp_path), Platform.LINUX_X64) is None
        assert words in str(objection(facts(tmp_path, **changes), Platform.LINUX_X64))

    def test_the_operating_systems_own_is_for_linux_and_must_be_whole(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("stackbuild.runtimes.probe.SYSTEM_PREFIX", tmp_path.resolve())
        system = facts(tmp_path)
        assert "install the package python3" in str(objection(system, Platform.LINUX_X64))
        tree(tmp_path, "lib/python3.12/ctypes/__init__.py")
        assert objection(system, Platform.LINUX_X64) is None
        assert "operating system" in str(objection(system, Platform.MACOSX_AARCH64))


class TestSystem:
    """Trees as Debian and Fedora lay them out, and what becomes of them."""

    ASKED = 'VIRTUAL = sys.base_prefix != sys.prefix or hasattr(sys, "real_prefix")\n'
    PIP = "_WHEEL_PKG_DIR = sysconfig.get_config_var('WHEEL_PKG_DIR')\n"
    LIBRARY = "lib/python3.12"

    def contents(
        self, directory: Path, *wheels: str, messages: Messages | None = None
    ) -> dict[str, Entry]:
        prefix, library = directory / "usr", self.LIBRARY
        tree(
            prefix,
            *(f"{library}/dist-packages/apt.py", f"{library}/_distutils_system_mod.py"),
            *(f"{library}/EXTERNALLY-MANAGED", "lib/tcl8.6/init.tcl", "share/terminfo/x/xterm"),
            *("include/python3.12/pyconfig.h", "lib/x86_64-linux-gnu/libpython3.12.so.1"),
        )
        tree(prefix, "include/x86_64-linux-gnu/python3.12/pyconfig.h", text="real")
        tree(
            prefix, f"{library}/sysconfig.py", f"{library}/distutils/sysconfig.py", text=self.ASKED
        )
        tree(prefix, f"{library}/ensurepip/__init__.py", text=self.PIP)
        tree(directory, "etc/python3.12/sitecustomize.py", "etc/config/x.py")
        (prefix / library / "sitecustomize.py").symlink_to(
            directory / "etc/python3.12/sitecustomize.py"
        )
        (prefix / library / "settings").symlink_to(directory / "etc/config")
        (prefix / library / "libpython3.12.so").symlink_to("../x86_64-linux-gnu/libpython3.12.so.1")
        (prefix / library / "same.py").symlink_to("sysconfig.py")
        tree(directory / "wheels", *wheels)
        found = facts(prefix, wheels=str(directory / "wheels"))
        return system_contents(found, messages or Silent())

    def test_what_is_taken_and_how(self, tmp_path: Path) -> None:
        wheel = "pip-24.0-py3-none-any.whl"
        entries = self.contents(tmp_path, wheel, "setuptools-68.1.2-py3-none-any.whl")
        assert sorted(entries) == [
            *("bin/python", "bin/python3", "bin/python3.12", "include/python3.12/pyconfig.h"),
            *(
                "lib/python3.12/dist-packages/stackbuild.pth",
                "lib/python3.12/distutils/sysconfig.py",
            ),
            *("lib/python3.12/ensurepip/__init__.py", f"lib/python3.12/ensurepip/_bundled/{wheel}"),
            *("lib/python3.12/os.py", "lib/python3.12/same.py", "lib/python3.12/sysconfig.py"),
        ]
        assert entries["include/python3.12/pyconfig.h"].read() == b"real"
        assert entries["lib/python3.12/same.py"].link == "sysconfig.py"
        for name in ("sysconfig.py", "distutils/sysconfig.py"):
            assert entries[f"{self.LIBRARY}/{name}"].read() == b"VIRTUAL = True\n"
        module = entries[f"{self.LIBRARY}/ensurepip/__init__.py"].read().decode()
        assert module == ("_WHEEL_PKG_DIR = os.path.join(os.path.dirname(__file__), '_bundled')\n")

    def test_without_pip_there_is_no_ensurepip_and_it_says_so(self, tmp_path: Path) -> None:
        listener = Listener()
        entries = self.contents(tmp_path, "wheel-0.42-py3-none-any.whl", messages=listener)
        assert [path for path in entries if "ensurepip" in path] == []
        (warning,) = listener.warnings
        assert "packed without ensurepip" in warning
        assert "python3-venv" in warning

    def test_an_ensurepip_with_wheels_of_its_own_is_left_alone(self, tmp_path: Path) -> None:
        bundled = f"{self.LIBRARY}/ensurepip/_bundled/pip-24.0-py3-none-any.whl"
        tree(tmp_path / "usr", bundled)
        listener = Listener()
        entries = self.contents(tmp_path, messages=listener)
        assert bundled in entries
        assert entries[f"{self.LIBRARY}/ensurepip/__init__.py"].read() == self.PIP.encode()
        assert listener.warnings == []


class TestKeep:
    def test_what_is_kept_has_a_true_record(self, tmp_path: Path) -> None:
        site = "lib/python3.12/site-packages"
        script = "#!/opt/py/bin/python3.12\nprint('x')\n"
        tree(tmp_path, f"{site}/pip/a.py", f"{site}/pip/__pycache__/a.pyc", f"{site}/other.py")
        tree(tmp_path, "bin/pip3", text=script)
        (tmp_path / "bin/pip3").chmod(0o755)
        record = "pip/a.py,sha256=abc,1\npip/__pycache__/a.pyc,,\n../../../bin/pip3,sha256=def,5\n"
        record += "pip-1.dist-info/RECORD,,\n../../../../outside,,\n"
        tree(tmp_path, f"{site}/pip-1.dist-info/RECORD", text=record)
        entries = kept_distributions(tmp_path, "lib/python3.12", "3.12", [canonicalize_name("pip")])
        assert sorted(entries) == [
            "bin/pip3",
            f"{site}/pip-1.dist-info/RECORD",
            f"{site}/pip/a.py",
        ]
        data = entries["bin/pip3"].read()
        assert data.startswith(b"#!/bin/sh\n")
        assert entries["bin/pip3"].executable
        lines = entries[f"{site}/pip-1.dist-info/RECORD"].read().decode().splitlines()
        assert lines[0] == "pip/a.py,sha256=abc,1"
        assert lines[1].endswith(f",{len(data)}")
        assert lines[1].startswith("../../../bin/pip3,sha256=")
        assert "def" not in lines[1]
        assert lines[2:] == ["pip-1.dist-info/RECORD,,"]

    def test_a_missing_distribution_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(ComposeError, match="is not installed in the interpreter"):
            kept_distributions(tmp_path, "lib/python3.12", "3.12", [canonicalize_name("pip")])


def archive_of(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size) if member.isfile() else None)
    return path


def member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = link
    info.mode = mode
    info.size = 1 if kind == tarfile.REGTYPE else 0
    return info


class TestTarball:
    ENTRIES = st.dictionaries(
        st.lists(st.text("abé", min_size=1, max_size=3), min_size=1, max_size=1).map("/".join),
        st.one_of(
            st.builds(Entry, data=st.binary(max_size=2000), executable=st.booleans()),
            st.builds(Entry, link=st.sampled_from(["x", "y/z"])),
        ),
        max_size=8,
    )

    @given(entries=ENTRIES)
    def test_the_order_of_entries_changes_nothing(
        self, tmp_path_factory: pytest.TempPathFactory, entries: dict[str, Entry]
    ) -> None:
        directory = tmp_path_factory.mktemp("tar")
        write_tarball(directory / "a.tar.gz", entries)
        write_tarball(directory / "b.tar.gz", dict(reversed(entries.items())))
        assert sha256_file(directory / "a.tar.gz") == sha256_file(directory / "b.tar.gz")
        to = directory / "out"
        to.mkdir()
        unpack_tarball(directory / "a.tar.gz", to)
        for name, entry in entries.items():
            path = to / "python" / name
            if entry.link is not None:
                assert str(path.readlink()) == entry.link
            else:
                assert path.read_bytes() == entry.data
                assert bool(path.stat().st_mode & 0o100) == entry.executable

    @pytest.mark.parametrize("level", [1, 6, 9])
    def test_what_is_compressed_is_a_gzip_member(self, level: int) -> None:
        data = hashlib.sha512().digest() * 9999
        file = io.BytesIO()
        with GzipWriter(file, level) as compressed:
            for at in range(0, len(data), 77_777):
                compressed.write(data[at : at + 77_777])
        assert gzip.decompress(file.getvalue()) == data
        assert file.getvalue()[:8] == b"\x1f\x8b\x08" + bytes(5), "neither name nor time"

    @pytest.mark.parametrize("room", [10, 5_000, 200_000])
    def test_a_full_disk_is_told_once(self, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """And not again when what was writing is dropped."""
        later: list[object] = []
        monkeypatch.setattr(sys, "unraisablehook", later.append)
        file = io.BytesIO()

        class Disk:
            def write(self, data: bytes, /) -> int:
                if file.tell() + len(data) > room:
                    raise OSError(errno.ENOSPC, "No space left on device")
                return file.write(data)

        def write() -> None:
            with GzipWriter(Disk(), 1) as compressed:
                for number in range(10_000):
                    compressed.write(hashlib.sha512(b"%d" % number).digest())

        with pytest.raises(OSError, match="No space left"):
            write()
        gc.collect()
        assert later == []

    def test_zstd_in_several_frames(self, tmp_path: Path) -> None:
        write_tarball(tmp_path / "a.tar.gz", {"x": Entry(data=b"x" * 100_000)})
        tar = gzip.decompress((tmp_path / "a.tar.gz").read_bytes())
        pieces = [tar[at : at + 40_000] for at in range(0, len(tar), 40_000)]
        (tmp_path / "a.tar.zst").write_bytes(b"".join(map(compressed, pieces)))
        (tmp_path / "cut.tar.zst").write_bytes(compressed(pieces[0]))
        with pytest.raises(IntegrityError):
            unpack_tarball(tmp_path / "cut.tar.zst", tmp_path)
        (tmp_path / "out").mkdir()
        unpack_tarball(tmp_path / "a.tar.zst", tmp_path / "out")
        assert (tmp_path / "out/python/x").read_bytes() == b"x" * 100_000

    @pytest.mark.parametrize(
        ("members", "words"),
        [
            ([member("python/../../x")], "which is not below python/"),
            ([member("/etc/x")], "which is not below python/"),
            ([member("other/x")], "which is not below python/"),
            ([member("python/x", tarfile.CHRTYPE)], "which is not a file, directory or link"),
            (
                [member("python/x", tarfile.FIFOTYPE)],
                "which is not a file, directory or link",
            ),
            ([member("python/x", mode=0o4755)], "with a set-user-ID or set-group-ID bit"),
            ([member("python/x"), member("python/x")], "twice"),
            ([member("python/x", tarfile.SYMTYPE, "/etc/passwd")], "absolute"),
            ([member("python/x", tarfile.SYMTYPE, "../../x")], "outside the destination"),
            ([member("python/x", tarfile.LNKTYPE, "../x")], "outside the destination"),
            (
                [member("python/d", tarfile.SYMTYPE, ".."), member("python/d/x")],
                "which is below a link",
            ),
        ],
    )
    def test_what_an_archive_must_not_hold(
        self, tmp_path: Path, members: list[tarfile.TarInfo], words: str
    ) -> None:
        archive = archive_of(tmp_path / "a.tar.gz", *members)
        to = tmp_path / "deep/to"
        to.mkdir(parents=True)
        with pytest.raises(IntegrityError, match=words):
            unpack_tarball(archive, to)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "deep"]
        assert [path.name for path in (tmp_path / "deep").iterdir()] == ["to"]

    @pytest.mark.parametrize("data", [b"", b"no archive", b"\x1f\x8b damaged"])
    def test_a_damaged_archive(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "a.tar.gz").write_bytes(data)
        with pytest.raises(IntegrityError, match="cannot be unpacked"):
            unpack_tarball(tmp_path / "a.tar.gz", tmp_path)

    def test_a_truncated_archive(self, tmp_path: Path) -> None:
        write_tarball(tmp_path / "a.tar.gz", {"x": Entry(data=hashlib.sha512().digest() * 999)})
        data = (tmp_path / "a.tar.gz").read_bytes()
        (tmp_path / "a.tar.gz").write_bytes(data[: len(data) // 2])
        with pytest.raises(IntegrityError, match="cannot be unpacked"):
            unpack_tarball(tmp_path / "a.tar.gz", tmp_path)
