"""Where the loaders of all systems find the shared libraries that a file needs.

Nothing is read from disk: the files of a layer and their needs are known from its frames.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING

from stackbuild.globs import path_matches
from stackbuild.linking.host_libraries import MACOS, on_host

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stackbuild.frames.model import Binary
    from stackbuild.platforms import OsName


@dataclass(frozen=True, kw_only=True)
class LayerFiles:
    """The files of a layer, as far as loaders are concerned. Paths are relative to the layer."""

    name: str
    directory: str
    """In a root."""
    os: OsName
    owners: Mapping[str, str]
    """By path of each file and link, the distribution that it belongs to, or empty."""
    binaries: Mapping[str, Binary] = field(default_factory=dict)
    """The programs and libraries for the processor of the layer, by path."""
    links: Mapping[str, str] = field(default_factory=dict)
    """The links that were added for libraries (`linking.plan`), with their targets."""
    excluded: tuple[str, ...] = ()
    """The globs of `dynlib_exclude`."""

    @cached_property
    def names(self) -> Mapping[str, Sequence[str]]:
        """The paths of the files of each name; names are in lower case on Windows."""
        found: dict[str, list[str]] = {}
        for path in self.owners:
            found.setdefault(self.folded(path), []).append(path)
        return found

    def folded(self, path: str) -> str:
        """The key of `path` in `names`."""
        name = path.rpartition("/")[2]
        return name.lower() if self.os == "windows" else name

    def has(self, path: str) -> bool:
        """Whether `path` is a file or a link of the layer."""
        if self.os != "windows":
            return path in self.owners
        folded = path.lower()
        return any(one.lower() == folded for one in self.names.get(self.folded(path), ()))

    def excludes(self, path: str) -> bool:
        """Whether a glob of `dynlib_exclude` matches the end of `path`, as in venvstacks."""
        return any(path_matches(path, f"**/{glob}") for glob in self.excluded)


@dataclass(frozen=True, slots=True)
class Place:
    """A path in a layer of the chain."""

    layer: LayerFiles
    path: str

    def __str__(self) -> str:
        """The path relative to the root."""
        return f"{self.layer.directory}/{self.path}"

    @property
    def binary(self) -> Binary | None:
        """The needs of the file."""
        return self.layer.binaries.get(self.path)


@dataclass(frozen=True, slots=True)
class Chain:
    """A layer and the layers below it, nearest first, the runtime last."""

    layers: Sequence[LayerFiles]

    @property
    def top(self) -> LayerFiles:
        """The layer whose chain it is."""
        return self.layers[0]

    def place(self, path: str | None) -> Place | None:
        """The file at `path`, relative to the root; None if the chain has none there."""
        if path is None:
            return None
        directory, _, rest = path.partition("/")
        for layer in self.layers:
            if layer.directory == directory:
                return Place(layer, rest) if layer.has(rest) else None
        return None

    def at(self, binary: Binary, path: str, name: str) -> list[str | None]:
        """The paths, relative to the root, where the loader looks for `name`.

        `path` is where `binary` is, relative to the root. The list has an item for each search path
        of `binary`: None for one that is absolute. On Windows the directories of the file and of
        the interpreter are searched; packages may add others when they are imported.
        """
        here, os = posixpath.dirname(path), self.top.os
        if os == "windows":
            # Programs do not find DLLs beside the interpreter: vcruntime140.dll, which most hosts
            # have.
            return [f"{here}/{name}", f"{self.layers[-1].directory}/{name}"]
        if os == "linux":
            return [_elf_place(item, here) for item in elf_items(binary, name)]
        # A program is itself the executable; other files are loaded into the interpreter.
        start = here if binary.program else f"{self.layers[-1].directory}/bin"
        return [_macho_place(item, here, start) for item in macho_items(binary, name)]

    def find(self, binary: Binary, path: str, name: str) -> Place | None:
        """The file that the loader finds by the search paths of `binary`, at `path`."""
        return next(filter(None, map(self.place, self.at(binary, path, name))), None)

    def abroad(self, binary: Binary, path: str, name: str) -> list[str]:
        """The directories of the host that are searched before the chain's file for `name`.

        They are absolute search paths of `binary`, at `path`, outside of macOS's own directories.
        Empty if no search path leads to a file of the chain.
        """
        places = self.at(binary, path, name)
        if len(places) != len(binary.search):
            return []
        found: list[str] = []
        for item, place in zip(binary.search, places, strict=True):
            if self.place(place):
                return found
            if is_of_host(item, self.top.os):
                found.append(item)
        return []

    def has_name(self, name: str) -> bool:
        """Whether a file of the chain is called `name`.

        A distribution may load a library by its path beforehand. Loaders then use it for every file
        that needs this name. On macOS this is so for ``@rpath`` and for names without a directory.
        """
        if "/" in name and not name.startswith("@rpath/"):
            return False
        return any(last_part(name) in layer.names for layer in self.layers)

    def missing(self, binary: Binary, path: str) -> list[str]:
        """The libraries that `binary`, at `path` in the top layer, needs and nothing provides."""
        place = f"{self.top.directory}/{path}"
        return [
            name
            for name in dict.fromkeys(binary.needed)
            if not self.is_provided(binary, place, name) and not self.has_name(name)
        ]

    def is_provided(self, binary: Binary, path: str, name: str) -> bool:
        """Whether the loader finds `name` for `binary`, at `path`: on the host or in the chain."""
        os = self.top.os
        if on_host(name, os) or self.find(binary, path, name):
            return True
        # A search path may lead to the libraries of macOS: `/usr/lib/swift`.
        return os == "macos" and any(
            posixpath.normpath(item).startswith(MACOS) for item in macho_items(binary, name)
        )


def is_of_host(search: str, os: OsName) -> bool:
    """Whether the search path `search` is a directory of the host, other than macOS's own."""
    plain = posixpath.normpath(search)
    return plain.startswith("/") and not (os == "macos" and f"{plain}/".startswith(MACOS))


def last_part(name: str) -> str:
    """The file name in a needed name, which may be a path."""
    return name.rpartition("/")[2]


def elf_items(binary: Binary, name: str) -> list[str]:
    """The paths that ld.so(8) tries for `name`; they may begin with ``$ORIGIN``."""
    items = [name] if "/" in name else [f"{item}/{name}" for item in binary.search]
    return [item.replace("${ORIGIN}", "$ORIGIN") for item in items]


def _elf_place(item: str, here: str) -> str | None:
    variable, _, steps = item.partition("/")
    return posixpath.normpath(f"{here}/{steps}") if variable == "$ORIGIN" else None


def macho_items(binary: Binary, name: str) -> list[str]:
    """The paths that dyld(1) tries for `name`; they may begin with its variables."""
    rest = name.removeprefix("@rpath/")
    return [f"{item}/{rest}" for item in binary.search] if rest != name else [name]


def _macho_place(item: str, here: str, start: str) -> str | None:
    variable, _, steps = item.partition("/")
    beginnings = {"@loader_path": here, "@executable_path": start}
    return posixpath.normpath(f"{beginnings[variable]}/{steps}") if variable in beginnings else None


def is_expected(text: str, library: str) -> bool:
    """Whether the text of an entry in `allow-import-errors` is about the missing `library`.

    On Windows errors do not name the missing DLL.
    """
    text, library = text.lower(), library.lower()
    return last_part(library) in text or text in library or DLL_MISSING in text


DLL_MISSING = "dll load failed"
"""Python's error on Windows for a module that cannot be loaded, in lower case."""


def matches(name: str, globs: Iterable[str]) -> bool:
    """Whether `name` or its file name matches one of `globs` (`host-libraries`)."""
    # Mach-O files name libraries by path; globs for other systems contain only names.
    return any(fnmatchcase(name, glob) or fnmatchcase(last_part(name), glob) for glob in globs)
