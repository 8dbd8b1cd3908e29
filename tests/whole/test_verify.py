"""`stackbuild verify`, as a user runs it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import ANY

import pytest
from packaging.version import Version

from stackbuild.platforms import Platform, host_platform
from stackbuild.workspace import CACHE_VARIABLE
from tests.support import native
from tests.support.interpreters import packable
from tests.support.publish import head, publisher
from tests.support.roots import fail, stackbuild, succeed
from tests.support.smallstack import SmallStack

if TYPE_CHECKING:
    from tests.support.stack import RealStack

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the layers are made for POSIX")

DRIVER = "CUDA driver version is insufficient"


@pytest.fixture
def small(tmp_path: Path) -> SmallStack:
    """A stack on an interpreter of this machine."""
    python = Version(str(packable().version))
    cache = Path(os.environ[CACHE_VARIABLE])
    return SmallStack(tmp_path / "project", cache, python=python.base_version)


@pytest.fixture
def compiler() -> native.Compiler:
    facts = packable()
    return native.compiler(".".join(str(facts.version).split(".")[:2]), facts.executable)


def built(small: SmallStack, *options: str) -> Path:
    """The root that `build` makes."""
    small.lock()
    succeed("build", "--spec", small.spec, *options)
    return small.directory / "build" / host_platform()


def native_wheel(
    small: SmallStack,
    compiler: native.Compiler,
    layer: str,
    name: str,
    code: str = "",
    **bodies: str,
) -> None:
    """A wheel with a package, which runs `code`, and a native module for each of `bodies`."""
    files: dict[str, bytes | str] = {f"{name}/__init__.py": code}
    for module, body in bodies.items():
        path = compiler.module(small.directory / "compiled", module, body)
        files[f"{name}/{path.name}"] = path.read_bytes()
    digits = "".join(small.python.split(".")[:2])
    small.wheel(layer, name, "1.0", files, tag=f"cp{digits}-cp{digits}-linux_x86_64")


def report(*words: str | Path, code: int = 0) -> dict[str, Any]:
    done = stackbuild("verify", *words, "--json")
    assert done.returncode == code, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_native_modules_of_the_whole_chain(small: SmallStack, compiler: native.Compiler) -> None:
    bodies = {"fine": native.FINE, "_test_of_it": native.CRASH, "_gpu": native.CRASH}
    native_wheel(small, compiler, "base", "lower", **bodies)
    # As libraries find LD_LIBRARY_PATH: a variable of the layer is set before Python starts.
    code = """\
with open("/proc/self/environ") as file:
    assert "MODE=base:app" in file.read().split(chr(0))
"""
    circular = "cannot import name 'x' from partially initialized module 'upper.circular' (most"
    raises = f'PyErr_SetString(PyExc_ImportError, "{circular}"); return NULL;'
    bodies = {"crash": native.CRASH, "nodriver": native.NO_DRIVER, "circular": raises}
    bodies["alone"] = 'return PyImport_ImportModule("prog.extra");'
    native_wheel(small, compiler, "app", "upper", code, **bodies)
    files = dict.fromkeys(("prog/__init__.py", "prog/extra.py", "prog/exact.py"), "")
    files |= dict.fromkeys(("prog/user.py", "prog/idle.py"), "from . import exact\n")
    small.wheel("app", "prog", "1.0", {**files, "prog/main.py": "import prog.user\n"})
    native_wheel(small, compiler, "app", "third", "import prog.extra", fine=native.FINE)
    small.more = (
        '[tool.stackbuild.layers.app]\nexclude-files.prog = ["prog/ex*"]\n'
        '[tool.stackbuild.layers.app.environment]\nMODE = { append = ["app"] }\n'
        '[tool.stackbuild.layers.base.environment]\nMODE = "base"\n'
        '[tool.stackbuild.layers.base.allow-import-errors."lower-*"]\n"lower._gpu" = "SEGV"\n'
    )
    root = built(small)
    left = {path.name.partition(".")[0] for path in (root / "app/lib").rglob("prog/**/*.py*")}
    assert left == {"__init__", "user", "idle", "main"}
    found = report("app", "--spec", small.spec, code=9)
    assert found["layers"] == ["cpython", "base", "app"]
    assert found["counts"]["modules"] == 7
    assert found["left_out"] == ["lower._test_of_it"]
    assert [
        (f["check"], f["layer"], f["distribution"], f["module"]) for f in found["findings"]
    ] == [
        ("module", "app", "prog 1.0", None),
        ("import", "app", "third 1.0", "third.fine"),
        ("import", "app", "upper 1.0", "upper.crash"),
        ("import", "app", "upper 1.0", "upper.nodriver"),
    ]
    assert [(k["layer"], k["module"]) for k in found["known"]] == [
        ("app", "upper.circular"),
        ("base", "lower._gpu"),
    ]
    assert found["known"][0]["text"] == (
        f"it imports itself, which fails in every installation: ImportError: {circular}"
    )
    assert found["stale"] == []
    assert [one["module"] for one in found["unused"]] == ["prog.idle", "upper.alone"]
    left_out = "`exclude-files` of app leaves out prog/extra.py: 'prog/ex*'"
    texts = [f["message"].partition("; ")[2] for f in found["findings"]]
    assert texts == [left_out.replace("extra", "exact"), left_out, "", ""]
    assert found["entries"].splitlines() == [
        "[tool.stackbuild.layers.app.allow-import-errors]",
        '"third-*" = { "third.fine" = "ModuleNotFoundError: No module named \'prog.extra\'" }',
        '"upper-*" = { "upper.crash" = "crash: killed by SIGSEGV (signal 11)", '
        f'"upper.nodriver" = "ImportError: {DRIVER}" }}',
    ]
    # The ready-made entries are all it takes, besides the module that is not imported.
    skipped = '[tool.stackbuild.layers.app.verify]\nskip-modules = ["prog.user"]'
    small.more += f"\n{found['entries']}\n{skipped}\n"
    small.lock()
    out = succeed("verify", "app", "--spec", small.spec, "--root", root)
    assert f"known: app: upper.nodriver (upper 1.0): ImportError: {DRIVER}" in out
    assert "7 native modules (1 left out)" in out
    assert "\n2 modules that nothing imports need files that `exclude-files` leaves out; " in out
    out = succeed("verify", "app", "--spec", small.spec, "--verbose")
    assert f"\nunused: app: upper.alone (upper 1.0): {left_out}\n" in out


def test_entries_nothing_needs_any_more_are_told(
    small: SmallStack, compiler: native.Compiler
) -> None:
    native_wheel(small, compiler, "app", "upper", good=native.FINE, bad=native.NO_DRIVER)
    small.more = """
[tool.stackbuild.layers.app.allow-import-errors]
"upper-*" = { "upper.good" = "driver", "upper.bad" = "something else", "upper.gone" = "driver" }
"other-*" = { "other.*" = "driver" }
"""
    built(small)
    done = stackbuild("verify", "--spec", small.spec)
    assert done.returncode == 9  # for the one that fails otherwise
    place = "stale: tool.stackbuild.layers.app.allow-import-errors."
    assert [line for line in done.stdout.splitlines() if line.startswith("stale")] == [
        f'{place}"upper-*"."upper.good": the module is now imported without an error',
        f'{place}"upper-*"."upper.bad": the error has changed: ImportError: {DRIVER}',
        f'{place}"upper-*"."upper.gone": the wheel has no such native module',
        f'{place}"other-*"."other.*": no wheel has this name',
    ]
    # One layer alone may not have the wheels that an entry is about.
    assert "other-*" not in stackbuild("verify", "app", "--spec", small.spec).stdout


def test_what_is_wrong_with_files_is_told_at_once(
    small: SmallStack, compiler: native.Compiler, tmp_path: Path
) -> None:
    library = compiler.library(tmp_path / "libraries", "libnowhere.so.7")
    linked = compiler.module(
        tmp_path / "compiled", "linked", native.FINE, "-Wl,--no-as-needed", os.fspath(library)
    )
    digits = "".join(small.python.split(".")[:2])
    small.wheel(
        "base",
        "lib",
        "1.0",
        {
            "lib/__init__.py": "",
            f"lib/{linked.name}": linked.read_bytes(),
            "lib/built.py": f"SOURCE = '{small.directory}/build/x.c'\n",
            "lib/told.txt": "See /home/user/x and /tmp/example.\n",
        },
        requires=[
            "absent>=1; python_version >= '3'",
            "tool>=3",
            "tool[more]",
            "no; os_name == 'x'",
        ],
        tag=f"cp{digits}-cp{digits}-linux_x86_64",
    )
    small.wheel("app", "tool", "2.0", {"tool.py": "", "tool2.py": ""}, requires=["lib>=2", "lib"])
    root = built(small, "--allow-unresolved")
    site = next((root / "app" / "lib").glob("python*")) / "site-packages"
    (site / "tool.py").unlink()
    (site / "tool.py").write_text("changed = 1\n")
    (site / "tool2.py").unlink()
    found = report("--spec", small.spec, code=9)
    texts = {
        (f["check"], f["layer"], f["distribution"], f["message"], f["expected"], f["found"])
        for f in found["findings"]
    }
    edited = next(text for text in texts if text[3] == "does not match RECORD")
    assert edited[:3] == ("record", "app", "tool 2.0")
    written = hashlib.sha256(b"changed = 1\n").digest()
    digest = base64.urlsafe_b64encode(written).rstrip(b"=").decode()
    assert edited[5] == f"sha256={digest}"
    assert texts - {edited} == {
        ("record", "app", "tool 2.0", "RECORD lists a missing file", None, None),
        ("requirement", "app", "tool 2.0", "requires another version", "lib>=2", "lib 1.0"),
        (
            "requirement",
            "base",
            "lib 1.0",
            "requires a distribution that is not in the chain",
            'absent>=1; python_version >= "3"',
            None,
        ),
        (
            "requirement",
            "base",
            "lib 1.0",
            "requires a distribution that is not in the chain",
            "tool>=3",
            None,
        ),
        (
            "requirement",
            "base",
            "lib 1.0",
            "requires a distribution that is not in the chain",
            "tool[more]",
            None,
        ),
        (
            "path",
            "base",
            "lib 1.0",
            "contains a path of the machine that built it",
            None,
            f"{small.directory}/build",
        ),
        (
            "library",
            "base",
            "lib 1.0",
            "needs a shared library that neither the chain nor every host has",
            "libnowhere.so.7",
            None,
        ),
        (
            "import",
            "base",
            "lib 1.0",
            "cannot be imported",
            None,
            "ImportError: libnowhere.so.7: cannot open shared object file: "
            "No such file or directory",
        ),
    }
    message = fail(9, "verify", "--spec", small.spec)
    assert message == f"error: {len(texts)} findings\n  file: {root}\n"


def test_a_record_that_was_cut_short_and_what_is_no_file(small: SmallStack) -> None:
    small.wheel("app", "tool", "2.0", {"tool.py": "", "tool2.py": ""})
    small.wheel("app", "more", "1.0", {"more.py": ""}, requires=["tool"])
    small.wheel("app", "odd", "1.0", {"odd.py": ""})
    root = built(small)
    site = next((root / "app" / "lib").glob("python*")) / "site-packages"
    for info, record in {
        "tool-2.0.dist-info": b"",
        "more-1.0.dist-info": b"more.py,,\n",
        "odd-1.0.dist-info": b"odd\0.py,,\n",
    }.items():
        (site / info / "RECORD").unlink()
        (site / info / "RECORD").write_bytes(record)
    (site / "more.py").unlink()
    os.mkfifo(site / "more.py")
    found = report("--spec", small.spec, code=9)
    inside = site.relative_to(root / "app").as_posix()
    assert [(f["file"], f["message"], f["found"]) for f in found["findings"]] == [
        (f"{inside}/odd-1.0.dist-info", "has no readable RECORD", None),
        (f"{inside}/tool-2.0.dist-info", "has no readable RECORD", None),
        (
            f"{inside}/more-1.0.dist-info/INSTALLER",
            "was installed for a distribution, but is in no RECORD",
            ANY,
        ),
        (f"{inside}/more.py", "is not a file", None),
    ]


def test_a_missing_library_that_is_known_or_expected_of_the_host_is_no_finding(
    small: SmallStack, compiler: native.Compiler, tmp_path: Path
) -> None:
    library = compiler.library(tmp_path / "libraries", "libnowhere.so.7")
    options = ("-Wl,--no-as-needed", os.fspath(library))
    linked = compiler.module(tmp_path / "compiled", "linked", native.FINE, *options)
    small.wheel("app", "tool", "2.0", {f"tool/{linked.name}": linked.read_bytes()})
    small.more = """
[tool.stackbuild.layers.app.allow-import-errors]
"tool-*" = { "tool.linked" = "LIBNOWHERE.so.7: cannot open" }
"""
    built(small)
    found = report("--spec", small.spec)
    assert (found["findings"], [one["module"] for one in found["known"]]) == ([], ["tool.linked"])
    small.more = """
[tool.stackbuild.layers.app.verify]
host-libraries = ["libnowhere.so.*"]
skip-modules = ["tool.link*"]
"""
    small.lock()
    found = report("--spec", small.spec)
    assert (found["findings"], found["left_out"]) == ([], ["tool.linked"])


def test_a_library_of_a_lower_layer_is_there(
    small: SmallStack, compiler: native.Compiler, tmp_path: Path
) -> None:
    library = compiler.library(tmp_path / "libraries", "libshared.so.1")
    small.wheel(
        "base", "lib", "1.0", {"lib.libs/libshared.so.1": library.read_bytes(), "lib.py": ""}
    )
    search = "-Wl,-rpath,$ORIGIN/../../../../../base/lib/python{}/site-packages/lib.libs"
    minor = ".".join(small.python.split(".")[:2])
    linked = compiler.module(
        tmp_path / "compiled",
        "linked",
        native.FINE,
        "-Wl,--no-as-needed",
        os.fspath(library),
        search.format(minor),
    )
    small.wheel("app", "tool", "2.0", {f"tool/{linked.name}": linked.read_bytes()})
    built(small)
    out = succeed("verify", "--spec", small.spec)
    assert "1 native module (0 left out)" in out


def test_layers_for_another_platform_are_checked_without_running_them(tmp_path: Path) -> None:
    other = next(
        platform
        for platform in (Platform.LINUX_X64, Platform.LINUX_AARCH64)
        if platform != host_platform()
    )
    made = publisher(tmp_path)
    made.platform = other
    info = "lib/python3.12/site-packages/demo-1.dist-info"
    files: dict[str, Any] = {
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: demo\nVersion: 1\n"
        "Requires-Dist: absent; platform_machine == 'x86_64'\n"
        "Requires-Dist: absent; platform_machine == 'aarch64'\n",
        f"{info}/RECORD": "demo.py,,\ndemo-1.dist-info/METADATA,,\ndemo-1.dist-info/RECORD,,\n",
    }
    runtime = made.publish(
        "cpython-3.12", {"cpython": {"bin/python3.12": "#!/bin/false\n"} | files}
    )
    made.publish("app", {"demo 1": files, "app": head("cpython-3.12")}, below=[runtime])
    root = tmp_path / "root"
    succeed("install", "app", "--from", made.directory, "--root", root, "--platform", other)
    found = report("app", "--root", root, "--platform", other, code=9)
    assert (
        found["not_imported"]
        == f"the layers are for {other}, and this machine is {host_platform()}"
    )
    kinds = {(finding["layer"], finding["check"]): finding for finding in found["findings"]}
    # What starts an interpreter in the layer was never published: an old or foreign publisher.
    assert set(kinds) == {
        *(("app", "layer"), ("app", "record"), ("app", "requirement")),
        *(("cpython-3.12", "record"), ("cpython-3.12", "requirement")),
    }
    assert (
        kinds["app", "requirement"]["expected"] == f'absent; platform_machine == "{other.machine}"'
    )


def test_a_root_can_be_checked_without_the_spec(
    small: SmallStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = built(small)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    out = succeed("verify", "framework-b*", "--root", root)
    assert out.startswith(f"cpython, base ({host_platform()}): 1 distributions, ")
    assert "app" not in out


def test_an_interpreter_that_does_not_start_is_told(small: SmallStack) -> None:
    root = built(small)
    (interpreter,) = (root / "cpython" / "bin").glob("python3.[0-9]*[0-9]")
    interpreter.unlink()
    interpreter.write_text("#!/bin/sh\necho it is too warm >&2\nexit 4\n")
    interpreter.chmod(0o755)
    found = report("--spec", small.spec, code=9)
    (finding,) = found["findings"]
    assert finding["message"] == "the layer's interpreter does not start, so nothing was imported"
    assert finding["found"] == "exit code 4"
    assert finding["detail"] == "it is too warm"


def test_the_stack_of_this_repository(moved_root: Path, real_stack: RealStack) -> None:
    done = real_stack.run("verify", "atls", "--root", moved_root, "--json", check=False)
    found = json.loads(done.stdout)
    # scipy 1.16.1, the first for CPython 3.14, has a module that imports itself.
    broken = ("scipy 1.16.1", "scipy.linalg._matfuncs_sqrtm_triu")
    findings = [(each["distribution"], each["module"]) for each in found["findings"]]
    assert [each for each in findings if each != broken] == []
    assert done.returncode == (9 if findings else 0)
    assert found["counts"]["modules"] > 150
    assert found["counts"]["binaries"] > 150
    assert {"numpy._core._multiarray_tests", "scipy._lib._test_ccallback"} <= {*found["left_out"]}
