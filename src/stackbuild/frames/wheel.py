"""Make frames of wheels."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from stackbuild.frames.keys import frame_key
from stackbuild.frames.make import Part, plan_parts, run_parts
from stackbuild.frames.model import MAX_FILE_BYTES, FrameSet
from stackbuild.globs import expanded

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stackbuild.frames.cache import FrameCache
    from stackbuild.frames.wheelplan import Wheel, WheelMember
    from stackbuild.frames.wheelstream import WheelPart
    from stackbuild.layout import Layout
    from stackbuild.spec.model import FrameSettings


def wheel_key(
    sha256: str,
    layout: Layout,
    settings: FrameSettings,
    *,
    machine: str = "x86_64",
    patterns: Sequence[str] = (),
) -> str:
    """The key of the frame set that `wheel_set` makes of the wheel with this sha256."""
    launcher = ""
    if layout.os == "windows":
        launcher = f"{machine}, runtime" if layout.is_runtime else machine
    inputs = (sha256, layout.os, layout.python, launcher, *expanded(patterns))
    return frame_key("wheel", *inputs, settings=settings)


def wheel_set(
    wheel: Path,
    sha256: str,
    layout: Layout,
    settings: FrameSettings,
    cache: FrameCache,
    *,
    machine: str = "x86_64",
    patterns: Sequence[str] = (),
) -> FrameSet:
    """The frames of the distribution in `wheel`, from the cache or newly made.

    `machine` (``x86_64`` or ``aarch64``) selects the launchers for Windows; files
    that `patterns` of `exclude-files` match are left out. Raises IntegrityError, with wheel and
    file, if the sha256 of the wheel is wrong, a file does not match RECORD, or a path leaves its
    directory.
    """
    key = wheel_key(sha256, layout, settings, machine=machine, patterns=patterns)
    if found := cache.get(key):
        return found
    from stackbuild.frames.wheelplan import licence_of, metadata_of, read_wheel, verify_wheel
    from stackbuild.frames.wheelstream import stream_part

    verify_wheel(wheel, sha256)
    plan = read_wheel(wheel, patterns)
    if patterns and not plan.excluded:
        whole = wheel_set(wheel, sha256, layout, settings, cache, machine=machine)
        return cache.put(replace(whole, key=key))
    parts = _parts(plan)
    # The last part writes RECORD, of all parts.
    others = [member for part in parts[:-1] for member in part]
    stream = partial(stream_part, plan, layout, machine, settings, cache)
    results = run_parts(
        [
            Part(
                cost=_size(members),
                run=partial(
                    stream, members=members, others=others if members is parts[-1] else None
                ),
            )
            for members in parts
        ]
    )
    pth = {name: lines for result in results for name, lines in result.pth.items()}
    binaries = [binary for result in results for binary in result.binaries]
    return cache.put(
        FrameSet(
            key=key,
            frames=tuple(result.frame for result in results),
            paths=_paths(plan, results),
            entry_points=results[-1].entry_points,
            pth=tuple(line for name in sorted(pth) for line in pth[name]),
            licence=licence_of(metadata_of(plan)),
            binaries=tuple(sorted(binaries, key=lambda one: one.path)),
            excluded=plan.excluded,
        )
    )


def _parts(wheel: Wheel) -> list[list[WheelMember]]:
    """The members of each part; the last one has `.dist-info` and scripts that are rewritten."""
    last: list[WheelMember] = []
    others: list[WheelMember] = []
    for member in wheel.members:
        is_info = member.name.startswith(f"{wheel.info_directory}/")
        (last if is_info or member.names_python else others).append(member)
    parts = plan_parts(
        others, lambda member: (member.name, member.info.file_size), limit=MAX_FILE_BYTES
    )
    last.sort(key=lambda member: member.name)
    if parts and _size(parts[-1]) + _size(last) <= MAX_FILE_BYTES:
        parts[-1] += last
    else:
        parts.append(last)
    return parts


def _size(members: Sequence[WheelMember]) -> int:
    return sum(member.info.file_size for member in members)


def _paths(wheel: Wheel, results: Sequence[WheelPart]) -> tuple[str, ...]:
    paths = sorted(path for result in results for path in result.paths)
    for first, second in itertools.pairwise(paths):
        if first == second:
            raise wheel.error("two files of a wheel would be installed at the same path", first)
    return tuple(paths)
