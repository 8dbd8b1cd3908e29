"""Check whether the interpreter of a layer can load its native modules and its bytecode.

Only names and the first bytes of files are used, so layers of all platforms can be checked on any
machine.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING

from stackbuild.layout import extension_suffixes
from stackbuild.lock.targets import Target
from stackbuild.tomltext import inline, layer_table
from stackbuild.verify.deployed import NOT_CHECKED, is_left_out
from stackbuild.verify.model import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stackbuild.platforms import OsName
    from stackbuild.verify.deployed import DeployedLayer
    from stackbuild.verify.record_check import ReadLayer

    _Problem = tuple[str, str, str]
    """The problem, what was expected, and what was found."""

_MODULE = re.compile(
    r"(?P<stem>[^./]+)\.(?:cpython-[^./]+|pypy[^./]+|cp\d+[^./]*-[^./]+|abi3[^./]*)\.(?:so|pyd)"
    r"|(?P<plain>(?!lib)[^./]+)\.(?:so|pyd)"
)
"""File names of native modules, of any interpreter and platform (PEP 3149, PEP 384)."""

_FORMATS: tuple[tuple[bytes, OsName], ...] = (
    (b"\x7fELF", "linux"),
    *((magic, "macos") for magic in (b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe")),
    *((magic, "macos") for magic in (b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf")),
    (b"MZ", "windows"),
)
"""First bytes of programs and libraries, and the system that loads them."""
_NAMES = {"linux": "ELF (Linux)", "macos": "Mach-O (macOS)", "windows": "PE (Windows)"}
_LIBRARY = {
    "linux": re.compile(r".+\.so(?:\.[\d.]+)?"),
    "macos": re.compile(r".+\.(?:so|dylib)"),
    "windows": re.compile(r".+\.(?:pyd|dll|exe)", re.IGNORECASE),
}
_MAY_LOAD = re.compile(r"\.(?:so|so\.[\d.]+|dylib|pyd|dll|exe)$", re.IGNORECASE)
"""Ends of paths that match `_MODULE` or one of `_LIBRARY`."""
_PLACES = {
    "linux": r"(?:many|musl)?linux\w*|android|gnu",
    "macos": r"mac\w*|osx|darwin|apple|ios",
    "windows": r"windows|win|win32|win64|win_\w+|msvc|mingw",
}
"""Parts of paths that name an operating system."""

_NEWEST = {"linux": (2, 60), "macos": (40, 0), "windows": (0, 0)}
"""Levels of glibc and macOS that are later than all those in tags."""

MAGIC = {"3.9": 3425, "3.10": 3439, "3.11": 3495, "3.12": 3531, "3.13": 3571, "3.14": 3627}
"""Magic numbers of bytecode, the same for all releases of a minor version of CPython
(`importlib.util.MAGIC_NUMBER`, little-endian, followed by CR and LF)."""


def check_modules(
    layer: DeployedLayer, read: ReadLayer, skip_modules: Iterable[str]
) -> Iterator[Finding]:
    """Find native modules in `layer` that its interpreter cannot load.

    These are modules for another system or interpreter, unless one for this interpreter is beside
    them. Modules whose names match `skip_modules` or `deployed.NOT_CHECKED` are not checked.
    """
    name = layer.manifest.layer
    for path, magic in sorted(item for item in read.magics.items() if _MAY_LOAD.search(item[0])):
        owner = read.owners.get(path)
        pure = owner is not None and owner.wheel.endswith("-any.whl")
        problem = _misnamed(layer, path, read, pure=pure) or _misformed(
            layer, path, magic, pure=pure
        )
        if problem is None:
            continue
        module = _module(layer, path)
        if is_left_out(module, (*NOT_CHECKED, *skip_modules)):
            continue
        message, expected, found = problem
        yield Finding(
            check="module",
            layer=name,
            distribution=None if owner is None else str(owner),
            file=path,
            message=message,
            expected=expected,
            found=found,
            remedy=f"use another version of {owner.name if owner else 'the file'}, or build it "
            f"for {layer.manifest.platform}; if nothing uses it there, add {inline(module)} to "
            f"`skip-modules` in {layer_table(name, 'verify')}",
        )


def _misnamed(layer: DeployedLayer, path: str, read: ReadLayer, *, pure: bool) -> _Problem | None:
    """A module whose name is for another interpreter or system; `pure` for wheels for all."""
    directory, _, last = path.rpartition("/")
    match = _MODULE.fullmatch(last)
    if match is None:
        return None
    stem = match["stem"] or match["plain"]
    wanted = [
        f"{stem}{suffix}"
        for suffix in extension_suffixes(layer.manifest.platform, layer.layout.python)
    ]
    if last in wanted:
        return None
    # Wheels for all platforms may use the module on some of them only.
    beside = [*wanted, f"{stem}.py", f"{stem}/__init__.py"] if pure else wanted
    if any(f"{directory}/{name}" in read.magics for name in beside):
        return None
    message = "is a native module for another Python or platform, so it cannot be imported"
    return message, wanted[0], last


def _misformed(layer: DeployedLayer, path: str, magic: bytes, *, pure: bool) -> _Problem | None:
    """A module or library whose content is for another system; `pure` for wheels for all."""
    own, last = layer.manifest.platform.os, path.rpartition("/")[2]
    system = next((system for start, system in _FORMATS if magic.startswith(start)), None)
    if system == own or not _LIBRARY[own].fullmatch(last):
        return None
    if not is_module_name(layer, last):
        if system is None or pure:
            return None
        if re.search(rf"(?<![a-z0-9])(?:{_PLACES[system]})(?![a-z0-9])", path.lower()):
            return None
    found = _NAMES[system] if system else "another format" if magic else "an empty file"
    return "is not in the format of this platform, so it cannot be loaded", _NAMES[own], found


def is_module_name(layer: DeployedLayer, path: str) -> bool:
    """Whether the name of `path` is only used for modules that Python imports in `layer`."""
    tagged = extension_suffixes(layer.manifest.platform, layer.layout.python)[:-1]
    return path.endswith((*tagged, ".pyd"))


def _module(layer: DeployedLayer, path: str) -> str:
    """The name of the module in the file `path`."""
    directory, _, last = path.removeprefix(f"{layer.layout.site_packages}/").rpartition("/")
    parts = [*directory.split("/"), last.partition(".")[0]]
    return ".".join(part for part in parts if part not in {"", "__pycache__", "__init__"})


def check_tags(layer: DeployedLayer, python: str) -> Iterator[Finding]:
    """Find distributions of `layer` whose WHEEL is for other platforms or versions of Python.

    `python` is the full version of the runtime. The required level of the system (glibc, macOS)
    was checked when the layer was locked, so that of the tags does not matter.
    """
    from packaging.tags import parse_tag
    from packaging.version import Version

    platform = layer.manifest.platform
    target = Target(platform=platform, python=Version(python), level=_NEWEST[platform.os])
    for one in layer.distributions:
        # A tag in another format has fewer or more than three parts.
        tags = [parse_tag(text) for text in one.tags if text.count("-") == 2]
        if one.tags and target.rank(chain.from_iterable(tags)) is None:
            yield Finding(
                check="module",
                layer=layer.manifest.layer,
                distribution=str(one),
                file=f"{one.info}/WHEEL",
                message="has no tag for the Python and platform of the layer",
                expected=f"a tag for CPython {layer.layout.python} on {platform}",
                found=", ".join(one.tags),
                remedy=f"use another version of {one.name}, or build it for {platform}",
            )


def check_bytecode(
    layer: DeployedLayer, read: ReadLayer, skip_modules: Iterable[str]
) -> Iterator[Finding]:
    """Find bytecode of `layer` that its interpreter would use, but cannot read.

    The interpreter compiles a module with such bytecode each time, or cannot import it if there is
    no source. Reports the first file of each distribution.
    """
    number = MAGIC.get(layer.layout.python)
    if number is None:
        return
    magic = number.to_bytes(2, "little") + b"\r\n"
    wrong: dict[str, list[str]] = {}
    for path, found in sorted(read.magics.items()):
        is_wrong = found != magic and path.endswith(".pyc") and _is_used(layer, path, read)
        if is_wrong and not is_left_out(_module(layer, path), (*NOT_CHECKED, *skip_modules)):
            wrong.setdefault(str(read.owners.get(path, "")), []).append(path)
    for owner, files in wrong.items():
        number = int.from_bytes(read.magics[files[0]][:2], "little")
        minor = next((f" (CPython {name})" for name, each in MAGIC.items() if each == number), "")
        yield Finding(
            check="bytecode",
            layer=layer.manifest.layer,
            distribution=owner or None,
            file=files[0],
            message="has the magic number of another Python, so the bytecode is not used",
            expected=f"{MAGIC[layer.layout.python]} (CPython {layer.layout.python})",
            found=f"{number}{minor}" + (f", in {len(files)} files" if len(files) > 1 else ""),
            remedy=layer.remedy(files[0]),
        )


def _is_used(layer: DeployedLayer, path: str, read: ReadLayer) -> bool:
    directory, _, last = path.rpartition("/")
    if directory.endswith("__pycache__"):
        return f".cpython-{layer.layout.python.replace('.', '')}." in last
    # Outside of __pycache__, bytecode is only imported if there is no source (PEP 3147).
    return path.removesuffix("c") not in read.magics
