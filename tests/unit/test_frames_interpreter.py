"""Interpreters to frames."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

import pytest

from stackbuild.errors import IntegrityError
from stackbuild.frames.cache import FrameCache
from stackbuild.frames.interpreter import interpreter_set
from stackbuild.frames.scripts import LAUNCHER
from stackbuild.frames.sources import ArchiveSources
from stackbuild.record import record_hash
from stackbuild.spec.model import FrameSettings
from tests.support.archives import archive_at, make_archive
from tests.support.frames import LINUX, contents

if TYPE_CHECKING:
    from pathlib import Path

    from stackbuild.runtimes.model import RuntimeArchive
    from tests.support.archives import Content

_LIB = "lib/python3.12"
_SITE = f"{_LIB}/site-packages"
_SCRIPT = b"#!/install/bin/python3.12\nimport pip\n"

_FILES: dict[str, Content] = {
    "bin/python3.12": b"ELF",
    "bin/python3": "python3.12",
    "bin/pip": _SCRIPT,
    "bin/pip3": _SCRIPT,
    "bin/idle3.12": b"#!/usr/local/bin/python3.12 -s\nimport idlelib\n",
    # As python-build-standalone has its scripts.
    "bin/2to3": b"""#!/bin/sh
'''exec' "$(dirname -- "$(realpath -- "$0")")/python3.12" "$0" "$@"
' '''
import lib2to3
""",
    "bin/python3.12-config": b"#!/bin/sh\necho\n",
    f"{_LIB}/os.py": b"x = 1\n",
    f"{_LIB}/__pycache__/os.cpython-312.pyc": b"pyc",
    f"{_LIB}/EXTERNALLY-MANAGED": b"[externally-managed]\n",
    f"{_LIB}/ensurepip/_bundled/pip-25.0-py3-none-any.whl": b"PK",
    f"{_SITE}/README.txt": b"read",
    f"{_SITE}/pip/__init__.py": b"",
    f"{_SITE}/pip-25.0.dist-info/METADATA": b"Name: pip\n",
    f"{_SITE}/pip-25.0.dist-info/RECORD": (
        b"../../../bin/pip,sha256=x,39\n../../../bin/pip3,sha256=x,39\n"
        b"pip/__init__.py,sha256=y,0\npip/__pycache__/__init__.cpython-312.pyc,,\n"
        b"pip-25.0.dist-info/METADATA,sha256=z,10\npip-25.0.dist-info/RECORD,,\n"
    ),
    f"{_SITE}/host.pth": b"import host\n",
}
_INTERPRETER = {
    "bin/python3.12": (0o755, b"ELF"),
    "bin/python3": (0o777, "python3.12"),
    "bin/idle3.12": (0o755, LAUNCHER),
    "libexec/idle3.12": (0o644, b"#!python\nimport idlelib\n"),
    "bin/2to3": (0o755, LAUNCHER),
    "libexec/2to3": (0o644, b"#!python\nimport lib2to3\n"),
    "bin/python3.12-config": (0o755, b"#!/bin/sh\necho\n"),
    f"{_LIB}/os.py": (0o644, b"x = 1\n"),
    f"{_LIB}/ensurepip/_bundled/pip-25.0-py3-none-any.whl": (0o644, b"PK"),
}
_EXECUTABLE = [path for path in _FILES if path.startswith("bin/")]


def _made(
    archive: RuntimeArchive, keep: tuple[str, ...] = ()
) -> dict[str, tuple[int, bytes | str]]:
    cache = FrameCache(archive.path.parent / "cache")
    made = interpreter_set(archive, LINUX, keep, FrameSettings(), cache)
    assert {frame.subject for frame in made.frames} == {"cpython 3.12.10"}
    assert list((archive.path.parent / "cache/work").iterdir()) == []
    return contents(cache, made)


@pytest.mark.parametrize("name", ["python.tar.gz", "python.tar.zst"])
def test_the_interpreter_without_distributions(tmp_path: Path, name: str) -> None:
    archive = make_archive(tmp_path / name, _FILES, executable=_EXECUTABLE)
    assert _made(archive) == _INTERPRETER


def test_a_distribution_that_is_kept(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "python.tar.gz", _FILES, executable=_EXECUTABLE)
    made = _made(archive, ("pip",))
    script = b"#!python\nimport pip\n"
    record = made.pop(f"{_SITE}/pip-25.0.dist-info/RECORD")[1]
    assert made == _INTERPRETER | {
        "bin/pip": (0o755, LAUNCHER),
        "bin/pip3": (0o755, LAUNCHER),
        "libexec/pip": (0o644, script),
        "libexec/pip3": (0o644, script),
        f"{_SITE}/pip/__init__.py": (0o644, b""),
        f"{_SITE}/pip-25.0.dist-info/METADATA": (0o644, b"Name: pip\n"),
    }
    assert isinstance(record, bytes)
    rows = dict(line.split(",", 1) for line in record.decode().splitlines())
    assert rows["../../../bin/pip"] == f"{record_hash(LAUNCHER)},{len(LAUNCHER)}"
    assert rows["../../../libexec/pip"] == f"{record_hash(script)},{len(script)}"
    assert rows["pip/__init__.py"] == "sha256=y,0"


def test_the_modules_that_get_bytecode(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "python.tar.gz", _FILES)
    cache = FrameCache(tmp_path / "cache")
    sources = ArchiveSources(archive=archive, layout=LINUX, keep=())
    with sources.opened(cache) as modules, modules.reader() as read:
        assert modules.sizes == {f"{_LIB}/os.py": 6}
        assert read(f"{_LIB}/os.py") == b"x = 1\n"
    kept = ArchiveSources(archive=archive, layout=LINUX, keep=("pip",))
    with kept.opened(cache) as modules:
        assert set(modules.sizes) == {f"{_LIB}/os.py", f"{_SITE}/pip/__init__.py"}
    assert kept.identity != sources.identity


def test_a_hard_link_becomes_a_link(tmp_path: Path) -> None:
    second = tarfile.TarInfo()
    second.type, second.linkname = tarfile.LNKTYPE, "python/lib/a"
    files: dict[str, Content] = {"bin/python3.12": b"ELF", "lib/a": b"a", "lib/deep/b": second}
    made = _made(make_archive(tmp_path / "python.tar.gz", files))
    assert made["lib/deep/b"] == (0o777, "../a")


def _member(kind: bytes, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo()
    member.type, member.linkname = kind, link
    return member


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("../../evil", b"", "'.' or '..' part"),
        ("a\\b", b"", "has a backslash"),
        ("lib/link", "/etc/passwd", "is absolute, or has"),
        ("lib/link", "../../out", "leads out of the layer"),
        ("lib/link", _member(tarfile.LNKTYPE, "python/../../out"), "leads out of the layer"),
        ("dev", _member(tarfile.CHRTYPE), "is not a file, link or directory"),
        ("fifo", _member(tarfile.FIFOTYPE), "is not a file, link or directory"),
        ("bin/python3.12/x", b"", "is below a file or a link"),
    ],
)
def test_evil_members_are_refused(
    tmp_path: Path, name: str, content: Content, message: str
) -> None:
    archive = make_archive(tmp_path / "python.tar.gz", {"bin/python3.12": b"ELF", name: content})
    with pytest.raises(IntegrityError) as caught:
        _made(archive)
    assert message in caught.value.message


def test_another_layout_is_refused(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "python.tar.gz", {"bin/python3.12": b"ELF"}, top="")
    with pytest.raises(IntegrityError, match="is not below python/"):
        _made(archive)
    archive = make_archive(tmp_path / "python.tar.gz", {"bin/python3.11": b"ELF"})
    with pytest.raises(IntegrityError, match="is missing") as caught:
        _made(archive)
    assert "python/bin/python3.12" in str(caught.value)


@pytest.mark.parametrize("name", ["python.tar.gz", "python.tar.zst"])
@pytest.mark.parametrize("cut", [0.5, 0.98])
def test_a_truncated_archive_is_refused(tmp_path: Path, name: str, cut: float) -> None:
    path = make_archive(tmp_path / name, _FILES).path
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * cut)])
    with pytest.raises(IntegrityError) as caught:
        _made(archive_at(path))
    assert str(path) in str(caught.value)


def test_something_else_than_an_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "python.tar.gz"
    path.write_bytes(b"<html>")
    with pytest.raises(IntegrityError, match="an interpreter's archive cannot be read"):
        _made(archive_at(path))


def test_an_archive_that_changed_is_refused(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "python.tar.gz", _FILES)
    archive.path.write_bytes(archive.path.read_bytes() + b"x")
    with pytest.raises(IntegrityError, match="has changed"):
        _made(archive)
