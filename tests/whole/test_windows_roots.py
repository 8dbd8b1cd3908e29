"""Roots for Windows, whose layers are plain directories: what can be tested on any system."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from stackbuild import windows
from stackbuild.frames.files import FileContent
from stackbuild.platforms import Platform
from stackbuild.spec.model import LayerKind
from tests.support.publish import Publisher, publisher
from tests.support.roots import fail, snapshot, stackbuild, succeed

LAYERS = ["cpython", "fw", "app"]
MODULES = ("change", "damage", "install", "export")
CONFIGURATION = "include-system-site-packages = false\n"


class KilledError(BaseException):
    """Ends the command where a signal would; nothing is undone."""


def publish(made: Publisher, version: str) -> None:
    """A runtime that stays the same, and a framework and an application of this version."""
    nt = "Lib/venv/scripts/nt"
    runtime = made.publish(
        "cpython",
        {
            "cpython 3.13.2": {
                "python.exe": FileContent(data=b"MZ python", executable=True),
                "Lib/os.py": "OS = 1\n",
                f"{nt}/venvlauncher.exe": FileContent(data=b"MZ console", executable=True),
                f"{nt}/venvwlauncher.exe": FileContent(data=b"MZ window", executable=True),
            }
        },
        python_version="3.13.2",
    )
    fw = made.publish(
        "fw",
        {"fw": {"Lib/site-packages/fw.py": f"V = {version}\n", "pyvenv.cfg": CONFIGURATION}},
        below=[runtime],
        lock=version,
        kind=LayerKind.FRAMEWORK,
        python_version="3.13.2",
    )
    made.publish(
        "app",
        {"app": {"Scripts/app.exe": f"MZ {version}", "pyvenv.cfg": CONFIGURATION}},
        below=[fw, runtime],
        lock=version,
        python_version="3.13.2",
    )


@pytest.fixture
def made(tmp_path: Path) -> Publisher:
    made = publisher(tmp_path)
    made.platform = Platform.WINDOWS_X64
    publish(made, "1")
    return made


@pytest.fixture
def on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers for Windows are those of this machine."""
    for module in MODULES:
        name = f"stackbuild.install.{module}.host_platform"
        monkeypatch.setattr(name, lambda: Platform.WINDOWS_X64)


def install(made: Publisher, root: Path) -> str:
    words = ("install", "app", "--from", made.directory, "--root", root)
    return succeed(*words, "--platform", "windows-x64")


def is_version(root: Path, version: str) -> bool:
    """Whether all layers are there, and the framework and the application have this version."""
    found = (root / "fw/Lib/site-packages/fw.py").read_text(), (root / "app/Scripts/app.exe")
    assert (root / "cpython/python.exe").read_bytes() == b"MZ python"
    assert (root / "app/Scripts/python.exe").read_bytes() == b"MZ console"
    return found[0] == f"V = {version}\n" and found[1].read_text() == f"MZ {version}"


def layers(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.name in LAYERS)


def in_use(root: Path) -> str:
    return (root / "current").read_text()


def test_layers_are_directories_of_the_root(made: Publisher, root: Path) -> None:
    install(made, root)
    assert is_version(root, "1")
    assert in_use(root) == "generations/1\n"
    assert [path.name for path in (root / "generations/1").iterdir()] == [".stackbuild"]
    assert not [path for path in root.rglob("*") if path.is_symlink()]
    files = [root / "cpython/Lib/os.py", root / "app/Scripts/app.exe"]
    assert [path.stat().st_nlink for path in files] == [2, 2]
    assert not (root / ".stackbuild/staging").exists()
    before = snapshot(root)
    assert install(made, root).startswith("nothing to do")
    assert snapshot(root) == before
    assert "are unchanged" in succeed("verify", "--installed", "--root", root)


@pytest.mark.skipif(os.name == "nt", reason="the layers run on this machine")
def test_what_to_do_on_windows_is_said(made: Publisher, root: Path) -> None:
    words = ("install", "app", "--from", made.directory, "--root", root)
    assert stackbuild(*words, "--platform", "windows-x64").stderr == (
        "the layers are for windows-x64 and contain the path of their runtime: copy the directory "
        "there, then run the postinstall.py of each layer: "
        "DIR\\cpython\\python.exe DIR\\app\\postinstall.py; in a root, `stackbuild repair ROOT` "
        "does the same\n"
    )
    assert (root / "app/pyvenv.cfg").read_text() == CONFIGURATION
    assert stackbuild(*words).stderr == ""


def test_an_upgrade_moves_only_what_changed(made: Publisher, root: Path) -> None:
    install(made, root)
    runtime = (root / "cpython").stat().st_ino
    publish(made, "2")
    install(made, root)
    assert is_version(root, "2")
    assert in_use(root) == "generations/2\n"
    assert (root / "cpython").stat().st_ino == runtime
    assert [path.name for path in (root / "generations").iterdir()] == ["2"]
    assert "are unchanged" in succeed("verify", "--installed", "--root", root)
    assert "2 unused frames" in succeed("clean", "--root", root)
    assert is_version(root, "2")


def fail_at(
    monkeypatch: pytest.MonkeyPatch, number: int, error: BaseException, *, last: int | None = None
) -> None:
    """The renames of these numbers (from 1) fail, without those in the store."""
    calls: list[int] = []
    rename = windows.rename

    def failing(source: Path | str, target: Path | str) -> None:
        if "store" not in Path(target).parts:
            calls.append(1)
            if number <= len(calls) <= (last or number):
                raise error
        rename(source, target)

    monkeypatch.setattr("stackbuild.install.root.windows.rename", failing)


@pytest.mark.parametrize("number", range(1, 6))
def test_a_layer_in_use_leaves_the_former_ones(
    made: Publisher, root: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    install(made, root)
    publish(made, "2")
    before = {path: snapshot(root / path) for path in LAYERS}
    with monkeypatch.context() as patch:
        # The first one moves the new generation from the staging directory.
        error = PermissionError(13, "Access is denied", str(root / "fw"))
        fail_at(patch, number, error)
        words = ("install", "app", "--from", made.directory, "--root", root)
        told = fail(8, *words)
    assert "Access is denied" in told
    assert {path: snapshot(root / path) for path in LAYERS} == before
    assert in_use(root) == "generations/1\n"
    assert [path.name for path in (root / "generations").iterdir()] == ["1"]
    assert not (root / ".stackbuild/staging").exists()
    succeed("verify", "--installed", "--root", root)
    install(made, root)
    assert is_version(root, "2")


@pytest.mark.parametrize("number", range(2, 6))
def test_a_layer_that_can_be_moved_neither_way_is_moved_later(
    made: Publisher, root: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    install(made, root)
    publish(made, "2")
    with monkeypatch.context() as patch:
        fail_at(patch, number, PermissionError(13, "Access is denied"), last=99)
        fail(8, "install", "app", "--from", made.directory, "--root", root)
    install(made, root)
    assert is_version(root, "2")
    succeed("verify", "--installed", "--root", root)


def test_the_message_about_a_layer_in_use(
    made: Publisher, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(made, root)
    publish(made, "2")
    error = PermissionError(13, "Access is denied", f"{windows.EXTENDED}C:\\root\\fw")
    fail_at(monkeypatch, 3, error)
    assert fail(8, "install", "app", "--from", made.directory, "--root", root) == (
        "error: a layer cannot be moved, as when a process uses its files\n"
        "  layer: fw\n"
        "  file: C:\\root\\fw\n"
        "  found: Access is denied\n"
        "  to fix: end the programs that were started from this root, and run the command again; "
        "what was installed before is unchanged\n"
    )


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("command", ["install", "repair", "uninstall"])
@pytest.mark.parametrize("number", range(1, 6))
def test_a_killed_switch_is_finished_by_the_next_command(
    made: Publisher,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    command: str,
    first: bool,
) -> None:
    if not first:
        install(made, root)
        publish(made, "2")
    with monkeypatch.context() as patch:
        fail_at(patch, number, KilledError())
        with suppress(KilledError):  # The first install has fewer renames.
            install(made, root)
    if command == "install" or (first and number == 1):
        # Nothing is linked or fetched again once the file `current` names the new generation.
        assert install(made, root).startswith("nothing to do") is (number > 1)
    elif command == "repair":
        succeed("repair", root)
    else:
        succeed("uninstall", "app", "--root", root)
        assert layers(root) == []
        return
    # The first rename is that of the generation; before it, the former version is in use.
    old = number == 1 and command == "repair"
    assert is_version(root, "1" if first or old else "2")
    succeed("verify", "--installed", "--root", root)
    assert not (root / ".stackbuild/staging").exists()


def test_a_killed_install_claims_no_directory(
    made: Publisher, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(made, root)
    made.publish("extra", {"extra": {"x": ""}}, python_version="3.13.2")
    words = ("install", "extra", "--from", made.directory, "--root", root)
    with monkeypatch.context() as patch:
        patch.setattr("stackbuild.install.root.Root.begin_switch", _kill)
        with pytest.raises(KilledError):
            stackbuild(*words)
    assert (root / "generations/2/extra").is_dir()
    (root / "extra").mkdir()
    (root / "extra/mine").touch()
    assert f"is in the way: {root / 'extra'}" in fail(8, *words)
    succeed("uninstall", "app", "--root", root)
    assert (root / "extra/mine").is_file()


def _kill(_root: object) -> None:
    raise KilledError


def test_foreign_directories_are_left_alone(made: Publisher, root: Path) -> None:
    install(made, root)
    (root / "mine").mkdir()
    (root / "mine/file").write_text("x")
    succeed("uninstall", "app", "--root", root)
    assert layers(root) == []
    assert (root / "mine/file").read_text() == "x"
    (root / "fw").mkdir()
    words = ("install", "app", "--from", made.directory, "--root", root)
    assert "is in the way" in fail(8, *words, "--platform", "windows-x64")
    assert not list((root / "fw").iterdir())


@pytest.mark.parametrize("content", ["", "generations/1/x\n", "../elsewhere\n", "x" * 1000])
def test_another_current_is_in_the_way(made: Publisher, root: Path, content: str) -> None:
    install(made, root)
    (root / "current").write_text(content)
    for words in (("list", "--root", root), ("repair", root)):
        told = fail(8, *words)
        assert f"is in the way: {root / 'current'}" in told
    (root / "current").unlink()
    assert "stackbuild repair" in fail(8, "list", "--root", root)
    succeed("repair", root)
    assert in_use(root) == "generations/1\n"
    assert is_version(root, "1")


def test_damage_is_found_and_repaired(made: Publisher, root: Path) -> None:
    install(made, root)
    (root / "app/Scripts/python.exe").unlink()
    module = root / "fw/Lib/site-packages/fw.py"
    module.unlink()
    module.write_text("V = 9\n")
    told = stackbuild("verify", "--installed", "--root", root)
    assert told.returncode == 9
    assert "Scripts/python.exe" in told.stdout
    succeed("repair", root)
    assert is_version(root, "1")
    succeed("verify", "--installed", "--root", root)


@pytest.mark.usefixtures("on_windows")
def test_a_moved_root_is_adjusted(made: Publisher, root: Path, tmp_path: Path) -> None:
    install(made, root)
    assert (root / "app/pyvenv.cfg").read_text() == f"home = {root / 'cpython'}\n{CONFIGURATION}"
    assert "are unchanged" in succeed("verify", "--installed", "--root", root)
    stored = root / ".stackbuild/store"
    assert {path.read_text() for path in stored.rglob("pyvenv.cfg")} == {CONFIGURATION}
    for command in ("repair", "install"):
        moved = root.rename(tmp_path / f"for {command}")
        assert stackbuild("verify", "--installed", "--root", moved).returncode == 9
        if command == "repair":
            assert f"fw, app: adjusted to {moved}" in succeed("repair", moved)
        else:
            words = ("install", "app", "--from", made.directory, "--root", moved)
            done = stackbuild(*words)
            assert done.returncode == 0
            assert f"fw, app: adjusted to {moved}" in done.stderr
        home = f"home = {moved / 'cpython'}\n"
        assert (moved / "app/pyvenv.cfg").read_text() == home + CONFIGURATION
        succeed("verify", "--installed", "--root", moved)
        root = moved


@pytest.mark.usefixtures("on_windows")
def test_paths_that_are_too_long_for_programs(made: Publisher, tmp_path: Path) -> None:
    name = f"{'x' * 60}/y"
    made.publish("long", {"long": {name: "", "z": ""}}, python_version="3.13.2")
    for length in (windows.MAX_PATH, windows.MAX_PATH + 1):
        root = tmp_path / ("r" * (length - len(f"{tmp_path}//long/{name}")))
        done = stackbuild("install", "long", "--from", made.directory, "--root", root)
        assert done.returncode == 0
        told = f"long/{name}: the path has more than 259 characters" in done.stderr
        assert told is (length > windows.MAX_PATH)


@pytest.mark.usefixtures("on_windows")
def test_a_copied_root_is_adjusted(made: Publisher, root: Path, tmp_path: Path) -> None:
    install(made, root)
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    succeed("repair", copy)
    assert (copy / "app/pyvenv.cfg").read_text() == f"home = {copy / 'cpython'}\n{CONFIGURATION}"
    assert (root / "app/pyvenv.cfg").read_text() == f"home = {root / 'cpython'}\n{CONFIGURATION}"
    succeed("verify", "--installed", "--root", copy)


def test_a_root_with_links_becomes_plain(made: Publisher, root: Path) -> None:
    """As an earlier stackbuild made it on Linux."""
    install(made, root)
    for name in LAYERS:
        (root / name).rename(root / "generations/1" / name)
        (root / name).symlink_to(f"current/{name}")
    (root / "current").unlink()
    (root / "current").symlink_to("generations/1")
    assert install(made, root).startswith("nothing to do")
    publish(made, "2")
    install(made, root)
    assert is_version(root, "2")
    assert in_use(root) == "generations/2\n"
    assert not [path for path in root.rglob("*") if path.is_symlink()]
    succeed("verify", "--installed", "--root", root)


def test_layers_for_windows_are_exported(made: Publisher, tmp_path: Path) -> None:
    words = ("export", "app", tmp_path / "out", "--from", made.directory)
    succeed(*words, "--platform", "windows-x64")
    assert is_version(tmp_path / "out", "1")
