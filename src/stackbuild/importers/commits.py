"""Full commits for the shortened ones that requirements name, as far as they can be told."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

from stackbuild.importers.model import Note
from stackbuild.project.git import git_environment

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from stackbuild.importers.model import Config, Repository, Wish

_SHORT = re.compile(r"git\+(?P<url>[^#]+)@(?P<commit>[0-9a-f]{4,39})(?P<rest>#.*)?")
_SECONDS = 20


def with_commits(repository: Repository, notes: list[Note]) -> Repository:
    """`repository` with whole commits, as locks need them; notes where one is not known."""
    known: dict[str, Wish] = {}

    def whole(wish: Wish) -> Wish:
        text = str(wish.requirement)
        if text not in known:
            requirement = with_full_commit(wish.requirement)
            if requirement is None:
                problem = f"write the whole commit of {text}, which its repository does not tell"
                notes.append(Note(kind="question", place=wish.place, text=problem))
            known[text] = replace(wish, requirement=requirement or wish.requirement)
        return replace(known[text], place=wish.place)

    def config(old: Config) -> Config:
        return replace(
            old,
            dependencies=tuple(map(whole, old.dependencies)),
            platform_dependencies={
                platform: tuple(map(whole, wishes))
                for platform, wishes in old.platform_dependencies.items()
            },
        )

    return replace(
        repository,
        shared=config(repository.shared),
        variants=tuple(replace(item, own=config(item.own)) for item in repository.variants),
    )


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
    found = {line.split()[0] for line in _git("ls-remote", "--", url) if line.startswith(commit)}
    return found.pop() if len(found) == 1 else None


def _git(*words: str) -> list[str]:
    """The lines that git prints; none where it fails, which is no reason to stop an import."""
    try:
        result = subprocess.run(
            ["git", *words],
            env=git_environment(),
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
