"""What a user reads about each thing that can be wrong in a spec.

Each case is the TOML that is added to a good start, and all messages it gets.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

import pytest

from stackbuild.cli.main import main
from stackbuild.errors import quoted
from stackbuild.reading import shown
from stackbuild.spec.reader import load_stack
from tests.support.specs import ALL, APPLICATION, FRAMEWORK, RUNTIME, problems_of, write_spec

if TYPE_CHECKING:
    from pathlib import Path

PLATFORMS = "linux-x64, linux-aarch64, macosx-x64, macosx-aarch64, windows-x64, windows-aarch64"
LAYER_NAME = "letters, digits, '.', '_', '-' and '@', a letter or digit first"
REQUIREMENT = "expected a name and versions, such as 'numpy>=2'"
DIRECT = (
    "expected such as 'name @ git+https://host/repository@revision', "
    "'name @ https://host/name-1.0-py3-none-any.whl' or 'name @ file:name'"
)
WITH_USER = "a user or password in an address; it would be written into the locks"
PYTHON = "expected cpython@ and three numbers, such as cpython@3.12.10"
MODULE = "expected a .py file or a directory"
CREATE = "create it, or correct the path, which starts at the directory of this file"
IMPORTABLE = "expected a name of letters, digits and _, with no digit first"
OTHER_NAME = "expected names that differ in more than case"
IN_PROJECT = (
    "expected a path in the directory of this file, or one with .. in its git work tree "
    "(without git: one with .. and without links)"
)
MOMENT = "expected one such as 2025-10-19, 2025-10-19T00:00:00Z or '7 days'"
ADDRESS = "expected https://…, http://… or file:///…"


class Case(NamedTuple):
    spec: str
    messages: list[str]


def runtime(python: str) -> str:
    return f'[[runtimes]]\nname = "py"\nrequirements = []\npython_implementation = "{python}"\n'


def named(name: str, kind: str = "frameworks") -> str:
    """A layer with `name`, which must not hold a single quote."""
    below = 'python_implementation = "cpython@3.12.10"' if kind == "runtimes" else 'runtime = "py"'
    start = "" if kind == "runtimes" else RUNTIME
    return f"{start}[[{kind}]]\nname = '{name}'\nrequirements = []\n{below}\n"


def framework(name: str, *below: str, more: str = "") -> str:
    return (
        f'[[frameworks]]\nname = "{name}"\nframeworks = {list(below)}\nrequirements = []\n{more}\n'
    )


INDEXES = """
[[tool.uv.index]]
name = "one"
url = "https://one.example/simple"
[[tool.uv.index]]
name = "two"
url = "https://two.example/simple"
"""

OWN = "[tool.stackbuild.layers.app]\n"
OWN_RUNTIME = "[tool.stackbuild.layers.py]\n"

BY_PLATFORM = (
    "write the platforms of an index into `index-platforms` of [tool.stackbuild], and a requirement"
    " with an address into `platform-specific.<platform>.dependencies` of the layer"
)

CASES = {
    # The file as a whole.
    "empty": Case(
        "", ["defines no layer (expected [[runtimes]] or [[frameworks]] or [[applications]])"]
    ),
    "misspelt array": Case(
        RUNTIME + FRAMEWORK.replace("frameworks", "framework"),
        ["framework: unknown key; did you mean 'frameworks'?"],
    ),
    "unknown top-level key": Case(
        RUNTIME + "[project]\n['a\"b']\n",
        [
            "project: unknown key (expected one of applications, frameworks, runtimes, tool)",
            '"a\\"b": unknown key (expected one of applications, frameworks, runtimes, tool)',
        ],
    ),
    "array of tables is a table": Case(
        "[runtimes]\nname = 'py'\n",
        ["runtimes: wrong type (expected an array of tables, found a table)"],
    ),
    "array holds no tables": Case(
        "runtimes = [1]\n",
        ["runtimes[0]: wrong type (expected a table, found 1)"],
    ),
    "syntax error": Case(
        "[[runtimes]\n",
        ["line 1, column 11: not TOML: Expected ']]' at the end of an array declaration"],
    ),
    "key set twice": Case(
        "[[runtimes]]\nname = 'a'\nname = 'b'\n",
        ["line 3, column 11: not TOML: Cannot overwrite a value"],
    ),
    "misspelt tool table": Case(
        RUNTIME + "[tool.stackbuld]\n[tool.other]\n",
        ["tool.stackbuld: unknown key; did you mean 'stackbuild'?"],
    ),
    "tool is no table": Case(
        "tool = 1\n" + RUNTIME, ["tool: wrong type (expected a table, found 1)"]
    ),
    # Names.
    "missing name": Case(
        RUNTIME + "[[frameworks]]\nruntime = 'py'\nrequirements = []\n",
        ["frameworks[0].name: missing (expected a string)"],
    ),
    "empty name": Case(named(" "), ["frameworks[0].name: empty (expected some text)"]),
    **{
        f"name {name}": Case(
            named(name),
            [
                "frameworks[0].name: is not a valid layer name "
                f"(expected {LAYER_NAME}, found {name!r})"
            ],
        )
        for name in (
            *("..", "a/b", "/a", ".hidden", "-rf", "a b", "ä", "a\\b", "c:", "a+b", "{x}"),
            *("$(touch x)", "~", "*", 'a"b', "a;b", "a\u202eb", "a\u009bb", "@1", ".a.partial"),
        )
    },
    "name with a trailing dot": Case(
        named("a."),
        [
            "frameworks[0].name: ends with a dot, which Windows drops "
            f"(expected {LAYER_NAME}, found 'a.')"
        ],
    ),
    "name with a control character": Case(
        named("x").replace("'x'", '"a\\u0000b"'),
        ["frameworks[0].name: contains a control character (found 'a\\x00b')"],
    ),
    **{
        f"name {name}": Case(
            named(name),
            [
                "frameworks[0].name: is a name that Windows reserves for a device "
                f"(expected {LAYER_NAME}, found {name!r})"
            ],
        )
        for name in ("nul", "CON", "aux.data", "com1", "LPT9.tar.gz")
    },
    **{
        f"name {name}": Case(
            named(name),
            [
                "frameworks[0].name: is used for a file of stackbuild in installed "
                f"roots (expected {LAYER_NAME}, found {name!r})"
            ],
        )
        for name in ("current", "Generations", "state", "damaged", "lock", "state.json")
    },
    "name too long": Case(
        named("a" * 101),
        [
            "frameworks[0].name: is longer than 100 characters "
            f"(expected {LAYER_NAME}, found '{'a' * 68}…)"
        ],
    ),
    **{
        f"prefix of {name}": Case(
            named(name, "runtimes"),
            [
                "runtimes[0].name: a prefix that venvstacks reserves for other layers "
                f"(found {name!r})"
            ],
        )
        for name in ("framework-x", "App-x")
    },
    "a name like the directory of a versioned layer": Case(
        named("Base") + "versioned = true\n" + named("base@2").removeprefix(RUNTIME),
        [
            "frameworks[1].name: is a directory of the versioned layer Base "
            "(expected another name, found 'base@2')"
        ],
    ),
    "two layers of one name": Case(
        ALL + FRAMEWORK,
        [
            "frameworks[1].name: frameworks[0].name has the same name (expected names that "
            "differ in more than case, also of layers of two kinds, found 'base'); "
            "rename one of them"
        ],
    ),
    "one name for two kinds": Case(
        ALL + APPLICATION.replace('"app"', '"base"'),
        [
            "applications[1].name: frameworks[0].name has the same name (expected names that "
            "differ in more than case, also of layers of two kinds, found 'base'); "
            "rename one of them"
        ],
    ),
    "one name for two kinds, in another case": Case(
        ALL + APPLICATION.replace('"app"', '"BASE"'),
        [
            "applications[1].name: frameworks[0].name has the same name (expected names that "
            "differ in more than case, also of layers of two kinds, found 'BASE'); "
            "rename one of them"
        ],
    ),
    # Python.
    "no Python": Case(
        "[[runtimes]]\nname = 'py'\nrequirements = []\n",
        ["runtimes[0].python_implementation: missing (expected a string)"],
    ),
    "an old Python": Case(
        runtime("cpython@3.8.20"),
        [
            "runtimes[0].python_implementation: layers run on CPython 3.9 and later "
            f"({PYTHON}, found 'cpython@3.8.20')"
        ],
    ),
    "no patch number": Case(
        runtime("cpython@3.12"),
        [
            "runtimes[0].python_implementation: the version lacks its patch number "
            f"({PYTHON}, found 'cpython@3.12')"
        ],
    ),
    "PyPy": Case(
        runtime("pypy@3.10.14"),
        [
            "runtimes[0].python_implementation: PyPy is not supported yet "
            f"({PYTHON}, found 'pypy@3.10.14')"
        ],
    ),
    "misspelt implementation": Case(
        runtime("CPyton@3.12.10"),
        [
            "runtimes[0].python_implementation: not an implementation of Python "
            f"({PYTHON}, found 'CPyton@3.12.10'); did you mean 'cpython'?"
        ],
    ),
    "implementation in capitals": Case(
        runtime("CPYTHON@3.12.10"),
        [
            "runtimes[0].python_implementation: not an implementation of Python "
            f"({PYTHON}, found 'CPYTHON@3.12.10'); did you mean 'cpython'?"
        ],
    ),
    "no implementation": Case(
        runtime("3.12.10"),
        [
            "runtimes[0].python_implementation: not an implementation of Python "
            f"({PYTHON}, found '3.12.10')"
        ],
    ),
    **{
        f"Python {version}": Case(
            runtime(f"cpython@{version}"),
            [
                "runtimes[0].python_implementation: not a version of CPython 3 "
                f"({PYTHON}, found 'cpython@{version}')"
            ],
        )
        for version in ("", "2.7.18", "3.13.0t", "3.14.0rc1", "3.12.10.1", "3.12.x", "3.012.1", "3")
    },
    "Python by its former name as well": Case(
        RUNTIME + 'fully_versioned_name = "cpython@3.12.10"\n',
        [
            "runtimes[0].fully_versioned_name: the name of python_implementation before "
            "venvstacks 0.2, which is set, too"
        ],
    ),
    # Fields of every layer.
    "misspelt key": Case(
        RUNTIME.replace("requirements", "requirments"),
        [
            "runtimes[0].requirements: missing (expected an array of strings)",
            "runtimes[0].requirments: unknown key; did you mean 'requirements'?",
        ],
    ),
    "keys of other kinds": Case(
        ALL.replace(
            "[[frameworks]]", "launch_module = 'x.py'\nruntime = 'py'\n[[frameworks]]"
        ).replace("[[applications]]", "[[applications]]\npython_implementation = 'cpython@3.1.2'"),
        [
            "runtimes[0].runtime: not a field of runtimes",
            "runtimes[0].launch_module: not a field of runtimes",
            "applications[0].python_implementation: not a field of applications",
        ],
    ),
    "field of former venvstacks": Case(
        RUNTIME + "build_requirements = 3\n",
        ["runtimes[0].build_requirements: wrong type (expected an array, found 3)"],
    ),
    "requirements": Case(
        RUNTIME.replace("[]", '["numpy", "a b", 3, "", "x @ https://u:secret@h/x.whl", "-r x"]'),
        [
            "runtimes[0].requirements[2]: wrong type (expected a string, found 3)",
            "runtimes[0].requirements[3]: empty (expected some text)",
            "runtimes[0].requirements[1]: not a requirement: Expected semicolon (after name with "
            f"no version specifier) or end ({REQUIREMENT}, found 'a b')",
            f"runtimes[0].requirements[4]: {WITH_USER} (expected a netrc file)",
            "runtimes[0].requirements[5]: not a requirement: Expected package name at the start "
            f"of dependency specifier ({REQUIREMENT}, found '-r x')",
        ],
    ),
    "requirements on files": Case(
        RUNTIME.replace(
            "[]",
            "['x @ https://h/y-1-py3-none-any.whl', 'x @ https://h/x.whl', 'x @ https://h/x',"
            " 'x @ https://h/x-1.tar.gz#sha256=1', 'x @ https://h/x-1.tar.gz?token=1',"
            " 'x @ https://h:0/x-1.tar.gz', 'x @ ftp://h/x-1.zip', 'x @ file:x-1.zip',"
            " 'x @ file:other/y-1.zip', 'x @ file:other']",
        ),
        [
            "runtimes[0].requirements[0]: a file of another distribution, y "
            "(expected one of x, found 'y-1-py3-none-any.whl')",
            "runtimes[0].requirements[1]: not the file name of a wheel or source distribution "
            "(found 'x.whl')",
            *(
                f"runtimes[0].requirements[{number}]: not a supported address ({DIRECT})"
                for number in (2, 3, 4, 5, 6)
            ),
            "runtimes[0].requirements[8]: a file of another distribution, y "
            "(expected one of x, found 'y-1.zip')",
            "runtimes[0].requirements[7]: does not exist (expected a wheel or source distribution, "
            "relative to this file, found 'x-1.zip')",
            "runtimes[0].requirements[9]: not a project: it has no pyproject.toml "
            "(expected a directory with a pyproject.toml, relative to this file, found 'other')",
        ],
    ),
    "requirements that are no names": Case(
        RUNTIME.replace(
            "[]",
            f"""['git+https://u:p@h/x', './x.whl', "x; {"(" * 1500}", "x=={"9" * 4000}"]""",
        ),
        [
            f"runtimes[0].requirements[3]: longer than 4000 characters (found 'x=={'9' * 65}…)",
            "runtimes[0].requirements[0]: an address without a name "
            f"({DIRECT}, found 'git+https://***@h/x')",
            "runtimes[0].requirements[1]: not a requirement: Expected package name at the start "
            f"of dependency specifier ({REQUIREMENT}, found './x.whl')",
            "runtimes[0].requirements[2]: not a requirement: Too many parentheses in its marker "
            f"({REQUIREMENT}, found 'x; {'(' * 65}…)",
        ],
    ),
    "requirements are a string": Case(
        RUNTIME.replace("[]", '"numpy"'),
        ["runtimes[0].requirements: wrong type (expected an array of strings, found 'numpy')"],
    ),
    "name is a number of thousands of digits": Case(
        FRAMEWORK.replace('"base"', f"0x{'9' * 6000}").replace('runtime = "py"', ""),
        [
            "frameworks[0].name: wrong type (expected a string, found a very large integer)",
            "frameworks[0]: depends on no layer (expected a runtime, or at least one framework)",
        ],
    ),
    "versioned": Case(
        RUNTIME + "versioned = 'yes'\n",
        ["runtimes[0].versioned: wrong type (expected true or false, found 'yes')"],
    ),
    "dynlib_exclude": Case(
        RUNTIME + "dynlib_exclude = 'triton/**'\n",
        [
            "runtimes[0].dynlib_exclude: wrong type (expected an array of strings, "
            "found 'triton/**')"
        ],
    ),
    "linux_target": Case(
        RUNTIME + "linux_target = 'glibc2.28'\n",
        [
            "runtimes[0].linux_target: not a C library and its version "
            "(expected glibc@ and a version, such as glibc@2.28, found 'glibc2.28')"
        ],
    ),
    "musl": Case(
        RUNTIME + "linux_target = 'musl@1.2'\n",
        [
            "runtimes[0].linux_target: musl is not supported yet "
            "(expected glibc@ and a version, such as glibc@2.28, found 'musl@1.2')"
        ],
    ),
    "macosx_target": Case(
        RUNTIME + "macosx_target = 'sonoma'\n",
        [
            "runtimes[0].macosx_target: not a version of macOS "
            "(expected a version such as 12.0, found 'sonoma')"
        ],
    ),
    "macosx_target is a number": Case(
        RUNTIME + "macosx_target = 12.0\n",
        ["runtimes[0].macosx_target: wrong type (expected a string, found 12.0)"],
    ),
    # Platforms.
    "unknown platforms": Case(
        RUNTIME + "platforms = ['linux_x86_46', 'host', 'linux-x64', 'linux_x86_64']\n",
        [
            f"runtimes[0].platforms[0]: unknown platform (expected one of {PLATFORMS}, "
            "found 'linux_x86_46'); did you mean 'linux_x86_64'?",
            f"runtimes[0].platforms[1]: unknown platform (expected one of {PLATFORMS}, "
            "found 'host')",
            "runtimes[0].platforms[3]: named twice (found 'linux_x86_64')",
        ],
    ),
    "platform that a lower layer lacks": Case(
        RUNTIME
        + "platforms = ['linux-x64']\n"
        + FRAMEWORK
        + "platforms = ['linux-x64', 'win_amd64']\n",
        [
            "frameworks[0].platforms[1]: windows-x64 is not a platform of py, below this layer",
        ],
    ),
    "Windows on ARM is asked for at the bottom": Case(
        RUNTIME + "platforms = ['windows-x64']\n" + FRAMEWORK + "platforms = ['windows-aarch64']\n",
        [
            "frameworks[0].platforms[0]: windows-aarch64 is not a platform of py, below this layer",
        ],
    ),
    "no platform in common": Case(
        RUNTIME
        + FRAMEWORK
        + "platforms = ['linux-x64']\n"
        + FRAMEWORK.replace("base", "other")
        + "platforms = ['windows-x64']\n"
        + framework("both", "base", "other"),
        [
            "frameworks[2]: the layers below have no platform in common: base: linux-x64; "
            "other: windows-x64; "
            "py: linux-x64, linux-aarch64, macosx-x64, macosx-aarch64, windows-x64, "
            "windows-aarch64"
        ],
    ),
    # References.
    "depends on no layer": Case(
        RUNTIME + "[[frameworks]]\nname = 'x'\nrequirements = []\n" + framework("y"),
        [
            "frameworks[0]: depends on no layer (expected a runtime, or at least one framework)",
            "frameworks[1]: depends on no layer (expected a runtime, or at least one framework)",
        ],
    ),
    "both": Case(
        RUNTIME + FRAMEWORK + framework("x", "base", more="runtime = 'py'"),
        [
            "frameworks[1]: sets both runtime and frameworks "
            "(expected one of them; frameworks determine the runtime)"
        ],
    ),
    "unknown references": Case(
        RUNTIME
        + FRAMEWORK
        + FRAMEWORK.replace("base", "x").replace('"py"', '"pyy"')
        + framework("y", "bse", "zzz"),
        [
            "frameworks[1].runtime: unknown runtime (expected one of py, found 'pyy'); "
            "did you mean 'py'?",
            "frameworks[2].frameworks[0]: unknown framework (expected one of base, x, y, "
            "found 'bse'); did you mean 'base'?",
            "frameworks[2].frameworks[1]: unknown framework (expected one of base, x, y, "
            "found 'zzz')",
        ],
    ),
    "references to the wrong kind": Case(
        RUNTIME + framework("x", "py", "app") + APPLICATION.replace("base", "x"),
        [
            "frameworks[0].frameworks[0]: not a framework (found 'py'); it is a runtime",
            "frameworks[0].frameworks[1]: not a framework (found 'app'); it is an application",
        ],
    ),
    "no runtime at all": Case(
        FRAMEWORK,
        ["frameworks[0].runtime: unknown runtime (expected the name of a runtime, found 'py')"],
    ),
    "circle": Case(
        RUNTIME + framework("x", "x") + framework("y", "z") + framework("z", "y"),
        [
            "frameworks[0].frameworks[0]: the layer depends on itself (found 'x')",
            "frameworks[1].frameworks[0]: is defined later in the file (found 'z'); "
            "move it above the layers that depend on it",
        ],
    ),
    "a layer is its own runtime": Case(
        FRAMEWORK.replace("py", "base"),
        ["frameworks[0].runtime: the layer depends on itself (found 'base')"],
    ),
    "framework named twice": Case(
        RUNTIME + FRAMEWORK + framework("x", "base", "base"),
        ["frameworks[1].frameworks[1]: named twice (found 'base')"],
    ),
    "different runtimes": Case(
        RUNTIME
        + RUNTIME.replace("py", "other", 1)
        + FRAMEWORK
        + FRAMEWORK.replace("base", "base2").replace('"py"', '"other"')
        + framework("x", "base", "base2"),
        [
            "frameworks[2].frameworks: the frameworks depend on different runtimes: base on py, "
            "base2 on other (expected one runtime below a layer)"
        ],
    ),
    "contradicting orders": Case(
        RUNTIME
        + FRAMEWORK.replace("base", "a")
        + FRAMEWORK.replace("base", "b")
        + framework("ab", "a", "b")
        + framework("ba", "b", "a")
        + framework("all", "ab", "ba"),
        [
            "frameworks[4].frameworks: the frameworks cannot be put in one order; "
            "contradicting orders: a before b; b before a"
        ],
    ),
    "a framework before one that depends on it": Case(
        RUNTIME + FRAMEWORK + framework("x", "base") + framework("all", "base", "x"),
        [
            "frameworks[2].frameworks: the frameworks cannot be put in one order; "
            "contradicting orders: x before base; base before x"
        ],
    ),
    "a broken layer is told once": Case(
        RUNTIME.replace("3.12.10", "3.12") + FRAMEWORK.replace('"py"', '"nope"') + APPLICATION,
        [
            "runtimes[0].python_implementation: the version lacks its patch number "
            f"({PYTHON}, found 'cpython@3.12')",
            "frameworks[0].runtime: unknown runtime (expected one of py, found 'nope')",
        ],
    ),
    # Package indexes.
    "unknown package indexes": Case(
        RUNTIME
        + "package_indexes = {torch = 'oen', 'a b' = 'one'}\n"
        + "priority_indexes = ['three']\nindex_overrides = {one = 'four', five = 'two'}\n"
        + INDEXES,
        [
            "runtimes[0].index_overrides.one: unknown package index "
            "(expected one of one, two, found 'four')",
            "runtimes[0].index_overrides.five: unknown package index "
            "(expected one of one, two, found 'five')",
            "runtimes[0].package_indexes.torch: unknown package index "
            "(expected one of one, two, found 'oen'); did you mean 'one'?",
            "runtimes[0].package_indexes.\"a b\": not the name of a distribution (found 'a b')",
            "runtimes[0].priority_indexes[0]: unknown package index "
            "(expected one of one, two, found 'three')",
        ],
    ),
    "one distribution by two names": Case(
        RUNTIME + "package_indexes = {A_b = 'one', a-b = 'one'}\n" + INDEXES,
        ["runtimes[0].package_indexes.a-b: a-b is named already (found 'a-b')"],
    ),
    "other index than below": Case(
        RUNTIME
        + "package_indexes = {torch = 'one'}\n"
        + FRAMEWORK
        + "package_indexes = {Torch = 'two'}\n"
        + INDEXES,
        [
            "frameworks[0].package_indexes.Torch: a lower layer takes torch from another index, "
            "one (found 'two'); index_overrides = { one = \"two\" } accepts two"
        ],
    ),
    "frameworks with different indexes": Case(
        RUNTIME
        + FRAMEWORK.replace("base", "a")
        + "package_indexes = {torch = 'one'}\n"
        + FRAMEWORK.replace("base", "b")
        + "package_indexes = {torch = 'two'}\n"
        + framework("x", "a", "b")
        + INDEXES,
        [
            "frameworks[2]: lower layers take torch from different indexes, one and two; "
            'index_overrides = { two = "one" } accepts one'
        ],
    ),
    # Settings of uv.
    "index": Case(
        ALL
        + "[[tool.uv.index]]\nnam = 'one'\nurl = 'https://u:secret@'\nformat = 'flut'\n"
        + "[[tool.uv.index]]\nname = 'a b'\nexplicit = true\nauthenticate = 'allways'\n"
        + "[[tool.uv.index]]\nexplicit = true\nurl = 'nowhere/simple'\n"
        + "ignore-error-codes = [403]\n",
        [
            f"tool.uv.index[0].url: not an address ({ADDRESS}, found 'https://***@')",
            "tool.uv.index[0].format: unknown value (expected one of simple, flat, found 'flut'); "
            "did you mean 'flat'?",
            "tool.uv.index[0].nam: unknown key; did you mean 'name'?",
            "tool.uv.index[1].name: not a name for a package index "
            "(expected letters, digits, '-', '_' and '.', found 'a b')",
            "tool.uv.index[1].url: missing (expected a string)",
            "tool.uv.index[1].authenticate: unknown value (expected one of auto, always, never, "
            "found 'allways'); did you mean 'always'?",
            "tool.uv.index[2].url: neither an address nor a directory that exists "
            "(found 'nowhere/simple')",
            "tool.uv.index[2].ignore-error-codes: not supported yet",
            "tool.uv.index[2]: an explicit index without a name, so nothing can refer to it",
        ],
    ),
    "two indexes of one name, two defaults": Case(
        ALL
        + INDEXES
        + "default = true\n[[tool.uv.index]]\nname = 'one'\nurl = 'http://h'\n"
        + "[[tool.uv.index]]\ndefault = true\nurl = 'http://h:80/x'\n",
        [
            "tool.uv.index[2].name: another index has this name (found 'one')",
            "tool.uv.index[3].default: another index is the default",
        ],
    ),
    "sources": Case(
        ALL
        + INDEXES
        + "[tool.uv.sources]\ntorch = {index = 'thre'}\nTorch = {index = 'one'}\n"
        + "a = {git = 'https://h/a', lfs = true}\nb = {}\nc = [{index = 'one'}]\n"
        + "d = {index = 'one', marker = \"sys_platform == 'linux'\"}\n"
        + "e = {url = 'https://h/e-1.tar.gz', subdirectory = 'e'}\n",
        [
            "tool.uv.sources.torch.index: unknown package index "
            "(expected one of one, two, found 'thre')",
            "tool.uv.sources.Torch: torch is named already (found 'Torch')",
            "tool.uv.sources.a.lfs: not supported yet; a source can have index, path, workspace, "
            "git, url",
            "tool.uv.sources.b.index: missing (expected one of index, path, workspace, git, url)",
            f"tool.uv.sources.c: several sources are not supported; {BY_PLATFORM}",
            f"tool.uv.sources.d.marker: not supported; {BY_PLATFORM}",
            "tool.uv.sources.e.subdirectory: not supported with url; name the repository of the"
            " archive with `git`",
        ],
    ),
    "settings": Case(
        ALL
        + "[tool.uv]\nexclude-newer = '2025-10-19T00:00:00'\nresolution = 'lowst'\nno-build = 1\n"
        + "find-links = []\nfork-strategy = 'fewest'\nprerelase = 'allow'\nlink-mode = 'copy'\n"
        + "no-binary = true\nconfig-settings = {}\noverride-dependencies = ['a b']\n"
        + "dependency-metadata = [{nam = 'x'}]\n"
        + "exclude-newer-package = {torch = 2025-10-19T00:00:00Z, b = '2025-13-01T00:00:00Z'}\n",
        [
            "tool.uv.exclude-newer: not a date, a time with a UTC offset, or a duration "
            f"({MOMENT}, found '2025-10-19T00:00:00')",
            "tool.uv.exclude-newer-package.torch: wrong type "
            "(expected a string, found a date or time)",
            "tool.uv.exclude-newer-package.b: not a date, a time with a UTC offset, or a duration "
            f"({MOMENT}, found '2025-13-01T00:00:00Z')",
            "tool.uv.resolution: unknown value (expected one of highest, lowest, lowest-direct, "
            "found 'lowst'); did you mean 'lowest'?",
            "tool.uv.dependency-metadata[0].name: missing (expected a string)",
            "tool.uv.dependency-metadata[0].nam: unknown key; did you mean 'name'?",
            "tool.uv.override-dependencies[0]: not a requirement: Expected semicolon (after name "
            f"with no version specifier) or end ({REQUIREMENT}, found 'a b')",
            "tool.uv.no-build: wrong type (expected true or false, found 1)",
            "tool.uv.no-binary: not supported: no runtime can build all of its distributions "
            "(found true); name them in no-binary-package",
            "tool.uv.config-settings: not supported yet; "
            "write it for each distribution as `build-wheel` in [tool.stackbuild.shared]",
            "tool.uv.find-links: not supported yet; "
            "write it as [[tool.uv.index]] with format = 'flat'",
            "tool.uv.prerelase: unknown key; did you mean 'prerelease'?",
        ],
    ),
    "contradictory settings": Case(
        ALL
        + "[tool.uv]\nexclude-newer = '9999999 days'\n"
        + "override-dependencies = ['a==1', 'A==1', 'a==2', 'a==3; python_version > \"3\"']\n"
        + "dependency-metadata = [{name = 'x', version = 'one'}, {name = 'x-y', version = '1'},"
        + " {name = 'X_y', version = '1.0', requires-python = 'three', provides-extra = ['b c']}]\n"
        + "exclude-newer-package = {b = '9999-12-31'}\n",
        [
            "tool.uv.exclude-newer: not a date, a time with a UTC offset, or a duration "
            f"({MOMENT}, found '9999999 days')",
            "tool.uv.exclude-newer-package.b: not a date, a time with a UTC offset, or a duration "
            f"({MOMENT}, found '9999-12-31')",
            "tool.uv.dependency-metadata[0].version: not a version "
            "(expected one such as 2.7.0, found 'one')",
            "tool.uv.dependency-metadata[2].requires-python: not versions of Python "
            "(expected such as >=3.9, found 'three')",
            "tool.uv.dependency-metadata[2].provides-extra[0]: not the name of an extra "
            "(found 'b c')",
            "tool.uv.dependency-metadata[2]: tool.uv.dependency-metadata[1] has this name and "
            "version (found 'x-y 1.0'); remove one of the two",
            "tool.uv.override-dependencies[2]: a is overridden with ==1 already (found '==2')",
        ],
    ),
    "addresses in settings of uv": Case(
        ALL
        + "[tool.uv]\n"
        + "constraint-dependencies = ['a @ git+https://a.invalid/a']\n"
        + "override-dependencies = ['b', 'c @ git+https://a.invalid/c']\n"
        + "dependency-metadata = [{name = 'd', requires-dist = ['e @ git+https://a.invalid/e']}]\n",
        [
            f"tool.uv.{place}: an address is supported in the requirements of a layer only "
            "(expected a requirement without an address, "
            f"found '{name} @ git+https://a.invalid/{name}'); "
            "write it in `requirements` of the layer that needs it"
            for place, name in (
                ("constraint-dependencies[0]", "a"),
                ("dependency-metadata[0].requires-dist[0]", "e"),
                ("override-dependencies[1]", "c"),
            )
        ],
    ),
    "overrides in two tables": Case(
        ALL
        + "[tool.uv]\noverride-dependencies = ['a==1', 'b==1', 'c; python_version > \"3\"']\n"
        + "[tool.stackbuild.shared]\noverrides = {A = '2', b = '1'}\n"
        + "[tool.stackbuild.layers.app]\noverrides = {a = '3', C = '2'}\n",
        [
            "tool.stackbuild.shared.overrides.A: a is overridden in"
            " tool.uv.override-dependencies[0] already (expected ==1, found '==2'); remove one of"
            " the two",
            "tool.stackbuild.layers.app.overrides.C: c is overridden in"
            ' tool.uv.override-dependencies[2] already (expected c; python_version > "3",'
            " found '==2'); remove one of the two",
        ],
    ),
    # [tool.stackbuild]
    "keys of our own": Case(
        ALL
        + "[tool.stackbuild]\nplatforms = []\nshared = {}\nframe = {}\n"
        + "frames = {level = 23, bytecode = 1, levl = 2}\n",
        [
            "tool.stackbuild.platforms: empty (expected at least one platform)",
            "tool.stackbuild.frames.level: out of range "
            "(expected a whole number from 1 to 22, found 23)",
            "tool.stackbuild.frames.bytecode: wrong type (expected true or false, found 1)",
            "tool.stackbuild.frames.levl: unknown key; did you mean 'level'?",
            "tool.stackbuild.frame: unknown key; did you mean 'frames'?",
        ],
    ),
    "level is no number": Case(
        ALL + "[tool.stackbuild.frames]\nlevel = true\n",
        [
            "tool.stackbuild.frames.level: wrong type "
            "(expected a whole number from 1 to 22, found true)"
        ],
    ),
    "platform without layers": Case(
        ALL.replace("requirements", "platforms = ['linux-x64']\nrequirements", 1)
        + "[tool.stackbuild]\nplatforms = ['linux-x64', 'windows-aarch64']\n",
        [
            "tool.stackbuild.platforms[1]: no layer is made for windows-aarch64; "
            "add it to `platforms` of the layers"
        ],
    ),
    "unknown layer": Case(
        ALL + "[tool.stackbuild.layers.apq]\n[tool.stackbuild.layers.'zz.1']\n",
        [
            "tool.stackbuild.layers.apq: no layer has this name; did you mean 'app'?",
            'tool.stackbuild.layers."zz.1": no layer has this name',
        ],
    ),
    "settings of a layer that depends on no layer": Case(
        RUNTIME + APPLICATION + OWN + "platforms = []\nplatform-specific.win_arm64.x = 1\n",
        [
            "applications[0].frameworks[0]: unknown framework "
            "(expected the name of a framework, found 'base')",
            "tool.stackbuild.layers.app.platform-specific.win_arm64.x: unknown key "
            "(expected one of allow-import-errors, build, copy-files, dependencies, environment, "
            "exclude-files, "
            "resolution)",
            "tool.stackbuild.layers.app.platforms: unknown key; did you mean 'platform-specific'?",
        ],
    ),
    "settings of a runtime elsewhere": Case(
        ALL + OWN + "sources = ['pbs']\n",
        ["tool.stackbuild.layers.app.sources: only for a runtime, and app is not one"],
    ),
    "settings of a runtime": Case(
        ALL
        + OWN_RUNTIME
        + "sources = ['pbz', 'local', 'local']\nkeep = ['pyp']\nmirror = 'mirror'\n"
        + "downloads.win_arm64.url = 'https://h/x'\n"
        + "[tool.stackbuild.layers.py.downloads.linux-x64]\nurl = 'ftp://h/x'\nsha256 = 'abc'\n"
        + "[tool.stackbuild.layers.py.downloads.linux_x86_64]\n",
        [
            "tool.stackbuild.layers.py.sources[0]: unknown value "
            "(expected one of pbs, local, found 'pbz'); did you mean 'pbs'?",
            "tool.stackbuild.layers.py.sources[2]: named twice (found 'local')",
            "tool.stackbuild.layers.py.downloads.win_arm64.sha256: missing (expected a string)",
            "tool.stackbuild.layers.py.downloads.linux-x64.url: not an address "
            f"({ADDRESS}, found 'ftp://h/x')",
            "tool.stackbuild.layers.py.downloads.linux-x64.sha256: not a sha256 "
            "(expected 64 hexadecimal digits, found 'abc')",
            "tool.stackbuild.layers.py.downloads.linux_x86_64: linux-x64 is named already "
            "(found 'linux_x86_64')",
            f"tool.stackbuild.layers.py.mirror: not an address ({ADDRESS}, found 'mirror')",
            "tool.stackbuild.layers.py.keep[0]: unknown value "
            "(expected one of pip, setuptools, wheel, found 'pyp'); did you mean 'pip'?",
        ],
    ),
    "empty download": Case(
        ALL + OWN_RUNTIME + "downloads.linux-x64 = {}\n",
        [
            "tool.stackbuild.layers.py.downloads.linux-x64.url: missing (expected a string)",
            "tool.stackbuild.layers.py.downloads.linux-x64.sha256: missing (expected a string)",
        ],
    ),
    "a port that is none": Case(
        ALL.replace("[]", "['x @ git+https://h:99999/x', 'x @ git+https://[h/x']", 1)
        + OWN_RUNTIME
        + "mirror = 'https://h:99999/x'\n",
        [
            f"runtimes[0].requirements[0]: not a supported address ({DIRECT})",
            f"runtimes[0].requirements[1]: not a supported address ({DIRECT})",
            f"tool.stackbuild.layers.py.mirror: not an address ({ADDRESS}, "
            "found 'https://h:99999/x')",
        ],
    ),
    "no sources": Case(
        ALL + OWN_RUNTIME + "sources = []\n",
        ["tool.stackbuild.layers.py.sources: empty (expected one of pbs, local)"],
    ),
    # Overlays.
    "overlays from": Case(
        ALL
        + OWN
        + """copy-files = [
            { from = "nothing", to = "x" },
            { from = "../py/x", to = "x" },
            { from = "/etc/passwd", to = "x" },
            { from = 'a\\b', to = "x" },
            { from = "file/", to = "x" },
            { from = "link", to = "x" },
            { form = "file", to = "x" },
        ]\n""",
        [
            "tool.stackbuild.layers.app.copy-files[0].from: does not exist in overlays/app/ "
            "(found 'nothing')",
            "tool.stackbuild.layers.app.copy-files[1].from: leaves overlays/app/ "
            "(expected a path without .., found '../py/x')",
            "tool.stackbuild.layers.app.copy-files[2].from: an absolute path "
            "(expected one relative to overlays/app/, found '/etc/passwd')",
            "tool.stackbuild.layers.app.copy-files[3].from: a backslash "
            "(expected / between directories, found 'a\\\\b')",
            "tool.stackbuild.layers.app.copy-files[4].from: not a directory in overlays/app/ "
            "(found 'file/')",
            "tool.stackbuild.layers.app.copy-files[5].from: leads out of overlays/app/ through "
            "a link (found 'link')",
            "tool.stackbuild.layers.app.copy-files[6].from: missing (expected a string)",
            "tool.stackbuild.layers.app.copy-files[6].form: unknown key; did you mean 'from'?",
        ],
    ),
    "overlays with a pattern": Case(
        ALL
        + OWN
        + """copy-files = [
            { from = "nothing/*.so", to = "x" },
            { from = "../*", to = "x" },
            { from = "file/*", to = "x" },
            { from = "**/*.so", to = "x", include-ignored = 1 },
        ]\n""",
        [
            "tool.stackbuild.layers.app.copy-files[0].from: does not exist in overlays/app/ "
            "(found 'nothing/*.so')",
            "tool.stackbuild.layers.app.copy-files[1].from: leaves overlays/app/ "
            "(expected a path without .., found '../*')",
            "tool.stackbuild.layers.app.copy-files[2].from: not a directory in overlays/app/ "
            "(found 'file/*')",
            "tool.stackbuild.layers.app.copy-files[3].include-ignored: wrong type "
            "(expected true or false, found 1)",
        ],
    ),
    "overlays in a directory outside": Case(
        ALL.replace('"app"', '"one"'),
        ["overlays/one/: leads out of the project through a link"],
    ),
    "modules outside": Case(
        ALL
        + "launch_module = 'linked.py'\n"
        + "support_modules = ['linked', '../OUTSIDE/linked', '../link/package']\n",
        [
            "applications[0].launch_module: the module 'linked.py' of app leads out "
            f"of the project ({IN_PROJECT}); copy the module into the project",
            "applications[0].support_modules[0]: the module 'linked' of app leads out "
            f"of the project ({IN_PROJECT}); copy the module into the project",
            "applications[0].support_modules[1]: the module '../OUTSIDE/linked' of app leads out "
            f"of the project ({IN_PROJECT}); copy the module into the project",
            "applications[0].support_modules[2]: the module '../link/package' of app leads out "
            f"of the project ({IN_PROJECT}); copy the module into the project",
        ],
    ),
    "overlays to": Case(
        ALL
        + OWN
        + """copy-files = [
            { from = "file", to = "../x" },
            { from = "file", to = "{site-packages}/../../../x" },
            { from = "file", to = "C:/x" },
            { from = "file", to = "{sitepackages}/x" },
            { from = "file", to = "lib/{site-packages}" },
            { from = "file", to = "{site-packages}x" },
            { from = "file", to = "x", overwrite = "yes" },
        ]\n""",
        [
            "tool.stackbuild.layers.app.copy-files[0].to: leaves the layer "
            "(expected a path without .., found '../x')",
            "tool.stackbuild.layers.app.copy-files[1].to: leaves the layer "
            "(expected a path without .., found '../../../x')",
            "tool.stackbuild.layers.app.copy-files[2].to: an absolute path "
            "(expected one relative to the layer, found 'C:/x')",
            "tool.stackbuild.layers.app.copy-files[3].to: unknown placeholder, or one that is "
            "not at the beginning (expected {site-packages} at the beginning, or none, "
            "found '{sitepackages}/x'); did you mean '{site-packages}'?",
            "tool.stackbuild.layers.app.copy-files[4].to: unknown placeholder, or one that is "
            "not at the beginning (expected {site-packages} at the beginning, or none, "
            "found 'lib/{site-packages}'); did you mean '{site-packages}'?",
            "tool.stackbuild.layers.app.copy-files[5].to: no / after {site-packages} "
            "(found '{site-packages}x')",
            "tool.stackbuild.layers.app.copy-files[6].overwrite: wrong type "
            "(expected true or false, found 'yes')",
        ],
    ),
    "overlays for platforms": Case(
        ALL.replace("[[frameworks]]", "platforms = ['linux-x64']\n[[frameworks]]")
        + OWN
        + "[tool.stackbuild.layers.app.platform-specific.win_amd64]\n"
        + "[tool.stackbuild.layers.app.platform-specific.linux]\n"
        + "[tool.stackbuild.layers.app.platform-specific.linux-x64]\ncopy_files = []\n",
        [
            "tool.stackbuild.layers.app.platform-specific.win_amd64: "
            "app is not made for windows-x64",
            "tool.stackbuild.layers.app.platform-specific.linux: unknown platform "
            f"(expected one of {PLATFORMS}, found 'linux'); did you mean 'linux-x64'?",
            "tool.stackbuild.layers.app.platform-specific.linux-x64.copy_files: unknown key; "
            "did you mean 'copy-files'?",
        ],
    ),
    # Modules.
    "launch module": Case(
        ALL + "launch_module = 'zz.py'\n",
        [
            "applications[0].launch_module: the module 'zz.py' of app does not exist "
            f"({MODULE}); {CREATE}"
        ],
    ),
    "misspelt launch module": Case(
        ALL + "launch_module = 'modul.py'\n",
        [
            "applications[0].launch_module: the module 'modul.py' of app does not exist "
            f"({MODULE}); did you mean 'module.py'?"
        ],
    ),
    "modules from elsewhere": Case(
        ALL + f"launch_module = '{__file__}'\nsupport_modules = ['{'b' * 300}']\n",
        [
            f"applications[0].launch_module: the module {shown(__file__)} of app has an absolute "
            "path (expected a relative path); write it relative to the directory of this file",
            f"applications[0].support_modules[0]: the module '{'b' * 68}… of app cannot be read "
            f"(File name too long) ({MODULE}); {CREATE}",
        ],
    ),
    "launch package without __main__": Case(
        ALL + "launch_module = 'package'\n",
        [
            "applications[0].launch_module: the package of app has no __main__.py, which "
            "`python -m` runs (expected the file package/__main__.py); create it, or name a .py "
            "file"
        ],
    ),
    "modules": Case(
        ALL
        + "launch_module = 'notes.txt'\n"
        + "support_modules = ['not-a-name.py', 'Module.py', 'other/module.py', 'sitecustomize.py',"
        + " '.', 'module.py/x']\n",
        [
            "applications[0].launch_module: the module 'notes.txt' of app is not a module "
            f"({MODULE}); name another file, or copy it with `copy-files`",
            "applications[0].support_modules[0]: the module 'not-a-name.py' of app has a name "
            f"that cannot be imported ({IMPORTABLE}); rename it",
            "applications[0].support_modules[2]: applications[0].support_modules[1] of app has the "
            f"same module name ({OTHER_NAME}, found 'other/module.py'); rename one of the two",
            "applications[0].support_modules[3]: the module 'sitecustomize.py' of app has the name "
            "sitecustomize, which is reserved by stackbuild; rename it",
            "applications[0].support_modules[4]: the module '.' of app has a name that cannot be "
            f"imported ({IMPORTABLE}); rename it",
            "applications[0].support_modules[5]: the module 'module.py/x' of app does not exist "
            f"({MODULE}); {CREATE}",
        ],
    ),
    "support module with the name of the launch module": Case(
        ALL + "launch_module = 'module.py'\nsupport_modules = ['other/module.py']\n",
        [
            "applications[0].support_modules[0]: applications[0].launch_module of app has the same "
            f"module name ({OTHER_NAME}, found 'other/module.py'); rename one of the two",
        ],
    ),
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with the files that the cases refer to."""
    outside = tmp_path / "OUTSIDE"
    tmp_path /= "project"
    overlays = tmp_path / "overlays" / "app"
    overlays.mkdir(parents=True)
    (overlays / "file").touch()
    (overlays / "link").symlink_to("../../notes.txt")
    (outside / "package").mkdir(parents=True)
    (outside / "secret.py").write_text("")
    (outside / "package/__main__.py").write_text("")
    (outside / "linked").symlink_to("package")
    (outside.parent / "link").symlink_to("OUTSIDE")
    (tmp_path / "linked.py").symlink_to(outside / "secret.py")
    (tmp_path / "linked").symlink_to(outside / "package")
    (tmp_path / "overlays/one").symlink_to(outside)
    (tmp_path / "package").mkdir()
    (tmp_path / "other").mkdir()
    for name in ("notes.txt", "Module.py", "not-a-name.py", "other/module.py", "sitecustomize.py"):
        (tmp_path / name).touch()
    (tmp_path / "module.py").touch()
    return tmp_path


# pytest escapes other characters of ids, and then finds the test only once in a process.
IDS = [re.sub(r"[^ -\[\]-~]", "?", name) for name in CASES]


@pytest.mark.parametrize("case", CASES.values(), ids=IDS)
def test_messages(project: Path, case: Case) -> None:
    assert problems_of(project, case.spec) == case.messages


PROJECT_FORM = "expected a directory with a pyproject.toml, relative to this file"


def test_projects_of_the_repository(tmp_path: Path) -> None:
    project = tmp_path / "stack"
    (project / "empty").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    for name, text in {
        "good": '[project]\nname = "Good"\n',
        "damaged": "[project\n",
        "old": "",
    }.items():
        (project / name).mkdir()
        (project / name / ("setup.py" if name == "old" else "pyproject.toml")).write_text(text)
    (project / "link").symlink_to("../outside")
    (project / "pyproject.toml").write_text('[tool.uv.workspace]\nmembers = ["g*"]\n')
    found = problems_of(
        project,
        RUNTIME.replace(
            "[]", "['a @ file:good', 'b @ file:/abs', 'c @ file:./none', 'd @ file:old']"
        )
        + "[tool.uv.sources]\ngood = { path = 'good', editable = false }\n"
        "e = { path = 'empty' }\nf = { path = 'link' }\ng = { path = 'damaged' }\n"
        "h = { path = '/abs' }\ni = { workspace = true }\nGOOD2 = { workspace = true }\n"
        "j = { path = 'good', workspace = true }\nk = { path = 'old', editable = true }\n"
        "l = { path = 'good/pyproject.toml' }\n"
        + OWN_RUNTIME
        + "platform-specific.linux-x64.dependencies = ['m @ file:empty']\n",
    )
    assert found == [
        f"tool.uv.sources.e.path: not a project: it has no pyproject.toml ({PROJECT_FORM}, "
        "found 'empty')",
        "tool.uv.sources.f.path: leads out of the project (expected a path in the directory of "
        "this file, or one with .. in its git work tree, found 'link')",
        f"tool.uv.sources.g.path: {project}/damaged/pyproject.toml is not TOML: Expected ']' at "
        "the end of a table declaration (at line 1, column 9) (found 'damaged')",
        "tool.uv.sources.h.path: an absolute path, which other machines do not have "
        f"({PROJECT_FORM}, found '/abs')",
        f"tool.uv.sources.i.workspace: no member of the workspace in {project}/pyproject.toml has "
        "this name (expected one of good, found 'i')",
        f"tool.uv.sources.GOOD2.workspace: no member of the workspace in {project}/pyproject.toml "
        "has this name (expected one of good, found 'good2'); did you mean 'good'?",
        "tool.uv.sources.j: has several sources (expected one of them)",
        "tool.uv.sources.k.editable: not supported: a layer has a copy of the project; remove it",
        f"tool.uv.sources.l.path: not a directory ({PROJECT_FORM}, found 'good/pyproject.toml')",
        f"runtimes[0].requirements[1]: not a supported address ({DIRECT})",
        "runtimes[0].requirements[0]: contains another distribution, good (expected a project "
        "named a, found 'good')",
        f"runtimes[0].requirements[2]: does not exist ({PROJECT_FORM}, found 'none')",
        "tool.stackbuild.layers.py.platform-specific.linux-x64.dependencies[0]: not a project: it "
        f"has no pyproject.toml ({PROJECT_FORM}, found 'empty')",
    ]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("project = 'x'\ntool = 1", "there is no workspace"),
        ("tool.uv = 1", "there is no workspace"),
        ("project = []\ntool.uv.workspace = {}", "no member of the workspace in "),
        ("tool.uv.workspace.members = ['/libs/*']", "`members` of [tool.uv.workspace] in "),
        ("tool.uv.workspace.members = ['']", "`members` of [tool.uv.workspace] in "),
        ("tool.uv.workspace.members = [1]", "`members` of [tool.uv.workspace] in "),
        ("tool.uv.workspace.members = 'libs'", "`members` of [tool.uv.workspace] in "),
        ("tool.uv.workspace.exclude = 1", "`exclude` of [tool.uv.workspace] in "),
    ],
)
def test_a_workspace_in_another_form(tmp_path: Path, text: str, wrong: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    sources = "[tool.uv.sources]\na = { workspace = true }\n"
    (found,) = problems_of(tmp_path, RUNTIME.replace("[]", "['a']") + sources)
    assert found.startswith(f"tool.uv.sources.a.workspace: {wrong}")


def test_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_spec(tmp_path, RUNTIME)
    assert main(["show", "--spec", str(tmp_path / "venvstack.toml")]) == 3
    assert capsys.readouterr().err == (
        f"error: {tmp_path}/venvstack.toml has 1 problem\n"
        "  the file does not exist; did you mean 'venvstacks.toml'?\n"
        "  to fix: name the file of the stack with --spec FILE\n"
    )


def test_directory_instead_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_spec(tmp_path, RUNTIME)
    assert main(["show", "--spec", str(tmp_path)]) == 3
    path = tmp_path / "venvstacks.toml"
    assert capsys.readouterr().err == (
        f"error: {tmp_path} has 1 problem\n"
        f"  this is a directory; name the file in it: {quoted(path)}\n"
        "  to fix: name the file of the stack with --spec FILE\n"
    )
    # As the message says.
    assert main(["show", "--spec", str(path)]) == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_named_pipe_instead_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "venvstacks.toml"
    os.mkfifo(path)
    assert main(["show", "--spec", str(path)]) == 3
    assert capsys.readouterr().err == (
        f"error: {path} has 1 problem\n"
        "  the file cannot be read (it is a named pipe and not a regular file)\n"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"# \xff\n", "not text in UTF-8 (found byte 0xff at offset 2)"),
        (b"x = " + b"[" * 100_000, "cannot be read as TOML: "),
        (b"x = " + b"9" * 10_000, "cannot be read as TOML: "),
        (
            b"\xef\xbb\xbfx = 1",
            "line 1, column 1: not TOML: Invalid statement; "
            "save the file without its byte order mark",
        ),
    ],
    ids=["bytes", "deep", "long", "byte order mark"],
)
def test_unreadable_content(
    tmp_path: Path, content: bytes, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "venvstacks.toml"
    path.write_bytes(content)
    assert main(["show", "--spec", str(path)]) == 3
    assert capsys.readouterr().err.startswith(f"error: {path} has 1 problem\n  {message}")


def test_settings_of_uv_in_two_places(tmp_path: Path) -> None:
    (tmp_path / "venvstacks.uv.toml").write_text("resolution = 'highest'\n")
    assert problems_of(tmp_path, ALL, "[tool.uv]\n") == [
        "tool.uv: venvstacks.uv.toml beside this file has settings as well "
        "(expected one of the two)"
    ]


def test_settings_of_uv_beside_the_spec(tmp_path: Path) -> None:
    (tmp_path / "venvstacks.uv.toml").write_text("resolution = 'x'\n[[index]]\n")
    assert problems_of(tmp_path, ALL) == [
        "venvstacks.uv.toml: index[0].url: missing (expected a string)",
        "venvstacks.uv.toml: resolution: unknown value "
        "(expected one of highest, lowest, lowest-direct, found 'x')",
    ]


def test_syntax_error_beside_the_spec(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "venvstacks.uv.toml").write_text("[[index]\n")
    assert main(["show", "--spec", str(write_spec(tmp_path, ALL))]) == 3
    assert capsys.readouterr().err == (
        f"error: {tmp_path}/venvstacks.uv.toml has 1 problem\n"
        "  line 1, column 8: not TOML: Expected ']]' at the end of an array declaration\n"
    )


@pytest.mark.parametrize("is_address", [False, True])
def test_a_directory_of_wheels_is_a_flat_index(tmp_path: Path, is_address: bool) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "a-1-py3-none-any.whl").touch()
    url = wheels.as_uri() if is_address else "wheels"
    index = f"[[tool.uv.index]]\nurl = '{url}'\n"
    assert problems_of(tmp_path, ALL + index) == [
        "tool.uv.index[0].url: the directory contains files of distributions, as a flat index does "
        "(expected a directory with an index.html for each distribution, "
        "found 'a-1-py3-none-any.whl'); add format = 'flat'"
    ]
    load_stack(write_spec(tmp_path, ALL + index + "format = 'flat'\n"))
    (wheels / "a").mkdir()
    (wheels / "a" / "index.html").touch()
    load_stack(write_spec(tmp_path, ALL + index))


@pytest.mark.parametrize("place", [".git/m.py", "link/m.py", "../top/.git/m.py"])
def test_modules_in_the_directory_of_git(tmp_path: Path, place: str) -> None:
    top = tmp_path / "top"
    (top / ".git").mkdir(parents=True)
    (top / ".git" / "m.py").touch()
    (top / "link").symlink_to(".git")
    assert problems_of(top, ALL + f"launch_module = '{place}'\n") == [
        f"applications[0].launch_module: the module '{place}' of app is in the directory of git, "
        "which is never published; move it elsewhere"
    ]
