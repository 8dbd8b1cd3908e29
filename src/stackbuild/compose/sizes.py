"""What the bytes of a layer's distributions are, from their wheels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from stackbuild.compose.export_directory import ExportDirectory
from stackbuild.errors import FetchError
from stackbuild.frames.model import FrameKind
from stackbuild.globs import first_match, is_kept
from stackbuild.lock.wheelhouse import is_in_wheelhouse, wheel_path
from stackbuild.resolve.unused_settings import located
from stackbuild.spec.policy import on_platform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from stackbuild.compose.layer_inputs import Parts
    from stackbuild.compose.manifest import Manifest
    from stackbuild.frames.wheelplan import WheelMember
    from stackbuild.lock.model import LayerLock
    from stackbuild.platforms import Platform
    from stackbuild.spec.model import Layer, Setting, Stack
    from stackbuild.workspace import Workspace

_DEPTH = 2
"""Components of the directories that are told apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileGroup:
    """Files of a layer with something in common."""

    name: str
    """A distribution and its version, a directory as `exclude-files` names it, an extension, or a
    kind of frame."""
    files: int
    installed: int
    """The bytes of the files."""
    compressed: int
    """The bytes that they take in their wheels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSizes:
    """The files of wheels in a layer on a platform, in groups, the largest first."""

    layer: str
    platform: Platform
    total: FileGroup
    excluded: FileGroup
    """The files that `exclude-files` leaves out; no other field counts them."""
    unused: tuple[str, ...]
    """The patterns of `exclude-files` without a file; those of one distribution with its name."""
    distributions: tuple[FileGroup, ...]
    directories: tuple[FileGroup, ...]
    kinds: tuple[FileGroup, ...]
    archive: str
    """The name of the archive that was published last from this lock; empty if none was."""
    parts: tuple[FileGroup, ...]
    """What that archive contains, by `FrameKind`: bytes of tar entries, and of zstd frames."""


def layer_sizes(layer: Layer, lock: LayerLock, workspace: Workspace) -> LayerSizes:
    """The sizes of what `lock` names.

    Raises FetchError for wheels that are not fetched yet, IntegrityError for damaged ones and for
    a damaged index of the export directory.
    """
    from stackbuild.frames.wheelplan import read_wheel, seen_path, verify_wheel

    kept: list[tuple[str, WheelMember]] = []
    excluded: list[tuple[str, WheelMember]] = []
    missing = [
        item.wheel.name
        for item in lock.distributions
        if not is_in_wheelhouse(workspace, item.wheel)
    ]
    if missing:
        raise FetchError(
            "wheels of the layer are not fetched yet",
            layer=layer.name,
            platform=lock.platform,
            found=f"{len(missing)} missing: {', '.join(missing[:3])}",
            remedy=f"run stackbuild fetch --layer {layer.name} --platform {lock.platform}",
        )
    for item in lock.distributions:
        path = wheel_path(workspace, item.wheel)
        verify_wheel(path, item.wheel.sha256)
        patterns = layer.policy(lock.platform).excluded_from(item.name)
        names = {member.name for member in read_wheel(path, patterns).members}
        for member in (wheel := read_wheel(path)).members:
            (kept if member.name in names else excluded).append((wheel.subject, member))
    exports = ExportDirectory(workspace.exports)
    published = exports.current(exports.index(), layer.name, lock.platform, lock.digest)
    return LayerSizes(
        layer=layer.name,
        platform=lock.platform,
        total=_group("", [member for _, member in kept]),
        excluded=_group("", [member for _, member in excluded]),
        unused=tuple(
            pattern if name == "*" else f"{name}: {pattern}"
            for name, patterns in layer.policy(lock.platform).exclude_files.items()
            for pattern in patterns
            if not any(
                name in ("*", subject.partition(" ")[0])
                and first_match(seen_path(member), [pattern.removeprefix("!")])
                for subject, member in (kept if is_kept(pattern) else excluded)
            )
        ),
        distributions=_groups(kept, lambda subject, _: subject),
        directories=_groups(kept, lambda _, member: _directory(seen_path(member))),
        kinds=_groups(kept, lambda _, member: _kind(seen_path(member))),
        archive=published.archive.name if published else "",
        parts=tuple(_parts(published)) if published else (),
    )


def unused_patterns(stack: Stack, made: Iterable[Parts]) -> Iterator[str]:
    """A sentence for each pattern of `exclude-files` that matches no file of `made`.

    A pattern that also holds for other layers on these platforms may match a file there.
    """
    parts = {(one.target.layer.name, one.target.platform): one for one in made}
    platforms = {platform for _, platform in parts}
    places: dict[str, tuple[str, str, list[tuple[str, Platform]]]] = {}
    for layer, platform in stack.pairs():
        if platform in platforms:
            named = on_platform(layer.settings, platform).get("exclude-files", {})
            for name, patterns in cast("Mapping[str, tuple[Setting, ...]]", named).items():
                for one in patterns:
                    entry = places.setdefault(one.place, (name, str(one.value), []))
                    entry[2].append((layer.name, platform))
    for place, (name, pattern, pairs) in places.items():
        if all(pair in parts for pair in pairs) and not any(
            _matches(parts[pair], name, pattern) for pair in pairs
        ):
            file, line, inner = located(stack, place)
            layers = ", ".join(dict.fromkeys(layer for layer, _ in pairs))
            where = ", ".join(sorted({platform for _, platform in pairs}))
            wheels = "the wheels" if name == "*" else f"wheels of {name}"
            yield (
                f"{file}, line {line}: {inner}: {pattern!r} matches no file of {wheels} in {layers}"
                f" on {where}; correct or remove it"
            )


def _matches(parts: Parts, name: str, pattern: str) -> bool:
    """Whether a file of the distributions `name` in the wheels of `parts` matches `pattern`."""
    inside = f"{parts.target.layout.site_packages}/"
    return any(
        first_match(path.removeprefix(inside), [pattern.removeprefix("!")])
        for one in parts.distributions
        if name in ("*", one.frames[0].subject.partition(" ")[0])
        for path in (one.paths if is_kept(pattern) else one.excluded)
    )


def _parts(manifest: Manifest) -> Iterator[FileGroup]:
    for kind in FrameKind:
        if frames := [one.frame for one in manifest.frames if one.frame.kind is kind]:
            yield FileGroup(
                name=kind,
                files=sum(frame.files for frame in frames),
                installed=sum(frame.content_size for frame in frames),
                compressed=sum(frame.size for frame in frames),
            )


def _groups(
    files: Sequence[tuple[str, WheelMember]], name: Callable[[str, WheelMember], str]
) -> tuple[FileGroup, ...]:
    """`files` by the name that `name` gives them."""
    found: dict[str, list[WheelMember]] = {}
    for subject, member in files:
        found.setdefault(name(subject, member), []).append(member)
    groups = (_group(word, members) for word, members in found.items())
    return tuple(sorted(groups, key=lambda one: (-one.installed, one.name)))


def _group(name: str, members: Sequence[WheelMember]) -> FileGroup:
    return FileGroup(
        name=name,
        files=len(members),
        installed=sum(member.info.file_size for member in members),
        compressed=sum(member.info.compress_size for member in members),
    )


def _directory(path: str) -> str:
    return "/".join((*path.split("/")[:-1][:_DEPTH], "")) or "./"


def _kind(path: str) -> str:
    """``*.so`` also for ``libx.so.1``; the whole name of a file without an extension."""
    name = path.rpartition("/")[2]
    if ".so." in name:
        return "*.so.*"
    stem, dot, extension = name.rpartition(".")
    return f"*.{extension}" if stem and dot else name
