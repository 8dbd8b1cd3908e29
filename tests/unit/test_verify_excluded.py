"""Modules that `exclude-files` leaves out, and that Python files import."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackbuild.frames.model import FrameKind
from stackbuild.verify.excluded import (
    as_findings,
    find_excluded,
    find_importers,
    needed,
    possible_imports,
)
from stackbuild.verify.expected_failures import Tried, as_finding
from stackbuild.verify.model import Excluded, Outcome, Rules
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
        ("from . import gone", "d/*.*y"),
        ("import d.gone.more", "d/gone/_*"),
        ("import d.gone.more", "d/*/__init__.py"),
    ],
)
def test_what_counts_as_an_import(tmp_path: Path, text: str, pattern: str) -> None:
    files = {"d/user.py": f"{text}\n", "d/one.py": ""}
    [one] = found(tmp_path, files, pattern)
    assert one.message.endswith(f"{pattern!r}")


def test_a_file_that_is_kept_imports_one_beside_it_that_is_not(tmp_path: Path) -> None:
    patterns = ("!d/user.py", "*.json", "d/*.py")
    [one] = found(tmp_path, {"d/user.py": "import os\nfrom . import gone\n"}, *patterns)
    assert one.message == (
        "line 2 imports a module that is left out; `exclude-files` of base leaves out d/gone.py:"
        " 'd/*.py'"
    )


GLOBS = st.lists(
    st.sampled_from(["a", "b*", "*a", "?b", "[a]*", "*", "**", "_*", "_[a]", "@a"]).flatmap(
        lambda part: st.sampled_from(["", "", ".py", ".*", ".[p]y", ".p*", ".so", ".h"]).map(
            lambda end: part + end
        )
    ),
    min_size=1,
    max_size=3,
).map("/".join)


@given(
    st.lists(GLOBS, min_size=1, max_size=3),
    st.lists(st.sampled_from(["a", "ab", "b", "bb", "_a", "ba"]), min_size=1, max_size=3),
)
def test_imports_of_what_is_left_out_are_looked_at(globs: list[str], path: list[str]) -> None:
    search = possible_imports(globs)
    if find_excluded("/".join(path), ["one"], {"one": Rules(exclude_files=tuple(globs))}):
        assert search
        assert search.search(f"import {'.'.join(path)}".encode())


@pytest.mark.parametrize(
    ("patterns", "looked_at", "not_looked_at"),
    [
        (["@tests"], "from a import (tests)", "import ten, a"),
        (["d/tz/**", "*.json", "x/y*.py"], "import os, a.yes", "from a import x, d"),
        (["!d/tz/**", "*.h", "x.h*"], "from a import x", "import d.tz"),
        (["d/e/__init__.py"], "import e", "import d, init"),
        (["d/_*"], "import d", "import _a"),
        (["a+b/*.pyd", "*.py/g"], "import g", "import a, py"),
    ],
)
def test_files_with_other_imports_need_not_be_parsed(
    patterns: list[str], looked_at: str, not_looked_at: str
) -> None:
    search = possible_imports(patterns)
    assert search
    assert search.search(f"pass\n{looked_at}\n".encode())
    assert not search.search(not_looked_at.encode())


def test_no_file_needs_to_be_parsed() -> None:
    for patterns in ([], ["!d/tz/**"], ["*.h", "@headers", "data.json"]):
        assert possible_imports(patterns) is None


@pytest.mark.parametrize(
    ("path", "pattern", "left_out"),
    [
        ("d/a.json", "d/*", "d/a.json"),
        ("d/a.py", "d/a.*", "d/a.py"),
        ("d/a.b", "d/*.py", "d/a.b.py"),
        ("d/a", "d/a*", "d/a.py"),
        ("d/a", "d/a/*", "d/a/__init__.py"),
        ("d/a", "*.so", "d/a.so"),
        ("d/a", "*.pyd", "d/a.pyd"),
        ("d/a", "d/a", "d/a"),
        ("v1.2/a", "v1.2/a*", "v1.2/a.py"),
        ("a.b", "a.*", "a.b"),
        ("d/a", "d/b", None),
    ],
)
def test_the_file_that_a_pattern_leaves_out(path: str, pattern: str, left_out: str | None) -> None:
    rules = {"rt": Rules(), "one": Rules(exclude_files=("x", pattern))}
    expected = left_out and Excluded("one", left_out, pattern)
    assert find_excluded(path, ["two", "rt", "one"], rules) == expected


@pytest.mark.parametrize(
    ("count", "more", "named"),
    [
        (2, ", and 1 more module does", '"d.m1", "d.m2"'),
        (5, ", and 4 more modules do", '"d.m1", "d.m2", "d.m3", "d.m4", "d.m5"'),
        (6, ", and 5 more modules do", '"d.m1", "d.m2", "d.m3", "d.m4", "d.m5" and so on'),
    ],
)
def test_several_modules_import_what_is_left_out(
    tmp_path: Path, count: int, more: str, named: str
) -> None:
    files = {f"d/m{number}.py": "import d.tz\n" for number in range(1, count + 1)}
    [one] = found(tmp_path, files, "d/tz/**")
    assert f" left out{more}; `exclude-files`" in one.message
    assert one.remedy
    assert f", add {named} to `skip-modules`" in one.remedy


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
    "d/sub/e.py": "import d.tests\n",
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
        ({"d-1.0.dist-info/entry_points.txt": "[gui_scripts]\nx = d.c\n"}, {"d.c"}),
        ({"d/user.py": "from .sub import e\n"}, {"d.sub.e"}),
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
    files = {"d/__init__.py": "", "d/sub/run.py": "import d.tests\n"}
    app = deployed(tmp_path, "app", files | {"launch/main.py": "from d import tests\n"})
    (app.directory / "tool.py").write_text("from d.test.x import y\n")
    own = {f"{SITE}/d/sub/run.py": FrameKind.OVERLAY, "tool.py": FrameKind.OVERLAY}
    own[f"{SITE}/launch/main.py"] = FrameKind.HEAD
    app = replace(app, kinds={**app.kinds, **own})
    rules = {"app": Rules(exclude_files=("@tests",))}
    importers = list(find_importers(app, [app], rules, ()))
    found = {one.file.module for one in importers}
    assert needed(found, [app], ()) == {"d.sub.run", "launch.main", "tool"}
    assert [one.file for one in as_findings(importers)] == [f"{SITE}/d/sub/run.py", "tool.py"]
