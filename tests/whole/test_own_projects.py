"""Projects of the repository in layers: built for real, locked by the digest of their files."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from stackbuild.errors import InstallError, IntegrityError, LockError
from stackbuild.files import remove_tree
from stackbuild.install.sources import link_sources
from stackbuild.lock.model import ProjectSource
from stackbuild.lock.wheelhouse import fetch
from stackbuild.messages import Silent
from stackbuild.platforms import DEFAULT_PLATFORMS, Platform, host_platform
from tests.support.building import (
    BuildProject,
    c_extension,
    make_repository,
    make_sdist,
    only_here,
    project,
    pure,
    shared_cache,
    source_files,
)
from tests.support.index import IndexServer
from tests.support.locking import LINUX, application, framework, open_project
from tests.support.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.locking import Project

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
    everywhere = [str(platform) for platform in {HERE, *DEFAULT_PLATFORMS}]
    project.spec("tiny @ file:services/tiny", policy=SOURCES, extra=f"platforms = {everywhere}")
    project.lock()
    assert not [text for text in project.listener.notes if "builds/staging" in text]
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
    stale, *_ = project.lock(check=True).stale
    assert stale.reason == "services/tiny changed"
    project.lock()
    new = project.read("fw", AWAY).distributions
    assert new[0] == base
    assert new[1].wheel.name != tiny.wheel.name
    assert new == project.read("fw", HERE).distributions
    assert project.lock(check=True).stale == ()


def test_the_sources_of_a_layer_are_linked(project: BuildProject) -> None:
    module = "src/tiny/__init__.py"
    write_project(
        project.directory / "tiny",
        pure(f"return {{'tiny/__init__.py': open({module!r}, 'rb').read()}}"),
    )
    (project.directory / "tiny/src/tiny").mkdir(parents=True)
    (project.directory / "tiny" / module).write_text("value = 1\n")
    write_project(project.directory / "made", pure("return {'made.py': b''}"), name="made")
    project.spec("tiny @ file:tiny", "made @ file:made")
    with (project.directory / "venvstacks.toml").open("a") as spec:
        spec.write(application("app", "fw", extra='launch_module = "serve.py"\n' + only_here()))
    (project.directory / "serve.py").write_text("print(1)\n")
    project.lock()
    stack = project.stack
    for _ in range(2):
        links = link_sources(stack, project.workspace, "app", project.listener)
        assert {path.name: path.readlink() for path in links.iterdir()} == {
            "serve.py": project.directory / "serve.py",
            "tiny": project.directory / "tiny/src/tiny",
        }
        (links / "left.py").symlink_to("gone")
    assert (
        project.listener.warnings
        == ["made runs from its wheel and not from made, which does not have made.py"] * 2
    )
    remove_tree(project.workspace.wheelhouse)
    with pytest.raises(InstallError, match="the wheel of a project is missing"):
        link_sources(stack, project.workspace, "app", project.listener)
    project.fetch()
    link_sources(stack, project.workspace, "app", project.listener)


def test_a_project_beside_the_spec(project: BuildProject) -> None:
    write_project(project.directory, pure())
    project.spec("tiny @ file:.")
    project.lock()
    project.fetch()
    assert project.lock(check=True).stale == ()
    item = project.read("fw", HERE).distributions[0]
    project.spec("tiny @ file:./")
    project.lock()
    assert project.read("fw", HERE).distributions[0] == item


def test_a_project_that_git_ignores(project: BuildProject) -> None:
    write_project(project.directory / "tiny", pure())
    make_repository(project.directory, {".gitignore": "/tiny/\n"})
    project.spec("tiny @ file:tiny")
    with pytest.raises(LockError, match="a project that a wheel is built from has no files"):
        project.lock()


@pytest.mark.skipif(sys.platform != "linux", reason="needs a compiler")
def test_a_project_with_an_extension_module_needs_its_platform(project: BuildProject) -> None:
    write_project(project.directory / "tiny", c_extension())
    with (project.directory / "tiny/pyproject.toml").open("a") as file:
        file.write('[project]\nname = "tiny"\nversion = "1.0"\n')
    (project.directory / "pyproject.toml").write_text('[tool.uv.workspace]\nmembers = ["t*"]\n')
    project.spec("tiny", policy="[tool.uv.sources]\ntiny = { workspace = true }\n", extra=BOTH)
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
    with pytest.raises(
        LockError, match="a version is required that differs from the one at the path"
    ):
        project.lock()


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Project]:
    """A project that builds nothing."""
    with open_project(tmp_path) as opened:
        yield opened


def test_a_wheel_at_an_address_is_pinned(plain: Project, tmp_path: Path) -> None:
    def serve(content: str) -> str:
        files = {"given.py": content}
        return make_wheel(
            server.directory, "given", "1.0", files, requires=["needed"], tag=LINUX
        ).name

    (tmp_path / "elsewhere").mkdir()
    plain.wheel("needed", "1.5")
    plain.wheel("other", "1")
    with IndexServer(tmp_path / "elsewhere") as server:
        url = f"{server.url.removesuffix('/simple/')}/files/{serve('1')}"
        given = f"given @ {url} ; sys_platform == 'linux' and platform_machine == 'x86_64'"
        plain.write(framework("fw", given) + application("app", "fw", "given>=1"))
        plain.lock(platforms=["linux-x64"])
        plain.lock(layers=["fw"], platforms=["windows-x64"])
        assert plain.versions("fw") == {"given": "1.0", "needed": "1.5"}
        assert plain.versions("app") == plain.versions("fw", "windows-x64") == {}
        before = plain.read("fw").distributions[0]
        assert "url" not in plain.raw("fw")["packages"][0]["wheels"][0]

        # Another file at the address is neither locked nor accepted.
        serve("2 + 2")
        plain.write(framework("fw", given, "other") + application("app", "fw", "given"))
        plain.lock(platforms=["linux-x64"])
        assert plain.read("fw").distributions[0] == before
        with pytest.raises(IntegrityError) as caught:
            fetch(plain.stack, plain.workspace, [plain.read("fw")], Silent())
        text = str(caught.value)
        assert "the address of a requirement has another file than the lock names" in text
        assert "`stackbuild lock --upgrade-package given`" in text
        plain.lock(platforms=["linux-x64"], upgrade_packages=["given"])
        after = plain.read("fw").distributions[0]
        remove_tree(plain.workspace.cache)
        found = fetch(plain.stack, plain.workspace, [plain.read("fw")], Silent())
        assert found[after.wheel.sha256].is_file()

        plain.write(framework("fw", given.partition(" ;")[0]) + application("app", "fw"))
        with pytest.raises(LockError, match="the required wheel does not fit the platform"):
            plain.lock(layers=["fw"], platforms=["windows-x64"])


def test_a_wheel_and_a_source_distribution_of_the_repository(project: BuildProject) -> None:
    project.directory.mkdir()
    wheel = make_wheel(project.directory / "wheels", "given", "1.0", {"given.py": "1"})
    make_sdist(project.directory / "wheels", "tiny", "1.0", source_files(pure()))
    sources = '[tool.uv.sources]\ntiny = { path = "wheels/tiny-1.0.tar.gz" }\n'
    project.spec(f"given @ file:wheels/{wheel.name}", "tiny", policy=sources, extra=BOTH)
    project.lock()
    assert project.versions("fw", HERE) == {"given": "1.0", "tiny": "1.0"}
    # The pure wheel is for all platforms, and stays locked.
    before = project.read("fw", AWAY)
    assert before.distributions == project.read("fw", HERE).distributions
    project.listener.notes.clear()
    project.lock(upgrade_packages=["given"])
    assert project.read("fw", AWAY) == before
    assert not [text for text in project.listener.notes if text.startswith("building ")]
    shutil.rmtree(project.workspace.wheelhouse)
    shutil.rmtree(project.workspace.builds)
    project.fetch(platform=AWAY)
    assert project.built("given").read_bytes() == wheel.read_bytes()
    make_wheel(wheel.parent, "given", "1.0", {"given.py": "2"})
    assert project.lock(check=True).stale[0].reason == f"{wheel.name} changed"
    project.lock()
    project.fetch()
    assert project.built("given").read_bytes() == wheel.read_bytes()
