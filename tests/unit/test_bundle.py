"""`stackbuild bundle`: the script of a bundle, with all shells that are there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from stackbuild.install.bundle import HEADER_SIZE
from stackbuild.platforms import host_platform
from stackbuild.variables import Variable
from tests.support.emptyroot import programs
from tests.support.publish import Files, head
from tests.support.roots import fail, succeed

if TYPE_CHECKING:
    from pathlib import Path

from tests.support.publish import Publisher

pytestmark = pytest.mark.skipif(os.name != "posix", reason="bundles are scripts for sh")

SHELLS = [
    shell
    for shell in ("sh", "dash", "bash", "bash --posix", "busybox sh", "ksh")
    if shutil.which(shell.split()[0])
]
MODULE = """\
import json, os, sys
names = ["VIRTUAL_ENV", "PATH", "PYTHONHOME", "WORD", "STACKBUILD_LAYER"]
print(json.dumps({name: os.environ.get(name) for name in names} | {"arguments": sys.argv[1:]}))
if "wait" in sys.argv:
    import time
    time.sleep(60)
sys.exit(len(sys.argv))
"""


class Bundle:
    """A bundle, and the directories that it is started with."""

    def __init__(self, made: Publisher, tmp_path: Path, **more: str) -> None:
        self.path = tmp_path / "with space" / "app.run"
        self.cache = tmp_path / "the cache"
        self.modules = tmp_path / "modules"
        self.modules.mkdir()
        (self.modules / "program.py").write_text(MODULE)
        self.words = ["bundle", "app", "-o", str(self.path), "--from", str(made.directory)]
        self.environment = {
            "PATH": os.environ["PATH"],
            "STACKBUILD_BUNDLES": str(self.cache),
            "PYTHONPATH": str(self.modules),
            **more,
        }

    def command(self, *words: str | Path) -> list[str]:
        return [str(self.path), *map(str, words)]

    def start(
        self, *words: str | Path, shell: str = "", **more: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*shell.split(), *self.command(*words)],
            env=self.environment | more,
            cwd=self.path.parent,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def refuse(self, *words: str | Path, **more: str) -> str:
        done = self.start(*words, **more)
        assert done.returncode == 125, done.stderr
        assert done.stderr.startswith(f"{self.path}: error: ")
        return done.stderr

    @property
    def tree(self) -> Path:
        (tree,) = self.cache.iterdir()
        return tree


def publish(made: Publisher, *, module: str = "program", python: str = sys.executable) -> None:
    runtime = made.runtime_of(python)
    files: Files = {
        **head("python"),
        "share/venv/metadata/venvstacks_layer.json": json.dumps({"launch_module": module}),
        "share/venv/metadata/environment.sh": "export WORD=set\n",
    }
    environment = {"WORD": Variable(value="set")}
    made.publish("app", {"app": files}, below=[runtime], environment=environment)


@pytest.fixture
def bundle(made: Publisher, tmp_path: Path) -> Bundle:
    publish(made)
    bundle = Bundle(made, tmp_path)
    succeed(*bundle.words)
    return bundle


@pytest.mark.parametrize("shell", ["", *SHELLS])
def test_a_bundle_starts_as_run_does(bundle: Bundle, shell: str) -> None:
    for _ in range(2):  # unpacked, and found
        done = bundle.start("a b", "*", "", shell=shell, PYTHONHOME="/nowhere")
        assert done.returncode == 4, done.stderr
        assert done.stderr == ""
        layer = f"{bundle.tree}/app"
        assert json.loads(done.stdout) == {
            "VIRTUAL_ENV": layer,
            "PATH": f"{layer}/bin:{os.environ['PATH']}",
            "PYTHONHOME": None,
            "WORD": "set",
            "STACKBUILD_LAYER": None,
            "arguments": ["a b", "*", ""],
        }
    assert bundle.start("--verify", shell=shell).stdout.startswith("sha256 ")
    assert bundle.start("--", "--verify", shell=shell).returncode == 2


def test_the_archive_is_read_once(bundle: Bundle, made: Publisher, tmp_path: Path) -> None:
    before = bundle.path.read_bytes()
    answer = json.loads(succeed(*bundle.words, "--json"))
    assert answer["layers"] == ["python", "app"]
    assert answer["file"] == str(bundle.path)
    assert bundle.path.read_bytes() == before
    assert bundle.path.stat().st_mode & 0o111
    assert bundle.start().returncode == 1
    os.truncate(bundle.path, HEADER_SIZE)
    assert bundle.start().returncode == 1
    assert "the bundle is damaged; copy it again" in bundle.refuse("--verify")
    assert [path.name for path in bundle.path.parent.iterdir()] == [bundle.path.name]
    default = succeed("bundle", "app", "--from", made.directory, cwd=tmp_path)
    assert str(tmp_path / f"app-{host_platform()}.run") in default


def test_a_damaged_bundle_unpacks_nothing(bundle: Bundle) -> None:
    data = bytearray(bundle.path.read_bytes())
    data[-100] ^= 1
    bundle.path.write_bytes(data)
    assert "expected: sha256" in bundle.refuse()
    assert not list(bundle.cache.iterdir())
    assert "the bundle is damaged" in bundle.refuse("--extract", "out")
    assert [path.name for path in bundle.path.parent.iterdir()] == [bundle.path.name]


def test_extract(bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for words in ([], [""], ["a", "b"]):
        assert "usage: --extract DIR" in bundle.refuse("--extract", *words)
    done = bundle.start("--extract", f"{out}/")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in out.iterdir()) == [
        *(".stackbuild", ".stackbuild.tag", "app", "python")
    ]
    assert not bundle.cache.exists()
    assert "exists and is not an empty directory" in bundle.refuse("--extract", out)
    assert bundle.start("--extract", "-x").returncode == 0
    assert (bundle.path.parent / "-x" / "app").is_dir()


def test_first_starts_at_the_same_time(bundle: Bundle) -> None:
    running = [
        subprocess.Popen(bundle.command(), env=bundle.environment, stdout=subprocess.PIPE)
        for _ in range(6)
    ]
    for process in running:
        output, _ = process.communicate(timeout=60)
        assert (process.returncode, json.loads(output)["arguments"]) == (1, [])
    assert bundle.tree.is_dir()


def test_what_killed_starts_left(bundle: Bundle) -> None:
    bundle.start()
    tree = bundle.tree
    shutil.rmtree(tree)
    host = os.uname().nodename
    ended = subprocess.Popen(["true"])
    ended.wait()
    lock = tree.with_name(f"{tree.name}.lock")
    lock.mkdir()
    (lock / "holder").write_text(f"{host}.{ended.pid}\n")
    for name in (f"{host}.{ended.pid}", f"{host}.{os.getpid()}", f"other.{ended.pid}"):
        partial = tree.with_name(f"{tree.name}.{name}.partial")
        (partial / "app").mkdir(parents=True)
    os.utime(partial, (0, 0))  # of another machine, and old
    assert bundle.start().returncode == 1
    assert {path.name for path in bundle.cache.iterdir()} == {
        tree.name,
        f"{tree.name}.{host}.{os.getpid()}.partial",
    }


def test_a_start_waits_for_another_one(bundle: Bundle) -> None:
    bundle.start()
    tree = bundle.tree
    lock, other = tree.with_name(f"{tree.name}.lock"), tree.with_name("other")
    tree.rename(other)
    lock.mkdir()
    (lock / "holder").write_text(f"{os.uname().nodename}.{os.getpid()}\n")
    os.truncate(bundle.path, HEADER_SIZE)
    process = subprocess.Popen(bundle.command(), env=bundle.environment, stdout=subprocess.PIPE)
    time.sleep(0.3)
    assert process.poll() is None
    other.rename(tree)
    assert json.loads(process.communicate(timeout=60)[0])["arguments"] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_signals_reach_the_program(bundle: Bundle, number: signal.Signals) -> None:
    process = subprocess.Popen(
        bundle.command("wait"),
        env=bundle.environment | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout
    process.stdout.readline()
    process.send_signal(number)
    assert process.wait(60) == -number
    process.stdout.close()


def test_read_only_media(bundle: Bundle) -> None:
    bundle.path.chmod(0o444)
    bundle.path.parent.chmod(0o555)
    try:
        assert bundle.start(shell="sh").returncode == 1
    finally:
        bundle.path.parent.chmod(0o755)
    link = bundle.path.with_name("link")
    link.symlink_to(bundle.path.name)
    done = subprocess.run(["sh", "link"], env=bundle.environment, cwd=link.parent, check=False)
    assert done.returncode == 1


def test_where_layers_are_unpacked(bundle: Bundle, tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    default = {"linux": ".cache", "macos": "Library/Caches"}[host_platform().os]
    for variables, place in (
        ({"HOME": home}, f"{home}/{default}/stackbuild-bundles"),
        ({"HOME": home, "XDG_CACHE_HOME": f"{home}/x"}, f"{home}/x/stackbuild-bundles"),
        ({"HOME": home, "XDG_CACHE_HOME": "no"}, f"{home}/{default}/stackbuild-bundles"),
        ({"STACKBUILD_BUNDLES": "relative"}, f"{bundle.path.parent}/relative"),
    ):
        done = bundle.start(**({"STACKBUILD_BUNDLES": ""} | variables))
        assert json.loads(done.stdout)["VIRTUAL_ENV"].startswith(f"{place}/app-"), done.stderr
    assert "HOME is not set; set STACKBUILD_BUNDLES" in bundle.refuse(STACKBUILD_BUNDLES="")
    (tmp_path / "file").touch()
    error = bundle.start(STACKBUILD_BUNDLES=str(tmp_path / "file"))
    assert error.returncode == 125
    assert "file is not writable; set STACKBUILD_BUNDLES to another directory" in error.stderr


def test_programs_of_the_machine(bundle: Bundle, tmp_path: Path) -> None:
    few = ("sh", "uname", "mkdir", "rm", "tail", "head", "tar", "find")
    path = programs(tmp_path / "1", *few)
    assert "this machine has no program gzip" in bundle.refuse(PATH=path)
    path = programs(tmp_path / "2", *few, "gzip")
    assert "no program for sha256 (sha256sum, shasum or openssl)" in bundle.refuse(PATH=path)
    for name in ("sha256sum", "shasum", "openssl"):
        if shutil.which(name):
            shutil.rmtree(bundle.cache)
            done = bundle.start(PATH=programs(tmp_path / name, *few, "gzip", name))
            assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("name", ["gzip", "tar"])
def test_a_program_that_fails_at_its_end(bundle: Bundle, tmp_path: Path, name: str) -> None:
    """Its exit code counts, even if all files are there."""
    directory = tmp_path / "failing"
    directory.mkdir()
    failing = directory / name
    failing.write_text(f'#!/bin/sh\n{shutil.which(name)} "$@"\nexit 1\n')
    failing.chmod(0o755)
    error = bundle.refuse(PATH=f"{directory}:{os.environ['PATH']}")
    assert "the layers cannot be unpacked into" in error
    assert not list(bundle.cache.iterdir())


def test_an_interpreter_that_does_not_run(made: Publisher, tmp_path: Path) -> None:
    publish(made, python="/nowhere/python")
    bundle = Bundle(made, tmp_path)
    succeed(*bundle.words)
    done = bundle.start()
    assert done.returncode == 125
    assert f"does not run here; it is for {host_platform()}" in done.stderr
    assert not list(bundle.cache.iterdir())


def test_names_are_words_for_the_shell(made: Publisher, tmp_path: Path) -> None:
    publish(made, module="$(touch pwned); 'x")
    bundle = Bundle(made, tmp_path)
    succeed(*bundle.words)
    assert "No module named $(touch pwned); 'x" in bundle.start().stderr
    assert not (bundle.path.parent / "pwned").exists()
    publish(made, module="m" * 9000)
    assert "too long for the script of a bundle" in fail(8, *bundle.words)


def test_what_is_refused(made: Publisher, tmp_path: Path) -> None:
    words = ["bundle", "atls", "-o", str(tmp_path / "b"), "--from", str(made.directory)]
    error = fail(2, *words, "--platform", "windows-x64")
    assert "a bundle is a script for sh, which Windows does not have" in error
    assert "stackbuild export atls --archive zip" in error
    error = fail(2, "bundle", "*", "--from", made.directory)
    assert "'*' matches several layers" in error
    assert "--allow-unresolved cannot be combined" in fail(2, *words, "--allow-unresolved")
    (tmp_path / "b").write_text("#!/bin/sh\n# mine\n")
    assert "something that stackbuild did not make is in the way" in fail(8, *words)
