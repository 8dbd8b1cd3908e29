"""Reads a repository of the kind of runenv-python-3."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stackbuild.errors import Problem, SpecError, UsageError
from stackbuild.importers.runenv.config import read_config
from stackbuild.importers.runenv.jsonfile import JsonFiles
from stackbuild.importers.runenv.merge import merged
from stackbuild.importers.runenv.model import Config, Note, Repository, Variant
from stackbuild.names import layer_name_fault
from stackbuild.platforms import DEFAULT_PLATFORMS, Platform

if TYPE_CHECKING:
    from pathlib import Path

    from stackbuild.importers.runenv.jsonfile import JsonTable
    from stackbuild.importers.runenv.model import Keys

SHARED = "shared-config.json"
_DIRECTORY = re.compile(r"python-(\d+\.\d+\.\d+)(?:-(.+))?")
_VERSION = re.compile(r"3\.\d+\.\d+")
_ALIASES = {"amd64": "x64", "arm64": "aarch64"}
_WHITELISTS = ("checker", "whitelists")
_UNREAD = ("package-exceptions.json", "build-config.json")
_NOT_NEEDED = ("type", "runtime", "registry", "binDir")
"""Keys of the artifact in `package.json` that are the same for every run environment."""
_OF_NPM = (
    "name", "description", "private", "type", "files", "main", "scripts", "license", "author",
    "repository", "homepage", "keywords", "engines", "packageManager", "publishConfig",
    "dependencies", "devDependencies", "peerDependencies", "optionalDependencies",
)  # fmt: skip
"""Keys of any `package.json` that describe the npm package and not the environment."""
_LONGEST_NAME = 60
"""Of a layer, so that a number can be added."""


def read_repository(directory: Path) -> Repository:
    """The configuration in `directory`.

    Raises UsageError if it is no such repository, and SpecError with all problems of its files.
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
    for path in sorted(set(directory.glob("python-*/")) - set(folders)):
        text = "there is no config.json and no package.json, so it is not imported"
        files.notes.append(Note(kind="unknown", place=path.name, text=text))
    table = files.read(SHARED, required=True)
    shared = read_config(table, SHARED) if table else Config()
    shared = _with_import_errors(shared, files, _WHITELISTS)
    variants = [_variant(files, folder) for folder in folders]
    variants = [replace(item, config=merged(shared, item.own)) for item in variants]
    named = _named(variants, files.notes)
    _check_catalogue(files, folders)
    _check_whitelists(files, folders)
    files.close()
    if files.problems:
        raise SpecError(directory, files.problems)
    unread = [name for name in _UNREAD if (directory / name).is_file()]
    notes = [Note(kind="unknown", place=name, text="this file is not read") for name in unread]
    return Repository(
        directory=directory,
        shared=shared,
        variants=named,
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


def _variant(files: JsonFiles, folder: Path) -> Variant:
    from packaging.version import Version

    match = _DIRECTORY.fullmatch(folder.name)
    package = files.read(folder.name, "package.json")
    artifact = _artifact(package) if package else None
    written = artifact.text("python-version") if artifact else None
    # Some write the variant behind it.
    version = written.partition("-")[0] if written else match[1] if match else None
    if version is None or not _VERSION.fullmatch(version):
        files.problems.append(
            Problem(
                place=folder.name,
                message="the version of Python is not known",
                expected="`python-version` in package.json, or a name such as python-3.12.10-atls",
                found=version,
            )
        )
        version = "3.0.0"
    if match and version != match[1]:
        text = f"uses Python {version}, as its package.json says"
        files.notes.append(Note(kind="became", place=folder.name, text=text))
    table = files.read(folder.name, "config.json")
    own = read_config(table, f"{folder.name}/config.json") if table else Config()
    own = _with_import_errors(own, files, (*_WHITELISTS, folder.name))
    return Variant(
        directory=folder,
        name=(match[2] if match else None) or folder.name,
        python=Version(version),
        own=own,
        platforms=_platforms(artifact) if artifact else DEFAULT_PLATFORMS,
        description=package.text("description") if package else None,
    )


def _artifact(package: JsonTable) -> JsonTable | None:
    """`block-software.entrypoints.main.environment.artifact` of a `package.json`."""
    version = package.text("version")
    if version is not None:
        text = f"{version}: layers count their own versions, unless `version` is set"
        package.add_note("without-counterpart", package.place_of("version"), text)
    package.pass_over(*_OF_NPM)
    table = package
    for key in ("block-software", "entrypoints", "main", "environment", "artifact"):
        lower = table.object(key)
        table.done()
        if lower is None:
            return None
        table = lower
    for key in _NOT_NEEDED:
        table.text(key)
    for item in table.texts("envVars") or ():
        text = f"{item.value!r}: a layer sets no variables; set it where the layer is run"
        table.add_note("without-counterpart", item.place, text)
    return table


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
    if not found:
        roots.problems.add(
            roots.place,
            "no known platform",
            expected=f"one of {', '.join(Platform)}",
            found=", ".join(roots.values),
        )
        return DEFAULT_PLATFORMS
    return tuple(platform for platform in Platform if platform in found)


def _named(variants: list[Variant], notes: list[Note]) -> tuple[Variant, ...]:
    """The variants with valid and different names of layers.

    The name is that of the variant, with the version if several variants have the same name.
    """
    counts = Counter(variant.name.lower() for variant in variants)
    taken = {f"cpython-{item.python.major}.{item.python.minor}" for item in variants}
    found = []
    for variant in variants:
        written = variant.name
        if counts[written.lower()] > 1:
            written = variant.directory.name.removeprefix("python-")
        name = _free(layer_name(written), taken)
        taken.add(name.lower())
        if name != written:
            text = f"the layer is called {name}; {written!r} is not available as a name"
            notes.append(Note(kind="became", place=variant.directory.name, text=text))
        found.append(replace(variant, name=name))
    return tuple(found)


def layer_name(text: str) -> str:
    """`text` as the name of a layer, with other characters replaced."""
    plain = re.sub(r"[^A-Za-z0-9._@-]+", "-", text).strip("-._@")[:_LONGEST_NAME].rstrip("-.")
    names = (text, plain, f"env-{plain}".rstrip("-"))
    return next(name for name in names if not layer_name_fault(name))


def _free(name: str, taken: set[str]) -> str:
    names = (name, *(f"{name}-{number}" for number in range(2, len(taken) + 3)))
    return next(item for item in names if item.lower() not in taken)


def _with_import_errors(config: Config, files: JsonFiles, parts: tuple[str, ...]) -> Config:
    """`config` with the whitelists in a folder. Older files have other names of processors."""
    found: dict[Keys, Any] = {}
    for path in sorted(files.directory.joinpath(*parts).glob("*.json")):
        system, _, processor = path.stem.partition("-")
        platform = f"{system}-{_ALIASES.get(processor, processor)}"
        table = files.read(*parts, path.name)
        if table is None:
            continue
        if platform not in set(Platform):
            text = f"no platform is called {path.stem!r}, so this file has no effect"
            files.notes.append(Note(kind="unknown", place="/".join((*parts, path.name)), text=text))
            continue
        for wheel in table.values:
            if not wheel.startswith("_"):
                entry = table.part(wheel)
                errors = {module: entry.text(module) for module in entry.values}
                keys = ("platform-specific", platform, "allow-import-errors", wheel)
                found[keys] = {module: text for module, text in errors.items() if text}
        table.done()
    return replace(config, replaced={**config.replaced, **found})


def _check_whitelists(files: JsonFiles, folders: list[Path]) -> None:
    """Note whitelists of variants that do not exist."""
    names = {folder.name for folder in folders}
    for path in sorted(files.directory.joinpath(*_WHITELISTS).glob("*/")):
        if path.name not in names:
            place = "/".join((*_WHITELISTS, path.name))
            text = "no variant has this name, so this has no effect"
            files.notes.append(Note(kind="unknown", place=place, text=text))


def _check_catalogue(files: JsonFiles, folders: list[Path]) -> None:
    """Compare the variants with what the catalogue names."""
    catalogue = files.read("catalogue", "package.json")
    if catalogue is None:
        return
    catalogue.pass_over("version", "block-software", *_OF_NPM)
    catalogue.done()
    software = catalogue.table("block-software")
    entries = software.table("entrypoints") if software else None
    if software is None or entries is None:
        return
    software.done()
    named = {f"python-{key}" for key in entries.values}
    there = {folder.name for folder in folders}
    place = "catalogue/package.json"
    for name in sorted(named - there):
        text = f"it names {name}, and there is no such directory"
        files.notes.append(Note(kind="question", place=place, text=text))
    for name in sorted(there - named):
        text = f"it does not name {name}, which was imported"
        files.notes.append(Note(kind="question", place=place, text=text))
