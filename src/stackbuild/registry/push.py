"""Sends published layers of one registry to a place, and enters them in its index."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from stackbuild.compose.export_directory import entered, index_bytes
from stackbuild.compose.manifest import now
from stackbuild.errors import ComposeError
from stackbuild.registry.places import IndexChangedError, Upload

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stackbuild.compose.manifest import Index, IndexEntry, Manifest
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


def push(
    source: Registry,
    chosen: Sequence[Chosen],
    place: Place,
    messages: Messages,
    *,
    dry_run: bool = False,
) -> tuple[SentLayer, ...]:
    """Make the layers of `chosen` the current ones of `place`, lower layers first.

    The layers below them that the index of `place` does not name are sent too, if `source` has
    them; those that it names keep their position. The index is written last, and on top of what
    others published in the meantime. With `dry_run` nothing is written, and the result is as if.
    Raises StackbuildError, OSError.
    """
    if not dry_run:
        place.prepare(messages)
    index, tag = place.tagged_index()
    wanted = _with_lower(source, chosen, index)
    uploads = [Upload(source, one.entry, manifest) for one, manifest in wanted]
    named = [_names(index, one) for one, _ in wanted]
    if tag is None:
        _tell_lost(place, uploads, messages)
    with ThreadPoolExecutor(_REQUESTS) as pool:
        missing = list(pool.map(lambda up, is_: place.missing(up, named=is_), uploads, named))
    if not dry_run:
        with messages.task(f"sending to {place.location}", sum(missing)) as task:
            for upload, is_named, size in zip(uploads, named, missing, strict=True):
                if size:
                    place.send(upload, named=is_named)
                    task.advance(size)
        published = now()
        fresh = [one._replace(entry=replace(one.entry, published=published)) for one, _ in wanted]
        change_index(place, lambda before: _entered(before, fresh))
    return tuple(
        SentLayer(layer=one.layer, platform=one.platform, entry=one.entry, sent=size)
        for (one, _), size in zip(wanted, missing, strict=True)
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


def _entered(index: Index, chosen: Sequence[Chosen]) -> Index:
    for layer, platform, entry in chosen:
        index = entered(index, layer, platform, entry)
    return index


def _names(index: Index, chosen: Chosen) -> bool:
    entries = index.entries.get(chosen.layer, {}).get(chosen.platform, ())
    return any(one.sha256 == chosen.entry.sha256 for one in entries)


def _with_lower(
    source: Registry, chosen: Sequence[Chosen], index: Index
) -> list[tuple[Chosen, Manifest]]:
    """`chosen`, and before them the lower layers that `index` does not have, with manifests."""
    own = source.index().entries if chosen else {}
    found = {one: source.manifest(one.entry) for one in chosen}
    there = {(one.layer, one.platform, one.entry.lock) for one in chosen}
    lower: dict[Chosen, Manifest] = {}
    for one, manifest in found.items():
        # The runtime is the last of a chain.
        for link in reversed(manifest.chain):
            here = index.entries.get(link.layer, {}).get(one.platform, ())
            key = (link.layer, one.platform, link.lock)
            if key in there or link.lock in {entry.lock for entry in here}:
                continue
            there.add(key)
            for entry in own.get(link.layer, {}).get(one.platform, ()):
                if entry.lock == link.lock:
                    added = Chosen(link.layer, one.platform, entry)
                    lower[added] = source.manifest(entry)
                    break
    return [*lower.items(), *found.items()]


def _tell_lost(place: Place, uploads: Sequence[Upload], messages: Messages) -> None:
    """Warn of manifests at a place without an index, which a lost one has named."""
    unnamed = place.unnamed([(upload.entry, upload.manifest) for upload in uploads])
    if lost := sorted(name for name in unnamed if name.endswith(".json")):
        messages.warn(
            f"{place.location} has no index, and the new one does not list {', '.join(lost)}; "
            "to keep them, restore index.json and publish again"
        )
