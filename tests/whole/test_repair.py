"""A root whose state or files were damaged is repaired, or the error says what to type."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from typing import TYPE_CHECKING

import pytest

from stackbuild.files import remove_tree
from stackbuild.install.root import Root
from tests.support.roots import fail, generation, snapshot, succeed, tool

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.publish import Publisher

COMMANDS = [
    ("list", "--root"),
    ("verify", "--installed", "--root"),
    ("verify", "--root"),
    ("clean", "--root"),
    ("uninstall", "atls", "--root"),
    ("run", "atls", "--root"),
]


@pytest.fixture
def root(tmp_path: Path, made: Publisher) -> Path:
    root = tmp_path / "a root"
    succeed("install", "atls", "pgen", "--from", made.directory, "--root", root)
    return root


def state(root: Path, name: str = "state.json") -> Path:
    return root / "current/.stackbuild" / name


def advised(message: str, place: Path | None = None, *, code: int = 0) -> str:
    """Runs the command that an error advises; what it prints."""
    words = shlex.split(message.rpartition("to fix: ")[2])
    assert words.pop(0) == "stackbuild"
    if place is not None:
        words[words.index("PLACE")] = str(place)
    return fail(code, *words) if code else succeed(*words)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 9}'])
def test_every_command_names_the_repair_of_a_lost_state(
    made: Publisher, root: Path, text: str
) -> None:
    before = json.loads(succeed("list", "--root", root, "--json"))
    state(root).write_text(text)
    messages = {fail(8, *words, root) for words in COMMANDS}
    messages.add(fail(8, "install", "atls", "--from", made.directory, "--root", root))
    assert len(messages) == 1
    out = advised(messages.pop())
    assert out == (
        "the state of generation 1 was recreated from its manifests\n"
        f"{root}: generation 1 is whole\n"
    )
    # Only where the layers came from, and as which version, stood nowhere else.
    lost = [{**item, "from": None, "version": None} for item in before]
    assert json.loads(succeed("list", "--root", root, "--json")) == lost
    assert "nothing to do" in succeed("install", "atls", "--from", made.directory, "--root", root)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes in directories")
@pytest.mark.parametrize("name", ["state.json", "manifests/framework.json"])
def test_a_pipe_or_link_in_the_place_of_the_state(made: Publisher, root: Path, name: str) -> None:
    mine = root.parent / "mine"
    mine.write_text("mine")
    for make in (os.mkfifo, lambda path: path.symlink_to(mine)):
        state(root, name).unlink()
        make(state(root, name))
        succeed("repair", root, "--from", made.directory)
        assert mine.read_text() == "mine"
        assert not state(root, name).is_symlink()
        succeed("verify", "--installed", "--root", root)


def test_a_whole_root_stays_as_it_is(root: Path) -> None:
    before = snapshot(root)
    assert succeed("repair", root) == f"{root}: generation 1 is whole\n"
    assert snapshot(root) == before
    report = json.loads(succeed("repair", root, "--json"))
    assert report["done"] == []
    assert report["layers"] == ["cpython-3.12", "framework", "atls", "pgen"]


def test_lost_manifests_come_from_where_the_layers_are_published(
    made: Publisher, root: Path
) -> None:
    state(root).write_bytes(b"")
    state(root, "manifests/framework.json").write_bytes(b"")
    message = fail(8, "repair", root)
    assert message.startswith("error: no generation of the root has readable manifests\n")
    assert "found: directories or links of atls, cpython-3.12, framework, pgen\n" in message
    out = advised(message, made.directory)
    assert "were installed again" in out
    assert "generation 2 is whole" in out
    here = json.loads(succeed("list", "--root", root, "--json"))
    assert [item["layer"] for item in here if item["asked"]] == ["atls", "pgen"]
    assert tool(root, "atls") == "atls 1"


def test_without_any_generation_the_layers_are_installed_anew(made: Publisher, root: Path) -> None:
    shutil.rmtree(root / "generations")
    message = fail(8, "list", "--root", root)
    assert message.startswith("error: the generation in use is missing\n")
    message = fail(8, *shlex.split(message.rpartition("to fix: stackbuild ")[2]))
    out = advised(message, made.directory)
    assert "atls, cpython-3.12, framework, pgen were installed again" in out
    assert tool(root, "atls") == "atls 1"
    succeed("verify", "--installed", "--root", root)


def test_without_a_place_an_older_generation_is_used(made: Publisher, root: Path) -> None:
    made.stack("2")
    succeed("install", "atls", "pgen", "--from", made.directory, "--root", root)
    state(root, "manifests/framework.json").write_bytes(b"")
    assert advised(fail(8, "list", "--root", root)) == (
        f"switched to generation 1\n{root}: generation 1 is whole\n"
    )
    assert tool(root, "atls") == "atls 1"
    out = succeed("install", "atls", "pgen", "--from", made.directory, "--root", root)
    assert "installed  framework" in out
    assert tool(root, "atls") == "atls 2"


def test_a_power_cut_that_emptied_state_and_interpreter(made: Publisher, root: Path) -> None:
    python = root / "cpython-3.12/bin/python3.12"
    python.chmod(0o755)
    python.write_bytes(b"")
    state(root).write_bytes(b"")
    message = fail(8, "repair", root)
    assert message.startswith(
        "error: cpython-3.12 cannot be repaired from the files in this root\n"
    )
    assert "\n  found: edited\n" in message
    out = advised(message, made.directory)
    assert out.startswith("cpython-3.12: damaged files were replaced\n")
    assert tool(root, "atls") == "atls 1"
    assert (root / "atls/bin/python").resolve().stat().st_size > 0
    succeed("verify", "--installed", "--root", root)


def test_contents_that_changed_behind_size_and_time_are_found(made: Publisher, root: Path) -> None:
    file = root / "framework/lib/python3.12/site-packages/numpy/data.bin"
    status = file.stat()
    good = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(bytes(len(good)))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    file.chmod(0o444)
    assert "nothing to do" in succeed("install", "atls", "--from", made.directory, "--root", root)
    assert "framework: damaged files were replaced" in succeed(
        "repair", root, "--from", made.directory
    )
    assert file.read_bytes() == good


def test_a_version_that_is_published_no_more(made: Publisher, root: Path) -> None:
    (root / "framework/pyvenv.cfg").unlink()
    # The store has it.
    assert "damaged files were replaced" in succeed("repair", root)
    file = root / "framework/lib/python3.12/site-packages/numpy/data.bin"
    file.chmod(0o644)
    file.write_bytes(b"")
    file.chmod(0o444)
    made.entries.clear()
    made.stack("2")
    message = fail(8, "repair", root, "--from", made.directory)
    assert "expected: these versions in the registry\n" in message
    # The layers above come along.
    assert "repaired" in advised(message)
    assert tool(root, "atls") == "atls 2"
    succeed("verify", "--installed", "--root", root)


@pytest.mark.parametrize("kind", ["removed", "leads nowhere", "leads to a file"])
def test_a_link_to_the_generation_that_is_lost(made: Publisher, root: Path, kind: str) -> None:
    (root / "current").unlink()
    (root / "atls").unlink()
    if kind != "removed":
        (root / "current").symlink_to("generations/7")
        if kind == "leads to a file":
            (root / "generations/7").touch()
    # Without it, an install would leave out what was there.
    install = ("install", "atls", "--from", made.directory, "--root")
    for command in [*COMMANDS, install]:
        message = fail(8, *command, root)
        assert message.startswith("error: the generation in use is missing\n")
    assert "switched to generation 1" in advised(message)
    assert tool(root, "atls") == "atls 1"
    assert tool(root, "pgen") == "pgen 1"


@pytest.mark.parametrize("lost", [["generations"], ["generations", ".stackbuild"]])
def test_all_generations_are_lost(made: Publisher, root: Path, lost: list[str]) -> None:
    for name in lost:
        remove_tree(root / name)
    message = fail(8, "list", "--root", root)
    message = advised(message, code=8)
    assert "atls, cpython-3.12, framework, pgen were installed again" in advised(
        message, made.directory
    )
    assert tool(root, "atls") == "atls 1"
    assert tool(root, "pgen") == "pgen 1"


def test_nothing_is_left_but_the_link_to_a_generation(made: Publisher, root: Path) -> None:
    for path in root.iterdir():
        if path.name not in {"current", ".stackbuild.tag"}:
            path.unlink() if path.is_symlink() else remove_tree(path)
    assert "nothing is installed in" in fail(8, "repair", root)
    succeed("install", "atls", "--from", made.directory, "--root", root)
    assert tool(root, "atls") == "atls 1"


def test_verify_names_the_repair_that_keeps_versions(made: Publisher, root: Path) -> None:
    made.publish("report", {"report": {"report.py": "VERSION = 1\n"}}, directory="report@1")
    succeed("install", "report", "--from", made.directory, "--root", root)
    made.publish("report", {"report": {"report.py": "VERSION = 2\n"}}, directory="report@2")
    before = succeed("list", "--root", root, "--json")
    file = root / "report@1/report.py"
    file.chmod(0o644)
    file.write_text("VERSION = 0\n")
    message = fail(9, "verify", "--installed", "--root", root)
    assert "report@1: damaged files were replaced" in advised(message, made.directory)
    assert file.read_text() == "VERSION = 1\n"
    assert succeed("list", "--root", root, "--json") == before


def test_lost_marks_of_verify(root: Path) -> None:
    state(root, "damaged.json").write_bytes(b"")
    made = root.parent / "exports"
    message = fail(8, "install", "atls", "--from", made, "--root", root)
    assert "is whole" in advised(message)
    assert "nothing to do" in succeed("install", "atls", "--from", made, "--root", root)


def test_a_generation_that_has_lost_a_layer(made: Publisher, root: Path) -> None:
    before = snapshot(root / "current/framework")
    (root / "current/framework").rename(root.parent / "away")
    assert "framework: damaged files were replaced" in succeed("repair", root)
    assert snapshot(root / "current/framework") == before


def test_a_store_elsewhere_is_found_by_older_generations(made: Publisher, tmp_path: Path) -> None:
    root, store = tmp_path / "other root", tmp_path / "store"
    succeed("install", "atls", "--from", made.directory, "--root", root, "--store", store)
    succeed("install", "pgen", "--from", made.directory, "--root", root)
    state(root).write_bytes(b"")
    assert "recreated from its manifests" in succeed("repair", root)
    assert json.loads(state(root).read_bytes())["store"] == str(store)


def test_nothing_tells_what_was_installed(made: Publisher, tmp_path: Path) -> None:
    root = tmp_path / "empty"
    assert "nothing is installed in" in fail(8, "repair", root)
    assert not root.exists()
    # A directory of other files, and a file.
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file"):
        assert fail(8, "repair", path).startswith(f"error: nothing is installed in {path}\n")
    Root(root).claim()
    (root / ".stackbuild").mkdir()
    message = fail(8, "repair", root, "--from", made.directory)
    assert message.endswith(f"to fix: stackbuild install LAYER --root {root} --from PLACE\n")
    assert fail(8, "repair", root) == message


def test_a_link_of_somebody_else_stays(root: Path) -> None:
    (root / "current").unlink()
    (root / "current").symlink_to("/usr")
    message = fail(8, "repair", root)
    assert "something that stackbuild did not make is in the way" in message
    assert generation(root) == "usr"
