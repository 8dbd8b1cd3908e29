"""Overlays: `copyFiles`, and the files that `{packageRoot}` leads to.

Where the stack stands in the repository itself, a link in `overlays/` refers to
the variant's directory; elsewhere the files are copied. So they are where a
link in the variant's directory leads out of it, which a layer's own may not.
"""

from __future__ import annotations

import filecmp
import os
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from stackbuild.errors import UsageError
from stackbuild.files import atomic_copy
from stackbuild.importers.model import Note
from stackbuild.spec.model import CopyFiles

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from stackbuild.importers.model import Copy
    from stackbuild.importers.plan import Environment

_PLACEHOLDER = "{site-packages}"
_ROOT = re.compile(r"\{packageRoot\}(?P<rest>[^{]*)")
_END = re.compile(r"[\s;,:\"']|$")
"""Where a path within a setting may end."""
_NOT_COPIED = frozenset({"node_modules", "pydist"})
"""Of a variant's whole directory: what its build has put there."""


def overlay_settings(item: Environment, notes: list[Note]) -> dict[str, list[dict[str, str]]]:
    """By platform, and ``""`` for all: the `copy-files` of a variant."""
    config = item.config
    notes += _root_notes(item)
    found = {"": _entries(item, config.copy_files, notes)}
    for platform, copies in config.platform_copy_files.items():
        if platform in item.variant.platforms:
            found[platform] = _entries(item, copies, notes)
        else:
            notes += [
                Note(
                    kind="needless",
                    place=copy.place,
                    text=f"left out: {item.variant.name} is not made for {platform}",
                )
                for copy in copies
            ]
    return {key: entries for key, entries in found.items() if entries}


def _entries(item: Environment, copies: Sequence[Copy], notes: list[Note]) -> list[dict[str, str]]:
    found = []
    directory = item.variant.directory
    for copy in copies:
        source, target = _inside(copy.source), _target(copy.target)
        if source is None or target is None:
            text = "leaves the directory it is relative to, so that it was left out"
            notes.append(Note(kind="question", place=copy.place, text=text))
        elif CopyFiles(source=source, target=target).pattern:
            text = "would be a pattern, because of its `*`, `?` or `[`, and was left out"
            notes.append(Note(kind="question", place=copy.place, text=text))
        elif not (directory / source).exists():
            text = f"{source} does not exist in {directory.name}, and was left out, as it was there"
            notes.append(Note(kind="question", place=copy.place, text=text))
        elif not any(_files(directory, source)):
            text = f"{source} is an empty directory in {directory.name}, and was left out"
            notes.append(Note(kind="question", place=copy.place, text=text))
        else:
            found.append({"from": source, "to": target})
    return found


def _inside(path: str) -> str | None:
    parts = PurePosixPath(path.replace("\\", "/")).parts
    parts = tuple(part for part in parts if part not in ("/", "."))
    slash = "/" if path.endswith(("/", "\\")) else ""
    return None if ".." in parts or not parts else "/".join(parts) + slash


def _target(path: str) -> str | None:
    before, placeholder, after = path.replace("\\", "/").partition(_PLACEHOLDER)
    if placeholder:
        inside = _inside(after) if after.strip("/") else ""
        usual = not before.strip("./") and inside is not None
        return f"{_PLACEHOLDER}/{inside}" if usual else None
    return _inside(path) if path.strip("./") else "./"


def sources(item: Environment, entries: Mapping[str, list[dict[str, str]]]) -> Iterator[str]:
    """The paths, relative to the variant's directory, that its layer refers to."""
    for copies in entries.values():
        for copy in copies:
            yield copy["from"]
    found = {path for _, path in package_root_paths(item) if path is not None}
    yield from sorted(path for path in found if (item.variant.directory / path).exists())


def package_root_paths(item: Environment) -> Iterator[tuple[str, str | None]]:
    """Each package with a path behind `{packageRoot}` in the settings of its build.

    The path is ``.`` for the directory itself, and None where it leaves that.
    """
    for name, builds in item.config.build_wheel.items():
        for build in builds.values():
            for value in build.config_settings.values():
                for text in (value,) if isinstance(value, str) else value:
                    for match in _ROOT.finditer(text):
                        yield name, _path_in(match["rest"], item.variant.directory)


def _path_in(text: str, directory: Path) -> str | None:
    """The longest path at the beginning of `text` that is there, else the shortest."""
    if text[:1] not in ("/", "\\"):
        return "."
    ends = sorted({match.start() for match in _END.finditer(text)})
    paths = [text[:end].replace("\\", "/").strip("/") or "." for end in ends]
    found = next((path for path in reversed(paths) if (directory / path).exists()), paths[0])
    return None if ".." in found.split("/") else found


def _root_notes(item: Environment) -> Iterator[Note]:
    directory = item.variant.directory
    for name, path in dict.fromkeys(package_root_paths(item)):
        if path is None:
            problem = "leaves the variant's directory, so that it was left out"
        elif not (directory / path).exists():
            problem = f"{path} does not exist"
        else:
            continue
        place = f"{directory.name}/config.json: packages.buildWheel.{name}"
        yield Note(kind="question", place=place, text=f"{{packageRoot}}: {problem}")


def write_overlays(item: Environment, paths: Sequence[str], project: Path) -> list[str]:
    """Put what `paths` name where the layer looks for it; tells what was written.

    What is there already, from an import that was cut short, stays. Raises
    UsageError where a file of that name is another one.
    """
    place = project / "overlays" / item.variant.name
    origin = item.variant.directory
    files = {target: source for path in paths for target, source in _files(origin, path)}
    if not files:
        return []
    inside = origin.resolve().is_relative_to(project.resolve())
    if inside and not any(_is_outside(source, origin) for source in files.values()):
        told = [f"overlays/{place.name} -> {os.path.relpath(origin, place.parent)}"]
        if place.resolve() == origin.resolve() or (not place.exists() and _link(place, origin)):
            return told
    for target, source in files.items():
        _put(source, place / target)
    return [f"overlays/{place.name}/{path.removeprefix('.')}" for path in dict.fromkeys(paths)]


def _files(origin: Path, path: str) -> Iterator[tuple[str, Path]]:
    """What is at `path` in the directory `origin`: each file by its relative path.

    A link is one where it leads to another file of the same directory; else what
    it leads to stands for it, as in the older project. One that leads nowhere,
    or to a directory above, is nothing.
    """
    start = origin / path
    if not start.is_dir():
        yield path, Path(os.path.realpath(start))
        return
    base = os.path.realpath(start)
    pending = [(start, frozenset({base}))]
    while pending:
        directory, above = pending.pop()
        for entry in sorted(directory.iterdir()):
            real = os.path.realpath(entry)
            if path == "." and directory == start and entry.name in _NOT_COPIED:
                continue
            if _is_kept(entry, base):
                yield entry.relative_to(origin).as_posix(), entry
            elif entry.is_dir() and real not in above:
                pending.append((entry, above | {real}))
            elif entry.is_file():
                yield entry.relative_to(origin).as_posix(), Path(real)


def _is_kept(entry: Path, base: str) -> bool:
    """Whether `entry` is a link that works wherever the directory at `base` is copied to."""
    if not entry.is_symlink() or entry.readlink().is_absolute():
        return False
    return entry.exists() and Path(os.path.realpath(entry)).is_relative_to(base)


def _is_outside(source: Path, origin: Path) -> bool:
    return not Path(os.path.realpath(source)).is_relative_to(os.path.realpath(origin))


def _put(source: Path, target: Path) -> None:
    if source.is_symlink():
        same = target.is_symlink() and target.readlink() == source.readlink()
    else:
        same = target.is_file() and filecmp.cmp(source, target, shallow=False)
    if not same and (target.exists() or target.is_symlink()):
        raise UsageError(
            "a file of the overlay is there already, and is another one",
            file=target,
            expected=f"a copy of {source}",
            remedy="move it away, or give another directory with --to",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    if not same and source.is_symlink():
        target.symlink_to(source.readlink())
    elif not same:
        atomic_copy(source, target)
    if not source.is_symlink():
        target.chmod(source.stat().st_mode & 0o777)


def _link(place: Path, origin: Path) -> bool:
    """Whether a link could be made; on Windows that takes a privilege."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        place.symlink_to(os.path.relpath(origin, place.parent), target_is_directory=True)
    except OSError:
        return False
    return True
