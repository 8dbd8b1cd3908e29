"""Conflicts between the paths of a layer."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from stackbuild.platforms import OsName


class Claim(NamedTuple):
    """The paths of `owner` (``numpy 2.2.6``, ``the overlay``) in a layer."""

    owner: str
    paths: Sequence[str]
    """Relative to the layer; an empty directory ends in a slash."""


class Clash(NamedTuple):
    """Two owners of one path, or of two paths that exclude each other."""

    path: str
    first: str
    second: str
    other: str | None = None
    """The path of `first`, if it differs."""


def owners(claims: Iterable[Claim]) -> dict[str, str]:
    """The owner of each path; the last of several."""
    return {path: claim.owner for claim in claims for path in claim.paths}


def same_path(claims: Sequence[Claim]) -> list[Clash]:
    """Every path that two of `claims` have, sorted."""
    found: list[Clash] = []
    seen: dict[str, str] = {}
    for claim in claims:
        # Fast path: usually no path is shared.
        shared = seen.keys() & set(claim.paths)
        found += [Clash(path, seen[path], claim.owner) for path in shared if path[-1] != "/"]
        seen.update(dict.fromkeys(claim.paths, claim.owner))
    return sorted(found)


def file_as_directory(owned: Mapping[str, str]) -> Iterator[Clash]:
    """Every path of `owned` that is a file and a directory at once."""
    seen: set[str] = set()
    for path in owned:
        parent = path.rstrip("/").rpartition("/")[0]
        while parent and parent not in seen:
            seen.add(parent)
            if parent in owned:
                yield Clash(path, owned[parent], owned[path], parent)
            parent = parent.rpartition("/")[0]


def case_only(owned: Mapping[str, str], os: OsName) -> Iterator[Clash]:
    """Every two paths of `owned`, at least one of a file, that are equal on macOS or Windows.

    Their usual file systems ignore case, and that of macOS also ignores Unicode
    normalisation. Two directories that differ only in this become one.
    """
    if os == "linux":
        return
    seen: dict[str, str] = {}
    for path in owned:
        other = seen.setdefault(_folded(path), path)
        if other != path:
            yield Clash(path, owned[other], owned[path], other)
    directories: set[str] = set()
    for path in owned:
        parent = path.rpartition("/")[0]
        while parent and parent not in directories:
            directories.add(parent)
            other = seen.get(_folded(parent), parent)
            if other != parent:
                yield Clash(parent, owned[other], owned[path], other)
            parent = parent.rpartition("/")[0]


def _folded(path: str) -> str:
    composed = path if path.isascii() else unicodedata.normalize("NFC", path)
    return composed.casefold()
