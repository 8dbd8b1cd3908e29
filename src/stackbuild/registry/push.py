"""Sends published layers of one registry to a place, and enters them in its index."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from stackbuild.compose.export_directory import (
    ExportDirectory,
    entered,
    index_bytes,
    index_entry,
)
from stackbuild.compose.manifest import Index, now
from stackbuild.compose.serialize import manifest_to_json
from stackbuild.errors import ComposeError, FetchError, IntegrityError
from stackbuild.registry.directory import DirectoryRegistry
from stackbuild.registry.places import IndexChangedError, Upload
from stackbuild.spec.model import Catalogue

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from stackbuild.compose.manifest import IndexEntry
    from stackbuild.compose.report import PublishReport
    from stackbuild.messages import Messages
    from stackbuild.platforms import Platform
    from stackbuild.registry.base import Registry
from stackbuild.registry.places import Place

_ATTEMPTS = 30
"""To replace an index that others change at the same time."""
_LONGEST_PAUSE = 2.0
"""Seconds between two attempts."""
_REQUESTS = 8
"""Questions to a place at the same time."""


class Chosen(NamedTuple):
    """A published layer."""

    layer: str
    platform: Platform
    entry: IndexEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class SentLayer:
    """A layer that is at a place now."""

    layer: str
    platform: Platform
    entry: IndexEntry
    sent: int
    """The bytes that were missing there; 0 for a layer that was complete."""


def send_report(
    report: PublishReport, exports: Path, place: Place, messages: Messages, *, dry_run: bool
) -> PublishReport:
    """Push the layers of `report`, which are published in `exports`, to `place`.

    The result says how much was sent, or would be with `dry_run`. Raises as `push`.
    """
    source = DirectoryRegistry(exports, messages)
    path = ExportDirectory(exports).relative
    manifests = [item.manifest for item in report.layers]
    if dry_run:
        uploads = [
            Upload(source, index_entry(one, path(one), Catalogue(), 0), one, manifest_to_json(one))
            for one in manifests
        ]
        sent = plan(_as_there(uploads, place, place.tagged_index()[0]), place, messages)
    else:
        entries = source.index().entries
        chosen = [
            Chosen(one.layer, one.platform, entry)
            for one in manifests
            for entry in entries[one.layer][one.platform]
            if entry.manifest == path(one)
        ]
        sent = push(source, chosen, place, messages)
    sizes = {(one.layer, one.platform): one.sent for one in sent}
    layers = (
        replace(item, sent=sizes[item.manifest.layer, item.manifest.platform])
        for item in report.layers
    )
    return replace(report, layers=tuple(layers))


def push(
    source: Registry,
    chosen: Sequence[Chosen],
    place: Place,
    messages: Messages,
) -> tuple[SentLayer, ...]:
    """Make the layers of `chosen` the current ones of `place`, lower layers first.

    The layers below them that the index of `place` does not name are sent too; they become the
    current ones only if they are newer in `source`. Those that it names keep their position. The
    index is written last, and on top of what others published in the meantime. Raises
    StackbuildError, OSError.
    """
    place.prepare(messages)
    index, _ = place.tagged_index()
    own = source.index() if chosen else Index(entries={})
    uploads = [upload_of(source, one.entry) for one in chosen]
    lower = _lower(source, own, uploads, place, index, messages)
    lower, uploads = _as_there(lower, place, index), _as_there(uploads, place, index)
    uploads = [*lower, *uploads]
    sent = plan(uploads, place, messages)
    with messages.task(f"sending to {place.location}", sum(one.sent for one in sent)) as task:
        for upload, one in zip(uploads, sent, strict=True):
            if one.sent:
                place.send(upload, named=_names(index, upload))
                task.advance(one.sent)
    published = now()

    def entered_(before: Index) -> Index:
        for upload in uploads:
            layer, platform = upload.manifest.layer, upload.manifest.platform
            fresh = replace(upload.entry, published=published)
            after = entered(before, layer, platform, fresh)
            here = before.entries.get(layer, {}).get(platform, ())
            if upload in lower and here and not _is_newer(own, upload, here[0]):
                # It is installed with the layers that need it, but not on its own.
                for entry in reversed([one for one in here if one.digest != fresh.digest]):
                    after = entered(after, layer, platform, entry)
            before = after
        return before

    change_index(place, entered_)
    for upload in uploads:
        # `prune` may have removed files before the index named them.
        if not _names(index, upload) and place.missing(upload, named=True):
            place.send(upload, named=True)
    return sent


def plan(uploads: Sequence[Upload], place: Place, messages: Messages) -> tuple[SentLayer, ...]:
    """What would be sent to `place`. Raises FetchError, IntegrityError, OSError."""
    index, tag = place.tagged_index()
    if tag is None:
        _tell_lost(place, uploads, messages)
    with ThreadPoolExecutor(_REQUESTS) as pool:
        missing = pool.map(lambda one: place.missing(one, named=_names(index, one)), uploads)
        return tuple(
            SentLayer(
                layer=one.manifest.layer, platform=one.manifest.platform, entry=one.entry, sent=size
            )
            for one, size in zip(uploads, missing, strict=True)
        )


def change_index(place: Place, change: Callable[[Index], Index]) -> None:
    """Replace the index of `place` with what `change` makes of it.

    `change` is called again with the index of others if they were faster, so nothing of theirs is
    lost. Raises ComposeError if they always are, or for an index that gets too large; as `place`.
    """
    for _ in range(_ATTEMPTS):
        before, tag = place.tagged_index()
        after = change(before)
        if after == before and tag is not None:
            return
        try:
            place.replace_index(index_bytes(after, place.location), tag)
        except IndexChangedError:
            time.sleep(random.uniform(0, _LONGEST_PAUSE))  # noqa: S311 - spreads the attempts
        else:
            return
    raise ComposeError(
        f"the index of {place.location} was changed by others in each of {_ATTEMPTS} attempts",
        remedy="run the command again when fewer publishers work",
    )


def _names(index: Index, upload: Upload) -> bool:
    manifest = upload.manifest
    entries = index.entries.get(manifest.layer, {}).get(manifest.platform, ())
    return any(one.sha256 == upload.entry.sha256 for one in entries)


def upload_of(source: Registry, entry: IndexEntry) -> Upload:
    """The published layer of `entry`, with its manifest. Raises FetchError, IntegrityError."""
    data = source.manifest_bytes(entry)
    return Upload(source, entry, source.parsed(entry, data), data)


def _as_there(uploads: Sequence[Upload], place: Place, index: Index) -> list[Upload]:
    """`uploads`, with the manifests that `place` has already for the same contents.

    Another publisher may have written another manifest of the same digest, such as with other
    patches. It is kept, because `index` has its sha256 and would not fit a new one.
    """
    return [_one_as_there(upload, place, index) for upload in uploads]


def _one_as_there(upload: Upload, place: Place, index: Index) -> Upload:
    manifest, path = upload.manifest, upload.entry.manifest
    entries = index.entries.get(manifest.layer, {}).get(manifest.platform, ())
    entry = next((one for one in entries if one.manifest == path), None)
    if entry is None or entry.sha256 == upload.entry.sha256 or entry.digest != manifest.digest:
        return upload
    try:
        there = upload_of(place, entry)
    except (FetchError, IntegrityError):
        # It is missing or damaged, and is replaced.
        return upload
    same = replace(upload.entry, sha256=entry.sha256, size=entry.size)
    adopted = Upload(upload.source, same, there.manifest, there.document)
    return upload if place.missing(adopted, named=True) else adopted


def _lower(
    source: Registry,
    own: Index,
    uploads: Sequence[Upload],
    place: Place,
    index: Index,
    messages: Messages,
) -> list[Upload]:
    """The layers below `uploads` that `index` does not have, from the index `own` of `source`."""
    there = {(one.manifest.layer, one.manifest.platform, one.entry.lock) for one in uploads}
    lower = []
    for manifest in (one.manifest for one in uploads):
        # The runtime is the last of a chain.
        for link in reversed(manifest.chain):
            here = index.entries.get(link.layer, {}).get(manifest.platform, ())
            key = (link.layer, manifest.platform, link.lock)
            if key in there or link.lock in {entry.lock for entry in here}:
                continue
            there.add(key)
            entries = own.entries.get(link.layer, {}).get(manifest.platform, ())
            fitting = next((entry for entry in entries if entry.lock == link.lock), None)
            if fitting:
                lower.append(upload_of(source, fitting))
            else:
                messages.warn(
                    f"{manifest.layer} cannot be installed from {place.location} until "
                    f"{link.layer} is published there for {manifest.platform}, with lock "
                    f"{link.lock[:12]}"
                )
    return lower


def _is_newer(own: Index, upload: Upload, current: IndexEntry) -> bool:
    """Whether the index `own` has the version in `upload` before the version `current`."""
    entries = own.entries.get(upload.manifest.layer, {}).get(upload.manifest.platform, ())
    digests = [entry.digest for entry in entries]
    return current.digest in digests[digests.index(upload.entry.digest) :]


def _tell_lost(place: Place, uploads: Sequence[Upload], messages: Messages) -> None:
    """Warn of manifests at a place without an index, which a lost one has named."""
    unnamed = place.unnamed([(upload.entry, upload.manifest) for upload in uploads])
    if lost := sorted(name for name in unnamed if name.endswith(".json")):
        messages.warn(
            f"{place.location} has no index, and the new one does not list {', '.join(lost)}; "
            "to keep them, restore index.json and publish again"
        )
