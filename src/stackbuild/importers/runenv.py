"""Reading a repository of the kind of runenv-python-3."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from stackbuild.errors import Problem, SpecError, UsageError
from stackbuild.importers.config import read_config
from stackbuild.importers.jsonfile import JsonFiles, JsonTable
from stackbuild.importers.model import Config, Note, Repository, Variant
from stackbuild.platforms import DEFAULT_PLATFORMS, Platform

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


SHARED = "shared-config.json"
_DIRECTORY = re.compile(r"python-(\d+\.\d+\.\d+)(?:-(.+))?")
_VERSION = re.compile(r"3\.\d+\.\d+")
_ALIASES = {"amd64": "x64", "arm64": "aarch64"}
_WHITELISTS = ("checker", "whitelists")
_UNREAD = ("package-exceptions.json", "build-config.json")
_OF_NO_USE = ("type", "runtime", "registry", "binDir")
"""Of the artifact in `package.json`: the same for every run environment."""


def read_repository(directory: Path) -> Repository:
    """What the repository in `directory` says.

    Raises UsageError where it is none, and SpecError with all that is wrong
    in its files.
    """
    folders = _folders(directory)
    missing = [] if (directory / SHARED).is_file() else [f"no {SHARED}"]
    missing += [] if folders else ["no such directory"]
    if missing:
        raise UsageError(
            "this is no repository of the kind of runenv-python-3",
            file=directory,
            expected=f"{SHARED}, and directories such as python-3.12.10 with a config.json",
            found=", ".join(missing),
        )
    files = JsonFiles(directory)
    table = files.read(SHARED, required=True)
    shared = read_config(table, SHARED) if table else Config()
    shared = replace(shared, allow_import_errors=_import_errors(files, _WHITELISTS))
    variants = [found for folder in folders if (found := _variant(files, folder))]
    _check_catalogue(files, folders)
    files.close()
    if files.problems:
        raise SpecError(directory, files.problems)
    unread = [name for name in _UNREAD if (directory / name).is_file()]
    notes = [Note(kind="unknown", place=name, text="a file that is not read") for name in unread]
    return Repository(
        directory=directory,
        shared=shared,
        variants=_named(variants),
        notes=(*files.notes, *notes),
    )


def _folders(directory: Path) -> list[Path]:
    found = [
        folder
        for folder in directory.glob("python-*")
        if (folder / "config.json").is_file() or (folder / "package.json").is_file()
    ]
    return sorted(found, key=_order)


def _order(folder: Path) -> tuple[list[int], str]:
    """The newest version of Python first, in it by name."""
    match = _DIRECTORY.fullmatch(folder.name)
    return [-int(part) for part in match[1].split(".")] if match else [0], folder.name


def _variant(files: JsonFiles, folder: Path) -> Variant | None:
    from packaging.version import Version

    match = _DIRECTORY.fullmatch(folder.name)
    package = files.read(folder.name, "package.json")
    artifact = _artifact(package) if package else None
    written = artifact.text("python-version") if artifact else None
    version = written or (match[1] if match else None)
    if version is None or not _VERSION.fullmatch(version):
        files.problems.append(
            Problem(
                place=folder.name,
                message="the version of Python is not told",
                expected="`python-version` in package.json, or a name such as python-3.12.10-atls",
                found=version,
            )
        )
        version = "3.0.0"
    if written and match and written != match[1]:
        text = f"built with Python {written}, as its package.json says"
        files.notes.append(Note(kind="became", place=folder.name, text=text))
    table = files.read(folder.name, "config.json")
    own = read_config(table, f"{folder.name}/config.json") if table else Config()
    return Variant(
        directory=folder,
        name=(match[2] if match else None) or folder.name,
        python=Version(version),
        own=replace(own, allow_import_errors=_import_errors(files, (*_WHITELISTS, folder.name))),
        platforms=_platforms(artifact) if artifact else DEFAULT_PLATFORMS,
        description=package.text("description") if package else None,
    )


def _artifact(package: JsonTable) -> JsonTable | None:
    """`block-software.entrypoints.main.environment.artifact` of a `package.json`."""
    table: JsonTable | None = package
    for key in ("block-software", "entrypoints"):
        table = cast("JsonTable | None", table.table(key)) if table else None
    if table is None:
        return None
    main = table.table("main")
    table.done()
    environment = main.table("environment") if main else None
    artifact = cast("JsonTable | None", environment.table("artifact") if environment else None)
    if artifact is None:
        return None
    for key in _OF_NO_USE:
        artifact.text(key)
    for item in artifact.texts("envVars") or ():
        text = f"sets {item.value!r}; layers set no variables, so whoever runs them has to"
        artifact.unknown.append(Note(kind="without-counterpart", place=item.place, text=text))
    return artifact


def _platforms(artifact: JsonTable) -> tuple[Platform, ...]:
    roots = artifact.table("roots")
    artifact.done()
    if roots is None or not roots.values:
        return DEFAULT_PLATFORMS
    found = set()
    for key in roots.values:
        if key in set(Platform):
            roots.text(key)
            found.add(Platform(key))
    roots.done()
    return tuple(platform for platform in Platform if platform in found)


def _named(variants: list[Variant]) -> tuple[Variant, ...]:
    """The variants with names of their own: that of the variant, its version added on need."""
    counts = Counter(variant.name.lower() for variant in variants)
    return tuple(
        replace(variant, name=variant.directory.name.removeprefix("python-"))
        if counts[variant.name.lower()] > 1
        else variant
        for variant in variants
    )


def _import_errors(
    files: JsonFiles, parts: tuple[str, ...]
) -> Mapping[Platform, Mapping[str, Mapping[str, str]]]:
    """The whitelists in a folder, by platform; older files call processors otherwise."""
    found: dict[Platform, dict[str, dict[str, str]]] = {}
    for path in sorted(files.directory.joinpath(*parts).glob("*.json")):
        system, _, processor = path.stem.partition("-")
        name = f"{system}-{_ALIASES.get(processor, processor)}"
        table = files.read(*parts, path.name)
        if table is None:
            continue
        if name not in set(Platform):
            text = f"no platform is called {path.stem!r}, so this file has no effect"
            files.notes.append(Note(kind="unknown", place="/".join((*parts, path.name)), text=text))
            continue
        for wheel, errors in _errors(table):
            found.setdefault(Platform(name), {}).setdefault(wheel, {}).update(errors)
    return found


def _errors(table: JsonTable) -> Iterator[tuple[str, dict[str, str]]]:
    for key in table.values:
        if key.startswith("_"):
            continue
        entry = table.table(key)
        texts = {module: entry.text(module) for module in entry.values} if entry else {}
        yield key, {module: text for module, text in texts.items() if text}
    table.done()


def _check_catalogue(files: JsonFiles, folders: list[Path]) -> None:
    """Compare the variants with what the catalogue names."""
    catalogue = files.read("catalogue", "package.json")
    software = catalogue.table("block-software") if catalogue else None
    entries = software.table("entrypoints") if software else None
    if entries is None:
        return
    named = {f"python-{key}" for key in entries.values}
    there = {folder.name for folder in folders}
    place = "catalogue/package.json"
    for name in sorted(named - there):
        text = f"{name} is named, and there is no such directory"
        files.notes.append(Note(kind="question", place=place, text=text))
    for name in sorted(there - named):
        text = f"{name} is not named, and imported all the same"
        files.notes.append(Note(kind="question", place=place, text=text))
