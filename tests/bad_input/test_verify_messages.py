"""What is said about bad input to `verify`, and to the fields of a spec that it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stackbuild.errors import SpecError
from stackbuild.platforms import Platform, host_platform
from stackbuild.spec.model import Catalogue
from stackbuild.spec.reader import load_stack
from tests.support.publish import publisher
from tests.support.roots import fail, succeed

if TYPE_CHECKING:
    from pathlib import Path

SPEC = """\
[[runtimes]]
name = "cpython"
python_implementation = "cpython@3.12.10"
requirements = []

[[applications]]
name = "app"
runtime = "cpython"
requirements = []

[tool.stackbuild.layers.app]
"""


def problems(directory: Path, text: str) -> list[str]:
    path = directory / "venvstacks.toml"
    path.write_text(SPEC + text)
    with pytest.raises(SpecError) as caught:
        load_stack(path)
    return [str(problem) for problem in caught.value.problems]


APP = "tool.stackbuild.layers.app"
CATALOGUE = f"{APP}.catalogue"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("catalogue.version = 3", f"{CATALOGUE}.version: wrong type (expected a string, found 3)"),
        ('catalogue.version = ""', f"{CATALOGUE}.version: empty (expected some text)"),
        (
            "catalogue.name = 'a'",
            f"{CATALOGUE}.name: unknown key (expected one of deprecated, description, "
            "superseded-by, title, version)",
        ),
        ("version = '1'", f"{APP}.version: belongs in [{CATALOGUE}]"),
        (
            "catalogue.deprecated = true",
            f"{CATALOGUE}.deprecated: wrong type (expected a string, found true)",
        ),
        (
            'catalogue.superseded-by = "ap"',
            f"{CATALOGUE}.superseded-by: no such layer (found 'ap')",
        ),
        (
            'catalogue.superseded-by = "cpyton"',
            f"{CATALOGUE}.superseded-by: no such layer (found 'cpyton'); did you mean 'cpython'?",
        ),
        (
            'catalogue.superseded-by = "app"',
            f"{CATALOGUE}.superseded-by: a layer cannot supersede itself (found 'app')",
        ),
        (
            'catalogue.superseded-by = "cpython"\n'
            '[tool.stackbuild.layers.cpython]\ncatalogue.superseded-by = "app"',
            "tool.stackbuild.layers.cpython.catalogue.superseded-by: layers supersede each other "
            "(found 'cpython -> app -> cpython')",
        ),
        ("verify = 1", f"{APP}.verify: wrong type (expected a table, found 1)"),
        (
            "verify.skip-module = []",
            f"{APP}.verify.skip-module: unknown key; did you mean 'skip-modules'?",
        ),
        (
            "verify.skip-modules = [1]",
            f"{APP}.verify.skip-modules[0]: wrong type (expected a string, found 1)",
        ),
        (
            'verify.host-libraries = "libGL.so.1"',
            f"{APP}.verify.host-libraries: wrong type (expected an array of strings, "
            "found 'libGL.so.1')",
        ),
        (
            "verify.allow-paths = ['/home/x/*', 1]",
            f"{APP}.verify.allow-paths[1]: wrong type (expected a string, found 1)",
        ),
        (
            "verify.time-limit = 0",
            f"{APP}.verify.time-limit: out of range (expected a whole number from 1 to 3600, "
            "found 0)",
        ),
        (
            'verify.environment = { "A B" = "1" }',
            f'{APP}.verify.environment."A B": not the name of an environment variable '
            "(found 'A B')",
        ),
        (
            "verify.environment = { A = 1 }",
            f"{APP}.verify.environment.A: wrong type (expected a string, found 1)",
        ),
    ],
)
def test_bad_values_in_the_spec(tmp_path: Path, text: str, message: str) -> None:
    assert problems(tmp_path, text) == [message]


def test_good_values_in_the_spec(tmp_path: Path) -> None:
    path = tmp_path / "venvstacks.toml"
    path.write_text(
        SPEC + 'catalogue = { title = "App", description = "An application", version = "1.2", '
        'deprecated = "old", superseded-by = "cpython" }\n'
        'verify = { skip-modules = ["a.*"], host-libraries = ["libX*"], '
        'allow-paths = ["/home/x/*"], environment = { A = "1" }, time-limit = 5 }\n'
    )
    layer = load_stack(path).layers["app"]
    assert layer.catalogue == Catalogue(
        title="App",
        description="An application",
        version="1.2",
        deprecated="old",
        superseded_by="cpython",
    )
    assert layer.checks.skip_modules == ("a.*",)
    assert layer.checks.host_libraries == ("libX*",)
    assert layer.checks.allow_paths == ("/home/x/*",)
    assert layer.checks.environment == {"A": "1"}
    assert layer.checks.time_limit == 5


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = publisher(tmp_path)
    made.stack()
    succeed("install", "atls", "--from", made.directory, "--root", tmp_path / "root")
    return tmp_path / "root"


@pytest.mark.parametrize("mode", [(), ("--installed",)])
def test_another_platform_than_the_roots(root: Path, mode: tuple[str, ...]) -> None:
    assert fail(2, "verify", *mode, "--root", root, "--platform", "windows-aarch64") == (
        f"error: {root} contains layers for {host_platform()}\n"
        f"  platform: {Platform.WINDOWS_AARCH64}\n"
        "  to fix: choose a root for that platform\n"
    )


@pytest.mark.parametrize("mode", [(), ("--installed",)])
def test_a_root_in_place_of_a_layer(root: Path, mode: tuple[str, ...]) -> None:
    remedy = f"stackbuild verify --root {root}"
    assert fail(2, "verify", *mode, str(root)) == (
        f"error: {str(root)!r} is taken as the name of a layer, and is a path\n"
        f"  to fix: to check the layers in a root: {remedy}\n"
    )
    succeed("verify", "--installed", *remedy.split()[2:])


def test_a_layer_in_place_of_a_root(root: Path) -> None:
    assert fail(8, "repair", root / "web") == (
        f"error: {str(root / 'web')!r} is taken as a root, and is a path in one\n"
        f"  to fix: to repair all layers of that root: stackbuild repair {root}\n"
    )
    succeed("repair", root)


@pytest.mark.parametrize("mode", [(), ("--installed",)])
def test_an_empty_directory(tmp_path: Path, mode: tuple[str, ...]) -> None:
    message = fail(8, "verify", *mode, "--root", tmp_path)
    assert message.startswith(f"error: nothing is installed in {tmp_path}\n")


def test_nothing_was_built(tmp_path: Path) -> None:
    spec = tmp_path / "venvstacks.toml"
    assert fail(2, "verify", "--spec", spec) == (
        f"error: nothing was built for {host_platform()} in {tmp_path}\n"
        f"  expected: a root in {tmp_path / 'build' / host_platform()}\n"
        "  to fix: name another root, or make this one: stackbuild build\n"
    )


def test_a_spec_that_was_named_and_is_not_there(root: Path, tmp_path: Path) -> None:
    message = fail(3, "verify", "--root", root, "--spec", tmp_path / "stack.toml")
    assert "the file does not exist" in message
