"""Debian's docker-registry on loopback, with its storage in a directory."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = shutil.which("docker-registry")
MISSING = "docker-registry is not installed (Debian: the package docker-registry)"
_CONFIGURATION = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: "{storage}"}}
  delete: {{enabled: {deletes}}}
  maintenance: {{readonly: {{enabled: {read_only}}}}}
http: {{addr: "{host}"}}
{auth}
"""
_AUTH = 'auth: {{htpasswd: {{realm: "stackbuild", path: "{path}"}}}}'


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRegistry:
    """A running registry."""

    host: str
    storage: Path

    def stored(self) -> int:
        """How many blobs, manifests included, the storage has; each once for all repositories."""
        return len(list(self.storage.glob("docker/registry/v2/blobs/sha256/*/*")))


@contextmanager
def container_registry(
    directory: Path,
    *,
    login: tuple[str, str] | None = None,
    read_only: bool = False,
    deletes: bool = True,
) -> Iterator[ContainerRegistry]:
    """A registry that stores in `directory`, for the user and password `login` only.

    Without `deletes`, nothing can be deleted, which is the program's default.

    Skips the test where the program is not installed.
    """
    if PROGRAM is None:
        pytest.skip(MISSING)
    auth = ""
    if login is not None:
        htpasswd = shutil.which("htpasswd")
        if htpasswd is None:
            pytest.skip("htpasswd is not installed (Debian: the package apache2-utils)")
        passwords = directory / "htpasswd"
        passwords.write_bytes(
            subprocess.run([htpasswd, "-Bbn", "-C", "4", *login], stdout=-1, check=True).stdout
        )
        auth = _AUTH.format(path=passwords)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()
    found = ContainerRegistry(host=f"127.0.0.1:{address[1]}", storage=directory / "storage")
    configuration = directory / "registry.yml"
    configuration.write_text(
        _CONFIGURATION.format(
            storage=found.storage,
            host=found.host,
            auth=auth,
            read_only=str(read_only).lower(),
            deletes=str(deletes).lower(),
        )
    )
    # Variables that begin with REGISTRY_ would be settings of the server.
    kept = {name: text for name, text in os.environ.items() if not name.startswith("REGISTRY")}
    environment = {**kept, "OTEL_TRACES_EXPORTER": "none"}
    log = (directory / "registry.log").open("wb")
    process = subprocess.Popen([PROGRAM, "serve", configuration], env=environment, stderr=log)
    try:
        _wait(process, address)
        yield found
    finally:
        process.terminate()
        process.wait()
        log.close()


def _wait(process: subprocess.Popen[bytes], address: tuple[str, int]) -> None:
    for _ in range(1000):
        assert process.poll() is None, "docker-registry has ended"
        try:
            socket.create_connection(address).close()
        except OSError:
            time.sleep(0.01)
        else:
            return
    raise AssertionError("docker-registry does not listen")


def auth_file(path: Path, **logins: str) -> Path:
    """A file as `docker login` writes it, with ``user:password`` by the key of the entry."""
    entries = {
        key: {"auth": base64.b64encode(text.encode()).decode()} for key, text in logins.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"auths": entries}))
    return path


@pytest.fixture(scope="session")
def container_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContainerRegistry]:
    """A registry for all tests of a process; each uses repositories of its own."""
    with container_registry(tmp_path_factory.mktemp("registry")) as server:
        yield server
