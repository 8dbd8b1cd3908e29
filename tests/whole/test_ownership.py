"""Commands change and remove only what stackbuild made."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stackbuild.install.state import read_state
from stackbuild.mark import MARK, Kind, claim, read_mark
from stackbuild.platforms import host_platform
from stackbuild.workspace import CACHE_VARIABLE, open_workspace
from tests.support.roots import fail, snapshot, stackbuild, succeed, tool
from tests.support.smallstack import SmallStack

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.publish import Publisher


def foreign(directory: Path) -> dict[str, object]:
    """Files of somebody who gives the same names as stackbuild does."""
    for name in ("staging/thesis", f"{'0' * 64}/photo", f"{'a' * 64}/tree/photo", "lock/x"):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    return snapshot(directory)


def age(path: Path) -> None:
    long_ago = time.time() - 10 * 24 * 3600
    os.utime(path, (long_ago, long_ago))


def test_a_store_in_a_directory_with_other_files(made: Publisher, root: Path) -> None:
    other = root.parent / "other"
    before = foreign(other)
    words = ("install", "atls", "--from", made.directory, "--root", root)
    message = fail(8, *words, "--store", other)
    assert message.startswith(
        f"error: {other} is not empty and is not a store directory of stackbuild"
    )
    assert "  to fix: choose another store: stackbuild install --store DIR" in message
    assert snapshot(other) == before
    assert not (root / "current").exists()
    # As the message says.
    succeed(*words, "--store", root.parent / "empty")
    assert tool(root, "atls") == "atls 1"


def test_a_placeholder_or_an_unfinished_mark_is_nothing(made: Publisher, root: Path) -> None:
    store = root.parent / "store"
    store.mkdir()
    (store / ".gitkeep").write_text("")
    (store / f".{MARK}.0123456789ab.partial").write_text("stack")
    succeed("install", "atls", "--from", made.directory, "--root", root, "--store", store)
    succeed("clean", "--root", root)
    assert (store / ".gitkeep").exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "stackbuild root, format 1\nid: 0123456789abcdef0123456789abcdef\n",
        "stackbuild store, format 2\nid: 0123456789abcdef0123456789abcdef\n",
        "Signature: 8a477f597d28d172789f06886806bc55\n",
    ],
)
def test_a_mark_that_says_something_else(made: Publisher, root: Path, text: str) -> None:
    store = root.parent / "store"
    foreign(store)
    (store / MARK).write_text(text)
    before = snapshot(store)
    message = fail(8, "install", "atls", "--from", made.directory, "--root", root, "--store", store)
    assert "cannot be used as a store directory: its mark has another kind or format" in message
    assert "expected: stackbuild store, format 1" in message
    assert ("use the stackbuild that made it" in message) == ("format 2" in text)
    assert snapshot(store) == before
    is_damaged = text == "" or text.startswith("Signature")
    assert ("if the mark is damaged, remove the directory" in message) == is_damaged


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to(MARK)])
def test_a_mark_that_is_no_file(made: Publisher, root: Path, make: Callable[[Path], None]) -> None:
    words = ("install", "atls", "--from", made.directory, "--root", root)
    succeed(*words)
    mark = root / ".stackbuild/store" / MARK
    mark.unlink()
    make(mark)
    message = fail(8, *words)
    assert "its mark has another kind or format" in message
    assert "if the mark is damaged, remove the directory and run the command again" in message
    shutil.rmtree(mark.parent)
    succeed(*words)
    succeed("verify", "--installed", "--root", root)


def test_a_mark_of_a_root_that_was_cut_off(made: Publisher, root: Path) -> None:
    words = ("install", "atls", "--from", made.directory, "--root", root)
    succeed(*words)
    (root / MARK).write_text("stackbuild root, format 1; files in here are removed\n")
    message = fail(8, *words)
    assert "if the mark is damaged, remove the directory and run the command again" in message
    shutil.rmtree(root)
    succeed(*words)


def test_a_store_that_is_named_by_a_link(made: Publisher, root: Path) -> None:
    store, link = root.parent / "store", root.parent / "link"
    store.mkdir(mode=0o755)
    link.symlink_to(store)
    succeed("install", "atls", "--from", made.directory, "--root", root, "--store", link)
    assert read_mark(store, Kind.STORE)
    store.chmod(0o777)
    message = fail(8, "install", "atls", "--from", made.directory, "--root", root)
    assert "other accounts may write in a store" in message


def test_a_root_of_an_earlier_stackbuild(made: Publisher, root: Path) -> None:
    """It had no mark, and state.json another format."""
    words = ("install", "atls", "--from", made.directory, "--root", root)
    succeed(*words)
    (root / MARK).unlink()
    state = root / "current/.stackbuild/state.json"
    state.write_bytes(state.read_bytes().replace(b'"format": 3', b'"format": 1'))
    before = snapshot(root)
    for verb in (["list"], ["verify", "--installed"], ["clean"], ["uninstall", "atls"]):
        message = fail(8, *verb, "--root", root)
        assert (
            "to fix: if an earlier stackbuild made this root, remove it and install its layers "
            f"again: stackbuild install LAYER --from PLACE --root {root}\n"
        ) in message
    assert "if an earlier stackbuild made this one, remove it" in fail(8, *words)
    assert snapshot(root) == before
    shutil.rmtree(root)
    succeed(*words)


def test_files_of_the_user_in_a_root_stay(made: Publisher, root: Path) -> None:
    words = ("install", "atls", "--from", made.directory, "--root", root)
    succeed(*words)
    (root / ".notes.partial").write_text("mine")
    (root / ".atls.0123456789ab.partial").mkdir()
    (root / ".atls.0123456789ab.partial/mine").write_text("mine")
    (root / ".link.0123456789ab.partial").symlink_to("elsewhere")
    (root / "generations/99").mkdir()
    (root / "generations/99/mine").write_text("mine")
    ours = root / ".current.0123456789ab.partial"
    ours.symlink_to("generations/1")
    made.stack("2")
    succeed(*words)
    succeed("clean", "--root", root)
    assert tool(root, "atls") == "atls 2"
    assert not os.path.lexists(ours)
    for path in (
        ".notes.partial",
        ".atls.0123456789ab.partial/mine",
        ".link.0123456789ab.partial",
        "generations/99/mine",
    ):
        assert os.path.lexists(root / path), path


@pytest.mark.parametrize("is_marked", [False, True])
def test_cleaning_a_root_whose_state_names_another_directory(
    made: Publisher, root: Path, is_marked: bool
) -> None:
    succeed("install", "atls", "--from", made.directory, "--root", root)
    other = root.parent / "other"
    if is_marked:
        claim(other, Kind.STORE)
    before = foreign(other)
    path = root / "generations/1/.stackbuild/state.json"
    state = json.loads(path.read_text())
    path.write_text(json.dumps({**state, "store": str(other)}))
    message = fail(8, "clean", "--root", root)
    assert ("has never used" if is_marked else "is not a store directory") in message
    assert snapshot(other) == before


def test_a_store_that_has_lost_the_names_of_its_roots(made: Publisher, root: Path) -> None:
    succeed("install", "atls", "pgen", "--from", made.directory, "--root", root)
    shutil.rmtree(root / ".stackbuild/store/roots")
    message = fail(8, "clean", "--root", root)
    assert "nothing was removed; to use the store: stackbuild install atls pgen" in message
    words = shlex.split(message.rpartition("use the store: stackbuild ")[2])
    words[words.index("PLACE")] = str(made.directory)
    assert "nothing to do" in succeed(*words)
    succeed("clean", "--root", root)


def test_a_moved_root_cleans_its_store(made: Publisher, root: Path) -> None:
    store = root.parent / "store"
    words = ("install", "atls", "--from", made.directory, "--store", store, "--root")
    succeed(*words, root)
    made.stack("2")
    succeed(*words, root)
    moved = root.rename(root.parent / "moved")
    assert "unused frames" in succeed("clean", "--root", moved)
    assert tool(moved, "atls") == "atls 2"


def test_another_store_is_filled_from_and_cleaned(made: Publisher, root: Path) -> None:
    one, two = root.parent / "one", root.parent / "two"
    words = ("install", "atls", "--from", made.directory, "--root")
    succeed(*words, root)
    succeed(*words, root.parent / "second", "--store", two)
    out = succeed(*words, root, "--store", two)
    assert "generation 2" in out
    file = "atls/bin/atls-tool"
    assert (root / file).stat().st_ino == (root.parent / "second" / file).stat().st_ino
    assert read_state(root / "current").store == two
    assert "nothing to do" in succeed(*words, root)
    # What the root's own store held for it is freed.
    assert "unused frames" in succeed("clean", "--root", root)
    assert not list((root / ".stackbuild/store").glob("*/tree"))
    assert tool(root, "atls") == "atls 1"
    assert "generation 3" in succeed(*words, root, "--store", one)


def chown(path: Path, uid: int) -> None:
    os.chown(path, uid, -1)


needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away"
)


@needs_root
@pytest.mark.parametrize("what", ["store", "frame", "tree"])
def test_files_of_another_account_are_not_linked(made: Publisher, root: Path, what: str) -> None:
    store = root.parent / "store"
    words = ("install", "atls", "--from", made.directory, "--store", store, "--root")
    succeed(*words, root)
    (frame,) = (path.parents[2] for path in store.glob("*/tree/bin/atls-tool"))
    chown({"store": store, "frame": frame, "tree": frame / "tree"}[what], 12345)
    second = root.parent / "second"
    message = fail(8, *words, second)
    assert message.startswith("error: a store belongs to another account")
    assert "  found: owner 12345\n" in message
    assert (
        "  to fix: run the command as that account, or use a store of this one: stackbuild"
        in message
    )
    assert not (second / "current").exists()
    if what == "store":
        fail(8, "clean", "--root", root)
    succeed("install", "atls", "--from", made.directory, "--root", second)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_a_store_that_others_may_write(made: Publisher, root: Path, mode: int) -> None:
    store = root.parent / "store"
    store.mkdir()
    store.chmod(mode)
    words = ("install", "atls", "--from", made.directory, "--store", store, "--root", root)
    # An empty directory becomes private when it becomes a store.
    before = os.umask(0)
    try:
        succeed(*words)
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in store.glob("*/tree/**/")}
    assert modes == {0o755}
    store.chmod(mode)
    message = fail(8, *words)
    assert "error: other accounts may write in a store\n" in message
    assert f"found: mode {mode:04o}\n" in message
    assert f"chmod go-w {store}\n" in message
    store.chmod(0o755)
    succeed(*words)


def publish(small: SmallStack, to: Path) -> tuple[str | Path, ...]:
    only = ("--layer", "base", "--layer", "app", "--only", "--platform", "linux-x64")
    return ("publish", "--spec", small.spec, "--to", to, *only)


def test_publishing_into_a_directory_with_other_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = SmallStack(tmp_path / "project", tmp_path / "cache")
    small.lock()
    monkeypatch.setenv(CACHE_VARIABLE, str(small.cache))
    to = tmp_path / "to"
    for name in ("linux-x64/.photo.0123456789ab.partial", "mine"):
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        (to / name).write_text("mine")
        age(to / name)
    before = snapshot(to)
    message = fail(7, *publish(small, to))
    assert "is not an exports directory of stackbuild" in message
    assert "  to fix: choose another directory: stackbuild publish --to DIR" in message
    assert snapshot(to) == before

    # What was published before there were marks is recognised.
    to = tmp_path / "published"
    succeed(*publish(small, to))
    (to / MARK).unlink()
    done = stackbuild(*publish(small, to))
    assert (done.returncode, done.stderr) == (
        0,
        f"{to} is marked as a directory of published layers\n",
    )
    assert read_mark(to, Kind.EXPORTS)
    (to / MARK).unlink()
    (to / "mine").write_text("")
    assert "is not an exports directory" in fail(7, *publish(small, to))


def test_publishing_leaves_files_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = SmallStack(tmp_path / "project", tmp_path / "cache")
    small.lock()
    monkeypatch.setenv(CACHE_VARIABLE, str(small.cache))
    to = tmp_path / "to"
    to.mkdir()
    (to / "README.md").write_text("mine")
    succeed(*publish(small, to))
    mine = [to / "linux-x64/.photo.partial", to / "other/.photo.0123456789ab.partial"]
    left = to / "linux-x64/.app.tar.zst.0123456789ab.partial"
    for path in (*mine, left):
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
        age(path)
    succeed(*publish(small, to))
    assert all(path.exists() for path in (*mine, to / "README.md"))
    assert not left.exists()


def test_cleaning_leaves_files_that_others_put_into_build(made: Publisher, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    target = project / "build" / host_platform()
    succeed("install", "atls", "--from", made.directory, "--root", target)
    (target / "results.csv").write_text("mine")
    other = project / "build/macosx-x64/.stackbuild"
    other.mkdir(parents=True)
    succeed("clean", cwd=project)
    assert [path.name for path in target.iterdir()] == ["results.csv"]
    assert other.is_dir()
    # Without files of others the directory goes, too.
    (target / "results.csv").unlink()
    succeed("install", "atls", "--from", made.directory, "--root", target)
    succeed("clean", cwd=project)
    assert not target.exists()


@pytest.mark.parametrize("words", [("--caches",), ("--unused-for", "0")])
def test_a_cache_in_a_directory_with_other_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    cache = tmp_path / "cache"
    for name in ("builds/mine", "frames/mine", f"frames/{'a' * 64}.zst"):
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / name).write_text("mine")
        age(cache / name)
    before = snapshot(cache)
    monkeypatch.setenv(CACHE_VARIABLE, str(cache))
    message = fail(2, "clean", *words, cwd=tmp_path)
    assert "is not a cache directory of stackbuild" in message
    assert "  to fix: choose another directory with STACKBUILD_CACHE_DIR" in message
    small = SmallStack(tmp_path / "project", tmp_path / "other")
    small.lock()
    assert "is not a cache directory" in fail(2, "lock", "--spec", small.spec)
    assert snapshot(cache) == before


def test_the_users_own_cache_of_an_earlier_version_gets_a_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: str(tmp_path / "own"))
    (tmp_path / "own" / "frames").mkdir(parents=True)
    workspace = open_workspace(tmp_path)
    assert workspace.cache == tmp_path / "own"
    assert read_mark(workspace.cache, Kind.CACHE)
