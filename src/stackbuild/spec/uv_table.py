"""`[tool.uv]`, or `venvstacks.uv.toml` beside the spec: package indexes and resolver settings.

Settings that change a resolution by `uv pip compile` are honoured. Settings that cannot
change one, as stackbuild calls uv, are noted; all others are refused, because to ignore
them would make a wrong lock.
"""

from __future__ import annotations

import re
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from stackbuild.files import mode_of
from stackbuild.reading import Item
from stackbuild.spec.model import PackageIndex, Setting
from stackbuild.spec.uv_sources import read_sources
from stackbuild.spec.values import (
    as_address,
    as_distribution,
    as_index_name,
    as_requirement,
)
from stackbuild.transport.urls import path_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from packaging.requirements import Requirement
    from packaging.utils import NormalizedName

    from stackbuild.spec.model import Settings
    from stackbuild.spec.settings import Node
    from stackbuild.spec.table import Table


CONFIG_FILE = "venvstacks.uv.toml"
"""Beside the spec, read if the spec has no `[tool.uv]`; its format is that of `uv.toml`."""

_CHOICES: dict[str, tuple[str, ...]] = {
    "index-strategy": ("first-index", "unsafe-first-match", "unsafe-best-match"),
    "prerelease": ("disallow", "allow", "if-necessary", "explicit", "if-necessary-or-explicit"),
    "resolution": ("highest", "lowest", "lowest-direct"),
}

_USE_INDEX = "write it as [[tool.uv.index]]"
_USE_BUILD_WHEEL = "write it for each distribution as `build-wheel` in [tool.stackbuild.shared]"
_NOT_YET = {
    "build-constraint-dependencies": _USE_BUILD_WHEEL,
    "config-settings": _USE_BUILD_WHEEL,
    "config-settings-package": _USE_BUILD_WHEEL,
    "extra-index-url": _USE_INDEX,
    "find-links": f"{_USE_INDEX} with format = 'flat'",
    "index-url": f"{_USE_INDEX} with default = true",
    "no-index": f"{_USE_INDEX} with default = true",
    "prerelease-package": None,
    "torch-backend": None,
}
_WITHOUT_EFFECT = (
    # Every layer is resolved by itself, and every platform.
    *("conflicts", "environments", "fork-strategy", "required-environments"),
    # Locks are checked by the digest of their inputs; uv's cache is stackbuild's.
    *("cache-dir", "cache-keys", "no-cache", "reinstall", "reinstall-package"),
    *("upgrade", "upgrade-package"),
    # uv installs nothing, and runs no interpreter of its own.
    *("compile-bytecode", "concurrent-installs", "link-mode", "python-downloads"),
    *("python-downloads-json-url", "python-install-mirror", "python-preference"),
    *("pypy-install-mirror", "no-build-isolation", "no-build-isolation-package"),
    # About a project of uv, its publishing, or its output.
    *("add-bounds", "build-backend", "check-url", "default-groups", "dependency-groups"),
    *("dev-dependencies", "extra-build-dependencies", "extra-build-variables", "managed"),
    *("no-sources", "package", "pip", "preview", "preview-features", "publish-url"),
    *("required-version", "trusted-publishing", "workspace"),
    # How the machine connects; an index that asks for a password is asked with keyring.
    *("concurrent-builds", "concurrent-downloads", "keyring-provider", "native-tls"),
    *("offline", "system-certs"),
)
_INDEX_WITHOUT_EFFECT = ("cache-control", "publish-url")
_AUTHENTICATE: tuple[Literal["auto", "always", "never"], ...] = ("auto", "always", "never")

_SPAN = re.compile(
    r"P(?=[\dT])(\d+W)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+S)?)?"  # ISO 8601
    r"|(\d+ ?(s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|wks?|weeks?)[ ,]*)+"
    r"( ?ago)?",
    re.ASCII,
)
"""How long before the present, as uv reads it; of weeks and shorter units only."""
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d))?", re.ASCII)
"""A date, or a time with its offset; without an offset uv would ignore the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UvTable:
    """The contents of the table."""

    indexes: tuple[PackageIndex, ...] = ()
    sources: Mapping[NormalizedName, Setting] = field(default_factory=dict)
    """Distribution to index name, for every layer."""
    projects: Mapping[NormalizedName, str] = field(default_factory=dict)
    """Distribution to the address of a project of the repository, a commit or a file."""
    settings: Mapping[str, object] = field(default_factory=dict)
    policy: Settings = field(default_factory=dict)
    """Settings that `[tool.stackbuild.shared]` has under another name."""
    overrides: Mapping[str, Setting] = field(default_factory=dict)
    """Those of `override-dependencies` that are handed to uv; of several for one name the last."""

    @property
    def index_names(self) -> Collection[str]:
        """The names that layers may refer to."""
        return [index.name for index in self.indexes if index.name]


def read_uv_table(table: Table, directory: Path) -> UvTable:
    """Read and check the settings of uv in `table`; `directory` is that of the file."""
    indexes = _indexes(table, directory)
    names = [index.name for index in indexes if index.name]
    sources, projects = read_sources(table, names, directory)
    settings = _settings(table)
    overrides, others = _overrides(table)
    if others:
        settings["override-dependencies"] = [str(item.value) for item in others]
    # Always as with true; building from source is decided in [tool.stackbuild].
    if not table.flag("no-build", default=True):
        table.problems.remark(f"{table.place_of('no-build')} = false")
    if table.flag("no-binary", default=False):
        table.problems.add(
            table.place_of("no-binary"),
            "not supported: no runtime can build all of its distributions",
            found=True,
            hint="name them in no-binary-package",
        )
    for key, hint in _NOT_YET.items():
        table.refuse(key, "not supported yet", hint=hint)
    for key in _WITHOUT_EFFECT:
        table.ignore(key)
    policy = _policy(table)
    if overrides:
        policy["overrides"] = overrides
    table.done()
    return UvTable(
        indexes=indexes,
        sources=sources,
        projects=projects,
        settings=settings,
        policy=policy,
        overrides={_name(item): Setting(str(item.value), item.place) for item in others},
    )


def _name(item: Item[Requirement]) -> NormalizedName:
    from packaging.utils import canonicalize_name

    return canonicalize_name(item.value.name)


def _indexed(item: Item[str]) -> Requirement:
    """A requirement without an address: repositories are pinned where a layer requires them."""
    found = as_requirement(item)
    if found.url:
        raise item.error(
            "an address is supported in the requirements of a layer only",
            "a requirement without an address",
            "write it in `requirements` of the layer that needs it",
        )
    return found


def _overrides(table: Table) -> tuple[dict[str, Node], list[Item[Requirement]]]:
    """`override-dependencies`: plain versions as the policy field `overrides`, and the others.

    Others have a marker or extras; uv applies them.
    """
    plain: dict[str, Node] = {}
    others = []
    for item in table.words("override-dependencies", _indexed):
        found = item.value
        if found.specifier and not (found.marker or found.extras):
            name, value = _name(item), str(found.specifier)
            former = plain.setdefault(name, Setting(value, item.place))
            if isinstance(former, Setting) and former.value != value:
                table.problems.add(
                    item.place, f"{name} is overridden with {former.value} already", found=value
                )
        else:
            others.append(item)
    return plain, others


def _settings(table: Table) -> dict[str, object]:
    """The settings that are handed to uv as they are."""
    settings: dict[str, object] = {}
    if moment := table.word("exclude-newer", _moment):
        settings["exclude-newer"] = moment
    by_package = table.table("exclude-newer-package")
    if by_package and (moments := _moments(by_package)):
        settings["exclude-newer-package"] = moments
    for key, valid in _CHOICES.items():
        if chosen := table.word(key, partial(Item.word_of, valid=valid)):
            settings[key] = chosen
    if found := table.words("constraint-dependencies", _indexed):
        settings["constraint-dependencies"] = [str(item.value) for item in found]
    if found_names := table.words("exclude-dependencies", as_distribution):
        settings["exclude-dependencies"] = [item.value for item in found_names]
    if metadata := table.tables("dependency-metadata"):
        entries = [_metadata(entry) for entry in metadata]
        _check_unique(metadata, entries)
        settings["dependency-metadata"] = entries
    return settings


def _check_unique(tables: Sequence[Table], entries: Sequence[Mapping[str, object]]) -> None:
    """Report entries for one name and version (PEP 440), of which uv uses the first."""
    from packaging.version import Version

    known: dict[tuple[object, Version | None], str] = {}
    for table, entry in zip(tables, entries, strict=True):
        name, version = entry["name"], entry.get("version")
        place = known.setdefault((name, Version(str(version)) if version else None), table.place)
        if name and place != table.place:
            table.problems.add(
                table.place,
                f"{place} has this name and version",
                found=f"{name} {version}" if version else name,
                hint="remove one of the two",
            )


def _version(item: Item[str]) -> str:
    from packaging.version import InvalidVersion, Version

    try:
        return str(Version(item.value))
    except InvalidVersion:
        raise item.error("not a version", "one such as 2.7.0") from None


def _python_versions(item: Item[str]) -> str:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        return str(SpecifierSet(item.value))
    except InvalidSpecifier:
        raise item.error("not versions of Python", "such as >=3.9") from None


def _extra(item: Item[str]) -> str:
    from packaging.utils import InvalidName, canonicalize_name

    try:
        return canonicalize_name(item.value, validate=True)
    except InvalidName:
        raise item.error("not the name of an extra") from None


def _policy(table: Table) -> dict[str, Node]:
    """`no-build-package` and `no-binary-package` as fields of `resolution`."""
    fields = {
        "only-binary-list": table.words("no-build-package", as_distribution),
        "force-no-binary-list": table.words("no-binary-package", as_distribution),
    }
    found: dict[str, Node] = {
        key: tuple(Setting(item.value, item.place) for item in items)
        for key, items in fields.items()
        if items
    }
    return {"resolution": found} if found else {}


def _metadata(table: Table) -> dict[str, object]:
    """An entry of `dependency-metadata`, which replaces metadata of a distribution."""
    entry: dict[str, object] = {"name": table.word("name", as_distribution, required=True)}
    texts = {
        "version": table.word("version", _version),
        "requires-python": table.word("requires-python", _python_versions),
    }
    lists = {
        "requires-dist": [str(item.value) for item in table.words("requires-dist", _indexed)],
        "provides-extra": [item.value for item in table.words("provides-extra", _extra)],
    }
    table.done()
    return entry | {key: value for key, value in (texts | lists).items() if value}


def _indexes(table: Table, directory: Path) -> tuple[PackageIndex, ...]:
    indexes: list[PackageIndex] = []
    names: set[str] = set()
    for entry in table.tables("index"):
        index = _index(entry, directory)
        if index is None:
            continue
        if index.name in names:
            table.problems.add(
                entry.place_of("name"), "another index has this name", found=index.name
            )
        elif index.default and any(other.default for other in indexes):
            table.problems.add(entry.place_of("default"), "another index is the default")
        if index.name:
            names.add(index.name)
        indexes.append(index)
    return tuple(indexes)


def _index(table: Table, directory: Path) -> PackageIndex | None:
    name = table.word("name", as_index_name)
    url = _location(table, directory, flat=table.values.get("format") == "flat")
    default = table.flag("default", default=False)
    explicit = table.flag("explicit", default=False)
    layout = table.word("format", lambda item: item.word_of(("simple", "flat")))
    authenticate = table.word("authenticate", lambda item: item.word_of(_AUTHENTICATE))
    table.refuse("ignore-error-codes", "not supported yet")
    for key in _INDEX_WITHOUT_EFFECT:
        table.ignore(key)
    table.done()
    if explicit and not table.has("name"):
        table.problems.add(
            table.place, "an explicit index without a name, so nothing can refer to it"
        )
    if url is None:
        return None
    return PackageIndex(
        name=name,
        url=url,
        default=default,
        explicit=explicit,
        format="flat" if layout == "flat" else "simple",
        authenticate=authenticate or "auto",
    )


def _location(table: Table, directory: Path, *, flat: bool) -> str | None:
    """The address of an index, or its directory."""
    text = table.text("url", required=True)
    if text is None:
        return None
    url = table.word("url", as_address) if "://" in text else text
    local = path_of(urlsplit(url)) if url and "://" in url else directory / text
    if url is None or local is None:
        return url
    if "://" not in text and not stat.S_ISDIR(mode_of(local)):
        table.problems.add(
            table.place_of("url"), "neither an address nor a directory that exists", found=text
        )
        return None
    # uv would look for a directory with an index.html for each distribution, and find nothing.
    if (
        not flat
        and not any(local.glob("*/index.html"))
        and (
            files := [one.name for one in local.glob("*") if one.name.endswith((".whl", ".tar.gz"))]
        )
    ):
        table.problems.add(
            table.place_of("url"),
            "the directory contains files of distributions, as a flat index does",
            expected="a directory with an index.html for each distribution",
            found=min(files),
            hint="add format = 'flat'",
        )
    return url


def _moments(table: Table) -> dict[str, str]:
    found = ((name, table.word(key, _moment)) for key, name in table.names(as_distribution))
    return {name: moment for name, moment in found if moment}


def _moment(item: Item[str]) -> str:
    """A date (to its end in UTC), a time with its offset, or how long before the present."""
    if _SPAN.fullmatch(item.value) or _MOMENT.fullmatch(item.value):
        with suppress(ValueError, OverflowError):
            newest_upload(item.value, datetime.now(UTC))
            return item.value
    expected = "one such as 2025-10-19, 2025-10-19T00:00:00Z or '7 days'"
    raise item.error("not a date, a time with a UTC offset, or a duration", expected)


def newest_upload(text: str, now: datetime) -> datetime:
    """The time from which on uploads are ignored, for a valid value of `exclude-newer`.

    Raises ValueError and OverflowError for a time that no calendar has.
    """
    if _SPAN.fullmatch(text):
        # The first letter tells the units apart, as there are no months.
        parts = re.findall(r"(\d+) ?([A-Za-z])", text)
        return now - sum((int(n) * _UNITS[unit.lower()] for n, unit in parts), timedelta())
    moment = datetime.fromisoformat(text)
    # A date ends at midnight of UTC.
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC) + timedelta(days=1)


_UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
