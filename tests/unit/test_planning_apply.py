"""Frameworks written into the text of a spec."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from stackbuild.cli.suggest import framework_lines
from stackbuild.errors import UsageError
from stackbuild.lock.model import LockedDistribution, LockedFile
from stackbuild.planning.apply import apply, changed
from stackbuild.planning.model import Comparison, SuggestedFramework, Suggestion
from stackbuild.platforms import Platform
from stackbuild.spec.reader import load_stack

LINUX, WINDOWS = Platform.LINUX_X64, Platform.WINDOWS_X64

SPEC = """\
# Our stack

[[runtimes]]
name = "rt"  # a comment
python_implementation = "cpython@3.12.10"
requirements = []

# What people run
# [[applications]] of two kinds
[[applications]]
name = "a"
runtime = "rt"  # the newest
# before the requirements
requirements = [
    "numpy",  # any
]

  [[applications]]
  name = 'b'
  requirements = ["numpy", "six"]
  runtime = 'rt'

[[applications]]
name = "c"
runtime = "rt"
requirements = []

[tool.stackbuild.layers.a]
no-deps = ["six"]

# the end
"""


def suggestion(
    *, skip: dict[str, dict[str, str]] | None = None, depends_on: tuple[str, ...] = ()
) -> Suggestion:
    """One framework for a and b that holds six only on Linux, and one above it for a."""

    def locked(name: str, version: str) -> LockedDistribution:
        file = LockedFile(name=f"{name}-{version}-py3-none-any.whl", size=1, sha256="0" * 64)
        return LockedDistribution(
            name=canonicalize_name(name), version=Version(version), wheel=file
        )

    numpy, six, dask = locked("numpy", "2.2.6"), locked("six", "1.17.0"), locked("dask", "1.0")
    lower = SuggestedFramework(
        name="common",
        runtime="rt",
        applications=("a", "b"),
        depends_on=depends_on,
        below=depends_on,
        platforms=(LINUX, WINDOWS),
        held={LINUX: {numpy.name: numpy, six.name: six}, WINDOWS: {numpy.name: numpy}},
        settings={"skip": skip} if skip else {},
    )
    upper = SuggestedFramework(
        name="with-dask",
        runtime="rt",
        applications=("a",),
        depends_on=("common",),
        below=("common", *depends_on),
        platforms=(LINUX, WINDOWS),
        held={LINUX: {dask.name: dask}, WINDOWS: {dask.name: dask}},
        fields={"package_indexes": {"dask": "ours"}},
    )
    table = (Comparison(platform=LINUX, separate=3, layers=2, now=3),)
    return Suggestion(frameworks=(lower, upper), table=table, exact=True)


def test_what_a_framework_has_on_some_platforms_is_printed_with_them() -> None:
    assert list(framework_lines(suggestion())) == [
        "framework common, for a, b",
        "  contains: numpy==2.2.6",
        "  contains on linux-x64: six==1.17.0",
        "framework with-dask, for a",
        "  depends on: common",
        "  contains: dask==1.0",
    ]


def test_comments_and_formatting_stay() -> None:
    found = changed(SPEC, suggestion(skip={"x": {"linux-x64": "a reason"}}), Path())
    lines = difflib.ndiff(SPEC.splitlines(), found.splitlines())
    assert [line for line in lines if line[0] in "+-"] == [
        "+ [[frameworks]]",
        '+ name = "common"',
        '+ runtime = "rt"',
        '+ requirements = ["numpy==2.2.6"]',
        "+ ",
        "+ [[frameworks]]",
        '+ name = "with-dask"',
        '+ frameworks = ["common"]',
        '+ package_indexes = {dask = "ours"}',
        '+ requirements = ["dask==1.0"]',
        "+ ",
        '- runtime = "rt"  # the newest',
        '+ frameworks = ["with-dask"]  # the newest',
        "-   runtime = 'rt'",
        '+   frameworks = ["common"]',
        "+ ",
        "+ [tool.stackbuild.layers.common.skip]",
        '+ x = {linux-x64 = "a reason"}',
        "+ ",
        "+ [tool.stackbuild.layers.common.platform-specific.linux-x64]",
        '+ dependencies = ["six==1.17.0"]',
    ]
    assert found.index("[[frameworks]]") < found.index("# What people run")


def test_line_endings_stay() -> None:
    found = changed(SPEC.replace("\n", "\r\n"), suggestion(), Path())
    assert found.count("\n") == found.count("\r\n") > SPEC.count("\n")
    assert tomllib.loads(found)["frameworks"][1]["name"] == "with-dask"


TWO = '[[applications]]\nname = "a"\nruntime = "rt"\n[[applications]]\nname = "b"\nruntime = "rt"\n'


@pytest.mark.parametrize(
    "text",
    [
        'applications = [{name = "a", runtime = "rt"}, {name = "b", runtime = "rt"}]\n',
        TWO + '[tool.stackbuild]\nlayers = {a = {no-deps = ["six"]}}\n',
        "tool = {other = {a = 1}}\n" + TWO,
    ],
)
def test_forms_that_cannot_be_extended_are_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        changed(text, suggestion(skip={"x": {"linux-x64": "y"}}), Path("spec.toml"))
    assert str(caught.value).splitlines()[:2] == [
        "the frameworks cannot be written into this spec",
        "  file: spec.toml",
    ]


def test_settings_may_be_dotted_keys() -> None:
    text = TWO + '[tool]\nstackbuild.platforms = ["linux-x64"]\n'
    data = tomllib.loads(changed(text, suggestion(), Path()))
    assert [table["frameworks"] for table in data["applications"]] == [["with-dask"], ["common"]]
    assert data["tool"]["stackbuild"] == {
        "platforms": ["linux-x64"],
        "layers": {
            "common": {"platform-specific": {"linux-x64": {"dependencies": ["six==1.17.0"]}}}
        },
    }


def test_existing_frameworks_come_before_those_that_depend_on_them() -> None:
    own = '[[frameworks]]\nname = "own"\nruntime = "rt"\n'
    text = TWO.replace('runtime = "rt"', 'frameworks = ["own"]') + own
    data = tomllib.loads(changed(text, suggestion(depends_on=("own",)), Path()))
    assert [(table["name"], table.get("frameworks")) for table in data["frameworks"]] == [
        ("own", None),
        ("common", ["own"]),
        ("with-dask", ["common"]),
    ]
    assert [table["frameworks"] for table in data["applications"]] == [["with-dask"], ["common"]]


def test_a_spec_that_would_have_problems_stays(tmp_path: Path) -> None:
    spec = tmp_path / "venvstacks.toml"
    spec.write_text(SPEC)
    with pytest.raises(UsageError) as caught:
        apply(load_stack(spec), suggestion())
    text = str(caught.value)
    assert "the spec would have problems with the suggested frameworks" in text
    # The suggestion takes dask from an index that the spec does not have.
    assert "found: frameworks[1].package_indexes.dask: " in text
    assert spec.read_text() == SPEC
