"""Small native modules, compiled where there is a compiler, that do what real ones sometimes do."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.handmade import interpreters

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
    """A C compiler, with the headers of one interpreter."""

    command: str
    include: str
    suffix: str

    def module(self, directory: Path, name: str, body: str, *options: str) -> Path:
        """Compile a module called `name` (without package) that runs `body` when imported."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{name}{self.suffix}"
        source = _SOURCE.format(name=name, body=body)
        self._run(source, path, f"-I{self.include}", *options)
        return path

    def library(self, directory: Path, name: str) -> Path:
        """Compile a shared library whose file and soname are `name`."""
        directory.mkdir(parents=True, exist_ok=True)
        self._run("int answer(void) { return 42; }", directory / name, f"-Wl,-soname,{name}")
        return directory / name

    def _run(self, source: str, output: Path, *options: str) -> None:
        subprocess.run(
            [
                self.command,
                "-shared",
                "-fPIC",
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
    """A compiler for modules of CPython `minor`. Skips the test where there is none."""
    command = shutil.which("gcc") or shutil.which("cc")
    python = interpreter or interpreters().get(minor)
    if command is None or python is None:
        pytest.skip(f"no C compiler, or no CPython {minor}")
    code = (
        "import json, sysconfig, importlib.machinery as m;"
        "print(json.dumps([sysconfig.get_paths()['include'], m.EXTENSION_SUFFIXES[0]]))"
    )
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    include, suffix = json.loads(done.stdout)
    if not Path(include, "Python.h").is_file():
        pytest.skip(f"the headers of CPython {minor} are not there")
    return Compiler(command, include, suffix)


def own_extension(minor: str) -> Path:
    """A native module of the standard library, for where nothing can be compiled."""
    prefix = interpreters()[minor].parent.parent
    found = sorted(prefix.glob(f"lib/python{minor}/lib-dynload/_json.*.so"))
    if not found:
        pytest.skip(f"CPython {minor} has its modules built in")
    return found[0]
