"""The wheelhouse, filled by sha256 from an index on loopback."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import uv

from stackbuild.errors import FetchError, IntegrityError, ManyLocksError
from stackbuild.lock.wheelhouse import fetch
from stackbuild.messages import Silent
from stackbuild.platforms import Platform, host_platform
from tests.support.http import Page, serving
from tests.support.index import IndexServer
from tests.support.locking import LINUX, MAC, RUNTIME, application, framework, only, open_project
from tests.support.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.locking import Project

TWO = only(Platform.LINUX_X64, Platform.MACOSX_AARCH64)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with open_project(tmp_path) as opened:
        opened.wheel("base", "1.0", LINUX, MAC)
        opened.wheel("pure", "1.0")
        opened.write(framework("fw", "base", "pure", extra=TWO))
        opened.lock()
        yield opened


def _fetch(project: Project, index: str | None = None) -> dict[str, Path]:
    locks = [project.read("fw", platform) for platform in ("linux-x64", "macosx-aarch64")]
    return fetch(project.stack, project.workspace, locks, Silent(), index=index)


def test_fills_the_wheelhouse_by_sha256(project: Project) -> None:
    files = _fetch(project)
    names = sorted(path.name for path in project.index.directory.iterdir())
    assert sorted(path.name for path in files.values()) == names
    for sha256, path in files.items():
        assert path.parent == project.directory / "wheelhouse"
        assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def test_what_is_there_is_not_asked_for(project: Project) -> None:
    first = _fetch(project)
    project.index.forget()
    assert _fetch(project) == first
    assert project.index.requests == ()


def test_remembered_addresses_spare_the_index_pages(project: Project) -> None:
    project.index.forget()
    _fetch(project)
    assert project.index.count("GET", "/simple/") == 0
    assert project.index.count("GET", "/files/") == 3


def test_forgotten_addresses_are_looked_up_again(project: Project) -> None:
    shutil.rmtree(project.workspace.addresses)
    assert len(_fetch(project)) == 3


def test_a_stale_address_is_looked_up_again(project: Project) -> None:
    for path in project.workspace.addresses.rglob("*.json"):
        path.write_text(path.read_text().replace("/files/", "/elsewhere/"))
    assert len(_fetch(project)) == 3


def test_a_better_wheel_in_the_index_does_not_hide_the_locked_one(project: Project) -> None:
    shutil.rmtree(project.workspace.addresses)
    project.wheel("base", "1.0", "cp312-cp312-manylinux_2_28_x86_64")
    names = {path.name for path in _fetch(project).values()}
    assert f"base-1.0-{LINUX}.whl" in names
    assert len(names) == 3


def test_another_index_may_serve_the_files(project: Project, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    shutil.copytree(project.index.directory, mirror)
    with IndexServer(mirror) as other:
        project.index.forget()
        assert len(_fetch(project, index=other.url)) == 3
        assert project.index.requests == ()
        assert other.count("GET", "/files/") >= 3


def test_a_file_with_another_content_is_refused(project: Project) -> None:
    path = project.index.directory / "pure-1.0-py3-none-any.whl"
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    with pytest.raises((IntegrityError, FetchError)) as caught:
        _fetch(project)
    assert "pure-1.0-py3-none-any.whl" in str(caught.value)
    assert not (project.directory / "wheelhouse" / path.name).exists()
    assert (project.directory / f"wheelhouse/base-1.0-{LINUX}.whl").exists()


def test_a_file_that_no_index_has_is_named(project: Project) -> None:
    (project.index.directory / "pure-1.0-py3-none-any.whl").unlink()
    with pytest.raises(FetchError) as caught:
        _fetch(project)
    lines = str(caught.value).splitlines()
    assert lines[0] == "no package index has the file that the lock names"
    assert "  file: pure-1.0-py3-none-any.whl" in lines


def test_nothing_is_asked_of_uv(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def find() -> str:
        raise AssertionError("uv is not needed where the spec names a default index")

    monkeypatch.setattr("uv.find_uv_bin", find)
    shutil.rmtree(project.workspace.addresses)
    project.index.forget()
    assert len(_fetch(project)) == 3
    # One page serves both platforms.
    assert project.index.count("GET", "/simple/") == 2


def test_an_index_that_sends_no_page_is_told(project: Project) -> None:
    shutil.rmtree(project.workspace.addresses)
    with serving() as server:
        server.script("/base/", *[Page(b"{", "application/json")] * 2)
        with pytest.raises(ManyLocksError) as caught:
            fetch(
                project.stack,
                project.workspace,
                [project.read("fw")],
                Silent(),
                index=server.url,
            )
    assert caught.value.exit_code == FetchError.exit_code
    text = str(caught.value)
    assert "the package index cannot be read\n     layer: fw\n     platform: linux-x64" in text
    assert f"sends a page that cannot be read ({server.url}/base/)" in text
    assert "no package index has the file that the lock names" in text


def test_files_that_moved_since_the_pages_were_read_are_found(project: Project) -> None:
    project.index.files_at = "elsewhere"
    assert len(_fetch(project)) == 3
    assert project.index.count("GET", "/elsewhere/") == 3


def test_a_file_of_another_size_is_fetched_again(project: Project) -> None:
    path = project.directory / "wheelhouse/pure-1.0-py3-none-any.whl"
    path.parent.mkdir()
    path.write_bytes(b"short")
    _fetch(project)
    assert path.read_bytes() == (project.index.directory / path.name).read_bytes()


def test_uv_installs_from_the_lock(tmp_path: Path) -> None:
    host = host_platform()
    version = ".".join(map(str, sys.version_info[:3]))
    runtime = RUNTIME.replace("3.12.10", version)
    local = '[tool.stackbuild.layers.rt]\nsources = ["local"]\n'
    with open_project(tmp_path) as project:
        project.wheel("base", "1.0")
        project.wheel("top", "1.0", requires=("base",))
        layers = framework("fw", "base", extra=only(host)) + application("app", "fw", "top")
        project.write(layers + local, runtime=runtime)
        project.lock(platforms=[host])
        locks = [project.read(layer, host) for layer in ("rt", "fw", "app")]
        assert locks[0].interpreter is None
        assert len(fetch(project.stack, project.workspace, locks, Silent())) == 2
        for layer, module in (("fw", "base"), ("app", "top"), ("rt", None)):
            target = tmp_path / f"installed-{layer}"
            subprocess.run(
                [
                    *(uv.find_uv_bin(), "pip", "install", "--no-config", "--offline", "--quiet"),
                    *("--cache-dir", str(tmp_path / "uv"), "--python", sys.executable),
                    *("--target", str(target), "-r", str(project.path(layer, host))),
                ],
                check=True,
            )
            modules = [path.name for path in target.glob("*.py")] if target.exists() else []
            assert modules == ([f"{module}.py"] if module else [])


def test_two_files_of_one_name_are_told_apart(project: Project, tmp_path: Path) -> None:
    _fetch(project)
    other = tmp_path / "other"
    make_wheel(other, "pure", "1.0", {"pure.py": "different = True"})
    project.write(framework("fw", "base", "pure", extra=TWO) + framework("two", "pure", extra=TWO))
    with IndexServer(other) as server:
        index = f'[[tool.uv.index]]\nname = "more"\nurl = "{server.url}"\nexplicit = true\n'
        bound = TWO + 'package_indexes = {pure = "more"}\n'
        project.write(
            framework("fw", "base", "pure", extra=TWO)
            + framework("two", "pure", extra=bound)
            + index
        )
        project.lock()
        locks = [project.read("fw"), project.read("two")]
        with pytest.raises(Exception, match="two locks name different files with the same name"):
            fetch(project.stack, project.workspace, locks, Silent())
