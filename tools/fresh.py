"""`make test-fresh`: `make test` and `make demo` on machines that have only what they ask for.

Each machine is a Debian in a directory, made with debootstrap and kept in `.fresh/`. The commands
run in a fresh clone there, with an empty home directory and without any setting of this machine;
how the package index is reached is copied from it. Root is needed, for mounts and accounts.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

PROJECT = Path(__file__).resolve().parent.parent
ROOTS = PROJECT / ".fresh"
WORK = Path("var/tmp/fresh")
"""In a root: the clone, the home directory and temporary files."""
ACCOUNT = "tester"

NEEDED = ("ca-certificates", "git", "make", "python3", "python3-venv")
TOOLS = ("gcc", "libarchive-tools", "libc6-dev", "python3-dev", "zstd")
INDEX = ("etc/hosts", "etc/pip.conf", "etc/resolv.conf", "etc/ssl/certs/ca-certificates.crt",
         "etc/uv", "etc/xdg/pip")  # fmt: skip
"""How the network and the package index are reached."""
MOST_SKIPS = 20
"""Of a machine without further tools."""

# The root becomes the root of a mount namespace: in a mere chroot no user namespace is allowed.
ENTER = """
set -eu
mount --bind "$1" "$1" && cd "$1"
mount -t proc proc proc && mount --rbind /dev dev
pivot_root . . && umount -l . && cd "$2"
number=$3 goal=$4
shift 4
exec setpriv --reuid "$number" --regid "$number" --clear-groups -- env -i "$@" make "$goal"
"""


class FreshError(Exception):
    """A machine cannot be made; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A release of Debian, who runs the commands, and whether compiler and zstd are installed."""

    suite: str
    account: str
    tools: bool = False

    @property
    def root(self) -> Path:
        """The directory that the system is in; accounts share it."""
        return ROOTS / f"{self.suite}{'-tools' if self.tools else ''}"

    @property
    def packages(self) -> tuple[str, ...]:
        """What is installed beside Debian's minimal system."""
        return (*NEEDED, *(TOOLS if self.tools else ()))


MACHINES = {
    "debian-12-user": Machine(suite="bookworm", account=ACCOUNT),
    "debian-12-root": Machine(suite="bookworm", account="root"),
    "debian-13-user": Machine(suite="trixie", account=ACCOUNT),
    "debian-13-root": Machine(suite="trixie", account="root"),
    "debian-sid-user": Machine(suite="sid", account=ACCOUNT),
    "debian-sid-root": Machine(suite="sid", account="root"),
    "debian-13-tools-user": Machine(suite="trixie", account=ACCOUNT, tools=True),
    "debian-13-tools-root": Machine(suite="trixie", account="root", tools=True),
}


def main() -> int:
    """Try the machines that are named, or all; 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="make test-fresh", description=__doc__)
    parser.add_argument("machine", nargs="*", help=f"one of {', '.join(MACHINES)}; all if none")
    names = parser.parse_args().machine or list(MACHINES)
    if unknown := [name for name in names if name not in MACHINES]:
        parser.error(f"no such machine: {', '.join(unknown)}; there are {', '.join(MACHINES)}")
    try:
        _prepare()
        results = [_try(name, MACHINES[name]) for name in names]
    except FreshError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0 if all(results) else 1


def _prepare() -> None:
    if sys.platform != "linux" or os.getuid() != 0:
        raise FreshError("fresh machines are made by root on Linux: run `make test-fresh` as root")
    if shutil.which("debootstrap"):
        return
    if not shutil.which("apt-get"):
        raise FreshError("debootstrap is missing: install it")
    install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", "debootstrap"]
    for command in (["apt-get", "update", "--quiet"], install):
        if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
            raise FreshError(f"debootstrap is missing, and `{' '.join(command)}` failed")


def _try(name: str, machine: Machine) -> bool:
    """Run both commands on a machine; a line for each says what came of it."""
    _make(machine)
    log = ROOTS / f"{name}.log"
    log.write_bytes(b"")
    _lay_out(machine)
    passed = True
    for goal in ("test", "demo"):
        begin = time.monotonic()
        code = _run(machine, goal, log)
        words = "passed" if code == 0 else f"failed with exit code {code}"
        if goal == "test" and (skips := _skips(machine)) is not None:
            words += f", {skips} skipped"
            if skips > MOST_SKIPS and not machine.tools:
                words += f" (more than {MOST_SKIPS})"
                code = code or 1
        print(f"{name}: make {goal}: {words}, {time.monotonic() - begin:.0f} s", flush=True)
        if code:
            print(f"  the whole output: {log}\n{_tail(log)}", flush=True)
            passed = False
    shutil.rmtree(machine.root / WORK)
    return passed


def _make(machine: Machine) -> None:
    """Make the root of a machine, once."""
    if machine.root.exists():
        return
    print(f"making {machine.root}", flush=True)
    ROOTS.mkdir(exist_ok=True)
    partial = ROOTS / f".{machine.root.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    log = ROOTS / f"{machine.root.name}.debootstrap.log"
    include = f"--include={','.join(machine.packages)}"
    command = ["debootstrap", "--variant=minbase", include, machine.suite, str(partial)]
    with log.open("wb") as output:
        done = subprocess.run(command, stdout=output, stderr=output, check=False)
    if done.returncode:
        raise FreshError(f"debootstrap failed for {machine.suite}; its output: {log}\n{_tail(log)}")
    subprocess.run(["chroot", partial, "useradd", "--create-home", ACCOUNT], check=True)
    partial.rename(machine.root)


def _lay_out(machine: Machine) -> None:
    """A clone and an empty home directory in the root, and the way to the package index."""
    for name in INDEX:
        source, to = Path("/", name), machine.root / name
        to.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, to, dirs_exist_ok=True)
        elif source.is_file():
            shutil.copyfile(source, to)
    work = machine.root / WORK
    shutil.rmtree(work, ignore_errors=True)
    for name in ("home", "tmp"):
        (work / name).mkdir(parents=True)
    subprocess.run(["git", "clone", "--quiet", PROJECT, work / "clone"], check=True)
    number = _number(machine)
    subprocess.run(["chown", "-R", f"{number}:{number}", work], check=True)


def _number(machine: Machine) -> str:
    command = ["chroot", str(machine.root), "id", "--user", machine.account]
    return subprocess.check_output(command, text=True).strip()


def _run(machine: Machine, goal: str, log: Path) -> int:
    settings = [f"HOME=/{WORK}/home", f"TMPDIR=/{WORK}/tmp", "PATH=/usr/bin:/bin"]
    settings += [f"PYTEST_ADDOPTS=--junit-xml={_XML}"]
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", ENTER, "sh"]
    command += [str(machine.root), f"/{WORK}/clone", _number(machine), goal, *settings]
    with log.open("ab") as output:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
        )
    return done.returncode


_XML = f"/{WORK}/tests.xml"


def _skips(machine: Machine) -> int | None:
    path = machine.root / _XML.lstrip("/")
    if not path.exists():
        return None
    return len(ElementTree.parse(path).findall(".//skipped"))


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"  | {line}" for line in lines[-40:])


if __name__ == "__main__":
    sys.exit(main())
