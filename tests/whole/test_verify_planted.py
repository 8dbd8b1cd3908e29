"""Defects planted in installed layers, which `verify` finds on every platform without running them.

The layers hold the smallest programs and libraries that a check reads (`tests/support/images.py`).
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.utils import canonicalize_name

from stackbuild.cli.verify import summary
from stackbuild.install.root import Root
from stackbuild.layout import Layout, extension_suffixes
from stackbuild.lock.model import LeftOut
from stackbuild.messages import Silent
from stackbuild.platforms import Platform
from stackbuild.verify.check import check_deployed
from stackbuild.verify.model import Rules
from stackbuild.workspace import CACHE_VARIABLE
from tests.support import images
from tests.support.archives import make_archive
from tests.support.http import serving
from tests.support.roots import succeed
from tests.support.smallstack import SmallStack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stackbuild.verify.model import VerifyReport

TAGS = {
    Platform.LINUX_X64: "manylinux_2_17_x86_64.manylinux2014_x86_64",
    Platform.LINUX_AARCH64: "manylinux_2_28_aarch64",
    Platform.MACOSX_X64: "macosx_10_13_universal2",
    Platform.MACOSX_AARCH64: "macosx_11_0_arm64",
    Platform.WINDOWS_X64: "win_amd64",
    Platform.WINDOWS_AARCH64: "win_arm64",
}
OMITTED = (LeftOut(name=canonicalize_name("gone"), reason="no package index has gone"),)
OTHER_SYSTEM = {"linux": "macos", "macos": "windows", "windows": "linux"}
OTHER_MACHINE = {"x86_64": "aarch64", "aarch64": "x86_64"}
ODD_LIBRARY = {"linux": "libgone.so.7", "macos": "@rpath/libgone.dylib", "windows": "gone.dll"}


def native(system: str, machine: str, *needed: str, program: bool = False) -> bytes:
    """A program or library for a processor and operating system."""
    if system == "windows":
        return images.pe(machine, needed, program=program)
    if system == "macos":
        kind = images.PROGRAM if program else images.BUNDLE
        return images.macho(machine, needed, kind=kind)
    return images.elf(machine, needed)


def runtime_files(platform: Platform) -> Mapping[str, bytes]:
    """A runtime of nothing but an interpreter and a module of the standard library."""
    system, machine = platform.os, platform.machine
    if system == "windows":
        return {
            "python.exe": native(system, machine, "python312.dll", program=True),
            "python312.dll": native(system, machine, "KERNEL32.dll", "vcruntime140.dll"),
            "vcruntime140.dll": native(system, machine),
            "Lib/os.py": b"",
            "Lib/venv/scripts/nt/python.exe": native(system, machine, program=True),
        }
    return {
        "bin/python3.12": native(system, machine, program=True),
        "lib/python3.12/os.py": b"",
        f"lib/python3.12/lib-dynload/_csv{extension_suffixes(platform, '3.12')[0]}": native(
            system, machine
        ),
    }


@dataclass
class Installed:
    """Layers in a root: `cpython`, `base` with `lib`, `app` with `tool`."""

    root: Path
    platform: Platform

    @property
    def layout(self) -> Layout:
        return Layout(self.platform.os, "3.12")

    @property
    def site(self) -> str:
        return self.layout.site_packages

    @property
    def module(self) -> str:
        """The native module of `tool`, relative to its layer."""
        return f"{self.site}/tool/_tool{extension_suffixes(self.platform, '3.12')[0]}"

    def path(self, name: str, layer: str = "app") -> Path:
        return Root(self.root).installed_layers()[0] / layer / name

    def remove(self, name: str, layer: str = "app") -> str:
        self.path(name, layer).unlink()
        return name

    def replace(self, name: str, data: bytes) -> str:
        """Write a file that no RECORD lists."""
        path = self.path(name)
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        return name

    def write(self, name: str, data: bytes, distribution: str = "tool-2.0") -> str:
        """Write a file of `distribution`, listed in RECORD with its sum; else it is not odd."""
        self.replace(name, data)
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        listed = os.path.relpath(name, self.site).replace(os.sep, "/")
        record = self.path(f"{self.site}/{distribution}.dist-info/RECORD")
        rows = [row for row in csv.reader(record.read_text().splitlines()) if row[0] != listed]
        text = io.StringIO()
        added = [listed, f"sha256={digest}", str(len(data))]
        csv.writer(text, lineterminator="\n").writerows([*rows, added])
        record.unlink()
        record.write_text(text.getvalue())
        return name

    def report(self, rules: Rules | None = None) -> VerifyReport:
        """The report, without that the interpreter of this machine's platform does not start."""
        found = check_deployed(
            ["app"],
            self.root,
            Silent(),
            rules={"app": rules or Rules()},
            platform=self.platform,
            jobs=1,
        )
        static = tuple(one for one in found.findings if one.check != "import")
        return replace(found, findings=static)


@pytest.fixture(scope="module", params=list(Platform))
def pristine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Published by the code that publishes real layers, and installed."""
    platform: Platform = request.param
    directory = tmp_path_factory.mktemp(f"planted-{platform}")
    archive = make_archive(
        directory / "runtime.tar.gz",
        runtime_files(platform),
        executable=["bin/python3.12", "python.exe"],
    )
    overlay = directory / "project/overlays/app/place.json"
    overlay.parent.mkdir(parents=True)
    overlay.write_text("{}")
    with serving(files={"/runtime.tar.gz": archive.path.read_bytes()}) as server:
        small = SmallStack(
            directory / "project",
            Path(os.environ[CACHE_VARIABLE]),
            more=f'downloads."{platform}" = {{ url = "{server.url}/runtime.tar.gz", '
            f'sha256 = "{archive.sha256}" }}\n'
            "[tool.stackbuild.layers.app]\n"
            'copy-files = [{ from = "place.json", to = "share/place.json" }]\n',
            built=frozenset({"made"}),
            omitted={"base": OMITTED},
            platforms=(str(platform),),
        )
        module = f"tool/_tool{extension_suffixes(platform, '3.12')[0]}"
        small.wheel(
            "app",
            "tool",
            "2.0",
            {
                "tool/__init__.py": "def main():\n    print('tool')\n",
                module: native(platform.os, platform.machine),
                # Examples of a wheel of an index, which nobody can change.
                "tool/usage.py": "PLACES = '/home/jane/book/x.py', 'C:\\\\Users\\\\Jane\\\\x'\n",
                "tool/helpers.cmake": "set(PLACE /home/jane/x)\n",
                "tool/command.py": "#!/home/jane/bin/python\n",
            },
            console_scripts={"tool": "tool:main"},
            requires=["lib>=1"],
            tag=f"cp312-cp312-{TAGS[platform]}",
        )
        small.wheel("app", "made", "1.0", {"made.py": ""})
        small.publish(["cpython", "base", "app"], platform)
    root = directory / "root"
    succeed("install", "app", "--from", small.exports, "--root", root, "--platform", platform)
    return Installed(root, platform)


@pytest.fixture
def installed(pristine: Installed, tmp_path: Path) -> Installed:
    shutil.copytree(pristine.root, tmp_path / "root", symlinks=True)
    return Installed(tmp_path / "root", pristine.platform)


def test_nothing_is_found_where_nothing_was_planted(pristine: Installed) -> None:
    report = pristine.report()
    assert report.findings == ()
    assert report.omitted == {"base": OMITTED}
    assert list(summary(report))[-1] == "omitted gone in base: no package index has gone"


# --- what is planted; each function says in which file it should be found


def of_another_system(made: Installed) -> str:
    data = native(OTHER_SYSTEM[made.platform.os], made.platform.machine)
    return made.write(made.module, data)


def named_for_another_system(made: Installed) -> str:
    other = next(one for one in Platform if one.os == OTHER_SYSTEM[made.platform.os])
    name = f"{made.site}/tool/_more{extension_suffixes(other, '3.12')[0]}"
    return made.write(name, native(other.os, other.machine))


def of_another_python(made: Installed) -> str:
    suffix = extension_suffixes(made.platform, "3.10")[0]
    data = native(made.platform.os, made.platform.machine)
    return made.write(f"{made.site}/tool/_more{suffix}", data)


def of_another_processor(made: Installed) -> str:
    data = native(made.platform.os, OTHER_MACHINE[made.platform.machine])
    return made.write(made.module, data)


def that_needs_a_missing_library(made: Installed) -> str:
    library = ODD_LIBRARY[made.platform.os]
    return made.write(made.module, native(made.platform.os, made.platform.machine, library))


def that_is_truncated(made: Installed) -> str:
    return made.write(made.module, native(made.platform.os, made.platform.machine)[:20])


def that_is_empty(made: Installed) -> str:
    return made.write(made.module, b"")


def tag_of_another_python(made: Installed) -> str:
    name = f"{made.site}/tool-2.0.dist-info/WHEEL"
    text = made.path(name).read_text().replace("cp312-cp312", "cp310-cp310")
    return made.write(name, text.encode())


def tag_of_another_platform(made: Installed) -> str:
    name = f"{made.site}/tool-2.0.dist-info/WHEEL"
    system = OTHER_SYSTEM[made.platform.os]
    other = next(tag for platform, tag in TAGS.items() if platform.os == system)
    return made.write(name, f"Wheel-Version: 1.0\nTag: cp312-cp312-{other}\n".encode())


def path_in_code(made: Installed) -> str:
    return made.replace(f"{made.site}/app.py", b"PREFIX = '/home/alice'\n")


def path_in_settings(made: Installed) -> str:
    data = b'{"library": "C:\\\\Users\\\\alice\\\\lib"}'
    return made.replace("share/place.json", data)


def path_in_a_script(made: Installed) -> str:
    data = b"#!/Users/alice/env/bin/python3\nprint(1)\n"
    return made.write(f"{made.layout.scripts}/other-tool", data)


def path_in_a_wheel_built_here(made: Installed) -> str:
    data = b"PREFIX = '/home/alice'\n"
    return made.write(f"{made.site}/made.py", data, "made-1.0")


def path_in_a_file_added_to_a_wheel(made: Installed) -> str:
    return made.write(f"{made.site}/tool/place.py", b"PREFIX = '/home/alice'\n")


def bytecode_of_another_python(made: Installed) -> str:
    name = f"{made.site}/tool/__pycache__/__init__.cpython-312.pyc"
    return made.write(name, (3439).to_bytes(2, "little") + b"\r\n" + b"\0" * 12)


def bytecode_without_source(made: Installed) -> str:
    data = (3439).to_bytes(2, "little") + b"\r\n" + b"\0" * 12
    return made.write(f"{made.site}/tool/secret.pyc", data)


def without_interpreter(made: Installed) -> str:
    if made.platform.os == "windows":
        return made.remove("python312.dll", "cpython")
    link = made.path("bin/python")
    link.unlink()
    link.symlink_to("../../cpython/bin/python3.9")
    return "bin/python"


def without_launcher(made: Installed) -> str:
    if made.platform.os == "windows":
        return made.remove("Scripts/python.exe")
    for name in ("python", "python3", "python3.12"):
        made.remove(f"bin/{name}")
    return "bin/python"


def without_configuration(made: Installed) -> str:
    return made.remove("pyvenv.cfg")


def with_packages_of_the_host(made: Installed) -> str:
    path = made.path("pyvenv.cfg")
    text = path.read_text().replace("packages = false", "packages = TRUE")
    path.unlink()
    path.write_text(text)
    return "pyvenv.cfg"


def without_sitecustomize(made: Installed) -> str:
    return made.remove(f"{made.site}/sitecustomize.py")


def that_does_not_see_the_framework(made: Installed) -> str:
    path = made.path(f"{made.site}/sitecustomize.py")
    text = path.read_text().replace(f"'base/{made.site}'", "'elsewhere'")
    path.unlink()
    path.write_text(text)
    return f"{made.site}/sitecustomize.py"


def without_pth(made: Installed) -> str:
    return made.remove(f"{made.site}/zzz_stackbuild.pth")


def without_a_file(made: Installed) -> str:
    return made.remove(f"{made.site}/tool/__init__.py")


def with_a_changed_file(made: Installed) -> str:
    name = f"{made.site}/tool/__init__.py"
    made.path(name).unlink()
    made.path(name).write_text("changed = 1\n")
    return name


def without_a_script(made: Installed) -> str:
    ending = ".exe" if made.platform.os == "windows" else ""
    name = f"{made.site}/tool-2.0.dist-info/entry_points.txt"
    made.write(name, made.path(name).read_bytes() + b"more = tool:main\n")
    return f"{made.layout.scripts}/more{ending}"


def without_metadata_of_the_layer(made: Installed) -> str:
    return made.remove("share/venv/metadata/venvstacks_layer.json")


def with_an_unmet_requirement(made: Installed) -> None:
    name = f"{made.site}/tool-2.0.dist-info/METADATA"
    text = made.path(name).read_text().replace("lib>=1", "lib>=2")
    made.write(name, text.encode())


PLANTED: list[tuple[Callable[[Installed], str | None], str, str]] = [
    (of_another_system, "module", "is not in the format of this platform"),
    (named_for_another_system, "module", "is a native module for another Python or platform"),
    (of_another_python, "module", "is a native module for another Python or platform"),
    (of_another_processor, "library", "is not made for this processor"),
    (that_needs_a_missing_library, "library", "needs a shared library that neither"),
    (that_is_truncated, "library", "is damaged"),
    (that_is_empty, "module", "is not in the format of this platform"),
    (tag_of_another_python, "module", "has no tag for the Python and platform"),
    (tag_of_another_platform, "module", "has no tag for the Python and platform"),
    (path_in_code, "path", "contains a path of the machine that built it"),
    (path_in_settings, "path", "contains a path of the machine that built it"),
    (path_in_a_script, "path", "contains a path of the machine that built it"),
    (path_in_a_wheel_built_here, "path", "contains a path of the machine that built it"),
    (path_in_a_file_added_to_a_wheel, "path", "contains a path of the machine that built it"),
    (bytecode_of_another_python, "bytecode", "has the magic number of another Python"),
    (bytecode_without_source, "bytecode", "has the magic number of another Python"),
    (without_interpreter, "layer", "is "),
    (without_launcher, "layer", "is missing"),
    (without_configuration, "layer", "is missing"),
    (with_packages_of_the_host, "layer", "makes distributions of the host visible"),
    (without_sitecustomize, "layer", "is missing"),
    (that_does_not_see_the_framework, "layer", "does not make a lower layer visible"),
    (without_pth, "layer", "is missing"),
    (without_a_file, "record", "RECORD lists a missing file"),
    (with_a_changed_file, "record", "does not match RECORD"),
    (without_a_script, "layer", "the script of an entry point is missing"),
    (without_metadata_of_the_layer, "layer", "is missing"),
    (with_an_unmet_requirement, "requirement", "requires another version"),
]


@pytest.mark.parametrize(
    ("plant", "check", "message"), PLANTED, ids=[plant.__name__ for plant, _, _ in PLANTED]
)
def test_each_defect_is_found_on_each_platform(
    installed: Installed, plant: Callable[[Installed], str | None], check: str, message: str
) -> None:
    file = plant(installed)
    report = installed.report()
    (finding,) = report.findings
    assert (finding.check, finding.file) == (check, file)
    assert finding.message.startswith(message)
    assert finding.layer in {"app", "cpython"}
    assert finding.remedy
    lines = list(summary(report))
    (line,) = (line for line in lines if line.startswith(f"{check}: {finding.layer}"))
    assert str(installed.platform) in line
    assert f"    to fix: {finding.remedy}" in lines


def test_what_the_spec_accepts(pristine: Installed, tmp_path: Path) -> None:
    shutil.copytree(pristine.root, tmp_path / "root", symlinks=True)
    made = Installed(tmp_path / "root", pristine.platform)
    for plant in (path_in_code, of_another_python, named_for_another_system):
        plant(made)
    bytecode_without_source(made)
    assert len(made.report().findings) == 4
    rules = Rules(allow_paths=("/home/al*",), skip_modules=("tool._more", "tool.sec*"))
    assert made.report(rules).findings == ()


def test_files_that_were_added_without_a_record_are_checked_too(installed: Installed) -> None:
    other = next(one for one in Platform if one.os == OTHER_SYSTEM[installed.platform.os])
    name = f"{installed.site}/odd{extension_suffixes(other, '3.12')[0]}"
    installed.path(name).write_bytes(native(other.os, other.machine))
    # Programs write paths into caches and logs, and that is no defect.
    installed.path(f"{installed.site}/cache.json").write_text('{"at": "/home/alice/x"}')
    (finding,) = installed.report().findings
    assert (finding.check, finding.file, finding.distribution) == ("module", name, None)


def test_the_home_that_the_installer_writes_is_no_trace(installed: Installed) -> None:
    path = installed.path("pyvenv.cfg")
    text = path.read_text()
    path.unlink()
    path.write_text(f"home = {installed.root}\n{text}")
    found = [(one.check, one.file) for one in installed.report().findings]
    # It writes none for POSIX, but for CPython 3.14.0.
    windows = installed.platform.os == "windows"
    assert found == ([] if windows else [("path", "pyvenv.cfg")])
