"""Frames in an archive, as other programs see it, and as several processes make it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from stackbuild.frames.cache import FrameCache
from stackbuild.frames.files import FileContent, Link, files_set
from stackbuild.frames.model import FrameKind
from stackbuild.frames.wheel import wheel_set
from stackbuild.spec.model import FrameSettings
from tests.support.archives import unpack_layer
from tests.support.frames import LINUX, digests, sha256
from tests.support.wheels import make_wheel

_LONG = "/".join(["a rather long directory"] * 12)

# Makes the frame sets of all wheels in a directory and prints the frames' digests.
_PROGRAM = """
import hashlib, sys
from functools import partial
from pathlib import Path
from stackbuild.frames.cache import FrameCache
from stackbuild.frames.make import make_sets
from stackbuild.frames.wheel import wheel_set
from stackbuild.layout import Layout
from stackbuild.messages import Silent
from stackbuild.spec.model import FrameSettings

wheels, cache, workers = Path(sys.argv[1]), FrameCache(Path(sys.argv[2])), int(sys.argv[3])
jobs = [
    partial(
        wheel_set, path, hashlib.sha256(path.read_bytes()).hexdigest(),
        Layout("linux", "3.12"), FrameSettings(), cache,
    )
    for path in sorted(wheels.iterdir())
]
for frame_set in make_sets(jobs, workers, Silent()):
    assert cache.get(frame_set.key) == frame_set
    for frame in frame_set.frames:
        print(frame.sha256, sum(map(len, cache.read(frame))))
"""


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    directory = tmp_path / "wheels"
    for number in range(8):
        files = {f"p{number}/m{module}.py": f"x = {module}\n" * 300 for module in range(30)}
        files[f"p{number}/{_LONG}/é.txt"] = "é"
        make_wheel(directory, f"p{number}", "1", files, console_scripts={f"p{number}": "p:main"})
    return directory


def _start(
    wheels: Path,
    cache: Path,
    workers: int = 2,
    *,
    cwd: Path | None = None,
    umask: int = -1,
    environment: dict[str, str] | None = None,
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, wheels, cache, str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="ascii",
        env=os.environ | {"PYTHONHASHSEED": "0"} | (environment or {}),
        cwd=cwd,
        umask=umask,
    )


def _finish(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return output


def test_frames_are_the_same_whatever_surrounds_them(wheels: Path, tmp_path: Path) -> None:
    first = _finish(_start(wheels, tmp_path / "one"))
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    copied = tmp_path / "copied"
    shutil.copytree(wheels, copied)
    for path in copied.iterdir():
        path.chmod(0o700)
        os.utime(path, (0, 0))
    environment = {"PYTHONHASHSEED": "99", "TZ": "Asia/Tokyo", "LC_ALL": "C", "LANG": "C"}
    process = _start(
        copied, elsewhere / "two", 3, cwd=elsewhere, umask=0o077, environment=environment
    )
    assert _finish(process) == first
    assert len(first.splitlines()) == 8


def test_several_processes_may_make_the_same_frames_at_once(wheels: Path, tmp_path: Path) -> None:
    processes = [_start(wheels, tmp_path / "cache", 1) for _ in range(4)]
    outputs = {_finish(process) for process in processes}
    assert len(outputs) == 1
    names = {line.split()[0] for line in outputs.pop().splitlines()}
    cached = tmp_path / "cache"
    assert {path.stem for path in cached.glob("frames/*/*.zst")} == names
    assert all(sha256(path) == path.stem for path in cached.glob("frames/*/*.zst"))
    assert list(cached.glob("work/*")) == []


def test_a_process_that_is_killed_leaves_nothing_that_counts(wheels: Path, tmp_path: Path) -> None:
    process = _start(wheels, tmp_path / "cache", 1)
    while not list(tmp_path.glob("cache/sets/*.json")):
        assert process.poll() is None
    process.kill()
    process.communicate()
    assert all(sha256(path) == path.stem for path in tmp_path.glob("cache/frames/*/*.zst"))
    assert _finish(_start(wheels, tmp_path / "cache")) == _finish(_start(wheels, tmp_path / "new"))


def _archive(wheels: Path, tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """An archive of all wheels and a head, and what it holds, as text."""
    cache = FrameCache(tmp_path / "cache")
    settings = FrameSettings()
    sets = [
        wheel_set(path, sha256(path), LINUX, settings, cache) for path in sorted(wheels.iterdir())
    ]
    head: dict[str, FileContent | Link] = {"bin/python": Link("p0"), "empty": FileContent(data=b"")}
    sets.append(files_set(FrameKind.HEAD, "app", head, settings, cache, end=True))
    archive = tmp_path / "layer.tar.zst"
    with archive.open("wb") as file:
        for frame_set in sets:
            for frame in frame_set.frames:
                file.writelines(cache.read(frame))
    assert len(set(digests(sets))) == len(sets)
    expected = {path: "" for frame_set in sets for path in frame_set.paths}
    return archive, expected


def _check(directory: Path, expected: dict[str, str]) -> None:
    found = {
        path.relative_to(directory).as_posix()
        for path in directory.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    assert found == set(expected)
    site = directory / LINUX.site_packages
    assert (site / "p3/m7.py").read_text() == "x = 7\n" * 300
    assert (site / f"p3/{_LONG}/é.txt").read_text(encoding="utf-8") == "é"
    assert (directory / "bin/python").readlink() == Path("p0")
    assert (directory / "bin/p0").stat().st_mode & 0o777 == 0o755
    assert (site / "p3/m7.py").stat().st_mode & 0o777 == 0o644
    assert (site / "p3/m7.py").stat().st_mtime == 315_532_800


@pytest.mark.skipif(os.name == "nt", reason="modes and links")
def test_tarfile_unpacks_an_archive(wheels: Path, tmp_path: Path) -> None:
    archive, expected = _archive(wheels, tmp_path)
    to = tmp_path / "unpacked"
    unpack_layer(archive, to)
    _check(to, expected)


@pytest.mark.skipif(os.name == "nt", reason="modes and links")
@pytest.mark.parametrize("program", ["tar", "bsdtar"])
def test_programs_unpack_an_archive(wheels: Path, tmp_path: Path, program: str) -> None:
    if not shutil.which(program):
        pytest.skip(f"there is no {program} on this machine")
    archive, expected = _archive(wheels, tmp_path)
    to = tmp_path / "unpacked"
    to.mkdir()
    flags = ["--zstd"] if program == "tar" else []
    done = subprocess.run(
        [program, *flags, "-xf", archive, "-C", to],
        env=os.environ | {"LC_ALL": "C.UTF-8"},
        umask=0o022,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    _check(to, expected)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="tarfile reads zstd from Python 3.14 on")
def test_python_3_14_unpacks_an_archive(wheels: Path, tmp_path: Path) -> None:
    archive, expected = _archive(wheels, tmp_path)
    to = tmp_path / "unpacked"
    with tarfile.open(archive) as tar:
        tar.extractall(to, filter="tar")
    _check(to, expected)
