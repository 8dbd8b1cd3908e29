"""Resolves all stale layers and platforms concurrently.

A layer waits for the layers below it, whose versions are its constraints, and
for its first platform, whose versions it prefers.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from stackbuild.errors import StackbuildError, raise_all
from stackbuild.lock.current import inputs_digest
from stackbuild.lock.files import write_locks
from stackbuild.lock.indexes import index_settings
from stackbuild.lock.model import (
    LayerLock,
    LockedDistribution,
    RuntimeLock,
    VcsSource,
    content_digest,
)
from stackbuild.lock.runtime import lock_runtime
from stackbuild.lock.targets import target_of, unknown_extras
from stackbuild.resolve.explain import Explainer
from stackbuild.resolve.git_sources import Sources
from stackbuild.resolve.layer_resolver import Choice, LayerResolver
from stackbuild.resolve.metadata import Metadata, Sizes
from stackbuild.resolve.problems import ResolveFailure, told
from stackbuild.resolve.request import ResolveRequest
from stackbuild.resolve.siblings import conflict_problem, find_conflicts, hidden, shown
from stackbuild.resolve.source_wheels import Obtainer
from stackbuild.spec.model import LayerKind
from stackbuild.spec.policy import policy_on_chain

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from packaging.utils import NormalizedName
    from packaging.version import Version

    from stackbuild.lock.current import Locks
    from stackbuild.lock.model import Conflict
    from stackbuild.messages import Messages
    from stackbuild.platforms import Platform
    from stackbuild.resolve.metadata import Described
    from stackbuild.resolve.source_wheels import Builder
    from stackbuild.resolve.uv import Uv
    from stackbuild.spec.model import Download, Layer, Stack
    from stackbuild.workspace import Workspace

    Pair = tuple[str, Platform]


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """The versions of the old locks that are not kept."""

    everything: bool = False
    names: Collection[str] = ()
    layers: Collection[str] | None = None
    """The layers to upgrade; None means all of them."""

    def of(self, layer: str) -> Upgrade:
        """The part that concerns the lock of `layer`."""
        return self if self.layers is None or layer in self.layers else Upgrade()

    def __bool__(self) -> bool:
        return self.everything or bool(self.names)

    def kept(self, lock: LayerLock | None) -> dict[NormalizedName, Version]:
        """The versions of `lock` that are preferred."""
        if lock is None or self.everything:
            return {}
        return {
            item.name: item.version for item in lock.distributions if not self.concerns(item.name)
        }

    def concerns(self, name: NormalizedName) -> bool:
        """Whether the distribution `name` is resolved or built again."""
        return self.everything or name in self.names


@dataclass(frozen=True, slots=True)
class _Untried:
    """A layer that was not resolved, because a layer below failed."""


_Outcome = LayerLock | ResolveFailure | _Untried


class StackResolver:
    """One run of `stackbuild lock`."""

    def __init__(
        self,
        stack: Stack,
        workspace: Workspace,
        messages: Messages,
        locks: Locks,
        upgrade: Upgrade,
        *,
        uv: Uv,
        builder: Builder | None = None,
    ) -> None:
        self._stack = stack
        self._workspace = workspace
        self._messages = messages
        self._locks = locks
        self._upgrade = upgrade
        self._uv = uv
        self._sizes = Sizes(workspace, messages)
        self._now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._runtimes: dict[str, RuntimeLock] = {}
        self._sources = Sources()
        self._builder = builder
        self._futures: dict[Pair, Future[_Outcome]] = {}
        self._metadata = Metadata(workspace, messages, self._uv.pages)
        self._explainer = Explainer(uv=self._uv, metadata=self._metadata)
        self._warnings: dict[str, None] = {}
        self._notes: dict[str, None] = {}

    def run(self, pairs: Sequence[tuple[Layer, Platform]]) -> tuple[LayerLock, ...]:
        """The current locks of `pairs`, written unless there are problems."""
        self._lock_runtimes(pairs)
        outcomes = self._resolve_all(pairs)
        failures = [outcome for outcome in outcomes.values() if isinstance(outcome, ResolveFailure)]
        untried = [pair for pair, outcome in outcomes.items() if isinstance(outcome, _Untried)]
        if untried:
            text = ", ".join(f"{layer} on {platform}" for layer, platform in untried)
            self._messages.note(f"not tried, as a layer below failed: {text}")
        raise_all(told(failures))
        for text in self._notes:
            self._messages.note(text)
        for text in self._warnings:
            self._messages.warn(text)
        done = tuple(outcome for outcome in outcomes.values() if isinstance(outcome, LayerLock))
        write_locks(
            self._workspace,
            [lock for name, lock in self._runtimes.items() if lock != self._locks.runtime(name)],
            [lock for lock in done if lock != self._locks.get(lock.layer, lock.platform)],
        )
        return done

    def _lock_runtimes(self, pairs: Sequence[tuple[Layer, Platform]]) -> None:
        errors: list[StackbuildError] = []
        wanted: dict[str, list[Platform]] = {}
        for layer, platform in pairs:
            if layer.kind is LayerKind.RUNTIME:
                wanted.setdefault(layer.name, []).append(platform)
        for name, platforms in wanted.items():
            layer = self._stack.layers[name]

            def trusted(platform: Platform, archive: Download, name: str = name) -> bool:
                lock = self._locks.get(name, platform)
                known = lock is not None and lock.interpreter == archive.sha256
                return known and not self._upgrade.of(name).everything

            try:
                self._runtimes[name] = lock_runtime(
                    layer,
                    self._stack.python_version(layer),
                    platforms,
                    self._locks.runtime(name),
                    trusted,
                )
            except StackbuildError as error:
                errors.append(error)
        raise_all(errors)

    def _resolve_all(self, pairs: Sequence[tuple[Layer, Platform]]) -> dict[Pair, _Outcome]:
        # A task is submitted after those that it waits for, so that the oldest unfinished
        # task never waits for one that has no thread yet.
        with (
            self._messages.task("locking", len(pairs), unit="locks") as task,
            ThreadPoolExecutor(len(pairs)) as pool,
        ):
            for layer, platform in pairs:
                future = pool.submit(self._resolve, layer, platform)
                future.add_done_callback(lambda _: task.advance(1))
                self._futures[layer.name, platform] = future
            return {pair: future.result() for pair, future in self._futures.items()}

    def _resolve(self, layer: Layer, platform: Platform) -> _Outcome:
        lower = []
        for name in layer.lower:
            outcome = self._futures[name, platform].result()
            if not isinstance(outcome, LayerLock):
                return _Untried()
            lower.append(outcome)
        old = self._locks.get(layer.name, platform)
        interpreter = self._interpreter(layer, platform)
        inputs = inputs_digest(self._stack, layer, platform, lower, interpreter)
        try:
            own = self._locks.own(layer, platform, lower)
            if old is not None and old.inputs == inputs and not self._upgrade.of(layer.name):
                return old if old.own == own else self._with_own(old, own)
            conflicts = self._conflicts(layer, platform, lower)
            if conflicts and layer.sibling_conflicts == "error":
                problem = conflict_problem(layer, conflicts)
                return ResolveFailure(layer=layer.name, platform=platform, problem=problem)
            chosen = self._choose(layer, platform, lower)
            if isinstance(chosen, ResolveFailure):
                return chosen
            indexes = index_settings(self._stack, layer)
            files = self._sizes.complete(chosen.own, indexes)
            found = [
                LockedDistribution(
                    name=item.name,
                    version=item.version,
                    wheel=file,
                    index=indexes.name_of(item.name, item.url),
                )
                for item, file in zip(chosen.own, files, strict=True)
            ]
            distributions = tuple(sorted([*found, *chosen.built], key=lambda item: item.name))
            self._check_extras(layer, platform, distributions, lower)
        except StackbuildError as error:
            return ResolveFailure(layer=layer.name, platform=platform, problem=error)
        digest = content_digest(distributions, interpreter, own)
        same = old is not None and old.digest == digest
        return LayerLock(
            layer=layer.name,
            platform=platform,
            python_version=self._stack.python_version(layer),
            requirements=tuple(map(str, layer.requirements_on(platform))),
            inputs=inputs,
            version=(old.version if old else 0) + (not same),
            locked_at=old.locked_at if old and same else self._now,
            distributions=distributions,
            inherited=chosen.inherited,
            digest=digest,
            own=own,
            interpreter=interpreter,
            skipped=chosen.skipped,
            omitted=chosen.omitted,
            conflicts=conflicts,
        )

    def _with_own(self, old: LayerLock, own: str | None) -> LayerLock:
        """`old` with the same distributions, if only the layer's own files changed."""
        return replace(
            old,
            version=old.version + 1,
            locked_at=self._now,
            digest=content_digest(old.distributions, old.interpreter, own),
            own=own,
        )

    def _conflicts(
        self, layer: Layer, platform: Platform, lower: Sequence[LayerLock]
    ) -> tuple[Conflict, ...]:
        found = find_conflicts(self._stack, layer, platform, lower, self._described)
        names = {one.name for one in found}
        for one in hidden(lower):
            if one.name not in names:
                text = f"in {layer.name}, {one}; all requirements on {one.name} are still met"
                self._notes[text] = None
        return found

    def _described(
        self, layer: Layer, items: Sequence[LockedDistribution]
    ) -> dict[NormalizedName, Described]:
        return self._metadata.of(layer.name, items, index_settings(self._stack, layer))

    def _check_extras(
        self,
        layer: Layer,
        platform: Platform,
        own: Sequence[LockedDistribution],
        lower: Sequence[LayerLock],
    ) -> None:
        """Warn of extras that `layer` requires and the distributions do not have."""
        from packaging.utils import canonicalize_name

        items = {
            name: (self._stack.layers[i.layer], item) for name, (i, item) in shown(lower).items()
        }
        items |= {item.name: (layer, item) for item in own}
        for requirement in self._stack.requirements_for(layer, platform):
            owner, item = items.get(canonicalize_name(requirement.name), (None, None))
            if not requirement.extras or owner is None or item is None:
                continue
            known = self._described(owner, [item])[item.name].extras
            if absent := unknown_extras(requirement, known):
                has = f"; it has {', '.join(sorted(known))}" if known else ""
                text = f"{layer.name} requires {requirement}, but {item.name} {item.version} has no"
                self._warnings[f"{text} extra {', '.join(absent)}{has}"] = None

    def _choose(
        self, layer: Layer, platform: Platform, lower: Sequence[LayerLock]
    ) -> Choice | ResolveFailure:
        """Resolve the layer: its own distributions, and those of the layers below."""
        for text in _brought(layer, platform, lower):
            self._warnings[text] = None
        requirements = self._stack.requirements_for(layer, platform)
        if not requirements:
            return Choice()
        old = self._locks.get(layer.name, platform)
        upgrade = self._upgrade.of(layer.name)
        request = ResolveRequest(
            layer=layer.name,
            requirements=tuple(map(str, requirements)),
            target=target_of(layer, platform, self._stack.python_version(layer)),
            indexes=index_settings(self._stack, layer),
            constraints=_pins(lower),
            preferences={**upgrade.kept(old), **self._first_platform(layer, platform)},
            refresh=bool(upgrade),
        )
        obtainer = Obtainer(
            workspace=self._workspace,
            sizes=self._sizes,
            builder=self._builder,
            layer=layer,
            target=request.target,
            indexes=request.indexes,
            runtime=self._runtimes[layer.runtime],
            old={item.name: item for item in old.distributions} if old else {},
            renewed=upgrade,
            preferences=request.constraints,
        )

        def choose(request: ResolveRequest) -> Choice | ResolveFailure:
            return LayerResolver(
                uv=self._uv,
                explainer=self._explainer,
                obtain=obtainer.obtain,
                layer=layer,
                policy=policy_on_chain(self._stack, layer, platform),
                commits={
                    item.name: item.source
                    for item in (old.distributions if old else ())
                    if isinstance(item.source, VcsSource) and not upgrade.concerns(item.name)
                },
                lower=lower,
                sources=self._sources,
            ).choose(request)

        choice = choose(request)
        if isinstance(choice, Choice) and _has_replaced_files(choice, old) and not upgrade:
            # uv may have cached the metadata of the replaced files.
            return choose(replace(request, refresh=True))
        return choice

    def _first_platform(self, layer: Layer, platform: Platform) -> dict[NormalizedName, Version]:
        """The versions on the layer's first platform; none if that is `platform`.

        The other platforms wait for it. So they get the same versions if possible,
        and find the pages of the indexes in uv's cache.
        """
        for first in layer.platforms:
            if first == platform:
                break
            if future := self._futures.get((layer.name, first)):
                outcome = future.result()
                lock = outcome if isinstance(outcome, LayerLock) else None
                return {item.name: item.version for item in lock.distributions} if lock else {}
            if lock := self._locks.get(layer.name, first):
                return self._upgrade.of(layer.name).kept(lock)
        return {}

    def _interpreter(self, layer: Layer, platform: Platform) -> str | None:
        if layer.kind is not LayerKind.RUNTIME:
            return None
        archive = self._runtimes[layer.name].archives.get(platform)
        return archive.sha256 if archive else None


def _pins(lower: Sequence[LayerLock]) -> dict[NormalizedName, Version]:
    """The versions of the layers below; the nearest layer has priority, as on import."""
    pins: dict[NormalizedName, Version] = {}
    for lock in lower:
        for item in lock.distributions:
            pins.setdefault(item.name, item.version)
    return pins


def _has_replaced_files(choice: Choice, old: LayerLock | None) -> bool:
    """Whether a file of `choice` has the name of one in `old`, but other contents."""
    known = {item.wheel.name: item.wheel.sha256 for item in old.distributions} if old else {}
    return any(
        item.sha256 and item.sha256 != known.get(item.file, item.sha256) for item in choice.own
    )


def _brought(layer: Layer, platform: Platform, lower: Sequence[LayerLock]) -> Iterator[str]:
    """Warnings for skips of `layer` that a lower layer makes ineffective."""
    for lock in reversed(lower):
        for item in lock.distributions:
            if item.name in layer.policy(platform).skip:
                yield f"{layer.name} on {platform} cannot skip {item.name}: it is in {lock.layer}"
