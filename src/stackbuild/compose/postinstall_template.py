r"""Adjust this layer to the directory that it is in, which Windows needs.

`stackbuild` copies this file into each layer as `postinstall.py`, with the setting below filled in.
Run it after the layers were unpacked, copied or moved on Windows, with any Python, such as that of
the runtime beside this layer:

    ..\cpython-3.12\python.exe postinstall.py

On other systems it changes nothing, except where `pyvenv.cfg` has a `home`: in layers that were
exported to a file system without links. It changes nothing in a runtime.
"""

# It must run on every CPython from 3.9, without the packages of any layer.
# ruff: noqa: PTH100, PTH101, PTH103, PTH105, PTH113, PTH118, PTH120, PTH123

import filecmp
import os
import shutil
import stat
import sys

# stackbuild fills in from here
RUNTIME = "cpython-3.12"
# to here

CONFIGURATION = "pyvenv.cfg"
PROGRAMS = "Scripts"
LAUNCHERS = {
    "python.exe": ("venvlauncher.exe", "python.exe"),
    "pythonw.exe": ("venvwlauncher.exe", "pythonw.exe"),
}
"""Launchers of a virtual environment, and their names in a runtime: CPython 3.13 has new ones."""


def with_home(configuration: bytes, home: str) -> bytes:
    """The text of a `pyvenv.cfg` with this `home` (PEP 405); an existing `home` is replaced."""
    # Not decoded: archives may contain any bytes, and POSIX paths are bytes.
    lines = configuration.splitlines(keepends=True)
    kept = b"".join(line for line in lines if not line.startswith(b"home "))
    return b"home = %b\n%b" % (os.fsencode(home), kept)


def launcher(runtime: str, name: str) -> "str | None":
    """The path of the launcher `name` in the directory of a runtime; None if it has none."""
    directory = os.path.join(runtime, "Lib", "venv", "scripts", "nt")
    paths = [os.path.join(directory, source) for source in LAUNCHERS[name]]
    return next((path for path in paths if os.path.isfile(path)), None)


def adjust(layer: str) -> None:
    """Write `home`, and copy the launchers into the layer for Windows in the directory `layer`.

    Raises OSError.
    """
    runtime = os.path.join(os.path.dirname(layer), RUNTIME)
    if not os.path.isfile(os.path.join(runtime, "python.exe")):
        sys.exit(
            f"error: the runtime of this layer is missing\n  layer: {layer}\n"
            f"  expected: python.exe in {runtime}\n  to fix: put {RUNTIME} beside the layer"
        )
    write_home(layer, runtime)
    os.makedirs(os.path.join(layer, PROGRAMS), exist_ok=True)
    for name in LAUNCHERS:
        source, target = launcher(runtime, name), os.path.join(layer, PROGRAMS, name)
        # A launcher that is running cannot be replaced.
        if source and not (os.path.isfile(target) and filecmp.cmp(source, target, shallow=False)):
            work = f"{target}.{os.getpid()}.partial"
            shutil.copyfile(source, work)
            _replace(work, target)


def write_home(layer: str, home: str, *, only_existing: bool = False) -> None:
    """Write `home` into the `pyvenv.cfg` of `layer`; with `only_existing` where it has one."""
    configuration = os.path.join(layer, CONFIGURATION)
    if only_existing and not os.path.isfile(configuration):
        return
    with open(configuration, "rb") as file:
        before = file.read()
    after = with_home(before, home)
    if after != before and (b"\nhome " in b"\n" + before or not only_existing):
        work = f"{configuration}.{os.getpid()}.partial"
        with open(work, "wb") as file:
            file.write(after)
        _replace(work, configuration)


def _replace(work: str, target: str) -> None:
    if os.path.isfile(target):
        os.chmod(target, stat.S_IWRITE | stat.S_IREAD)  # Windows keeps a read-only file
    os.replace(work, target)


if __name__ == "__main__" and RUNTIME:
    here = os.path.dirname(os.path.abspath(__file__))
    if os.name == "nt":
        adjust(here)
    else:
        beside = os.path.join(os.path.dirname(here), RUNTIME, "bin")
        write_home(here, beside, only_existing=True)
