"""What requirements lead to on the pages of the indexes, without uv."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from stackbuild.lock.index_pages import IndexPages
from stackbuild.lock.indexes import IndexSettings
from stackbuild.lock.targets import Target
from stackbuild.messages import Silent
from stackbuild.platforms import Platform
from stackbuild.resolve.availability import Availability
from stackbuild.resolve.metadata import Metadata
from stackbuild.resolve.request import CoreMetadata, ResolveRequest
from stackbuild.workspace import Workspace
from tests.support.http import Page, serving
from tests.support.locking import LINUX, MAC

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.support.http import Server

JSON = "application/vnd.pypi.simple.v1+json"
TARGET = Target(platform=Platform.LINUX_X64, python=Version("3.12.10"), level=(2, 28))


class Index:
    """An index whose wheels are nothing but metadata."""

    def __init__(self, server: Server, directory: Path) -> None:
        self.server = server
        self.workspace = Workspace(project=directory, cache=directory / "cache", jobs=1)
        self._files: dict[str, list[dict[str, Any]]] = {}

    def wheel(
        self, name: str, version: str, *requires: str, tag: str = "py3-none-any", **more: Any
    ) -> None:
        """Add a wheel."""
        file = f"{name}-{version}-{tag}.whl"
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {text}" for text in requires]
        self.server.files[f"/f/{file}.metadata"] = "\n".join([*lines, ""]).encode()
        self._add(name, file, {"core-metadata": True, **more})

    def source(self, name: str, version: str) -> None:
        """Add a source distribution."""
        self._add(name, f"{name}-{version}.tar.gz", {})

    def _add(self, name: str, file: str, more: Mapping[str, Any]) -> None:
        entry = {"filename": file, "url": f"/f/{file}", "hashes": {}, **more}
        self._files.setdefault(name, []).append(entry)

    def follow(self, *requirements: str, settings: Any = None, **options: Any) -> Availability:
        """Follow requirements."""
        for name, files in self._files.items():
            page = {"meta": {"api-version": "1.1"}, "name": name, "files": files}
            self.server.script(f"/{name}/", Page(json.dumps(page).encode(), JSON))
        pages = IndexPages(default=lambda: self.server.url)
        request = ResolveRequest(
            layer="fw",
            requirements=requirements,
            target=TARGET,
            indexes=IndexSettings(indexes=(), sources={}, uv_settings=settings or {}),
            **options,
        )
        metadata = Metadata(self.workspace, Silent(), pages)
        return Availability(request=request, pages=pages, metadata=metadata).follow()

    def unavailable(self, *requirements: str, **options: Any) -> list[tuple[str, str, str]]:
        """Kind, name and version of what is lacking."""
        found = self.follow(*requirements, **options).unavailable.values()
        return [(missing.kind, missing.name, str(missing.version or "")) for missing in found]


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with serving() as server:
        yield Index(server, tmp_path)


def test_all_that_is_there_lacks_nothing(index: Index) -> None:
    index.wheel("top", "1.0", "low>=1")
    index.wheel("low", "1.0", tag=LINUX)
    index.wheel("low", "2.0", "gone", tag=MAC)
    assert index.unavailable("top") == []


def test_extras_and_markers_decide_what_is_followed(index: Index) -> None:
    index.wheel(
        "top", "1.0", "one; extra == 'a'", "two; extra == 'b'", "three; sys_platform == 'win32'"
    )
    assert index.unavailable("top[A]") == [("project", "one", "")]
    assert index.unavailable("top", "gone; python_version < '3'") == []


def test_a_later_requirement_narrows_what_an_earlier_one_chose(index: Index) -> None:
    index.wheel("a", "2.0", "only-of-2")
    index.wheel("a", "1.0")
    index.wheel("b", "1.0", "a<2")
    followed = index.follow("a", "b")
    assert followed.unavailable == {}
    assert [str(dependency) for dependency in followed.dependencies[canonicalize_name("a")]] == [
        "'a' itself",
        "a<2 through b",
    ]
    assert "only-of-2" not in followed.dependencies


@pytest.mark.parametrize(
    ("requirement", "setting", "unavailable"),
    [
        ("base", {}, []),
        ("base==2.0rc1", {}, [("project", "of-rc", "")]),
        ("base", {"prerelease": "allow"}, [("project", "of-rc", "")]),
        ("base==2.0rc1", {"prerelease": "disallow"}, [("version", "base", "")]),
    ],
)
def test_prereleases(
    index: Index, requirement: str, setting: dict[str, str], unavailable: list[object]
) -> None:
    index.wheel("base", "1.0")
    index.wheel("base", "2.0rc1", "of-rc")
    assert index.unavailable(requirement, settings=setting) == unavailable


def test_a_withdrawn_version_counts_where_there_is_no_other(index: Index) -> None:
    index.wheel("base", "1.0")
    index.wheel("base", "2.0", "of-2", yanked="broken")
    assert index.unavailable("base") == []
    assert index.unavailable("base==2.0") == [("project", "of-2", "")]


def test_wheels_for_a_newer_python_are_not_called_missing(index: Index) -> None:
    index.wheel("base", "2.0", **{"requires-python": ">=3.13"})
    assert index.unavailable("base") == []
    index.wheel("base", "1.0", "of-1", **{"requires-python": "not a specifier"})
    assert index.unavailable("base") == [("project", "of-1", "")]


def test_what_is_known_of_a_missing_wheel(index: Index) -> None:
    for version in ("1.0", "2.0"):
        index.wheel("native", version, tag=MAC)
    index.wheel("native", "0.5", tag=LINUX)
    index.source("native", "1.0")
    (missing,) = index.follow("native>=1").unavailable.values()
    assert (missing.kind, missing.version, missing.alternative) == ("wheel", None, Version("0.5"))
    assert missing.tags == ("macosx_11_0_arm64",)
    assert missing.has_source
    assert missing.is_certain
    (missing,) = index.follow("native==2.0").unavailable.values()
    assert missing.version == Version("2.0")
    assert not missing.has_source


def test_what_only_several_together_rule_out_is_not_certain(index: Index) -> None:
    index.wheel("native", "1.0", tag=MAC)
    index.wheel("native", "2.0", tag=LINUX)
    index.wheel("top", "1.0", "native==1.0")
    (missing,) = index.follow("native", "top").unavailable.values()
    assert not missing.is_certain
    assert str(missing.dependency) == "native==1.0 through top"


def test_sources_are_followed_by_what_is_known_of_them(index: Index) -> None:
    index.source("native", "1.0")
    index.wheel("native", "1.0", "of-wheel", tag=LINUX)
    names = [canonicalize_name("native")]
    assert index.unavailable("native", from_source=names) == []
    known = CoreMetadata(version=Version("1.0"), dependencies=("of-source",))
    told = [(names[0], known)]
    assert index.unavailable("native", from_source=names, sources=told) == [
        ("project", "of-source", "")
    ]
    index.wheel("other", "1.0")
    assert index.unavailable("other", from_source=[canonicalize_name("other")]) == [
        ("source", "other", "1.0")
    ]


def test_what_the_policy_says_is_not_looked_up(index: Index) -> None:
    index.wheel("top", "1.0", "skipped", "built>=7", "lonely", "forced==9")
    index.wheel("lonely", "1.0", "gone")
    index.wheel("forced", "1.0")
    unavailable = index.unavailable(
        "top",
        excluded={canonicalize_name("skipped")},
        built={canonicalize_name("built"): CoreMetadata(version=Version("1.0"))},
        without_dependencies={canonicalize_name("lonely")},
        overrides={canonicalize_name("forced"): "==1.0"},
    )
    assert unavailable == []
    assert not index.server.count("/skipped/")
    assert not index.server.count("/built/")


def test_it_ends_where_something_is_certain(index: Index) -> None:
    index.wheel("top", "1.0", "low")
    assert index.unavailable("top", "gone") == [("project", "gone", "")]
    assert not index.server.count("/low/")


def test_distributions_that_need_each_other_come_to_an_end(index: Index) -> None:
    index.wheel("a", "1.0", "b[x]")
    index.wheel("b", "1.0", "a", "c; extra == 'x'")
    assert index.unavailable("a") == [("project", "c", "")]
