"""Commands that have few programs, or a root directory with busybox and nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.interpreters import unshare_command

if TYPE_CHECKING:
    from collections.abc import Mapping


C_LIBRARY = ("libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1", "libm.so.6")
"""The other parts of glibc, which compiled modules may need."""


class EmptyRoot:
    """`directory` as the root directory of commands."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        if not shutil.which("busybox") and os.geteuid() == 0 and shutil.which("apt-get"):
            subprocess.run(["apt-get", "install", "-y", "busybox"], check=False)
        busybox = shutil.which("busybox")
        if busybox is None:
            pytest.skip("this needs busybox (Debian's package busybox)")
        for name in ("dev", "proc", "tmp", "root"):
            (directory / name).mkdir(parents=True)
        self.add(Path(busybox))
        applets = self.run("/bin/busybox", "--list").stdout.split()
        for name in set(applets) - {"busybox"}:
            (directory / "bin" / name).symlink_to("busybox")

    def add(self, *programs: Path) -> None:
        """Copy `programs` into /bin, and the libraries of programs and modules beside them."""
        for program in programs:
            self._copy(program, self.directory / "bin" / program.name)
            self.add_libraries(program)

    def add_libraries(self, binary: Path) -> None:
        """Copy the shared libraries that `binary` needs to where they are here."""
        found = subprocess.run(["ldd", binary], capture_output=True, text=True, check=False).stdout
        for name in map(Path, re.findall(r"(/\S+) \(0x", found)):
            parts = [name.with_name(part) for part in C_LIBRARY] if name.name == "libc.so.6" else []
            for path in (name, *filter(Path.exists, parts)):
                self._copy(path, self.directory / path.relative_to("/"))

    def _copy(self, source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(0o755)

    def run(
        self, *command: str, check: bool = True, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command there. Skips where an account may not change its root directory."""
        if not (unshare := unshare_command()):
            pytest.skip("this machine allows no mount namespaces")
        # The loader finds the directory of a program in /proc.
        script = (
            'for name in dev proc; do mount --rbind "/$name" "$0/$name" || exit; done; '
            'export PATH="$PATH:/usr/sbin"; exec chroot "$0" /bin/busybox env -i "$@"'
        )
        variables = {"PATH": "/bin", "HOME": "/root", **(environment or {})}
        done = subprocess.run(
            [
                *(*unshare, "sh", "-c", script, str(self.directory)),
                *(f"{name}={value}" for name, value in variables.items()),
                *command,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done


def programs(directory: Path, *names: str) -> str:
    """A PATH with these programs only."""
    directory.mkdir()
    for name in names:
        found = shutil.which(name)
        assert found
        (directory / name).symlink_to(found)
    return str(directory)
