"""Create the tree of a new generation from the store, by hard links."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild import windows
from stackbuild.errors import InstallError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterator, Set

    from stackbuild.compose.manifest import Manifest
    from stackbuild.install.store import Listing, Store

_NOT_LINKABLE = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP}
"""Another file system, no support for hard links, another user's store, too many links."""


def link_layer(manifest: Manifest, store: Store, target: Path) -> bool:
    """Create the tree of a layer in the new directory `target` from frames of the store.

    If two frames contain the same path, the later one is used. Returns whether files were copied
    because they could not be linked. Raises IntegrityError for conflicting frames, InstallError for
    a frame missing from the store, OSError.
    """
    leaves: dict[str, tuple[str, str | None]] = {}
    directories: dict[str, None] = {}
    for placed in manifest.frames:
        tree = windows.extended(store.tree(placed.frame.sha256))
        listing = stored(manifest, placed.frame.sha256, store)
        directories.update(dict.fromkeys(listing.directories))
        for file in listing.files:
            leaves[file.path] = (tree, None)
        for path, link in listing.links:
            leaves[path] = (tree, link)
    check_apart(manifest, leaves.keys(), directories.keys())
    target.mkdir()
    base = windows.extended(target)
    for directory in directories:
        os.mkdir(windows.inside(base, directory))  # noqa: PTH102 - a Path for each is too slow
    linker = _Linker()
    for path, (tree, link_target) in leaves.items():
        if link_target is None:
            try:
                linker.take(windows.inside(tree, path), windows.inside(base, path))
            except (FileNotFoundError, NotADirectoryError) as error:
                # The frame is incomplete; remove it so that the next run fetches it again.
                frame = Path(tree).parent
                store.discard(frame.name)
                raise _not_stored(manifest, frame) from error
        else:
            os.symlink(link_target, windows.inside(base, path))  # noqa: PTH211 - as above
    return linker.copying


def stored(manifest: Manifest, sha256: str, store: Store) -> Listing:
    """The listing of a frame of `manifest`. Raises InstallError if the store lacks it."""
    listing = store.listing(sha256)
    if listing is None:
        raise _not_stored(manifest, store.directory / sha256)
    return listing


def _not_stored(manifest: Manifest, frame: Path) -> InstallError:
    return InstallError(
        "a frame of the layer is missing from the store",
        layer=manifest.layer,
        file=frame,
        remedy=f"install {manifest.layer} again",
    )


def carry_over(source: Path, target: Path) -> bool:
    """Create the tree `target` from the installed layer `source`, whose frames are missing.

    Returns whether files were copied.
    """
    target.mkdir()
    linker = _Linker()
    base, start = windows.extended(target), len(windows.extended(source))
    for entry in walk(source):
        place = base + entry.path[start:]
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), place)  # noqa: PTH115, PTH211 - as above
        elif entry.is_dir():
            os.mkdir(place)  # noqa: PTH102 - as above
        else:
            linker.take(entry.path, place)
    return linker.copying


def walk(directory: Path) -> Iterator[os.DirEntry[str]]:
    """Everything below `directory`, parents first, links not followed."""
    pending = [windows.extended(directory)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)


class _Linker:
    """Links files; copies from the first file that cannot be linked."""

    def __init__(self) -> None:
        self.copying = False

    def take(self, source: str, target: str) -> None:
        if not self.copying:
            try:
                os.link(source, target)
            except OSError as error:
                if error.errno not in _NOT_LINKABLE:
                    raise
                # Only this file has too many links; the others may still be linked.
                self.copying = error.errno != errno.EMLINK
            else:
                return
        shutil.copyfile(source, target)
        shutil.copymode(source, target)
        # Later checks use the time to see that the file is unchanged.
        status = os.stat(source)  # noqa: PTH116 - as above
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def check_apart(manifest: Manifest, leaves: Set[str], directories: Set[str]) -> None:
    """Check that no path is a directory in one frame and a file or link in another.

    Raises IntegrityError.
    """
    # If another frame has a link where this one has a directory, files would go elsewhere.
    if both := leaves & directories:
        raise IntegrityError(
            "one frame of the layer has a directory where another has a file or link",
            layer=manifest.layer,
            platform=manifest.platform,
            file=min(both),
            remedy="publish the layer again",
        )
