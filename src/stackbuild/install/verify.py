"""Compare installed files with the files that were unpacked.

The sha256 of each frame was checked before unpacking. For every file, the store keeps path, size,
CRC-32 and whether it is executable. `verify_installed` reads every installed file and compares. It
finds files that were edited (also in place, with size and times restored), removed or added, and
changed links. It cannot find an edit made to have the same CRC-32, or an edit of the store's
listings as well: if somebody else had write access to the store, install again from a trusted
registry. (A sha256 for each file would add 0.7 s to an install of 227 MB on processors without SHA
instructions, and the listings could still be edited.)
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild import windows
from stackbuild.install.damage import adjusted_files, crc32_of, is_other_mode
from stackbuild.install.home import CopyLauncher, WriteHome
from stackbuild.install.plan import find_installed
from stackbuild.install.report import Difference, FilesReport
from stackbuild.install.root import Root
from stackbuild.install.state import clear_damaged, damaged, mark_damaged
from stackbuild.install.store import Store, StoredFile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stackbuild.compose.manifest import Manifest
    from stackbuild.install.home import Adjustment
    from stackbuild.install.report import DifferenceKind
    from stackbuild.install.state import State
    from stackbuild.messages import Messages, Task

_BYTECODE = re.compile(r"(?P<package>(?:.*/)?)__pycache__/(?P<module>[^/]+?)\.[^/]+\.pyc")


@dataclass(frozen=True, slots=True)
class _Expected:
    frame: str
    subject: str
    entry: StoredFile | str
    """A file, or the target of a link."""


@dataclass(slots=True)
class _Findings:
    differences: list[Difference] = field(default_factory=list)
    frames: set[str] = field(default_factory=set)
    """sha256 of frames whose copy in the store is damaged too."""
    files: int = 0
    bytecode: int = 0


def verify_installed(layers: Sequence[str], root: Path, messages: Messages) -> FilesReport:
    """Compare `layers` and their lower layers with the unpacked files; see `api.verify_files`.

    Differences are recorded in the root, if it is writable, for the next install to repair.
    """
    where = Root(root)
    generation, state = where.installed()
    trees = where.trees(generation)
    directories = _with_lower(layers, state, where.path)
    store = Store(state.store or where.own_store)
    adjusted = adjusted_files(state, trees)
    findings = _Findings()
    sizes = [p.frame.content_size for d in directories for p in state.layers[d].frames]
    with messages.task("verifying", sum(sizes)) as task:
        for directory in directories:
            manifest = state.layers[directory]
            _Check(manifest, trees / directory, store, adjusted, findings, task).run()
    _remember(generation, directories, findings)
    return FilesReport(
        layers=directories,
        files=findings.files,
        differences=tuple(
            sorted(findings.differences, key=lambda found: (found.layer, found.file))
        ),
        bytecode=findings.bytecode,
    )


def _with_lower(layers: Sequence[str], state: State, root: Path) -> tuple[str, ...]:
    if not layers:
        return tuple(state.layers)
    named: set[str] = set()
    for manifest in find_installed(layers, state, root):
        named |= {manifest.directory, *(link.directory for link in manifest.chain)}
    return tuple(directory for directory in state.layers if directory in named)


def _remember(generation: Path, checked: Sequence[str], findings: _Findings) -> None:
    layers, frames = damaged(generation)
    wrong = {difference.layer for difference in findings.differences}
    still = sorted(wrong | {layer for layer in layers if layer not in checked})
    # The root may be read-only for this user.
    with suppress(OSError):
        if still:
            mark_damaged(generation, still, sorted(findings.frames.union(frames)))
        else:
            clear_damaged(generation)


class _Check:
    """The comparison of one layer."""

    def __init__(
        self,
        manifest: Manifest,
        directory: Path,
        store: Store,
        adjusted: Mapping[str, Adjustment],
        findings: _Findings,
        task: Task,
    ) -> None:
        self._layer = manifest.directory
        self._directory = directory
        self._store = store
        self._adjusted = adjusted
        self._findings = findings
        self._task = task
        self._expected: dict[str, _Expected] = {}
        self._is_known = True
        """Whether the store has the listing of every frame."""
        for placed in manifest.frames:
            sha256, subject = placed.frame.sha256, placed.frame.subject
            listing = store.listing(sha256)
            if listing is None:
                self._is_known = False
                self._lacks(sha256, subject)
                continue
            for file in listing.files:
                self._expected[file.path] = _Expected(sha256, subject, file)
            for path, target in listing.links:
                self._expected[path] = _Expected(sha256, subject, target)

    def run(self) -> None:
        """Find differing, missing and added files."""
        seen: set[str] = set()
        pending = [""]
        while pending:
            below = pending.pop()
            try:
                entries = os.scandir(windows.extended(self._directory / below))
            except OSError:
                continue  # Not reachable: its files count as missing.
            with entries:
                for entry in entries:
                    path = f"{below}{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(f"{path}/")
                    elif self._compare(path, entry):
                        seen.add(path)
        for path in self._expected.keys() - seen:
            self._differs("missing", path)
        for target, change in self._adjusted.items():
            if isinstance(change, CopyLauncher) and Path(target).is_relative_to(self._directory):
                self._compare_launcher(change)

    def _compare(self, path: str, entry: os.DirEntry[str]) -> bool:
        """Compare a file or link; returns whether it belongs to the layer."""
        expected = self._expected.get(path)
        adjustment = self._adjusted.get(windows.shown(entry.path))
        if expected is None:
            if isinstance(adjustment, CopyLauncher):
                return False
            if self._is_bytecode(path):
                self._findings.bytecode += 1
            elif self._is_known:
                self._differs("added", path)
            return False
        self._findings.files += 1
        if isinstance(adjustment, WriteHome):
            self._compare_adjusted(path, expected, adjustment)
        elif isinstance(expected.entry, str):
            self._compare_link(path, expected.entry, entry)
        elif not entry.is_file(follow_symlinks=False):
            self._differs("another kind of file", path, expected="a file")
        else:
            self._compare_file(path, expected.entry, entry)
        return True

    def _is_bytecode(self, path: str) -> bool:
        """Whether an interpreter writes this bytecode when it imports a source of the layer."""
        match = _BYTECODE.fullmatch(path)
        return match is not None and f"{match['package']}{match['module']}.py" in self._expected

    def _compare_launcher(self, change: CopyLauncher) -> None:
        if not change.is_applied():
            path = change.target.relative_to(self._directory).as_posix()
            self._differs("edited" if change.target.exists() else "missing", path)

    def _compare_adjusted(self, path: str, expected: _Expected, change: WriteHome) -> None:
        try:
            original = (self._store.tree(expected.frame) / path).read_bytes()
            found = change.target.read_bytes()
        except OSError as error:
            self._differs("edited", path, expected="a file", found=str(error))
            return
        if found != change.content(original):
            self._differs("edited", path, expected=f"home = {change.home}")

    def _compare_link(self, path: str, target: str, entry: os.DirEntry[str]) -> None:
        if not entry.is_symlink():
            self._differs("another kind of file", path, expected=f"a link to {target}")
            return
        found = os.readlink(entry.path)  # noqa: PTH115 - the text of the link, not a Path
        if found != target:
            self._differs("another link", path, expected=target, found=found)

    def _compare_file(self, path: str, file: StoredFile, entry: os.DirEntry[str]) -> None:
        status = entry.stat(follow_symlinks=False)
        self._task.advance(status.st_size)
        if status.st_size != file.size:
            sizes = {"expected": f"{file.size} bytes", "found": f"{status.st_size} bytes"}
            self._differs("edited", path, **sizes)
        elif fault := _content_fault(Path(entry.path), file):
            self._differs("edited", path, found=fault)
        elif is_other_mode(status.st_mode, file):
            mode = "executable" if file.executable else "not executable"
            self._differs("another mode", path, expected=f"readable, {mode}")

    def _lacks(self, sha256: str, subject: str) -> None:
        """Record a frame missing from the store; its files cannot be compared."""
        self._findings.frames.add(sha256)
        self._findings.differences.append(
            Difference(
                kind="frame not in the store",
                layer=self._layer,
                file=str(self._store.directory / sha256),
                distribution=subject,
            )
        )

    def _differs(
        self,
        kind: DifferenceKind,
        path: str,
        *,
        expected: str | None = None,
        found: str | None = None,
    ) -> None:
        known = self._expected.get(path)
        if (
            known is not None
            and isinstance(known.entry, StoredFile)
            and not _is_whole(self._store.tree(known.frame) / path, known.entry)
        ):
            self._findings.frames.add(known.frame)
        self._findings.differences.append(
            Difference(
                kind=kind,
                layer=self._layer,
                file=path,
                distribution=None if known is None else known.subject,
                expected=expected,
                found=found,
            )
        )


def _content_fault(path: Path, file: StoredFile) -> str | None:
    """The fault in the contents of a regular file of the right size, or None."""
    try:
        return None if crc32_of(path) == file.crc32 else "different contents of the same size"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"


def _is_whole(path: Path, file: StoredFile) -> bool:
    """Whether the store's copy of a file is unchanged."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return False
    is_right = stat.S_ISREG(mode) and not is_other_mode(mode, file)
    return is_right and _content_fault(path, file) is None
