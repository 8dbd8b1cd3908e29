"""Layers of two registries in one root."""

from __future__ import annotations

import json
import shlex
import shutil
from typing import TYPE_CHECKING

import pytest

from stackbuild.frames.cache import FrameCache
from stackbuild.frames.files import FileContent
from tests.support.http import serving
from tests.support.publish import PYTHON, Publisher, head
from tests.support.roots import fail, snapshot, stackbuild, succeed, tool

if TYPE_CHECKING:
    from pathlib import Path

    from stackbuild.compose.manifest import Manifest


@pytest.fixture
def second(tmp_path: Path) -> Publisher:
    directory = tmp_path / "second"
    directory.mkdir()
    return Publisher(directory, FrameCache(tmp_path / "frames"))


def other_runtime(where: Publisher) -> Manifest:
    """The runtime with the lock of the first registry's, and other files."""
    program = FileContent(data=PYTHON.encode() + b"# other\n", executable=True)
    return where.publish("cpython-3.12", {"cpython 3.12.1": {"bin/python3.12": program}})


def install(where: Publisher, root: Path, *layers: str) -> tuple[str | Path, ...]:
    return ("install", *layers, "--from", where.directory, "--root", root)


def origins(root: Path) -> dict[str, str]:
    listed = json.loads(succeed("list", "--root", root, "--json"))
    return {item["directory"]: item["from"] for item in listed}


def advised(message: str) -> list[str]:
    """The command at the end of an error, without the program."""
    return ["install", *shlex.split(message.rpartition("stackbuild install ")[2])]


def test_a_lower_layer_of_the_same_lock_with_other_contents(
    made: Publisher, second: Publisher, root: Path
) -> None:
    succeed(*install(made, root, "atls"))
    second.publish("zzz", {"zzz": head("cpython-3.12")}, below=[other_runtime(second)])
    before = snapshot(root)
    message = fail(8, *install(second, root, "zzz"))
    assert message.startswith(
        "error: cpython-3.12 was installed from another registry, and zzz would replace it\n"
    )
    assert f"from {made.directory}\n" in message
    assert f"from {second.directory}\n" in message
    assert snapshot(root) == before
    done = stackbuild(*advised(message))
    assert done.returncode == 0
    assert done.stderr == f"cpython-3.12 is replaced with the layer from {second.directory}\n"
    assert tool(root, "atls") == "atls 1"
    assert origins(root) == {
        "cpython-3.12": str(second.directory),
        "framework": str(made.directory),
        "atls": str(made.directory),
        "zzz": str(second.directory),
    }


def test_an_application_is_not_brought_along_from_another_registry(
    made: Publisher, second: Publisher, root: Path
) -> None:
    succeed(*install(made, root, "atls", "pgen"))
    second.stack("2")
    before = snapshot(root)
    message = fail(8, *install(second, root, "atls"))
    assert message.startswith(
        "error: pgen was installed from another registry, and framework would replace it\n"
        if "framework would" in message
        else "error: pgen was installed from another registry, and atls would replace it\n"
    )
    assert snapshot(root) == before
    succeed(*advised(message))
    assert tool(root, "pgen") == "pgen 2"


def test_the_command_that_is_advised_keeps_what_was_named(
    made: Publisher, second: Publisher, root: Path
) -> None:
    succeed(*install(made, root, "atls", "framework"))
    second.stack("2")
    message = fail(8, *install(second, root, "pgen", "framework"))
    assert {"pgen", "framework", "atls"} < set(advised(message))
    succeed(*advised(message))
    assert tool(root, "atls") == "atls 2"


def test_a_directory_is_the_same_registry_however_it_is_written(
    made: Publisher, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    succeed(*install(made, root, "atls", "pgen"))
    made.stack("2")
    (root.parent / "beside").mkdir()
    monkeypatch.chdir(root.parent / "beside")
    place = f"../beside/../{made.directory.relative_to(root.parent)}/"
    succeed("install", "atls", "--from", place, "--root", root)
    assert tool(root, "pgen") == "pgen 2"
    assert set(origins(root).values()) == {str(made.directory)}


def test_two_dots_behind_a_link_lead_where_the_system_says(
    made: Publisher, tmp_path: Path, root: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "below").mkdir(parents=True)
    (tmp_path / "link").symlink_to(elsewhere / "below")
    made.directory.rename(elsewhere / "layers")
    succeed("install", "atls", "--from", tmp_path / "link/../layers", "--root", root)
    assert tool(root, "atls") == "atls 1"


def test_a_lower_layer_that_was_asked_for_is_not_replaced(
    made: Publisher, second: Publisher, root: Path
) -> None:
    succeed(*install(made, root, "framework"))
    second.stack("2")
    message = fail(8, *install(second, root, "atls"))
    assert "framework was installed from another registry, and atls would replace it" in message
    succeed(*install(second, root, "atls", "framework"))


def test_an_application_goes_on_from_another_registry(
    made: Publisher, second: Publisher, root: Path
) -> None:
    succeed(*install(made, root, "atls"))
    second.stack("2")
    done = stackbuild(*install(second, root, "atls"))
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        f"framework is replaced with the layer from {second.directory}",
        f"atls is replaced with the layer from {second.directory}",
    ]
    assert tool(root, "atls") == "atls 2"
    assert origins(root)["cpython-3.12"] == str(made.directory), "its contents are the same"


def test_a_mirror_with_the_same_contents(made: Publisher, tmp_path: Path, root: Path) -> None:
    succeed(*install(made, root, "atls"))
    mirror = tmp_path / "mirror"
    shutil.copytree(made.directory, mirror)
    done = stackbuild("install", "atls", "--from", mirror, "--root", root)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("nothing to do")
    with serving(directory=mirror) as server:
        succeed("install", "pgen", "--from", f"{server.url}/index.json?key=secret", "--root", root)
        url = server.url.rstrip("/")
    assert origins(root)["pgen"] == url
    assert origins(root)["framework"] == str(made.directory)
    assert "secret" not in (root / "current/.stackbuild/state.json").read_text()


def test_a_directory_belongs_to_one_layer(made: Publisher, second: Publisher, root: Path) -> None:
    runtime, *_ = made.stack()
    made.publish("app", {"a": head("cpython-3.12")}, below=[runtime], directory="app@1")
    second.publish("app@1", {"b": head("cpython-3.12")}, below=[second.stack()[0]])
    succeed(*install(made, root, "app"))
    before = snapshot(root)
    message = fail(8, *install(second, root, "app@1"))
    assert message.startswith("error: app@1 and app have the same directory\n")
    assert "  file: app@1/\n" in message
    assert snapshot(root) == before
    second.publish("app", {"a": head("cpython-3.12")}, below=[runtime], directory="app@1")
    assert "app and app@1 have the same directory" in fail(
        8, *install(second, root.parent / "new", "app@1", "app")
    )


def test_a_layer_in_the_directory_of_another_name(
    made: Publisher, second: Publisher, root: Path
) -> None:
    succeed(*install(made, root, "atls"))
    second.publish("zzz", {"z": head("cpython-3.12")}, below=[second.stack()[0]], directory="atls")
    message = fail(6, *install(second, root, "zzz"))
    assert "is not the directory of zzz" in message
    assert tool(root, "atls") == "atls 1"
