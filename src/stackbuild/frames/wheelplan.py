"""Read and check the metadata of a wheel before any of its files is read.

The wheel's RECORD (binary distribution format, "The .dist-info directory")
and the zip file's central directory must agree on every file.
"""

from __future__ import annotations

import stat
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING

# Imported here and not late: if threads import modules of the package that import each other,
# CPython 3.11 sometimes reports a deadlock.
from installer.utils import parse_metadata_file

from stackbuild.errors import IntegrityError
from stackbuild.files import sha256_file
from stackbuild.globs import first_match
from stackbuild.names import is_distribution, path_fault
from stackbuild.record import TRUSTED_HASHES, UNRECORDED, read_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from email.message import Message
    from pathlib import Path

    from packaging.utils import NormalizedName
    from packaging.version import Version

    from stackbuild.record import Recorded

    _Error = Callable[..., IntegrityError]
    """`wheel_error` for one wheel."""

SCHEMES = ("purelib", "platlib", "headers", "scripts", "data")
_MAX_METADATA = 64 * 1024 * 1024
_ENCRYPTED = 0x1

DAMAGES = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)
"""The errors of `zipfile` for damaged files and unknown compression methods."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelMember:
    """A file of a wheel that will be installed."""

    info: zipfile.ZipInfo
    record: Recorded
    scheme: str
    """``root``, or its scheme below `.data`."""
    target: str
    """The path in its scheme."""
    executable: bool
    names_python: bool
    """Whether it is a script with the placeholder ``#!python``."""

    @property
    def name(self) -> str:
        """Its path in the wheel."""
        return self.info.filename


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """A wheel's files, without their contents."""

    path: Path
    subject: str
    """Name and version: ``numpy 2.2.6``."""
    stem: str
    """Name and version as in the name of the `.dist-info` directory: ``numpy-2.2.6``."""
    data_directory: str
    members: tuple[WheelMember, ...]
    """Without RECORD, its signatures, `__pycache__`, and `excluded`."""
    texts: Mapping[str, str]
    """The files at the top of `.dist-info` that installing needs, by name."""
    excluded: tuple[str, ...]
    """The paths that patterns left out, as patterns see them, sorted."""

    @property
    def info_directory(self) -> str:
        """The `.dist-info` directory."""
        return f"{self.stem}.dist-info"

    def error(self, message: str, name: str, **details: str) -> IntegrityError:
        """An error about the file `name` of this wheel."""
        return wheel_error(self.path, self.subject, message, name, **details)


def wheel_error(
    path: Path, subject: str, message: str, name: str | None = None, **details: str
) -> IntegrityError:
    """An error about the wheel at `path`, or about the file `name` in it."""
    file = f"{path.name}: {name}" if name else path
    return IntegrityError(message, distribution=subject, file=file, **details)


def verify_wheel(path: Path, sha256: str) -> None:
    """Check that the wheel at `path` has this sha256; a file is checked again if it changes.

    Raises IntegrityError for another sha256 or a missing file.
    """
    try:
        status = path.stat()
        found = _sha256(path, status.st_size, status.st_mtime_ns, status.st_ino)
    except FileNotFoundError:
        raise IntegrityError(
            "a fetched wheel is missing", file=path, remedy="run stackbuild fetch"
        ) from None
    if found != sha256:
        raise IntegrityError(
            "a wheel does not match its lock",
            file=path,
            expected=f"sha256 {sha256}",
            found=f"sha256 {found}",
            remedy="remove the file and run stackbuild fetch",
        )


@lru_cache(maxsize=4096)
def _sha256(path: Path, _size: int, _modified: int, _inode: int) -> str:
    return sha256_file(path)


@contextmanager
def open_wheel(path: Path) -> Iterator[zipfile.ZipFile]:
    """The zip file at `path`; raises IntegrityError instead of the errors of `zipfile`."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except DAMAGES as error:
        raise IntegrityError(f"a wheel is not a valid zip file: {error}", file=path) from error


def read_wheel(path: Path, patterns: Sequence[str] = ()) -> Wheel:
    """Read the wheel at `path`, without the contents of its files.

    The files that `patterns` of `exclude-files` match are left out, but none of `.dist-info`.
    Raises IntegrityError, with wheel and file, for an invalid wheel: files missing from RECORD or
    from the wheel, paths out of their directory, duplicate paths, links, encrypted files.
    """
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        name, version, _, _ = parse_wheel_filename(path.name)
    except InvalidWheelFilename as invalid:
        raise IntegrityError(str(invalid), file=path) from None
    subject = f"{name} {version}"
    error = partial(wheel_error, path, subject)
    with open_wheel(path) as archive:
        infos = _files(archive, path, error)
        stem = _stem(infos, error, name)
        texts = _texts(archive, infos, error, stem)
        _check_metadata(texts["METADATA"], stem, error, name, version)
        records = _records(texts["RECORD"], error)
        data = _data_directory(infos, stem)
        members = tuple(
            _member(archive, info, _recorded(info, records, error), data, error)
            for info in infos.values()
            if not _is_left_out(info.filename, stem)
        )
    _check_complete(records, infos, error)
    excluded = {
        member.name: seen
        for member in members
        if not member.name.startswith(f"{stem}.dist-info/")
        and first_match(seen := seen_path(member), patterns)
    }
    return Wheel(
        path=path,
        subject=subject,
        stem=stem,
        data_directory=data,
        members=tuple(member for member in members if member.name not in excluded),
        texts=texts,
        excluded=tuple(sorted(excluded.values())),
    )


def _files(archive: zipfile.ZipFile, path: Path, error: _Error) -> dict[str, zipfile.ZipInfo]:
    files: dict[str, zipfile.ZipInfo] = {}
    packed = 0
    for info in archive.infolist():
        name = info.orig_filename
        mode = info.external_attr >> 16
        fault = path_fault(name.removesuffix("/"))
        if not fault and name in files:
            fault = "is in it twice"
        if not fault and stat.S_ISLNK(mode):
            fault = "is a symbolic link"
        if not fault and info.flag_bits & _ENCRYPTED:
            fault = "is encrypted"
        if fault:
            raise error(f"a file of a wheel {fault}", ascii(name))
        packed += info.compress_size
        if not info.is_dir():
            files[name] = info
    if packed > path.stat().st_size:
        raise error("the files of a wheel overlap")
    return files


def _stem(infos: Mapping[str, object], error: _Error, name: str) -> str:
    from packaging.utils import canonicalize_name

    tops = {top for file in infos if (top := file.partition("/")[0]).endswith(".dist-info")}
    stems = sorted(top.removesuffix(".dist-info") for top in tops)
    if len(stems) != 1 or canonicalize_name(stems[0].rpartition("-")[0]) != name:
        raise error(
            "a wheel must have exactly one .dist-info directory, with its name",
            found=", ".join(f"{stem}.dist-info" for stem in stems) or "none",
        )
    return stems[0]


def _check_metadata(
    text: str, stem: str, error: _Error, name: NormalizedName, version: Version
) -> None:
    """Check that name and version match the file name, which requirements are resolved by."""
    metadata = parse_metadata_file(text)
    said = str(metadata["Name"] or ""), str(metadata["Version"] or "")
    places = {"METADATA": said, f"{stem}.dist-info": (name, stem.rpartition("-")[2])}
    for place, (its_name, its_version) in places.items():
        if is_distribution(its_name, its_version, name, version):
            continue
        raise error(
            "the metadata of a wheel has another name or version than its file name",
            place,
            expected=f"{name} {version}",
            found=ascii(f"{its_name} {its_version}"),
        )


def _data_directory(infos: Mapping[str, object], stem: str) -> str:
    """The `.data` directory; some tools write its name differently from `.dist-info`."""
    from packaging.utils import canonicalize_name

    for top in sorted({file.partition("/")[0] for file in infos}):
        if top.endswith(".data") and canonicalize_name(top) == canonicalize_name(f"{stem}.data"):
            return top
    return f"{stem}.data"


def _texts(
    archive: zipfile.ZipFile,
    infos: Mapping[str, zipfile.ZipInfo],
    error: _Error,
    stem: str,
) -> dict[str, str]:
    texts = {}
    for name in ("RECORD", "WHEEL", "METADATA", "entry_points.txt"):
        info = infos.get(f"{stem}.dist-info/{name}")
        if info is None and name != "entry_points.txt":
            raise error("a wheel lacks a file", f"{stem}.dist-info/{name}")
        if info is None:
            continue
        if info.file_size > _MAX_METADATA:
            raise error("a file of metadata is too large", info.filename)
        try:
            texts[name] = archive.read(info).decode("utf-8")
        except UnicodeDecodeError:
            raise error("a file is not UTF-8", info.filename) from None
    return texts


def _records(text: str, error: _Error) -> dict[str, Recorded]:
    try:
        return read_record(text)
    except ValueError as invalid:
        raise error(f"RECORD cannot be read: {invalid}", "RECORD") from None


def _is_left_out(name: str, stem: str) -> bool:
    """Whether a file is not installed: it is recreated, or not allowed from a wheel."""
    directory, _, last = name.rpartition("/")
    own = (*UNRECORDED, "INSTALLER")
    return (directory == f"{stem}.dist-info" and last in own) or "__pycache__" in name.split("/")


def _recorded(info: zipfile.ZipInfo, records: Mapping[str, Recorded], error: _Error) -> Recorded:
    record = records.get(info.filename)
    if record is None or record.hash_name not in TRUSTED_HASHES:
        found = "no entry" if record is None else f"hash {record.hash_name or None}"
        raise error(
            "a file of the wheel has no valid hash in RECORD",
            info.filename,
            expected=" or ".join(TRUSTED_HASHES),
            found=found,
        )
    if record.size is not None and record.size != info.file_size:
        raise error(
            "a file of a wheel does not match RECORD",
            info.filename,
            expected=f"{record.size} bytes",
            found=f"{info.file_size} bytes",
        )
    return record


def _member(
    archive: zipfile.ZipFile,
    info: zipfile.ZipInfo,
    record: Recorded,
    data: str,
    error: _Error,
) -> WheelMember:
    scheme, target = "root", info.filename
    if target.startswith(f"{data}/"):
        scheme, _, target = target.removeprefix(f"{data}/").partition("/")
        if scheme not in SCHEMES or not target:
            raise error(
                "a file below .data is in an unknown scheme",
                info.filename,
                expected=", ".join(SCHEMES),
            )
    is_script = scheme == "scripts"
    names_python = False
    if is_script:
        with archive.open(info) as stream:
            names_python = stream.read(8) == b"#!python"
    if names_python and "/" in target:
        raise error(
            "a Python script of a wheel is in a subdirectory, so it cannot be started",
            info.filename,
            expected=f"a script directly in {data}/scripts",
            remedy="build the wheel with the script there, or with an entry point",
        )
    mode = info.external_attr >> 16
    return WheelMember(
        info=info,
        record=record,
        scheme=scheme,
        target=target,
        executable=is_script or bool(stat.S_ISREG(mode) and mode & 0o111),
        names_python=names_python,
    )


def seen_path(member: WheelMember) -> str:
    """The path of `member` that patterns are compared with, the same on all platforms."""
    return {"scripts": "bin/", "headers": "include/"}.get(member.scheme, "") + member.target


def _check_complete(
    records: Mapping[str, object], infos: Mapping[str, object], error: _Error
) -> None:
    missing = sorted(
        name for name in records if name not in infos and "__pycache__" not in name.split("/")
    )
    if missing:
        raise error("a file in RECORD is missing from a wheel", missing[0])


def metadata_of(wheel: Wheel) -> Message:
    """The wheel's METADATA (core metadata specification)."""
    return parse_metadata_file(wheel.texts["METADATA"])


def licence_of(metadata: Message) -> str | None:
    """The licence in `metadata`, or None.

    If `License` contains the whole licence text, the classifiers are used.
    """
    text = str(metadata["License-Expression"] or metadata["License"] or "").strip()
    if text and text.upper() != "UNKNOWN" and "\n" not in text:
        return text
    classifiers = [str(value) for value in metadata.get_all("Classifier") or ()]
    names = [value.rpartition(" :: ")[2] for value in classifiers if value.startswith("License ::")]
    return "; ".join(names) or None
