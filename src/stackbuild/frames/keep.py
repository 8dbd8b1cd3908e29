"""What of an interpreter's archive goes into a runtime layer, and how its scripts start."""

from __future__ import annotations

import csv
import io
import posixpath
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from stackbuild.errors import IntegrityError
from stackbuild.frames.scripts import LAUNCHER, launched_script
from stackbuild.record import corrected
from stackbuild.scripts import unbound

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from stackbuild.frames.archivefiles import ArchiveFile, ArchiveFiles
    from stackbuild.layout import Layout

_LARGEST_SCRIPT = 1024 * 1024


def chosen_files(
    archive: ArchiveFiles, layout: Layout, keep: Collection[str]
) -> tuple[ArchiveFile, ...]:
    """The files of `archive` for a layer that keeps the distributions called in `keep`.

    Left out are `__pycache__`, the marker EXTERNALLY-MANAGED (PEP 668; it would
    speak of whoever made the archive), and everything in site-packages, with
    the scripts that belong to it, but for what is kept. A script that is bound to
    the interpreter's place gets a launcher that is not; where RECORD knows the
    script, RECORD is changed too. Raises IntegrityError.
    """
    owned, kept = _distributions(archive, layout, keep)
    files = {
        file.path: file
        for file in archive.files
        if "__pycache__" not in file.path.split("/")
        and file.path != f"{layout.stdlib}/EXTERNALLY-MANAGED"
        and (file.path in kept or not _is_of_distribution(file.path, owned, layout))
    }
    if layout.os != "windows":
        _launch_scripts(archive, files, layout)
    return tuple(file for _, file in sorted(files.items()))


def _is_of_distribution(path: str, owned: Collection[str], layout: Layout) -> bool:
    return path in owned or path.startswith(f"{layout.site_packages}/")


def _distributions(
    archive: ArchiveFiles, layout: Layout, keep: Collection[str]
) -> tuple[set[str], set[str]]:
    """The paths that distributions have, of all and of the kept ones, by their RECORDs."""
    from packaging.utils import canonicalize_name

    owned: set[str] = set()
    kept: set[str] = set()
    for file in _records(archive.files, layout):
        directory = posixpath.basename(posixpath.dirname(file.path))
        name = canonicalize_name(directory.removesuffix(".dist-info").rpartition("-")[0])
        rows = csv.reader(io.StringIO(archive.read(file).decode(), newline=""))
        paths = {posixpath.normpath(f"{layout.site_packages}/{row[0]}") for row in rows if row}
        owned |= paths
        if name in keep:
            kept |= paths
    return owned, kept


def _records(files: Iterable[ArchiveFile], layout: Layout) -> list[ArchiveFile]:
    pattern = re.compile(re.escape(layout.site_packages) + r"/[^/]+\.dist-info/RECORD")
    return [file for file in files if pattern.fullmatch(file.path)]


def _launch_scripts(archive: ArchiveFiles, files: dict[str, ArchiveFile], layout: Layout) -> None:
    """Give each Python script in `files` a launcher, and tell RECORD of it."""
    changed: dict[str, bytes] = {}
    launched: dict[str, str] = {}
    for path, file in tuple(files.items()):
        is_script = posixpath.dirname(path) == layout.scripts and file.link is None
        if not is_script or file.size > _LARGEST_SCRIPT:
            continue
        script = unbound(archive.read(file))
        if script is None:
            continue
        place = launched[path] = launched_script(path)
        if place in files:
            raise IntegrityError("an interpreter's archive has no place for a script", file=place)
        changed |= {path: LAUNCHER, place: script}
        files[path] = replace(file, data=LAUNCHER, size=len(LAUNCHER), executable=True)
        files[place] = replace(file, path=place, data=script, size=len(script), executable=False)
    for file in _records(tuple(files.values()), layout) if changed else ():
        record = archive.read(file)
        data = corrected(record, changed, layout.site_packages, beside=launched)
        files[file.path] = replace(file, data=data, size=len(data))
