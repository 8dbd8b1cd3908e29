"""The kinds of values of policy fields: how each is read, and its value in the model.

Values are read into `Settings`, which keep the location of every value for `show --effective`.
`spec.policy_fields` gives the kind of each field, and `spec.policy` merges the values.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from stackbuild.globs import as_pattern
from stackbuild.reading import Item, did_you_mean
from stackbuild.spec.model import COPY_FLAGS, COPY_TEXTS, Setting
from stackbuild.spec.overlays import read_copy_files
from stackbuild.spec.table import join
from stackbuild.spec.values import (
    as_distribution,
    as_layer_requirement,
    as_platform,
    as_requirement,
    as_specifier,
)
from stackbuild.variables import PLACES, Variable, as_layer_variable, as_value

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from stackbuild.platforms import Platform
    from stackbuild.spec.model import PackageIndex, Settings
    from stackbuild.spec.table import Table

    Node = Setting | tuple[Setting, ...] | Settings

PACKAGE_ROOT = "{packageRoot}"
"""The placeholder for a layer's directory, in `config-settings`."""

_LONGEST_BUILD = 7 * 24 * 3600
_PLACEHOLDER = re.compile(r"\{[A-Za-z_-]+\}")


Part = Literal["policy", "requirements", "indexes", "own"]
"""A part of `LayerLock.inputs`, or for versioned layers of `LayerLock.own`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The parts of the project that are needed to read a value."""

    indexes: Collection[PackageIndex] = ()
    overlays: Path | None = None
    """The layer's directory of overlays; None for shared fields, which apply to the directory
    of each layer."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A single value, or an array of them."""

    read: Callable[[Table, str, Context], Node | None]
    """Reads the value at a key of a table; None if it is missing, or a problem was noted."""
    schema: Mapping[str, Any]
    """JSON Schema of the value."""

    @property
    def merging(self) -> str:
        """How a shared value is merged with that of a layer."""
        if "anyOf" in self.schema:
            return "replaced, an array by an array joined"
        return "joined" if self.schema["type"] == "array" else "replaced"

    def value(self, node: Node) -> Any:
        """The value in the model for a node of one platform (`on_platform`)."""
        if isinstance(node, Setting):
            return node.value
        return tuple(item.value for item in cast("tuple[Setting, ...]", node))


@dataclass(frozen=True, slots=True)
class Named:
    """A table whose keys are names that the spec chooses; merged key by key."""

    word: str
    """The name of the keys in documentation: ``<name>``."""
    read_key: Callable[[Item[str]], str]
    """Checks and normalises a key."""
    of: Kind

    def read(self, table: Table, key: str, context: Context) -> Settings:
        """The table at `key`."""
        part = table.part(key)
        found = {
            name: self.of.read(part, word, context) for word, name in part.names(self.read_key)
        }
        return {name: node for name, node in found.items() if node}

    def value(self, node: Node) -> Any:
        """The value in the model for a node of one platform (`on_platform`)."""
        if self.read_key is as_platform:
            return self.of.value(node)
        return {name: self.of.value(entry) for name, entry in cast("Settings", node).items()}


class ArrayOrNamed(Named):
    """A table whose keys are names, or an array in place of the table, which is that of ``*``."""

    __slots__ = ()

    def read(self, table: Table, key: str, context: Context) -> Settings:
        """The table or the array at `key`."""
        if not isinstance(table.values.get(key), list):
            return Named.read(self, table, key, context)
        found = self.of.read(table, key, context)
        return {"*": found} if found else {}


@dataclass(frozen=True, slots=True)
class Group:
    """A table with keys of its own; merged key by key."""

    make: Callable[..., object]
    """Makes the value in the model from the values by key, with `_` for `-`."""
    fields: Sequence[Field]

    def read(self, table: Table, key: str, context: Context) -> Settings:
        """The table at `key`; empty if a required field is missing."""
        part = table.part(key)
        found: dict[str, Node] = {}
        complete = True
        for field in self.fields:
            if field.required and not part.has(field.key):
                part.missing(field.key, "a string")
            if node := field.kind.read(part, field.key, context):
                found[field.key] = node
            complete = complete and (field.key in found or not field.required)
        part.done()
        return found if complete else {}

    def value(self, node: Node) -> Any:
        """The value in the model for a node of one platform (`on_platform`)."""
        kinds = {field.key: field.kind for field in self.fields}
        entries = cast("Settings", node).items()
        return self.make(
            **{key.replace("-", "_"): kinds[key].value(entry) for key, entry in entries}
        )


@dataclass(frozen=True, slots=True)
class Either:
    """A single value, or a table with keys of its own instead of it."""

    leaf: Leaf
    make: Callable[[Any], object]
    """Makes the value in the model from that of `leaf`."""
    table: Group

    @property
    def merging(self) -> str:
        """How a shared value is merged with that of a layer."""
        return "replaced, a table by a table merged"

    def read(self, table: Table, key: str, context: Context) -> Node | None:
        """The value or the table at `key`."""
        given = table.values.get(key)
        if given == {}:
            keys = " or ".join(field.key for field in self.table.fields)
            table.problems.add(table.place_of(key), "empty", expected=keys)
        kind = self.table if isinstance(given, dict) else self.leaf
        return kind.read(table, key, context)

    def value(self, node: Node) -> Any:
        """The value in the model for a node of one platform (`on_platform`)."""
        if isinstance(node, Setting):
            return self.make(self.leaf.value(node))
        return self.table.value(node)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One key of the spec."""

    key: str
    kind: Kind
    meaning: str = ""
    """A line of documentation; empty if the fields below have theirs."""
    changes: Part | None = None
    """The part of a lock's inputs that it belongs to; None for a field that changes no lock.
    Fields of a group belong to the part of the group, or to one of their own."""
    required: bool = False
    general: bool = True
    """Whether it may be set for all platforms."""
    specific: bool = False
    """Whether it may be set below `platform-specific.<platform>`."""

    @property
    def attribute(self) -> str:
        """Its name in Python."""
        return self.key.replace("-", "_")


Kind = Leaf | Named | Group | Either


def on_platform(kind: Kind, node: Node, platform: Platform) -> Node | None:
    """`node` on `platform`, without the level of platform names."""
    if not isinstance(kind, Named):
        return node
    entries = cast("Settings", node)
    if kind.read_key is as_platform:
        return entries.get(platform)
    found = {name: on_platform(kind.of, entry, platform) for name, entry in entries.items()}
    return {name: entry for name, entry in found.items() if entry}


def as_written(table: Table, keys: Iterable[str]) -> dict[str, Node]:
    """The values of `keys` in `table` as the file has them; they are checked elsewhere."""
    found = {key: _as_written(table.values.get(key), table.place_of(key)) for key in keys}
    return {key: node for key, node in found.items() if node}


def _as_written(value: object, place: str) -> Node | None:
    if isinstance(value, dict):
        nodes = {key: _as_written(entry, join(place, key)) for key, entry in value.items()}
        return {key: node for key, node in nodes.items() if node}
    if isinstance(value, list):
        return tuple(Setting(entry, f"{place}[{number}]") for number, entry in enumerate(value))
    return None if value is None else Setting(value, place)


def by_distribution(of: Kind) -> Named:
    """A table whose keys are distributions."""
    return Named("<name>", as_distribution, of)


def by_platform(of: Kind) -> Named:
    """A table whose keys are platforms."""
    return Named("<platform>", as_platform, of)


def by_any(word: str, of: Kind) -> Named:
    """A table with any keys."""
    return Named(word, lambda item: item.value, of)


def _single(read: Callable[[Item[Any]], object]) -> Callable[[Table, str, Context], Node | None]:
    """The reader of a single value, which `read` checks."""

    def setting(table: Table, key: str, _context: Context) -> Setting | None:
        value = table.take(key, read)
        return None if value is None else Setting(value, table.place_of(key))

    return setting


def _settings(items: Iterable[Item[Any]]) -> tuple[Setting, ...]:
    return tuple(Setting(item.value, item.place) for item in items)


def _requirements(table: Table, key: str, _context: Context) -> tuple[Setting, ...]:
    """Requirements, each once."""
    found: dict[str, Item[Any]] = {}
    for item in table.words(key, as_layer_requirement):
        found.setdefault(str(item.value), item)
    return _settings(found.values())


def _requirement_texts(table: Table, key: str, _context: Context) -> tuple[Setting, ...]:
    return _settings(table.words(key, lambda item: str(as_requirement(item))))


def _for_backend(table: Table, key: str, _context: Context) -> Node | None:
    if isinstance(table.values[key], list):
        return _settings(table.words(key, _backend_word))
    return _single(_backend_word)(table, key, _context)


def _backend_word(item: Item[Any]) -> str:
    """A value for a build backend, which may have placeholders in braces of its own."""
    for word in _PLACEHOLDER.findall(item.line()):
        hint = did_you_mean(word, [PACKAGE_ROOT])
        if hint and word != PACKAGE_ROOT:
            raise item.error("unknown placeholder", hint=hint)
    return item.line()


def _names(table: Table, key: str, _context: Context) -> tuple[Setting, ...]:
    return _settings(table.distinct(key, as_distribution) or ())


def _index_names(table: Table, key: str, context: Context) -> tuple[Setting, ...]:
    """The names of indexes, each given by name or address."""
    known = {index.name: index.name for index in context.indexes if index.name}
    known |= {index.url: index.name for index in context.indexes if index.name}

    def read(item: Item[str]) -> str:
        if name := known.get(item.value):
            return name
        raise item.error(
            "not a package index of this file",
            "the name or the address of a [[tool.uv.index]] that has a name",
            did_you_mean(item.value, dict.fromkeys(known.values()))
            or "write it as [[tool.uv.index]] with name, url and explicit = true, and"
            " assign distributions to it in `package_indexes` of the layer",
        )

    return _settings(table.distinct(key, read) or ())


def _patterns(table: Table, key: str, _context: Context) -> tuple[Setting, ...]:
    return _settings(table.words(key, as_pattern))


def _as_distribution_or_all(item: Item[str]) -> str:
    return "*" if item.value == "*" else as_distribution(item)


def _copy_files(table: Table, key: str, context: Context) -> tuple[Setting, ...]:
    return read_copy_files(table, key, context.overlays)


def _variables(places: Collection[str]) -> Named:
    """A table of environment variables, with `places` as placeholders in their values."""

    def value(item: Item[Any]) -> str:
        if not isinstance(item.value, str):
            raise item.wrong_type("a string, or a table with prepend or append")
        return as_value(item, places)

    def entries(table: Table, key: str, _context: Context) -> tuple[Setting, ...]:
        return _settings(table.words(key, lambda item: as_value(item, places)))

    array = Leaf(entries, _STRINGS)
    fields = (
        Field(key="prepend", kind=array, meaning="entries before the value that the variable has"),
        Field(key="append", kind=array, meaning="entries after it"),
    )
    single = Leaf(_single(value), {"type": "string"})
    kind = Either(single, lambda text: Variable(value=text), Group(Variable, fields))
    return Named("<variable>", as_layer_variable, kind)


_STRING = {"type": "string", "minLength": 1}
_STRINGS = {"type": "array", "items": _STRING}
_BOOLEAN = {"type": "boolean"}

TEXT = Leaf(_single(Item.line), _STRING)
FLAG = Leaf(_single(Item.flag), _BOOLEAN)
_BUILD_TIME = _single(lambda item: item.integer(1, _LONGEST_BUILD))
SECONDS = Leaf(_BUILD_TIME, {"type": "integer", "minimum": 1, "maximum": _LONGEST_BUILD})
SPECIFIER = Leaf(_single(as_specifier), _STRING)
REQUIREMENTS = Leaf(_requirements, _STRINGS)
REQUIREMENT_TEXTS = Leaf(_requirement_texts, _STRINGS)
FOR_BACKEND = Leaf(_for_backend, {"anyOf": [_STRING, _STRINGS]})
NAMES = Leaf(_names, _STRINGS)
INDEX_NAMES = Leaf(_index_names, _STRINGS)
VARIABLES = _variables(PLACES)
BUILD_VARIABLES = _variables(())
EXCLUDED_FILES = ArrayOrNamed("<name>", _as_distribution_or_all, Leaf(_patterns, _STRINGS))
COPY_FILES = Leaf(
    _copy_files,
    {
        "type": "array",
        "items": {
            "type": "object",
            "properties": dict.fromkeys(COPY_TEXTS, _STRING) | dict.fromkeys(COPY_FLAGS, _BOOLEAN),
            "required": list(COPY_TEXTS),
            "additionalProperties": False,
        },
    },
)
