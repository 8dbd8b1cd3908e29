"""Sources that build in a moment, and a project whose runtime is an interpreter of this machine."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import tarfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from stackbuild.builds import wheel_builder, wheel_rebuilder
from stackbuild.lock.wheelhouse import fetch
from stackbuild.platforms import host_platform
from stackbuild.resolve.lock_stack import lock_stack
from stackbuild.workspace import Workspace, open_workspace
from tests.support.index import IndexServer
from tests.support.interpreters import Listener, packable
from tests.support.locking import Project
from tests.support.toolbox import FALLBACK_HEADERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from stackbuild.resolve.lock_stack import LockReport

BACKEND = '''\
"""A build backend (PEP 517) of a few lines; what a test wants of it stands in `build.py`."""

import base64, csv, hashlib, io, os, pathlib, sys, zipfile
import build as ours


def get_requires_for_build_wheel(config_settings=None):
    return getattr(ours, "REQUIRES", [])


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    files = ours.files(config_settings or {})
    tag = getattr(ours, "TAG", "py3-none-any")
    stem = f"{ours.NAME}-{ours.VERSION}"
    lines = ["Metadata-Version: 2.1", f"Name: {ours.NAME}", f"Version: {ours.VERSION}"]
    lines += [f"Requires-Dist: {text}" for text in getattr(ours, "DEPENDENCIES", [])]
    files[f"{stem}.dist-info/METADATA"] = "\\n".join(lines + [""]).encode()
    files[f"{stem}.dist-info/WHEEL"] = (
        f"Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: false\\nTag: {tag}\\n".encode()
    )
    record = io.StringIO()
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        csv.writer(record, lineterminator="\\n").writerow((name, f"sha256={digest}", len(data)))
    record.write(f"{stem}.dist-info/RECORD,,\\n")
    files[f"{stem}.dist-info/RECORD"] = record.getvalue().encode()
    with zipfile.ZipFile(os.path.join(wheel_directory, f"{stem}-{tag}.whl"), "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return f"{stem}-{tag}.whl"
'''

COMPILE = '''\
import os, pathlib, subprocess, sys, sysconfig

_MINOR = "{}{}".format(*sys.version_info[:2])
TAG = f"cp{_MINOR}-cp{_MINOR}-" + sysconfig.get_platform().replace("-", "_").replace(".", "_")


def compiled(text, *words):
    """The extension module `tiny` made of C source."""
    pathlib.Path("tiny.c").write_text(text)
    # For an interpreter without its headers: as last, so that they come first where they are.
    pathlib.Path("last").mkdir(exist_ok=True)
    pathlib.Path("last/Python.h").write_text(HEADER)
    name = "tiny" + sysconfig.get_config_var("EXT_SUFFIX")
    # An interpreter that is a shared library passes on where it looks for that.
    flags = ["-g", "-O2", "-fPIC", "-shared", "-Wl,-rpath,/install/lib"]
    include = sysconfig.get_path("include", vars={"installed_base": sys.base_prefix})
    flags += os.environ.get("CPPFLAGS", "").split()
    flags += ["-I", include, "-idirafter", os.path.abspath("last")]
    command = [os.environ["CC"], *flags, os.path.abspath("tiny.c"), *words]
    subprocess.run([*command, "-o", name], check=True)
    return {name: pathlib.Path(name).read_bytes()}
'''

EXTENSION = """\
#include <Python.h>
static PyObject *answer(PyObject *self, PyObject *args) { return PyLong_FromLong(%s); }
static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, ""}, {NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "tiny", __FILE__, -1, methods};
PyMODINIT_FUNC PyInit_tiny(void) { return PyModule_Create(&module); }
"""


def c_extension(value: str = "42", before: str = "", words: str = "") -> str:
    """A `build.py` that compiles the module `tiny`; its `answer()` is the C expression `value`."""
    text = before + EXTENSION % value
    header = (FALLBACK_HEADERS / "Python.h").read_text(encoding="utf-8")
    function = f"def files(settings):\n    return compiled({text!r}, {words})\n"
    return f"HEADER = {header!r}\n{COMPILE}\n\n{function}"


def pure(body: str = "return {'tiny.py': b'value = 1\\n'}") -> str:
    """A `build.py` whose function `files` has the given body, of one line or more."""
    lines = body.splitlines()
    return "import os, pathlib, sys\n\n\ndef files(settings):\n" + "".join(
        f"    {line}\n" for line in lines
    )


def source_files(
    build: str,
    *,
    name: str = "tiny",
    version: str = "1.0",
    requires: tuple[str, ...] = (),
    dynamic: tuple[str, ...] = (),
    dependencies: tuple[str, ...] = (),
) -> dict[str, str]:
    """The files of a source that the few lines of `BACKEND` build."""
    facts = f"NAME, VERSION = {name!r}, {version!r}\n"
    facts += f"REQUIRES, DEPENDENCIES = {list(dynamic)!r}, {list(dependencies)!r}\n"
    listed = ", ".join(f'"{item}"' for item in requires)
    return {
        "pyproject.toml": f"[build-system]\nrequires = [{listed}]\n"
        'build-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": BACKEND,
        "build.py": facts + build,
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
    }


def make_sdist(directory: Path, name: str, version: str, files: Mapping[str, str]) -> Path:
    """Write `<name>-<version>.tar.gz` into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}-{version}.tar.gz"
    with (
        path.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as compressed,
        tarfile.open(mode="w", fileobj=compressed) as tar,
    ):
        for member, text in files.items():
            data = text.encode()
            info = tarfile.TarInfo(f"{name}-{version}/{member}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def make_repository(directory: Path, files: Mapping[str, str]) -> str:
    """Commit `files` to a new repository, with the tag ``v1``; the commit."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    ours = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    for words in (
        ["init", "-q", "-b", "main"],
        ["add", "."],
        [*ours, "commit", "-qm", "first"],
        ["tag", "v1"],
    ):
        subprocess.run(["git", *words], cwd=directory, check=True)
    words = ["git", "rev-parse", "HEAD"]
    return subprocess.check_output(words, cwd=directory, text=True).strip()


@dataclass
class BuildProject(Project):
    """A project whose runtime `rt` is packed from this machine, once for all tests."""

    listener: Listener
    shared: Path
    """A cache with the packed interpreter."""
    own_cache: Path | None = None
    """Instead of the one beside the project."""

    @property
    def workspace(self) -> Workspace:
        """The project, with a cache of its own but for interpreters and what uv keeps."""
        cache = self.own_cache or self.directory.parent / "cache"
        opened = open_workspace(self.directory, cache=cache)
        for part in ("runtimes", "uv"):
            if not (cache / part).exists():
                (self.shared / part).mkdir(parents=True, exist_ok=True)
                (cache / part).symlink_to(self.shared / part)
        return opened

    def source(self, build: str, **options: Any) -> Path:
        """Put a source distribution into the index."""
        files = source_files(build, **options)
        name, version = options.get("name", "tiny"), options.get("version", "1.0")
        return make_sdist(self.index.directory, name, version, files)

    def spec(self, *requirements: str, policy: str = "", extra: str = "") -> None:
        """Write a stack of the framework `fw` for this platform alone, with a policy."""
        version = packable().version
        listed = ", ".join(f'"{item}"' for item in requirements)
        self.write(
            f'[[frameworks]]\nname = "fw"\nruntime = "rt"\nrequirements = [{listed}]\n'
            f"{extra or only_here()}\n[tool.stackbuild.layers.fw]\n{policy}\n"
            f'[tool.stackbuild.layers.rt]\nsources = ["local"]\n'
            f'path = "{packable().prefix.as_posix()}"\n',
            runtime=f'[[runtimes]]\nname = "rt"\npython_implementation = "cpython@{version}"\n'
            "requirements = []\n",
        )

    def lock(self, **options: Any) -> LockReport:
        """Lock everything, building what has to be built."""
        builder = wheel_builder(self.stack, self.workspace, self.listener)
        return lock_stack(self.stack, self.workspace, self.listener, builder=builder, **options)

    def fetch(self, layer: str = "fw", platform: str | None = None) -> dict[str, Path]:
        """Fetch the wheels of one lock, building those that are nowhere else."""
        rebuild = wheel_rebuilder(self.stack, self.workspace, self.listener)
        lock = self.read(layer, platform or str(host_platform()))
        return fetch(self.stack, self.workspace, [lock], self.listener, rebuild=rebuild)

    def built(self, name: str = "tiny", layer: str = "fw") -> Path:
        """The wheel in the wheelhouse that the lock names."""
        lock = self.read(layer, str(host_platform()))
        item = next(item for item in lock.distributions if item.name == name)
        return self.workspace.wheelhouse / item.wheel.name


def only_here() -> str:
    """The `platforms` of a layer that is for this machine alone."""
    return f'platforms = ["{host_platform().venvstacks_name}"]\n'


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that all worker processes share, for interpreters and what uv keeps."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return base / "build-cache"


@contextmanager
def open_build_project(directory: Path, shared: Path) -> Iterator[BuildProject]:
    """A project in `directory`, its index running. Skips where no interpreter can be packed."""
    packable()
    (directory / "index").mkdir()
    with IndexServer(directory / "index") as index:
        yield BuildProject(directory / "project", index, Listener(), shared)


@pytest.fixture
def project(tmp_path: Path, shared_cache: Path) -> Iterator[BuildProject]:
    """A project to build in."""
    with open_build_project(tmp_path, shared_cache) as opened:
        yield opened
