"""What of an interpreter's archive goes into a runtime layer, and how its scripts start."""

from __future__ import annotations

import csv
import io
import posixpath
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from stackbuild.frames.scripts import relocatable_script
from stackbuild.record import corrected

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from stackbuild.frames.archivefiles import ArchiveFile, ArchiveFiles
    from stackbuild.layout import Layout

_ABSOLUTE_PYTHON = re.compile(rb"#!\s*/[^\n]*python[^\n/]*\n")
_LARGEST_SCRIPT = 1024 * 1024


def chosen_files(
    archive: ArchiveFiles, layout: Layout, keep: Collection[str]
) -> tuple[ArchiveFile, ...]:
    """The files of `archive` for a layer that keeps the distributions called in `keep`.

    Left out are `__pycache__`, the marker EXTERNALLY-MANAGED (PEP 668; it would
    speak of whoever made the archive), and everything in site-packages, with
    the scripts that belong to it, but for what is kept. A script that names its
    interpreter by an absolute path is changed to find it beside itself; where
    RECORD knows the script, RECORD is changed too.
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
        _relocate_scripts(archive, files, layout)
    return tuple(files.values())


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


def _relocate_scripts(archive: ArchiveFiles, files: dict[str, ArchiveFile], layout: Layout) -> None:
    changed: dict[str, bytes] = {}
    for path, file in files.items():
        is_script = posixpath.dirname(path) == layout.scripts and file.link is None
        if is_script and file.size <= _LARGEST_SCRIPT:
            data = archive.read(file)
            if _ABSOLUTE_PYTHON.match(data):
                changed[path] = relocatable_script(data)
    for file in _records(tuple(files.values()), layout) if changed else ():
        changed[file.path] = corrected(archive.read(file), changed, layout.site_packages)
    for path, data in changed.items():
        files[path] = replace(files[path], data=data, size=len(data))
