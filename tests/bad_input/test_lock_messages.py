"""What is said where a stack cannot be locked."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from stackbuild.builds.add import add_wheels
from stackbuild.cli.main import main
from stackbuild.errors import (
    FetchError,
    IntegrityError,
    LockError,
    ManyLocksError,
    StackbuildError,
    UsageError,
    quoted,
)
from stackbuild.lock.current import load_locks
from stackbuild.lock.model import ProjectSource
from stackbuild.lock.wheelhouse import fetch
from stackbuild.messages import Silent
from stackbuild.platforms import Platform
from tests.support.http import serving
from tests.support.locking import (
    LINUX,
    MAC,
    RUNTIME,
    WINDOWS,
    application,
    framework,
    only,
    open_project,
)
from tests.support.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.locking import Project

LINUX_ONLY = only(Platform.LINUX_X64)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with open_project(tmp_path) as opened:
        yield opened


def _error(project: Project) -> str:
    with pytest.raises(LockError) as caught:
        project.lock()
    for error in getattr(caught.value, "errors", [caught.value]):
        layer = project.workspace.layers / dict(error.details)["layer"]
        assert not list(layer.glob("pylock*"))
    return str(caught.value)


def test_a_direct_conflict_names_both_layers_and_requirements(project: Project) -> None:
    for version in ("1.0", "2.0"):
        project.wheel("base", version)
    project.write(
        framework("fw", "base<2", extra=only(Platform.LINUX_X64, Platform.WINDOWS_X64))
        + application("app", "fw", "base>=2")
    )
    assert _error(project) == (
        "app needs another version of base than fw has\n"
        "  layer: app\n"
        "  platform: linux-x64, windows-x64\n"
        "  distribution: base\n"
        "  expected: base 1.0, as locked in fw, which requires 'base<2'\n"
        "  found: app requires 'base>=2' itself\n"
        "  to fix: change the requirement of app, or make fw require 'base==2.0', "
        "which app can use"
    )


def test_a_conflict_of_dependencies_names_who_asked(project: Project) -> None:
    for version in ("1.0", "2.0"):
        project.wheel("base", version)
    project.wheel("user", "1.0", requires=("base<2",))
    project.wheel("middle", "1.0", requires=("base>=2",))
    project.wheel("top", "1.0", requires=("middle",))
    project.write(framework("fw", "user", extra=LINUX_ONLY) + application("app", "fw", "top"))
    assert _error(project) == (
        "app needs another version of base than fw has\n"
        "  layer: app\n"
        "  platform: linux-x64\n"
        "  distribution: base\n"
        "  expected: base 1.0, as locked in fw, for other distributions\n"
        "  found: app requires base>=2 through middle\n"
        "  to fix: change the requirement of app, or make fw require 'base==2.0', "
        "which app can use"
    )


def test_a_missing_wheel_names_all_platforms_and_the_remedies(project: Project) -> None:
    project.wheel("base", "1.0", LINUX, WINDOWS)
    project.wheel("base", "2.0", LINUX, "cp312-cp312-macosx_14_0_arm64")
    platforms = only(Platform.LINUX_X64, Platform.MACOSX_AARCH64, Platform.WINDOWS_X64)
    project.write(framework("fw", "base==2.0", extra=platforms))
    assert _error(project) == (
        "base 2.0 has no wheel for macosx-aarch64, windows-x64\n"
        "  layer: fw\n"
        "  platform: macosx-aarch64 (macOS 13.0), windows-x64\n"
        "  distribution: base 2.0, which fw requires as 'base==2.0'\n"
        "  found: wheels for macosx_14_0_arm64, manylinux2014_x86_64, manylinux_2_17_x86_64\n"
        "  to fix: require another version (1.0 has wheels for windows-x64); "
        "or set `macosx_target = '14.0'`; "
        "or leave macosx-aarch64, windows-x64 out of the `platforms` of fw"
    )


def test_a_missing_wheel_of_a_dependency_names_who_needs_it(project: Project) -> None:
    project.wheel("low", "1.0", "cp312-cp312-manylinux_2_35_x86_64")
    project.wheel("top", "1.0", requires=("low",))
    project.write(framework("fw", "top", extra=LINUX_ONLY))
    assert _error(project) == (
        "low 1.0 has no wheel for linux-x64\n"
        "  layer: fw\n"
        "  platform: linux-x64 (glibc 2.28)\n"
        "  distribution: low 1.0, which top needs\n"
        "  found: wheels for manylinux_2_35_x86_64\n"
        "  to fix: set `linux_target = 'glibc@2.35'`; "
        "or leave linux-x64 out of the `platforms` of fw"
    )


def test_a_source_archive_is_no_wheel(project: Project) -> None:
    (project.index.directory / "source-1.0.tar.gz").write_bytes(b"")
    project.write(framework("fw", "source", extra=LINUX_ONLY))
    message = _error(project)
    assert message.startswith("source 1.0 has no wheel for linux-x64\n")
    assert "  found: no wheels\n" in message


def test_wheels_for_another_python_only(project: Project) -> None:
    project.wheel("old", "1.0", "cp39-cp39-manylinux_2_17_x86_64")
    project.write(framework("fw", "old", extra=LINUX_ONLY))
    message = _error(project)
    assert message.startswith("old 1.0 has no wheel for linux-x64\n")
    assert "  found: wheels for cp39\n" in message


def test_errors_of_several_layers_are_told_together(project: Project) -> None:
    project.wheel("base", "1.0")
    project.write(
        framework("one", "nowhere", extra=LINUX_ONLY) + framework("two", "base>2", extra=LINUX_ONLY)
    )
    with pytest.raises(ManyLocksError) as caught:
        project.lock()
    lines = str(caught.value).splitlines()
    assert lines[:2] == ["2 problems with the locks", "1. no package index has nowhere"]
    assert "2. no package index has base>2" in lines
    found = "only base==1.0 is available and two depends on base>2"
    assert any(found in line for line in lines)
    assert caught.value.exit_code == 4


def test_nothing_is_written_when_one_platform_fails(project: Project) -> None:
    project.wheel("base", "1.0", LINUX, MAC)
    project.write(framework("fw", "base", extra=only(Platform.LINUX_X64, Platform.LINUX_AARCH64)))
    assert "base 1.0 has no wheel for linux-aarch64" in _error(project)


@pytest.mark.slow  # uv tries again for some seconds
def test_an_index_that_is_not_there(project: Project) -> None:
    project.write(framework("fw", "base", extra=LINUX_ONLY), address="http://127.0.0.1:9/simple/")
    with pytest.raises(FetchError, match="the package index cannot be read"):
        project.lock()


@pytest.mark.parametrize(
    ("way", "other"),
    [
        *((way, ("ours", "1.0")) for way in ("local", "file", "https", "flat")),
        *((way, ("theirs", "2.0")) for way in ("file", "https")),
    ],
)
def test_a_wheel_with_the_metadata_of_another_distribution(
    project: Project, way: str, other: tuple[str, str]
) -> None:
    directory = project.index.directory if way == "https" else project.directory / "dist"
    wheel = make_wheel(directory, *other, {"ours.py": ""}).rename(
        directory / "ours-2.0-py3-none-any.whl"
    )
    requirement, table = {
        "local": ("ours", '[tool.stackbuild]\nlocal-wheels = ["dist"]\n'),
        "file": (f"ours @ file:dist/{wheel.name}", ""),
        "https": (f"ours @ {project.index.url.removesuffix('/simple/')}/files/{wheel.name}", ""),
        "flat": ("ours", f'[[tool.uv.index]]\nformat = "flat"\nurl = "{directory.as_uri()}"\n'),
    }[way]
    project.write(framework("fw", requirement, extra=LINUX_ONLY) + table)
    with pytest.raises(IntegrityError, match="the metadata of a wheel has another") as caught:
        project.lock()
    details = dict(caught.value.details)
    assert (details["expected"], details["found"]) == ("ours 2.0", repr(" ".join(other)))
    assert details["file"].endswith(wheel.name)


def test_a_wheel_of_another_version_than_required(project: Project) -> None:
    wheel = make_wheel(project.directory / "dist", "tiny", "1.0", {"tiny.py": ""})
    project.write(framework("fw", f"tiny @ file:dist/{wheel.name}", "tiny>=2", extra=LINUX_ONLY))
    assert _error(project) == (
        "a version is required that differs from the one at the path or address that the spec "
        "names\n"
        "  layer: fw\n"
        "  platform: linux-x64\n"
        "  distribution: tiny 1.0\n"
        "  found: 'tiny>=2' itself\n"
        "  to fix: change the requirement, or the path or address"
    )


def test_a_file_at_an_address_that_is_not_there_or_another(project: Project) -> None:
    files = {"/given-1.0-py3-none-any.whl": b"wheel", "/given-1.0.tar.gz": b"sdist"}
    with serving(files) as server:

        def error_of(file: str) -> list[str]:
            project.write(framework("fw", f"given @ {server.url}/{file}"))
            with pytest.raises(StackbuildError) as caught:
                project.lock(platforms=["linux-x64", "windows-x64"])
            assert not project.path("fw").exists()
            text = str(caught.value).replace(server.url, "URL")
            return [f"{caught.value.exit_code} {text.splitlines()[0]}", *text.splitlines()[1:]]

        for file, content in files.items():
            assert error_of(f"{file[1:]}#sha256={'0' * 64}") == [
                "6 the file at the address of a requirement is not the one of its #sha256",
                "  layer: fw",
                "  platform: linux-x64, windows-x64",
                f"  distribution: given @ URL{file}",
                f"  expected: sha256 {'0' * 64}",
                f"  found: sha256 {hashlib.sha256(content).hexdigest()}, {len(content)} bytes",
                "  to fix: correct #sha256= in the requirement, or the address",
            ]
        for mark in ("", f"#sha256={'0' * 64}"):
            assert error_of(f"given-2.0-py3-none-any.whl{mark}") == [
                "5 the file that a requirement names is not available",
                "  layer: fw",
                "  platform: linux-x64, windows-x64",
                "  distribution: given @ URL/given-2.0-py3-none-any.whl",
                "  found: there is no such file (URL/given-2.0-py3-none-any.whl):"
                " HTTP status 404 Not Found",
                "  to fix: correct the address in the requirement; or get the file elsewhere,"
                " put it into the repository, and write 'given @ file:PATH'",
            ]
        assert f"; it is built from the source distribution {file[1:]}" in error_of(file[1:])[4]


def test_an_added_wheel_that_a_clone_does_not_have(project: Project) -> None:
    project.wheel("needed", "1.0")
    added = project.directory / "dist" / "given-1.0-py3-none-any.whl"
    table = '[tool.stackbuild]\nlocal-wheels = ["dist"]\n'
    project.write(framework("fw", "given", extra=LINUX_ONLY) + table)
    make_wheel(added.parent, "given", "1.0", {"given.py": ""}, requires=["needed"])
    project.lock()
    added.unlink()
    lock = project.read("fw")
    given, needed = lock.distributions
    project_source = ProjectSource(path="libs/needed", sha256="0" * 64)
    lock = replace(lock, distributions=(given, replace(needed, source=project_source)))
    built: list[object] = []
    with pytest.raises(FetchError) as caught:
        fetch(project.stack, project.workspace, [lock], Silent(), rebuild=built.extend)
    # What can be built is built, so that the layers without the missing wheel are published.
    assert built == [(lock.distributions[1], lock)]
    assert str(caught.value) == (
        "no package index has the file that the lock names\n"
        "  layer: fw\n"
        "  platform: linux-x64\n"
        f"  file: {added.name}\n"
        f"  expected: sha256 {given.wheel.sha256}\n"
        "  to fix: get this file from where it was locked, and add it with `stackbuild wheel add"
        " FILE` or put it into a directory of `local-wheels`; or name an index that has it with"
        " `stackbuild fetch --index URL`"
    )
    with pytest.raises(ManyLocksError, match="2 problems"):
        fetch(project.stack, project.workspace, [lock], Silent())


def test_a_distribution_that_neither_an_index_nor_local_wheels_have(project: Project) -> None:
    table = '[tool.stackbuild]\nlocal-wheels = ["dist"]\n'
    project.write(framework("fw", "given", extra=LINUX_ONLY) + table)
    (project.directory / "dist").mkdir()
    lines = _error(project).splitlines()
    assert lines[-2].endswith("; no wheel of it in `local-wheels` (dist)")
    assert (
        "a wheel with `stackbuild wheel add FILE` or in a directory of `local-wheels`" in lines[-1]
    )


def test_an_index_that_is_not_there_for_an_added_wheel(project: Project) -> None:
    index = '[[tool.uv.index]]\nname = "ours"\nurl = "http://127.0.0.1:9/simple"\n'
    project.write(framework("fw", "given", extra=LINUX_ONLY) + index)
    wheel = make_wheel(project.directory / "dist", "given", "1.0", {"given.py": ""})
    with pytest.raises(UsageError) as caught:
        add_wheels(project.stack, project.workspace, Silent(), [wheel.parent])
    assert f"stackbuild wheel add {quoted(wheel.parent)}{os.sep}*.whl; or" in str(caught.value)
    add_wheels(project.stack, project.workspace, Silent(), [wheel])
    with pytest.raises(FetchError, match="the package index cannot be read") as unread:
        project.lock()
    details = dict(unread.value.details)
    assert (details["layer"], details["platform"]) == ("fw", "linux-x64")
    assert details["found"].startswith("ours: 127.0.0.1 cannot be reached (http://127.0.0.1:9/")


def test_a_layer_is_run_in_a_project_without_a_build(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(framework("fw"))
    monkeypatch.chdir(project.directory)
    assert main(["run", "fw", "python"]) == UsageError.exit_code
    assert "make this one: stackbuild build\n" in capsys.readouterr().err


def test_a_git_repository_that_is_not_there(project: Project) -> None:
    requirement = f"given @ git+file://{project.directory}/none"
    project.write(framework("fw", requirement, extra=LINUX_ONLY))
    with pytest.raises(FetchError, match="the git repository cannot be read") as caught:
        project.lock()
    assert caught.value.details[:3] == (
        ("layer", "fw"),
        ("platform", "linux-x64"),
        ("distribution", requirement),
    )


def test_a_cache_that_is_not_writable(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Below a file nobody can make a directory, not even root.
    (project.directory.parent / "file").touch()
    cache = project.directory.parent / "file/cache"
    monkeypatch.setenv("STACKBUILD_CACHE_DIR", str(cache))
    project.wheel("base", "1.0")
    project.write(framework("fw", "base", extra=LINUX_ONLY))
    assert main(["lock", "--spec", str(project.directory / "venvstacks.toml")]) == 1
    assert capsys.readouterr().err.splitlines()[-4:] == [
        "error: the cache is not writable",
        f"  file: {cache / 'uv'}",
        "  found: Not a directory",
        "  to fix: make it writable, or set STACKBUILD_CACHE_DIR to another directory",
    ]


def test_a_failure_of_uv_is_not_taken_for_a_contradiction(project: Project) -> None:
    project.wheel("base", "1.0")
    project.write(framework("fw", "base", extra=LINUX_ONLY))
    project.lock()
    shutil.rmtree(project.workspace.layers)
    for kept in project.workspace.uv.glob("s*-v*"):
        shutil.rmtree(kept)
        kept.touch()
    assert _error(project).startswith("uv could not resolve the requirements of fw\n  layer: fw\n")


def test_a_python_that_was_never_built(project: Project) -> None:
    project.write("", runtime=RUNTIME.replace("3.12.10", "3.12.99"))
    message = _error(project)
    lines = message.splitlines()
    platforms = "linux-x64, linux-aarch64, macosx-x64, macosx-aarch64, windows-x64"
    assert lines[0] == f"python-build-standalone has no CPython 3.12.99 for {platforms}"
    assert lines[1:3] == ["  layer: rt", f"  platform: {platforms}"]
    assert lines[3].startswith("  expected: a version that it provides, such as 3.12.")
    assert "3.11" not in lines[3]


def test_the_table_in_advice_can_be_typed(project: Project) -> None:
    project.write("", runtime=RUNTIME.replace("3.12.10", "3.12.99").replace('"rt"', '"rt-3.12"'))
    assert _error(project).endswith('an archive in [tool.stackbuild.layers."rt-3.12".downloads]')


def test_a_python_that_was_not_built_for_one_platform(project: Project) -> None:
    # python-build-standalone has CPython for Windows on ARM since 3.11.12.
    runtime = RUNTIME.replace("3.12.10", "3.11.10")
    project.write("", runtime=f"{runtime}platforms = ['linux-x64', 'win_arm64']\n")
    message = _error(project)
    setting = '[tool.stackbuild] platforms = ["linux-x64"]'
    assert message.startswith("python-build-standalone has no CPython 3.11.10 for windows-aarch64")
    own = 'platforms = ["linux-x64"]'
    once = "(for one command: --platform)"
    assert message.endswith(
        f"downloads], or leave windows-aarch64 out: {setting} {once}, or {own} of the runtime rt"
    )
    # The remedies work.
    project.write("", runtime=runtime + setting.replace("] ", "]\n") + "\n")
    project.lock()
    project.write("", runtime=f"{runtime}{own}\n")
    project.lock()


@pytest.mark.parametrize("other", ["macosx-aarch64", "windows-aarch64"])
def test_the_platforms_of_other_runtimes_are_kept(project: Project, other: str) -> None:
    """The setting for all layers must not take a platform from a runtime that has an archive."""
    runtime = RUNTIME.replace("3.12.10", "3.11.10")
    second = RUNTIME.replace('"rt"', '"rt2"').replace("3.12.10", "3.12.12")
    both = f"{runtime}platforms = ['linux-x64', 'win_arm64']\n{second}platforms = ['{other}']\n"
    project.write("", runtime=both)
    ways = 'platforms = ["linux-x64"] of the runtime rt'
    if other == "macosx-aarch64":
        setting = '[tool.stackbuild] platforms = ["linux-x64", "macosx-aarch64"]'
        ways = f"{setting} (for one command: --platform), or {ways}"
    assert _error(project).endswith(f"downloads], or leave windows-aarch64 out: {ways}")


def test_a_platform_without_python_that_another_layer_names(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the sample project of venvstacks, where both runtimes lack an archive."""
    runtime = RUNTIME.replace("3.12.10", "3.11.10")
    second = RUNTIME.replace('"rt"', '"rt2"').replace("3.12.10", "3.12.9")
    named = "platforms = ['linux-x64', 'win_arm64']\n"
    upper = application("app", "fw", extra=named) + framework("other", "absent", extra=LINUX_ONLY)
    project.write(framework("fw") + upper, runtime=runtime + named + second + named)
    message = _error(project)
    setting = '[tool.stackbuild] platforms = ["linux-x64"]'
    also = "(remove windows-aarch64 from `platforms` of app, too)"
    own = f'platforms = ["linux-x64"] of the runtime rt {also}'
    assert f"out: {setting} (for one command: --platform), or {own}\n" in f"{message}\n"
    # The other platforms are tried.
    assert "absent" in message
    monkeypatch.setenv("STACKBUILD_CACHE_DIR", str(project.workspace.cache))
    assert main(["lock", "--spec", str(project.directory / "venvstacks.toml")]) == 4
    assert "\nwrote no locks\n" in capsys.readouterr().err
    # The first remedy works.
    upper = application("app", "fw", extra=named) + setting.replace("] ", "]\n") + "\n"
    project.write(framework("fw") + upper, runtime=runtime + named + second + named)
    project.lock()


def test_the_reason_of_a_stale_runtime_names_what_changed(project: Project) -> None:
    project.write("", runtime=f"{RUNTIME}platforms = ['linux-x64']\n")
    project.lock()
    project.write("", runtime=f"{RUNTIME}platforms = ['linux-x64']\nlinux_target = 'glibc@2.34'\n")
    (stale,) = project.lock(check=True).stale
    assert stale.reason == "the target changed"


def test_the_reason_of_a_stale_lock_names_what_changed(project: Project) -> None:
    for version in ("1.0", "2.0"):
        project.wheel("base", version)
    upper = application("app", "fw", "base")
    project.write(framework("fw", "base", extra=LINUX_ONLY) + upper)
    project.lock()
    own = "[tool.stackbuild.layers.app]\noverrides.base = '1.0'\nno-deps = ['base']\n"
    index = f'[[tool.uv.index]]\nname = "more"\nurl = "{project.index.url}more/"\n'
    project.write(framework("fw", "base", extra=LINUX_ONLY) + upper + own + index)
    assert {it.layer: it.reason for it in project.lock(check=True).stale} == {
        "rt": "the package indexes changed",
        "fw": "the package indexes changed",
        "app": "`no-deps`, `overrides`, the package indexes changed",
    }
    project.write(framework("fw", "base==1.0", extra=LINUX_ONLY) + upper)
    project.lock(layers=["fw"])
    [stale] = project.lock(check=True).stale
    assert (stale.layer, stale.reason) == ("app", "the lock of fw changed")


def test_an_unlocked_layer_is_named(project: Project) -> None:
    project.write(framework("fw", "base", extra=LINUX_ONLY))
    stack = project.stack
    with pytest.raises(LockError) as caught:
        load_locks(stack, project.workspace, [(stack.layers["fw"], Platform.LINUX_X64)])
    assert str(caught.value) == (
        "locks are missing or stale\n"
        f"  file: {stack.path}\n"
        "  found: rt on linux-x64: not locked; fw on linux-x64: not locked\n"
        "  to fix: run `stackbuild lock`"
    )


def test_an_unlocked_platform_is_in_the_command(project: Project) -> None:
    platforms = '[tool.stackbuild]\nplatforms = ["linux-x64"]\n'
    project.write(framework("fw", "base") + platforms)
    stack = project.stack
    with pytest.raises(LockError) as caught:
        load_locks(stack, project.workspace, [(stack.layers["fw"], Platform.LINUX_AARCH64)])
    assert str(caught.value).endswith("  to fix: run `stackbuild lock --platform linux-aarch64`")


DAMAGE = [
    (
        'version = "1.0"\nwheels',
        'version = "1.1"\nwheels',
        "packages[0].wheels[0] is not as PEP 751 says: Version in 'base-1.0-py3-none-any.whl'",
    ),
    ('layer = "fw"\n', 'layer = "fw"\ncolour = 1\n', "tool.stackbuild.colour is not known"),
    ("[[packages]]", "[[packages", "(at line "),
    ("size = ", "size = -", "packages[0].wheels[0].size is not a whole number, not negative"),
    ("../../wheelhouse/", "../../../", "packages[0].wheels[0].path is not ../../wheelhouse/"),
    ('sha256 = "', 'sha256 = "z', "packages[0].wheels[0].hashes.sha256 is not a sha256 (64 digits"),
    ('layer = "fw"\n', "", "tool.stackbuild.layer is missing"),
    ("[tool.stackbuild]", "[tool.other]", "tool.stackbuild is missing"),
]


@pytest.mark.parametrize(("old", "new", "found"), DAMAGE)
def test_a_damaged_lock_is_refused(project: Project, old: str, new: str, found: str) -> None:
    path = _locked(project)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    for check in (False, True):
        with pytest.raises(LockError) as caught:
            project.lock(check=check)
        message = str(caught.value)
        assert message.startswith(
            f"the lock is damaged or was edited by hand\n  file: {path}\n  found: "
        )
        assert found in message
        assert "restore it from version control, or remove it and run" in message


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_named_pipe_is_no_lock(project: Project) -> None:
    path = _locked(project)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(LockError) as caught:
        project.lock(check=True)
    assert str(caught.value) == (
        "the lock cannot be read (it is a named pipe and not a regular file)\n"
        f"  file: {path}\n"
        "  to fix: restore it from version control, or remove it and run `stackbuild lock`"
    )


def test_a_truncated_lock_is_refused(project: Project) -> None:
    path = _locked(project)
    content = path.read_bytes()
    for size in range(0, len(content) - 40, 97):
        path.write_bytes(content[:size])
        with pytest.raises(LockError, match="damaged or was edited by hand"):
            project.read("fw")


def test_a_lock_of_a_newer_format_is_refused(project: Project) -> None:
    path = _locked(project)
    path.write_text(path.read_text().replace("format = 3", "format = 9"))
    with pytest.raises(LockError) as caught:
        project.lock()
    assert str(caught.value) == (
        "the lock was written by a newer stackbuild\n"
        f"  file: {path}\n"
        "  expected: format 3 or older\n"
        "  found: format 9\n"
        "  to fix: update stackbuild"
    )


def test_a_lock_copied_from_another_layer_is_refused(project: Project) -> None:
    path = _locked(project)
    copy = path.parent / "pylock.windows-x64.toml"
    copy.write_bytes(path.read_bytes())
    with pytest.raises(LockError, match="the lock of another layer or platform"):
        project.read("fw", "windows-x64")


@pytest.mark.parametrize(
    ("old", "new"), [("[archives.linux-x64]", "[archives.lynx]"), ("sha256 = ", "sha = ")]
)
def test_a_damaged_runtime_file_is_refused(project: Project, old: str, new: str) -> None:
    _locked(project)
    path = project.workspace.layers / "rt/runtime.toml"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(LockError, match="damaged or was edited by hand") as caught:
        project.lock()
    assert f"  file: {path}\n" in str(caught.value)


def test_an_edited_interpreter_is_put_right(project: Project) -> None:
    _locked(project)
    path = project.workspace.layers / "rt/runtime.toml"
    before = path.read_text()
    sha256 = project.read("rt").interpreter
    assert sha256 is not None
    path.write_text(before.replace(sha256, "0" * 64))
    assert [item.reason for item in project.lock(check=True).stale] == ["its interpreter changed"]
    project.lock()
    assert path.read_text() == before


def _locked(project: Project) -> Path:
    project.wheel("base", "1.0")
    project.write(framework("fw", "base", extra=LINUX_ONLY))
    project.lock()
    return project.path("fw")


def test_a_name_to_upgrade_that_no_layer_has(project: Project) -> None:
    _locked(project)
    with pytest.raises(UsageError) as caught:
        project.lock(upgrade_packages=["bsae"])
    assert str(caught.value) == (
        "no layer has bsae, so it cannot be upgraded\n  to fix: did you mean 'base'?"
    )
