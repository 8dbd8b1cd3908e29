"""One configuration file of runenv-python-3: `shared-config.json`, or a variant's `config.json`."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from stackbuild.importers.runenv.model import Config, Copy, Dependency
from stackbuild.platforms import Platform
from stackbuild.reading import Item, ReadError, did_you_mean, redacted
from stackbuild.spec.overlays import SITE_PACKAGES
from stackbuild.spec.values import as_distribution, as_layer_requirement, as_specifier
from stackbuild.transport.urls import without_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from packaging.requirements import Requirement
    from packaging.utils import NormalizedName

    from stackbuild.importers.runenv.jsonfile import JsonTable
    from stackbuild.importers.runenv.model import Keys

_PLATFORMS = {str(platform): platform for platform in Platform}
_ACTIONS = {"skip": "skip", "forceSource": "force-source"}
_RESOLUTION_FLAGS = {"allowSourceAll": "allow-source-all", "strictMissing": "strict-missing"}
_RESOLUTION_LISTS = {
    "allowSourceList": "allow-source-list",
    "forceNoBinaryList": "force-no-binary-list",
    "onlyBinaryList": "only-binary-list",
}
_BUILD_FLAGS = {"enableLogging": "logging", "parallelDownloads": "parallel-downloads"}
PACKAGE_ROOT = "{packageRoot}"
_LONGEST_BUILD = 7 * 24 * 3600
_REASON = "as in the older configuration"
_USER = re.compile(r"(?<=://)(?P<user>[^/@]*)@")
_QUERY = re.compile(r"\?[^#]*")


def read_config(table: JsonTable, file: str) -> Config:
    """The contents `table` of the file called `file`."""
    packages, registries, build = map(table.part, ("packages", "registries", "build"))
    specific = packages.part("platformSpecific")
    dependencies: dict[Platform | None, tuple[Dependency, ...]]
    dependencies = {None: read_dependencies(packages, file)}
    copies: dict[Platform | None, tuple[Copy, ...]] = {None: _copies(packages, file)}
    replaced: dict[Keys, Any] = {}
    joined = _resolution(packages.part("resolution"), ())
    for key, entry in specific.subtables():
        if key in _PLATFORMS:
            dependencies[_PLATFORMS[key]] = read_dependencies(entry, file)
            copies[_PLATFORMS[key]] = _copies(entry, file)
            joined |= _resolution(entry.part("resolution"), ("platform-specific", key))
            entry.done()
        elif any(word in _PLATFORMS for word in entry.values):
            _read_actions(key, entry, replaced)
        else:
            _note_platform(specific, key)
    for field, read in (("skip", _reason), ("forceSource", _reason), ("buildWheel", _build_wheel)):
        _read_by_package(packages.part(field), read, _kebab(field), replaced)
    if names := _names(packages, "noDeps"):
        joined["no-deps",] = names
    joined |= _flags(build, _BUILD_FLAGS, ("build",))
    if timeout := build.integer("timeout", default=0, low=1, high=_LONGEST_BUILD):
        text = f"{timeout} s did not limit builds of wheels, which had 720 s; here `build.timeout`"
        build.add_note("differs", build.place_of("timeout"), f"{text} does, 3600 s if not set")
    config = Config(
        dependencies={key: items for key, items in dependencies.items() if items},
        copies={key: items for key, items in copies.items() if items},
        overrides=_overrides(packages.part("overrides")),
        registries=_registries(registries),
        replaced=replaced,
        joined=joined,
    )
    for part in (build, packages, registries, table):
        part.done()
    return config


def _kebab(key: str) -> str:
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in key)


def _distribution(key: str, table: JsonTable) -> NormalizedName | None:
    return table.checked(Item(table.place_of(key), key), as_distribution)


def _note_platform(table: JsonTable, key: str) -> None:
    table.note(key, f"no platform is called {key!r}, so this has no effect")


def _by_platform(table: JsonTable) -> Iterator[str]:
    """The keys that name platforms. The others are noted."""
    for key in table.values:
        if key in _PLATFORMS:
            yield key
        else:
            _note_platform(table, key)


def _read_by_package(
    table: JsonTable,
    read: Callable[[JsonTable, str], object],
    field: str,
    replaced: dict[Keys, Any],
) -> None:
    """Add the entries of a field that names packages, then platforms."""
    for key, entry in table.subtables():
        name = _distribution(key, table)
        values = {word: value for word in _by_platform(entry) if (value := read(entry, word))}
        if name:
            replaced[field, name] = values | replaced.get((field, name), {})


def _reason(entry: JsonTable, platform: str) -> str | None:
    return entry.text(platform)


def _build_wheel(entry: JsonTable, platform: str) -> dict[str, Any] | None:
    table = entry.table(platform)
    if table is None:
        return None
    found = {
        "reason": table.text("reason") or _REASON,
        "build-requires": [str(it.value) for it in table.words("buildRequires", read_requirement)],
        "config-settings": _config_settings(table),
    }
    table.done()
    return found


def _config_settings(table: JsonTable) -> dict[str, str | list[str]]:
    """`key=value` words as pip takes them, or an object. A repeated key has several values."""
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
    for value in (value for values in found.values() for value in values):
        _check_placeholders(table, "configSettings", value, PACKAGE_ROOT, others=False)
    return {key: values[0] if len(values) == 1 else values for key, values in found.items()}


def _check_placeholders(
    table: JsonTable, place: str, text: str, known: str, *, others: bool
) -> None:
    """Report what looks like the placeholder `known`; with `others` also what does not."""
    for found in re.findall(r"\{[^{}]*\}", text):
        hint = did_you_mean(found, [known])
        if found != known and (hint or others):
            place = table.place_of(place)
            table.problems.add(place, f"unknown placeholder {found}", expected=known, hint=hint)


def _names(table: JsonTable, key: str) -> list[str]:
    return list(dict.fromkeys(item.value for item in table.words(key, as_distribution)))


def _overrides(table: JsonTable) -> dict[NormalizedName, str]:
    found = {}
    for key in table.values:
        name, is_valid = _distribution(key, table), table.word(key, as_specifier)
        if name and is_valid:
            found[name] = str(table.values[key])
    return found


def _copies(table: JsonTable, file: str) -> tuple[Copy, ...]:
    found: dict[tuple[str, str], Copy] = {}
    for entry in table.tables("copyFiles"):
        source, target = entry.text("from", required=True), entry.text("to", required=True)
        entry.done()
        _check_placeholders(entry, "to", target or "", SITE_PACKAGES, others=True)
        if source and target:
            copy = Copy(source=source, target=target, place=f"{file}: {entry.place}")
            found.setdefault((source, target), copy)
    return tuple(found.values())


def _flags(table: JsonTable, words: dict[str, str], prefix: Keys) -> dict[Keys, Any]:
    values = {key: table.flag(key, default=False) for key in words}
    return {(*prefix, words[key]): value for key, value in values.items() if table.has(key)}


def _resolution(table: JsonTable, prefix: Keys) -> dict[Keys, Any]:
    prefix = (*prefix, "resolution")
    found = _flags(table, _RESOLUTION_FLAGS, prefix)
    for key, word in _RESOLUTION_LISTS.items():
        if names := _names(table, key):
            found[(*prefix, word)] = names
    table.done()
    return found


def _registries(table: JsonTable) -> tuple[str, ...]:
    """All addresses. In older files `default` was one more, beside the real default index."""
    found = []
    if isinstance(table.values.get("default"), str):
        found.append(table.text("default") or "")
    else:
        found += [item.value for item in table.texts("default") or ()]
    found += [item.value for item in table.texts("additional") or ()]
    plain = {text.strip(): text.partition("?")[0].strip() for text in found if text}
    for url, address in plain.items():
        if url != address:
            shown = without_credentials(address)
            text = f"the query of {shown} may hold a secret, and was left out"
            table.add_note("question", table.place, text)
    return tuple(dict.fromkeys(plain.values()))


def _read_actions(package: str, table: JsonTable, replaced: dict[Keys, Any]) -> None:
    """`platformSpecific.<package>.<platform>.action` of the oldest files."""
    name = table.checked(Item(table.place, package), as_distribution)
    for word in _by_platform(table):
        entry = table.table(word)
        action = entry.text("action", required=True) if entry else None
        reason = (entry.text("reason") if entry else None) or _REASON
        if entry is not None:
            entry.done()
        if action in _ACTIONS and name:
            replaced.setdefault((_ACTIONS[action], name), {})[word] = reason
        elif action:
            table.note(word, f"no action is called {action!r}, so this has no effect")


def read_dependencies(table: JsonTable, file: str) -> tuple[Dependency, ...]:
    """The `dependencies` of `table`, which is in `file`: requirements, or git repositories.

    Secrets in addresses, and addresses that a stack cannot use, are left out and noted.
    """
    found: dict[str, Dependency] = {}
    for item in table.array("dependencies", "an array of strings") or ():
        if isinstance(item.value, str) and not item.value.strip():
            continue
        requirement = table.checked(item, read_requirement)
        if requirement is not None and requirement.url:
            requirement = _usable(requirement, item.place, table)
        if requirement is not None:
            dependency = Dependency(requirement=requirement, place=f"{file}: {item.place}")
            found.setdefault(str(requirement), dependency)
    return tuple(found.values())


def read_requirement(item: Item[Any]) -> Requirement:
    """A requirement. A `git+` address without a name is named after its repository."""
    from packaging.requirements import InvalidRequirement, Requirement

    words = text = item.string().strip()
    if re.match(r"(git|hg|svn|bzr)\+", text):
        address, _, fragment = text.partition("#")
        egg = re.search(r"(?:^|&)egg=([^&]+)", fragment)
        rest = "&".join(part for part in fragment.split("&") if part and part[:4] != "egg=")
        path = re.sub(r"@[^@/]*$", "", address.partition("://")[2])
        name = egg[1] if egg else path.rstrip("/").rpartition("/")[2].removesuffix(".git")
        words = f"{name} @ {address}{f'#{rest}' if rest else ''}"
    try:
        return Requirement(words)
    except InvalidRequirement as error:
        expected = "a name and versions, such as 'numpy==2.2.6', or 'git+https://…@revision'"
        message = f"not a requirement: {redacted(str(error).partition(chr(10))[0])}"
        raise ReadError(item.place, text, expected, message) from None


def _usable(requirement: Requirement, place: str, table: JsonTable) -> Requirement | None:
    """`requirement` with an address that a stack can use. A note says what was changed."""
    address = requirement.url or ""
    git, name = address.startswith("git+"), requirement.name
    user, query = _USER.search(address), None if git else _QUERY.search(address)
    if user and not (address.startswith("git+ssh:") and ":" not in user["user"]):
        requirement.url = _USER.sub("", address)
    if query:
        requirement.url = _QUERY.sub("", requirement.url or "")
    with suppress(ReadError):
        as_layer_requirement(Item(place, str(requirement)))
        if not address.startswith("file:"):
            if requirement.url != address:
                parts = [text for text, found in (("user", user), ("query", query)) if found]
                where = "git's credential helper or netrc" if git else "a netrc file"
                text = f"the address of {name} is carried over without its {' and '.join(parts)};"
                table.add_note("question", place, f"{text} put credentials into {where}")
            return requirement
    pinned = _of_wheel(requirement, address)
    shown = without_credentials(address.partition("?")[0])
    if pinned:
        text = f"is now required as {pinned}; add its wheel with `stackbuild wheel add`"
    else:
        text = (
            "was left out, as a stack cannot require this address; require its git repository, or"
            " its version, and add the wheel with `stackbuild wheel add`"
        )
    table.add_note("question", place, f"{name} from {shown} {text}")
    return pinned


def _of_wheel(requirement: Requirement, address: str) -> Requirement | None:
    """The name and version that the address of a wheel tells."""
    from urllib.parse import unquote, urlsplit

    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        version = parse_wheel_filename(unquote(urlsplit(address).path).rpartition("/")[2])[1]
    except InvalidWheelFilename:
        return None
    found = Requirement(str(requirement))
    found.url, found.specifier = None, SpecifierSet(f"=={version}")
    return found
