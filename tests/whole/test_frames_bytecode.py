"""Bytecode, made by every interpreter of this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stackbuild.errors import ComposeError, IntegrityError
from stackbuild.frames.bytecode import bytecode_key, bytecode_set, pyc_path
from stackbuild.frames.cache import FrameCache
from stackbuild.frames.sources import MemorySources, WheelSources
from stackbuild.frames.wheel import wheel_set
from stackbuild.layout import Layout
from stackbuild.runtimes.model import Interpreter
from stackbuild.spec.model import FrameSettings
from tests.support.frames import files_of, sha256
from tests.support.handmade import interpreters
from tests.support.wheels import make_wheel

_SETTINGS = FrameSettings()

# What made bytecode differ with what was compiled before: sets of strings of which one
# is interned elsewhere, characters that are names elsewhere, sets whose order a seed
# decides, and names that a codec has which the coding of another module loads.
_MODULES = {
    "a.py": "def f(x):\n    return x in {'426', '225', '226'}\n"
    "def g(x):\n    return x in {'426', '225', '226'}, 7.5\n",
    "b.py": "letters = ['\xc4', '\xe4', 'Z', '']\nimport a\nname = 'resp'\n",
    "c.py": "\xc4 = 1\n\xe4 = 2\nclass Z:\n    resp = '226'\n    x = ('225', b'', 1.5, 10**30)\n",
    "d.py": "def f(*, resp='426'):\n    '''Docs of f.'''\n"
    "    return lambda: (resp, {None, 1, 'x'})\n",
    "e.py": "async def f():\n    return [x async for x in y if x in {'a', 'b', ('c', 'd')}]\n",
    "f.py": "class IncrementalDecoder:\n    def getregentry(decoding_table): pass\n",
    "g.py": "# coding: koi8-r\nx = 1\n",
}


def _interpreter(minor: str) -> Interpreter:
    executable = interpreters()[minor]
    code = "import sys; print('%d.%d.%d' % sys.version_info[:3])"
    version = subprocess.run(
        [executable, "-c", code], capture_output=True, check=True, encoding="ascii"
    ).stdout.strip()
    return Interpreter(executable=executable, version=version)


def _compile(
    files: dict[str, bytes], interpreter: Interpreter, directory: Path
) -> dict[str, bytes | str]:
    layout = Layout("linux", interpreter.version.rpartition(".")[0])
    cache = FrameCache(directory)
    sources = MemorySources(subject="app", files=files)
    return files_of(cache, bytecode_set(sources, interpreter, layout, _SETTINGS, cache))


def test_the_version_that_compiles_is_part_of_the_key() -> None:
    sources = MemorySources(subject="app", files={"a.py": b""})
    keys = {
        bytecode_key(
            sources,
            Interpreter(executable=Path("python"), version=version),
            Layout("linux", "3.12"),
            _SETTINGS,
        )
        for version in ("3.12.1", "3.12.9", "3.12.10")
    }
    assert len(keys) == 3


@pytest.mark.parametrize("minor", sorted(interpreters()))
def test_bytecode_is_loaded_without_its_source_being_checked(tmp_path: Path, minor: str) -> None:
    interpreter = _interpreter(minor)
    source = b"value = 1\nprint(__cached__ or '', __file__)\ndef f():\n    raise ValueError\n"
    files = {"lib/mod.py": source, "lib/bad.py": b"print 'no'\n", "lib/nul.py": b"\0", "x.txt": b""}
    made = _compile(files, interpreter, tmp_path / "cache")
    tag = minor.replace(".", "")
    (path,) = made
    assert path == f"lib/__pycache__/mod.cpython-{tag}.pyc"
    pyc = made[path]
    assert isinstance(pyc, bytes)
    assert pyc[4:8] == b"\x01\0\0\0"
    (tmp_path / "lib/__pycache__").mkdir(parents=True)
    (tmp_path / path).write_bytes(pyc)
    (tmp_path / "lib/mod.py").write_bytes(b"raise SystemExit('the source was compiled')\n")
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import mod\n"
        "print(json.dumps([mod.value, mod.f.__code__.co_filename]))"
    )
    done = subprocess.run(
        [interpreter.executable, "-I", "-B", "-c", code, tmp_path / "lib"],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # Where the file is now is what a traceback shows, not where it was compiled.
    expected = [1, str(tmp_path / "lib/mod.py")]
    assert json.loads(done.stdout.splitlines()[-1]) == expected


@pytest.mark.parametrize("minor", sorted(interpreters()))
def test_bytecode_does_not_depend_on_what_was_compiled_before(tmp_path: Path, minor: str) -> None:
    interpreter = _interpreter(minor)
    together: dict[str, bytes] = {name: text.encode() for name, text in _MODULES.items()}
    made = _compile(together, interpreter, tmp_path / "cache")
    assert len(made) == len(_MODULES)
    # The part compiles in the order of paths, so these names turn the order round.
    turned = {f"{9 - number}.py": data for number, data in enumerate(together.values())}
    turned_made = _compile(turned, interpreter, tmp_path / "turned")
    for number, name in enumerate(together):
        alone = _compile({name: together[name]}, interpreter, tmp_path / name)
        layout = Layout("linux", minor)
        assert alone[pyc_path(name, layout)] == made[pyc_path(name, layout)], name
        turned_alone = {f"{9 - number}.py": together[name]}
        (expected,) = _compile(turned_alone, interpreter, tmp_path / f"t{number}").values()
        assert turned_made[pyc_path(f"{9 - number}.py", layout)] == expected, name


def test_the_environment_of_the_host_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreter = _interpreter("{}.{}".format(*sys.version_info))
    files = {name: text.encode() for name, text in _MODULES.items()}
    made = _compile(files, interpreter, tmp_path / "first")
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    for module in ("gc", "marshal", "importlib", "sitecustomize"):
        (shadow / f"{module}.py").write_text("raise SystemExit('shadowed')\n")
    monkeypatch.chdir(shadow)
    monkeypatch.setenv("PYTHONPATH", str(shadow))
    monkeypatch.setenv("PYTHONOPTIMIZE", "2")
    monkeypatch.setenv("PYTHONHASHSEED", "12345")
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    mask = os.umask(0o077)
    try:
        assert _compile(files, interpreter, tmp_path / "second") == made
    finally:
        os.umask(mask)


def test_the_modules_of_a_wheel(tmp_path: Path) -> None:
    interpreter = _interpreter("{}.{}".format(*sys.version_info))
    layout = Layout("linux", interpreter.version.rpartition(".")[0])
    wheel = make_wheel(
        tmp_path,
        "pkg",
        "1",
        {"pkg/__init__.py": "x = 1\n", "pkg/data.txt": "x"},
        data={"scripts/run.py": b"#!python\n", "purelib/other.py": b"y = 2\n"},
    )
    cache = FrameCache(tmp_path / "cache")
    sources = WheelSources(wheel=wheel, sha256=sha256(wheel), layout=layout)
    made = bytecode_set(sources, interpreter, layout, _SETTINGS, cache)
    tag = f"cpython-{layout.python.replace('.', '')}"
    assert made.paths == (
        f"{layout.site_packages}/__pycache__/other.{tag}.pyc",
        f"{layout.site_packages}/pkg/__pycache__/__init__.{tag}.pyc",
    )
    subjects = {frame.subject for frame in made.frames}
    own = wheel_set(wheel, sha256(wheel), layout, _SETTINGS, cache)
    assert subjects == {frame.subject for frame in own.frames} == {"pkg 1"}
    # Bytecode is left out with its module; other patterns do not concern it.
    less = bytecode_set(
        sources._replace(patterns=("other.*",)), interpreter, layout, _SETTINGS, cache
    )
    assert less.paths == made.paths[1:]
    assert sources._replace(patterns=("*.pyi", "@headers")).identity == sources.identity
    damaged = WheelSources(wheel=wheel, sha256="0" * 64, layout=layout)
    with pytest.raises(IntegrityError, match="does not match its lock"):
        bytecode_set(damaged, interpreter, layout, _SETTINGS, cache)


def test_two_layers_with_the_same_modules_have_frames_of_their_own(tmp_path: Path) -> None:
    interpreter = _interpreter("{}.{}".format(*sys.version_info[:2]))
    layout = Layout("linux", interpreter.version.rpartition(".")[0])
    cache = FrameCache(tmp_path)
    sources = [MemorySources(subject=name, files={"x.py": b"x = 1\n"}) for name in ("a", "b")]
    sets = [bytecode_set(each, interpreter, layout, _SETTINGS, cache) for each in sources]
    # A frame tells whose it is: which layer was published first must make no difference.
    assert [made.frames[0].subject for made in sets] == ["a", "b"]


def test_without_modules_there_are_no_frames(tmp_path: Path) -> None:
    interpreter = Interpreter(executable=Path("/nowhere/python"), version="3.12.0")
    assert _compile({"x.txt": b""}, interpreter, tmp_path) == {}


def test_an_interpreter_that_is_not_there(tmp_path: Path) -> None:
    interpreter = Interpreter(executable=Path("/nowhere/python"), version="3.12.0")
    with pytest.raises(ComposeError, match="cannot be started") as caught:
        _compile({"x.py": b"x = 1\n"}, interpreter, tmp_path)
    assert "bytecode = false" in str(caught.value)


def test_an_interpreter_of_another_version(tmp_path: Path) -> None:
    interpreter = Interpreter(executable=Path(sys.executable), version="3.9.0")
    with pytest.raises(ComposeError, match="has another version") as caught:
        _compile({"x.py": b"x = 1\n"}, interpreter, tmp_path)
    assert ("expected", "3.9.0") in caught.value.details


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
def test_an_interpreter_that_fails(tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 3.12.0\necho 'out of order' >&2\n")
    broken.chmod(0o755)
    interpreter = Interpreter(executable=broken, version="3.12.0")
    with pytest.raises(ComposeError, match="failed to compile a module") as caught:
        _compile({"x.py": b"x = 1\n" * 100_000}, interpreter, tmp_path / "cache")
    assert ("found", "out of order") in caught.value.details
    assert shutil.which("sh")
