"""Overlays: `copyFiles`, and the files that `{packageRoot}` leads to.

Where the stack stands in the repository itself, a link in `overlays/` refers to
the variant's directory; elsewhere the files are copied.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from stackbuild.importers.model import Note

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from stackbuild.importers.model import Copy
    from stackbuild.importers.plan import Environment

_PLACEHOLDER = "{site-packages}"
_ROOT = re.compile(r"\{packageRoot\}[/\\]+([^\s;,\"']+)")


def overlay_settings(item: Environment, notes: list[Note]) -> dict[str, list[dict[str, str]]]:
    """By platform, and ``""`` for all: the `copy-files` of a variant."""
    config = item.config
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
    for copy in copies:
        source, target = _inside(copy.source), _target(copy.target)
        if source is None or target is None:
            text = "leaves the directory it is relative to, so that it was left out"
            notes.append(Note(kind="question", place=copy.place, text=text))
        elif not (item.variant.directory / source).exists():
            text = f"{copy.source} does not exist, so that it was left out, as it was there"
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
    yield from sorted({path for path, _ in package_root_paths(item)})


def package_root_paths(item: Environment) -> Iterator[tuple[str, str]]:
    """The paths behind `{packageRoot}` in the settings of builds, each with its package."""
    for name, builds in item.config.build_wheel.items():
        for build in builds.values():
            for value in build.config_settings.values():
                for text in (value,) if isinstance(value, str) else value:
                    for path in _ROOT.findall(text):
                        yield path.replace("\\", "/"), name


def write_overlays(item: Environment, paths: Sequence[str], project: Path) -> list[str]:
    """Put what `paths` name where the layer looks for it; tells what was written."""
    if not paths:
        return []
    place = project / "overlays" / item.variant.name
    if place.exists() or place.is_symlink():
        return []
    origin = item.variant.directory
    if origin.resolve().is_relative_to(project.resolve()) and _link(place, origin):
        return [f"overlays/{place.name} -> {os.path.relpath(origin, place.parent)}"]
    for path in dict.fromkeys(paths):
        source, target = origin / path, place / path
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
        elif source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return [f"overlays/{place.name}/{path}" for path in dict.fromkeys(paths)]


def _link(place: Path, origin: Path) -> bool:
    """Whether a link could be made; on Windows that takes a privilege."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        place.symlink_to(os.path.relpath(origin, place.parent), target_is_directory=True)
    except OSError:
        return False
    return True
