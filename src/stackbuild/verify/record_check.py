"""Read the files of a layer: compare them with RECORD, and search them for paths."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from stackbuild.compose.postinstall_template import CONFIGURATION
from stackbuild.errors import ComposeError
from stackbuild.frames.binaries import read_binary
from stackbuild.frames.model import FrameKind
from stackbuild.install.damage import crc32_of
from stackbuild.install.home import needs_home
from stackbuild.record import TRUSTED_HASHES, encoded
from stackbuild.tomltext import inline, layer_table
from stackbuild.verify.build_paths import (
    counts_on_any_machine,
    find_any,
    find_home,
    is_text,
)
from stackbuild.verify.model import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from stackbuild.frames.model import Binary
    from stackbuild.messages import Task
    from stackbuild.verify.build_paths import BuildPaths
    from stackbuild.verify.deployed import DeployedLayer, Distribution, RecordEntry
    from stackbuild.verify.model import Check

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
    magics: Mapping[str, bytes] = field(default_factory=dict)
    """The first four bytes of each file, by path relative to the layer."""
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class _File:
    """A file of a layer and its findings."""

    layer: DeployedLayer
    name: str
    entries: Sequence[Owned]
    findings: list[Finding] = field(default_factory=list)
    binary: Binary | None = None
    magic: bytes | None = None
    """The first bytes, if it is a file."""
    changed_before: Distribution | None = None
    """The distribution, if the interpreter of the machine that was packed has this changed file."""

    def finds(
        self,
        check: Check,
        message: str,
        *,
        distribution: Distribution | None = None,
        expected: str | None = None,
        found: str | None = None,
        remedy: str | None = None,
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
                remedy=remedy or self.layer.remedy(self.name),
            )
        )


def read_layer(layer: DeployedLayer, paths: BuildPaths, jobs: int, task: Task) -> ReadLayer:
    """Read every file of `layer` in `jobs` threads; advances `task` in bytes.

    This includes files that were added after the installation: Python would import them too.
    `verify_installed` reports that they were added.
    """
    owned, findings = _owned(layer)
    names = sorted({*layer.kinds, *layer.links, *owned, *_present(layer.directory)})
    with ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(partial(_read, layer, owned, paths, task), names))
    binaries, magics = {}, {}
    changed: dict[Distribution, list[str]] = {}
    for name, result in zip(names, results, strict=True):
        findings += result.findings
        if result.changed_before is not None:
            changed.setdefault(result.changed_before, []).append(name)
        if result.magic is not None:
            magics[name] = result.magic
        if result.binary is not None:
            binaries[name] = result.binary
    owners = {path: entries[0][0] for path, entries in owned.items()}
    warnings = tuple(
        f"{layer.manifest.layer}: the interpreter that was packed has files of {one} that do not"
        f" match RECORD: {files[0]}{f' and {len(files) - 1} more' * (len(files) > 1)};"
        f" to fix: {_again(one)}"
        for one, files in changed.items()
    )
    return ReadLayer(len(names), tuple(findings), binaries, owners, magics, warnings)


def _again(changed: Distribution) -> str:
    return (
        f"install {changed.name} again in that interpreter (`python -m pip install"
        f" --force-reinstall {changed.name}=={changed.version}`), and publish the layer again"
    )


def _present(directory: Path) -> Iterator[str]:
    """The files and links below `directory`, relative to it."""
    base = len(os.fspath(directory)) + 1
    for place, directories, files in os.walk(directory):
        links = (name for name in directories if os.path.islink(f"{place}/{name}"))  # noqa: PTH114
        for name in (*files, *links):
            yield f"{place}/{name}"[base:].replace(os.sep, "/")


def _owned(layer: DeployedLayer) -> tuple[dict[str, list[Owned]], list[Finding]]:
    owned: dict[str, list[Owned]] = defaultdict(list)
    findings: list[Finding] = []
    record = next((path for path in layer.kinds if path.endswith("/RECORD")), "RECORD")
    about = partial(
        Finding, check="record", layer=layer.manifest.layer, remedy=layer.remedy(record)
    )
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
    is_link = path.is_symlink()
    try:
        mode = path.stat().st_mode
        if is_link and not file.entries:
            return file
        if not stat.S_ISREG(mode):
            file.finds("record", "is not a file")
            return file
        scan = _scan(path, file, paths)
        if not is_link:
            file.magic = scan.magic
            file.binary = read_binary(path, scan.magic, layer.manifest.platform)
    except (FileNotFoundError, NotADirectoryError):
        if file.entries:
            file.finds("record", "RECORD lists a missing file")
        elif is_link:
            file.finds("layer", "is a broken link", found=os.fspath(path.readlink()))
        else:
            file.finds("layer", "is missing")
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
        file.finds(
            "path",
            "contains a path of the machine that built it",
            found=scan.trace,
            remedy=f"remove the path; if it is intended, add {inline(scan.trace)} to `allow-paths`"
            f" in {layer_table(layer.manifest.layer, 'verify')}",
        )
    return file


def _compare(file: _File, scan: _Scan) -> None:
    layer = file.layer
    for owner, entry in file.entries:
        algorithm, _, expected = entry.digest.partition("=")
        found = scan.digests.get(algorithm)
        if entry.digest and found != expected.rstrip("="):
            packed = (
                layer.kinds.get(file.name) is FrameKind.INTERPRETER
                and file.name in layer.sums
                and layer.sums[file.name] == (scan.size, crc32_of(layer.directory / file.name))
            )
            if packed and layer.stands_in:
                file.changed_before = owner
                continue
            file.finds(
                "record",
                "does not match RECORD" + ", in the interpreter that was packed" * packed,
                distribution=owner,
                remedy=_again(owner) if packed else None,
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
    manifest = about.layer.manifest
    has_home = needs_home(manifest.platform.os, manifest.python_version)
    # Programs write logs and caches, with paths, to files that were not installed.
    installed = kind is not None or bool(about.entries)
    # Files that were installed with the wheel of an index, and not written later.
    of_index = kind is FrameKind.DISTRIBUTION and any(one.from_index for one, _ in about.entries)
    scan, text, before = _Scan(), True, b""
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            if not scan.size:
                scan.magic, text = chunk[:4], installed and is_text(about.name, chunk)
            scan.size += len(chunk)
            for one in hashes.values():
                one.update(chunk)
            if text and scan.trace is None:
                piece = before + chunk if before else chunk
                if about.name == CONFIGURATION and has_home and piece.startswith(b"home = "):
                    piece = piece.partition(b"\n")[2]
                scan.trace = paths.find(piece) or (find_any(piece) if strict else None)
                if scan.trace is None and kind is not FrameKind.INTERPRETER:
                    scan.trace = find_home(about.name, piece, of_index=of_index)
                before = piece[-_OVERLAP:]
            elif not text and not hashes:
                break
    for name, one in hashes.items():
        scan.digests[name] = encoded(one.digest())
    return scan
