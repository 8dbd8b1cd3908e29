"""`stackbuild sync`: a root equal to a file and its lock."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from stackbuild.install.root import Root
from stackbuild.platforms import host_platform
from stackbuild.spec.model import LayerKind
from tests.support.http import Status, serving
from tests.support.roots import fail, stackbuild, succeed, tool

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.publish import Publisher


OLD = {"cpython-3.12": "1", "framework": "1", "atls": "1"}


@pytest.fixture
def fleet(made: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a file for `sync`, which is the working directory."""
    directory = tmp_path / "fleet"
    directory.mkdir()
    monkeypatch.chdir(directory)
    write(directory, place=os.path.relpath(made.directory, directory))
    return directory


def write(directory: Path, **values: object) -> None:
    wanted: dict[str, object] = {"layers": ["atls"], "root": "envs", **values}
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in wanted.items()]
    (directory / "stackbuild.install.toml").write_text("".join(lines))


def versions(root: Path) -> dict[str, str]:
    return dict(Root(root).installed_state().versions)


def test_a_root_becomes_what_the_file_says(fleet: Path, made: Publisher) -> None:
    envs, lock = fleet / "envs", fleet / "stackbuild.install.lock"
    text = succeed("sync", "--dry-run")
    assert "atls 1 added" in text
    assert not lock.exists()
    assert not envs.exists()
    succeed("sync")
    assert tool(envs, "atls") == "atls 1"
    pins = json.loads(lock.read_bytes())["platforms"][host_platform()]
    assert [(pin["layer"], pin["version"], pin["words"]) for pin in pins] == [
        *(("cpython-3.12", "1", []), ("framework", "1", []), ("atls", "1", ["atls"]))
    ]
    assert pins[2]["sha256"] == made.entries["atls"][host_platform()][0].sha256
    # The lock decides, on this and on another machine, until it is upgraded.
    made.stack("2")
    before = lock.read_bytes()
    assert succeed("sync").startswith("nothing to do: ")
    succeed("sync", "--root", fleet / "other")
    assert versions(fleet / "other") == versions(envs) == OLD
    assert lock.read_bytes() == before
    assert "atls 1 -> 2" in succeed("sync", "--upgrade", "--dry-run")
    assert lock.read_bytes() == before
    succeed("sync", "--upgrade")
    assert tool(envs, "atls") == "atls 2"
    assert lock.read_bytes() != before
    # Other commands find the root by the file.
    assert len(succeed("list").splitlines()) == 4
    succeed("rollback")
    assert tool(envs, "atls") == "atls 1"
    succeed("sync")
    assert tool(envs, "atls") == "atls 2"


def test_layers_come_and_go_with_the_file(fleet: Path, made: Publisher) -> None:
    succeed("sync")
    made.stack("2")
    place = str(made.directory)
    # The versions of the layers that stay do not change.
    write(fleet, place=place, layers=["atls", "pgen@1"])
    succeed("sync")
    assert versions(fleet / "envs") == {**OLD, "pgen": "1"}
    write(fleet, place=place, layers=["atls", "pgen"])
    text = fail(8, "sync")
    assert "atls and pgen need different versions of framework" in text
    assert f"stackbuild sync {fleet}/stackbuild.install.toml --upgrade" in text
    write(fleet, place=place, layers=["pgen"])
    succeed("sync", "--upgrade")
    assert list(versions(fleet / "envs")) == ["cpython-3.12", "framework", "pgen"]
    assert not os.path.lexists(fleet / "envs/atls")


def test_lower_layers_are_those_of_the_lock_too(fleet: Path, made: Publisher) -> None:
    """Also where a newer manifest has the same lock."""
    succeed("sync")
    digest = Root(fleet / "envs").installed_state().layers["framework"].digest
    runtime = made.stack("1")[0]
    made.publish("framework", {"f": {"x": "new"}}, below=[runtime], kind=LayerKind.FRAMEWORK)
    succeed("sync", "--root", fleet / "other")
    assert Root(fleet / "other").installed_state().layers["framework"].digest == digest
    succeed("sync", "--upgrade")
    assert Root(fleet / "envs").installed_state().layers["framework"].digest != digest


def test_trust_in_the_lock_alone(fleet: Path, made: Publisher) -> None:
    place = str(made.directory)
    write(fleet, place=place, trust="lock")
    text = fail(4, "sync")
    assert f"the lock has no version of atls for {host_platform()}" in text
    write(fleet, place=place)
    succeed("sync")
    made.stack("2")
    write(fleet, place=place, trust="lock")
    succeed("sync", "--root", fleet / "other")
    assert tool(fleet / "other", "atls") == "atls 1"
    assert "trust = 'lock' allows no other versions" in fail(4, "sync", "--upgrade")


def test_what_the_lock_names_must_be_published(fleet: Path, made: Publisher) -> None:
    succeed("sync")
    entries = made.entries["atls"][host_platform()]
    gone = entries[0]
    made.stack("2")
    entries.remove(gone)
    made.write_index()
    text = fail(5, "sync", "--root", fleet / "other")
    assert "the version of atls that the lock names is not published" in text
    assert f"a manifest with sha256 {gone.sha256}" in text
    assert f"stackbuild sync {fleet}/stackbuild.install.toml --upgrade" in text
    # A root that has it stays as it is.
    done = stackbuild("sync")
    assert done.returncode == 0
    assert done.stdout.startswith("nothing to do: ")
    assert done.stderr.startswith(f"warning: {fleet}/envs has what the lock names")
    succeed("sync", "--upgrade")
    assert tool(fleet / "envs", "atls") == "atls 2"


def test_offline(fleet: Path, made: Publisher) -> None:
    with serving(directory=made.directory) as server:
        write(fleet, place=server.url, store="store", platform=host_platform())
        succeed("sync")
        assert (fleet / "store/.stackbuild.tag").exists()
        made.stack("2")
        server.script("/index.json", Status(404))
        assert "has what the lock names" in stackbuild("sync").stderr
        server.script("/index.json", Status(404))
        fail(5, "sync", "--upgrade")
        server.script("/index.json", Status(404))
        write(fleet, place=server.url, layers=["pgen"])
        fail(5, "sync")
    assert tool(fleet / "envs", "atls") == "atls 1"


def test_problems_of_the_file_are_told_with_their_lines(fleet: Path) -> None:
    path = fleet / "stackbuild.install.toml"
    path.write_text(
        'place = 3\nlayers = ["atls",\n  ""]\n\nplatfrom = "x"\nplatform = "amiga"\ntrust = "all"\n'
    )
    text = fail(3, "sync")
    assert text.splitlines()[0] == f"error: {path} has 5 problems"
    assert "  line 1: place: wrong type (expected a string, found 3)" in text
    assert "  line 2: layers[1]: empty" in text
    assert "  line 5: platfrom: unknown key; did you mean 'platform'?" in text
    assert "  line 6: platform: " in text
    assert "  line 7: trust: unknown value (expected one of place, lock, found 'all')" in text
    path.write_text('place = "x"\nlayers = []\n')
    assert "  line 2: layers: empty (expected the names of layers)" in fail(3, "sync")
    path.write_text("place = \n")
    assert "line 1, column 9: not TOML" in fail(3, "sync")
    assert "place: missing" in fail_of(path, "")
    assert "the file does not name the root" in fail(
        2, "sync", written(path, 'place = "x"\nlayers = ["a"]\n')
    )
    path.unlink()
    assert "the file does not exist" in fail(3, "sync")


def fail_of(path: Path, text: str) -> str:
    return fail(3, "sync", written(path, text))


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("text", ["{", '{"format": 1, "platforms": {"linux-x64": [{}]}}', "[]"])
def test_a_damaged_lock_is_told(fleet: Path, text: str) -> None:
    lock = fleet / "stackbuild.install.lock"
    lock.write_text(text)
    found = fail(6, "sync")
    assert f"{lock} is damaged" in found
    assert "restore the file; or remove it" in found
    lock.write_text('{"format": 9}')
    assert "was written by a newer stackbuild" in fail(6, "sync")
    assert not (fleet / "envs").exists()
