"""Whether the committed locks are current; takes milliseconds and does not run uv.

A lock is current while the digest of its inputs is the same.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.errors import LockError, StackbuildError, raise_all
from stackbuild.files import is_inside, sha256_file
from stackbuild.layout import layout_for
from stackbuild.lock.added import sums_of_added
from stackbuild.lock.files import (
    is_ours,
    lock_path,
    read_lock,
    read_runtime_lock,
    runtime_lock_path,
)
from stackbuild.lock.inputs import inputs_of
from stackbuild.lock.model import StaleLock
from stackbuild.lock.projects import OwnProjects
from stackbuild.lock.runtime import is_current
from stackbuild.lock.targets import target_of
from stackbuild.names import layer_directory
from stackbuild.project.files import project_files
from stackbuild.spec.model import LayerKind
from stackbuild.spec.sources import direct_files
from stackbuild.strictjson import digest_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from stackbuild.lock.model import LayerLock, LockedFile, RuntimeLock
    from stackbuild.platforms import Platform
    from stackbuild.spec.model import Layer, Stack
    from stackbuild.workspace import Workspace


class Locks:
    """The committed locks of a stack, each read once. Thread-safe."""

    def __init__(self, stack: Stack, workspace: Workspace) -> None:
        self.stack = stack
        self._workspace = workspace
        self._layers: dict[tuple[str, Platform], LayerLock | None] = {}
        self._runtimes: dict[str, RuntimeLock | None] = {}
        versioned = (layer for layer in stack.layers.values() if layer.versioned)
        self._files = project_files(workspace.project, workspace.overlays, versioned)
        self.projects = OwnProjects(self._files)
        self._sums: dict[Path, str] = {}

    def get(self, layer: str, platform: Platform) -> LayerLock | None:
        """The lock of a layer; None if there is none. Raises LockError for a damaged one."""
        if (layer, platform) not in self._layers:
            path = self._checked(lock_path(self._workspace, layer, platform))
            self._layers[layer, platform] = read_lock(path) if path.exists() else None
        return self._layers[layer, platform]

    def runtime(self, layer: str) -> RuntimeLock | None:
        """The archives of a runtime; None if they were never locked."""
        if layer not in self._runtimes:
            path = self._checked(runtime_lock_path(self._workspace, layer))
            there = path.exists()
            self._runtimes[layer] = read_runtime_lock(self._workspace, layer) if there else None
        return self._runtimes[layer]

    def _checked(self, path: Path) -> Path:
        """`path`. Raises LockError if it is outside of the project."""
        if is_inside(path, self._workspace.project):
            return path
        raise LockError(
            "the directory of locks leads out of the project through a link",
            file=path,
            expected=f"a file in {self._workspace.project}",
            found=os.path.realpath(path),
            remedy="replace the link by a directory",
        )

    def own(self, layer: Layer, platform: Platform, lower: Sequence[LayerLock]) -> str | None:
        """The current digest of a versioned layer's own files (`LayerLock.own`).

        These are its launch module, support modules, overlays and variables, the wheels of the
        layers below if it has them as files, and the directories of the layers below, whose names
        contain their versions; `lower` are the locks of these. None for other layers. Raises
        ComposeError for files that cannot be published.
        """
        if not layer.versioned:
            return None
        from stackbuild.project.modules import module_sources
        from stackbuild.project.overlays import overlay_files

        layout = layout_for(platform, self.stack.python_version(layer))
        modules = module_sources(layer, platform, self._files)
        copied = overlay_files(layer, platform, layout, self._workspace.overlays, self._files)
        policy = layer.policy(platform)
        variables = {name: asdict(variable) for name, variable in policy.environment.items()}
        packed = sorted(item.wheel.sha256 for lock in lower for item in lock.distributions)
        return digest_of(
            {
                "modules": [[name, sha256_file(path)] for name, path in sorted(modules.items())],
                "overlays": [[file.path, file.kind, file.digest()] for file in copied],
                "below": [
                    layer_directory(lock.layer, lock.version if lock.own else None)
                    for lock in lower
                ],
                **({"environment": variables} if variables else {}),
                **({"exclude-files": excluded} if (excluded := policy.exclude_files) else {}),
                **({"packages": packed} if policy.packages else {}),
            }
        )

    def read_all(self, pairs: Iterable[tuple[Layer, Platform]]) -> None:
        """Read the locks of `pairs`; raises one LockError for all that are damaged."""
        errors: list[StackbuildError] = []
        for layer, platform in pairs:
            try:
                self.get(layer.name, platform)
                if layer.kind is LayerKind.RUNTIME:
                    self.runtime(layer.name)
            except LockError as error:
                if str(error) not in map(str, errors):
                    errors.append(error)
        raise_all(errors)

    def staleness(self, layer: Layer, platform: Platform) -> str | None:
        """Why the lock of `layer` is stale; None if it is current."""
        lock = self.get(layer.name, platform)
        if lock is None:
            return "not locked"
        python = self.stack.python_version(layer)
        if lock.python_version != python:
            return f"locked for Python {lock.python_version}, the spec requires {python}"
        if sorted(lock.requirements) != sorted(map(str, layer.requirements_on(platform))):
            return "its requirements changed"
        if layer.kind is LayerKind.RUNTIME and not self._has_interpreter(layer, lock):
            return "its interpreter changed"
        present = [item for name in layer.lower if (item := self.get(name, platform))]
        reason = self._other_inputs(layer, lock, present) or self.news(layer, lock)
        if not reason and lock.own != self.own(layer, platform, present):
            reason = "its modules, overlays, variables, `exclude-files` or a version below changed"
        return reason

    def _other_inputs(
        self, layer: Layer, lock: LayerLock, lower: Sequence[LayerLock]
    ) -> str | None:
        """Which inputs differ from those of `lock`, if one does; `lower` are the locks below."""
        if len(lower) < len(layer.lower):
            return "a layer below is not locked"
        inputs = inputs_of(self.stack, layer, lock.platform, lower, lock.interpreter)
        if lock.inputs == inputs.digest:
            return None
        return f"{(lock.parts and inputs.changed_since(lock.parts)) or _ANY} changed"

    def news(self, layer: Layer, lock: LayerLock) -> str | None:
        """What changed in the repository or the wheelhouse since `lock` was made, if anything did.

        These are projects and files of the repository that the layer requires, wheels in the
        directories of `local-wheels`, and added wheels of distributions that the lock omits.
        """
        changed = self.projects.changed(lock, direct_files(self.stack, layer))
        if changed := [*changed, *self._replaced_wheels(lock)]:
            return f"{', '.join(changed)} changed"
        if not lock.omitted:
            return None
        target = target_of(layer, lock.platform, lock.python_version)
        for item in lock.omitted:
            if sums_of_added(self._workspace.wheelhouse, [item.name], target) - {*lock.tried}:
                return f"a wheel of {item.name}, which it omits, was added"
        return None

    def _replaced_wheels(self, lock: LayerLock) -> Iterator[str]:
        """The wheels of `local-wheels` that have the name of a locked one, but other contents."""
        for item in lock.distributions:
            places = [Path(text) / item.wheel.name for text in self.stack.local_wheels]
            there = [path for path in places if (self.stack.directory / path).is_file()]
            if item.source is None and there and not any(self._is(item.wheel, it) for it in there):
                yield there[0].as_posix()

    def _is(self, file: LockedFile, path: Path) -> bool:
        """Whether `file` is the one at `path`, relative to the spec."""
        path = self.stack.directory / path
        if path.stat().st_size != file.size:
            return False
        if path not in self._sums:
            self._sums[path] = sha256_file(path)
        return self._sums[path] == file.sha256

    def _has_interpreter(self, layer: Layer, lock: LayerLock) -> bool:
        """Whether `lock` of a runtime was made with the current archive."""
        archives = self.runtime(layer.name)
        python = self.stack.python_version(layer)
        if archives is None or not is_current(layer, python, lock.platform, archives):
            return False
        archive = archives.archives.get(lock.platform)
        return lock.interpreter == (archive.sha256 if archive else None)


_ANY = "its policy, a layer below, a package index, the target or the way of resolving"
"""If the lock does not name its inputs, or none of those it names."""


def load_locks(
    stack: Stack,
    workspace: Workspace,
    pairs: Iterable[tuple[Layer, Platform]],
    *,
    otherwise: str | None = None,
) -> dict[tuple[str, Platform], LayerLock]:
    """The locks of `pairs` and of the layers below them, by layer and platform.

    Raises one LockError for all that are missing, stale or damaged; `otherwise` is what else
    its remedy says.
    """
    wanted = {
        (member.name, platform): member
        for layer, platform in pairs
        for member in reversed(stack.chain(layer))
    }
    locks = Locks(stack, workspace)
    members = [(layer, platform) for (_, platform), layer in wanted.items()]
    locks.read_all(members)
    stale = find_stale(locks, members)
    if stale:
        # Without --platform, `lock` uses the platforms of the stack only.
        others = {item.platform for item in stale} - set(stack.platforms)
        platforms = dict.fromkeys(item.platform for item in stale) if others else ()
        words = ["stackbuild lock", *(f"--platform {platform}" for platform in platforms)]
        raise LockError(
            "locks are missing or stale",
            file=stack.path,
            found="; ".join(describe(stale)),
            remedy="; ".join(filter(None, (f"run `{' '.join(words)}`", otherwise))),
        )
    found = {(name, platform): locks.get(name, platform) for name, platform in wanted}
    return {pair: lock for pair, lock in found.items() if lock is not None}


def find_stale(locks: Locks, pairs: Iterable[tuple[Layer, Platform]]) -> tuple[StaleLock, ...]:
    """The `pairs` whose lock is missing or stale, in their order."""
    return tuple(
        StaleLock(layer=layer.name, platform=platform, reason=reason)
        for layer, platform in pairs
        if (reason := locks.staleness(layer, platform)) is not None
    )


def describe(stale: Sequence[StaleLock]) -> list[str]:
    """`layer on its platforms: reason`, a line for each layer and reason."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for item in stale:
        grouped.setdefault((item.layer, item.reason), []).append(str(item.platform))
    return [
        f"{layer} on {', '.join(platforms)}: {reason}"
        for (layer, reason), platforms in grouped.items()
    ]


def find_orphaned_locks(stack: Stack, workspace: Workspace) -> tuple[Path, ...]:
    """The lock files of layers and platforms that the stack no longer has, sorted."""
    wanted = {lock_path(workspace, layer.name, platform) for layer, platform in stack.pairs()}
    wanted |= {
        runtime_lock_path(workspace, layer.name)
        for layer in stack.layers.values()
        if layer.kind is LayerKind.RUNTIME
    }
    found = {*workspace.layers.glob("*/pylock.*.toml"), *workspace.layers.glob("*/runtime.toml")}
    project = workspace.project
    return tuple(
        path for path in sorted(found - wanted) if is_inside(path, project) and is_ours(path)
    )


def remove_locks(paths: Iterable[Path]) -> None:
    """Remove the files, and the directories that become empty."""
    for path in paths:
        path.unlink()
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
