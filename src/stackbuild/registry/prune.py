"""Removes versions from a place in two steps.

First the index no longer names them. Their files are removed when no index has named them for the
grace period, because a consumer may still read an index of before. `unnamed.json` beside the index
has the times since when; it is missing where all files are named.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

from stackbuild import strictjson
from stackbuild.compose.export_directory import UNNAMED
from stackbuild.compose.manifest import Index, now
from stackbuild.errors import UsageError, quoted
from stackbuild.reading import Item, ReadError
from stackbuild.registry.find import DIGEST, kinds_of, of_version
from stackbuild.registry.push import Chosen, change_index
from stackbuild.spec.select import find_names, split_version
from stackbuild.transport.retries import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from stackbuild.compose.manifest import IndexEntry, Manifest
    from stackbuild.messages import Messages
    from stackbuild.platforms import Platform
    from stackbuild.registry.base import Registry
    from stackbuild.registry.places import Place

GRACE_DAYS = 7
"""Longer than a consumer needs from reading an index to the last archive."""
_FORMAT = 1
_REQUESTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedVersion:
    """A version that the index of a place no longer names."""

    layer: str
    platform: Platform
    entry: IndexEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneReport:
    """What `prune` or `unpublish` removed, or would remove."""

    versions: tuple[RemovedVersion, ...]
    files: tuple[str, ...]
    """Files that were removed, relative to the index."""
    waiting: tuple[str, ...]
    """Files that no index names, and that are removed by a `prune` after the grace period."""


def prune(
    place: Place,
    messages: Messages,
    *,
    keep: int,
    keep_versions: Collection[str] = (),
    grace: timedelta = timedelta(days=GRACE_DAYS),
    dry_run: bool = False,
) -> PruneReport:
    """Keep the `keep` newest versions of each layer and platform, and what those need.

    Those in `keep_versions` (`of_version`) are kept too, and the versions of lower layers that a
    kept version was composed for. Files that no index has named for `grace` are removed. With
    `dry_run` nothing is changed. Raises FetchError, IntegrityError, OSError.
    """
    manifests = _Manifests(place)

    def pruned(index: Index) -> Index:
        kept = {
            (layer, platform, digest)
            for layer, platform, entries in _variants(index)
            for digest in _newest(entries, keep, keep_versions)
        }
        return _only(index, kept | {lower for lower, _ in manifests.needed(index, kept)})

    return _remove(place, messages, pruned, manifests, grace, dry_run=dry_run)


def unpublish(
    place: Place,
    messages: Messages,
    words: Sequence[str],
    platforms: Collection[Platform] = (),
) -> PruneReport:
    """Remove the versions that `words` mean from the index, all versions of a layer without one.

    `platforms` are all by default. A later `prune` removes the files. Raises UsageError for
    versions that are not there, or that another version needs; FetchError, IntegrityError, OSError.
    """
    manifests = _Manifests(place)

    def without(index: Index) -> Index:
        chosen = {key for word in words for key in _chosen(index, word, platforms, place)}
        left = {
            (layer, platform, entry.digest)
            for layer, platform, entries in _variants(index)
            for entry in entries
        } - chosen
        if needed := sorted(manifests.needed(index, left)):
            layer, platform, digest = needed[0][0]
            users = (_word(*user) for lower, user in needed if lower == needed[0][0])
            raise UsageError(
                f"{_word(layer, platform, digest)} is needed by layers above it",
                layer=layer,
                platform=platform,
                file=place.location,
                found=", ".join(users),
                remedy="unpublish those too, in the same command",
            )
        return _only(index, left)

    return _remove(place, messages, without, manifests, None, dry_run=False)


def chosen_versions(
    registry: Registry, words: Sequence[str], platforms: Collection[Platform] = ()
) -> list[Chosen]:
    """The published versions that `words` mean, on all `platforms` where they are published.

    A word without a version means the current ones. Raises UsageError, FetchError.
    """
    index = registry.index()
    keys = {
        key for word in words for key in _chosen(index, word, platforms, registry, current=True)
    }
    return [
        Chosen(layer, platform, entry)
        for layer, platform, versions in _variants(index)
        for entry in versions
        if (layer, platform, entry.digest) in keys
    ]


_Key: TypeAlias = "tuple[str, Platform, str]"
"""Layer, platform and digest: a version, whose archive may have several formats."""


def _variants(index: Index) -> Iterator[tuple[str, Platform, tuple[IndexEntry, ...]]]:
    for layer, platforms in index.entries.items():
        for platform, entries in platforms.items():
            yield layer, platform, entries


def _chosen(
    index: Index,
    word: str,
    platforms: Collection[Platform],
    registry: Registry,
    *,
    current: bool = False,
) -> set[_Key]:
    """What `word` means; without a version the current ones or all."""
    kinds = kinds_of(index)
    name, version = split_version(word, kinds)
    layers = find_names(name, kinds, place=registry.location, add="publish it there")
    found: set[_Key] = set()
    for layer, platform, entries in _variants(index):
        if layer not in layers or (platforms and platform not in platforms):
            continue
        meant = entries if version is None else of_version(entries, version)
        if version is None and current:
            meant = [one for one in entries if one.digest == entries[0].digest]
        found |= {(layer, platform, one.digest) for one in meant}
    if not found:
        raise UsageError(
            f"{word!r} is not published"
            + (f" for {', '.join(sorted(platforms))}" if platforms else ""),
            file=registry.location,
            remedy=f"stackbuild list --from {quoted(registry.location)} --all prints the versions",
        )
    return found


def _newest(entries: Sequence[IndexEntry], keep: int, keep_versions: Collection[str]) -> set[str]:
    newest = list(dict.fromkeys(entry.digest for entry in entries))[:keep]
    named = [one.digest for version in keep_versions for one in of_version(entries, version)]
    return {*newest, *named}


def _only(index: Index, kept: Collection[_Key]) -> Index:
    """`index` with the versions `kept`; without layers and platforms that have none."""
    entries: dict[str, dict[Platform, tuple[IndexEntry, ...]]] = {}
    for layer, platform, versions in _variants(index):
        left = tuple(one for one in versions if (layer, platform, one.digest) in kept)
        if left:
            entries.setdefault(layer, {})[platform] = left
    return Index(entries=entries)


class _Manifests:
    """The manifests of a place; each is read once."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._read: dict[str, Manifest] = {}

    def of(self, entries: Sequence[IndexEntry]) -> list[tuple[IndexEntry, Manifest]]:
        """`entries` with their manifests. Raises FetchError, IntegrityError."""
        unread = {one.sha256: one for one in entries if one.sha256 not in self._read}
        with ThreadPoolExecutor(_REQUESTS) as pool:
            manifests = pool.map(self._place.manifest, unread.values())
            self._read.update(zip(unread, manifests, strict=True))
        return [(one, self._read[one.sha256]) for one in entries]

    def all(self, index: Index) -> list[tuple[IndexEntry, Manifest]]:
        """All entries of `index` with their manifests."""
        return self.of([one for *_, versions in _variants(index) for one in versions])

    def needed(self, index: Index, kept: Collection[_Key]) -> Iterator[tuple[_Key, _Key]]:
        """Each lower version that a version of `kept` needs, and that version."""
        users = [
            (layer, platform, one)
            for layer, platform, versions in _variants(index)
            for one in versions
            if (layer, platform, one.digest) in kept
        ]
        manifests = self.of([entry for *_, entry in users])
        for (layer, platform, entry), (_, manifest) in zip(users, manifests, strict=True):
            for link in manifest.chain:
                fitting = [
                    (link.layer, platform, one.digest)
                    for one in index.entries.get(link.layer, {}).get(platform, ())
                    if one.lock == link.lock
                ]
                # A consumer takes the newest one.
                if fitting and not set(fitting) & set(kept):
                    yield fitting[0], (layer, platform, entry.digest)


def _word(layer: str, _: Platform, digest: str) -> str:
    return f"{layer}@{DIGEST}{digest[:12]}"


def _remove(
    place: Place,
    messages: Messages,
    change: Callable[[Index], Index],
    manifests: _Manifests,
    grace: timedelta | None,
    *,
    dry_run: bool,
) -> PruneReport:
    """Change the index, note since when files are unnamed, and remove those of before `grace`."""
    before = place.index()
    after = change(before)
    if not dry_run:
        place.prepare(messages)

        def remembered(index: Index) -> Index:
            nonlocal before, after
            before, after = index, change(index)
            return after

        change_index(place, remembered)
    unnamed = place.unnamed(manifests.all(after))
    # A file that was named until now may have been unnamed before.
    earlier = place.unnamed(manifests.all(before)) if after != before else unnamed
    noted = _read_times(place)
    since = {name: noted.get(name, now()) if name in earlier else now() for name in unnamed}
    limit = datetime.now(UTC) - (grace or timedelta())
    files = [
        name
        for name, written in unnamed.items()
        if grace is not None and datetime.fromisoformat(since[name]) <= limit
        if written <= limit.timestamp()
    ]
    if not dry_run:
        times = {name: since[name] for name in sorted(unnamed) if name not in files}
        if times != noted:
            text = json.dumps({"format": _FORMAT, "files": times}, indent=2) + "\n"
            place.put_document(UNNAMED, text.encode())
        if files:
            with place.exclusive():
                # Somebody may have published them again.
                latest = place.unnamed(manifests.all(place.index()))
                files = [name for name in files if latest.get(name) == unnamed[name]]
                place.remove(files)
    return PruneReport(
        versions=tuple(
            RemovedVersion(layer=layer, platform=platform, entry=entry)
            for layer, platform, entries in _variants(before)
            for entry in entries
            if entry not in after.entries.get(layer, {}).get(platform, ())
        ),
        files=tuple(sorted(files)),
        waiting=tuple(sorted(unnamed.keys() - set(files))),
    )


def _read_times(place: Place) -> dict[str, str]:
    """Since when files are unnamed, by name."""
    try:
        data = place.document(UNNAMED)
    except NotFoundError:
        return {}
    source = f"{place.location}/{UNNAMED}"
    try:
        item: Item[object] = Item("", strictjson.parse(data, source))
        times: dict[str, str] = item.record(
            lambda files: files,
            {"files": lambda files: {key.value: time.moment() for key, time in files.pairs()}},
            formats=(_FORMAT,),
        )
    except ReadError as error:
        raise error.damage(source).with_remedy(
            "remove this file; the grace period begins again"
        ) from error
    return times
