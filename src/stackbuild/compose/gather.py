"""Gets the parts of layers: makes them, or takes them from the cache.

All layers of one command are processed together, so that no thread is idle. A
failure affects only the layers that need the part.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from stackbuild.compose.layer_inputs import (
    LayerTarget,
    LowerLayer,
    Outcomes,
    PartName,
    Parts,
    attempted,
)
from stackbuild.compose.layer_metadata import directory_name, module_files
from stackbuild.compose.library_check import Libraries, Planned, check
from stackbuild.compose.report import LayerFailure
from stackbuild.compose.wheel_parts import (
    Wanted,
    compiled_key,
    excluded_patterns,
    fetch_wheels,
    files_key,
)
from stackbuild.errors import ComposeError, StackbuildError
from stackbuild.frames.bytecode import bytecode_set
from stackbuild.frames.contents import FrameSources
from stackbuild.frames.files import files_set, overlay_set, packed_wheel_key, packed_wheel_set
from stackbuild.frames.interpreter import interpreter_set
from stackbuild.frames.make import make_sets
from stackbuild.frames.model import FrameKind, FrameSet
from stackbuild.frames.sources import ArchiveSources, MemorySources, WheelSources
from stackbuild.frames.wheel import wheel_set
from stackbuild.layout import layout_for
from stackbuild.lock.files import read_runtime_lock
from stackbuild.project.files import project_files
from stackbuild.project.modules import module_sources
from stackbuild.project.overlays import overlay_files
from stackbuild.runtimes.interpreters import bytecode_interpreter
from stackbuild.runtimes.model import Interpreter, RuntimeArchive
from stackbuild.runtimes.provide import provide_runtime
from stackbuild.spec.model import Layer, LayerKind, RuntimeSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

    from stackbuild.frames.cache import FrameCache
    from stackbuild.frames.files import FileContent
    from stackbuild.frames.sources import Sources
    from stackbuild.lock.model import LayerLock, LockedDistribution
    from stackbuild.messages import Messages
    from stackbuild.platforms import Platform
    from stackbuild.spec.model import Stack
    from stackbuild.workspace import Workspace


def gather(
    stack: Stack,
    pairs: Sequence[tuple[Layer, Platform]],
    locks: Mapping[tuple[str, Platform], LayerLock],
    cache: FrameCache,
    workspace: Workspace,
    messages: Messages,
    *,
    allow_unresolved: bool = False,
) -> tuple[list[Parts], list[LayerFailure]]:
    """The parts of every layer of `pairs`, and the errors of the layers that lack one.

    `locks` has the locks of `pairs` and of all layers below them; frames are
    made with the settings `stack.frames`. With `allow_unresolved`, missing shared libraries are
    a warning in `Parts`.
    """
    gathering = _Gathering(stack, pairs, locks, cache, workspace, messages)
    asked = [gathering.target(*pair) for pair in pairs]
    gathering.provide(asked)
    able = [target for target in asked if gathering.error(target) is None]
    gathering.make_contents(able)
    for target in able:
        gathering.link(target, allow_unresolved=allow_unresolved)
    gathering.make_modules(able)
    gathering.tell()
    parts, failures = [], []
    for target in asked:
        if error := gathering.error(target):
            failures.append(
                LayerFailure(layer=target.layer.name, platform=target.platform, error=error)
            )
        else:
            parts.append(gathering.parts(target))
    return parts, failures


class _Gathering:
    """The state of one call of `gather`."""

    def __init__(
        self,
        stack: Stack,
        pairs: Sequence[tuple[Layer, Platform]],
        locks: Mapping[tuple[str, Platform], LayerLock],
        cache: FrameCache,
        workspace: Workspace,
        messages: Messages,
    ) -> None:
        self._stack = stack
        self._locks = locks
        self._cache = cache
        self._workspace = workspace
        self._messages = messages
        self._outcomes = Outcomes()
        self._libraries = Libraries(self._below, self._sets)
        self._jobs: dict[Hashable, Callable[[], FrameSet | StackbuildError]] = {}
        layers = {one.name: one for layer, _ in pairs for one in stack.chain(layer)}
        self._files = project_files(workspace.project, workspace.overlays, layers.values())

    def target(self, layer: Layer, platform: Platform) -> LayerTarget:
        """`layer` on `platform`, with its lock."""
        lock = self._locks[layer.name, platform]
        return LayerTarget(
            layer=layer,
            platform=platform,
            layout=replace(
                layout_for(platform, lock.python_version),
                is_runtime=layer.kind is LayerKind.RUNTIME,
            ),
            lock=lock,
            directory=directory_name(layer, lock),
        )

    def _below(self, target: LayerTarget) -> tuple[LayerTarget, ...]:
        layers = (self._stack.layers[name] for name in target.layer.lower)
        return tuple(self.target(layer, target.platform) for layer in layers)

    def _attempt(self, name: Hashable, work: Callable[[], object]) -> None:
        self._outcomes.put(name, attempted(work))

    def _add(
        self, name: Hashable, make: Callable[..., FrameSet], *inputs: object, **more: object
    ) -> None:
        """Queue the frame set `name` of `inputs` for `_make`, unless it was tried before."""
        if name not in self._outcomes:
            job = partial(make, *inputs, self._stack.frames, self._cache, **more)
            self._jobs[name] = partial(attempted, job)

    def _add_bytecode(self, name: Hashable, target: LayerTarget, sources: Sources) -> None:
        if compiler := self._compiler(target):
            self._add(name, bytecode_set, sources, compiler, target.layout)

    def _make(self) -> None:
        """Make the queued frame sets in parallel."""
        jobs, self._jobs = self._jobs, {}
        made = make_sets(list(jobs.values()), self._workspace.jobs, self._messages)
        for name, outcome in zip(jobs, made, strict=True):
            self._outcomes.put(name, outcome)

    # Interpreters: those that are packed, and those that compile.

    def provide(self, asked: Sequence[LayerTarget]) -> None:
        """Get the interpreters that are needed."""
        for target in asked:
            if target.layer.kind is LayerKind.RUNTIME:
                self._attempt(target.part("runtime"), partial(self._provide, target))
        if self._stack.frames.bytecode:
            for runtime in dict.fromkeys(target.layer.runtime for target in asked):
                name = PartName("compiler", runtime)
                self._attempt(name, partial(self._provide_compiler, runtime))

    def _provide(self, target: LayerTarget) -> RuntimeArchive:
        return provide_runtime(
            self._stack,
            target.layer,
            target.platform,
            read_runtime_lock(self._workspace, target.layer.name),
            self._workspace,
            self._messages,
        )

    def _provide_compiler(self, runtime: str) -> Interpreter:
        return bytecode_interpreter(
            self._stack,
            self._stack.layers[runtime],
            read_runtime_lock(self._workspace, runtime),
            self._workspace,
            self._messages,
        )

    def _archive(self, target: LayerTarget) -> RuntimeArchive | None:
        return self._outcomes.get(target.part("runtime"), RuntimeArchive)

    def _compiler(self, target: LayerTarget) -> Interpreter | None:
        return self._outcomes.get(PartName("compiler", target.layer.runtime), Interpreter)

    # The contents of the layers.

    def make_contents(self, asked: Sequence[LayerTarget]) -> None:
        """Make the frames of `asked`, and those below whose scripts and `.pth` lines are used."""
        targets = {
            (one.layer.name, one.platform): one
            for target in asked
            for one in (target, *self._below(target))
        }
        compiled = {(target.layer.name, target.platform) for target in asked}
        wanted = [
            self._wanted(target, item, compiled=pair in compiled)
            for pair, target in targets.items()
            for item in target.lock.distributions
        ]
        packed = [
            Wanted(one, item, (self._packed_key(item),))
            for target in asked
            for one, item in self._packed(target)
        ]
        missing = [one for one in wanted if not self._is_cached(one.keys)]
        self._add_wheels(missing, [one for one in packed if not self._is_cached(one.keys)])
        for target in asked:
            self._add_interpreter(target)
        for target in targets.values():
            self._add_overlay(target)
        self._make()

    def _wanted(self, target: LayerTarget, item: LockedDistribution, *, compiled: bool) -> Wanted:
        keys = (self._wheel_key(target, item), self._wheel_bytecode_key(target, item))
        return Wanted(target, item, tuple(key for key in keys[: 1 + compiled] if key))

    def _packed(self, target: LayerTarget) -> Iterator[tuple[LayerTarget, LockedDistribution]]:
        """The distributions whose wheels `target` has as files: those of its chain."""
        if target.layer.policy(target.platform).packages:
            for one in (target, *self._below(target)):
                yield from ((one, item) for item in one.lock.distributions)

    def _packed_key(self, item: LockedDistribution) -> str:
        return packed_wheel_key(item.wheel.name, item.wheel.sha256, self._stack.frames)

    def _packed_keys(self, target: LayerTarget) -> list[str]:
        return [self._packed_key(item) for _, item in self._packed(target)]

    def _add_wheels(self, missing: Sequence[Wanted], packed: Sequence[Wanted]) -> None:
        wheels = fetch_wheels(
            [*missing, *packed], self._stack, self._workspace, self._messages, self._outcomes
        )
        for _, item, (key,) in packed:
            self._add(key, packed_wheel_set, wheels[item.wheel.sha256], item.wheel.sha256)
        for target, item, (key, *bytecode) in missing:
            sha256, layout = item.wheel.sha256, target.layout
            wheel, machine = wheels[sha256], target.platform.machine
            patterns = excluded_patterns(target, item)
            self._add(key, wheel_set, wheel, sha256, layout, machine=machine, patterns=patterns)
            for name in bytecode:
                sources = WheelSources(wheel, sha256, layout, patterns)
                self._add_bytecode(name, target, sources)

    def _wheel_key(self, target: LayerTarget, item: LockedDistribution) -> str:
        return files_key(target, item, self._stack.frames)

    def _wheel_bytecode_key(self, target: LayerTarget, item: LockedDistribution) -> str | None:
        return compiled_key(target, item, self._compiler(target), self._stack.frames)

    def _is_cached(self, keys: Sequence[str]) -> bool:
        for key in keys:
            if key not in self._outcomes:
                found = self._cache.get(key)
                if not found:
                    return False
                self._outcomes.put(key, found)
        return True

    def _add_interpreter(self, target: LayerTarget) -> None:
        if archive := self._archive(target):
            keep = (target.layer.runtime_settings or RuntimeSettings()).keep
            sources = ArchiveSources(archive=archive, layout=target.layout, keep=keep)
            self._add(target.part("interpreter"), interpreter_set, archive, target.layout, keep)
            self._add_bytecode(target.part("interpreter bytecode"), target, sources)

    def _add_overlay(self, target: LayerTarget) -> None:
        layer, platform, layout = target.layer, target.platform, target.layout
        overlays, name = self._workspace.overlays, target.part("overlay")
        files = attempted(partial(overlay_files, layer, platform, layout, overlays, self._files))
        if isinstance(files, StackbuildError):
            self._outcomes.put(name, files)
        elif files:
            replacing = frozenset(file.path for file in files if file.overwrite)
            self._outcomes.put(target.part("overwriting"), replacing)
            self._add(name, overlay_set, layer.name, files, layout)

    def _overwriting(self, target: LayerTarget) -> frozenset[str]:
        return self._outcomes.get(target.part("overwriting"), frozenset) or frozenset()

    # The shared libraries of other distributions and layers.

    def link(self, target: LayerTarget, *, allow_unresolved: bool) -> None:
        """Plan what is added for shared libraries; check that no other one is missing."""
        if self.error(target):
            return
        archive, chain = self._archive(target), (target, *self._below(target))
        declared = archive.host_libraries if archive else ()
        try:
            planned = self._plan(target)
            warning = check(planned, chain, declared, allow_unresolved=allow_unresolved)
        except ComposeError as error:
            self._outcomes.put(target.part("libraries"), error)
            return
        self._outcomes.put(target.part("libraries"), planned)
        self._outcomes.put(target.part("library warning"), warning)
        for name, make, inputs in planned.changes(chain, self._sets):
            self._add(name, make, *inputs)

    def _plan(self, target: LayerTarget) -> Planned:
        interpreter = self._outcomes.get(target.part("interpreter"), FrameSet)
        return self._libraries.plan(target, interpreter)

    def _sets(self, target: LayerTarget) -> tuple[FrameSet, ...]:
        return self._outcomes.sets(self._visible(target))

    # The parts made from the contents of the layers.

    def make_modules(self, asked: Sequence[LayerTarget]) -> None:
        """Make the layers' own modules, and the bytecode of modules and overlays."""
        for target in asked:
            if self.error(target):
                continue
            name, subject = target.part("modules"), f"{target.layer.name} modules"
            files = attempted(partial(self._module_files, target))
            if isinstance(files, StackbuildError):
                self._outcomes.put(name, files)
            elif files:
                self._add(name, files_set, FrameKind.HEAD, subject, files)
                contents = {path: file.data for path, file in files.items()}
                sources = MemorySources(subject=subject, files=contents)
                self._add_bytecode(target.part("modules bytecode"), target, sources)
            if overlay := self._outcomes.get(target.part("overlay"), FrameSet):
                compiled = FrameSources(frame_set=overlay)
                self._add_bytecode(target.part("overlay bytecode"), target, compiled)
        self._make()

    def _module_files(self, target: LayerTarget) -> dict[str, FileContent]:
        sources = module_sources(target.layer, target.platform, self._files)
        lower, added = self._lower(target), self._plan(target).dll_directories
        files = module_files(target, lower, sources, added)
        replaced = self._overwriting(target)
        return {path: content for path, content in files.items() if path not in replaced}

    def _lower(self, target: LayerTarget) -> tuple[LowerLayer, ...]:
        """The layers below, without their interpreters."""
        return tuple(
            LowerLayer(target=below, sets=self._sets(below)) for below in self._below(target)
        )

    def _visible(self, target: LayerTarget) -> list[Hashable]:
        """The frame sets of `target` that the layers above need."""
        keys = [self._wheel_key(target, item) for item in target.lock.distributions]
        return [*keys, target.part("overlay")]

    # The results.

    def tell(self) -> None:
        """Report files that git does not track, ignores, or misses."""
        for text in self._files.notes():
            self._messages.note(text)

    def error(self, target: LayerTarget) -> StackbuildError | None:
        """The error that prevents `target` from being composed, or None."""
        own = [target.part(what) for what in _OWN_PARTS]
        if planned := self._outcomes.get(target.part("libraries"), Planned):
            own += planned.parts()
        bytecode = (self._wheel_bytecode_key(target, item) for item in target.lock.distributions)
        names = (
            *own,
            PartName("compiler", target.layer.runtime),
            *(name for one in (target, *self._below(target)) for name in self._visible(one)),
            *bytecode,
            *self._packed_keys(target),
        )
        return self._outcomes.error(names)

    def parts(self, target: LayerTarget) -> Parts:
        """All parts of `target`, which must have no `error`."""
        outcomes, items = self._outcomes, target.lock.distributions
        compiler, planned = self._compiler(target), self._plan(target)
        bytecode = [self._wheel_bytecode_key(target, item) for item in items]
        own = ("overlay bytecode", "modules bytecode")
        return Parts(
            target=target,
            lower=self._lower(target),
            runtime=self._archive(target),
            interpreter=outcomes.get(target.part("interpreter"), FrameSet),
            distributions=outcomes.sets(self._wheel_key(target, item) for item in items),
            packages=outcomes.sets(self._packed_keys(target)),
            overlay=outcomes.get(target.part("overlay"), FrameSet),
            overwriting=self._overwriting(target),
            linking=planned.linking,
            library_warning=outcomes.get(target.part("library warning"), str) or "",
            edited=outcomes.sets(planned.parts()),
            dll_directories=planned.dll_directories,
            modules=outcomes.get(target.part("modules"), FrameSet),
            bytecode=outcomes.sets([target.part("interpreter bytecode"), *bytecode]),
            own_bytecode=outcomes.sets(target.part(what) for what in own),
            compiled_by=compiler.version if compiler else None,
        )


_OWN_PARTS = (
    "runtime",
    "interpreter",
    "interpreter bytecode",
    "overlay",
    "overlay bytecode",
    "libraries",
    "modules",
    "modules bytecode",
)
