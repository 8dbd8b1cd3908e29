"""`stackbuild export` with a real interpreter, on file systems with and without links."""

from __future__ import annotations

import errno
import glob
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import tomli
from packaging.version import Version
from tools.standin import PROJECT

from stackbuild.platforms import host_platform
from stackbuild.workspace import CACHE_VARIABLE
from tests.support import images
from tests.support.handmade import execute
from tests.support.interpreters import packable
from tests.support.publish import publisher
from tests.support.roots import fail, stackbuild, succeed
from tests.support.smallstack import SmallStack
from tests.support.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows is tested under Wine")


@pytest.fixture
def real(tmp_path: Path) -> SmallStack:
    python = Version(str(packable().version))
    cache = Path(os.environ[CACHE_VARIABLE])
    stack = SmallStack(tmp_path / "project", cache, python=python.base_version)
    stack.lock()
    return stack


def check_it_runs(directory: Path) -> None:
    assert sorted(path.name for path in directory.iterdir() if path.name[0] != ".") == [
        "app",
        "base",
        "cpython",
    ]
    python = directory / "app" / "bin" / "python"
    assert execute(python, "-I", "-m", "app") == "app helps"
    tool = directory / "app" / "bin" / "lib-tool"
    assert execute(tool, PATH="/usr/bin:/bin") == f"lib {directory / 'app'}"


def test_plain_directories_outlive_project_and_move(real: SmallStack, tmp_path: Path) -> None:
    out = tmp_path / "out"
    printed = json.loads(succeed("export", "app", out, "--spec", real.spec, "--json"))
    assert printed == {
        "directory": str(out),
        "platform": host_platform(),
        "layers": {name: str(out / name) for name in ("cpython", "base", "app")},
        "copied_links": False,
    }
    shutil.rmtree(real.directory / "build")
    check_it_runs(out)
    module = next((out / "base").rglob("lib/__init__.py"))
    assert module.stat().st_nlink == 1
    assert os.access(module, os.W_OK)
    moved = tmp_path / "moved"
    out.rename(moved)
    check_it_runs(moved)


def test_a_later_export_replaces_only_its_layers(real: SmallStack, tmp_path: Path) -> None:
    out = tmp_path / "out"
    succeed("export", "app", out, "--spec", real.spec)
    (out / "app" / "stale").touch()
    (out / "note.txt").write_text("kept")
    real.write("launch/app.py", "print('changed')\n")
    succeed("export", "app-*", out, "--spec", real.spec)
    assert execute(out / "app" / "bin" / "python", "-m", "app") == "changed"
    assert not (out / "app" / "stale").exists()
    assert (out / "note.txt").read_text() == "kept"
    assert sorted(path.name for path in (out / ".stackbuild").iterdir()) == [
        "lock",
        "manifests",
    ]


def test_from_a_registry_without_a_project(real: SmallStack, tmp_path: Path) -> None:
    exports, out = tmp_path / "exports", tmp_path / "out"
    succeed("publish", "--spec", real.spec, "--platform", "host", "--to", exports)
    shutil.rmtree(real.directory)
    assert "exported" in succeed("export", "app", out, "--from", exports)
    check_it_runs(out)
    for form in ("tar.gz", "tar.zst"):
        archive, out = tmp_path / f"app.{form}", tmp_path / f"of {form}"
        succeed("export", "app", "--archive", form, "-o", archive, "--from", exports)
        out.mkdir()
        run("tar", "-xf", archive, "-C", out)
        check_it_runs(out)
    bundle, out = tmp_path / "app.run", tmp_path / "of the bundle"
    succeed("bundle", "app", "-o", bundle, "--from", exports)
    assert execute(bundle, STACKBUILD_BUNDLES=str(tmp_path / "unpacked")) == "app helps"
    run(bundle, "--extract", out)
    check_it_runs(out)


def test_a_failed_layer_leaves_the_former_export(real: SmallStack, tmp_path: Path) -> None:
    out = tmp_path / "out"
    succeed("export", "app", out, "--spec", real.spec)
    real.wheel("app", "tool", "2.0", {"tool.py": "damaged = 1\n"})
    real.lock()
    for wheel in real.wheels["app"]:
        wheel.write_bytes(wheel.read_bytes()[:-1])
    error = fail(5, "export", "app", out, "--spec", real.spec)
    assert "tool-2.0-py3-none-any.whl" in error
    check_it_runs(out)


@pytest.mark.skipif(sys.platform != "linux", reason="the library is that of a module for Linux")
def test_a_layer_that_lacks_a_library(real: SmallStack, tmp_path: Path) -> None:
    machine = host_platform().machine
    module = images.elf(machine, ["libnowhere.so.1"])
    tag = f"py3-none-linux_{machine}"
    real.wheel("app", "consumer", "1.0", {"consumer.so": module}, tag=tag)
    real.lock()
    words = ["export", "app", str(tmp_path / "out"), "--spec", str(real.spec)]
    assert "run publish, build or export with --allow-unresolved" in fail(7, *words)
    assert not (tmp_path / "out").exists()
    done = stackbuild(*words, "--allow-unresolved")
    assert done.returncode == 0, done.stderr
    assert "libnowhere.so.1 is needed by" in done.stderr
    check_it_runs(tmp_path / "out")
    assert "--from" in fail(2, *words, "--allow-unresolved", "--from", str(tmp_path))


@pytest.mark.skipif(sys.platform != "linux", reason="the library is that of a module for Linux")
@pytest.mark.parametrize("count", [3, 20])
def test_a_layer_that_lacks_many_libraries(real: SmallStack, tmp_path: Path, count: int) -> None:
    """The error names some and shows the setting for all; one warning names all."""
    machine = host_platform().machine
    names = [f"libnowhere[{number:02}].so.1" for number in range(count)]
    module = images.elf(machine, names)
    tag = f"py3-none-linux_{machine}"
    real.wheel("app", "consumer", "1.0", {"consumer.so": module}, tag=tag)
    real.lock()
    header, setting = "[tool.stackbuild.layers.app.verify]", "host-libraries"
    plain = real.spec.read_text()
    real.spec.write_text(f'{plain}{header}\n{setting} = ["libother*"]\n')
    words = ["export", "app", str(tmp_path / "out"), "--spec", str(real.spec)]
    error = fail(7, *words)
    shown = [name for name in names if f"{name} is needed by" in error]
    assert shown == names[:5]
    if count == 20:
        assert "; and 15 more libraries" in error
    pasted = error.partition(f"set in {header}:\n")[2].partition("\n  not published")[0]
    globs = ["libother*", *map(glob.escape, names)]
    assert tomli.loads(pasted) == {setting: globs}
    assert max(map(len, pasted.splitlines())) <= 104
    for expected in (1, 0):  # the second time the layer is unchanged
        warnings = stackbuild(*words, "--allow-unresolved").stderr.splitlines()
        found = [text for text in warnings if "libnowhere" in text]
        assert len(found) == expected
        assert all(name in text for text in found for name in names)
    real.spec.write_text(f"{plain}{header}\n{pasted}\n")
    succeed(*words)


def test_a_directory_of_others_is_refused(tmp_path: Path) -> None:
    made = publisher(tmp_path)
    made.stack()
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").touch()
    error = fail(8, "export", "atls", out, "--from", made.directory)
    assert "is not empty and is not a directory of exported layers" in error
    assert "choose another directory: stackbuild export LAYER DIR" in error
    assert list(out.iterdir()) == [out / "mine"]


def test_a_root_is_no_place_for_an_export(real: SmallStack) -> None:
    root = real.directory / "build" / host_platform()
    error = fail(8, "export", "app", root / "sub", "--spec", real.spec)
    assert "layers cannot be exported into a root, or around one" in error


def test_links_become_copies_where_there_are_none(
    real: SmallStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert succeed("-q", "build", "--spec", real.spec) == ""
    out = tmp_path / "out"

    def without_links(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "symlink", without_links)
    # What the build links is made already, so that only the export meets this.
    printed = json.loads(succeed("export", "app", out, "--spec", real.spec, "--json"))
    assert printed["copied_links"] is True
    assert not [path for path in out.rglob("*") if path.is_symlink()]
    check_it_runs(out)
    moved = tmp_path / "moved"
    out.rename(moved)
    for layer in ("base", "app"):
        runtime = moved / "cpython" / "bin" / "python3"
        assert execute(runtime, "-I", str(moved / layer / "postinstall.py")) == ""
    check_it_runs(moved)


@pytest.mark.slow
def test_exfat(real: SmallStack, tmp_path: Path) -> None:
    with exfat(tmp_path / "stick") as stick:
        printed = json.loads(succeed("export", "app", stick / "out", "--spec", real.spec, "--json"))
        assert printed["copied_links"] is True
        check_it_runs(stick / "out")
        real.write("launch/app.py", "print('changed')\n")
        succeed("export", "app", stick / "out", "--spec", real.spec)
        assert execute(stick / "out" / "app" / "bin" / "python", "-m", "app") == "changed"


@contextmanager
def exfat(place: Path) -> Iterator[Path]:
    """A mounted exFAT file system, which has no links."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        pytest.skip("mounting exFAT needs root on Debian (packages exfat-fuse and exfatprogs)")
    if not shutil.which("mount.exfat-fuse"):
        run("apt-get", "install", "-y", "exfat-fuse", "exfatprogs")
    image = place.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(1 << 30)
    run("mkfs.exfat", image)
    device = run("losetup", "-f", "--show", image).strip()
    place.mkdir()
    try:
        run("mount.exfat-fuse", device, place)
        try:
            yield place
        finally:
            run("umount", place)
    finally:
        run("losetup", "-d", device)


def run(*words: str | Path) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_environment_as_runenv_builds_it(real: SmallStack, tmp_path: Path) -> None:
    if not any(packable().stdlib.glob("site-packages/pip-*.dist-info")):
        pytest.skip("no interpreter here has pip")
    page = (PROJECT / "docs/from-runenv-python-3.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^```sh blocks\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    ours = {"atls": "app", "linux-x64": host_platform()}
    words = [ours.get(word, word) for word in block.split()[1:]]
    variant = tmp_path / words[3].removeprefix("../")
    words[3:] = [str(variant), *words[4:], "--spec", str(real.spec), "--no-sync"]
    real.more = """keep = ["pip"]
[tool.stackbuild.layers.app]
copy-files = [
  { from = "here/", to = "{site-packages}/" },
  { from = "tool", to = "bin/" },
  { from = "lib-1.0-py3-none-any.whl", to = "packages/" },
]
"""
    patched = make_wheel(real.directory / "overlays/app", "lib", "1.0", {"lib.py": "patched = 1"})
    real.write("overlays/app/here/given.py", "word = 'overlay'\n")
    real.write("overlays/app/tool", "#!/bin/sh\necho of the overlay\n")
    (real.directory / "overlays/app/tool").chmod(0o755)
    real.lock()
    environment = variant / "pydist" / host_platform()
    assert succeed("-q", *words) == ""
    (environment / "stale").touch()
    assert succeed(*words).split() == ["exported", str(environment)]
    assert not (environment / "stale").exists()
    assert sorted(path.name for path in environment.parent.iterdir()) == [
        f".{host_platform()}.lock",
        host_platform(),
    ]
    wheels = sorted(path.name for path in (environment / "packages").iterdir())
    assert wheels == ["lib-1.0-py3-none-any.whl", "tool-2.0-py3-none-any.whl"]
    assert (environment / "packages" / wheels[0]).read_bytes() == patched.read_bytes()
    assert patched.read_bytes() != (real.directory / "wheelhouse" / wheels[0]).read_bytes()
    python = environment / "bin/python"
    assert execute(python, "-c", "import given; print(given.word)") == "overlay"
    assert execute(environment / "bin/tool") == "of the overlay"
    target = tmp_path / "block"
    packages = ["--no-index", "--find-links", environment / "packages", "--target", target]
    command = [python, "-m", "pip", "install", "--quiet", *packages, "tool", "lib"]
    subprocess.run(list(map(str, command)), check=True)
    assert sorted(path.name for path in target.glob("*.dist-info")) == [
        "lib-1.0.dist-info",
        "tool-2.0.dist-info",
    ]
    real.more += """[tool.stackbuild.layers.base]
copy-files = [{ from = "include", to = "./" }]
"""
    real.write("overlays/base/include", "")
    real.lock()
    assert "include is a file in one layer of the environment and a directory" in fail(8, *words)
    assert execute(python, "-c", "import given; print(given.word)") == "overlay"


def test_words_of_an_environment_of_runenv(real: SmallStack, tmp_path: Path) -> None:
    words = ["export", "runenv", "app", "base", str(tmp_path), "--spec", str(real.spec)]
    assert "takes one layer at a time" in fail(2, *words)
    assert "cannot be combined with --from" in fail(
        2, "export", "runenv", "app", tmp_path, "--from", "exports"
    )
    assert "'*' matches several layers" in fail(2, "export", "runenv", "*", "--spec", real.spec)
    error = fail(8, "export", "runenv", "app", tmp_path, "--spec", real.spec)
    assert "the runtime has no pip" in error
    assert 'to fix: keep = ["pip"] in [tool.stackbuild.layers.cpython], and an' in error
    built = real.directory / "build" / host_platform()
    error = fail(8, "export", "runenv", "app", built, "--spec", real.spec)
    assert "layers cannot be exported into a root" in error
    mine = tmp_path / "pydist" / host_platform() / "mine"
    mine.parent.parent.mkdir(parents=True)
    mine.parent.touch()
    error = fail(8, "export", "runenv", "app", tmp_path, "--spec", real.spec)
    assert f"something that stackbuild did not make is in the way: {mine.parent}" in error
    mine.parent.unlink()
    mine.parent.mkdir()
    mine.touch()
    error = fail(8, "export", "runenv", "app", tmp_path, "--spec", real.spec)
    assert "is not an exported environment of runenv-python-3 of stackbuild" in error
    assert mine.exists()


JOB = """\
from pyspark.sql import SparkSession

def work(rows):
    import lib, sys
    yield sum(rows), lib.__name__, sys.prefix.rpartition("/env/")[2]

context = SparkSession.builder.getOrCreate().sparkContext
print(sorted(context.parallelize(range(10), 2).mapPartitions(work).collect()))
"""


@pytest.mark.slow
def test_spark_submit_with_an_archive(real: SmallStack, tmp_path: Path) -> None:
    if not shutil.which("java"):
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            pytest.skip("Spark needs Java (Debian's package default-jre-headless)")
        run("apt-get", "install", "-y", "default-jre-headless")
    home = PROJECT / ".fresh" / "spark"
    if not (found := list(home.rglob("pyspark/bin/spark-submit"))):
        run(sys.executable, "-m", "venv", home)
        run(home / "bin" / "pip", "install", "pyspark==3.5.6")
        found = list(home.rglob("pyspark/bin/spark-submit"))
    archive, driver = tmp_path / "env.tar.gz", tmp_path / "driver"
    succeed("export", "app", "--archive", "tar.gz", "-o", archive, "--spec", real.spec)
    driver.mkdir()
    run("tar", "-xf", archive, "-C", driver)
    (tmp_path / "job.py").write_text(JOB)
    # Executors are processes of their own, each with its directory, as on a cluster.
    done = subprocess.run(
        [
            *(found[0], "--master", "local-cluster[2,1,1024]"),
            *("--conf", f"spark.worker.dir={tmp_path / 'work'}"),
            *("--archives", f"{archive}#env", tmp_path / "job.py"),
        ],
        env={
            **os.environ,
            "SPARK_HOME": str(found[0].parent.parent),
            "PYSPARK_DRIVER_PYTHON": str(driver / "app/bin/python"),
            "PYSPARK_PYTHON": "./env/app/bin/python",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "[(10, 'lib', 'app'), (35, 'lib', 'app')]", done.stderr
