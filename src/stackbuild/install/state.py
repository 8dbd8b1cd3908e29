"""The state of a generation, stored inside it so that state and tree switch together.

generations/<N>/.stackbuild/state.json                  platform, layers asked for, store, origins …
generations/<N>/.stackbuild/manifests/<directory>.json  the manifest of each layer
generations/<N>/.stackbuild/damaged.json                damage found by `verify`, if any
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from stackbuild import strictjson, windows
from stackbuild.compose.serialize import canonical_json, manifest_from_json, manifest_to_json
from stackbuild.errors import InstallError, IntegrityError, quoted
from stackbuild.files import atomic_write, read_regular, work_path
from stackbuild.mark import MARK
from stackbuild.names import path_fault
from stackbuild.platforms import Platform
from stackbuild.reading import Item, read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from stackbuild.compose.manifest import Manifest
    from stackbuild.reading import Readers

T = TypeVar("T")

STATE_FORMAT = 3
WITHOUT_VERSIONS = 2
"""The format without versions and the date. It is still read."""
STATE_DIRECTORY = ".stackbuild"
_STATE = "state.json"
_MANIFESTS = "manifests"
_DAMAGED = "damaged.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The layers of one generation."""

    platform: Platform
    asked: tuple[str, ...]
    """The directories of the layers that the user asked for, sorted; the others are their lower
    layers."""
    layers: Mapping[str, Manifest] = field(default_factory=dict)
    """By directory, lower layers first."""
    store: Path | None = None
    """The store of the frames; None for the root's own."""
    origins: Mapping[str, str] = field(default_factory=dict)
    """By directory: the registry that each layer came from (`Registry.location`)."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """By directory: the version that each layer was published as (`IndexEntry.version`)."""
    created: str | None = None
    """When the generation was made (`compose.manifest.now`); None in the older format."""

    def needed_by(self, directory: str) -> list[str]:
        """The names of the layers that depend on the one in `directory`."""
        return [
            manifest.layer
            for manifest in self.layers.values()
            if any(link.directory == directory for link in manifest.chain)
        ]

    def same_tree(self, other: State) -> bool:
        """Whether both have the same layers, store and requests."""
        return (
            self.asked == other.asked
            and self.store == other.store
            and self.platform == other.platform
            and self.layers.keys() == other.layers.keys()
            and all(self.layers[name].digest == other.layers[name].digest for name in self.layers)
        )


def write_state(state: State, generation: Path) -> None:
    """Write `state` into the directory of a generation."""
    directory = generation / STATE_DIRECTORY
    manifests = directory / _MANIFESTS
    manifests.mkdir(parents=True, exist_ok=True)
    for name, manifest in state.layers.items():
        _put(manifests / f"{name}.json", manifest_to_json(manifest))
    value = {
        "format": STATE_FORMAT,
        "platform": str(state.platform),
        "asked": list(state.asked),
        "layers": list(state.layers),
        "store": None if state.store is None else str(state.store),
        "origins": dict(state.origins),
        "versions": dict(state.versions),
        "created": state.created,
    }
    _put(directory / _STATE, canonical_json(value))


def _put(path: Path, data: bytes) -> None:
    """Replace a file of the state; it is synced later."""
    work = work_path(path)
    try:
        work.write_bytes(data)
        # Never writes through a link, into a named pipe, or partially into a file in use.
        windows.replace(work, path)
    except BaseException:
        work.unlink(missing_ok=True)
        raise


def read_state(generation: Path) -> State:
    """The state of `generation`. Raises InstallError for one that cannot be read."""
    directory = generation / STATE_DIRECTORY
    try:
        state = _read(directory / _STATE, lambda value: _state(value, directory))
    except (OSError, IntegrityError) as error:
        raise _unreadable(directory / _STATE, _reason(error)) from error
    for name in state.asked:
        if name not in state.layers:
            raise _unreadable(directory / _STATE, f"asked: {name!r}, which is not in layers")
    return state


def _state(value: Item[object], directory: Path) -> State:
    readers: Readers = {
        "platform": lambda item: item.choice(Platform),
        "asked": _texts,
        "layers": lambda item: _read_layers(directory, _texts(item)),
        "store": lambda item: item.optional(_absolute_path),
        "origins": _by_directory,
    }
    newer: Readers = {
        "versions": _by_directory,
        "created": lambda item: item.optional(Item.moment),
    }
    return value.record(State, readers, newer, formats=(WITHOUT_VERSIONS, STATE_FORMAT))


def _by_directory(item: Item[object]) -> dict[str, str]:
    return {name.text(): text.text() for name, text in item.pairs()}


def _texts(item: Item[object]) -> tuple[str, ...]:
    return item.tuple_of(Item.text)


def _read_layers(directory: Path, names: Iterable[str]) -> dict[str, Manifest]:
    """The manifests of the layers in the directories `names`, which are complete chains."""
    layers = {name: _read_manifest(directory, name) for name in names}
    for name, manifest in layers.items():
        for link in manifest.chain:
            if link.directory not in layers:
                reason = f"layers: without {link.directory!r}, which {name} needs"
                raise _unreadable(directory / _STATE, reason)
    return layers


def _read(path: Path, read: Callable[[Item[object]], T]) -> T:
    """Parse a file of the state with `read`. Raises OSError, IntegrityError."""
    return read_json(read_regular(path, strictjson.MAX_SIZE + 1), path.name, read)


def _absolute_path(item: Item[object]) -> Path:
    text = item.text()
    if "\0" in text or not Path(text).is_absolute():
        raise item.error("is not an absolute path", "the path of a directory")
    return Path(text)


def _read_manifest(directory: Path, name: str) -> Manifest:
    """The manifest of the layer in the directory `name` of a generation."""
    if fault := path_fault(name):
        raise _unreadable(directory / _STATE, f"layers: {name!r} {fault}")
    path = directory / _MANIFESTS / f"{name}.json"
    manifest = manifest_from_json(read_regular(path, strictjson.MAX_SIZE + 1), str(path))
    if manifest.directory != name:
        raise _unreadable(path, f"the manifest of {manifest.directory}")
    return manifest


def recovered_state(generation: Path) -> State | None:
    """The state of `generation`, recreated from its manifests if it is unreadable.

    Layers that no other layer depends on then count as asked for. None if manifests are missing.
    """
    if (state := state_or_none(generation)) is not None:
        return state
    layers: dict[str, Manifest] = {}
    for name in layers_in(generation):
        try:
            layers[name] = _read_manifest(generation / STATE_DIRECTORY, name)
        except (OSError, IntegrityError, InstallError):
            return None
    needed = {link.directory for manifest in layers.values() for link in manifest.chain}
    platforms = {manifest.platform for manifest in layers.values()}
    if len(platforms) != 1 or not needed <= layers.keys():
        return None
    ordered = sorted(layers.values(), key=lambda manifest: len(manifest.chain))
    known = [state for path in _others(generation) if (state := state_or_none(path))]
    return State(
        platform=platforms.pop(),
        asked=tuple(sorted(layers.keys() - needed)),
        layers={manifest.directory: manifest for manifest in ordered},
        store=known[0].store if known else None,
        origins={
            name: state.origins[name]
            for state in reversed(known)
            for name in layers
            if name in state.origins
        },
    )


def _others(generation: Path) -> list[Path]:
    """The generations beside `generation`, newest first."""
    found = [path for path in generation.parent.iterdir() if path.name.isdecimal()]
    return sorted(set(found) - {generation}, key=lambda path: -int(path.name))


def state_or_none(generation: Path) -> State | None:
    """The state of `generation`; None for one that cannot be read."""
    try:
        return read_state(generation)
    except InstallError:
        return None


def layers_in(generation: Path) -> list[str]:
    """The directories of layers in `generation`, according to its trees and manifests."""
    if not generation.is_dir():
        return []
    trees = {path.name for path in generation.iterdir() if path.is_dir()} - {STATE_DIRECTORY}
    files = (generation / STATE_DIRECTORY / _MANIFESTS).glob("*.json")
    manifests = {path.name.removesuffix(".json") for path in files}
    return sorted(name for name in trees | manifests if not path_fault(name))


def mark_damaged(generation: Path, layers: list[str], frames: list[str]) -> None:
    """Record the damage for the next install to repair.

    `layers` are directories, `frames` are sha256 (hex) of damaged frames in the store. Raises
    OSError.
    """
    value = {"layers": layers, "frames": frames}
    atomic_write(generation / STATE_DIRECTORY / _DAMAGED, canonical_json(value))


def damaged(generation: Path) -> tuple[list[str], list[str]]:
    """The layers and frames that `mark_damaged` recorded."""
    try:
        return _read(generation / STATE_DIRECTORY / _DAMAGED, _damage)
    except FileNotFoundError:
        return [], []
    except (OSError, IntegrityError) as error:
        raise _unreadable(generation / STATE_DIRECTORY / _DAMAGED, _reason(error)) from error


def _damage(value: Item[object]) -> tuple[list[str], list[str]]:
    readers: Readers = {"layers": _texts, "frames": lambda item: item.tuple_of(Item.sha256)}
    return value.record(lambda layers, frames: (list(layers), list(frames)), readers)


def clear_damaged(generation: Path) -> None:
    """Remove the record of `mark_damaged`."""
    (generation / STATE_DIRECTORY / _DAMAGED).unlink(missing_ok=True)


def _reason(error: OSError | IntegrityError) -> str:
    return error.without_remedy() if isinstance(error, IntegrityError) else str(error)


def _unreadable(path: Path, reason: str) -> InstallError:
    # <root>/generations/<N>/.stackbuild, or a file in it
    root = next(parent for parent in path.parents if parent.name == "generations").parent
    command = f"stackbuild repair {quoted(root)}"
    if not (root / MARK).exists():
        command = (
            "if an earlier stackbuild made this root, remove it and install its layers again: "
            f"stackbuild install LAYER --from PLACE --root {quoted(root)}"
        )
    return InstallError(
        "the state of a generation cannot be read",
        file=path,
        # The contents of a damaged file may be of any length.
        found=reason if len(reason) <= 500 else f"{reason[:499]}…",
        remedy=command,
    )
