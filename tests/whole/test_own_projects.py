"""Projects of the repository in layers: built for real, locked by the digest of their files."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from stackbuild.errors import LockError
from stackbuild.lock.model import ProjectSource
from stackbuild.platforms import Platform, host_platform
from tests.support.building import (
    BuildProject,
    c_extension,
    project,
    pure,
    shared_cache,
    source_files,
)

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["project", "shared_cache"]

HERE = host_platform()
AWAY = Platform.WINDOWS_X64 if HERE is not Platform.WINDOWS_X64 else Platform.LINUX_X64
BOTH = f'platforms = ["{HERE}", "{AWAY}"]'
SOURCES = '[tool.uv.sources]\nbase = { path = "libs/base" }\n'


def write_project(directory: Path, build: str, **options: object) -> None:
    for name, text in source_files(build, **options).items():  # type: ignore[arg-type]
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_project_is_built_once_for_all_platforms_and_again_when_it_changes(
    project: BuildProject,
) -> None:
    write_project(project.directory / "services/tiny", pure(), dependencies=("base>=2",))
    write_project(
        project.directory / "libs/base", pure("return {'base.py': b''}"), name="base", version="2.0"
    )
    project.spec("tiny @ file:services/tiny", policy=SOURCES, extra=BOTH)
    project.lock()
    here, away = (project.read("fw", platform) for platform in (HERE, AWAY))
    assert here.distributions == away.distributions
    assert project.versions("fw", HERE) == {"base": "2.0", "tiny": "1.0"}
    [base, tiny] = here.distributions
    assert isinstance(base.source, ProjectSource)
    assert isinstance(tiny.source, ProjectSource)
    assert (base.source.path, tiny.source.path) == ("libs/base", "services/tiny")
    assert str(project.directory) not in project.path("fw", HERE).read_text()
    built = [text for text in project.listener.notes if text.startswith("building ")]
    assert len(built) == 2, built

    # The same files in another place, with other times, make the same wheel.
    shutil.rmtree(project.workspace.wheelhouse)
    shutil.rmtree(project.workspace.builds)
    project.fetch(platform=AWAY)
    assert project.built("tiny").is_file()

    (project.directory / "services/tiny/build.py").open("a").write("# edited\n")
    [stale, _] = project.lock(check=True).stale
    assert stale.reason == "the project services/tiny changed"
    project.lock()
    new = project.read("fw", AWAY).distributions
    assert new[0] == base
    assert new[1].wheel.name != tiny.wheel.name
    assert new == project.read("fw", HERE).distributions
    assert project.lock(check=True).stale == ()


@pytest.mark.skipif(sys.platform != "linux", reason="needs a compiler")
def test_a_project_with_an_extension_module_needs_its_platform(project: BuildProject) -> None:
    write_project(project.directory / "tiny", c_extension())
    project.spec("tiny", policy='[tool.uv.sources]\ntiny = { path = "tiny" }\n', extra=BOTH)
    with pytest.raises(LockError) as caught:
        project.lock()
    text = str(caught.value)
    assert f"fw, {AWAY}" in text or (AWAY in text and "fw" in text)
    assert "it is built from tiny, and its wheel is not for any platform" in text
    project.lock(platforms=[str(HERE)])
    assert project.versions("fw", HERE) == {"tiny": "1.0"}


def test_a_version_that_the_project_does_not_have(project: BuildProject) -> None:
    write_project(project.directory / "tiny", pure())
    project.spec("tiny>=2", policy='[tool.uv.sources]\ntiny = { path = "tiny" }\n')
    with pytest.raises(LockError, match="a version is required that differs from the one built"):
        project.lock()
