"""The parts of a check that need no process."""

from __future__ import annotations

import importlib.machinery
import json
import subprocess
import sys
import sysconfig
import tomllib
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st
from packaging.utils import canonicalize_name

from stackbuild.compose.manifest import Shipped
from stackbuild.frames.model import FrameKind
from stackbuild.layout import extension_suffixes
from stackbuild.lock.model import LeftOut
from stackbuild.messages import Silent
from stackbuild.platforms import Platform, host_platform, marker_environment
from stackbuild.verify import import_worker
from stackbuild.verify.build_paths import BuildPaths
from stackbuild.verify.deployed import LEFT_OUT, RecordEntry, is_left_out, native_modules
from stackbuild.verify.expected_failures import (
    Tried,
    entries_of,
    imports_itself,
    merged,
    new_entries,
    stale,
)
from stackbuild.verify.model import Excluded, Outcome, Rules
from stackbuild.verify.record_check import read_layer
from stackbuild.verify.requirements import check_requirements, effective
from tests.support.deployed import SITE, distribution, layer

if TYPE_CHECKING:
    from pathlib import Path

# --- native modules


def test_the_suffixes_are_those_of_the_interpreter() -> None:
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = extension_suffixes(host_platform(), python)
    # Debian's CPython also loads files with this, which no wheel has.
    of_debian = f".abi3-{sysconfig.get_config_var('MULTIARCH')}.so"
    theirs = [suffix for suffix in importlib.machinery.EXTENSION_SUFFIXES if suffix != of_debian]
    assert list(found) == theirs


@pytest.mark.parametrize(
    ("platform", "names"),
    [
        (Platform.LINUX_X64, {"p.tagged", "p.stable", "p.plain", "p.sub"}),
        (Platform.MACOSX_AARCH64, {"p.mac", "p.stable", "p.plain"}),
        (Platform.WINDOWS_X64, {"p.win", "p.pyd"}),
    ],
)
def test_native_modules_are_found_by_name_and_contents(
    tmp_path: Path, platform: Platform, names: set[str]
) -> None:
    files = {
        "p/tagged.cpython-312-x86_64-linux-gnu.so": b"",
        "p/other.cpython-311-x86_64-linux-gnu.so": b"",
        "p/arm.cpython-312-aarch64-linux-gnu.so": b"",
        "p/mac.cpython-312-darwin.so": b"",
        "p/win.cp312-win_amd64.pyd": b"",
        "p/pyd.pyd": b"\0PyInit_pyd\0",
        "p/stable.abi3.so": b"",
        "p/plain.so": b"\x7fELF\0PyInit_plain\0",
        "p/libplain.so": b"\x7fELF\0PyInit_plain\0",
        "p/empty.so": b"",
        "p/sub/__init__.cpython-312-x86_64-linux-gnu.so": b"",
        "p.libs/libx.cpython-312-x86_64-linux-gnu.so": b"",
        "p/libx.so.3": b"PyInit_libx",
        "p/missing.so": None,
    }
    site = "Lib/site-packages" if platform.os == "windows" else SITE
    for name, data in files.items():
        if data is not None:
            path = tmp_path / "app" / site / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    one = distribution("p", files=files)
    record = tuple(
        type(entry)(path=entry.path.replace(SITE, site), digest="", size="")
        for entry in one.record or ()
    )
    app = layer("app", directory=tmp_path, platform=platform)
    assert {name for name, _ in native_modules(app, replace(one, record=record))} == names


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("numpy._core._multiarray_tests", True),
        ("scipy._lib._test_ccallback", True),
        ("pkg.tests._fast", True),
        ("tests.fast", True),
        ("pkg._vendor.msgpack._cmsgpack", True),
        ("81d243bd2c585b0f4821__mypyc", True),
        ("openmm._openmm", False),
        ("pkg.latest", False),
        ("pkg.contests.x", False),
        ("numpy.testing._native", False),
    ],
)
def test_what_is_left_out(module: str, expected: bool) -> None:
    assert is_left_out(module, LEFT_OUT) is expected
    assert is_left_out(module, ["*"])


# --- requirements

RUNTIME = layer("cpython")


def problems(*chain_layers: object, rules: Rules | None = None) -> list[tuple[object, ...]]:
    found = check_requirements(chain_layers, rules or Rules())  # type: ignore[arg-type]  # *args
    return [(one.distribution, one.message, one.expected, one.found) for one in found]


def test_requirements_are_looked_up_in_the_whole_chain() -> None:
    base = layer("base", distribution("numpy", "2.2.6"), below=[RUNTIME])
    wants = distribution(
        "app", requires=["numpy>=2", "NumPy<3; python_version<'4'", "x; extra=='y'"]
    )
    assert problems(layer("app", wants, below=[base, RUNTIME]), base, RUNTIME) == []
    assert problems(layer("app", wants, below=[RUNTIME]), RUNTIME) == [
        ("app 1.0", "requires a distribution that is not in the chain", text, None)
        for text in ("numpy>=2", 'NumPy<3; python_version < "4"')
    ]


def test_the_nearest_version_counts() -> None:
    base = layer("base", distribution("numpy", "2.2.6"), below=[RUNTIME])
    app = layer(
        "app", distribution("numpy", "1.26"), distribution("x", requires=["numpy>=2"]), below=[base]
    )
    assert [found[1].version for found in effective([app, base, RUNTIME]).values()][:1] == ["1.26"]
    assert problems(app, base, RUNTIME) == [
        ("x 1.0", "requires another version", "numpy>=2", "numpy 1.26")
    ]


def test_extras_count_when_somebody_asks_for_them() -> None:
    asked = distribution("lib", requires=["absent; extra == 'gpu'", "lib[more]; extra == 'all'"])
    assert problems(layer("app", asked), RUNTIME) == []
    user = distribution("user", requires=["lib[all]"])
    deep = distribution("lib", requires=[*asked.requires[1:], "absent; extra == 'more'"])
    found = problems(layer("app", deep, user), RUNTIME)
    assert [one[:2] for one in found] == [
        ("lib 1.0", "requires a distribution that is not in the chain")
    ]
    by_spec = problems(layer("app", asked), RUNTIME, rules=Rules(extras={"lib": ("gpu",)}))
    assert len(by_spec) == 1


def test_what_the_spec_leaves_open_is_no_finding() -> None:
    one = distribution("one", requires=["skipped", "pinned>=9", "open"])
    app = layer("app", one, distribution("pinned", "1"))
    rules = Rules(overridden=("pinned",))
    skipped = (LeftOut(name=canonicalize_name("skipped"), reason="no GPU there"),)
    app = replace(app, manifest=replace(app.manifest, skipped=skipped))
    assert [found[2] for found in problems(app, RUNTIME, rules=rules)] == ["open"]
    assert problems(app, RUNTIME, rules=Rules(no_deps=("one",))) == []


def test_metadata_that_cannot_be_read_or_is_for_another_python() -> None:
    bad = distribution("bad", requires=["a b c"], requires_python="whatever")
    old = distribution("old", requires_python="<3.12")
    odd = layer("app", bad, old)
    assert problems(odd, RUNTIME) == [
        ("bad 1.0", "has an invalid Requires-Python", None, "whatever"),
        ("bad 1.0", "has an invalid requirement", None, "a b c"),
        ("old 1.0", "does not support this Python", "<3.12", "3.12.10"),
    ]


def test_markers_are_those_of_the_platform() -> None:
    from packaging.markers import default_environment

    here = marker_environment(host_platform(), default_environment()["python_full_version"])
    real = default_environment()
    unknown = {"platform_release", "platform_version"}
    assert {k: v for k, v in here.items() if k not in unknown} == {
        k: v for k, v in real.items() if k not in unknown
    }
    windows = marker_environment(Platform.WINDOWS_X64, "3.12.10")
    assert (windows["sys_platform"], windows["platform_machine"]) == ("win32", "AMD64")


# --- RECORD


def test_what_a_record_may_be(tmp_path: Path) -> None:
    files = {"a.py": b"a", "b.py": b"b", "c.py": b"c", "d.so": b"\x7fELF\x02\x01\x01 broken"}
    for name, data in files.items():
        path = tmp_path / "app" / SITE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    digest = "PiPoFgA5WUoziU9lZOGxNIu9egCI1CxKy3PurtWcAJ0"  # of the letter b
    one = replace(
        distribution("one"),
        record=(
            RecordEntry(path=f"{SITE}/a.py", digest="", size=""),
            RecordEntry(path=f"{SITE}/b.py", digest=f"sha256={digest}=", size="1"),
            RecordEntry(path=f"{SITE}/c.py", digest="md5=xyz", size="1"),
            RecordEntry(path="../other/x.py", digest="", size=""),
        ),
    )
    none = replace(distribution("none"), record=None)
    app = layer("app", one, none, directory=tmp_path, files=[f"{SITE}/d.so", f"{SITE}/gone"])
    app = replace(
        app,
        manifest=replace(
            app.manifest,
            distributions=(
                Shipped(name="lost", version="2", wheel="lost-2.whl", sha256="0" * 64),
                Shipped(name="one", version="1.0", wheel="one-1.0.whl", sha256="0" * 64),
            ),
        ),
    )
    with Silent().task("reading", None) as task:
        read = read_layer(app, BuildPaths([], []), 2, task)
    assert [(f.check, f.distribution, f.file, f.message, f.found) for f in read.findings] == [
        (
            "record",
            "lost 2",
            None,
            "the layer was published with this distribution, but it is missing",
            None,
        ),
        ("record", "one 1.0", "../other/x.py", "RECORD lists a file outside the layer", None),
        ("record", "none 1.0", none.info, "has no readable RECORD", None),
        (
            "record",
            "one 1.0",
            f"{SITE}/c.py",
            "does not match RECORD",
            "md5 is not allowed in RECORD",
        ),
        (
            "library",
            None,
            f"{SITE}/d.so",
            "is damaged: it has the magic number of a program or library, but is not valid",
            None,
        ),
        ("layer", None, f"{SITE}/gone", "is missing", None),
    ]
    assert read.binaries == {}


@pytest.mark.parametrize("stands_in", [True, False])
def test_files_that_the_packed_interpreter_has_changed(tmp_path: Path, stands_in: bool) -> None:
    entries = []
    sums = {}
    for name in ("a.pem", "b.pem", "c.pem"):
        path = tmp_path / "rt" / SITE / "pip" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("edited")
        entries.append(RecordEntry(path=f"{SITE}/pip/{name}", digest="sha256=x", size="6"))
        sums[f"{SITE}/pip/{name}"] = (6, zlib.crc32(b"edited" if name != "c.pem" else b"before"))
    pip = replace(distribution("pip"), record=tuple(entries))
    about = {"runtime": {"stands_in": stands_in}}
    runtime = layer("rt", pip, directory=tmp_path, provenance=about)
    runtime = replace(runtime, kinds=dict.fromkeys(sums, FrameKind.INTERPRETER), sums=sums)
    with Silent().task("reading", None) as task:
        read = read_layer(runtime, BuildPaths([], []), 1, task)
    again = (
        "install pip again in that interpreter (`python -m pip install --force-reinstall"
        " pip==1.0`), and publish the layer again"
    )
    warning = (
        "rt: the interpreter that was packed has files of pip 1.0 that do not match RECORD:"
        f" {SITE}/pip/a.pem and 1 more; to fix: {again}"
    )
    assert read.warnings == ((warning,) if stands_in else ())
    # What was changed after the installation is a finding in any case.
    found = {(one.file or "")[-5:]: one for one in read.findings}
    assert [*found] == (["c.pem"] if stands_in else ["a.pem", "b.pem", "c.pem"])
    assert found["c.pem"].message == "does not match RECORD"
    assert "repair" in (found["c.pem"].remedy or "")
    if not stands_in:
        assert found["a.pem"].message == "does not match RECORD, in the interpreter that was packed"
        assert found["a.pem"].remedy == again


# --- known import errors


def tried(module: str, text: str = "", wheel: str = "Cuml_cu12-25.2-cp312.whl") -> Tried:
    result = "error" if text else "imported"
    outcome = Outcome(module=module, result=result, at=module, text=text)  # type: ignore[arg-type]
    return Tried(
        layer="app",
        distribution="cuml-cu12 25.2",
        wheel=wheel,
        outcome=outcome,
        chain=("app", "base"),
    )


def test_an_entry_matches_glob_and_part_whatever_the_case() -> None:
    table = {"cuml_CU12-*": {"cuml.cluster.dbscan": "cuda DRIVER version is insufficient"}}
    (entry,) = entries_of("app", Rules(allow_import_errors=table))
    failed = tried("cuml.cluster.dbscan", "RuntimeError: CUDA driver version is insufficient for")
    assert entry.allows(failed)
    assert not entry.allows(tried("cuml.cluster.other", failed.outcome.text))
    assert not entry.allows(tried("cuml.cluster.dbscan", "RuntimeError: no memory"))
    assert not entry.allows(tried("cuml.cluster.dbscan", failed.outcome.text, "cudf-1.whl"))
    assert stale([entry], [failed], complete=True) == []


def test_an_entry_counts_in_the_chains_that_its_layer_is_in() -> None:
    rules = Rules(allow_import_errors={"cuml_*": {"*": "driver"}})
    failed = tried("cuml.x", "RuntimeError: driver")
    for name, counts in {"app": True, "base": True, "other": False}.items():
        (entry,) = entries_of(name, rules)
        assert entry.allows(failed) is counts


def test_an_entry_that_layers_share_is_stale_when_none_needs_it() -> None:
    rules = Rules(
        allow_import_errors={"cuml_*": {"cuml.x": "driver", "cuml.gone": "driver"}},
        places={
            ("cuml_*", "cuml.x"): "tool.stackbuild.shared.x",
            ("cuml_*", "cuml.gone"): "tool.stackbuild.shared.gone",
        },
    )
    entries = [entry for layer in ("other", "app") for entry in entries_of(layer, rules)]
    (found,) = stale(entries, [tried("cuml.x", "RuntimeError: driver")], complete=True)
    assert found.place == "tool.stackbuild.shared.gone"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("OSError: /a/b.so: bad", "bad"),
        ("OSError: bad \udcff news here", "OSError: bad"),
        ("ImportError: \x1b[31mno driver", "[31mno driver"),
        ("OSError: /a/b.so", "OSError"),
        ("ImportError: libx.so: cannot open", "ImportError: libx.so: cannot open"),
        ("ImportError: " + "word " * 30, ("ImportError: " + "word " * 30)[:97]),
        ("E" * 150, "E" * 100),
    ],
)
def test_the_part_of_an_error_that_is_proposed(text: str, part: str) -> None:
    failed = tried("cuml.x", text)
    toml = new_entries([failed])
    table = tomllib.loads(toml)["tool"]["stackbuild"]["layers"]["app"]["allow-import-errors"]
    assert table == {"Cuml_cu12-*": {"cuml.x": part}}
    (entry,) = entries_of("app", Rules(allow_import_errors=table))
    assert entry.allows(failed)


def test_a_module_that_imports_itself_is_no_defect_of_the_layer(tmp_path: Path) -> None:
    modules = {
        "itself": "from itself import name\n",
        "around": "import through\n",
        "through": "from around import name\n",
        "user": "import itself\n",
        "absent": "from os import no_such_name\n",
    }
    for name, code in modules.items():
        (tmp_path / f"{name}.py").write_text(code)
    outcomes = {}
    for name in modules:
        done = subprocess.run(
            [sys.executable, "-B", import_worker.__file__, tmp_path, name],
            env={"PYTHONPATH": str(tmp_path)},
            stdout=subprocess.PIPE,
            check=True,
        )
        answer = json.loads(done.stdout)
        text = answer.get("text", "")
        outcomes[name] = Outcome(module=name, at=name, result=answer["result"], text=text)
    assert {one.result for one in outcomes.values()} == {"error"}
    found = {name for name, outcome in outcomes.items() if imports_itself(outcome)}
    assert found == {"itself", "around"}
    assert not imports_itself(
        replace(outcomes["itself"], excluded=Excluded("app", "itself.py", "*.py"))
    )


texts = st.text(
    st.characters(codec="utf-8", exclude_characters="\n\r", exclude_categories=("Cc", "Zl", "Zp")),
    min_size=1,
).filter(str.strip)


@given(
    st.lists(
        st.builds(
            tried,
            st.from_regex(r"[a-z_]{1,8}(\.[a-z_]{1,8}){0,3}", fullmatch=True),
            texts.map(lambda text: f"ImportError: {text}"),
            st.sampled_from(["one-1-py3.whl", "Two_x-2.whl"]),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_the_entries_that_are_offered_allow_the_failures(failed: list[Tried]) -> None:
    found = {(one.wheel, one.outcome.module): one for one in failed}
    table = tomli.loads(new_entries(list(found.values())))
    allowed = table["tool"]["stackbuild"]["layers"]["app"]["allow-import-errors"]
    entries = list(entries_of("app", Rules(allow_import_errors=allowed)))
    for one in found.values():
        assert any(entry.allows(one) for entry in entries), (one, allowed)


def test_an_entry_has_no_path_in_it_and_many_modules_share_one() -> None:
    text = "ImportError: /envs/1/lib/libcudf.so: undefined symbol: cuInit (at /x/y)"
    offered = new_entries([tried(f"cuml.m{number}", text) for number in range(5)])
    assert offered.splitlines() == [
        "[tool.stackbuild.layers.app.allow-import-errors]",
        '"Cuml_cu12-*" = { "cuml.*" = "undefined symbol: cuInit (at" }',
    ]
    assert new_entries([]) == ""


# --- rules


def test_rules_of_a_chain() -> None:
    upper = Rules(
        allow_import_errors={"a-*": {"a.x": "upper", "a.y": "y"}},
        skip_modules=("u.*",),
        environment={"A": "upper"},
        time_limit=5,
    )
    lower = Rules(
        allow_import_errors={"a-*": {"a.x": "lower"}, "b-*": {"b": "b"}},
        skip_modules=("l.*",),
        environment={"A": "lower", "B": "b"},
        time_limit=90,
        no_deps=("n",),
    )
    both = merged([upper, lower])
    assert both.allow_import_errors == {"a-*": {"a.x": "upper", "a.y": "y"}, "b-*": {"b": "b"}}
    assert both.skip_modules == ("u.*", "l.*")
    assert both.environment == {"A": "upper", "B": "b"}
    assert both.time_limit == 90
    assert both.no_deps == ("n",)
    assert merged([]) == Rules()
