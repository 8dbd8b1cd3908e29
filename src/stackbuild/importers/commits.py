"""Full commits for the shortened ones that requirements name, as far as they can be told."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_SHORT = re.compile(r"git\+(?P<url>[^#]+)@(?P<commit>[0-9a-f]{4,39})(?P<rest>#.*)?")
_SECONDS = 20


def is_short(requirement: Requirement) -> bool:
    """Whether a requirement names a git commit by its first digits."""
    return _SHORT.fullmatch(requirement.url or "") is not None


def with_full_commit(requirement: Requirement) -> Requirement | None:
    """`requirement` with the whole commit; None where the repository does not tell.

    Only what a branch or a tag stands at can be told without a copy of the
    repository, but one on this machine is asked directly.
    """
    from packaging.requirements import Requirement

    match = _SHORT.fullmatch(requirement.url or "")
    if match is None:
        return requirement
    found = _local(match["url"], match["commit"]) or _remote(match["url"], match["commit"])
    if found is None:
        return None
    full = Requirement(str(requirement))
    full.url = f"git+{match['url']}@{found}{match['rest'] or ''}"
    return full


def _local(url: str, commit: str) -> str | None:
    if not url.startswith("file://"):
        return None
    place = url.removeprefix("file://")
    lines = _git("-C", place, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")
    return lines[0] if lines else None


def _remote(url: str, commit: str) -> str | None:
    found = {line.split()[0] for line in _git("ls-remote", url) if line.startswith(commit)}
    return found.pop() if len(found) == 1 else None


def _git(*words: str) -> list[str]:
    """The lines that git prints; none where it fails, which is no reason to stop an import."""
    from stackbuild.lock.uv import plain_environment

    environment = plain_environment() | {"GIT_TERMINAL_PROMPT": "0"}
    try:
        result = subprocess.run(
            ["git", *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return result.stdout.splitlines() if result.returncode == 0 else []
