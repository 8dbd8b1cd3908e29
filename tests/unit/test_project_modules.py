"""The files of launch and support modules."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from stackbuild.errors import ComposeError
from stackbuild.platforms import Platform
from stackbuild.project.files import ProjectFiles
from stackbuild.project.git import git_environment
from stackbuild.project.modules import module_sources
from stackbuild.spec.model import Layer, LayerKind
from tests.support.specs import APPLICATION, FRAMEWORK, RUNTIME, problems_of, read_spec

if TYPE_CHECKING:
    from pathlib import Path

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
posix = pytest.mark.skipif(os.name == "nt", reason="links")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    project = tmp_path / "project"
    for path in ("app/__init__.py", "app/__main__.py", "shared/version.py", "helping.py"):
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text(f"# {path}\n")
    (tmp_path / "secret.py").write_text("# secret\n")
    return project


def read(project: Path, platform: Platform = Platform.LINUX_X64) -> dict[str, str]:
    """The files of the modules by their path in site-packages, with their contents."""
    layer = Layer(
        name="app",
        kind=LayerKind.APPLICATION,
        requirements=(),
        platforms=(platform,),
        runtime="cpython-3.12",
        frameworks=(),
        launch_module=project / "app",
        support_modules=(project / "helping.py",),
    )
    found = module_sources(layer, platform, ProjectFiles(project))
    return {name: path.read_text() for name, path in sorted(found.items())}


def refused(project: Path, platform: Platform = Platform.LINUX_X64) -> str:
    with pytest.raises(ComposeError) as caught:
        read(project, platform)
    assert dict(caught.value.details)["layer"] == "app"
    assert dict(caught.value.details)["platform"] == platform
    return caught.value.message


@posix
def test_a_link_stands_for_a_file_of_the_project(project: Path) -> None:
    (project / "app/version.py").symlink_to("../shared/version.py")
    assert read(project) == {
        "app/__init__.py": "# app/__init__.py\n",
        "app/__main__.py": "# app/__main__.py\n",
        "app/version.py": "# shared/version.py\n",
        "helping.py": "# helping.py\n",
    }


@posix
@pytest.mark.parametrize("target", ["../../secret.py", "{outside}/secret.py"])
@pytest.mark.parametrize("place", ["app/link.py", "helping.py", "app/__main__.py"])
def test_a_link_out_of_the_project(project: Path, target: str, place: str) -> None:
    up = target if place.startswith("app") else target.removeprefix("../")
    (project / place).unlink(missing_ok=True)
    (project / place).symlink_to(up.format(outside=project.parent))
    message = (
        f"a module of the layer is a link out of the project, to {project.parent / 'secret.py'}"
    )
    assert refused(project) == message


@posix
def test_a_package_that_leads_out_of_the_project(project: Path) -> None:
    (project / "app").rename(project.parent / "outside")
    (project / "app").symlink_to("../outside")
    message = f"a module of the layer is a link out of the project, to {project.parent / 'outside'}"
    assert refused(project) == message


@posix
def test_links_that_stand_for_no_file(project: Path) -> None:
    (project / "app/link").symlink_to("../shared")
    assert refused(project) == "a module of the layer is a link to a directory"
    (project / "app/link").unlink()
    (project / "app/link").symlink_to("link")
    assert refused(project) == "a module of the layer is missing or is not a file"


def test_a_name_that_the_platform_cannot_have(project: Path) -> None:
    (project / "app/aux.py").write_text("")
    assert "app/aux.py" in read(project)
    message = "a module of the layer has a name that Windows reserves for a device"
    assert refused(project, Platform.WINDOWS_X64) == message


@needs_git
@posix
@pytest.mark.parametrize(
    ("ignored", "file"),
    [("/shared/", "app/version.py"), ("/helping.py", "helping.py"), ("__main__.py", "__main__.py")],
)
def test_what_git_ignores(project: Path, ignored: str, file: str) -> None:
    (project / "app/version.py").symlink_to("../shared/version.py")
    (project / ".gitignore").write_text(f"{ignored}\n")
    subprocess.run(["git", "init", "-q"], cwd=project, env=git_environment(), check=True)
    assert refused(project) == "a module of the layer is ignored by git, so it is not published"
    with pytest.raises(ComposeError) as caught:
        read(project)
    details = dict(caught.value.details)
    assert details["file"].endswith(file)
    assert details["to fix"] == "remove it from .gitignore, or add it with `git add --force`"


@needs_git
@posix
def test_a_module_elsewhere_in_the_work_tree_of_the_project(tmp_path: Path) -> None:
    """As in a repository of several stacks that share a module."""
    common = tmp_path / "common" / "shared"
    common.mkdir(parents=True)
    (common / "__init__.py").write_text("# shared\n")
    (common / "ignored.py").write_text("# ignored\n")
    (common / "leak.py").symlink_to("/etc/hostname")
    (tmp_path / ".gitignore").write_text("ignored.py\n")
    directory = tmp_path / "stack"
    directory.mkdir()
    spec = RUNTIME + FRAMEWORK + APPLICATION + "support_modules = ['../common/shared']\n"
    layer = read_spec(directory, spec).layers["app"]
    with pytest.raises(ComposeError, match="is a link out of the project"):
        module_sources(layer, Platform.LINUX_X64, ProjectFiles(directory, layer.modules))
    subprocess.run(["git", "init", "-q", tmp_path], check=True, env=git_environment())
    layer = read_spec(directory, spec).layers["app"]
    files = ProjectFiles(directory, layer.modules)
    with pytest.raises(ComposeError, match="is a link out of the project"):
        module_sources(layer, Platform.LINUX_X64, files)
    (common / "leak.py").unlink()
    found = module_sources(layer, Platform.LINUX_X64, files)
    assert found == {"shared/__init__.py": directory / "../common/shared/__init__.py"}


@posix
def test_a_module_elsewhere_without_git(tmp_path: Path) -> None:
    """As in an archive of such a repository; a link is not what the spec names."""
    directory = tmp_path / "stack"
    for name in ("common/shared/__init__.py", "stack/own.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"# {name}\n")
    (tmp_path / "common/shared/own.py").symlink_to("../../stack/own.py")
    (tmp_path / "common/shared/inner.py").symlink_to("__init__.py")
    (tmp_path / "common/linked").symlink_to("shared")
    spec = RUNTIME + FRAMEWORK + APPLICATION
    layer = read_spec(directory, spec + "support_modules = ['../common/shared']\n").layers["app"]
    found = module_sources(layer, Platform.LINUX_X64, ProjectFiles(directory, layer.modules))
    assert sorted(found) == ["shared/__init__.py", "shared/inner.py", "shared/own.py"]
    (problem,) = problems_of(directory, spec, "support_modules = ['../common/linked']\n")
    assert "of app leads out of the project" in problem
