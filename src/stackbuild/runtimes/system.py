"""The operating system's own CPython, in /usr: packed so that it is one like any other.

Distributions of Linux spread it over directories that it shares with everything
else, and change it: modules that their packages bring are in directories
`dist-packages` (Debian), pip's wheel is outside of ensurepip. In the archive
it looks for distributions where the CPython of python.org does, and nowhere in /usr.
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
from stackbuild.runtimes.probe import LIMIT, Facts
from stackbuild.runtimes.tarball import ROOT, unpack_tarball

if TYPE_CHECKING:
    from stackbuild.messages import Messages

# Debian's way to tell that a CPython is not the system's: it asks for a virtual environment.
_ASKED = 'sys.base_prefix != sys.prefix or hasattr(sys, "real_prefix")'
_CHANGED = ("sysconfig.py", "sysconfig/__init__.py", "distutils/sysconfig.py")
_WHEELS_ASKED = "sysconfig.get_config_var('WHEEL_PKG_DIR')"
_WHEELS_BESIDE = "os.path.join(os.path.dirname(__file__), '_bundled')"
# Changes setuptools for packages of the system; setuptools does without.
_HOOK = "_distutils_system_mod.py"
# `site` is frozen into the program and cannot be changed. It runs this line,
# and knows Debian's directory in the prefix, but not that of everybody else.
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

    Warns where pip is not available, so that ensurepip stays out.
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
            f"CPython {facts.version} of {facts.prefix} is packed without ensurepip, for its wheel "
            "of pip is not here (Debian, Ubuntu: the package python3-venv): `python -m venv` "
            "works with --without-pip only"
        )
    return entries


def _replaced(entry: Entry, old: str, new: str) -> Entry:
    return replace(entry, source=None, data=entry.read().replace(old.encode(), new.encode()))


def _add_settings(entries: dict[str, Entry], facts: Facts) -> None:
    """Bring what Debian has in directories of the processor's, and the licence."""
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
    """Bring the wheels that ensurepip installs; whether it has all of them."""
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
    """Unpack the archive below `to` and see that the interpreter uses nothing of /usr.

    Distributions of Linux change CPython in ways that nobody can list. Raises
    ComposeError when it does not start, or looks for modules elsewhere.
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
        raise _refused(facts, f"packed, it still looks for modules in {outside[0]}")
    if str(site) not in answer["path"] or answer["purelib"] != str(site):
        raise _refused(facts, "packed, it does not look for distributions in its site-packages")


def _refused(facts: Facts, found: str) -> ComposeError:
    return ComposeError(
        f"the operating system's interpreter {facts.executable} cannot be packed",
        found=found,
        remedy="install another one, such as with `uv python install`, or use the source pbs",
    )
