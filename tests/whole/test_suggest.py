"""`stackbuild suggest`: frameworks for a locked stack, written into its spec and used."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

import pytest

from stackbuild.cli.main import main
from stackbuild.platforms import host_platform
from stackbuild.workspace import CACHE_VARIABLE
from tests.support.index import IndexServer
from tests.support.interpreters import packable
from tests.support.runenv import wheel
from tests.support.stack import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IndexServer]:
    directory = tmp_path_factory.mktemp("wheels")
    wheel(directory, "base", "1.0", 50_000)
    wheel(directory, "frame", "1.0", 20_000, requires=("base",))
    wheel(directory, "tool", "1.0", 9_000, requires=("frame",))
    with IndexServer(directory) as server:
        yield server


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs `stackbuild` in this process: exit code, stdout, stderr."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))

    def run_command(*words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return run_command


def write_spec(directory: Path, index: IndexServer) -> Path:
    python = packable()
    spec = directory / "venvstacks.toml"
    spec.write_text(
        f"""\
[[runtimes]]
name = "rt"
python_implementation = "cpython@{python.version}"
platforms = ["{host_platform().venvstacks_name}"]
requirements = []

[[applications]]
name = "plain"
runtime = "rt"  # alone so far
requirements = ["frame"]

[[applications]]
name = "tooled"
runtime = "rt"
requirements = ["tool"]

[[tool.uv.index]]
url = "{index.url}"
default = true

[tool.stackbuild.layers.rt]
sources = ["local"]
path = "{python.prefix.as_posix()}"
"""
    )
    return spec


def test_frameworks_are_suggested_applied_locked_and_installed(
    tmp_path: Path, index: IndexServer, command: Command
) -> None:
    spec = write_spec(tmp_path, index)
    old = spec.read_text()
    here = ("--spec", spec)
    assert command("lock", *here)[0] == 0
    code, out, err = command("suggest", *here)
    assert (code, err) == (0, "")
    assert out.startswith(
        "framework common, for plain, tooled\n  contains: base==1.0, frame==1.0\n"
    )
    with spec.open("a") as file:
        file.write('[[applications]]\nname = "unlocked"\nruntime = "rt"\nrequirements = []\n')
    code, _, err = command("suggest", *here)
    assert (code, "unlocked on" in err) == (4, True)
    named = command("suggest", *here, "--layer", "plain", "--layer", "tooled")
    assert named == (0, out.replace("framework common", "framework with-frame"), "")
    assert command("suggest", *here, "--layer", "plain")[1].startswith("no frameworks: ")
    spec.write_text(old)
    code, out, _ = command("suggest", *here, "--apply", "--json")
    assert code == 0
    report = json.loads(out)
    assert report["applied"] is True
    assert [item["applications"] for item in report["frameworks"]] == [["plain", "tooled"]]
    (row,) = report["bytes"]
    assert row["now"] == row["separate"] > row["layers"] + 50_000
    assert 'frameworks = ["common"]  # alone so far' in spec.read_text()
    code, out, err = command("lock", *here)
    assert code == 0, err
    code, out, _ = command("show", *here)
    assert code == 0
    assert "└── common (framework)" in out
    assert "requirements: base==1.0, frame==1.0" in out
    for words in (("publish", *here), ("install", "tooled", "--from", tmp_path / "exports")):
        more = ("--root", tmp_path / "root") if words[0] == "install" else ()
        code, _, err = command(*words, *more)
        assert code == 0, err
    script = "import base, tool; print(list(base.__path__)[0], list(tool.__path__)[0])"
    places = run(tmp_path / "root" / "tooled" / "bin" / "python", "-c", script).stdout.split()
    assert "/common/lib/" in places[0]
    assert "/tooled/lib/" in places[1]
    new = spec.read_text()
    code, out, _ = command("suggest", *here, "--apply")
    assert code == 0
    assert "nothing to apply" in out
    assert spec.read_text() == new


def test_frameworks_of_the_stack_stay_below_new_ones(
    tmp_path: Path, index: IndexServer, command: Command
) -> None:
    spec = write_spec(tmp_path, index)
    own = '[[frameworks]]\nname = "own"\nruntime = "rt"\nrequirements = ["base"]\n\n'
    first, second = spec.read_text().split("[[applications]]", 1)
    second = second.replace('runtime = "rt"', 'frameworks = ["own"]')
    alone = '[[applications]]\nname = "alone"\nruntime = "rt"\nrequirements = ["frame"]\n\n'
    second = second.replace("[[tool", f"{alone}[[tool", 1)
    spec.write_text(f"{first}{own}[[applications]]{second}")
    here = ("--spec", spec)
    assert command("lock", *here)[0] == 0
    code, out, err = command("suggest", *here, "--apply", "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    (framework,) = report["frameworks"]
    # `alone` has frame as well, but base from no framework.
    assert framework["applications"] == ["plain", "tooled"]
    assert framework["below"] == ["own"]
    assert list(framework["distributions"].values()) == [["frame==1.0"]]
    (row,) = report["bytes"]
    assert row["separate"] > row["now"] > row["layers"] + 10_000
    data = tomllib.loads(spec.read_text())
    assert [(item["name"], item.get("frameworks")) for item in data["frameworks"]] == [
        ("own", None),
        ("with-frame", ["own"]),
    ]
    assert [item.get("frameworks") for item in data["applications"]] == [
        ["with-frame"],
        ["with-frame"],
        None,
    ]
    assert 'frameworks = ["with-frame"]  # alone so far' in spec.read_text()
    assert command("lock", *here)[0] == 0
    code, out, _ = command("suggest", *here, "--json")
    assert code == 0
    again = json.loads(out)
    assert again["frameworks"] == []
    assert again["bytes"] == [{**row, "now": row["layers"]}]
    locked = tomllib.loads((tmp_path / f"layers/tooled/pylock.{host_platform()}.toml").read_text())
    assert [item["name"] for item in locked["packages"]] == ["tool"]
    inherited = locked["tool"]["stackbuild"]["inherited"]
    assert [(item["name"], item["layer"]) for item in inherited] == [
        ("base", "own"),
        ("frame", "with-frame"),
    ]


def test_an_index_that_cannot_be_asked_is_told(
    tmp_path: Path, index: IndexServer, command: Command
) -> None:
    with IndexServer(index.directory) as gone:
        spec = write_spec(tmp_path, gone)
        assert command("lock", "--spec", spec)[0] == 0
    code, out, err = command("suggest", "--spec", spec)
    assert (code, out) == (5, "")
    assert "error: " in err
