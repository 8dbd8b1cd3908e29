"""What both sides are given: one archive of an interpreter, one spec, one set of files."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import os
import shutil
import sys
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

import findpython
import tomlkit

from bench.measure import BenchError, Place, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

APPLICATION = "atls"
"""The application that is installed and started."""
FOREIGN_SETTINGS = ("UV_", "PIP_", "PYTHON", "PBS_", "PDM_", "STACKBUILD_", "VIRTUAL_ENV")
"""What the caller's environment must not change; proxies and certificates stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """An interpreter, packed as python-build-standalone packs them (`install_only`)."""

    path: Path
    version: str
    """Of the interpreter in it: ``3.12.1``."""

    @property
    def sha256(self) -> str:
        """Of the file, hex."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """The stack of the repository, as far as the bench must know of it."""

    path: Path
    runtime: str
    minor: str
    """Of the runtime: ``3.12``."""
    frameworks: tuple[str, ...]
    """Those below `APPLICATION`, lowest first."""


def clean_environment() -> dict[str, str]:
    """The caller's environment without the settings of Python and its tools."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN_SETTINGS)}
    return kept | {"NO_PROXY": "127.0.0.1"}


def read_spec(path: Path) -> Spec:
    """What the bench needs of the spec file at `path`."""
    document = cast("Mapping[str, Any]", tomlkit.parse(path.read_text()).unwrap())
    runtime = document["runtimes"][0]
    application = next(a for a in document["applications"] if a["name"] == APPLICATION)
    version = runtime["python_implementation"].partition("@")[2]
    return Spec(
        path=path,
        runtime=runtime["name"],
        minor=".".join(version.split(".")[:2]),
        frameworks=tuple(reversed(application["frameworks"])),
    )


def pack_interpreter(spec: Spec, to: Path, place: Place, stackbuild: Path) -> Archive:
    """An archive of an interpreter of this machine, made once by `stackbuild runtime pack`.

    Raises BenchError where there is none of the runtime's minor version.
    """
    major, minor = map(int, spec.minor.split("."))
    found = findpython.find(major, minor)
    if found is None:
        raise BenchError(f"no CPython {spec.minor} on this machine to make a runtime of")
    version = str(found.version)
    if not (archives := _archives(to, version)):
        to.mkdir(parents=True, exist_ok=True)
        run([stackbuild, "runtime", "pack", found.real_path, "--to", to], place)
        archives = _archives(to, version)
    return Archive(path=archives[0], version=version)


def _archives(mirror: Path, version: str) -> list[Path]:
    """Those of the interpreter `version`, without the sums beside them."""
    found = mirror.glob(f"**/cpython-{version}[+-]*.tar.*")
    return sorted(path for path in found if path.suffix != ".sha256")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Nobody reads a line for each request."""


@contextlib.contextmanager
def served(directory: Path) -> Iterator[str]:
    """Serve `directory` on the loopback interface; gives the base address."""
    handler = partial(_Quiet, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def write_project(spec: Spec, archive: Archive, mirror: str, to: Path) -> None:
    """Copy the stack to `to`, with its runtime pinned to `archive`.

    Only what both sides can do is kept: no application with a distribution that is
    built from source, and of stackbuild's own settings nothing but overlays. What they
    override becomes a requirement, so that both resolve to the same versions.
    The runtime asks for exactly the version that the archive holds, so that neither
    side works with an interpreter that is not the one it was told; stackbuild takes it
    as an explicit download, venvstacks through the table of its own environment.
    `without-bytecode.toml` beside it is the same stack with bytecode turned off.
    """
    to.mkdir(parents=True, exist_ok=True)
    plain = tomlkit.parse(spec.path.read_text()).unwrap()
    settings = plain.get("tool", {}).get("stackbuild", {}).get("layers", {})
    plain["applications"] = [
        application
        for application in plain["applications"]
        if "build-wheel" not in settings.get(application["name"], {})
    ]
    names = {application["name"] for application in plain["applications"]}
    for application in plain["applications"]:
        overrides = settings.get(application["name"], {}).get("overrides", {})
        application["requirements"] += [f"{name}=={version}" for name, version in overrides.items()]
    for name in list(settings):
        settings[name] = _overlays_of(settings[name])
        if name not in names or not settings[name]:
            del settings[name]
    for name in _files_named(plain):
        _copy(spec.path.parent / name, to / name)
    _copy(spec.path.parent / "overlays", to / "overlays")
    plain["runtimes"][0]["python_implementation"] = f"cpython@{archive.version}"
    tool = plain.setdefault("tool", {}).setdefault("stackbuild", {})
    runtime = tool.setdefault("layers", {}).setdefault(spec.runtime, {})
    runtime["downloads"] = {
        "linux-x64": {"url": f"{mirror}/{quote(archive.path.name)}", "sha256": archive.sha256}
    }
    # An interpreter of this machine needs libraries of it, which are no finding here.
    runtime["verify"] = {"host-libraries": ["*"]}
    (to / "venvstacks.toml").write_text(tomlkit.dumps(plain))
    tool.setdefault("frames", {})["bytecode"] = False
    (to / "without-bytecode.toml").write_text(tomlkit.dumps(plain))


def _overlays_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of the settings of a layer, those of `copy-files`, for all platforms or for one."""
    kept = {key: value for key, value in settings.items() if key == "copy-files"}
    platforms = {
        name: _overlays_of(table) for name, table in settings.get("platform-specific", {}).items()
    }
    if filled := {name: table for name, table in platforms.items() if table}:
        kept["platform-specific"] = filled
    return kept


def _files_named(document: Mapping[str, Any]) -> set[str]:
    """The launch and support modules that a spec names, relative to it."""
    names: set[str] = set()
    for application in document.get("applications", []):
        names.update(application.get("support_modules", []))
        if "launch_module" in application:
            names.add(application["launch_module"])
    return names


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, symlinks=True)
    elif source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def beside_python(name: str) -> Path:
    """The program `name` of the environment that runs the bench."""
    return Path(sys.executable).parent / name
