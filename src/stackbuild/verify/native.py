"""The native modules of distributions."""

from __future__ import annotations

import mmap
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from stackbuild.platforms import Platform
    from stackbuild.verify.deployed import DeployedLayer, Distribution

TEST_SCAFFOLDING = (
    *("test.*", "tests.*", "*.test.*", "*.tests.*"),
    *("_test*", "*._test*", "*_test", "*_tests"),
)
"""Modules that only a distribution's own tests use."""

PACKAGE_PRIVATE = (
    *("*._vendor.*", "*._vendored.*"),
    *("*__mypyc", "*.__*"),
)
"""Modules that are no use on their own: copies of other distributions, whose package picks
what it needs, and parts that a compiler has made for the modules beside them."""

LEFT_OUT = (*TEST_SCAFFOLDING, *PACKAGE_PRIVATE)
"""Globs on the full names of modules that are not imported.

A name with one underscore is imported: often it is the only native module there
is (`openmm._openmm`), and what its package does when it fails may hide that.
"""


def suffixes(platform: Platform, python: str) -> tuple[str, ...]:
    """What the file names of modules for CPython `python` (``3.12``) end in, longest first.

    As `importlib.machinery.EXTENSION_SUFFIXES` has it there (PEP 3149, PEP 384).
    """
    digits = python.replace(".", "")
    if platform.os == "windows":
        machine = "amd64" if platform.machine == "x86_64" else "arm64"
        return (f".cp{digits}-win_{machine}.pyd", ".pyd")
    system = "darwin" if platform.os == "macos" else f"{platform.machine}-linux-gnu"
    return (f".cpython-{digits}-{system}.so", ".abi3.so", ".so")


def native_modules(layer: DeployedLayer, distribution: Distribution) -> Iterator[tuple[str, str]]:
    """Name and file (relative to the layer) of each module, from RECORD.

    Files with the tag of another interpreter are none, nor are shared
    libraries: an untagged file counts if it has the function that makes it a
    module (PEP 489), and can only be imported by a name without dots in it.
    """
    plain = suffixes(layer.manifest.platform, layer.layout.python)[-1]
    for entry in distribution.record or ():
        found = _parts(layer, entry.path)
        if found is None:
            continue
        parts, suffix = found
        if suffix == plain and not _is_module(layer.directory / entry.path, parts[-1]):
            continue
        yield _name(parts), entry.path


def module_name(layer: DeployedLayer, path: str) -> str | None:
    """The name of the module that the file `path` of `layer` is, by its name alone."""
    found = _parts(layer, path)
    return None if found is None else _name(found[0])


def _parts(layer: DeployedLayer, path: str) -> tuple[list[str], str] | None:
    """The names that lead to a module, and what its file ends in."""
    site_packages = f"{layer.layout.site_packages}/"
    endings = suffixes(layer.manifest.platform, layer.layout.python)
    suffix = next((ending for ending in endings if path.endswith(ending)), None)
    if suffix is None or not path.startswith(site_packages):
        return None
    parts = path.removeprefix(site_packages).removesuffix(suffix).split("/")
    return None if any("." in part or not part for part in parts) else (parts, suffix)


def _name(parts: list[str]) -> str:
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_left_out(module: str, more: Iterable[str]) -> bool:
    """Whether `module` is one of `LEFT_OUT`, or of the globs `more`."""
    return any(fnmatchcase(module, pattern) for pattern in (*LEFT_OUT, *more))


def _is_module(path: Path, name: str) -> bool:
    function = f"PyInit_{name}" if name.isascii() else "PyInitU_"
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return data.find(function.encode() + (b"\0" if name.isascii() else b"")) >= 0
    except (OSError, ValueError):
        return False  # missing or empty: what RECORD says of it is another check
