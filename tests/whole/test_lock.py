"""Locking for real: uv, and an index on loopback."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from typing import TYPE_CHECKING

import pytest
from packaging.pylock import Pylock

from stackbuild.cli.main import main
from stackbuild.errors import FetchError, LockError, UsageError
from stackbuild.files import remove_tree
from stackbuild.lock.current import load_locks
from stackbuild.lock.files import read_lock
from stackbuild.lock.wheelhouse import fetch
from stackbuild.messages import Silent
from stackbuild.platforms import DEFAULT_PLATFORMS, Platform
from stackbuild.workspace import CACHE_VARIABLE
from tests.support.index import IndexServer
from tests.support.locking import (
    ARM,
    LINUX,
    MAC,
    RUNTIME,
    WINDOWS,
    Project,
    application,
    framework,
    only,
    open_project,
)
from tests.support.roots import stackbuild
from tests.support.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

LINUX_ONLY = only(Platform.LINUX_X64)
TWO = only(Platform.LINUX_X64, Platform.MACOSX_AARCH64)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with open_project(tmp_path) as opened:
        yield opened


def test_locks_every_layer_on_every_platform(project: Project) -> None:
    project.wheel("base", "1.0")
    project.wheel("top", "1.0", requires=("base",))
    project.write(framework("fw", "base") + application("app", "fw", "top", extra=TWO))
    report = project.lock()
    assert {(change.layer, str(change.platform)) for change in report.changes} == {
        *((layer, platform) for layer in ("rt", "fw") for platform in project.stack.platforms),
        ("app", "linux-x64"),
        ("app", "macosx-aarch64"),
    }
    assert {change.state for change in report.changes} == {"new"}
    assert project.versions("fw", "windows-x64") == {"base": "1.0"}
    assert project.versions("app") == {"top": "1.0"}
    assert project.versions("rt") == {}


def test_what_comes_from_a_layer_below_is_recorded_and_left_out(project: Project) -> None:
    project.wheel("base", "1.0")
    project.write(framework("fw", "base==1.0", extra=LINUX_ONLY) + application("app", "fw", "top"))
    project.wheel("base", "2.0")
    project.wheel("top", "1.0", requires=("base>=1",))
    project.lock()
    assert project.versions("app") == {"top": "1.0"}
    inherited = [(i.name, str(i.version), i.layer) for i in project.read("app").inherited]
    assert inherited == [("base", "1.0", "fw")]


def test_a_lock_is_valid_pep_751_and_holds_no_address(project: Project) -> None:
    project.wheel("base", "1.0")
    project.write(framework("fw", "base", extra=LINUX_ONLY))
    project.lock()
    lock = Pylock.from_dict(project.raw("fw"))
    assert lock.packages[0].wheels is not None
    wheel = lock.packages[0].wheels[0]
    name = "base-1.0-py3-none-any.whl"
    assert (wheel.name, wheel.path) == (name, f"../../wheelhouse/{name}")
    assert wheel.size == (project.index.directory / name).stat().st_size
    assert "://" not in project.path("fw").read_text()
    Pylock.from_dict(project.raw("rt"))


def test_platforms_agree_with_the_first_where_they_can(project: Project) -> None:
    project.wheel("base", "1.0", LINUX, MAC)
    project.wheel("base", "2.0", LINUX, MAC)
    project.wheel("base", "3.0", MAC)
    project.wheel("other", "1.0", LINUX, MAC)
    project.wheel("other", "2.0", LINUX)
    project.write(framework("fw", "base", "other", extra=TWO))
    project.lock()
    assert project.versions("fw", "linux-x64") == {"base": "2.0", "other": "2.0"}
    assert project.versions("fw", "macosx-aarch64") == {"base": "2.0", "other": "1.0"}


def test_versions_stay_until_an_upgrade_is_asked_for(project: Project) -> None:
    for name in ("a", "b"):
        project.wheel(name, "1.0")
    project.write(framework("fw", "a", "b", extra=TWO))
    project.lock()
    for name in ("a", "b", "c"):
        project.wheel(name, "2.0")
    project.write(framework("fw", "a", "b", "c", extra=TWO))
    project.lock()
    for platform in ("linux-x64", "macosx-aarch64"):
        assert project.versions("fw", platform) == {"a": "1.0", "b": "1.0", "c": "2.0"}
    report = project.lock(upgrade_packages=["A"])
    assert project.versions("fw", "macosx-aarch64") == {"a": "2.0", "b": "1.0", "c": "2.0"}
    changed = [change for change in report.changes if change.layer == "fw"]
    assert [change.upgraded for change in changed] == [(("a", "1.0", "2.0"),)] * 2
    project.lock(upgrade=True)
    assert project.versions("fw") == {"a": "2.0", "b": "2.0", "c": "2.0"}


def test_an_upgrade_of_one_layer_leaves_those_below_alone(project: Project) -> None:
    for name in ("a", "b"):
        project.wheel(name, "1.0")
    project.write(framework("fw", "a", extra=TWO) + application("app", "fw", "b", extra=TWO))
    project.lock()
    for name in ("a", "b"):
        project.wheel(name, "2.0")
    with pytest.raises(UsageError) as caught:
        project.lock(layers=["app"], upgrade_packages=["a"])
    assert str(caught.value).splitlines() == [
        "app does not have a, so it is not upgraded there",
        "  found: a in fw",
        "  to fix: name that layer",
    ]
    project.lock(layers=["app-*"], upgrade=True)
    for platform in ("linux-x64", "macosx-aarch64"):
        assert project.versions("fw", platform) == {"a": "1.0"}
        assert project.versions("app", platform) == {"b": "2.0"}
    project.lock(layers=["framework-fw"], upgrade_packages=["a"])
    assert project.versions("fw") == {"a": "2.0"}


def test_a_layer_for_other_platforms_than_the_stack_is_told(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STACKBUILD_CACHE_DIR", str(project.workspace.cache))
    project.wheel("base", "1.0")
    stack = '[tool.stackbuild]\nplatforms = ["linux-x64"]\n'
    windows = only(Platform.WINDOWS_X64)
    project.write(framework("fw", "base") + application("app", "fw", extra=windows) + stack)
    spec = ["--spec", str(project.directory / "venvstacks.toml")]
    told = "warning: app is not locked: it is made for windows-x64, and the stack for linux-x64"
    for words in (["lock"], ["lock"], ["lock", "--check"]):
        assert main([*words, *spec]) == 0
        assert capsys.readouterr().err.splitlines()[-1] == told
    assert main(["show", *spec]) == 0
    shown = capsys.readouterr().out
    assert "not used: made for windows-x64, none of the stack's platforms" in shown


def test_each_page_and_file_is_asked_for_once(project: Project) -> None:
    project.wheel("base", "1.0")
    project.wheel("top", "1.0", requires=("base",))
    project.write(framework("fw", "base") + application("app", "fw", "top"))
    project.lock()
    for name in ("base", "top"):
        assert project.index.count("GET", f"/simple/{name}/") == 1
        assert project.index.count("GET", f"/files/{name}-1.0") == 1
    # Without locks everything is resolved again, from the pages that uv kept.
    before = project.raw("app")["packages"]
    shutil.rmtree(project.workspace.layers)
    project.index.forget()
    project.lock()
    assert project.index.requests == ()
    assert project.raw("app")["packages"] == before


def test_a_release_of_a_moment_ago_is_found_where_it_is_asked_for(project: Project) -> None:
    project.wheel("base", "1.0")
    project.write(framework("fw", "base", extra=TWO))
    project.lock()
    project.wheel("base", "2.0")
    project.write(framework("fw", "base>=2", extra=TWO))
    project.lock()
    assert project.versions("fw", "macosx-aarch64") == {"base": "2.0"}


@pytest.mark.parametrize("upgrade", [False, True])
def test_a_file_that_an_index_replaced_has_its_own_metadata(
    project: Project, upgrade: bool
) -> None:
    project.wheel("base", "1.0")
    project.wheel("top", "1.0")
    project.wheel("more", "1.0")
    project.write(framework("fw", "top"))
    project.lock()
    project.wheel("top", "1.0", requires=("base",))
    # A page that is not remembered yet, or not any more.
    shutil.rmtree(next(project.workspace.uv.glob("simple-*")))
    project.write(framework("fw", "top", "more"))
    project.lock(upgrade=upgrade)
    assert project.versions("fw") == {"base": "1.0", "more": "1.0", "top": "1.0"}


def test_check_asks_nobody(project: Project) -> None:
    project.wheel("base", "1.0")
    project.write(framework("fw", "base", extra=TWO))
    project.lock()
    project.write(framework("fw", "base>=2", extra=TWO))
    project.index.forget()
    assert [item.reason for item in project.lock(check=True).stale] == [
        "its requirements changed"
    ] * 2
    assert project.index.requests == ()


def test_nothing_to_do_asks_nobody_and_writes_nothing(project: Project) -> None:
    project.wheel("base", "1.0")
    project.write(framework("fw", "base", extra=TWO))
    project.lock()
    before = {path: path.read_bytes() for path in project.workspace.layers.rglob("*.toml")}
    stamps = {path: path.stat().st_mtime_ns for path in before}
    project.index.forget()
    report = project.lock()
    assert {change.state for change in report.changes} == {"current"}
    assert project.index.requests == ()
    assert {path: path.stat().st_mtime_ns for path in before} == stamps


def test_only_what_changed_is_resolved_again(project: Project) -> None:
    project.wheel("base", "1.0")
    project.wheel("one", "1.0")
    project.wheel("two", "1.0")
    fw = framework("fw", "base", extra=LINUX_ONLY)
    project.write(fw + application("app", "fw", "one") + application("other", "fw", "two"))
    project.lock()
    project.wheel("three", "1.0")
    project.write(fw + application("app", "fw", "one", "three") + application("other", "fw", "two"))
    project.index.forget()
    report = project.lock()
    assert {
        change.layer: change.state for change in report.changes if change.state != "current"
    } == {"app": "changed"}
    assert project.index.count("GET", "/simple/two/") == 0
    assert project.index.count("GET", "/simple/base/") == 0


def test_layers_without_problems_are_locked(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(project.workspace.cache))
    odd = RUNTIME.replace('"rt"', '"odd"').replace("3.12.10", "3.12.{}")
    layers = (
        framework("good", "base{0}", extra=TWO)
        + framework("bad", "base{0}", "native=={1}", extra=TWO)
        + application("above", "bad", "top{0}")
        + application("beside", "good", "top{0}")
    )
    for version in ("1.0", "2.0"):
        project.wheel("base", version)
        project.wheel("top", version)
    project.wheel("native", "1.0")
    project.wheel("native", "2.0", LINUX)
    words = ["lock", "--spec", str(project.directory / "venvstacks.toml")]
    project.write(odd.format(10) + layers.format("<2", "1.0"))
    assert main(words) == 0
    before = {path: path.read_bytes() for path in project.workspace.layers.rglob("*.toml")}
    capsys.readouterr()
    project.write(odd.format(99) + layers.format(">=2", "2.0"))
    assert main(words) == 4
    err = capsys.readouterr().err
    assert "wrote the locks of good, beside; unchanged are those of odd, bad, above\n" in err
    assert "native 2.0 has no wheel for macosx-aarch64\n" in err
    assert "3.12.99" in err
    changed = {path.parent.name for path, data in before.items() if path.read_bytes() != data}
    assert changed == {"good", "beside"}
    assert project.versions("good", "macosx-aarch64") == {"base": "2.0"}
    capsys.readouterr()
    # The next run starts from there.
    project.write(odd.format(10) + layers.format(">=2", "1.0"))
    assert main(words) == 0
    assert "unchanged are" not in capsys.readouterr().err


def test_a_changed_lower_layer_makes_the_upper_one_stale(project: Project) -> None:
    project.wheel("base", "1.0")
    project.wheel("top", "1.0", requires=("base",))
    upper = application("app", "fw", "top")
    project.write(framework("fw", "base", extra=LINUX_ONLY) + upper)
    project.lock()
    project.wheel("base", "2.0")
    project.lock(layers=["fw"], upgrade=True)
    report = project.lock(check=True)
    assert [(item.layer, str(item.platform)) for item in report.stale] == [("app", "linux-x64")]
    project.lock()
    assert str(project.read("app").inherited[0].version) == "2.0"


def test_the_counter_and_the_time_follow_the_distributions_only(project: Project) -> None:
    project.wheel("base", "1.0")
    project.write(framework("fw", "base", extra=LINUX_ONLY))
    project.lock()
    first = project.read("fw")
    text = project.path("fw").read_text().replace(first.locked_at, "2001-02-03T04:05:06Z")
    project.path("fw").write_text(text)
    project.write(framework("fw", "base>=1", extra=LINUX_ONLY))
    report = project.lock()
    assert {change.layer: change.state for change in report.changes}["fw"] == "renewed"
    renewed = project.read("fw")
    assert (renewed.version, renewed.locked_at) == (1, "2001-02-03T04:05:06Z")
    assert renewed.digest == first.digest
    project.wheel("base", "2.0")
    project.lock(upgrade=True)
    changed = project.read("fw")
    assert changed.version == 2
    assert changed.locked_at > renewed.locked_at
    assert changed.digest != first.digest


VERSIONED = """
[[frameworks]]
name = "fw"
runtime = "rt"
versioned = true
requirements = []

[[applications]]
name = "app"
frameworks = ["fw"]
launch_module = "src/app"
support_modules = ["src/helping.py"]
versioned = true
requirements = ["pure"]
platforms = ["linux-x64", "windows-x64"]

[[applications]]
name = "plain"
frameworks = ["fw"]
launch_module = "src/app"
requirements = []

[tool.stackbuild.layers]
fw.copy-files = [{ from = "data.txt", to = "share/data.txt" }]
app.copy-files = [{ from = "data.txt", to = "share/own.txt" }]
app.platform-specific.windows-x64.copy-files = [{ from = "win.txt", to = "share/" }]
"""


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("src/app/__main__.py", {"app": {"linux-x64", "windows-x64"}}),
        ("src/app/new.py", {"app": {"linux-x64", "windows-x64"}}),
        ("src/helping.py", {"app": {"linux-x64", "windows-x64"}}),
        ("overlays/app/data.txt", {"app": {"linux-x64", "windows-x64"}}),
        ("overlays/app/win.txt", {"app": {"windows-x64"}}),
        ("overlays/app/other.txt", {}),
        ("src/app/__pycache__/x.pyc", {}),
        ("overlays/fw/data.txt", {"fw": DEFAULT_PLATFORMS, "app": {"linux-x64", "windows-x64"}}),
    ],
)
def test_a_versioned_layer_counts_changes_of_its_own_files(
    project: Project, file: str, changed: dict[str, Collection[str]]
) -> None:
    project.wheel("pure", "1.0")
    paths = ("src/app/__main__.py", "src/helping.py", "overlays/app/win.txt")
    for path in (*paths, "overlays/app/data.txt", "overlays/fw/data.txt"):
        (project.directory / path).parent.mkdir(parents=True, exist_ok=True)
        (project.directory / path).write_text("before = 1\n")
    project.write(VERSIONED)
    first = {(lock.layer, lock.platform): lock for lock in project.lock().locks}
    assert project.lock(check=True).stale == ()
    (project.directory / file).parent.mkdir(parents=True, exist_ok=True)
    (project.directory / file).write_text("after = 1\n")
    wanted = {(layer, platform) for layer in changed for platform in changed[layer]}
    told = {(one.layer, str(one.platform)) for one in project.lock(check=True).stale}
    # A layer above one that is stale itself is known to be stale when that is locked.
    assert told == {pair for pair in wanted if file != "overlays/fw/data.txt" or pair[0] == "fw"}
    project.index.forget()
    report = project.lock()
    assert project.index.requests == ()
    for lock in report.locks:
        old = first[lock.layer, lock.platform]
        is_changed = (lock.layer, str(lock.platform)) in wanted
        assert lock.version == old.version + is_changed
        assert (lock.digest != old.digest) == is_changed
        assert lock.distributions == old.distributions
        assert read_lock(project.path(lock.layer, lock.platform)) == lock
    assert {(one.layer, str(one.platform)) for one in report.changes if one.own} == wanted
    assert project.lock(check=True).stale == ()


def test_a_layer_that_becomes_versioned_begins_to_count(project: Project) -> None:
    layer = '[[applications]]\nname = "app"\nruntime = "rt"\nrequirements = []\n'
    project.write(layer)
    project.lock()
    assert project.read("app").own is None
    project.write(f"{layer}versioned = true\n")
    assert project.lock(check=True).stale
    project.lock()
    assert project.read("app").version == 2
    assert project.lock(check=True).stale == ()
    # So do settings that change its contents.
    for setting in ('exclude-files = ["*.a"]', 'environment.A = "b"', "packages = true"):
        project.write(f"{layer}versioned = true\n[tool.stackbuild.layers.app]\n{setting}\n")
        assert project.lock(check=True).stale, setting


def test_locks_are_neither_read_nor_written_through_a_link_out_of_the_project(
    project: Project, tmp_path: Path
) -> None:
    project.write("")
    project.lock()
    outside = tmp_path / "outside"
    (project.directory / "layers").rename(outside)
    (project.directory / "layers").symlink_to(outside)
    before = {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()}
    with pytest.raises(LockError, match="leads out of the project through a link") as caught:
        project.lock(upgrade=True)
    assert "to fix: replace the link by a directory" in str(caught.value)
    assert {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()} == before


def test_locks_behind_a_link_are_not_removed_as_left_over(project: Project, tmp_path: Path) -> None:
    layer = '[[applications]]\nname = "app"\nruntime = "rt"\nrequirements = []\n'
    project.write(layer)
    project.lock()
    (project.directory / "layers/app").rename(tmp_path / "app")
    (project.directory / "layers/app").symlink_to(tmp_path / "app")
    project.write("")
    assert project.lock().leftovers == ()
    assert list((tmp_path / "app").iterdir())


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    texts = []
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        with open_project(tmp_path / place) as project:
            for name in ("b", "a", "c"):
                project.wheel(name, "1.0", LINUX, MAC)
            project.write(framework("fw", "c", "a", "b", extra=TWO))
            project.lock()
            text = project.path("fw").read_text()
            differing = r'(locked-at|inputs|checksum) = ".*"|"the package indexes .*"'
            texts.append(re.sub(differing, "", text))
    assert texts[0] == texts[1]


def test_check_tells_what_is_stale_and_exits_with_4(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STACKBUILD_CACHE_DIR", str(project.workspace.cache))
    project.wheel("base", "1.0")
    project.write(framework("fw", "base", extra=TWO))
    command = ["lock", "--spec", str(project.directory / "venvstacks.toml")]
    assert main([*command, "--check"]) == 4
    assert "fw on linux-x64, macosx-aarch64: not locked\n" in capsys.readouterr().out
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert printed == "rt  new: 0 distributions\nfw  new: 1 distribution\n7 locks: 7 new\n"
    assert main([*command, "--check"]) == 0
    assert capsys.readouterr().out == "all locks are current\n"
    assert main(["-q", *command, "--check"]) == 0
    assert main(["-q", *command]) == 0
    assert capsys.readouterr() == ("", "")
    project.write(framework("fw", "base>=1", extra=TWO))
    assert main([*command, "--check", "--json", "--platform", "linux-x64"]) == 4
    assert json.loads(capsys.readouterr().out)["stale"] == [
        {"layer": "fw", "platform": "linux-x64", "reason": "its requirements changed"}
    ]


@pytest.mark.parametrize(
    "extra", ['linux_target = "glibc@2.34"', 'priority_indexes = ["more"]'], ids=["target", "index"]
)
def test_a_target_or_index_that_changes_makes_a_lock_stale(project: Project, extra: str) -> None:
    project.wheel("base", "1.0")
    more = f'[[tool.uv.index]]\nname = "more"\nurl = "{project.index.url}x/"\nexplicit = true\n'
    project.write(framework("fw", "base", extra=LINUX_ONLY) + more)
    project.lock()
    assert project.lock(check=True).stale == ()
    project.write(framework("fw", "base", extra=f"{LINUX_ONLY}{extra}\n") + more)
    assert [item.layer for item in project.lock(check=True).stale] == ["fw"]


def test_another_python_makes_all_locks_stale(project: Project) -> None:
    project.wheel("base", "1.0")
    project.write(framework("fw", "base", extra=LINUX_ONLY))
    project.lock()
    project.write(
        framework("fw", "base", extra=LINUX_ONLY), runtime=RUNTIME.replace("3.12.10", "3.12.9")
    )
    stale = project.lock(check=True, platforms=["linux-x64"]).stale
    reason = "locked for Python 3.12.10, the spec requires 3.12.9"
    assert [(item.layer, item.reason) for item in stale] == [("rt", reason), ("fw", reason)]
    project.lock()
    assert "3.12.9" in (project.directory / "layers/rt/runtime.toml").read_text()


def test_load_locks_brings_the_chain_along(project: Project) -> None:
    project.wheel("base", "1.0")
    project.wheel("top", "1.0")
    project.write(framework("fw", "base", extra=LINUX_ONLY) + application("app", "fw", "top"))
    project.lock()
    stack = project.stack
    found = load_locks(stack, project.workspace, [(stack.layers["app"], Platform.LINUX_X64)])
    assert [layer for layer, _ in found] == ["rt", "fw", "app"]
    assert found["app", Platform.LINUX_X64] == project.read("app")
    assert found["rt", Platform.LINUX_X64].interpreter is not None


def test_no_setting_of_the_host_changes_a_lock(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = tmp_path / "hostile"
    make_wheel(hostile, "base", "9.0", {"base.py": ""})
    project.wheel("base", "1.0", LINUX, WINDOWS)
    project.wheel("base", "2.0", LINUX, WINDOWS, MAC)
    with IndexServer(hostile) as other:
        home = tmp_path / "home"
        for place in (home / ".config/uv/uv.toml", project.directory / "uv.toml"):
            place.parent.mkdir(parents=True)
            place.write_text(f'[[index]]\nurl = "{other.url}"\n[pip]\nresolution = "lowest"\n')
        pip = f"[global]\nindex-url = {other.url}\nfind-links = {hostile}\n"
        (home / ".config/pip").mkdir()
        (home / ".config/pip/pip.conf").write_text(pip)
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
        for name, value in {
            "UV_INDEX": other.url,
            "UV_DEFAULT_INDEX": other.url,
            "UV_RESOLUTION": "lowest",
            "UV_FIND_LINKS": str(hostile),
            "UV_CONFIG_FILE": str(home / ".config/uv/uv.toml"),
            "UV_CACHE_DIR": str(tmp_path / "uv-cache"),
            "UV_EXCLUDE_NEWER": "2001-01-01T00:00:00Z",
            "MACOSX_DEPLOYMENT_TARGET": "10.9",
            "PIP_INDEX_URL": other.url,
            "PIP_FIND_LINKS": str(hostile),
        }.items():
            monkeypatch.setenv(name, value)
        platforms = (Platform.LINUX_X64, Platform.WINDOWS_X64, Platform.MACOSX_AARCH64)
        project.write(framework("fw", "base", extra=only(*platforms)))
        project.lock()
        assert other.requests == ()
    assert [project.versions("fw", platform) for platform in platforms] == [{"base": "2.0"}] * 3
    assert not (tmp_path / "uv-cache").exists()


def test_credentials_end_up_nowhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_project(tmp_path, user="user", password="hunter2") as project:
        monkeypatch.setenv("STACKBUILD_CACHE_DIR", str(project.workspace.cache))
        project.wheel("base", "1.0")
        layers = framework("fw", "base", extra=LINUX_ONLY)
        project.write(layers, address=project.index.url_with_credentials)
        spec = ["--spec", str(project.directory / "venvstacks.toml")]
        assert main(["lock", *spec]) == 0
        assert main(["fetch", *spec]) == 0
        assert (project.directory / "wheelhouse/base-1.0-py3-none-any.whl").is_file()
        inputs = project.read("fw").inputs
        wrong = project.index.url_with_credentials.replace("hunter2", "hunter3")
        project.write(framework("fw", "base>=1", extra=LINUX_ONLY), address=wrong)
        assert main(["lock", *spec, "--upgrade"]) == 5
        captured = capsys.readouterr()
        assert "the package index cannot be read" in captured.err
        written = [path for path in tmp_path.rglob("*") if path.is_file()]
        for path in written:
            if path != project.directory / "venvstacks.toml":
                assert b"hunter" not in path.read_bytes(), path
        assert "hunter" not in captured.out + captured.err
        project.write(layers, address=wrong)
        assert project.lock(check=True).stale == ()
        assert project.read("fw").inputs == inputs


def test_a_bound_distribution_comes_from_its_index_only(project: Project, tmp_path: Path) -> None:
    project.wheel("bound", "9.0")
    project.wheel("indirect", "9.0")
    project.wheel("free", "1.0", requires=("indirect",))
    more = tmp_path / "more"
    for name in ("bound", "indirect", "free"):
        make_wheel(more, name, "2.0", {f"{name}.py": ""})
    with IndexServer(more) as other:
        index = f'[[tool.uv.index]]\nname = "more"\nurl = "{other.url}"\nexplicit = true\n'
        bound = 'package_indexes = {bound = "more", indirect = "more"}\n'
        project.write(framework("fw", "bound", "free", extra=LINUX_ONLY + bound) + index)
        project.lock()
        assert project.versions("fw") == {"bound": "2.0", "free": "1.0", "indirect": "2.0"}


def test_indexes_are_never_mixed(project: Project, tmp_path: Path) -> None:
    project.wheel("base", "9.0")
    project.wheel("rest", "1.0")
    more = tmp_path / "more"
    make_wheel(more, "base", "1.0", {"base.py": ""})
    with IndexServer(more) as other:
        index = f'[[tool.uv.index]]\nname = "more"\nurl = "{other.url}"\n'
        project.write(framework("fw", "base", "rest", extra=LINUX_ONLY) + index)
        project.lock()
    assert project.versions("fw") == {"base": "1.0", "rest": "1.0"}


@pytest.mark.parametrize("again", [False, True], ids=["first", "again"])
def test_sizes_are_asked_for_once_where_the_index_does_not_tell(
    tmp_path: Path, again: bool
) -> None:
    counts = []
    for place, tells in (("json", True), ("html", False)):
        (tmp_path / place).mkdir()
        with open_project(tmp_path / place, json=tells) as project:
            project.wheel("base", "1.0")
            project.write(framework("fw", "base", extra=LINUX_ONLY))
            project.lock()
            if again:
                project.index.forget()
                project.write(framework("fw", "base>=1", extra=LINUX_ONLY))
                project.lock()
            counts.append(project.index.count("HEAD", "base-1.0"))
    # uv asks too, for what it reads of the metadata; that is the same for both.
    assert counts[1] - counts[0] == (0 if again else 1)


def test_the_level_of_the_system_decides(project: Project) -> None:
    project.wheel("base", "1.0", LINUX, MAC, ARM)
    project.wheel("base", "2.0", "cp312-cp312-manylinux_2_34_x86_64", MAC)
    project.write(framework("fw", "base", extra=LINUX_ONLY))
    project.lock()
    assert project.versions("fw") == {"base": "1.0"}
    project.write(framework("fw", "base", extra=LINUX_ONLY + 'linux_target = "glibc@2.34"\n'))
    project.lock(upgrade=True)
    assert project.versions("fw") == {"base": "2.0"}
    project.wheel("base", "3.0", "cp312-cp312-macosx_14_0_arm64")
    on_mac = only(Platform.MACOSX_AARCH64)
    project.write(framework("fw", "base", extra=on_mac))
    project.lock(upgrade=True)
    assert project.versions("fw", "macosx-aarch64") == {"base": "2.0"}
    project.write(framework("fw", "base", extra=on_mac + 'macosx_target = "14.0"\n'))
    project.lock(upgrade=True)
    assert project.versions("fw", "macosx-aarch64") == {"base": "3.0"}


def test_the_level_of_a_layer_applies_to_what_it_adds(project: Project) -> None:
    """An application of the default level on a framework that needs a newer system."""
    newer = "cp312-cp312-manylinux_2_34_x86_64"
    project.wheel(
        "base", "2.0", newer, requires=("common; python_version >= '3'", "more; extra == 'x'")
    )
    project.wheel("common", "1.0")
    project.wheel("more", "1.0")
    project.wheel("tool", "1.0", requires=("base[x]>=2",))
    project.wheel("tool", "2.0", newer, requires=("base[x]>=2",))
    layers = framework("fw", "base", extra=LINUX_ONLY + 'linux_target = "glibc@2.34"\n')
    app = '[[applications]]\nname = "app"\nframeworks = ["fw"]\nlaunch_module = "app.py"\n'
    (project.directory / "app.py").parent.mkdir(parents=True, exist_ok=True)
    (project.directory / "app.py").touch()
    project.write(layers + app + 'requirements = ["tool", "base"]\n')
    project.lock()
    assert project.versions("fw") == {"base": "2.0", "common": "1.0"}
    assert project.versions("app") == {"tool": "1.0", "more": "1.0"}
    inherited = {item.name: str(item.version) for item in project.read("app").inherited}
    assert inherited == {"base": "2.0", "common": "1.0"}


@pytest.mark.parametrize(
    ("requirements", "found"),
    [("'base>=3'", "'base>=3' itself"), ("'tool'", "base>=3 through tool")],
)
def test_another_version_of_what_a_layer_of_another_level_brings(
    project: Project, requirements: str, found: str
) -> None:
    project.wheel("base", "2.0", "cp312-cp312-manylinux_2_34_x86_64")
    project.wheel("base", "3.0")
    project.wheel("tool", "1.0", requires=("base>=3",))
    layers = framework("fw", "base==2.0", extra=LINUX_ONLY + 'linux_target = "glibc@2.34"\n')
    app = '[[applications]]\nname = "app"\nframeworks = ["fw"]\nlaunch_module = "app.py"\n'
    project.directory.mkdir(parents=True, exist_ok=True)
    (project.directory / "app.py").touch()
    project.write(layers + app + f"requirements = [{requirements}]\n")
    with pytest.raises(LockError) as caught:
        project.lock()
    assert caught.value.message == "app needs another version of base than fw has"
    details = dict(caught.value.details)
    assert details["expected"] == "base 2.0, as locked in fw, which requires 'base==2.0'"
    assert details["found"] == f"app requires {found}"
    assert details["to fix"] == (
        "change the requirement of app, or make fw require a version of base that app can use"
    )


def test_settings_of_uv_change_the_resolution(
    project: Project,
) -> None:
    for version in ("1.0", "2.0", "3.0"):
        project.wheel("base", version)
        project.wheel("top", version, requires=(f"base=={version}", "extra"))
    project.wheel("extra", "1.0")
    settings = """
        [tool.uv]
        override-dependencies = ["base==2.0"]
        constraint-dependencies = ["top<3"]
        exclude-dependencies = ["extra"]
        link-mode = "copy"
        """
    project.write(framework("fw", "top", extra=LINUX_ONLY) + settings)
    done = stackbuild("lock", "--spec", project.directory / "venvstacks.toml")
    assert done.returncode == 0, done.stderr
    assert "settings without effect in stackbuild: tool.uv.link-mode" in done.stderr
    assert project.versions("fw") == {"base": "2.0", "top": "2.0"}


@pytest.mark.parametrize("name", ["exclude-newer", "exclude-newer-package"])
def test_a_day_ends_at_midnight_of_utc(
    project: Project, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the time zone of the machine is, which uv would use."""
    project.index.json = True
    project.index.uploaded = {
        "base-1.0": "2025-10-19T20:00:00Z",
        "base-2.0": "2025-10-20T02:00:00Z",
    }
    project.wheel("base", "1.0")
    project.wheel("base", "2.0")
    value = '"2025-10-19"' if name == "exclude-newer" else '{ base = "2025-10-19" }'
    project.write(framework("fw", "base", extra=LINUX_ONLY) + f"[tool.uv]\n{name} = {value}\n")
    for zone in ("America/New_York", "Asia/Tokyo"):
        monkeypatch.setenv("TZ", zone)
        project.lock(upgrade=True)
        assert project.versions("fw") == {"base": "1.0"}


def test_a_workspace_above_the_temporary_directory_is_ignored(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    wheel = make_wheel(tmp_path / "hostile", "base", "9.0", {"base.py": ""})
    (shared / "pyproject.toml").write_text(
        '[project]\nname = "root"\nversion = "1"\n[tool.uv.workspace]\nmembers = ["*"]\n'
        f'[tool.uv.sources]\nbase = {{ path = "{wheel}" }}\n'
    )
    monkeypatch.setattr("tempfile.tempdir", str(shared))
    project.wheel("base", "1.0")
    project.write(framework("fw", "base", extra=LINUX_ONLY))
    project.lock()
    assert project.versions("fw") == {"base": "1.0"}


def test_an_index_without_hashes_is_measured_by_its_files(tmp_path: Path) -> None:
    wheels = tmp_path / "index"
    make_wheel(wheels, "base", "1.0", {"base.py": ""})
    with IndexServer(wheels, hashes=False) as index:
        project = Project(tmp_path / "project", index)
        project.write(framework("fw", "base", extra=LINUX_ONLY))
        project.lock()
        shutil.rmtree(project.workspace.addresses)
        fetch(project.stack, project.workspace, [project.read("fw")], Silent())
    content = (project.directory / "wheelhouse/base-1.0-py3-none-any.whl").read_bytes()
    wheel = project.read("fw").distributions[0].wheel
    assert (wheel.sha256, wheel.size) == (hashlib.sha256(content).hexdigest(), len(content))


def test_local_wheels_are_candidates_beside_the_index(project: Project) -> None:
    project.wheel("needed", "1.0")
    project.wheel("ours", "1.0")
    table = '[tool.stackbuild]\nlocal-wheels = ["dist"]\n'
    project.write(framework("fw", "ours") + table)
    with pytest.raises(FetchError, match="the directory of local wheels does not exist"):
        project.lock(platforms=["linux-x64"])
    make_wheel(project.directory / "dist", "ours", "2.0", {"ours.py": ""}, requires=["needed"])
    project.lock(platforms=["linux-x64"])
    assert project.versions("fw") == {"needed": "1.0", "ours": "2.0"}
    remove_tree(project.workspace.cache)
    found = fetch(project.stack, project.workspace, [project.read("fw")], Silent())
    assert all(path.is_file() for path in found.values())

    # Another file of this name is locked and fetched, also of the same size, and not that of the
    # index.
    project.wheel("ours", "2.0")
    wheel = make_wheel(project.directory / "dist", "ours", "2.0", {"ours.py": "2"})
    kept = project.workspace.wheelhouse / wheel.name
    kept.write_bytes(b"x" * wheel.stat().st_size)
    [stale] = project.lock(platforms=["linux-x64"], check=True).stale
    assert stale.reason == f"dist/{wheel.name} changed"
    project.lock(platforms=["linux-x64"])
    assert project.lock(platforms=["linux-x64"], check=True).stale == ()
    assert project.versions("fw") == {"ours": "2.0"}
    fetch(project.stack, project.workspace, [project.read("fw")], Silent())
    assert kept.read_bytes() == wheel.read_bytes()
    wheel.unlink()
    assert project.lock(platforms=["linux-x64"], check=True).warnings == (
        "venvstacks.toml, line 13: tool.stackbuild.local-wheels[0]: there are no wheels in 'dist'",
    )
    project.write(framework("fw", "ours"))
    assert project.lock(check=True).stale


def test_a_folder_of_wheels_is_an_index(project: Project) -> None:
    project.wheel("base", "1.0", LINUX)
    project.write(
        framework("fw", "base", extra=LINUX_ONLY) + '[[tool.uv.index]]\nformat = "flat"\n'
        f'url = "{project.index.directory.as_uri()}"\n'
    )
    project.lock()
    assert project.versions("fw") == {"base": "1.0"}
    shutil.rmtree(project.workspace.addresses)
    files = fetch(project.stack, project.workspace, [project.read("fw")], Silent())
    assert [path.is_file() for path in files.values()] == [True]
    assert project.index.count("GET", "/files/") == 0
