"""stackbuild and its layers on Windows: CPython for Windows, under Wine (`make test-slow`).

Wine 8 has no symbolic links (creating one succeeds and makes nothing), no junctions, no `_wmi` and
no limit of 260 characters, and it renames directories whose files are open. What depends on these
is tested without Wine, in `test_windows_roots.py`.
"""

from __future__ import annotations

import json
import shutil
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.support.archives import unpack_layer
from tests.support.frames import sha256
from tests.support.roots import stackbuild
from tests.support.smallstack import SmallStack
from tests.support.wine import VERSIONS, Wine, bring_wine, runtime_archive, write_wheelhouse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONG = f"lib/{'a' * 100}/{'b' * 100}.txt"
"""With the root and the store's own names this is more than 260 characters."""


@dataclass
class Windows:
    """A stack with a real runtime for Windows, and a directory for roots."""

    wine: Wine
    small: SmallStack
    directory: Path
    extension: Path
    root: Path = field(init=False)

    def __post_init__(self) -> None:
        self.root = self.directory / "r"

    def publish(self, version: str) -> dict[str, Path]:
        """Publish everything, with `lib` of this version; returns the archive of each layer."""
        self.small.wheel(
            "base",
            "lib",
            version,
            {
                "lib/__init__.py": "import sys\ndef main():\n"
                f"    print('lib {version}', *sys.argv[1:])\n",
                LONG: version,
            },
            console_scripts={"lib-tool": "lib:main"},
        )
        if self.extension not in self.small.wheels["base"]:
            self.small.wheels["base"].append(self.extension)
        report = self.small.publish(["cpython", "base", "app"], platform="windows-x64")
        assert not report.failures
        return {published.manifest.layer: published.path for published in report.layers}

    def stackbuild(self, *words: str | Path, code: int = 0) -> str:
        """What `stackbuild` prints under Wine, both streams; it must exit with `code`."""
        done = self.wine.stackbuild(*words)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return (done.stdout + done.stderr).replace("\r", "")

    def install(self, code: int = 0) -> str:
        return self.stackbuild(
            "install", "app", "--from", self.small.exports, "--root", self.root, code=code
        )

    def check(self, version: str, root: Path | None = None) -> None:
        """Layers, an extension module and console scripts run, from where the root is."""
        root = root or self.root
        scripts = root / "app" / "Scripts"
        code = (
            "import json, sys, lib, tool, zstandard; "
            "print(json.dumps([sys.prefix, sys.base_prefix, sys.version.split()[0], "
            "zstandard.compress(b'x')[:4].hex(), sys.flags.no_user_site]))"
        )
        found = json.loads(self.wine.run(scripts / "python.exe", "-c", code))
        places = [f"Z:{root / name}".replace("/", "\\") for name in ("app", "cpython")]
        assert found == [*places, VERSIONS[self.wine.minor], "28b52ffd", found[4]]
        tool = self.wine.run(scripts / "lib-tool.exe", "a b", "c")
        assert tool == f"lib {version} a b c\n"
        assert (root / "base" / "Lib/site-packages" / LONG).read_text() == version

    def writable(self) -> list[Path]:
        """The files of the store that are not read-only."""
        trees = (self.root / ".stackbuild/store").glob("*/tree")
        files = [path for tree in trees for path in tree.rglob("*") if path.is_file()]
        assert len(files) > 500
        return [path for path in files if path.stat().st_mode & stat.S_IWUSR]


@pytest.fixture(scope="module", params=list(VERSIONS))
def wine(request: pytest.FixtureRequest) -> Iterator[Wine]:
    wine = bring_wine(request.param)
    yield wine
    wine.end()


@pytest.fixture(scope="module")
def windows(wine: Wine, tmp_path_factory: pytest.TempPathFactory) -> Windows:
    directory = tmp_path_factory.mktemp("windows")
    small = SmallStack(directory / "project", directory / "cache", python=VERSIONS[wine.minor])
    archive = runtime_archive(wine, directory / "python.tar.gz")
    small.more = (
        "[tool.stackbuild.layers.cpython.downloads]\n"
        f'windows-x64 = {{ url = "{archive.as_uri()}", sha256 = "{sha256(archive)}" }}'
    )
    small.wheel(
        "cpython",
        "low",
        "1.0",
        {"low.py": "import sys\ndef main():\n    print('low', sys.prefix == sys.base_prefix)\n"},
        console_scripts={"low-tool": "low:main"},
    )
    extension = write_wheelhouse(wine, "zstandard", directory / "project" / "wheelhouse")
    return Windows(wine, small, directory, extension)


@pytest.mark.slow
def test_install_upgrade_roll_back_move_and_repair(windows: Windows) -> None:
    windows.publish("1.0")
    windows.install()
    windows.check("1.0")
    assert windows.install().startswith("nothing to do")
    for layer, is_runtime in (("cpython", True), ("app", False)):
        tool = windows.root / layer / "Scripts" / "low-tool.exe"
        assert windows.wine.run(tool) == f"low {is_runtime}\n"
    out = windows.stackbuild("run", "app", "--root", windows.root, "--", "shared")
    assert out == "tool\n"
    assert windows.writable() == []

    windows.publish("2.0")
    assert "generation 2" in windows.install()
    windows.check("2.0")
    assert "unused frame" in windows.stackbuild("clean", "--root", windows.root)
    assert windows.writable() == []
    assert "are unchanged" in windows.stackbuild("verify", "--installed", "--root", windows.root)

    newest = windows.publish("3.0")["base"]
    whole = newest.read_bytes()
    newest.write_bytes(whole[:1000] + b"\0" * 1000 + whole[2000:])
    patches = newest.with_name(newest.name.replace(".tar.zst", ".patches"))
    patches = patches.rename(patches.with_suffix(".away"))  # or the archive is not read
    assert "does not match the manifest" in windows.install(code=6)
    windows.check("2.0")
    newest.write_bytes(whole)
    patches.rename(patches.with_suffix(".patches"))
    assert "generation 3" in windows.install()
    windows.check("3.0")

    windows.root = windows.root.rename(windows.directory / "déjà déplacé")
    broken = windows.wine.start(windows.root / "app" / "Scripts" / "python.exe", "-V")
    assert broken.returncode != 0
    adjusted = windows.stackbuild("repair", windows.root)
    assert "base, app: adjusted to" in adjusted
    windows.check("3.0")

    windows.root = windows.root.rename(windows.directory / "again")
    for layer in ("cpython", "base", "app"):
        script = windows.root / layer / "postinstall.py"
        windows.wine.run(windows.root / "cpython" / "python.exe", script)
    windows.check("3.0")
    assert windows.install().startswith("nothing to do")
    assert "are unchanged" in windows.stackbuild("verify", "--installed", "--root", windows.root)
    windows.stackbuild("uninstall", "app", "--root", windows.root)
    windows.stackbuild("clean", "--root", windows.root)
    assert not [path for path in windows.root.iterdir() if path.name in {"app", "base", "cpython"}]


@pytest.mark.slow
@pytest.mark.parametrize("remedy", ["repair", "postinstall"])
def test_a_root_made_on_linux_runs_after_it_was_copied(windows: Windows, remedy: str) -> None:
    windows.publish("1.0")
    made = windows.directory / f"made-{remedy}"
    done = stackbuild(
        *("install", "app", "--from", windows.small.exports, "--root", made),
        *("--platform", "windows-x64"),
    )
    assert done.returncode == 0
    assert "stackbuild repair" in done.stderr
    root = windows.directory / f"copied-{remedy}"
    # Without links, as a copy to another machine.
    shutil.copytree(made, root)
    if remedy == "repair":
        windows.stackbuild("repair", root)
    else:
        for layer in ("base", "app"):
            script = root / layer / "postinstall.py"
            windows.wine.run(root / "cpython" / "python.exe", script)
    windows.check("1.0", root)
    assert "are unchanged" in windows.stackbuild("verify", "--installed", "--root", root)


@pytest.mark.slow
def test_unpacked_archives_run_after_postinstall(windows: Windows) -> None:
    root = windows.directory / "unpacked"
    for layer, archive in windows.publish("1.0").items():
        unpack_layer(archive, root / layer)
    for layer in ("base", "app"):
        script = root / layer / "postinstall.py"
        windows.wine.run(root / "cpython" / "python.exe", script)
    windows.check("1.0", root)
