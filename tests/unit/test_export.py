"""Exports that are repeated, meet files of the user, or file systems without links."""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from stackbuild.errors import InstallError
from stackbuild.frames.files import FileContent, Link
from stackbuild.install.export import _copy_targets, copy_file, copy_layers, export
from stackbuild.messages import Silent
from stackbuild.platforms import Platform, host_platform
from stackbuild.spec.model import LayerKind
from tests.support.interpreters import Listener
from tests.support.publish import Files, Publisher, head, publisher, sha
from tests.support.roots import fail, succeed, versions

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def exported(tmp_path: Path) -> tuple[Publisher, Path]:
    """A publisher, and its layer `atls` exported to `out`."""
    made, out = publisher(tmp_path), tmp_path / "out"
    made.stack("1")
    succeed("export", "atls", out, "--from", made.directory)
    return made, out


@pytest.mark.parametrize("kind", ["directory", "file", "link", "dangling"])
def test_files_of_the_user_are_kept(tmp_path: Path, kind: str) -> None:
    made, out, mine = publisher(tmp_path), tmp_path / "out", tmp_path / "mine"
    made.stack()
    succeed("export", "framework", out, "--from", made.directory)
    place = out / "atls"
    if kind == "directory":
        place.mkdir()
        (place / "note").write_text("kept")
    elif kind == "file":
        place.write_text("kept")
    else:
        if kind == "link":
            mine.mkdir()
        place.symlink_to(mine)
    error = fail(8, "export", "atls", out, "--from", made.directory)
    assert f"something that stackbuild did not make is in the way: {place}" in error
    assert "move it away" in error
    place.rename(tmp_path / "away")
    succeed("export", "atls", out, "--from", made.directory)
    assert versions(out) == {"framework": "1", "atls": "1"}


def test_a_layer_that_needs_the_former_one(exported: tuple[Publisher, Path]) -> None:
    made, out = exported
    succeed("export", "pgen", out, "--from", made.directory)
    made.stack("2")
    error = fail(8, "export", "atls", out, "--from", made.directory)
    wanted, found = (f"framework of lock {sha(f'framework {one}')[:12]}" for one in (1, 2))
    assert error.splitlines() == [
        "error: another layer in this directory needs the former framework",
        "  layer: pgen",
        f"  platform: {made.platform}",
        f"  file: {out / 'pgen'}",
        f"  expected: {wanted} for {made.platform}",
        f"  found: {found} for {made.platform}",
        f"  to fix: export pgen in the same command, or remove {out / 'pgen'}, or choose another "
        "directory: stackbuild export LAYER DIR",
    ]
    assert versions(out) == {"framework": "1", "atls": "1"}
    succeed("export", "atls", "pgen", out, "--from", made.directory)
    assert versions(out) == {"framework": "2", "atls": "2"}


def test_layers_of_two_platforms(exported: tuple[Publisher, Path]) -> None:
    made, out = exported
    platform = next(one for one in Platform if one != made.platform)
    runtime = made.publish(
        "cpython-3.12", {"cpython 3": {"bin/python3.12": "x"}}, platform=platform
    )
    made.publish("solo", {"solo": head("cpython-3.12")}, below=[runtime], platform=platform)
    words = ("export", "solo", out, "--from", made.directory, "--platform", platform)
    assert f"for {platform}\n" in fail(8, *words)
    assert versions(out) == {"framework": "1", "atls": "1"}


def test_directories_that_differ_in_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, out = publisher(tmp_path), tmp_path / "out"
    runtime = made.publish(
        "rt", {"rt": {"bin/python3.12": "x", "share/Foo/a": "", "share/foo/b": ""}}
    )
    made.publish("app", {"app": head("rt")}, below=[runtime])
    succeed("install", "app", "--from", made.directory, "--root", tmp_path / "root")
    mkdir = os.mkdir

    def folding(path: str | Path, *arguments: int) -> None:
        above, share, below = str(path).partition("/share/")
        mkdir(above + share + below.lower(), *arguments)

    monkeypatch.setattr(os, "mkdir", folding)
    with pytest.raises(InstallError) as caught:
        export(["app"], tmp_path / "root", out, Silent())
    assert str(caught.value).splitlines() == [
        "this file system treats two paths of the layers as the same file",
        f"  file: {out}/.stackbuild/staging/layers/rt/share/foo",
        "  to fix: export to a case-sensitive file system",
    ]


@pytest.mark.parametrize(
    ("links", "fault"),
    [
        ({"lib/a/self": "../a"}, "leads to a directory that it is in"),
        ({"lib/a/x": "../d", "lib/d/y": "../a"}, "leads to a directory that it is in"),
        ({"lib/none": "nothing"}, "leads to a missing file"),
        ({"lib/b": "a", "lib/c": "b", "lib/e": "c/f"}, ""),
    ],
)
def test_links_that_cannot_be_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: dict[str, str], fault: str
) -> None:
    made, out = publisher(tmp_path), tmp_path / "out"
    files = {"bin/python3.12": "x", "lib/a/f": "f", "lib/d/g": "g"}
    targets = {path: Link(target) for path, target in links.items()}
    runtime = made.publish("rt", {"rt": {**files, **targets}})
    made.publish("app", {"app": head("rt")}, below=[runtime])
    monkeypatch.setattr("stackbuild.install.export._link", lambda *_: False)
    if fault:
        error = fail(8, "export", "app", out, "--from", made.directory)
        assert error.splitlines() in [
            [
                f"error: a link {fault}, so it cannot be copied",
                f"  file: rt/{path}",
                f"  found: {target}",
                "  to fix: export to a file system that has symbolic links",
            ]
            for path, target in links.items()
        ]
        assert not (out / "rt").exists()
    else:
        succeed("export", "app", out, "--from", made.directory)
        for path in ("lib/b/f", "lib/c/f", "lib/e"):
            assert (out / "rt" / path).read_text() == "f"


def test_a_link_that_leads_out_is_not_copied(tmp_path: Path) -> None:
    (tmp_path / "layers").mkdir()
    (tmp_path / "layers/out").symlink_to("..")
    links = [(str(tmp_path / "layers/out"), str(tmp_path / "copy"))]
    with pytest.raises(InstallError, match="a link leads out of the layers, so it cannot be cop"):
        _copy_targets(links, tmp_path / "layers")
    assert not (tmp_path / "copy").exists()


def installed(tmp_path: Path, **options: Any) -> tuple[Publisher, Path]:
    """A root with a runtime that has a library, `base`, and `app` with a library of its own."""
    made, root, library = publisher(tmp_path), tmp_path / "root", "lib/libpython3.so.1"
    files: Files = {"lib/libpython3/a": "", library: "of rt", "lib/link": Link("libpython3")}
    python = FileContent(data=b"x", executable=True)
    runtime = made.publish("rt", {"rt": {"bin/python3.12": python, **files}}, **options)
    first = {**head("rt"), "lib/a": ""}
    base = made.publish(
        "base", {"base": first}, below=[runtime], kind=LayerKind.FRAMEWORK, **options
    )
    own = {**head("rt"), library: "of app"}
    made.publish("app", {"app": own}, below=[base, runtime], **options)
    words = ("install", "app", "--from", made.directory, "--root", root)
    succeed(*words, "--platform", options.get("platform", made.platform))
    return made, root


def modes(directory: Path) -> dict[str, int]:
    """The permissions of the files in `directory`."""
    return {
        path.relative_to(directory).as_posix(): path.stat().st_mode & 0o777
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("number", "on_windows"), [(errno.ENOSYS, None), (errno.EPERM, None), (errno.EINVAL, 1314)]
)
def test_links_become_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, on_windows: int | None
) -> None:
    _, root = installed(tmp_path)
    out, listener = tmp_path / "out", Listener()

    def refused(*_: object) -> None:
        error = OSError(number, "refused")
        error.winerror = on_windows  # type: ignore[attr-defined]  # of Windows
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, "symlink", refused)
        report = export(["app"], root, out, listener)
        assert export(["rt"], root, tmp_path / "runtime", Silent()).copied_links
    assert report.copied_links
    assert listener.notes == [
        f"links were copied, because {out} has none; after moving the directory, run the "
        "postinstall.py of each layer: the interpreters' paths are absolute"
    ]
    text = f"home = {out}/rt/bin\ninclude-system-site-packages = false\n"
    assert [(out / name / "pyvenv.cfg").read_text() for name in ("base", "app")] == [text] * 2
    library = "libpython3.so.1"
    assert {path.name: path.read_text() for path in (out / "base/lib").iterdir()} == {
        "a": "",
        library: "of rt",
    }
    assert (out / "app/lib" / library).read_text() == "of app"
    mask = os.umask(0)
    os.umask(mask)
    found = modes(out / "base")
    assert found == {
        path: (0o777 if path.startswith("bin/") else 0o666) & ~mask
        for path in ("bin/python", "lib/a", f"lib/{library}")
    } | {"pyvenv.cfg": 0o444}
    assert modes(out / "rt")["bin/python3.12"] == 0o777 & ~mask


def test_other_errors_of_links_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, root = installed(tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "symlink", full)
    with pytest.raises(InstallError, match="the disk is full"):
        export(["app"], root, tmp_path / "out", Silent())


@pytest.mark.parametrize("is_host", [True, False])
def test_home_is_the_final_place_and_only_of_this_machine(tmp_path: Path, is_host: bool) -> None:
    platforms = (Platform.LINUX_X64, Platform.LINUX_AARCH64)
    platform = next(one for one in platforms if (one == host_platform()) is is_host)
    _, root = installed(tmp_path, python_version="3.14.0", platform=platform)
    out, listener = tmp_path / "out", Listener()
    report = export(["app"], root, out, listener)
    assert (report.copied_links, listener.notes) == (False, [])
    text = (out / "base/pyvenv.cfg").read_text()
    assert text.startswith(f"home = {out}/rt/bin\n") is is_host
    assert not (out / "base/lib/libpython3.so.1").exists()
    assert sorted(path.name for path in (out / ".stackbuild").iterdir()) == ["lock", "manifests"]


def test_damaged_manifests_of_an_export_are_ignored(exported: tuple[Publisher, Path]) -> None:
    made, out = exported
    manifests = out / ".stackbuild/manifests"
    (manifests / "other.json").mkdir()
    (manifests / "pgen.json").write_text("{")
    succeed("export", "atls", out, "--from", made.directory)
    (manifests / "atls.json").write_text("{")
    error = fail(8, "export", "atls", out, "--from", made.directory)
    assert f"something that stackbuild did not make is in the way: {out / 'atls'}" in error


def test_directories_of_layers_that_differ_in_case(tmp_path: Path) -> None:
    runtime = publisher(tmp_path).publish("rt", {"rt": {"a": ""}})
    (tmp_path / "root/rt").mkdir(parents=True)
    copy_layers([runtime], tmp_path / "root", tmp_path / "out")
    with pytest.raises(InstallError, match="treats two paths of the layers as the same") as caught:
        copy_layers([runtime], tmp_path / "root", tmp_path / "out")
    assert dict(caught.value.details)["file"] == str(tmp_path / "out/rt")


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
def test_a_copy_is_executable_for_all_if_the_file_is_for_anyone(tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.touch()
    for number, (mode, executable) in enumerate(((0o646, False), (0o641, True), (0o744, True))):
        source.chmod(mode)
        copy_file(str(source), str(tmp_path / f"copy{number}"))
        assert bool((tmp_path / f"copy{number}").stat().st_mode & 0o100) is executable


def test_what_a_killed_run_left_is_removed(exported: tuple[Publisher, Path]) -> None:
    made, out = exported
    for name in ("former/atls", "staging/layers/atls"):
        (out / ".stackbuild" / name).mkdir(parents=True)
    succeed("export", "atls", out, "--from", made.directory)
    assert sorted(path.name for path in (out / ".stackbuild").iterdir()) == ["lock", "manifests"]


def test_no_export_into_a_root_or_around_one(tmp_path: Path) -> None:
    _, root = installed(tmp_path)
    for target in (root / "sub", root, tmp_path):
        with pytest.raises(InstallError) as caught:
            export(["app"], root, target, Silent())
        assert str(caught.value).splitlines() == [
            "layers cannot be exported into a root, or around one",
            f"  file: {target}",
            f"  expected: a directory outside {root}",
            "  to fix: choose another directory: stackbuild export LAYER DIR",
        ]


def test_only_links_are_resolved_where_they_become_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = tmp_path / "layers"
    for number in range(20):
        (top / "a" / str(number)).mkdir(parents=True)
        (top / "a" / str(number) / "file").touch()
    (top / "a" / "inner").symlink_to("0")
    (top / "b").symlink_to("a")
    resolved: list[str] = []
    realpath = os.path.realpath

    def counting(path: str | Path) -> str:
        resolved.append(str(path).rpartition("/")[2])
        return realpath(path)

    monkeypatch.setattr("stackbuild.install.export.os.path.realpath", counting)
    _copy_targets([(str(top / "b"), str(tmp_path / "copy"))], top)
    assert sorted(resolved) == ["b", "inner", "layers"]
    assert (tmp_path / "copy" / "inner" / "file").is_file()
    assert len(list((tmp_path / "copy").glob("*/file"))) == 21


def test_a_full_disk_names_the_copy(
    exported: tuple[Publisher, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, out = exported
    copy = shutil.copyfile

    def full(source: str, target: str) -> None:
        if str(out) in str(target):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), source, None, target)
        copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", full)
    error = fail(8, "export", "atls", out, "--from", made.directory)
    assert f"error: the disk is full\n  file: {out}{os.sep}.stackbuild" in error
    assert versions(out) == {"framework": "1", "atls": "1"}
