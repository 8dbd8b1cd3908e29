"""`stackbuild.install.toml`, which says what a root contains, and the lock beside it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from stackbuild.compose.serialize import canonical_json
from stackbuild.errors import IntegrityError, SpecError
from stackbuild.files import atomic_write, read_regular
from stackbuild.platforms import Platform
from stackbuild.reading import Item, read_json, records
from stackbuild.spec.reader import parse_toml
from stackbuild.spec.table import Problems, Table
from stackbuild.spec.values import as_platform
from stackbuild.strictjson import MAX_SIZE
from stackbuild.workspace import expanded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stackbuild.reading import Readers

LOCK_FORMAT = 1

Trust = Literal["place", "lock"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a root is to contain."""

    path: Path
    """The file, absolute. Its paths are relative to its directory."""
    place: str
    layers: tuple[str, ...]
    """Words for published layers (`registry.find.Published.find`)."""
    root: Path | None
    platform: Platform | None
    store: Path | None
    trust: Trust
    """Who chooses versions: the place, or the lock alone."""

    @property
    def lock_path(self) -> Path:
        """The lock beside the file: `stackbuild.install.lock`."""
        return self.path.with_suffix(".lock")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A layer of the lock."""

    layer: str
    words: tuple[str, ...]
    """The words of the file that mean this layer; empty for one that only others need."""
    version: str
    digest: str
    sha256: str
    """Of the manifest's bytes (hex)."""


def read_wanted(path: Path) -> Wanted:
    """Read the file at `path`. Raises SpecError with all its problems, each with its line."""
    path = path.absolute()
    values, problems = parse_toml(path), Problems()
    table = Table(values, "", problems)

    def directory(key: str) -> Path | None:
        text = table.text(key)
        return None if text is None else path.parent / expanded(Path(text))

    place = table.text("place", required=True) or ""
    layers = [item.value for item in table.texts("layers", required=True) or ()]
    wanted = Wanted(
        path=path,
        place=place if "://" in place else str(path.parent / expanded(Path(place))),
        layers=tuple(dict.fromkeys(layers)),
        root=directory("root"),
        platform=table.word("platform", as_platform),
        store=directory("store"),
        trust=table.take("trust", lambda item: item.word_of(get_args(Trust))) or "place",
    )
    if not layers and not problems.found:
        problems.add("layers", "empty", expected="the names of layers")
    table.done()
    if problems.found:
        lines = read_regular(path).decode().splitlines()
        raise SpecError(
            path, [replace(one, place=_with_line(one.place, lines)) for one in problems.found]
        )
    return wanted


def _with_line(place: str, lines: list[str]) -> str:
    """`place` with the line of its key."""
    key = re.split(r"[.\[]", place)[0].strip('"')
    pattern = re.compile(rf"""\s*["']?{re.escape(key)}["']?\s*[=.]|\s*\[+{re.escape(key)}\b""")
    number = next((at for at, line in enumerate(lines, 1) if pattern.match(line)), None)
    return f"line {number}: {place}" if number else place


def read_pins(path: Path) -> dict[Platform, tuple[Pin, ...]]:
    """The lock at `path`, empty if there is none. Raises IntegrityError, OSError."""
    try:
        data = read_regular(path, MAX_SIZE + 1)
    except FileNotFoundError:
        return {}
    try:
        return read_json(data, str(path), _lock)
    except IntegrityError as error:
        raise error.with_remedy(
            "restore the file; or remove it, and `stackbuild sync` chooses the current versions"
        ) from None


def _lock(value: Item[object]) -> dict[Platform, tuple[Pin, ...]]:
    return value.record(lambda platforms: platforms, {"platforms": _pins}, formats=(LOCK_FORMAT,))


def _pins(value: Item[object]) -> dict[Platform, tuple[Pin, ...]]:
    readers: Readers = {
        "layer": Item.text,
        "words": lambda item: item.tuple_of(Item.text),
        "version": Item.text,
        "digest": Item.sha256,
        "sha256": Item.sha256,
    }
    read = records(Pin, readers)
    return {platform.choice(Platform): read(pins) for platform, pins in value.pairs()}


def write_pins(path: Path, pins: Mapping[Platform, tuple[Pin, ...]]) -> None:
    """Write the lock at `path`. Raises OSError."""
    platforms = {
        str(platform): [{name: getattr(pin, name) for name in Pin.__slots__} for pin in of_platform]
        for platform, of_platform in pins.items()
    }
    atomic_write(path, canonical_json({"format": LOCK_FORMAT, "platforms": platforms}))
