"""The pure parts of composing: paths that collide, RECORD, activation, the index."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from stackbuild.compose.conflicts import (
    Claim,
    Clash,
    case_only,
    file_as_directory,
    owners,
    same_path,
)
from stackbuild.compose.export_directory import entered
from stackbuild.compose.layer_metadata import interpreter_links, pyvenv_cfg, site_files
from stackbuild.compose.manifest import Index, IndexEntry
from stackbuild.frames.files import Link
from stackbuild.layout import Layout
from stackbuild.platforms import OsName, Platform
from stackbuild.record import corrected, record_paths
from stackbuild.spec.model import LayerKind

LINUX = Layout("linux", "3.12")
names = st.sampled_from(["a", "b", "C", "c"])
paths = st.lists(names, min_size=1, max_size=3).map("/".join)


@given(st.lists(st.lists(paths, unique=True), max_size=4))
def test_every_shared_path_is_found_and_no_other(groups: list[list[str]]) -> None:
    claims = [Claim(f"d{number}", group) for number, group in enumerate(groups)]
    counted = Counter(path for group in groups for path in group)
    shared = {path for path, count in counted.items() if count > 1}
    assert {clash.path for clash in same_path(claims)} == shared


@given(st.sets(paths))
def test_a_path_is_never_a_file_and_a_directory(found: set[str]) -> None:
    owned = dict.fromkeys(sorted(found), "x")
    expected = any(path.startswith(f"{other}/") for path in found for other in found)
    assert bool(list(file_as_directory(owned))) is expected


@given(st.sets(paths))
def test_what_differs_by_case_only_is_found_where_it_matters(found: set[str]) -> None:
    owned = dict.fromkeys(sorted(found), "x")
    lowered = {path.lower() for path in found}
    above = {path.rsplit("/", count)[0] for path in found for count in range(1, 3) if "/" in path}
    expected = len(lowered) < len(found) or any(path.lower() in lowered for path in above - found)
    assert bool(list(case_only(owned, "macos"))) is expected
    assert bool(list(case_only(owned, "windows"))) is expected
    assert list(case_only(owned, "linux")) == []


def test_a_file_and_a_directory_that_differ_by_case_only() -> None:
    owned = owners([Claim("a", ["share/A"]), Claim("b", ["share/a/x", "share/a/y"])])
    assert list(case_only(owned, "macos")) == [Clash("share/a", "a", "b", "share/A")]
    owned = owners([Claim("a", ["share/A/x"]), Claim("b", ["share/a/y"])])
    assert list(case_only(owned, "macos")) == []


def test_letters_composed_and_decomposed_are_one_on_macos() -> None:
    owned = owners([Claim("a", ["\u00e9.py"]), Claim("b", ["e\u0301.py"])])
    assert list(case_only(owned, "macos")) == [Clash("e\u0301.py", "a", "b", "\u00e9.py")]


def test_empty_directories_may_be_shared() -> None:
    assert same_path([Claim("a", ["data/"]), Claim("b", ["data/"])]) == []


def test_a_record_tells_the_truth_of_replaced_files_and_keeps_the_rest() -> None:
    site = LINUX.site_packages
    record = (
        b'lib/__init__.py,sha256=AAA,3\n"lib/a,b.py",sha256=BBB,4\n'
        b"../../../bin/tool,sha256=CCC,5\nlib-1.dist-info/RECORD,,\n"
    )
    new = corrected(record, {f"{site}/lib/a,b.py": b"new", "bin/tool": b"other"}, site)
    rows = list(csv.reader(io.StringIO(new.decode())))
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"new").digest()).rstrip(b"=").decode()
    assert rows[0] == ["lib/__init__.py", "sha256=AAA", "3"]
    assert rows[1] == ["lib/a,b.py", f"sha256={digest}", "3"]
    assert rows[2][0] == "../../../bin/tool"
    assert rows[2][2] == "5"
    assert rows[2][1] != "sha256=CCC"
    assert rows[3] == ["lib-1.dist-info/RECORD", "", ""]


def test_the_record_of_a_distribution_is_not_one_that_it_vendors() -> None:
    site = LINUX.site_packages
    vendored = f"{site}/lib/_vendor/other-1.dist-info/RECORD"
    own = f"{site}/lib-1.dist-info/RECORD"
    assert record_paths((vendored, own), site) == [own]
    assert record_paths((vendored,), site) == []


def test_the_links_lead_to_the_real_interpreter() -> None:
    assert interpreter_links(LINUX, "cpython-3.12@4") == {
        "bin/python": Link("../../cpython-3.12@4/bin/python3.12"),
        "bin/python3": Link("python"),
        "bin/python3.12": Link("python"),
    }


def test_pyvenv_cfg_has_no_path() -> None:
    assert pyvenv_cfg("atls", Version("3.12.10")) == (
        "include-system-site-packages = false\nversion = 3.12.10\nprompt = atls\n"
    )


@pytest.mark.parametrize("os", ["linux", "windows"])
def test_the_start_module_has_the_settings_of_its_layer(os: OsName) -> None:
    layout = Layout(os, "3.12")
    files = site_files(layout, "rt", [("base", ["# no", "sub\\dir"]), ("rt", [])])
    by_name = {path.rpartition("/")[2]: content.data.decode() for path, content in files.items()}
    assert set(by_name) == {"sitecustomize.py", "zzz_stackbuild.pth"}
    module: dict[str, object] = {}
    settings, _, _ = by_name["sitecustomize.py"].partition("def activate")
    exec(settings, module)
    site = layout.site_packages
    assert module["SITE_PACKAGES"] == site
    assert module["RUNTIME"] == "rt"
    assert module["PRECEDENCE"] == "zzz_stackbuild.pth"
    assert module["INTERPRETER"] == layout.runtime_interpreter
    assert module["PATHS"] == (f"base/{site}", f"base/{site}/sub/dir", f"rt/{site}")


def _entry(name: str, digest: str = "") -> IndexEntry:
    sha256 = hashlib.sha256((digest or name).encode()).hexdigest()
    return IndexEntry(
        manifest=name,
        sha256=sha256,
        digest=sha256,
        lock=sha256,
        kind=LayerKind.APPLICATION,
        version="1",
        python_version="3.12.10",
        chain=(),
        size=1,
        content_size=1,
        files=1,
    )


def _names(index: Index, layer: str = "app") -> list[str]:
    return [entry.manifest for entry in index.entries[layer][Platform.LINUX_X64]]


def test_the_newest_manifest_comes_first_and_each_stands_once() -> None:
    index = Index(entries={})
    for name in ("1.json", "2.json", "1.json", "1.json", "3.json"):
        index = entered(index, "app", Platform.LINUX_X64, _entry(name))
    assert _names(index) == ["3.json", "1.json", "2.json"]


def test_a_manifest_keeps_the_date_of_its_first_publishing() -> None:
    index = Index(entries={})
    for name, date in (("1.json", "2026"), ("2.json", "2027"), ("1.json", "2028")):
        index = entered(index, "app", Platform.LINUX_X64, replace(_entry(name), published=date))
    entries = index.entries["app"][Platform.LINUX_X64]
    assert [(one.manifest, one.published) for one in entries] == [
        *(("1.json", "2026"), ("2.json", "2027"))
    ]


def test_other_layers_and_platforms_stay() -> None:
    index = entered(Index(entries={}), "app", Platform.LINUX_X64, _entry("1.json"))
    index = entered(index, "base", Platform.LINUX_X64, _entry("b.json"))
    index = entered(index, "app", Platform.WINDOWS_X64, _entry("w.json"))
    assert _names(index) == ["1.json"]
    assert _names(index, "base") == ["b.json"]
    assert [entry.manifest for entry in index.entries["app"][Platform.WINDOWS_X64]] == ["w.json"]


@pytest.mark.parametrize(
    "order", [["1.json", "1.zip.json"], ["1.zip.json", "1.json"], ["1.zip.json", "1.tar.xz.json"]]
)
def test_an_archive_that_can_be_installed_comes_before_the_same_in_another_format(
    order: list[str],
) -> None:
    index = entered(Index(entries={}), "app", Platform.LINUX_X64, _entry("0.json"))
    for name in order:
        index = entered(index, "app", Platform.LINUX_X64, _entry(name, digest="same"))
    found = _names(index)
    assert found[-1] == "0.json"
    assert found[0] == ("1.json" if "1.json" in order else "1.tar.xz.json")
