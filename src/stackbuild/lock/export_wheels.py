"""Copy wheels into a directory that `pip install --no-index --find-links` reads.

It has nothing but wheels, whose names and bytes are those of the locks, so that equal locks give
equal directories. Wheels that an earlier export left there are removed.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.errors import ComposeError, IntegrityError, system_errors
from stackbuild.files import atomic_file, sha256_file
from stackbuild.mark import ELSEWHERE, Kind, claim
from stackbuild.workspace import expanded

if TYPE_CHECKING:
    from collections.abc import Mapping


def export_wheels(wheels: Mapping[str, Path], directory: Path) -> tuple[Path, ...]:
    """Put `wheels`, by sha256, into `directory`; returns their paths there, sorted.

    They are hard links where the file system allows that, otherwise copies. Raises ComposeError
    for a directory with other files, IntegrityError for a damaged wheel.
    """
    target = Path(os.path.abspath(expanded(directory)))  # noqa: PTH100 - removes `..`
    with system_errors(ComposeError, target, elsewhere=ELSEWHERE[Kind.WHEELS]):
        claim(target, Kind.WHEELS)
        placed = place_wheels(wheels, target)
        for path in target.glob("*.whl"):
            if path not in placed:
                path.unlink()
        return placed


def place_wheels(wheels: Mapping[str, Path], target: Path) -> tuple[Path, ...]:
    """Put `wheels`, by sha256, into `target`; returns their paths there, sorted.

    Raises IntegrityError for a damaged wheel, OSError.
    """
    placed = {target / source.name: (sha256, source) for sha256, source in wheels.items()}
    for path, (sha256, source) in placed.items():
        if not path.is_file() or sha256_file(path) != sha256:
            _check(source, sha256)
            _place(source, path)
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


def _place(source: Path, path: Path) -> None:
    with atomic_file(path) as work:
        try:
            os.link(source, work)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(source, work)
