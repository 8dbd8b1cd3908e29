"""The first locks of a stack that venvstacks locked before."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from stackbuild.cli.main import main
from stackbuild.errors import LockError, UsageError
from stackbuild.platforms import Platform
from tests.support.locking import LINUX, MAC, RUNTIME, application, framework, only, open_project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.locking import Project

LINUX_ONLY = only(Platform.LINUX_X64)
TWO = only(Platform.LINUX_X64, Platform.MACOSX_AARCH64)
VERSIONED = "versioned = true\n"
LOCKED_AT = "2025-10-11T01:02:03.456789Z"
BELOW = "sys_platform == 'from_lower_layer'"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with open_project(tmp_path) as opened:
        for version in ("1.0", "2.0"):
            for name in ("base", "top"):
                opened.wheel(name, version)
        yield opened


def _venvstacks(
    project: Project, name: str, *packages: tuple[str, ...], lock_version: int = 1
) -> Path:
    """Write the files that venvstacks has for the environment `name`; returns the lock.

    A package has a name, a version and perhaps a marker.
    """
    path = project.directory / f"requirements/{name}/pylock.{name.replace('.', '_')}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = 'lock-version = "1.0"\ncreated-by = "uv"\nrequires-python = "==3.12.*"\n'
    for package in packages:
        fields = zip(("name", "version", "marker"), package, strict=False)
        text += "\n[[packages]]\n" + "".join(f'{key} = "{value}"\n' for key, value in fields)
    path.write_text(text)
    meta = {"lock_version": lock_version, "locked_at": "2025-10-11T01:02:03.456789+00:00"}
    path.with_suffix(".meta.json").write_text(json.dumps(meta))
    return path


def _stack(project: Project) -> None:
    """A versioned framework `fw` and a versioned application `app` on it."""
    project.write(
        framework("fw", "base", extra=LINUX_ONLY + VERSIONED)
        + application("app", "fw", "top", extra=LINUX_ONLY + VERSIONED)
    )


def _both(project: Project) -> None:
    """That stack, as venvstacks locked and published it: `fw@5` and `app@2`."""
    _stack(project)
    _venvstacks(project, "framework-fw", ("base", "1.0"), lock_version=5)
    _venvstacks(project, "app-app", ("base", "1.0", BELOW), ("top", "1.0"), lock_version=2)


def _numbers(project: Project) -> tuple[int, int]:
    return project.read("fw").version, project.read("app").version


def test_versions_and_numbers_go_on(project: Project) -> None:
    _both(project)
    report = project.lock(from_venvstacks=True)
    assert project.versions("fw") == {"base": "1.0"}
    assert project.versions("app") == {"top": "1.0"}
    assert _numbers(project) == (5, 2)
    times = [project.read(name).locked_at for name in ("rt", "fw", "app")]
    assert times[1:] == [LOCKED_AT, LOCKED_AT]
    assert times[0] > LOCKED_AT
    assert report.from_venvstacks == {"rt": "missing", "fw": "read", "app": "read"}
    # The next change counts on, without the option.
    project.lock(upgrade_packages=["top"])
    assert _numbers(project) == (5, 3)
    assert project.read("app").locked_at > LOCKED_AT == project.read("fw").locked_at


def test_without_the_option_the_locks_are_named(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    _both(project)
    _venvstacks(project, "rt")
    spec = str(project.directory / "venvstacks.toml")
    assert main(["lock", "--spec", spec, "--platform", "linux-x64"]) == 0
    assert project.versions("fw") == {"base": "2.0"}
    assert _numbers(project) == (1, 1)
    advice = (
        "requirements/ (fw@5, app@2 there); to start from them, remove {}layers/fw/pylock.*.toml,"
        " layers/app/pylock.*.toml and run `stackbuild lock --from-venvstacks`\n"
    )
    begin = "locks of {}fw, app do not start from those of venvstacks in "
    text = begin + advice
    assert "new " + text.format("rt, ", "layers/rt/pylock.*.toml, ") in capsys.readouterr().err
    # Once they are locked, only the option has something to say.
    assert main(["lock", "--spec", spec, "--platform", "linux-x64"]) == 0
    assert "venvstacks" not in capsys.readouterr().err
    words = ["lock", "--spec", spec, "--platform", "linux-x64", "--from-venvstacks"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert f"warning: {text.format('', '')}" in err
    again = " (to start from venvstacks, first remove their layers/*/pylock.*.toml)\n"
    assert out.endswith(f"already locked: rt, fw, app{again}")
    # What the message advises.
    for name in ("fw", "app"):
        for path in (project.directory / "layers" / name).glob("pylock.*.toml"):
            path.unlink()
    assert main(words) == 0
    assert _numbers(project) == (5, 2)
    assert "do not start" not in capsys.readouterr().err


def test_a_version_that_the_spec_forbids_is_replaced_and_told(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    _both(project)
    project.write(
        framework("fw", "base>1", extra=LINUX_ONLY + VERSIONED)
        + application("app", "fw", "top", extra=LINUX_ONLY + VERSIONED)
    )
    spec = str(project.directory / "venvstacks.toml")
    assert main(["lock", "--spec", spec, "--from-venvstacks", "--platform", "linux-x64"]) == 0
    out, err = capsys.readouterr()
    assert "fw on linux-x64 differs from its lock of venvstacks: base 2.0 (there 1.0)\n" in err
    assert out.endswith("locks of venvstacks: read for 2 of 3 layers; none for rt\n")
    assert project.versions("app") == {"top": "1.0"}
    # `app` names the directory of `fw`, so it changed too.
    assert _numbers(project) == (6, 3)
    assert all(project.read(name).locked_at > LOCKED_AT for name in ("fw", "app"))


def test_a_distribution_more_or_less_gives_the_next_number(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    _both(project)
    _venvstacks(project, "app-app", ("top",), ("gone", "1.0"), lock_version=2)
    _venvstacks(project, "framework-fw", lock_version=5)
    spec = str(project.directory / "venvstacks.toml")
    assert main(["lock", "--spec", spec, "--from-venvstacks", "--platform", "linux-x64"]) == 0
    assert _numbers(project) == (6, 3)
    told = capsys.readouterr().err
    differs = "on linux-x64 differs from its lock of venvstacks:"
    assert f"app {differs} gone none (there 1.0); top 2.0 (there unknown)\n" in told
    assert f"fw {differs} base 2.0 (there none)\n" in told


def test_locks_of_stackbuild_are_kept(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    _both(project)
    project.lock(layers=["fw"], platforms=["linux-x64"])
    spec = str(project.directory / "venvstacks.toml")
    assert main(["lock", "--spec", spec, "--from-venvstacks", "--platform", "linux-x64"]) == 0
    assert project.versions("fw") == {"base": "2.0"}
    # `fw` has another number than in venvstacks.
    assert _numbers(project) == (1, 3)
    line = "locks of venvstacks: read for 1 of 3 layers; already locked: rt, fw (to start from"
    assert line in capsys.readouterr().out


def test_a_stale_lock_of_stackbuild_keeps_its_versions(project: Project) -> None:
    _both(project)
    project.lock(layers=["fw"])
    project.write(
        framework("fw", "base>0", extra=LINUX_ONLY + VERSIONED)
        + application("app", "fw", "top", extra=LINUX_ONLY + VERSIONED)
    )
    project.lock(from_venvstacks=True)
    assert project.versions("fw") == {"base": "2.0"}
    assert project.versions("app") == {"top": "1.0"}


def test_layers_may_be_locked_one_after_the_other(project: Project) -> None:
    _both(project)
    project.lock(layers=["fw"], from_venvstacks=True)
    project.lock(from_venvstacks=True)
    assert _numbers(project) == (5, 2)


def test_once_all_is_locked_the_files_are_no_longer_needed(project: Project) -> None:
    _both(project)
    project.lock(from_venvstacks=True)
    shutil.rmtree(project.directory / "requirements")
    report = project.lock(from_venvstacks=True)
    assert set(report.from_venvstacks.values()) == {"not needed"}


def test_markers_choose_the_versions_of_a_platform(project: Project) -> None:
    for version, tag in (("1.0", MAC), ("1.0+cpu", LINUX), ("3.0", MAC), ("3.0+cpu", LINUX)):
        project.wheel("torch", version, tag)
    project.write(framework("fw", "torch", extra=TWO + VERSIONED))
    _venvstacks(
        project,
        "framework-fw",
        ("torch", "1.0", "sys_platform == 'darwin'"),
        ("torch", "1.0+cpu", "sys_platform != 'darwin'"),
        # Names in markers of lock files alone (PEP 751): none is chosen.
        ("optional", "1.0", "'optional' in extras or 'optional' in dependency_groups"),
        lock_version=4,
    )
    project.lock(from_venvstacks=True)
    assert project.versions("fw", "linux-x64") == {"torch": "1.0+cpu"}
    assert project.versions("fw", "macosx-aarch64") == {"torch": "1.0"}
    assert [project.read("fw", one).version for one in ("linux-x64", "macosx-aarch64")] == [4, 4]


def test_an_upgraded_distribution_does_not_start_from_venvstacks(project: Project) -> None:
    _both(project)
    project.lock(from_venvstacks=True, upgrade_packages=["base"])
    assert project.versions("fw") == {"base": "2.0"}
    assert project.versions("app") == {"top": "1.0"}


def test_a_layer_that_is_not_versioned_counts_from_one(project: Project) -> None:
    project.write(
        framework("fw", "base", extra=LINUX_ONLY), runtime=RUNTIME.replace('"rt"', '"rt3.12"')
    )
    spec = project.directory / "venvstacks.toml"
    spec.write_text(spec.read_text().replace('runtime = "rt"', 'runtime = "rt3.12"'))
    lock = _venvstacks(project, "framework-fw", ("base", "1.0"), lock_version=5)
    lock.with_suffix(".meta.json").unlink()
    assert _venvstacks(project, "rt3.12").name == "pylock.rt3_12.toml"
    report = project.lock(from_venvstacks=True)
    assert report.from_venvstacks == {"rt3.12": "read", "fw": "read"}
    assert project.versions("fw") == {"base": "1.0"}
    assert project.read("fw").version == 1
    # The time holds with the distributions, and there is none without the second file.
    assert project.read("rt3.12").locked_at == LOCKED_AT
    assert project.read("fw").locked_at > LOCKED_AT


def test_a_package_without_a_version_is_no_preference(project: Project) -> None:
    _both(project)
    _venvstacks(project, "framework-fw", ("base",), lock_version=5)
    project.lock(from_venvstacks=True)
    assert project.versions("fw") == {"base": "2.0"}
    assert project.read("fw").version == 6


def _error(project: Project) -> str:
    with pytest.raises(LockError) as caught:
        project.lock(from_venvstacks=True)
    assert not list((project.workspace.layers / "fw").glob("pylock*"))
    return str(caught.value)


def test_no_lock_of_venvstacks_at_all(project: Project) -> None:
    _stack(project)
    assert _error(project) == (
        "there are no locks of venvstacks 0.8 to start from\n"
        f"  file: {project.directory / 'requirements'}\n"
        "  expected: such as requirements/rt/pylock.rt.toml\n"
        "  to fix: run `venvstacks lock` of version 0.8, or leave out --from-venvstacks"
    )


@pytest.mark.parametrize("missing", ["pylock.app-app.meta.json", "pylock.app-app.toml"])
def test_half_a_lock_of_a_versioned_layer(project: Project, missing: str) -> None:
    _both(project)
    directory = project.directory / "requirements/app-app"
    (directory / missing).unlink()
    (left,) = directory.iterdir()
    assert _error(project) == (
        "venvstacks' lock of app is incomplete; its number would begin at 1 again\n"
        "  layer: app\n"
        f"  file: {directory}\n"
        "  expected: pylock.app-app.toml and pylock.app-app.meta.json\n"
        f"  found: only {left.name}\n"
        "  to fix: restore the other file from version control, or remove both"
    )
    # What the message advises.
    left.unlink()
    assert project.lock(from_venvstacks=True).from_venvstacks["app"] == "missing"
    assert _numbers(project) == (5, 1)


HEAD = 'lock-version = "1.0"\n'


@pytest.mark.parametrize(
    ("text", "expected", "found"),
    [
        ("x", "TOML in UTF-8", "Expected '=' after a key in a key/value pair (at end of document)"),
        ("", "a value as `lock-version`", "no value"),
        ('lock-version = "2.0"', "1.0 as `lock-version`", "'2.0'"),
        (f"{HEAD}packages = 3", "an array as `packages`", "3"),
        (f"{HEAD}packages = ['x']", "a table as `packages[0]`", "'x'"),
        (f"{HEAD}[[packages]]\n", "a value as `packages[0].name`", "no value"),
        (
            f'{HEAD}[[packages]]\nname = "a"\nversion = "x"',
            "a version as `packages[0].version`",
            "'x'",
        ),
        (
            f'{HEAD}[[packages]]\nname = "a"\nmarker = "x"',
            "a marker (PEP 508) as `packages[0].marker`",
            "'x'",
        ),
    ],
)
def test_a_damaged_lock(project: Project, text: str, expected: str, found: str) -> None:
    _both(project)
    path = project.directory / "requirements/framework-fw/pylock.framework-fw.toml"
    path.write_text(text)
    assert _error(project) == _damaged("fw", path, expected, found)


def _damaged(layer: str, path: Path, expected: str, found: str) -> str:
    return (
        f"venvstacks' lock of {layer} is damaged\n"
        f"  layer: {layer}\n"
        f"  file: {path}\n"
        f"  expected: {expected}\n"
        f"  found: {found}\n"
        "  to fix: restore it from version control, or lock without --from-venvstacks"
    )


@pytest.mark.parametrize(
    ("text", "expected", "found"),
    [
        (
            "{",
            "JSON",
            "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        ),
        ("{}", "a value as `lock_version`", "no value"),
        (
            '{"lock_version": 0}',
            "a whole number from 1 to 9223372036854775807 as `lock_version`",
            "0",
        ),
        ('{"lock_version": 1}', "a value as `locked_at`", "no value"),
        (
            '{"lock_version": 1, "locked_at": "2025-10-11T01:02:03"}',
            "a time with a UTC offset as `locked_at`",
            "'2025-10-11T01:02:03'",
        ),
        (
            '{"lock_version": 1, "locked_at": "0001-01-01T00:00:00+12:00"}',
            "a time with a UTC offset as `locked_at`",
            "'0001-01-01T00:00:00+12:00'",
        ),
    ],
)
def test_a_damaged_number(project: Project, text: str, expected: str, found: str) -> None:
    _both(project)
    path = project.directory / "requirements/app-app/pylock.app-app.meta.json"
    path.write_text(text)
    assert _error(project) == _damaged("app", path, expected, found)


def test_a_lock_that_is_no_file(project: Project) -> None:
    _both(project)
    path = project.directory / "requirements/app-app/pylock.app-app.toml"
    path.unlink()
    path.mkdir()
    text = _error(project)
    assert text.startswith("venvstacks' lock of app cannot be read (")
    assert text.endswith(f")\n  layer: app\n  file: {path}")


def test_two_versions_on_one_platform(project: Project) -> None:
    _both(project)
    path = _venvstacks(project, "framework-fw", ("base", "1.0"), ("base", "2.0"))
    expected = "one version of base on linux-x64"
    assert _error(project) == _damaged("fw", path, expected, "1.0 and 2.0")


def test_all_damaged_locks_are_named(project: Project) -> None:
    _both(project)
    for path in (project.directory / "requirements").rglob("pylock*.toml"):
        path.write_text("x")
    text = _error(project)
    assert text.startswith("2 problems with the locks\n")
    assert "lock of fw is damaged" in text
    assert "lock of app is damaged" in text


def test_options_that_contradict_each_other(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    _both(project)
    with pytest.raises(UsageError) as caught:
        project.lock(from_venvstacks=True, upgrade=True)
    assert str(caught.value) == (
        "an upgrade takes the newest versions, so it cannot start from those of venvstacks\n"
        "  to fix: leave out --from-venvstacks or --upgrade"
    )
    spec = str(project.directory / "venvstacks.toml")
    assert main(["lock", "--spec", spec, "--from-venvstacks", "--check"]) == 2
    assert capsys.readouterr().err == (
        "error: --check changes nothing, so nothing starts from venvstacks\n"
        "  to fix: leave out --check or --from-venvstacks\n"
    )
