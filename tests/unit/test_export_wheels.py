"""Directories of wheels that pip reads."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from stackbuild.errors import ComposeError, IntegrityError
from stackbuild.files import remove_tree, sha256_file, work_path
from stackbuild.lock.export_wheels import export_wheels, place_wheels
from stackbuild.mark import MARK
from stackbuild.messages import Silent
from stackbuild.workspace import Workspace

NAMES = ["a-1-py3-none-any.whl", "b-1-py3-none-any.whl"]
ELSEWHERE = "choose another directory: stackbuild wheelhouse LAYER DIR"


class Case:
    """A wheelhouse with two files, and a directory to export them to."""

    def __init__(self, tmp_path: Path) -> None:
        self.workspace = Workspace(tmp_path / "project", tmp_path / "cache", 1)
        self.wheelhouse, self.to = self.workspace.wheelhouse, tmp_path / "some/packages"
        self.wheelhouse.mkdir(parents=True)
        for name in NAMES:
            (self.wheelhouse / name).write_text(name)
        self.wheels = {sha256_file(path): path for path in map(self.wheelhouse.joinpath, NAMES)}

    def export(self, directory: Path | None = None) -> list[str]:
        placed = export_wheels(self.wheels, directory or self.to, self.workspace, Silent())
        assert {path.parent for path in placed} <= {self.to}
        return [path.name for path in placed]

    def there(self) -> set[str]:
        """The names in the directory, but that of the lock, which Windows may keep."""
        return {path.name for path in self.to.iterdir()} - ({".lock"} if os.name == "nt" else set())


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_wheels_are_hard_links(case: Case) -> None:
    case.wheels = dict(reversed(case.wheels.items()))
    assert case.export() == NAMES
    assert case.there() == {MARK, *NAMES}
    assert all((case.to / name).samefile(case.wheelhouse / name) for name in NAMES)
    (sha256, _) = case.wheels.popitem()
    assert case.export() == NAMES[1:]
    assert case.there() == {MARK, NAMES[1]}
    assert (case.wheelhouse / NAMES[0]).exists(), "only the link is removed"
    assert sha256 == sha256_file(case.wheelhouse / NAMES[0])


def test_the_directory_is_named_from_the_home_directory(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert case.export(Path("~/none/../some/packages")) == NAMES
    assert not (tmp_path / "none").exists()


def test_copies_where_links_are_not_possible(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_source: Path, _to: Path) -> None:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "link", refuse)
    case.export()
    assert case.there() == {MARK, *NAMES}
    for name in NAMES:
        assert (case.to / name).read_text() == name
        assert not (case.to / name).samefile(case.wheelhouse / name)
    before = [(case.to / name).stat().st_ino for name in NAMES]
    case.export()
    assert [(case.to / name).stat().st_ino for name in NAMES] == before


def test_wheels_are_copied_where_links_are_not_wanted(case: Case) -> None:
    case.to.mkdir(parents=True)
    assert place_wheels(case.wheels, case.to, link=False) == tuple(map(case.to.joinpath, NAMES))
    assert not any((case.to / name).samefile(case.wheelhouse / name) for name in NAMES)


def test_wheels_in_the_directory_are_kept_without_those_of_the_wheelhouse(case: Case) -> None:
    case.export()
    remove_tree(case.wheelhouse)
    assert case.export() == NAMES


def test_a_changed_wheel_in_the_directory_is_replaced(case: Case) -> None:
    case.export()
    (case.to / NAMES[0]).unlink()
    (case.to / NAMES[0]).write_text("other")
    case.export()
    assert (case.to / NAMES[0]).samefile(case.wheelhouse / NAMES[0])


def test_a_directory_with_other_files_is_refused(case: Case) -> None:
    case.to.mkdir(parents=True)
    (case.to / "mine.whl").touch()
    with pytest.raises(ComposeError, match="is not a directory of exported wheels") as caught:
        case.export()
    assert ELSEWHERE in str(caught.value)
    assert case.there() == {"mine.whl"}


def test_a_wheel_that_cannot_be_written(case: Case) -> None:
    case.export()
    (case.to / NAMES[0]).unlink()
    (case.to / NAMES[0]).mkdir()
    with pytest.raises(ComposeError) as caught:
        case.export()
    assert str(caught.value).splitlines() == [
        f"something that stackbuild did not make is in the way: {case.to / NAMES[0]}",
        f"  to fix: move it away, or {ELSEWHERE}",
    ]
    assert case.there() - {".lock"} == {MARK, *NAMES}


def test_the_wheelhouse_itself_is_refused(case: Case) -> None:
    remove_tree(case.wheelhouse)
    for directory in (case.wheelhouse, case.wheelhouse / "inner"):
        with pytest.raises(ComposeError) as caught:
            case.export(directory)
        assert str(caught.value).splitlines() == [
            "wheels cannot be exported into the wheelhouse of the project",
            f"  file: {directory}",
            f"  expected: a directory outside {case.wheelhouse}",
            f"  to fix: {ELSEWHERE}",
        ]
    assert not case.wheelhouse.exists()


@pytest.mark.skipif(os.name == "nt", reason="links and modes of POSIX")
def test_links_to_wheels_and_read_only_wheels(case: Case) -> None:
    for name in NAMES:
        wheel = case.wheelhouse / name
        wheel.rename(case.workspace.project / name)
        (case.workspace.project / name).chmod(0o444)
        wheel.symlink_to(f"../{name}")
    case.export()
    for name in NAMES:
        assert not (case.to / name).is_symlink()
        assert (case.to / name).samefile(case.workspace.project / name)


def test_what_a_killed_run_left_is_removed(case: Case) -> None:
    case.export()
    work_path(case.to / NAMES[0]).write_bytes(b"half")
    (case.to / ".mine").touch()
    case.export()
    assert case.there() == {MARK, ".mine", *NAMES}


def test_a_damaged_wheel_is_not_exported(case: Case) -> None:
    sha256, wheel = next(iter(case.wheels.items()))
    wheel.write_text("damaged")
    with pytest.raises(IntegrityError) as caught:
        case.export()
    assert str(caught.value).splitlines() == [
        "a wheel in the wheelhouse is damaged",
        f"  file: {wheel}",
        f"  expected: sha256 {sha256}",
        f"  found: sha256 {sha256_file(wheel)}",
        "  to fix: remove it and run the command again: it is then fetched again",
    ]
    assert not (case.to / wheel.name).exists()
