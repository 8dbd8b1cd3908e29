"""Copy an installed layer into a directory of the shape of a runenv-python-3 environment.

<directory>/pydist/<platform>/              the interpreter of the layer's runtime, with pip
<directory>/pydist/<platform>/packages/     the wheels of the chain
<directory>/pydist/<platform>/…             the overlays of the chain, those of upper layers last
<directory>/pydist/.<platform>.lock         held while the directory is replaced
<directory>/pydist/.<platform>.new          the next environment, until it is complete
<directory>/pydist/.<platform>.old          the former one, until the next is in its place

Blocks of Platforma create their environments with its `bin/python`, and install their requirements
from `packages/` (`pip install --no-index --find-links`). So distributions are not installed in it,
except those of the runtime itself.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild import windows
from stackbuild.durable import sync_to_disk
from stackbuild.errors import InstallError, in_the_way, system_errors
from stackbuild.files import locked, remove_tree
from stackbuild.frames.model import FrameKind
from stackbuild.install.export import check_outside, copy_file, copy_layers
from stackbuild.install.generation import stored
from stackbuild.install.plan import find_installed
from stackbuild.install.report import ExportReport
from stackbuild.install.root import Root
from stackbuild.install.store import Store
from stackbuild.layout import PACKAGES
from stackbuild.lock.export_wheels import place_wheels
from stackbuild.mark import ELSEWHERE, MARK, Kind, check_mark, claim, write_mark
from stackbuild.tomltext import layer_table
from stackbuild.workspace import expanded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stackbuild.compose.manifest import Manifest
    from stackbuild.durable import Sync
    from stackbuild.messages import Messages


def export_runenv(
    layer: str,
    root: Path,
    wheels: Mapping[str, Path],
    directory: Path,
    messages: Messages,
    *,
    sync: Sync = sync_to_disk,
) -> ExportReport:
    """Make ``pydist/<platform>`` in `directory` of `layer` in `root`, and of `wheels`, by sha256.

    An earlier one is replaced. Raises InstallError for a runtime without pip, for a directory with
    other files or in a root, and for an overlay that has a file in the place of a directory.
    """
    trees, state = Root(root).installed_layers()
    (top,) = find_installed([layer], state, root)
    names = (top.directory, *(link.directory for link in top.chain))
    chain = [state.layers[name] for name in reversed(names)]
    place = Path(os.path.abspath(expanded(directory))) / "pydist"  # noqa: PTH100 - removes `..`
    target = place / state.platform
    new, old = (place / f".{target.name}.{word}" for word in ("new", "old"))
    check_outside(target, root, ELSEWHERE[Kind.RUNENV])
    with system_errors(InstallError, target, elsewhere=ELSEWHERE[Kind.RUNENV]):
        _check_own(target)
        _check_pip(chain[0], trees)
        place.mkdir(parents=True, exist_ok=True)
        with locked(place / f".{target.name}.lock", messages):
            for other in (new, old):
                _check_own(other)
            if os.path.lexists(old) and not os.path.lexists(target):
                windows.rename(old, target)  # A run was killed before it put the next in place.
            _remove(new)
            _remove(old)
            try:
                claim(new, Kind.RUNENV)
                copied = copy_layers(chain[:1], trees, new)
                made = new / chain[0].directory
                store = Store(state.store or Root(root).own_store)
                _check_path(f"{PACKAGES}/*.whl", made, chain[0])
                (made / PACKAGES).mkdir(exist_ok=True)
                # Copies, as the modes and contents of links would be those of the wheelhouse.
                place_wheels(wheels, made / PACKAGES, link=False)
                for manifest in chain:
                    _copy_overlays(manifest, store, trees, made)
                write_mark(made, Kind.RUNENV)
                sync(trees=(new,))
                if os.path.lexists(target):
                    windows.rename(target, old)
                windows.rename(made, target)
                sync(directories=(place,))
                _remove(old)
            finally:
                _remove(new)
    return ExportReport(
        directory=target, platform=state.platform, layers=tuple(chain), copied_links=copied
    )


def _check_own(directory: Path) -> None:
    """Check that `directory` is an environment of stackbuild, empty or missing.

    Raises InstallError.
    """
    if os.path.lexists(directory) and (directory.is_symlink() or not directory.is_dir()):
        raise in_the_way(InstallError, directory, ELSEWHERE[Kind.RUNENV])
    check_mark(directory, Kind.RUNENV)


def _remove(directory: Path) -> None:
    """Remove an environment, its mark last, so that a killed run leaves none without a mark."""
    for path in directory.iterdir() if directory.is_dir() else ():
        if path.name != MARK:
            remove_tree(path)
    remove_tree(directory)


def _check_pip(runtime: Manifest, trees: Path) -> None:
    site = trees / runtime.directory / runtime.layout.site_packages
    if not any(site.glob("pip-*.dist-info")):
        raise InstallError(
            "the runtime has no pip, with which blocks install their requirements",
            layer=runtime.layer,
            platform=runtime.platform,
            remedy=f'keep = ["pip"] in {layer_table(runtime.layer)}, and an interpreter with pip '
            "(those of python-build-standalone have it)",
        )


def _copy_overlays(manifest: Manifest, store: Store, trees: Path, to: Path) -> None:
    """Copy the overlays of a layer over the files in `to`."""
    for path, link in _overlays(manifest, store):
        _check_path(path, to, manifest)
        target = to / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        if link is None:
            copy_file(str(trees / manifest.directory / path), str(target))
        else:
            target.symlink_to(link)


def _check_path(path: str, directory: Path, manifest: Manifest) -> None:
    """Check that `directory` can have a file at `path`. Raises InstallError."""
    place = directory / path
    above = [directory / one for one in Path(path).parents]
    blocking = [one for one in above if os.path.lexists(one) and not one.is_dir()]
    if place.is_dir() and not place.is_symlink():
        blocking.append(place)
    for one in blocking:
        raise InstallError(
            f"{one.relative_to(directory).as_posix()} is a file in one layer of the environment "
            "and a directory in another",
            layer=manifest.layer,
            platform=manifest.platform,
            file=path,
            remedy="leave one of the two out of the layers",
        )


def _overlays(manifest: Manifest, store: Store) -> Iterator[tuple[str, str | None]]:
    """The path of each file, and the target of each link."""
    for placed in manifest.frames:
        if placed.frame.kind is FrameKind.OVERLAY:
            listing = stored(manifest, placed.frame.sha256, store)
            yield from ((file.path, None) for file in listing.files)
            yield from listing.links
