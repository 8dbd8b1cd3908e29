"""Wheels to frames."""

from __future__ import annotations

import csv
import hashlib
import io
import posixpath
import zipfile
from base64 import urlsafe_b64encode
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest

from stackbuild.builds.wheelfile import check_wheel
from stackbuild.frames import wheel as wheel_module
from stackbuild.frames.cache import FrameCache
from stackbuild.frames.keys import frame_key
from stackbuild.frames.make import make_sets
from stackbuild.frames.model import EntryPoint, FrameKind
from stackbuild.frames.tarformat import TarReader
from stackbuild.frames.wheel import wheel_key, wheel_set
from stackbuild.frames.wheelplan import SCHEMES, read_wheel
from stackbuild.layout import Layout
from stackbuild.messages import Silent
from stackbuild.record import read_record, record_hash
from stackbuild.scripts import header
from stackbuild.spec.model import FrameSettings
from tests.support.frames import LINUX, WINDOWS, contents, files_of, rewrite_wheel, sha256
from tests.support.wheels import make_wheel
from tests.support.zstd import decompressed

if TYPE_CHECKING:
    from pathlib import Path

    from stackbuild.frames.model import FrameSet

_SETTINGS = FrameSettings()
_SITE = "lib/python3.12/site-packages"


def _full(directory: Path) -> Path:
    return make_wheel(
        directory,
        "Some.Thing",
        "1.0",
        {
            "thing/__init__.py": "x = 1\n",
            "thing/data.bin": bytes(3000),
            "thing/__pycache__/evil.cpython-312.pyc": b"evil",
            "thing.pth": "# a comment\n\nimport thing\n../elsewhere\n",
            "another.pth": "first\n",
        },
        console_scripts={"thing": "thing:main", "other": "thing.cli:Class.run"},
        data={
            "scripts/run-thing": b"#!python\nprint('thing')\n",
            "scripts/shell": b"#!/bin/sh\necho thing\n",
            "headers/thing.h": b"int x;\n",
            "data/share/thing/readme.txt": b"read\n",
            "purelib/pure.py": b"y = 2\n",
            "platlib/plat.py": b"z = 3\n",
        },
        metadata_lines=["License-Expression: MIT"],
    )


def _made(wheel: Path, layout: Layout, directory: Path) -> tuple[FrameCache, FrameSet]:
    cache = FrameCache(directory / "cache")
    return cache, wheel_set(wheel, sha256(wheel), layout, _SETTINGS, cache)


def test_every_file_is_at_its_place(tmp_path: Path) -> None:
    cache, made = _made(_full(tmp_path), LINUX, tmp_path)
    info = f"{_SITE}/Some.Thing-1.0.dist-info"
    modes = {path: mode for path, (mode, _) in contents(cache, made).items()}
    assert modes == {
        f"{_SITE}/thing/__init__.py": 0o644,
        f"{_SITE}/thing/data.bin": 0o644,
        f"{_SITE}/thing.pth": 0o644,
        f"{_SITE}/another.pth": 0o644,
        f"{_SITE}/pure.py": 0o644,
        f"{_SITE}/plat.py": 0o644,
        f"{info}/METADATA": 0o644,
        f"{info}/WHEEL": 0o644,
        f"{info}/RECORD": 0o644,
        f"{info}/INSTALLER": 0o644,
        f"{info}/entry_points.txt": 0o644,
        "bin/thing": 0o755,
        "bin/other": 0o755,
        "bin/run-thing": 0o755,
        "libexec/run-thing": 0o644,
        "bin/shell": 0o755,
        "include/python3.12/Some.Thing/thing.h": 0o644,
        "share/thing/readme.txt": 0o644,
    }
    assert {frame.kind for frame in made.frames} == {FrameKind.DISTRIBUTION}
    assert {frame.subject for frame in made.frames} == {"some-thing 1.0"}


def test_what_composing_needs_is_told(tmp_path: Path) -> None:
    _, made = _made(_full(tmp_path), LINUX, tmp_path)
    assert made.entry_points == (
        EntryPoint(name="thing", module="thing", attribute="main"),
        EntryPoint(name="other", module="thing.cli", attribute="Class.run"),
    )
    assert made.pth == ("first", "import thing", "../elsewhere")
    assert made.licence == "MIT"


def test_files_that_a_pattern_matches_are_left_out(tmp_path: Path) -> None:
    wheel = _full(tmp_path)
    cache, whole = _made(wheel, LINUX, tmp_path)
    patterns = ("@headers", "thing/*.bin", "bin/run-thing", "share/**", "plat.py", "another.pth")
    made = wheel_set(wheel, sha256(wheel), LINUX, _SETTINGS, cache, patterns=patterns)
    gone = {*whole.paths} - {*made.paths}
    assert gone == {
        "bin/run-thing",
        "include/python3.12/Some.Thing/thing.h",
        "libexec/run-thing",
        "share/thing/readme.txt",
        *(f"{_SITE}/{name}" for name in ("another.pth", "plat.py", "thing/data.bin")),
    }
    assert made.excluded == (
        *("another.pth", "bin/run-thing", "include/thing.h", "plat.py"),
        *("share/thing/readme.txt", "thing/data.bin"),
    )
    assert (made.pth, made.entry_points) == (whole.pth[1:], whole.entry_points)
    assert cache.get(made.key) == made
    # What installing needs is always there.
    least = wheel_set(wheel, sha256(wheel), LINUX, _SETTINGS, cache, patterns=("**",))
    info = [path for path in whole.paths if ".dist-info/" in path]
    assert [*least.paths] == sorted([*info, "bin/thing", "bin/other"])


def test_patterns_that_match_nothing_make_no_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = _full(tmp_path)
    cache, whole = _made(wheel, LINUX, tmp_path)
    monkeypatch.setattr(cache, "new_frame", None)
    made = wheel_set(wheel, sha256(wheel), LINUX, _SETTINGS, cache, patterns=("*.nothing",))
    assert replace(made, key=whole.key) == whole
    assert made.key != whole.key


@pytest.mark.parametrize("patterns", [(), ("@headers", "*.bin", "bin/shell")])
@pytest.mark.parametrize("layout", [LINUX, WINDOWS])
def test_record_is_true(tmp_path: Path, layout: Layout, patterns: tuple[str, ...]) -> None:
    wheel, cache = _full(tmp_path), FrameCache(tmp_path / "cache")
    made = wheel_set(wheel, sha256(wheel), layout, _SETTINGS, cache, patterns=patterns)
    files = files_of(cache, made)
    info = f"{layout.site_packages}/Some.Thing-1.0.dist-info"
    record = files[f"{info}/RECORD"]
    assert isinstance(record, bytes)
    rows = list(csv.reader(io.StringIO(record.decode())))
    named = {
        posixpath.normpath(posixpath.join(layout.site_packages, path)): (digest, size)
        for path, digest, size in rows
    }
    assert len(named) == len(rows)
    assert named.pop(f"{info}/RECORD") == ("", "")
    assert set(named) == set(files) - {f"{info}/RECORD"}
    for path, (digest, size) in named.items():
        data = files[path]
        assert isinstance(data, bytes)
        value = urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        assert (digest, size) == (f"sha256={value}", str(len(data))), path


def test_scripts_find_their_interpreter(tmp_path: Path) -> None:
    cache, made = _made(_full(tmp_path), LINUX, tmp_path)
    files = files_of(cache, made)
    for name in ("thing", "other", "run-thing"):
        script = files[f"bin/{name}"]
        assert isinstance(script, bytes)
        assert script.startswith(header("python", variables=True))
    assert files["libexec/run-thing"] == b"#!python\nprint('thing')\n"
    assert files["bin/shell"] == b"#!/bin/sh\necho thing\n"


def _renamed(wheel: Path, old: str, new: str) -> None:
    """Rename a top directory, in RECORD too."""

    def change(info: zipfile.ZipInfo, data: bytes) -> tuple[zipfile.ZipInfo, bytes]:
        if info.filename.endswith("/RECORD"):
            data = data.replace(f"{old}/".encode(), f"{new}/".encode())
        if info.filename.startswith(f"{old}/"):
            info.filename = new + info.filename.removeprefix(old)
        return info, data

    rewrite_wheel(wheel, change)


def test_the_directories_may_spell_the_name_otherwise(tmp_path: Path) -> None:
    wheel = _full(tmp_path)
    _renamed(wheel, "Some.Thing-1.0.data", "some_thing-1.0.data")
    _renamed(wheel, "Some.Thing-1.0.dist-info", "some-thing-1.0.dist-info")
    read = read_wheel(wheel)
    assert (read.stem, read.data_directory) == ("some-thing-1.0", "some_thing-1.0.data")
    assert {member.scheme for member in read.members} == {"root", *SCHEMES}
    _, made = _made(wheel, LINUX, tmp_path)
    assert {"bin/run-thing", f"{_SITE}/pure.py", f"{_SITE}/thing.pth"} <= set(made.paths)
    assert "include/python3.12/some-thing/thing.h" in made.paths


def test_another_data_directory_is_a_directory_like_any_other(tmp_path: Path) -> None:
    names = ["a.data/scripts/x.py", "thing-2.data/purelib/y.py", "thing.data", "thing-1.DATA/z.py"]
    wheel = make_wheel(tmp_path, "thing", "1", dict.fromkeys(names, ""))
    assert read_wheel(wheel).data_directory == "thing-1.data"
    _, made = _made(wheel, LINUX, tmp_path)
    assert {f"{_SITE}/{name}" for name in names} <= set(made.paths)


def test_files_that_are_read_in_several_pieces(tmp_path: Path) -> None:
    line = "../lines\n"
    text = line * (600 * 1024 // len(line))
    body = b"x = 1\n" * 100_000
    wheel = make_wheel(
        tmp_path,
        "x",
        "1",
        {"x.pth": text, "x.txt": text},
        data={"scripts/run": b"#!python\n" + body},
    )
    cache, made = _made(wheel, LINUX, tmp_path)
    found = files_of(cache, made)
    assert found[f"{_SITE}/x.pth"] == found[f"{_SITE}/x.txt"] == text.encode()
    assert set(made.pth) == {line.strip()}
    script = found["libexec/run"]
    assert isinstance(script, bytes)
    assert script.endswith(body)


def test_pth_files_count_at_the_top_and_line_by_line(tmp_path: Path) -> None:
    files = {"a.pth": "\ufeffone  \n  two\n\n# three\n", "x/b.pth": "four\n"}
    wheel = make_wheel(tmp_path, "x", "1", files, data={"data/c.pth": b"five\n"})
    assert _made(wheel, LINUX, tmp_path)[1].pth == ("one", "  two")


def test_gui_scripts_are_told_apart(tmp_path: Path) -> None:
    text = "[gui_scripts]\nwin = x:main\n\n[console_scripts]\nrun = x:main\n"
    wheel = make_wheel(tmp_path, "x", "1", {}, dist_info={"entry_points.txt": text})
    points = _made(wheel, LINUX, tmp_path)[1].entry_points
    assert {point.name: point.gui for point in points} == {"win": True, "run": False}


def test_a_distribution_may_bring_others_along(tmp_path: Path) -> None:
    vendored = "x/_vendor/y-2.dist-info/METADATA"
    wheel = make_wheel(tmp_path, "x", "1", {vendored: "", "x/_vendor/y.dist-info": ""})
    assert f"{_SITE}/{vendored}" in _made(wheel, LINUX, tmp_path)[1].paths


def test_entries_for_directories_are_no_files(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "x", "1", {"x/a.py": ""})
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("x/", b"")
        archive.writestr("x/empty/", b"")
    assert [name for name in _made(wheel, LINUX, tmp_path)[1].paths if "/x/" in name] == [
        f"{_SITE}/x/a.py"
    ]


@pytest.mark.filterwarnings("error")
def test_what_installing_makes_does_not_come_from_the_wheel(tmp_path: Path) -> None:
    kept = {"x__pycache__/a.py": "", "INSTALLER": "", "RECORD.jws": "", "x/RECORD": ""}
    left_out = {"x/__pycache__/a.cpython-312.pyc": "", "__pycache__/b.cpython-312.pyc": ""}
    own = {"INSTALLER": "pip", "RECORD.jws": "{}", "RECORD.p7s": "", "sub/RECORD": ""}
    wheel = make_wheel(tmp_path, "x", "1", kept | left_out, dist_info=own)
    assert {member.name for member in read_wheel(wheel).members} == {
        *kept,
        "x-1.dist-info/METADATA",
        "x-1.dist-info/WHEEL",
        "x-1.dist-info/sub/RECORD",
    }
    cache, made = _made(wheel, LINUX, tmp_path)
    assert files_of(cache, made)[f"{_SITE}/x-1.dist-info/INSTALLER"] == b"stackbuild\n"
    assert f"{_SITE}/x-1.dist-info/RECORD.p7s" not in made.paths
    assert f"{_SITE}/x/__pycache__/a.cpython-312.pyc" not in made.paths


def test_record_may_name_bytecode_that_the_wheel_does_not_hold(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "x", "1", {"x/a.py": "", "x/__pycache__/a.cpython-312.pyc": ""})
    rewrite_wheel(
        wheel, lambda info, data: None if info.filename.endswith(".pyc") else (info, data)
    )
    assert f"{_SITE}/x/a.py" in _made(wheel, LINUX, tmp_path)[1].paths


def test_windows_has_its_own_layout(tmp_path: Path) -> None:
    _, made = _made(_full(tmp_path), WINDOWS, tmp_path)
    assert set(made.paths) >= {
        "Scripts/thing.exe",
        "Scripts/other.exe",
        "Lib/site-packages/thing/__init__.py",
        "Include/Some.Thing/thing.h",
        "share/thing/readme.txt",
    }
    keys = {
        wheel_key("0" * 64, layout, _SETTINGS, machine=machine)
        for layout in (LINUX, WINDOWS)
        for machine in ("x86_64", "aarch64")
    }
    assert len(keys) == 3


def test_the_key_tells_everything_that_decides_the_bytes() -> None:
    digest = "0" * 64
    usual = wheel_key(digest, LINUX, _SETTINGS)
    assert usual == frame_key("wheel", digest, "linux", "3.12", "", settings=_SETTINGS)
    windows = wheel_key(digest, WINDOWS, _SETTINGS, machine="x86_64")
    assert windows == frame_key("wheel", digest, "windows", "3.12", "x86_64", settings=_SETTINGS)
    assert windows == wheel_key(digest, WINDOWS, _SETTINGS)
    assert usual == wheel_key(digest, LINUX, _SETTINGS, machine="aarch64")
    others = [
        wheel_key("1" * 64, LINUX, _SETTINGS),
        wheel_key(digest, Layout("linux", "3.13"), _SETTINGS),
        wheel_key(digest, Layout("macos", "3.12"), _SETTINGS),
        wheel_key(digest, LINUX, FrameSettings(level=3)),
        wheel_key(digest, WINDOWS, _SETTINGS, machine="aarch64"),
    ]
    assert len({usual, windows, *others}) == 7


def test_the_machine_decides_which_launchers_there_are(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "x", "1", {}, console_scripts={"run": "x:main"})
    digest, cache = sha256(wheel), FrameCache(tmp_path / "cache")
    made = {
        machine: wheel_set(wheel, digest, WINDOWS, _SETTINGS, cache, machine=machine)
        for machine in ("x86_64", "aarch64")
    }
    assert made["x86_64"].key != made["aarch64"].key
    launchers = {files_of(cache, item)["Scripts/run.exe"] for item in made.values()}
    assert len(launchers) == 2
    assert wheel_set(wheel, digest, WINDOWS, _SETTINGS, cache) == made["x86_64"]


def _in_frames(cache: FrameCache, made: FrameSet) -> list[list[str]]:
    """The paths in each frame, in their order."""
    found = []
    for frame in made.frames:
        compressed = b"".join(cache.read(frame))
        data = decompressed(compressed)
        found.append([member.path for member in TarReader(io.BytesIO(data).read)])
    return found


def test_a_large_wheel_is_cut_and_record_covers_all_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"pkg/m{number:02}.py": f"x = {number}\n" * 100 for number in range(40)}
    wheel = make_wheel(
        tmp_path,
        "pkg",
        "1",
        files | {"pkg/large.bin": bytes(9000)},
        console_scripts={"p": "pkg:m"},
        data={"scripts/a": b"#!python\nimport pkg\n", "scripts/b": b"#!/bin/sh\n"},
    )
    _, whole = _made(wheel, LINUX, tmp_path / "whole")
    monkeypatch.setattr(wheel_module, "MAX_FILE_BYTES", 4000)
    cache, made = _made(wheel, LINUX, tmp_path / "cut")
    assert len(whole.frames) == 1
    assert len(made.frames) > 8
    assert made.paths == whole.paths
    assert files_of(cache, made) == files_of(FrameCache(tmp_path / "whole/cache"), whole)
    # What is not as it was in the wheel is in the last part, where RECORD is written.
    *parts, last = _in_frames(cache, made)
    assert {name for part in parts for name in part if "dist-info" in name} == set()
    assert {"bin/a", "bin/p"} <= set(last)
    assert any("bin/b" in part for part in parts)


def test_the_last_part_may_be_exactly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel(tmp_path, "x", "1", {"x/a.py": "x = 1\n" * 200, "x/b.py": "y = 1\n" * 100})
    with zipfile.ZipFile(wheel) as archive:
        size = sum(info.file_size for info in archive.infolist())
        size -= archive.getinfo("x-1.dist-info/RECORD").file_size
    found = []
    for limit in (size, size - 1):
        monkeypatch.setattr(wheel_module, "MAX_FILE_BYTES", limit)
        cache, made = _made(wheel, LINUX, tmp_path / str(limit))
        found.append([len(part) for part in _in_frames(cache, made)])
    # Two modules; METADATA, WHEEL, INSTALLER and RECORD.
    assert found == [[6], [2, 4]]


def test_frames_are_the_same_whatever_the_cache_and_the_number_of_workers(tmp_path: Path) -> None:
    wheels = [
        make_wheel(tmp_path, f"p{number}", "1", {f"p{number}/x.py": f"x = {number}\n" * 500})
        for number in range(6)
    ]

    results = []
    for workers in (1, 2, 5):
        cache = FrameCache(tmp_path / f"cache{workers}")
        jobs = [
            partial(wheel_set, wheel, sha256(wheel), LINUX, _SETTINGS, cache) for wheel in wheels
        ]
        results.append(make_sets(jobs, workers, Silent()))
    assert results[0] == results[1] == results[2]


def test_a_wheel_is_read_once(tmp_path: Path) -> None:
    wheel = _full(tmp_path)
    cache, made = _made(wheel, LINUX, tmp_path)
    digest = sha256(wheel)
    wheel.unlink()
    assert wheel_set(wheel, digest, LINUX, _SETTINGS, cache) == made


def test_a_wheel_without_anything_but_metadata(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "meta", "1", {})
    _, made = _made(wheel, LINUX, tmp_path)
    info = f"{_SITE}/meta-1.dist-info"
    assert made.paths == tuple(
        f"{info}/{name}" for name in ("INSTALLER", "METADATA", "RECORD", "WHEEL")
    )


def test_the_executable_bit_is_kept_and_other_bits_are_not(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "x", "1", {"x/tool": b"elf", "x/data": b"data"})

    def change(info: zipfile.ZipInfo, data: bytes) -> tuple[zipfile.ZipInfo, bytes]:
        modes = {"x/tool": 0o104711, "x/data": 0o100606}
        info.external_attr = modes.get(info.filename, 0o100644) << 16
        return info, data

    rewrite_wheel(wheel, change)
    cache, made = _made(wheel, LINUX, tmp_path)
    modes = {path: mode for path, (mode, _) in contents(cache, made).items()}
    assert modes[f"{_SITE}/x/tool"] == 0o755
    assert modes[f"{_SITE}/x/data"] == 0o644


@pytest.mark.parametrize(
    ("lines", "licence"),
    [
        (["License: BSD"], "BSD"),
        (["License: UNKNOWN"], None),
        (["License: Copyright", "        all of the text", "License-File: x"], None),
        (
            [
                "License: Copyright",
                "        all of the text",
                "Classifier: License :: OSI Approved :: BSD License",
                "Classifier: Topic :: Other",
            ],
            "BSD License",
        ),
        (
            ["Classifier: License :: OSI Approved :: MIT", "Classifier: License :: Other/Own"],
            "MIT; Other/Own",
        ),
        (["License: BSD", "License-Expression: MIT"], "MIT"),
        ([], None),
    ],
)
def test_the_licence_is_the_best_statement(
    tmp_path: Path, lines: list[str], licence: str | None
) -> None:
    wheel = make_wheel(tmp_path, "x", "1", {"x.py": ""}, metadata_lines=lines)
    assert _made(wheel, LINUX, tmp_path)[1].licence == licence


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0c", "\x1c", "é"])
def test_a_name_may_have_what_unicode_takes_for_the_end_of_a_line(
    tmp_path: Path, character: str
) -> None:
    name = f"thing/a{character}b.txt"
    wheel = make_wheel(tmp_path, "thing", "1.0", {name: "text\n"})
    cache = FrameCache(tmp_path / "cache")
    made = wheel_set(wheel, sha256(wheel), LINUX, _SETTINGS, cache)
    found = files_of(cache, made)
    assert found[f"{LINUX.site_packages}/{name}"] == b"text\n"
    record = found[f"{LINUX.site_packages}/thing-1.0.dist-info/RECORD"]
    assert isinstance(record, bytes)
    assert f"sha256={read_record(record.decode())[name].hash_value}" == record_hash(b"text\n")
    assert check_wheel(wheel).name == "thing"  # what `wheel add` and builds ask


def test_a_hash_without_the_name_of_its_algorithm_is_sha256(tmp_path: Path) -> None:
    """mlx 0.29.3 has one, of a library that was changed after the wheel had been built."""
    wheel = make_wheel(tmp_path, "thing", "1.0", {"thing.so": "text\n"})

    def change(info: zipfile.ZipInfo, data: bytes) -> tuple[zipfile.ZipInfo, bytes]:
        is_record = info.filename.endswith("/RECORD")
        return info, data.replace(b"thing.so,sha256=", b"thing.so,") if is_record else data

    rewrite_wheel(wheel, change)
    cache = FrameCache(tmp_path / "cache")
    made = wheel_set(wheel, sha256(wheel), LINUX, FrameSettings(), cache)
    record = files_of(cache, made)[f"{LINUX.site_packages}/thing-1.0.dist-info/RECORD"]
    assert isinstance(record, bytes)
    expected = record_hash(b"text\n")
    assert f"thing.so,{expected},5\n" in record.decode()
    assert check_wheel(wheel).name == "thing"
