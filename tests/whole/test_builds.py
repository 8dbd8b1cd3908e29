"""Wheels built from source, for real: with this machine's compiler and its interpreter."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stackbuild.errors import FetchError, IntegrityError, LockError
from stackbuild.files import remove_tree, sha256_file
from stackbuild.lock.model import VcsSource
from stackbuild.platforms import Platform, host_platform
from stackbuild.runtimes.elf import read_elf
from stackbuild.runtimes.probe import SYSTEM_PREFIX
from stackbuild.workspace import CACHE_VARIABLE
from tests.support.building import (
    BuildProject,
    c_extension,
    make_repository,
    make_sdist,
    only_here,
    open_build_project,
    project,
    pure,
    shared_cache,
    source_files,
)
from tests.support.index import IndexServer
from tests.support.interpreters import packable
from tests.support.locking import application, framework

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["project", "shared_cache"]

HERE = host_platform()
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="tells of Linux and its compiler")
FORCE = f'force-source.tiny.{HERE} = "its wheels are broken"'


def build_wheel(**values: str) -> str:
    fields = "".join(f", {key} = {text}" for key, text in values.items())
    return f'build-wheel.tiny.{HERE} = {{ reason = "no wheel"{fields} }}'.replace("_", "-", 2)


def wheel_contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def text_of(path: Path, name: str) -> str:
    return wheel_contents(path)[name].decode()


# what comes out


@LINUX
def test_a_c_extension_is_built_by_the_layers_own_interpreter(project: BuildProject) -> None:
    sdist = project.source(c_extension())
    project.spec("tiny", policy=FORCE)
    project.lock()
    wheel = project.built()
    assert re.fullmatch(r"tiny-1\.0-0_[0-9a-f]{8}-cp\d+-cp\d+-manylinux_2_\d+_\w+\.whl", wheel.name)
    tag = "-".join(wheel.stem.split("-")[3:])
    assert f"Tag: {tag}" in text_of(wheel, "tiny-1.0.dist-info/WHEEL").splitlines()
    item = project.read("fw", HERE).distributions[0]
    assert (item.source, item.build is not None) == (
        replace(item.wheel, name=sdist.name, size=sdist.stat().st_size, sha256=_sha256(sdist)),
        True,
    )
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(project.directory / "unpacked")
    script = "import sys; sys.path.insert(0, sys.argv[1]); import tiny; print(tiny.answer())"
    printed = subprocess.check_output(
        [packable().executable, "-I", "-c", script, project.directory / "unpacked"], text=True
    )
    assert printed == "42\n"


@LINUX
def test_no_directory_of_this_machine_is_in_what_was_built(project: BuildProject) -> None:
    project.source(c_extension())
    project.spec("tiny", policy=FORCE)
    project.lock()
    with zipfile.ZipFile(project.built()) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".so")]
        path = Path(archive.extract(name, project.directory))
    elf = read_elf(path)
    assert elf is not None
    assert elf.search == ()
    library = path.read_bytes()
    for place in (
        project.workspace.cache.resolve(),
        project.shared,
        packable().prefix,
        Path.home(),
    ):
        # What the compiler links in may name directories below /usr, where it was built.
        assert place == SYSTEM_PREFIX or os.fsencode(place) + b"/" not in library, place
    assert b"/build/source/tiny-1.0/tiny.c" in library


@LINUX
def test_the_same_source_makes_the_same_bytes_wherever_and_whenever(
    project: BuildProject, tmp_path: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.source(c_extension())
    project.spec("tiny", policy=FORCE)
    project.lock()
    first = project.built().read_bytes()
    (tmp_path / "là-bas").mkdir()
    with open_build_project(tmp_path / "là-bas", shared_cache) as other:
        other.source(c_extension())
        other.spec("tiny", policy=FORCE)
        monkeypatch.setenv("TZ", "Asia/Tokyo")
        monkeypatch.setenv("CFLAGS", "-DUNWANTED -O0")
        old = os.umask(0o077)
        try:
            other.lock()
        finally:
            os.umask(old)
        assert other.built().name == project.built().name
        assert other.built().read_bytes() == first


def test_a_pure_wheel_keeps_its_tag(project: BuildProject) -> None:
    project.source(pure())
    project.spec("tiny", policy=FORCE)
    project.lock()
    assert project.built().name.endswith("-py3-none-any.whl")
    assert "Build: 0_" in text_of(project.built(), "tiny-1.0.dist-info/WHEEL")


def test_a_source_that_does_not_say_what_its_build_requires(project: BuildProject) -> None:
    project.wheel("setuptools", "80.0")
    files = source_files(pure())
    table = files["pyproject.toml"].replace("requires = []\n", "")
    assert "requires" not in table
    make_sdist(project.index.directory, "tiny", "1.0", files | {"pyproject.toml": table})
    project.spec("tiny", policy=FORCE)
    project.lock()
    assert _pins(project) == {"setuptools": "80.0"}
    assert project.built().name.endswith("-py3-none-any.whl")


# who is built


def test_what_has_no_fitting_wheel_is_built_where_that_is_allowed(project: BuildProject) -> None:
    other = Platform.WINDOWS_X64 if HERE != Platform.WINDOWS_X64 else Platform.LINUX_X64
    tag = {"windows": "win_amd64", "linux": "manylinux_2_17_x86_64"}[other.os]
    minor = packable().minor.replace(".", "")
    project.wheel("tiny", "1.0", f"cp{minor}-cp{minor}-{tag}")
    project.source(pure())
    project.wheel("top", "1.0", requires=("tiny>=1",))
    project.spec("top", policy='resolution.allow-source-list = ["tiny"]')
    project.lock()
    assert {item.name: item.source is None for item in project.read("fw", HERE).distributions} == {
        "tiny": False,
        "top": True,
    }


def test_what_the_built_wheel_asks_for_is_locked_too(project: BuildProject) -> None:
    project.source(pure(), dependencies=("needed>=1", "extra; python_version < '3'"))
    project.wheel("needed", "1.5")
    project.spec("tiny", policy=FORCE)
    project.lock()
    assert project.versions("fw", HERE) == {"needed": "1.5", "tiny": "1.0"}
    project.spec("tiny", policy=FORCE + '\nno-deps = ["tiny"]')
    project.lock()
    assert project.versions("fw", HERE) == {"tiny": "1.0"}


def test_layers_above_take_the_built_wheel_with_its_dependencies(project: BuildProject) -> None:
    project.source(pure(), dependencies=("needed",))
    project.wheel("needed", "1.5")
    project.wheel("top", "1.0", requires=("tiny>=0.5",))
    above = '[[applications]]\nname = "app"\nframeworks = ["fw"]\nrequirements = ["top"]\n'
    project.spec("tiny", policy=FORCE)
    spec = project.directory / "venvstacks.toml"
    spec.write_text(above + spec.read_text())
    project.lock()
    lock = project.read("app", HERE)
    assert [item.name for item in lock.distributions] == ["top"]
    assert [(item.name, item.layer) for item in lock.inherited] == [
        ("needed", "fw"),
        ("tiny", "fw"),
    ]


def test_the_lock_names_the_index_that_the_source_is_from(
    project: BuildProject, tmp_path: Path
) -> None:
    make_sdist(tmp_path / "private", "tiny", "1.0", source_files(pure()))
    with IndexServer(tmp_path / "private") as private:
        index = f'[[tool.uv.index]]\nname = "private"\nurl = "{private.url}"\nexplicit = true\n'
        given = only_here() + 'package_indexes = {tiny = "private"}\n'
        project.spec("tiny", policy=f"{FORCE}\n{index}", extra=given)
        project.lock()
        (item,) = project.read("fw", HERE).distributions
        assert item.index == "private"


def test_a_commit_is_built_and_pinned(project: BuildProject, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    files = source_files(pure(), version="3.1", dependencies=("needed",))
    commit = make_repository(repository, {f"python/{name}": text for name, text in files.items()})
    project.wheel("needed", "1.5")
    url = repository.as_uri()
    away = Platform.WINDOWS_X64 if HERE is not Platform.WINDOWS_X64 else Platform.LINUX_X64
    both = f'platforms = ["{HERE}", "{away}"]'
    project.spec(f"tiny @ git+{url}@v1#subdirectory=python", extra=both)
    project.lock()
    assert project.versions("fw", HERE) == {"needed": "1.5", "tiny": "3.1"}
    # The pure wheel is for all platforms.
    assert project.read("fw", away).distributions == project.read("fw", HERE).distributions
    item = project.read("fw", HERE).distributions[1]
    assert item.source == VcsSource(url=url, commit=commit, requested="v1", subdirectory="python")
    assert not [name for name in wheel_contents(project.built()) if ".git" in name]
    # Fetching needs the commit alone.
    subprocess.run(["git", "tag", "-d", "v1"], cwd=repository, check=True, capture_output=True)
    remove_tree(project.workspace.wheelhouse)
    remove_tree(project.workspace.builds)
    project.fetch()
    assert _sha256(project.built()) == item.wheel.sha256


def test_a_branch_stays_at_its_commit_until_an_upgrade(
    project: BuildProject, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    first = make_repository(repository, source_files(pure()))
    project.wheel("other", "1.0")
    requirement = f"tiny @ git+{repository.as_uri()}@main"
    project.spec(requirement)
    project.lock()
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@example.org"]
    words = ["commit", "-q", "--allow-empty", "-m", "second"]
    subprocess.run([*git, *words], cwd=repository, check=True)
    address = f'{{ git = "{repository.as_uri()}", branch = "main" }}'
    project.spec("tiny", "other", policy=f"[tool.uv.sources]\ntiny = {address}\n")
    project.lock()
    assert _commit_of(project) == first
    project.lock(upgrade_packages=["tiny"])
    assert _commit_of(project) != first


def _commit_of(project: BuildProject) -> str:
    items = project.read("fw", HERE).distributions
    source = next(item.source for item in items if item.name == "tiny")
    assert isinstance(source, VcsSource)
    return source.commit


def test_a_marker_that_is_not_true_asks_for_no_commit(
    project: BuildProject, tmp_path: Path
) -> None:
    project.wheel("other", "1.0")
    gone = (tmp_path / "gone").as_uri()
    project.spec("other", f"tiny @ git+{gone}@main ; sys_platform == 'nowhere'")
    project.lock()
    assert project.versions("fw", HERE) == {"other": "1.0"}


def test_a_commit_of_the_version_that_a_layer_beside_has(
    project: BuildProject, tmp_path: Path
) -> None:
    make_repository(tmp_path / "repository", source_files(pure()))
    project.wheel("tiny", "1.0")
    git = f"tiny @ git+{(tmp_path / 'repository').as_uri()}@v1"
    above = application("app", 'near", "fw', extra=only_here())
    project.spec(git, policy=framework("near", "tiny==1.0", extra=only_here()) + above)
    with pytest.raises(LockError, match="need different versions of tiny") as caught:
        project.lock()
    assert "which fw requires" in str(caught.value)
    # The other way round the version is what is asked for.
    above = application("app", 'fw", "near', extra=only_here())
    project.spec(git, policy=framework("near", "tiny==1.0", extra=only_here()) + above)
    project.lock()


def test_two_addresses_of_one_distribution(project: BuildProject, tmp_path: Path) -> None:
    make_repository(tmp_path / "repository", source_files(pure()))
    url = (tmp_path / "repository").as_uri()
    project.spec(f"tiny @ git+{url}@main", f"Tiny @ git+{url}@v1")
    with pytest.raises(LockError) as caught:
        project.lock()
    assert caught.value.message == "one distribution has two addresses"


@pytest.mark.parametrize("how", ["direct", "of another", "override"])
def test_what_was_built_meets_what_is_asked_of_it(
    project: BuildProject, tmp_path: Path, how: str
) -> None:
    make_repository(tmp_path / "repository", source_files(pure()))
    project.wheel("lib", "1.0", requires=("tiny>=2",))
    git = f"tiny @ git+{(tmp_path / 'repository').as_uri()}@v1"
    more = {"direct": ["tiny==7"], "of another": ["lib"], "override": []}[how]
    project.spec(git, *more, policy='overrides = {tiny = "2.0"}' if how == "override" else "")
    with pytest.raises(LockError) as caught:
        project.lock()
    assert caught.value.message == (
        "a version is required that differs from the one at the path or address that the spec names"
    )
    assert ("distribution", "tiny 1.0") in caught.value.details
    assert "file://" not in str(caught.value)


def test_a_commit_that_no_branch_leads_to(project: BuildProject, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    make_repository(repository, source_files(pure()))
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@example.org"]
    for words in (
        ["checkout", "-q", "--detach"],
        ["commit", "-q", "--allow-empty", "-m", "proposed"],
        ["update-ref", "refs/pull/2/head", "HEAD"],
        ["checkout", "-q", "main"],
    ):
        subprocess.run([*git, *words], cwd=repository, check=True)
    project.spec(f"tiny @ git+{repository.as_uri()}@refs/pull/2/head")
    project.lock()
    assert project.versions("fw", HERE) == {"tiny": "1.0"}


# what a build sees


def test_config_settings_reach_the_backend(project: BuildProject) -> None:
    project.source(pure("return {'tiny.py': repr(settings).encode()}"))
    settings = '{ one = "{packageRoot}/patch", many = ["a=b", "c"], --build-option = "-v" }'
    overlay = project.directory / "overlays" / "fw" / "patch"
    overlay.parent.mkdir(parents=True)
    overlay.write_text("first")
    project.spec("tiny", policy=build_wheel(config_settings=settings))
    project.lock()
    seen = eval(text_of(project.built(), "tiny.py"))
    assert seen == {"one": str(overlay), "many": ["a=b", "c"], "--build-option": "-v"}
    # What the placeholder leads to belongs to the inputs.
    first = project.built().name
    overlay.write_text("second")
    assert [item.layer for item in project.lock(check=True).stale] == ["fw"]
    project.lock()
    assert project.built().name != first
    assert project.lock(check=True).stale == ()


def test_a_build_sees_nothing_of_the_host(
    project: BuildProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PYTHONPATH", "PIP_INDEX_URL", "UV_INDEX", "CFLAGS", "MY_TOKEN"):
        monkeypatch.setenv(name, "/unwanted")
    project.source(pure("return {'tiny.py': repr((dict(os.environ), os.getcwd())).encode()}"))
    variables = '{ A = "b", CPPFLAGS = "-DX", PATH = { prepend = ["/a"] } }'
    project.spec("tiny", policy=f"{FORCE}\nbuild.environment = {variables}")
    project.lock()
    environment, directory = eval(text_of(project.built(), "tiny.py"))
    assert [name for name, value in environment.items() if "/unwanted" in value] == []
    assert environment["SOURCE_DATE_EPOCH"] == "315532800"
    assert Path(environment["HOME"]).is_relative_to(project.workspace.builds)
    assert Path(directory).is_relative_to(project.workspace.builds)
    if sys.platform == "linux":
        assert (environment["CC"], environment["CXX"]) == ("gcc", "g++")
        assert re.fullmatch(r"(-ffile-prefix-map=\S+ )*-DX", environment["CPPFLAGS"])
    # The spec sets variables. Another value makes another wheel.
    assert environment["A"] == "b"
    own, *others = dict.fromkeys(environment["PATH"].split(os.pathsep))
    assert Path(own).parent == Path(environment["VIRTUAL_ENV"])
    assert others[0] == "/a"
    wheel = project.built().name
    project.spec("tiny", policy=f'{FORCE}\nbuild.environment.A = "c"')
    assert [item.layer for item in project.lock(check=True).stale] == ["fw"]
    project.lock()
    assert eval(text_of(project.built(), "tiny.py"))[0]["A"] == "c"
    assert project.built().name != wheel


def test_what_a_build_requires_is_pinned_and_is_all_there_is(project: BuildProject) -> None:
    for name in ("helper", "more", "helpless"):
        project.wheel(name, "1.0")
    project.wheel("more", "2.0")
    body = "import importlib.metadata as m\nnames = sorted(d.name for d in m.distributions())\n"
    body += "return {'tiny.py': repr(names).encode()}"
    project.source(pure(body), requires=("helper>=1",), dynamic=("more<2",))
    project.spec("tiny", policy=FORCE)
    project.lock()
    assert text_of(project.built(), "tiny.py") == "['helper', 'more']"
    assert _pins(project) == {"helper": "1.0", "more": "1.0"}
    # A newer one does not disturb those of the lock, with which it is built again.
    project.wheel("helper", "1.5")
    wheel = project.built()
    remove_tree(project.workspace.wheelhouse)
    remove_tree(project.workspace.builds)
    project.fetch()
    assert project.built() == wheel
    # With `build-requires` nothing else is there.
    project.spec("tiny", policy=build_wheel(build_requires='["helpless"]'))
    project.lock()
    assert text_of(project.built(), "tiny.py") == "['helpless']"
    assert _pins(project) == {"helpless": "1.0"}


def test_requirements_of_a_build_that_cannot_be_had(project: BuildProject) -> None:
    project.source(pure(), requires=("nowhere",))
    project.spec("tiny", policy=FORCE)
    with pytest.raises(LockError) as caught:
        project.lock()
    text = str(caught.value)
    assert text.startswith("the build requirements of tiny 1.0 are not available\n  layer: fw\n")
    assert "  expected: nowhere\n" in text
    assert "`build-wheel.tiny`" in text


def test_an_index_that_fails_is_no_contradiction_in_a_build(project: BuildProject) -> None:
    project.source(pure(), requires=("broken",))
    (project.index.directory / "broken-1.0-py3-none-any.whl").write_bytes(b"no wheel")
    project.spec("tiny", policy=FORCE)
    with pytest.raises(FetchError) as caught:
        project.lock()
    assert caught.value.message == "the package index cannot be read"
    assert "broken-1.0-py3-none-any.whl" in str(caught.value)


# what fails


def test_a_failure_shows_the_last_lines_of_the_log(project: BuildProject) -> None:
    body = "for n in range(50): print('line', n, flush=True)\n"
    body += "print('see https://user:secret@host.example/x', flush=True)\nraise SystemExit(7)"
    project.source(pure(body))
    project.spec("tiny", policy=FORCE)
    with pytest.raises(LockError) as caught:
        project.lock()
    text = str(caught.value)
    assert text.startswith(f"building tiny 1.0 failed\n  layer: fw\n  platform: {HERE}\n")
    assert "line 49\n" in text
    assert "line 9\n" not in text
    log = Path(dict(caught.value.details)["file"])
    assert "line 0\n" in log.read_text()
    assert "secret" not in log.read_text() + text
    assert not project.path("fw", HERE).exists()
    assert not [path for path in (project.workspace.builds / "staging").iterdir() if path.is_dir()]


def test_the_log_is_shown_where_that_is_wanted(project: BuildProject) -> None:
    project.source(pure("print('a line of the backend', flush=True)\nreturn {'tiny.py': b''}"))
    project.spec("tiny", policy=FORCE)
    project.lock()
    assert "a line of the backend" not in project.listener.notes
    remove_tree(project.workspace.layers)
    remove_tree(project.workspace.builds)
    project.spec("tiny", policy=FORCE + "\nbuild.logging = true")
    project.lock()
    assert "a line of the backend" in project.listener.notes


@LINUX
def test_a_build_that_takes_too_long_is_ended_with_all_it_started(
    project: BuildProject, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    sleep = (
        "import os, sys, time; open(sys.argv[1], 'a').write(f'{os.getpid()}\\n'); time.sleep(99)"
    )
    body = f"""\
import subprocess, time
words = [sys.executable, "-c", {sleep!r}, {str(pids)!r}]
subprocess.Popen(words)
subprocess.Popen(words, start_new_session=True)
subprocess.run(["sh", "-c", '"$@" & exit', "sh", *words], start_new_session=True)
subprocess.Popen(["env", "-i", *words], start_new_session=True)
print("waiting", flush=True)
time.sleep(99)"""
    project.source(pure(body))
    project.spec("tiny", policy=FORCE + "\nbuild.timeout = 3")
    started = time.monotonic()
    with pytest.raises(LockError) as caught:
        project.lock()
    assert time.monotonic() - started < 30
    assert "it exceeded the time limit of 3 s and was ended" in str(caught.value)
    assert "waiting" in str(caught.value)
    found = [int(line) for line in pids.read_text().split()]
    assert len(found) == 4
    for pid in found:
        assert not _runs(pid), pid


WITH_SIGINT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.Handlers[sys.argv[1]])
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Runs a program with SIGINT as the caller of a command may have set it: a shell that starts
one in the background ignores it, and so does everything such a command starts."""


@contextmanager
def _lock_that_builds(
    project: BuildProject, pids: Path, sigint: str
) -> Iterator[subprocess.Popen[str]]:
    """A `stackbuild lock` whose build waits; its process is the last one in `pids`."""
    body = f"""\
import time
with open({str(pids)!r}, "a") as file:
    file.write(f"{{os.getpid()}} ")
time.sleep(99)"""
    project.source(pure(body))
    project.spec("tiny", policy=FORCE)
    program = Path(sys.executable).with_name("stackbuild")
    with subprocess.Popen(
        [sys.executable, "-c", WITH_SIGINT, sigint, program, "lock"],
        cwd=project.directory,
        env={**os.environ, CACHE_VARIABLE: str(project.workspace.cache)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            while not pids.exists() or not pids.read_text().endswith(" "):
                assert process.poll() is None
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


def _interrupted(process: subprocess.Popen[str], code: int) -> None:
    started = time.monotonic()
    _, told = process.communicate(timeout=60)
    assert time.monotonic() - started < 20
    assert process.returncode == code, told
    assert told.endswith("error: interrupted; existing files are unchanged\n")


@LINUX
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_build_at_once(
    project: BuildProject, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    pids = tmp_path / "pids"
    with _lock_that_builds(project, pids, "SIG_DFL") as process:
        process.send_signal(number)
        _interrupted(process, code)
    assert not _runs(int(pids.read_text()))


@LINUX
def test_a_command_in_the_background_goes_on_after_a_sigint(
    project: BuildProject, tmp_path: Path
) -> None:
    """Ctrl-C in a script reaches what it started with `&` too, which is to ignore it."""
    pids = tmp_path / "pids"
    with _lock_that_builds(project, pids, "SIG_IGN") as process:
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=1)
        assert _runs(int(pids.read_text()))
        process.send_signal(signal.SIGTERM)
        _interrupted(process, 143)
    assert not _runs(int(pids.read_text()))


def test_what_a_killed_build_left_is_removed_by_the_next(project: BuildProject) -> None:
    left = project.workspace.builds / "staging" / "0123456789abcdef"
    (left / "source").mkdir(parents=True)
    project.source(pure())
    project.spec("tiny", policy=FORCE)
    project.lock()
    assert not left.exists()


def test_a_backend_that_makes_something_else(project: BuildProject) -> None:
    files = source_files(pure(), version="2.0")
    from tests.support.building import make_sdist

    make_sdist(project.index.directory, "tiny", "1.0", files)
    project.spec("tiny", policy=FORCE)
    with pytest.raises(LockError) as caught:
        project.lock()
    assert caught.value.message == "building tiny 1.0 made another distribution"
    assert ("found", "tiny 2.0") in caught.value.details


def test_a_commit_of_something_with_another_name(project: BuildProject, tmp_path: Path) -> None:
    repository = tmp_path / "mono"
    make_repository(repository, source_files(pure()))
    project.spec(f"mono @ git+{repository.as_uri()}")
    with pytest.raises(LockError) as caught:
        project.lock()
    assert ("to fix", "require it by its own name: tiny @ …") in caught.value.details


# what a wheel needs


def _glibc() -> tuple[int, int]:
    major, minor = str(os.confstr("CS_GNU_LIBC_VERSION")).split()[1].split(".")[:2]
    return int(major), int(minor)


@LINUX
def test_a_wheel_that_needs_a_newer_system_than_the_layer_is_refused(project: BuildProject) -> None:
    if _glibc() < (2, 34):
        pytest.skip("this system is old itself")
    # glibc 2.34 took the functions of libpthread in, with a new version of their symbols.
    code = "#include <pthread.h>\nstatic void *run(void *_) { return _; }\n"
    project.source(c_extension("pthread_create(&(pthread_t){0}, 0, run, 0)", before=code))
    project.spec("tiny", policy=FORCE)
    with pytest.raises(LockError) as caught:
        project.lock()
    assert caught.value.message == ("the built wheel of tiny 1.0 does not run on all hosts of fw")
    assert re.search(r"found: tiny\S*\.so needs GLIBC_2\.34\n", str(caught.value))
    assert "set `linux_target = 'glibc@2.34'` for fw, or build it on" in str(caught.value)
    project.spec("tiny", policy=FORCE, extra=_only_here() + 'linux_target = "glibc@2.34"\n')
    project.lock()
    assert "-manylinux_2_34_" in project.built().name


@LINUX
def test_libraries_from_elsewhere_are_reported(project: BuildProject, tmp_path: Path) -> None:
    source = tmp_path / "strange.c"
    source.write_text("int strange(void) { return 7; }\n")
    library = tmp_path / "libstrange.so.3"
    soname = "-Wl,-soname,libstrange.so.3"
    subprocess.run(["gcc", "-shared", "-fPIC", soname, source, "-o", library], check=True)
    project.source(
        c_extension("strange()", before="int strange(void);\n", words=repr(str(library)))
    )
    project.spec("tiny", policy=FORCE)
    project.lock()
    assert re.search(r"-linux_(x86_64|aarch64)\.whl", project.built().name)
    [warning] = [text for text in project.listener.warnings if "libstrange" in text]
    assert re.match(r"tiny 1\.0: tiny\S*\.so needs libstrange\.so\.3, which is neither", warning)


# what is kept


def test_what_was_built_of_the_same_is_not_built_again(
    project: BuildProject, tmp_path: Path
) -> None:
    count = tmp_path / "count"
    body = f"open({str(count)!r}, 'a').write('x')\nreturn {{'tiny.py': b''}}"
    project.source(pure(body))
    project.spec("tiny", policy=FORCE)
    project.lock()
    wheel = project.built()
    digest = _sha256(wheel)
    remove_tree(project.workspace.wheelhouse)
    remove_tree(project.workspace.layers)
    project.lock()
    assert count.read_text() == "x"
    assert (project.built(), _sha256(wheel)) == (wheel, digest)
    # The lock keeps it while other things change, without cache and compiler.
    remove_tree(project.workspace.builds)
    project.wheel("other", "1.0")
    project.spec("tiny", "other", policy=FORCE)
    project.lock()
    assert (count.read_text(), project.built()) == ("x", wheel)
    # Another reason changes nothing, another source does.
    project.spec("tiny", "other", policy=FORCE.replace("broken", "worse"))
    project.lock()
    assert count.read_text() == "x"
    project.source(pure(body + "  # changed"))
    project.lock(upgrade_packages=["tiny"])
    assert count.read_text() == "xx"


def test_a_wheel_that_comes_out_differently_is_refused(project: BuildProject) -> None:
    project.source(pure("return {'tiny.py': repr(os.urandom(9)).encode()}"))
    project.spec("tiny", policy=FORCE)
    project.lock()
    wheel = project.built()
    remove_tree(project.workspace.wheelhouse)
    remove_tree(project.workspace.builds)
    with pytest.raises(IntegrityError) as caught:
        project.fetch()
    text = str(caught.value)
    assert text.startswith("tiny 1.0 was built again, and differs from the locked wheel\n")
    assert "`stackbuild wheel add FILE`" in text
    assert "`stackbuild lock --upgrade-package tiny`" in text
    assert not wheel.exists()
    project.lock(upgrade_packages=["tiny"])
    project.fetch()


def test_without_its_source_a_wheel_cannot_be_built_again(project: BuildProject) -> None:
    sdist = project.source(pure())
    project.spec("tiny", policy=FORCE)
    project.lock()
    remove_tree(project.workspace.wheelhouse)
    remove_tree(project.workspace.builds)
    sdist.unlink()
    with pytest.raises(FetchError):
        project.fetch()


def test_a_damaged_source_in_the_wheelhouse_is_fetched_again(project: BuildProject) -> None:
    sdist = project.source(pure())
    project.spec("tiny", policy=FORCE)
    project.lock()
    wheel, kept = project.built(), project.workspace.wheelhouse / sdist.name
    whole = _sha256(kept)
    wheel.unlink()
    remove_tree(project.workspace.builds)
    kept.write_bytes(b"cut off")
    project.fetch()
    assert wheel.exists()
    assert _sha256(kept) == whole


def _only_here() -> str:
    return f'platforms = ["{HERE.venvstacks_name}"]\n'


def _pins(project: BuildProject) -> dict[str, str]:
    build = project.read("fw", HERE).distributions[0].build
    assert build is not None
    assert build.requirements is not None
    return {pin.name: str(pin.version) for pin in build.requirements}


def _sha256(path: Path) -> str:

    return sha256_file(path)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
