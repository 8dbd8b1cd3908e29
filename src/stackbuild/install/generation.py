"""Layers out of the store into the tree of a new generation, by hard links."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.errors import InstallError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stackbuild.compose.manifest import Manifest
    from stackbuild.install.store import Listing, Store

_NOT_LINKABLE = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP}
"""Another file system, one without hard links, a store of somebody else's, too many links."""


def link_layer(manifest: Manifest, store: Store, target: Path) -> bool:
    """Make the tree of a layer in the new directory `target` out of the store's frames.

    Of two frames that hold one path the later one wins. Returns whether files
    had to be copied, because they could not be linked. Raises IntegrityError
    for frames that do not fit together, InstallError for a frame that the store
    does not hold, OSError.
    """
    leaves: dict[str, tuple[str, str | None]] = {}
    directories: dict[str, None] = {}
    for placed in manifest.frames:
        tree = os.fspath(store.tree(placed.frame.sha256))
        listing = stored(manifest, placed.frame.sha256, store)
        directories.update(dict.fromkeys(listing.directories))
        for file in listing.files:
            leaves[file.path] = (tree, None)
        for path, link in listing.links:
            leaves[path] = (tree, link)
    _check_apart(manifest, leaves, directories)
    target.mkdir()
    base = os.fspath(target)
    for directory in directories:
        os.mkdir(f"{base}/{directory}")  # noqa: PTH102 - a Path for each is too slow
    linker = _Linker()
    for path, (tree, link_target) in leaves.items():
        if link_target is None:
            try:
                linker.take(f"{tree}/{path}", f"{base}/{path}")
            except (FileNotFoundError, NotADirectoryError) as error:
                # Not a frame any more; without it the next run brings it anew.
                frame = Path(tree).parent
                store.discard(frame.name)
                raise _not_stored(manifest, frame) from error
        else:
            os.symlink(link_target, f"{base}/{path}")  # noqa: PTH211 - as above
    return linker.copying


def stored(manifest: Manifest, sha256: str, store: Store) -> Listing:
    """What a frame of `manifest` holds. Raises InstallError when the store lacks it."""
    listing = store.listing(sha256)
    if listing is None:
        raise _not_stored(manifest, store.directory / sha256)
    return listing


def _not_stored(manifest: Manifest, frame: Path) -> InstallError:
    return InstallError(
        "a frame of the layer is not in the store any more",
        layer=manifest.layer,
        file=frame,
        remedy=f"install {manifest.layer} again",
    )


def carry_over(source: Path, target: Path) -> bool:
    """Make the tree `target` out of the installed layer `source`, where frames are missing.

    Returns whether files had to be copied.
    """
    target.mkdir()
    linker = _Linker()
    for entry in _walk(source):
        place = f"{os.fspath(target)}/{os.path.relpath(entry.path, source)}"
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), place)  # noqa: PTH115, PTH211 - as above
        elif entry.is_dir():
            os.mkdir(place)  # noqa: PTH102 - as above
        else:
            linker.take(entry.path, place)
    return linker.copying


def _walk(directory: Path) -> Iterator[os.DirEntry[str]]:
    """Everything below `directory`, parents first, links not followed."""
    pending = [os.fspath(directory)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)


class _Linker:
    """Hard links; copies from the first file on that cannot be linked."""

    def __init__(self) -> None:
        self.copying = False

    def take(self, source: str, target: str) -> None:
        if not self.copying:
            try:
                os.link(source, target)
            except OSError as error:
                if error.errno not in _NOT_LINKABLE:
                    raise
                # One file alone may have too many links; the others may still be linked.
                self.copying = error.errno != errno.EMLINK
            else:
                return
        shutil.copyfile(source, target)
        shutil.copymode(source, target)
        # The time tells later that the file is as it was unpacked.
        status = os.stat(source)  # noqa: PTH116 - as above
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _check_apart(
    manifest: Manifest, leaves: dict[str, tuple[str, str | None]], directories: dict[str, None]
) -> None:
    # A link of one frame where another frame has a directory would lead files elsewhere.
    if both := leaves.keys() & directories.keys():
        raise IntegrityError(
            "one frame of the layer has a directory where another one has a file or link",
            layer=manifest.layer,
            platform=manifest.platform,
            file=min(both),
            remedy="publish the layer again",
        )
