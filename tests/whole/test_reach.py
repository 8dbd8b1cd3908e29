"""Whole commands against servers and accounts that lack something."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stackbuild.messages import size_text
from stackbuild.platforms import host_platform
from tests.support.http import Status, serving
from tests.support.roots import fail, stackbuild, succeed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.http import Server
    from tests.support.publish import Publisher

PROJECT = Path(__file__).resolve().parents[2]
NOBODY = 54_321
"""A user that has no account on any machine that tests run on."""


def archives_sent(server: Server, made: Publisher) -> int:
    """The bytes of archives that the server has sent."""
    documents = [request.path for request in server.requests if request.path.endswith(".json")]
    return server.bytes_sent - sum((made.directory / p[1:]).stat().st_size for p in documents)


@pytest.mark.parametrize("ranges", [True, False])
def test_what_is_fetched_is_what_was_transferred(made: Publisher, root: Path, ranges: bool) -> None:
    succeed("install", "atls", "--from", made.directory, "--root", root)
    _, framework, atls, _ = made.stack("2")
    with serving(directory=made.directory, ranges=ranges) as server:
        done = stackbuild("install", "atls", "--from", server.url, "--root", root, "--json")
        sent = archives_sent(server, made)
    assert done.returncode == 0, done.stderr
    needed = [manifest.frames[0].frame.size for manifest in (framework, atls)]
    whole = [manifest.archive.size for manifest in (framework, atls)]
    assert json.loads(done.stdout)["fetched"] == {"frames": 2, "bytes": sent}
    assert sent == sum(needed if ranges else whole)
    told = [line for line in done.stderr.splitlines() if "range requests" in line]
    assert told == [
        f"127.0.0.1 does not support range requests: {server.url}/{made.platform}/"
        f"{manifest.archive.name} is read as a whole ({size_text(manifest.archive.size)}), "
        f"although only {size_text(manifest.frames[0].frame.size)} are needed"
        for manifest in (framework, atls)
        if not ranges
    ]


def test_tls_to_a_server_without(made: Publisher, root: Path) -> None:
    with serving(directory=made.directory) as server:
        began = time.monotonic()
        url = server.url.replace("http:", "https:")
        message = fail(5, "install", "atls", "--from", url, "--root", root)
        assert time.monotonic() - began < 5
        remedy = message.rpartition("use ")[2].removesuffix("/index.json\n")
        succeed("install", "atls", "--from", remedy, "--root", root)
    assert message.startswith("error: 127.0.0.1 does not use TLS at this address\n")


def test_a_pause_that_the_server_asks_for(made: Publisher, root: Path) -> None:
    with serving(directory=made.directory) as server:
        server.script("/index.json", Status(429, {"Retry-After": "1"}))
        done = stackbuild("install", "atls", "--from", server.url, "--root", root)
    assert done.returncode == 0
    assert (
        "127.0.0.1 requests a pause of 1 s (HTTP status 429 Too Many Requests); "
        "trying again in 1 s\n" in done.stderr
    )


@pytest.mark.parametrize("url", ["http://h:99999/x", "https://[::1", "http://ann:secret@/"])
def test_an_address_that_is_none(root: Path, url: str) -> None:
    message = fail(2, "install", "atls", "--from", url, "--root", root)
    assert message.startswith("error: the address of the registry is not valid\n")
    assert "secret" not in message


ACCOUNT = """
import os, pwd, sys

def without(*_):
    raise KeyError("no such account")

if len(sys.argv) > 1 and sys.argv[1] == "simulated":
    pwd.getpwuid = pwd.getpwnam = without
del sys.argv[1]
os.environ.pop("HOME", None)
from stackbuild.cli.main import main
sys.exit(main())
"""


def interpreter_for_all() -> str | None:
    """An interpreter of this minor version that another user may start."""
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    for path in (sys.executable, f"/usr/bin/python{minor}", f"/usr/local/bin/python{minor}"):
        with_user = [path, "-c", "import ssl, zlib"]
        try:
            subprocess.run(with_user, user=NOBODY, check=True, capture_output=True, cwd="/")
        except (OSError, subprocess.CalledProcessError):
            continue
        return path
    return None


@pytest.fixture(params=["simulated", "real"])
def account(request: pytest.FixtureRequest) -> Iterator[tuple[list[str], Path, int | None]]:
    """How stackbuild is started without a home directory, where, and as which user."""
    directory = Path(tempfile.mkdtemp(dir="/var/tmp" if Path("/var/tmp").is_dir() else None))
    try:
        if request.param == "simulated":
            yield [sys.executable, "-c", ACCOUNT, "simulated"], directory, None
            return
        if os.name == "nt" or os.geteuid() != 0:
            pytest.skip("only root may become another user")
        python = interpreter_for_all()
        if python is None:
            pytest.skip("no interpreter of this version is open to other users")
        os.chown(directory, NOBODY, NOBODY)
        yield [python, "-c", ACCOUNT, "real"], directory, NOBODY
    finally:
        shutil.rmtree(directory)


@pytest.mark.skipif(os.name == "nt", reason="accounts are those of POSIX")
def test_a_user_without_account_and_home(
    account: tuple[list[str], Path, int | None], made: Publisher
) -> None:
    command, directory, user = account
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("STACKBUILD", "XDG", "HOME", "NETRC"))
    }
    libraries = [str(PROJECT / "src"), sysconfig.get_path("purelib")]
    environment["PYTHONPATH"] = os.pathsep.join(libraries)
    environment["PYTHONDONTWRITEBYTECODE"] = "1"

    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *map(str, words)],
            cwd=directory,
            env=environment,
            user=user,
            capture_output=True,
            text=True,
            check=False,
        )

    with serving(directory=made.directory) as server:
        done = run("install", "atls", "--from", server.url, "--root", "root")
    assert done.returncode == 0, done.stderr
    assert (directory / "root/atls").is_symlink()
    done = run("install", "atls", "--from", "~/exports", "--root", "root")
    assert done.returncode == 2
    assert "~/exports begins with ~, but there is no home directory" in done.stderr
    spec = directory / "venvstacks.toml"
    spec.write_text(
        '[[runtimes]]\nname = "py"\nrequirements = []\n'
        f'python_implementation = "cpython@{sys.version_info.major}.{sys.version_info.minor}.0"\n'
        f'[tool.stackbuild]\nplatforms = ["{host_platform()}"]\n'
        '[tool.stackbuild.layers.py]\nsources = ["local"]\n'
        "[tool.stackbuild.frames]\nlevel = 1\nbytecode = false\n"
    )
    spec.chmod(0o644)
    for words in (["lock"], ["publish", "--platform", "host"], ["clean"]):
        done = run(*words)
        assert "home" not in done.stderr
        # Not every interpreter can be packed, and what decides that is not looked at here.
        assert done.returncode == 0 or "can be packed" in done.stderr, done.stderr
    assert (directory / ".stackbuild/cache").is_dir()
