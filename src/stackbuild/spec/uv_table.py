"""`[tool.uv]`, or `venvstacks.uv.toml` beside the spec: package indexes and resolver settings.

Only what changes a resolution by `uv pip compile` is taken, and all the rest
is refused: a setting that is ignored would make a lock that nobody asked for.
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from stackbuild.files import mode_of
from stackbuild.reading import Item, Table, did_you_mean
from stackbuild.spec.model import PackageIndex
from stackbuild.spec.values import read_address, read_distribution, read_index_name

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from packaging.utils import NormalizedName

    from stackbuild.reading import Problems

CONFIG_FILE = "venvstacks.uv.toml"
"""Beside the spec, read where the spec has no `[tool.uv]`; its format is that of `uv.toml`."""

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

# A date alone, or a time without an offset, would mean another moment on another machine.
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class UvTable:
    """What the table says."""

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
    if moment := _moment(table, "exclude-newer"):
        settings["exclude-newer"] = moment
    by_package = table.table("exclude-newer-package")
    if by_package and (moments := _moments(by_package)):
        settings["exclude-newer-package"] = moments
    for key, valid in _CHOICES.items():
        if chosen := choice(table, key, valid):
            settings[key] = chosen
    if not table.flag("no-build", default=True):
        # true is what stackbuild does in any case, and what venvstacks writes.
        table.problems.add(
            table.place_of("no-build"), "source builds are not supported yet", found=False
        )
    for key, hint in _NOT_YET.items():
        table.refuse(key, "not supported yet", hint=hint)
    for key, reason in _WITHOUT_MEANING.items():
        table.refuse(key, "without meaning here", hint=reason)
    table.done()
    return UvTable(indexes=indexes, sources=sources, settings=settings)


def choice(table: Table, key: str, valid: Collection[str]) -> str | None:
    """One of the words `valid`, or None."""
    text = table.text(key)
    if text is None or text in valid:
        return text
    table.problems.add(
        table.place_of(key),
        "unknown value",
        expected=f"one of {', '.join(valid)}",
        found=text,
        hint=did_you_mean(text, valid),
    )
    return None


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
    name = read_index_name(table)
    url = _location(table, directory)
    default = table.flag("default", default=False)
    explicit = table.flag("explicit", default=False)
    layout = choice(table, "format", ("simple", "flat"))
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
        return read_address(table, "url")
    text = table.text("url", required=True)
    if text is None or stat.S_ISDIR(mode_of(directory / text)):
        return text
    table.problems.add(
        table.place_of("url"), "neither an address nor a directory that exists", found=text
    )
    return None


def _sources(table: Table, names: Collection[str]) -> dict[NormalizedName, str]:
    sources: dict[NormalizedName, str] = {}
    entries = table.table("sources")
    for key, entry in entries.subtables() if entries else ():
        distribution = read_distribution(Item(entry.place, key), table.problems)
        index = entry.text("index")
        for other in entry.values.keys() - {"index"}:
            entry.refuse(other, "not supported yet; a source can only name an index")
        if index is None:
            if not entry.values:
                entry.missing("index", "the name of a package index")
            continue
        check_index_name(Item(entry.place_of("index"), index), names, table.problems)
        if distribution in sources:
            table.problems.add(entry.place, f"{distribution} has a source already")
        elif distribution is not None:
            sources[distribution] = index
    return sources


def check_index_name(item: Item[str], names: Collection[str], problems: Problems) -> bool:
    """Whether `item` names a `[[tool.uv.index]]`; reported where it does not."""
    if item.value in names:
        return True
    problems.add(
        item.place,
        "unknown package index",
        expected=f"one of {', '.join(names)}" if names else "the name of a [[tool.uv.index]]",
        found=item.value,
        hint=did_you_mean(item.value, names),
    )
    return False


def _moments(table: Table) -> dict[str, str]:
    found = {}
    for key in table.values:
        distribution = read_distribution(Item(table.place_of(key), key), table.problems)
        moment = _moment(table, key)
        if distribution and moment:
            found[str(distribution)] = moment
    return found


def _moment(table: Table, key: str) -> str | None:
    text = table.text(key)
    if text is None:
        return None
    if _MOMENT.fullmatch(text):
        try:
            datetime.fromisoformat(text)
        except ValueError:
            pass
        else:
            return text
    table.problems.add(
        table.place_of(key),
        "not a moment with its offset from UTC",
        expected="one such as 2025-10-19T00:00:00Z",
        found=text,
    )
    return None
