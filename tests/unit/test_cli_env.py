"""`stackbuild env`: the variables of an installed layer as commands of a shell."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from stackbuild.cli.main import main
from stackbuild.variables import MARKER, Variable
from tests.support.publish import PYTHON, head, publisher
from tests.support.roots import succeed

if TYPE_CHECKING:
    from pathlib import Path

VALUE = "it's \\ \u2018\u2019\u201a\u201b \" $HOME `X` %"


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with the layers `app`, which sets two variables, and `rt`."""
    directory = tmp_path_factory.mktemp("env")
    made = publisher(directory)
    runtime = made.publish("rt", {"p": {"bin/python3.12": PYTHON}})
    variables = {"MODE": Variable(value=VALUE), "EXTRA": Variable(prepend=("{root}/app",))}
    made.publish("app", {"app": head("rt")}, below=[runtime], environment=variables)
    root = directory / "root"
    succeed("install", "app", "rt", "--from", made.directory, "--root", root)
    return root


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXTRA", "old")
    monkeypatch.delenv(MARKER, raising=False)


def expected(root: Path) -> dict[str, str]:
    layer = f"{root.resolve()}/generations/1/app"
    extra = os.pathsep.join((layer, "old"))
    return {"MODE": VALUE, "EXTRA": extra, MARKER: layer}


def answer(root: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["env", "app", "--root", str(root), *words]) == 0
    return capsys.readouterr().out


def test_the_variables_as_json(layers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = {"layer": "app", "environment": expected(layers)}
    assert json.loads(answer(layers, capsys, "--json")) == found
    assert json.loads(answer(layers, capsys, "--json", "--shell", "fish")) == found


def test_the_root_is_the_directory_where_none_is_named(
    layers: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(layers)
    assert main(["env", "rt", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"layer": "rt", "environment": {}}


@pytest.mark.skipif(os.name == "nt", reason="runs sh")
def test_the_commands_of_sh(layers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = answer(layers, capsys, "--shell", "sh")
    assert answer(layers, capsys) == text
    script = f"{text}exec env -0"
    words = ["sh", "-c", script]
    shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    lines = dict(line.partition("=")[::2] for line in shown.split("\0"))
    assert {name: lines[name] for name in expected(layers)} == expected(layers)


def test_the_commands_of_other_shells(layers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layer, extra = expected(layers)[MARKER], expected(layers)["EXTRA"]
    assert answer(layers, capsys, "--shell", "fish").splitlines() == [
        f"set -gx EXTRA '{extra}'",
        "set -gx MODE 'it\\'s \\\\ \u2018\u2019\u201a\u201b \" $HOME `X` %'",
        f"set -gx {MARKER} '{layer}'",
    ]
    assert answer(layers, capsys, "--shell", "powershell").splitlines() == [
        f"$Env:EXTRA = '{extra}'",
        "$Env:MODE = 'it''s \\ \u2018\u2018\u2019\u2019\u201a\u201a\u201b\u201b \" $HOME `X` %'",
        f"$Env:{MARKER} = '{layer}'",
    ]


def test_the_shell_of_windows(
    layers: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from stackbuild.cli import env

    text = answer(layers, capsys, "--shell", "powershell")
    if os.name != "nt":
        named = type("Named", (), {"name": "nt", "environ": os.environ})
        monkeypatch.setattr(env, "os", named)
    assert answer(layers, capsys) == text


def test_characters_that_cannot_be_printed(
    layers: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXTRA", "a\tb")
    assert main(["env", "app", "--root", str(layers)]) == 2
    value = repr(os.pathsep.join((expected(layers)[MARKER], "a\tb")))
    assert capsys.readouterr().err.splitlines() == [
        "error: EXTRA has a value with a character that cannot be printed",
        f"  found: {value}",
        "  to fix: remove the character from EXTRA in this environment, or from the path of the"
        " root; or use --json, which escapes it",
    ]
    shown = json.loads(answer(layers, capsys, "--json"))
    assert shown["environment"]["EXTRA"].endswith("a\tb")


def test_shells_and_examples_are_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["env", "--help"])
    shown = capsys.readouterr().out
    lines = [line.strip() for line in shown.splitlines()]
    assert "Print commands that set the environment variables of an installed layer." in lines
    assert any(line.startswith("LAYER  ") for line in lines)
    assert 'eval "$(stackbuild env atls --root ~/envs)"' in shown
    default = "powershell" if os.name == "nt" else "sh"
    shells = f"--shell {{fish,powershell,sh}} whose commands to print (default: {default}) "
    assert shells in " ".join(shown.split())
    with pytest.raises(SystemExit) as refused:
        main(["env", "app", "--shell", "csh"])
    assert refused.value.code == 2
