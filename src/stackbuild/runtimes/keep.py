"""Distributions that stay in the site-packages of a packed interpreter."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from stackbuild.errors import ComposeError
from stackbuild.record import record_hash, record_rows, written_record
from stackbuild.runtimes.contents import Entry
from stackbuild.runtimes.relocate import with_header

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from packaging.utils import NormalizedName


def kept_distributions(
    prefix: Path, stdlib: str, minor: str, keep: Collection[NormalizedName]
) -> dict[str, Entry]:
    """The entries of the distributions `keep`, by path relative to `prefix`.

    `stdlib` is relative, such as ``lib/python3.12``. RECORD names what is
    there: bytecode left out, scripts with a header that can be moved. Raises
    ComposeError when one is not installed.
    """
    from packaging.utils import canonicalize_name

    site = f"{stdlib}/site-packages"
    found = {
        canonicalize_name(info.name.partition("-")[0]): info
        for info in sorted((prefix / site).glob("*.dist-info"))
        if (info / "RECORD").is_file()
    }
    entries: dict[str, Entry] = {}
    for name in sorted(keep):
        if name not in found:
            raise ComposeError(
                "a distribution that the runtime should keep is not in the interpreter",
                distribution=name,
                file=prefix,
                remedy=f"install {name} there, or take it out of `keep`",
            )
        entries |= _entries(prefix, site, found[name], minor)
    return entries


def _entries(prefix: Path, site: str, info: Path, minor: str) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    lines: list[list[str]] = []
    record = f"{info.name}/RECORD"
    for line in record_rows((info / "RECORD").read_text("utf-8")):
        path = posixpath.normpath(posixpath.join(site, line[0]))
        file = prefix / path
        if path.startswith("../") or "__pycache__" in path or not file.is_file():
            continue
        if line[0] == record:
            lines.append([record, "", ""])
            continue
        executable = bool(file.stat().st_mode & 0o111)
        entries[path] = Entry(source=file, executable=executable)
        if not path.startswith(f"{site}/") and (data := with_header(file.read_bytes(), minor)):
            entries[path] = Entry(data=data, executable=executable)
            line[1:] = [record_hash(data), str(len(data))]
        lines.append(line)
    entries[f"{site}/{record}"] = Entry(data=written_record(lines))
    return entries
