"""Getting the parts of layers: made, or taken from the cache.

All layers of one command are worked on together, so that every thread has
something to do until the end. What goes wrong concerns the layers that need
the part in question; the others are made all the same.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.compose.contents import FrameSources
from stackbuild.compose.frame_jobs import FrameJobs, NeededWheel, fetch_missing
from stackbuild.compose.layer_inputs import LayerTarget, PartName, Parts
from stackbuild.compose.layer_metadata import LowerLayer, directory_name, module_files
from stackbuild.compose.report import LayerFailure
from stackbuild.errors import ComposeError, StackbuildError
from stackbuild.frames.bytecode import bytecode_key, bytecode_set
from stackbuild.frames.files import files_set, overlay_set
from stackbuild.frames.interpreter import interpreter_set
from stackbuild.frames.model import FrameKind, FrameSet
from stackbuild.frames.sources import ArchiveSources, MemorySources, WheelSources
from stackbuild.frames.wheel import wheel_key, wheel_set
from stackbuild.layout import layout_for
from stackbuild.lock.files import read_runtime_lock
from stackbuild.project.files import project_files
from stackbuild.project.modules import module_sources
from stackbuild.project.overlays import overlay_files
from stackbuild.runtimes.interpreters import bytecode_interpreter
from stackbuild.runtimes.provide import provide_runtime
from stackbuild.spec.model import Layer, LayerKind, RuntimeSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

    from stackbuild.frames.cache import FrameCache
    from stackbuild.frames.files import FileContent
    from stackbuild.frames.sources import Sources
    from stackbuild.layout import Layout
    from stackbuild.lock.model import LayerLock, LockedDistribution
    from stackbuild.messages import Messages
    from stackbuild.platforms import Platform
    from stackbuild.project.overlays import OverlayFile
    from stackbuild.runtimes.model import Interpreter, RuntimeArchive
    from stackbuild.spec.model import Stack
    from stackbuild.workspace import Workspace

    Jobs = dict[Hashable, Callable[[], FrameSet]]


def gather(
    stack: Stack,
    pairs: Sequence[tuple[Layer, Platform]],
    locks: Mapping[tuple[str, Platform], LayerLock],
    cache: FrameCache,
    workspace: Workspace,
    messages: Messages,
) -> tuple[list[Parts], list[LayerFailure]]:
    """The parts of every layer of `pairs`, and the layers whose parts cannot be had.

    `locks` has the locks of `pairs` and of all layers below them; frames are
    made as `stack.frames` says.
    """
    gathering = _Gathering(stack, pairs, locks, cache, workspace, messages)
    asked = [gathering.target(*pair) for pair in pairs]
    gathering.provide(asked)
    able = [target for target in asked if gathering.error(target) is None]
    gathering.make_contents(able)
    gathering.make_modules(able)
    gathering.tell()
    parts, failures = [], []
    for target in asked:
        error = gathering.error(target)
        if error:
            failures.append(
                LayerFailure(layer=target.layer.name, platform=target.platform, error=error)
            )
        else:
            parts.append(gathering.parts(target))
    return parts, failures


class _Gathering:
    """What one call of `gather` has so far."""

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
        self._workshop = FrameJobs(workspace.jobs, messages)
        self._targets: dict[tuple[str, Platform], LayerTarget] = {}
        self._archives: dict[Platform, dict[str, RuntimeArchive]] = {}
        self._compilers: dict[str, Interpreter] = {}
        layers = {one.name: one for layer, _ in pairs for one in stack.chain(layer)}
        self._files = project_files(workspace.project, workspace.overlays, layers.values())
        self._overwriting: dict[PartName, frozenset[str]] = {}
        self._overlay_pth: dict[PartName, tuple[str, ...]] = {}

    def target(self, layer: Layer, platform: Platform) -> LayerTarget:
        """`layer` on `platform`, with its lock."""
        pair = (layer.name, platform)
        if pair not in self._targets:
            lock = self._locks[pair]
            self._targets[pair] = LayerTarget(
                layer=layer,
                platform=platform,
                layout=layout_for(platform, lock.python_version),
                lock=lock,
                directory=directory_name(layer, lock),
            )
        return self._targets[pair]

    def _below(self, target: LayerTarget) -> tuple[LayerTarget, ...]:
        layers = (self._stack.layers[name] for name in target.layer.lower)
        return tuple(self.target(layer, target.platform) for layer in layers)

    # Interpreters: those that are packed, and those that compile.

    def provide(self, asked: Sequence[LayerTarget]) -> None:
        """Get the interpreters that are needed."""
        for target in asked:
            if target.layer.kind is LayerKind.RUNTIME:
                self._workshop.attempt([target.part("runtime")], partial(self._provide, target))
        if self._stack.frames.bytecode:
            for runtime in dict.fromkeys(target.layer.runtime for target in asked):
                name = PartName("compiler", runtime)
                self._workshop.attempt([name], partial(self._provide_compiler, runtime))

    def _provide(self, target: LayerTarget) -> None:
        name = target.layer.name
        self._archives.setdefault(target.platform, {})[name] = provide_runtime(
            self._stack,
            target.layer,
            target.platform,
            read_runtime_lock(self._workspace, name),
            self._workspace,
            self._messages,
        )

    def _provide_compiler(self, runtime: str) -> None:
        self._compilers[runtime] = bytecode_interpreter(
            self._stack,
            self._stack.layers[runtime],
            read_runtime_lock(self._workspace, runtime),
            self._workspace,
            self._messages,
        )

    def _archive(self, target: LayerTarget) -> RuntimeArchive | None:
        return self._archives.get(target.platform, {}).get(target.layer.name)

    # What the layers hold.

    def make_contents(self, asked: Sequence[LayerTarget]) -> None:
        """Make the frames of `asked`, and those below whose scripts and `.pth` lines count."""
        targets = {
            (one.layer.name, one.platform): one
            for target in asked
            for one in (target, *self._below(target))
        }
        jobs = self._wheel_jobs(tuple(targets.values()), asked)
        for target in asked:
            jobs |= self._interpreter_jobs(target)
        for target in targets.values():
            jobs |= self._overlay_jobs(target)
        self._workshop.make(jobs)

    def _wheel_jobs(self, targets: Sequence[LayerTarget], asked: Sequence[LayerTarget]) -> Jobs:
        """The frames of wheels, for `asked` their bytecode too.

        Only wheels that the cache has not all frames of are fetched.
        """
        wanted = [
            NeededWheel(target, item, self._wheel_key(target, item), bytecode)
            for target in targets
            for item in target.lock.distributions
            for bytecode in [self._wheel_bytecode_key(target, item) if target in asked else None]
        ]
        missing = [one for one in wanted if not self._is_cached(one.names)]
        wheels = fetch_missing(
            missing, self._stack, self._workspace, self._workshop, self._messages
        )
        jobs: Jobs = {}
        for one in missing:
            sha256 = one.item.wheel.sha256
            jobs[one.key] = partial(
                wheel_set,
                wheels[sha256],
                sha256,
                one.target.layout,
                self._stack.frames,
                self._cache,
                machine=one.target.platform.machine,
            )
            if one.bytecode:
                sources = self._wheel_sources(one.target, wheels[sha256], sha256)
                jobs[one.bytecode] = self._bytecode_job(one.target, sources)
        return jobs

    def _wheel_key(self, target: LayerTarget, item: LockedDistribution) -> str:
        settings, machine = self._stack.frames, target.platform.machine
        return wheel_key(item.wheel.sha256, target.layout, settings, machine=machine)

    def _wheel_bytecode_key(self, target: LayerTarget, item: LockedDistribution) -> str | None:
        sources = self._wheel_sources(target, Path(item.wheel.name), item.wheel.sha256)
        return self._bytecode_key(target, sources)

    @staticmethod
    def _wheel_sources(target: LayerTarget, wheel: Path, sha256: str) -> WheelSources:
        return WheelSources(wheel=wheel, sha256=sha256, layout=target.layout)

    def _is_cached(self, keys: Sequence[str]) -> bool:
        for key in keys:
            if key not in self._workshop:
                found = self._cache.get(key)
                if not found:
                    return False
                self._workshop.put(key, found)
        return True

    def _interpreter_jobs(self, target: LayerTarget) -> Jobs:
        archive = self._archive(target)
        if archive is None:
            return {}
        keep = (target.layer.runtime_settings or RuntimeSettings()).keep
        jobs: Jobs = {
            target.part("interpreter"): partial(
                interpreter_set, archive, target.layout, keep, self._stack.frames, self._cache
            )
        }
        if self._stack.frames.bytecode:
            sources = ArchiveSources(archive=archive, layout=target.layout, keep=keep)
            jobs[target.part("interpreter bytecode")] = self._bytecode_job(target, sources)
        return jobs

    def _overlay_jobs(self, target: LayerTarget) -> Jobs:
        if not target.layer.overlays(target.platform):
            return {}
        layer, overlays = target.layer, self._workspace.overlays
        name = target.part("overlay")
        read = partial(overlay_files, layer, target.platform, target.layout, overlays, self._files)
        files = self._workshop.attempt([name], read)
        if not files:
            return {}
        self._overwriting[name] = frozenset(file.path for file in files if file.overwrite)
        lines = self._workshop.attempt([name], partial(_pth_lines, files, target.layout))
        self._overlay_pth[name] = lines or ()
        return {name: partial(overlay_set, layer.name, files, self._stack.frames, self._cache)}

    # What is made of what the layers hold.

    def make_modules(self, asked: Sequence[LayerTarget]) -> None:
        """Make the layers' own modules, and the bytecode of these and of overlays."""
        jobs: Jobs = {}
        for target in asked:
            if self.error(target):
                continue
            name = target.part("modules")
            files = self._workshop.attempt([name], partial(self._module_files, target))
            sources: dict[str, Sources] = {}
            if files:
                jobs[name] = partial(
                    files_set, FrameKind.HEAD, _own(target), files, self._stack.frames, self._cache
                )
                contents = {path: file.data for path, file in files.items()}
                sources["modules"] = MemorySources(subject=_own(target), files=contents)
            overlay = self._workshop.get(target.part("overlay"))
            if overlay:
                sources["overlay"] = FrameSources(frame_set=overlay)
            if self._stack.frames.bytecode:
                for what, source in sources.items():
                    job = self._bytecode_job(target, source)
                    jobs[target.part(f"{what} bytecode")] = job
        self._workshop.make(jobs)

    def _module_files(self, target: LayerTarget) -> dict[str, FileContent]:
        replaced = self._overwriting.get(target.part("overlay"), ())
        sources = module_sources(target.layer, target.platform, self._files)
        files = module_files(target.layer, target.layout, self._lower(target), sources)
        return {path: content for path, content in files.items() if path not in replaced}

    def _lower(self, target: LayerTarget) -> tuple[LowerLayer, ...]:
        return tuple(
            LowerLayer(
                layer=below.layer,
                directory=below.directory,
                sets=self._visible(below),
                overlay_pth=self._overlay_pth.get(below.part("overlay"), ()),
            )
            for below in self._below(target)
        )

    def _visible(self, target: LayerTarget) -> tuple[FrameSet, ...]:
        """What the layers above see of `target`; not of its interpreter, which may be missing."""
        keys = [self._wheel_key(target, item) for item in target.lock.distributions]
        return self._workshop.sets([*keys, target.part("overlay")])

    def _bytecode_key(self, target: LayerTarget, sources: Sources) -> str | None:
        compiler = self._compilers.get(target.layer.runtime)
        if compiler is None:
            return None
        return bytecode_key(sources, compiler, target.layout, self._stack.frames)

    def _bytecode_job(self, target: LayerTarget, sources: Sources) -> Callable[[], FrameSet]:
        compiler = self._compilers[target.layer.runtime]
        return partial(
            bytecode_set, sources, compiler, target.layout, self._stack.frames, self._cache
        )

    # What came of it.

    def tell(self) -> None:
        """Tell which files git does not track yet, ignores, or misses."""
        for text in self._files.notes():
            self._messages.note(text)

    def error(self, target: LayerTarget) -> StackbuildError | None:
        """Why `target` cannot be put together, if it cannot."""
        keys = [self._wheel_key(target, item) for item in target.lock.distributions]
        bytecode = [self._wheel_bytecode_key(target, item) for item in target.lock.distributions]
        below = [
            name
            for one in self._below(target)
            for name in (
                *(self._wheel_key(one, item) for item in one.lock.distributions),
                one.part("overlay"),
            )
        ]
        own = [target.part(what) for what in _OWN_PARTS]
        compiler = PartName("compiler", target.layer.runtime)
        return self._workshop.error([*own, compiler, *keys, *bytecode, *below])

    def parts(self, target: LayerTarget) -> Parts:
        """Everything `target` is put together from, after no `error` was found."""
        workshop, items = self._workshop, target.lock.distributions
        compiler = self._compilers.get(target.layer.runtime)
        bytecode = [self._wheel_bytecode_key(target, item) for item in items]
        own = ("overlay bytecode", "modules bytecode")
        return Parts(
            target=target,
            below=self._below(target),
            lower=self._lower(target),
            runtime=self._archive(target),
            interpreter=workshop.get(target.part("interpreter")),
            distributions=workshop.sets(self._wheel_key(target, item) for item in items),
            overlay=workshop.get(target.part("overlay")),
            overwriting=self._overwriting.get(target.part("overlay"), frozenset()),
            modules=workshop.get(target.part("modules")),
            bytecode=workshop.sets([target.part("interpreter bytecode"), *bytecode]),
            own_bytecode=workshop.sets(target.part(what) for what in own),
            compiled_by=compiler.version if compiler else None,
        )


_OWN_PARTS = (
    "runtime",
    "interpreter",
    "interpreter bytecode",
    "overlay",
    "overlay bytecode",
    "modules",
    "modules bytecode",
)


def _own(target: LayerTarget) -> str:
    return f"{target.layer.name} modules"


def _pth_lines(files: Iterable[OverlayFile], layout: Layout) -> tuple[str, ...]:
    """The lines of an overlay's `.pth` files at the top of site-packages."""
    lines: list[str] = []
    for file in files:
        directory, _, name = file.path.rpartition("/")
        if directory == layout.site_packages and name.endswith(".pth"):
            try:
                lines += file.source.read_text(encoding="utf-8-sig").splitlines()
            except (OSError, ValueError) as error:
                raise ComposeError(
                    f"a .pth file of an overlay cannot be read: {error}", file=file.source
                ) from error
    return tuple(lines)
