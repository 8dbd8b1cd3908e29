"""Copy wheels into a directory that `pip install --no-index --find-links` reads.

Its wheels have the names and bytes of the locks, so that equal locks give equal directories. Wheels
that an earlier export left there are removed.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild import windows
from stackbuild.errors import ComposeError, IntegrityError, system_errors
from stackbuild.files import WORK_SUFFIX, atomic_copy, is_inside, locked, sha256_file, work_path
from stackbuild.mark import ELSEWHERE, Kind, claim
from stackbuild.workspace import expanded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stackbuild.messages import Messages
    from stackbuild.workspace import Workspace


def export_wheels(
    wheels: Mapping[str, Path], directory: Path, workspace: Workspace, messages: Messages
) -> tuple[Path, ...]:
    """Put `wheels`, by sha256, into `directory`; returns their paths there, sorted.

    They are hard links where the file system allows that, otherwise copies. Raises ComposeError
    for a directory with other files and for the wheelhouse of the project, IntegrityError for a
    damaged wheel.
    """
    target = Path(os.path.abspath(expanded(directory)))  # noqa: PTH100 - removes `..`
    if is_inside(target, workspace.wheelhouse):
        raise ComposeError(
            "wheels cannot be exported into the wheelhouse of the project",
            file=target,
            expected=f"a directory outside {workspace.wheelhouse}",
            remedy=ELSEWHERE[Kind.WHEELS],
        )
    with system_errors(ComposeError, target, elsewhere=ELSEWHERE[Kind.WHEELS]):
        claim(target, Kind.WHEELS)
        lock = target / ".lock"
        with locked(lock, messages):
            placed = place_wheels(wheels, target, link=True)
            unfinished = target.glob(f".*.whl.*{WORK_SUFFIX}")  # of a run that was killed
            for path in {*target.glob("*.whl"), *unfinished}.difference(placed):
                windows.unlink(path)
            with suppress(OSError):  # Windows keeps it while it is locked.
                lock.unlink()
        return placed


def place_wheels(wheels: Mapping[str, Path], target: Path, *, link: bool) -> tuple[Path, ...]:
    """Put `wheels`, by sha256, into `target`; returns their paths there, sorted.

    With `link`, they are hard links where the file system allows that, otherwise copies. Raises
    IntegrityError for a damaged wheel, OSError.
    """
    placed = {target / source.name: (sha256, source) for sha256, source in wheels.items()}
    for path, (sha256, source) in placed.items():
        if not path.is_file() or sha256_file(path) != sha256:
            _check(source, sha256)
            if not (link and _linked(source, path)):
                atomic_copy(source, path)
    return tuple(sorted(placed))


def _check(wheel: Path, sha256: str) -> None:
    if (found := sha256_file(wheel)) != sha256:
        raise IntegrityError(
            "a wheel in the wheelhouse is damaged",
            file=wheel,
            expected=f"sha256 {sha256}",
            found=f"sha256 {found}",
            remedy="remove it and run the command again: it is then fetched again",
        )


def _linked(source: Path, path: Path) -> bool:
    """Whether `path` could be replaced with a hard link to `source`."""
    work = work_path(path)
    try:
        # The file itself, because a relative link would lead elsewhere from here.
        os.link(os.path.realpath(source), work)
    except OSError:  # another file system, or one without hard links
        return False
    try:
        windows.replace(work, path)
    finally:
        work.unlink(missing_ok=True)
    return True
