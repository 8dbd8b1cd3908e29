"""Interpreters of the machine that runs the tests, and stacks made of one runtime."""

from __future__ import annotations

import functools
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from packaging.version import Version

from stackbuild.platforms import Platform, host_platform
from stackbuild.processes import clean_environment
from stackbuild.runtimes.probe import Facts, candidates, find_interpreters, objection
from stackbuild.spec.model import FrameSettings, Layer, LayerKind, RuntimeSettings, Stack
from stackbuild.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MINORS = ("3.12", "3.11", "3.13", "3.10", "3.14")
"""In the order in which tests like them."""


@functools.cache
def interpreters(minor: str) -> tuple[Facts, ...]:
    """The interpreters of a minor version: those that can be packed first, the system's last."""
    found = find_interpreters(minor, candidates())
    return tuple(
        sorted(
            found,
            key=lambda facts: (facts.is_system, objection(facts, host_platform()) is not None),
        )
    )


@functools.cache
def packable(minor: str | None = None) -> Facts:
    """An interpreter that can be packed, of `minor` or of any version. Skips without one."""
    found = [facts for name in ([minor] if minor else MINORS) for facts in interpreters(name)]
    for facts in sorted(found, key=lambda facts: facts.is_system):
        if objection(facts, host_platform()) is None:
            return facts
    pytest.skip(f"no interpreter here can be packed: {minor or 'any version'}")


@functools.cache
def unshare_command() -> tuple[str, ...] | None:
    """The command that starts another one in a mount namespace, where that is allowed."""
    if shutil.which("unshare") is None:
        return None
    for options in ([], ["--map-root-user"]):
        command = ["unshare", *options, "--mount"]
        probe = [*command, "sh", "-c", "mount -t tmpfs none /mnt"]
        if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            return tuple(command)
    return None


def without(directory: Path, command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    """Run `command` where `directory` is empty. Skips where mount namespaces are not allowed."""
    unshare = unshare_command()
    if unshare is None:
        pytest.skip("this machine allows no mount namespaces")
    script = 'mount -t tmpfs none "$1" && shift && exec "$@"'
    return subprocess.run(
        [*unshare, "sh", "-c", script, "sh", directory, *command],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(),
        cwd="/",
    )


def runtime_stack(
    directory: Path, version: str, settings: RuntimeSettings | None = None
) -> tuple[Stack, Layer]:
    """A stack of nothing but the runtime ``cpython``, and that runtime."""
    layer = Layer(
        name="cpython",
        kind=LayerKind.RUNTIME,
        requirements=(),
        platforms=tuple(Platform),
        runtime="cpython",
        frameworks=(),
        runtime_settings=settings or RuntimeSettings(),
    )
    stack = Stack(
        path=directory / "venvstacks.toml",
        layers={"cpython": layer},
        python_versions={"cpython": Version(version)},
        platforms=tuple(Platform),
        frames=FrameSettings(),
    )
    return stack, layer


def workspace_in(directory: Path) -> Workspace:
    """A workspace whose cache is in `directory`, too."""
    return Workspace(project=directory, cache=directory / "cache", jobs=2)


class Listener:
    """Messages that are kept."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    from stackbuild.messages import Silent as _Silent

    task = _Silent.task
