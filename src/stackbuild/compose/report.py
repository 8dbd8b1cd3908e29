"""The report of publishing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from stackbuild.compose.manifest import Manifest
    from stackbuild.errors import StackbuildError
    from stackbuild.platforms import Platform


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedLayer:
    """A layer that is published on one platform, now or earlier."""

    manifest: Manifest
    path: Path
    """The archive."""
    is_new: bool
    """Whether the archive was written now, or would be without `dry_run`."""
    was_damaged: bool
    """Whether an existing archive differed from its manifest."""
    download: int
    """Bytes that an upgrade from the version before downloads; all if there is none."""
    sent: int | None = None
    """Bytes that were sent to an object store, or would be; None for a directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFailure:
    """A layer that is not published on one platform: it, or a layer below it, failed."""

    layer: str
    platform: Platform
    error: StackbuildError


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishReport:
    """The result of publishing."""

    layers: tuple[PublishedLayer, ...]
    """Lower layers first."""
    failures: tuple[LayerFailure, ...]
    """These layers were not published."""
