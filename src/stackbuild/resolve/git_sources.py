"""Distributions that are built from git repositories, and the reasons for source builds."""

from __future__ import annotations

import re
import subprocess
from tempfile import TemporaryDirectory
from threading import Lock
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from stackbuild.errors import FetchError, LockError
from stackbuild.lock.indexes import without_secrets
from stackbuild.lock.model import VcsSource
from stackbuild.project.git import git_environment

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from stackbuild.platforms import Platform
    from stackbuild.spec.model import Layer

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHORT = re.compile(r"[0-9a-f]{4,63}")
_SECONDS = 60


class GitCommits:
    """The commits of the git repositories that requirements name. Thread-safe."""

    def __init__(self) -> None:
        self._pinned: dict[str, VcsSource] = {}
        self._lock = Lock()

    def of(self, url: str, kept: VcsSource | None) -> VcsSource:
        """The commit that `url` names; `kept` if that was found for the same revision.

        Raises FetchError if the repository cannot be read, and LockError if it has no such
        revision.
        """
        return kept if kept and _is_of(kept, url) else self._pin(url)

    def _pin(self, url: str) -> VcsSource:
        with self._lock:
            if url not in self._pinned:
                self._pinned[url] = pin(url)
            return self._pinned[url]


def pin(address: str) -> VcsSource:
    """The current commit for the address of a requirement (``git+https://…@revision``).

    A commit may be abbreviated. Raises FetchError if the repository cannot be read, and
    LockError if it has no such branch, tag or commit.
    """
    url, requested, subdirectory = _parts(address)
    commit = (requested or "").lower()
    if not _COMMIT.fullmatch(commit):
        commit = _commit(url, requested)
    return VcsSource(url=url, commit=commit, requested=requested, subdirectory=subdirectory)


def _parts(address: str) -> tuple[str, str | None, str | None]:
    """The repository, the revision and the subdirectory that an address names."""
    parts = urlsplit(address.removeprefix("git+"))
    path, at, revision = parts.path.rpartition("@")
    url = urlunsplit(parts._replace(path=path if at else parts.path, fragment=""))
    words = dict(word.partition("=")[::2] for word in parts.fragment.split("&"))
    # A plus sign is literal here, unlike in HTML forms.
    subdirectory = unquote(words.get("subdirectory", "")) or None
    return url, (revision or None) if at else None, subdirectory


def _is_of(commit: VcsSource, address: str) -> bool:
    return (commit.url, commit.requested, commit.subdirectory) == _parts(address)


def _commit(url: str, revision: str | None) -> str:
    """The commit of a branch or tag, of the default branch, or of an abbreviated commit."""
    wanted = revision or "HEAD"
    names = [wanted]
    if revision:
        names = [f"refs/tags/{wanted}^{{}}", f"refs/tags/{wanted}", f"refs/heads/{wanted}", wanted]
    # Patterns of ls-remote match whole components of names from their end.
    lines = _git(url, "ls-remote", "--", url, wanted, f"{wanted}^{{}}").splitlines()
    found = {name: commit for commit, _, name in (line.partition("\t") for line in lines)}
    for name in names:
        if name in found:
            return found[name]
    if _SHORT.fullmatch(wanted) and (full := _completed(url, wanted)):
        return full
    raise LockError(
        "the git repository has no such revision",
        file=without_secrets(url),
        expected="a branch, a tag, or a commit",
        found=wanted,
    )


def _completed(url: str, short: str) -> str | None:
    """The only commit that begins with `short`; None if there is none, or several."""
    with TemporaryDirectory(prefix="stackbuild-git-") as name:
        # Only the commits: without their trees, where the server can leave those out.
        _git(url, "clone", "--bare", "--filter=tree:0", "--", url, name)
        found = _run_git("-C", name, "rev-parse", "--verify", f"{short}^{{commit}}")
    return found.stdout.strip() or None


def _git(url: str, *words: str) -> str:
    """The output of git. Raises FetchError if it cannot read the repository at `url`."""
    try:
        result = _run_git(*words)
    except FileNotFoundError:
        raise FetchError("git is not installed", remedy="install git") from None
    except subprocess.TimeoutExpired:
        raise _unreachable(url, f"no answer within {_SECONDS} s") from None
    if result.returncode != 0:
        raise _unreachable(url, without_secrets(" ".join(result.stderr.split())))
    return result.stdout


def _run_git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *words],
        env=git_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )


def _unreachable(url: str, found: str) -> FetchError:
    return FetchError(
        "the git repository cannot be read",
        file=without_secrets(url),
        found=found,
        remedy="check its address, and that git can read it without a password prompt",
    )


def reason_to_build(
    name: NormalizedName, layer: Layer, platform: Platform, source: str | None = None
) -> str:
    """Why `name` is built from source for `layer` and not taken as a wheel of an index.

    `source` describes the commit, project or file that a requirement names.
    """
    policy = layer.policy(platform)
    if source:
        return f"it is built from {source}"
    if name in policy.build_wheel:
        return f"build-wheel: {policy.build_wheel[name].reason}"
    if name in policy.force_source:
        return f"force-source: {policy.force_source[name]}"
    if name in policy.resolution.force_no_binary_list:
        return "it is in resolution.force-no-binary-list"
    return "it has no compatible wheel, and `resolution` allows a source build"
