from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stackbuild.api import invocation
from stackbuild.frames.files import FileContent, Link
from stackbuild.mark import Kind, write_mark
from stackbuild.messages import Silent
from stackbuild.platforms import Platform, host_platform
from stackbuild.variables import Variable
from tests.support.http import serving
from tests.support.publish import PYTHON, head, publisher
from tests.support.roots import command, fail, generation, snapshot, stackbuild, succeed, tool

if TYPE_CHECKING:
    from tests.support.publish import Publisher


def test_only_the_chain_asked_for(made: Publisher, root: Path) -> None:
    succeed("install", "atls", "--from", made.directory, "--root", root)
    assert sorted(path.name for path in root.iterdir() if path.is_symlink()) == [
        "atls",
        "cpython-3.12",
        "current",
        "framework",
    ]
    assert tool(root, "atls") == "atls 1"
    assert (root / "atls/bin/python").readlink().as_posix() == "../../cpython-3.12/bin/python3.12"
    assert (root / "atls/bin/python").resolve().is_file()


def test_only_missing_frames_in_one_range_each(made: Publisher, root: Path) -> None:
    with serving(directory=made.directory) as server:
        succeed("install", "atls", "--from", server.url, "--root", root)
        first = [r.path for r in server.requests if r.path.endswith(".zst")]
        assert len(first) == 3
        server.requests.clear()
        _, framework, atls, _ = made.stack("2")
        out = succeed("install", "atls", "--from", server.url, "--root", root, "--json")
    ranges = {
        request.path: request.headers["range"]
        for request in server.requests
        if request.path.endswith(".zst")
    }
    # The runtime and both heads are the same as before: one frame of each upper layer is new.
    assert ranges == {
        f"/{made.platform}/{manifest.archive.name}": f"bytes=0-{manifest.frames[0].frame.size - 1}"
        for manifest in (framework, atls)
    }
    assert json.loads(out)["fetched"]["frames"] == 2
    assert tool(root, "atls") == "atls 2"


def test_nothing_to_do_makes_no_generation(made: Publisher, root: Path) -> None:
    succeed("install", "atls", "--from", made.directory, "--root", root)
    before = snapshot(root)
    out = succeed("install", "atls", "--from", made.directory, "--root", root)
    assert out.startswith("nothing to do")
    assert snapshot(root) == before


def test_a_second_application_shares_files_with_the_first(made: Publisher, root: Path) -> None:
    succeed("install", "atls", "--from", made.directory, "--root", root)
    old = root / "generations/1/framework/lib/python3.12/site-packages/numpy/__init__.py"
    succeed("install", "pgen", "--from", made.directory, "--root", root)
    new = root / "framework/lib/python3.12/site-packages/numpy/__init__.py"
    assert generation(root) == "2"
    assert new.stat().st_ino == old.stat().st_ino
    assert tool(root, "atls") == "atls 1"
    assert tool(root, "pgen") == "pgen 1"


def test_files_are_read_only_and_directories_are_not(made: Publisher, root: Path) -> None:
    before = os.umask(0o022)
    try:
        succeed("install", "atls", "--from", made.directory, "--root", root)
    finally:
        os.umask(before)
    modes = {
        stat.S_IMODE(path.lstat().st_mode)
        for path in (root / "current/atls").rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    assert modes == {0o444, 0o555}
    assert all(
        stat.S_IMODE(path.stat().st_mode) == 0o755
        for path in (root / "current/atls").rglob("*")
        if path.is_dir()
    )


def test_a_store_shared_by_two_roots(made: Publisher, tmp_path: Path) -> None:
    one, two, store = tmp_path / "one", tmp_path / "two", tmp_path / "store"
    succeed("install", "atls", "--from", made.directory, "--root", one, "--store", store)
    with serving(directory=made.directory) as server:
        succeed("install", "atls", "--from", server.url, "--root", two, "--store", store)
        assert not [r for r in server.requests if r.path.endswith(".zst")]
    file = "atls/bin/atls-tool"
    assert (one / file).stat().st_ino == (two / file).stat().st_ino
    assert not (two / ".stackbuild/store").exists()
    # Cleaning one root leaves what the other one uses.
    succeed("uninstall", "atls", "--root", one)
    succeed("clean", "--root", one)
    assert tool(two, "atls") == "atls 1"
    succeed("verify", "atls", "--installed", "--root", two)
    succeed("uninstall", "atls", "--root", two)
    out = json.loads(succeed("clean", "--root", two, "--json"))
    assert any("unused frames" in item["what"] for item in out["freed"])
    assert sorted(path.name for path in store.iterdir()) == [".stackbuild.tag", "lock", "roots"]


@pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="needs a second file system")
def test_a_store_on_another_file_system_is_copied_from(made: Publisher, root: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        if Path(other).stat().st_dev == root.parent.stat().st_dev:
            pytest.skip("no second file system")
        done = stackbuild(
            "install", "atls", "--from", made.directory, "--root", root, "--store", other
        )
        assert done.returncode == 0, done.stderr
        assert "files were copied" in done.stderr
        succeed("verify", "--installed", "--root", root)
        assert Path(other, "lock").exists()
    assert tool(root, "atls") == "atls 1"


@pytest.mark.parametrize("name", ["with spaces", "größe-日本", "a'b\"c"])
def test_roots_of_any_name_relative_linked_and_moved(
    made: Publisher, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).mkdir()
    link = tmp_path / "link"
    link.symlink_to(name)
    succeed("install", "atls", "--from", "exports", "--root", "link/deep/../root", cwd=tmp_path)
    root = tmp_path / name / "root"
    assert tool(root, "atls") == "atls 1"
    assert tool(link / "root", "atls") == "atls 1"
    assert str(tmp_path) not in "".join(
        str(path.readlink()) for path in root.rglob("*") if path.is_symlink()
    )
    moved = tmp_path / f"moved {name}"
    shutil.move(root, moved)
    assert tool(moved, "atls") == "atls 1"
    succeed("install", "pgen", "--from", "exports", "--root", moved, cwd=tmp_path)
    succeed("verify", "--installed", "--root", moved)
    assert tool(moved, "pgen") == "pgen 1"


def test_a_later_frame_wins(made: Publisher, root: Path) -> None:
    made.publish("app", {"one": {"x": "first", "y": "1"}, "overlay": {"x": "second"}})
    succeed("install", "app", "--from", made.directory, "--root", root)
    assert (root / "app/x").read_text() == "second"
    succeed("verify", "--installed", "--root", root)


def test_a_link_of_one_frame_does_not_lead_files_of_another_elsewhere(
    made: Publisher, root: Path, tmp_path: Path
) -> None:
    base = made.publish("base", {"b": {"keep": "1"}})
    made.publish("evil", {"one": {"sub": Link("../base")}, "two": {"sub/keep": "2"}}, below=[base])
    message = fail(6, "install", "evil", "--from", made.directory, "--root", root)
    assert "one frame of the layer has a directory where another has a file" in message
    assert not (root / "evil").exists()
    assert not (root / "current").exists()


def test_an_old_generation_goes_on_working(made: Publisher, root: Path) -> None:
    succeed("install", "atls", "--from", made.directory, "--root", root)
    script = root / "atls/bin/atls-tool"
    held = os.open(script.resolve().parent, os.O_RDONLY)
    made.stack("2")
    succeed("install", "atls", "--from", made.directory, "--root", root)
    assert tool(root, "atls") == "atls 2"
    done = subprocess.run(
        [f"/proc/self/fd/{held}/atls-tool"] if Path("/proc/self/fd").exists() else [script],
        pass_fds=[held],
        capture_output=True,
        text=True,
        check=True,
    )
    os.close(held)
    assert done.stdout.strip() == "atls 1"
    assert (root / "generations/1/atls/bin/atls-tool").exists()
    succeed("clean", "--root", root)
    assert [path.name for path in (root / "generations").iterdir()] == ["2"]
    assert tool(root, "atls") == "atls 2"
    succeed("verify", "--installed", "--root", root)


def test_uninstalling_and_cleaning(made: Publisher, root: Path) -> None:
    succeed("install", "atls", "pgen", "--from", made.directory, "--root", root)
    succeed("uninstall", "atls", "--root", root)
    assert not os.path.lexists(root / "atls")
    assert tool(root, "pgen") == "pgen 1"
    out = json.loads(succeed("uninstall", "pgen", "--root", root, "--json"))
    assert out["removed"] == ["cpython-3.12", "framework", "pgen"]
    assert out["layers"] == []
    assert sorted(path.name for path in root.iterdir() if path.is_symlink()) == ["current"]
    succeed("clean", "--root", root)
    assert not list((root / ".stackbuild/store").glob("?" * 64))
    succeed("install", "pgen", "--from", made.directory, "--root", root)
    assert tool(root, "pgen") == "pgen 1"


def test_a_deprecated_layer_is_installed_with_a_warning(made: Publisher, root: Path) -> None:
    (atls,) = made.entries["atls"][host_platform()]
    doubted = replace(atls, deprecated="wrong results", superseded_by="pgen")
    made.entries["atls"][host_platform()] = [doubted]
    made.write_index()
    done = stackbuild("install", "atls", "pgen", "--from", made.directory, "--root", root)
    assert done.returncode == 0
    assert done.stderr == "warning: atls is deprecated: wrong results; superseded by pgen\n"


def test_layers_carried_over_without_store_and_registry(made: Publisher, root: Path) -> None:
    succeed("install", "atls", "--from", made.directory, "--root", root)
    shutil.rmtree(root / ".stackbuild/store")
    other = publisher(made.directory.parent / "other")
    other.publish("alone", {"p": {"x": "1"}})
    succeed("install", "alone", "--from", other.directory, "--root", root)
    assert tool(root, "atls") == "atls 1"
    assert (root / "alone/x").read_text() == "1"


def test_a_root_belongs_to_one_platform(made: Publisher, root: Path) -> None:
    foreign = next(p for p in Platform if p is not host_platform() and p.os != "windows")
    made.platform = foreign
    made.stack()
    succeed("install", "atls", "--from", made.directory, "--root", root, "--platform", foreign)
    # Without --platform, it is the root's.
    succeed("install", "pgen", "--from", made.directory, "--root", root)
    message = fail(
        2, "install", "pgen", "--from", made.directory, "--root", root, "--platform", "host"
    )
    assert f"contains layers for {foreign}; a root is for one platform" in message
    message = fail(8, "run", "atls", "--root", root)
    assert f"contains layers for {foreign}, which do not run here" in message


@pytest.mark.parametrize(
    "words",
    [("atls", "--"), ("--root", ".", "atls", "--"), ("atls", "--root", ".", "--")],
)
def test_a_command_behind_two_dashes(made: Publisher, root: Path, words: tuple[str, ...]) -> None:
    succeed("install", "atls", "--from", made.directory, "--root", root)
    command = ("sh", "-c", 'echo "$@"', "sh", "--", "--root", "-x")
    assert succeed("run", *words, *command, cwd=root) == "-- --root -x\n"


def test_listing_a_root_and_a_place(made: Publisher, root: Path) -> None:
    succeed("install", "atls", "--from", made.directory, "--root", root)
    here = json.loads(succeed("list", "--root", root, "--json"))
    assert [(item["layer"], item["asked"], item["needed_by"]) for item in here] == [
        ("cpython-3.12", False, ["framework", "atls"]),
        ("framework", False, ["atls"]),
        ("atls", True, []),
    ]
    there = json.loads(succeed("list", "--from", made.directory, "--json"))
    assert {item["layer"] for item in there} == {"cpython-3.12", "framework", "atls", "pgen"}
    text = succeed("list", "--root", root)
    assert "for framework, atls" in text
    assert here[2]["digest"][:12] in text


def test_a_listing_tells_the_python_that_runs_a_layer(root: Path, tmp_path: Path) -> None:
    """Not the one that its spec asks for, where another one stands in."""
    made = publisher(tmp_path)
    files = {"python": {"bin/python3.12": "", "lib/python3.12/os.py": ""}}
    runtime = made.publish("rt", files, python_version="3.12.1")
    made.publish("app", {"app": head("rt")}, below=[runtime], python_version="3.12.10")
    succeed("install", "app", "--from", made.directory, "--root", root)
    for place in (("--root", root), ("--from", made.directory)):
        listed = json.loads(succeed("list", *place, "--json"))
        assert {item["layer"]: item["python_version"] for item in listed} == {
            "rt": "3.12.1",
            "app": "3.12.1",
        }
        lines = succeed("list", *place).splitlines()
        assert ["3.12.1" in line.split() for line in lines] == [False, True, True]
    # The place has the real one too, which is what an install would take now.
    made.publish("rt", {**files, "more": {"x": ""}}, python_version="3.12.10")
    listed = json.loads(succeed("list", "--from", made.directory, "--json"))
    versions = [(item["layer"], item["current"], item["python_version"]) for item in listed]
    assert versions == [
        ("app", True, "3.12.10"),
        ("rt", True, "3.12.10"),
        ("rt", False, "3.12.1"),
    ]


def test_running_commands(made: Publisher, root: Path, tmp_path: Path) -> None:
    succeed("install", "atls", "--from", made.directory, "--root", root)
    inner = root.resolve() / "generations/1/atls"
    assert succeed("run", "atls", "--root", root, "--", "atls-tool", "-x", "--", "--root", "é") == (
        "atls 1 -x -- --root é\n"
    )
    assert succeed("run", "--root", root, "atls", "atls-tool", "a") == "atls 1 a\n"
    assert succeed("run", "atls", cwd=root) == f"{inner}/bin/python\n"
    assert succeed("run", "cpython-3.12", "--root", root, "--", "python", "-V") == (
        f"{root.resolve()}/generations/1/cpython-3.12/bin/python3.12 -V\n"
    )
    environment = {"PYTHONHOME": "/nowhere", "KEPT": "1", "PYTHONPATH": ""}
    done = stackbuild("run", "atls", "--root", root, "--", "env", env={"KEPT": "1"})
    lines = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert lines["VIRTUAL_ENV"] == str(inner)
    assert lines["PATH"].startswith(f"{inner}/bin{os.pathsep}")
    assert lines["KEPT"] == "1"
    from stackbuild.install.run import invocation

    start = invocation("atls", ["env"], root, environment)
    assert "PYTHONHOME" not in start.environment
    assert start.environment["PYTHONPATH"] == ""
    code = stackbuild("run", "atls", "--root", root, "--", "sh", "-c", "exit 7").returncode
    assert code == 7


def test_run_and_env_set_the_variables_of_the_layer(made: Publisher, root: Path) -> None:
    runtime = made.publish("rt", {"p": {"bin/python3.12": PYTHON}})
    variables = {"MODE": Variable(value="it's"), "EXTRA": Variable(prepend=("{root}/app",))}
    made.publish("app", {"app": head("rt")}, below=[runtime], environment=variables)
    succeed("install", "app", "rt", "--from", made.directory, "--root", root)
    layer = f"{root.resolve()}/generations/1/app"
    expected = {"MODE": "it's", "EXTRA": f"{layer}:old", "STACKBUILD_LAYER": layer}
    done = stackbuild("run", "app", "--root", root, "--", "env", env={"EXTRA": "old"})
    lines = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert {name: lines[name] for name in expected} == expected
    words = ("env", "app", "--root", root)
    pattern = ("env", "ap*", *words[2:], "--json")
    answer = json.loads(stackbuild(*pattern, env={"EXTRA": "old"}).stdout)
    assert answer == {"layer": "app", "environment": expected}
    # Another process of the layer does not add the entries again.
    assert json.loads(stackbuild(*words, "--json", env=expected).stdout) == answer


def test_an_application_runs_its_launch_module(made: Publisher, root: Path) -> None:
    runtime = made.publish(
        "cpython-3.13",
        {"p": {"bin/python3.12": FileContent(data=PYTHON.encode(), executable=True)}},
    )
    made.publish(
        "app",
        {
            "app": {
                "bin/python": Link("../../cpython-3.13/bin/python3.12"),
                "share/venv/metadata/venvstacks_layer.json": '{"launch_module": "launch_app"}',
            }
        },
        below=[runtime],
    )
    succeed("install", "app", "--from", made.directory, "--root", root)
    assert succeed("run", "app", "--root", root).endswith("/bin/python -P -m launch_app\n")
    printed = succeed("run", "app", "--root", root, "--", "--port", "80")
    assert printed.endswith("/bin/python -P -m launch_app --port 80\n")


def test_the_launch_module_is_not_one_of_the_working_directory(
    made: Publisher, root: Path, tmp_path: Path
) -> None:
    runtime = made.publish("cpython", {"p": {"bin/python3.10": ""}}, python_version="3.10.4")
    metadata = {"share/venv/metadata/venvstacks_layer.json": '{"launch_module": "launch_app"}'}
    made.publish("app", {"app": metadata}, below=[runtime], python_version="3.10.4")
    succeed("install", "app", "--from", made.directory, "--root", root)
    # CPython 3.10 has no -P.
    start = invocation("app", ["--port", "80"], root, {})
    for directory in ("here", "layer"):
        (tmp_path / directory).mkdir()
        text = f"import sys\nprint(__name__, {directory!r}, *sys.argv[1:])\n"
        (tmp_path / directory / "launch_app.py").write_text(text)
    done = subprocess.run(
        [sys.executable, *start.arguments],
        cwd=tmp_path / "here",
        env={**os.environ, "PYTHONPATH": str(tmp_path / "layer")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "__main__ layer --port 80\n"


@pytest.mark.parametrize("kind", ["in place", "same size and time", "replaced", "removed"])
def test_verify_finds_what_was_changed_and_install_brings_it_back(
    made: Publisher, root: Path, kind: str
) -> None:
    succeed("install", "atls", "pgen", "--from", made.directory, "--root", root)
    file = root / "framework/lib/python3.12/site-packages/numpy/__init__.py"
    good = file.read_bytes()
    status = file.stat()
    if kind in {"in place", "same size and time"}:
        file.chmod(0o644)
        file.write_bytes(good[:-2] + (b"#\n" if kind == "same size and time" else b"# edited\n"))
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        file.chmod(0o444)
    else:
        file.unlink()
        if kind == "replaced":
            file.write_text("# mine\n")
    done = stackbuild("verify", "atls", "--installed", "--root", root)
    assert done.returncode == 9
    word = "missing" if kind == "removed" else "edited"
    name = "framework/lib/python3.12/site-packages/numpy/__init__.py"
    assert f"{word}: {name} (numpy 2.2.6)" in done.stdout
    assert f"stackbuild repair {root} --from PLACE\n" in done.stderr
    succeed("install", "atls", "--from", made.directory, "--root", root)
    assert file.read_bytes() == good
    succeed("verify", "--installed", "--root", root)
    assert tool(root, "pgen") == "pgen 1"


def test_verify_finds_added_files_links_and_modes(made: Publisher, root: Path) -> None:
    succeed("install", "atls", "--from", made.directory, "--root", root)
    layer = root / "atls"
    packages = layer / "lib/python3.12/site-packages/atls"
    (packages / "extra.py").write_text("")
    (packages / "__pycache__").mkdir()
    (packages / "__pycache__/__init__.cpython-312.pyc").write_bytes(b"")
    (packages / "__pycache__/extra.cpython-312.pyc").write_bytes(b"")
    (layer / "bin/python").unlink()
    (layer / "bin/python").symlink_to("/usr/bin/env")
    (layer / "bin/atls-tool").chmod(0o444)
    (layer / "pyvenv.cfg").unlink()
    (layer / "pyvenv.cfg").mkdir()
    done = stackbuild("verify", "atls", "--installed", "--root", root, "--json")
    assert done.returncode == 9
    report = json.loads(done.stdout)
    found = {(item["kind"], item["file"]) for item in report["differences"]}
    site = "lib/python3.12/site-packages/atls"
    assert found == {
        ("added", f"{site}/extra.py"),
        ("added", f"{site}/__pycache__/extra.cpython-312.pyc"),
        ("another link", "bin/python"),
        ("another mode", "bin/atls-tool"),
        ("missing", "pyvenv.cfg"),
    }
    # What an interpreter writes by itself is told and is no fault.
    assert report["bytecode"] == 1
    succeed("install", "atls", "--from", made.directory, "--root", root)
    succeed("verify", "atls", "--installed", "--root", root)


def test_two_installers_wait_for_each_other(made: Publisher, root: Path) -> None:
    from stackbuild.install.root import Root

    succeed("install", "atls", "--from", made.directory, "--root", root)
    with Root(root).locked(Silent()):
        second = subprocess.Popen(
            command("install", "pgen", "--from", made.directory, "--root", root),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert second.stderr is not None
        assert second.stderr.readline().startswith("waiting for another stackbuild")
        assert not (root / "pgen").exists()
    out, _ = second.communicate(timeout=60)
    assert second.returncode == 0
    assert "installed  pgen" in out
    assert tool(root, "pgen") == "pgen 1"


def test_many_installers_at_once(made: Publisher, root: Path) -> None:
    running = [
        subprocess.Popen(
            command("install", layer, "--from", made.directory, "--root", root),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for layer in ("atls", "pgen", "framework", "atls")
    ]
    assert [process.wait(timeout=120) for process in running] == [0, 0, 0, 0]
    assert tool(root, "atls") == "atls 1"
    assert tool(root, "pgen") == "pgen 1"
    succeed("verify", "--installed", "--root", root)


def test_cleaning_a_project(made: Publisher, tmp_path: Path) -> None:
    project = tmp_path / "project"
    build = project / "build"
    build.mkdir(parents=True)
    succeed("install", "atls", "--from", made.directory, "--root", build / "linux-x64")
    (build / "mine").mkdir()
    shutil.copytree(made.directory, build / ".published")
    write_mark(build / ".published", Kind.EXPORTS)
    cache = tmp_path / "cache"
    write_mark(cache, Kind.CACHE)
    (cache / "frames").mkdir()
    (cache / "frames/x").write_bytes(b"x" * 1234)
    (cache / "precious").write_text("")
    env = {"STACKBUILD_CACHE_DIR": str(cache)}
    done = stackbuild("clean", "--json", cwd=project, env=env)
    report = json.loads(done.stdout)
    assert [item["what"] for item in report["freed"]] == ["archives of build", "build root"]
    assert [(item["what"], item["size"]) for item in report["kept"]] == [("cache of frames", 1234)]
    assert [path.name for path in build.iterdir()] == ["mine"]
    done = stackbuild("clean", "--caches", cwd=project, env=env)
    assert "freed 1.2 kB" in done.stdout
    assert sorted(path.name for path in cache.iterdir()) == [".stackbuild.tag", "precious"]
