"""`[tool.uv]`, or `venvstacks.uv.toml` beside the spec: package indexes and resolver settings.

Only settings that change a resolution by `uv pip compile` are accepted. All others
are refused: to ignore a setting would make a wrong lock.
"""

from __future__ import annotations

import re
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from stackbuild.files import mode_of
from stackbuild.reading import Item
from stackbuild.spec.model import PackageIndex
from stackbuild.spec.values import as_address, as_distribution, as_index, as_index_name

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from packaging.utils import NormalizedName

    from stackbuild.spec.table import Table


CONFIG_FILE = "venvstacks.uv.toml"
"""Beside the spec, read if the spec has no `[tool.uv]`; its format is that of `uv.toml`."""

_CHOICES: dict[str, tuple[str, ...]] = {
    "index-strategy": ("first-index", "unsafe-first-match", "unsafe-best-match"),
    "prerelease": ("disallow", "allow", "if-necessary", "explicit", "if-necessary-or-explicit"),
    "resolution": ("highest", "lowest", "lowest-direct"),
}

_USE_INDEX = "write it as [[tool.uv.index]]"
_NOT_YET = {
    "build-constraint-dependencies": None,
    "config-settings": None,
    "constraint-dependencies": "write the versions as requirements of a lower layer",
    "dependency-metadata": None,
    "exclude-dependencies": None,
    "extra-index-url": _USE_INDEX,
    "find-links": f"{_USE_INDEX} with format = 'flat'",
    "index-url": f"{_USE_INDEX} with default = true",
    "keyring-provider": None,
    "no-binary": None,
    "no-binary-package": None,
    "no-build-package": None,
    "no-index": f"{_USE_INDEX} with default = true",
    "override-dependencies": None,
    "prerelease-package": None,
    "torch-backend": None,
}
_WITHOUT_MEANING = {
    "conflicts": "every layer is resolved by itself",
    "environments": "every platform is resolved by itself; use `platforms` of the layers",
    "fork-strategy": "every platform is resolved by itself",
    "required-environments": "every platform is resolved by itself; use `platforms` of the layers",
    "cache-keys": "locks are checked by the digest of what they are made from",
}
_INDEX_NOT_YET = ("authenticate", "cache-control", "ignore-error-codes", "publish-url")

# A date alone, or a time without an offset, depends on the time zone of the machine.
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class UvTable:
    """The contents of the table."""

    indexes: tuple[PackageIndex, ...] = ()
    sources: Mapping[NormalizedName, str] = field(default_factory=dict)
    """Distribution to index name, for every layer."""
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def index_names(self) -> Collection[str]:
        """The names that layers may refer to."""
        return [index.name for index in self.indexes if index.name]


def read_uv_table(table: Table, directory: Path) -> UvTable:
    """Read and check the settings of uv in `table`; `directory` is that of the file."""
    indexes = _indexes(table, directory)
    names = [index.name for index in indexes if index.name]
    sources = _sources(table, names)
    settings: dict[str, object] = {}
    if moment := table.word("exclude-newer", _moment):
        settings["exclude-newer"] = moment
    by_package = table.table("exclude-newer-package")
    if by_package and (moments := _moments(by_package)):
        settings["exclude-newer-package"] = moments
    for key, valid in _CHOICES.items():
        if chosen := table.word(key, partial(Item.word_of, valid=valid)):
            settings[key] = chosen
    if not table.flag("no-build", default=True):
        # stackbuild always behaves as with true, which venvstacks writes.
        table.problems.add(
            table.place_of("no-build"), "source builds are not supported yet", found=False
        )
    for key, hint in _NOT_YET.items():
        table.refuse(key, "not supported yet", hint=hint)
    for key, reason in _WITHOUT_MEANING.items():
        table.refuse(key, "has no effect in stackbuild", hint=reason)
    table.done()
    return UvTable(indexes=indexes, sources=sources, settings=settings)


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
    url = _location(table, directory)
    default = table.flag("default", default=False)
    explicit = table.flag("explicit", default=False)
    layout = table.word("format", lambda item: item.word_of(("simple", "flat")))
    for key in _INDEX_NOT_YET:
        table.refuse(key, "not supported yet")
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
    )


def _location(table: Table, directory: Path) -> str | None:
    """The address of an index, or its directory."""
    if "://" in str(table.values.get("url")):
        return table.word("url", as_address)
    text = table.text("url", required=True)
    if text is None or stat.S_ISDIR(mode_of(directory / text)):
        return text
    table.problems.add(
        table.place_of("url"), "neither an address nor a directory that exists", found=text
    )
    return None


def _sources(table: Table, names: Collection[str]) -> dict[NormalizedName, str]:
    sources: dict[NormalizedName, str] = {}
    entries = table.part("sources")
    for key, name in entries.names(as_distribution):
        entry = entries.table(key)
        if entry is None:
            continue
        index = entry.word("index", as_index(names))
        for other in entry.values.keys() - {"index"}:
            entry.refuse(other, "not supported yet; a source can only name an index")
        if not entry.values:
            entry.missing("index", "the name of a package index")
        if index is not None:
            sources[name] = index
    return sources


def _moments(table: Table) -> dict[str, str]:
    found = ((name, table.word(key, _moment)) for key, name in table.names(as_distribution))
    return {name: moment for name, moment in found if moment}


def _moment(item: Item[str]) -> str:
    if _MOMENT.fullmatch(item.value):
        with suppress(ValueError):
            datetime.fromisoformat(item.value)
            return item.value
    expected = "one such as 2025-10-19T00:00:00Z"
    raise item.error("not a date and time with a UTC offset", expected)
