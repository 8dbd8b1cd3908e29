"""Composes one layer on one platform from its parts.

The order of an archive: the interpreter, the distributions by name, their
bytecode, wheels as files, the overlays, edited copies of native files (`linking.editing`), the
layer's own modules, the bytecode of overlays and modules, the head. If two frames
contain one path, `tar -x` and `stackbuild install` use the later one. So overlays
replace files of distributions, and the head could replace any file.
"""

from __future__ import annotations

import posixpath
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from stackbuild import __version__
from stackbuild.compose.conflicts import Claim, case_only, file_as_directory, owners, same_path
from stackbuild.compose.layer_metadata import (
    Licensed,
    chain_scripts,
    chain_variables,
    head_files,
    licence_files,
    variable_files,
)
from stackbuild.compose.manifest import Archive, ChainLink, Manifest, PlacedFrame, Shipped
from stackbuild.compose.serialize import body_digest
from stackbuild.errors import ComposeError
from stackbuild.frames.bytecode import pyc_path
from stackbuild.frames.contents import read_files, read_resolved
from stackbuild.frames.files import FileContent, Link, files_set
from stackbuild.frames.keys import library_version
from stackbuild.frames.model import FORMAT_VERSION, FrameKind
from stackbuild.names import path_fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stackbuild.compose.conflicts import Clash
    from stackbuild.compose.layer_inputs import Parts
    from stackbuild.frames.cache import FrameCache
    from stackbuild.frames.model import Frame, FrameSet
    from stackbuild.spec.model import FrameSettings

_UNWRITTEN = Archive(name="", size=0, sha256="")

_OVERLAY = "an overlay"
_OWN = "the layer itself"


class Composition(NamedTuple):
    """A composed layer, ready to be written."""

    manifest: Manifest
    """Complete except for its archive."""
    sets: tuple[FrameSet, ...]
    """In the order of the archive."""


def compose(parts: Parts, settings: FrameSettings, cache: FrameCache) -> Composition:
    """Compose a layer from its parts; only its head is new.

    Raises ComposeError if two parts have one path, and IntegrityError if the frame
    cache is damaged.
    """
    replaced = _check_distributions(parts, cache)
    head = files_set(
        FrameKind.HEAD,
        parts.target.layer.name,
        _head(parts, replaced, cache),
        settings,
        cache,
        end=True,
    )
    _check_all(parts, head)
    sets = tuple(
        frame_set
        for frame_set in (
            parts.interpreter,
            *parts.distributions,
            *parts.bytecode,
            *parts.packages,
            parts.overlay,
            *parts.edited,
            parts.modules,
            *parts.own_bytecode,
            head,
        )
        if frame_set is not None
    )
    return Composition(manifest=_manifest(parts, sets, settings), sets=sets)


# Conflicts.


def _subject(frame_set: FrameSet) -> str:
    return frame_set.frames[0].subject


def _claims(parts: Parts) -> list[Claim]:
    """The paths of the interpreter, the distributions, and the wheels that are files."""
    return [Claim(_subject(item), item.paths) for item in _contents(parts)]


def _contents(parts: Parts) -> list[FrameSet]:
    interpreter = [parts.interpreter] if parts.interpreter else []
    return [*interpreter, *parts.distributions, *parts.packages]


def _check_distributions(parts: Parts, cache: FrameCache) -> set[str]:
    """Check that no two distributions, and no overlay without `overwrite`, share a path.

    Returns the paths of distributions that overlays replace.
    """
    claims = _claims(parts)
    for clash in same_path(claims):
        _check_same_content(parts, clash, cache)
    owned = owners(claims)
    overlay = parts.overlay.paths if parts.overlay else ()
    replaced = {path for path in overlay if path in owned and not path.endswith("/")}
    for path in sorted(replaced - parts.overwriting):
        raise _error(
            parts,
            f"an overlay and {owned[path]} both have {path}",
            path,
            distribution=owned[path],
            remedy="give the overlay's entry in copy-files another `to`, or `overwrite = true`",
        )
    _check_bytecode(parts, replaced)
    return replaced


def _check_same_content(parts: Parts, clash: Clash, cache: FrameCache) -> None:
    """Two distributions may share a file only if its contents are the same."""
    contents = [
        read_files(item.frames, [clash.path], cache)
        for item in _contents(parts)
        if _subject(item) in {clash.first, clash.second} and clash.path in item.paths
    ]
    if any(content != contents[0] for content in contents):
        raise _error(
            parts,
            f"{clash.first} and {clash.second} both have {clash.path}, with different contents",
            clash.path,
            distribution=clash.second,
            remedy="leave one of the two out of the layer, or move it to another layer",
        )


def _check_bytecode(parts: Parts, replaced: Iterable[str]) -> None:
    """Bytecode of a replaced module must be replaced too: it is used unchecked (PEP 552)."""
    before = {path for item in parts.bytecode for path in item.paths}
    after = {path for item in parts.own_bytecode for path in item.paths}
    for path in sorted(replaced):
        compiled = pyc_path(path, parts.target.layout)
        if path.endswith(".py") and compiled in before and compiled not in after:
            raise _error(
                parts,
                f"the overlay's {path} does not compile, but the module that it replaces does",
                path,
                remedy="correct it; otherwise the bytecode of the replaced module would be used",
            )


def _check_all(parts: Parts, head: FrameSet) -> None:
    """Check that all paths of the layer can exist together."""
    claims = _claims(parts)
    claims += [Claim(_OVERLAY, parts.overlay.paths)] if parts.overlay else []
    claims += [Claim(_OWN, item.paths) for item in (parts.modules, head) if item]
    owned = owners(claims)
    _check_names(parts, owned)
    for clash in file_as_directory(owned):
        raise _error(
            parts,
            f"{clash.other} is a file in {clash.first} and a directory in {clash.second}",
            clash.path,
            remedy="leave one of the two out of the layer",
        )
    for clash in case_only(owned, parts.target.layout.os):
        raise _error(
            parts,
            f"{clash.other} ({clash.first}) and {clash.path} ({clash.second}) differ only"
            " by case, which this platform ignores",
            clash.path,
            remedy="leave one of the two out of the layer",
        )


def _check_names(parts: Parts, owned: Mapping[str, str]) -> None:
    """Check that the platform can have the names of all files."""
    os = parts.target.layout.os
    if os != "windows":
        return  # Other systems have no more rules than the tar format.
    for path, owner in owned.items():
        if fault := path_fault(path.removesuffix("/"), os):
            raise _error(
                parts,
                f"a file of {owner} {fault}",
                path,
                distribution=owner,
                remedy=f"leave it out of the layer on {parts.target.platform}, or rename the file",
            )


def _error(
    parts: Parts, message: str, path: str, *, remedy: str, distribution: str | None = None
) -> ComposeError:
    return ComposeError(
        message,
        layer=parts.target.layer.name,
        platform=parts.target.platform,
        distribution=distribution,
        file=path,
        remedy=remedy,
    )


# The head.


def _head(parts: Parts, replaced: set[str], cache: FrameCache) -> dict[str, FileContent | Link]:
    """The files of the head, without those that overlays with `overwrite` replace."""
    target = parts.target
    own = head_files(target.layer, target.layout, target.lock, parts.lower, parts.dll_directories)
    own |= variable_files(chain_variables(target, parts.lower), target.layout)
    own |= licence_files(_licensed(parts), target.layout)
    claims = _claims(parts)
    if parts.overlay:
        claims.append(Claim(_OVERLAY, parts.overlay.paths))
    made = {*own, *(parts.modules.paths if parts.modules else ())}
    _check_own(parts, claims, made - parts.overwriting)
    taken = {*own, *(path for claim in claims for path in claim.paths)}
    files = {path: content for path, content in own.items() if path not in parts.overwriting}
    files |= chain_scripts(parts.lower, target.layout, target.platform, taken)
    files |= _library_links(parts)
    return {**files, **_records(parts, replaced, cache)}


def _check_own(parts: Parts, claims: Iterable[Claim], made: set[str]) -> None:
    """Check that generated files are replaced only by overlays with `overwrite`."""
    for claim in claims:
        for path in sorted(made.intersection(claim.paths)):
            raise _error(
                parts,
                f"{claim.owner} has {path}, which stackbuild generates",
                path,
                distribution=None if claim.owner == _OVERLAY else claim.owner,
                remedy="give the overlay's entry in copy-files another `to`, or `overwrite = true`"
                if claim.owner == _OVERLAY
                else "give the layer's module another name, or leave the distribution out",
            )


def _licensed(parts: Parts) -> list[Licensed]:
    items = []
    if parts.interpreter and parts.runtime:
        version = str(parts.runtime.version)
        items.append(Licensed(name="cpython", version=version, frame_set=parts.interpreter))
    for item, frame_set in zip(parts.target.lock.distributions, parts.distributions, strict=True):
        items.append(Licensed(name=item.name, version=str(item.version), frame_set=frame_set))
    return items


def _library_links(parts: Parts) -> dict[str, FileContent | Link]:
    """The links to the shared libraries of other distributions and layers."""
    directory = parts.target.directory
    return {
        path: Link(posixpath.relpath(target, posixpath.dirname(f"{directory}/{path}")))
        for path, target in parts.linking.links.items()
    }


def _records(parts: Parts, replaced: set[str], cache: FrameCache) -> dict[str, FileContent | Link]:
    """Corrected RECORDs of the distributions with `replaced` or edited files."""
    site = parts.target.layout.site_packages
    contents: dict[str, bytes | None] = {}
    if replaced and parts.overlay:
        contents |= read_resolved(parts.overlay.frames, replaced, cache)
    for item in parts.edited:
        contents |= read_files(item.frames, item.paths, cache)
    if not contents:
        return {}
    from stackbuild.record import corrected, record_paths

    files: dict[str, FileContent | Link] = {}
    for item in parts.distributions:
        for path in record_paths(item.paths, site):
            if path not in replaced and not contents.keys().isdisjoint(item.paths):
                # It is in the last frame of its distribution.
                record = read_files(item.frames[::-1], [path], cache)[path]
                files[path] = FileContent(data=corrected(record, contents, site))
    return files


# The manifest.


def _manifest(parts: Parts, sets: Sequence[FrameSet], settings: FrameSettings) -> Manifest:
    target = parts.target
    runtime = parts.runtime
    manifest = Manifest(
        layer=target.layer.name,
        kind=target.layer.kind,
        platform=target.platform,
        directory=target.directory,
        python_version=str(runtime.version if runtime else target.lock.python_version),
        lock=target.lock.digest,
        digest="",
        chain=tuple(
            ChainLink(
                layer=lower.target.layer.name,
                kind=lower.target.layer.kind,
                directory=lower.directory,
                lock=lower.target.lock.digest,
            )
            for lower in parts.lower
        ),
        frames=_placed([frame for frame_set in sets for frame in frame_set.frames]),
        archive=_UNWRITTEN,
        distributions=tuple(
            Shipped(
                name=item.name,
                version=str(item.version),
                wheel=item.wheel.name,
                sha256=item.wheel.sha256,
            )
            for item in target.lock.distributions
        ),
        skipped=target.lock.skipped,
        omitted=target.lock.omitted,
        environment=chain_variables(target, parts.lower),
        provenance=_provenance(parts, settings),
    )
    return replace(manifest, digest=body_digest(manifest))


def _placed(frames: Iterable[Frame]) -> tuple[PlacedFrame, ...]:
    placed: list[PlacedFrame] = []
    offset = 0
    for frame in frames:
        placed.append(PlacedFrame(frame=frame, offset=offset))
        offset += frame.size
    return tuple(placed)


def _provenance(parts: Parts, settings: FrameSettings) -> dict[str, object]:
    """How the layer was made; independent of the machine, the user and the time."""
    provenance: dict[str, object] = {
        "stackbuild": __version__,
        "frame_format": FORMAT_VERSION,
        "zstd": library_version(),
        "level": settings.level,
        "bytecode": parts.compiled_by,
    }
    if built := [item.name for item in parts.target.lock.distributions if item.source]:
        provenance["built"] = [str(name) for name in built]
    if parts.linking.edits:
        provenance["edited"] = {path: dict(one) for path, one in parts.linking.edits.items()}
    if parts.linking.copies:
        provenance["copied"] = dict(parts.linking.copies)
    if parts.runtime:
        provenance["runtime"] = {
            "source": parts.runtime.source,
            "origin": parts.runtime.origin,
            "sha256": parts.runtime.sha256,
            "stands_in": parts.runtime.stands_in,
            "host_libraries": list(parts.runtime.host_libraries),
        }
    return provenance
