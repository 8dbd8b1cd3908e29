"""Check, retag and canonically rewrite wheels that were built here or elsewhere."""

from __future__ import annotations

import hashlib
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, cast

from stackbuild.builds.audit import Audit, audit, drop_absolute_search, elf_files
from stackbuild.errors import IntegrityError, LockError
from stackbuild.files import zip_entry
from stackbuild.names import is_distribution
from stackbuild.record import (
    TRUSTED_HASHES,
    UNRECORDED,
    encoded,
    read_record,
    record_hash,
    written_record,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from io import BufferedReader

    from installer.sources import WheelFile
    from packaging.tags import Tag
    from packaging.utils import NormalizedName
    from packaging.version import Version

    from stackbuild.record import Recorded
    from stackbuild.resolve.build_orders import BuildOrder

_REGULAR, _EXECUTABLE = 0o100644, 0o100755


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelFacts:
    """The metadata of a wheel."""

    name: NormalizedName
    version: Version
    tags: frozenset[Tag]
    dependencies: tuple[str, ...]
    """Its `Requires-Dist` lines, in their order."""
    extras: tuple[str, ...]
    """Its `Provides-Extra` lines, in their order."""


def check_wheel(path: Path) -> WheelFacts:
    """Check a wheel against its RECORD and its file name against its metadata.

    Raises IntegrityError (binary distribution format specification).
    """
    facts = wheel_facts(path)
    with _opened(path) as (archive, wheel):
        records = read_record(wheel.read_dist_info("RECORD"))
        issues = list(_record_issues(archive, records, wheel.dist_info_dir))
    if issues:
        raise IntegrityError("the wheel is damaged", file=path, found="; ".join(issues))
    return facts


def wheel_facts(path: Path) -> WheelFacts:
    """Read the metadata of a wheel. Raises IntegrityError if its file name does not match."""
    from email.parser import BytesHeaderParser

    from packaging.tags import parse_tag
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        name, version, _, tags = parse_wheel_filename(path.name)
    except InvalidWheelFilename as error:
        raise IntegrityError("this is not a wheel", file=path, found=str(error)) from None
    with _opened(path) as (_, wheel):
        metadata, header = (
            BytesHeaderParser().parsebytes(wheel.read_dist_info(file).encode())
            for file in ("METADATA", "WHEEL")
        )
    said = metadata.get("Name", ""), metadata.get("Version", "")
    if not is_distribution(*said, name, version):
        raise IntegrityError(
            "the wheel contains another distribution than its file name says",
            file=path,
            expected=f"{name} {version}",
            found=" ".join(said),
        )
    listed = header.get_all("Tag", [])
    if {tag for text in listed for tag in parse_tag(text)} != tags:
        raise IntegrityError(
            "the tags in the wheel do not match its file name",
            file=path,
            expected=", ".join(sorted(map(str, tags))),
            found=", ".join(listed) or "no tags",
        )
    return WheelFacts(
        name=name,
        version=version,
        tags=tags,
        dependencies=tuple(metadata.get_all("Requires-Dist", [])),
        extras=tuple(metadata.get_all("Provides-Extra", [])),
    )


def unpack_wheel(path: Path, to: Path) -> dict[str, bool]:
    """Unpack `path` into the directory `to`; returns which files are executable, by name.

    Raises IntegrityError for a damaged archive and for names outside it.
    """
    found: dict[str, bool] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if entry.is_dir():
                    continue
                parts = PurePosixPath(entry.filename).parts
                if entry.filename.startswith("/") or ".." in parts or "\\" in entry.filename:
                    raise IntegrityError(
                        "the wheel contains a forbidden entry", file=path, found=entry.filename
                    )
                target = to / entry.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(entry))
                found[entry.filename] = bool(entry.external_attr >> 16 & 0o111)
    except zipfile.BadZipFile as error:
        raise IntegrityError("the wheel is damaged", file=path, found=str(error)) from error
    return found


def write_wheel(
    tree: Path, files: Mapping[str, bool], to: Path, *, build: str, tags: Iterable[Tag]
) -> None:
    """Write the files of an unpacked wheel to `to`, with these tags and this build tag.

    Equal files give equal bytes. Nothing is compressed, because the output of zlib depends on its
    version, and the wheel itself is never published.
    """
    info = next(PurePosixPath(name).parts[0] for name in files if name.endswith("/WHEEL"))
    record = f"{info}/RECORD"
    header = _wheel_header((tree / info / "WHEEL").read_bytes(), build, tags)
    (tree / info / "WHEEL").write_bytes(header)
    names = sorted(set(files) - {record}, key=lambda name: (name.startswith(f"{info}/"), name))
    lines = []
    with zipfile.ZipFile(to, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            data = (tree / name).read_bytes()
            lines.append((name, record_hash(data), len(data)))
            archive.writestr(zip_entry(name, _EXECUTABLE if files[name] else _REGULAR), data)
        data = written_record([*lines, (record, "", "")])
        archive.writestr(zip_entry(record, _REGULAR), data)


def _wheel_header(data: bytes, build: str, tags: Iterable[Tag]) -> bytes:
    lines = [
        line
        for line in data.decode().splitlines()
        if line.strip() and not line.startswith(("Tag:", "Build:"))
    ]
    lines += [f"Tag: {tag}" for tag in sorted(map(str, tags))]
    return "\n".join([*lines, f"Build: {build}", ""]).encode()


@contextmanager
def _opened(path: Path) -> Iterator[tuple[zipfile.ZipFile, WheelFile]]:
    """Open a wheel. Raises IntegrityError if it is damaged, also while it is read."""
    from installer.exceptions import InvalidWheelSource
    from installer.sources import WheelFile

    try:
        with zipfile.ZipFile(path) as archive:
            yield archive, WheelFile(archive)
    except (InvalidWheelSource, zipfile.BadZipFile, KeyError, OSError, ValueError) as error:
        raise IntegrityError("the wheel is damaged", file=path, found=str(error)) from error


def _record_issues(
    archive: zipfile.ZipFile, records: Mapping[str, Recorded], info: str
) -> Iterator[str]:
    """The differences between RECORD and the files of a wheel."""
    unrecorded = {f"{info}/{name}" for name in UNRECORDED}
    files = {entry.filename: entry for entry in archive.infolist() if not entry.is_dir()}
    for name, entry in files.items():
        record = records.get(name)
        if name in unrecorded:
            continue
        if record is None or record.hash_name not in TRUSTED_HASHES:
            yield f"RECORD has no {' or '.join(TRUSTED_HASHES)} of {name!r}"
        elif not _is_true(archive, entry, record):
            yield f"{name!r} does not match RECORD"
    for name in records.keys() - files.keys():
        if "__pycache__" not in name.split("/"):
            yield f"{name!r} is in RECORD but not in the wheel"


def _is_true(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, record: Recorded) -> bool:
    if record.size not in {None, entry.file_size}:
        return False
    with archive.open(entry) as stream:
        digest = hashlib.file_digest(cast("BufferedReader", stream), record.hash_name).digest()
    return encoded(digest) == record.hash_value


def finish(
    wheel: Path, order: BuildOrder, directory: Path, *, build: str
) -> tuple[Path, Mapping[str, str]]:
    """Rewrite `wheel`, as built by its backend, for `order` in `directory`.

    Returns its path and the external libraries that it needs (`Audit.foreign`). On Linux it is
    retagged with the oldest manylinux tag its libraries allow. The build tag `build` (PEP 427)
    distinguishes it from a wheel of an index with the same name. Raises LockError for a wheel of
    another distribution, or one that does not run on the target platforms of the layer.
    """
    facts = check_wheel(wheel)
    if facts.name != order.name or (order.version and facts.version != order.version):
        raise LockError(
            f"building {order.subject} made another distribution",
            layer=order.layer.name,
            platform=order.platform,
            distribution=order.name,
            found=f"{facts.name} {facts.version}",
            remedy=f"require it by its own name: {facts.name} @ …"
            if facts.name != order.name
            else None,
        )
    tree = directory / "wheel"
    files = unpack_wheel(wheel, tree)
    found = Audit()
    if order.platform.os == "linux":
        drop_absolute_search(elf_files(tree))
        found = audit(tree, order.platform.machine)
    tags = _tags(facts, found, order)
    _check_target(tags, found, order)
    stem = "-".join(wheel.name.split("-")[:2])
    path = directory / f"{stem}-{build}-{_compressed(tags)}.whl"
    write_wheel(tree, files, path, build=build, tags=tags)
    return path, found.foreign


def _tags(facts: WheelFacts, found: Audit, order: BuildOrder) -> frozenset[Tag]:
    from packaging.tags import Tag

    if order.platform.os != "linux":
        return facts.tags
    true = found.tag(order.platform.machine)
    return frozenset(
        tag if tag.platform == "any" else Tag(tag.interpreter, tag.abi, true) for tag in facts.tags
    )


def _check_target(tags: frozenset[Tag], found: Audit, order: BuildOrder) -> None:
    target = order.target
    too_new = order.platform.os == "linux" and found.glibc > target.level
    if not too_new and target.rank(tags) is not None:
        return
    level = f"{found.glibc[0]}.{found.glibc[1]}"
    raise LockError(
        f"the built wheel of {order.subject} does not run on all hosts of {order.layer.name}",
        layer=order.layer.name,
        platform=order.platform,
        distribution=order.name,
        expected=f"one for {target}",
        found=str(found.because) if too_new else ", ".join(sorted(map(str, tags))),
        remedy=(
            f"set `linux_target = 'glibc@{level}'` for {order.layer.name}, or " if too_new else ""
        )
        + "build it on an older system and add the wheel with `stackbuild wheel add FILE`",
    )


def _compressed(tags: frozenset[Tag]) -> str:
    """The tags as in a file name (PEP 425, compressed tag sets)."""
    sets = (
        {tag.interpreter for tag in tags},
        {tag.abi for tag in tags},
        {tag.platform for tag in tags},
    )
    return "-".join(".".join(sorted(parts)) for parts in sets)
