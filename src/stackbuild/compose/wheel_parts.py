"""The wheels that frames of layers are made of: the keys of the frames, and fetching."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stackbuild.errors import StackbuildError
from stackbuild.frames.bytecode import bytecode_key
from stackbuild.frames.sources import WheelSources
from stackbuild.frames.wheel import wheel_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stackbuild.compose.layer_inputs import LayerTarget, Outcomes
    from stackbuild.lock.model import LockedDistribution
    from stackbuild.messages import Messages
    from stackbuild.platforms import Platform
    from stackbuild.runtimes.model import Interpreter
    from stackbuild.spec.model import FrameSettings, Stack
    from stackbuild.workspace import Workspace


class Wanted(NamedTuple):
    """A wheel whose frames are needed, and the keys of its frame sets."""

    target: LayerTarget
    item: LockedDistribution
    keys: tuple[str, ...]
    """That of its files, and that of its bytecode if needed."""


def excluded_patterns(target: LayerTarget, item: LockedDistribution) -> tuple[str, ...]:
    """The patterns of `exclude-files` for a distribution of the layer."""
    return target.layer.policy(target.platform).excluded_from(item.name)


def files_key(target: LayerTarget, item: LockedDistribution, settings: FrameSettings) -> str:
    """The key of the frames of the files of a wheel."""
    return wheel_key(
        item.wheel.sha256,
        target.layout,
        settings,
        machine=target.platform.machine,
        patterns=excluded_patterns(target, item),
    )


def compiled_key(
    target: LayerTarget,
    item: LockedDistribution,
    compiler: Interpreter | None,
    settings: FrameSettings,
) -> str | None:
    """The key of the frames of the bytecode of a wheel; None without a `compiler`."""
    if compiler is None:
        return None
    sources = WheelSources(
        Path(item.wheel.name), item.wheel.sha256, target.layout, excluded_patterns(target, item)
    )
    return bytecode_key(sources, compiler, target.layout, settings)


def fetch_wheels(
    missing: Sequence[Wanted],
    stack: Stack,
    workspace: Workspace,
    messages: Messages,
    outcomes: Outcomes,
) -> dict[str, Path]:
    """The wheels of `missing`, by sha256. Those that are not available fail in `outcomes`."""
    if not missing:
        return {}
    from stackbuild.builds import wheel_rebuilder
    from stackbuild.lock.wheelhouse import fetch, is_in_wheelhouse, not_built_yet, wheel_path

    grouped: dict[tuple[str, Platform], list[Wanted]] = {}
    for one in missing:
        grouped.setdefault((one.target.layer.name, one.target.platform), []).append(one)
    locks = [
        replace(group[0].target.lock, distributions=tuple(one.item for one in group))
        for group in grouped.values()
    ]
    rebuild = wheel_rebuilder(stack, workspace, messages)
    if workspace.original:
        rebuild = not_built_yet
    try:
        return fetch(stack, workspace, locks, messages, rebuild=rebuild)
    except StackbuildError as error:
        # All available wheels are downloaded now; do not try the others again.
        for one in missing:
            if not is_in_wheelhouse(workspace, one.item.wheel):
                for key in one.keys:
                    outcomes.put(key, error)
    wheels = (one.item.wheel for one in missing)
    return {wheel.sha256: wheel_path(workspace, wheel) for wheel in wheels}
