"""`stackbuild export --archive`: what is in the archive, and which files it may replace."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stackbuild.frames.files import FileContent, Link
from stackbuild.frames.tarformat import TarReader, header, padding
from stackbuild.install.archive import gzipped
from stackbuild.mark import MARK
from stackbuild.platforms import Platform, host_platform
from tests.support.publish import PYTHON, Files
from tests.support.roots import fail, stackbuild, succeed
from tests.support.zstd import decompressed

if TYPE_CHECKING:
    from tests.support.publish import Publisher

SITE = "lib/python3.12/site-packages"
FORMATS = ("tar.gz", "tar.zst", "zip")


def tar_of(path: Path) -> bytes:
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        return gzip.decompress(data)
    return decompressed(data)


def unpack(path: Path, to: Path) -> list[str]:
    """The paths in an archive, in their order; they are unpacked into `to`."""
    if path.read_bytes()[:2] == b"PK":
        with zipfile.ZipFile(path) as archive:
            archive.extractall(to)
            return archive.namelist()
    with tarfile.open(fileobj=io.BytesIO(tar_of(path))) as tar:
        tar.extractall(to)
        return tar.getnames()


@pytest.mark.parametrize("form", FORMATS)
def test_a_chain_is_side_by_side(made: Publisher, tmp_path: Path, form: str) -> None:
    path = tmp_path / "new" / f"app.{form}"
    words = ["export", "atls", "--archive", form, "-o", str(path), "--from", str(made.directory)]
    answer = json.loads(succeed(*words, "--json"))
    assert answer == {
        "file": str(path),
        "platform": host_platform(),
        "layers": ["cpython-3.12", "framework", "atls"],
        "size": path.stat().st_size,
    }
    before = path.read_bytes()
    names = unpack(path, tmp_path / "out")
    assert names[0] == MARK
    assert len(names) == len(set(names))
    assert (
        tmp_path / "out/framework" / SITE / "numpy/__init__.py"
    ).read_text() == "VERSION = '1'\n"
    if form != "zip":  # whose links zipfile does not make
        assert (tmp_path / "out/atls/bin/python").readlink() == Path(
            "../../cpython-3.12/bin/python3.12"
        )
        assert os.access(tmp_path / "out/cpython-3.12/bin/python3.12", os.X_OK)
        # It is a directory as `export` makes it, which a later export may change.
        succeed("export", "pgen", tmp_path / "out", "--from", made.directory)
    # An archive is replaced, with the same bytes.
    succeed(*words)
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_the_default_name_and_several_layers(
    made: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    printed = succeed("export", "atls", "pgen", "--archive", "tar.gz", "--from", made.directory)
    path = tmp_path / f"atls-pgen-{host_platform()}.tar.gz"
    assert str(path) in printed
    assert {name.partition("/")[0] for name in unpack(path, tmp_path / "out")} == {
        *(MARK, ".stackbuild", "cpython-3.12", "framework", "atls", "pgen")
    }


@pytest.mark.parametrize("form", FORMATS)
def test_the_last_frame_with_a_path_counts(made: Publisher, tmp_path: Path, form: str) -> None:
    made.publish(
        "cpython-3.12",
        {
            "one": {"bin/python3.12": PYTHON, "a.txt": "old", "b.txt": Link("a.txt"), "e/": b""},
            "overlay": {"a.txt": FileContent(data=b"new", executable=True), "b.txt": "file"},
        },
    )
    path = tmp_path / "a"
    succeed("export", "cpython-3.12", "--archive", form, "-o", path, "--from", made.directory)
    names = unpack(path, tmp_path / "out")
    assert names.count("cpython-3.12/a.txt") == names.count("cpython-3.12/b.txt") == 1
    assert (tmp_path / "out/cpython-3.12/a.txt").read_text() == "new"
    assert (tmp_path / "out/cpython-3.12/b.txt").read_text() == "file"
    assert (tmp_path / "out/cpython-3.12/e").is_dir()
    if form != "zip":
        assert os.access(tmp_path / "out/cpython-3.12/a.txt", os.X_OK)


@pytest.mark.parametrize("threads", [1, 5])
def test_gzip_of_many_blocks(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: threads)
    data = os.urandom(1 << 20) * 2 + b"text" * 400_000
    tar = header("a", size=len(data)) + data + padding(len(data))
    packed = b"".join(gzipped(TarReader(io.BytesIO(tar).read)))
    assert gzip.decompress(packed) == tar + bytes(1024)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert packed == b"".join(gzipped(TarReader(io.BytesIO(tar).read)))
    # Distances reach back over the border of two blocks.
    assert len(packed) < (2 << 20) + 20_000


@pytest.mark.parametrize(
    "content", [b"notes", b"PK\x03\x04" + bytes(60), gzip.compress(b"x" * 99, mtime=0)]
)
def test_a_file_of_others_stays(made: Publisher, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine"
    path.write_bytes(content)
    words = ["export", "atls", "--archive", "zip", "-o", str(path), "--from", str(made.directory)]
    error = fail(8, *words)
    assert f"something that stackbuild did not make is in the way: {path}" in error
    assert "to fix: move it away, or name another file: --output FILE" in error
    assert path.read_bytes() == content
    path.write_bytes(b"")  # as mktemp makes it
    succeed(*words)
    assert path.read_bytes()[:2] == b"PK"


def test_a_damaged_frame_leaves_the_former_archive(made: Publisher, tmp_path: Path) -> None:
    path = tmp_path / "out" / "a.tar.gz"
    words = ["export", "atls", "--archive", "tar.gz", "-o", str(path), "--from"]
    succeed(*words, made.directory)
    before = path.read_bytes()
    manifest = made.application("atls", made.stack("2")[1::-1], "3")
    archive = bytearray(made.archive(manifest).read_bytes())
    archive[len(archive) // 2] ^= 1
    made.archive(manifest).write_bytes(archive)
    error = fail(6, *words, made.directory)
    assert "a frame of the archive does not match the manifest" in error
    assert "layer: atls" in error
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_frames_that_do_not_fit_together(made: Publisher, tmp_path: Path) -> None:
    files: dict[str, Files] = {"a": {"x": Link("lib")}, "b": {"x/y": "through the link"}}
    made.publish("cpython-3.12", files)
    path = tmp_path / "a.zip"
    words = ["export", "cpython-3.12", "--archive", "zip", "-o", str(path)]
    error = fail(6, *words, "--from", made.directory)
    assert "one frame of the layer has a directory where another has a file or link" in error
    assert not path.exists()


def test_layers_that_contain_their_place(made: Publisher, tmp_path: Path) -> None:
    for platform, version in ((made.platform, "3.14.0"), (Platform.WINDOWS_X64, "3.12.1")):
        runtime = made.publish(
            "python", {"r": {"python.exe": "1"}}, platform=platform, python_version=version
        )
        made.publish(
            "app", {"a": {"a.txt": "1"}}, below=[runtime], platform=platform, python_version=version
        )
    words = ["export", "app", "--archive", "zip", "-o", str(tmp_path / "a"), "--from"]
    error = fail(8, *words, made.directory)
    assert "layers on CPython 3.14.0 contain the path of their runtime" in error
    assert "to fix: use CPython 3.14.1 or newer" in error
    done = stackbuild(*words, made.directory, "--platform", "windows-x64")
    assert done.returncode == 0
    assert r"run the postinstall.py of each layer: python\python.exe app\postinstall.py" in (
        done.stderr
    )


def test_words_of_an_archive(made: Publisher) -> None:
    assert "add --archive tar.gz, tar.zst or zip" in fail(2, "export", "atls", "d", "-o", "f")
    error = fail(2, "export", "runenv", "atls", "--archive", "zip")
    assert "`export runenv` cannot be combined with --archive" in error
    assert "required: DIR" in fail(2, "export", "atls")
    assert "invalid choice: 'rar'" in fail(2, "export", "atls", "--archive", "rar")
