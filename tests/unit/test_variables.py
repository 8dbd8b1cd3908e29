"""Environment variables of layers: three programs must set the same values."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from stackbuild.compose.layer_metadata import site_files, variable_files
from stackbuild.scripts import header
from stackbuild.variables import MARKER, Variable, in_root, merged, sh_script, to_set
from tests.support.frames import LINUX, WINDOWS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

VARIABLES = {
    "APPENDED": Variable(append=("{root}/rt/lib", "/b")),
    "BOTH": Variable(prepend=("/a", "{root}/app/x"), append=("it's $HOME `x` \\",)),
    "BRACES": Variable(value="{{root}} {root}"),
    "EMPTY": Variable(value=""),
    "PREPENDED": Variable(prepend=('"/a b"',)),
    "REPLACED": Variable(value='it\'s $HOME `x` \\ "y"', prepend=("/a",), append=("/b",)),
}
PRESENT = [{}, dict.fromkeys(VARIABLES, ""), dict.fromkeys(VARIABLES, "old $HOME:'x'")]


def test_an_upper_layer_replaces_a_value_and_surrounds_entries() -> None:
    runtime = {"A": Variable(value="1"), "P": Variable(prepend=("rt",), append=("rt-end",))}
    framework = {"P": Variable(prepend=("fw",)), "B": Variable(append=("fw",))}
    application = {"A": Variable(prepend=("app",)), "B": Variable(value="2")}
    assert merged([runtime, framework, application]) == {
        "A": Variable(value="1", prepend=("app",)),
        "B": Variable(value="2"),
        "P": Variable(prepend=("fw", "rt"), append=("rt-end",)),
    }


def test_places_are_relative_to_the_root() -> None:
    variable = Variable(value="{layer}:{{layer}}", prepend=("{runtime}/lib",))
    assert in_root(variable, "app@3", "rt", "/") == Variable(
        value="{root}/app@3:{{layer}}", prepend=("{root}/rt/lib",)
    )
    assert in_root(variable, "app", "rt", "\\").prepend == ("{root}\\rt/lib",)


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    """A layer with a script whose interpreter prints its environment."""
    layer = tmp_path / "it's {a} $HOME" / "app"
    files = {
        **{path: item.data.decode() for path, item in _files(VARIABLES).items()},
        "bin/tool": header("python", variables=True).decode(),
        "bin/python": f'#!/bin/sh\nexec "{sys.executable}" -c '
        "'import json, os; print(json.dumps(dict(os.environ)))'\n",
    }
    for path, text in files.items():
        target = layer / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        target.chmod(0o755)
    return layer.resolve()


def _files(variables: Mapping[str, Variable]) -> dict[str, Any]:
    return variable_files(variables, LINUX)


def _from_script(layer: Path, environment: Mapping[str, str]) -> dict[str, str]:
    command, inner = [layer / "bin/tool"], {"PATH": os.environ["PATH"], **environment}
    done = subprocess.run(command, env=inner, capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return {name: found[name] for name in (*VARIABLES, MARKER) if name in found}


def _from_start_module(layer: Path, present: Mapping[str, str], patch: pytest.MonkeyPatch) -> Any:
    for name in (*VARIABLES, MARKER):
        patch.delenv(name, raising=False)
        if name in present:
            patch.setenv(name, present[name])
    files = site_files(LINUX, "rt", [("rt", [])], (), VARIABLES)
    text = files[f"{LINUX.site_packages}/sitecustomize.py"].data.decode()
    module: dict[str, Any] = {}
    exec(text.partition("# Looked for before")[0], module)
    module["_set_variables"](str(layer))
    return {name: os.environ[name] for name in (*VARIABLES, MARKER) if name in os.environ}


@pytest.mark.skipif(os.name == "nt", reason="POSIX scripts")
@pytest.mark.parametrize("present", PRESENT, ids=["unset", "empty", "set"])
def test_scripts_run_and_python_set_the_same(
    layer: Path, present: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, old = layer.parent, [present["BOTH"]] if present.get("BOTH") else []
    expected = {
        "APPENDED": ":".join([*old, f"{root}/rt/lib", "/b"]),
        "BOTH": ":".join(["/a", f"{root}/app/x", *old, "it's $HOME `x` \\"]),
        "BRACES": f"{{root}} {root}",
        "EMPTY": "",
        "PREPENDED": ":".join(['"/a b"', *old]),
        "REPLACED": '/a:it\'s $HOME `x` \\ "y":/b',
        MARKER: str(layer),
    }
    assert to_set(VARIABLES, present, str(layer)) == expected
    assert _from_script(layer, present) == expected
    with monkeypatch.context() as patch:
        assert _from_start_module(layer, present, patch) == expected


@pytest.mark.skipif(os.name == "nt", reason="POSIX scripts")
def test_a_child_process_does_not_add_again(layer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = to_set(VARIABLES, {}, str(layer)) | {"BOTH": "changed"}
    assert to_set(VARIABLES, inner, str(layer)) == {}
    assert _from_script(layer, inner) == inner
    with monkeypatch.context() as patch:
        assert _from_start_module(layer, inner, patch) == inner
    assert to_set(VARIABLES, inner, "/other/app")["PREPENDED"] == '"/a b":"/a b"'


def test_a_layer_without_variables_has_no_files() -> None:
    assert _files({}) == {}
    assert set(variable_files(VARIABLES, WINDOWS)) == {"share/venv/metadata/environment.json"}
    assert to_set({}, {}, "/layers/app") == {}


def test_a_script_says_what_it_is_for() -> None:
    first = "# Sets the environment variables of this layer. Its console scripts read this file."
    assert sh_script(VARIABLES).splitlines()[0] == first
