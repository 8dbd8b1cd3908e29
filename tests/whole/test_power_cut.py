"""What `install` has reported as done is there after a power cut.

The quick tests record what is on the disk at each synchronization, and compare it where a name
or the end of the command makes it count. The slow ones use an ext4 file system on a loop device:
its image is copied some seconds after the command has ended, as a disk would be that lost its
power then.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stackbuild import durable
from tests.support.publish import publisher
from tests.support.roots import command, stackbuild, succeed, tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.publish import Publisher

FILES = 1500


Tree = dict[str, tuple[int, ...] | str]


def on_disk(directory: Path) -> Tree:
    """Every path below `directory` with what tells its contents from others."""
    found: Tree = {}
    for path in directory.rglob("*"):
        status = path.lstat()
        name = str(path.relative_to(directory))
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_dir():
            found[name] = (status.st_ino,)
        else:
            found[name] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


class Disk:
    """What a power cut would leave of a root, by the synchronizations of a real install."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch, leave_out: int | None = None) -> None:
        self.root = root
        self.synced: Tree = {}
        self.times = 0
        self.faults: list[str] = []
        self._leave_out = leave_out
        patch.setattr(durable, "_sync_file_systems", self._sync)
        for name in ("rename", "replace"):
            patch.setattr(os, name, self._renaming(getattr(os, name)))

    def _sync(self, paths: object) -> bool:
        if self.times != self._leave_out:
            self.synced = on_disk(self.root)
        self.times += 1
        return True

    def _renaming(self, rename: Callable[[object, object], None]) -> Callable[..., None]:
        def call(source: str | Path, target: str | Path) -> None:
            place = str(Path(target).relative_to(self.root))
            if re.fullmatch(r"\.stackbuild/store/[0-9a-f]{64}", place):
                self._must_be_synced(str(Path(source).relative_to(self.root)), place)
            elif place == "current":
                self._must_be_synced(str(Path(source).readlink()), place)
            rename(source, target)

        return call

    def _must_be_synced(self, below: str, name: str) -> None:
        for path, now in on_disk(self.root).items():
            if path.startswith(f"{below}/") and self.synced.get(path) != now:
                self.faults.append(f"{name} before {path}")

    def end(self) -> None:
        """The command has reported success: all that it made must be there."""
        now = on_disk(self.root)
        for path in now.keys() | self.synced.keys():
            # Locks say who works now; the mark of an unfinished switch may come back.
            counts = not path.endswith(("/lock", "/unsynced", "/staging"))
            if counts and now.get(path) != self.synced.get(path):
                self.faults.append(f"success before {path}")


@pytest.mark.parametrize("is_first", [True, False])
def test_nothing_counts_before_it_is_on_the_disk(
    made: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_first: bool
) -> None:
    root = tmp_path / "root"
    if not is_first:
        succeed("install", "atls", "--from", made.directory, "--root", root)
        made.stack("2")
    disk = Disk(root, monkeypatch)
    succeed("install", "atls", "--from", made.directory, "--root", root)
    disk.end()
    assert disk.faults == []
    assert disk.times >= 3
    succeed("uninstall", "atls", "--root", root)
    disk.end()
    assert disk.faults == []


@pytest.mark.parametrize("left_out", [0, 1, 2])
def test_each_synchronization_is_needed(
    made: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left_out: int
) -> None:
    root = tmp_path / "root"
    disk = Disk(root, monkeypatch, left_out)
    succeed("install", "atls", "--from", made.directory, "--root", root)
    disk.end()
    assert disk.times == 3
    assert disk.faults


@contextmanager
def mounted(image: Path, at: Path) -> Iterator[Path]:
    at.mkdir()
    subprocess.run(["mount", "-o", "loop", image, at], check=True, capture_output=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", at], check=True)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A new file system in a file."""
    image = tmp_path / "image"
    if os.name == "nt" or os.getuid() != 0:
        pytest.skip("only root may mount")
    if not shutil.which("mkfs.ext4"):
        pytest.skip("there is no mkfs.ext4")
    with image.open("wb") as file:
        file.truncate(256 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    try:
        with mounted(image, tmp_path / "try"):
            pass
    except subprocess.CalledProcessError as error:
        pytest.skip(f"loop devices cannot be mounted here: {error.stderr.decode().strip()}")
    return image


def installed_and_cut(tmp_path: Path, image: Path, seconds: float, *words: str) -> Path:
    """Install into `image`, and copy it `seconds` after that has ended."""
    made = publisher(tmp_path)
    made.stack()
    parts = {
        f"part {part}": {f"p{part}/f{number}": f"{number}" * 400 for number in range(FILES)}
        for part in range(3)
    }
    made.publish("many", parts)
    copy = tmp_path / "copy"
    with mounted(image, tmp_path / "disk") as disk:
        install: list[str | Path] = [
            "install",
            "atls",
            "many",
            "--from",
            made.directory,
            "--root",
            disk / "root",
        ]
        subprocess.run(command(*install, *words), check=True, stdout=subprocess.DEVNULL)
        time.sleep(seconds)
        shutil.copyfile(image, copy)
    return copy


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0, 1, 3, 7, 12, 20])
def test_what_was_installed_survives(tmp_path: Path, image: Path, seconds: float) -> None:
    copy = installed_and_cut(tmp_path, image, seconds)
    with mounted(copy, tmp_path / "after") as disk:
        root = disk / "root"
        succeed("verify", "--installed", "--root", root)
        assert tool(root, "atls") == "atls 1"
        place = tmp_path / "exports"
        out = succeed("install", "atls", "many", "--from", place, "--root", root)
        assert out.startswith("nothing to do")


@pytest.mark.slow
def test_without_synchronizing_it_does_not(tmp_path: Path, image: Path) -> None:
    """The test above can fail; and the next install repairs what the power cut has left."""
    copy = installed_and_cut(tmp_path, image, 0, "--no-sync")
    with mounted(copy, tmp_path / "after") as disk:
        root = disk / "root"
        assert stackbuild("verify", "--installed", "--root", root).returncode != 0
        place = tmp_path / "exports"
        succeed("install", "atls", "many", "--from", place, "--root", root)
        succeed("verify", "--installed", "--root", root)
        assert tool(root, "atls") == "atls 1"
