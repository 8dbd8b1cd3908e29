"""List the layers installed in a root, and the layers published in a registry."""

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
            version=state.versions.get(name),
            python_version=_runtime(manifest, state).python_version,
        )
        for name, manifest in state.layers.items()
    )


def new_layers(before: State, after: State) -> tuple[str, ...]:
    """The directories of the layers of `after` that `before` does not have in this version."""
    return tuple(
        name
        for name, manifest in after.layers.items()
        if name not in before.layers or before.layers[name].digest != manifest.digest
    )


def _runtime(manifest: Manifest, state: State) -> Manifest:
    """The manifest of the runtime of `manifest`, which may be itself."""
    return state.layers[manifest.chain[-1].directory] if manifest.chain else manifest


def published(registry: Registry, platform: Platform | None = None) -> list[AvailableLayer]:
    """The layers published in `registry`, by layer and platform; only its index is read.

    Each entry has the version of the interpreter that would run the layer.
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
    """`entry` with the version of its runtime as published.

    The manifest of an upper layer names the version that the spec asks for. If no published runtime
    has that version, the current one is used.
    """
    runtimes = index.entries.get(entry.chain[-1], {}).get(platform, ()) if entry.chain else ()
    versions = [runtime.python_version for runtime in runtimes]
    if not versions or entry.python_version in versions:
        return entry
    return replace(entry, python_version=versions[0])
