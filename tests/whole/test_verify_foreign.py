"""`stackbuild verify` of layers for systems that this machine does not run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from stackbuild.errors import FetchError
from stackbuild.platforms import Platform, host_platform
from tests.support import images
from tests.support.archives import make_archive
from tests.support.http import serving
from tests.support.publish import publisher
from tests.support.roots import stackbuild, succeed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PLATFORMS = [Platform.MACOSX_AARCH64, Platform.WINDOWS_X64]

SPEC = """\
[[runtimes]]
name = "cpython"
python_implementation = "cpython@3.12.10"
requirements = []

[[applications]]
name = "app"
runtime = "cpython"
requirements = ["markupsafe==3.0.3", "kiwisolver==1.4.9"]

[tool.stackbuild]
platforms = ["{platform}"]
frames = {{ level = 1, bytecode = false }}

[tool.stackbuild.layers.app.verify]
host-libraries = ["VCRUNTIME140_1.dll"]

[tool.stackbuild.layers.cpython.downloads]
{platform} = {{ url = "{url}", sha256 = "{sha256}" }}
"""

RUNTIMES: Mapping[Platform, Mapping[str, bytes]] = {
    Platform.MACOSX_AARCH64: {
        "bin/python3.12": images.macho(
            needed=["@executable_path/../lib/libpython3.12.dylib", "/usr/lib/libSystem.B.dylib"],
            kind=images.PROGRAM,
        ),
        "lib/libpython3.12.dylib": images.macho(needed=["/usr/lib/libSystem.B.dylib"]),
        "lib/python3.12/os.py": b"",
    },
    Platform.WINDOWS_X64: {
        "python.exe": images.pe(needed=["python312.dll", "KERNEL32.dll"], program=True),
        "python312.dll": images.pe(needed=["KERNEL32.dll", "VCRUNTIME140.dll"]),
        "vcruntime140.dll": images.pe(needed=["KERNEL32.dll"]),
        "Lib/os.py": b"",
        "Lib/venv/scripts/nt/venvlauncher.exe": images.pe(needed=["KERNEL32.dll"], program=True),
    },
}
"""Files of a runtime that others are linked with, of nothing but headers. That for Windows has no
vcruntime140_1.dll, which real ones have."""


@dataclass
class Foreign:
    """A project with one application for one platform, and the root it is installed in."""

    directory: Path
    platform: Platform

    @property
    def spec(self) -> Path:
        return self.directory / "venvstacks.toml"

    @property
    def root(self) -> Path:
        return self.directory / "root"

    def make(self) -> None:
        """Lock, publish and install; skips the test where the package index is out of reach."""
        self.directory.mkdir()
        path = self.directory / "runtime.tar.gz"
        archive = make_archive(
            path, RUNTIMES[self.platform], executable=["bin/python3.12", "python.exe"]
        )
        with serving(files={f"/{path.name}": path.read_bytes()}) as server:
            self.spec.write_text(
                SPEC.format(
                    platform=self.platform,
                    url=f"{server.url}/{path.name}",
                    sha256=archive.sha256,
                )
            )
            for command in ("lock", "publish"):
                done = stackbuild(command, "--spec", self.spec)
                if done.returncode == FetchError.exit_code:
                    pytest.skip(f"the package index cannot be reached: {done.stderr}")
                assert done.returncode == 0, done.stderr
        words = ("--root", self.root, "--platform", self.platform)
        succeed("install", "app", "--from", self.directory / "exports", *words)

    def report(self, *words: str | Path, code: int = 0) -> dict[str, Any]:
        done = stackbuild(
            *("verify", "app", "--root", self.root, "--platform", self.platform, "--json"), *words
        )
        assert done.returncode == code, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@pytest.fixture(params=PLATFORMS)
def foreign(request: pytest.FixtureRequest, tmp_path: Path) -> Foreign:
    if request.param == host_platform():
        pytest.skip("this machine runs these layers")
    return Foreign(tmp_path / "project", request.param)


@pytest.mark.index
def test_real_wheels(foreign: Foreign, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign.make()
    monkeypatch.chdir(foreign.root)
    found = foreign.report("--spec", foreign.spec)
    assert (found["findings"], found["counts"]["distributions"]) == ([], 2)
    native = {"kiwisolver/_cext", "markupsafe/_speedups"}
    linked = sum(not name.endswith("os.py") for name in RUNTIMES[foreign.platform])
    launcher = foreign.platform.os == "windows"  # copied into the application
    assert found["counts"]["binaries"] == len(native) + linked + launcher
    if foreign.platform.os == "macos":
        return
    # Nothing but the spec said that the host has it.
    (finding,) = foreign.report(code=9)["findings"]
    assert finding == finding | {
        "check": "library",
        "layer": "app",
        "distribution": "kiwisolver 1.4.9",
        "file": "Lib/site-packages/kiwisolver/_cext.cp312-win_amd64.pyd",
        "expected": "vcruntime140_1.dll",
    }


BROKEN = {
    Platform.MACOSX_AARCH64: (
        "bin",
        "lib/python3.12/site-packages/demo",
        {
            "_demo.cpython-312-darwin.so": images.macho(
                needed=["@rpath/libdemo.dylib", "@loader_path/../gone/libgone.dylib"],
                weak=["@rpath/libmaybe.dylib"],
            ),
            "libdemo.dylib": images.fat(
                {"x86_64": images.macho("x86_64", ["/opt/lib/libx.dylib"])}
            ),
        },
        "_demo.cpython-312-darwin.so (macosx-aarch64) needs a shared library that neither the "
        "chain nor every host has: expected @loader_path/../gone/libgone.dylib",
        "libdemo.dylib (macosx-aarch64) is not made for this processor: expected aarch64, "
        "found x86_64",
    ),
    Platform.WINDOWS_AARCH64: (
        "Scripts",
        "Lib/site-packages/demo",
        {
            "_demo.pyd": images.pe("aarch64", ["demo.dll", "GONE.dll", "KERNEL32.dll"]),
            "demo.dll": images.pe("i386", ["msvcrt.dll"]),
        },
        "_demo.pyd (windows-aarch64) needs a shared library that neither the chain nor every host "
        "has: expected gone.dll",
        "demo.dll (windows-aarch64) is not made for this processor: expected aarch64, found i386",
    ),
}


@pytest.mark.parametrize("platform", BROKEN)
def test_what_would_not_load_there_is_told(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if platform == host_platform():
        pytest.skip("this machine runs these layers")
    scripts, package, files, missing, other = BROKEN[platform]
    made = publisher(tmp_path)
    made.platform = platform
    launcher = {"Lib/venv/scripts/nt/python.exe": images.pe("aarch64")}
    runtime = made.publish("cpython-3.12", {"cpython": {f"{scripts}/none": b"", **launcher}})
    demo: dict[str, Any] = {f"{package}/{name}": data for name, data in files.items()}
    made.publish("app", {"demo 1": demo, "app": {"pyvenv.cfg": ""}}, below=[runtime])
    words = ("--root", tmp_path / "root", "--platform", platform)
    succeed("install", "app", "--from", made.directory, *words)
    monkeypatch.chdir(tmp_path)
    done = stackbuild("verify", "app", *words)
    assert done.returncode == 9
    lines = [line for line in done.stdout.splitlines() if line.startswith("library: ")]
    assert lines == [f"library: app/{package}/{other}", f"library: app/{package}/{missing}"]


KNOWN = """\
[[runtimes]]
name = "cpython-3.12"
python_implementation = "cpython@3.12.1"
requirements = []

[[applications]]
name = "app"
runtime = "cpython-3.12"
requirements = []

[tool.stackbuild.layers.app.allow-import-errors]
"demo-*" = { "demo._demo" = "Library not loaded: @rpath/libgone.dylib" }
"""


def test_a_known_import_error_counts_where_nothing_is_imported(tmp_path: Path) -> None:
    platform = next(one for one in Platform if one.os == "macos" and one != host_platform())
    made = publisher(tmp_path)
    made.platform = platform
    site = "lib/python3.12/site-packages"
    module = "demo/_demo.cpython-312-darwin.so"
    demo: dict[str, Any] = {
        f"{site}/{module}": images.macho(platform.machine, ["@rpath/libgone.dylib"]),
        f"{site}/demo-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: demo\nVersion: 1\n",
        f"{site}/demo-1.dist-info/RECORD": f"{module},,\n",
    }
    runtime = made.publish("cpython-3.12", {"cpython": {"bin/python3.12": b""}})
    made.publish("app", {"demo 1": demo, "app": {"pyvenv.cfg": ""}}, below=[runtime])
    words = ("--root", tmp_path / "root", "--platform", platform)
    succeed("install", "app", "--from", made.directory, *words)
    spec = tmp_path / "venvstacks.toml"
    for text, count in ((KNOWN, 0), (KNOWN.replace("libgone", "libother"), 1)):
        spec.write_text(text)
        done = stackbuild("verify", "app", "--spec", spec, *words)
        assert done.stdout.count("library: app/") == count
