"""The sources of a project of the repository: their files, their digest, and links to them."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from stackbuild.errors import InstallError, LockError, UsageError
from stackbuild.files import remove_tree, sha256_file
from stackbuild.install.sources import link_sources
from stackbuild.lock.files import lock_path, read_lock, write_locks
from stackbuild.lock.model import (
    Build,
    LockedDistribution,
    LockedFile,
    ProjectSource,
    content_digest,
)
from stackbuild.lock.projects import OwnProjects, digest_of_files, files_of
from stackbuild.messages import Silent
from stackbuild.platforms import host_platform
from stackbuild.project.files import ProjectFiles
from stackbuild.resolve.lock_stack import lock_stack
from tests.support.interpreters import Listener
from tests.support.smallstack import SmallStack
from tests.support.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stackbuild.spec.model import Stack

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links")

PATH = "libs/ours"


def write(directory: Path, *paths: str) -> None:
    for path in paths:
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text("x\n")


def locked(small: SmallStack, *files: str, layer: str = "app") -> Stack:
    """A stack whose `layer` has a wheel with `files`, built from the project in `PATH`."""
    stack = small.lock()
    wheel = make_wheel(small.directory / "wheelhouse", "ours", "1.0", dict.fromkeys(files, ""))
    with ZipFile(wheel, "a") as archive:
        archive.writestr("directory/", "")
        archive.writestr("ours-1.0.data/scripts/run", "")
    file = LockedFile(name=wheel.name, size=wheel.stat().st_size, sha256=sha256_file(wheel))
    item = LockedDistribution(
        name=canonicalize_name("ours"),
        version=Version("1.0"),
        wheel=file,
        source=ProjectSource(path=PATH, sha256="1" * 64),
        build=Build(recipe="2" * 64),
    )
    lock = read_lock(lock_path(small.workspace, layer, host_platform()))
    digest = content_digest([item], lock.interpreter, lock.own)
    write_locks(small.workspace, [], [replace(lock, distributions=(item,), digest=digest)])
    return stack


def links(directory: Path) -> dict[str, Path]:
    return {path.name: path.readlink() for path in directory.iterdir()}


@pytest.fixture
def small(tmp_path: Path) -> SmallStack:
    small = SmallStack(tmp_path / "project", tmp_path / "cache")
    (small.directory / PATH).mkdir(parents=True)
    return small


@pytest.mark.parametrize("top", ["src", ".", "python", "a-first"])
def test_links_lead_to_the_directory_with_all_modules(small: SmallStack, top: str) -> None:
    project, listener = small.directory / PATH, Listener()
    write(project / top, "ours/__init__.py", "ours/data.txt", "single.py")
    write(project / "a", "ours/__init__.py")
    if top == "src":  # comes before the others
        write(project, "ours/__init__.py", "ours/data.txt", "single.py")
    stack = locked(small, "ours/__init__.py", "ours/data.txt", "single.py")
    made = link_sources(stack, small.workspace, "app", listener)
    assert made == small.workspace.build / ".dev/app"
    assert links(made) == {
        "app.py": small.directory / "launch/app.py",
        "helping": small.directory / "launch/helping",
        "ours": project / top / "ours",
        "single.py": project / top / "single.py",
    }
    assert listener.warnings == []


@pytest.mark.parametrize(
    ("present", "absent"),
    [
        ((), "a.py, b.py, c.py"),
        (("src/a.py", "src/c.py"), "b.py, d.py"),
        (("src/a.py", "src/b.py", "c.py", "d.py"), "its files in one directory"),
    ],
)
def test_a_project_whose_wheel_has_other_files(
    small: SmallStack, present: Iterable[str], absent: str
) -> None:
    listener = Listener()
    write(small.directory / PATH, *present)
    stack = locked(small, "a.py", "b.py", "c.py", "d.py")
    made = link_sources(stack, small.workspace, "app", listener)
    assert sorted(links(made)) == ["app.py", "helping"]
    assert listener.warnings == [
        f"ours runs from its wheel and not from {PATH}, which does not have {absent}"
    ]


def test_a_project_that_is_gone_runs_from_its_wheel(small: SmallStack) -> None:
    listener = Listener()
    stack = locked(small, "a.py")
    (small.directory / PATH).rmdir()
    link_sources(stack, small.workspace, "app", listener)
    assert len(listener.warnings) == 1


def test_links_are_kept_and_others_removed(small: SmallStack) -> None:
    write(small.directory / PATH, "app.py", "ours.py")
    stack = locked(small, "app.py", "ours.py", layer="base")
    made = link_sources(stack, small.workspace, "app", Listener())
    # The layer's own modules hide those of the layers below it.
    assert links(made)["app.py"] == small.directory / "launch/app.py"
    os.utime(made / "app.py", (1, 1), follow_symlinks=False)
    (made / "gone").symlink_to("nothing")
    (made / "ours.py").unlink()
    (made / "ours.py").symlink_to("elsewhere.py")
    write(made, "directory/file", "file")
    link_sources(stack, small.workspace, "app", Listener())
    assert sorted(links(made)) == ["app.py", "helping", "ours.py"]
    assert links(made)["ours.py"] == small.directory / PATH / "ours.py"
    assert (made / "app.py").lstat().st_mtime == 1
    assert sorted(links(link_sources(stack, small.workspace, "base", Listener()))) == [
        "app.py",
        "ours.py",
    ]


@pytest.mark.parametrize(
    ("table", "is_outdated"),
    [
        ("", False),
        ("dependencies = []", False),
        ("dependencies = ['new>=1']", True),
        ("dynamic = ['dependencies']", False),
        ("[project.scripts]\nours = 'ours:main'", True),
        ("[project.entry-points.plugins]\nours = 'ours'", True),
        ("dynamic = ['scripts']", False),
        ("dependencies = 1", False),
    ],
)
def test_a_project_whose_dependencies_or_entry_points_changed(
    small: SmallStack, table: str, *, is_outdated: bool
) -> None:
    write(small.directory / PATH, "ours.py")
    (small.directory / PATH / "pyproject.toml").write_text(f"[project]\nname = 'ours'\n{table}\n")
    stack, listener = locked(small, "ours.py"), Listener()
    link_sources(stack, small.workspace, "app", listener)
    assert listener.warnings == is_outdated * [
        f"{PATH}/pyproject.toml has other dependencies or entry points than the wheel of ours:"
        " run `stackbuild lock && stackbuild build`"
    ]
    if "scripts]" in table:
        with ZipFile(next((small.directory / "wheelhouse").glob("ours-*.whl")), "a") as archive:
            points = "[console_scripts]\nours = ours:main\n"
            archive.writestr("ours-1.0.dist-info/entry_points.txt", points)
        link_sources(stack, small.workspace, "app", listener)
        assert len(listener.warnings) == 1


def test_a_layer_that_is_not_locked_has_its_modules(small: SmallStack) -> None:
    stack = small.lock()
    lock_path(small.workspace, "app", host_platform()).unlink()
    made = link_sources(stack, small.workspace, "app", Listener())
    assert sorted(links(made)) == ["app.py", "helping"]


def test_what_links_cannot_be_made_for(small: SmallStack, monkeypatch: pytest.MonkeyPatch) -> None:
    write(small.directory / PATH, "ours.py")
    stack = locked(small, "ours.py")
    with pytest.raises(UsageError, match="matches several layers") as usage:
        link_sources(stack, small.workspace, "*", Listener())
    assert f"  file: {stack.path}\n" in str(usage.value)

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(1, "denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "symlink_to", denied)
        with pytest.raises(InstallError) as caught:
            link_sources(stack, small.workspace, "app", Listener())
    assert caught.value.message == "a link to the sources cannot be made (denied)"
    assert f"  file: {small.workspace.build / '.dev/app'}{os.sep}" in str(caught.value)
    assert str(caught.value).endswith(
        "  to fix: allow this account to make links (on Windows, turn on the developer mode)"
    )
    wheel = next((small.directory / "wheelhouse").glob("ours-*.whl"))
    wheel.unlink()
    with pytest.raises(InstallError) as caught:
        link_sources(stack, small.workspace, "app", Listener())
    assert str(caught.value).splitlines() == [
        "the wheel of a project is missing, which tells where its modules are",
        "  distribution: ours 1.0",
        f"  file: {wheel}",
        "  to fix: run `stackbuild fetch --platform host`",
    ]


def test_what_stackbuild_writes_is_no_source_of_a_project(tmp_path: Path) -> None:
    sources = [
        *("layers/notes.toml", "layers/app/pylock.toml", "layers/app/more.toml", "builder/a.py"),
        *("pyproject.toml", "src/build/a.py", "src/venvstacks.toml", "venvstacks.toml.in"),
    ]
    write(tmp_path, *sources, "wheelhouse/a.whl", "exports/index.json", "build/a", ".stackbuild/a")
    write(tmp_path, "layers/app/pylock.linux-x64.toml", "layers/app/runtime.toml")
    write(tmp_path, "venvstacks.toml", "venvstacks.local.toml")
    files = ProjectFiles(tmp_path)
    assert files_of(".", files) == [tmp_path / path for path in sorted(sources)]
    assert files_of("src", files) == [tmp_path / path for path in sources[5:7]]


def test_a_project_without_files(tmp_path: Path) -> None:
    project = tmp_path / PATH
    project.mkdir(parents=True)
    with pytest.raises(LockError) as caught:
        files_of(PATH, ProjectFiles(tmp_path))
    assert str(caught.value).splitlines() == [
        "a project that a wheel is built from has no files",
        f"  file: {project}",
        "  expected: files that git tracks or would track",
        "  found: git ignores all of them, or the directory is empty",
        "  to fix: remove the directory from .gitignore, or require another one",
    ]


def test_a_project_or_a_file_that_changed(small: SmallStack) -> None:
    write(small.directory / PATH, "ours.py")
    stack = locked(small, "ours.py")
    lock = read_lock(lock_path(small.workspace, "app", host_platform()))
    projects = OwnProjects(ProjectFiles(stack.directory))
    assert projects.changed(lock, {}) == [PATH]
    source = projects.source(PATH)
    directory = small.directory / PATH
    assert source == ProjectSource(
        path=PATH, sha256=digest_of_files(directory, [directory / "ours.py"])
    )
    [item] = lock.distributions
    current = replace(lock, distributions=(replace(item, source=source),))
    assert projects.changed(current, {}) == []
    # Each project is read once.
    write(small.directory / PATH, "new.py")
    assert projects.changed(current, {}) == []
    assert OwnProjects(ProjectFiles(stack.directory)).changed(current, {}) == [PATH]
    remove_tree(small.directory / "libs")
    assert projects.changed(current, {}) == [PATH]


def test_files_that_git_ignores_are_named(small: SmallStack) -> None:
    ignored = [f"src/ours/{name}" for name in ("a.txt", "b.txt", "c.txt", "data/d.dat")]
    made = ["build/x.txt", "src/ours/_version.py", "src/ours.egg-info/x.txt", ".env", "a.pyc"]
    write(small.directory / PATH, "src/ours/__init__.py", *ignored, *made)
    text = "*.txt\ndata/\n*.egg-info\n.env\n*.pyc\n_version.py\n"
    (small.directory / ".gitignore").write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=small.directory, check=True)
    stack = locked(small)
    report = lock_stack(stack, small.workspace, Silent(), check=True)
    assert [text for text in report.warnings if "git" in text] == [
        f"{PATH}: git ignores src/ours/a.txt, src/ours/b.txt, src/ours/c.txt and 1 more, so the"
        " wheel is built without; to include such files, change .gitignore or use"
        " `git add --force`"
    ]
    (small.directory / ".gitignore").write_text(text.replace("*.txt\ndata/\n", "build/\n"))
    report = lock_stack(stack, small.workspace, Silent(), check=True)
    assert not [text for text in report.warnings if "git" in text]


def test_a_file_of_the_repository_that_changed(small: SmallStack) -> None:
    locked(small, "ours.py")
    lock = read_lock(lock_path(small.workspace, "app", host_platform()))
    projects = OwnProjects(ProjectFiles(small.directory))
    [item] = lock.distributions
    wheel = small.directory / "wheelhouse" / item.wheel.name
    given = {wheel.name: wheel.as_uri()}
    sdist = LockedFile(name="ours-1.0.tar.gz", size=1, sha256="3" * 64)
    for change in ({"source": None}, {"source": item.wheel, "wheel": sdist}):
        current = replace(lock, distributions=(replace(item, **change),))
        assert projects.changed(current, given) == []
        assert projects.changed(current, {wheel.name: "https://h/" + wheel.name}) == []
        content = wheel.read_bytes()
        for other in (content[:-1] + b"x", content + b"x"):
            wheel.write_bytes(other)
            assert projects.changed(current, given) == [wheel.name]
        wheel.write_bytes(content)
