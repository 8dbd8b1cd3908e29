"""Frames and frame sets."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from stackbuild.reading import Item

if TYPE_CHECKING:
    from stackbuild.reading import Readers

FORMAT_VERSION = 6
"""Part of every frame's key; raise it when the same input gives different bytes."""

MAX_FILE_BYTES = 16 * 1024 * 1024
"""Limit for the bytes of files in a frame, unless a single file is larger."""


class FrameKind(StrEnum):
    """The origin of a frame's files."""

    INTERPRETER = "interpreter"
    DISTRIBUTION = "distribution"
    BYTECODE = "bytecode"
    WHEEL = "wheel"
    OVERLAY = "overlay"
    HEAD = "head"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One zstd frame (RFC 8878, section 3.1.1) of tar entries without end-of-archive blocks."""

    kind: FrameKind
    subject: str
    """The source of the contents: ``numpy 2.2.6``, ``cpython 3.12.10``, an overlay's or layer's
    name."""
    sha256: str
    """Of the compressed bytes, hex."""
    size: int
    """Compressed size in bytes."""
    content_size: int
    """Size in bytes of the uncompressed tar fragment, with headers and padding."""
    files: int
    """The number of files and links."""
    content_sha256: str = ""
    """Of the uncompressed tar fragment, hex; empty in manifests before format 4."""


FRAME: Readers = {
    "kind": lambda item: item.choice(FrameKind),
    "subject": Item.text,
    "sha256": Item.sha256,
    "size": Item.count,
    "content_size": Item.count,
    "files": Item.count,
    "content_sha256": Item.sha256,
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
class Binary:
    """The fields of a program or shared library that the loader of its system uses."""

    machines: tuple[str, ...]
    """Its processors: ``x86_64``, ``aarch64``, others by their names in the format; empty if it
    runs on any. Those in a `FrameSet` have one: a universal file is listed for each processor."""
    needed: tuple[str, ...] = ()
    """The names of required shared libraries; DLLs in lower case."""
    search: tuple[str, ...] = ()
    """The search paths for them (DT_RUNPATH, LC_RPATH)."""
    program: bool = False
    """Whether it is a program, not a library (unknown for ELF)."""
    path: str = ""
    """Relative to the layer, in a `FrameSet`."""
    link: bool = False
    """Whether `path` is a symbolic link to the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameSet:
    """The frames made from one input, with the metadata that composing a layer needs.

    It is stored in the frame cache under `key`, the sha256 (hex) of all inputs that decide the
    bytes of its frames.
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
    binaries: tuple[Binary, ...] = ()
    """The programs and shared libraries, and links to them, sorted by path."""
    excluded: tuple[str, ...] = ()
    """The paths of a wheel that patterns of `exclude-files` left out."""


def pth_lines(data: bytes) -> tuple[str, ...]:
    """The lines of a `.pth` file that `site.addpackage` processes, split as in CPython 3.13.

    Raises UnicodeDecodeError if the file is not UTF-8.
    """
    lines = data.decode("utf-8-sig").splitlines()
    return tuple(line.rstrip() for line in lines if line.strip() and not line.startswith("#"))
