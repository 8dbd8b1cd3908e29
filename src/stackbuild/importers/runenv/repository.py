"""Reads a repository of the kind of runenv-python-3."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from importlib import resources
from typing import TYPE_CHECKING, Any

from stackbuild import strictjson
from stackbuild.errors import Problem, SpecError, UsageError
from stackbuild.importers.runenv.config import read_config
from stackbuild.importers.runenv.entries import with_common_errors, without_unused
from stackbuild.importers.runenv.jsonfile import JsonFiles
from stackbuild.importers.runenv.model import Config, Repository, Variant
from stackbuild.importers.runenv.registries import free_name, registries_of
from stackbuild.names import layer_name_fault
from stackbuild.platforms import DEFAULT_PLATFORMS, Platform
from stackbuild.reading import Item, ReadError, redacted
from stackbuild.spec.values import in_order
from stackbuild.variables import PLACES, as_layer_variable, as_value, case_clashes

if TYPE_CHECKING:
    from collections.abc import Iterable
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
    "name", "version", "description", "private", "type", "files", "main", "scripts", "license",
    "author", "repository", "homepage", "keywords", "engines", "packageManager", "publishConfig",
    "dependencies", "devDependencies", "peerDependencies", "optionalDependencies",
)  # fmt: skip
"""Keys of any `package.json` that describe the npm package and not the environment."""
_CATALOGUE = ("title", "description", "deprecated")
"""Texts that the table `catalogue` of a layer has, too."""
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
        files.note("unknown", path.name, text)
    table = files.read(SHARED, required=True)
    shared = read_config(table, SHARED) if table else Config()
    shared = _with_import_errors(shared, files, _WHITELISTS)
    found = _named([_variant(files, folder, shared) for folder in folders], files)
    shared, variants = with_common_errors(*without_unused(shared, SHARED, found, files.notes))
    names = {folder.name for folder in folders}
    entries = _catalogue(files, names)
    variants = tuple(
        replace(item, catalogue={**item.catalogue, **entries.get(item.directory.name, {})})
        for item in variants
    )
    for path in sorted(directory.joinpath(*_WHITELISTS).glob("*/")):
        if path.name not in names:
            text = "no variant has this name, so this has no effect"
            files.note("unknown", "/".join((*_WHITELISTS, path.name)), text)
    _check_versions(variants, files)
    files.close()
    if files.problems:
        raise SpecError(directory, files.problems)
    for name in _UNREAD:
        if (directory / name).is_file():
            files.note("unknown", name, "this file is not read")
    configs = (shared, *(variant.own for variant in variants))
    return Repository(
        shared=shared,
        variants=variants,
        registries=registries_of(url for config in configs for url in config.registries),
        notes=tuple(files.notes),
    )


def _folders(directory: Path) -> list[Path]:
    """The directories of variants: the newest version of Python first, in it by name."""

    def order(folder: Path) -> tuple[list[int], str]:
        match = _DIRECTORY.fullmatch(folder.name)
        return [-int(part) for part in match[1].split(".")] if match else [0], folder.name

    files = ("config.json", "package.json")
    found = directory.glob("python-*")
    return sorted((it for it in found if any((it / file).is_file() for file in files)), key=order)


def _variant(files: JsonFiles, folder: Path, shared: Config) -> Variant:
    from packaging.version import Version

    match = _DIRECTORY.fullmatch(folder.name)
    package = files.read(folder.name, "package.json")
    catalogue = _texts(package) if package else {}
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
        files.note("became", folder.name, f"uses Python {version}, as its package.json says")
    table = files.read(folder.name, "config.json")
    own = read_config(table, f"{folder.name}/config.json") if table else Config()
    own = _with_import_errors(own, files, (*_WHITELISTS, folder.name))
    environment = _environment(artifact) if artifact else {}
    return Variant(
        directory=folder,
        name=(match[2] if match else None) or folder.name,
        python=Version(version),
        own=own,
        environment=environment,
        config=shared.merged(own),
        platforms=_platforms(artifact) if artifact else DEFAULT_PLATFORMS,
        version=str(package.values["version"]) if package and package.has("version") else None,
        catalogue=catalogue,
    )


def _artifact(package: JsonTable) -> JsonTable | None:
    """`block-software.entrypoints.main.environment.artifact` of a `package.json`."""
    package.pass_over(*_OF_NPM)
    table = package
    for key in ("block-software", "entrypoints", "main", "environment", "artifact"):
        lower = table.table(key)
        table.done()
        if lower is None:
            return None
        table = lower
    for key in _NOT_NEEDED:
        table.text(key)
    return table


def _environment(artifact: JsonTable) -> dict[str, Any]:
    """`envVars`, which are ``NAME=value``, as `environment` of a layer."""
    found: dict[str, Any] = {}
    items = artifact.texts("envVars") or ()
    last = {item.value.partition("=")[0]: item for item in items}
    for item in items:
        name, sign, text = item.value.partition("=")
        try:
            if not sign:
                raise item.error("not a variable", "NAME=value")
            name = as_layer_variable(Item(item.place, name))
            value = _variable(Item(item.place, text), name)
            if last[name] is not item:
                raise item.error(f"{last[name].place.rpartition('.')[2]} sets {name}, too")
            if twins := case_clashes([*found, name]):
                raise item.error(f"{twins[0][0]} and {name} differ only in case")
        except ReadError as error:
            text = f"{item.value!r} was left out: {error.message or f'expected {error.expected}'}"
            artifact.add_note("question", item.place, redacted(text))
        else:
            found[name] = value
            artifact.add_note("became", item.place, f"environment.{name} of the layer")
    return found


def _variable(item: Item[str], name: str) -> str | dict[str, list[str]]:
    """The value of the variable `name`: a text, or entries around the value that it has."""
    entries = item.value.replace(f"${{{name}}}", f"${name}").split(":")
    at = entries.index(f"${name}") if f"${name}" in entries else None
    rest = [item.value] if at is None else entries[:at] + entries[at + 1 :]
    if any("$" in entry or "{" in entry for entry in rest):
        raise item.error("`$` and `{` are not read in the value")
    if at is not None and not rest:
        raise item.error(f"only the value that {name} has")
    if at is not None and not all(rest):
        raise item.error("an empty entry")
    texts = [as_value(Item(item.place, entry.replace("}", "}}")), PLACES) for entry in rest]
    if at is None:
        return texts[0]
    return {key: part for key, part in (("prepend", texts[:at]), ("append", texts[at:])) if part}


def _platforms(artifact: JsonTable) -> tuple[Platform, ...]:
    roots = artifact.part("roots")
    artifact.done()
    found = [key for key in roots.values if key in set(Platform)]
    for key in found:
        roots.text(key)
    roots.done()
    if roots.values and not found:
        roots.problems.add(
            roots.place,
            "no known platform",
            expected=f"one of {', '.join(Platform)}",
            found=", ".join(roots.values),
        )
    return in_order(map(Platform, found)) or DEFAULT_PLATFORMS


def _named(variants: list[Variant], files: JsonFiles) -> tuple[Variant, ...]:
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
        name = free_name(layer_name(written), taken)
        taken.add(name.lower())
        if name != written:
            text = f"the layer is called {name}; {written!r} is not available as a name"
            files.note("became", variant.directory.name, text)
        found.append(replace(variant, name=name))
    return tuple(found)


def layer_name(text: str) -> str:
    """`text` as the name of a layer, with other characters replaced."""
    plain = re.sub(r"[^A-Za-z0-9._@-]+", "-", text).strip("-._@")[:_LONGEST_NAME].rstrip("-.")
    names = (text, plain, f"env-{plain}".rstrip("-"))
    return next(name for name in names if not layer_name_fault(name))


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
            files.note("unknown", "/".join((*parts, path.name)), text)
            continue
        for wheel in table.values:
            if not wheel.startswith("_"):
                entry = table.part(wheel)
                errors = {module: entry.text(module) for module in entry.values}
                keys = ("platform-specific", platform, "allow-import-errors", wheel)
                found[keys] = {module: text for module, text in errors.items() if text}
        table.done()
    return replace(config, replaced={**config.replaced, **found})


def _check_versions(variants: Iterable[Variant], files: JsonFiles) -> None:
    """Note the versions of CPython that python-build-standalone does not have."""
    path = resources.files("pbs_installer").joinpath("versions.json")
    named = [item["python_version"] for item in strictjson.parse(path.read_bytes(), str(path))]
    known = {tuple(item[part] for part in ("major", "minor", "micro")) for item in named}
    for variant in variants:
        if variant.python.release not in known:
            minor = variant.python.release[:2]
            newest = max((one for one in known if one[:2] == minor), default=max(known))
            text = f"python-build-standalone has no CPython {variant.python}, but it has"
            files.note("question", variant.directory.name, f"{text} {'.'.join(map(str, newest))}")


def _texts(table: JsonTable) -> dict[str, str]:
    """The texts in `table` that the table `catalogue` of a layer has, too."""
    texts = {key: value for key in _CATALOGUE if isinstance(value := table.values.get(key), str)}
    table.pass_over(*texts)
    return {key: text.strip() for key, text in texts.items() if text.strip()}


def _catalogue(files: JsonFiles, names: set[str]) -> dict[str, dict[str, str]]:
    """The texts in the catalogue, by the directory of the variant. It is compared with `names`."""
    catalogue = files.read("catalogue", "package.json")
    if catalogue is None:
        return {}
    for key in ("version", *_CATALOGUE):
        if catalogue.has(key):
            catalogue.pass_over(key)
            catalogue.add_note("needless", key, "an index as a whole has none")
    catalogue.pass_over("block-software", *_OF_NPM)
    catalogue.done()
    software = catalogue.table("block-software")
    entries = software.table("entrypoints") if software else None
    if software is None or entries is None:
        return {}
    software.done()
    found: dict[str, dict[str, str]] = {}
    for key, value in entries.values.items():
        found[f"python-{key}"] = {}
        if isinstance(value, dict) and (entry := entries.table(key)):
            entry.pass_over("reference")
            found[f"python-{key}"] = _texts(entry)
            entry.done()
    texts = [
        f"it names {it}, and there is no such directory" for it in sorted(found.keys() - names)
    ]
    texts += [f"it does not name {it}, which was imported" for it in sorted(names - found.keys())]
    for text in texts:
        files.note("question", "catalogue/package.json", text)
    return found
