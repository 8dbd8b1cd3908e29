"""Decides how the files of a layer find shared libraries in other distributions and lower layers.

Wheels are built for one site-packages directory; in layers there are several. A library that a file
does not find is made available without a wrapper and without environment variables:

- Linux, macOS: a symbolic link to the library, in a directory that the file searches in its own
  layer (``$ORIGIN/../nvidia/cublas/lib``). A file that searches no such directory is replaced by a
  copy that does (`linking.editing`); the link is at the path that the library has in its layer.
- Windows: `sitecustomize` calls `os.add_dll_directory`. Programs get
  copies of the DLLs beside them.

docs/architecture.md compares this with other ways.
"""

from __future__ import annotations

import glob
import posixpath
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from stackbuild.errors import ComposeError
from stackbuild.linking.host_libraries import on_host
from stackbuild.linking.search import Place, last_part
from stackbuild.tomltext import inline

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from stackbuild.frames.model import Binary
    from stackbuild.linking.search import Chain, LayerFiles
    from stackbuild.platforms import OsName


@dataclass(frozen=True, slots=True, kw_only=True)
class Linking:
    """What is added to a layer so that its files find their libraries."""

    links: Mapping[str, str] = field(default_factory=dict)
    """Symbolic links: path in the layer to a path relative to the root."""
    edits: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """For each path that is replaced by an edited copy, the needed names and where it finds them,
    in the layer itself."""
    copies: Mapping[str, str] = field(default_factory=dict)
    """DLLs that are copied beside programs: path in the layer to a path relative to the root."""
    dll_directories: tuple[str, ...] = ()
    """Directories, relative to the root, that `sitecustomize` adds on Windows."""
    missing: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Needed names that neither chain nor host provides, each with the paths that need it."""
    unreachable: Mapping[str, str] = field(default_factory=dict)
    """Those of `missing` that the chain has where nothing makes the files find it, each with a
    path relative to the root."""
    excluded: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Needed names that only files in `dynlib_exclude` have, each with the paths that need it."""

    def applied(self, layer: LayerFiles) -> LayerFiles:
        """`layer` with the links and the edited files.

        Copies are beside programs, where no other layer looks for libraries.
        """
        if not (self.links or self.edits):
            return layer
        binaries = dict(layer.binaries)
        for path, libraries in self.edits.items():
            binaries[path] = edited(binaries[path], libraries, layer.os)
        return replace(
            layer,
            owners={**layer.owners, **dict.fromkeys(self.links, "")},
            binaries=binaries,
            links=self.links,
        )


def edited(binary: Binary, libraries: Mapping[str, str], os: OsName) -> Binary:
    """The needs of a copy of `binary` that finds `libraries`, by needed name, at these paths.

    Their directories come first in the search path of ELF files; Mach-O files name their paths.
    """
    here = posixpath.dirname(binary.path) or "."
    if os == "linux":
        directories = dict.fromkeys(posixpath.dirname(one) or "." for one in libraries.values())
        steps = (posixpath.relpath(one, here) for one in directories)
        search = ("$ORIGIN" if step == "." else f"$ORIGIN/{step}" for step in steps)
        return replace(binary, search=(*search, *binary.search))
    names = {
        name: f"@loader_path/{posixpath.relpath(one, here)}" for name, one in libraries.items()
    }
    return replace(binary, needed=tuple(names.get(one, one) for one in binary.needed))


def plan_linking(chain: Chain) -> Linking:
    """The changes for the top layer of `chain`; the layers below have theirs applied.

    Raises ComposeError if several libraries have the name that a file needs.
    """
    planner = _Windows(chain) if chain.top.os == "windows" else _Unix(chain)
    for path, binary in chain.top.binaries.items():
        for name in () if binary.link else dict.fromkeys(binary.needed):
            if not on_host(name, chain.top.os):
                planner.provide(binary, path, name)
    return planner.result()


class _Planner:
    """The state of one call of `plan_linking`."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.missing: dict[str, list[str]] = {}
        self.unreachable: dict[str, str] = {}
        self.excluded: dict[str, list[str]] = {}

    def choose(self, path: str, name: str) -> Place | None:
        """The library `name` of another distribution or layer, for the file `path`.

        None if there is none, which is noted, or if the distribution of the file itself has one:
        it then finds it in its own way, as in any environment.
        """
        top, last = self.chain.top, last_part(name)
        if self._is_its_own(path, last):
            if not self.chain.has_name(name):
                self._note_unreachable(path, name, Place(top, top.names[last][0]))
            return None
        everywhere = [
            Place(layer, found)
            for layer in self.chain.layers
            for found in layer.names.get(last, ())
            if found not in layer.links and (layer is not top or found != path)
        ]
        allowed = [one for one in everywhere if not one.layer.excludes(one.path)]
        if len(allowed) > 1:
            raise _ambiguous(path, name, top.owners.get(path), allowed)
        if not allowed:
            kind = self.excluded if everywhere else self.missing
            kind.setdefault(name, []).append(path)
        return allowed[0] if allowed else None

    def _note_unreachable(self, path: str, name: str, found: Place) -> None:
        self.missing.setdefault(name, []).append(path)
        self.unreachable.setdefault(name, str(found))

    def _is_its_own(self, path: str, last: str) -> bool:
        """Whether the distribution of the file `path` has a file called `last`."""
        owners = self.chain.top.owners
        owner = owners.get(path)
        return bool(owner) and any(
            owners[one] == owner for one in self.chain.top.names.get(last, ())
        )


def _ambiguous(path: str, name: str, owner: str | None, found: Sequence[Place]) -> ComposeError:
    lines: dict[str, list[str]] = {}
    for one in found[1:]:
        lines.setdefault(one.layer.name, []).append(glob.escape(_ending(one)))
    settings = " and ".join(
        f"`dynlib_exclude = [{', '.join(map(inline, endings))}]` in the layer {layer}"
        for layer, endings in lines.items()
    )
    return ComposeError(
        f"{len(found)} libraries are called {last_part(name)}, and this file needs one of them",
        distribution=owner or None,
        file=path,
        expected="one library of this name in the chain, or one that is not excluded",
        found=", ".join(f"{one.path} in {one.layer.name}" for one in found),
        remedy=f"to use {found[0].path}, set {settings}",
    )


def _ending(place: Place) -> str:
    """A pattern for `dynlib_exclude` that matches `place` and no other file of its layer."""
    _, _, ending = place.path.rpartition("/site-packages/")
    same_name = place.layer.names[place.layer.folded(place.path)]
    is_unique = not any(one.endswith(f"/{ending}") for one in same_name if one != place.path)
    return ending if is_unique else place.path


class _CannotLinkError(Exception):
    """A link would have to be outside the layer, or where another file is."""


class _Unix(_Planner):
    """Linux and macOS."""

    def __init__(self, chain: Chain) -> None:
        super().__init__(chain)
        self.links: dict[str, str] = {}
        self.edits: dict[str, dict[str, str]] = {}

    def result(self) -> Linking:
        """The plan."""
        return Linking(
            links=self.links,
            edits=self.edits,
            missing=self.missing,
            unreachable=self.unreachable,
            excluded=self.excluded,
        )

    def provide(self, binary: Binary, path: str, name: str) -> None:
        """Make the file `path` find the library `name`."""
        top = self.chain.top
        place = f"{top.directory}/{path}"
        if self.chain.is_provided(binary, place, name):
            return
        searched = map(self._in_layer, self.chain.at(binary, place, name))
        steps = [step for step in searched if step]
        if any(step in self.links for step in steps):
            return
        found = self._beside(steps)
        target = found[1] if found else self.choose(path, name)
        if target is None:
            return
        if any(self._try_link(step, target) for step in ([found[0]] if found else steps)):
            return
        # ELF files search for names without a directory only.
        is_editable = top.os == "macos" or "/" not in name
        if is_editable and (target.layer is top or self._try_link(target.path, target)):
            self.edits.setdefault(path, {})[name] = target.path
        else:
            self._note_unreachable(path, name, target)

    def _try_link(self, step: str, target: Place) -> bool:
        before = dict(self.links)
        try:
            self._link(step, target)
        except _CannotLinkError:
            self.links = before
            return False
        return True

    def _in_layer(self, path: str | None) -> str | None:
        start = f"{self.chain.top.directory}/"
        return path.removeprefix(start) if path and path.startswith(start) else None

    def _beside(self, steps: Sequence[str]) -> tuple[str, Place] | None:
        """The path of a lower layer that would be found if all layers were one directory."""
        for layer in self.chain.layers[1:]:
            for step in steps:
                if layer.has(step) and not layer.excludes(step):
                    return step, Place(layer, step)
        return None

    def _link(self, step: str, target: Place) -> None:
        """Link `step` to `target`, and what `target` needs relative to itself.

        Loaders take ``$ORIGIN`` to be the directory of the link.
        """
        top = self.chain.top
        while target.path in target.layer.links:
            followed = self.chain.place(target.layer.links[target.path])
            if followed is None:
                raise _CannotLinkError
            target = followed
        if self.links.get(step) == str(target):
            return
        parents = map(str, PurePosixPath(step).parents)
        if top.has(step) or step in self.links or any(map(top.has, parents)):
            raise _CannotLinkError
        self.links[step] = str(target)
        for name in target.binary.needed if target.binary else ():
            if not on_host(name, top.os):
                self._link_needed(target, f"{top.directory}/{step}", name)

    def _link_needed(self, target: Place, place: str, name: str) -> None:
        """Link the library `name`, which the library `target` needs, for its link at `place`."""
        binary = target.binary
        if binary is None or self.chain.find(binary, place, name):
            return
        at_home = self.chain.at(binary, str(target), name)
        for home, linked in zip(at_home, self.chain.at(binary, place, name), strict=True):
            library = self.chain.place(home)
            if library is None:
                continue
            step = self._in_layer(linked)
            site, inside, _ = library.path.rpartition("site-packages/")
            if step is None or not step.startswith(site + inside):
                # There only because the link is not at the path that the library has in its layer.
                raise _CannotLinkError
            self._link(step, library)
            return


class _Windows(_Planner):
    """Windows, where files contain no search paths."""

    def __init__(self, chain: Chain) -> None:
        super().__init__(chain)
        self.directories: dict[str, None] = {}
        self.seen: set[str] = set()
        self.copies: dict[str, str] = {}

    def result(self) -> Linking:
        """The plan."""
        return Linking(
            copies=self.copies,
            dll_directories=tuple(self.directories),
            missing=self.missing,
            unreachable=self.unreachable,
            excluded=self.excluded,
        )

    def provide(self, binary: Binary, path: str, name: str) -> None:
        """Make the interpreter find the DLL `name` for the file `path`."""
        if self.chain.find(binary, f"{self.chain.top.directory}/{path}", name):
            return
        found = self.choose(path, name)
        if found is None:
            return
        if binary.program:
            self._copy(found, posixpath.dirname(path))
        else:
            self._add(found)

    def _copy(self, found: Place, directory: str) -> None:
        """Copy the DLL `found` into `directory`, with the DLLs of its distribution that it needs.

        Windows searches them beside the program, wherever the DLL is that needs them.
        """
        path = f"{directory}/{last_part(found.path)}"
        copied = map(str.lower, self.copies)
        if path.lower() not in copied and not self.chain.top.has(path):
            self.copies[path] = str(found)
            for needed in self._of_its_distribution(found):
                self._copy(needed, directory)

    def _add(self, found: Place) -> None:
        """Add the directory of `found`, and those of its own distribution that it needs."""
        if str(found) not in self.seen:
            self.seen.add(str(found))
            self.directories[posixpath.dirname(str(found))] = None
            for needed in self._of_its_distribution(found):
                self._add(needed)

    def _of_its_distribution(self, found: Place) -> Iterator[Place]:
        """The DLLs that `found` needs, of its own distribution; the nearest of one name."""
        layer, binary = found.layer, found.binary
        here, owner = posixpath.dirname(found.path), layer.owners[found.path]
        for name in binary.needed if binary else ():
            paths = [one for one in layer.names.get(name, ()) if layer.owners[one] == owner]
            if paths:
                yield Place(layer, min(paths, key=lambda one: posixpath.dirname(one) != here))
