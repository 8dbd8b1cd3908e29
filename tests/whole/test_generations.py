"""The generations of a root: their list, the way back, and which of them `clean` keeps."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stackbuild.frames.files import FileContent
from stackbuild.install.root import Root
from stackbuild.platforms import Platform
from tests.support.publish import Publisher, head
from tests.support.roots import fail, stackbuild, succeed, tool

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def three(made: Publisher, root: Path) -> Path:
    """A root with three generations: versions 1, 2 and 3 of atls."""
    for version in ("1", "2", "3"):
        if version != "1":
            made.stack(version)
        succeed("install", "atls", "--from", made.directory, "--root", root)
    return root


def history(root: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(succeed("history", root, "--json"))
    return found


def numbers(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "generations").iterdir())


def test_the_history_of_a_root(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = history(three)
    assert [(one["generation"], one["current"]) for one in found] == [
        *((3, True), (2, False), (1, False))
    ]
    assert [
        [(it["layer"], it["version"], it["asked"]) for it in one["layers"]] for one in found[1:]
    ] == [
        [("cpython-3.12", "1", False), ("framework", version, False), ("atls", version, True)]
        for version in ("2", "1")
    ]
    age = datetime.now(UTC) - datetime.fromisoformat(found[0]["created"])
    assert timedelta(0) <= age < timedelta(minutes=10)
    lines = succeed("history", three).splitlines()
    assert lines[0].split() == ["GENERATION", "CREATED", "LAYERS"]
    assert lines[1].split()[:3] == ["3", found[0]["created"], "current"]
    assert lines[3].endswith("  atls 1, framework 1, cpython-3.12 1")
    # The root is found from a directory in it.
    monkeypatch.chdir(three / ".stackbuild")
    assert succeed("history").splitlines() == lines
    (three / "generations/2/.stackbuild/state.json").write_text("{")
    assert succeed("history").splitlines()[2].split() == ["2", "unknown", "damaged"]


def test_there_and_back(three: Path, made: Publisher) -> None:
    shutil.rmtree(made.directory)  # Nothing is fetched.
    report = json.loads(succeed("rollback", "--root", three, "--json"))
    assert (report["generation"], report["added"]) == (2, ["framework", "atls"])
    assert not (three / ".stackbuild/unsynced").exists()
    assert tool(three, "atls") == "atls 2"
    assert succeed("rollback", "--root", three).splitlines()[-1] == f"{three}: generation 1"
    assert tool(three, "atls") == "atls 1"
    text = fail(8, "rollback", "--root", three)
    assert "there is no generation before 1" in text
    assert succeed("rollback", "3", "--root", three).splitlines() == [
        "kept       cpython-3.12 " + history(three)[0]["layers"][0]["digest"][:12],
        "installed  framework " + history(three)[0]["layers"][1]["digest"][:12],
        "installed  atls " + history(three)[0]["layers"][2]["digest"][:12],
        f"{three}: generation 3",
    ]
    assert succeed("rollback", "3", "--root", three).startswith("nothing to do: ")
    assert tool(three, "atls") == "atls 3"
    assert "expected: one of 1, 2, 3" in fail(2, "rollback", "7", "--root", three)
    succeed("verify", "--installed", "--root", three)


def test_an_install_after_a_rollback_makes_a_new_generation(three: Path, made: Publisher) -> None:
    succeed("rollback", "1", "--root", three)
    succeed("install", "pgen@1", "--from", made.directory, "--root", three)
    assert (history(three)[0]["generation"], tool(three, "atls")) == (4, "atls 1")
    # The links of layers follow the generation, in both directions.
    succeed("rollback", "3", "--root", three)
    assert not os.path.lexists(three / "pgen")
    succeed("rollback", "4", "--root", three)
    assert tool(three, "pgen") == "pgen 1"


def test_a_rollback_from_and_to_damage(three: Path) -> None:
    (three / "generations/3/.stackbuild/state.json").write_text("{")
    shutil.rmtree(three / "generations/2/atls")
    text = fail(8, "rollback", "--root", three)
    assert "generation 2 is not complete" in text
    assert f"file: {three}/generations/2/atls" in text
    succeed("rollback", "1", "--root", three)
    assert tool(three, "atls") == "atls 1"
    (three / "pgen").write_text("mine")
    assert "nothing is installed in" in fail(8, "rollback", "--root", three / "atls")


def test_a_link_is_not_put_where_another_file_is(made: Publisher, root: Path) -> None:
    succeed("install", "pgen", "--from", made.directory, "--root", root)
    succeed("install", "atls", "--from", made.directory, "--root", root)
    succeed("uninstall", "pgen", "--root", root)
    (root / "pgen").write_text("mine")
    assert "pgen" in fail(8, "rollback", "--root", root)
    assert Root(root).number() == 3
    assert not os.path.lexists(root / "pgen/bin")


def test_a_root_for_windows_has_no_way_back(made: Publisher, root: Path) -> None:
    made.platform = Platform.WINDOWS_X64
    for version in ("1", "2"):
        made.publish("python", {"p": {"python.exe": version}}, lock=version)
        words = ("install", "python", "--platform", "windows-x64", "--from", made.directory)
        succeed(*words, "--root", root)
    text = fail(8, "rollback", "--root", root)
    assert "a root for Windows keeps only the generation in use" in text
    assert f"stackbuild install LAYER@VERSION --root {root}" in text


def test_a_killed_rollback_changes_nothing(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.replace

    def killed(path: Path, target: Path) -> Path:
        if Path(target).name == "current":
            raise KeyboardInterrupt
        return real(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        assert stackbuild("rollback", "--root", three).returncode == 130
    assert tool(three, "atls") == "atls 3"
    succeed("rollback", "--root", three)
    assert tool(three, "atls") == "atls 2"


def test_clean_keeps_the_newest(three: Path, made: Publisher) -> None:
    succeed("rollback", "1", "--root", three)
    succeed("clean", "--root", three, "--keep", "2")
    assert numbers(three) == ["1", "3"]
    # What is kept needs nothing but itself, and has its frames.
    succeed("rollback", "3", "--root", three)
    succeed("verify", "--installed", "--root", three)
    succeed("clean", "--root", three)
    assert numbers(three) == ["3"]
    assert "need --root" in fail(2, "clean", "--keep", "2")
    assert "'x' is not a whole number" in stackbuild("clean", "--keep", "x").stderr


def test_clean_keeps_what_is_not_old(three: Path) -> None:
    path = three / "generations/1/.stackbuild/state.json"
    state = json.loads(path.read_bytes())
    old = datetime.now(UTC) - timedelta(days=8)
    path.write_text(json.dumps({**state, "created": f"{old:%Y-%m-%dT%H:%M:%SZ}"}))
    succeed("clean", "--root", three, "--older-than", "9")
    assert numbers(three) == ["1", "2", "3"]
    succeed("clean", "--root", three, "--older-than", "7")
    assert numbers(three) == ["2", "3"]


@pytest.fixture
def sleeping(made: Publisher, root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the first of two generations."""
    program = Path(shutil.which("sleep") or "/bin/sleep").read_bytes()
    for version in ("1", "2"):
        runtime, *_ = made.stack(version)
        frame = {"bin/sleep": FileContent(data=program, executable=True), "v": version}
        made.publish("tool", {"f": frame, "tool": head(runtime.directory)}, below=[runtime])
        succeed("install", "tool", "--from", made.directory, "--root", root)
        if version == "1":
            process = subprocess.Popen([root / "tool/bin/sleep", "600"], cwd="/")
    yield process
    process.kill()
    process.wait()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not tell")
def test_a_generation_that_a_process_runs_in_is_kept(
    sleeping: subprocess.Popen[bytes], root: Path
) -> None:
    wait_for = time.monotonic() + 10
    while history(root)[1]["processes"] != [sleeping.pid]:
        assert time.monotonic() < wait_for
    assert history(root)[0]["processes"] == []
    assert f"process {sleeping.pid}" in succeed("history", root).splitlines()[2]
    done = stackbuild("clean", "--root", root)
    assert done.stderr == (f"generation 1 is kept, because processes run in it: {sleeping.pid}\n")
    assert numbers(root) == ["1", "2"]
    sleeping.kill()
    sleeping.wait()
    succeed("clean", "--root", root)
    assert numbers(root) == ["2"]


def test_where_the_system_does_not_tell_clean_says_so(
    three: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("stackbuild.install.history._PROC", tmp_path / "none")
    assert history(three)[0]["processes"] is None
    done = stackbuild("clean", "--root", three)
    assert done.stderr == (
        "this system does not tell which processes run in a generation; those that run in a "
        "removed one lose its files\n"
    )
    assert numbers(three) == ["3"]
    assert stackbuild("clean", "--root", three).stderr == ""
