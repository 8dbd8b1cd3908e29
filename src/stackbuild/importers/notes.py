"""The report's lines about the configuration: what became of each field, what can go."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from stackbuild.importers.merge import is_overridden
from stackbuild.importers.model import Note, Resolution
from stackbuild.importers.policy import given_indexes, kept_shared
from stackbuild.importers.runenv import SHARED
from stackbuild.transport.urls import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from packaging.utils import NormalizedName

    from stackbuild.importers.model import Config, Repository
    from stackbuild.importers.plan import Environment, Planned
    from stackbuild.importers.registries import Registry

_FIELDS = {
    "skip": "skip",
    "force_source": "force-source",
    "build_wheel": "build-wheel",
    "no_deps": "no-deps",
    "platform_resolution": "platform-specific.<platform>.resolution",
}
_WORDS = {
    "skip": "skip",
    "force_source": "forceSource",
    "build_wheel": "buildWheel",
    "no_deps": "noDeps",
    "platform_resolution": "platformSpecific.<platform>.resolution",
}


def config_notes(
    repository: Repository,
    environments: Sequence[Environment],
    layers: Mapping[str, Planned],
    registries: Mapping[str, Registry],
) -> Iterator[Note]:
    """What there is to say about `shared-config.json` and each `config.json`."""
    kept = kept_shared(repository, environments)
    yield from _fields(repository.shared, SHARED, "[tool.stackbuild.shared]", kept)
    if repository.shared.dependencies:
        text = "requirements of each variant that names none of its own"
        yield _became(SHARED, "packages.dependencies", text)
    if repository.shared.copy_files or repository.shared.platform_copy_files:
        text = "copy-files of each variant, whose directory they are relative to"
        yield _became(SHARED, "packages.copyFiles", text)
    for item in environments:
        file = f"{item.variant.directory.name}/config.json"
        table = f"[tool.stackbuild.layers.{item.variant.name}]"
        yield from _dependencies(item, layers, file)
        yield from _fields(item.variant.own, file, table, {})
        yield from _copies(item.variant.own, file, table)
        yield from _overrides(item, file)
        yield from _needless(item, file)
        yield from _unresolved(item, file)
    yield from _registries(environments, registries)
    yield from _needless_shared(repository, environments)


def _became(file: str, field: str, text: str) -> Note:
    return Note(kind="became", place=f"{file}: {field}", text=text)


def _fields(
    config: Config, file: str, table: str, kept: Mapping[str, set[NormalizedName]]
) -> Iterator[Note]:
    for key, field in _FIELDS.items():
        entries = getattr(config, key)
        if not entries:
            continue
        names = ", ".join(map(str, entries))
        text = f"{field} in {table}, or in the framework that holds it: {names}"
        moved = set(entries) - kept.get(key, set(entries))
        if moved:
            text += f"; {', '.join(sorted(moved))} in each layer, as a variant has its own"
        yield _became(file, f"packages.{_WORDS[key]}", text)
    if config.resolution != Resolution():
        yield _became(file, "packages.resolution", f"resolution in {table}")
        if config.resolution.strict_missing is None and file == SHARED:
            yield _strict(file)
    elif file == SHARED:
        yield _strict(file)
    if any(getattr(config.build, name) is not None for name in ("logging", "timeout")) or (
        config.build.parallel_downloads is not None
    ):
        yield _became(file, "build", f"build.{{logging, parallel-downloads, timeout}} in {table}")
    for platform in config.allow_import_errors:
        place = "checker/whitelists" if file == SHARED else f"checker/whitelists of {file}"
        text = (
            f"platform-specific.{platform}.allow-import-errors of the layers that hold the wheels"
        )
        yield Note(kind="became", place=f"{place}: {platform}", text=text)


def _strict(file: str) -> Note:
    text = (
        "not set: what could not be had was left out silently there, and is an error here;"
        " strict-missing = false asks for the former"
    )
    return Note(kind="question", place=f"{file}: packages.resolution.strictMissing", text=text)


def _dependencies(item: Environment, layers: Mapping[str, Planned], file: str) -> Iterator[Note]:
    chain = (*(layers[name] for name in layers[item.variant.name].frameworks),)
    wishes = {str(w.requirement): w for p in item.variant.platforms for w in item.wishes(p)}
    by_layer = {
        layer.name: [text for text in wishes if text in layer.requests]
        for layer in (*chain, layers[item.variant.name])
    }
    found = [f"{len(texts)} in {name}" for name, texts in by_layer.items() if texts]
    text = f"requirements: {', '.join(found)}" if found else "no requirements"
    yield _became(file, "packages.dependencies", text)
    for wish in wishes.values():
        url = wish.requirement.url
        if url and url.startswith("git+"):
            name = f"{wish.requirement.name}, named after its address"
            yield Note(kind="became", place=wish.place, text=f"a requirement on a commit of {name}")
    for key in item.variant.own.platform_dependencies:
        field = f"packages.platformSpecific.{key}.dependencies"
        if key in item.variant.platforms:
            yield _became(file, field, f"platform-specific.{key}.dependencies")
        else:
            text = f"left out: {item.variant.name} is not made for {key}"
            yield Note(kind="needless", place=f"{file}: {field}", text=text)


def _copies(config: Config, file: str, table: str) -> Iterator[Note]:
    if config.copy_files:
        yield _became(file, "packages.copyFiles", f"copy-files in {table}")
    for platform in config.platform_copy_files:
        field = f"packages.platformSpecific.{platform}.copyFiles"
        yield _became(file, field, f"platform-specific.{platform}.copy-files in {table}")


def _overrides(item: Environment, file: str) -> Iterator[Note]:
    own = item.variant.own.overrides
    for name, version in own.items():
        place = f"{file}: packages.overrides.{name}"
        wished = [wish for wish in item.config.dependencies if wish.name == name]
        if any(is_overridden(wish, own) for wish in wished):
            text = f"the requirement {wished[0].requirement}, and overrides.{name} = {version!r}"
            yield Note(kind="became", place=place, text=text)
        elif name in item.names():
            text = (
                f"overrides.{name} = {version!r}, which here replaces any version asked for,"
                " also in ranges and in dependencies of a platform"
            )
            yield Note(kind="question", place=place, text=text)
        else:
            text = "left out: it replaced the version of none of the dependencies"
            yield Note(kind="needless", place=place, text=text)


def _needless(item: Environment, file: str) -> Iterator[Note]:
    """Entries for platforms that the variant is not made for."""
    for key, word in (("skip", "skip"), ("force_source", "forceSource")):
        for name, reasons in getattr(item.variant.own, key).items():
            gone = [str(p) for p in reasons if p not in item.variant.platforms]
            if gone:
                text = f"left out, as the variant is not made for {', '.join(gone)}"
                yield Note(kind="needless", place=f"{file}: packages.{word}.{name}", text=text)


def _unresolved(item: Environment, file: str) -> Iterator[Note]:
    platforms: dict[str, list[str]] = {}
    for platform, held in item.held.items():
        texts = [
            f"{name} has no wheel; it stays in the variant, uncounted" for name in held.missing
        ]
        if held.problem:
            text = f"{held.problem}; there the variant shares nothing, and the table lacks it"
            texts.insert(0, text)
        built = sorted(item.from_source(platform) & {wish.name for wish in item.wishes(platform)})
        if built:
            texts.append(f"built from source, so not counted and not shared: {', '.join(built)}")
        for text in texts:
            platforms.setdefault(text, []).append(str(platform))
    for text, names in platforms.items():
        yield Note(kind="unresolved", place=f"{file} on {', '.join(names)}", text=text)


def _registries(
    environments: Sequence[Environment], registries: Mapping[str, Registry]
) -> Iterator[Note]:
    given: dict[str, set[str]] = {}
    for item in environments:
        for name, index in given_indexes(item).items():
            given.setdefault(index, set()).add(name)
    for url, registry in registries.items():
        place = f"registries.additional: {registry.url}"
        if names := given.get(registry.name):
            text = f"the index {registry.name!r}, asked only for {', '.join(sorted(names))}"
            yield Note(kind="became", place=place, text=text)
        else:
            known = "nothing of what it is for is needed" if registry.known else "unknown what for"
            text = (
                f"the index {registry.name!r}, {known}: name in `package_indexes` of the layers"
                f" what comes from it (name = {registry.name!r}), and it in `registries`"
            )
            yield Note(kind="question", place=place, text=text)
        if without_credentials(url) != url:
            host = urlsplit(registry.url).hostname
            text = f"its user and password were left out; give those of {host} outside the stack"
            yield Note(kind="question", place=place, text=text)


def _needless_shared(repository: Repository, environments: Iterable[Environment]) -> Iterator[Note]:
    """Shared entries for platforms that no variant which names the package is made for."""
    members = list(environments)
    for name, reasons in repository.shared.skip.items():
        users = [item for item in members if name in item.names()]
        for platform in reasons:
            if users and not any(platform in item.variant.platforms for item in users):
                names = ", ".join(item.variant.name for item in users)
                yield Note(
                    kind="needless",
                    place=f"{SHARED}: packages.skip.{name}.{platform}",
                    text=f"can go, as {names} is not made for {platform}"
                    if len(users) == 1
                    else f"can go, as none of {names} is made for {platform}",
                )
