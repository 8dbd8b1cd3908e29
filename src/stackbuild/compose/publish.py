"""Publishes layers: composes them and writes them to an export directory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from stackbuild.compose.archive import plan_archive, write_archive
from stackbuild.compose.export_directory import ExportDirectory, Seals
from stackbuild.compose.gather import gather
from stackbuild.compose.layer import compose
from stackbuild.compose.manifest import fetched_bytes
from stackbuild.compose.patches import write_patches
from stackbuild.compose.report import LayerFailure, PublishedLayer, PublishReport
from stackbuild.compose.sizes import unused_patterns
from stackbuild.compose.venvstacks_metadata import layer_metadata
from stackbuild.errors import ComposeError, StackbuildError
from stackbuild.frames.cache import FrameCache, LostFrameError
from stackbuild.lock.current import load_locks
from stackbuild.workspace import temporary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence, Set
    from pathlib import Path

    from stackbuild.compose.layer import Composition
    from stackbuild.compose.layer_inputs import Parts
    from stackbuild.compose.manifest import ArchiveFormat, Index, Manifest, PatchFile
    from stackbuild.lock.model import LayerLock
    from stackbuild.messages import Messages
    from stackbuild.platforms import Platform
    from stackbuild.spec.model import Layer, Stack
    from stackbuild.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishOptions:
    """How layers are published."""

    archive_format: ArchiveFormat = "tar.zst"
    level: int | None = None
    """Replaces the zstd level of the spec."""
    check: bool = False
    """Read all published archives, not only those that were changed since they were written."""
    allow_unresolved: bool = False
    """Publish layers that lack shared libraries, with warnings."""
    dry_run: bool = False
    """Write nothing but temporary files; the report is as if everything was written."""


def publish(
    stack: Stack,
    workspace: Workspace,
    messages: Messages,
    *,
    pairs: Sequence[tuple[Layer, Platform]],
    to: Path,
    options: PublishOptions,
) -> PublishReport:
    """Publish the layers of `pairs` in the directory `to`; see `api.Project.publish`.

    Raises OSError, in addition to those errors.
    """
    if options.level is not None:
        stack = replace(stack, frames=replace(stack.frames, level=options.level))
    if options.dry_run and workspace.original is None:
        with temporary(workspace) as work:
            return publish(stack, work, messages, pairs=pairs, to=to, options=options)
    exports = ExportDirectory(to)
    exports.check(messages, may_mark=not options.dry_run)
    index = exports.index()
    locks = load_locks(stack, workspace, pairs)
    if not options.dry_run:
        exports.claim(messages)
        exports.sweep()
    seals = Seals(workspace.cache, to, read_all=options.check)
    original = workspace.original
    lower = FrameCache(original.frames, read_only=True) if original else None
    cache = FrameCache(workspace.frames, lower=lower)
    run = _Publishing(stack, workspace, messages, locks, exports, index, options, seals, cache)
    done, failures = run.all(pairs)
    again = [failure for failure in failures if isinstance(failure.error, LostFrameError)]
    if again:
        # Damaged frames were removed from the cache, and can be made again.
        wanted = {(failure.layer, failure.platform) for failure in again}
        more, repeated = run.all([pair for pair in pairs if (pair[0].name, pair[1]) in wanted])
        done |= more
        failures = [*(failure for failure in failures if failure not in again), *repeated]
    composed = [done[key] for layer, platform in pairs if (key := (layer.name, platform)) in done]
    failed = {(failure.layer, failure.platform) for failure in failures}
    held = {
        (failure.layer, failure.platform): failure
        for item in composed
        if (failure := _held_back(item.manifest, failed, index))
    }
    ordered = [
        item for item in composed if (item.manifest.layer, item.manifest.platform) not in held
    ]
    if not options.dry_run:
        if ordered:
            exports.enter(
                [
                    (
                        item.manifest,
                        stack.layers[item.manifest.layer].catalogue,
                        locks[item.manifest.layer, item.manifest.platform].version,
                    )
                    for item in ordered
                ],
                messages,
            )
        seals.save()
    return PublishReport(layers=tuple(ordered), failures=(*failures, *held.values()))


def _held_back(
    manifest: Manifest, failed: Set[tuple[str, Platform]], index: Index
) -> LayerFailure | None:
    """The failure of a layer that would not be installable; None if it would be.

    That is so if a layer of its chain failed now, and `index` does not have that layer with
    the lock that the chain names. The former versions, which fit each other, then stay current.
    """
    platform = manifest.platform
    lacking = [
        link.layer
        for link in manifest.chain
        if (link.layer, platform) in failed and link.lock not in _locks(index, link.layer, platform)
    ]
    if not lacking:
        return None
    names = " and ".join(lacking)
    error = ComposeError(
        f"{names} failed, and the layers above are not published without it",
        platform=platform,
        remedy=f"correct the error of {names}, and run the command again",
    )
    return LayerFailure(layer=manifest.layer, platform=platform, error=error)


def _locks(index: Index, layer: str, platform: Platform) -> list[str]:
    return [entry.lock for entry in index.entries.get(layer, {}).get(platform, ())]


@dataclass(frozen=True, slots=True)
class _Publishing:
    stack: Stack
    workspace: Workspace
    messages: Messages
    locks: Mapping[tuple[str, Platform], LayerLock]
    exports: ExportDirectory
    index: Index
    options: PublishOptions
    seals: Seals
    cache: FrameCache

    def all(
        self, pairs: Sequence[tuple[Layer, Platform]]
    ) -> tuple[dict[tuple[str, Platform], PublishedLayer], list[LayerFailure]]:
        """Publish `pairs`, without the index."""
        parts, failures = gather(
            self.stack,
            pairs,
            self.locks,
            self.cache,
            self.workspace,
            self.messages,
            allow_unresolved=self.options.allow_unresolved,
        )
        for text in unused_patterns(self.stack, parts):
            self.messages.warn(text)
        done: dict[tuple[str, Platform], PublishedLayer] = {}
        with ThreadPoolExecutor(self.workspace.jobs) as pool:
            # Layers of one platform may share frames, but nothing else.
            results = list(pool.map(partial(_attempt, self._one), parts))
        for part, result in zip(parts, results, strict=True):
            if isinstance(result, LayerFailure):
                failures.append(result)
                continue
            done[result.manifest.layer, result.manifest.platform] = result
            # A layer with the same contents was warned of when it was composed first.
            if result.is_new and part.library_warning:
                self.messages.warn(part.library_warning)
        return done, failures

    def _one(self, parts: Parts) -> PublishedLayer:
        composition = compose(parts, self.stack.frames, self.cache)
        before = self.exports.current(self.index, parts.target.layer.name, parts.target.platform)
        form = self.options.archive_format
        # In this order: another command that writes the same files damages nothing.
        was_there = self.exports.has(composition.manifest, form)
        there = self.exports.complete(composition.manifest, form, self.seals)
        manifest = there or self._write(parts, composition)
        return PublishedLayer(
            manifest=manifest,
            path=self.exports.manifest_path(manifest).with_name(manifest.archive.name),
            is_new=there is None,
            was_damaged=there is None and was_there,
            download=_download(before, manifest),
        )

    def _write(self, parts: Parts, composition: Composition) -> Manifest:
        manifest, cache = composition.manifest, self.cache
        directory = self.exports.platform(manifest.platform)
        try:
            provenance = {**manifest.provenance, "layer": layer_metadata(parts, cache)}
            form = self.options.archive_format
            patch_file = self._patches(manifest)
            if self.options.dry_run:
                archive = plan_archive(composition, cache, form)
                return replace(manifest, archive=archive, patch_file=patch_file)
            archive = write_archive(composition, cache, directory, form)
        except LostFrameError:
            _drop_damaged(composition, cache)
            raise
        manifest = replace(manifest, archive=archive, provenance=provenance, patch_file=patch_file)
        self.exports.put(manifest)
        for file in filter(None, (archive, patch_file)):
            self.seals.put(directory / file.name, file)
        return manifest

    def _patches(self, manifest: Manifest) -> PatchFile | None:
        """The patches of `manifest` from the versions before it."""
        is_local = self.exports.directory == self.workspace.build_exports
        if is_local or self.options.archive_format != "tar.zst":
            return None
        versions = self.exports.versions(self.index, manifest, self.stack.frames.patches)
        directory = None if self.options.dry_run else self.exports.platform(manifest.platform)
        return write_patches(manifest, versions, self.cache, directory, self.messages)


def _attempt(
    work: Callable[[Parts], PublishedLayer], parts: Parts
) -> PublishedLayer | LayerFailure:
    try:
        return work(parts)
    except StackbuildError as error:
        target = parts.target
        return LayerFailure(layer=target.layer.name, platform=target.platform, error=error)


def _drop_damaged(composition: Composition, cache: FrameCache) -> None:
    """Read every frame, which removes damaged ones from the cache."""
    for placed in composition.manifest.frames:
        with suppress(LostFrameError):
            for _ in cache.read(placed.frame):
                pass


def _download(before: Manifest | None, manifest: Manifest) -> int:
    had = {placed.frame.sha256 for placed in before.frames} if before else set()
    missing = {placed.frame.sha256 for placed in manifest.frames} - had
    return fetched_bytes([manifest], missing, had.__contains__)
