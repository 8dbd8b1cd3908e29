"""Wheels for other platforms: asked for, added, taken, and kept when other things change."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from stackbuild.builds.add import add_wheels
from stackbuild.cli.main import main
from stackbuild.errors import FetchError, IntegrityError, LockError, UsageError
from stackbuild.files import remove_tree, sha256_file
from stackbuild.lock.model import StaleLock
from stackbuild.platforms import Platform, host_platform
from stackbuild.workspace import CACHE_VARIABLE
from tests.support.building import BuildProject, project, pure, shared_cache
from tests.support.interpreters import packable
from tests.support.wheels import make_wheel

__all__ = ["project", "shared_cache"]

HERE = host_platform()
ELSEWHERE = Platform.MACOSX_AARCH64 if HERE != Platform.MACOSX_AARCH64 else Platform.LINUX_X64
BOTH = f'platforms = ["{HERE.venvstacks_name}", "{ELSEWHERE.venvstacks_name}"]\n'
FORCE = "".join(
    f'force-source.tiny.{platform} = "its wheels are broken"\n' for platform in (HERE, ELSEWHERE)
)
TAGS = {"macos": "macosx_11_0_arm64", "linux": "manylinux_2_17_x86_64"}


@pytest.fixture
def foreign(project: BuildProject) -> BuildProject:
    """A project whose framework needs `tiny` built, here and elsewhere."""
    project.source(pure())
    project.wheel("needed", "1.5")
    project.spec("tiny", policy=FORCE, extra=BOTH)
    return project


def wheel(project: BuildProject, content: str = "value = 2\n", **options: str) -> Path:
    minor = packable().minor.replace(".", "")
    tag = options.get("tag", f"cp{minor}-cp{minor}-{TAGS[ELSEWHERE.os]}")
    directory = project.directory.parent / "brought"
    files = {"tiny.py": content}
    version = options.get("version", "1.0")
    return make_wheel(directory, "tiny", version, files, requires=("needed",), tag=tag)


def add(project: BuildProject, *files: Path) -> None:
    add_wheels(project.stack, project.workspace, project.listener, files)


def test_another_platform_is_refused_with_what_to_do(foreign: BuildProject) -> None:
    with pytest.raises(LockError) as caught:
        foreign.lock()
    assert str(caught.value) == (
        "tiny 1.0 must be built from source on a machine of each platform\n"
        "  layer: fw\n"
        f"  platform: {ELSEWHERE}\n"
        "  distribution: tiny\n"
        f"  found: this machine is {HERE}; force-source: its wheels are broken\n"
        "  to fix: run `stackbuild lock --layer fw --platform host` on such a machine (on this"
        " one, if the wheel is for any platform), copy the wheel from its wheelhouse, and"
        " add it here with `stackbuild wheel add FILE`; or leave the"
        " platform out of the `platforms` of fw"
    )
    assert not foreign.path("fw", HERE).exists()
    foreign.lock(platforms=["host"])


def test_what_must_be_built_is_never_left_out(foreign: BuildProject) -> None:
    lenient = "resolution.strict-missing = false\n"
    foreign.spec("nowhere", "tiny", policy=FORCE + lenient, extra=BOTH)
    with pytest.raises(LockError, match="must be built from source on a machine of each"):
        foreign.lock()


def test_an_added_wheel_is_locked_with_what_it_needs(foreign: BuildProject) -> None:
    brought = wheel(foreign)
    add(foreign, brought)
    foreign.lock()
    assert foreign.versions("fw", ELSEWHERE) == {"needed": "1.5", "tiny": "1.0"}
    assert foreign.versions("fw", HERE) == {"tiny": "1.0"}
    item = foreign.read("fw", ELSEWHERE).distributions[1]
    assert item.wheel.name == brought.name
    assert item.source is not None
    assert item.build is not None
    assert item.build.requirements is None
    files = foreign.fetch(platform=str(ELSEWHERE))
    assert files[item.wheel.sha256].read_bytes() == brought.read_bytes()


def test_a_locked_wheel_that_is_not_here(foreign: BuildProject) -> None:
    brought = wheel(foreign)
    add(foreign, brought)
    foreign.lock()
    remove_tree(foreign.workspace.wheelhouse)
    with pytest.raises(FetchError) as caught:
        foreign.fetch(platform=str(ELSEWHERE))
    text = str(caught.value)
    assert text.startswith("a locked wheel that was built from source is missing\n")
    assert f"  file: {brought.name}\n" in text
    assert f"copy it from the wheelhouse of a {ELSEWHERE} machine, and add it" in text
    # Nothing of it is needed to lock again when something else changes.
    foreign.wheel("other", "1.0")
    foreign.spec("tiny", "other", policy=FORCE, extra=BOTH)
    foreign.lock()
    assert set(foreign.versions("fw", ELSEWHERE)) == {"needed", "other", "tiny"}
    add(foreign, brought)
    foreign.fetch(platform=str(ELSEWHERE))


def test_an_added_wheel_comes_before_building(foreign: BuildProject) -> None:
    own = wheel(foreign, tag="py3-none-any")
    add(foreign, own)
    foreign.lock()
    for platform in (HERE, ELSEWHERE):
        names = [item.wheel.name for item in foreign.read("fw", platform).distributions]
        assert own.name in names
    # The last one of those that fit equally counts; locks keep theirs until told.
    changed = wheel(foreign, "value = 3\n", tag="py3-none-any")
    [added] = add_wheels(foreign.stack, foreign.workspace, foreign.listener, [changed])
    assert {(one.layer, one.platform) for one in added.stale} == {("fw", HERE), ("fw", ELSEWHERE)}
    foreign.lock(upgrade_packages=["tiny"])
    digests = {
        item.wheel.sha256
        for platform in (HERE, ELSEWHERE)
        for item in foreign.read("fw", platform).distributions
        if item.name == "tiny"
    }
    assert digests == {added.wheel.sha256}


def test_a_wheel_of_another_version_is_not_taken(foreign: BuildProject) -> None:
    add(foreign, wheel(foreign, version="2.0"))
    with pytest.raises(LockError, match=r"tiny 1\.0 must be built from source"):
        foreign.lock()


def test_wheels_that_are_not_added(foreign: BuildProject) -> None:
    good, minor = wheel(foreign), packable().minor.replace(".", "")
    damaged = good.with_name(good.name.replace("-1.0-", "-1.0-7-"))
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(damaged, "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name) + b"#" * (name == "tiny.py"))
    with pytest.raises(IntegrityError) as caught:
        add(foreign, good, damaged)
    assert str(caught.value).startswith(f"the wheel is damaged\n  file: {damaged}\n  found: ")
    assert "tiny.py" in str(caught.value)
    renamed = good.with_name(f"tiny-1.0-cp{minor}-cp{minor}-win_amd64.whl")
    renamed.write_bytes(good.read_bytes())
    with pytest.raises(IntegrityError, match="the tags in the wheel do not match its file name"):
        add(foreign, renamed)
    other = good.with_name(good.name.replace("tiny-", "other-"))
    other.write_bytes(good.read_bytes())
    with pytest.raises(IntegrityError, match="the wheel is damaged"):
        add(foreign, other)
    sdist = foreign.index.directory / "tiny-1.0.tar.gz"
    with pytest.raises(IntegrityError, match="this is not a wheel"):
        add(foreign, sdist)
    with pytest.raises(UsageError, match="there is no such file"):
        add(foreign, good.with_name("none.whl"))
    old = wheel(foreign, tag="cp27-cp27m-win32")
    with pytest.raises(UsageError) as refused:
        add(foreign, old)
    assert str(refused.value).startswith(
        f"the wheel fits no layer of the stack\n  file: {old.name}\n  expected: one for "
    )
    assert not (foreign.workspace.wheelhouse / good.name).exists()


@pytest.mark.skipif(HERE != Platform.LINUX_X64, reason="needs programs of this processor")
def test_a_wheel_is_held_to_its_tags(project: BuildProject) -> None:
    platforms = 'platforms = ["linux_x86_64", "linux_aarch64"]\n'
    project.spec("tiny", policy=FORCE.partition("\n")[0], extra=platforms)
    program = Path("/bin/sh").read_bytes()
    minor = packable().minor.replace(".", "")

    def made(data: bytes, tag: str) -> Path:
        directory = project.directory.parent / tag
        files: dict[str, bytes | str] = {"tiny.py": "", "tiny-program": data}
        return make_wheel(directory, "tiny", "1.0", files, tag=f"cp{minor}-cp{minor}-{tag}")

    # The field e_machine of an ELF file, and EM_AARCH64.
    other = program[:18] + (183).to_bytes(2, "little") + program[20:]
    with pytest.raises(IntegrityError) as caught:
        add(project, made(other, "manylinux_2_17_x86_64"))
    assert caught.value.message == "a wheel contains a binary file for another processor"
    add(project, made(program, "linux_x86_64"))
    with pytest.raises(IntegrityError) as caught:
        add(project, made(program, "manylinux_2_28_aarch64"))
    assert ("found", "x86_64") in caught.value.details


def test_the_command_tells_where_a_wheel_fits(
    foreign: BuildProject, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(foreign.workspace.cache))
    monkeypatch.chdir(foreign.directory)
    brought = wheel(foreign)
    assert main(["wheel", "add", str(brought)]) == 0
    assert capsys.readouterr().out == f"added  {brought.name}  {ELSEWHERE}\n"
    assert main(["-q", "wheel", "add", str(brought)]) == 0
    assert capsys.readouterr().out == ""
    assert main(["lock"]) == 0
    capsys.readouterr()
    changed = wheel(foreign, "value = 4\n")
    assert main(["wheel", "add", "--json", str(changed)]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)[0]["platforms"] == [str(ELSEWHERE)]
    warning, _, command = printed.err.partition(": stackbuild ")
    assert warning == (
        f"warning: the lock of fw on {ELSEWHERE} names another wheel of tiny; to take the best"
        " added wheel"
    )
    assert command == f"lock --layer fw --platform {ELSEWHERE} --upgrade-package tiny\n"
    assert main(command.split()) == 0
    capsys.readouterr()
    sums = [one.wheel.sha256 for one in foreign.read("fw", ELSEWHERE).distributions]
    assert sha256_file(changed) in sums
    words = ["lock", "--local-wheels", str(changed.parent)]
    assert main([*words, "--check"]) == 2
    assert main([*words, "--upgrade-package", "tiny"]) == 0
    assert foreign.read("fw", str(ELSEWHERE)).distributions[-1].wheel.sha256 == sha256_file(changed)
    remove_tree(foreign.workspace.wheelhouse)
    assert main(["lock", "--local-wheels", str(foreign.directory / "layers")]) == 2
    assert "there are no wheels in the directory" in capsys.readouterr().err


def test_a_damaged_list_of_added_wheels(foreign: BuildProject) -> None:
    add(foreign, wheel(foreign))
    (foreign.workspace.wheelhouse / "added.json").write_text("[{}]")
    with pytest.raises(IntegrityError) as caught:
        foreign.lock()
    message = str(caught.value)
    assert message.startswith("the list of added wheels is damaged\n")
    assert "  found: [0].file is missing\n" in message


def test_a_wheel_that_no_index_has(project: BuildProject, tmp_path: Path) -> None:
    project.wheel("needed", "1.0")
    optional = 'resolution = { strict-missing = false, optional-list = ["given", "other"] }'
    project.spec("given>=1,<3", "other", policy=optional)
    project.lock()
    assert [item.name for item in project.read("fw", str(HERE)).omitted] == ["given", "other"]
    for version in ("1.0", "2.0", "3.0"):
        files = {"given.py": f"value = '{version}'"}
        add(project, make_wheel(tmp_path, "given", version, files, requires=["needed"]))
    [again] = add_wheels(
        project.stack,
        project.workspace,
        project.listener,
        [tmp_path / "given-2.0-py3-none-any.whl"],
    )
    assert again.stale == (StaleLock(layer="fw", platform=HERE, reason="omits given"),)
    [stale] = project.lock(check=True).stale
    assert stale.reason == "a wheel of given, which it omits, was added"
    project.lock()
    assert project.versions("fw", str(HERE)) == {"given": "2.0", "needed": "1.0"}
    assert project.built("given").is_file()

    # A wheel that does not help is tried once.
    add(project, make_wheel(tmp_path, "other", "1.0", {}, requires=["nowhere"]))
    assert project.lock(check=True).stale
    project.lock()
    assert [item.name for item in project.read("fw", str(HERE)).omitted] == ["other"]
    assert project.lock(check=True).stale == ()

    # A wheel that an index has for this platform is taken from there.
    project.wheel("given", "2.0")
    project.spec("given<3")
    project.lock(upgrade=True)
    [given] = project.index.directory.glob("given-2.0-*")
    assert project.read("fw", str(HERE)).distributions[0].wheel.sha256 == sha256_file(given)
    assert sha256_file(given) != sha256_file(tmp_path / given.name)
