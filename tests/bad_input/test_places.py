"""What is said where a path, a place or a cache is not what a command needs."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from stackbuild.errors import InstallError, IntegrityError
from stackbuild.install.install import install, uninstall
from stackbuild.mark import MARK
from stackbuild.messages import Silent
from stackbuild.platforms import host_platform
from stackbuild.registry.find import open_registry
from tests.support.roots import fail, snapshot, stackbuild, succeed
from tests.support.smallstack import SmallStack

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.publish import Publisher


@pytest.mark.parametrize(
    "words",
    [
        ("install", "atls", "--from", "exports", "--root", ""),
        ("uninstall", "atls", "--root", ""),
        ("clean", "--root", ""),
        ("list", "--root", ""),
        ("run", "atls", "--root", ""),
        ("publish", "--to", ""),
        ("show", "--spec", ""),
    ],
)
def test_an_empty_path_is_not_this_directory(words: tuple[str, ...], tmp_path: Path) -> None:
    assert "empty; name a path, or . for this directory" in fail(2, *words, cwd=tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_empty_place(made: Publisher, root: Path) -> None:
    message = fail(2, "install", "atls", "--from", "", "--root", root, cwd=made.directory)
    assert message.startswith("error: the location of the registry is empty\n")


@pytest.mark.parametrize("what", ["index", "manifest", "archive"])
def test_a_directory_in_the_place_of_a_published_file(
    made: Publisher, root: Path, what: str
) -> None:
    entry = made.entries["atls"][made.platform][0]
    manifest = made.directory / entry.manifest
    path = {
        "index": made.directory / "index.json",
        "manifest": manifest,
        "archive": manifest.with_name(manifest.name.removesuffix("json") + "tar.zst"),
    }[what]
    path.unlink()
    path.mkdir()
    message = fail(5, "install", "atls", "--from", made.directory, "--root", root)
    assert message.startswith(f"error: the {what} cannot be read\n")
    assert f"  file: {path}\n" in message
    assert not (root / "current").exists()


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="who may read everything is no test"
)
def test_an_archive_that_may_not_be_read(made: Publisher, root: Path) -> None:
    for path in made.directory.glob("*/*.tar.zst"):
        path.chmod(0)
    message = fail(5, "install", "atls", "--from", made.directory, "--root", root)
    assert message.startswith("error: the archive cannot be read\n")


def test_an_index_that_names_another_layers_manifest(made: Publisher, root: Path) -> None:
    made.entries["atls"] = made.entries["pgen"]
    made.write_index()
    with pytest.raises(IntegrityError) as caught:
        install(["atls"], open_registry(str(made.directory)), root, None, Silent())
    assert str(caught.value).startswith(
        "the index names the manifest of another layer or platform\n"
    )
    assert f"expected: atls for {made.platform}" in str(caught.value)
    assert f"found: pgen for {made.platform}" in str(caught.value)
    assert not root.exists()


def test_a_chain_with_another_directory_than_the_layers(made: Publisher, root: Path) -> None:
    runtime, framework, _, _ = made.stack("2")
    made.application("atls", [replace(framework, directory="framework@7"), runtime], "3")
    with pytest.raises(IntegrityError) as caught:
        install(["atls"], open_registry(str(made.directory)), root, None, Silent())
    assert str(caught.value) == (
        "atls was published for a different framework\n"
        "  layer: atls\n"
        f"  platform: {made.platform}\n"
        "  expected: framework in framework@7/\n"
        "  found: framework in framework/\n"
        "  to fix: publish atls again"
    )


def test_a_root_below_a_file(made: Publisher, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    below = tmp_path / "file" / "root"
    message = fail(8, "install", "atls", "--from", made.directory, "--root", below)
    file = tmp_path / "file"
    assert message.startswith(
        f"error: something that stackbuild did not make is in the way: {file}\n"
    )
    # As the message says.
    file.rename(tmp_path / "away")
    succeed("install", "atls", "--from", made.directory, "--root", below)


@pytest.mark.parametrize("cut", ["", "{", '{"format":1,"directories":[', '{"format":2}'])
def test_a_damaged_listing_is_brought_anew(made: Publisher, root: Path, cut: str) -> None:
    succeed("install", "atls", "--from", made.directory, "--root", root)
    for listing in (root / ".stackbuild/store").glob("*/files.json"):
        listing.chmod(0o644)
        listing.write_text(cut)
    fail(9, "verify", "--installed", "--root", root)
    succeed("install", "atls", "--from", made.directory, "--root", root)
    succeed("verify", "--installed", "--root", root)


def test_a_frame_without_its_files_is_brought_anew(made: Publisher, root: Path) -> None:
    registry = open_registry(str(made.directory))
    install(["atls", "pgen"], registry, root, None, Silent())
    for path in (root / ".stackbuild/store").glob("*/tree/bin/atls-tool"):
        path.unlink()
    with pytest.raises(InstallError, match="missing from the store"):
        uninstall(["pgen"], root, Silent())
    # The next run goes on: from what is installed, or from the place where it is published.
    uninstall(["pgen"], root, Silent())
    assert install(["atls"], registry, root, None, Silent()).fetched_frames == 1
    succeed("verify", "--installed", "--root", root)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
@pytest.mark.parametrize("mode", [stat.S_ISUID, stat.S_ISGID, stat.S_IWGRP, stat.S_IWOTH])
def test_a_file_that_others_may_write_or_run_as_its_owner(
    made: Publisher, root: Path, mode: int
) -> None:
    succeed("install", "atls", "--from", made.directory, "--root", root)
    (root / "atls/bin/atls-tool").chmod(0o555 | mode)
    done = stackbuild("verify", "--installed", "--root", root)
    assert done.returncode == 9
    assert "another mode: atls/bin/atls-tool" in done.stdout


def test_output_that_the_locale_cannot_say(made: Publisher, tmp_path: Path) -> None:
    root = tmp_path / "é"
    env = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    words = ("install", "atls", "--from", made.directory, "--root", root)
    done = stackbuild(*words, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u00e9: generation 1" in done.stdout
    report = json.loads(stackbuild(*words, "--json", env=env).stdout)
    assert report["root"] == str(root)


def test_cleaning_leaves_what_other_tools_build(tmp_path: Path) -> None:
    for name in ("site/index.json", "other/.stackbuild/x", f"{host_platform()}/index.json"):
        path = tmp_path / "build" / name
        path.parent.mkdir(parents=True)
        path.write_text("{}")
    succeed("clean", cwd=tmp_path)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 3


def test_publishing_below_a_file(tmp_path: Path) -> None:
    small = SmallStack(tmp_path / "project", tmp_path / "cache")
    small.lock()
    small.exports.write_text("")
    message = fail(7, *_publish(small))
    assert message.startswith(
        f"error: something that stackbuild did not make is in the way: {small.exports}\n"
    )
    assert (
        "to fix: move it away, or choose another cache with STACKBUILD_CACHE_DIR, or another "
        "directory: stackbuild publish --to DIR\n"
    ) in message
    # As the message says.
    small.exports.unlink()
    succeed(*_publish(small))


@pytest.mark.parametrize("place", [".lock", "linux-x64", "linux-x64/*.zst", "linux-x64/*.json"])
def test_a_directory_or_file_in_the_place_of_what_is_published(tmp_path: Path, place: str) -> None:
    small = SmallStack(tmp_path / "project", tmp_path / "cache")
    small.lock()
    succeed(*_publish(small))
    path = next(small.exports.glob(place))
    if path.is_dir():
        shutil.rmtree(path)
        path.touch()
    else:
        path.unlink()
        (path / "mine").mkdir(parents=True)
    message = fail(7, *_publish(small))
    assert message.startswith(
        f"error: something that stackbuild did not make is in the way: {path}\n"
    )
    path.rename(tmp_path / "away")
    succeed(*_publish(small))


@pytest.mark.parametrize("data", [b"", b"{", b'{"format": 1}'])
def test_publishing_beside_a_damaged_index(tmp_path: Path, data: bytes) -> None:
    small = SmallStack(tmp_path / "project", tmp_path / "cache")
    small.lock()
    succeed(*_publish(small))
    index = small.exports / "index.json"
    index.write_bytes(data)
    message = fail(6, *_publish(small))
    assert f"to fix: put a copy of {index} back; or move it away and publish all" in message
    # As the message says.
    index.rename(tmp_path / "away")
    succeed(*_publish(small))
    succeed("list", "--from", small.exports)


def test_publishing_beside_an_index_of_a_newer_stackbuild(tmp_path: Path) -> None:
    small = SmallStack(tmp_path / "project", tmp_path / "cache")
    small.lock()
    succeed(*_publish(small))
    index = small.exports / "index.json"
    index.write_bytes(b'{"format": 99}')
    message = fail(6, *_publish(small))
    # It is whole: to move it away would lose what it names.
    assert "to fix: use the version of stackbuild that wrote it, or a newer one\n" in message
    assert "move it away" not in message
    assert index.read_bytes() == b'{"format": 99}'


def test_publishing_beside_a_damaged_mark(tmp_path: Path) -> None:
    small = SmallStack(tmp_path / "project", tmp_path / "cache")
    small.lock()
    succeed(*_publish(small))
    before = snapshot(small.exports)
    mark = small.exports / MARK
    mark.write_bytes(b"")
    message = fail(7, *_publish(small))
    assert f"or, if the mark is damaged, remove {mark} and run the command again" in message
    mark.unlink()
    succeed(*_publish(small))
    assert snapshot(small.exports) == before


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot limit the size of files")
def test_publishing_where_there_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    small = SmallStack(tmp_path / "project", tmp_path / "cache")
    small.lock()
    monkeypatch.setenv("STACKBUILD_CACHE_DIR", str(small.cache))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        message = fail(7, *_publish(small))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert message.startswith("error: the disk is full\n  file: ")
    assert "to fix: make room on the file system of this file and run" in message
    succeed(*_publish(small))


def _publish(small: SmallStack) -> tuple[str | Path, ...]:
    only = ("--layer", "base", "--layer", "app", "--only", "--platform", "linux-x64")
    return ("publish", "--spec", small.spec, *only)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_paths_that_are_not_utf_8(made: Publisher, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"\xff")
    made.directory.rename(odd)
    succeed("install", "atls", "--from", odd, "--root", tmp_path / os.fsdecode(b"\xfe"))
    succeed("list", "--root", tmp_path / os.fsdecode(b"\xfe"))
    store = tmp_path / os.fsdecode(b"\xfd")
    message = fail(2, "install", "atls", "--from", odd, "--root", tmp_path / "r", "--store", store)
    assert message.startswith("error: the path of the store is not UTF-8\n")
    assert not store.exists()
