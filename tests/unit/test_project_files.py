"""Which of a project's files may be published."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackbuild.errors import ComposeError
from stackbuild.files import is_top, work_tree
from stackbuild.globs import parts_match
from stackbuild.names import MAX_DEPTH
from stackbuild.project.files import NEVER, USUAL, ProjectFiles
from stackbuild.project.git import git_environment, status

if TYPE_CHECKING:
    from collections.abc import Iterable

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
posix = pytest.mark.skipif(os.name == "nt", reason="links and names")

IGNORED = "*.log\nsecret.txt\ndist/\n"


def git(directory: Path, *words: str) -> None:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
    allowed = ("-c", "protocol.file.allow=always")
    command = ["git", *identity, *allowed, *words]
    subprocess.run(command, cwd=directory, env=git_environment(), check=True, capture_output=True)


def write(directory: Path, *paths: str, text: str = "x\n") -> None:
    for path in paths:
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(text)


def names(paths: Iterable[Path], directory: Path) -> list[str]:
    return [path.relative_to(directory).as_posix() for path in paths]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with a package `app`: tracked, untracked and ignored files in it."""
    project = tmp_path / "project"
    write(project, ".gitignore", text=IGNORED)
    write(project, "app/__init__.py", "app/data/table.csv", "app/kept.log")
    git(project, "init", "-q")
    git(project, "add", "-f", ".")
    git(project, "commit", "-q", "-m", "first")
    write(project, "app/new.py", "app/secret.txt", "app/out.log", "app/dist/built.so")
    write(project, "app/__pycache__/x.pyc", "app/new.py~", "app/data/.DS_Store")
    return project


TRACKED = ["__init__.py", "data/table.csv", "kept.log"]


@needs_git
def test_what_git_tracks_or_would_track_is_taken(tree: Path) -> None:
    files = ProjectFiles(tree, [tree / "app"])
    assert names(files.below(tree / "app"), tree / "app") == [*TRACKED, "new.py"]
    assert files.notes() == [
        "not in git yet, but published: app/new.py",
        "ignored by git and not published: app/dist, app/out.log, app/secret.txt",
    ]


@needs_git
def test_settings_of_git_in_a_directory_are_files_of_it(tree: Path) -> None:
    write(tree, "app/.gitattributes", "app/.git/config", "app/data/.gitignore")
    found = names(ProjectFiles(tree).below(tree / "app"), tree / "app")
    assert [name for name in found if ".git" in name] == [".gitattributes", "data/.gitignore"]


@needs_git
def test_what_git_ignores_is_taken_where_it_is_asked_for(tree: Path) -> None:
    write(tree, "app/dist/x.pyc", "app/dist/.venv/y")
    files = ProjectFiles(tree)
    found = names(files.below(tree / "app", include_ignored=True), tree / "app")
    assert found == sorted([*TRACKED, "dist/built.so", "new.py", "out.log", "secret.txt"])
    assert names(files.below(tree / "app/dist", include_ignored=True), tree) == [
        "app/dist/built.so"
    ]
    assert files.below(tree / "app/dist") == ()
    assert files.is_ignored(tree / "app/dist/built.so")
    assert files.is_ignored(tree / "app/out.log")
    assert not files.is_ignored(tree / "app/kept.log")
    assert not files.is_ignored(tree / "app/new.py")


@needs_git
def test_usual_leftovers_are_taken_where_git_tracks_them(tree: Path) -> None:
    write(tree, "app/old.orig", "app/.venv/tracked", "app/.venv/untracked", "app/__pycache__/t.py")
    git(tree, "add", "-f", "app/old.orig", "app/.venv/tracked", "app/__pycache__/t.py")
    found = names(ProjectFiles(tree).below(tree / "app"), tree / "app")
    assert found == [".venv/tracked", *TRACKED[:2], "kept.log", "new.py", "old.orig"]


@needs_git
def test_a_tracked_file_that_is_gone_is_told(tree: Path) -> None:
    (tree / "app/data/table.csv").unlink()
    files = ProjectFiles(tree)
    assert "data/table.csv" not in names(files.below(tree / "app"), tree / "app")
    assert "tracked by git but missing: app/data/table.csv" in files.notes()


@needs_git
def test_a_tracked_file_that_a_sparse_checkout_leaves_out_is_told(tree: Path) -> None:
    git(tree, "sparse-checkout", "set", "--no-cone", "/*", "!/app/data/")
    assert not (tree / "app/data/table.csv").exists()
    git(tree, "update-index", "--skip-worktree", "app/__init__.py")
    files = ProjectFiles(tree)
    assert "__init__.py" in names(files.below(tree / "app"), tree / "app")
    assert "tracked by git but missing: app/data/table.csv" in files.notes()


@needs_git
def test_a_nested_repository_goes_in_by_its_own_rules(tree: Path) -> None:
    nested = tree / "app/nested"
    write(nested, "code.py", "junk.tmp", "x.log")
    write(nested, ".gitignore", text="*.tmp\n")
    git(nested, "init", "-q")
    files = ProjectFiles(tree)
    found = names(files.below(tree / "app"), tree / "app")
    assert [name for name in found if name.startswith("nested")] == [
        *("nested/.gitignore", "nested/code.py", "nested/x.log")
    ]
    assert "app/nested/" in files.notes()[0]
    assert "app/nested/junk.tmp" in files.notes()[1]


@needs_git
def test_a_submodule_goes_in_and_must_be_checked_out(tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write(other, "lib.py")
    git(other, "init", "-q")
    git(other, "add", ".")
    git(other, "commit", "-q", "-m", "first")
    git(tree, "submodule", "add", "-q", str(other), "app/lib")
    files = ProjectFiles(tree)
    assert "lib/lib.py" in names(files.below(tree / "app"), tree / "app")
    git(tree, "submodule", "deinit", "-q", "-f", "app/lib")
    with pytest.raises(ComposeError, match="a git submodule is not checked out") as caught:
        ProjectFiles(tree).below(tree / "app")
    assert "git submodule update --init" in str(caught.value)


@needs_git
def test_a_project_that_a_repository_around_it_ignores(tree: Path) -> None:
    project = tree / "dist/project"
    write(project, "app/a.py", "app/x.log", "app/b.py~")
    files = ProjectFiles(project)
    assert names(files.below(project / "app"), project) == ["app/a.py", "app/x.log"]
    assert files.notes() == []
    git(tree, "add", "-f", "dist/project/app/a.py")
    files = ProjectFiles(project)
    assert names(files.below(project / "app"), project) == ["app/a.py"]


@needs_git
def test_a_project_below_the_top_of_its_repository(tree: Path) -> None:
    project = tree / "deep/project"
    write(project, "app/a.py", "app/x.log")
    files = ProjectFiles(project)
    assert names(files.below(project / "app"), project) == ["app/a.py"]
    assert files.notes()[1] == "ignored by git and not published: app/x.log"


def test_the_documentation_lists_the_usual_leftovers() -> None:
    text = (Path(__file__).parents[2] / "docs/file-formats.md").read_text(encoding="utf-8")
    assert [name for name in (*USUAL, *NEVER) if f"`{name}`" not in text] == []


def test_outside_git_the_usual_leftovers_stay_out(tmp_path: Path) -> None:
    write(tmp_path, "app/a.py", "app/x.log", "app/.git/config", "app/b/.git/HEAD", "app/b/c.txt")
    write(tmp_path, "app/__pycache__/a.pyc", "app/a.py~", "app/.a.py.swp", "app/#a#", "app/.#a")
    write(tmp_path, "app/.DS_Store", "app/old.pyc", "app/.venv/x", "app/.hidden", "app/.git.txt")
    files = ProjectFiles(tmp_path)
    assert work_tree(tmp_path / "app") is None
    assert names(files.below(tmp_path / "app"), tmp_path / "app") == [
        *(".git.txt", ".hidden", "a.py", "b/c.txt", "x.log")
    ]
    assert files.notes() == []


@posix
@needs_git
def test_names_are_no_patterns_and_may_have_any_character(tree: Path) -> None:
    write(tree, "a*b/one.py", "aXb/two.py", "a*b/new\nline.py", 'a*b/"quoted".py', "a*b/ü.log")
    found = names(ProjectFiles(tree, [tree / "a*b"]).below(tree / "a*b"), tree / "a*b")
    assert found == ['"quoted".py', "new\nline.py", "one.py"]
    write(tree, ":(top)x/one.py", ":(top)x/out.log")
    assert names(ProjectFiles(tree).below(tree / ":(top)x"), tree) == [":(top)x/one.py"]


@posix
@needs_git
def test_links_in_the_way_to_a_directory(tree: Path) -> None:
    (tree / "overlays").mkdir()
    (tree / "overlays/app").symlink_to("../app")
    (tree / "app/link").symlink_to("data")
    found = names(ProjectFiles(tree).below(tree / "overlays/app"), tree / "overlays/app")
    assert found == ["__init__.py", "data/table.csv", "kept.log", "link", "new.py"]


@needs_git
def test_settings_of_the_callers_git_do_not_count(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    git(elsewhere, "init", "-q")
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"):
        monkeypatch.setenv(name, str(elsewhere / ".git"))
    monkeypatch.setenv("GIT_GLOB_PATHSPECS", "1")
    found = names(ProjectFiles(tree).below(tree / "app"), tree / "app")
    assert found == [*TRACKED, "new.py"]


@needs_git
def test_git_that_is_not_installed(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(ComposeError, match="git is not installed") as caught:
        ProjectFiles(tree).below(tree / "app")
    assert "to fix: install git" in str(caught.value)


@needs_git
def test_a_work_tree_that_git_does_not_read(tree: Path) -> None:
    (tree / ".git/HEAD").write_text("nothing of git\n")
    with pytest.raises(ComposeError, match="git cannot read this work tree") as caught:
        ProjectFiles(tree).below(tree / "app")
    assert "found: fatal: " in str(caught.value)
    assert f"git config --global --add safe.directory {tree}" in str(caught.value)


@needs_git
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="gives files away")
def test_a_work_tree_of_another_account(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (tree, *tree.rglob("*")):
        os.chown(path, 65534, 65534)
    monkeypatch.setenv("HOME", str(tree.parent))
    monkeypatch.setenv("SUDO_UID", "")
    monkeypatch.setenv("LC_ALL", "C")
    with pytest.raises(ComposeError, match="git cannot read this work tree") as caught:
        ProjectFiles(tree).below(tree / "app")
    assert "dubious ownership" in str(caught.value)
    git(tree, "config", "--global", "--add", "safe.directory", str(tree))
    assert ProjectFiles(tree).below(tree / "app")


@pytest.mark.parametrize("git_file", ["", "no repository"])
def test_a_name_that_is_no_repository(tmp_path: Path, git_file: str) -> None:
    write(tmp_path, "app/a.py")
    (tmp_path / ".git").write_text(git_file)
    assert not is_top(tmp_path)
    assert len(ProjectFiles(tmp_path).below(tmp_path / "app")) == 1


def test_directories_deeper_than_a_layer_may_have(tmp_path: Path) -> None:
    directory = tmp_path / "/".join(["d"] * (MAX_DEPTH + 50))
    directory.mkdir(parents=True)
    (directory / "f").write_text("")
    assert len(ProjectFiles(tmp_path).below(tmp_path / "d")) == 1


@posix
def test_a_link_is_not_followed(tmp_path: Path) -> None:
    write(tmp_path, "outside/secret")
    (tmp_path / "app").mkdir()
    (tmp_path / "app/link").symlink_to("../outside")
    (tmp_path / "app/loop").symlink_to("loop")
    found = ProjectFiles(tmp_path / "app").below(tmp_path / "app")
    assert names(found, tmp_path / "app") == ["link", "loop"]
    assert not ProjectFiles(tmp_path / "app").is_inside(tmp_path / "app/link")


@needs_git
def test_git_is_asked_once(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tree, "overlays/a/x", "overlays/b/y")
    asked = []

    def counted(top: Path, paths: Iterable[str]) -> object:
        asked.append(sorted(paths))
        return status(top, asked[-1])

    monkeypatch.setattr("stackbuild.project.files.status", counted)
    roots = [tree / "overlays/a", tree / "overlays/b", tree / "app"]
    files = ProjectFiles(tree, roots)
    for root in (*roots, tree / "app/data"):
        assert files.below(root)
    assert asked == [["app", "overlays/a", "overlays/b"]]


PARTS = st.lists(st.sampled_from(["a", "b", "ab", "x.py"]), min_size=1, max_size=4)


@given(PARTS)
def test_a_path_matches_itself_and_what_stands_for_it(parts: list[str]) -> None:
    assert parts_match(parts, parts)
    assert parts_match(parts, ["*"] * len(parts))
    assert parts_match(parts, ["**"])
    assert parts_match(parts, ["**", parts[-1]])
    assert parts_match(parts, [parts[0], "**"])
    assert not parts_match(parts, ["*"] * (len(parts) + 1))
    assert not parts_match(parts, ["*"] * (len(parts) - 1))
