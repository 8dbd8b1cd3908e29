"""Programs that tests call, for machines that do not have them: `gcc`, `g++` and `zstd`.

stackbuild calls the compiler `gcc` when it builds a wheel, and GNU tar calls `zstd`. Where one is
missing, a script of that name is put at the end of PATH: Zig's C compiler (the distribution
`ziglang` of the group `test`), and a few lines of Python around zstd.

Zig brings the headers of the C library. Those of CPython are in Debian's package python3-dev;
modules that are compiled with `FALLBACK_HEADERS` do without.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

FALLBACK_HEADERS = Path(__file__).parent / "include"
"""Has a `Python.h` with what the modules of the tests use; to be searched last (-idirafter)."""

_COMPILERS = {"gcc": "cc", "g++": "c++"}
_ZSTD = """\
import shutil, sys
from stackbuild.zstd import ZstdReader
if sys.argv[1:] != ["-d"]:
    sys.exit(f"this stand-in for zstd only knows -d, not {sys.argv[1:]}")
frames = ZstdReader(sys.stdin.buffer, all_frames=True)
shutil.copyfileobj(frames, sys.stdout.buffer)
"""


def bring_tools(directory: Path, cache: Path) -> None:
    """Put what is missing into `directory`, and that on PATH if it holds anything.

    What Zig builds of the C library is kept in `cache`.
    """
    scripts: dict[str, str] = {}
    if sys.platform == "linux":
        scripts |= {name: _zig(word, cache) for name, word in _COMPILERS.items()}
    scripts["zstd"] = shlex.join([sys.executable, "-c", _ZSTD])
    missing = {name: line for name, line in scripts.items() if not shutil.which(name)}
    for name, line in missing.items():
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / name
        path.write_text(f'#!/bin/sh\nexec {line} "$@"\n', encoding="utf-8")
        path.chmod(0o755)
    if missing:
        os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), str(directory)])


def _zig(language: str, cache: Path) -> str:
    import ziglang

    program = Path(next(iter(ziglang.__path__)), "zig")
    # The script sets the cache itself, for a build's environment has no variable of this one.
    places = [f"ZIG_GLOBAL_CACHE_DIR={cache}", f"ZIG_LOCAL_CACHE_DIR={cache}"]
    # Without an optimisation Zig checks for undefined behaviour, which gcc does not.
    return shlex.join(["env", *places, str(program), language, "-fno-sanitize=undefined"])
