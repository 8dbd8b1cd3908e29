"""One configuration file of runenv-python-3: `shared-config.json`, or a variant's `config.json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from stackbuild.importers.model import Build, BuildOptions, Config, Copy, Note, Resolution
from stackbuild.importers.wishes import read_requirement, read_wishes
from stackbuild.platforms import Platform
from stackbuild.reading import Item
from stackbuild.spec.values import read_distribution, read_override
from stackbuild.transport.urls import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from packaging.utils import NormalizedName

    from stackbuild.importers.jsonfile import JsonTable

_PLATFORMS = {str(platform): platform for platform in Platform}
_ACTIONS = ("skip", "forceSource")
_REASON = "as in the older configuration"


def read_config(table: JsonTable, file: str) -> Config:
    """What the file called `file` says; `table` is its contents."""
    packages = _part(table, "packages")
    specific = _specific(_part(packages, "platformSpecific"), file)
    registries = _part(table, "registries")
    config = Config(
        dependencies=read_wishes(packages, "dependencies", file),
        skip=_joined(_reasons(_part(packages, "skip")), specific.skip),
        force_source=_joined(_reasons(_part(packages, "forceSource")), specific.force_source),
        build_wheel=_builds(_part(packages, "buildWheel")),
        no_deps=_names(packages, "noDeps"),
        overrides=_overrides(_part(packages, "overrides")),
        copy_files=_copies(packages, file),
        resolution=_resolution(_part(packages, "resolution")),
        registries=_registries(registries),
        platform_dependencies=specific.platform_dependencies,
        platform_copy_files=specific.platform_copy_files,
        platform_resolution=specific.platform_resolution,
        build=_build(_part(table, "build")),
    )
    for part in (packages, registries, table):
        part.done()
    return config


def _part(table: JsonTable, key: str) -> JsonTable:
    """The object below `key`; an empty one where there is none."""
    found = table.table(key)
    if found is None:
        found = type(table)({}, table.place_of(key), table.problems, table.unknown)
    return cast("JsonTable", found)


def _parts(table: JsonTable) -> Iterator[tuple[str, JsonTable]]:
    for key, entry in table.subtables():
        yield key, cast("JsonTable", entry)


def _distribution(key: str, table: JsonTable) -> NormalizedName | None:
    return read_distribution(Item(table.place_of(key), key), table.problems)


def _by_platform(table: JsonTable) -> Iterator[tuple[Platform, str]]:
    """The keys that name platforms; the others are noted."""
    for key in table.values:
        if key in _PLATFORMS:
            yield _PLATFORMS[key], key
        else:
            table.note(key, f"no platform is called {key!r}, so this has no effect")


def _reasons(table: JsonTable) -> dict[NormalizedName, dict[Platform, str]]:
    found: dict[NormalizedName, dict[Platform, str]] = {}
    for key, entry in _parts(table):
        name = _distribution(key, table)
        reasons = {
            platform: reason
            for platform, word in _by_platform(entry)
            if (reason := entry.text(word))
        }
        if name:
            found.setdefault(name, {}).update(reasons)
    return found


def _builds(table: JsonTable) -> dict[NormalizedName, dict[Platform, Build]]:
    found: dict[NormalizedName, dict[Platform, Build]] = {}
    for key, entry in _parts(table):
        name = _distribution(key, table)
        for platform, word in _by_platform(entry):
            build = entry.table(word)
            if build is not None and name:
                found.setdefault(name, {})[platform] = _build_of(cast("JsonTable", build))
    return found


def _build_of(table: JsonTable) -> Build:
    items = table.texts("buildRequires") or ()
    requires = [read_requirement(item.value.strip(), item.place, table.problems) for item in items]
    build = Build(
        reason=table.text("reason") or _REASON,
        build_requires=tuple(map(str, filter(None, requires))),
        config_settings=_config_settings(table),
    )
    table.done()
    return build


def _config_settings(table: JsonTable) -> dict[str, str | tuple[str, ...]]:
    """`key=value` words, as pip takes them, or an object; a repeated key has several values."""
    found: dict[str, list[str]] = {}
    if isinstance(table.values.get("configSettings"), dict):
        for key, setting in table.pairs("configSettings"):
            found[key] = [setting.value]
    else:
        for item in table.texts("configSettings") or ():
            key, sign, value = item.value.partition("=")
            if sign and key.strip():
                found.setdefault(key.strip(), []).append(value)
            else:
                table.problems.add(
                    item.place, "not a setting", expected="key=value", found=item.value
                )
    return {key: values[0] if len(values) == 1 else tuple(values) for key, values in found.items()}


def _names(table: JsonTable, key: str) -> tuple[NormalizedName, ...]:
    items = table.texts(key) or ()
    names = (read_distribution(item, table.problems) for item in items)
    return tuple(dict.fromkeys(name for name in names if name))


def _overrides(table: JsonTable) -> dict[NormalizedName, str]:
    """Name to version, in the words of the file."""
    found = {}
    for key in table.values:
        name, text = _distribution(key, table), table.text(key)
        if name and text and read_override(Item(table.place_of(key), text), table.problems):
            found[name] = text
    return found


def _copies(table: JsonTable, file: str) -> tuple[Copy, ...]:
    found: dict[tuple[str, str], Copy] = {}
    for entry in table.tables("copyFiles"):
        source, target = entry.text("from", required=True), entry.text("to", required=True)
        entry.done()
        if source and target:
            copy = Copy(source=source, target=target, place=f"{file}: {entry.place}")
            found.setdefault((source, target), copy)
    return tuple(found.values())


def _flag(table: JsonTable, key: str) -> bool | None:
    value = table.flag(key, default=False)
    return value if table.has(key) else None


def _resolution(table: JsonTable) -> Resolution:
    resolution = Resolution(
        allow_source_all=_flag(table, "allowSourceAll"),
        strict_missing=_flag(table, "strictMissing"),
        allow_source_list=_names(table, "allowSourceList"),
        force_no_binary_list=_names(table, "forceNoBinaryList"),
        only_binary_list=_names(table, "onlyBinaryList"),
    )
    table.done()
    return resolution


def _registries(table: JsonTable) -> tuple[str, ...]:
    """All addresses; `default` in older files was one more beside the real default."""
    found = []
    if isinstance(table.values.get("default"), str):
        found.append(table.text("default") or "")
    else:
        found += [item.value for item in table.texts("default") or ()]
    found += [item.value for item in table.texts("additional") or ()]
    plain = {text.strip(): text.partition("?")[0].strip() for text in found if text}
    for text, address in plain.items():
        if text != address:
            told = f"what follows {without_credentials(address)} may be a secret, and was left out"
            note = Note(kind="question", place=table.place, text=told)
            table.unknown.append(note)
    return tuple(dict.fromkeys(plain.values()))


def _build(table: JsonTable) -> BuildOptions:
    timeout = table.integer("timeout", default=0, low=1, high=7 * 24 * 3600)
    options = BuildOptions(
        logging=_flag(table, "enableLogging"),
        parallel_downloads=_flag(table, "parallelDownloads"),
        timeout=timeout or None,
    )
    table.done()
    return options


def _specific(table: JsonTable, file: str) -> Config:
    """`platformSpecific`: by platform, or in older files by package with an action."""
    dependencies, copies, resolutions = {}, {}, {}
    actions: dict[str, dict[NormalizedName, dict[Platform, str]]] = {key: {} for key in _ACTIONS}
    for key, entry in _parts(table):
        if key in _PLATFORMS:
            platform = _PLATFORMS[key]
            dependencies[platform] = read_wishes(entry, "dependencies", file)
            copies[platform] = _copies(entry, file)
            resolutions[platform] = _resolution(_part(entry, "resolution"))
            entry.done()
        elif any(word in _PLATFORMS for word in entry.values):
            _read_actions(key, entry, actions)
        else:
            table.note(key, f"no platform is called {key!r}, so this has no effect")
    return Config(
        skip=actions["skip"],
        force_source=actions["forceSource"],
        platform_dependencies={key: value for key, value in dependencies.items() if value},
        platform_copy_files={key: value for key, value in copies.items() if value},
        platform_resolution={
            key: value for key, value in resolutions.items() if value != Resolution()
        },
    )


def _read_actions(
    package: str,
    table: JsonTable,
    actions: dict[str, dict[NormalizedName, dict[Platform, str]]],
) -> None:
    name = read_distribution(Item(table.place, package), table.problems)
    for platform, word in _by_platform(table):
        entry = table.table(word)
        action = entry.text("action", required=True) if entry else None
        reason = (entry.text("reason") if entry else None) or _REASON
        if entry is not None:
            entry.done()
        if action in actions and name:
            actions[action].setdefault(name, {})[platform] = reason
        elif action:
            table.note(word, f"no action is called {action!r}, so this has no effect")


def _joined(
    first: Mapping[NormalizedName, dict[Platform, str]],
    second: Mapping[NormalizedName, Mapping[Platform, str]],
) -> dict[NormalizedName, dict[Platform, str]]:
    return {name: {**first.get(name, {}), **second.get(name, {})} for name in {**first, **second}}
