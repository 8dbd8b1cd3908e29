"""A store or generation that was damaged on disk is found and repaired by the next install."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stackbuild import durable
from tests.support.http import serving
from tests.support.publish import publisher
from tests.support.roots import fail, generation, snapshot, stackbuild, succeed, tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.support.publish import Publisher

MODULE = "lib/python3.12/site-packages/numpy/__init__.py"


@pytest.fixture
def root(tmp_path: Path, made: Publisher) -> Path:
    root = tmp_path / "root"
    succeed("install", "atls", "--from", made.directory, "--root", root)
    return root


def stored(root: Path, layer: str = "framework", file: str = MODULE) -> Path:
    """The store's copy of an installed file."""
    inode = (root / layer / file).stat().st_ino
    return next(
        path for path in (root / ".stackbuild/store").rglob("*") if path.lstat().st_ino == inode
    )


def overwritten(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(0o444)


def emptied(path: Path) -> None:
    overwritten(path, b"")


def same_size(path: Path) -> None:
    overwritten(path, bytes(path.stat().st_size))


def executable(path: Path) -> None:
    path.chmod(0o755)


def unreadable(path: Path) -> None:
    path.chmod(0)


def removed(path: Path) -> None:
    path.unlink()


def without_listing(path: Path) -> None:
    listing = next(p / "files.json" for p in path.parents if (p / "files.json").exists())
    listing.write_bytes(b"")


@pytest.mark.parametrize(
    "damage", [emptied, same_size, executable, unreadable, removed, without_listing]
)
@pytest.mark.parametrize("unused", [False, True])
def test_a_damaged_store_is_repaired(
    made: Publisher, root: Path, damage: Callable[[Path], None], unused: bool
) -> None:
    before = snapshot(root / "framework")
    file = stored(root)
    if unused:
        succeed("uninstall", "atls", "--root", root)
    damage(file)
    done = stackbuild("install", "atls", "--from", made.directory, "--root", root)
    assert done.returncode == 0, done.stderr
    if damage is not without_listing:
        assert done.stderr == f"repairing damaged layer framework: {file}" + (
            " and 1 other\n"
            if damage in {emptied, same_size, executable, unreadable} and not unused
            else "\n"
        )
        assert "repaired   framework " in done.stdout
    assert "1 frames fetched" in done.stdout
    assert snapshot(root / "framework") == before
    succeed("verify", "--installed", "--root", root)
    assert "nothing to do" in succeed("install", "atls", "--from", made.directory, "--root", root)


def frame_of(path: Path) -> Path:
    """The directory of the frame that has the file `path` of the store."""
    return next(parent for parent in path.parents if (parent / "files.json").exists())


def replaced(path: Path, make: Callable[[Path], None]) -> None:
    """Put something else in the place of `path`."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    make(path)


@pytest.mark.parametrize("part", [".", "files.json", "tree", "tree/lib"])
@pytest.mark.parametrize(
    "make",
    [
        Path.mkdir,
        Path.touch,
        os.mkfifo,
        lambda path: path.symlink_to(path.name),
        lambda path: path.symlink_to("nowhere"),
        lambda path: path.symlink_to(path.anchor),
    ],
    ids=["directory", "file", "pipe", "loop", "link", "link to a directory"],
)
def test_something_else_in_the_place_of_a_frame(
    made: Publisher, root: Path, part: str, make: Callable[[Path], None]
) -> None:
    before = snapshot(root / "framework")
    replaced(frame_of(stored(root)) / part, make)
    succeed("install", "atls", "--from", made.directory, "--root", root)
    assert snapshot(root / "framework") == before
    succeed("verify", "--installed", "--root", root)
    assert "nothing to do" in succeed("install", "atls", "--from", made.directory, "--root", root)


def test_a_listing_with_other_contents(made: Publisher, root: Path) -> None:
    listing = frame_of(stored(root)) / "files.json"
    listing.write_bytes(listing.read_bytes().replace(b'"links":', b'"links"!'))
    message = stackbuild("install", "atls", "--from", made.directory, "--root", root).stderr
    assert message == f"repairing damaged layer framework: {listing}\n"
    succeed("verify", "--installed", "--root", root)


@pytest.mark.parametrize(
    "pattern",
    [".stackbuild", ".stackbuild/lock", ".stackbuild/store/lock", ".stackbuild/store/roots/*"],
)
@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda path: path.symlink_to(path.name)])
def test_something_else_in_the_place_of_a_file_of_the_root(
    made: Publisher, root: Path, pattern: str, make: Callable[[Path], None]
) -> None:
    path = next(root.glob(pattern))
    replaced(path, make)
    words = ("install", "atls", "--from", made.directory, "--root", root)
    done = stackbuild(*words)
    if done.returncode:
        assert done.stderr.startswith(
            f"error: something that stackbuild did not make is in the way: {path}\n"
        )
        path.rename(root.parent / "away")
        succeed(*words)
    succeed("verify", "--installed", "--root", root)


@pytest.mark.parametrize(
    "file", [MODULE, "bin/python", "pyvenv.cfg"], ids=["module", "link", "configuration"]
)
def test_a_damaged_generation_is_linked_anew(made: Publisher, root: Path, file: str) -> None:
    before = snapshot(root / "framework")
    (root / "framework" / file).unlink()
    if file == MODULE:
        (root / "framework" / file).write_text("# mine\n")
    with serving(directory=made.directory) as server:
        out = succeed("install", "atls", "--from", server.url, "--root", root, "--json")
        assert not [request for request in server.requests if request.path.endswith(".zst")]
    assert json.loads(out)["repaired"] == ["framework"]
    assert generation(root) == "2"
    assert snapshot(root / "framework") == before


def test_a_root_that_was_copied_is_not_fetched_again(made: Publisher, root: Path) -> None:
    copy = root.with_name("copy")
    shutil.copytree(root, copy, symlinks=True)
    for path in copy.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.utime(path, (1, 1))
    out = succeed("install", "atls", "--from", made.directory, "--root", copy)
    assert out.startswith("nothing to do")
    # The second time no file has to be read.
    times = [(each / "framework" / MODULE).stat().st_mtime_ns for each in (copy, root)]
    assert times[0] == times[1]


def test_damage_in_a_layer_from_elsewhere_is_told_with_what_repairs_it(
    made: Publisher, root: Path
) -> None:
    other = publisher(made.directory.parent / "other")
    other.publish("alone", {"p": {"x": "1"}})
    emptied(stored(root))
    done = stackbuild("install", "alone", "--from", other.directory, "--root", root)
    assert done.returncode == 0
    advice = f"stackbuild install framework --from PLACE --root {root}"
    assert done.stderr.startswith("warning: framework is damaged: ")
    assert done.stderr.endswith(f"to repair it: {advice}\n")
    words = advice.replace("PLACE", str(made.directory)).split()[1:]
    assert "repaired   framework" in succeed(*words)
    succeed("verify", "--installed", "--root", root)


def test_a_layer_is_not_installed_on_one_that_stays_damaged(made: Publisher, root: Path) -> None:
    other = publisher(made.directory.parent / "other")
    runtime, framework, *_ = made.stack()
    other.publish("upper", {"p": {"x": "1"}}, below=[framework, runtime])
    emptied(stored(root))
    message = fail(8, "install", "upper", "--from", other.directory, "--root", root)
    assert message.startswith(
        "error: framework is damaged, and its files are not published there\n  layer: upper\n"
    )
    assert f"stackbuild install framework --from PLACE --root {root}" in message
    assert not (root / "upper").exists()


def test_uninstalling_works_beside_damage(made: Publisher, root: Path) -> None:
    succeed("install", "pgen", "--from", made.directory, "--root", root)
    emptied(stored(root))
    done = stackbuild("uninstall", "pgen", "--root", root)
    assert done.returncode == 0
    assert "warning: framework is damaged" in done.stderr
    assert tool(root, "atls") == "atls 1"


@pytest.mark.parametrize("path", [".", "lib", MODULE, "bin/python"])
def test_verify_goes_on_past_what_cannot_be_read(made: Publisher, root: Path, path: str) -> None:
    before = snapshot(root / "framework")
    place = root / "current/framework" / path
    if path == MODULE:
        place.chmod(0)
    else:
        replaced(place, lambda path: path.symlink_to(path.name))
    fail(9, "verify", "--installed", "--root", root)
    succeed("install", "atls", "--from", made.directory, "--root", root)
    assert snapshot(root / "framework") == before
    succeed("verify", "--installed", "--root", root)


def test_verify_goes_on_past_a_frame_that_the_store_has_lost(made: Publisher, root: Path) -> None:
    for frame in (root / ".stackbuild/store").glob("?" * 64):
        if (frame / "tree/bin/python3.12").exists():
            shutil.rmtree(frame)
    edited = root / "framework" / MODULE
    status = edited.stat()
    same_size(edited)
    os.utime(edited, ns=(status.st_atime_ns, status.st_mtime_ns))
    done = stackbuild("verify", "--installed", "--root", root)
    assert done.returncode == 9
    assert done.stdout == (
        "frame not in the store: cpython 3.12.1 of cpython-3.12\n"
        f"edited: framework/{MODULE} (numpy 2.2.6): found different contents of the same size\n"
    )
    succeed("install", "atls", "--from", made.directory, "--root", root)
    succeed("verify", "--installed", "--root", root)


def test_a_root_without_sync_is_brought_to_the_disk_by_the_next_install(
    made: Publisher, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []

    def record(paths: Iterable[Path]) -> bool:
        synced.extend(paths)
        return True

    monkeypatch.setattr(durable, "_sync_file_systems", record)
    made.stack("2")
    succeed("install", "atls", "--from", made.directory, "--root", root, "--no-sync")
    assert synced == []
    succeed("install", "atls", "--from", made.directory, "--root", root)
    assert (root / "generations/2") in synced
    synced.clear()
    succeed("install", "atls", "--from", made.directory, "--root", root)
    assert synced == []
