"""Frameworks side by side that have different versions of a distribution."""

from __future__ import annotations

import hashlib
import json
import shutil
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from stackbuild.cli.main import main
from stackbuild.install.state import State
from stackbuild.platforms import Platform
from stackbuild.verify.check import accepted_conflicts
from tests.support.locking import LINUX, Project, application, framework, only, open_project
from tests.support.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TWO = only(Platform.LINUX_X64, Platform.MACOSX_AARCH64)
WARN = '[tool.stackbuild]\nsibling-conflicts = "warn"\n'
WARN_APP = '[tool.stackbuild.layers.app]\nsibling-conflicts = "warn"\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    with open_project(tmp_path) as opened:
        monkeypatch.setenv("STACKBUILD_CACHE_DIR", str(opened.workspace.cache))
        for version in ("1.0", "2.0"):
            opened.wheel("base", version)
        yield opened


def _run(project: Project, *words: str) -> int:
    return main([*words, "--spec", str(project.directory / "venvstacks.toml")])


def _stack(web: str, *other: str, extra: str = "") -> str:
    frameworks = framework("web", web, extra=TWO) + framework("other", *other, extra=TWO)
    return frameworks + application("app", 'web", "other', extra=TWO) + extra


def test_the_nearer_version_is_taken_where_it_is_as_good(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.wheel("lib", "1.0", requires=("base>=1", "base>=2; extra == 'new'"))
    project.write(_stack("base==1.0", "base>=1", "lib"))
    assert _run(project, "lock") == 0
    err = capsys.readouterr().err.splitlines()
    assert [line for line in err if "hides" in line] == [
        "in app, base 1.0 of web hides base 2.0 of other; all requirements on base are still met"
    ]
    assert not [line for line in err if line.startswith("warning")]
    assert "conflicts" not in project.raw("app")["tool"]["stackbuild"]


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (("base==2.0",), "base==2.0, which other requires"),
        (("base", "lib"), "base>=2, which lib 1.0 of other requires"),
        (("base", "extra[new]"), "base>=2, which extra 1.0 of other requires"),
        (("base", "chain"), "base>=2, which extra 1.0 of other requires"),
    ],
)
def test_a_requirement_that_is_broken_is_an_error(
    project: Project,
    capsys: pytest.CaptureFixture[str],
    other: tuple[str, ...],
    expected: str,
) -> None:
    project.wheel("lib", "1.0", requires=("base>=2",))
    project.wheel("extra", "1.0", requires=("base>=2; extra == 'new'",))
    project.wheel("chain", "1.0", requires=("extra[new]",))
    project.write(_stack("base==1.0", *other))
    assert _run(project, "lock") == 4
    assert capsys.readouterr().err.splitlines()[-7:] == [
        "error: the layers below app need different versions of base",
        "  layer: app",
        "  platform: linux-x64, macosx-aarch64",
        "  distribution: base",
        f"  expected: {expected}",
        "  found: base 1.0 of web, which comes before base 2.0 of other",
        "  to fix: make web and other require the same version of base; or accept the unmet"
        ' requirements with `sibling-conflicts = "warn"` in'
        " [tool.stackbuild.layers.app]",
    ]
    assert not list((project.workspace.layers / "app").glob("pylock*"))


@pytest.mark.parametrize("setting", [WARN, WARN_APP])
def test_an_accepted_conflict_is_told_each_time(
    project: Project, capsys: pytest.CaptureFixture[str], setting: str
) -> None:
    project.write(_stack("base==1.0", "base==2.0", extra=setting))
    told = "app on linux-x64, macosx-aarch64 has base 1.0 of web, but other requires base==2.0"
    for words in (["lock"], ["lock"], ["lock", "--check"]):
        assert _run(project, *words) == 0
        assert f"warning: {told}" in capsys.readouterr().err.splitlines()
    assert _run(project, "show") == 0
    assert f"conflict: {told}" in capsys.readouterr().out
    assert _run(project, "show", "--json") == 0
    layers = {layer["name"]: layer for layer in json.loads(capsys.readouterr().out)["layers"]}
    assert layers["app"]["conflicts"] == [told]
    assert layers["other"]["conflicts"] == []
    digests = {"app": project.read("app").digest, "other": project.read("other").digest}
    manifests = {name: SimpleNamespace(layer=name, lock=lock) for name, lock in digests.items()}
    state = State(platform=Platform.LINUX_X64, asked=("app",), layers=manifests)  # type: ignore[arg-type]  # all that is read
    verified = partial(accepted_conflicts, project.stack, project.workspace, state)
    one = told.replace(", macosx-aarch64", "")
    assert (verified([]), verified(["app"]), verified(["other"])) == ([one], [one], [])
    # Not accepted any more.
    project.write(_stack("base==1.0", "base==2.0"))
    assert _run(project, "lock", "--check") == 4
    assert _run(project, "lock") == 4


def test_a_requirement_that_another_layer_changes_is_noticed(project: Project) -> None:
    project.write(_stack("base==1.0", "base"))
    assert _run(project, "lock") == 0
    before = project.read("other").digest
    project.write(_stack("base==1.0", "base>=2"))
    assert _run(project, "lock") == 4
    assert project.read("other").digest == before


@pytest.mark.parametrize(
    "extra",
    [
        "[tool.stackbuild.layers.other]\nno-deps = ['lib']\n",
        "[tool.stackbuild.layers.other]\noverrides = { base = '>=1' }\n",
    ],
)
def test_what_the_policy_takes_back_is_no_conflict(project: Project, extra: str) -> None:
    project.wheel("lib", "1.0", requires=("base>=2",))
    project.write(_stack("base==1.0", "base", "lib", extra=extra))
    assert _run(project, "lock") == 0


def test_requirements_for_other_platforms_are_no_conflict(project: Project) -> None:
    project.wheel("lib", "1.0", requires=("base>=2; sys_platform == 'win32'",))
    project.write(_stack("base==1.0", "base", "lib", "base==2.0; sys_platform == 'linux'"))
    assert _run(project, "lock") == 4
    project.write(_stack("base==1.0", "base", "lib"))
    assert _run(project, "lock") == 0


@pytest.mark.parametrize("served", [True, False])
def test_metadata_is_read_without_the_wheel_and_once(project: Project, served: bool) -> None:
    noise = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(30_000))
    wheel = make_wheel(
        project.index.directory,
        "lib",
        "1.0",
        {"lib.bin": noise},
        requires=("base>=2",),
        tag="py3-none-any",
    )
    project.write(_stack("base==1.0", "base", "lib", extra=WARN))
    if served:
        (project.index.directory / f"{wheel.name}.metadata").write_text(
            "Metadata-Version: 2.1\nName: lib\nVersion: 1.0\nRequires-Dist: base>=1.5\n"
        )
    project.lock()
    (conflict,) = project.read("app").conflicts
    assert conflict.requirement == ("base>=1.5" if served else "base>=2")
    assert project.index.sent < wheel.stat().st_size
    # Also where nothing is known of the layers below but their locks.
    shutil.rmtree(project.workspace.cache)
    shutil.rmtree(project.path("app").parent)
    project.lock()
    assert project.read("app").conflicts == (conflict,)
    shutil.rmtree(project.path("app").parent)
    project.index.forget()
    project.lock()
    assert project.index.requests == ()


def test_an_extra_that_a_distribution_does_not_have_is_told(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.wheel("lib", "1.0", LINUX)
    only_linux = only(Platform.LINUX_X64)
    frameworks = framework("web", "lib", extra=only_linux)
    project.write(frameworks + application("app", "web", "lib[nosuch]", extra=only_linux))
    assert _run(project, "lock") == 0
    assert "warning: app requires lib[nosuch], but lib 1.0 has no extra nosuch" in (
        capsys.readouterr().err.splitlines()
    )
