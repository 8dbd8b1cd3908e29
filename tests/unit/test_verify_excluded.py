"""Modules that `exclude-files` leaves out, and that Python files import."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from stackbuild.frames.model import FrameKind
from stackbuild.verify.check import _finding
from stackbuild.verify.excluded import check_excluded, find_excluded
from stackbuild.verify.expected_failures import Tried
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
    return list(check_excluded(app, [app, base], rules, skip))


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
    one = _finding(
        Tried(layer="app", distribution="n 1", wheel="n-1.whl", outcome=outcome, chain=("app",))
    )
    assert one.message == (
        "cannot be imported; `exclude-files` of app leaves out d/extra.py: 'd/e*'"
    )
    assert one.remedy == (
        'remove "d/e*" from `exclude-files`, or add "!d/extra.py" to that in'
        " [tool.stackbuild.layers.app]"
    )
