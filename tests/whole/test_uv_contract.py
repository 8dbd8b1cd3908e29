"""What stackbuild relies on of uv, each behaviour by itself.

`pyproject.toml` takes one minor version of uv. Where the next one is taken up,
these tests tell which of the reasons for code in `resolve/uv.py`,
`resolve/request.py` and `builds/` still hold.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tomli
import uv
from packaging.requirements import Requirement
from packaging.version import Version

from stackbuild.resolve.request import CoreMetadata, write_stub_wheel
from tests.support.building import make_sdist
from tests.support.http import Status, serving
from tests.support.index import IndexServer
from tests.support.locking import LINUX, MAC, WINDOWS
from tests.support.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

LINUX_X64 = ("--python-platform", "x86_64-manylinux_2_28")
PROJECT = Path(__file__).parents[2]
KEPT = {"api": "max-age=600", "files": "max-age=365000000"}


@dataclass
class Uv:
    """uv with a cache of its own, and an index."""

    directory: Path
    index: IndexServer

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run it in the directory."""
        return subprocess.run(
            [uv.find_uv_bin(), *words, "--cache-dir", str(self.directory / "cache")],
            cwd=self.directory,
            env={"PATH": os.environ["PATH"], "HOME": str(self.directory), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def compile(
        self,
        *requirements: str,
        words: tuple[str, ...] = LINUX_X64,
        settings: str = "",
        project: str = "",
        constraints: str = "",
        overrides: str = "",
        cache_control: bool = False,
        environment: dict[str, str] | None = None,
        before: str = "",
        python: str = "3.12.10",
    ) -> tuple[int, str]:
        """The exit code of `uv pip compile`, and its answer; `before` is in the output file."""
        table: dict[str, object] = {"url": self.index.url, "default": True}
        if cache_control:
            table["cache-control"] = KEPT
        index = "[[index]]\n" + "".join(
            f"{key} = {json.dumps(value).replace(': ', ' = ')}\n" for key, value in table.items()
        )
        (self.directory / "uv.toml").write_text(f"{settings}\n{index}")
        (self.directory / "pyproject.toml").write_text(
            f'[project]\nname = "layer-x"\nversion = "0"\n'
            f"dependencies = {json.dumps(requirements)}\n[tool.uv]\nworkspace = {{}}\n{project}\n"
        )
        (self.directory / "constraints.txt").write_text(constraints)
        (self.directory / "overrides.txt").write_text(overrides)
        path = self.directory / "pylock.x.toml"
        path.write_text(before) if before else path.unlink(missing_ok=True)
        done = self.run(
            *("pip", "compile", "pyproject.toml", "--config-file", "uv.toml"),
            *("--constraints", "constraints.txt", "--overrides", "overrides.txt"),
            *("--python", sys.executable, "--no-python-downloads", "--python-version", python),
            *("--only-binary", ":all:", "--quiet", "--no-header", "--system-certs"),
            *("--output-file", path.name, "--format", "pylock.toml", *words),
            **(environment or {}),
        )
        return done.returncode, path.read_text() if path.exists() else ""

    def packages(self, *requirements: str, **options: Any) -> dict[str, dict[str, Any]]:
        """The packages of an answer, by name."""
        code, text = self.compile(*requirements, **options)
        assert code == 0
        return {item["name"]: item for item in tomli.loads(text).get("packages", [])}

    def versions(self, *requirements: str, **options: Any) -> dict[str, str]:
        """Their versions."""
        return {n: item["version"] for n, item in self.packages(*requirements, **options).items()}

    def wheel(self, name: str, release: str, *tags: str, requires: tuple[str, ...] = ()) -> None:
        """Put wheels into the index."""
        for tag in tags or ("py3-none-any",):
            files = {f"{name}.py": ""}
            make_wheel(self.index.directory, name, release, files, requires=requires, tag=tag)

    def stub(self, name: str, release: str = "0", *requires: str) -> str:
        """The address of a wheel without files."""
        metadata = CoreMetadata(version=Version(release), dependencies=requires)
        return write_stub_wheel(self.directory, name, metadata).as_uri()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Uv]:
    for name in ("index", "run"):
        (tmp_path / name).mkdir()
    with IndexServer(tmp_path / "index", json=True) as index:
        yield Uv(tmp_path / "run", index)


def test_the_version_is_one_that_the_project_takes() -> None:
    project = tomli.loads((PROJECT / "pyproject.toml").read_text())["project"]
    (taken,) = (r for text in project["dependencies"] if (r := Requirement(text)).name == "uv")
    installed = Version(version("uv"))
    assert installed in taken.specifier
    assert f"{installed.major}.{installed.minor + 1}" not in taken.specifier


# exit codes


def test_an_answer_ends_with_0_and_none_with_1(own: Uv) -> None:
    own.wheel("base", "1.0")
    own.wheel("mac", "1.0", MAC)
    assert own.compile("base")[0] == 0
    for requirement in ("base>2", "nowhere", "mac"):
        assert own.compile(requirement) == (1, "")


def test_what_uv_cannot_work_with_ends_with_2(own: Uv) -> None:
    assert own.compile("base", settings="no-such-setting = 1")[0] == 2
    (own.directory / "cache").mkdir(exist_ok=True)
    for kept in (own.directory / "cache").iterdir():
        kept.unlink()
    (own.directory / "cache").rmdir()
    (own.directory / "cache").touch()
    assert own.compile("base")[0] == 2


@pytest.mark.parametrize("status", [401, 403])
def test_an_index_that_refuses_ends_the_search_with_1(own: Uv, status: int) -> None:
    """Which is why the exit code alone does not tell a contradiction."""
    own.wheel("base", "1.0")
    with serving() as server:
        server.script("/base/", *[Status(status)] * 9)
        settings = f'[[index]]\nurl = "{server.url}"\n'
        assert own.compile("base", settings=settings)[0] == 1
        assert own.index.requests == ()


def test_a_wheel_that_is_damaged_ends_with_1(own: Uv) -> None:
    (own.index.directory / "base-1.0-py3-none-any.whl").write_bytes(b"no wheel")
    assert own.compile("base")[0] == 1


@pytest.mark.slow  # uv tries again for some seconds
def test_an_index_that_does_not_answer_ends_with_2(own: Uv) -> None:
    settings = '[[index]]\nurl = "http://127.0.0.1:9/"\n'
    assert own.compile("base", settings=settings)[0] == 2


# the answer


def test_the_keys_of_an_answer(own: Uv) -> None:
    own.wheel("base", "1.0", LINUX, WINDOWS)
    package = own.packages("base")["base"]
    assert package["version"] == "1.0"
    for wheel in package["wheels"]:
        assert wheel["url"].startswith(own.index.url.replace("/simple/", "/files/base-1.0-"))
        assert len(wheel["hashes"]["sha256"]) == 64
        assert wheel["size"] > 0
    own.index.json = False
    assert "size" not in own.packages("base", words=(*LINUX_X64, "--refresh"))["base"]["wheels"][0]


def test_a_local_wheel_has_a_path(own: Uv) -> None:
    package = own.packages("base", constraints=f"base @ {own.stub('base', '7')}\n")["base"]
    (wheel,) = package.get("wheels") or [package["archive"]]
    assert "url" not in wheel
    assert wheel["path"].endswith("base-7-py3-none-any.whl")


def test_versions_of_the_output_file_are_preferred(own: Uv) -> None:
    for release in ("1.0", "2.0"):
        own.wheel("base", release)
    before = 'lock-version = "1.0"\ncreated-by = "stackbuild"\n'
    before += '[[packages]]\nname = "base"\nversion = "1.0"\n'
    assert own.versions("base", before=before) == {"base": "1.0"}
    assert own.versions("base>1", before=before) == {"base": "2.0"}


def test_the_default_index_is_told_in_the_output(own: Uv) -> None:
    (own.directory / "nothing.txt").touch()
    words = ("--no-config", "--emit-index-url", "--quiet", "--no-header", "--python")
    output = ("--output-file", "answer.txt")
    done = own.run("pip", "compile", "nothing.txt", *words, sys.executable, *output)
    assert done.returncode == 0
    lines = (own.directory / "answer.txt").read_text().split("\n")
    assert [line for line in lines if line.startswith("--index-url https://")] == [lines[0]]


# requirements, constraints, overrides


def test_no_deps_follows_nothing(own: Uv) -> None:
    own.wheel("top", "1.0", requires=("nowhere",))
    assert own.versions("top", words=(*LINUX_X64, "--no-deps")) == {"top": "1.0"}


def test_a_constraint_asks_for_nothing_by_itself(own: Uv) -> None:
    for release in ("1.0", "2.0"):
        own.wheel("base", release)
    own.wheel("top", "1.0", requires=("base",))
    assert own.versions("top", constraints="base==1.0\nnowhere==9\n") == {
        "base": "1.0",
        "top": "1.0",
    }


def test_a_constraint_with_an_address_gives_the_version_and_what_it_needs(own: Uv) -> None:
    own.wheel("top", "1.0", requires=("built>=3",))
    own.wheel("needed", "1.0")
    constraints = f"built @ {own.stub('built', '3.5', 'needed')}\n"
    assert own.versions("top", constraints=constraints) == {
        "built": "3.5",
        "needed": "1.0",
        "top": "1.0",
    }
    assert own.compile("top", "built<3", constraints=constraints)[0] == 1
    assert own.versions("needed", constraints=constraints) == {"needed": "1.0"}


def test_an_override_takes_the_place_of_what_anyone_asks_for(own: Uv) -> None:
    for release in ("1.0", "2.0"):
        own.wheel("base", release)
    own.wheel("top", "1.0", requires=("base>=2",))
    assert own.versions("top", "base==2.0", overrides="base<2\n") == {"base": "1.0", "top": "1.0"}
    assert own.versions("base", overrides="top\n") == {"base": "2.0"}


def test_an_override_with_an_address_is_in_the_answer_only_where_it_is_asked_for(own: Uv) -> None:
    own.wheel("top", "1.0", requires=("left>=9",))
    own.wheel("other", "1.0")
    overrides = f"left @ {own.stub('left')}\n"
    assert own.versions("top", overrides=overrides) == {"left": "0", "top": "1.0"}
    assert own.versions("top", "left[x]>3", overrides=overrides) == {"left": "0", "top": "1.0"}
    assert own.versions("other", overrides=overrides) == {"other": "1.0"}


def test_a_source_distribution_with_given_metadata_is_not_built(own: Uv) -> None:
    make_sdist(own.index.directory, "native", "1.0", {})
    own.wheel("native", "1.0", LINUX)
    own.wheel("needed", "1.0")
    settings = '[[dependency-metadata]]\nname = "native"\nrequires-dist = ["needed"]\n'
    words = (*LINUX_X64, "--no-binary", "native")
    packages = own.packages("native", words=words, settings=settings)
    assert set(packages) == {"native", "needed"}
    assert "wheels" not in packages["native"]
    assert packages["native"]["sdist"]["url"].endswith("/files/native-1.0.tar.gz")
    assert own.compile("native", words=(*LINUX_X64, "--no-binary", "needed"))[0] == 0


def test_metadata_without_a_version_is_for_all_of_them(own: Uv) -> None:
    own.wheel("top", "1.0", requires=("nowhere",))
    settings = '[[dependency-metadata]]\nname = "top"\nrequires-dist = []\n'
    assert own.versions("top", settings=settings) == {"top": "1.0"}


def test_the_index_of_a_source_counts_only_where_it_is_required_directly(
    own: Uv, tmp_path: Path
) -> None:
    make_wheel(tmp_path / "other", "torch", "1.0", {"torch.py": ""})
    own.wheel("torch", "9.0")
    own.wheel("top", "1.0", requires=("torch",))
    with IndexServer(tmp_path / "other") as other:
        table = f'[[tool.uv.index]]\nname = "other"\nurl = "{other.url}"\nexplicit = true\n'
        project = f'[tool.uv.sources]\ntorch = {{index = "other"}}\n{table}'
        assert own.versions("top", project=project)["torch"] == "9.0"
        assert own.versions("top", "torch", project=project)["torch"] == "1.0"
        # And an override is looked up everywhere but there.
        versions = own.versions("top", "torch", project=project, overrides="torch>=1\n")
        assert versions["torch"] == "9.0"


def test_the_level_of_macos_comes_from_a_variable(own: Uv) -> None:
    own.wheel("base", "1.0", "cp312-cp312-macosx_14_0_arm64")
    words = ("--python-platform", "aarch64-apple-darwin")
    assert own.compile("base", words=words)[0] == 1
    variables = {"MACOSX_DEPLOYMENT_TARGET": "14.0"}
    assert own.compile("base", words=words, environment=variables)[0] == 0


@pytest.mark.parametrize("platform", ["linux", "windows", "macos"])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_names_of_platforms(own: Uv, platform: str, machine: str) -> None:
    name = {"linux": "manylinux_2_40", "windows": "pc-windows-msvc", "macos": "apple-darwin"}
    own.wheel("base", "1.0")
    words = ("--python-platform", f"{machine}-{name[platform]}")
    assert own.versions("base", words=words) == {"base": "1.0"}


# what is remembered


def test_pages_are_remembered_where_a_setting_says_so_and_refresh_is_then_ignored(own: Uv) -> None:
    own.wheel("base", "1.0")
    assert own.versions("base", cache_control=True) == {"base": "1.0"}
    own.index.forget()
    own.wheel("base", "2.0")
    for words in (LINUX_X64, (*LINUX_X64, "--refresh")):
        assert own.versions("base", words=words, cache_control=True) == {"base": "1.0"}
    assert own.index.count("GET", "/simple/") == 0
    assert own.versions("base", words=(*LINUX_X64, "--refresh")) == {"base": "2.0"}


# the host


def test_a_configuration_above_the_directory_does_not_count(own: Uv) -> None:
    own.wheel("base", "1.0")
    above = own.directory.parent
    (above / "uv.toml").write_text('[[index]]\nurl = "http://127.0.0.1:9/"\n')
    (above / "pyproject.toml").write_text(
        '[tool.uv]\noverride-dependencies = ["base>7"]\n[tool.uv.workspace]\nmembers = ["run"]\n'
        '[tool.uv.sources]\nbase = {path = "nowhere"}\n'
    )
    assert own.versions("base") == {"base": "1.0"}


def test_a_python_that_is_not_there_is_resolved_for_all_the_same(own: Uv) -> None:
    files = {"base.py": ""}
    make_wheel(own.index.directory, "base", "1.0", files, tag="cp310-none-any")
    assert own.compile("base")[0] == 1
    assert own.versions("base", python="3.10.99") == {"base": "1.0"}


# the environment of a build


def test_an_environment_of_pinned_wheels(own: Uv) -> None:
    own.wheel("base", "1.0", requires=("nowhere",))
    package = own.packages("base", words=(*LINUX_X64, "--no-deps"))["base"]
    sha256 = package["wheels"][0]["hashes"]["sha256"]
    words = ("--no-config", "--clear", "--python", sys.executable, "env")
    assert own.run("venv", *words).returncode == 0
    python = "env/Scripts/python.exe" if os.name == "nt" else "env/bin/python"
    checked = ("--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", "pins.txt")
    install = ("pip", "install", "--python", python, "--config-file", "uv.toml")
    for digest, code in (("0" * 64, 1), (sha256, 0)):
        (own.directory / "pins.txt").write_text(f"base==1.0 --hash=sha256:{digest}\n")
        assert own.run(*install, *checked).returncode == code
    listed = own.run("pip", "list", "--python", python, "--format", "json")
    assert json.loads(listed.stdout) == [{"name": "base", "version": "1.0"}]
