"""Checks the shared libraries of a layer that is composed, and what is added for them."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from stackbuild.errors import ComposeError
from stackbuild.frames.model import FrameKind
from stackbuild.globs import first_match
from stackbuild.layout import extension_module
from stackbuild.linking.editing import copied_set, edited_set
from stackbuild.linking.plan import Linking, plan_linking
from stackbuild.linking.search import Chain, LayerFiles, is_expected, matches
from stackbuild.spec.model import LayerKind
from stackbuild.tomltext import fields, layer_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from stackbuild.compose.layer_inputs import LayerTarget, PartName
    from stackbuild.frames.model import Binary, FrameSet
    from stackbuild.layout import Layout
    from stackbuild.platforms import Platform
    from stackbuild.spec.model import Layer

_OF_INTERPRETER = {
    "linux": ("lib/libpython{0}.so.1.0",),
    "macos": ("lib/libpython{0}.dylib",),
    "windows": ("python3.dll", "python{1}.dll", "vcruntime140.dll", "vcruntime140_1.dll"),
}
"""Libraries of every CPython, by version with and without a dot. So a layer can be composed
without the interpreter of its runtime."""

_SHOWN = 5
"""Libraries that an error names with the files that need them."""
_WIDTH = 100
"""A longer line of TOML is split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A layer, the files added to it for shared libraries, and the libraries that are missing."""

    target: LayerTarget
    files: LayerFiles
    """Without what is added."""
    linking: Linking
    dll_directories: tuple[str, ...]
    """Those of `Linking`, of the whole chain."""
    left_out: Mapping[str, str]
    """By name, the files that `exclude-files` of the chain leaves out: their layer, path and
    pattern."""

    def parts(self) -> list[PartName]:
        """The names of the frame sets with edited and copied files."""
        edited = [self.target.part(f"edited {path}") for path in self.linking.edits]
        return [*edited, *(self.target.part(f"copied {path}") for path in self.linking.copies)]

    def changes(
        self, chain: Sequence[LayerTarget], sets: Callable[[LayerTarget], Sequence[FrameSet]]
    ) -> Iterator[tuple[PartName, Callable[..., FrameSet], tuple[object, ...]]]:
        """How each of `parts` is made: the function and its inputs."""

        def source(layer: LayerTarget, path: str) -> FrameSet:
            return next(one for one in reversed(sets(layer)) if path in one.paths)

        names = iter(self.parts())
        for path, libraries in self.linking.edits.items():
            binary = self.files.binaries[path]
            inputs = (source(self.target, path), binary, libraries, self.files.os)
            yield next(names), edited_set, inputs
        for path, library in self.linking.copies.items():
            directory, _, original = library.partition("/")
            owner = next(one for one in chain if one.directory == directory)
            yield next(names), copied_set, (source(owner, original), original, path)


class Libraries:
    """Plans for the layers of one command; those of lower layers are made once.

    `below` returns the layers below one, nearest first; `sets` the frame sets of a layer's
    distributions and overlay.
    """

    def __init__(
        self,
        below: Callable[[LayerTarget], Sequence[LayerTarget]],
        sets: Callable[[LayerTarget], Sequence[FrameSet]],
    ) -> None:
        self._below = below
        self._sets = sets
        self._plans: dict[tuple[str, Platform, bool], Planned] = {}

    def plan(self, target: LayerTarget, interpreter: FrameSet | None = None) -> Planned:
        """The plan for `target`, with its interpreter if it is a runtime that is published.

        Raises ComposeError if several libraries have a name that a file needs.
        """
        key = (target.layer.name, target.platform, interpreter is not None)
        if key not in self._plans:
            self._plans[key] = self._plan(target, interpreter)
        return self._plans[key]

    def _plan(self, target: LayerTarget, interpreter: FrameSet | None) -> Planned:
        below = [self.plan(one) for one in self._below(target)]
        own = [interpreter] if interpreter else []
        files = _layer_files(target, [*own, *self._sets(target)])
        chain = Chain([files, *(one.linking.applied(one.files) for one in below)])
        try:
            linking = plan_linking(chain)
        except ComposeError as error:
            raise error.in_layer(target.layer.name, str(target.platform)) from None
        directories = dict.fromkeys(linking.dll_directories)
        for one in below:
            directories |= dict.fromkeys(one.linking.dll_directories)
        left_out = {name: where for one in reversed(below) for name, where in one.left_out.items()}
        return Planned(
            target=target,
            files=files,
            linking=linking,
            dll_directories=tuple(directories),
            left_out={**left_out, **dict(_left_out(target, self._sets(target), files))},
        )


def _layer_files(target: LayerTarget, sets: Sequence[FrameSet]) -> LayerFiles:
    """The files in `sets`, which are the interpreter, the distributions and the overlay."""
    owners: dict[str, str] = {}
    binaries: dict[str, Binary] = {}
    machine = target.platform.machine
    if target.layer.kind is LayerKind.RUNTIME:
        owners = dict.fromkeys(_of_interpreter(target.layout), "")
    for frame_set in sets:
        frame = frame_set.frames[0]
        is_overlay = frame.kind is FrameKind.OVERLAY
        owners.update(dict.fromkeys(frame_set.paths, "" if is_overlay else frame.subject))
        for path in frame_set.paths:
            binaries.pop(path, None)
        for binary in frame_set.binaries:
            if not binary.machines or machine in binary.machines:
                binaries[binary.path] = binary
    return LayerFiles(
        name=target.layer.name,
        directory=target.directory,
        os=target.layout.os,
        owners=owners,
        binaries=binaries,
        excluded=target.layer.dynlib_exclude,
    )


def _left_out(
    target: LayerTarget, sets: Sequence[FrameSet], files: LayerFiles
) -> Iterator[tuple[str, str]]:
    """The files that the layer leaves out, by name."""
    policy = target.layer.policy(target.platform)
    for one in sets:
        patterns = policy.excluded_from(one.frames[0].subject.partition(" ")[0])
        for path in one.excluded:
            where = f"`exclude-files` of {target.layer.name}: {first_match(path, patterns)!r}"
            yield files.folded(path), f"{path} is left out by {where}"


def _of_interpreter(layout: Layout) -> Iterator[str]:
    digits = layout.python.replace(".", "")
    return (path.format(layout.python, digits) for path in _OF_INTERPRETER[layout.os])


def check(
    planned: Planned,
    chain: Sequence[LayerTarget],
    declared: Sequence[str],
    *,
    allow_unresolved: bool,
) -> str:
    """A warning of missing and excluded libraries; empty if there are none.

    `host-libraries` and `allow-import-errors` of the layers in `chain` count; `declared` are the
    libraries that the interpreter needs of its host. Raises ComposeError for a library that is
    missing, without `allow_unresolved`.
    """
    missing = _unresolved(planned, [one.layer for one in chain], declared)
    if missing and not allow_unresolved:
        raise _unresolved_error(planned, missing)
    return _warning(planned, missing)


def _unresolved(
    planned: Planned, chain: Sequence[Layer], declared: Sequence[str]
) -> dict[str, list[str]]:
    """The missing libraries that nothing allows to be missing, with the files that need them."""
    target, missing = planned.target, planned.linking.missing
    globs = [*declared, *(one for layer in chain for one in layer.checks.host_libraries)]
    if target.layout.os == "windows":
        globs = [one.lower() for one in globs]
    items = target.lock.distributions
    wheels = {f"{item.name} {item.version}": item.wheel.name for item in items}
    found: dict[str, list[str]] = {}
    for name, paths in missing.items():
        for path in () if matches(name, globs) else paths:
            wheel = wheels.get(planned.files.owners[path], "")
            if not _is_known(target, chain, path, name, wheel):
                found.setdefault(name, []).append(path)
    return found


def _is_known(
    target: LayerTarget, chain: Sequence[Layer], path: str, library: str, wheel: str
) -> bool:
    """Whether an entry of `allow-import-errors` says that the module `path` lacks `library`."""
    module = extension_module(path, target.platform, target.layout)
    return module is not None and any(
        is_expected(text, library)
        and fnmatchcase(wheel.lower(), its_wheel.lower())
        and fnmatchcase(module[0], its_module)
        for layer in chain
        for its_wheel, modules in layer.policy(target.platform).allow_import_errors.items()
        for its_module, text in modules.items()
    )


def _unresolved_error(planned: Planned, missing: Mapping[str, Sequence[str]]) -> ComposeError:
    """The error for the libraries `missing`, each with the files that need it."""
    target = planned.target
    unreachable = planned.linking.unreachable
    if all(name in unreachable for name in missing):
        return _unreachable_error(planned, missing)
    # What is in the chain is no reason to add a distribution.
    missing = {name: users for name, users in missing.items() if name not in unreachable}
    name, users = next(iter(missing.items()))
    place = layer_table(target.layer.name, "verify")
    is_left_out = any(one.rpartition("/")[2] in planned.left_out for one in missing)
    keep = "keep the file that is left out; or " if is_left_out else ""
    return ComposeError(
        "a shared library that the layer needs is neither in its chain nor on every host",
        layer=target.layer.name,
        platform=target.platform,
        distribution=planned.files.owners[users[0]] or None,
        file=users[0],
        expected=name,
        found=_shortened(_listed(missing, planned.left_out)),
        remedy=f"{keep}add the distribution that has the library to this layer or to one below it;"
        " if the file is not used, run publish, build or export with --allow-unresolved; if every"
        f" host has the library, set in {place}:\n{_setting(target.layer, missing)}",
    )


def _unreachable_error(planned: Planned, missing: Mapping[str, Sequence[str]]) -> ComposeError:
    """The error for the libraries `missing`, which are in the chain."""
    target = planned.target
    name, users = next(iter(missing.items()))
    places = planned.linking.unreachable
    here = "@loader_path" if target.layout.os == "macos" else "$ORIGIN"
    found = [
        f"{line}, and is at {places[one]}"
        for one, line in zip(missing, _listed(missing, {}), strict=True)
    ]
    return ComposeError(
        "a shared library that the layer needs is in its chain, but the file does not search there"
        " and no link can be added where it searches",
        layer=target.layer.name,
        platform=target.platform,
        distribution=planned.files.owners[users[0]] or None,
        file=users[0],
        expected=f"a search path of the file that leads to {name}, such as {here}/lib",
        found=_shortened(found),
        remedy="build the file with such a search path (build-wheel), or rename the file of the"
        " layer that is where the link would be; if the file is not used, run publish, build or"
        " export with --allow-unresolved",
    )


def _warning(planned: Planned, missing: Mapping[str, Sequence[str]]) -> str:
    """The warning of the libraries `missing`, and of those that `dynlib_exclude` excludes."""
    unreachable = planned.linking.unreachable
    texts = [
        f"shared libraries that {why}: {_all(libraries, planned.left_out)}"
        for why, libraries in (
            (
                "neither its chain nor every host has",
                {one: users for one, users in missing.items() if one not in unreachable},
            ),
            (
                "its chain has where the files do not search",
                {one: users for one, users in missing.items() if one in unreachable},
            ),
            ("`dynlib_exclude` excludes", planned.linking.excluded),
        )
        if libraries
    ]
    target = planned.target
    return f"{target.layer.name} on {target.platform} lacks {'; and '.join(texts)}" if texts else ""


def _all(libraries: Mapping[str, Sequence[str]], left_out: Mapping[str, str]) -> str:
    """All `libraries`; a few with the files that need them."""
    lines = _listed(libraries, left_out)
    return ", ".join(libraries) if len(libraries) > _SHOWN else "; ".join(lines)


def _setting(layer: Layer, missing: Iterable[str]) -> str:
    """`host-libraries` of `layer`, as TOML, with the globs that it has and the `missing`."""
    globs = dict.fromkeys((*layer.checks.host_libraries, *map(glob.escape, sorted(missing))))
    setting = {"host-libraries": [*globs]}
    line = fields(setting).rstrip()
    return line if len(line) <= _WIDTH else fields(setting, multiline=True).rstrip()


def _shortened(lines: Sequence[str]) -> str:
    """The first of `lines`, and how many there are."""
    more = len(lines) - _SHOWN
    rest = f"; and {more} more librar{'ies' if more > 1 else 'y'}" if more > 0 else ""
    return "; ".join(lines[:_SHOWN]) + rest


def _listed(missing: Mapping[str, Sequence[str]], left_out: Mapping[str, str]) -> list[str]:
    """``libx.so.1 is needed by a.so and 3 other files``, for each library."""
    lines = []
    for name, users in missing.items():
        others = len(users) - 1
        more = f" and {others} other file{'s' if others > 1 else ''}" if others else ""
        where = left_out.get(name.rpartition("/")[2])
        lines.append(f"{name} is needed by {users[0]}{more}" + (f" ({where})" if where else ""))
    return lines
