"""What is said about a repository that cannot be imported, and where in it the reason stands."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from stackbuild.cli.main import main
from stackbuild.errors import SpecError, UsageError
from stackbuild.importers.runenv.repository import read_repository
from tests.support.runenv import package_json, write_json

if TYPE_CHECKING:
    from pathlib import Path


def repository(
    root: Path, config: object = None, *, shared: object = None, package: object = None
) -> Path:
    """One variant with the given contents."""
    write_json(root / "shared-config.json", {} if shared is None else shared)
    write_json(root / "python-3.12.10-x" / "config.json", {} if config is None else config)
    if package is not None:
        write_json(root / "python-3.12.10-x" / "package.json", package)
    return root


def problems(root: Path) -> list[str]:
    with pytest.raises(SpecError) as caught:
        read_repository(root)
    return [str(problem) for problem in caught.value.problems]


FILE = "python-3.12.10-x/config.json: "


@pytest.mark.parametrize(
    ("packages", "message"),
    [
        (
            {"dependencies": "numpy"},
            "packages.dependencies: wrong type (expected an array of strings, found 'numpy')",
        ),
        (
            {"dependencies": [1]},
            "packages.dependencies[0]: wrong type (expected a string, found 1)",
        ),
        (
            {"dependencies": ["numpy=2"]},
            "packages.dependencies[0]: not a requirement: Expected semicolon (after name with no"
            " version specifier) or end (expected a name and versions, such as 'numpy==2.2.6', or"
            " 'git+https://…@revision', found 'numpy=2')",
        ),
        (
            {"dependencies": ["https://user:secret@example.org/x.whl"]},
            "packages.dependencies[0]: not a requirement: Expected semicolon (after name with no"
            " version specifier) or end (expected a name and versions, such as 'numpy==2.2.6', or"
            " 'git+https://…@revision', found 'https://***@example.org/x.whl')",
        ),
        ({"skip": ["numpy"]}, "packages.skip: wrong type (expected an object, found an array)"),
        (
            {"skip": {"numpy": "why"}},
            "packages.skip.numpy: wrong type (expected an object, found 'why')",
        ),
        (
            {"skip": {"numpy": {"linux-x64": True}}},
            "packages.skip.numpy.linux-x64: wrong type (expected a string, found true)",
        ),
        ({"skip": {"-": {}}}, "packages.skip.-: not the name of a distribution (found '-')"),
        (
            {"forceSource": {"a": {"linux-x64": 3}}},
            "packages.forceSource.a.linux-x64: wrong type (expected a string, found 3)",
        ),
        (
            {"buildWheel": {"a": {"linux-x64": "x"}}},
            "packages.buildWheel.a.linux-x64: wrong type (expected an object, found 'x')",
        ),
        (
            {"buildWheel": {"a": {"linux-x64": {"buildRequires": ["=="]}}}},
            "packages.buildWheel.a.linux-x64.buildRequires[0]: not a requirement: Expected package"
            " name at the start of dependency specifier (expected a name and versions, such as"
            " 'numpy==2.2.6', or 'git+https://…@revision', found '==')",
        ),
        (
            {"buildWheel": {"a": {"linux-x64": {"configSettings": ["fast"]}}}},
            "packages.buildWheel.a.linux-x64.configSettings[0]: not a setting"
            " (expected key=value, found 'fast')",
        ),
        ({"noDeps": ["a b"]}, "packages.noDeps[0]: not the name of a distribution (found 'a b')"),
        (
            {"overrides": {"numpy": "two"}},
            "packages.overrides.numpy: neither a version nor a version specifier"
            " (expected one such as '2.7.0' or '>=2.7,<3', found 'two')",
        ),
        (
            {"overrides": {"numpy": 2}},
            "packages.overrides.numpy: wrong type (expected a string, found 2)",
        ),
        ({"copyFiles": [{"from": "x"}]}, "packages.copyFiles[0].to: missing (expected a string)"),
        (
            {"copyFiles": [{"from": "x", "to": "{sitepackages}/x"}]},
            "packages.copyFiles[0].to: unknown placeholder {sitepackages}"
            " (expected {site-packages}); did you mean '{site-packages}'?",
        ),
        (
            {"copyFiles": [{"from": "x", "to": "{odd}/x"}]},
            "packages.copyFiles[0].to: unknown placeholder {odd} (expected {site-packages})",
        ),
        (
            {
                "buildWheel": {
                    "a": {"linux-x64": {"configSettings": ["x={packageroot}", "y={odd}"]}}
                }
            },
            "packages.buildWheel.a.linux-x64.configSettings: unknown placeholder {packageroot}"
            " (expected {packageRoot}); did you mean '{packageRoot}'?",
        ),
        ({"copyFiles": ["x"]}, "packages.copyFiles[0]: wrong type (expected an object, found 'x')"),
        (
            {"resolution": {"strictMissing": "no"}},
            "packages.resolution.strictMissing: wrong type (expected true or false, found 'no')",
        ),
        (
            {"resolution": {"onlyBinaryList": "numpy"}},
            "packages.resolution.onlyBinaryList: wrong type"
            " (expected an array of strings, found 'numpy')",
        ),
        (
            {"platformSpecific": {"linux-x64": {"dependencies": {}}}},
            "packages.platformSpecific.linux-x64.dependencies: wrong type"
            " (expected an array of strings, found a table)",
        ),
        (
            {"platformSpecific": {"tf": {"linux-x64": {"reason": "x"}}}},
            "packages.platformSpecific.tf.linux-x64.action: missing (expected a string)",
        ),
    ],
)
def test_each_field_of_packages(tmp_path: Path, packages: Any, message: str) -> None:
    assert problems(repository(tmp_path, {"packages": packages})) == [FILE + message]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"packages": []}, "packages: wrong type (expected an object, found an array)"),
        (
            {"build": {"timeout": 0}},
            "build.timeout: out of range (expected a whole number from 1 to 604800, found 0)",
        ),
        (
            {"build": {"enableLogging": 1}},
            "build.enableLogging: wrong type (expected true or false, found 1)",
        ),
        (
            {"registries": {"additional": "here"}},
            "registries.additional: wrong type (expected an array of strings, found 'here')",
        ),
    ],
)
def test_each_other_field(tmp_path: Path, config: Any, message: str) -> None:
    assert problems(repository(tmp_path, config)) == [FILE + message]


def test_all_problems_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    root = repository(tmp_path, {"packages": {"noDeps": "x"}}, shared={"build": 1})
    (root / "python-3.12.10-y").mkdir()
    (root / "python-3.12.10-y" / "config.json").write_text("{,}")
    write_json(root / "python-3.12.10-z" / "config.json", [])
    assert problems(root) == [
        "python-3.12.10-y/config.json: not JSON: Expecting property name enclosed in double"
        " quotes: line 1 column 2 (char 1)",
        "python-3.12.10-z/config.json: not an object (found an array)",
        "shared-config.json: build: wrong type (expected an object, found 1)",
        "python-3.12.10-x/config.json: packages.noDeps: wrong type"
        " (expected an array of strings, found 'x')",
    ]


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    root = repository(tmp_path)
    (root / "shared-config.json").write_bytes(b"\xff\xfe{")
    (text,) = problems(root)
    assert text.startswith(
        "shared-config.json: not JSON: byte 0xff at position 0, which is not UTF-8"
    )


def test_nesting_without_end_is_no_crash(tmp_path: Path) -> None:
    root = repository(tmp_path)
    (root / "shared-config.json").write_text("[" * 100_000)
    (text,) = problems(root)
    assert text.startswith("shared-config.json: not JSON: more than 64 arrays and objects")


@pytest.mark.parametrize(
    ("name", "package", "found"),
    [
        ("python-latest", {}, ""),
        ("python-3.12", {}, ""),
        ("python-3.12.10-x", package_json("2.7.18", ""), ", found 2.7.18"),
        ("python-3.12.10-x", package_json("3.12", ""), ", found 3.12"),
    ],
)
def test_a_version_of_python_that_cannot_be_told(
    tmp_path: Path, name: str, package: Any, found: str
) -> None:
    write_json(tmp_path / "shared-config.json", {})
    write_json(tmp_path / name / "package.json", package)
    assert problems(tmp_path) == [
        f"{name}: the version of Python is not known (expected `python-version` in package.json,"
        f" or a name such as python-3.12.10-atls{found})"
    ]


def test_roots_of_which_none_is_a_platform(tmp_path: Path) -> None:
    root = repository(tmp_path)
    package = package_json("3.12.10", "-x", platforms=("linux-amd64",))
    write_json(root / "python-3.12.10-x" / "package.json", package)
    (text,) = problems(root)
    assert text == (
        "python-3.12.10-x/package.json: block-software.entrypoints.main.environment.artifact.roots:"
        " no known platform (expected one of linux-x64, linux-aarch64, macosx-x64,"
        " macosx-aarch64, windows-x64, windows-aarch64, found 'linux-amd64')"
    )


def test_a_whitelist_with_a_wrong_entry(tmp_path: Path) -> None:
    root = repository(tmp_path)
    folder = root / "checker" / "whitelists" / "python-3.12.10-x"
    write_json(folder / "linux-x64.json", {"a-*.whl": {"a.b": 1}, "b": "x"})
    place = "checker/whitelists/python-3.12.10-x/linux-x64.json: "
    assert problems(root) == [
        place + '"a-*.whl"."a.b": wrong type (expected a string, found 1)',
        place + "b: wrong type (expected an object, found 'x')",
    ]


def test_a_directory_that_is_no_such_repository(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_repository(tmp_path)
    assert str(caught.value).splitlines() == [
        "this is no repository of the kind of runenv-python-3",
        f"  file: {tmp_path}",
        "  expected: shared-config.json, and directories such as python-3.12.10 with a config.json",
        "  found: no shared-config.json, no such directory",
    ]


def test_the_command_ends_with_the_exit_code_of_its_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = repository(tmp_path, {"packages": {"noDeps": 1}})
    assert main(["import", "runenv", str(root)]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f"error: {root} has 1 problem\n"
        f"  {FILE}packages.noDeps: wrong type (expected an array of strings, found 1)\n"
    )
    assert not (root / "venvstacks.toml").exists()
    assert main(["import", "runenv", str(root / "nowhere")]) == 2
    with pytest.raises(SystemExit, match="2"):
        main(["import", "conda", str(root)])


def test_suggest_needs_applications_and_current_locks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "venvstacks.toml"
    runtime = (
        '[[runtimes]]\nname = "rt"\npython_implementation = "cpython@3.12.10"\nrequirements = []\n'
    )
    spec.write_text(runtime)
    assert main(["suggest", "--spec", str(spec)]) == 2
    assert "the stack has no application, so there is nothing to share" in capsys.readouterr().err
    spec.write_text(
        f'{runtime}\n[[applications]]\nname = "app"\nruntime = "rt"\nrequirements = []\n'
    )
    assert main(["suggest", "--spec", str(spec), "--json"]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert "; app on linux-x64, linux-aarch64, macosx-x64, macosx-aarch64, windows-x64: " in err
    remedy = "run `stackbuild lock`; or name the applications that can be locked: `stackbuild sugg"
    assert remedy in err
    assert main(["suggest", "--spec", str(spec), "--layer", "rt"]) == 2
    assert "the layers named have no application" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["", "null", "3", '"text"'])
def test_other_json_than_an_object(tmp_path: Path, value: str) -> None:
    root = repository(tmp_path)
    (root / "python-3.12.10-x" / "config.json").write_text(value)
    (text,) = problems(root)
    assert text.startswith("python-3.12.10-x/config.json: not ")
    if value:
        json.loads(value)
