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
from stackbuild.compose.head import Place, directory_name, module_files
from stackbuild.compose.parts import Failure, Member, PartName, Parts
from stackbuild.compose.wheels import Wanted, fetch_missing
from stackbuild.compose.workshop import Workshop
from stackbuild.errors import ComposeError, StackbuildError
from stackbuild.frames.bytecode import bytecode_key, bytecode_set
from stackbuild.frames.files import files_set
from stackbuild.frames.interpreter import interpreter_set
from stackbuild.frames.model import FrameKind, FrameSet
from stackbuild.frames.overlay import overlay_set
from stackbuild.frames.sources import ArchiveSources, MemorySources, WheelSources
from stackbuild.frames.wheel import wheel_key, wheel_set
from stackbuild.layout import layout_for
from stackbuild.lock.files import read_runtime_lock
from stackbuild.project.files import project_files
from stackbuild.project.modules import module_sources
from stackbuild.project.overlays import overlay_files
from stackbuild.runtimes.compiler import bytecode_interpreter
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
) -> tuple[list[Parts], list[Failure]]:
    """The parts of every layer of `pairs`, and the layers whose parts cannot be had.

    `locks` has the locks of `pairs` and of all layers below them; frames are
    made as `stack.frames` says.
    """
    gathering = _Gathering(stack, pairs, locks, cache, workspace, messages)
    asked = [gathering.member(*pair) for pair in pairs]
    gathering.provide(asked)
    able = [member for member in asked if gathering.error(member) is None]
    gathering.make_contents(able)
    gathering.make_modules(able)
    gathering.tell()
    parts, failures = [], []
    for member in asked:
        error = gathering.error(member)
        if error:
            failures.append(Failure(layer=member.layer.name, platform=member.platform, error=error))
        else:
            parts.append(gathering.parts(member))
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
        self._workshop = Workshop(workspace.jobs, messages)
        self._members: dict[tuple[str, Platform], Member] = {}
        self._archives: dict[Platform, dict[str, RuntimeArchive]] = {}
        self._compilers: dict[str, Interpreter] = {}
        layers = {one.name: one for layer, _ in pairs for one in stack.chain(layer)}
        self._files = project_files(workspace.project, workspace.overlays, layers.values())
        self._overwriting: dict[PartName, frozenset[str]] = {}
        self._overlay_pth: dict[PartName, tuple[str, ...]] = {}

    def member(self, layer: Layer, platform: Platform) -> Member:
        """`layer` on `platform`, with its lock."""
        pair = (layer.name, platform)
        if pair not in self._members:
            lock = self._locks[pair]
            self._members[pair] = Member(
                layer=layer,
                platform=platform,
                layout=layout_for(platform, lock.python_version),
                lock=lock,
                directory=directory_name(layer, lock),
            )
        return self._members[pair]

    def _below(self, member: Member) -> tuple[Member, ...]:
        layers = (self._stack.layers[name] for name in member.layer.lower)
        return tuple(self.member(layer, member.platform) for layer in layers)

    # Interpreters: those that are packed, and those that compile.

    def provide(self, asked: Sequence[Member]) -> None:
        """Get the interpreters that are needed."""
        for member in asked:
            if member.layer.kind is LayerKind.RUNTIME:
                self._workshop.attempt([member.part("runtime")], partial(self._provide, member))
        if self._stack.frames.bytecode:
            for runtime in dict.fromkeys(member.layer.runtime for member in asked):
                name = PartName("compiler", runtime)
                self._workshop.attempt([name], partial(self._provide_compiler, runtime))

    def _provide(self, member: Member) -> None:
        name = member.layer.name
        self._archives.setdefault(member.platform, {})[name] = provide_runtime(
            self._stack,
            member.layer,
            member.platform,
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

    def _archive(self, member: Member) -> RuntimeArchive | None:
        return self._archives.get(member.platform, {}).get(member.layer.name)

    # What the layers hold.

    def make_contents(self, asked: Sequence[Member]) -> None:
        """Make the frames of `asked`, and those below whose scripts and `.pth` lines count."""
        members = {
            (one.layer.name, one.platform): one
            for member in asked
            for one in (member, *self._below(member))
        }
        jobs = self._wheel_jobs(tuple(members.values()), asked)
        for member in asked:
            jobs |= self._interpreter_jobs(member)
        for member in members.values():
            jobs |= self._overlay_jobs(member)
        self._workshop.make(jobs)

    def _wheel_jobs(self, members: Sequence[Member], asked: Sequence[Member]) -> Jobs:
        """The frames of wheels, for `asked` their bytecode too.

        Only wheels that the cache has not all frames of are fetched.
        """
        wanted = [
            Wanted(member, item, self._wheel_key(member, item), bytecode)
            for member in members
            for item in member.lock.distributions
            for bytecode in [self._wheel_bytecode_key(member, item) if member in asked else None]
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
                one.member.layout,
                self._stack.frames,
                self._cache,
                machine=one.member.platform.machine,
            )
            if one.bytecode:
                sources = self._wheel_sources(one.member, wheels[sha256], sha256)
                jobs[one.bytecode] = self._bytecode_job(one.member, sources)
        return jobs

    def _wheel_key(self, member: Member, item: LockedDistribution) -> str:
        settings, machine = self._stack.frames, member.platform.machine
        return wheel_key(item.wheel.sha256, member.layout, settings, machine=machine)

    def _wheel_bytecode_key(self, member: Member, item: LockedDistribution) -> str | None:
        sources = self._wheel_sources(member, Path(item.wheel.name), item.wheel.sha256)
        return self._bytecode_key(member, sources)

    @staticmethod
    def _wheel_sources(member: Member, wheel: Path, sha256: str) -> WheelSources:
        return WheelSources(wheel=wheel, sha256=sha256, layout=member.layout)

    def _is_cached(self, keys: Sequence[str]) -> bool:
        for key in keys:
            if key not in self._workshop:
                found = self._cache.get(key)
                if not found:
                    return False
                self._workshop.put(key, found)
        return True

    def _interpreter_jobs(self, member: Member) -> Jobs:
        archive = self._archive(member)
        if archive is None:
            return {}
        keep = (member.layer.runtime_settings or RuntimeSettings()).keep
        jobs: Jobs = {
            member.part("interpreter"): partial(
                interpreter_set, archive, member.layout, keep, self._stack.frames, self._cache
            )
        }
        if self._stack.frames.bytecode:
            sources = ArchiveSources(archive=archive, layout=member.layout, keep=keep)
            jobs[member.part("interpreter bytecode")] = self._bytecode_job(member, sources)
        return jobs

    def _overlay_jobs(self, member: Member) -> Jobs:
        if not member.layer.overlays(member.platform):
            return {}
        layer, overlays = member.layer, self._workspace.overlays
        name = member.part("overlay")
        read = partial(overlay_files, layer, member.platform, member.layout, overlays, self._files)
        files = self._workshop.attempt([name], read)
        if not files:
            return {}
        self._overwriting[name] = frozenset(file.path for file in files if file.overwrite)
        lines = self._workshop.attempt([name], partial(_pth_lines, files, member.layout))
        self._overlay_pth[name] = lines or ()
        return {name: partial(overlay_set, layer.name, files, self._stack.frames, self._cache)}

    # What is made of what the layers hold.

    def make_modules(self, asked: Sequence[Member]) -> None:
        """Make the layers' own modules, and the bytecode of these and of overlays."""
        jobs: Jobs = {}
        for member in asked:
            if self.error(member):
                continue
            name = member.part("modules")
            files = self._workshop.attempt([name], partial(self._module_files, member))
            sources: dict[str, Sources] = {}
            if files:
                jobs[name] = partial(
                    files_set, FrameKind.HEAD, _own(member), files, self._stack.frames, self._cache
                )
                contents = {path: file.data for path, file in files.items()}
                sources["modules"] = MemorySources(subject=_own(member), files=contents)
            overlay = self._workshop.get(member.part("overlay"))
            if overlay:
                sources["overlay"] = FrameSources(frame_set=overlay)
            if self._stack.frames.bytecode:
                for what, source in sources.items():
                    job = self._bytecode_job(member, source)
                    jobs[member.part(f"{what} bytecode")] = job
        self._workshop.make(jobs)

    def _module_files(self, member: Member) -> dict[str, FileContent]:
        replaced = self._overwriting.get(member.part("overlay"), ())
        sources = module_sources(member.layer, member.platform, self._files)
        files = module_files(member.layer, member.layout, self._lower(member), sources)
        return {path: content for path, content in files.items() if path not in replaced}

    def _lower(self, member: Member) -> tuple[Place, ...]:
        return tuple(
            Place(
                layer=below.layer,
                directory=below.directory,
                sets=self._visible(below),
                overlay_pth=self._overlay_pth.get(below.part("overlay"), ()),
            )
            for below in self._below(member)
        )

    def _visible(self, member: Member) -> tuple[FrameSet, ...]:
        """What the layers above see of `member`; not of its interpreter, which may be missing."""
        keys = [self._wheel_key(member, item) for item in member.lock.distributions]
        return self._workshop.sets([*keys, member.part("overlay")])

    def _bytecode_key(self, member: Member, sources: Sources) -> str | None:
        compiler = self._compilers.get(member.layer.runtime)
        if compiler is None:
            return None
        return bytecode_key(sources, compiler, member.layout, self._stack.frames)

    def _bytecode_job(self, member: Member, sources: Sources) -> Callable[[], FrameSet]:
        compiler = self._compilers[member.layer.runtime]
        return partial(
            bytecode_set, sources, compiler, member.layout, self._stack.frames, self._cache
        )

    # What came of it.

    def tell(self) -> None:
        """Tell which files git does not track yet, ignores, or misses."""
        for text in self._files.notes():
            self._messages.note(text)

    def error(self, member: Member) -> StackbuildError | None:
        """Why `member` cannot be put together, if it cannot."""
        keys = [self._wheel_key(member, item) for item in member.lock.distributions]
        bytecode = [self._wheel_bytecode_key(member, item) for item in member.lock.distributions]
        below = [
            name
            for one in self._below(member)
            for name in (
                *(self._wheel_key(one, item) for item in one.lock.distributions),
                one.part("overlay"),
            )
        ]
        own = [member.part(what) for what in _OWN_PARTS]
        compiler = PartName("compiler", member.layer.runtime)
        return self._workshop.error([*own, compiler, *keys, *bytecode, *below])

    def parts(self, member: Member) -> Parts:
        """Everything `member` is put together from, after no `error` was found."""
        workshop, items = self._workshop, member.lock.distributions
        compiler = self._compilers.get(member.layer.runtime)
        bytecode = [self._wheel_bytecode_key(member, item) for item in items]
        own = ("overlay bytecode", "modules bytecode")
        return Parts(
            member=member,
            below=self._below(member),
            lower=self._lower(member),
            runtime=self._archive(member),
            interpreter=workshop.get(member.part("interpreter")),
            distributions=workshop.sets(self._wheel_key(member, item) for item in items),
            overlay=workshop.get(member.part("overlay")),
            overwriting=self._overwriting.get(member.part("overlay"), frozenset()),
            modules=workshop.get(member.part("modules")),
            bytecode=workshop.sets([member.part("interpreter bytecode"), *bytecode]),
            own_bytecode=workshop.sets(member.part(what) for what in own),
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


def _own(member: Member) -> str:
    return f"{member.layer.name} modules"


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
