"""Stacks of venvstacks are read, and docs/from-venvstacks.md has all features of it.

The stacks are of the shapes of all seven that venvstacks 0.8 has, as examples and in its tests.
Each has the same fields, kinds of layers, platforms and settings as the stack it stands for.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import warnings
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import pytest
from tools.standin import PROJECT

from stackbuild.cli.main import main
from stackbuild.platforms import Platform
from stackbuild.spec.reader import load_stack

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from stackbuild.spec.model import Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A spec and what it defines."""

    spec: str
    modules: tuple[str, ...]
    """The files that the spec names."""
    chains: Mapping[str, str]
    """Each layer with the layers below it, nearest first."""
    made_for: Mapping[str, str]
    """The platforms of layers that are not made for all six, abbreviated."""
    used: str = "all"
    """The platforms that commands work on without `--platform`."""
    without_effect: tuple[str, ...] = ()


SHORT = {
    "lx": Platform.LINUX_X64,
    "la": Platform.LINUX_AARCH64,
    "mx": Platform.MACOSX_X64,
    "ma": Platform.MACOSX_AARCH64,
    "wx": Platform.WINDOWS_X64,
    "wa": Platform.WINDOWS_AARCH64,
}
FIVE = "lx la mx ma wx"

NOTEBOOK = Case(
    spec="""
[[runtimes]]
name = "python3.11"
python_implementation = "cpython@3.11.13"
requirements = []

[[applications]]
name = "notebook"
runtime = "python3.11"
requirements = ["notebook-server"]
launch_module = "start.py"
platforms = ["win_amd64", "linux_x86_64", "linux_aarch64", "macosx_x86_64", "macosx_arm64"]

[tool.uv]
exclude-newer = "2025-10-11T00:00:00Z"
""",
    modules=("start.py",),
    chains={"python3.11": "", "notebook": "python3.11"},
    made_for={"notebook": FIVE},
    used=FIVE,
)
"""jupyterlab: a runtime, and an application on five platforms."""

ACCELERATED = Case(
    spec="""
[[runtimes]]
name = "python3.11"
python_implementation = "cpython@3.11.13"
requirements = []
platforms = ["linux_x86_64", "macosx_arm64"]

[[frameworks]]
name = "arrays"
runtime = "python3.11"
requirements = ["arrays==0.29.3", "arrays[cpu]; sys_platform == 'linux'"]
macosx_target = "14"
linux_target = "glibc@2.35"

[[frameworks]]
name = "arrays-gpu"
runtime = "python3.11"
requirements = ["arrays[gpu]==0.29.3"]
macosx_target = "14"
linux_target = "glibc@2.35"

[[applications]]
name = "plain"
frameworks = ["arrays"]
requirements = ["arrays"]
launch_module = "version.py"

[[applications]]
name = "gpu-linux"
frameworks = ["arrays-gpu"]
requirements = ["arrays[gpu]"]
launch_module = "version.py"
platforms = ["linux_x86_64"]

[[applications]]
name = "gpu-macos"
frameworks = ["arrays-gpu"]
requirements = ["arrays[gpu]"]
launch_module = "version.py"
platforms = ["macosx_arm64"]

[tool.uv]
exclude-newer = "2025-10-19T00:00:00Z"
environments = ["sys_platform == 'linux'", "sys_platform == 'darwin'"]
""",
    modules=("version.py",),
    chains={
        "python3.11": "",
        "arrays": "python3.11",
        "arrays-gpu": "python3.11",
        "plain": "arrays python3.11",
        "gpu-linux": "arrays-gpu python3.11",
        "gpu-macos": "arrays-gpu python3.11",
    },
    made_for={
        **dict.fromkeys(("python3.11", "arrays", "arrays-gpu", "plain"), "lx ma"),
        "gpu-linux": "lx",
        "gpu-macos": "ma",
    },
    used="lx ma",
    without_effect=("tool.uv.environments",),
)
"""mlx: two platforms, levels of the system, settings of uv without effect."""

LEARNING = Case(
    spec="""
[[runtimes]]
name = "python-3.11"
python_implementation = "cpython@3.11.10"
requirements = ["arrays", "plots"]

[[frameworks]]
name = "learning"
runtime = "python-3.11"
requirements = ["learning"]
platforms = ["win_amd64", "linux_x86_64", "linux_aarch64", "macosx_x86_64", "macosx_arm64"]

[[frameworks]]
name = "windows"
runtime = "python-3.11"
requirements = ["toolkit"]
linux_target = "glibc@2.34"
platforms = ["win_amd64", "win_arm64", "linux_x86_64", "macosx_x86_64", "macosx_arm64"]

[[applications]]
name = "sorting"
frameworks = ["learning", "windows"]
requirements = ["learning", "plots", "toolkit"]
launch_module = "starts/sorting.py"

[[applications]]
name = "grouping"
frameworks = ["learning", "windows"]
requirements = ["learning", "plots", "toolkit"]
launch_module = "starts/grouping.py"

[tool.uv]
exclude-newer = "2025-10-11T00:00:00Z"
""",
    modules=("starts/sorting.py", "starts/grouping.py"),
    chains={
        "python-3.11": "",
        "learning": "python-3.11",
        "windows": "python-3.11",
        "sorting": "learning windows python-3.11",
        "grouping": "learning windows python-3.11",
    },
    made_for={
        "learning": FIVE,
        "windows": "lx mx ma wx wa",
        "sorting": "lx mx ma wx",
        "grouping": "lx mx ma wx",
    },
    used=FIVE,
)
"""sklearn: two frameworks of which each lacks another platform, one with a newer glibc."""

TENSORS = Case(
    spec="""
[[runtimes]]
name = "python3.11"
python_implementation = "cpython@3.11.13"
requirements = ["arrays"]

[[frameworks]]
name = "tensors-cpu"
runtime = "python3.11"
requirements = ["tensors==2.8.0"]
package_indexes = { tensors = "on-cpu" }
dynlib_exclude = ["compiler/**"]
platforms = ["win_amd64", "win_arm64", "linux_x86_64", "linux_aarch64", "macosx_arm64"]

[[frameworks]]
name = "tensors-gpu"
runtime = "python3.11"
requirements = ["tensors==2.8.0"]
package_indexes = { tensors = "on-gpu" }
dynlib_exclude = ["compiler/**"]
platforms = ["win_amd64", "linux_x86_64"]

[[applications]]
name = "cpu"
frameworks = ["tensors-cpu"]
requirements = ["tensors"]
launch_module = "version.py"

[[applications]]
name = "gpu"
frameworks = ["tensors-gpu"]
requirements = ["tensors"]
launch_module = "version.py"

[[applications]]
name = "either"
frameworks = ["tensors-gpu", "tensors-cpu"]
index_overrides = { on-cpu = "on-gpu" }
requirements = ["tensors"]
launch_module = "version.py"

[tool.uv]

[[tool.uv.index]]
name = "on-cpu"
url = "https://packages.example.org/cpu/"
explicit = true

[[tool.uv.index]]
name = "on-gpu"
url = "https://packages.example.org/gpu/"
explicit = true
""",
    modules=("version.py",),
    chains={
        "python3.11": "",
        "tensors-cpu": "python3.11",
        "tensors-gpu": "python3.11",
        "cpu": "tensors-cpu python3.11",
        "gpu": "tensors-gpu python3.11",
        "either": "tensors-gpu tensors-cpu python3.11",
    },
    made_for={
        "tensors-cpu": "lx la ma wx wa",
        "cpu": "lx la ma wx wa",
        **dict.fromkeys(("tensors-gpu", "gpu", "either"), "lx wx"),
    },
)
"""pytorch: parallel frameworks from two indexes, and an application on both."""

LIBRARIES = Case(
    spec="""
[[runtimes]]
name = "python-3.11"
python_implementation = "cpython@3.11.11"
requirements = []

[[frameworks]]
name = "together"
runtime = "python-3.11"
requirements = ["with-a-library", "with-an-extension"]

[[applications]]
name = "from-one"
frameworks = ["together"]
requirements = []
launch_module = "importing.py"

[[frameworks]]
name = "library"
runtime = "python-3.11"
requirements = ["with-a-library"]
versioned = true

[[frameworks]]
name = "extension"
frameworks = ["library"]
requirements = ["with-an-extension"]

[[applications]]
name = "from-two"
frameworks = ["extension"]
requirements = []
launch_module = "importing.py"

[[frameworks]]
name = "hidden-library"
runtime = "python-3.11"
requirements = ["with-a-library"]
dynlib_exclude = ["*.dylib", "*.so"]

[[frameworks]]
name = "without-library"
frameworks = ["hidden-library"]
requirements = ["with-an-extension"]

[[applications]]
name = "on-windows-only"
frameworks = ["without-library"]
requirements = []
launch_module = "failing.py"
""",
    modules=("importing.py", "failing.py"),
    chains={
        "python-3.11": "",
        "together": "python-3.11",
        "library": "python-3.11",
        "extension": "library python-3.11",
        "hidden-library": "python-3.11",
        "without-library": "hidden-library python-3.11",
        "from-one": "together python-3.11",
        "from-two": "extension library python-3.11",
        "on-windows-only": "without-library hidden-library python-3.11",
    },
    made_for={},
    used=FIVE,
)
"""local_wheels_project: shared libraries in layers below, frameworks after applications."""

SAMPLE = Case(
    spec="""
[[runtimes]]
name = "python-3.11"
python_implementation = "cpython@3.11.11"
requirements = ["arrays", "tracer; sys_platform == 'win32'"]

[[runtimes]]
name = "python-3.12"
python_implementation = "cpython@3.12.9"
requirements = ["arrays"]
versioned = true

[[frameworks]]
name = "science"
runtime = "python-3.11"
requirements = ["science"]
versioned = true

[[frameworks]]
name = "learning"
runtime = "python-3.12"
requirements = ["learning"]

[[frameworks]]
name = "web"
runtime = "python-3.11"
requirements = ["client", "protocol>=0.15.0"]

[[applications]]
name = "science-web"
frameworks = ["science", "web"]
requirements = ["science", "client"]
launch_module = "starts/package"
support_modules = ["../neighbour/nothing.py", "shared/helping.py"]
platforms = ["win_amd64", "win_arm64", "macosx_arm64"]

[[applications]]
name = "science-linux"
frameworks = ["science"]
requirements = ["science"]
versioned = true
launch_module = "starts/module.py"
support_modules = ["../neighbour/nothing.py", "shared/helping.py"]
platforms = ["linux_x86_64", "linux_aarch64"]

[[applications]]
name = "learning-everywhere"
frameworks = ["learning"]
requirements = ["learning"]
launch_module = "starts/learning.py"

[tool.uv]
exclude-newer = "2025-08-27 00:00:00+00:00"
""",
    modules=(
        "starts/package/__init__.py",
        "starts/package/__main__.py",
        "starts/module.py",
        "starts/learning.py",
        "shared/helping.py",
        "../neighbour/nothing.py",
    ),
    chains={
        "python-3.11": "",
        "python-3.12": "",
        "science": "python-3.11",
        "learning": "python-3.12",
        "web": "python-3.11",
        "science-web": "science web python-3.11",
        "science-linux": "science python-3.11",
        "learning-everywhere": "learning python-3.12",
    },
    made_for={"science-web": "ma wx wa", "science-linux": "lx la"},
)
"""sample_project: two runtimes, versioned layers of each kind, a module of a neighbour."""

ORDER = Case(
    spec="""
[[runtimes]]
name = "python-3.11"
python_implementation = "cpython@3.11.11"
requirements = []
package_indexes = { unused = "named" }

[[frameworks]]
name = "low"
runtime = "python-3.11"
requirements = []
priority_indexes = ["named"]

[[frameworks]]
name = "left"
frameworks = ["low"]
requirements = []

[[frameworks]]
name = "right"
frameworks = ["low"]
requirements = []

[[frameworks]]
name = "diamond"
frameworks = ["left", "right"]
requirements = []

[[frameworks]]
name = "line"
frameworks = ["left"]
requirements = []

[[frameworks]]
name = "longer@1"
frameworks = ["line"]
requirements = []

[[applications]]
name = "top"
frameworks = ["diamond", "longer@1"]
requirements = []
launch_module = "nothing.py"
package_indexes = { unused = "named" }

[[applications]]
name = "alone"
runtime = "python-3.11"
requirements = []
launch_module = "nothing.py"

[[applications]]
name = "off"
runtime = "python-3.11"
requirements = []
launch_module = "nothing.py"
platforms = []

[[tool.uv.index]]
name = "named"
url = "https://packages.example.org/simple/"
explicit = true
""",
    modules=("nothing.py",),
    chains={
        "python-3.11": "",
        "low": "python-3.11",
        "left": "low python-3.11",
        "right": "low python-3.11",
        "diamond": "left right low python-3.11",
        "line": "left low python-3.11",
        "longer@1": "line left low python-3.11",
        "top": "diamond longer@1 line left right low python-3.11",
        "alone": "python-3.11",
        "off": "python-3.11",
    },
    made_for={"off": ""},
    used=FIVE,
)
"""minimal_project: linearisation, a name with `@`, a disabled layer, indexes."""

CASES = {
    "jupyterlab": NOTEBOOK,
    "mlx": ACCELERATED,
    "sklearn": LEARNING,
    "pytorch": TENSORS,
    "local_wheels_project": LIBRARIES,
    "sample_project": SAMPLE,
    "minimal_project": ORDER,
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def spec(case: Case, tmp_path: Path) -> Path:
    """The spec with its modules."""
    project = tmp_path / "project"
    project.mkdir()
    for name in case.modules:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("")
    path = project / "venvstacks.toml"
    path.write_text(case.spec)
    return path


def platforms(text: str) -> tuple[Platform, ...]:
    return tuple(Platform) if text == "all" else tuple(SHORT[word] for word in text.split())


def test_its_layers_have_their_chains_and_platforms(case: Case, spec: Path) -> None:
    stack = load_stack(spec)
    assert stack.platforms == platforms(case.used)
    assert stack.without_effect == case.without_effect
    assert {name: " ".join(layer.lower) for name, layer in stack.layers.items()} == case.chains
    assert {name: layer.platforms for name, layer in stack.layers.items()} == {
        name: platforms(case.made_for.get(name, "all")) for name in case.chains
    }


def test_show_prints_it(case: Case, spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "--spec", str(spec), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert {layer["name"]: layer["chain"] for layer in shown["layers"]} == {
        name: [name, *chain.split()] for name, chain in case.chains.items()
    }
    assert main(["show", "--spec", str(spec)]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in case.chains:
        assert [line for line in lines if f"{name} (" in line]


def loaded(case: Case, directory: Path) -> Stack:
    for name in case.modules:
        (directory / name).write_text("")
    (directory / "venvstacks.toml").write_text(case.spec)
    return load_stack(directory / "venvstacks.toml")


def test_targets_indexes_and_versions_belong_to_their_layers(tmp_path: Path) -> None:
    arrays = loaded(ACCELERATED, tmp_path).layers
    assert (arrays["arrays"].linux_target, arrays["arrays"].macosx_target) == ("glibc@2.35", "14")
    assert (arrays["plain"].linux_target, arrays["plain"].macosx_target) == (None, None)
    tensors = loaded(TENSORS, tmp_path).layers
    indexes = {name: tensors[name].package_indexes.get("tensors") for name in ("cpu", "either")}  # type: ignore[call-overload]  # a normalized name
    assert indexes == {"cpu": "on-cpu", "either": "on-gpu"}
    order = loaded(ORDER, tmp_path).layers
    assert [name for name, layer in order.items() if layer.priority_indexes] == ["low"]
    assert [name for name, layer in order.items() if not layer.package_indexes] == []
    libraries = loaded(LIBRARIES, tmp_path).layers
    assert libraries["hidden-library"].dynlib_exclude == ("*.dylib", "*.so")
    assert [name for name, layer in libraries.items() if layer.versioned] == ["library"]


COLUMNS = 4
TEST = re.compile(r"`(tests/\w+/\w+\.py)::(\w+)`")


def features() -> list[list[str]]:
    """The cells of each line of the table."""
    page = (PROJECT / "docs/from-venvstacks.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)
    head, line, *rows = (
        [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in table.splitlines()
    )
    assert head == ["area", "venvstacks 0.8", "stackbuild", "test"]
    assert set("".join(line)) == {"-"}
    return rows


@cache
def names_in(path: str) -> frozenset[str]:
    """The names of the tests of a file, also of those in classes."""
    nodes = ast.walk(ast.parse((PROJECT / path).read_text(encoding="utf-8")))
    return frozenset(node.name for node in nodes if isinstance(node, ast.FunctionDef))


def test_each_line_of_the_table_is_complete_and_names_tests() -> None:
    rows = features()
    assert len(rows) > 100
    assert [row for row in rows if len(row) != COLUMNS or not all(row)] == []
    theirs = [row[:2] for row in rows]
    assert [row for row in theirs if theirs.count(row) > 1] == []
    for row in rows:
        named = [TEST.fullmatch(word) for word in row[3].split(", ")]
        for test in named:
            assert test, row
            assert (PROJECT / test[1]).is_file(), row
            assert test[2].startswith("test_"), row
            assert test[2] in names_in(test[1]), row


FIELDS = (
    *("name", "requirements", "platforms", "linux_target", "macosx_target", "dynlib_exclude"),
    *(
        "package_indexes",
        "index_overrides",
        "priority_indexes",
        "versioned",
        "runtime",
        "frameworks",
    ),
    *("python_implementation", "launch_module", "support_modules", "build_requirements"),
    "fully_versioned_name",
)
"""Of layers, in its page on file formats."""


def test_the_table_has_every_field_option_and_key_of_venvstacks() -> None:
    with warnings.catch_warnings():
        # It says on import that its Python interface may change.
        warnings.simplefilter("ignore", FutureWarning)
        from venvstacks import cli, stacks
        from venvstacks._injected.postinstall import LayerConfig
    commands = {
        (command.name or command.callback.__name__).replace("_", "-"): command.callback
        for command in cli._cli.registered_commands
        if command.callback
    }
    options = {
        f"--{name.replace('_', '-')}"
        for function in (*commands.values(), cli.handle_app_options)
        for name in inspect.signature(function).parameters
        if name not in {"ctx", "spec_path"}
    }
    # Flags that are on by default are documented as their opposites.
    options = options - {"--index", "--build"} | {"--no-index", "--no-build"}
    by_area: dict[str, str] = {}
    for area, theirs, *_ in features():
        by_area[area] = by_area.get(area, "") + theirs

    def words(area: str) -> set[str]:
        return set(re.findall(r"--[a-z-]+|\w[\w-]*", by_area[area]))

    assert set(FIELDS) - words("field") == set()
    assert set(commands) - words("command") == set()
    assert options - words("option") - words("command") == set()
    assert set(stacks.ArchiveMetadata.__annotations__) - words("published metadata") == set()
    assert set(LayerConfig.__annotations__) - words("deployed layer") == set()
    lock_keys = set(stacks.EnvironmentLockMetadata.__annotations__)
    assert lock_keys - words("locks") == set()
