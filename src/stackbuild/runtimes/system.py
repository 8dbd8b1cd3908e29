"""Pack the operating system's own CPython, in /usr, like any other interpreter.

Linux distributions install it in directories shared with other software and patch it: modules of
their packages are in `dist-packages` (Debian), and pip's wheel is outside ensurepip. The packed
interpreter searches for distributions where the CPython of python.org does, and nowhere in /usr.
"""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild import strictjson
from stackbuild.errors import ComposeError
from stackbuild.processes import clean_environment
from stackbuild.runtimes.contents import SITE_FILE, Entry, posix_contents
from stackbuild.runtimes.model import ROOT
from stackbuild.runtimes.probe import LIMIT, Facts
from stackbuild.runtimes.tarball import unpack_tarball

if TYPE_CHECKING:
    from stackbuild.messages import Messages

# How Debian's CPython decides that it is not the system's: whether it is a virtual environment.
_ASKED = 'sys.base_prefix != sys.prefix or hasattr(sys, "real_prefix")'
_CHANGED = ("sysconfig.py", "sysconfig/__init__.py", "distutils/sysconfig.py")
_WHEELS_ASKED = "sysconfig.get_config_var('WHEEL_PKG_DIR')"
_WHEELS_BESIDE = "os.path.join(os.path.dirname(__file__), '_bundled')"
# Debian's patch of setuptools for system packages; setuptools works without it.
_HOOK = "_distutils_system_mod.py"
# `site` is frozen into the program and cannot be changed. It searches Debian's directory in the
# prefix and runs this line there, which adds the standard directory.
SITE_LINE = (
    "import os; addsitedir(os.path.join(os.path.dirname(sitedir), 'site-packages'), known_paths)\n"
)

CHECK = """
import ctypes, json, os, site, sys, sysconfig
path = list(sys.path)
asked = []
site.ENABLE_USER_SITE = True
site.os.path.isdir = lambda directory: True
site.addsitedir = lambda directory, known: asked.append(directory)
site.addsitepackages(set())
print(json.dumps({
    "path": path, "asked": asked, "modules": [os.__file__, ctypes.__file__],
    "purelib": sysconfig.get_path("purelib"), "prefix": sys.prefix,
}))
"""


def system_contents(facts: Facts, messages: Messages) -> dict[str, Entry]:
    """The entries of the CPython in /usr, by path relative to the prefix.

    Warns if pip is not available; ensurepip is then left out.
    """
    minor = facts.minor
    entries = posix_contents(facts.prefix, minor, own=False)
    stdlib = f"lib/python{minor}"
    entries.pop(f"{stdlib}/{_HOOK}", None)
    for name in _CHANGED:
        path = f"{stdlib}/{name}"
        if path in entries:
            entries[path] = _replaced(entries[path], _ASKED, "True")
    entries[SITE_FILE.format(minor)] = Entry(data=SITE_LINE.encode())
    _add_settings(entries, facts)
    if not _add_wheels(entries, facts):
        for path in [path for path in entries if path.startswith(f"{stdlib}/ensurepip/")]:
            del entries[path]
        messages.warn(
            f"CPython {facts.version} of {facts.prefix} is packed without ensurepip, because "
            "its wheel of pip is not installed (Debian, Ubuntu: the package python3-venv): "
            "`python -m venv` works only with --without-pip"
        )
    return entries


def _replaced(entry: Entry, old: str, new: str) -> Entry:
    return replace(entry, source=None, data=entry.read().replace(old.encode(), new.encode()))


def _add_settings(entries: dict[str, Entry], facts: Facts) -> None:
    """Add files from Debian's architecture-specific directories, and the licence."""
    header = f"include/python{facts.minor}/pyconfig.h"
    machine = facts.soabi.partition("-")[2].partition("-")[2]
    share = facts.prefix / "share/doc" / f"libpython{facts.minor}-minimal/copyright"
    brought = {
        header: facts.prefix / "include" / machine / f"python{facts.minor}/pyconfig.h",
        f"lib/python{facts.minor}/LICENSE.txt": share,
    }
    for path, file in brought.items():
        if file.is_file() and (path in entries or path != header):
            entries[path] = Entry(source=file)


def _add_wheels(entries: dict[str, Entry], facts: Facts) -> bool:
    """Add the wheels that ensurepip installs; returns whether all were found."""
    package = f"lib/python{facts.minor}/ensurepip"
    module = entries.get(f"{package}/__init__.py")
    if module is None:
        return False
    names = ("pip", "setuptools") if facts.version.release < (3, 12) else ("pip",)
    beside = [Path(path).name for path in entries if path.startswith(f"{package}/_bundled/")]
    if all(any(wheel.startswith(f"{name}-") for wheel in beside) for name in names):
        return True
    if facts.wheels is None or _WHEELS_ASKED.encode() not in module.read():
        return False
    found = {name: sorted(facts.wheels.glob(f"{name}-*.whl")) for name in names}
    for wheel in (wheel for wheels in found.values() for wheel in wheels):
        entries[f"{package}/_bundled/{wheel.name}"] = Entry(source=wheel)
    entries[f"{package}/__init__.py"] = _replaced(module, _WHEELS_ASKED, _WHEELS_BESIDE)
    return all(found.values())


def check_moved(archive: Path, facts: Facts, to: Path) -> None:
    """Unpack the archive below `to` and check that the interpreter uses no files in /usr.

    The changes of Linux distributions cannot all be known. Raises ComposeError if it does not
    start, or searches for modules elsewhere.
    """
    to.mkdir()
    unpack_tarball(archive, to)
    prefix = (to / ROOT).resolve()
    site = prefix / f"lib/python{facts.minor}/site-packages"
    site.mkdir()
    done = subprocess.run(
        [prefix / f"bin/python{facts.minor}", "-I", "-B", "-c", CHECK],
        capture_output=True,
        check=False,
        timeout=LIMIT,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise _refused(facts, f"packed, it does not start: {lines[-1] if lines else 'no reason'}")
    answer = strictjson.parse(done.stdout, str(facts.executable))
    used = [*answer["path"], *answer["asked"], *answer["modules"], answer["purelib"]]
    outside = [path for path in used if not Path(path).is_relative_to(prefix)]
    if outside:
        raise _refused(facts, f"packed, it still searches for modules in {outside[0]}")
    if str(site) not in answer["path"] or answer["purelib"] != str(site):
        raise _refused(facts, "packed, it does not search for distributions in its site-packages")


def _refused(facts: Facts, found: str) -> ComposeError:
    return ComposeError(
        f"the operating system's interpreter {facts.executable} cannot be packed",
        found=found,
        remedy="install another one, such as with `uv python install`, or use the source pbs",
    )
