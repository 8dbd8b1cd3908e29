"""The directory that layers are published to.

    index.json
    .stackbuild.tag                          the mark (`stackbuild.mark`)
    <platform>/<layer>-<digest12>.tar.zst    and the other formats
    <platform>/<layer>-<digest12>.patches    its patches from older versions, if it has some
    <platform>/<layer>-<digest12>.json       the manifest; of other formats <archive>.json

Files are written in this order: the archive and its patches, its manifest, the index. So the files
that the index or a manifest names are complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from dataclasses import replace
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING

from stackbuild import strictjson
from stackbuild.compose.archive import archive_name
from stackbuild.compose.manifest import Index, IndexEntry, now
from stackbuild.compose.patches import Older
from stackbuild.compose.serialize import (
    index_from_json,
    index_to_json,
    manifest_from_json,
    manifest_to_json,
)
from stackbuild.errors import ComposeError, IntegrityError, system_errors
from stackbuild.files import WORK_SUFFIX, atomic_write, locked, read_regular, sha256_file
from stackbuild.mark import Kind, check_mark, claim, contents, read_mark, write_mark
from stackbuild.platforms import Platform
from stackbuild.spec.model import venvstacks_name
from stackbuild.strictjson import MAX_SIZE
from stackbuild.workspace import CACHE_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from stackbuild.compose.manifest import ArchiveFormat, Manifest, PublishedFile
    from stackbuild.messages import Messages
    from stackbuild.spec.model import Catalogue
    from stackbuild.workspace import Workspace


INDEX = "index.json"
LOCK = ".lock"
UNNAMED = "unnamed.json"
"""Since when no index names a file (`registry.prune`)."""
BOOTSTRAP = "bootstrap"
SCRIPTS = ("install.sh", "install.ps1")
"""What `install.bootstrap` writes beside the index: a directory of programs, and scripts."""
_LEFTOVER_SECONDS = 24 * 3600
"""Older unfinished files are left from a publish that was killed."""


_UNFINISHED = re.compile(rf"\..+\.[0-9a-f]{{12}}{re.escape(WORK_SUFFIX)}")
_PUBLISHED = re.compile(
    r".+-[0-9a-f]{12}\.(?:json|patches|tar\.zst|(?:tar\.xz|tar\.gz|zip)(?:\.json)?)"
)
"""The names of published files; the directory of a platform may contain others."""


def is_published_file(name: str) -> bool:
    """Whether `name`, relative to the index, is that of an archive or a manifest."""
    directory, _, file = name.rpartition("/")
    return directory in set(Platform) and _PUBLISHED.fullmatch(file) is not None


def venvstacks_part(manifest: Manifest) -> Mapping[str, object]:
    """The part of `manifest` for the metadata of venvstacks.

    Empty if it is damaged, as no digest covers it, or if the manifest was written without it.
    """
    part = manifest.provenance.get("layer")
    name = venvstacks_name(manifest.layer, manifest.kind)
    return part if isinstance(part, dict) and part.get("layer_name") == name else {}


class ExportDirectory:
    """A directory with published layers."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._manifests: dict[bytes, Manifest] = {}
        """Parsed manifests by their bytes, as most layers are published unchanged."""
        self._lost: Collection[Path] = ()
        """Manifests that were there without an index when the directory was claimed."""

    def check(self, messages: Messages, *, may_mark: bool = True) -> None:
        """Refuse a directory with other files. Raises ComposeError, IntegrityError, OSError.

        A directory without the mark gets it with `may_mark`, if it has a valid index and
        otherwise only directories of platforms.
        """
        if not read_mark(self.directory, Kind.EXPORTS) and (self.directory / INDEX).is_file():
            self.index()
            known = {INDEX, LOCK, UNNAMED, BOOTSTRAP, *SCRIPTS, *Platform}
            if not set(contents(self.directory, Kind.EXPORTS)) - known:
                if not may_mark:
                    return
                write_mark(self.directory, Kind.EXPORTS)
                messages.note(f"{self.directory} is marked as a directory of published layers")
        check_mark(self.directory, Kind.EXPORTS)

    def claim(self, messages: Messages) -> None:
        """Mark the directory if it is missing or empty, and begin an index if there is nothing yet.

        So an index that is missing later was lost: archives without an entry, such as those of a
        publish that failed, do not show it. Raises ComposeError, OSError.
        """
        claim(self.directory, Kind.EXPORTS)
        if (self.directory / INDEX).exists():
            return
        with locked(self.directory / LOCK, messages):
            if not (self.directory / INDEX).exists():
                self._lost = [one for one in self.published() if one.suffix == ".json"]
                if not self._lost:
                    atomic_write(self.directory / INDEX, index_to_json(Index(entries={})))

    def platform(self, platform: Platform) -> Path:
        """The directory of the archives and manifests for `platform`."""
        return self.directory / platform

    def index(self) -> Index:
        """The index; empty if there is none. Raises IntegrityError."""
        path = self.directory / INDEX
        try:
            return index_from_json(read_regular(path, MAX_SIZE + 1), str(path))
        except FileNotFoundError:
            return Index(entries={})

    def current(
        self, index: Index, layer: str, platform: Platform, lock: str | None = None
    ) -> Manifest | None:
        """The current manifest of `layer` in `index`; with `lock` the newest one of that lock.

        None if there is none, or if it cannot be read.
        """
        entries = index.entries.get(layer, {}).get(platform, ())
        found = next((one for one in entries if lock in (None, one.lock)), None)
        return self._read(self.directory / found.manifest) if found else None

    def versions(self, index: Index, manifest: Manifest, count: int) -> list[Older]:
        """The newest `count` versions in `index` of the layer of `manifest`, without itself."""
        entries = index.entries.get(manifest.layer, {}).get(manifest.platform, ())
        others = (entry for entry in entries if entry.digest != manifest.digest)
        found = (self._read(self.directory / entry.manifest) for entry in others)
        framed = (one for one in found if one and one.archive.format == "tar.zst")
        directory = self.platform(manifest.platform)
        return [Older(one, directory) for one in islice(framed, count)]

    def complete(self, manifest: Manifest, format_: ArchiveFormat, seals: Seals) -> Manifest | None:
        """The published manifest, with its archive, that equals `manifest`, which has none yet.

        None if it is missing or damaged, or if `seals` do not match the archive.
        """
        path = self._manifest_path(manifest, format_)
        found = self._read(path)
        if found is None or found.digest != manifest.digest or found.archive.format != format_:
            return None
        # Not in the digest, but read by others.
        if not venvstacks_part(found) or found.host_libraries != manifest.host_libraries:
            return None
        # The index names the sha256 of these bytes.
        if path.read_bytes() != manifest_to_json(found):
            return None
        files = [path.parent / file.name for file in found.files]
        return found if all(map(seals.hold, files, found.files)) else None

    def _read(self, path: Path) -> Manifest | None:
        try:
            data = read_regular(path, MAX_SIZE + 1)
            if data not in self._manifests:
                self._manifests[data] = manifest_from_json(data, str(path))
        except (OSError, IntegrityError):
            return None
        return self._manifests[data]

    def _manifest_path(self, manifest: Manifest, format_: ArchiveFormat) -> Path:
        name = archive_name(manifest, format_)
        stem = name.removesuffix(".tar.zst")
        return self.platform(manifest.platform) / f"{stem}.json"

    def has(self, manifest: Manifest, format_: ArchiveFormat) -> bool:
        """Whether files with the names of `manifest` and its archive exist; it is written last."""
        path = self._manifest_path(manifest, format_)
        return path.exists() and path.with_name(archive_name(manifest, format_)).exists()

    def manifest_path(self, manifest: Manifest) -> Path:
        """The path of `manifest`, which has its archive."""
        return self._manifest_path(manifest, manifest.archive.format)

    def put(self, manifest: Manifest) -> None:
        """Write `manifest`, whose archive is here. Raises OSError."""
        atomic_write(self.manifest_path(manifest), manifest_to_json(manifest))

    def enter(
        self, manifests: Iterable[tuple[Manifest, Catalogue, int]], messages: Messages
    ) -> None:
        """Make `manifests` the current ones in the index; other entries are kept.

        Each comes with its catalogue entry and the version of its lock. Raises OSError,
        IntegrityError for a damaged index, and ComposeError for one that gets too large.
        """
        entries = [
            (manifest, index_entry(manifest, self.relative(manifest), catalogue, version))
            for manifest, catalogue, version in manifests
        ]
        with locked(self.directory / LOCK, messages):
            before = self.index()
            if not before.entries:
                self._tell_lost({self.manifest_path(one) for one, _ in entries}, messages)
            after = before
            for manifest, entry in entries:
                if not self.has(manifest, manifest.archive.format):
                    raise ComposeError(
                        "the archive was removed while it was published",
                        layer=manifest.layer,
                        platform=manifest.platform,
                        file=self.manifest_path(manifest),
                        remedy="run the command again; it writes the archive again",
                    )
                after = entered(after, manifest.layer, manifest.platform, entry)
            if after != before:
                atomic_write(self.directory / INDEX, index_bytes(after, str(self.directory)))

    def _tell_lost(self, entered: Collection[Path], messages: Messages) -> None:
        """Warn of published manifests that are not in the index because it was lost."""
        lost = sorted(
            path.relative_to(self.directory).as_posix()
            for path in self._lost
            if path not in entered
        )
        if lost:
            messages.warn(
                f"{self.directory / INDEX} was missing, and no longer lists {', '.join(lost)};"
                " versions count from 1 again. To keep both, restore the file and publish again"
            )

    def relative(self, manifest: Manifest) -> str:
        """The path of `manifest`, which has its archive, in an index."""
        return self.manifest_path(manifest).relative_to(self.directory).as_posix()

    def sweep(self) -> None:
        """Remove unfinished files of a publish that was killed."""
        before = time.time() - _LEFTOVER_SECONDS
        for path in self._files():
            try:
                if _UNFINISHED.fullmatch(path.name) and path.lstat().st_mtime < before:
                    path.unlink()
            except OSError:
                continue

    def _files(self) -> Iterator[Path]:
        for platform in Platform:
            yield from self.platform(platform).glob("*")

    def published(self) -> Iterator[Path]:
        """The published archives and manifests, also those that the index does not name."""
        return (path for path in self._files() if _PUBLISHED.fullmatch(path.name))

    def forget_older(self, messages: Messages) -> None:
        """Remove everything but the current manifests and their archives.

        For a directory that only one root is installed from. Raises OSError.
        """
        with locked(self.directory / LOCK, messages):
            before = self.index()
            after = Index(
                entries={
                    layer: {platform: entries[:1] for platform, entries in platforms.items()}
                    for layer, platforms in before.entries.items()
                }
            )
            if after == before:
                return
            atomic_write(self.directory / INDEX, index_to_json(after))
            kept = set()
            for layer, platforms in after.entries.items():
                for platform in platforms:
                    manifest = self.current(after, layer, platform)
                    if manifest:
                        path = self.manifest_path(manifest)
                        kept |= {path, *(path.with_name(file.name) for file in manifest.files)}
            for path in self.published():
                if path not in kept:
                    path.unlink()


def index_bytes(index: Index, location: str) -> bytes:
    """The JSON of `index`, to be written to `location`. Raises ComposeError if it is too large."""
    data = index_to_json(index)
    if len(data) > MAX_SIZE:
        raise ComposeError(
            "the index would be too large",
            file=f"{location}/{INDEX}",
            expected=f"at most {MAX_SIZE} bytes",
            found=f"{len(data)} bytes",
            remedy="publish to a new place, without older versions: stackbuild publish --to PLACE",
        )
    return data


def index_entry(
    manifest: Manifest, path: str, catalogue: Catalogue, lock_version: int
) -> IndexEntry:
    """The index entry of `manifest`, published now; `path` is relative to the index."""
    return IndexEntry(
        manifest=path,
        sha256=hashlib.sha256(manifest_to_json(manifest)).hexdigest(),
        digest=manifest.digest,
        lock=manifest.lock,
        kind=manifest.kind,
        version=catalogue.version or str(lock_version),
        python_version=manifest.python_version,
        chain=tuple(link.layer for link in manifest.chain),
        size=manifest.archive.size,
        content_size=sum(placed.frame.content_size for placed in manifest.frames),
        files=sum(placed.frame.files for placed in manifest.frames),
        lock_version=lock_version,
        published=now(),
        title=catalogue.title,
        description=catalogue.description,
        deprecated=catalogue.deprecated,
        superseded_by=catalogue.superseded_by,
    )


def entered(index: Index, layer: str, platform: Platform, entry: IndexEntry) -> Index:
    """`index` with `entry` as the current one of `layer` on `platform`.

    An existing entry of the same manifest moves to the front and keeps its date. Of archives with
    the same contents, those in `tar.zst`, which can be installed, come first.
    """
    platforms = dict(index.entries.get(layer, {}))
    others = []
    for other in platforms.get(platform, ()):
        if other.manifest == entry.manifest:
            entry = replace(entry, published=other.published)
        else:
            others.append(other)
    same = [other for other in others if other.digest == entry.digest]
    framed = [one for one in (*same, entry) if _is_framed(one)]
    packed = [one for one in (entry, *same) if not _is_framed(one)]
    rest = [other for other in others if other.digest != entry.digest]
    platforms[platform] = (*framed, *packed, *rest)
    return Index(entries={**index.entries, layer: platforms})


def _is_framed(entry: IndexEntry) -> bool:
    return not entry.manifest.endswith((".tar.xz.json", ".tar.gz.json", ".zip.json"))


def explained(to: Path, workspace: Workspace) -> AbstractContextManager[None]:
    """Raise system errors while publishing to `to` as ComposeError."""
    return system_errors(
        ComposeError,
        to,
        cache=workspace.cache,
        elsewhere=f"choose another cache with {CACHE_VARIABLE}, or another directory: "
        "stackbuild publish --to DIR",
    )


class Seals:
    """The seals of the archives in one directory. Methods may be called from several threads."""

    def __init__(self, cache: Path, directory: Path, *, read_all: bool = False) -> None:
        """`read_all`: ignore all seals, such as after a disk failure."""
        key = hashlib.sha256(os.fsencode(directory.absolute())).hexdigest()
        self._path = cache / "published" / f"{key}.json"
        self._read_all = read_all
        self._lock = Lock()
        self._changed = False
        self._entries: dict[str, object] = {}
        try:
            found = strictjson.read(self._path)
        except (OSError, IntegrityError):
            return
        if isinstance(found, dict):
            self._entries = found

    def hold(self, path: Path, file: PublishedFile) -> bool:
        """Whether the file `path` is `file`; it is read if its seal does not match."""
        try:
            if path.stat().st_size != file.size:
                return False
            sealed = not self._read_all and self._entries.get(str(path)) == _seal(path, file)
            if not sealed and sha256_file(path) != file.sha256:
                return False
        except OSError:
            return False
        self.put(path, file)
        return True

    def put(self, path: Path, file: PublishedFile) -> None:
        """Remember that the file `path` is `file`. Raises OSError."""
        seal = _seal(path, file)
        with self._lock:
            if self._entries.get(str(path)) != seal:
                self._entries[str(path)] = seal
                self._changed = True

    def save(self) -> None:
        """Keep the seals for the next command. Raises OSError."""
        if self._changed:
            atomic_write(self._path, json.dumps(self._entries))


def _seal(path: Path, file: PublishedFile) -> list[object]:
    status = path.stat()
    return [file.sha256, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
