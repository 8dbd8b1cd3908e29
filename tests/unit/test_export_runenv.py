"""Environments of the shape of runenv-python-3, of layers made by hand."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stackbuild.errors import InstallError, IntegrityError
from stackbuild.files import remove_tree, sha256_file
from stackbuild.frames.files import FileContent, Link
from stackbuild.install import export_runenv as module
from stackbuild.install.export_runenv import export_runenv
from stackbuild.mark import MARK, Kind, write_mark
from stackbuild.messages import Silent
from stackbuild.platforms import host_platform
from stackbuild.spec.model import LayerKind
from tests.support.publish import head, publisher
from tests.support.roots import snapshot, succeed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stackbuild.install.report import ExportReport

    Files = Mapping[str, FileContent | Link | bytes | str]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links")

PIP: Files = {"lib/python3.12/site-packages/pip-24.dist-info/METADATA": ""}
RUNTIME: Files = {
    "bin/python3.12": FileContent(data=b"python", executable=True),
    "bin/python": Link("python3.12"),
}
WHEEL = "one-1-py3-none-any.whl"


class Case:
    """A root with the runtime `rt`, `base` and `app`, and a wheel."""

    def __init__(self, tmp_path: Path) -> None:
        self.root, self.to = tmp_path / "root", tmp_path / "variant"
        self.environment = self.to / "pydist" / host_platform()
        self.made = publisher(tmp_path)
        self.synced: list[tuple[list[str], bool]] = []
        self.wheel = tmp_path / WHEEL
        self.wheel.write_bytes(b"wheel")
        self.wheels = {sha256_file(self.wheel): self.wheel}

    def install(self, base: Files, app: Files, runtime: Files = PIP, lock: str = "1") -> None:
        """Install the layers, with the overlays `base` and `app`."""
        rt = self.made.publish("rt", {"rt": {**RUNTIME, **runtime}}, lock=lock)
        frames = {"base": {**head("rt"), "lib/base.py": ""}, "overlay": base}
        kind = LayerKind.FRAMEWORK
        lower = self.made.publish("base", frames, below=[rt], kind=kind, lock=lock)
        frames = {"app": {**head("rt"), "lib/app.py": ""}, "overlay": app}
        self.made.publish("app", frames, below=[lower, rt], lock=lock)
        succeed("install", "app", "--from", self.made.directory, "--root", self.root)

    def export(self, layer: str = "app") -> ExportReport:
        return export_runenv(layer, self.root, self.wheels, self.to, Silent(), sync=self.sync)

    def sync(self, *, trees: Iterable[Path] = (), directories: Iterable[Path] = ()) -> None:
        names = [path.name for path in (*trees, *directories)]
        names += sorted(path.name for tree in trees for path in tree.iterdir())
        self.synced.append((names, os.path.lexists(self.environment)))

    def beside(self) -> list[str]:
        return sorted(path.name for path in self.environment.parent.iterdir())


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_the_overlays_of_the_chain_and_the_wheels(case: Case) -> None:
    program = FileContent(data=b"run", executable=True)
    base: Files = {
        "share/both": "base",
        "share/kept": "base",
        "bin/run": program,
        "at": Link("share"),
        "new/deep/file": "",
    }
    case.install(
        base, {"share/both": "app", "old": "app"}, {**PIP, "old": Link("bin"), "packages/a": ""}
    )
    report = case.export()
    assert report.directory == case.environment
    assert report.platform == host_platform()
    assert [one.layer for one in report.layers] == ["rt", "base", "app"]
    assert report.copied_links is False
    name = host_platform()
    assert case.synced == [([f".{name}.new", ".stackbuild.tag", "rt"], False), (["pydist"], True)]
    assert case.beside() == [f".{name}.lock", name]
    env = case.environment
    files = {path.relative_to(env).as_posix() for path in env.rglob("*") if not path.is_dir()}
    assert files == {
        *(".stackbuild.tag", "bin/python", "bin/python3.12", "bin/run", f"packages/{WHEEL}"),
        *("share/both", "share/kept", "old", "new/deep/file", "packages/a", *PIP),
    }
    assert (env / "at").readlink() == Path("share")
    assert [(env / path).read_text() for path in ("share/both", "old")] == ["app", "app"]
    assert not (env / "old").is_symlink()
    assert os.access(env / "bin/run", os.X_OK)
    assert (env / "packages" / WHEEL).read_bytes() == b"wheel"
    (env / "stale").touch()
    case.synced.clear()
    case.export("base")
    assert case.synced == [([f".{name}.new", ".stackbuild.tag", "rt"], True), (["pydist"], True)]
    assert case.beside() == [f".{name}.lock", name]
    assert not (env / "stale").exists()
    assert (env / "share/both").read_text() == "base"


def test_a_run_that_fails_or_was_killed_leaves_the_former_environment(case: Case) -> None:
    case.install({"a": ""}, {"b": ""})
    case.export()
    before = snapshot(case.environment)
    parent, name = case.environment.parent, host_platform()
    case.wheel.write_bytes(b"damaged")
    for word in ("new", "old"):
        write_mark(parent / f".{name}.{word}", Kind.RUNENV)
        (parent / f".{name}.{word}/left").mkdir()
    with pytest.raises(IntegrityError):
        case.export()
    assert case.beside() == [f".{name}.lock", name]
    case.environment.rename(parent / f".{name}.old")
    with pytest.raises(IntegrityError):
        case.export()
    assert snapshot(case.environment) == before
    case.wheel.write_bytes(b"wheel")
    case.environment.rename(parent / f".{name}.old")
    case.export()
    assert case.beside() == [f".{name}.lock", name]


def test_wheels_are_copies(case: Case) -> None:
    """So that a change of their modes or contents does not change those of the project."""
    case.install({"a": ""}, {"b": ""})
    mode = case.wheel.stat().st_mode
    case.export()
    (case.environment / "packages" / WHEEL).chmod(0o600)
    assert (case.wheel.stat().st_mode, case.wheel.stat().st_nlink) == (mode, 1)


@pytest.mark.parametrize("word", ["new", "old"])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_directory_of_others_beside_the_environment(
    case: Case, word: str, *, is_there: bool
) -> None:
    case.install({"a": ""}, {"b": ""})
    if is_there:
        case.export()
    mine = case.environment.parent / f".{host_platform()}.{word}" / "mine"
    mine.parent.mkdir(parents=True)
    mine.touch()
    with pytest.raises(InstallError, match="is not an exported environment of runenv-python-3"):
        case.export()
    assert mine.exists()
    assert case.environment.exists() is is_there
    mine.unlink()
    mine.parent.rmdir()
    mine.parent.touch()
    with pytest.raises(InstallError, match="stackbuild did not make is in the way"):
        case.export()
    assert mine.parent.exists()


def test_a_run_that_is_killed_while_it_removes(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.install({"a": ""}, {"b": ""})
    case.export()
    old = case.environment.parent / f".{host_platform()}.old"

    def killed(path: Path) -> None:
        if path == old and path.exists():
            raise KeyboardInterrupt
        remove_tree(path)

    with monkeypatch.context() as patched:
        patched.setattr(module, "remove_tree", killed)
        with pytest.raises(KeyboardInterrupt):
            case.export()
    assert [path.name for path in old.iterdir()] == [MARK]
    case.export()
    assert not old.exists()


@pytest.mark.parametrize(
    ("base", "app", "runtime", "found"),
    [
        ({"share": ""}, {"share/a": ""}, {}, ("app", "share/a", "share")),
        ({"share/a": ""}, {"share": ""}, {}, ("app", "share", "share")),
        ({"share": Link("lib")}, {"b": ""}, {"share/x": ""}, ("base", "share", "share")),
        ({"a": ""}, {"x/y/z": ""}, {"x": Link("bin/python3.12")}, ("app", "x/y/z", "x")),
        ({"a": ""}, {"b": ""}, {"packages": ""}, ("rt", "packages/*.whl", "packages")),
    ],
)
def test_a_file_in_the_place_of_a_directory(
    case: Case, base: Files, app: Files, runtime: Files, found: tuple[str, str, str]
) -> None:
    layer, path, one = found
    case.install(base, app, {**PIP, **runtime})
    with pytest.raises(InstallError) as caught:
        case.export()
    assert str(caught.value).splitlines() == [
        f"{one} is a file in one layer of the environment and a directory in another",
        f"  layer: {layer}",
        f"  platform: {host_platform()}",
        f"  file: {path}",
        "  to fix: leave one of the two out of the layers",
    ]
    assert case.beside() == [f".{host_platform()}.lock"]


def test_a_runtime_without_pip(case: Case) -> None:
    case.install({"a": ""}, {"b": ""}, {"lib/python3.12/site-packages/pip.dist-info": ""})
    with pytest.raises(InstallError) as caught:
        case.export()
    assert str(caught.value).splitlines() == [
        "the runtime has no pip, with which blocks install their requirements",
        "  layer: rt",
        f"  platform: {host_platform()}",
        '  to fix: keep = ["pip"] in [tool.stackbuild.layers.rt], and an interpreter with pip '
        "(those of python-build-standalone have it)",
    ]
    assert not case.to.exists()


def test_places_for_no_environment(case: Case) -> None:
    case.install({"a": ""}, {"b": ""})
    other = "choose another directory: stackbuild export runenv LAYER DIR"
    case.environment.mkdir(parents=True)
    (case.environment / "mine").touch()
    with pytest.raises(InstallError) as caught:
        case.export()
    assert "is not an exported environment of runenv-python-3" in str(caught.value)
    assert other in str(caught.value)
    (case.environment / "mine").unlink()
    case.environment.rmdir()
    case.environment.touch()
    with pytest.raises(InstallError) as caught:
        case.export()
    assert "something that stackbuild did not make is in the way" in str(caught.value)
    assert other in str(caught.value)
    case.to = case.root
    with pytest.raises(InstallError) as caught:
        case.export()
    assert "layers cannot be exported into a root, or around one" in str(caught.value)
    assert other in str(caught.value)


def test_an_environment_of_the_older_build_is_to_be_removed_first(case: Case) -> None:
    case.install({"a": ""}, {"b": ""})
    (case.environment / "bin").mkdir(parents=True)
    with pytest.raises(InstallError, match="is not empty") as caught:
        case.export()
    assert dict(caught.value.details)["to fix"] == (
        "choose another directory: stackbuild export runenv LAYER DIR; or, if the build of"
        f" runenv-python-3 made this one, remove {case.environment} and run the command again"
    )
    assert (case.environment / "bin").is_dir()


def test_placeholders_of_git_are_not_replaced(case: Case) -> None:
    case.install({"a": ""}, {"b": ""})
    case.environment.mkdir(parents=True)
    (case.environment / ".gitkeep").touch()
    with pytest.raises(InstallError, match="is not empty") as caught:
        case.export()
    assert dict(caught.value.details)["found"] == ".gitkeep"
    assert (case.environment / ".gitkeep").exists()
