"""Check the files of a layer against RECORD and for paths of the build machine.

Documentation contains paths like ``/home/user`` and ``/tmp/x``, and wheels of an index contain
paths of the machines that built them. So a path is reported only if it is in a build directory of
this machine, or if it exists in a user's home or the temporary directory. In files that stackbuild
writes, and in build settings of interpreters, all paths in a home or temporary directory are
reported.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import sys
import tempfile
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from stackbuild.errors import ComposeError
from stackbuild.frames.binaries import read_binary
from stackbuild.frames.model import FrameKind
from stackbuild.layout import METADATA
from stackbuild.record import TRUSTED_HASHES, encoded
from stackbuild.verify.model import Finding
from stackbuild.workspace import home_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stackbuild.frames.model import Binary
    from stackbuild.messages import Task
    from stackbuild.verify.deployed import DeployedLayer, Distribution, RecordEntry
    from stackbuild.verify.model import Check


_TEXT_PROBE = 8192
_REST = rb"[^\s\"'`<>|:;,()\[\]{}\\/]+"
_SYSTEM = ("/", "/usr", "/usr/local", "/opt")
"""Common prefixes of interpreters, which are not reported."""
_ANY_MACHINE = re.compile(
    rb"(?:/home/|/Users/|/root/|/tmp/|/var/tmp/|/var/folders/|[A-Za-z]:\\{1,2}Users\\{1,2})" + _REST
)
_HOW_IT_WAS_BUILT = (
    *("*/_sysconfigdata*.py", "*/_sysconfig_vars*.json", "*/build-details.json"),
    *("*/Makefile", "*.pc", "*/pyconfig.h", "bin/*"),
)
_STACKBUILDS_OWN = ("bin/*", "Scripts/*", "*.pth", "*/sitecustomize.py", "*.cfg", f"{METADATA}/*")


class BuildPaths:
    """The directories of a machine that must not appear in files of a layer."""

    def __init__(self, places: Iterable[Path], crowded: Iterable[Path]) -> None:
        """Any path in `places` is reported; in `crowded`, only existing ones."""
        self._places: dict[bytes, re.Pattern[bytes]] = {}
        self._crowded: dict[bytes, re.Pattern[bytes]] = {}
        for path in crowded:
            self._add(self._crowded, path)
        for path in places:
            # A short name, such as /app, appears in many texts.
            self._add(self._places if len(path.parts) > 2 else self._crowded, path)

    @staticmethod
    def _add(patterns: dict[bytes, re.Pattern[bytes]], path: Path) -> None:
        texts = {str(path), path.as_posix(), str(path).replace("\\", "\\\\")}
        for text in texts:
            literal = os.fsencode(text)
            below = rb"[/\\]{1,2}(" + _REST + rb")"
            patterns[literal] = re.compile(re.escape(literal) + rb"(?:" + below + rb")?")

    def find(self, data: bytes) -> str | None:
        """A path of this machine in `data`."""
        for literal, pattern in self._places.items():
            if literal in data and (match := self._whole_name(pattern, data)):
                return os.fsdecode(match)
        for literal, pattern in self._crowded.items():
            if literal not in data:
                continue
            for found in pattern.finditer(data):
                name = found[1] or b""
                if name.strip(b".") and Path(os.fsdecode(found[0])).exists():
                    return os.fsdecode(found[0])
        return None

    @staticmethod
    def _whole_name(pattern: re.Pattern[bytes], data: bytes) -> bytes | None:
        for match in pattern.finditer(data):
            after = data[match.end() : match.end() + 1]
            if match[1] or not re.match(rb"[\w.-]", after):
                return match[0]
        return None


def of_this_machine(places: Iterable[Path]) -> BuildPaths:
    """The paths of this machine to search for, including `places`.

    `places` are the project, the cache and the root, as given and with links resolved.
    """
    prefixes = {Path(sys.prefix), Path(sys.base_prefix)}
    named = {*places, *(path for path in prefixes if path.as_posix() not in _SYSTEM)}
    home = home_directory()
    crowded = {Path(tempfile.gettempdir()), *([home] if home else [])}
    return BuildPaths(
        sorted(named | {path.resolve() for path in named}),
        sorted(path for path in crowded | {path.resolve() for path in crowded} if path.name),
    )


def find_any(data: bytes) -> str | None:
    """A path in `data` to a home or temporary directory of any machine."""
    match = _ANY_MACHINE.search(data)
    return os.fsdecode(match[0]) if match else None


def counts_on_any_machine(path: str, kind: FrameKind) -> bool:
    """Whether `find_any` applies to the file `path`, relative to its layer."""
    patterns = {FrameKind.INTERPRETER: _HOW_IT_WAS_BUILT, FrameKind.HEAD: _STACKBUILDS_OWN}
    return any(fnmatch(path, pattern) for pattern in patterns.get(kind, ()))


def is_text(path: str, data: bytes) -> bool:
    """Whether the file that begins with `data` is text: no NUL, and not bytecode."""
    return PurePath(path).suffix != ".pyc" and b"\0" not in data[:_TEXT_PROBE]


_CHUNK = 1 << 22
_OVERLAP = 4096
"""Bytes at the end of a piece of a text that are searched again with the next one."""
Owned = tuple["Distribution", "RecordEntry"]


@dataclass(frozen=True, slots=True)
class ReadLayer:
    """The result of reading a layer."""

    files: int
    findings: tuple[Finding, ...]
    binaries: Mapping[str, Binary]
    """Programs and libraries of the layer's operating system, relative to the layer."""
    owners: Mapping[str, Distribution]
    """The distribution whose RECORD lists a file, by path relative to the layer."""


@dataclass(slots=True)
class _File:
    """A file of a layer and its findings."""

    layer: DeployedLayer
    name: str
    entries: Sequence[Owned]
    findings: list[Finding] = field(default_factory=list)
    binary: Binary | None = None

    def finds(
        self,
        check: Check,
        message: str,
        *,
        distribution: Distribution | None = None,
        expected: str | None = None,
        found: str | None = None,
    ) -> None:
        """Add a finding about the file; by default for its first distribution."""
        owner = distribution or (self.entries[0][0] if self.entries else None)
        self.findings.append(
            Finding(
                check=check,
                layer=self.layer.manifest.layer,
                message=message,
                distribution=None if owner is None else str(owner),
                file=self.name,
                expected=expected,
                found=found,
            )
        )


def read_layer(layer: DeployedLayer, paths: BuildPaths, jobs: int, task: Task) -> ReadLayer:
    """Read every file of `layer` in `jobs` threads; advances `task` in bytes.

    Files that were not installed are ignored here; `verify_installed` reports them.
    """
    owned, findings = _owned(layer)
    names = sorted({*layer.kinds, *owned})
    with ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(partial(_read, layer, owned, paths, task), names))
    binaries = {}
    for name, result in zip(names, results, strict=True):
        findings += result.findings
        if result.binary is not None:
            binaries[name] = result.binary
    owners = {path: entries[0][0] for path, entries in owned.items()}
    return ReadLayer(len(names), tuple(findings), binaries, owners)


def _owned(layer: DeployedLayer) -> tuple[dict[str, list[Owned]], list[Finding]]:
    owned: dict[str, list[Owned]] = defaultdict(list)
    findings: list[Finding] = []
    about = partial(Finding, check="record", layer=layer.manifest.layer)
    here = {distribution.name for distribution in layer.distributions}
    for shipped in layer.manifest.distributions:
        if shipped.name not in here:
            name = f"{shipped.name} {shipped.version}"
            message = "the layer was published with this distribution, but it is missing"
            findings.append(about(distribution=name, message=message))
    for one in layer.distributions:
        if one.record is None:
            message = "has no readable RECORD"
            findings.append(about(distribution=str(one), message=message, file=one.info))
        for entry in one.record or ():
            if entry.path.startswith(("../", "/")) or entry.path == "..":
                message = "RECORD lists a file outside the layer"
                findings.append(about(distribution=str(one), message=message, file=entry.path))
            else:
                owned[entry.path].append((one, entry))
    brought = [path for path, kind in layer.kinds.items() if kind is FrameKind.DISTRIBUTION]
    if unnamed := sorted(path for path in brought if path not in owned):
        others = f"{len(unnamed)} such files" if len(unnamed) > 1 else None
        message = "was installed for a distribution, but is in no RECORD"
        findings.append(about(message=message, file=unnamed[0], found=others))
    return owned, findings


def _read(
    layer: DeployedLayer,
    owned: Mapping[str, list[Owned]],
    paths: BuildPaths,
    task: Task,
    name: str,
) -> _File:
    path, file = layer.directory / name, _File(layer, name, owned.get(name, ()))
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            file.finds("record", "is not a file")
            return file
        scan = _scan(path, file, paths)
        if not path.is_symlink():
            file.binary = read_binary(path, scan.magic, layer.manifest.platform)
    except FileNotFoundError:
        if file.entries:
            file.finds("record", "RECORD lists a missing file")
        return file
    except OSError as error:
        file.finds("record", "cannot be read", found=error.strerror)
        return file
    except ComposeError:
        file.finds(
            "library",
            "is damaged: it has the magic number of a program or library, but is not valid",
        )
    task.advance(scan.size)
    _compare(file, scan)
    if scan.trace is not None:
        file.finds("path", "contains a path of the machine that built it", found=scan.trace)
    return file


def _compare(file: _File, scan: _Scan) -> None:
    for owner, entry in file.entries:
        algorithm, _, expected = entry.digest.partition("=")
        found = scan.digests.get(algorithm)
        if entry.digest and found != expected.rstrip("="):
            file.finds(
                "record",
                "does not match RECORD",
                distribution=owner,
                expected=entry.digest,
                found=f"{algorithm}={found}" if found else f"{algorithm} is not allowed in RECORD",
            )


@dataclass(slots=True)
class _Scan:
    digests: dict[str, str] = field(default_factory=dict)
    """Hashes in the format of RECORD, by algorithm."""
    trace: str | None = None
    """A path of the build machine."""
    magic: bytes = b""
    size: int = 0


def _scan(path: Path, about: _File, paths: BuildPaths) -> _Scan:
    """Read a file once. Raises OSError."""
    used = {entry.digest.partition("=")[0] for _, entry in about.entries}
    hashes = {name: hashlib.new(name) for name in used if name in TRUSTED_HASHES}
    kind = about.layer.kinds.get(about.name)
    strict = kind is not None and counts_on_any_machine(about.name, kind)
    scan, text, before = _Scan(), True, b""
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            if not scan.size:
                scan.magic, text = chunk[:4], is_text(about.name, chunk)
            scan.size += len(chunk)
            for one in hashes.values():
                one.update(chunk)
            if text and scan.trace is None:
                piece = before + chunk if before else chunk
                scan.trace = paths.find(piece) or (find_any(piece) if strict else None)
                before = piece[-_OVERLAP:]
            elif not text and not hashes:
                break
    for name, one in hashes.items():
        scan.digests[name] = encoded(one.digest())
    return scan
