"""Distributions that are built from source: commits of git repositories, and why they are built."""

from __future__ import annotations

import os
import re
import subprocess
from threading import Lock
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit, urlunsplit

from stackbuild.errors import FetchError, LockError
from stackbuild.lock.indexes import without_secrets
from stackbuild.lock.model import VcsSource

if TYPE_CHECKING:
    from collections.abc import Iterable

    from packaging.utils import NormalizedName

    from stackbuild.platforms import Platform
    from stackbuild.spec.model import Layer

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SECONDS = 60


class Sources:
    """The commits of the git repositories that requirements name. Safe in any thread."""

    def __init__(self) -> None:
        self._pinned: dict[str, VcsSource] = {}
        self._lock = Lock()

    def of(self, requirements: Iterable[str]) -> dict[NormalizedName, VcsSource]:
        """The commit for each of `requirements` that names a repository.

        Raises FetchError where one cannot be asked, and LockError where it has
        no such revision.
        """
        from packaging.requirements import Requirement
        from packaging.utils import canonicalize_name

        parsed = [Requirement(text) for text in requirements if "git+" in text]
        return {canonicalize_name(item.name): self._pin(item.url) for item in parsed if item.url}

    def _pin(self, url: str) -> VcsSource:
        with self._lock:
            if url not in self._pinned:
                self._pinned[url] = pin(url)
            return self._pinned[url]


def plain_requirement(text: str) -> str:
    """The requirement `text` without its address."""
    if "git+" not in text:
        return text
    from packaging.requirements import Requirement

    requirement = Requirement(text)
    requirement.url = None
    return str(requirement)


def pin(address: str) -> VcsSource:
    """The commit that the address of a requirement (``git+https://…@revision``) means now.

    Raises FetchError where the repository cannot be asked, and LockError
    where it has no such branch or tag.
    """
    parts = urlsplit(address.removeprefix("git+"))
    path, at, revision = parts.path.rpartition("@")
    url = urlunsplit(parts._replace(path=path if at else parts.path, fragment=""))
    requested = revision if at else None
    subdirectory = parse_qs(parts.fragment).get("subdirectory", [None])[0]
    commit = requested if requested and _COMMIT.fullmatch(requested) else _commit(url, requested)
    return VcsSource(url=url, commit=commit, requested=requested, subdirectory=subdirectory)


def _commit(url: str, revision: str | None) -> str:
    """The commit of a branch or tag, or of the default branch."""
    wanted = revision or "HEAD"
    names = [wanted] if revision is None else [f"refs/tags/{wanted}^{{}}", f"refs/tags/{wanted}"]
    names += [] if revision is None else [f"refs/heads/{wanted}", wanted]
    # Patterns of ls-remote match whole components of names from their end.
    found = {}
    for line in _ls_remote(url, [wanted, f"{wanted}^{{}}"]).splitlines():
        commit, _, name = line.partition("\t")
        found[name] = commit
    for name in names:
        if name in found:
            return found[name]
    raise LockError(
        "the git repository has no such revision",
        file=without_secrets(url),
        expected="a branch, a tag, or a full commit",
        found=wanted,
    )


def git_environment() -> dict[str, str]:
    """For git, which may use the user's keys and helpers, and asks nobody for a password."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return kept | {"GIT_TERMINAL_PROMPT": "0"}


def _ls_remote(url: str, patterns: list[str]) -> str:
    try:
        result = subprocess.run(
            ["git", "ls-remote", "--", url, *patterns],
            env=git_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise FetchError("git is not installed", remedy="install git") from None
    except subprocess.TimeoutExpired:
        raise _unreachable(url, f"no answer within {_SECONDS} s") from None
    if result.returncode != 0:
        raise _unreachable(url, without_secrets(" ".join(result.stderr.split())))
    return result.stdout


def _unreachable(url: str, found: str) -> FetchError:
    return FetchError(
        "the git repository cannot be asked",
        file=without_secrets(url),
        found=found,
        remedy="check its address, and that git can read it without asking for a password",
    )


def reason_to_build(name: NormalizedName, layer: Layer, platform: Platform) -> str:
    """Why `name` is built from source for `layer` and not taken as a wheel of an index."""
    policy = layer.policy(platform)
    if name in policy.build_wheel:
        return f"build-wheel: {policy.build_wheel[name].reason}"
    if name in policy.force_source:
        return f"force-source: {policy.force_source[name]}"
    if name in policy.resolution.force_no_binary_list:
        return "it is in resolution.force-no-binary-list"
    if policy.may_build(name):
        return "it has no fitting wheel, and resolution allows it from source"
    return f"{layer.name} requires a commit of its repository"
