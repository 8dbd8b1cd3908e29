"""Small native modules that do what real ones sometimes do."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.handmade import interpreters
from tests.support.toolbox import FALLBACK_HEADERS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_SOURCE = """
#include <Python.h>
#include <signal.h>
#include <unistd.h>
#include <stdlib.h>
static struct PyModuleDef definition = {{PyModuleDef_HEAD_INIT, "{name}", NULL, 0, NULL}};

PyMODINIT_FUNC PyInit_{name}(void)
{{
    {body}
    return PyModule_Create(&definition);
}}
"""

FINE = ""
CRASH = "raise(SIGSEGV);"
HANG = "for (;;) pause();"
HANG_WITH_CHILD = "if (!fork()) setsid(); for (;;) pause();"
LEAVE = "_exit(3);"
NO_DRIVER = (
    'PyErr_SetString(PyExc_ImportError, "CUDA driver version is insufficient"); return NULL;'
)


@dataclass(frozen=True, slots=True)
class Compiler:
    """The C compiler, with the headers of one interpreter."""

    include: str
    suffix: str

    def module(self, directory: Path, name: str, body: str, *options: str) -> Path:
        """Compile a module called `name` (without package) that runs `body` when imported."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{name}{self.suffix}"
        source = _SOURCE.format(name=name, body=body)
        self._run(source, path, f"-I{self.include}", "-idirafter", str(FALLBACK_HEADERS), *options)
        return path

    def library(
        self,
        directory: Path,
        name: str,
        source: str = "int answer(void) { return 42; }",
        *options: str,
    ) -> Path:
        """Compile a shared library whose file and soname are `name`."""
        directory.mkdir(parents=True, exist_ok=True)
        self._run(source, directory / name, f"-Wl,-soname,{name}", *options)
        return directory / name

    def program(self, path: Path, source: str, *options: str) -> Path:
        """Compile a program."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._run(source, path, *options, kind=())
        return path

    def _run(
        self,
        source: str,
        output: Path,
        *options: str,
        kind: Sequence[str] = ("-shared", "-fPIC"),
    ) -> None:
        subprocess.run(
            [
                "gcc" if sys.platform == "linux" else "cc",
                *kind,
                "-x",
                "c",
                "-",
                "-x",
                "none",
                "-o",
                output,
                *options,
            ],
            input=source,
            check=True,
            stdout=subprocess.DEVNULL,
            text=True,
        )


@functools.cache
def compiler(minor: str, interpreter: Path | None = None) -> Compiler:
    """A compiler for modules of CPython `minor`, which is on this machine."""
    python = interpreter or interpreters()[minor]
    code = (
        "import json, sysconfig, importlib.machinery as m;"
        "print(json.dumps([sysconfig.get_paths()['include'], m.EXTENSION_SUFFIXES[0]]))"
    )
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    include, suffix = json.loads(done.stdout)
    return Compiler(include, suffix)
