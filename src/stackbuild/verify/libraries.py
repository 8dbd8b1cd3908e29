"""Whether each native file of a layer can be loaded: its processor, the libraries it needs."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from stackbuild.verify.loaders import neighbours
from stackbuild.verify.model import Finding
from stackbuild.verify.native import module_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from stackbuild.platforms import Platform
    from stackbuild.verify.binary import Binary
    from stackbuild.verify.deployed import DeployedLayer, Distribution
    from stackbuild.verify.known import Entry
    from stackbuild.verify.reading import ReadLayer

_MISSING = "needs a shared library that neither the chain nor every host has"
_OTHER = "is not made for this processor"

_EMULATED = {"x86_64": {"i386"}, "aarch64": {"i386", "x86_64"}}
"""Programs for other processors that Windows runs as well, by its own."""
_NAMES = {
    "i386": r"x86(?!_64)|i[3-6]86|win32",
    "x86_64": r"x86_64|amd64|x64",
    "aarch64": r"aarch64|arm64",
    "arm64e": r"arm64e",
    "arm": r"arm|armhf|armv7l?",
}
"""How the names of files and directories tell for which processor they are."""


def check_libraries(
    layer: DeployedLayer,
    read: ReadLayer,
    chain: Sequence[DeployedLayer],
    host_libraries: Iterable[str],
    entries: Iterable[Entry] = (),
) -> list[Finding]:
    """A finding for each library that a distribution of `layer` needs and nobody brings.

    And one for its files that are for another processor. Where a library may
    be is told in `loaders`; `host_libraries` are globs on further ones, on the
    whole name or its last part. `entries` are known import errors: of modules
    that cannot be imported here, those that name a library allow it to be missing.
    """
    around = neighbours(layer, chain)
    platform, known = layer.manifest.platform, tuple(entries)
    lower = platform.os == "windows"
    patterns = [glob.lower() if lower else glob for glob in host_libraries]
    missing: dict[tuple[str, str], list[str]] = {}
    others: dict[tuple[str, str], list[str]] = {}
    for path, binary in sorted(read.binaries.items()):
        owner = read.owners.get(path)
        if _is_foreign(binary, platform):
            if not _is_on_purpose(binary, path, owner):
                others.setdefault((str(owner or ""), ", ".join(binary.machines)), []).append(path)
            continue
        for name in sorted(around.missing(binary, path)):
            if not (_matches(name, patterns) or _is_known(name, path, layer, owner, known)):
                missing.setdefault((str(owner or ""), name), []).append(path)
    machine = platform.machine
    return [
        *_findings(layer, _OTHER, others, lambda found, files: (machine, found + _also(files))),
        *_findings(layer, _MISSING, missing, lambda name, files: (name, _users(files))),
    ]


def _is_foreign(binary: Binary, platform: Platform) -> bool:
    if not binary.machines or platform.machine in binary.machines:
        return False
    emulated = _EMULATED[platform.machine] if platform.os == "windows" else set()
    return not (binary.program and emulated.intersection(binary.machines))


def _is_on_purpose(binary: Binary, path: str, owner: Distribution | None) -> bool:
    """Whether a file for another processor is there for it: `attach_x86.dll` in a layer for x64.

    Its name says so, or it comes in a wheel for any platform, which brings
    files for several and picks its own.
    """
    if owner is not None and owner.wheel.endswith("-any.whl"):
        return True
    names = "|".join(_NAMES[machine] for machine in binary.machines if machine in _NAMES)
    return bool(names and re.search(f"(?<![a-z0-9])(?:{names})(?![a-z0-9])", path.lower()))


def _matches(name: str, patterns: Iterable[str]) -> bool:
    # Mach-O files name libraries by their paths; the globs of other systems know none.
    last = name.rpartition("/")[2]
    return any(fnmatchcase(name, glob) or fnmatchcase(last, glob) for glob in patterns)


def _is_known(
    library: str,
    path: str,
    layer: DeployedLayer,
    owner: Distribution | None,
    entries: Sequence[Entry],
) -> bool:
    if owner is None or not entries:
        return False
    module = module_name(layer, path)
    return module is not None and any(
        entry.tells_of(library, owner.wheel, module) for entry in entries
    )


def _findings(
    layer: DeployedLayer,
    message: str,
    groups: dict[tuple[str, str], list[str]],
    texts: Callable[[str, Sequence[str]], tuple[str, str | None]],
) -> list[Finding]:
    """A finding for each group of files with one owner and one reason, at the first of them."""
    findings = []
    for (owner, what), files in groups.items():
        expected, found = texts(what, files)
        findings.append(
            Finding(
                check="library",
                layer=layer.manifest.layer,
                distribution=owner or None,
                file=files[0],
                message=message,
                expected=expected,
                found=found,
            )
        )
    return findings


def _users(files: Sequence[str]) -> str | None:
    return f"{len(files)} files that need it" if len(files) > 1 else None


def _also(files: Sequence[str]) -> str:
    return f", in {len(files)} files" if len(files) > 1 else ""
