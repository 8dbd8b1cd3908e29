"""What is installed in a root, and what is published in a place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stackbuild.install.root import Root

if TYPE_CHECKING:
    from pathlib import Path

    from stackbuild.compose.manifest import IndexEntry, Manifest
    from stackbuild.platforms import Platform
    from stackbuild.registry.base import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An installed layer, as a listing shows it."""

    manifest: Manifest
    asked: bool
    """Whether it was asked for itself."""
    needed_by: tuple[str, ...]
    """Installed layers that stand on it."""
    origin: str | None
    """Where it was installed from (`Registry.location`)."""

    @property
    def files(self) -> int:
        """How many files and links the layer has."""
        return sum(placed.frame.files for placed in self.manifest.frames)

    @property
    def size(self) -> int:
        """Of the layer's files with their tar headers, in bytes."""
        return sum(placed.frame.content_size for placed in self.manifest.frames)


def installed(root: Path) -> list[Item]:
    """The layers that are installed in `root`, lower layers first. Raises InstallError."""
    state = Root(root).installed_state()
    return [
        Item(
            manifest=manifest,
            asked=name in state.asked,
            needed_by=tuple(dict.fromkeys(state.needed_by(name))),
            origin=state.origins.get(name),
        )
        for name, manifest in state.layers.items()
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A layer on one platform, as the catalogue of a place tells it."""

    layer: str
    platform: Platform
    entry: IndexEntry
    older: tuple[IndexEntry, ...]
    """Superseded versions that are still there, the newest first."""


def published(registry: Registry, platform: Platform | None = None) -> list[Variant]:
    """What `registry` offers, by layer and platform; only its index is read."""
    return [
        Variant(layer=layer, platform=one, entry=entries[0], older=entries[1:])
        for layer, platforms in sorted(registry.index().entries.items())
        for one, entries in sorted(platforms.items())
        if entries and platform in {None, one}
    ]
