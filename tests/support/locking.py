"""A project with a stack, and an index on loopback that its locks are made from."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tomli

from stackbuild.lock.files import lock_path, read_lock
from stackbuild.messages import Silent
from stackbuild.platforms import Platform
from stackbuild.resolve.lock_stack import lock_stack
from stackbuild.spec.reader import load_stack
from stackbuild.workspace import Workspace, open_workspace
from tests.support.index import IndexServer
from tests.support.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stackbuild.lock.model import LayerLock
    from stackbuild.resolve.lock_stack import LockReport
    from stackbuild.spec.model import Stack

RUNTIME = """
[[runtimes]]
name = "rt"
python_implementation = "cpython@3.12.10"
requirements = []
"""

LINUX = "cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64"
ARM = "cp312-cp312-manylinux_2_17_aarch64.manylinux2014_aarch64"
MAC = "cp312-cp312-macosx_11_0_arm64"
MAC_X64 = "cp312-cp312-macosx_10_9_x86_64"
WINDOWS = "cp312-cp312-win_amd64"


@dataclass
class Project:
    """A project directory and the index its spec names as the default one."""

    directory: Path
    index: IndexServer

    @property
    def workspace(self) -> Workspace:
        """A workspace with a cache of its own."""
        cache = self.directory.parent / "cache"
        return open_workspace(self.directory, cache=cache)

    @property
    def stack(self) -> Stack:
        """The stack as the spec says it now."""
        return load_stack(self.directory / "venvstacks.toml")

    def write(self, layers: str, *, runtime: str = RUNTIME, address: str | None = None) -> None:
        """Write the spec: the runtime `rt`, `layers`, and the index as the default one."""
        self.directory.mkdir(parents=True, exist_ok=True)
        index = f'[[tool.uv.index]]\nurl = "{address or self.index.url}"\ndefault = true\n'
        (self.directory / "venvstacks.toml").write_text(f"{runtime}\n{layers}\n{index}")

    def wheel(self, name: str, version: str, *tags: str, requires: tuple[str, ...] = ()) -> None:
        """Put wheels of a distribution into the index, one for each tag."""
        for tag in tags or ("py3-none-any",):
            files = {f"{name.replace('-', '_')}.py": f"version = {version!r}\n"}
            make_wheel(self.index.directory, name, version, files, requires=requires, tag=tag)

    def lock(self, **options: Any) -> LockReport:
        """Lock everything, or what `options` say."""
        return lock_stack(self.stack, self.workspace, Silent(), **options)

    def path(self, layer: str, platform: str = "linux-x64") -> Path:
        """Where a lock is."""
        return lock_path(self.workspace, layer, Platform(platform))

    def read(self, layer: str, platform: str = "linux-x64") -> LayerLock:
        """A lock."""
        return read_lock(self.path(layer, platform))

    def versions(self, layer: str, platform: str = "linux-x64") -> dict[str, str]:
        """The versions that a lock names."""
        return {item.name: str(item.version) for item in self.read(layer, platform).distributions}

    def raw(self, layer: str, platform: str = "linux-x64") -> dict[str, Any]:
        """A lock as plain TOML values."""
        return tomli.loads(self.path(layer, platform).read_text())


@contextmanager
def open_project(
    directory: Path,
    *,
    json: bool = False,
    user: str | None = None,
    password: str | None = None,
) -> Iterator[Project]:
    """A project in `directory`, its index running."""
    wheels = directory / "index"
    wheels.mkdir()
    with IndexServer(wheels, json=json, user=user, password=password) as index:
        yield Project(directory / "project", index)


def framework(name: str, *requirements: str, extra: str = "") -> str:
    """The spec of a framework on `rt`."""
    return _layer("frameworks", name, requirements, f'runtime = "rt"\n{extra}')


def application(name: str, on: str, *requirements: str, extra: str = "") -> str:
    """The spec of an application on the framework `on`."""
    return _layer("applications", name, requirements, f'frameworks = ["{on}"]\n{extra}')


def _layer(kind: str, name: str, requirements: tuple[str, ...], extra: str) -> str:
    listed = ", ".join(f'"{item}"' for item in requirements)
    return f'[[{kind}]]\nname = "{name}"\nrequirements = [{listed}]\n{extra}\n'


def only(*platforms: Platform) -> str:
    """The `platforms` of a layer."""
    return f"platforms = {[item.venvstacks_name for item in platforms]}\n"
