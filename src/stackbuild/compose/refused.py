"""What to say where the system refuses to write what is published."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from stackbuild.errors import ComposeError
from stackbuild.files import DISK_FULL, IN_THE_WAY, obstacle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stackbuild.workspace import Workspace


@contextmanager
def explained(to: Path, workspace: Workspace) -> Iterator[None]:
    """Turn what the system refuses while publishing in `to` into ComposeError.

    A full disk names no file, so the places that are written to are named.
    """
    try:
        yield
    except ConnectionError:
        raise
    except OSError as error:
        if error.errno in IN_THE_WAY:
            raise ComposeError(
                f"something that stackbuild did not make is in the way: {obstacle(error, to)}",
                remedy="move it away, or name another directory with --to, or another cache with "
                "STACKBUILD_CACHE_DIR",
            ) from error
        full = error.errno in DISK_FULL
        raise ComposeError(
            "the disk is full" if full else "layers cannot be published",
            file=error.filename or f"{to}, or in the cache {workspace.cache}",
            found=error.strerror or str(error),
            remedy="make room and run the same command again"
            if full
            else "name another directory with --to, or another cache with STACKBUILD_CACHE_DIR, "
            "or use an account that may write there",
        ) from error
