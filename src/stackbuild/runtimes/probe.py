"""Interpreters on this machine: found, asked about themselves, and fit to be packed or not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from stackbuild import strictjson
from stackbuild.processes import clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stackbuild.platforms import Platform

PROBE = """
import json, platform, sys, sysconfig
var = sysconfig.get_config_var
print(json.dumps({
    "implementation": sys.implementation.name,
    "version": platform.python_version(),
    "prefix": sys.base_prefix,
    "stdlib": sysconfig.get_path("stdlib"),
    "framework": var("PYTHONFRAMEWORK") or "",
    "abi": getattr(sys, "abiflags", "") + ("t" if var("Py_GIL_DISABLED") else ""),
    "soabi": var("SOABI") or "",
    "wide": sys.maxsize > 2**32,
    "built": platform.python_build()[1],
    "wheels": var("WHEEL_PKG_DIR") or "",
}))
"""
SYSTEM_PREFIX = Path("/usr")
LIMIT = 15.0
"""Seconds within which an interpreter has to answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """An interpreter that runs here; of a virtual environment, the one below it."""

    implementation: str
    version: Version
    prefix: Path
    stdlib: Path
    framework: str
    abi: str
    """Letters of an unusual build: d for debug, t for free-threaded."""
    soabi: str
    wide: bool
    """Whether it is a program of 64 bits."""
    built: str
    """When it was compiled, as `platform.python_build` tells."""
    executable: Path
    """In `prefix`, by the name that names its minor version."""
    wheels: Path | None = None
    """Where ensurepip takes pip from, if that is not its own directory."""

    @property
    def minor(self) -> str:
        """The minor version: ``3.12``."""
        return f"{self.version.major}.{self.version.minor}"

    @property
    def is_system(self) -> bool:
        """Whether it is the operating system's, in the prefix that everything shares."""
        return self.prefix == SYSTEM_PREFIX


def probe(executable: Path) -> Facts | None:
    """Ask `executable`. None when it does not run, or is no Python 3."""
    try:
        # Without site (-S) no .pth file of the host runs, and the prefix is the base's.
        done = subprocess.run(
            [executable, "-I", "-S", "-B", "-c", PROBE],
            capture_output=True,
            check=True,
            timeout=LIMIT,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
        )
        return facts_from(strictjson.parse(done.stdout, str(executable)))
    except (
        OSError,
        subprocess.SubprocessError,
        strictjson.JsonError,
        ValueError,
        KeyError,
        TypeError,
        InvalidVersion,
    ):
        return None


def facts_from(answer: dict[str, object]) -> Facts:
    """The facts in the answer of the probe. Raises KeyError or ValueError when some are missing."""
    # A development build calls itself 3.14.0+.
    version = Version(str(answer["version"]).rstrip("+"))
    prefix = Path(str(answer["prefix"])).resolve()
    wheels = str(answer.get("wheels") or "")
    name = "python.exe" if os.name == "nt" else f"bin/python{version.major}.{version.minor}"
    return Facts(
        implementation=str(answer["implementation"]),
        version=version,
        prefix=prefix,
        stdlib=Path(str(answer["stdlib"])).resolve(),
        framework=str(answer["framework"]),
        abi=str(answer["abi"]),
        soabi=str(answer["soabi"]),
        wide=bool(answer["wide"]),
        built=str(answer["built"]),
        executable=prefix / name,
        wheels=Path(wheels) if wheels else None,
    )


def objection(facts: Facts, platform: Platform) -> str | None:
    """Why this interpreter cannot be packed for `platform`, or None when it can."""
    system = facts.is_system
    library = facts.prefix / ("Lib" if platform.os == "windows" else f"lib/python{facts.minor}")
    objections = (
        (facts.implementation != "cpython", f"it is {facts.implementation}, not CPython"),
        ("t" in facts.abi, "it is a free-threaded build, which has an ABI of its own"),
        ("d" in facts.abi, "it is a debug build, which has an ABI of its own"),
        (not facts.wide, "it is a program of 32 bits"),
        ("musl" in facts.soabi, "it is built for musl, and linux platforms are those of glibc"),
        (bool(facts.framework), "it is a framework build, whose parts cannot be moved"),
        (
            facts.prefix == Path("/") or (system and platform.os != "linux"),
            "it belongs to the operating system, which spreads it over its own directories",
        ),
        (facts.stdlib != library, f"its standard library is in {facts.stdlib}, not {library}"),
        (not facts.executable.exists(), f"there is no {facts.executable}"),
        (
            # Debian's python3-minimal has a part of the standard library, without this.
            system and not (facts.stdlib / "ctypes").is_dir(),
            "only a part of its standard library is installed (the package python3 has all)",
        ),
    )
    return next((words for applies, words in objections if applies), None)


_VERSION_IN_NAME = re.compile(r"python(?:(\d+)(?:\.(\d+))?)?(?:\.exe)?")


def candidates() -> list[Path]:
    """Files that may be interpreters, in the order in which findpython knows of them.

    It looks through PATH and the directories of pyenv, uv, asdf, rye and the
    system; the interpreter that runs this comes last. None is started.
    """
    from findpython.providers import ALL_PROVIDERS

    found: list[Path] = []
    for kind in ALL_PROVIDERS.values():
        # Of a user without a home directory, that of pyenv and others cannot be told.
        with suppress(RuntimeError):
            provider = kind.create()
            found += [python.executable for python in provider.find_pythons()] if provider else []
    return [*found, Path(sys.executable)]


def find_interpreters(minor: str, among: Iterable[Path]) -> list[Facts]:
    """The interpreters of the minor version `minor` (``3.12``), each once.

    Virtual environments give the interpreter below them; what does not run,
    and scripts that only choose an interpreter (the shims of pyenv), are left out.
    """
    found: dict[Path, Facts] = {}
    seen: set[Path] = set()
    for path in among:
        real = _real(path)
        if real is None or real in seen or not may_be(real.name, minor):
            continue
        seen.add(real)
        # The file itself, for the links to it may be those of damaged virtual environments.
        facts = None if _is_script(real) else probe(real)
        if facts is not None and facts.minor == minor:
            found.setdefault(facts.prefix, facts)
    return list(found.values())


def may_be(name: str, minor: str) -> bool:
    """Whether an interpreter called `name` may be of a minor version; ``python`` may be of any."""
    match = _VERSION_IN_NAME.fullmatch(name)
    major, wanted = minor.split(".")
    return match is not None and match[1] in {None, major} and match[2] in {None, wanted}


def nearest_first(interpreters: Iterable[Facts], version: Version) -> list[Facts]:
    """Sorted by how near they are to `version`; of two equally near, the newer one first.

    The operating system's own comes last: it is changed by the system, and by its updates.
    """
    return sorted(
        interpreters,
        key=lambda facts: (
            facts.is_system,
            abs(facts.version.micro - version.micro),
            -facts.version.micro,
            str(facts.prefix),
        ),
    )


def _real(path: Path) -> Path | None:
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):
        return None
    return real if real.is_file() else None


def _is_script(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(2) == b"#!"
    except OSError:
        return True
