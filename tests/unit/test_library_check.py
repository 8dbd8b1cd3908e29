"""Which files need which libraries when a layer is composed, and what is told of missing ones."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from stackbuild.compose.layer_inputs import LayerTarget
from stackbuild.compose.library_check import Libraries, check
from stackbuild.errors import ComposeError
from stackbuild.frames.model import Binary, Frame, FrameKind, FrameSet
from stackbuild.layout import layout_for
from stackbuild.linking.editing import copied_set, edited_set
from stackbuild.linking.plan import Linking
from stackbuild.lock.model import LayerLock, LockedDistribution, LockedFile
from stackbuild.platforms import Platform
from stackbuild.spec.model import CheckSettings, Layer, LayerKind, Policy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stackbuild.compose.library_check import Planned

SITE, WINDOWS_SITE = "lib/python3.12/site-packages", "Lib/site-packages"
LINUX, MAC, WINDOWS = Platform.LINUX_X64, Platform.MACOSX_AARCH64, Platform.WINDOWS_X64
PYTHON = Version("3.12.10")
NO_SETTINGS = CheckSettings()
RUNTIME, FRAMEWORK, APPLICATION = LayerKind.RUNTIME, LayerKind.FRAMEWORK, LayerKind.APPLICATION


def target(
    name: str,
    platform: Platform = LINUX,
    kind: LayerKind = APPLICATION,
    *,
    checks: CheckSettings = NO_SETTINGS,
    allowed: Mapping[str, Mapping[str, str]] | None = None,
    exclude: tuple[str, ...] = (),
) -> LayerTarget:
    """A layer whose lock has the distribution ``own 1.0``."""
    layer = Layer(
        name=name,
        kind=kind,
        requirements=(),
        platforms=(platform,),
        runtime="py",
        frameworks=(),
        dynlib_exclude=exclude,
        policies={platform: Policy(allow_import_errors=allowed)} if allowed else {},
        checks=checks,
    )
    wheel = LockedFile(name="Own-1.0-cp312-cp312-any.whl", size=1, sha256="1" * 64)
    own = LockedDistribution(name=canonicalize_name("own"), version=Version("1.0"), wheel=wheel)
    lock = LayerLock(
        layer=name,
        platform=platform,
        python_version=PYTHON,
        requirements=(),
        inputs="0" * 64,
        version=1,
        locked_at="2026-01-02T03:04:05Z",
        distributions=(own,),
        inherited=(),
        digest="0" * 64,
    )
    return LayerTarget(layer, platform, layout_for(platform, PYTHON), lock, f"{name}@1")


def frames(
    subject: str, *files: Binary | str, kind: FrameKind = FrameKind.DISTRIBUTION
) -> FrameSet:
    """The frames of files with needs, and of others that are only named."""
    frame = Frame(kind=kind, subject=subject, sha256="0" * 64, size=1, content_size=1, files=1)
    binaries = tuple(one for one in files if isinstance(one, Binary))
    paths = [one.path if isinstance(one, Binary) else one for one in files]
    return FrameSet(key=subject, frames=(frame,), paths=tuple(sorted(paths)), binaries=binaries)


def overlay(*files: Binary | str) -> FrameSet:
    return frames("overlays/app", *files, kind=FrameKind.OVERLAY)


def needs(path: str, *needed: str, machine: str = "x86_64", program: bool = False) -> Binary:
    return Binary(machines=(machine,), needed=needed, path=path, program=program)


def module(*needed: str, name: str = "own/a.so") -> Binary:
    return needs(f"{SITE}/{name}", *needed)


def planned(
    *layers: tuple[LayerTarget, Sequence[FrameSet]], interpreter: FrameSet | None = None
) -> Planned:
    """The plan of the first of `layers`, which are a chain."""
    targets = [one for one, _ in layers]
    sets = {one.layer.name: found for one, found in layers}
    libraries = Libraries(
        lambda one: targets[targets.index(one) + 1 :], lambda one: sets[one.layer.name]
    )
    return libraries.plan(targets[0], interpreter)


# --- the files of a layer


def test_files_for_other_processors_need_nothing() -> None:
    files = (
        needs("a.so", "liba.so"),
        needs("b.so", "libb.so", machine="aarch64"),
        Binary(machines=(), needed=("libc.so",), path="c.so"),
    )
    plan = planned((target("app"), [frames("own 1.0", *files)]))
    assert plan.linking.missing == {"liba.so": ["a.so"], "libc.so": ["c.so"]}


def test_a_file_of_an_overlay_replaces_that_of_a_distribution() -> None:
    own = frames("own 1.0", needs("a.so", "liba.so"), needs("b.so", "libb.so"), "c.so")
    over = overlay("a.so", needs("b.so", "libmore.so"), needs("c.so", "libc.so"), "notes.txt")
    plan = planned((target("app"), [own, over]))
    assert plan.linking.missing == {"libmore.so": ["b.so"], "libc.so": ["c.so"]}
    assert plan.files.owners == dict.fromkeys(("a.so", "b.so", "c.so", "notes.txt"), "")


def test_overlays_are_no_distribution_that_loads_its_own_libraries() -> None:
    files = module("libx.so"), f"{SITE}/own/deep/libx.so"
    assert planned((target("app"), [frames("own 1.0", *files)])).linking == Linking()
    assert planned((target("app"), [overlay(*files)])).linking == Linking(
        edits={f"{SITE}/own/a.so": {"libx.so": f"{SITE}/own/deep/libx.so"}}
    )


@pytest.mark.parametrize(
    ("platform", "names"),
    [
        (LINUX, ["libpython3.12.so.1.0"]),
        (MAC, ["@rpath/libpython3.12.dylib"]),
        (
            WINDOWS,
            ["python3.dll", "python312.dll", "vcruntime140.dll", "vcruntime140_1.dll"],
        ),
    ],
)
def test_the_libraries_of_every_interpreter_are_there(platform: Platform, names: list[str]) -> None:
    binary = Binary(machines=(), needed=(*names, "libodd.so"), path="own.so")
    runtime = target("py", platform, RUNTIME)
    plan = planned((target("app", platform), [frames("own 1.0", binary)]), (runtime, []))
    assert plan.linking.missing == {"libodd.so": ["own.so"]}


def test_an_interpreter_is_checked_where_it_is_published() -> None:
    interpreter = frames("cpython 3.12.10", needs("lib/x.so", "libodd.so"))
    runtime = target("py", LINUX, RUNTIME)
    assert planned((runtime, [])).linking.missing == {}
    plan = planned((runtime, []), interpreter=interpreter)
    assert plan.linking.missing == {"libodd.so": ["lib/x.so"]}
    # The two plans are kept apart, and each is made once.
    libraries = Libraries(lambda _: [], lambda _: [])
    both = [libraries.plan(runtime, one) for one in (interpreter, None, interpreter, None)]
    assert [bool(one.linking.missing) for one in both] == [True, False, True, False]
    assert (both[0] is both[2], both[1] is both[3]) == (True, True)


def test_errors_name_the_layer_and_excluded_libraries_are_left_out() -> None:
    two = frames("pub 1.0", f"{SITE}/pub/libx.so", f"{SITE}/second/libx.so")
    app = target("app"), [frames("own 1.0", module("libx.so"))]
    with pytest.raises(ComposeError) as caught:
        planned(app, (target("base", kind=FRAMEWORK), [two]))
    assert "  layer: app\n  platform: linux-x64\n  distribution: own 1.0\n" in str(caught.value)
    base = target("base", kind=FRAMEWORK, exclude=("second/*",))
    assert planned(app, (base, [two])).linking.links == {
        f"{SITE}/pub/libx.so": f"base@1/{SITE}/pub/libx.so"
    }


def test_directories_of_dlls_of_the_whole_chain_are_added() -> None:
    def files(name: str, *needed: str) -> list[FrameSet]:
        return [frames(f"{name} 1.0", needs(f"{name}/{name}.dll", *needed))]

    plan = planned(
        (target("app", WINDOWS), files("app", "mid.dll")),
        (target("mid", WINDOWS, FRAMEWORK), files("mid", "low.dll")),
        (target("low", WINDOWS, FRAMEWORK), files("low")),
        (target("py", WINDOWS, RUNTIME), []),
    )
    assert plan.linking.dll_directories == ("mid@1/mid",)
    assert plan.dll_directories == ("mid@1/mid", "low@1/low")


# --- what is made of the plan


def test_the_last_of_the_files_at_a_path_is_edited() -> None:
    app, binary = target("app"), needs("own.so", "libx.so")
    own = frames("own 1.0", needs("own.so", "libold.so"))
    sets = [own, overlay(binary), frames("other 1.0", "x/libx.so")]
    plan = planned((app, sets))
    inputs = (sets[1], binary, {"libx.so": "x/libx.so"}, "linux")
    assert list(plan.changes([app], lambda _: sets)) == [
        (app.part("edited own.so"), edited_set, inputs)
    ]
    assert plan.parts() == [app.part("edited own.so")]


def test_a_dll_is_copied_from_its_layer() -> None:
    app, base = target("app", WINDOWS), target("base", WINDOWS, FRAMEWORK)
    program = needs("Scripts/tool.exe", "x.dll", program=True)
    sets = {
        "app": [frames("own 1.0", program)],
        "base": [frames("pub 1.0", "pub/X.dll"), frames("other 1.0", "other/y.dll")],
    }
    plan = planned((app, sets["app"]), (base, sets["base"]))
    assert list(plan.changes([app, base], lambda one: sets[one.layer.name])) == [
        (
            app.part("copied Scripts/X.dll"),
            copied_set,
            (sets["base"][0], "pub/X.dll", "Scripts/X.dll"),
        )
    ]


# --- missing libraries


def problem(
    app: LayerTarget,
    *sets: FrameSet,
    below: Sequence[LayerTarget] = (),
    declared: Sequence[str] = (),
) -> str | None:
    """The text of the error about missing libraries; None if there is none."""
    plan = planned((app, sets))
    try:
        told = check(plan, [app, *below], declared, allow_unresolved=False)
    except ComposeError as error:
        return str(error)
    assert told == ""
    return None


def test_libraries_that_the_host_has_may_be_missing() -> None:
    own = frames("own 1.0", module("libOdd.so.1"))
    assert problem(target("app"), own)
    assert problem(target("app"), own, declared=["libodd.so.1"])
    assert problem(target("app"), own, declared=["libOdd.*"]) is None
    for glob, found in (("libOdd*", True), ("libodd*", False), ("libOdd", False)):
        checks = CheckSettings(host_libraries=(glob,))
        assert (problem(target("app", checks=checks), own) is None) is found
        base = target("base", kind=FRAMEWORK, checks=checks)
        assert (problem(target("app"), own, below=[base]) is None) is found


def test_globs_for_dlls_have_no_case() -> None:
    own = frames("own 1.0", needs("own/a.pyd", "odd.dll"))
    checks = CheckSettings(host_libraries=("Odd.DLL",))
    assert problem(target("app", WINDOWS, checks=checks), own) is None
    assert problem(target("app", WINDOWS), own)


@pytest.mark.parametrize(
    ("wheel", "name", "text", "known"),
    [
        ("own-*", "own.a", "libodd.so.1: cannot open", True),
        ("OWN-1.0-*", "own.*", "libodd.so.1", True),
        ("other-*", "own.a", "libodd.so.1", False),
        ("own-*", "own.b", "libodd.so.1", False),
        ("own-*", "own.a", "libother.so.1", False),
    ],
)
def test_errors_that_are_allowed_when_importing(
    wheel: str, name: str, text: str, known: bool
) -> None:
    own = frames("own 1.0", module("libodd.so.1"))
    allowed = {wheel: {name: text}}
    assert (problem(target("app", allowed=allowed), own) is None) is known
    base = target("base", kind=FRAMEWORK, allowed=allowed)
    assert (problem(target("app"), own, below=[base]) is None) is known
    # A library is not imported, and a file of an overlay is of no wheel.
    assert problem(target("app", allowed=allowed), frames("own 1.0", needs("a.so", "libodd.so.1")))
    assert problem(target("app", allowed={"?*": {name: text}}), overlay(module("libodd.so.1")))


def test_the_error_names_the_pattern_that_leaves_the_library_out() -> None:
    policy = Policy(exclude_files={"*": ("*.txt",), "pub": ("x/**",)})
    base = target("base", kind=FRAMEWORK)
    base = base._replace(layer=replace(base.layer, policies={LINUX: policy}))
    pub = replace(frames("pub 1.0"), excluded=("x/libx.so.1", "x/liby.so.1"))
    own = frames("own 1.0", module("dir/libx.so.1", "libq.so.1"))
    plan = planned((target("app"), [own]), (base, [pub]))
    with pytest.raises(ComposeError) as caught:
        check(plan, [target("app"), base], (), allow_unresolved=False)
    left_out = "x/libx.so.1 is left out by `exclude-files` of base: 'x/**'"
    told = str(caught.value)
    assert f"dir/libx.so.1 is needed by {SITE}/own/a.so ({left_out}); libq.so.1 is needed" in told
    assert "to fix: keep the file that is left out; or add the distribution" in told
    assert left_out in check(plan, [target("app"), base], (), allow_unresolved=True)


def test_the_error_names_what_is_missing_and_how_to_allow_it() -> None:
    assert problem(target("my.app"), frames("own 1.0", module("lib1.so"))) == (
        "a shared library that the layer needs is neither in its chain nor on every host\n"
        "  layer: my.app\n  platform: linux-x64\n  distribution: own 1.0\n"
        f"  file: {SITE}/own/a.so\n  expected: lib1.so\n"
        f"  found: lib1.so is needed by {SITE}/own/a.so\n"
        "  to fix: add the distribution that has the library to this layer or to one below it; if"
        " the file is not used, run publish, build or export with --allow-unresolved; if every host"
        ' has the library, set in [tool.stackbuild.layers."my.app".verify]:\n'
        '    host-libraries = ["lib1.so"]'
    )
    told = problem(target("app"), overlay(module("lib1.so"))) or ""
    assert f"  platform: linux-x64\n  file: {SITE}/own/a.so\n" in told


def test_a_library_of_the_chain_that_no_link_reaches_has_its_own_error() -> None:
    app, base = target("app"), target("base", kind=FRAMEWORK)
    # A library that replaces the one of a lower layer, and needs it.
    path = f"{SITE}/pub/libx.so"
    own, below = [overlay(needs(path, "libx.so"))], [frames("pub 1.0", path)]
    plan = planned((app, own), (base, below))
    with pytest.raises(ComposeError) as caught:
        check(plan, [app, base], [], allow_unresolved=False)
    assert str(caught.value) == (
        "a shared library that the layer needs is in its chain, but the file does not search there"
        " and no link can be added where it searches\n"
        f"  layer: app\n  platform: linux-x64\n  file: {path}\n"
        "  expected: a search path of the file that leads to libx.so, such as $ORIGIN/lib\n"
        f"  found: libx.so is needed by {path}, and is at base@1/{path}\n"
        "  to fix: build the file with such a search path (build-wheel), or rename the file of the"
        " layer that is where the link would be; if the file is not used, run publish, build or"
        " export with --allow-unresolved"
    )
    assert check(plan, [app, base], [], allow_unresolved=True) == (
        "app on linux-x64 lacks shared libraries that its chain has where the files do not search:"
        f" libx.so is needed by {path}"
    )
    # One that the chain does not have comes first.
    both = planned((app, [*own, frames("own 1.0", needs("a.so", "libodd.so"))]), (base, below))
    with pytest.raises(ComposeError) as caught:
        check(both, [app, base], [], allow_unresolved=False)
    assert "found: libodd.so is needed by a.so\n" in str(caught.value)


@pytest.mark.parametrize(
    ("count", "ending"), [(1, ""), (2, " and 1 other file"), (3, " and 2 other files")]
)
def test_files_that_need_one_library_are_counted(count: int, ending: str) -> None:
    files = [needs(f"{number}.so", "libodd.so") for number in range(count)]
    told = problem(target("app"), frames("own 1.0", *files)) or ""
    assert f"  found: libodd.so is needed by 0.so{ending}\n" in told


@pytest.mark.parametrize(
    ("count", "ending"), [(5, ""), (6, "; and 1 more library"), (7, "; and 2 more libraries")]
)
def test_five_libraries_are_shown_and_the_others_are_counted(count: int, ending: str) -> None:
    own = frames("own 1.0", needs("a.so", *(f"lib{number}.so" for number in range(count))))
    told = problem(target("app"), own) or ""
    shown = "; ".join(f"lib{number}.so is needed by a.so" for number in range(5))
    assert f"  found: {shown}{ending}\n" in told


@pytest.mark.parametrize("count", [1, 5, 6])
def test_the_warning_names_all_libraries(count: int) -> None:
    names = [f"lib{number}.so" for number in range(count)]
    own = frames("own 1.0", needs("a.so", *names, "libx.so"))
    hidden = frames("pub 1.0", "pub/libx.so")
    app = target("app"), [own]
    plan = planned(app, (target("base", kind=FRAMEWORK, exclude=("*",)), [hidden]))
    told = check(plan, [app[0]], [], allow_unresolved=True)
    shown = "; ".join(f"{name} is needed by a.so" for name in names)
    assert told == (
        "app on linux-x64 lacks shared libraries that neither its chain nor every host has: "
        f"{shown if count < 6 else ', '.join(names)}; and shared libraries that `dynlib_exclude`"
        " excludes: libx.so is needed by a.so"
    )
