"""`stackbuild show`."""

from __future__ import annotations

import io
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stackbuild.api import Project
from stackbuild.cli.main import main
from stackbuild.cli.show import tree
from stackbuild.platforms import Platform
from tests.support.smallstack import SmallStack
from tests.support.specs import APPLICATION, FRAMEWORK, RUNTIME, write_spec

REPOSITORY = Path(__file__).parents[2]

STATES = "not locked: linux-x64, linux-aarch64, macosx-x64, macosx-aarch64, windows-x64"

TREE = f"""\
{{path}} for linux-x64, linux-aarch64, macosx-x64, macosx-aarch64, windows-x64
py (runtime, CPython 3.12.10)
│     {STATES}
├── base (framework)
│   │     {STATES}
│   │     requirements: numpy>=2, pandas==2.2.3
│   │     environment: PATH prepend {{{{layer}}}}/lib, /b; append /c on macosx-x64
│   └── both (framework)
│       │     chain: both, base, other, py
│       │     {STATES}
│       └── app (application)
│                 chain: app, both, base, other, py
│                 not locked: linux-x64
│                 requirements on linux-x64: torch==2.7.0
│                 overlay: été to {{{{site-packages}}}}/ on linux-x64, overwriting
│                 environment: LD_LIBRARY_PATH = /opt/lib (changes which libraries are loaded)
└── other (framework)
    │     {STATES}
    │     requirements on linux-x64, windows-x64: a, b
    │     requirements on windows-x64: c
    └── off (application)
              disabled: its list of platforms is empty
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    (tmp_path / "overlays" / "app" / "été").mkdir(parents=True)
    return write_spec(
        tmp_path,
        RUNTIME,
        FRAMEWORK.replace("requirements = []", 'requirements = ["numpy>=2", "pandas==2.2.3"]'),
        FRAMEWORK.replace("base", "other"),
        '[[frameworks]]\nname = "both"\nframeworks = ["base", "other"]\nrequirements = []\n',
        APPLICATION.replace("base", "both"),
        'platforms = ["linux-x64"]\n',
        APPLICATION.replace('"app"', '"off"').replace("base", "other"),
        "platforms = []\n",
        "[tool.stackbuild.layers.app]\nenvironment.LD_LIBRARY_PATH = '/opt/lib'\n",
        "[tool.stackbuild.layers.base.platform-specific.macosx-x64]\n",
        "environment.PATH = { prepend = ['{layer}/lib', '/b'], append = ['/c'] }\n",
        "[tool.stackbuild.layers.other.platform-specific]\n",
        "linux-x64.dependencies = ['a', 'b']\nwindows-x64.dependencies = ['a', 'b', 'c']\n",
        "[tool.stackbuild.layers.app.platform-specific.linux-x64]\n",
        "dependencies = ['torch==2.7.0']\n",
        'copy-files = [{ from = "été", to = "{site-packages}/", overwrite = true }]\n',
    )


def test_tree(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "--spec", str(spec)]) == 0
    captured = capsys.readouterr()
    assert captured.out == TREE.format(path=spec)
    assert captured.err == ""


def test_layers_with_those_below_them(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["show", "--spec", str(spec), "--include", "framework-b*"]
    assert main(words) == 0
    names = [
        line.lstrip("│├└─ ").partition(" (")[0]
        for line in capsys.readouterr().out.splitlines()
        if line.endswith(("framework)", "application)", "3.12.10)"))
    ]
    assert names == ["py", "base", "both", "other"]
    assert main([*words, "--effective", "both"]) == 2
    assert "leave out --layer" in capsys.readouterr().err
    assert main(["show", "--spec", str(spec), "--layer", "x*"]) == 2


def test_tree_without_unicode(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert main(["show", "--spec", str(spec)]) == 0
    stdout.seek(0)
    text = stdout.read()
    assert "|   `-- both (framework)\n" in text
    assert "overlay: \\xe9t\\xe9 to " in text


def test_json(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "--json", "--spec", str(spec)]) == 0
    stack = json.loads(capsys.readouterr().out)
    assert stack["spec"] == str(spec)
    assert [layer["name"] for layer in stack["layers"]] == [
        *("py", "base", "other", "both", "app", "off"),
    ]
    assert stack["layers"][4] == {
        "name": "app",
        "kind": "application",
        "python": "3.12.10",
        "chain": ["app", "both", "base", "other", "py"],
        "platforms": {"linux-x64": "not locked"},
        "requirements": [],
        "platform_requirements": {"linux-x64": ["torch==2.7.0"]},
        "overlays": [
            {
                "platform": "linux-x64",
                "from": "été",
                "to": "{site-packages}/",
                "overwrite": True,
                "include-ignored": False,
            }
        ],
        "environment": {
            "linux-x64": {"LD_LIBRARY_PATH": {"value": "/opt/lib", "prepend": [], "append": []}}
        },
        "launch_module": None,
        "support_modules": [],
        "versioned": False,
        "versions": {},
        "dynlib_exclude": [],
        "linux_target": None,
        "macosx_target": None,
        "conflicts": [],
    }


def test_versions_and_fields_of_venvstacks(spec: Path) -> None:
    project = Project.load(spec)
    (layer,) = (one for one in project.describe() if one.name == "py")
    x64, arm = Platform.LINUX_X64, Platform.LINUX_AARCH64
    fields: dict[str, Any] = {"dynlib_exclude": ("a/*.so", "b"), "linux_target": "glibc@2.34"}
    layer = replace(layer, name="scipy", chain=("scipy",), **fields)
    lines = list(tree(project, [replace(layer, versions={x64: 5, arm: 5})]))
    assert "      version: scipy@5" in lines
    assert "      dynlib_exclude: a/*.so, b" in lines
    assert "      linux_target: glibc@2.34" in lines
    lines = list(tree(project, [replace(layer, versions={x64: 5, arm: 6})]))
    assert "      version: scipy@5 on linux-x64; scipy@6 on linux-aarch64" in lines


def test_damaged_lock(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = spec.parent / "layers" / "app" / "pylock.linux-x64.toml"
    lock.parent.mkdir(parents=True)
    lock.write_text("lock-version = ")
    assert main(["show", "--json", "--spec", str(spec)]) == 0
    stack = json.loads(capsys.readouterr().out)
    assert stack["layers"][4]["platforms"] == {"linux-x64": "damaged"}
    assert main(["show", "--spec", str(spec)]) == 0
    assert "│                 damaged: linux-x64 (" in capsys.readouterr().out


def test_locked_and_stale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("layers", "launch", "overlays"):
        shutil.copytree(REPOSITORY / name, tmp_path / name)
    text = (REPOSITORY / "venvstacks.toml").read_text(encoding="utf-8")
    spec = tmp_path / "venvstacks.toml"

    def states() -> dict[str, set[str]]:
        assert main(["show", "--json", "--spec", str(spec)]) == 0
        layers = json.loads(capsys.readouterr().out)["layers"]
        return {layer["name"]: set(layer["platforms"].values()) for layer in layers}

    spec.write_text(text, encoding="utf-8")
    before = states()
    assert before["pgen"] == {"locked"}
    spec.write_text(text.replace("olga==1.3.0", "olga==1.2.9"), encoding="utf-8")
    assert states() == before | {"pgen": {"stale"}}
    assert main(["show", "--spec", str(spec)]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if "stale: " in line]
    assert line.lstrip("│ ") == (
        "stale: linux-x64, linux-aarch64, macosx-x64, macosx-aarch64, windows-x64 "
        "(its requirements changed)"
    )


def test_the_repository_s_own_stack(capsys: pytest.CaptureFixture[str]) -> None:
    spec = REPOSITORY / "venvstacks.toml"
    assert main(["show", "--spec", str(spec)]) == 0
    lines = capsys.readouterr().out.splitlines()
    named = [line for line in lines if line.endswith(")") and ": " not in line]
    assert named == [
        "cpython-3.12 (runtime, CPython 3.12.10)",
        "└── framework (framework)",
        "    ├── atls (application)",
        "    ├── pgen (application)",
        "    └── prodigy (application)",
    ]


def test_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = SmallStack(tmp_path / "project", tmp_path / "cache")
    files = {"big/a/b/x.so.1": "x" * 9000, "big/a/y.so": "y" * 500, ".hidden": "", "big/z.a": "z"}
    small.wheel("app", "big", "1.0", files, data={"scripts/big": b"#!/bin/sh\n"})
    small.more = (
        '[tool.stackbuild.layers.app]\nexclude-files.big = ["*.a", "@tests", "!*.so", "!*.b"]\n'
    )
    small.lock()
    words = ["show", "--sizes", "app", "--platform", "linux-x64", "--spec", str(small.spec)]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["layer"], found["platform"]) == ("app", "linux-x64")
    assert (found["excluded"]["files"], found["excluded"]["installed"]) == (1, 1)
    assert found["unused"] == ["big: @tests", "big: !*.b"]
    groups = {
        key: {one["name"]: (one["files"], one["installed"]) for one in found[key]}
        for key in ("distributions", "directories", "kinds")
    }
    assert [*groups["distributions"]] == ["big 1.0", "tool 2.0"]
    assert [*groups["directories"].items()][:1] == [("big/a/", (2, 9500))]
    assert {"big/", "bin/", "./"} & {*groups["directories"]} == {"bin/", "./"}
    assert [*groups["kinds"].items()][:2] == [("*.so.*", (1, 9000)), ("*.so", (1, 500))]
    assert groups["kinds"][".hidden"] == (1, 0)
    for kinds in groups.values():
        assert sum(size for _, size in kinds.values()) == found["total"]["installed"]
    assert found["total"]["compressed"] < found["total"]["installed"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("app on linux-x64: ")
    assert lines[1].startswith("`exclude-files` leaves out 1 files, 1 B installed, ")
    assert lines[2] == "no file matches a pattern of `exclude-files`: big: @tests"
    assert lines[3].endswith("!*.b")
    assert lines[5].split() == ["DISTRIBUTION", "FILES", "INSTALLED", "COMPRESSED"]
    assert lines[6].startswith("big 1.0       ")
    assert lines[-1] == (
        "bytecode, overlays and interpreters are counted once they are published: "
        "stackbuild publish --layer app --platform linux-x64"
    )
    # Of wheels that are not there, nothing is known.
    small.wheels["app"][-1].unlink()
    assert main(words) == 5
    assert "run stackbuild fetch --layer app --platform linux-x64" in capsys.readouterr().err
    assert main([*words, "--effective", "app"]) == 2
    assert "--effective names its layer" in capsys.readouterr().err
