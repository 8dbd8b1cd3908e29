"""Pack an interpreter of this machine into a relocatable archive."""

from __future__ import annotations

import posixpath
import shutil
import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from stackbuild.errors import ComposeError, UsageError
from stackbuild.files import atomic_file, atomic_write, sha256_file
from stackbuild.platforms import host_platform
from stackbuild.record import corrected, record_rows
from stackbuild.runtimes import macho
from stackbuild.runtimes.contents import Entry, posix_contents, windows_contents
from stackbuild.runtimes.elf import (
    C_LIBRARY,
    Elf,
    find_needed,
    read_elf,
    relative_search,
    set_search,
)
from stackbuild.runtimes.names import archive_name, release_tag
from stackbuild.runtimes.probe import Facts, objection, probe
from stackbuild.runtimes.relocate import relocate_texts, with_header
from stackbuild.runtimes.system import check_moved, system_contents
from stackbuild.runtimes.tarball import write_tarball

if TYPE_CHECKING:
    from collections.abc import Collection

    from packaging.utils import NormalizedName

    from stackbuild.messages import Messages
    from stackbuild.platforms import Platform

PACK_VERSION = 2
"""Raise this when the same interpreter is packed to different bytes."""

_SYSTEM_LIBRARIES = ("/lib/", "/lib64/", "/usr/lib/", "/usr/lib64/")


class Packed(NamedTuple):
    """The archive of an interpreter of this machine."""

    path: Path
    libraries: tuple[str, ...]
    """The shared libraries that it needs on the host, sorted."""


def pack(prefix_or_executable: Path, to: Path, messages: Messages) -> Packed:
    """Pack the interpreter into the mirror `to`.

    The path is ``<tag>/<name>`` as on python-build-standalone's releases page, with a `.sha256`
    file beside it. See `api.pack_interpreter`.
    """
    platform = host_platform()
    facts = facts_at(prefix_or_executable, platform)
    tag = release_tag(facts.version, platform, facts.built)
    path = to / tag / archive_name(facts.version, tag, platform)
    path.parent.mkdir(parents=True, exist_ok=True)
    with messages.task(f"packing {facts.prefix}", None):
        libraries = write_archive(facts, platform, (), path, messages)
    # The format of sha256sum --check.
    atomic_write(path.with_name(f"{path.name}.sha256"), f"{sha256_file(path)}  {path.name}\n")
    if libraries:
        messages.note(f"it needs these libraries on the host: {', '.join(libraries)}")
    return Packed(path, libraries)


def facts_at(path: Path, platform: Platform) -> Facts:
    """The facts of an interpreter, given as its file or its prefix.

    Raises UsageError if there is none, ComposeError if it cannot be packed for `platform`.
    """
    inside = ("python.exe",) if platform.os == "windows" else ("bin/python3", "bin/python")
    tried = [path / name for name in inside] if path.is_dir() else [path]
    facts = next((found for item in tried if (found := probe(item)) is not None), None)
    if facts is None:
        raise UsageError(
            "this is neither a working interpreter nor a prefix with one",
            file=path,
            expected="a CPython, or the directory it is installed in",
        )
    if (reason := objection(facts, platform)) is not None:
        raise ComposeError(
            f"the interpreter {facts.executable} cannot be packed",
            found=reason,
            remedy="choose another one: from pyenv or uv, or compiled with its own prefix",
        )
    return facts


def write_archive(
    facts: Facts,
    platform: Platform,
    keep: Collection[NormalizedName],
    path: Path,
    messages: Messages,
) -> tuple[str, ...]:
    """Write the archive of an interpreter at `path`, atomically.

    Returns the shared libraries that it needs on the host, sorted. Warns about parts that the
    archive lacks. Raises ComposeError.
    """
    windows = platform.os == "windows"
    minor, prefix = facts.minor, facts.prefix
    if facts.is_system:
        entries = system_contents(facts, messages)
    else:
        entries = windows_contents(prefix) if windows else posix_contents(prefix, minor)
    if keep:
        stdlib = "Lib" if windows else f"lib/python{minor}"
        entries |= kept_distributions(prefix, stdlib, minor, keep)
    libraries: set[str] = set()
    with (
        atomic_file(path) as work,
        tempfile.TemporaryDirectory(prefix="stackbuild-") as staging,
    ):
        if not windows:
            entries = relocate_texts(entries, minor, [str(prefix)], platform.os)
            programs = _elf if platform.os == "linux" else _macho
            libraries = programs(entries, Path(staging))
        write_tarball(work, entries)
        if facts.is_system:
            check_moved(work, facts, Path(staging) / "moved")
    return tuple(sorted(libraries))


def _elf(entries: dict[str, Entry], staging: Path) -> set[str]:
    """Make the ELF files among the entries relocatable; returns the needed host libraries.

    Libraries that their search paths find outside the prefix and the system's directories are
    packed too.
    """
    files: dict[str, Elf] = {}
    pending = [path for path, entry in entries.items() if _may_be_program(path, entry)]
    while pending:
        path = pending.pop()
        source = entries[path].source
        elf = read_elf(source) if source else None
        if source is None or elf is None:
            continue
        files[path] = elf
        for name, found in find_needed(elf, source.parent).items():
            beside = f"lib/{PurePosixPath(name).name}"
            if beside not in entries and not str(found.resolve()).startswith(_SYSTEM_LIBRARIES):
                entries[beside] = Entry(source=found.resolve(), executable=True)
                pending.append(beside)
    packed = {PurePosixPath(path).name for path in entries}
    searches: defaultdict[str, list[Path]] = defaultdict(list)
    for path, elf in files.items():
        search = relative_search(path)
        missing = any(f"lib/{name}" in entries for name in elf.needed) and search not in elf.search
        if missing or any(not item.startswith(("$ORIGIN", "${ORIGIN}")) for item in elf.search):
            searches[search].append(_staged(entries, path, staging))
    set_search(searches, "choose another interpreter with `path`, or use the source pbs")
    needed = {PurePosixPath(name).name for elf in files.values() for name in elf.needed}
    return needed - packed - C_LIBRARY


def _macho(entries: dict[str, Entry], staging: Path) -> set[str]:
    """Like `_elf`, for macOS."""
    libraries: set[str] = set()
    for path, entry in list(entries.items()):
        source = entry.source
        if source is None or not _may_be_program(path, entry):
            continue
        with source.open("rb") as file:
            if not macho.is_macho(file.read(4)):
                continue
        found = macho.libraries_of(source)
        libraries |= macho.host_libraries(found, entries)
        if arguments := macho.install_name_arguments(path, found, entries):
            macho.relocate_file(_staged(entries, path, staging), arguments)
    return libraries


def _may_be_program(path: str, entry: Entry) -> bool:
    name = path.rpartition("/")[2]
    binary = path.startswith("bin/") or ".so" in name or name.endswith(".dylib")
    return entry.source is not None and binary


def _staged(entries: dict[str, Entry], path: str, staging: Path) -> Path:
    """A copy of the entry's file to change and pack."""
    entry = entries[path]
    if entry.source is None:
        raise ValueError(f"{path} has no file")
    copy = staging / path
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(entry.source, copy)
    entries[path] = replace(entry, source=copy)
    return copy


def kept_distributions(
    prefix: Path, stdlib: str, minor: str, keep: Collection[NormalizedName]
) -> dict[str, Entry]:
    """The entries of the distributions `keep`, by path relative to `prefix`.

    `stdlib` is relative, such as ``lib/python3.12``. RECORD is rewritten: without bytecode, and
    with relocatable scripts. Raises ComposeError if a distribution is not installed.
    """
    from packaging.utils import canonicalize_name

    site = f"{stdlib}/site-packages"
    found = {
        canonicalize_name(info.name.partition("-")[0]): info
        for info in sorted((prefix / site).glob("*.dist-info"))
        if (info / "RECORD").is_file()
    }
    entries: dict[str, Entry] = {}
    for name in sorted(keep):
        if name not in found:
            raise ComposeError(
                "a distribution to keep in the runtime is not installed in the interpreter",
                distribution=name,
                file=prefix,
                remedy=f"install {name} there, or remove it from `keep`",
            )
        entries |= _entries(prefix, site, found[name], minor)
    return entries


def _entries(prefix: Path, site: str, info: Path, minor: str) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    changed: dict[str, bytes | None] = {}
    own = f"{site}/{info.name}/RECORD"
    record = (info / "RECORD").read_bytes()
    for row in record_rows(record.decode()):
        path = posixpath.normpath(posixpath.join(site, row[0]))
        file = prefix / path
        if path.startswith("../") or "__pycache__" in path or not file.is_file():
            changed[path] = None
        elif path != own:
            executable = bool(file.stat().st_mode & 0o111)
            entries[path] = Entry(source=file, executable=executable)
            if not path.startswith(f"{site}/") and (data := with_header(file.read_bytes(), minor)):
                entries[path] = Entry(data=data, executable=executable)
                changed[path] = data
    entries[own] = Entry(data=corrected(record, changed, site))
    return entries
