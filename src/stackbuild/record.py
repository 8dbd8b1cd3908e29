"""Parse and write RECORD files: the files of a distribution with hashes and sizes.

The format is that of the "recording installed projects" and the binary
distribution format specifications: CSV rows of a path, a hash as
``sha256=<URL-safe base64 without padding>``, and a size in bytes.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import posixpath
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

TRUSTED_HASHES = ("sha256", "sha384", "sha512")
"""The only hashes allowed in a wheel (binary distribution format, "Signed wheel files")."""

UNRECORDED = ("RECORD", "RECORD.jws", "RECORD.p7s")
"""Files of `.dist-info` without a hash in RECORD: RECORD itself and its signatures."""

_BARE_SHA256 = re.compile(r"[A-Za-z0-9_-]{43}")
"""Some tools that repair wheels write sha256 hashes without the name (mlx 0.29.3)."""
_COLUMNS = len(("path", "hash", "size"))
_DIGITS = 20
"""More digits than any file size has."""


def encoded(digest: bytes) -> str:
    """`digest` in URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def record_hash(data: bytes) -> str:
    """The hash of a file with the contents `data`."""
    return f"sha256={encoded(hashlib.sha256(data).digest())}"


class Recorded(NamedTuple):
    """The hash and size of a file in a wheel's RECORD."""

    hash_name: str
    """The algorithm, as named by `hashlib`; empty if there is no hash."""
    hash_value: str
    """In URL-safe base64 without padding."""
    size: int | None
    """In bytes, or None."""


def record_rows(text: str) -> list[list[str]]:
    """The non-empty rows of a RECORD. Raises ValueError.

    Only line feeds and carriage returns end a row; names may contain other Unicode line breaks.
    """
    try:
        return [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    except csv.Error as error:
        raise ValueError(str(error)) from None


def written_record(rows: Iterable[Sequence[object]]) -> bytes:
    """Write a RECORD with `rows`: path, hash and size of each file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def read_record(text: str) -> dict[str, Recorded]:
    """Parse the RECORD of a wheel; returns entries by path. Raises ValueError."""
    recorded: dict[str, Recorded] = {}
    for number, row in enumerate(record_rows(text), 1):
        if len(row) != _COLUMNS or not row[0]:
            raise ValueError(f"row {number} is not a path, a hash and a size")
        bare = _BARE_SHA256.fullmatch(row[1])
        name, separator, value = (f"sha256={row[1]}" if bare else row[1]).partition("=")
        if name and not separator:
            raise ValueError(f"row {number} has a hash without the name of its algorithm")
        if row[2] and not (row[2].isascii() and row[2].isdigit() and len(row[2]) < _DIGITS):
            raise ValueError(f"row {number} has a size that is not a number")
        recorded[row[0]] = Recorded(name, value.rstrip("="), int(row[2]) if row[2] else None)
    return recorded


def corrected(
    record: bytes,
    changed: Mapping[str, bytes | None],
    site_packages: str,
    *,
    beside: Mapping[str, str] | None = None,
) -> bytes:
    """`record` with the hashes and sizes of the files that were `changed`.

    Paths in `changed` are layer-relative. The row of a path with None is removed. If `beside` has a
    second path for a file, that path gets a row too.
    """
    rows: list[Sequence[object]] = []
    for row in record_rows(record.decode()):
        path = posixpath.normpath(posixpath.join(site_packages, row[0]))
        if path in changed:
            data = changed[path]
            if data is None:
                continue
            row[1:] = [record_hash(data), str(len(data))]
        rows.append(row)
        if further := (beside or {}).get(path):
            data = changed[further] or b""
            name = posixpath.relpath(further, site_packages)
            rows.append([name, record_hash(data), len(data)])
    return written_record(rows)


def record_paths(paths: Iterable[str], site_packages: str) -> list[str]:
    """The RECORDs among the layer-relative `paths`."""
    pattern = re.compile(re.escape(site_packages) + r"/[^/]+\.dist-info/RECORD")
    return [path for path in paths if pattern.fullmatch(path)]
