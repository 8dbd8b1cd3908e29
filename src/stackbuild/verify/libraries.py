"""Check shared libraries: those in the chain, and those that every host has."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from stackbuild.layout import extension_module
from stackbuild.linking.search import Chain, LayerFiles, is_of_host, matches
from stackbuild.tomltext import layer_table
from stackbuild.verify.model import Finding
from stackbuild.verify.modules import is_module_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from stackbuild.frames.model import Binary
    from stackbuild.platforms import Platform
    from stackbuild.verify.deployed import DeployedLayer, Distribution
    from stackbuild.verify.expected_failures import Entry
    from stackbuild.verify.record_check import ReadLayer


def _files(layer: DeployedLayer) -> LayerFiles:
    return LayerFiles(
        name=layer.manifest.layer,
        directory=layer.manifest.directory,
        os=layer.manifest.platform.os,
        owners=dict.fromkeys((*layer.kinds, *layer.links), ""),
    )


_MISSING = "needs a shared library that neither the chain nor every host has"
_OTHER = "is not made for this processor"

_EMULATED = {"x86_64": {"i386"}, "aarch64": {"i386", "x86_64"}}
"""By processor, other processors whose programs Windows can run."""
_NAMES = {
    "i386": r"x86(?!_64)|i[3-6]86|win32",
    "x86_64": r"x86_64|amd64|x64",
    "aarch64": r"aarch64|arm64",
    "arm64e": r"arm64e",
    "arm": r"arm|armhf|armv7l?",
}
"""Processors in the names of files and directories."""


def check_libraries(
    layer: DeployedLayer,
    read: ReadLayer,
    chain: Sequence[DeployedLayer],
    host_libraries: Iterable[str],
    entries: Iterable[Entry] = (),
) -> list[Finding]:
    """Find missing libraries of `layer`, and its files for another processor.

    `host_libraries` are globs on libraries of the host, on the whole name or its last part.
    `entries` are expected import errors; an entry for a module that cannot be imported here also
    allows its library to be missing.
    """
    around = Chain([_files(one) for one in chain])
    platform, known = layer.manifest.platform, tuple(entries)
    globs = [*host_libraries, *(layer.manifest.host_libraries if chain[-1] is layer else ())]
    patterns = [glob.lower() if platform.os == "windows" else glob for glob in globs]
    missing: dict[tuple[str, str], list[str]] = {}
    others: dict[tuple[str, str], list[str]] = {}
    for path, binary in sorted(read.binaries.items()):
        owner = read.owners.get(path)
        if _is_foreign(binary, platform):
            if is_module_name(layer, path) or not _is_on_purpose(binary, path, owner):
                others.setdefault((str(owner or ""), ", ".join(binary.machines)), []).append(path)
            continue
        for name in sorted(around.missing(binary, path)):
            if not (matches(name, patterns) or _is_known(name, path, layer, owner, known)):
                missing.setdefault((str(owner or ""), name), []).append(path)
    machine = platform.machine
    build = f"use another wheel, or build the distribution for {platform}"
    add = (
        f"add a distribution that has it to the chain; if every host has it, add it to "
        f"`host-libraries` in {layer_table(layer.manifest.layer, 'verify')}"
    )
    return [
        *_findings(
            layer, _OTHER, others, lambda found, files: (machine, found + _also(files)), build
        ),
        *_findings(
            layer,
            _MISSING,
            missing,
            lambda name, files: (name, _users(files, read.binaries[files[0]], platform)),
            add,
        ),
    ]


def search_path_warnings(
    layer: DeployedLayer,
    read: ReadLayer,
    chain: Sequence[DeployedLayer],
    allow_paths: Sequence[str] = (),
) -> list[str]:
    """A warning for each distribution with files that search the host before their own directory.

    A host with such a directory may use another library. Other search paths to directories of the
    machine that built a wheel do not matter: many wheels have them after their own, or for
    libraries that they no longer need. `allow_paths` are globs on directories to ignore.
    """
    around = Chain([_files(one) for one in chain])
    found: dict[str, dict[str, list[str]]] = {}
    for path, binary in sorted(read.binaries.items()):
        place = f"{layer.manifest.directory}/{path}"
        searched = [item for name in binary.needed for item in around.abroad(binary, place, name)]
        for directory in dict.fromkeys(searched):
            if not any(fnmatchcase(directory, glob) for glob in allow_paths):
                owner = str(read.owners.get(path) or path)
                found.setdefault(owner, {}).setdefault(directory, []).append(path)
    name = layer.manifest.layer
    return [
        f"{name}: {owner} searches {', '.join(directories)} of the host before its own directories"
        f" for shared libraries, in {next(iter(directories.values()))[0]}; add globs on them to"
        f" `allow-paths` in {layer_table(name, 'verify')} if no host has them"
        for owner, directories in found.items()
    ]


def _is_foreign(binary: Binary, platform: Platform) -> bool:
    if not binary.machines or platform.machine in binary.machines:
        return False
    emulated = _EMULATED[platform.machine] if platform.os == "windows" else set()
    return not (binary.program and emulated.intersection(binary.machines))


def _is_on_purpose(binary: Binary, path: str, owner: Distribution | None) -> bool:
    """Whether a file for another processor is intended: `attach_x86.dll` in a layer for x64.

    Its name says so, or its wheel is for any platform and selects a file at run time. The name of
    a module for the interpreter of the layer does not.
    """
    if owner is not None and owner.wheel.endswith("-any.whl"):
        return True
    names = "|".join(_NAMES[machine] for machine in binary.machines if machine in _NAMES)
    return bool(names and re.search(f"(?<![a-z0-9])(?:{names})(?![a-z0-9])", path.lower()))


def _is_known(
    library: str,
    path: str,
    layer: DeployedLayer,
    owner: Distribution | None,
    entries: Sequence[Entry],
) -> bool:
    if owner is None or not entries:
        return False
    found = extension_module(path, layer.manifest.platform, layer.layout)
    return found is not None and any(
        entry.tells_of(library, owner.wheel, found[0]) for entry in entries
    )


def _findings(
    layer: DeployedLayer,
    message: str,
    groups: dict[tuple[str, str], list[str]],
    texts: Callable[[str, Sequence[str]], tuple[str, str | None]],
    remedy: str,
) -> list[Finding]:
    """A finding for each group of files with the same owner and reason, at the first file."""
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
                remedy=remedy,
            )
        )
    return findings


def _users(files: Sequence[str], first: Binary, platform: Platform) -> str | None:
    """How many files need a library, and where `first` of them searches for it on the host."""
    texts = [f"{len(files)} files that need it"] if len(files) > 1 else []
    if searched := [item for item in first.search if is_of_host(item, platform.os)]:
        texts.append(f"the search path {', '.join(searched)}")
    return "; ".join(texts) or None


def _also(files: Sequence[str]) -> str:
    return f", in {len(files)} files" if len(files) > 1 else ""
