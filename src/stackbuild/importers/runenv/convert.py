"""From a repository of the kind of runenv-python-3 to a stack and a report. Offline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stackbuild.errors import UsageError
from stackbuild.files import atomic_write
from stackbuild.importers.runenv.notes import config_notes
from stackbuild.importers.runenv.overlays import overlay_settings, sources, write_overlays
from stackbuild.importers.runenv.registries import registries_of
from stackbuild.importers.runenv.repository import read_repository
from stackbuild.importers.runenv.settings import (
    index_fields,
    layer_settings,
    shared_settings,
)
from stackbuild.platforms import DEFAULT_PLATFORMS, Platform
from stackbuild.spec.writer import LayerText, spec_text
from stackbuild.transport.urls import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from packaging.version import Version

    from stackbuild.importers.runenv.model import Keys, Note, Variant
    from stackbuild.importers.runenv.registries import Registry

    Overlays = Mapping[str, Mapping[Keys, list[dict[str, str]]]]

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What was read, and what it became."""

    repository: Path
    spec: Path
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
    """Read the repository in `directory` and write the stack into `project`.

    Each variant becomes one application. `index` is the address of the default package index of
    the stack, if it is not uv's. Without `write` only the report is made. Raises UsageError, and
    SpecError with all problems of the repository's files.
    """
    spec = project / SPEC
    if write and spec.exists():
        raise UsageError(
            "there is a stack already",
            file=spec,
            remedy="write the stack into another directory, or move the file away",
        )
    repository = read_repository(directory)
    notes = list(repository.notes)
    configs = (repository.shared, *(variant.own for variant in repository.variants))
    registries = registries_of(url for config in configs for url in config.registries)
    overlays = {item.name: overlay_settings(item, notes) for item in repository.variants}
    notes += config_notes(repository, registries)
    settings = {
        variant.name: layer_settings(variant, repository, registries, overlays[variant.name])
        for variant in repository.variants
    }
    text = spec_text(
        _layers(repository.variants, registries),
        indexes=_indexes(registries.values(), index),
        shared=shared_settings(repository, registries),
        settings=settings,
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
    minors = [(version.major, version.minor) for version in versions]
    return {
        version: f"cpython-{version}"
        if minors.count((version.major, version.minor)) > 1
        else f"cpython-{version.major}.{version.minor}"
        for version in versions
    }


def _layers(
    variants: Sequence[Variant], registries: Mapping[str, Registry]
) -> dict[str, list[LayerText]]:
    versions = sorted({variant.python for variant in variants}, reverse=True)
    names = runtime_names(versions)
    runtimes = []
    for version in versions:
        made = {p for variant in variants if variant.python == version for p in variant.platforms}
        fields: dict[str, Any] = {
            "name": names[version],
            "python_implementation": f"cpython@{version}",
        }
        if not made <= set(DEFAULT_PLATFORMS):
            wanted = [p for p in Platform if p in made or p in DEFAULT_PLATFORMS]
            fields["platforms"] = [platform.venvstacks_name for platform in wanted]
        runtimes.append(LayerText(fields={**fields, "requirements": []}))
    applications = []
    for variant in variants:
        fields = {
            "name": variant.name,
            "runtime": names[variant.python],
            "launch_module": LAUNCH_FILE,
        }
        if variant.platforms != DEFAULT_PLATFORMS:
            fields["platforms"] = [platform.venvstacks_name for platform in variant.platforms]
        fields["requirements"] = list(variant.dependencies()[None])
        fields |= index_fields(variant, registries)
        applications.append(LayerText(fields=fields, comment=variant.description))
    return {"runtimes": runtimes, "applications": applications}


def _indexes(registries: Iterable[Registry], default: str | None) -> list[dict[str, Any]]:
    tables: list[dict[str, Any]] = [
        {"name": item.name, "url": item.url, "explicit": True} for item in registries
    ]
    if default:
        tables.append({"url": without_credentials(default), "default": True})
    return tables


def _write(project: Path, variants: Sequence[Variant], overlays: Overlays, text: str) -> list[str]:
    written = [SPEC]
    for variant in variants:
        paths = list(sources(variant, overlays[variant.name]))
        written += write_overlays(variant, paths, project)
    if not (project / LAUNCH_FILE).exists():
        atomic_write(project / LAUNCH_FILE, _LAUNCH_TEXT)
        written.append(LAUNCH_FILE)
    # Last, so that an import that was interrupted can be started again.
    atomic_write(project / SPEC, text)
    return written
