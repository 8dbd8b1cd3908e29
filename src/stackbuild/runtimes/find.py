"""Interpreters of one minor version on this machine."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.runtimes.probe import Facts, probe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from packaging.version import Version

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
