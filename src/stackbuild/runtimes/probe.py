"""Find interpreters on this machine, get their facts, and decide whether they can be packed."""

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
"""Time limit for the answer of an interpreter, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """An interpreter that runs here; for a virtual environment, its base interpreter."""

    implementation: str
    version: Version
    prefix: Path
    stdlib: Path
    framework: str
    abi: str
    """ABI flags: d for debug, t for free-threaded; empty for a regular build."""
    soabi: str
    wide: bool
    """Whether it is a 64-bit program."""
    built: str
    """The time of compilation, in the format of `platform.python_build`."""
    executable: Path
    """The executable in `prefix` with the minor version in its name."""
    wheels: Path | None = None
    """The directory of ensurepip's wheels, if not its own."""

    @property
    def minor(self) -> str:
        """The minor version: ``3.12``."""
        return f"{self.version.major}.{self.version.minor}"

    @property
    def is_system(self) -> bool:
        """Whether it is the operating system's own, in the shared prefix."""
        return self.prefix == SYSTEM_PREFIX


def probe(executable: Path) -> Facts | None:
    """Ask `executable` for its facts; None if it does not run or is not Python 3."""
    try:
        # Without site (-S) no .pth file of the host runs, and the prefix is that of the base.
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
    """Parse the answer of the probe. Raises KeyError or ValueError if a fact is missing."""
    # A development build has a version such as 3.14.0+.
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
    """The reason why this interpreter cannot be packed for `platform`, or None."""
    system = facts.is_system
    library = facts.prefix / ("Lib" if platform.os == "windows" else f"lib/python{facts.minor}")
    objections = (
        (facts.implementation != "cpython", f"it is {facts.implementation}, not CPython"),
        ("t" in facts.abi, "it is a free-threaded build, which has a different ABI"),
        ("d" in facts.abi, "it is a debug build, which has a different ABI"),
        (not facts.wide, "it is a 32-bit program"),
        ("musl" in facts.soabi, "it is built for musl, but the linux platforms use glibc"),
        (bool(facts.framework), "it is a framework build, which cannot be relocated"),
        (
            facts.prefix == Path("/") or (system and platform.os != "linux"),
            "it belongs to the operating system, which installs it in several shared directories",
        ),
        (facts.stdlib != library, f"its standard library is in {facts.stdlib}, not {library}"),
        (not facts.executable.exists(), f"{facts.executable} is missing"),
        (
            # Debian's python3-minimal has only a part of the standard library, without this module.
            system and not (facts.stdlib / "ctypes").is_dir(),
            "only a part of its standard library is installed (install the package python3)",
        ),
    )
    return next((words for applies, words in objections if applies), None)


_VERSION_IN_NAME = re.compile(r"python(?:(\d+)(?:\.(\d+))?)?(?:\.exe)?")


def candidates() -> list[Path]:
    """Files that may be interpreters, in the order of findpython.

    It searches PATH and the directories of pyenv, uv, asdf, rye and the system; the running
    interpreter comes last. None is started.
    """
    from findpython.providers import ALL_PROVIDERS

    found: list[Path] = []
    for kind in ALL_PROVIDERS.values():
        # Without a home directory the directories of pyenv and others are unknown.
        with suppress(RuntimeError):
            provider = kind.create()
            found += [python.executable for python in provider.find_pythons()] if provider else []
    return [*found, Path(sys.executable)]


def find_interpreters(minor: str, among: Iterable[Path]) -> list[Facts]:
    """The interpreters of the minor version `minor` (``3.12``), each once.

    A virtual environment yields its base interpreter. Interpreters that do not run, and scripts
    that select an interpreter (the shims of pyenv), are left out.
    """
    found: dict[Path, Facts] = {}
    seen: set[Path] = set()
    for path in among:
        real = _real(path)
        if real is None or real in seen or not may_be(real.name, minor):
            continue
        seen.add(real)
        # The file itself, because links to it may belong to damaged virtual environments.
        facts = None if _is_script(real) else probe(real)
        if facts is not None and facts.minor == minor:
            found.setdefault(facts.prefix, facts)
    return list(found.values())


def may_be(name: str, minor: str) -> bool:
    """Whether an interpreter called `name` may have the minor version; ``python`` may have any."""
    match = _VERSION_IN_NAME.fullmatch(name)
    major, wanted = minor.split(".")
    return match is not None and match[1] in {None, major} and match[2] in {None, wanted}


def nearest_first(interpreters: Iterable[Facts], version: Version) -> list[Facts]:
    """Sort by distance from `version`; at equal distance the newer one comes first.

    The operating system's own comes last, because the system and its updates change it.
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
