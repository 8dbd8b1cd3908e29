"""Overlays: `copyFiles`, and the files behind `{packageRoot}`.

If the stack is written into the repository itself, `overlays/<layer>` is a link to the variant's
directory. Otherwise the files are copied, also if a link in the variant's directory leads out of
it, which is not allowed in the overlays of a layer.
"""

from __future__ import annotations

import filecmp
import os
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from stackbuild.errors import Problem, UsageError
from stackbuild.files import atomic_copy
from stackbuild.importers.runenv.model import Note
from stackbuild.spec.model import CopyFiles
from stackbuild.spec.overlays import SITE_PACKAGES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from stackbuild.importers.runenv.model import Copy, Keys, Variant

_OUTSIDE = "a link that leads out of the repository"
_ROOT = re.compile(r"\{packageRoot\}(?P<rest>[^{]*)")
_END = re.compile(r"[\s;,:\"']|$")
"""Where a path within a setting may end."""
_NOT_COPIED = frozenset({"node_modules", "pydist"})
"""What the build of a variant writes into its directory."""


def overlay_settings(variant: Variant, notes: list[Note]) -> dict[Keys, list[dict[str, Any]]]:
    """The `copy-files` of a variant, by their keys in the settings of its layer."""
    notes += _root_notes(variant)
    found: dict[Keys, list[dict[str, Any]]] = {}
    for platform, copies in variant.config.copies.items():
        keys = ("platform-specific", platform, "copy-files") if platform else ("copy-files",)
        for copy in copies:
            if platform and platform not in variant.platforms:
                text = f"{variant.name} is not made for {platform}"
                notes.append(Note("needless", copy.place, text))
            elif isinstance(entry := _entry(variant.directory, copy), str):
                notes.append(Note("question", copy.place, f"left out: {entry}"))
            else:
                if replaced := _replaced(variant, entry):
                    entry["overwrite"] = True
                    text = f"its files replace those of {', '.join(replaced)} (overwrite = true)"
                    notes.append(Note("differs", copy.place, text))
                found.setdefault(keys, []).append(entry)
                notes += _left_out(variant, entry["from"], copy.place)
    return found


def _entry(directory: Path, copy: Copy) -> dict[str, Any] | str:
    """The entry of `copy-files` for `copy`, or why there is none."""
    source, target = _inside(copy.source), _target(copy.target)
    if source is None or target is None:
        return "a path leaves the directory that it is relative to"
    if CopyFiles(source=source, target=target).pattern:
        return "`*`, `?` or `[` in `from` would make it a pattern"
    if not (directory / source).exists():
        return f"{source} does not exist in {directory.name}"
    # `outside_links` refuses links that lead out.
    if all(isinstance(file, str) and file != _OUTSIDE for _, file in _files(directory, source)):
        return f"there is no file in {directory.name}/{source}"
    return {"from": source, "to": target}


def _replaced(variant: Variant, entry: Mapping[str, Any]) -> list[str]:
    """The packages of the variant that have a program or a directory of the same name.

    The older build replaced files without asking.
    """
    from packaging.utils import canonicalize_name

    base = entry["from"].rstrip("/")
    named = variant.names()
    found = set()
    for path, _ in _files(variant.directory, entry["from"]):
        target = PurePosixPath(entry["to"], PurePosixPath(path).relative_to(base)).parts
        if target[0] in ("bin", "Scripts", SITE_PACKAGES) and len(target) > 1:
            found.add(canonicalize_name(target[1].removesuffix(".exe").removesuffix(".py")))
    return sorted(found & named)


def outside_links(variant: Variant, paths: Iterable[str]) -> Iterator[Problem]:
    """A problem for each link at `paths` that leads out of the repository."""
    for name, reason in (found for path in paths for found in _files(variant.directory, path)):
        if reason == _OUTSIDE:
            hint = "put a copy of the file in its place, or remove it"
            place = f"{variant.directory.name}/{name.rstrip('/')}"
            yield Problem(place=place, message=reason, hint=hint)


def _left_out(variant: Variant, path: str, place: str) -> Iterator[Note]:
    """The links at `path` that are not copied."""
    for name, reason in _files(variant.directory, path):
        if isinstance(reason, str):
            text = f"left out: {variant.directory.name}/{name} is {reason}"
            yield Note("question", place, text)


def _inside(path: str) -> str | None:
    parts = PurePosixPath(path.replace("\\", "/")).parts
    parts = tuple(part for part in parts if part not in ("/", "."))
    slash = "/" if path.endswith(("/", "\\")) else ""
    return None if ".." in parts or not parts else "/".join(parts) + slash


def _target(path: str) -> str | None:
    before, placeholder, after = path.replace("\\", "/").partition(SITE_PACKAGES)
    if placeholder:
        inside = _inside(after) if after.strip("/") else ""
        usual = not before.strip("./") and inside is not None
        return f"{SITE_PACKAGES}/{inside}" if usual else None
    return _inside(path) if path.strip("./") else "./"


def sources(variant: Variant, entries: Mapping[Keys, list[dict[str, Any]]]) -> Iterator[str]:
    """The paths, relative to the variant's directory, that its layer refers to."""
    for copies in entries.values():
        for copy in copies:
            yield copy["from"]
    found = {path for _, path in package_root_paths(variant) if path is not None}
    yield from sorted(path for path in found if (variant.directory / path).exists())


def package_root_paths(variant: Variant) -> Iterator[tuple[str, str | None]]:
    """Each package with a path behind `{packageRoot}` in the settings of its build.

    The path is ``.`` for the directory itself, and None if it leads out of the directory.
    """
    for keys, builds in variant.config.replaced.items():
        for build in builds.values() if keys[0] == "build-wheel" else ():
            for value in build["config-settings"].values():
                for text in (value,) if isinstance(value, str) else value:
                    for match in _ROOT.finditer(text):
                        yield keys[1], _path_in(match["rest"], variant.directory)


def _path_in(text: str, directory: Path) -> str | None:
    """The longest existing path at the beginning of `text`, else the shortest."""
    if text[:1] not in ("/", "\\"):
        return "."
    ends = sorted({match.start() for match in _END.finditer(text)})
    paths = [text[:end].replace("\\", "/").strip("/") or "." for end in ends]
    found = next((path for path in reversed(paths) if (directory / path).exists()), paths[0])
    return None if ".." in found.split("/") else found


def _root_notes(variant: Variant) -> Iterator[Note]:
    for name, path in dict.fromkeys(package_root_paths(variant)):
        place = f"{variant.file}: packages.buildWheel.{name}"
        if path is not None and (variant.directory / path).exists():
            yield from _left_out(variant, path, place)
            continue
        problem = f"{path} does not exist" if path else "the path leaves the variant's directory"
        yield Note("question", place, f"{{packageRoot}}: {problem}")


def write_overlays(variant: Variant, paths: Sequence[str], project: Path) -> list[str]:
    """Put the files at `paths` where the layer looks for them. Returns what was written.

    Files of an earlier import that was interrupted are kept. Raises UsageError if a file with
    the same name and other contents exists.
    """
    place = project / "overlays" / variant.name
    origin = variant.directory
    found = {target: source for path in paths for target, source in _files(origin, path)}
    files = {target: source for target, source in found.items() if isinstance(source, Path)}
    if not files:
        return []
    own = all(_is_inside(source, origin) for source in files.values()) and files == found
    if own and _is_inside(origin, project):
        linked = [f"overlays/{place.name} -> {os.path.relpath(origin, place.parent)}"]
        if place.resolve() == origin.resolve() or (not place.exists() and _link(place, origin)):
            return linked
    for target, source in files.items():
        _put(source, place / target)
    return [f"overlays/{place.name}/{path.removeprefix('.')}" for path in dict.fromkeys(paths)]


def _files(origin: Path, path: str) -> Iterator[tuple[str, Path | str]]:
    """The files at `path` in the directory `origin`, by their relative paths.

    A relative link to another file of the same directory stays a link. Other links are
    replaced by their target, as in the older project. Instead of a file there is a text for a
    link that is left out: what it is.
    """
    start = origin / path
    if not start.is_dir() or not _is_inside(start, origin.parent):
        yield path, _target_of(start, origin.parent)
        return
    pending = [(start, frozenset({start.resolve()}))]
    while pending:
        directory, above = pending.pop()
        for entry in sorted(directory.iterdir()):
            if path == "." and directory == start and entry.name in _NOT_COPIED:
                continue
            name, real = entry.relative_to(origin).as_posix(), Path(os.path.realpath(entry))
            relative = entry.is_symlink() and not entry.readlink().is_absolute()
            if relative and entry.exists() and _is_inside(entry, start):
                yield name, entry
            elif not entry.is_dir() or not _is_inside(entry, origin.parent):
                yield name, _target_of(entry, origin.parent)
            elif real in above:
                yield name, "a link to a directory above it"
            else:
                pending.append((entry, above | {real}))


def _target_of(entry: Path, repository: Path) -> Path | str:
    """The file that `entry` is or leads to, or what `entry` is instead."""
    if not entry.exists():
        return "a broken link"
    if not _is_inside(entry, repository):
        return _OUTSIDE
    return Path(os.path.realpath(entry)) if entry.is_file() else "not a file"


def _is_inside(path: Path, directory: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(directory))


def _put(source: Path, target: Path) -> None:
    if source.is_symlink():
        same = target.is_symlink() and target.readlink() == source.readlink()
    else:
        same = target.is_file() and filecmp.cmp(source, target, shallow=False)
    if not same and (target.exists() or target.is_symlink()):
        raise UsageError(
            "a file of the overlay exists already, with other contents",
            file=target,
            expected=f"a copy of {source}",
            remedy="move it away, or write the stack into another directory",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    if not same and source.is_symlink():
        target.symlink_to(source.readlink())
    elif not same:
        atomic_copy(source, target)
    if not source.is_symlink():
        target.chmod(source.stat().st_mode & 0o777)


def _link(place: Path, origin: Path) -> bool:
    """Make a link. False if that fails, as on Windows without the privilege."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        place.symlink_to(os.path.relpath(origin, place.parent), target_is_directory=True)
    except OSError:
        return False
    return True
