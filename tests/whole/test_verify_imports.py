"""Importing native modules, each in a process of its own, with real interpreters."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stackbuild.messages import Silent
from stackbuild.verify.importing import import_modules
from tests.support import native
from tests.support.handmade import interpreters, make_layers

if TYPE_CHECKING:
    from collections.abc import Collection

    from stackbuild.verify.model import Outcome
    from tests.support.handmade import HandMade

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the layers are made for POSIX")

NEWEST = max(interpreters(), key=lambda minor: int(minor.partition(".")[2]))


@pytest.fixture(params=sorted(interpreters()))
def layers(request: pytest.FixtureRequest, tmp_path: Path) -> HandMade:
    return make_layers(tmp_path / "root", str(request.param))


@pytest.fixture
def newest(tmp_path: Path) -> HandMade:
    return make_layers(tmp_path / "root", NEWEST)


@pytest.fixture(params=[True, False], ids=["forked", "started"])
def fork(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def site(layers: HandMade, layer: str = "atls") -> Path:
    return layers.directory / layer / layers.layout.site_packages


def tried(
    layers: HandMade, modules: Collection[str], *, fork: bool = True, limit: float = 20
) -> dict[str, Outcome]:
    python = layers.directory / "atls" / "bin" / "python"
    return import_modules(modules, python, Silent(), jobs=2, limit=limit, fork=fork)


def package(layers: HandMade, name: str, code: str = "", layer: str = "atls") -> Path:
    directory = site(layers, layer).joinpath(*name.split("."))
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "__init__.py").write_text(code)
    return directory


def processes_in(directory: Path) -> list[int]:
    """Those that run a program or work in `directory`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(directory) in str((process / "exe").readlink()):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def test_what_modules_do_is_told(layers: HandMade, fork: bool) -> None:
    compiler = native.compiler(layers.layout.python)
    directory = package(layers, "pkg.inner").parent
    package(layers, "pkg")
    compiler.module(directory, "fine", native.FINE)
    compiler.module(directory / "inner", "fine", native.FINE)
    compiler.module(directory, "crash", native.CRASH)
    compiler.module(directory, "leave", native.LEAVE)
    compiler.module(directory, "no_driver", native.NO_DRIVER)
    compiler.module(site(layers, "framework"), "lower", native.FINE)
    names = ["pkg.fine", "pkg.inner.fine", "pkg.crash", "pkg.leave", "pkg.no_driver", "lower"]
    found = tried(layers, [*names, "pkg.absent"], fork=fork)
    results = {name: (outcome.result, outcome.at) for name, outcome in found.items()}
    assert results == {
        "pkg.fine": ("imported", "pkg.fine"),
        "pkg.inner.fine": ("imported", "pkg.inner.fine"),
        "lower": ("imported", "lower"),
        "pkg.crash": ("crash", "pkg.crash"),
        "pkg.leave": ("crash", "pkg.leave"),
        "pkg.no_driver": ("error", "pkg.no_driver"),
        "pkg.absent": ("error", "pkg.absent"),
    }
    assert found["pkg.absent"].missing == ("pkg/absent",)
    assert found["pkg.crash"].text == "killed by SIGSEGV (signal 11)"
    assert "Segmentation fault" in found["pkg.crash"].output
    assert found["pkg.leave"].text == "ended the process with exit code 3"
    assert found["pkg.no_driver"].text == "ImportError: CUDA driver version is insufficient"
    assert found["pkg.absent"].text == "ModuleNotFoundError: No module named 'pkg.absent'"


@pytest.mark.parametrize(
    ("fork", "body"),
    [(True, native.HANG), (True, native.HANG_WITH_CHILD), (False, native.HANG)],
)
def test_a_module_that_hangs_is_ended_with_all_it_has_started(
    newest: HandMade, fork: bool, body: str
) -> None:
    directory = package(newest, "pkg")
    native.compiler(NEWEST).module(directory, "hang", body)
    native.compiler(NEWEST).module(directory, "fine", native.FINE)
    begin = time.monotonic()
    found = tried(newest, ["pkg.hang", "pkg.fine"], fork=fork, limit=1)
    assert time.monotonic() - begin < 15
    assert {name: outcome.result for name, outcome in found.items()} == {
        "pkg.hang": "hang",
        "pkg.fine": "imported",
    }
    assert found["pkg.hang"].text == "not imported within 1 s"
    if fork:
        assert "Fatal Python error: Aborted" in found["pkg.hang"].output  # and where it was
    if Path("/proc/self").is_dir():
        assert processes_in(newest.directory) == []


# Packages that are Python, around a module that does nothing.


def extension(layers: HandMade, directory: Path) -> None:
    native.compiler(layers.layout.python).module(directory, "_part", native.FINE)


@pytest.mark.parametrize(
    ("code", "result", "text"),
    [
        ("import os; os.abort()", "crash", "killed by SIGABRT (signal 6)"),
        ("import time; time.sleep(1000)", "hang", "not imported within 1 s"),
        ("raise ImportError('libcuda.so.1: no such file')", "error", "ImportError: libcuda.so.1"),
        ("import sys; sys.exit('go away')", "error", "SystemExit: go away"),
        ("raise KeyboardInterrupt", "error", "KeyboardInterrupt: no message"),
    ],
)
def test_a_package_that_fails_fails_for_all_its_modules(
    newest: HandMade, code: str, result: str, text: str
) -> None:
    for name in ("pkg.bad", "pkg.bad.deep", "pkg.good"):
        directory = package(newest, name, code if name == "pkg.bad" else "")
        extension(newest, directory)
    package(newest, "pkg")
    names = ["pkg.bad._part", "pkg.bad.deep._part", "pkg.good._part"]
    found = tried(newest, names, limit=1)
    assert found["pkg.good._part"].result == "imported"
    for name in names[:2]:
        assert (found[name].result, found[name].at) == (result, "pkg.bad")
        assert found[name].text.startswith(text)


def test_a_failure_that_only_forking_makes_is_none(newest: HandMade) -> None:
    # The package ends every process but the one that imported it first.
    code = "import os\nhere = os.getpid()\n"
    extension(newest, package(newest, "pkg", code))
    check = "import os, pkg\nif pkg.here != os.getpid():\n    os.abort()\n"
    extension(newest, package(newest, "pkg.careful", check))
    found = tried(newest, ["pkg._part", "pkg.careful._part"])
    assert {outcome.result for outcome in found.values()} == {"imported"}


def test_a_package_with_threads_is_not_forked(newest: HandMade) -> None:
    code = (
        "import threading\n"
        "lock = threading.Lock()\n"
        "def hold():\n"
        "    with lock:\n"
        "        threading.Event().wait()\n"
        "threading.Thread(target=hold, daemon=True).start()\n"
        "while not lock.locked():\n"
        "    pass\n"
    )
    package(newest, "pkg", code)
    # In a forked child nobody would ever let go of the lock, so that this would take for ever.
    check = "import os, pkg, threading\nif threading.active_count() < 2:\n    pkg.lock.acquire()\n"
    extension(newest, package(newest, "pkg.sub", check))
    found = tried(newest, ["pkg.sub._part"], limit=5)
    assert found["pkg.sub._part"].result == "imported"


def test_what_modules_print_is_not_taken_for_results(newest: HandMade, fork: bool) -> None:
    code = 'print(\'{"result": "error", "modules": ["pkg._part"], "at": "pkg"}\', flush=True)\n'
    extension(newest, package(newest, "pkg", f"{code}import os\nos.write(2, b'noise')\n"))
    assert tried(newest, ["pkg._part"], fork=fork)["pkg._part"].result == "imported"


def test_a_module_reads_nothing_and_sees_only_its_layer(
    newest: HandMade, fork: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "sitecustomize.py").write_text("raise SystemExit(1)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("SECRET", "token")
    code = (
        "import os, sys\n"
        "assert sys.stdin.read() == ''\n"
        "assert 'SECRET' not in os.environ and 'LD_LIBRARY_PATH' not in os.environ\n"
        "assert os.environ['MPLBACKEND'] == 'Agg'\n"
        "assert os.environ['CUDA_VISIBLE_DEVICES'] == ''\n"
        "assert os.environ['OPENBLAS_NUM_THREADS'] == '1'\n"
        f"assert os.path.expanduser('~') != {str(Path.home())!r}\n"
        "open('written', 'w').close()\n"
    )
    extension(newest, package(newest, "pkg", code))
    before = sorted(path for path in newest.directory.rglob("*") if "stdlib" not in path.parts)
    found = tried(newest, ["pkg._part"], fork=fork)
    assert (found["pkg._part"].result, found["pkg._part"].text) == ("imported", "")
    assert before == sorted(newest.directory.rglob("*"))


def test_variables_of_the_caller_come_last(newest: HandMade) -> None:
    code = "import os\nassert os.environ['MPLBACKEND'] == 'pdf'\n"
    extension(newest, package(newest, "pkg", code))
    python = newest.directory / "atls" / "bin" / "python"
    found = import_modules(
        ["pkg._part"], python, Silent(), jobs=1, environment={"MPLBACKEND": "pdf"}
    )
    assert found["pkg._part"].result == "imported"


def test_a_process_that_is_killed_from_outside_costs_one_result(newest: HandMade) -> None:
    # It kills the process that has forked it, and that one's parent, up to the server.
    code = (
        "import os, signal\n"
        "group = os.getppid()\n"
        "if not os.path.exists('once'):\n"
        "    open('once', 'w').close()\n"
        "    os.kill(group, signal.SIGKILL)\n"
    )
    extension(newest, package(newest, "angry", code))
    extension(newest, package(newest, "calm"))
    found = tried(newest, ["angry._part", "calm._part"])
    assert found["calm._part"].result == "imported"
    assert found["angry._part"].result == "imported"  # alone, when it was tried once more


def test_interrupting_ends_everything(newest: HandMade, fork: bool) -> None:
    package(newest, "pkg")
    extension(newest, package(newest, "pkg.slow", "import time\ntime.sleep(1000)\n"))

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 1.5)
    begin = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            tried(newest, ["pkg.slow._part"], limit=8, fork=fork)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - begin < 7
    if Path("/proc/self").is_dir():
        assert processes_in(newest.directory) == []


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="they are found in /proc")
def test_what_a_module_leaves_running_is_ended(newest: HandMade, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    code = f"""\
import os, subprocess, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv("/bin/sh", ["sh", "-c", "echo $$ > {pid}; exec sleep 99"])
    os._exit(0)
os.wait()
while not os.path.exists({str(pid)!r}) or not open({str(pid)!r}).read():
    pass
"""
    package(newest, "pkg")
    extension(newest, package(newest, "pkg.daemon", code))
    found = tried(newest, ["pkg.daemon._part"], limit=8)
    assert found["pkg.daemon._part"].result == "imported"
    state = Path(f"/proc/{pid.read_text().strip()}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_nothing_to_import(newest: HandMade) -> None:
    assert tried(newest, []) == {}
