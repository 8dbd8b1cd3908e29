"""Places that layers are published to: removing versions, and copying them to another place."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.errors import ComposeError, refuse_text, system_errors
from stackbuild.messages import SILENT
from stackbuild.platforms import parse_platform

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from stackbuild.messages import Messages
    from stackbuild.registry.prune import PruneReport
    from stackbuild.registry.push import SentLayer


def prune(
    place: str | Path,
    *,
    keep: int,
    keep_versions: Sequence[str] = (),
    grace_days: int = 7,
    dry_run: bool = False,
    messages: Messages = SILENT,
) -> PruneReport:
    """Keep the `keep` newest versions of each layer and platform in `place`.

    Versions in `keep_versions` are kept too, such as ``2026.1`` or ``sha256:…``, and the versions
    of lower layers that a kept version needs. The index no longer names the others. Files are
    removed when no index has named them for `grace_days`, because a consumer may still read an
    index of before; until then they are in `PruneReport.waiting`. With `dry_run` nothing is
    changed.

    `place` is a directory or the address of an object store. Raises FetchError, IntegrityError,
    ComposeError for a directory that cannot be written.
    """
    refuse_text(keep_versions=keep_versions)
    from datetime import timedelta

    from stackbuild.registry.find import open_place
    from stackbuild.registry.prune import prune as prune_place

    with _explained(place):
        return prune_place(
            open_place(str(place), messages),
            messages,
            keep=keep,
            keep_versions=keep_versions,
            grace=timedelta(days=grace_days),
            dry_run=dry_run,
        )


def unpublish(
    place: str | Path,
    layers: Sequence[str],
    platforms: Sequence[str] = (),
    *,
    messages: Messages = SILENT,
) -> PruneReport:
    """Remove versions of `layers`, such as ``atls@7``, from the index of `place`.

    Without a version it is all versions of a layer; `platforms` are all by default. The files are
    removed by a later `prune`. Raises UsageError for versions that are not there or that a layer
    above needs; otherwise as `prune`.
    """
    refuse_text(layers=layers, platforms=platforms)
    from stackbuild.registry.find import open_place
    from stackbuild.registry.prune import unpublish as unpublish_from

    chosen = [parse_platform(name) for name in platforms]
    with _explained(place):
        return unpublish_from(open_place(str(place), messages), messages, layers, chosen)


def promote(
    source: str | Path,
    target: str | Path,
    layers: Sequence[str],
    platforms: Sequence[str] = (),
    *,
    messages: Messages = SILENT,
) -> tuple[SentLayer, ...]:
    """Copy published `layers`, with the layers below them, from one place to another.

    A layer may have a version: ``atls@7``; `platforms` are all by default. The versions become the
    current ones of `target`. Lower layers are copied if they are missing there, and keep their
    position otherwise. Only missing files are copied, and all of them are verified.

    `source` may also be a web server. Raises UsageError for versions that are not published;
    otherwise as `prune`.
    """
    refuse_text(layers=layers, platforms=platforms)
    from stackbuild.registry.find import open_place, open_registry
    from stackbuild.registry.prune import chosen_versions
    from stackbuild.registry.push import push

    registry = open_registry(str(source), messages)
    place = open_place(str(target), messages)
    chosen = chosen_versions(registry, layers, [parse_platform(name) for name in platforms])
    with _explained(target):
        return push(registry, chosen, place, messages)


def _explained(place: str | Path) -> AbstractContextManager[None]:
    """System errors while writing to a directory as ComposeError."""
    from stackbuild.registry.find import is_address

    if is_address(str(place)):
        return nullcontext()
    return system_errors(ComposeError, Path(place), elsewhere="")
