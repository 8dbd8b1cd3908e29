"""Copy installed layers into a directory of plain files, as `venvstacks local-export` does.

<directory>/.stackbuild.tag       the mark (`stackbuild.mark`)
<directory>/<layer>/              the layers side by side, copies without links into the root
<directory>/.stackbuild/lock      held while layers are replaced
<directory>/.stackbuild/staging/  layers that are being copied

Links inside and between layers stay links. Where the file system has none, such as FAT and exFAT,
each becomes a copy of the file or directory that it leads to.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild import windows
from stackbuild.compose.postinstall_template import CONFIGURATION
from stackbuild.durable import sync_to_disk
from stackbuild.errors import InstallError, system_errors
from stackbuild.files import is_inside, locked, remove_tree
from stackbuild.install.generation import walk
from stackbuild.install.home import WriteHome, adjustments
from stackbuild.install.plan import find_installed
from stackbuild.install.report import ExportReport
from stackbuild.install.root import Root
from stackbuild.mark import Kind, claim
from stackbuild.platforms import host_platform
from stackbuild.spec.model import LayerKind
from stackbuild.workspace import expanded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stackbuild.compose.manifest import Manifest
    from stackbuild.durable import Sync
    from stackbuild.messages import Messages

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_NO_LINKS = {errno.ENOSYS, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP}
_NEEDS_PRIVILEGE = 1314  # ERROR_PRIVILEGE_NOT_HELD of Windows
_ELSEWHERE = "choose another directory: stackbuild export LAYER DIR"


def export(
    layers: Sequence[str],
    root: Path,
    directory: Path,
    messages: Messages,
    *,
    sync: Sync = sync_to_disk,
) -> ExportReport:
    """Copy `layers` of `root`, and the layers below them, to `directory`; see `api.export`.

    Each layer replaces the one of the same name from an earlier export, once all are copied.
    Raises InstallError for a layer that is not installed, and for a directory with other files.
    """
    trees, state = Root(root).installed_layers()
    tops = [find_installed(layer, state) for layer in layers]
    names = {top.directory for top in tops} | {link.directory for top in tops for link in top.chain}
    chosen = tuple(manifest for name, manifest in state.layers.items() if name in names)
    target = Path(os.path.abspath(expanded(directory)))  # noqa: PTH100 - removes `..`
    if is_inside(target, root) or is_inside(root, target):
        raise InstallError(
            "layers cannot be exported into a root, or around one",
            file=target,
            expected=f"a directory outside {root}",
            remedy=_ELSEWHERE,
        )
    with system_errors(InstallError, target, elsewhere=_ELSEWHERE):
        claim(target, Kind.LAYERS)
        private = target / ".stackbuild"
        with locked(private / "lock", messages):
            staging = private / "staging"
            remove_tree(staging)
            try:
                copied = _copy(chosen, trees, staging)
                _adjust(chosen, staging, target, copied)
                sync(trees=(staging,))
                for manifest in chosen:
                    _replace(staging / manifest.directory, target / manifest.directory)
                sync(directories=(target,))
            finally:
                remove_tree(staging)
    if copied:
        messages.note(
            f"links were copied, because {target} has none; after moving the directory, run the "
            f"postinstall.py of each layer: the interpreters' paths are absolute"
        )
    return ExportReport(
        directory=target, platform=state.platform, layers=chosen, copied_links=copied
    )


def _copy(layers: Sequence[Manifest], generation: Path, staging: Path) -> bool:
    """Copy `layers` to `staging`. Returns whether links became copies."""
    links: list[tuple[str, str]] = []
    for manifest in layers:
        source = generation / manifest.directory
        base = staging / manifest.directory
        base.mkdir(parents=True)
        start = len(windows.extended(source))
        for entry in walk(source):
            place = windows.extended(base) + entry.path[start:]
            if entry.is_symlink():
                links.append((entry.path, place))
            elif entry.is_dir():
                os.mkdir(place)  # noqa: PTH102 - a Path for each is too slow
            else:
                _copy_file(entry.path, place)
    # Links come last, so that the files they lead to are there, in whichever layer.
    for number, (link, place) in enumerate(links):
        if not _link(os.readlink(link), place):  # noqa: PTH115 - the text of the link
            _copy_targets(links[number:], generation)
            return True
    return False


def _link(target: str, place: str) -> bool:
    """Create a link; False if the file system or the account cannot."""
    try:
        os.symlink(target, place)  # noqa: PTH211 - a Path for each is too slow
    except OSError as error:
        denied = getattr(error, "winerror", None) == _NEEDS_PRIVILEGE
        if error.errno not in _NO_LINKS and not denied:
            raise
        return False
    return True


def _copy_targets(links: Sequence[tuple[str, str]], generation: Path) -> None:
    """Copy what `links` lead to, which may be files and directories of any layer."""
    for link, place in links:
        real = os.path.realpath(link)
        if not Path(real).is_relative_to(os.path.realpath(generation)):
            raise InstallError(
                "a link leads out of the layers, so it cannot be copied",
                file=os.path.relpath(link, generation),
                found=os.readlink(link),  # noqa: PTH115 - the text of the link
                remedy="export to a file system that has symbolic links",
            )
        if Path(real).is_dir():
            shutil.copytree(real, place, copy_function=_copy_file)
        else:
            _copy_file(real, place)


def _copy_file(source: str, target: str) -> None:
    """Copy a file to the new file `target`, with the modes of new files."""
    executable = os.stat(source).st_mode & 0o111  # noqa: PTH116 - as above
    try:
        os.close(os.open(target, _CREATE, 0o777 if executable else 0o666))
    except FileExistsError as error:
        raise InstallError(
            "this file system treats two paths of a layer as the same file",
            file=target,
            remedy="export to a case-sensitive file system",
        ) from error
    shutil.copyfile(source, target)


def _adjust(layers: Sequence[Manifest], built: Path, final: Path, copied: bool) -> None:
    """Write the paths that the layers need, which are moved from `built` to `final`."""
    is_host = layers[0].platform == host_platform()
    for adjustment in adjustments(layers, built.joinpath, final if is_host else None):
        adjustment.apply()
    if not copied or layers[0].platform.os == "windows":
        return
    # A copied interpreter looks beside itself for the standard library and libpython.
    for manifest in layers:
        if manifest.kind is LayerKind.RUNTIME:
            continue
        layer, runtime = built / manifest.directory, manifest.chain[-1].directory
        interpreter = final / runtime / manifest.layout.runtime_interpreter
        WriteHome(layer / CONFIGURATION, interpreter.parent).apply()
        for library in (built / runtime / "lib").glob("libpython*"):
            if library.is_file() and not (layer / "lib" / library.name).exists():
                _copy_file(str(library), f"{layer}/lib/{library.name}")


def _replace(new: Path, place: Path) -> None:
    """Move the directory `new` to `place`, whose former contents are removed."""
    former = new.with_name(f"{new.name}.former")
    if place.exists():
        windows.rename(place, former)
    windows.rename(new, place)
    remove_tree(former)
