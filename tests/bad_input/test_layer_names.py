"""A layer is named in one way in all commands, and an unknown one is told in one way."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import TYPE_CHECKING

import pytest

from stackbuild.cli.main import COMMANDS, _command
from tests.support.roots import fail, succeed
from tests.support.specs import write_spec

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.publish import Publisher

SPEC = """
[[runtimes]]
name = "cpython-3.12"
python_implementation = "cpython@3.12.10"
requirements = []

[[frameworks]]
name = "framework"
runtime = "cpython-3.12"
requirements = []

[[applications]]
name = "atls"
frameworks = ["framework"]
requirements = []
"""
OF_A_SPEC = (
    *(
        "show --layer",
        "show --effective",
        "show --sizes",
        "lock --layer",
        "lock --check --layer",
        "fetch --layer",
    ),
    *("publish --layer", "publish --dry-run --layer", "build --layer", "export", "export runenv"),
    *("wheelhouse", "suggest --layer", "bundle", "image --base scratch"),
)
OF_A_ROOT = ("run", "env", "verify", "verify --installed", "uninstall")
OF_A_REGISTRY = ("install", "export", "bundle", "promote", "unpublish", "image --base scratch")
KNOWN = {"spec": "cpython-3.12, framework, atls", "root": "cpython-3.12, framework, atls"}
EXPECTED = {**KNOWN, "registry": "atls, cpython-3.12, framework, pgen"}


def test_all_commands_that_take_a_layer_are_here() -> None:
    taking = set()
    for name in COMMANDS:
        parser = ArgumentParser()
        _command(name).configure(parser)
        taking |= {name for action in parser._actions if action.metavar == "LAYER"}
    assert taking == {words.split()[0] for words in (*OF_A_SPEC, *OF_A_ROOT, *OF_A_REGISTRY)}


@pytest.fixture
def place(made: Publisher, root: Path, tmp_path: Path) -> dict[str, Path]:
    """Where the layers of a spec, a root and a registry are, for messages."""
    succeed("install", "atls", "--from", made.directory, "--root", root)
    project = tmp_path / "project"
    project.mkdir()
    return {"spec": write_spec(project, SPEC), "root": root, "registry": made.directory}


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        *((command, "spec") for command in OF_A_SPEC),
        *((command, "root") for command in OF_A_ROOT),
        *((command, "registry") for command in OF_A_REGISTRY),
    ],
)
def test_an_unknown_layer(place: dict[str, Path], tmp_path: Path, command: str, kind: str) -> None:
    def told(word: str) -> str:
        options: tuple[str | Path, ...] = ("--spec", place["spec"])
        if kind == "registry":
            options = ("--from", place["registry"])
        target: tuple[str | Path, ...] = (
            (tmp_path / "out",) if command in {"export", "wheelhouse"} else ()
        )
        if command in {"promote", "unpublish"}:
            places = (place["registry"], tmp_path / "target")[: 2 - (command == "unpublish")]
            return fail(2, command, *places, word)
        if kind == "root" or command == "install":
            options = (*options, "--root", place["root"])
            options = options if command in {"install", "verify"} else options[2:]
        return fail(2, *command.split(), word, *target, *options)

    adding = {"spec": "add it to this file", "root": "install it there"}
    remedy = f"name one of these layers, or {adding.get(kind, 'publish it there')}"
    rest = f"  file: {place[kind]}\n  expected: one of {EXPECTED[kind]}\n  to fix: "
    assert told("atsl") == f"error: there is no layer 'atsl'\n{rest}did you mean 'atls'?\n"
    assert told("q*") == f"error: no layer matches 'q*'\n{rest}{remedy}\n"


@pytest.mark.parametrize("word", ["pgen", "app-pgen", "pg*", "app-[!a]*"])
def test_names_and_patterns(made: Publisher, tmp_path: Path, word: str) -> None:
    root, out = tmp_path / "envs", tmp_path / "out"
    place = ("--from", made.directory)
    chain = ["cpython-3.12", "framework", "pgen"]
    installed = json.loads(succeed("install", word, *place, "--root", root, "--json"))
    assert [layer["layer"] for layer in installed["layers"] if layer["asked"]] == ["pgen"]
    exported = json.loads(succeed("export", word, out, *place, "--json"))
    assert list(exported["layers"]) == chain
    verified = json.loads(succeed("verify", word, "--installed", "--root", root, "--json"))
    assert verified["layers"] == chain
    assert succeed("run", word, "--root", root, "--", "pgen-tool") == "pgen 1\n"
    assert succeed("env", word, "--root", root) == ""
    succeed("uninstall", word, "--root", root)
    assert succeed("list", "--root", root, "--json") == "[]\n"


def test_a_pattern_for_several_layers(made: Publisher, root: Path) -> None:
    where = ("--root", root)
    succeed("install", "app-*", "--from", made.directory, *where)
    for command in ("run", "env"):
        assert fail(2, command, "app-*", *where) == (
            "error: 'app-*' matches several layers\n"
            f"  file: {root}\n  expected: the name of one layer\n  found: atls, pgen\n"
        )
    report = json.loads(succeed("uninstall", "app-*", *where, "--json"))
    assert report["removed"] == ["cpython-3.12", "framework", "atls", "pgen"]


def test_a_root_without_layers(made: Publisher, root: Path) -> None:
    succeed("install", "atls", "--from", made.directory, "--root", root)
    succeed("uninstall", "*", "--root", root)
    assert fail(2, "uninstall", "atls", "--root", root) == (
        "error: there is no layer 'atls'\n"
        f"  file: {root}\n  found: no layers\n  to fix: install it there\n"
    )
