"""What is known of a frame."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from stackbuild.reading import Item

if TYPE_CHECKING:
    from stackbuild.reading import Readers

FORMAT_VERSION = 2
"""Part of every frame's key: counts up when the same input gives other bytes."""

MAX_FILE_BYTES = 16 * 1024 * 1024
"""A frame holds at most this many bytes of files, unless one file alone is larger."""


class FrameKind(StrEnum):
    """Where a frame's files come from."""

    INTERPRETER = "interpreter"
    DISTRIBUTION = "distribution"
    BYTECODE = "bytecode"
    OVERLAY = "overlay"
    HEAD = "head"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One zstd frame (RFC 8878, section 3.1.1) holding tar entries and no end-of-archive."""

    kind: FrameKind
    subject: str
    """What it holds: ``numpy 2.2.6``, ``cpython 3.12.10``, an overlay's or layer's name."""
    sha256: str
    """Of the compressed bytes, hex."""
    size: int
    """Compressed, in bytes."""
    content_size: int
    """Uncompressed: the tar fragment with its headers and padding, in bytes."""
    files: int
    """How many files and links it holds."""


FRAME: Readers = {
    "kind": lambda item: item.choice(FrameKind),
    "subject": Item.text,
    "sha256": Item.sha256,
    "size": Item.count,
    "content_size": Item.count,
    "files": Item.count,
}
"""How the fields of a `Frame` are read from JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPoint:
    """A console or GUI script that a distribution declares (entry points specification)."""

    name: str
    module: str
    attribute: str
    gui: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameSet:
    """The frames made of one input, and what composing a layer must know of it.

    It is kept in the frame cache under `key`, the sha256 (hex) of everything
    that decides the bytes of its frames.
    """

    key: str
    frames: tuple[Frame, ...]
    paths: tuple[str, ...]
    """Every layer-relative path in the frames, sorted."""
    entry_points: tuple[EntryPoint, ...] = ()
    pth: tuple[str, ...] = ()
    """The lines of the `.pth` files at the top of site-packages, in the order of
    the files' names (`site` module documentation)."""
    licence: str | None = None
    """SPDX expression or free text of the distribution's metadata."""


def pth_lines(data: bytes) -> tuple[str, ...]:
    """The lines of a `.pth` file that `site.addpackage` acts on, as CPython 3.13 splits them.

    Raises UnicodeDecodeError for what is not UTF-8.
    """
    lines = data.decode("utf-8-sig").splitlines()
    return tuple(line.rstrip() for line in lines if line.strip() and not line.startswith("#"))
