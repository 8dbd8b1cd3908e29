"""Frameworks written into the text of a spec."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from stackbuild.errors import UsageError
from stackbuild.lock.model import LockedDistribution, LockedFile
from stackbuild.planning.apply import changed
from stackbuild.planning.model import Comparison, SuggestedFramework, Suggestion
from stackbuild.platforms import Platform

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


def suggestion(*, skip: dict[str, dict[str, str]] | None = None) -> Suggestion:
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
        below=(),
        platforms=(LINUX, WINDOWS),
        held={LINUX: {numpy.name: numpy, six.name: six}, WINDOWS: {numpy.name: numpy}},
        settings={"skip": skip} if skip else {},
    )
    upper = SuggestedFramework(
        name="with-dask",
        runtime="rt",
        applications=("a",),
        below=("common",),
        platforms=(LINUX, WINDOWS),
        held={LINUX: {dask.name: dask}, WINDOWS: {dask.name: dask}},
        fields={"package_indexes": {"dask": "ours"}},
    )
    table = (Comparison(platform=LINUX, separate=3, layers=2, now=3),)
    return Suggestion(frameworks=(lower, upper), table=table, exact=True)


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
