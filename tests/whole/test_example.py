"""The example of docs/own-application.md: what the page says is done, in a copy of it."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from tools.standin import PROJECT

from stackbuild.workspace import CACHE_VARIABLE, open_workspace
from tests.support.building import shared_cache
from tests.support.interpreters import packable
from tests.support.stack import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["shared_cache"]

PAGE = PROJECT / "docs" / "own-application.md"
SECONDS = 60


@pytest.fixture
def example(tmp_path: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy for the interpreter of this machine."""
    directory = shutil.copytree(PROJECT / "examples/own-application", tmp_path / "example")
    spec = directory / "venvstacks.toml"
    text = spec.read_text().replace("cpython@3.12.10", f"cpython@{packable().version}")
    text += '[tool.stackbuild.layers."cpython-3.12"]\nsources = ["local"]\n'
    text += f'path = "{packable().prefix.as_posix()}"\n'
    # For a quick test.
    spec.write_text(f"{text}[tool.stackbuild.frames]\nlevel = 1\nbytecode = false\n")
    open_workspace(directory, cache=tmp_path / "cache")
    for part in ("runtimes", "uv"):
        (shared_cache / part).mkdir(parents=True, exist_ok=True)
        (tmp_path / "cache" / part).symlink_to(shared_cache / part)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return directory


def commands() -> list[list[str]]:
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh example\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [line.split() for block in blocks for line in block.splitlines()]


@contextmanager
def served(words: list[str], directory: Path) -> Iterator[str]:
    """The address of the service that `words` starts, on another port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    process = subprocess.Popen([PROGRAM, *words[1:-1], port], cwd=directory)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(SECONDS)


def answer(url: str) -> object:
    until = time.monotonic() + SECONDS
    while True:
        try:
            with urlopen(url, timeout=SECONDS) as response:
                return json.load(response)
        except URLError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


@pytest.mark.index
def test_the_page(example: Path) -> None:
    lock, build, start, start_dev = commands()
    early = subprocess.run(
        [PROGRAM, *start_dev[1:]], cwd=example, capture_output=True, text=True, check=False
    )
    assert early.returncode == 2
    assert "or make this one: stackbuild build\n" in early.stderr
    for words in (lock, build):
        subprocess.run([PROGRAM, *words[1:]], cwd=example, check=True)
    with served(start, example) as address:
        assert answer(f"{address}/total/pear/3") == {"cents": 120}
    with served([word.replace("orders", "stock") for word in start], example) as address:
        assert answer(f"{address}/fruits") == ["apple", "pear"]
    shop = example / "libs/shop/src/shop/__init__.py"
    shop.write_text(shop.read_text().replace("40", "50"))
    with served(start, example) as address:
        assert answer(f"{address}/total/pear/3") == {"cents": 120}
    with served(start_dev, example) as address:
        assert answer(f"{address}/total/pear/3") == {"cents": 150}
    checked = subprocess.run(
        [PROGRAM, "lock", "--check", "--platform", "host"],
        cwd=example,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 4
    assert "libs/shop changed" in checked.stdout
