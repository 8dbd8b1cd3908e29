"""What `stackbuild.api` promises: docs/api.md."""

from __future__ import annotations

import builtins
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tools.api_listing import LISTING, listing

import stackbuild
from stackbuild import api
from stackbuild.api import types

if TYPE_CHECKING:
    from collections.abc import Callable

PUBLIC = {name: getattr(module, name) for module in (api, types) for name in module.__all__}
ELSEWHERE = {
    "Exception",
    "False",
    "Iterator",
    "Literal",
    "Mapping",
    "None",
    "NormalizedName",
    "Path",
    "Protocol",
    "Self",
    "Sequence",
    "StrEnum",
    "True",
    "Version",
}
"""Names of Python, its standard library and packaging."""


def test_a_change_of_the_interface_is_deliberate() -> None:
    assert listing() == LISTING.read_text(encoding="utf-8"), (
        "the interface changed: say so in CHANGELOG.md and run python -m tools.api_listing --write"
    )


def test_signatures_name_only_public_types() -> None:
    text = re.sub(r"'[^' ]*'", "", listing())
    named = {word for word in re.findall(r"\b[A-Z]\w*\b", text) if not word.isupper()}
    assert {word for word in named if "_" not in word} - PUBLIC.keys() - ELSEWHERE == set()


def documented() -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = [
        (name, value)
        for name, value in PUBLIC.items()
        if inspect.isclass(value) or inspect.isfunction(value)
    ]
    for name, value in list(found):
        if inspect.isclass(value) and not issubclass(value, Exception):
            found += [
                (f"{name}.{attribute}", member)
                for attribute, member in vars(value).items()
                if not attribute.startswith("_")
                and (isinstance(member, property | classmethod) or inspect.isfunction(member))
            ]
    return found


@pytest.mark.parametrize(("name", "value"), documented())
def test_every_public_name_is_explained(name: str, value: Any) -> None:
    text = inspect.getdoc(value) or ""
    assert text, name
    assert not text.startswith(f"{name}("), "dataclasses makes such a text where there is none"


def test_errors_that_a_docstring_names_are_public() -> None:
    texts = [inspect.getdoc(value) or "" for _, value in documented()]
    named = {word for text in texts for word in re.findall(r"\b\w+Error\b", text)}
    assert {"LockError", "FetchError"} <= named, "the search finds nothing"
    known = {name for name in dir(builtins) if name.endswith("Error")}
    assert named - PUBLIC.keys() - known == set()


def test_the_page_names_every_function_and_error() -> None:
    page = (LISTING.parent / "api.md").read_text(encoding="utf-8")
    for name, value in inspect.getmembers(api):
        if inspect.isfunction(value):
            assert f"`{name}`" in page, name
        elif inspect.isclass(value) and issubclass(value, api.StackbuildError):
            assert f"| `{name}` | {value.exit_code} |" in page, name
    methods = [name for name, value in vars(api.Project).items() if inspect.isfunction(value)]
    assert [it for it in methods if it[0] != "_" and f"`Project.{it}`" not in page] == []


def _sequences() -> list[tuple[str, str]]:
    """Each public function that takes a sequence, with the parameter."""
    functions = {name: getattr(api, name) for name in api.__all__}
    functions |= {f"Project.{name}": value for name, value in vars(api.Project).items()}
    return [
        (name, parameter.name)
        for name, function in functions.items()
        if inspect.isfunction(function) and "._" not in name
        for parameter in inspect.signature(function).parameters.values()
        if str(parameter.annotation).startswith("Sequence")
    ]


@pytest.mark.parametrize(("name", "parameter"), _sequences())
def test_a_string_is_refused_where_a_sequence_is_needed(
    tmp_path: Path, name: str, parameter: str
) -> None:
    spec = tmp_path / "venvstacks.toml"
    spec.write_text(
        '[[runtimes]]\nname = "r"\npython_implementation = "cpython@3.12.10"\nrequirements = []\n'
    )
    owner = api.Project.load(spec) if name.startswith("Project.") else api
    function = getattr(owner, name.removeprefix("Project."))
    given: dict[str, Any] = {"layers": ["r"], "registry": tmp_path, "root": tmp_path}
    given |= {"directory": tmp_path, "layer": "r", "environment": {}, "archive_format": "zip"}
    given |= {"place": tmp_path, "source": tmp_path, "target": tmp_path, "keep": 1}
    given |= {parameter: "r"}
    taken = {
        key: value for key, value in given.items() if key in inspect.signature(function).parameters
    }
    with pytest.raises(api.UsageError, match=f"`{parameter}` is a string") as caught:
        function(**taken)
    assert dict(caught.value.details)["to fix"] == "pass ['r']"


@pytest.mark.parametrize(
    "call",
    [
        api.Project.load,
        lambda directory: api.Project.load(directory / "venvstacks.toml"),
        api.build_root,
        api.import_runenv,
    ],
    ids=["a directory as spec", "a missing spec", "build_root", "import_runenv"],
)
def test_errors_about_a_path_name_no_option(tmp_path: Path, call: Callable[[Path], object]) -> None:
    with pytest.raises(api.StackbuildError) as caught:
        call(tmp_path)
    assert "--" not in str(caught.value)


def test_importing_the_interface_imports_little() -> None:
    code = (
        "import sys; before = {*sys.modules}; import stackbuild.api\n"
        "new = {name for name in sys.modules if name not in before}\n"
        "print(*sorted(name for name in new if name.partition('.')[0] not in "
        "sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = ["api", "api.locking", "api.packing", "api.places", "api.project", "api.roots"]
    ours += ["api.upgrades", "errors", "messages", "platforms", "windows"]
    assert done.stdout.split() == ["stackbuild", *(f"stackbuild.{name}" for name in ours)]


def test_type_checkers_see_the_types() -> None:
    assert (Path(stackbuild.__path__[0]) / "py.typed").is_file()
