"""In what order files stand in frames, and where one frame ends and the next begins.

Like stands by like, so that zstd finds repetitions: files of one extension
together, Python modules in the order of their paths, so that a package's
modules are neighbours, and everything else by size, which brings the many
compiled modules of one generator together. On numpy, pandas and scipy this
makes frames 1 % smaller than the order of paths.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from stackbuild.frames.model import MAX_FILE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")


def plan_parts(
    items: Iterable[T],
    place: Callable[[T], tuple[str, int]],
    *,
    limit: int = MAX_FILE_BYTES,
) -> list[list[T]]:
    """`items` in the order they compress best, cut into parts of at most `limit` bytes.

    `place` tells the path and the size of an item. A larger item has a part alone.
    """
    parts: list[list[T]] = []
    filled = 0
    for item in sorted(items, key=lambda item: _order(*place(item))):
        size = place(item)[1]
        if not parts or filled + size > limit:
            parts.append([])
            filled = 0
        parts[-1].append(item)
        filled += size
    return parts


def _order(path: str, size: int) -> tuple[str, int, str]:
    name = path.rpartition("/")[2]
    extension = "so" if ".so." in name else name.rpartition(".")[2] if "." in name else ""
    return extension, 0 if extension == "py" else size, path
