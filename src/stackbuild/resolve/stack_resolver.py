"""Resolves all stale layers and platforms concurrently.

A layer waits for the layers below it, whose versions are its constraints, and
for its first platform, whose versions it prefers.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from stackbuild.errors import StackbuildError, raise_all
from stackbuild.lock.added import sums_of_added
from stackbuild.lock.files import write_locks
from stackbuild.lock.indexes import index_settings
from stackbuild.lock.inputs import inputs_of
from stackbuild.lock.model import (
    LayerLock,
    LockedDistribution,
    RuntimeLock,
    content_digest,
    imported,
)
from stackbuild.lock.runtime import NoArchiveError, lock_runtime
from stackbuild.lock.targets import target_of
from stackbuild.lock.venvstacks_locks import beginning
from stackbuild.resolve.explain import Explainer
from stackbuild.resolve.git_sources import GitCommits
from stackbuild.resolve.inheritance import ineffective_exclusions, not_in_indexes, unknown_extras_of
from stackbuild.resolve.layer_resolver import Choice, LayerResolver
from stackbuild.resolve.metadata import Metadata
from stackbuild.resolve.problems import ResolveError, errors_of
from stackbuild.resolve.request import ResolveRequest
from stackbuild.resolve.siblings import conflict_problem, find_conflicts, hidden
from stackbuild.resolve.source_wheels import SourceWheels, Upgrade, added_candidates
from stackbuild.spec.model import LayerKind
from stackbuild.spec.policy import policy_on_chain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from packaging.utils import NormalizedName
    from packaging.version import Version

    from stackbuild.lock.current import Locks
    from stackbuild.lock.model import Conflict
    from stackbuild.lock.venvstacks_locks import Beginning, VenvstacksLock
    from stackbuild.messages import Messages
    from stackbuild.platforms import Platform
    from stackbuild.resolve.build_orders import Builder
    from stackbuild.resolve.request import CoreMetadata
    from stackbuild.resolve.uv import Uv
    from stackbuild.spec.model import Download, Layer, Stack
    from stackbuild.workspace import Workspace

    Pair = tuple[str, Platform]


_Outcome: TypeAlias = "LayerLock | ResolveError | None"
"""None for a layer that was not resolved, because a layer below failed."""


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
        venvstacks: Mapping[str, VenvstacksLock] | None = None,
    ) -> None:
        """`venvstacks` are locks by layer; those of stackbuild that are missing start from them."""
        self._venvstacks = venvstacks or {}
        self._stack = stack
        self._workspace = workspace
        self._messages = messages
        self._locks = locks
        self._upgrade = upgrade
        self._uv = uv
        self._now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._runtimes: dict[str, RuntimeLock] = {}
        self._without_archive: dict[Pair, NoArchiveError] = {}
        self._commits = GitCommits()
        self._builder = builder
        self._futures: dict[Pair, Future[_Outcome]] = {}
        self._metadata = Metadata(workspace, messages, self._uv.pages)
        self._explainer = Explainer(uv=self._uv, metadata=self._metadata)
        self._warnings: dict[str, None] = {}
        self._notes: dict[str, None] = {}

    def run(self, pairs: Sequence[tuple[Layer, Platform]]) -> tuple[LayerLock, ...]:
        """The current locks of `pairs`, written.

        If there are problems, they are raised after the locks of the layers without any are
        written. A layer is only written with all its platforms and all layers below it.
        """
        self._lock_runtimes(pairs)
        outcomes = self._resolve_all(pairs)
        failures = [outcome for outcome in outcomes.values() if isinstance(outcome, ResolveError)]
        untried = [pair for pair, outcome in outcomes.items() if outcome is None]
        if untried:
            text = ", ".join(f"{layer} on {platform}" for layer, platform in untried)
            self._messages.note(f"not tried, as a layer below failed: {text}")
        for text in self._notes:
            self._messages.note(text)
        for text in self._warnings:
            self._messages.warn(text)
        done = tuple(outcome for outcome in outcomes.values() if isinstance(outcome, LayerLock))
        failed = {failure.layer for failure in failures} | {layer for layer, _ in untried}
        kept = {
            layer.name for layer, _ in pairs if not failed.isdisjoint({layer.name, *layer.lower})
        }
        before = {(one.name, on): self._locks.get(one.name, on) for one, on in pairs}
        new = [
            lock
            for lock in done
            if lock.layer not in kept and lock != before[lock.layer, lock.platform]
        ]
        write_locks(
            self._workspace,
            [
                lock
                for name, lock in self._runtimes.items()
                if name not in kept and lock != self._locks.runtime(name)
            ],
            new,
        )
        if failures:
            written = ", ".join(dict.fromkeys(lock.layer for lock in new))
            former = {name for (name, _), lock in before.items() if lock and name in kept}
            unchanged = ", ".join(layer for layer in self._stack.layers if layer in former)
            text = f"wrote the locks of {written}" if written else "wrote no locks"
            more = f"; unchanged are those of {unchanged}" if unchanged else ""
            self._messages.note(text + more)
        raise_all(errors_of(failures))
        return done

    def _lock_runtimes(self, pairs: Sequence[tuple[Layer, Platform]]) -> None:
        runtimes = {layer.name: layer for layer, _ in pairs if layer.kind is LayerKind.RUNTIME}
        for name, layer in runtimes.items():

            def trusted(platform: Platform, archive: Download, name: str = name) -> bool:
                lock = self._locks.get(name, platform)
                known = lock is not None and lock.interpreter == archive.sha256
                return known and not self._upgrade.of(name).everything

            def lock(platforms: Sequence[Platform], layer: Layer = layer) -> RuntimeLock:
                return lock_runtime(
                    layer,
                    self._stack.python_version(layer),
                    platforms,
                    self._locks.runtime(layer.name),
                    trusted,
                    self._stack,
                )

            platforms = [platform for one, platform in pairs if one.name == name]
            try:
                self._runtimes[name] = lock(platforms)
            except NoArchiveError as error:
                self._without_archive |= {(name, one): error for one in error.platforms}
                self._runtimes[name] = lock([p for p in platforms if p not in error.platforms])

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
        below = [self._futures[name, platform].result() for name in layer.lower]
        lower = [lock for lock in below if isinstance(lock, LayerLock)]
        if len(lower) < len(below):
            return None
        try:
            return self._locked(layer, platform, lower)
        except ResolveError as failure:
            return failure
        except StackbuildError as error:
            return ResolveError(layer.name, platform, error)

    def _locked(self, layer: Layer, platform: Platform, lower: Sequence[LayerLock]) -> LayerLock:
        """The current lock of `layer`. Raises ResolveError, StackbuildError."""
        old = self._locks.get(layer.name, platform)
        archive = None
        if layer.kind is LayerKind.RUNTIME:
            if error := self._without_archive.get((layer.name, platform)):
                raise error
            archive = self._runtimes[layer.name].archives.get(platform)
        interpreter = archive.sha256 if archive else None
        inputs = inputs_of(self._stack, layer, platform, lower, interpreter)
        own = self._locks.own(layer, platform, lower)
        is_kept = (
            old is not None and old.inputs == inputs.digest and not self._upgrade.of(layer.name)
        )
        if old is not None and is_kept and not self._locks.news(layer, old):
            return old if old.own == own else self._with_own(old, own)
        conflicts = self._conflicts(layer, platform, lower)
        if conflicts and layer.sibling_conflicts == "error":
            raise ResolveError(layer.name, platform, conflict_problem(layer, conflicts))
        chosen = self._choose(layer, platform, lower)
        indexes = index_settings(self._stack, layer, platform)
        found = [
            LockedDistribution(
                name=item.name,
                version=item.version,
                wheel=file,
                index=indexes.name_of(item.name, item.url),
            )
            for item, file in zip(
                chosen.own, self._metadata.files(chosen.own, indexes), strict=True
            )
        ]
        distributions = tuple(sorted([*found, *chosen.built], key=lambda item: item.name))
        metadata_of = partial(self._metadata_of, platform)
        for text in unknown_extras_of(
            self._stack, layer, platform, distributions, lower, metadata_of
        ):
            self._warnings[text] = None
        digest = content_digest(distributions, interpreter, own)
        same = old is not None and old.digest == digest
        if old is None:
            before, since, _ = self._begin(layer, platform, distributions, lower)
        else:
            before, since = old.version, old.locked_at if same else None
        return LayerLock(
            layer=layer.name,
            platform=platform,
            python_version=self._stack.python_version(layer),
            requirements=tuple(map(str, layer.requirements_on(platform))),
            inputs=inputs.digest,
            parts=inputs.parts,
            version=before + (not same),
            locked_at=since or self._now,
            distributions=distributions,
            inherited=chosen.inherited,
            digest=digest,
            own=own,
            interpreter=interpreter,
            skipped=chosen.skipped,
            omitted=chosen.omitted,
            tried=self._tried(layer, platform, chosen),
            conflicts=conflicts,
        )

    def _tried(self, layer: Layer, platform: Platform, chosen: Choice) -> tuple[str, ...]:
        """The added wheels of what `layer` omits."""
        target = target_of(layer, platform, self._stack.python_version(layer))
        names = [item.name for item in chosen.omitted]
        return tuple(sorted(sums_of_added(self._workspace.wheelhouse, names, target)))

    def _begin(
        self,
        layer: Layer,
        platform: Platform,
        distributions: Sequence[LockedDistribution],
        lower: Sequence[LayerLock],
    ) -> Beginning:
        """What the first lock of `layer` takes over from venvstacks."""
        target = target_of(layer, platform, self._stack.python_version(layer))
        found = beginning(self._venvstacks, layer.name, target, distributions, lower)
        if found.differences:
            text = f"{layer.name} on {platform} differs from its lock of venvstacks: "
            self._notes[text + "; ".join(found.differences)] = None
        return found

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
        found = find_conflicts(
            self._stack, layer, platform, lower, partial(self._metadata_of, platform)
        )
        names = {one.name for one in found}
        for name, text in hidden(lower):
            if name not in names:
                note = f"in {layer.name}, {text}; all requirements on {name} are still met"
                self._notes[note] = None
        return found

    def _metadata_of(
        self, platform: Platform, layer: Layer, items: Sequence[LockedDistribution]
    ) -> dict[NormalizedName, CoreMetadata]:
        return self._metadata.of(layer.name, items, index_settings(self._stack, layer, platform))

    def _choose(self, layer: Layer, platform: Platform, lower: Sequence[LayerLock]) -> Choice:
        """Resolve the layer: its own distributions, and those of the layers below."""
        for text in ineffective_exclusions(layer, platform, lower):
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
            indexes=index_settings(self._stack, layer, platform),
            constraints={name: item.version for name, (_, item) in imported(lower).items()},
            preferences=self._preferences(layer, platform),
            refresh=bool(upgrade),
        )
        policy = policy_on_chain(self._stack, layer, platform)
        added = added_candidates(self._workspace.wheelhouse, request, policy, self._uv.pages)
        request = replace(request, added=added)
        for_newer = not_in_indexes(
            self._stack, request.target, lower, partial(self._metadata_of, platform)
        )
        wheels = SourceWheels(
            workspace=self._workspace,
            metadata=self._metadata,
            builder=self._builder,
            layer=layer,
            request=request,
            runtime=self._runtimes[layer.runtime],
            old=old,
            upgrade=upgrade,
        )

        def choose(request: ResolveRequest) -> Choice:
            return LayerResolver(
                uv=self._uv,
                explainer=self._explainer,
                wheels=wheels,
                layer=layer,
                policy=policy,
                lower=lower,
                commits=self._commits,
                projects=self._locks.projects,
                sources=self._stack.sources,
                for_newer=for_newer,
            ).choose(request)

        choice = choose(request)
        if _has_replaced_files(choice, old) and not upgrade:
            # uv may have cached the metadata of the replaced files.
            return choose(replace(request, refresh=True))
        return choice

    def _preferences(self, layer: Layer, platform: Platform) -> dict[NormalizedName, Version]:
        """The versions of the old lock or the first platform; of venvstacks for a first lock."""
        upgrade = self._upgrade.of(layer.name)
        old = self._locks.get(layer.name, platform)
        found = _versions(upgrade.kept(old)) | self._first_platform(layer, platform)
        if old is None and (former := self._venvstacks.get(layer.name)):
            # They are for this platform, such as 2.8.0 where the first platform has 2.8.0+cpu.
            target = target_of(layer, platform, self._stack.python_version(layer))
            for name, version in former.versions(target).items():
                if version and not upgrade.concerns(name):
                    found[name] = version
        return found

    def _first_platform(self, layer: Layer, platform: Platform) -> dict[NormalizedName, Version]:
        """The versions on the layer's first platform; none if that is `platform`.

        The other platforms wait for it. So they get the same versions if possible,
        and find the pages of the indexes in uv's cache.
        """
        for first in layer.platforms:
            if first == platform:
                break
            if future := self._futures.get((layer.name, first)):
                lock = future.result()
                return _versions(Upgrade().kept(lock)) if isinstance(lock, LayerLock) else {}
            if old := self._locks.get(layer.name, first):
                return _versions(self._upgrade.of(layer.name).kept(old))
        return {}


def _versions(
    items: Mapping[NormalizedName, LockedDistribution],
) -> dict[NormalizedName, Version]:
    return {name: item.version for name, item in items.items()}


def _has_replaced_files(choice: Choice, old: LayerLock | None) -> bool:
    """Whether a file of `choice` has the name of one in `old`, but other contents."""
    known = {item.wheel.name: item.wheel.sha256 for item in old.distributions} if old else {}
    return any(
        item.sha256 and item.sha256 != known.get(item.file, item.sha256) for item in choice.own
    )
