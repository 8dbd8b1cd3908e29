"""From a repository of the kind of runenv-python-3 to a stack and a report. Offline.

A shared entry stays in `[tool.stackbuild.shared]` if it means the same for each variant; otherwise
each layer gets the entry that holds for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stackbuild.errors import SpecError, UsageError
from stackbuild.files import atomic_write
from stackbuild.importers.runenv.model import OLDER, Note, specifier
from stackbuild.importers.runenv.notes import config_notes
from stackbuild.importers.runenv.overlays import (
    outside_links,
    overlay_settings,
    sources,
    write_overlays,
)
from stackbuild.importers.runenv.repository import read_repository
from stackbuild.platforms import DEFAULT_PLATFORMS, Platform
from stackbuild.spec.writer import spec_text
from stackbuild.tomltext import layer_table
from stackbuild.transport.urls import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from packaging.version import Version

    from stackbuild.importers.runenv.model import Keys, Repository, Variant
    from stackbuild.importers.runenv.registries import Registry

    Overlays = Mapping[Keys, list[dict[str, Any]]]
    Table = dict[str, Any]

SPEC = "venvstacks.toml"
_HEADER = (
    "Imported by `stackbuild import runenv`. Edit this file from now on.",
    "`stackbuild show` prints the layers, `stackbuild lock` locks them.",
)
LAUNCH_FILE = "launch/run_environment.py"
"""The launch module of each application, which venvstacks requires."""
_LAUNCH_TEXT = '''\
"""Runs the script named first, with the arguments after it; without any, a console."""

import code
import runpy
import sys

if len(sys.argv) > 1:
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
else:
    code.interact()
'''
_GIT_IGNORE = ".gitignore"
_IGNORED = ("/wheelhouse/", "/build/", "/exports/", "/.stackbuild/")
"""What commands write and git should ignore. The locks in `layers/` are committed."""
_RUN_PIP = frozenset({"olga"})
"""Distributions whose programs run `python -m pip`.

olga 1.3.0 calls `pip freeze` in olga/compute_pgen.py and olga/generate_sequences.py.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What was read, and what it became."""

    repository: Path
    spec: Path
    """The file of the stack."""
    written: tuple[str, ...]
    """Relative to the directory of the spec; empty for a dry run."""
    environments: tuple[tuple[str, str], ...]
    """Directory and layer of each variant."""
    notes: tuple[Note, ...]
    text: str
    """The contents of the spec."""


def import_runenv(
    directory: Path, project: Path, *, index: str | None = None, write: bool = True
) -> ImportReport:
    """Read the repository in `directory` and write the stack into `project`; see the API."""
    spec = project / SPEC
    if write and spec.exists():
        raise UsageError(
            "there is a stack already",
            file=spec,
            remedy="write the stack into another directory, or move the file away",
        )
    repository = read_repository(directory)
    notes = list(repository.notes)
    overlays = {item.name: overlay_settings(item, notes) for item in repository.variants}
    problems = [
        problem
        for item in repository.variants
        for problem in outside_links(item, sources(item, overlays[item.name]))
    ]
    if problems:
        raise SpecError(directory, problems)
    notes += config_notes(repository)
    runtimes = runtime_names(sorted({it.python for it in repository.variants}, reverse=True))
    with_pip = {it.python for it in repository.variants if it.names() & _RUN_PIP}
    notes += _pip_notes(repository.variants, runtimes, with_pip)
    notes += _ignore_notes(project / _GIT_IGNORE)
    text = spec_text(
        _layers(repository, runtimes),
        indexes=_indexes(repository.registries.values(), index),
        tool=_index_platforms(repository),
        shared=shared_settings(repository),
        settings={
            **{runtimes[version]: {"keep": ["pip"]} for version in runtimes if version in with_pip},
            **{
                item.name: layer_settings(item, repository, overlays[item.name])
                for item in repository.variants
            },
        },
        header=_HEADER,
    )
    written = _write(project, repository.variants, overlays, text) if write else []
    return ImportReport(
        repository=directory,
        spec=spec,
        written=tuple(written),
        environments=tuple((item.directory.name, item.name) for item in repository.variants),
        notes=tuple(notes),
        text=text,
    )


def runtime_names(versions: Sequence[Version]) -> dict[Version, str]:
    """The runtimes' names: the minor version, or the whole version if two have the same minor."""
    minors = [version.release[:2] for version in versions]
    return {
        version: f"cpython-{version}"
        if minors.count(version.release[:2]) > 1
        else f"cpython-{version.major}.{version.minor}"
        for version in versions
    }


def _pip_notes(
    variants: Iterable[Variant], runtimes: Mapping[Version, str], with_pip: set[Version]
) -> Iterator[Note]:
    """What became of pip; `with_pip` are the versions of the `runtimes` that keep it."""
    missing: dict[str, None] = {}
    has_packages = False
    for variant in variants:
        table = layer_table(runtimes[variant.python])
        if names := variant.names() & _RUN_PIP:
            text = f'{", ".join(names)} runs `python -m pip`: keep = ["pip"] in {table}'
            yield Note("became", f"{variant.file}: packages.dependencies", text)
        if any(variant.asked()):
            has_packages = True
            if variant.python not in with_pip:
                missing[table] = None
    if has_packages:
        keep = f'`keep = ["pip"]` to {", ".join(missing)} and ' if missing else ""
        text = (
            "blocks installed their requirements.txt from here; to let them do so, add"
            f" {keep}`packages = true` to the table of each layer that they use"
        )
        yield Note("question", "python-*/pydist/<platform>/packages", text)


def _ignore_notes(file: Path) -> Iterator[Note]:
    """What is missing in `file`, if it exists; an existing one is never changed."""
    if file.is_file():
        lines = file.read_text("utf-8", errors="replace").splitlines()
        ignored = {line.strip().removesuffix("*").strip("/") for line in lines}
        if missing := [line for line in _IGNORED if line.strip("/") not in ignored]:
            text = f"add the lines {' '.join(missing)} for what commands write"
            yield Note("question", file.name, text)


def _layers(repository: Repository, names: Mapping[Version, str]) -> dict[str, list[Table]]:
    variants = repository.variants
    runtimes = []
    for version, name in names.items():
        made = {p for variant in variants if variant.python == version for p in variant.platforms}
        fields: Table = {"name": name, "python_implementation": f"cpython@{version}"}
        if not made <= set(DEFAULT_PLATFORMS):
            fields["platforms"] = _venvstacks_names(made.union(DEFAULT_PLATFORMS))
        runtimes.append({**fields, "requirements": []})
    applications = []
    for variant in variants:
        runtime = names[variant.python]
        fields = {"name": variant.name, "runtime": runtime, "launch_module": LAUNCH_FILE}
        if variant.platforms != DEFAULT_PLATFORMS:
            fields["platforms"] = _venvstacks_names(variant.platforms)
        fields["requirements"] = list(variant.dependencies()[None])
        fields |= _index_fields(repository.indexes_of(variant))
        applications.append(fields)
    return {"runtimes": runtimes, "applications": applications}


def _venvstacks_names(platforms: Iterable[Platform]) -> list[str]:
    return [platform.venvstacks_name for platform in Platform if platform in set(platforms)]


def _index_fields(found: Mapping[str, Registry]) -> Table:
    """`package_indexes` and `priority_indexes` of the layer whose distributions are in `found`.

    What CUDA packages require of each other is known only when they are resolved, so an index
    of NVIDIA that is used is also searched first for everything else.
    """
    fields: Table = {}
    if found:
        fields["package_indexes"] = {name: item.name for name, item in found.items()}
    if first := dict.fromkeys(item.name for item in found.values() if item.is_nvidia):
        fields["priority_indexes"] = list(first)
    return fields


def _indexes(registries: Iterable[Registry], default: str | None) -> list[Table]:
    tables: list[Table] = [
        {"name": item.name, "url": item.url, "explicit": True} for item in registries
    ]
    if default:
        tables.append({"url": without_credentials(default), "default": True})
    return tables


def _index_platforms(repository: Repository) -> Table:
    """The indexes that do not serve all platforms: there is no CUDA and no ROCm for macOS.

    pip searched all indexes, and found the packages for macOS in the default one.
    """
    served = [str(platform) for platform in DEFAULT_PLATFORMS if platform.os != "macos"]
    found = {item.name: served for item in repository.registries.values() if item.is_for_gpus}
    return {"index-platforms": found} if found else {}


def shared_settings(repository: Repository) -> Table:
    """`[tool.stackbuild.shared]`."""
    shared = repository.shared
    overrides, kept = repository.kept_overrides(), repository.kept_entries()
    return nested(
        {
            ("registries", "additional"): _used(shared.registries, repository, repository.variants),
            **{keys: value for keys, value in shared.replaced.items() if keys in kept},
            **shared.joined,
            **{("overrides", name): shared.overrides[name] for name in sorted(overrides)},
        }
    )


def layer_settings(variant: Variant, repository: Repository, overlays: Overlays) -> Table:
    """`[tool.stackbuild.layers.<name>]` of a variant; `overlays` are its `copy-files`."""
    own = [url for url in variant.config.registries if url not in repository.shared.registries]
    kept = repository.kept_entries() - variant.own.replaced.keys()
    overrides = variant.names() - repository.kept_overrides()
    settings: dict[Keys, Any] = {
        **{("catalogue", key): text for key, text in variant.catalogue.items()},
        ("registries", "additional"): _used(own, repository, [variant]),
        **{keys: value for keys, value in variant.config.replaced.items() if keys not in kept},
        **variant.own.joined,
        **{
            ("overrides", name): specifier(text).removeprefix("==")
            for name, text in variant.config.overrides.items()
            if name in overrides
        },
        **{
            ("platform-specific", platform, "dependencies"): list(items)
            for platform, items in variant.dependencies().items()
            if platform
        },
        **overlays,
        **{("environment", name): value for name, value in variant.environment.items()},
        **{
            ("build", "environment", name): value
            for name, value in variant.environment.items()
            if repository.builds_from_source(variant)
        },
    }
    for keys in list(settings):
        if keys[0] in OLDER:
            entry = settings[keys]
            settings[keys] = {p: entry[p] for p in variant.platforms if p in entry}
        elif keys[0] == "platform-specific" and keys[1] not in variant.platforms:
            del settings[keys]
    return nested(settings)


def _used(urls: Iterable[str], repository: Repository, variants: Iterable[Variant]) -> list[str]:
    """The names of the registries at `urls` that serve distributions of `variants`."""
    used = {item for variant in variants for item in repository.indexes_of(variant).values()}
    found = (repository.registries[url] for url in urls)
    return list(dict.fromkeys(item.name for item in found if item in used))


def nested(settings: Mapping[Keys, Any]) -> Table:
    """The tables that `settings` make, without what is empty."""
    tables: Table = {}
    for keys, value in settings.items():
        table = tables
        for key in keys[:-1]:
            table = table.setdefault(str(key), {})
        table[str(keys[-1])] = value
    return _without_empty(tables)


def _without_empty(table: Mapping[str, Any]) -> Table:
    found: Table = {}
    for key, value in table.items():
        kept = _without_empty(value) if isinstance(value, dict) else value
        if kept not in ({}, []):
            found[str(key)] = kept
    return found


def _write(
    project: Path, variants: Sequence[Variant], overlays: Mapping[str, Overlays], text: str
) -> list[str]:
    written = [SPEC]
    for variant in variants:
        paths = list(sources(variant, overlays[variant.name]))
        written += write_overlays(variant, paths, project)
    if not (project / LAUNCH_FILE).exists():
        atomic_write(project / LAUNCH_FILE, _LAUNCH_TEXT)
        written.append(LAUNCH_FILE)
    if not (project / _GIT_IGNORE).exists():
        atomic_write(project / _GIT_IGNORE, "".join(f"{line}\n" for line in _IGNORED))
        written.append(_GIT_IGNORE)
    # Last, so that an import that was interrupted can be started again.
    atomic_write(project / SPEC, text)
    return written
