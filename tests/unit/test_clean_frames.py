"""`stackbuild clean --unused-for DAYS`: which cached frames go."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from stackbuild.cli.main import main
from stackbuild.frames.cache import FrameCache
from stackbuild.frames.files import FileContent, files_set
from stackbuild.frames.model import FrameKind, FrameSet
from stackbuild.spec.model import FrameSettings
from stackbuild.workspace import CACHE_VARIABLE, open_workspace

if TYPE_CHECKING:
    from pathlib import Path


def frame_set(cache: FrameCache, text: str) -> FrameSet:
    files = {"a": FileContent(data=text.encode())}
    return files_set(FrameKind.HEAD, text, files, FrameSettings(), cache)


def age(path: Path, days: int) -> None:
    then = time.time() - days * 24 * 3600
    os.utime(path, (then, then))


def test_frames_that_were_not_used_for_so_long_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    cache = FrameCache(open_workspace(tmp_path).frames)
    old, new = frame_set(cache, "old"), frame_set(cache, "new")
    for path in (tmp_path / "cache").rglob("*"):
        if path.is_file() and (old.key in path.name or old.frames[0].sha256 in path.name):
            age(path, 31)
    spec = str(tmp_path / "venvstacks.toml")
    assert main(["clean", "--spec", spec, "--unused-for", "40"]) == 0
    assert cache.get(old.key) == old
    for path in (tmp_path / "cache").rglob("*"):
        if path.is_file() and (old.key in path.name or old.frames[0].sha256 in path.name):
            age(path, 31)
    assert main(["clean", "--spec", spec, "--unused-for", "30"]) == 0
    assert cache.get(old.key) is None
    assert cache.get(new.key) == new
    assert "frames not used lately" in capsys.readouterr().out


def test_days_are_a_whole_number(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["clean", "--unused-for", "soon"])
    assert "'soon' is not a whole number" in capsys.readouterr().err
