from __future__ import annotations

import json
import platform
import re
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest
from bench.inputs import Archive, read_spec, write_project
from bench.measure import BenchError, Place, Run, in_turn, middle, run
from bench.modules import native_modules
from bench.peer import put_in_table
from bench.table import Kind, Line, Target, as_dict, figure, markdown
from bench.upgrades import write_spec
from tools.standin import PROJECT

if TYPE_CHECKING:
    from pathlib import Path


def line(**given: object) -> Line:
    return Line(**{"name": "publish", "ours": 2.0, "peer": 10.0} | given)  # type: ignore[arg-type] # a test's shorthand


@pytest.mark.parametrize(
    ("kind", "value", "ratio", "met"),
    [
        (Kind.FASTER, 5, 5.0, True),
        (Kind.FASTER, 5.1, 5.0, False),
        (Kind.PART, 0.2, 0.2, True),
        (Kind.PART, 0.19, 0.2, False),
        (Kind.LIMIT, 2, None, True),
        (Kind.LIMIT, 1.9, None, False),
    ],
)
def test_a_target_is_judged_by_its_kind(
    kind: Kind, value: float, ratio: float | None, met: bool
) -> None:
    measured = line(target=Target(kind=kind, value=value))
    assert measured.ratio == ratio
    assert measured.met is met


def test_without_a_target_nothing_is_met_or_missed() -> None:
    assert line().met is None
    assert line().ratio == 5.0
    assert line(kind=Kind.PART).ratio == 0.2


def test_a_comparison_needs_something_to_compare_with() -> None:
    with pytest.raises(ValueError, match="publish: nothing to compare with"):
        line(peer=None)
    assert line(peer=None, target=Target(kind=Kind.LIMIT, value=1)).ratio is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.254, "0.25 s"), (9.994, "9.99 s"), (12.34, "12.3 s"), (283.4, "283 s")],
)
def test_a_figure_has_the_places_it_needs(value: float, text: str) -> None:
    assert figure(value, "s") == text


def test_the_table_is_aligned_and_tells_what_was_missed() -> None:
    text = markdown(
        [
            line(target=Target(kind=Kind.FASTER, value=5), against="venvstacks"),
            line(name="archives", unit="MB", target=Target(kind=Kind.PART, value=0.1), note="why"),
            line(name="memory", ours=400.0, unit="MiB", target=Target(kind=Kind.LIMIT, value=300)),
        ]
    )
    table, notes = text.split("\n\n")
    rows = table.splitlines()
    assert len({len(row) for row in rows}) == 1
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert cells[2] == [
        "publish", "2.00 s", "10.0 s", "venvstacks", "5.00 times faster", "≥ 5 times faster", "met",
    ]  # fmt: skip
    assert cells[3][-3:] == ["0.20 of it", "≤ 0.1 of it", "MISSED"]
    assert cells[4][-3:] == ["", "≤ 300 MiB", "MISSED"]
    assert notes == "- archives: why\n"


def test_the_json_copy_holds_ratio_and_verdict() -> None:
    copy = json.loads(json.dumps(as_dict(line(target=Target(kind=Kind.FASTER, value=6)))))
    assert copy["ratio"] == 5.0
    assert copy["met"] is False
    assert copy["target"] == {"kind": "times faster", "value": 6}


def measured(seconds: float, largest: int) -> Run:
    return Run(seconds=seconds, largest=largest, together=2 * largest)


def test_the_median_time_stands_beside_the_highest_memory() -> None:
    runs = [measured(3, 10), measured(1, 30), measured(2, 20)]
    assert middle(runs) == Run(seconds=2, largest=30, together=60)
    assert in_turn(runs) == Run(seconds=6, largest=30, together=60)


def place(directory: Path) -> Place:
    return Place(directory=directory, environment={}, log=directory / "log.txt")


def test_memory_of_a_child_counts(tmp_path: Path) -> None:
    block = 64 * 1024 * 1024
    child = f"import time; block = b'x' * {block}; time.sleep(0.3)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    found = run([sys.executable, "-c", code], place(tmp_path), watch=True)
    assert found.largest > block
    assert found.together > block


def test_a_failed_command_is_told_with_what_it_printed(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=re.escape("exit code 3") + "(.|\n)*no such layer"):
        run([sys.executable, "-c", "print('no such layer'); exit(3)"], place(tmp_path))


def table(directory: Path, micro: int) -> Path:
    entry = {
        "arch": platform.machine(),
        "platform": "linux",
        "install_only": True,
        "filename": "old",
        "sha256": "0" * 64,
    }
    version = {"implementation": "cpython", "major": 3, "minor": 12, "micro": micro}
    path = directory / "versions.json"
    other = entry | {"install_only": False}
    content = [{"python_version": version | {"freethreaded": False}, "files": [entry, other]}]
    path.write_text(json.dumps(content))
    return path


def test_the_peers_table_gets_the_archive_and_says_whether_it_is_new(tmp_path: Path) -> None:
    path = table(tmp_path, 1)
    archive = Archive(path=tmp_path / "cpython-3.12.1.tar.gz", version="3.12.1")
    archive.path.write_bytes(b"interpreter")
    assert put_in_table(path, archive)
    assert not put_in_table(path, archive)
    entry, other = json.loads(path.read_text())[0]["files"]
    assert (entry["filename"], entry["sha256"]) == (archive.path.name, archive.sha256)
    assert other["filename"] == "old"


def test_a_version_that_the_table_lacks_is_told(tmp_path: Path) -> None:
    archive = Archive(path=tmp_path / "cpython-3.12.99.tar.gz", version="3.12.99")
    with pytest.raises(BenchError, match=re.escape("CPython 3.12.99 is not in")):
        put_in_table(table(tmp_path, 1), archive)


def test_frameworks_are_read_lowest_first(tmp_path: Path) -> None:
    path = tmp_path / "venvstacks.toml"
    path.write_text(
        '[[runtimes]]\nname = "cpython-3.12"\npython_implementation = "cpython@3.12.10"\n'
        '[[applications]]\nname = "atls"\nframeworks = ["upper", "lower"]\n'
    )
    spec = read_spec(path)
    assert (spec.runtime, spec.minor, spec.frameworks) == (
        "cpython-3.12",
        "3.12",
        ("lower", "upper"),
    )


def test_only_what_both_sides_can_do_is_in_the_stack_they_are_given(tmp_path: Path) -> None:
    path = tmp_path / "venvstacks.toml"
    path.write_text(
        '[[runtimes]]\nname = "cpython-3.12"\npython_implementation = "cpython@3.12.10"\n'
        '[[applications]]\nname = "atls"\nframeworks = []\nlaunch_module = "launch/atls.py"\n'
        'requirements = ["olga==1.3.0"]\n'
        '[[applications]]\nname = "built"\nframeworks = []\nrequirements = []\n'
        '[tool.stackbuild.layers.atls]\ncopy-files = [{ from = "a/", to = "b/" }]\n'
        'overrides = { numba = "0.62.1" }\n'
        '[tool.stackbuild.layers.built.build-wheel.freesasa.linux-x64]\nreason = "no wheel"\n'
    )
    module = tmp_path / "launch/atls.py"
    module.parent.mkdir()
    module.write_text("print('atls')\n")
    archive = Archive(path=tmp_path / "cpython-3.12.1+20240107.tar.gz", version="3.12.1")
    archive.path.write_bytes(b"interpreter")
    project = tmp_path / "project"
    write_project(read_spec(path), archive, "http://127.0.0.1:1", project)
    given = tomllib.loads((project / "venvstacks.toml").read_text())
    assert [application["name"] for application in given["applications"]] == ["atls"]
    assert given["applications"][0]["requirements"] == ["olga==1.3.0", "numba==0.62.1"]
    assert given["runtimes"][0]["python_implementation"] == "cpython@3.12.1"
    layers = given["tool"]["stackbuild"]["layers"]
    assert layers["atls"] == {"copy-files": [{"from": "a/", "to": "b/"}]}
    assert layers["cpython-3.12"]["downloads"]["linux-x64"] == {
        "url": "http://127.0.0.1:1/cpython-3.12.1%2B20240107.tar.gz",
        "sha256": archive.sha256,
    }
    assert "built" not in layers
    assert (project / "launch/atls.py").read_text() == "print('atls')\n"
    without = tomllib.loads((project / "without-bytecode.toml").read_text())
    assert without["tool"]["stackbuild"].pop("frames") == {"bytecode": False}
    assert without == given


def test_native_modules_are_those_with_a_tag_of_python(tmp_path: Path) -> None:
    packages = tmp_path / "lib/python3.12/site-packages"
    for name, paths in {
        "some-1.dist-info": ["some/a.cpython-312-x86_64-linux-gnu.so", "some/sub/b.abi3.so"],
        "plain-2.dist-info": ["plain/__init__.py", "plain.libs/libz-1.so"],
    }.items():
        (packages / name).mkdir(parents=True)
        (packages / name / "RECORD").write_text("".join(f"{path},,\n" for path in paths))
    assert native_modules(tmp_path) == {"some-1": ["some.a", "some.sub.b"]}
    assert native_modules(tmp_path, without={"some.a"}) == {"some-1": ["some.sub.b"]}


@pytest.mark.parametrize("alone", [True, False])
def test_an_upgrade_changes_one_version(tmp_path: Path, alone: bool) -> None:
    path = tmp_path / "venvstacks.toml"
    for version in ("1.15.2", "1.15.3"):
        path.write_bytes((PROJECT / "venvstacks.toml").read_bytes())
        write_spec(path, "scipy", version, alone=alone)
        document = tomllib.loads(path.read_text())
        (framework,) = document["frameworks"]
        assert f"scipy=={version}" in framework["requirements"]
        assert (len(framework["requirements"]) == 1) is alone
        assert ("applications" not in document) is alone
