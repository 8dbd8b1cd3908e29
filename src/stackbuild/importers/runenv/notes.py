"""The notes about each field of the configuration: what it became, or why it has no effect."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from stackbuild.importers.runenv.model import OLDER, Note
from stackbuild.importers.runenv.repository import SHARED
from stackbuild.platforms import Platform
from stackbuild.tomltext import layer_table
from stackbuild.transport.urls import without_credentials

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from stackbuild.importers.runenv.model import Config, Keys, NoteKind, Repository, Variant

_ERRORS = "allow-import-errors"


def config_notes(repository: Repository) -> Iterator[Note]:
    """The notes about `shared-config.json` and each `config.json`."""
    shared = repository.shared
    kept = repository.kept_entries()
    yield from _fields(shared, SHARED, "[tool.stackbuild.shared]", kept, list(Platform))
    if not shared.joined.get(("resolution", "strict-missing")):
        text = (
            "packages that are not available were left out without an error. Here they are an"
            " error, unless the layer names them: `resolution = { strict-missing = false,"
            ' optional-list = ["name"] }`'
        )
        yield Note("question", f"{SHARED}: packages.resolution.strictMissing", text)
    if shared.dependencies.get(None):
        text = "requirements of each variant that has no dependencies of its own"
        yield _became(SHARED, "packages.dependencies", text)
    for platform in shared.dependencies:
        if platform:
            field = f"packages.platformSpecific.{platform}.dependencies"
            yield _became(SHARED, field, f"requirements of each variant on {platform}")
    if shared.copies:
        text = "copy-files of each variant, relative to its directory"
        yield _became(SHARED, "packages.copyFiles", text)
    yield from _shared_overrides(repository)
    for variant in repository.variants:
        table = layer_table(variant.name)
        yield from _dependencies(variant)
        kept, platforms = set(variant.own.replaced), variant.platforms
        yield from _fields(variant.own, variant.file, table, kept, platforms)
        yield from _copies(variant, table)
        yield from _overrides(variant)
        yield from _other_platforms(variant)
    yield from _registries(repository)
    yield from _packages(repository)


def _became(file: str, field: str, text: str) -> Note:
    return Note("became", f"{file}: {field}", text)


def _not_made(file: str, field: str, platforms: str) -> Note:
    return Note("needless", f"{file}: {field}", f"the variant is not made for {platforms}")


def _fields(
    config: Config, file: str, table: str, kept: set[Keys], platforms: Collection[str]
) -> Iterator[Note]:
    """Fields that have the same meaning in `table`, which has only the entries `kept`."""
    for field, older in OLDER.items():
        entries = [
            keys
            for keys, entry in config.replaced.items()
            if keys[0] == field and (not entry or not entry.keys().isdisjoint(platforms))
        ]
        places = {
            table: [keys[1] for keys in entries if keys in kept],
            "the layers that require them": [keys[1] for keys in entries if keys not in kept],
        }
        texts = [
            f"{field} in {place}: {', '.join(items)}" for place, items in places.items() if items
        ]
        if texts:
            yield _became(file, f"packages.{older}", "; ".join(texts))
    if names := config.joined.get(("no-deps",)):
        yield _became(file, "packages.noDeps", f"no-deps in {table}: {', '.join(names)}")
    found = [keys for keys in config.joined if len(keys) > 1 and _ERRORS not in keys]
    for keys in dict.fromkeys(keys[:-1] for keys in found):
        if keys[0] != "platform-specific" or keys[1] in platforms:
            yield _became(file, _older_place(keys), f"{'.'.join(keys)} in {table}")
        else:
            yield _not_made(file, _older_place(keys), keys[1])
    errors = (keys[:3] for keys in (*config.replaced, *config.joined) if _ERRORS in keys)
    place = "checker/whitelists" if file == SHARED else f"checker/whitelists of {file}"
    for keys in dict.fromkeys(errors):
        if keys[1] in platforms:
            yield _became(place, keys[1], f"{'.'.join(keys)} in {table}")


def _older_place(keys: Keys) -> str:
    if keys[0] == "platform-specific":
        return f"packages.platformSpecific.{'.'.join(keys[1:])}"
    return "build" if keys[0] == "build" else f"packages.{'.'.join(keys)}"


def _dependencies(variant: Variant) -> Iterator[Note]:
    count = len({str(item.requirement) for item in variant.asked()})
    text = f"requirements of {variant.name}: {count}" if count else "no requirements"
    yield _became(variant.file, "packages.dependencies", text)
    for item in variant.asked():
        if (item.requirement.url or "").startswith("git+"):
            text = f"a requirement on a commit of {item.requirement.name}, named after its address"
            yield Note("became", item.place, text)


def _copies(variant: Variant, table: str) -> Iterator[Note]:
    for platform in variant.own.copies:
        older = f"platformSpecific.{platform}.copyFiles" if platform else "copyFiles"
        field = f"platform-specific.{platform}.copy-files" if platform else "copy-files"
        if platform is None or platform in variant.platforms:
            yield _became(variant.file, f"packages.{older}", f"{field} in {table}")


def _shared_overrides(repository: Repository) -> Iterator[Note]:
    kept = repository.kept_overrides()
    for name, version in repository.shared.overrides.items():
        users = [variant.name for variant in repository.variants if name in variant.names()]
        field = f"packages.overrides.{name}"
        if name in kept:
            text = f"overrides.{name} = {version!r} in [tool.stackbuild.shared]"
            yield _became(SHARED, field, text)
        elif users:
            text = f"overrides.{name} in the layers {', '.join(users)}, which name it"
            yield _became(SHARED, field, text)
        else:
            yield Note("needless", f"{SHARED}: {field}", "no variant names this package")


def _overrides(variant: Variant) -> Iterator[Note]:
    own = variant.own.overrides
    for name, version in own.items():
        kind: NoteKind = "became"
        general = [i for i in variant.config.dependencies.get(None, ()) if i.name == name]
        if any(item.is_overridden(own) for item in general):
            text = f"the requirement {general[0].requirement}, and overrides.{name} = {version!r}"
        elif name in variant.names():
            text = (
                f"overrides.{name} = {version!r}, which here also replaces versions in ranges,"
                " in dependencies of one platform, and in what other packages require"
            )
            kind = "question"
        else:
            text = "it replaced the version of none of the dependencies"
            kind = "needless"
        yield Note(kind, f"{variant.file}: packages.overrides.{name}", text)


def _other_platforms(variant: Variant) -> Iterator[Note]:
    """Entries for platforms that the variant is not made for."""
    own = variant.own
    for keys, entry in own.replaced.items():
        if keys[0] in OLDER:
            gone = [platform for platform in entry if platform not in variant.platforms]
            place = f"packages.{OLDER[keys[0]]}.{keys[1]}"
        else:
            gone = [keys[1]] if keys[1] not in variant.platforms else []
            place = f"checker/whitelists/{keys[1]}: {keys[3]}"
        if gone:
            yield _not_made(variant.file, place, ", ".join(gone))
    for platform in own.dependencies:
        field = f"packages.platformSpecific.{platform}.dependencies"
        if platform and platform in variant.platforms:
            yield _became(variant.file, field, f"platform-specific.{platform}.dependencies")
        elif platform:
            yield _not_made(variant.file, field, platform)


def _registries(repository: Repository) -> Iterator[Note]:
    users: dict[str, set[str]] = {}
    for variant in repository.variants:
        for name, registry in repository.indexes_of(variant).items():
            users.setdefault(registry.name, set()).add(name)
    for url, registry in repository.registries.items():
        place = f"registries.additional: {registry.url}"
        if names := users.get(registry.name):
            text = f"the index {registry.name!r}, used for {', '.join(sorted(names))}"
            if registry.is_nvidia:
                text += ", and searched first by the layers that name these"
            yield Note("became", place, text)
        else:
            known = registry.is_nvidia or registry.build is not None
            reason = "no requirement names what it is for" if known else "its purpose is not known"
            text = (
                f"the index {registry.name!r} is not used: {reason}. Name what comes from it in"
                f" `package_indexes` of the layers (name = {registry.name!r})"
            )
            yield Note("question", place, text)
        if without_credentials(url) != url:
            host = urlsplit(registry.url).hostname
            text = f"its user and password were left out; set those of {host} outside the stack"
            yield Note("question", place, text)


def _packages(repository: Repository) -> Iterator[Note]:
    """What became of each `package.json`."""
    for variant in repository.variants:
        if variant.environment and repository.builds_from_source(variant):
            table = layer_table(variant.name, "build")
            text = f"also environment in {table}, as dependencies are built from source"
            yield Note("became", f"{variant.directory.name}/package.json: envVars", text)
        if variant.catalogue:
            keys, table = ", ".join(variant.catalogue), layer_table(variant.name, "catalogue")
            yield Note("became", f"{variant.directory.name}/package.json", f"{keys} in {table}")
    if any(variant.version for variant in repository.variants):
        text = (
            "not carried over, as layers count their own versions; `version` in the table"
            " `catalogue` of a layer names one"
        )
        yield Note("without-counterpart", "python-*/package.json: version", text)
