"""Layers made by hand: a real interpreter, and the files that start a layer on top of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import findpython
from packaging.version import Version

from stackbuild.compose.layer_metadata import interpreter_links, pyvenv_cfg, site_files
from stackbuild.frames.files import FileContent, Link
from stackbuild.layout import Layout
from stackbuild.runtimes.contents import SITE_FILE, belongs
from stackbuild.runtimes.system import SITE_LINE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MINORS = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14")


@cache
def interpreters() -> dict[str, Path]:
    """A real interpreter of each minor version found here, by that version."""
    found: dict[str, Path] = {}
    for candidate in findpython.find_all():
        minor = f"{candidate.version.major}.{candidate.version.minor}"
        real = Path(candidate.executable).resolve()
        # One with its own standard library beside it; not a shim, nor a distribution's.
        if minor in MINORS and (real.parent.parent / "lib" / f"python{minor}" / "os.py").is_file():
            found.setdefault(minor, real)
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    found.setdefault(own, Path(sys.base_prefix, "bin", f"python{own}").resolve())
    return found


def write_files(directory: Path, files: Mapping[str, FileContent | Link | str]) -> None:
    """Write `files` below `directory`."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        match content:
            case Link(target):
                path.symlink_to(target)
            case FileContent():
                path.write_bytes(content.data)
            case str():
                path.write_text(content, encoding="utf-8")


@dataclass
class HandMade:
    """A directory with a runtime, a framework and the application `atls`."""

    directory: Path
    layout: Layout

    def python(self, *arguments: str | Path, **environment: str) -> str:
        """What the interpreter of `atls` prints."""
        return start(self.directory / "atls", *arguments, **environment)


def start(layer: Path, *arguments: str | Path, **environment: str) -> str:
    """What the interpreter of `layer` prints, with nothing of this process's environment."""
    return execute(layer / "bin" / "python", *arguments, **environment)


def execute(program: Path, *arguments: str | Path, **environment: str) -> str:
    """What `program` prints, with nothing of this process's environment."""
    done = subprocess.run(
        [program, *arguments],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


def make_layers(
    directory: Path,
    minor: str,
    *,
    framework: Mapping[str, str] | None = None,
    pth: Sequence[str] = (),
    own: Mapping[str, str] | None = None,
) -> HandMade:
    """Lay out `cpython`, `framework` and `atls` in `directory`.

    `framework` and `own` are files of the site-packages of the two layers above
    the runtime, `pth` the framework's `.pth` lines.
    """
    layout = Layout("linux", minor)
    real = interpreters()[minor]
    _runtime(directory / "cpython", layout, real)
    write_files(directory / "cpython", {"pyvenv.cfg": pyvenv_cfg("cpython", Version(f"{minor}.0"))})
    runtime_site = f"cpython/{layout.site_packages}"
    write_files(directory / runtime_site, {"of_runtime.py": "LAYER = 'cpython'\n"})
    write_files(
        directory / "framework" / layout.site_packages,
        {"of_framework.py": "LAYER = 'framework'\n", **(framework or {})},
    )
    write_files(
        directory / "atls" / layout.site_packages,
        {"of_atls.py": "LAYER = 'atls'\n", **(own or {})},
    )
    lower = (("framework", pth), ("cpython", ()))
    _activate(directory / "atls", layout, lower)
    _activate(directory / "framework", layout, lower[1:])
    return HandMade(directory, layout)


def _activate(layer: Path, layout: Layout, lower: Sequence[tuple[str, Sequence[str]]]) -> None:
    version = Version(f"{layout.python}.0")
    write_files(
        layer,
        {
            "pyvenv.cfg": pyvenv_cfg(layer.name, version),
            **interpreter_links(layout, "cpython"),
            **site_files(layout, "cpython", lower),
        },
    )


def _runtime(directory: Path, layout: Layout, real: Path) -> None:
    """The interpreter itself, and links to its standard library but for site-packages."""
    (directory / "bin").mkdir(parents=True)
    shutil.copy2(real, directory / "bin" / f"python{layout.python}")
    stdlib = directory / layout.stdlib
    stdlib.mkdir(parents=True)
    for entry in (real.parent.parent / "lib" / f"python{layout.python}").iterdir():
        if belongs(f"{layout.stdlib}/{entry.name}", layout.stdlib):
            (stdlib / entry.name).symlink_to(entry)
    # As when it is packed: without this the system's own does not see its site-packages.
    write_files(directory, {SITE_FILE.format(layout.python): SITE_LINE})
