"""What tests look at in an installed root, and running the command as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "stackbuild", *map(str, words)]


def stackbuild(
    *words: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`stackbuild WORDS…` in a process of its own."""
    return subprocess.run(
        command(*words),
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def succeed(*words: str | Path, cwd: Path | None = None) -> str:
    """What `stackbuild WORDS…` prints; it must succeed."""
    done = stackbuild(*words, cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def fail(code: int, *words: str | Path, cwd: Path | None = None) -> str:
    """What `stackbuild WORDS…` says on stderr; it must exit with `code`."""
    done = stackbuild(*words, cwd=cwd)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def tool(root: Path, layer: str) -> str:
    """What the layer's own program prints."""
    done = subprocess.run(
        [root / layer / "bin" / f"{layer}-tool"], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def snapshot(directory: Path) -> dict[str, object]:
    """Every path below `directory` with its contents or target."""
    found: dict[str, object] = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.is_symlink():
            found[name] = ("link", str(path.readlink()))
        else:
            found[name] = path.read_bytes() if path.is_file() else "directory"
    return found


def generation(root: Path) -> str:
    return (root / "current").readlink().name
