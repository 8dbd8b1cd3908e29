"""From a repository of the kind of runenv-python-3 to a stack and its report."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from stackbuild.errors import FetchError, UsageError
from stackbuild.files import atomic_write
from stackbuild.importers.commits import with_commits
from stackbuild.importers.complete import settle
from stackbuild.importers.holdings import Resolver
from stackbuild.importers.model import Note
from stackbuild.importers.notes import config_notes
from stackbuild.importers.overlays import overlay_settings, sources, write_overlays
from stackbuild.importers.plan import environments_of, plan
from stackbuild.importers.policy import (
    kept_shared,
    layer_settings,
    package_indexes,
    shared_settings,
)
from stackbuild.importers.registries import registries_of
from stackbuild.importers.report import ImportReport, SharedLayer, comparisons
from stackbuild.importers.runenv import read_repository
from stackbuild.importers.spec import LAUNCH_FILE, LAUNCH_TEXT, stack_text
from stackbuild.spec.model import LayerKind, PackageIndex
from stackbuild.transport.urls import without_credentials

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from stackbuild.importers.model import Repository
    from stackbuild.importers.plan import Environment, Planned
    from stackbuild.importers.registries import Registry
    from stackbuild.messages import Messages
    from stackbuild.workspace import Workspace

SPEC = "venvstacks.toml"


def import_runenv(
    directory: Path,
    workspace: Workspace,
    messages: Messages,
    *,
    index: str | None = None,
    write: bool = True,
) -> ImportReport:
    """Read the repository in `directory` and write the stack into the workspace's project.

    `index` is the address of the default package index where that is another
    than uv's. Without `write` only the report is made. Raises UsageError,
    and SpecError with all that is wrong in the repository's files.
    """
    project = workspace.project
    if write and (project / SPEC).exists():
        raise UsageError(
            "there is a stack already",
            file=project / SPEC,
            remedy="give another directory with --to, or move the file away",
        )
    repository = read_repository(directory)
    notes = list(repository.notes)
    repository = with_commits(repository, notes)
    configs = (repository.shared, *(variant.own for variant in repository.variants))
    registries = registries_of(url for config in configs for url in config.registries)
    default = PackageIndex(name=None, url=index, default=True) if index else None
    resolver = Resolver(workspace, messages, default)
    environments = _held(environments_of(repository, registries), resolver, notes)
    choices, layers, told = (
        settle(environments, resolver)
        if any(item.held for item in environments)
        else ({}, plan(environments, {}), [])
    )
    notes += [Note(kind="unresolved", place=SPEC, text=text) for text in told]
    indexes = [registry.as_index() for registry in registries.values()]
    if default:
        indexes.append(replace(default, url=without_credentials(default.url)))
    overlays = {item.variant.name: overlay_settings(item, notes) for item in environments}
    text = _text(repository, environments, layers, indexes, registries, overlays)
    notes += config_notes(
        repository, environments, {layer.name: layer for layer in layers}, registries
    )
    written = _write(project, environments, overlays, text) if write else []
    return ImportReport(
        repository=directory,
        spec=project / SPEC,
        written=tuple(written),
        environments=tuple(
            (item.variant.directory.name, item.variant.name) for item in environments
        ),
        frameworks=shared_layers(layers),
        comparisons=comparisons(list(choices.values())),
        exact=all(choice.exact for choice in choices.values()),
        notes=tuple(notes),
        text=text,
    )


def _held(
    environments: Sequence[Environment], resolver: Resolver, notes: list[Note]
) -> list[Environment]:
    """The environments with what they hold; without where no index can be asked."""
    wanted = [
        [item.wanted(platform) for platform in item.variant.platforms] for item in environments
    ]
    try:
        answers = resolver.hold(wanted)
    except FetchError as error:
        text = f"{error.message}, so that nothing is shared: {dict(error.details).get('found', '')}"
        notes.append(Note(kind="unresolved", place="package index", text=text))
        return list(environments)
    return [
        replace(item, held=dict(zip(item.variant.platforms, held, strict=True)))
        for item, held in zip(environments, answers, strict=True)
    ]


def _text(
    repository: Repository,
    environments: Sequence[Environment],
    layers: Sequence[Planned],
    indexes: Sequence[PackageIndex],
    registries: Mapping[str, Registry],
    overlays: Mapping[str, Mapping[str, list[dict[str, str]]]],
) -> str:
    by_name = {layer.name: layer for layer in layers}
    kept = kept_shared(repository, environments)
    settings = {layer.name: layer_settings(layer, by_name, repository, kept) for layer in layers}
    for name, entries in overlays.items():
        for platform, copies in entries.items():
            table = settings[name]
            if platform:
                table = table.setdefault("platform-specific", {}).setdefault(str(platform), {})
            table["copy-files"] = copies
    return stack_text(
        layers,
        {item.variant.name: item.variant.description or "" for item in environments},
        indexes,
        {
            layer.name: package_indexes(layer, [by_name[name] for name in layer.frameworks])
            for layer in layers
        },
        shared_settings(repository, environments, registries),
        settings,
    )


def _write(
    project: Path,
    environments: Sequence[Environment],
    overlays: Mapping[str, Mapping[str, list[dict[str, str]]]],
    text: str,
) -> list[str]:
    written = [SPEC]
    for item in environments:
        paths = list(sources(item, overlays[item.variant.name]))
        written += write_overlays(item, paths, project)
    if not (project / LAUNCH_FILE).exists():
        atomic_write(project / LAUNCH_FILE, LAUNCH_TEXT)
        written.append(LAUNCH_FILE)
    # Last, so that an import that was cut short can be started again.
    atomic_write(project / SPEC, text)
    return written


def shared_layers(layers: Sequence[Planned]) -> tuple[SharedLayer, ...]:
    """The frameworks among `layers`, for a report."""
    found = []
    for layer in layers:
        if layer.kind is LayerKind.FRAMEWORK:
            held = {
                platform: next(m.held[platform] for m in layer.members if platform in m.held)
                for platform in layer.contents
            }
            found.append(
                SharedLayer(
                    name=layer.name,
                    environments=tuple(item.variant.name for item in layer.members),
                    below=layer.frameworks,
                    requirements=tuple(layer.requests),
                    distributions={
                        str(platform): tuple(sorted(names.values()))
                        for platform, names in layer.contents.items()
                    },
                    sizes={
                        str(platform): sum(held[platform].sizes[name] for name in names)
                        for platform, names in layer.contents.items()
                    },
                )
            )
    return tuple(found)
