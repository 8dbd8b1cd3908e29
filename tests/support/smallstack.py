"""A project whose layers hold small real wheels, locked without an index."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name
from packaging.version import Version

from stackbuild.compose.publish import PublishOptions, publish
from stackbuild.lock.current import Locks
from stackbuild.lock.files import write_locks
from stackbuild.lock.inputs import inputs_of
from stackbuild.lock.model import (
    Build,
    LayerLock,
    LeftOut,
    LockedDistribution,
    LockedFile,
    RuntimeLock,
    content_digest,
)
from stackbuild.messages import Silent
from stackbuild.platforms import Platform, parse_platform
from stackbuild.spec.model import LayerKind
from stackbuild.spec.reader import load_stack
from stackbuild.spec.select import select
from stackbuild.workspace import Workspace, open_workspace
from tests.support.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from stackbuild.compose.report import PublishReport
    from stackbuild.spec.model import Stack

SPEC = """\
[[runtimes]]
name = "cpython"
python_implementation = "cpython@{python}"
requirements = []
{platforms}

[[frameworks]]
name = "base"
runtime = "cpython"
requirements = ["lib"]
{more_base}
{platforms}

[[applications]]
name = "app"
frameworks = ["base"]
launch_module = "launch/app.py"
support_modules = ["launch/helping"]
requirements = ["tool"]
{platforms}
{more_app}

[tool.stackbuild.frames]
level = 1
bytecode = {bytecode}
patches = {patches}

[tool.stackbuild.layers.cpython]
sources = ["local"]
{more}
"""


@dataclass
class SmallStack:
    """The runtime `cpython`, the framework `base` with `lib`, the application `app` with `tool`."""

    directory: Path
    cache: Path
    python: str = "3.12.10"
    bytecode: bool = False
    patches: int = 1
    more: str = ""
    more_app: str = ""
    more_base: str = ""
    platforms: tuple[str, ...] = ()
    """Of all layers; the default ones if empty."""
    built: frozenset[str] = frozenset()
    """Distributions whose wheels were built from source, as their locks say."""
    omitted: Mapping[str, tuple[LeftOut, ...]] = field(default_factory=dict)
    """What the locks of layers leave out."""
    wheels: dict[str, list[Path]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.write("launch/app.py", "import helping\nprint('app', helping.word)\n")
        self.write("launch/helping/__init__.py", "word = 'helps'\n")
        self.write("launch/helping/__pycache__/old.pyc", "stale")
        self.wheel(
            "base",
            "lib",
            "1.0",
            {"lib/__init__.py": "def main():\n    import sys\n    print('lib', sys.prefix)\n"},
            console_scripts={"lib-tool": "lib:main", "shared": "lib:main"},
            metadata_lines=("License-Expression: MIT",),
            dist_info={"licenses/LICENSE": "May be used.\n"},
        )
        self.wheel(
            "app",
            "tool",
            "2.0",
            {"tool.py": "def main():\n    print('tool')\n"},
            console_scripts={"shared": "tool:main"},
        )

    def write(self, path: str, text: str) -> None:
        """Write a file of the project."""
        target = self.directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def wheel(
        self, layer: str, name: str, version: str, files: Mapping[str, bytes | str], **options: Any
    ) -> Path:
        """Make a wheel and add it to a layer, in place of an older one."""
        path = make_wheel(self.directory / "wheelhouse", name, version, files, **options)
        others = [one for one in self.wheels.get(layer, []) if one.name.split("-")[0] != name]
        self.wheels[layer] = [*others, path]
        return path

    @property
    def workspace(self) -> Workspace:
        return open_workspace(self.directory, cache=self.cache)

    @property
    def exports(self) -> Path:
        return self.directory / "exports"

    @property
    def spec(self) -> Path:
        return self.directory / "venvstacks.toml"

    def lock(self) -> Stack:
        """Write the spec and locks that fit it."""
        self.spec.write_text(
            SPEC.format(
                python=self.python,
                bytecode=str(self.bytecode).lower(),
                patches=self.patches,
                more=self.more,
                more_app=self.more_app,
                more_base=self.more_base,
                platforms=f"platforms = {list(self.platforms)}" if self.platforms else "",
            )
        )
        stack = load_stack(self.spec)
        python = Version(self.python)
        settings = stack.layers["cpython"].runtime_settings
        downloads = dict(settings.downloads) if settings else {}
        runtime = RuntimeLock(
            layer="cpython",
            python_version=python,
            archives=downloads,
            from_spec=frozenset(downloads),
        )
        made: dict[tuple[str, Platform], LayerLock] = {}
        for layer, platform in stack.pairs():
            lower = [made[name, platform] for name in layer.lower]
            archive = downloads.get(platform) if layer.kind is LayerKind.RUNTIME else None
            interpreter = archive.sha256 if archive else None
            wheels = (_locked(path, self.built) for path in self.wheels.get(layer.name, []))
            distributions = tuple(sorted(wheels, key=lambda one: one.name))
            own = Locks(stack, self.workspace).own(layer, platform, lower)
            lock = LayerLock(
                layer=layer.name,
                platform=platform,
                python_version=python,
                requirements=tuple(sorted(map(str, layer.requirements))),
                inputs=inputs_of(stack, layer, platform, lower, interpreter).digest,
                version=3,
                locked_at="2024-01-01T00:00:00Z",
                distributions=distributions,
                inherited=(),
                digest=content_digest(distributions, interpreter, own),
                own=own,
                interpreter=interpreter,
                omitted=self.omitted.get(layer.name, ()),
            )
            made[layer.name, platform] = lock
        write_locks(self.workspace, [runtime], made.values())
        return stack

    def publish(
        self, layers: Iterable[str] = ("base", "app"), platform: str = "linux-x64", **options: Any
    ) -> PublishReport:
        """Lock, and publish `layers` alone."""
        self.lock()
        return self.publish_locked(layers, platform, **options)

    def publish_locked(
        self, layers: Iterable[str] = ("base", "app"), platform: str = "linux-x64", **options: Any
    ) -> PublishReport:
        """Publish `layers` alone, with the locks as they are."""
        stack = load_stack(self.spec)
        pairs = select(stack, list(layers), [parse_platform(platform)], with_chain=False)
        to = options.pop("to", self.exports)
        messages = options.pop("messages", Silent())
        how = PublishOptions(**options)
        return publish(stack, self.workspace, messages, pairs=pairs, to=to, options=how)


def _locked(wheel: Path, built: Collection[str]) -> LockedDistribution:
    name, version = wheel.name.split("-")[:2]
    data = wheel.read_bytes()
    file = LockedFile(name=wheel.name, size=len(data), sha256=hashlib.sha256(data).hexdigest())
    source = LockedFile(name=f"{name}-{version}.tar.gz", size=1, sha256="5" * 64)
    return LockedDistribution(
        name=canonicalize_name(name),
        version=Version(version),
        wheel=file,
        source=source if name in built else None,
        build=Build(recipe="7" * 64) if name in built else None,
    )
