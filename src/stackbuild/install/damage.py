"""Find files that differ from what was unpacked, without reading them all.

After a power cut, or on a failing disk, files may be empty, truncated or missing. Each install
compares size, mode and modification time of every file with the store's listings. A file is read
only if its time alone differs, as after copying a root. Changed contents with the same size, mode
and time are found only by `verify_installed`.
"""

from __future__ import annotations

import os
import stat
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild import windows
from stackbuild.install.home import adjustments
from stackbuild.platforms import host_platform

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stackbuild.compose.manifest import Manifest
    from stackbuild.install.home import Adjustment
    from stackbuild.install.state import State
    from stackbuild.install.store import Store, StoredFile

_CHUNK = 1 << 20
_NEVER = stat.S_ISUID | stat.S_ISGID | stat.S_IWGRP | stat.S_IWOTH
"""No file is unpacked with these permissions, whatever the umask."""


@dataclass(slots=True)
class Damage:
    """Damage that was found in a root and its store."""

    frames: set[str] = field(default_factory=set)
    """sha256 of frames that are damaged in the store."""
    files: dict[str, list[Path]] = field(default_factory=dict)
    """Damaged files in the store or the generation, by the directory of the layer."""

    def add(self, layer: str, path: Path) -> None:
        """Record that `path` of `layer` is damaged."""
        self.files.setdefault(layer, []).append(path)

    def text(self, layer: str) -> str:
        """The damage of `layer`, for a message."""
        files = self.files[layer]
        more = len(files) - 1
        others = f" and {more} other{'s' * (more > 1)}" if more else ""
        return f"{files[0]}{others}"


def find_damage(layers: Iterable[Manifest], store: Store) -> Damage:
    """Find damage in the frames of `layers` that the store has."""
    damage = Damage()
    checked: dict[str, list[Path]] = {}
    for manifest in layers:
        for placed in manifest.frames:
            sha256 = placed.frame.sha256
            if sha256 not in checked:
                checked[sha256] = _wrong_in_store(sha256, store)
            if checked[sha256]:
                damage.frames.add(sha256)
            for path in checked[sha256]:
                damage.add(manifest.directory, path)
    return damage


def _wrong_in_store(sha256: str, store: Store) -> list[Path]:
    listing = store.listing(sha256)
    if listing is None:
        # Without a listing, or with one of another format, the frame is fetched anyway.
        return [store.listing_path(sha256)] if store.has(sha256) else []
    tree = store.tree(sha256)
    base = windows.extended(tree)
    wrong = [file.path for file in listing.files if not is_as_listed(base, file)]
    wrong += [path for path, target in listing.links if not is_link(base, path, target)]
    return [tree / path for path in wrong]


def find_damage_in_use(
    state: State, directories: Iterable[str], trees: Path, store: Store, damage: Damage
) -> None:
    """Add damaged files of the layers in `trees`, whose state is `state`, to `damage`.

    Only the layers in `directories` are checked. A layer with a frame missing from the store is
    skipped, because its files are not known.
    """
    adjusted = adjusted_files(state, trees)
    for directory in directories:
        manifest = state.layers[directory]
        files: dict[str, StoredFile | str] = {}
        for placed in manifest.frames:
            listing = store.listing(placed.frame.sha256)
            if listing is None:
                break
            files.update((file.path, file) for file in listing.files)
            files.update(listing.links)
        else:
            layer = trees / directory
            base = windows.extended(layer)
            for path, expected in files.items():
                # A Path for each of thousands of files would take longer than all the rest.
                place = windows.shown(windows.inside(base, path)) if adjusted else ""
                change = adjusted.get(place)
                if change is not None:
                    good = change.is_applied()
                elif isinstance(expected, str):
                    good = is_link(base, path, expected)
                else:
                    good = is_as_listed(base, expected)
                if not good:
                    damage.add(directory, layer / path)


def adjusted_files(state: State, trees: Path) -> Mapping[str, Adjustment]:
    """The files that the installer itself writes into the layers in `trees`, by path."""
    final = trees if state.platform == host_platform() else None
    changes = adjustments(state.layers.values(), trees.joinpath, final)
    return {os.fspath(change.target): change for change in changes}


def is_as_listed(base: str, file: StoredFile) -> bool:
    """Whether `file` below `base` is unchanged, judging by size, mode and time."""
    path = windows.inside(base, file.path)
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_size != file.size:
            return False
        if is_other_mode(status.st_mode, file):
            return False
        if status.st_mtime_ns == file.mtime_ns:
            return True
        if crc32_of(Path(path)) != file.crc32:
            return False
    except OSError:
        # Missing or unreachable: a parent directory is now a file, or links form a loop.
        return False
    # Copied or touched: reset the time so that the next check need not read it.
    with suppress(OSError):
        os.utime(path, ns=(status.st_atime_ns, file.mtime_ns))
    return True


def is_link(base: str, path: str, target: str) -> bool:
    """Whether `path` below `base` is a link to `target`."""
    try:
        return os.readlink(windows.inside(base, path)) == target  # noqa: PTH115 - the text of the link
    except OSError:
        return False


def is_other_mode(mode: int, file: StoredFile) -> bool:
    """Whether the mode of a file differs from its unpacked mode.

    The file is not readable, wrongly executable, writable by others, or setuid.
    """
    if os.name == "nt":
        return False
    is_readable, is_executable = bool(mode & stat.S_IRUSR), bool(mode & stat.S_IXUSR)
    return not is_readable or is_executable != file.executable or bool(mode & _NEVER)


def crc32_of(path: Path) -> int:
    """CRC-32 of the contents of `path`. Raises OSError."""
    crc = 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            crc = zlib.crc32(chunk, crc)
    return crc
