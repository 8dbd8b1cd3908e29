"""Locks of layers and platforms that are no longer in the spec."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.files import is_inside
from stackbuild.lock.files import is_ours, lock_path, runtime_lock_path
from stackbuild.spec.model import LayerKind

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from stackbuild.spec.model import Stack
    from stackbuild.workspace import Workspace


def find_leftovers(stack: Stack, workspace: Workspace) -> tuple[Path, ...]:
    """The files that `stackbuild lock` wrote for what the stack no longer has, sorted."""
    wanted = {lock_path(workspace, layer.name, platform) for layer, platform in stack.pairs()}
    wanted |= {
        runtime_lock_path(workspace, layer.name)
        for layer in stack.layers.values()
        if layer.kind is LayerKind.RUNTIME
    }
    found = {*workspace.layers.glob("*/pylock.*.toml"), *workspace.layers.glob("*/runtime.toml")}
    project = workspace.project
    return tuple(
        path for path in sorted(found - wanted) if is_inside(path, project) and is_ours(path)
    )


def remove_leftovers(paths: Iterable[Path]) -> None:
    """Remove the files, and the directories that become empty."""
    for path in paths:
        path.unlink()
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
