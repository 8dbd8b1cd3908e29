"""What is installed in a root, and what is published in a place."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from stackbuild.install.report import AvailableLayer, InstalledLayer
from stackbuild.install.root import Root

if TYPE_CHECKING:
    from pathlib import Path

    from stackbuild.compose.manifest import Index, IndexEntry, Manifest
    from stackbuild.install.state import State
    from stackbuild.platforms import Platform
    from stackbuild.registry.base import Registry


def installed(root: Path) -> list[InstalledLayer]:
    """The layers that are installed in `root`, lower layers first. Raises InstallError."""
    return list(installed_layers(Root(root).installed_state()))


def installed_layers(state: State) -> tuple[InstalledLayer, ...]:
    """The layers of `state`, lower layers first."""
    return tuple(
        InstalledLayer(
            manifest=manifest,
            asked=name in state.asked,
            needed_by=tuple(dict.fromkeys(state.needed_by(name))),
            origin=state.origins.get(name),
            python_version=_runtime(manifest, state).python_version,
        )
        for name, manifest in state.layers.items()
    )


def _runtime(manifest: Manifest, state: State) -> Manifest:
    """The manifest of the runtime below `manifest`, or itself."""
    return state.layers[manifest.chain[-1].directory] if manifest.chain else manifest


def published(registry: Registry, platform: Platform | None = None) -> list[AvailableLayer]:
    """What `registry` offers, by layer and platform; only its index is read.

    Each entry tells the version of the interpreter that would run the layer.
    """
    index = registry.index()
    return [
        AvailableLayer(layer=layer, platform=one, entry=first, older=tuple(older))
        for layer, platforms in sorted(index.entries.items())
        for one, entries in sorted(platforms.items())
        if entries and platform in {None, one}
        for first, *older in [[_with_python(entry, one, index) for entry in entries]]
    ]


def _with_python(entry: IndexEntry, platform: Platform, index: Index) -> IndexEntry:
    """`entry` with the version of its runtime as it is published.

    A manifest above a runtime says what the spec asks for. Where no version of
    the runtime is that, another one stands in: the current one.
    """
    runtimes = index.entries.get(entry.chain[-1], {}).get(platform, ()) if entry.chain else ()
    versions = [runtime.python_version for runtime in runtimes]
    if not versions or entry.python_version in versions:
        return entry
    return replace(entry, python_version=versions[0])
