"""Modules that `exclude-files` leaves out, and that Python files import."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from stackbuild.frames.model import FrameKind
from stackbuild.verify.excluded import as_findings, find_excluded, find_importers, needed
from stackbuild.verify.expected_failures import Tried, as_finding
from stackbuild.verify.model import Outcome, Rules
from tests.support.deployed import SITE, distribution, layer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from stackbuild.verify.deployed import DeployedLayer
    from stackbuild.verify.model import Finding


def deployed(
    directory: Path, name: str, files: Mapping[str, str], *below: DeployedLayer
) -> DeployedLayer:
    for path, text in files.items():
        (directory / name / SITE / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / name / SITE / path).write_text(text)
    one = layer(name, distribution("d", files=files), below=below, directory=directory)
    kinds = dict.fromkeys((f"{SITE}/{path}" for path in files), FrameKind.DISTRIBUTION)
    return replace(one, kinds=kinds)


def found(
    directory: Path, files: Mapping[str, str], *patterns: str, skip: tuple[str, ...] = ()
) -> list[Finding]:
    base = deployed(directory, "base", {"d/__init__.py": "", "d/there.py": ""})
    app = deployed(directory, "app", files, base)
    rules = {"base": Rules(exclude_files=patterns)}
    return list(as_findings(find_importers(app, [app, base], rules, skip)))


def test_imports_of_a_module_that_is_left_out_are_one_finding(tmp_path: Path) -> None:
    files = {
        "d/parser/_parser.py": "import os\nfrom .. import (\n    there,\n    tz,\n)\n",
        "d/rule.py": "import d.tz.local\n",
        "d/more.py": "from .tz import utc\n",
    }
    [one] = found(tmp_path, files, "d/tz/**")
    assert (one.check, one.layer, one.distribution) == ("module", "app", "d 1.0")
    assert one.file == f"{SITE}/d/more.py"
    assert one.message == (
        "line 1 imports a module that is left out, and 2 more modules do; `exclude-files` of base"
        " leaves out d/tz/__init__.py: 'd/tz/**'"
    )
    assert one.remedy == (
        'remove "d/tz/**" from `exclude-files`, or add "!d/tz/**" to that in'
        " [tool.stackbuild.layers.base]; if nothing uses the modules that import it, add"
        ' "d.more", "d.parser._parser", "d.rule" to `skip-modules` in'
        " [tool.stackbuild.layers.app.verify]"
    )
    skip = ("d.more", "d.parser._parser", "d.rule")
    assert found(tmp_path, files, "d/tz/**", skip=skip) == []
    assert found(tmp_path, files, "d/tz/**", "!d/tz/**") == []


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("import d.tests.util as u", "@tests"),
        ("from d import tests", "@tests"),
        ("from d.one import a\nimport os, d.two", "d/tw*.py"),
        ("from d import \\\n    two", "d/two.*"),
        ("import gone", "gone/**"),
        ("from . import _fast", "*.so"),
    ],
)
def test_what_counts_as_an_import(tmp_path: Path, text: str, pattern: str) -> None:
    files = {"d/user.py": f"{text}\n", "d/one.py": ""}
    [one] = found(tmp_path, files, pattern)
    assert one.message.endswith(f"{pattern!r}")


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("try:\n    import d.tests\nexcept ImportError: pass", "@tests"),
        ("def f():\n    from . import tests", "@tests"),
        ("import test.support, tests.common", "@tests"),  # of other distributions
        ("from d import there, three", "d/two.py"),
        ("from d.sub import tests, test", "@tests"),  # objects of these names
        ("from d.star import tests", "@tests"),
        ("from .one import tests", "@tests"),  # `one` is no package
        ("from . import tests x", "@tests"),
        ("from . import tests", "*.pyi"),
    ],
)
def test_what_does_not(tmp_path: Path, text: str, pattern: str) -> None:
    files = {
        "d/user.py": f"{text}\n",
        "d/one.py": "",
        "d/sub/__init__.py": "tests = 1\ndef test(): pass\n",
        "d/star/__init__.py": "from d.there import *\n",
        "d/conftest.py": "import d.tests\n",
    }
    assert found(tmp_path, files, pattern) == []


def test_the_failure_of_a_native_module_names_the_patterns() -> None:
    rules = {"app": Rules(exclude_files=("d/e*",))}
    excluded = find_excluded("d/extra", ["app"], rules)
    outcome = Outcome(module="n.x", result="error", at="n.x", text="no", excluded=excluded)
    one = as_finding(
        Tried(layer="app", distribution="n 1", wheel="n-1.whl", outcome=outcome, chain=("app",))
    )
    assert one.message == (
        "cannot be imported; `exclude-files` of app leaves out d/extra.py: 'd/e*'"
    )
    assert one.remedy == (
        'remove "d/e*" from `exclude-files`, or add "!d/extra.py" to that in'
        " [tool.stackbuild.layers.app]"
    )


def in_use(directory: Path, files: Mapping[str, str], **below: str) -> set[str]:
    """Which of the modules that import `d.tests` are needed; `below` are files of a lower layer."""
    base = deployed(directory, "base", {f"{name}.py": text for name, text in below.items()})
    app = deployed(directory, "app", files, base)
    rules = {"app": Rules(exclude_files=("@tests",))}
    failing = {one.file.module for one in find_importers(app, [app, base], rules, ())}
    assert failing == {path[:-3].replace("/", ".").removesuffix(".__init__") for path in FAILING}
    return needed(failing, [base, app], ())


FAILING = {
    "d/a.py": "from . import tests\n",
    "d/b.py": "import d.a, d.tests.util\n",
    "d/c/__init__.py": "from ..tests import x\n",
}


@pytest.mark.parametrize(
    ("files", "modules"),
    [
        ({}, set()),
        ({"d/user.py": "from d import a\n"}, {"d.a"}),
        ({"d/user.py": "from .b import f\n"}, {"d.a", "d.b"}),
        ({"d/user.py": "import d.b as b\n"}, {"d.a", "d.b"}),
        ({"d/c/part.py": ""}, {"d.c"}),
        ({"d/user.py": "def test():\n    import d.a\ntry:\n    import d.b\nfinally: x\n"}, set()),
        ({"d/conftest.py": "import d.a\n"}, set()),
        (
            {"d-1.0.dist-info/entry_points.txt": "[console_scripts]\nx = d.b : main\n"},
            {"d.a", "d.b"},
        ),
    ],
)
def test_failing_modules_that_nothing_needs(
    tmp_path: Path, files: Mapping[str, str], modules: set[str]
) -> None:
    assert in_use(tmp_path, {"d/__init__.py": "", **FAILING, **files}) == modules


def test_modules_of_other_layers_need_them_too(tmp_path: Path) -> None:
    files = {"d/__init__.py": "", **FAILING}
    assert in_use(tmp_path, files, e="import d.a\n") == {"d.a"}


def test_a_failing_module_of_the_top_level_is_needed(tmp_path: Path) -> None:
    files = {"d/__init__.py": "from . import tests\n", "alone.py": "import d.tests\n"}
    app = deployed(tmp_path, "app", files)
    rules = {"app": Rules(exclude_files=("@tests",))}
    failing = {one.file.module for one in find_importers(app, [app], rules, ())}
    assert needed(failing, [app], ()) == failing == {"d", "alone"}
    assert needed((), [app], ()) == set()


def test_files_of_the_project_are_searched(tmp_path: Path) -> None:
    """Overlays, wherever they are, and launch modules, which nothing imports."""
    app = deployed(tmp_path, "app", {"d/__init__.py": "", "d/sub/run.py": "import d.tests\n"})
    (app.directory / "tool.py").write_text("from d.test.x import y\n")
    own = {f"{SITE}/d/sub/run.py": FrameKind.OVERLAY, "tool.py": FrameKind.OVERLAY}
    app = replace(app, kinds={**app.kinds, **own})
    rules = {"app": Rules(exclude_files=("@tests",))}
    importers = list(find_importers(app, [app], rules, ()))
    assert needed({one.file.module for one in importers}, [app], ()) == {"d.sub.run", "tool"}
    assert [one.file for one in as_findings(importers)] == [f"{SITE}/d/sub/run.py", "tool.py"]
