"""What tests look at in an installed root, and running the command as a user does."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING

from stackbuild.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "stackbuild", *map(str, words)]


def stackbuild(
    *words: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`stackbuild WORDS…`; in a process of its own where it must be one."""
    if words[0] == "run" or cwd is not None or env is not None:
        return subprocess.run(
            command(*words),
            cwd=cwd,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    # Starting Python costs more than most of these commands do.
    out, err = io.StringIO(), io.StringIO()
    arguments = list(map(str, words))
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main(arguments)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


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


def versions(out: Path) -> dict[str, str]:
    """The versions of the layers of `Publisher.stack` that were exported to `out`."""
    site = "lib/python3.12/site-packages"
    files = {"framework": f"{site}/numpy/__init__.py", "atls": f"{site}/atls/__init__.py"}
    paths = {layer: out / layer / file for layer, file in files.items()}
    return {layer: path.read_text()[-3] for layer, path in paths.items() if path.exists()}


def generation(root: Path) -> str:
    return (root / "current").readlink().name
