"""Commits of git repositories, and the reasons for source builds."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from packaging.utils import canonicalize_name

from stackbuild.errors import FetchError, LockError
from stackbuild.files import remove_tree
from stackbuild.platforms import Platform
from stackbuild.resolve import git_sources as module
from stackbuild.resolve.git_sources import GitCommits, pin, reason_to_build
from tests.support.building import make_repository
from tests.support.specs import ALL, read_spec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit: the branch `main` and the tag `v1`."""
    make_repository(tmp_path / "repository", {"file": ""})
    return tmp_path / "repository"


def git(repository: Path, *words: str) -> str:
    ours = ("-c", "user.name=n", "-c", "user.email=e@example.org")
    command = ["git", *ours, *words]
    return subprocess.check_output(command, cwd=repository, text=True).strip()


def commit(repository: Path) -> str:
    git(repository, "commit", "--allow-empty", "-qm", "next")
    return git(repository, "rev-parse", "HEAD")


def test_a_revision_is_pinned_to_its_commit(repository: Path) -> None:
    first = git(repository, "rev-parse", "HEAD")
    git(repository, "tag", "-am", "v2", "v2")
    git(repository, "branch", "v2-later")
    git(repository, "update-ref", "refs/pull/2/head", "HEAD")
    last = commit(repository)
    git(repository, "branch", "v2")  # A tag of this name is preferred.
    git(repository, "tag", "sub/v2-later")  # Another name, which ls-remote finds too.
    url = repository.as_uri()
    for revision, expected in {
        "main": last,
        "v1": first,
        "v2": first,
        "v2-later": first,
        "refs/heads/v2": last,
        "refs/pull/2/head": first,
        "HEAD": last,
    }.items():
        source = pin(f"git+{url}@{revision}")
        assert (source.url, source.commit, source.requested) == (url, expected, revision)
        assert source.subdirectory is None
    for address in (url, f"{url}@", f"{url}#egg=a"):
        source = pin(f"git+{address}")
        assert (source.url, source.commit, source.requested) == (url, last, None)


@pytest.mark.parametrize("whole", [COMMIT, COMMIT + "0" * 24])
@pytest.mark.parametrize(
    ("fragment", "subdirectory"),
    [
        ("#subdirectory=sub/dir", "sub/dir"),
        ("#egg=a&subdirectory=a%20b+c=d", "a b+c=d"),
        ("#subdirectory=", None),
        ("#egg=a", None),
    ],
)
def test_a_whole_commit_needs_no_repository(
    whole: str, fragment: str, subdirectory: str | None
) -> None:
    url = "ssh://git@host.example/a@b/r.git?a=b"
    source = pin(f"git+{url.replace('?', f'@{whole.upper()}?')}{fragment}")
    assert (source.url, source.commit, source.requested) == (url, whole, whole.upper())
    assert source.subdirectory == subdirectory


def test_a_shortened_commit_is_completed(repository: Path) -> None:
    first = git(repository, "rev-parse", "HEAD")
    git(repository, "tag", "-d", "v1")
    last = commit(repository)
    # No branch stands at the first one any more.
    for whole in (first, last):
        for short in (whole[:7], whole[:39]):
            source = pin(f"git+{repository.as_uri()}@{short}")
            assert (source.commit, source.requested) == (whole, short)
    git(repository, "branch", first[:7])
    assert pin(f"git+{repository.as_uri()}@{first[:7]}").commit == last


@pytest.mark.parametrize("revision", ["later", "ain", "v1-", "0123456"])
def test_a_revision_that_is_not_there(repository: Path, revision: str) -> None:
    with pytest.raises(LockError) as caught:
        pin(f"git+{repository.as_uri()}@{revision}")
    assert str(caught.value) == (
        "the git repository has no such revision\n"
        f"  file: {repository.as_uri()}\n"
        "  expected: a branch, a tag, or a commit\n"
        f"  found: {revision}"
    )


def test_what_is_no_revision_but_a_name_of_git(repository: Path) -> None:
    """A shortened commit goes to `git rev-parse`, other words do not."""
    first = git(repository, "rev-parse", "HEAD")
    commit(repository)
    for revision in ("main~1", "HEAD^", f"{first[:7]}~0", first[:3], first[:7].upper() + "Z"):
        with pytest.raises(LockError, match="has no such revision"):
            pin(f"git+{repository.as_uri()}@{revision}")


def test_an_empty_repository_has_no_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    with pytest.raises(LockError, match="has no such revision") as caught:
        pin(f"git+{tmp_path.as_uri()}")
    assert dict(caught.value.details)["found"] == "HEAD"


def test_a_repository_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FetchError) as caught:
        pin(f"git+file://{tmp_path}/none@main")
    head, *_ = str(caught.value).splitlines()
    assert head == "the git repository cannot be read"
    assert f"{tmp_path}/none" in dict(caught.value.details)["found"]


def test_a_commit_is_kept_for_the_same_revision(repository: Path) -> None:
    url = f"git+{repository.as_uri()}@main#subdirectory=a"
    first = pin(url)
    last = commit(repository)
    commits = GitCommits()
    assert commits.of(url, first) is first
    for other in (
        None,
        replace(first, url="file:///other"),
        replace(first, requested="v1"),
        replace(first, subdirectory=None),
    ):
        assert commits.of(url, other) == replace(first, commit=last)
    remove_tree(repository)
    assert commits.of(url, None).commit == last, "a repository is read once"
    with pytest.raises(FetchError):
        commits.of(f"{url}/b", None)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a program that is run as git."""
    if os.name == "nt":
        pytest.skip("scripts for sh")
    path = tmp_path / "bin/git"
    path.parent.mkdir()
    path.touch(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
    return path


@pytest.fixture
def typed(tmp_path: Path) -> Iterator[None]:
    """Something on the standard input."""
    (tmp_path / "typed").write_text("typed")
    saved = os.dup(0)
    with (tmp_path / "typed").open() as file:
        os.dup2(file.fileno(), 0)
    yield
    os.dup2(saved, 0)
    os.close(saved)


@pytest.mark.usefixtures("typed")
def test_git_asks_for_no_password_and_shows_none(
    script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.write_text(
        '#!/bin/sh\necho "fatal:  $3: $GIT_TERMINAL_PROMPT, $GIT_DIR, $(cat)" >&2\nexit 1\n'
    )
    monkeypatch.setenv("GIT_DIR", "/other")
    for ends in ("@main", ""):
        with pytest.raises(FetchError) as caught:
            pin(f"git+https://user:secret@host.example/r{ends}")
        assert str(caught.value).splitlines() == [
            "the git repository cannot be read",
            "  file: https://host.example/r",
            "  found: fatal: https://host.example/r: 0, ,",
            "  to fix: check its address, and that git can read it without a password prompt",
        ]


def test_git_that_does_not_answer(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script.write_text("#!/bin/sh\nexec sleep 20\n")
    monkeypatch.setattr(module, "_SECONDS", 0.1)
    with pytest.raises(FetchError) as caught:
        pin("git+https://user:secret@host.example/r@main")
    details = dict(caught.value.details)
    assert details["file"] == "https://host.example/r"
    assert details["found"] == "no answer within 0.1 s"


def test_git_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FetchError) as caught:
        pin("git+https://host.example/r@main")
    assert str(caught.value) == "git is not installed\n  to fix: install git"


def test_the_reason_for_a_source_build(tmp_path: Path) -> None:
    settings = """
[tool.stackbuild.layers.app]
build-wheel.one.linux-x64.reason = "a flag"
force-source.one.linux-x64 = "not shown"
force-source.two.linux-x64 = "a patch"
resolution.force-no-binary-list = ["two", "three"]
"""
    app = read_spec(tmp_path, ALL, settings).layers["app"]

    def reason(
        name: str, source: str | None = None, platform: Platform = Platform.LINUX_X64
    ) -> str:
        return reason_to_build(canonicalize_name(name), app, platform, source)

    other = "it has no compatible wheel, and `resolution` allows a source build"
    assert reason("one", "commit 123") == "it is built from commit 123"
    assert reason("one") == "build-wheel: a flag"
    assert reason("two") == "force-source: a patch"
    assert reason("two", platform=Platform.MACOSX_X64) == reason("three")
    assert reason("three") == "it is in resolution.force-no-binary-list"
    assert reason("four") == other
    assert reason("one", platform=Platform.MACOSX_X64) == other
