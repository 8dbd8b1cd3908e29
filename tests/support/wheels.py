"""Small real wheels, made in a moment and the same each time."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_TIME = (1980, 1, 1, 0, 0, 0)


def make_wheel(
    directory: Path,
    name: str,
    version: str,
    files: Mapping[str, bytes | str],
    *,
    requires: Iterable[str] = (),
    tag: str = "py3-none-any",
    console_scripts: Mapping[str, str] | None = None,
    data: Mapping[str, bytes] | None = None,
    requires_python: str | None = None,
    metadata_lines: Iterable[str] = (),
    dist_info: Mapping[str, bytes | str] | None = None,
) -> Path:
    """Write `<name>-<version>-<tag>.whl` into `directory`, with a true RECORD.

    `files` are paths in site-packages; `data` are paths below the wheel's
    `.data` directory, such as ``scripts/tool``; `dist_info` are further files
    of the `.dist-info` directory, such as ``licenses/LICENSE``. `tag` may be a
    compressed set such as ``cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64``;
    a pure one (``…-any``) makes `Root-Is-Purelib` true.
    """
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    members: dict[str, bytes] = {path: _bytes(content) for path, content in files.items()}
    members |= {f"{stem}.data/{path}": content for path, content in (data or {}).items()}
    members |= {f"{info}/{path}": _bytes(content) for path, content in (dist_info or {}).items()}
    members[f"{info}/METADATA"] = _metadata(
        name, version, requires, requires_python, metadata_lines
    )
    members[f"{info}/WHEEL"] = _wheel(tag)
    if console_scripts:
        members[f"{info}/entry_points.txt"] = _entry_points(console_scripts)
    members[f"{info}/RECORD"] = _record(members, f"{info}/RECORD")
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{stem}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            entry = zipfile.ZipInfo(member, _TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, on every host
            executable = member.startswith(f"{stem}.data/scripts/")
            entry.external_attr = (0o100755 if executable else 0o100644) << 16
            archive.writestr(entry, content)
    return path


def _bytes(content: bytes | str) -> bytes:
    return content.encode() if isinstance(content, str) else content


def _metadata(
    name: str,
    version: str,
    requires: Iterable[str],
    requires_python: str | None,
    further: Iterable[str],
) -> bytes:
    lines = ["Metadata-Version: 2.3", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Python: {requires_python}"] if requires_python else []
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    lines += further
    return ("\n".join(lines) + "\n").encode()


def _wheel(tag: str) -> bytes:
    interpreters, abis, platforms = tag.split("-")
    lines = ["Wheel-Version: 1.0", "Generator: stackbuild-tests"]
    lines.append(f"Root-Is-Purelib: {'true' if platforms == 'any' else 'false'}")
    lines += [
        f"Tag: {interpreter}-{abi}-{platform}"
        for interpreter in interpreters.split(".")
        for abi in abis.split(".")
        for platform in platforms.split(".")
    ]
    return ("\n".join(lines) + "\n").encode()


def _entry_points(console_scripts: Mapping[str, str]) -> bytes:
    lines = ["[console_scripts]", *(f"{name} = {ref}" for name, ref in console_scripts.items())]
    return ("\n".join(lines) + "\n").encode()


def _record(members: Mapping[str, bytes], own: str) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for path, content in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        writer.writerow((path, f"sha256={digest}", len(content)))
    writer.writerow((own, "", ""))
    return text.getvalue().encode()
