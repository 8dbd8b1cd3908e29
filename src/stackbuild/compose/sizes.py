"""What the bytes of a layer's distributions are, from their wheels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stackbuild.errors import FetchError
from stackbuild.frames.wheelplan import read_wheel, seen_path, verify_wheel
from stackbuild.globs import first_match, is_kept
from stackbuild.lock.wheelhouse import is_in_wheelhouse, wheel_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stackbuild.frames.wheelplan import WheelMember
    from stackbuild.lock.model import LayerLock
    from stackbuild.platforms import Platform
    from stackbuild.spec.model import Layer
    from stackbuild.workspace import Workspace

_DEPTH = 2
"""Components of the directories that are told apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileGroup:
    """Files of a layer with something in common."""

    name: str
    """A distribution and its version, a directory as `exclude-files` names it, or an extension."""
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


def layer_sizes(layer: Layer, lock: LayerLock, workspace: Workspace) -> LayerSizes:
    """The sizes of what `lock` names. Raises FetchError for wheels that are not fetched yet."""
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
