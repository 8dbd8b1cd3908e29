"""`publish --bootstrap`: install.sh with few programs, on a web server; and what is refused."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from stackbuild.api import InstallError, UsageError, write_bootstrap
from stackbuild.compose.export_directory import ExportDirectory
from stackbuild.messages import Silent
from stackbuild.platforms import Platform
from tests.support.emptyroot import programs
from tests.support.http import serving
from tests.support.publish import head
from tests.support.roots import fail, tool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.http import Server
    from tests.support.publish import Publisher

pytestmark = pytest.mark.skipif(os.name != "posix", reason="install.sh is a script for sh")

FEW = ("sh", "uname", "mkdir", "rm", "mv", "chmod", "tail", "head", "tar", "gzip", "find")
DOWNLOADERS = [name for name in ("curl", "wget") if shutil.which(name)]
SUMS = [name for name in ("sha256sum", "shasum", "openssl") if shutil.which(name)]


class Consumer:
    """A machine with few programs, and the server that it installs from."""

    def __init__(self, made: Publisher, server: Server, home: Path) -> None:
        # Its stackbuild is that of the tests, started by the interpreter of the tests.
        made.publish("stackbuild", {"s": head("python")}, below=[made.runtime_of(sys.executable)])
        self.server = server
        self.home = home
        self.script = made.directory / "install.sh"
        assert write_bootstrap(made.directory, f"{server.url}/") == (self.script,)
        (self.program,) = (made.directory / "bootstrap").iterdir()

    @property
    def downloads(self) -> int:
        return self.server.count(f"/bootstrap/{self.program.name}")

    def install(
        self, *names: str, script: bytes | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """What `curl … | sh -s -- atls --root …` does with the programs `names`."""
        path = self.home.parent / "-".join(("bin", *names))
        if not path.exists():
            programs(path, *FEW, *names)
        root = self.home.parent / "root"
        done = subprocess.run(
            [path / "sh", "-s", "--", "atls", "--root", root, "--no-sync"],
            input=self.script.read_bytes() if script is None else script,
            env={"PATH": str(path), "HOME": str(self.home)} | environment,
            capture_output=True,
            check=False,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )


@pytest.fixture
def consumer(made: Publisher, tmp_path: Path) -> Iterator[Consumer]:
    if not DOWNLOADERS or not SUMS:
        pytest.skip("this needs curl or wget, and a program for sha256")
    with serving(directory=made.directory) as server:
        yield Consumer(made, server, tmp_path / "a home")


@pytest.mark.parametrize("name", DOWNLOADERS)
def test_layers_without_python(consumer: Consumer, name: str) -> None:
    place = consumer.home / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    for _ in range(2):
        done = consumer.install(SUMS[0], name)
        assert done.returncode == 0, done.stderr
        assert consumer.downloads == 1
        root = consumer.home.parent / "root"
        assert tool(root, "atls") == "atls 1"
    kept = place / "stackbuild-bundles" / consumer.program.name
    assert kept.read_bytes() == consumer.program.read_bytes()
    assert {path.suffix for path in kept.parent.iterdir()} == {"", ".run"}
    listed = subprocess.run([kept, "list", "--root", root], capture_output=True, check=True)
    assert b"atls" in listed.stdout
    kept.write_bytes(b"cut off")
    assert consumer.install(SUMS[-1], name).returncode == 0
    assert consumer.downloads == 2


def test_a_part_of_the_script_does_nothing(consumer: Consumer) -> None:
    script = consumer.script.read_bytes()
    for size in range(1, len(script.rstrip()), len(script) // 12):
        consumer.install(SUMS[0], DOWNLOADERS[0], script=script[:size])
    without_call = script[: script.rindex(b"__main")]
    assert consumer.install(SUMS[0], DOWNLOADERS[0], script=without_call).returncode == 0
    assert consumer.server.requests == []
    assert not consumer.home.exists()


def test_another_file_is_not_started(consumer: Consumer) -> None:
    data = bytearray(consumer.program.read_bytes())
    data[len(data) // 2] ^= 1
    consumer.program.write_bytes(data)
    done = consumer.install(SUMS[0], DOWNLOADERS[0])
    assert done.returncode == 125
    assert f"{consumer.program.name} is not the expected file" in done.stderr
    assert hashlib.sha256(data).hexdigest() in done.stderr
    consumer.program.unlink()
    done = consumer.install(SUMS[0], DOWNLOADERS[0])
    assert done.returncode == 125
    assert f"{consumer.program.name} cannot be downloaded" in done.stderr
    assert not [path for path in consumer.home.rglob("*") if path.is_file()]


def test_what_the_machine_lacks(consumer: Consumer) -> None:
    done = consumer.install(DOWNLOADERS[0])
    assert "no program for sha256 (sha256sum, shasum or openssl)" in done.stderr
    done = consumer.install(SUMS[0])
    assert "this machine has neither curl nor wget" in done.stderr
    done = consumer.install(SUMS[0], DOWNLOADERS[0], HOME="")
    assert "HOME is not set; set STACKBUILD_BUNDLES to a directory" in done.stderr
    uname = consumer.home.parent / f"bin-{SUMS[0]}" / "uname"
    uname.unlink()
    uname.write_text("#!/bin/sh\necho Plan9\n")
    uname.chmod(0o755)
    done = consumer.install(SUMS[0])
    assert "there is no stackbuild for Plan9 on Plan9 at http://" in done.stderr
    assert done.returncode == 125
    assert consumer.downloads == 0


def test_all_platforms_in_the_scripts(made: Publisher) -> None:
    for platform in Platform:
        runtime = made.publish("python", {"r": {"python.exe": "1"}}, platform=platform)
        made.publish("stackbuild", {"s": {"a": "1"}}, below=[runtime], platform=platform)
    written = write_bootstrap(made.directory, "https://layers.example.org/a%20b")
    assert written == (made.directory / "install.sh", made.directory / "install.ps1")
    found = re.findall(r"__name=(\S+)\n +__sha256=(\S+)", written[0].read_text())
    assert [name.rpartition("-")[0] for name, _ in found] == [
        *("stackbuild-linux-aarch64", "stackbuild-linux-x64"),
        *("stackbuild-macosx-aarch64", "stackbuild-macosx-x64"),
    ]
    text = written[1].read_text()
    found += re.findall(r"\$name = '(\S+)'\n +\$sha256 = '(\S+)'", text)
    for name, sha256 in found:
        data = (made.directory / "bootstrap" / name).read_bytes()
        assert hashlib.sha256(data).hexdigest() == sha256
    assert r"$directory\python\python.exe" in text
    with zipfile.ZipFile(made.directory / "bootstrap" / found[-1][0]) as archive:
        assert "stackbuild/a" in archive.namelist()


def test_unchanged_programs_are_not_written_again(made: Publisher) -> None:
    runtime = made.runtime_of(sys.executable)
    made.publish("stackbuild", {"s": head("python")}, below=[runtime])
    write_bootstrap(made.directory, "http://one.example.org")
    (first,) = (made.directory / "bootstrap").iterdir()
    before = first.stat().st_mtime_ns
    write_bootstrap(made.directory, "http://two.example.org")
    assert first.stat().st_mtime_ns == before
    assert "http://two.example.org/install.sh" in (made.directory / "install.sh").read_text()
    made.publish("stackbuild", {"s": {**head("python"), "new": "1"}}, below=[runtime], lock="2")
    write_bootstrap(made.directory, "http://two.example.org")
    assert len(list((made.directory / "bootstrap").iterdir())) == 2


@pytest.mark.parametrize(
    "address",
    [
        "layers",
        "ftp://a.org",
        "http://u:pw@a.org",
        "http://a.org/?x",
        "http://a/$(id)",
        "http://a\n",
    ],
)
def test_addresses_that_are_refused(made: Publisher, address: str) -> None:
    with pytest.raises(UsageError, match="the address for the scripts is not valid") as caught:
        write_bootstrap(made.directory, address)
    assert "pw" not in str(caught.value)


def test_scripts_of_others_stay(made: Publisher) -> None:
    made.publish("stackbuild", {"s": head("python")}, below=[made.runtime_of(sys.executable)])
    for name in ("install.sh", "install.ps1"):
        script = made.directory / name
        script.write_text("#!/bin/sh\necho mine\n")
        with pytest.raises(InstallError, match="something that stackbuild did not make"):
            write_bootstrap(made.directory, "http://a.org")
        assert script.read_text() == "#!/bin/sh\necho mine\n"
        script.unlink()
    write_bootstrap(made.directory, "http://a.org")
    # A copy without the mark is still a directory of published layers.
    ExportDirectory(made.directory).check(Silent())


def test_what_is_refused(made: Publisher) -> None:
    with pytest.raises(UsageError, match="there is no layer 'stackbuild'") as caught:
        write_bootstrap(made.directory, "http://a.org")
    assert "bootstrap/venvstacks.toml" in str(caught.value)
    for words in (["--dry-run"], ["--to", "s3://bucket"]):
        error = fail(2, "publish", "--bootstrap", "http://a.org", *words)
        assert "publish to a directory, and copy that" in error
