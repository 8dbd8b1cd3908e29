"""Reads the locks of venvstacks 0.8, which the first lock of a layer may start from.

A layer has `requirements/<name>/pylock.<name>.toml`, for all platforms, and beside it
`pylock.<name>.meta.json` with `lock_version` and `locked_at`. The name has a prefix
(`Layer.venvstacks_name`); in the names of files, dots in it are underscores. What a layer takes
from those below is listed too, with a marker that is false everywhere
(``sys_platform == 'from_lower_layer'``).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import tomli

from stackbuild.errors import LockError, StackbuildError, raise_all
from stackbuild.files import read_regular, why
from stackbuild.reading import Item, ReadError, shown
from stackbuild.strictjson import MAX_INTEGER, JsonError, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from packaging.markers import Marker
    from packaging.utils import NormalizedName
    from packaging.version import Version

    from stackbuild.lock.model import LayerLock, LockedDistribution
    from stackbuild.lock.targets import Target
    from stackbuild.spec.model import Layer, Stack

_T = TypeVar("_T")

DIRECTORY = "requirements"
"""Beside the spec."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VenvstacksPackage:
    """An entry of a lock of venvstacks."""

    name: NormalizedName
    version: Version | None
    """None for a directory or a commit, of which PEP 751 requires no version."""
    marker: Marker | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VenvstacksLock:
    """The lock of one layer for all platforms."""

    layer: str
    path: Path
    packages: tuple[VenvstacksPackage, ...]
    version: int | None
    """`lock_version`; None for a layer that is not versioned."""
    locked_at: str | None
    """As in a lock of stackbuild; None if the layer is not versioned and has no such file."""

    def versions(self, target: Target) -> dict[NormalizedName, Version | None]:
        """The layer's own distributions on `target`. Raises LockError if one has two versions."""
        found: dict[NormalizedName, Version | None] = {}
        for package in self.packages:
            marker = package.marker
            if marker and not marker.evaluate(target.markers, context="lock_file"):
                continue
            if found.setdefault(package.name, package.version) != package.version:
                raise _refused(
                    self.layer,
                    self.path,
                    f"one version of {package.name} on {target.platform}",
                    f"{found[package.name]} and {package.version}",
                )
        return found


class Beginning(NamedTuple):
    """What the first lock of a layer takes over from venvstacks."""

    number: int = 0
    """The number before that of the lock."""
    locked_at: str | None = None
    """Its time; None if its contents are not those that venvstacks locked."""
    differences: tuple[str, ...] = ()
    """How its distributions differ from those that venvstacks locked."""


def beginning(
    locks: Mapping[str, VenvstacksLock],
    layer: str,
    target: Target,
    distributions: Iterable[LockedDistribution],
    lower: Iterable[LayerLock],
) -> Beginning:
    """How the first lock of `layer`, with `distributions` above `lower`, goes on from `locks`.

    A versioned layer has the number that it has in venvstacks, if its distributions are the same
    and if the versioned layers below got theirs; otherwise the next one. The time is taken over
    with the number. Raises LockError if a distribution has two versions there.
    """
    if (former := locks.get(layer)) is None:
        return Beginning()
    differ = tuple(_differences(former.versions(target), distributions))
    if former.version is None:
        return Beginning(0, None if differ else former.locked_at, differ)
    moved = any(
        (below := locks.get(lock.layer)) is None or below.version != lock.version
        for lock in lower
        if lock.own
    )
    if differ or moved:
        return Beginning(former.version, None, differ)
    return Beginning(former.version - 1, former.locked_at)


def _differences(
    versions: Mapping[NormalizedName, Version | None], items: Iterable[LockedDistribution]
) -> list[str]:
    """How `items` differ from the `versions` of venvstacks; empty if they are the same."""
    here = {item.name: item.version for item in items}
    there = {name: version or "unknown" for name, version in versions.items()}
    return [
        f"{name} {here.get(name, 'none')} (there {there.get(name, 'none')})"
        for name in sorted(here.keys() | there.keys())
        if here.get(name) != there.get(name)
    ]


def read_venvstacks_locks(stack: Stack, layers: Iterable[Layer]) -> dict[str, VenvstacksLock]:
    """The locks that venvstacks has of `layers`, by layer; layers without one are left out.

    Raises one LockError for all that are damaged, and for versioned layers of which one of
    both files is missing, since their number would begin at 1 again.
    """
    found: dict[str, VenvstacksLock] = {}
    errors: list[StackbuildError] = []
    for layer in layers:
        try:
            if lock := _read(layer, venvstacks_lock_path(stack, layer)):
                found[layer.name] = lock
        except LockError as error:
            errors.append(error)
    raise_all(errors)
    return found


def venvstacks_lock_path(stack: Stack, layer: Layer) -> Path:
    """Where venvstacks has the lock of `layer`."""
    name = layer.venvstacks_name
    return stack.directory / DIRECTORY / name / f"pylock.{name.replace('.', '_')}.toml"


def _read(layer: Layer, path: Path) -> VenvstacksLock | None:
    packages = _load(layer, path, _packages)
    about = _load(layer, meta := path.with_suffix(".meta.json"), _meta)
    if layer.versioned and (packages is None) != (about is None):
        raise LockError(
            f"venvstacks' lock of {layer.name} is incomplete; its number would begin at 1 again",
            layer=layer.name,
            file=path.parent,
            expected=f"{path.name} and {meta.name}",
            found=f"only {path.name if packages is not None else meta.name}",
            remedy="restore the other file from version control, or remove both",
        )
    if packages is None:
        return None
    version, locked_at = about or (None, None)
    return VenvstacksLock(
        layer=layer.name,
        path=path,
        packages=packages,
        version=version if layer.versioned else None,
        locked_at=locked_at,
    )


def _load(layer: Layer, path: Path, read: Callable[[bytes, str], _T]) -> _T | None:
    """The contents of the file `path`; None if it does not exist."""
    try:
        return read(read_regular(path), str(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise LockError(
            f"venvstacks' lock of {layer.name} {why(error)}", layer=layer.name, file=path
        ) from None
    except JsonError as error:
        raise _refused(layer.name, path, "JSON", error.reason) from None
    except (UnicodeDecodeError, tomli.TOMLDecodeError) as error:
        raise _refused(layer.name, path, "TOML in UTF-8", str(error)) from None
    except ReadError as error:
        found = "no value" if error.found is None else shown(error.found)
        expected = f"{error.expected} as `{error.place}`"
        raise _refused(layer.name, path, expected, found) from None


def _packages(data: bytes, _: str) -> tuple[VenvstacksPackage, ...]:
    lock = Item[object]("", tomli.loads(data.decode()))
    lock["lock-version"].one_of(["1.0"])
    # A lock of no distributions has no array.
    return lock["packages"].tuple_of(_package) if "packages" in lock.table() else ()


def _package(item: Item[object]) -> VenvstacksPackage:
    table = item.table("a table")
    return VenvstacksPackage(
        name=item["name"].distribution(),
        version=item["version"].version() if "version" in table else None,
        marker=_marker(item["marker"]) if "marker" in table else None,
    )


def _marker(item: Item[object]) -> Marker:
    from packaging.markers import InvalidMarker, Marker

    try:
        return Marker(item.text())
    except InvalidMarker:
        raise item.wrong_type("a marker (PEP 508)") from None


def _meta(data: bytes, source: str) -> tuple[int, str]:
    meta = Item[object]("", parse(data, source))
    return meta["lock_version"].integer(1, MAX_INTEGER), _moment(meta["locked_at"])


def _moment(item: Item[object]) -> str:
    """A time with an offset, as locks of stackbuild have it."""
    with suppress(ValueError, OverflowError):
        found = datetime.fromisoformat(item.text())
        if found.tzinfo:
            return found.astimezone(UTC).isoformat().replace("+00:00", "Z")
    raise item.wrong_type("a time with a UTC offset")


def _refused(layer: str, path: Path, expected: str, found: str) -> LockError:
    return LockError(
        f"venvstacks' lock of {layer} is damaged",
        layer=layer,
        file=path,
        expected=expected,
        found=found,
        remedy="restore it from version control, or lock without --from-venvstacks",
    )
