"""Copy installed layers into a directory of plain files, as `venvstacks local-export` does.

<directory>/.stackbuild.tag                 the mark (`stackbuild.mark`)
<directory>/<layer>/                        the layers side by side, without links into the root
<directory>/.stackbuild/lock                held while layers are replaced
<directory>/.stackbuild/manifests/          the manifest of each layer that was exported
<directory>/.stackbuild/staging/            layers that are being copied, and their manifests
<directory>/.stackbuild/ready/              the same, complete: they are moved to their places
<directory>/.stackbuild/former              a layer that was replaced, until it is removed

A run that is killed before `ready` exists leaves the former export as it was; after that, the next
run first moves the layers of `ready` to their places.

Links inside and between layers stay links. Where the file system has none, such as FAT and exFAT,
each becomes a copy of the file or directory that it leads to.
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild import strictjson, windows
from stackbuild.compose.postinstall_template import CONFIGURATION
from stackbuild.compose.serialize import manifest_from_json, manifest_to_json
from stackbuild.durable import sync_to_disk
from stackbuild.errors import InstallError, IntegrityError, in_the_way, system_errors
from stackbuild.files import is_inside, locked, read_regular, remove_tree
from stackbuild.install.generation import walk
from stackbuild.install.home import WriteHome, adjustments
from stackbuild.install.plan import find_installed
from stackbuild.install.report import ExportReport
from stackbuild.install.root import Root
from stackbuild.mark import ELSEWHERE, Kind, claim
from stackbuild.platforms import host_platform
from stackbuild.spec.model import LayerKind
from stackbuild.workspace import expanded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stackbuild.compose.manifest import Manifest
    from stackbuild.durable import Sync
    from stackbuild.messages import Messages

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_NO_LINKS = {errno.ENOSYS, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP}
_NEEDS_PRIVILEGE = 1314  # ERROR_PRIVILEGE_NOT_HELD of Windows
_ELSEWHERE = ELSEWHERE[Kind.LAYERS]


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
    Raises UsageError for a layer that is not installed, InstallError for a directory with other
    files, and where another exported layer needs a lower layer that would be replaced.
    """
    trees, state = Root(root).installed_layers()
    tops = find_installed(layers, state, Root(root).path)
    names = {top.directory for top in tops} | {link.directory for top in tops for link in top.chain}
    chosen = tuple(manifest for name, manifest in state.layers.items() if name in names)
    target = Path(os.path.abspath(expanded(directory)))  # noqa: PTH100 - removes `..`
    check_outside(target, root, _ELSEWHERE)
    with system_errors(InstallError, target, elsewhere=_ELSEWHERE):
        claim(target, Kind.LAYERS)
        private = target / ".stackbuild"
        with locked(private / "lock", messages):
            staging = private / "staging"
            remove_tree(staging)
            _finish(private, target, sync)
            _check_present(chosen, target, _exported(private))
            try:
                copied = copy_layers(chosen, trees, staging / "layers")
                _adjust(chosen, staging / "layers", target, copied)
                (staging / "manifests").mkdir()
                for manifest in chosen:
                    path = staging / "manifests" / f"{manifest.directory}.json"
                    path.write_bytes(manifest_to_json(manifest))
                sync(trees=(staging,))
                windows.rename(staging, private / "ready")
            finally:
                remove_tree(staging)
            _finish(private, target, sync)
    if copied:
        messages.note(
            f"links were copied, because {target} has none; after moving the directory, run the "
            f"postinstall.py of each layer: the interpreters' paths are absolute"
        )
    return ExportReport(
        directory=target, platform=state.platform, layers=chosen, copied_links=copied
    )


def check_outside(target: Path, root: Path, elsewhere: str) -> None:
    """Check that an export to `target` changes no file of `root`. Raises InstallError."""
    if is_inside(target, root) or is_inside(root, target):
        raise InstallError(
            "layers cannot be exported into a root, or around one",
            file=target,
            expected=f"a directory outside {root}",
            remedy=elsewhere,
        )


def copy_layers(layers: Sequence[Manifest], generation: Path, staging: Path) -> bool:
    """Copy `layers` to `staging`. Returns whether links became copies."""
    links: list[tuple[str, str]] = []
    for manifest in layers:
        source = generation / manifest.directory
        base = staging / manifest.directory
        staging.mkdir(parents=True, exist_ok=True)
        try:
            base.mkdir()
        except FileExistsError as error:
            raise _same_path(str(base)) from error
        start = len(windows.extended(source))
        for entry in walk(source):
            place = windows.extended(base) + entry.path[start:]
            if entry.is_symlink():
                links.append((entry.path, place))
            elif entry.is_dir():
                try:
                    os.mkdir(place)  # noqa: PTH102 - a Path for each is too slow
                except FileExistsError as error:
                    raise _same_path(place) from error
            else:
                copy_file(entry.path, place)
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
    top = os.path.realpath(generation)
    for link, place in links:
        if fault := _copy_followed(link, place, top, ()):
            raise InstallError(
                f"a link {fault}, so it cannot be copied",
                file=os.path.relpath(link, generation),
                found=os.readlink(link),  # noqa: PTH115 - the text of the link
                remedy="export to a file system that has symbolic links",
            )


def _copy_followed(path: str, place: str, top: str, above: tuple[str, ...]) -> str | None:
    """Copy what the link `path` leads to to the new `place`; why not, if it cannot be copied.

    `above` are the directories in `top` that are being copied.
    """
    real = os.path.realpath(path)
    if not Path(real).is_relative_to(top):
        return "leads out of the layers"
    if not Path(real).exists():
        return "leads to a missing file"
    if not Path(real).is_dir():
        copy_file(real, place)
        return None
    return _copy_directory(real, place, top, above)


def _copy_directory(real: str, place: str, top: str, above: tuple[str, ...]) -> str | None:
    """Copy the directory `real`, which no link is a part of, as `_copy_followed` does."""
    if real in above:
        return "leads to a directory that it is in"
    os.mkdir(place)  # noqa: PTH102 - a Path for each is too slow
    with os.scandir(real) as entries:
        for entry in entries:
            target = f"{place}{os.sep}{entry.name}"
            fault = None
            # Only links are resolved: realpath looks at each component of a path.
            if entry.is_symlink():
                fault = _copy_followed(entry.path, target, top, (*above, real))
            elif entry.is_dir():
                fault = _copy_directory(entry.path, target, top, (*above, real))
            else:
                copy_file(entry.path, target)
            if fault:
                return fault
    return None


def copy_file(source: str, target: str) -> None:
    """Copy a file to the new file `target`, with the modes of new files."""
    executable = os.stat(source).st_mode & 0o111  # noqa: PTH116 - as above
    try:
        os.close(os.open(target, _CREATE, 0o777 if executable else 0o666))
    except FileExistsError as error:
        raise _same_path(target) from error
    shutil.copyfile(source, target)


def _same_path(place: str) -> InstallError:
    return InstallError(
        "this file system treats two paths of the layers as the same file",
        file=place,
        remedy="export to a case-sensitive file system",
    )


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
                copy_file(str(library), f"{layer}/lib/{library.name}")


def _finish(private: Path, target: Path, sync: Sync) -> None:
    """Move the layers in `ready` to their places, in the place of former ones."""
    ready, former = private / "ready", private / "former"
    for manifest in sorted(ready.glob("manifests/*")):
        (private / "manifests").mkdir(exist_ok=True)
        windows.replace(manifest, private / "manifests" / manifest.name)
    for new in sorted(ready.glob("layers/*")):
        place = target / new.name
        remove_tree(former)
        if os.path.lexists(place):
            windows.rename(place, former)
        windows.rename(new, place)
    sync(directories=(target,))
    remove_tree(ready)
    remove_tree(former)


def _exported(private: Path) -> dict[str, Manifest]:
    """The manifests of the layers of earlier exports, by directory; unreadable ones are left out.

    A layer without a manifest then counts as a directory of the user, which is never replaced.
    """
    found: dict[str, Manifest] = {}
    for path in sorted(private.glob("manifests/*.json")):
        with suppress(OSError, IntegrityError):
            found[path.stem] = manifest_from_json(
                read_regular(path, strictjson.MAX_SIZE + 1), str(path)
            )
    return found


def _check_present(
    chosen: Sequence[Manifest], target: Path, exported: Mapping[str, Manifest]
) -> None:
    """Check that replacing layers removes no files of the user and breaks no other layer.

    Raises InstallError.
    """
    new = {manifest.directory: manifest for manifest in chosen}
    for name in new:
        if os.path.lexists(target / name) and name not in exported:
            raise in_the_way(InstallError, target / name, _ELSEWHERE)
    for name, manifest in exported.items():
        if name in new or not os.path.lexists(target / name):
            continue
        for link in manifest.chain:
            lower = new.get(link.directory)
            if lower and (lower.lock, lower.platform) != (link.lock, manifest.platform):
                raise InstallError(
                    f"another layer in this directory needs the former {lower.layer}",
                    layer=manifest.layer,
                    platform=manifest.platform,
                    file=target / name,
                    expected=f"{lower.layer} of lock {link.lock[:12]} for {manifest.platform}",
                    found=f"{lower.layer} of lock {lower.lock[:12]} for {lower.platform}",
                    remedy=f"export {manifest.layer} in the same command, or remove "
                    f"{target / name}, or {_ELSEWHERE}",
                )
