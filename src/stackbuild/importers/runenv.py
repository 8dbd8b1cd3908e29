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
from stackbuild.names import layer_name_fault
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
_OF_NPM = (
    "name", "description", "private", "type", "files", "main", "scripts", "license", "author",
    "repository", "homepage", "keywords", "engines", "packageManager", "publishConfig",
    "dependencies", "devDependencies", "peerDependencies", "optionalDependencies",
)  # fmt: skip
"""What any `package.json` may hold, and is about the package and not the environment."""
_LONGEST_NAME = 60
"""Of a layer, so that a number can be added."""


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
    variants = _named([_variant(files, folder) for folder in folders], files.notes)
    _check_catalogue(files, folders)
    _check_whitelists(files, folders)
    files.close()
    if files.problems:
        raise SpecError(directory, files.problems)
    unread = [name for name in _UNREAD if (directory / name).is_file()]
    notes = [Note(kind="unknown", place=name, text="a file that is not read") for name in unread]
    return Repository(
        directory=directory,
        shared=shared,
        variants=variants,
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
                message="the version of Python is not told",
                expected="`python-version` in package.json, or a name such as python-3.12.10-atls",
                found=version,
            )
        )
        version = "3.0.0"
    if match and version != match[1]:
        text = f"built with Python {version}, as its package.json says"
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
    version = package.text("version")
    if version is not None:
        text = f"{version} is the package's; layers count their own, unless `version` is set"
        note = Note(kind="without-counterpart", place=package.place_of("version"), text=text)
        package.unknown.append(note)
    for key in _OF_NPM:
        package.pass_over(key)
    table = package
    for key in ("block-software", "entrypoints", "main", "environment", "artifact"):
        lower = cast("JsonTable | None", table.table(key))
        table.done()
        if lower is None:
            return None
        table = lower
    for key in _OF_NO_USE:
        table.text(key)
    for item in table.texts("envVars") or ():
        text = f"sets {item.value!r}; layers set no variables, so whoever runs them has to"
        table.unknown.append(Note(kind="without-counterpart", place=item.place, text=text))
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
            "no platform that is known",
            expected=f"one of {', '.join(Platform)}",
            found=", ".join(roots.values),
        )
        return DEFAULT_PLATFORMS
    return tuple(platform for platform in Platform if platform in found)


def _named(variants: list[Variant], notes: list[Note]) -> tuple[Variant, ...]:
    """The variants with names that layers can have, each its own.

    That is the variant's, its version added where several have it.
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
            text = f"the layer is called {name}, as no layer can be called {written!r}"
            notes.append(Note(kind="became", place=variant.directory.name, text=text))
        found.append(replace(variant, name=name))
    return tuple(found)


def layer_name(text: str) -> str:
    """`text` as the name of a layer; what cannot be in one is replaced."""
    plain = re.sub(r"[^A-Za-z0-9._@-]+", "-", text).strip("-._@")[:_LONGEST_NAME].rstrip("-.")
    names = (text, plain, f"env-{plain}".rstrip("-"))
    return next(name for name in names if not layer_name_fault(name))


def _free(name: str, taken: set[str]) -> str:
    names = (name, *(f"{name}-{number}" for number in range(2, len(taken) + 3)))
    return next(item for item in names if item.lower() not in taken)


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


def _check_whitelists(files: JsonFiles, folders: list[Path]) -> None:
    """Note the whitelists of variants that are not there."""
    names = {folder.name for folder in folders}
    for path in sorted(files.directory.joinpath(*_WHITELISTS).glob("*/")):
        if path.name not in names:
            place = "/".join((*_WHITELISTS, path.name))
            text = "there is no variant of this name, so what it says has no effect"
            files.notes.append(Note(kind="unknown", place=place, text=text))


def _check_catalogue(files: JsonFiles, folders: list[Path]) -> None:
    """Compare the variants with what the catalogue names."""
    catalogue = files.read("catalogue", "package.json")
    if catalogue is None:
        return
    for key in ("version", "block-software", *_OF_NPM):
        catalogue.pass_over(key)
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
        text = f"{name} is named, and there is no such directory"
        files.notes.append(Note(kind="question", place=place, text=text))
    for name in sorted(there - named):
        text = f"{name} is not named, and imported all the same"
        files.notes.append(Note(kind="question", place=place, text=text))
