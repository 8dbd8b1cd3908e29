"""RECORD files of distributions some of whose files an overlay replaces.

A `RECORD` (binary distribution format) tells the sha256 and size of each
installed file. When an overlay with `overwrite = true` replaces one, the layer
gets a RECORD that tells the truth, in its head, over the distribution's own.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import posixpath
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def corrected(record: bytes, replaced: Mapping[str, bytes], site_packages: str) -> bytes:
    """`record` with the digests of the files in `replaced`, by layer-relative path."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in csv.reader(io.StringIO(record.decode())):
        path = posixpath.normpath(posixpath.join(site_packages, row[0])) if row else ""
        if path in replaced:
            data = replaced[path]
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            row[1:] = [f"sha256={digest}", str(len(data))]
        writer.writerow(row)
    return text.getvalue().encode()


def record_path(paths: tuple[str, ...], site_packages: str) -> str | None:
    """Where the RECORD is among the `paths` of a distribution."""
    for path in paths:
        parent, _, name = path.rpartition("/")
        if name == "RECORD" and re.fullmatch(r"[^/]+\.dist-info", parent[len(site_packages) + 1 :]):
            return path
    return None
