"""Paths of the machine that built a layer, in its files."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path, PureWindowsPath
from typing import cast

import pytest

from stackbuild.frames.model import FrameKind
from stackbuild.verify import build_paths
from stackbuild.verify.build_paths import (
    BuildPaths,
    counts_on_any_machine,
    find_any,
    find_home,
    is_text,
    of_this_machine,
)
from tests.support.deployed import SITE


def test_paths_of_this_machine(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".pyenv").mkdir(parents=True)
    (home / "X").mkdir()
    paths = BuildPaths([tmp_path / "project", Path("/app")], [home])
    project = str(tmp_path / "project")
    assert paths.find(f"x = '{project}/src/a.c'".encode()) == f"{project}/src"
    assert paths.find(f"-I{project}".encode()) == project
    assert paths.find(f"{project}-2/src {project}s".encode()) is None
    assert paths.find(f"{home}/.pyenv/bin".encode()) == f"{home}/.pyenv"
    assert paths.find(f"{home}/X".encode()) == f"{home}/X"
    assert paths.find(f"see {home}/example, {home}/.. and {home}".encode()) is None
    assert paths.find(b"the directory /app/main.py of a container") is None
    assert paths.find(b"") is None
    assert BuildPaths([Path("/no/where")], []).find(b"/no/where/x") == "/no/where/x"


def test_a_path_that_follows_others_is_found(tmp_path: Path) -> None:
    """Names that only begin like a place, and places that the text does not contain."""
    one, two = tmp_path / "one", tmp_path / "two"
    (two / "there").mkdir(parents=True)
    assert BuildPaths([one, two], []).find(f"{one}s {one} {two}".encode()) == str(one)
    assert BuildPaths([one, two], []).find(f"{one}s {two}".encode()) == str(two)
    found = BuildPaths([], [one, two]).find(f"{two}/none {two}/there".encode())
    assert found == str(two / "there")


@pytest.mark.parametrize("text", [r"C:\build\x\a.c", "C:/build/x/a.c", r"C:\\build\\x\\a.c"])
def test_the_forms_of_a_path_of_windows(text: str) -> None:
    place = cast("Path", PureWindowsPath(r"C:\build\x"))
    assert BuildPaths([place], []).find(f"'{text}'".encode()) == text


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with the directories `home`, `temp` and `python`, and links to them."""
    for name in ("home", "temp", "python", "base", "project"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "there").touch()
        (tmp_path / f"{name}-link").symlink_to(tmp_path / name)
    monkeypatch.setattr(build_paths, "home_directory", lambda: tmp_path / "home-link")
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "temp-link"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "python-link"))
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path / "base-link"))
    return tmp_path


@pytest.mark.parametrize("ending", ["", "-link"])
@pytest.mark.parametrize("name", ["home", "temp", "python", "base", "project"])
def test_the_directories_of_this_machine(machine: Path, name: str, ending: str) -> None:
    paths = of_this_machine([machine / "project-link"])
    place = machine / f"{name}{ending}"
    assert paths.find(f"{place}/there".encode()) == f"{place}/there"
    # The home and temporary directory appear in examples.
    shown = None if name in {"home", "temp"} else f"{place}/none"
    assert paths.find(f"{place}/none".encode()) == shown


def test_the_first_of_several_places_is_reported(machine: Path) -> None:
    places = [machine / "project" / name for name in "dbaec"]
    text = " ".join(f"{place}/x" for place in places)
    assert of_this_machine(places).find(text.encode()) == f"{machine}/project/a/x"


@pytest.mark.parametrize("prefix", ["/", "/usr", "/usr/local", "/opt"])
def test_the_prefix_of_a_system_is_not_reported(
    machine: Path, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    monkeypatch.setattr(sys, "prefix", prefix)
    monkeypatch.setattr(sys, "base_prefix", prefix)
    monkeypatch.setattr(Path, "exists", lambda _: True)
    assert of_this_machine([]).find(b"/usr/lib /usr/local/lib /opt/lib //lib") is None


def test_a_machine_without_a_home(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_paths, "home_directory", lambda: None)
    assert of_this_machine([]).find(f"{machine}/home/there".encode()) is None
    monkeypatch.setattr(build_paths, "home_directory", lambda: Path("/"))
    assert of_this_machine([]).find(b"//usr") is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("prefix=/home/builder/x", "/home/builder"),
        ("#!/root/interpreters/bin/python", "/root/interpreters"),
        ("r'C:\\Users\\me\\x'", "C:\\Users\\me"),
        ("'C:\\\\Users\\\\me\\\\x'", "C:\\\\Users\\\\me"),
        ("/tmp/tmpx1/y", "/tmp/tmpx1"),
        ("/usr/bin/env /homely /rooted /opt/x", None),
    ],
)
def test_paths_of_any_machine(text: str, found: str | None) -> None:
    assert find_any(text.encode()) == found


@pytest.mark.parametrize(
    ("path", "kind", "expected"),
    [
        ("lib/python3.12/_sysconfigdata__linux_.py", FrameKind.INTERPRETER, True),
        ("lib/pkgconfig/python3.pc", FrameKind.INTERPRETER, True),
        ("lib/python3.14/_sysconfig_vars__linux_.json", FrameKind.INTERPRETER, True),
        ("lib/python3.14/build-details.json", FrameKind.INTERPRETER, True),
        ("lib/python3.12/config-3.12-x86_64-linux-gnu/Makefile", FrameKind.INTERPRETER, True),
        ("include/python3.12/pyconfig.h", FrameKind.INTERPRETER, True),
        ("bin/python3.12-config", FrameKind.INTERPRETER, True),
        (f"{SITE}/zzz_stackbuild.pth", FrameKind.HEAD, True),
        (f"{SITE}/sitecustomize.py", FrameKind.HEAD, True),
        ("share/venv/metadata/venvstacks_layer.json", FrameKind.HEAD, True),
        ("lib/python3.12/argparse.py", FrameKind.INTERPRETER, False),
        ("bin/tool", FrameKind.HEAD, True),
        ("pyvenv.cfg", FrameKind.HEAD, True),
        (f"{SITE}/launch.py", FrameKind.HEAD, False),
        ("bin/tool", FrameKind.DISTRIBUTION, False),
    ],
)
def test_where_any_machine_counts(path: str, kind: FrameKind, expected: bool) -> None:
    assert counts_on_any_machine(path, kind) is expected


SETTINGS = (
    *(".cfg", ".cmake", ".conf", ".egg-link", ".ini", ".json", ".la", ".pc", ".pth", ".sh"),
    *(".toml", ".yaml", ".yml"),
)


@pytest.mark.parametrize(
    ("path", "text", "found"),
    [
        ("a.py", "x = '/home/alice/x'", "/home/alice/x"),
        ("a.py", "x = ['-L/Users/alice/lib', 'y']", None),
        ("a.py", "def f(x=r'C:\\Users\\Alice Liddell\\x'): pass", "C:\\Users\\Alice"),
        ("a.py", "x = f'/home/alice/{1}'", "/home/alice/"),
        # Nobody's home, or not where it matters.
        (
            "a.py",
            "x = '/home/user/x', '/Users/runner/x', '/Users/{name}/x', '/home/$USER'",
            None,
        ),
        ("a.py", "x = 'https://example.org/home/alice/x', '/data/home/alice/x'", None),
        ("a.py", '"""Reads /home/alice/x."""  # and /home/alice/y', None),
        ("a.py", "if __name__ == '__main__':\n    run('/home/alice/x')", None),
        (
            "a.py",
            "if __name__ == '__main__':\n    pass\nelse:\n    x = '/home/alice'",
            "/home/alice",
        ),
        ("a.py", "if x:\n    y = '/home/alice/x'", "/home/alice/x"),
        ("a.py", "'Text.'\nrun('/home/alice/x')\n'Text.'", "/home/alice/x"),
        ("a.cfg", "C:\\Users\\Public /Users/me /home/alice", "/home/alice"),
        ("a.py", "x = '/home/alice/x' +", None),
        ("a.py", "x = '/home/alice/x'\0", None),
        ("a.py", "x = 'C:\\Users\\Public\\x'", None),
        ("pkg/tests/a.py", "x = '/home/alice/x'", None),
        ("pkg/test_a.py", "x = '/home/alice/x'", None),
        ("README.md", "x = '/home/alice/x'", None),
        ("a.pth", "/home/alice/src\n", "/home/alice/src"),
        *(
            (f"a{suffix}", "# comment\npath=/home/alice/src\n", "/home/alice/src")
            for suffix in SETTINGS
        ),
        ("bin/tool", "#!/home/alice/bin/sh\n", "/home/alice/bin/sh"),
        ("bin/tool", "#!/usr/bin/env python3\nx = '/home/alice/x'\n", "/home/alice/x"),
        ("bin/tool", "#!/bin/sh\n# /home/alice/x\n", None),
    ],
)
def test_homes_in_code_and_settings(path: str, text: str, found: str | None) -> None:
    assert find_home(path, text.encode()) == found
    if path.endswith(".cfg"):
        assert find_home(path, b"\xff " + text.encode()) == found


@pytest.mark.parametrize("terms", [1500, 100_000])
def test_long_expressions(terms: int) -> None:
    """The compiler may refuse them, and functions that call themselves fail."""
    code = f"x = '/home/alice/x'\nif {'+'.join('a' * terms)}: pass\n"
    assert find_home("a.py", code.encode()) in {"/home/alice/x", None}


@pytest.mark.parametrize("error", [RecursionError, MemoryError])
def test_code_that_the_compiler_refuses(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def parse(_: str) -> None:
        raise error

    monkeypatch.setattr("ast.parse", parse)
    assert find_home("a.py", b"x = '/home/alice/x'") is None


@pytest.mark.parametrize(
    ("path", "text", "found"),
    [
        ("a.py", "x = 'C:\\Users\\YourUserName\\x'", None),
        ("a.py", "#!/home/alice/bin/python\n", None),
        ("a.cmake", "set(X /home/alice/x)", None),
        ("a/METADATA.json", '{"at": "/home/alice/x"}', None),
        ("bin/tool", "#!/home/alice/bin/python\n", "/home/alice/bin/python"),
        ("bin/tool", "#!/usr/bin/env python3\nx = '/home/alice/x'\n", None),
        ("Scripts/tool", "#!/home/alice/bin/python\n", "/home/alice/bin/python"),
        (f"{SITE}/a.pth", "/home/alice/src\n", "/home/alice/src"),
        (f"{SITE}/a.egg-link", "/home/alice/src\n", "/home/alice/src"),
        (f"{SITE}/a-1.dist-info/direct_url.json", '{"url": "/home/alice/a"}', "/home/alice/a"),
    ],
)
def test_homes_in_a_wheel_of_an_index(path: str, text: str, found: str | None) -> None:
    assert find_home(path, text.encode(), of_index=True) == found


def test_what_is_text() -> None:
    assert is_text("a.py", "ä".encode())
    assert not is_text("a.py", b"\x7fELF\0")
    assert is_text("a.py", b" " * 8192 + b"\0")
    assert not is_text("a.pyc", b"abc")
