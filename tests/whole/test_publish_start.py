"""What a layer's interpreter sees when it starts, with real interpreters of each version."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.handmade import HandMade, execute, interpreters, make_layers, start

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links to the runtime are POSIX's way")

SEEN = (
    "import sys, json, sysconfig, os, encodings;"
    "print(json.dumps({'prefix': sys.prefix, 'exec_prefix': sys.exec_prefix,"
    "'base': sys.base_prefix, 'base_exec': sys.base_exec_prefix,"
    "'executable': sys.executable, 'path': sys.path,"
    "'base_executable': sys._base_executable, 'purelib': sysconfig.get_path('purelib'),"
    "'encodings': list(encodings.__path__)}))"
)


def seen(layer: Path, *options: str, **environment: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(start(layer, *options, "-c", SEEN, **environment))
    return result


@pytest.fixture(params=sorted(interpreters()))
def minor(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def layers(tmp_path: Path, minor: str) -> HandMade:
    return make_layers(tmp_path / "somewhere" / "envs", minor)


@pytest.fixture
def newest() -> str:
    return max(interpreters(), key=lambda minor: int(minor.partition(".")[2]))


def test_the_chain_is_on_the_path_in_its_order_and_nothing_else(layers: HandMade) -> None:
    found = seen(layers.directory / "atls")
    root, stdlib = layers.directory, layers.directory / "cpython" / layers.layout.stdlib
    sites = [root / name / layers.layout.site_packages for name in ("atls", "framework", "cpython")]
    zipped = stdlib.parent / f"python{layers.layout.python.replace('.', '')}.zip"
    expected = ["", zipped, stdlib, stdlib / "lib-dynload", *sites]
    assert found["path"] == [str(path) for path in expected]
    assert found["prefix"] == found["exec_prefix"] == str(root / "atls")
    assert found["base"] == found["base_exec"] == str(root / "cpython")
    assert found["executable"] == str(root / "atls" / "bin" / "python")
    python = root / "cpython" / "bin" / f"python{layers.layout.python}"
    assert found["base_executable"] == str(python)
    assert found["purelib"] == str(sites[0])


def test_isolated_mode_sees_the_same_layers(layers: HandMade) -> None:
    plain, isolated = (seen(layers.directory / "atls", *options) for options in ((), ("-I",)))
    assert isolated["path"] == plain["path"][1:]  # without the working directory
    assert isolated["prefix"] == plain["prefix"]


def test_a_moved_directory_works_also_with_spaces_and_accents(
    layers: HandMade, tmp_path: Path
) -> None:
    moved = tmp_path / "Übung mit Leerzeichen" / "日本 é"
    moved.parent.mkdir()
    layers.directory.rename(moved)
    found = seen(moved / "atls")
    assert found["prefix"] == str(moved / "atls")
    assert not any(str(tmp_path / "somewhere") in path for path in found["path"])
    code = "import of_atls, of_framework, of_runtime, json; print(of_framework.LAYER)"
    assert start(moved / "atls", "-c", code) == "framework"


def test_an_environment_made_from_the_layer_has_a_standard_library(
    layers: HandMade, tmp_path: Path
) -> None:
    layers.python("-m", "venv", "--without-pip", tmp_path / "venv")
    code = "import json, ssl, sys; print(sys.prefix); print(sys.base_prefix)"
    prefix, base = start(tmp_path / "venv", "-c", code).splitlines()
    assert prefix == str(tmp_path / "venv")
    assert base == str(layers.directory / "cpython")


def test_a_spawned_process_sees_the_layers_too(layers: HandMade, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import multiprocessing\n"
        "def work(number):\n"
        "    import of_framework\n"
        "    return of_framework.LAYER * number\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(2) as pool:\n"
        "        print(pool.map(work, [1, 2]))\n"
    )
    assert layers.python(program) == "['framework', 'frameworkframework']"


def test_a_sitecustomize_of_the_user_runs_and_hides_nothing(
    layers: HandMade, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "sitecustomize.py").write_text("import of_framework; print('mine', end=' ')\n")
    code = "import of_runtime; print(of_runtime.LAYER)"
    assert layers.python("-c", code, PYTHONPATH=str(own)) == "mine cpython"
    assert layers.python("-I", "-c", code, PYTHONPATH=str(own)) == "cpython"


def test_a_failing_sitecustomize_of_the_user_is_told_and_cuts_nothing_off(
    tmp_path: Path, newest: str
) -> None:
    layers = make_layers(tmp_path, newest)
    own = tmp_path / "own"
    own.mkdir()
    (own / "sitecustomize.py").write_text("import no_such_module_of_mine\n")
    code = "import of_framework, of_runtime; print('on')"
    python = tmp_path / "atls" / "bin" / "python"
    environment = {**os.environ, "PYTHONPATH": str(own)}
    done = subprocess.run(
        [python, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "on\n"
    assert "no_such_module_of_mine" in done.stderr
    assert layers.python("-c", code) == "on"


def test_a_sitecustomize_further_along_the_path_runs_once(tmp_path: Path, newest: str) -> None:
    layers = make_layers(
        tmp_path,
        newest,
        framework={"late/sitecustomize.py": "print('late', end=' ')\n"},
        pth=("late",),
    )
    assert layers.python("-c", "import sitecustomize; print('done')") == "late done"


def test_pth_lines_of_a_lower_layer_count(tmp_path: Path, minor: str) -> None:
    layers = make_layers(
        tmp_path,
        minor,
        framework={
            "plugins/of_plugin.py": "LAYER = 'plugin'\n",
            "hook.py": "import sys\nsys.hooked = getattr(sys, 'hooked', 0) + 1\n",
            "spoken.py": "def place(frame): print(frame.f_locals['sitedir'])\n",
        },
        pth=(
            "# a comment",
            "",
            "plugins",
            "not-there",
            "/usr/lib/python3/dist-packages",
            "import hook",
            "import sys, spoken; spoken.place(sys._getframe(1))",
        ),
    )
    code = "import sys, of_plugin; print(sys.hooked, of_plugin.LAYER, *sys.path, sep='\\n')"
    place, hooked, plugin, *path = layers.python("-c", code).splitlines()
    site = tmp_path / "framework" / layers.layout.site_packages
    assert (place, hooked, plugin) == (str(site), "1", "plugin")
    assert path[-3:-1] == [str(site), str(site / "plugins")]
    assert not [entry for entry in path if "not-there" in entry or "dist-packages" in entry]


def test_a_broken_import_line_of_a_lower_layer_is_told_and_stops_nothing(
    tmp_path: Path, newest: str
) -> None:
    make_layers(tmp_path, newest, pth=("import no_such_module",))
    command: list[str | Path] = [
        tmp_path / "atls" / "bin" / "python",
        "-c",
        "import of_runtime; print('on')",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "on\n"
    assert "'import no_such_module' failed: ModuleNotFoundError" in done.stderr


def test_the_layers_of_another_application_may_be_on_the_path(tmp_path: Path, newest: str) -> None:
    layers = make_layers(tmp_path, newest)
    site = tmp_path / "atls" / layers.layout.site_packages
    found = seen(tmp_path / "framework", PYTHONPATH=str(site))
    assert found["prefix"] == str(tmp_path / "framework")
    assert found["path"][1] == str(site)
    assert found["path"][-1] == str(tmp_path / "cpython" / layers.layout.site_packages)


def test_user_site_packages_are_not_seen_not_even_by_the_runtime(
    layers: HandMade, tmp_path: Path
) -> None:
    user = tmp_path / "home" / ".local" / "lib" / f"python{layers.layout.python}" / "site-packages"
    user.mkdir(parents=True)
    code = "import sys; print([p for p in sys.path if '.local' in p])"
    assert layers.python("-c", code, HOME=str(tmp_path / "home")) == "[]"
    runtime = layers.directory / "cpython"
    python = runtime / "bin" / f"python{layers.layout.python}"
    assert execute(python, "-c", code, HOME=str(tmp_path / "home")) == "[]"
    (runtime / "pyvenv.cfg").unlink()
    assert execute(python, "-c", code, HOME=str(tmp_path / "home")) == f"[{str(user)!r}]"


def test_the_runtime_itself_is_no_virtual_environment(layers: HandMade, tmp_path: Path) -> None:
    runtime = layers.directory / "cpython"
    python = runtime / "bin" / f"python{layers.layout.python}"
    code = "import sys, of_runtime; print(sys.prefix == sys.base_prefix, sys.prefix)"
    assert execute(python, "-c", code) == f"True {runtime}"
    execute(python, "-m", "venv", "--without-pip", tmp_path / "venv")
    assert start(tmp_path / "venv", "-c", "import json, sys; print(sys.base_prefix)") == str(
        runtime
    )


@pytest.fixture
def root(tmp_path: Path, minor: str) -> HandMade:
    """An installed root as the design says: links to `current`, which leads to a generation."""
    root = tmp_path / "root"
    made = make_layers(root / "generations" / "7", minor)
    (root / "current").symlink_to("generations/7")
    for name in ("atls", "framework", "cpython"):
        (root / name).symlink_to(f"current/{name}")
    (root / "absolute").symlink_to(root / "atls")
    (root / "links").mkdir()
    (root / "links" / "relative").symlink_to("../current/atls")
    return HandMade(root, made.layout)


@pytest.mark.parametrize("way", ["atls", "current/atls", "absolute", "links/relative"])
def test_a_process_stays_in_the_generation_it_was_started_from(root: HandMade, way: str) -> None:
    found = seen(root.directory / way)
    generation = root.directory / "generations" / "7"
    assert found["prefix"] == found["exec_prefix"] == str(generation / "atls")
    assert found["base"] == found["base_exec"] == str(generation / "cpython")
    assert found["executable"] == str(generation / "atls" / "bin" / "python")
    assert found["encodings"] == [str(generation / "cpython" / root.layout.stdlib / "encodings")]
    direct = seen(generation / "atls")
    assert found["path"] == direct["path"]


def test_an_upgrade_in_between_is_not_seen(root: HandMade, tmp_path: Path) -> None:
    directory = root.directory
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys, pathlib\n"
        "root = pathlib.Path(sys.argv[1])\n"
        "os.symlink('generations/8', root / 'next')\n"
        "os.replace(root / 'next', root / 'current')\n"
        "import of_framework, of_runtime, subprocess, encodings.idna\n"
        "child = subprocess.run([sys.executable, '-c', 'import of_framework as f; print(f.LAYER)'],"
        " stdout=subprocess.PIPE, text=True)\n"
        "print(of_framework.LAYER, of_runtime.LAYER, child.stdout.strip())\n"
        "print(encodings.idna.__file__)\n"
    )
    shutil.copytree(directory / "generations" / "7", directory / "generations" / "8", symlinks=True)
    for layer in ("framework", "cpython"):
        site = directory / "generations" / "8" / layer / root.layout.site_packages
        module = "of_runtime.py" if layer == "cpython" else "of_framework.py"
        (site / module).write_text("LAYER = 'new'\n")
    layers, idna = root.python(program, directory).splitlines()
    assert layers == "framework cpython framework"
    assert idna.startswith(str(directory / "generations" / "7"))
    assert root.python("-c", "import of_framework; print(of_framework.LAYER)") == "new"


def test_own_pth_entries_stand_once_and_before_the_lower_layers(
    tmp_path: Path, newest: str
) -> None:
    root = tmp_path / "root"
    made = make_layers(
        root / "generations" / "1", newest, own={"extra/x.py": "", "extra.pth": "extra\n"}
    )
    (root / "current").symlink_to("generations/1")
    (root / "atls").symlink_to("current/atls")
    path = seen(root / "atls")["path"]
    assert len(path) == len(set(path))
    site = str(root / "generations" / "1" / "atls" / made.layout.site_packages)
    assert path[-4:-2] == [site, f"{site}/extra"]
