"""What somebody is told who installs the wrong thing, or in the wrong place."""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING, NoReturn

import pytest

from stackbuild.errors import StackbuildError
from stackbuild.install.install import install
from stackbuild.install.root import Root
from stackbuild.messages import Silent
from stackbuild.names import layer_name_fault
from stackbuild.platforms import Platform, host_platform
from stackbuild.registry.find import open_registry
from tests.support.roots import fail, snapshot, stackbuild, succeed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.publish import Publisher


def refused(made: Publisher, root: Path, layer: str, platform: Platform | None = None) -> str:
    with pytest.raises(StackbuildError) as caught:
        install([layer], open_registry(str(made.directory)), root, platform, Silent())
    return str(caught.value)


def test_a_layer_that_is_not_published_for_the_platform(made: Publisher, root: Path) -> None:
    foreign = next(platform for platform in Platform if platform is not host_platform())
    assert refused(made, root, "atls", foreign) == (
        f"atls is not published for {foreign} in {made.directory}\n"
        "  layer: atls\n"
        f"  expected: {host_platform()}\n"
        f"  to fix: publish it: stackbuild publish --layer atls --platform {foreign}; "
        "or choose one of those platforms"
    )
    assert refused(made, root, "app-*", foreign) == (
        f"no layer that 'app-*' matches is published for {foreign}\n"
        f"  file: {made.directory}\n"
        "  found: atls, pgen\n"
        f"  to fix: publish one: stackbuild publish --layer 'app-*' --platform {foreign}"
    )
    assert not root.exists()


def test_a_chain_that_is_not_published(made: Publisher, root: Path) -> None:
    old = made.entries["framework"][made.platform][0]
    made.stack("2")
    made.entries["framework"][made.platform] = [old]
    made.write_index()
    wanted = refused(made, root, "atls")
    assert wanted.startswith(
        "atls needs framework, which is not published in the required version\n"
    )
    assert f"found: lock {old.lock[:12]}" in wanted
    assert f"stackbuild publish --layer framework --platform {made.platform}" in wanted
    assert not root.exists()


def test_a_place_where_nothing_is_published(tmp_path: Path, root: Path) -> None:
    assert fail(5, "install", "atls", "--from", tmp_path, "--root", root) == (
        f"error: nothing is published in {tmp_path}\n"
        "  expected: a file index.json\n"
        "  to fix: name the directory or address that `stackbuild publish` wrote to\n"
    )
    assert not root.exists()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 1, "layers": {"atls": 3}}', "ÿ"])
def test_an_index_that_is_none(made: Publisher, root: Path, text: str) -> None:
    (made.directory / "index.json").write_text(text)
    message = fail(6, "install", "atls", "--from", made.directory, "--root", root)
    assert f"{made.directory}/index.json" in message
    assert f"to fix: put a copy of {made.directory}/index.json back; or move it away and" in message
    assert not root.exists()


@pytest.mark.parametrize("command", ["install", "list", "repair"])
@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_place_that_is_not_a_directory(
    made: Publisher, root: Path, tmp_path: Path, command: str, kind: str
) -> None:
    words: dict[str, list[str | Path]] = {
        "install": ["install", "atls", "--root", root],
        "list": ["list"],
        "repair": ["repair", root],
    }
    if command == "repair":
        # Damaged, so that the place is asked.
        succeed("install", "atls", "--from", made.directory, "--root", root)
        (root / "atls/bin/atls-tool").unlink()
    place = tmp_path / "place"
    fault = "does not exist"
    if kind == "file":
        place.write_text("mine")
        fault = "is not a directory"
    assert fail(5, *words[command], "--from", place) == (
        f"error: the directory of the registry {fault}\n"
        f"  file: {place}\n"
        "  to fix: name the directory that `stackbuild publish` wrote to\n"
    )


@pytest.mark.parametrize("code", [errno.EROFS, errno.EIO, errno.ENOTDIR])
@pytest.mark.parametrize("command", ["install", "uninstall", "clean", "repair"])
def test_advice_names_no_option_that_the_command_lacks(
    made: Publisher, root: Path, command: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    words: dict[str, list[str | Path]] = {
        "install": ["install", "pgen", "--from", made.directory, "--root", root],
        "uninstall": ["uninstall", "atls", "--root", root],
        "clean": ["clean", "--root", root],
        "repair": ["repair", root],
    }
    succeed("install", "atls", "--from", made.directory, "--root", root)

    def refuse(*_: object) -> NoReturn:
        raise OSError(code, os.strerror(code), str(root / ".stackbuild/lock"))

    monkeypatch.setattr(Root, "locked", refuse)
    message = fail(8, *words[command])
    assert "; what was installed before is unchanged" in message or code == errno.ENOTDIR
    assert "--" not in message
    assert ("another root" in message) == (command == "install")


def test_a_kind_of_place_that_is_not_known(root: Path) -> None:
    assert fail(2, "install", "atls", "--from", "ftp://host/x", "--root", root) == (
        "error: ftp:// addresses are not supported as registries\n"
        "  expected: a directory, or an address with "
        "http://, https://, s3://, gs://, az:// or oci://\n"
    )


def test_a_root_that_is_a_file(made: Publisher, root: Path) -> None:
    root.write_text("mine")
    assert fail(8, "install", "atls", "--from", made.directory, "--root", root) == (
        f"error: {root} is a file, so it cannot be a root\n"
        "  to fix: choose another root directory\n"
    )
    assert root.read_text() == "mine"
    assert "nothing is installed in" in fail(8, "list", "--root", root)


@pytest.mark.parametrize("kind", ["directory", "file", "link"])
@pytest.mark.parametrize("name", ["atls", "mine", "current", "generations", ".stackbuild"])
def test_a_root_that_holds_something_else(
    made: Publisher, root: Path, name: str, kind: str
) -> None:
    root.mkdir()
    at = root / name
    if kind == "directory":
        at.mkdir()
        (at / "mine").write_text("x")
    elif kind == "file":
        at.write_text("mine")
    else:
        at.symlink_to("elsewhere")
    before = snapshot(root)
    assert fail(8, "install", "atls", "--from", made.directory, "--root", root) == (
        f"error: {root} is not empty and is not a root directory of stackbuild, which removes "
        "files in those\n"
        f"  file: {root}\n"
        "  expected: a missing or empty directory, or the file .stackbuild.tag of "
        "stackbuild in it\n"
        f"  found: {name}\n"
        "  to fix: choose another root directory; or, if an earlier stackbuild made this "
        "one, remove it and run the command again\n"
    )
    assert snapshot(root) == before


def test_something_in_the_way_of_a_second_layer(made: Publisher, root: Path) -> None:
    succeed("install", "atls", "--from", made.directory, "--root", root)
    (root / "pgen").mkdir()
    (root / "notes.txt").write_text("mine")
    before = snapshot(root)
    message = fail(8, "install", "pgen", "--from", made.directory, "--root", root)
    assert f"is in the way: {root / 'pgen'}" in message
    assert snapshot(root) == before


@pytest.mark.parametrize(
    "name",
    [
        *("current", "generations", ".stackbuild", "state", "damaged", "lock", "Current", "CON"),
        *("-rf", "$(touch x)", "a b", "~", ".a.partial", "*", '"', "a\nb", "a\x1b[2Jb", "a\u202eb"),
        "a" * 101,
    ],
)
def test_a_layer_whose_name_is_not_valid(made: Publisher, root: Path, name: str) -> None:
    made.publish(name, {"p": {"x": "1"}})
    message = refused(made, root, "atls")
    shown = name.replace("\n", "\n    ")
    assert f"is damaged: layers.{shown} {layer_name_fault(name)}" in message
    assert not root.exists()


def test_an_archive_that_is_not_made_of_frames(made: Publisher, root: Path) -> None:
    made.archive_format = "tar.xz"
    made.publish("odd", {"p": {"x": "1"}})
    assert "an archive format that cannot be installed" in refused(made, root, "odd")


@pytest.mark.parametrize(
    "words",
    [
        ("list", "--root"),
        ("uninstall", "atls", "--root"),
        ("verify", "--installed", "--root"),
        ("clean", "--root"),
        ("run", "atls", "--root"),
    ],
)
def test_a_root_with_nothing_in_it(root: Path, words: tuple[str, ...]) -> None:
    message = fail(8, *words, root)
    assert message.startswith(f"error: nothing is installed in {root}\n")
    assert not root.exists()


def test_a_state_that_cannot_be_read(made: Publisher, root: Path) -> None:
    succeed("install", "atls", "--from", made.directory, "--root", root)
    state = root / "generations/1/.stackbuild/state.json"
    state.write_text("{")
    message = fail(8, "list", "--root", root)
    assert message.startswith("error: the state of a generation cannot be read\n")
    assert str(state) in message


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("layers", ["../../../../x"], "layers: '../../../../x' is absolute, or has an empty"),
        ("layers", ["cpython-3.12", "framework", "other"], "the manifest of atls"),
        ("asked", ["nothing"], "asked: 'nothing', which is not in layers"),
        ("asked", [["atls"]], "state.json is damaged: asked[0] is not a string"),
        ("layers", ["framework", "atls"], "layers: without 'cpython-3.12', which framework needs"),
        ("layers", 7, "state.json is damaged: layers is not an array"),
        ("store", "/x\0y", "state.json is damaged: store is not an absolute path"),
        ("store", "x", "state.json is damaged: store is not an absolute path"),
        ("platform", 1, "state.json is damaged: platform has an unknown value"),
        ("format", 10**30, "state.json is damaged: format is a number of 31 digits"),
        ("format", 99, "state.json was written by a newer stackbuild"),
        ("more", 1, "state.json is damaged: more is not known"),
    ],
)
def test_a_state_that_names_other_layers(
    made: Publisher, root: Path, key: str, value: object, found: str
) -> None:
    succeed("install", "atls", "--from", made.directory, "--root", root)
    directory = root / "generations/1/.stackbuild"
    manifests = directory / "manifests"
    (manifests / "other.json").write_bytes((manifests / "atls.json").read_bytes())
    state = json.loads((directory / "state.json").read_text())
    (directory / "state.json").write_text(json.dumps({**state, key: value}))
    message = fail(8, "list", "--root", root)
    assert message.startswith("error: the state of a generation cannot be read\n")
    assert found in message
    assert message.count("to fix: ") == 1


def test_a_generation_that_is_gone(made: Publisher, root: Path) -> None:
    succeed("install", "atls", "--from", made.directory, "--root", root)
    (root / "generations/1").rename(root / "elsewhere")
    message = fail(8, "install", "atls", "--from", made.directory, "--root", root)
    assert message.startswith("error: the generation in use is missing\n")


def test_a_program_that_the_layer_lacks(made: Publisher, root: Path) -> None:
    succeed("install", "atls", "--from", made.directory, "--root", root)
    message = fail(8, "run", "atls", "--root", root, "--", "atls-tol")
    assert message.startswith("error: there is no program 'atls-tol' in atls, nor on the PATH\n")
    assert "did you mean 'atls-tool'?" in message
    tool = root / "atls" / "bin" / "atls-tool"
    tool.chmod(0o444)
    message = fail(8, "run", "atls", "--root", root, "--", "atls-tool")
    assert message.startswith("error: 'atls-tool' in atls is not executable\n")
    message = fail(2, "run", "atls", "--root", root, "python", "-V")
    assert "put -- before the command: -- python -V" in message
    message = fail(2, "run", "--root", root, "--", "python", "-V")
    assert "the following arguments are required: LAYER" in message


def test_verify_of_a_root_whose_store_is_gone(made: Publisher, root: Path) -> None:
    succeed("install", "atls", "--from", made.directory, "--root", root)
    (root / ".stackbuild/store").rename(root / "away")
    message = fail(9, "verify", "--installed", "--root", root)
    assert message.startswith("error: 5 differences from what was installed\n")
    succeed("install", "atls", "--from", made.directory, "--root", root)
    succeed("verify", "--installed", "--root", root)


def test_quiet_commands_print_no_summary(made: Publisher, root: Path, tmp_path: Path) -> None:
    place = ("--from", made.directory)
    for command in (
        ("install", "atls", *place, "--root", root),
        ("export", "atls", tmp_path / "out", *place),
        ("repair", root),
        ("uninstall", "atls", "--root", root),
        ("clean", "--root", root),
    ):
        done = stackbuild("-q", *command)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert json.loads(succeed("-q", "install", "atls", *place, "--root", root, "--json"))["changed"]
    assert "atls" in succeed("-q", "list", "--root", root)
