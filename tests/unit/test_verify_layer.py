"""The files that make a directory a layer: what keeps Python from starting in it."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from packaging.version import Version

from stackbuild.compose.layer_metadata import PTH, interpreter_links, pyvenv_cfg, site_files
from stackbuild.frames.model import FrameKind
from stackbuild.layout import Layout
from stackbuild.platforms import Platform
from stackbuild.verify.deployed import RecordEntry
from stackbuild.verify.layer_check import check_layer, pip_warnings
from stackbuild.verify.layer_check import interpreter_links as link_paths
from tests.support.deployed import SITE, distribution, layer
from tests.support.handmade import write_files

if TYPE_CHECKING:
    from pathlib import Path

    from stackbuild.frames.files import FileContent, Link
    from stackbuild.verify.deployed import DeployedLayer, Distribution

LAYOUT = Layout("linux", "3.12")
GONE = "is missing"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The runtime `cpython`, and the layers `base` and `app` on it."""
    write_files(tmp_path / "cpython", {"bin/python3.12": "#!/bin/sh\n"})
    (tmp_path / "cpython/bin/python3.12").chmod(0o755)
    for name, lower in (("base", ["cpython"]), ("app", ["base", "cpython"])):
        files: dict[str, FileContent | Link | str] = {
            "pyvenv.cfg": pyvenv_cfg(name, Version("3.12.10")),
            **interpreter_links(LAYOUT, "cpython"),
            **site_files(LAYOUT, "cpython", [(one, ()) for one in lower]),
        }
        write_files(tmp_path / name, files)
    return tmp_path


def chain(root: Path, *distributions: Distribution) -> list[DeployedLayer]:
    cpython = layer("cpython", directory=root)
    base = layer("base", below=[cpython], directory=root)
    return [layer("app", *distributions, below=[base, cpython], directory=root), base, cpython]


Problem = tuple[str | None, str, str | None, str | None]


def problems(root: Path, *distributions: Distribution) -> list[Problem]:
    app, *lower = chain(root, *distributions)
    found = [*check_layer(app, [app, *lower])]
    assert {(one.check, one.layer) for one in found} <= {("layer", "app")}
    assert all(one.remedy == app.remedy(one.file or "") for one in found)
    return [(one.file, one.message, one.expected, one.found) for one in found]


def test_nothing_is_found_in_whole_layers(root: Path) -> None:
    app, base, cpython = chain(root)
    assert [*check_layer(app, [app, base, cpython])] == []
    assert [*check_layer(base, [base, cpython])] == []
    assert [*check_layer(cpython, [cpython])] == []


@pytest.mark.parametrize(
    ("platform", "there", "missing"),
    [
        (Platform.LINUX_X64, [], ["bin/python3.12"]),
        (Platform.MACOSX_AARCH64, ["bin/python3.12"], []),
        (Platform.WINDOWS_X64, [], ["python.exe", "python312.dll"]),
        (Platform.WINDOWS_X64, ["python.exe"], ["python312.dll"]),
        (Platform.WINDOWS_X64, ["python.exe", "python312.dll"], []),
    ],
)
def test_a_runtime_has_an_interpreter(
    tmp_path: Path, platform: Platform, there: list[str], missing: list[str]
) -> None:
    write_files(tmp_path / "cpython", dict.fromkeys(there, ""))
    runtime = layer("cpython", directory=tmp_path, platform=platform)
    found = [(one.file, one.message) for one in check_layer(runtime, [runtime])]
    assert found == [(name, GONE) for name in missing]


def test_an_empty_layer(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    link = "a link to cpython/bin/python3.12"
    assert problems(tmp_path) == [
        ("pyvenv.cfg", GONE, "the configuration of a virtual environment", None),
        ("bin/python", GONE, link, None),
        (
            f"{SITE}/sitecustomize.py",
            GONE,
            "the module that makes the lower layers visible",
            None,
        ),
        (f"{SITE}/{PTH}", GONE, "the file that runs sitecustomize.py", None),
    ]


HOST = (
    "pyvenv.cfg",
    "makes distributions of the host visible in the layer",
    "include-system-site-packages = false",
    None,
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("include-system-site-packages = false\n", []),
        ("Include-System-Site-Packages=FALSE", []),
        ("include-system-site-packages = no\n", []),
        (" include-system-site-packages =  True \n", [HOST]),
        # `site` takes the last of several lines, and `true` where there is none.
        ("include-system-site-packages = false\ninclude-system-site-packages = true\n", [HOST]),
        ("include-system-site-packages = true\ninclude-system-site-packages = false\n", []),
        ("prompt = app\n", [HOST]),
        ("include-system-site-packages\n", [HOST]),
        ("include-system-site-packages = false = true\n", []),
        ("", [HOST]),
    ],
)
def test_distributions_of_the_host(root: Path, text: str, found: list[Problem]) -> None:
    (root / "app/pyvenv.cfg").write_text(text)
    assert problems(root) == found


def test_each_link_starts_the_interpreter_of_the_runtime(root: Path) -> None:
    """The first that does not is reported: the others lead to it."""
    link = root / "app/bin/python"
    assert link_paths(chain(root)[0]) == ["bin/python", "bin/python3", "bin/python3.12"]
    link.unlink()
    target = "cpython/bin/python3.12"
    assert problems(root) == [("bin/python", GONE, f"a link to {target}", None)]
    link.symlink_to("../../cpython/bin/python3.9")
    broken = (
        "bin/python",
        "is a broken link",
        f"a link to {target}",
        "../../cpython/bin/python3.9",
    )
    assert problems(root) == [broken]
    other = root / "cpython/bin/python3.9"
    other.touch(0o755)
    wrong = "does not start the interpreter of the runtime"
    assert problems(root) == [("bin/python", wrong, target, str(other.resolve()))]
    # Nor can it be compared with a missing one.
    (root / "cpython/bin/python3.12").unlink()
    assert problems(root) == [("bin/python", wrong, target, str(other.resolve()))]


def test_a_single_link_may_be_wrong(root: Path) -> None:
    (root / "app/bin/python3").unlink()
    (root / "app/bin/python3.12").unlink()
    assert [one[:2] for one in problems(root)] == [("bin/python3", GONE)]


def test_an_interpreter_that_is_not_executable(root: Path) -> None:
    (root / "cpython/bin/python3.12").chmod(0o644)
    assert problems(root) == [("bin/python", "is not executable", None, None)]


def test_each_lower_layer_is_visible(root: Path) -> None:
    path = root / "app" / SITE / "sitecustomize.py"
    path.write_text(path.read_text().replace(f"'cpython/{SITE}'", "'elsewhere'"))
    message = "does not make a lower layer visible"
    site = f"{SITE}/sitecustomize.py"
    assert problems(root) == [(site, message, f"cpython/{SITE}", None)]
    path.write_bytes(b"\xff")
    assert problems(root) == [
        (site, message, f"base/{SITE}", None),
        (site, message, f"cpython/{SITE}", None),
    ]


def test_a_launcher_starts_python_on_windows(tmp_path: Path) -> None:
    runtime = layer("cpython", directory=tmp_path, platform=Platform.WINDOWS_X64)
    app = layer("app", below=[runtime], directory=tmp_path, platform=Platform.WINDOWS_X64)
    layout = Layout("windows", "3.12")
    write_files(
        tmp_path / "app",
        {
            "pyvenv.cfg": pyvenv_cfg("app", Version("3.12.10")),
            **site_files(layout, "cpython", [("cpython", ())]),
        },
    )
    (finding,) = check_layer(app, [app, runtime])
    assert (finding.file, finding.message) == ("Scripts/python.exe", GONE)
    assert finding.expected == "the launcher of the interpreter"
    write_files(tmp_path / "app", {"Scripts/python.exe": "MZ"})
    assert [*check_layer(app, [app, runtime])] == []
    tool = distribution("tool")
    write_files(tmp_path / "app" / tool.info, {"entry_points.txt": "[gui_scripts]\na = tool:b\n"})
    app = replace(app, distributions=(tool,))
    assert [one.file for one in check_layer(app, [app, runtime])] == ["Scripts/a.exe"]
    write_files(tmp_path / "app", {"Scripts/a.exe": "MZ"})
    assert [*check_layer(app, [app, runtime])] == []


ENTRY_POINTS = """\
[console_scripts]
Tool = tool:main
listed = tool:listed
percent = tool:%(x)s
co:lon = tool:colon

[gui_scripts]
window = tool:window

[tool.plugins]
plugin = tool:plugin
"""


def test_the_scripts_of_entry_points(root: Path) -> None:
    one = distribution("tool")
    listed = (RecordEntry(path="bin/listed", digest="", size=""),)
    one = replace(one, record=listed)
    write_files(root / "app" / one.info, {"entry_points.txt": ENTRY_POINTS})
    write_files(root / "app", {"bin/percent": ""})
    message = "the script of an entry point is missing"
    assert problems(root, one) == [
        ("bin/Tool", message, "Tool = tool:main", None),
        ("bin/co:lon", message, "co:lon = tool:colon", None),
        ("bin/window", message, "window = tool:window", None),
    ]
    first, *_ = check_layer(chain(root, one)[0], chain(root))
    assert first.distribution == "tool 1.0"
    write_files(root / "app", dict.fromkeys(("bin/Tool", "bin/co:lon", "bin/window"), ""))
    assert problems(root, one) == []


def test_no_scripts_are_expected_of_what_came_with_the_interpreter(root: Path) -> None:
    pip = distribution("pip")
    write_files(
        root / "app" / pip.info, {"entry_points.txt": "[console_scripts]\npip = pip:main\n"}
    )
    app, *lower = chain(root, pip)
    assert [one.file for one in check_layer(app, [app, *lower])] == ["bin/pip"]
    packed = replace(app, kinds={f"{pip.info}/entry_points.txt": FrameKind.INTERPRETER})
    assert [*check_layer(packed, [packed, *lower])] == []


def test_no_scripts_are_expected_of_a_damaged_file(root: Path) -> None:
    tool, none = distribution("tool"), replace(distribution("none"), record=None)
    for text in ("tool = tool:main\n", "[console_scripts]\ntool = tool:main\nother\n"):
        write_files(root / "app" / tool.info, {"entry_points.txt": text})
        assert problems(root, tool, none) == []
    # A name may be given twice, with colons in its value.
    text = "[console_scripts]\ntool = a:b\ntool = tool : main\n"
    write_files(root / "app" / tool.info, {"entry_points.txt": text})
    assert [one[::2] for one in problems(root, tool)] == [("bin/tool", "tool = tool : main")]


def test_scripts_that_run_pip(root: Path) -> None:
    tool, pip = distribution("tool"), distribution("pip")
    text = "[console_scripts]\none = tool.main:run\ntwo = tool\nother = tool.other:run\n"
    call = "\nimport sys\n\ncommand = [sys.executable, '-m', 'pip', 'freeze']\n"
    files = {"main.py": call, "__init__.py": 'x = ("-m",  "pip")\n', "other.py": "['-m', 'pipx']\n"}
    write_files(root / "app" / tool.info, {"entry_points.txt": text})
    write_files(root / "app" / SITE / "tool", {**files, "unused.py": call})
    app, *lower = chain(root, tool)
    remedy = (
        'and the layers have no pip; to fix: keep = ["pip"] in [tool.stackbuild.layers.cpython]'
    )
    assert [*pip_warnings(app, [app, *lower])] == [
        f"app: one of tool 1.0 runs `python -m pip` (line 4 of {SITE}/tool/main.py), {remedy}",
        f"app: two of tool 1.0 runs `python -m pip` (line 1 of {SITE}/tool/__init__.py), {remedy}",
    ]
    kept = replace(lower[-1], distributions=(pip,))
    assert [*pip_warnings(app, [app, *lower[:-1], kept])] == []


def test_scripts_of_modules_that_are_no_files(root: Path) -> None:
    tool = distribution("tool")
    text = "[console_scripts]\none = a\0b:run\ntwo = pipe:run\nthree = .:run\n"
    write_files(root / "app" / tool.info, {"entry_points.txt": text})
    os.mkfifo(root / "app" / SITE / "pipe.py")
    app, *lower = chain(root, tool)
    assert [*pip_warnings(app, [app, *lower])] == []
