"""Why a lock cannot be made is decided from data, whatever uv says about it.

Here uv's messages are replaced by words without meaning; its exit codes, its
answers and the pages of the indexes stay.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from stackbuild.errors import FetchError, LockError, StackbuildError
from stackbuild.platforms import Platform
from tests.support.building import make_sdist
from tests.support.http import Page, Status, serving
from tests.support.index import IndexServer
from tests.support.locking import LINUX, MAC, application, framework, only, open_project
from tests.support.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.http import Server
    from tests.support.locking import Project

LINUX_ONLY = only(Platform.LINUX_X64)
OWN = "[tool.stackbuild.layers.fw]\n"
LENIENT = OWN + 'resolution = {strict-missing = false, optional-list = ["top", "base", "old"]}\n'
JSON = "application/vnd.pypi.simple.v1+json"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.setattr("stackbuild.resolve.uv.without_secrets", lambda _: "Hoc non liquet")
    with open_project(tmp_path) as opened:
        yield opened


def _error(project: Project) -> StackbuildError:
    with pytest.raises(StackbuildError) as caught:
        project.lock()
    return caught.value


def _fw(*requirements: str, extra: str = "") -> str:
    return framework("fw", *requirements, extra=LINUX_ONLY + extra)


# what no index has


def test_an_unknown_name(project: Project) -> None:
    project.wheel("top", "1.0", requires=("nowhere>1",))
    project.write(_fw("top"))
    error = _error(project)
    assert error.message == "no package index has nowhere"
    assert ("found", "Hoc non liquet") in error.details


def test_a_version_that_a_dependency_asks_for(project: Project) -> None:
    project.wheel("top", "1.0", requires=("base==9",))
    project.wheel("base", "1.0")
    project.write(_fw("top") + LENIENT)
    project.lock()
    assert [item.reason for item in project.read("fw").omitted] == ["no package index has base==9"]


def test_a_local_version_that_there_is_not(project: Project) -> None:
    project.wheel("base", "1.0")
    project.write(_fw("base==1.0+mkl", "base"))
    assert _error(project).message == "no package index has base==1.0+mkl"


def test_a_range_without_a_version_is_an_error_where_missing_ones_are_left_out(
    project: Project,
) -> None:
    project.wheel("base", "1.0")
    project.write(_fw("base>2") + LENIENT)
    error = _error(project)
    assert error.message == "no package index has base>2"
    assert "require an existing version" in dict(error.details)["to fix"]


def test_the_version_of_an_override_is_named(project: Project) -> None:
    project.wheel("base", "1.0")
    project.write(_fw("base") + OWN + 'overrides.base = "9"\n')
    assert _error(project).message == "no package index has base==9"


def test_a_page_without_files(project: Project) -> None:
    """Such as the form of a web site to log in."""
    with serving() as server:
        server.script("/base/", *[Page(b"<form>Password</form>", "text/html")] * 20)
        project.write(_fw("base"), address=server.url)
        error = _error(project)
    assert error.message.startswith("the page of base in the package index names no file")
    assert "check the address of the index" in dict(error.details)["to fix"]


def test_a_directory_that_is_gone_is_not_passed_over(project: Project, tmp_path: Path) -> None:
    """The next index has another `base`, which the lock must not take."""
    project.wheel("base", "1.0")
    gone = f'[[tool.uv.index]]\nname = "ours"\nurl = "{(tmp_path / "gone").as_uri()}"\n'
    project.write(gone + _fw("base"))
    error = _error(project)
    assert (error.message, error.exit_code) == (
        "the directory of a package index does not exist",
        FetchError.exit_code,
    )
    (tmp_path / "gone").mkdir()
    project.lock()
    assert project.read("fw").distributions[0].name == "base"


def test_a_missing_wheel_of_a_dependency(project: Project) -> None:
    project.wheel("top", "1.0", requires=("middle[more]",))
    more = 'native>=1; extra == "more" and sys_platform == "linux"'
    make_wheel(
        project.index.directory,
        "middle",
        "1.0",
        {"m.py": ""},
        requires=(more, 'nowhere; sys_platform == "win32"'),
    )
    for version in ("1.0", "2.0"):
        project.wheel("native", version, MAC)
    project.wheel("native", "0.9", LINUX)
    project.write(_fw("top"))
    error = _error(project)
    assert error.message == "native has no wheel for linux-x64"
    details = dict(error.details)
    assert details["distribution"] == "native, which middle needs"
    assert details["found"] == "wheels for macosx_11_0_arm64"
    assert details["to fix"].startswith("require another version (0.9 has wheels for linux-x64)")


def test_the_newest_version_without_a_wheel_does_not_hide_an_older_one(project: Project) -> None:
    project.wheel("native", "2.0", MAC)
    project.wheel("native", "1.0", LINUX)
    project.write(_fw("native", "nowhere"))
    assert _error(project).message == "no package index has nowhere"


def test_of_two_missing_wheels_the_one_that_matters_is_told(project: Project) -> None:
    """The newest `choice` leads to `aaa`, which uv avoids with an older one."""
    project.wheel("choice", "2.0", requires=("aaa",))
    project.wheel("choice", "1.0")
    project.wheel("aaa", "1.0", MAC)
    project.wheel("top", "1.0", requires=("zzz",))
    project.wheel("zzz", "1.0", MAC)
    project.write(_fw("choice", "top"))
    assert _error(project).message == "zzz 1.0 has no wheel for linux-x64"


def test_a_missing_wheel_that_uv_avoids_does_not_hide_a_contradiction(project: Project) -> None:
    project.wheel("choice", "2.0", requires=("aaa",))
    project.wheel("choice", "1.0")
    project.wheel("aaa", "1.0", MAC)
    for version in ("1.0", "2.0"):
        project.wheel("base", version)
    project.wheel("top", "1.0", requires=("base<2",))
    project.write(_fw("choice", "base>=2", "top") + LENIENT)
    assert _error(project).message == "the requirements of fw contradict each other"


def test_pins_that_others_exclude_can_be_installed_all_the_same(project: Project) -> None:
    project.wheel("cudf", "25.6", requires=("pyarrow<20", "numpy<2"))
    for name in ("pyarrow", "numpy"):
        project.wheel(name, "1.0")
        project.wheel(name, "24.0")
    project.wheel("rich", "1.0")
    project.wheel("rich", "2.0", requires=("numpy<1",))
    own = OWN + 'overrides = {rich = "1.0"}\n'
    project.write(_fw("cudf==25.6", "pyarrow==24.0", "numpy==24.0", "rich") + own)
    error = _error(project)
    assert error.message == "the requirements of fw contradict each other"
    details = dict(error.details)
    assert details["found"] == (
        "fw requires pyarrow==24.0, but pyarrow<20 through cudf; "
        "fw requires numpy==24.0, but numpy<2 through cudf"
    )
    advice, _, line = details["to fix"].partition("[tool.stackbuild.layers.fw]: ")
    assert "install pyarrow 24.0, numpy 24.0 all the same" in advice
    # The line replaces the one that is there, and works.
    assert line == 'overrides = {rich = "1.0", pyarrow = "24.0", numpy = "24.0"}'
    project.write(_fw("cudf==25.6", "pyarrow==24.0", "numpy==24.0", "rich") + OWN + line + "\n")
    project.lock()
    assert project.versions("fw")["pyarrow"] == "24.0"


def test_a_wheel_that_a_contradiction_leads_to_is_not_called_missing(project: Project) -> None:
    """uv goes back to versions without wheels before it gives up."""
    project.wheel("old", "1.0", MAC)
    make_sdist(project.index.directory, "old", "1.0", {})
    project.wheel("old", "2.0", requires=("base<2",))
    project.wheel("base", "1.0")
    project.wheel("base", "2.0")
    project.write(_fw("old", "base>=2") + LENIENT)
    assert _error(project).message == "the requirements of fw contradict each other"


def test_wheels_that_are_withdrawn_or_for_another_python(project: Project) -> None:
    files = [
        {"filename": f"base-{version}-py3-none-any.whl", "url": "x.whl", "hashes": {}, **more}
        for version, more in (
            ("1.0", {"requires-python": ">=3.13"}),
            ("2.0", {"yanked": "broken"}),
        )
    ]
    page = json.dumps({"meta": {"api-version": "1.0"}, "name": "base", "files": files}).encode()
    with serving() as server:
        server.script("/base/", *[Page(page, JSON)] * 20)
        project.write(_fw("base") + LENIENT, address=server.url)
        assert _error(project).message == "the requirements of fw contradict each other"


# building from source


def test_a_source_distribution_is_taken_where_the_spec_allows_it(project: Project) -> None:
    project.wheel("native", "1.0", MAC)
    project.wheel("top", "1.0", requires=("native",))
    make_sdist(project.index.directory, "native", "1.0", {})
    project.write(framework("fw", "top", extra=only(Platform.LINUX_AARCH64)))
    assert _error(project).message == "native 1.0 has no wheel for linux-aarch64"
    project.write(
        framework("fw", "top", extra=only(Platform.LINUX_AARCH64))
        + OWN
        + 'resolution.allow-source-list = ["native"]\n'
    )
    assert _error(project).message.startswith("native 1.0 must be built from source")


def test_without_a_source_distribution_it_is_the_wheel_that_is_missing(project: Project) -> None:
    project.wheel("native", "1.0", MAC)
    project.wheel("top", "1.0", requires=("native",))
    project.write(_fw("top") + OWN + "resolution.allow-source-all = true\n")
    assert _error(project).message == "native 1.0 has no wheel for linux-x64"


def test_no_source_distribution_for_what_must_be_built(project: Project) -> None:
    project.wheel("native", "1.0", LINUX)
    project.wheel("top", "1.0", requires=("native",))
    project.write(_fw("top") + OWN + 'force-source.native.linux-x64 = "broken"\n')
    assert _error(project).message == ("native 1.0 has no source distribution to build it from")


# what layers below have


def test_a_layer_below_is_named_with_who_asks(project: Project) -> None:
    for version in ("1.0", "2.0"):
        project.wheel("base", version)
    project.wheel("middle", "1.0", requires=("base>=2",))
    project.write(_fw("base<2") + application("app", "fw", "middle"))
    error = _error(project)
    assert error.message == "app needs another version of base than fw has"
    assert ("found", "app requires base>=2 through middle") in error.details


# what cannot be asked


@pytest.mark.slow  # uv tries again for some seconds
@pytest.mark.parametrize("status", [401, 403, 500])
def test_an_index_that_refuses(project: Project, status: int) -> None:
    with serving() as server:
        server.script("/base/", *[Status(status)] * 40)
        project.write(_fw("base") + LENIENT, address=server.url)
        error = _error(project)
    assert isinstance(error, FetchError)
    assert error.message == "the package index cannot be read"
    assert f"HTTP status {status}" in dict(error.details)["found"]


def test_an_index_that_forbids_what_another_one_has(project: Project) -> None:
    project.wheel("base", "1.0")
    with serving() as server:
        server.script("/base/", *[Status(403)] * 40)
        project.write(_fw("base") + f'[[tool.uv.index]]\nurl = "{server.url}"\n')
        error = _error(project)
    assert isinstance(error, FetchError)
    assert f"the server refuses the request ({server.url}/base/)" in str(error)


def _broken_page(server: Server) -> None:
    server.script("/base/", *[Page(b"{", JSON)] * 9)


def _no_file(server: Server) -> None:
    server.script("/base/", *[Page(b"<a href=base-1.0-py3-none-any.whl>", "text/html")] * 9)


def _no_zip(server: Server) -> None:
    _no_file(server)
    server.files["/base/base-1.0-py3-none-any.whl"] = b"no wheel at all"


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (_broken_page, "sends a page that cannot be read"),
        (_no_file, "there is no such file"),
        (_no_zip, "the metadata of a wheel cannot be read"),
    ],
)
def test_a_damaged_index_is_not_a_contradiction(project: Project, damage: Any, found: str) -> None:
    with serving() as server:
        damage(server)
        project.write(_fw("base"), address=server.url)
        error = _error(project)
    assert isinstance(error, FetchError)
    assert found in dict(error.details)["found"]


# indexes of their own


def test_a_bound_index_is_heeded_before_there_is_an_answer(
    project: Project, tmp_path: Path
) -> None:
    """The default index knows no `torch`, so the first request has no answer."""
    make_wheel(tmp_path / "more", "torch", "2.0", {"torch.py": ""}, requires=("vision",))
    make_wheel(tmp_path / "more", "vision", "1.0", {"vision.py": ""})
    project.wheel("helper", "1.0", requires=("torch",))
    with IndexServer(tmp_path / "more") as other:
        bound = 'package_indexes = {torch = "more", vision = "more", unused = "more"}\n'
        index = f'[[tool.uv.index]]\nname = "more"\nurl = "{other.url}"\nexplicit = true\n'
        project.write(_fw("helper", extra=bound) + index)
        project.lock()
        assert project.versions("fw") == {"helper": "1.0", "torch": "2.0", "vision": "1.0"}
        assert other.count("GET", "/simple/unused/") == 0


def test_pages_are_asked_for_only_where_there_is_no_answer(project: Project) -> None:
    project.wheel("base", "1.0")
    project.write(_fw("base"))
    project.lock()
    assert project.index.count("GET", "/simple/base/") == 1
    project.index.forget()
    project.write(_fw("base", "nowhere"))
    assert isinstance(_error(project), LockError)
    # By uv, by uv again without what it remembers, and for the reason.
    assert project.index.count("GET", "/simple/nowhere/") == 3
