"""What is added to a layer so that its files find shared libraries, for all systems."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from stackbuild.errors import ComposeError
from stackbuild.frames.model import Binary
from stackbuild.linking.plan import Linking, edited, plan_linking
from stackbuild.linking.search import Chain, LayerFiles

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stackbuild.platforms import OsName

SITE = "lib/python3.12/site-packages"
WINDOWS_SITE = "Lib/site-packages"
RUNTIME: dict[OsName, str] = {
    "linux": "lib/libpython3.12.so.1.0",
    "macos": "lib/libpython3.12.dylib",
    "windows": "python312.dll",
}


def layer(
    name: str,
    os: OsName,
    files: Mapping[str, Binary | None],
    *,
    excluded: tuple[str, ...] = (),
) -> LayerFiles:
    """A layer with `files`, each owned by the distribution that its directory is named for."""
    site = WINDOWS_SITE if os == "windows" else SITE
    paths = {one: one if one.startswith(("bin/", "Scripts/")) else f"{site}/{one}" for one in files}
    owners = {path: one.partition("/")[0].partition(".")[0] for one, path in paths.items()}
    return LayerFiles(
        name=name,
        directory=f"{name}@1",
        os=os,
        owners=owners,
        binaries={
            paths[one]: replace(found, path=paths[one]) for one, found in files.items() if found
        },
        excluded=excluded,
    )


def plan(
    os: OsName,
    own: Mapping[str, Binary | None],
    *lower: Mapping[str, Binary | None],
    excluded: tuple[str, ...] = (),
) -> Linking:
    """The plan for an application with the files `own` on frameworks with the files `lower`."""
    below = [
        layer(f"base{number}", os, files, excluded=excluded) for number, files in enumerate(lower)
    ]
    runtime = LayerFiles(name="py", directory="py", os=os, owners={RUNTIME[os]: "cpython 3.12"})
    return plan_linking(Chain([layer("app", os, own), *below, runtime]))


def needs(*needed: str, search: tuple[str, ...] = (), program: bool = False) -> Binary:
    return Binary(machines=(), needed=needed, search=search, program=program)


# --- Linux and macOS


def test_nothing_is_added_for_what_is_found_without_it() -> None:
    own = {
        "own/a.so": needs(
            "libc.so.6", "libcuda.so.1", "libbeside.so", "libin.so", search=("$ORIGIN",)
        ),
        "own/libbeside.so": None,
        # The distribution loads it by its path, as in any environment.
        "own/deep/libin.so": None,
    }
    assert plan("linux", own, {"other/libin.so": None}) == Linking()


def test_a_directory_of_one_site_packages_is_preferred() -> None:
    own = {"torch/lib/t.so": needs("libx.so.1", search=("$ORIGIN", "${ORIGIN}/../../nvidia/x/lib"))}
    lower = {"nvidia/x/lib/libx.so.1": None, "triton/lib/libx.so.1": None}
    assert plan("linux", own, lower) == Linking(
        links={f"{SITE}/nvidia/x/lib/libx.so.1": f"base0@1/{SITE}/nvidia/x/lib/libx.so.1"}
    )
    # Without it, the choice is the user's; an excluded library is none.
    own = {"torch/lib/t.so": needs("libx.so.1", search=("$ORIGIN",))}
    with pytest.raises(ComposeError, match=r"2 libraries are called libx\.so\.1"):
        plan("linux", own, lower)
    assert plan("linux", own, lower, excluded=("triton/**",)) == Linking(
        links={f"{SITE}/torch/lib/libx.so.1": f"base0@1/{SITE}/nvidia/x/lib/libx.so.1"}
    )


@pytest.mark.parametrize(
    ("pattern", "is_excluded"),
    [
        *(("libx.so.1", True), ("*.so.1", True), ("pub/**", True), ("**/libx.*", True)),
        *(("site-packages/pub/libx.so.1", True), ("*", True), ("p?b/*", True)),
        *(("ub/libx.so.1", False), ("libx.so", False), ("pub", False), ("pub/**/deep/*", False)),
    ],
)
def test_patterns_match_the_end_of_a_path(pattern: str, is_excluded: bool) -> None:
    found = plan(
        "linux", {"own/a.so": needs("libx.so.1")}, {"pub/libx.so.1": None}, excluded=(pattern,)
    )
    assert found.excluded == ({"libx.so.1": [f"{SITE}/own/a.so"]} if is_excluded else {})
    assert bool(found.links) is not is_excluded


def test_the_error_of_several_libraries_is_complete() -> None:
    lower = {"pub/libx.so.1": None, "other/libx.so.1": None}
    with pytest.raises(ComposeError) as caught:
        plan("linux", {"own/a.so": needs("libx.so.1")}, lower, {"third/libx.so.1": None})
    assert str(caught.value) == (
        "3 libraries are called libx.so.1, and this file needs one of them\n"
        f"  distribution: own\n  file: {SITE}/own/a.so\n"
        "  expected: one library of this name in the chain, or one that is not excluded\n"
        f"  found: {SITE}/pub/libx.so.1 in base0, {SITE}/other/libx.so.1 in base0,"
        f" {SITE}/third/libx.so.1 in base1\n"
        f'  to fix: to use {SITE}/pub/libx.so.1, set `dynlib_exclude = ["other/libx.so.1"]` in the'
        ' layer base0 and `dynlib_exclude = ["third/libx.so.1"]` in the layer base1'
    )


def test_the_error_of_several_layers_names_a_line_for_each() -> None:
    own = {"own/a.so": needs("libx.so.1")}
    lower = {"pub/libx.so.1": None}
    with pytest.raises(ComposeError) as caught:
        plan("linux", own, lower, {"a/lib[1]x/libx.so.1": None, "b/libx.so.1": None})
    with pytest.raises(ComposeError) as other:
        plan("linux", own, lower, lower)
    assert str(caught.value).endswith(
        f'to fix: to use {SITE}/pub/libx.so.1, set `dynlib_exclude = ["a/lib[[]1]x/libx.so.1",'
        ' "b/libx.so.1"]` in the layer base1'
    )
    assert str(other.value).endswith(
        f'to use {SITE}/pub/libx.so.1, set `dynlib_exclude = ["pub/libx.so.1"]` in the layer base1'
    )


def test_an_ending_that_another_file_has_too_is_not_proposed() -> None:
    lower = {"pub/libx.so.1": None, "second/site-packages/pub/libx.so.1": None}
    with pytest.raises(ComposeError) as caught:
        plan("linux", {"own/a.so": needs("libx.so.1")}, lower)
    line = str(caught.value).partition("[")[2].partition("]")[0].strip('"')
    assert line == f"{SITE}/second/site-packages/pub/libx.so.1"
    assert plan("linux", {"own/a.so": needs("libx.so.1")}, lower, excluded=(line,)).links == {
        f"{SITE}/pub/libx.so.1": f"base0@1/{SITE}/pub/libx.so.1"
    }


def test_files_that_search_nowhere_in_the_layer_are_edited() -> None:
    own = {
        "own/a.so": needs("libx.so.1", "liby.so", search=("/opt/lib", "$ORIGIN/../../../../..")),
        "bin/tool": needs("libx.so.1"),
    }
    assert plan("linux", own, {"pub/libx.so.1": None, "pub/liby.so": None}) == Linking(
        links={
            f"{SITE}/pub/libx.so.1": f"base0@1/{SITE}/pub/libx.so.1",
            f"{SITE}/pub/liby.so": f"base0@1/{SITE}/pub/liby.so",
        },
        edits={
            f"{SITE}/own/a.so": {
                "libx.so.1": f"{SITE}/pub/libx.so.1",
                "liby.so": f"{SITE}/pub/liby.so",
            },
            "bin/tool": {"libx.so.1": f"{SITE}/pub/libx.so.1"},
        },
    )


def test_a_library_of_another_distribution_of_the_layer_is_found() -> None:
    own = {"own/a.so": needs("libx.so.1"), "pub/libx.so.1": None}
    assert plan("linux", own) == Linking(
        edits={f"{SITE}/own/a.so": {"libx.so.1": f"{SITE}/pub/libx.so.1"}}
    )
    own = {"own/a.so": needs("libx.so.1", search=("$ORIGIN",)), "pub/libx.so.1": None}
    assert plan("linux", own) == Linking(
        links={f"{SITE}/own/libx.so.1": f"app@1/{SITE}/pub/libx.so.1"}
    )


def test_what_lower_layers_link_is_followed_and_is_no_second_library() -> None:
    lower = layer("base", "linux", {"mid/m.so": needs("libx.so.1")})
    lowest = layer("deep", "linux", {"pub/libx.so.1": None})
    runtime = LayerFiles(name="py", directory="py", os="linux", owners={})
    linking = plan_linking(Chain([lower, lowest, runtime]))
    chain = [linking.applied(lower), lowest, runtime]
    app = layer("app", "linux", {"own/a.so": needs("libx.so.1")})
    assert plan_linking(Chain([app, *chain])).links == {
        f"{SITE}/pub/libx.so.1": f"deep@1/{SITE}/pub/libx.so.1"
    }
    # A module that needs the module of the layer between: its library comes along.
    app = layer("app", "linux", {"own/b.so": needs("m.so", search=("$ORIGIN/../mid",))})
    assert plan_linking(Chain([app, *chain])).links == {
        f"{SITE}/mid/m.so": f"base@1/{SITE}/mid/m.so",
        f"{SITE}/pub/libx.so.1": f"deep@1/{SITE}/pub/libx.so.1",
    }


def test_what_edited_files_of_lower_layers_find_comes_along() -> None:
    base = layer("base", "linux", {"mid/m.so": needs("libx.so.1"), "pub/libx.so.1": None})
    runtime = LayerFiles(name="py", directory="py", os="linux", owners={})
    linking = plan_linking(Chain([base, runtime]))
    assert linking.links == {}
    app = layer("app", "linux", {"own/b.so": needs("m.so", search=("$ORIGIN/../mid",))})
    assert plan_linking(Chain([app, linking.applied(base), runtime])).links == {
        f"{SITE}/mid/m.so": f"base@1/{SITE}/mid/m.so",
        f"{SITE}/pub/libx.so.1": f"base@1/{SITE}/pub/libx.so.1",
    }


def test_a_library_that_a_link_finds_in_the_layer_is_used() -> None:
    own = {"own/a.so": needs("libx.so", search=("$ORIGIN/../pub",)), "pub/liby.so": None}
    lower = {"pub/libx.so": needs("liby.so", search=("$ORIGIN",)), "pub/liby.so": None}
    assert plan("linux", own, lower) == Linking(
        links={f"{SITE}/pub/libx.so": f"base0@1/{SITE}/pub/libx.so"}
    )


def test_a_link_beside_a_program_would_lead_out_of_the_layer() -> None:
    path, far = f"{SITE}/pub/lib/libx.so", "zlib/libz.so"
    library = replace(needs("libz.so", search=("$ORIGIN/../../../../../zlib",)), path=path)
    base = LayerFiles(
        name="base",
        directory="base@1",
        os="linux",
        owners={path: "pub", far: "pub"},
        binaries={path: library},
    )
    runtime = LayerFiles(name="py", directory="py", os="linux", owners={})
    app = layer("app", "linux", {"bin/tool": needs("libx.so", search=("$ORIGIN",))})
    assert plan_linking(Chain([app, base, runtime])) == Linking(
        links={path: f"base@1/{path}", far: f"base@1/{far}"},
        edits={"bin/tool": {"libx.so": path}},
    )


def test_a_link_does_not_replace_a_link() -> None:
    own = {
        "own/a.so": needs("libx.so", search=("$ORIGIN/../pub",)),
        "own/b.so": needs("m.so", search=("$ORIGIN/../mid",)),
    }
    lower = {"mid/m.so": needs("libx.so", search=("$ORIGIN/../pub",)), "pub/libx.so": None}
    assert plan("linux", own, {"pub/libx.so": None}, lower) == Linking(
        links={f"{SITE}/pub/libx.so": f"base0@1/{SITE}/pub/libx.so"},
        missing={"m.so": [f"{SITE}/own/b.so"]},
        unreachable={"m.so": f"base1@1/{SITE}/mid/m.so"},
    )


def test_a_link_does_not_replace_a_file() -> None:
    own = {
        "own/a.so": needs("libx.so.1", search=("$ORIGIN/b.so", "$ORIGIN/c")),
        "own/b.so": None,
    }
    assert plan("linux", own, {"pub/libx.so.1": None}).links == {
        f"{SITE}/own/c/libx.so.1": f"base0@1/{SITE}/pub/libx.so.1"
    }


def test_neither_does_a_link_replace_the_file_that_needs_it() -> None:
    """A file of an overlay that stands in for a library, and needs the original."""
    path = f"{SITE}/pub/libx.so"

    def shim(*search: str) -> Linking:
        top = LayerFiles(
            name="app",
            directory="app@1",
            os="linux",
            owners={path: ""},
            binaries={path: replace(needs("libx.so", search=search), path=path)},
        )
        runtime = LayerFiles(name="py", directory="py", os="linux", owners={})
        below = layer("base0", "linux", {"pub/libx.so": None})
        return plan_linking(Chain([top, below, runtime]))

    assert shim() == Linking(
        missing={"libx.so": [path]}, unreachable={"libx.so": f"base0@1/{path}"}
    )
    assert shim("$ORIGIN/original") == Linking(
        links={f"{SITE}/pub/original/libx.so": f"base0@1/{path}"}
    )


def test_no_link_is_below_a_file_at_the_top_of_the_layer() -> None:
    module = f"{SITE}/own/a.so"
    needed = needs("libx.so.1", search=("$ORIGIN/../../../../data", "$ORIGIN/../../../../more"))
    top = LayerFiles(
        name="app",
        directory="app@1",
        os="linux",
        owners={module: "own", "data": "own"},
        binaries={module: replace(needed, path=module)},
    )
    runtime = LayerFiles(name="py", directory="py", os="linux", owners={})
    below = layer("base0", "linux", {"pub/libx.so.1": None})
    assert plan_linking(Chain([top, below, runtime])) == Linking(
        links={"more/libx.so.1": f"base0@1/{SITE}/pub/libx.so.1"}
    )


def test_a_library_beside_those_of_the_interpreter_comes_with_those_that_it_needs() -> None:
    ssl = replace(needs("libcrypto.so.3", search=("$ORIGIN",)), path="lib/libssl.so.3")
    runtime = LayerFiles(
        name="py",
        directory="py",
        os="linux",
        owners={"lib/libssl.so.3": "cpython", "lib/libcrypto.so.3": "cpython"},
        binaries={"lib/libssl.so.3": ssl},
    )
    app = layer("app", "linux", {"own/a.so": needs("libssl.so.3")})
    assert plan_linking(Chain([app, runtime])).links == {
        "lib/libssl.so.3": "py/lib/libssl.so.3",
        "lib/libcrypto.so.3": "py/lib/libcrypto.so.3",
    }


def test_names_differ_by_case_except_on_windows() -> None:
    own = {"own/a.so": needs("libOne.so", "libtwo.so")}
    found = plan("linux", own, {"pub/libOne.so": None, "pub/libTwo.so": None})
    assert found.links == {f"{SITE}/pub/libOne.so": f"base0@1/{SITE}/pub/libOne.so"}
    assert found.missing == {"libtwo.so": [f"{SITE}/own/a.so"]}


@pytest.mark.parametrize(
    ("path", "library", "linux", "macos"),
    [
        ("a/b/c.so", "d/libx.so", "$ORIGIN/../../d", "@loader_path/../../d/libx.so"),
        ("a/c.so", "a/libx.so", "$ORIGIN", "@loader_path/libx.so"),
        ("a/c.so", "libx.so", "$ORIGIN/..", "@loader_path/../libx.so"),
        ("c.so", "a/libx.so", "$ORIGIN/a", "@loader_path/a/libx.so"),
        ("c.so", "libx.so", "$ORIGIN", "@loader_path/libx.so"),
    ],
)
def test_edited_files_find_libraries_relative_to_themselves(
    path: str, library: str, linux: str, macos: str
) -> None:
    binary = replace(needs("libc.so.6", "libx.so", search=("/opt",)), path=path)
    assert edited(binary, {"libx.so": library}, "linux") == replace(binary, search=(linux, "/opt"))
    assert edited(binary, {"libx.so": library}, "macos") == replace(
        binary, needed=("libc.so.6", macos)
    )


def test_edited_files_search_each_directory_once_and_first() -> None:
    binary = replace(needs("libx.so", "liby.so", "libz.so", search=("/opt",)), path="a/c.so")
    libraries = {"libx.so": "one/libx.so", "liby.so": "two/liby.so", "libz.so": "one/libz.so"}
    assert edited(binary, libraries, "linux").search == ("$ORIGIN/../one", "$ORIGIN/../two", "/opt")


def test_names_that_nothing_has_are_missing() -> None:
    own = {
        "own/a.so": needs("libodd.so.1", "/opt/libx.so.1"),
        "own/b.so": needs("libodd.so.1"),
    }
    found = plan("linux", own, {"pub/libx.so.1": None})
    assert found.missing == {
        "libodd.so.1": [f"{SITE}/own/a.so", f"{SITE}/own/b.so"],
        "/opt/libx.so.1": [f"{SITE}/own/a.so"],
    }


MAC_CASES = [
    # What it names, what it searches, the link, whether the file is edited.
    ("@rpath/libx.dylib", ("@loader_path/../pub",), "pub/libx.dylib", False),
    ("@rpath/libx.dylib", ("/opt/lib", "@loader_path"), "own/libx.dylib", False),
    ("@loader_path/../pub/libx.dylib", (), "pub/libx.dylib", False),
    ("@loader_path/.dylibs/libx.dylib", (), "own/.dylibs/libx.dylib", False),
    ("@rpath/libx.dylib", (), "pub/libx.dylib", True),
    ("libx.dylib", (), "pub/libx.dylib", True),
    ("/opt/homebrew/lib/libx.dylib", (), "pub/libx.dylib", True),
    ("@executable_path/../lib/libx.dylib", (), "pub/libx.dylib", True),
]


@pytest.mark.parametrize(("name", "search", "link", "is_edited"), MAC_CASES)
def test_macos(name: str, search: tuple[str, ...], link: str, is_edited: bool) -> None:
    own = {"own/a.so": needs("/usr/lib/libSystem.B.dylib", name, search=search)}
    assert plan("macos", own, {"pub/libx.dylib": None}) == Linking(
        links={f"{SITE}/{link}": f"base0@1/{SITE}/pub/libx.dylib"},
        edits={f"{SITE}/own/a.so": {name: f"{SITE}/pub/libx.dylib"}} if is_edited else {},
    )
    missing = plan("macos", own)
    assert missing.missing == {name: [f"{SITE}/own/a.so"]}


def test_a_wrong_path_to_a_library_of_its_own_is_missing_on_macos() -> None:
    own = {"own/a.so": needs("@loader_path/libx.dylib"), "own/lib/libx.dylib": None}
    name = "@loader_path/libx.dylib"
    assert plan("macos", own) == Linking(
        missing={name: [f"{SITE}/own/a.so"]},
        unreachable={name: f"app@1/{SITE}/own/lib/libx.dylib"},
    )


# --- Windows


def test_directories_of_dlls_are_added_on_windows() -> None:
    own = {
        "own/a.pyd": needs("kernel32.dll", "python312.dll", "beside.dll", "pub.dll"),
        "own/Beside.DLL": None,
        "own/b.pyd": needs("hidden.dll"),
        "own.libs/hidden.dll": None,
    }
    # The second DLL is where the package of the first one has put it.
    lower = {"pub/Pub.dll": needs("dep.dll"), "pub/libs/dep.dll": None, "other/odd.dll": None}
    assert plan("windows", own, lower) == Linking(
        dll_directories=(
            f"base0@1/{WINDOWS_SITE}/pub",
            f"base0@1/{WINDOWS_SITE}/pub/libs",
        )
    )


def test_dlls_of_a_distribution_may_need_each_other() -> None:
    lower = {
        "pub/one.dll": needs("two.dll", "near.dll"),
        "pub/two/two.dll": needs("one.dll"),
        # The nearest of one name is used.
        "pub/apart/near.dll": None,
        "pub/near.dll": None,
    }
    own = {"own/a.pyd": needs("one.dll"), "own/b.pyd": needs("two.dll", "one.dll")}
    site = f"base0@1/{WINDOWS_SITE}/pub"
    assert plan("windows", own, lower) == Linking(dll_directories=(site, f"{site}/two"))


def test_excluded_dlls_are_not_used() -> None:
    found = plan("windows", {"own/a.pyd": needs("x.dll")}, {"pub/X.dll": None}, excluded=("pub/*",))
    assert found == Linking(excluded={"x.dll": [f"{WINDOWS_SITE}/own/a.pyd"]})


def test_dlls_are_found_whatever_the_case_of_their_names() -> None:
    paths = {f"{WINDOWS_SITE}/own/a.pyd": "own", f"{WINDOWS_SITE}/own/X.DLL": "other"}
    module = replace(needs("x.dll", "python312.dll"), path=f"{WINDOWS_SITE}/own/a.pyd")
    top = LayerFiles(
        name="app", directory="app@1", os="windows", owners=paths, binaries={module.path: module}
    )
    runtime = LayerFiles(name="py", directory="py", os="windows", owners={"Python312.dll": ""})
    assert plan_linking(Chain([top, runtime])) == Linking()


def test_a_program_for_windows_gets_copies_of_dlls_beside_it() -> None:
    own = {"Scripts/tool.exe": needs("python312.dll", "pub.dll", "nowhere.dll", program=True)}
    lower = {
        "pub/Pub.dll": needs("dep.dll", "kernel32.dll"),
        "pub/dep.dll": needs("pub.dll", "far.dll"),
        "pub/libs/dep.dll": None,
        "pub/libs/Far.dll": None,
    }
    found = plan("windows", own, lower)
    site = f"base0@1/{WINDOWS_SITE}/pub"
    assert found == Linking(
        copies={
            "Scripts/Pub.dll": f"{site}/Pub.dll",
            "Scripts/dep.dll": f"{site}/dep.dll",
            "Scripts/Far.dll": f"{site}/libs/Far.dll",
        },
        missing={"nowhere.dll": ["Scripts/tool.exe"]},
    )
    # A copy is no second library for the layers above.
    base = layer("base", "windows", lower)
    runtime = LayerFiles(name="py", directory="py", os="windows", owners={"python312.dll": ""})
    app = found.applied(layer("app", "windows", own))
    top = layer("top", "windows", {"more/m.pyd": needs("far.dll")})
    assert plan_linking(Chain([top, app, base, runtime])).dll_directories == (
        f"base@1/{WINDOWS_SITE}/pub/libs",
    )


def test_copies_beside_a_program_differ_by_more_than_case() -> None:
    own = {
        "Scripts/tool.exe": needs("one.dll", "two.dll", "own.dll", program=True),
        "Scripts/OWN.dll": None,
    }
    lower = {
        "pub/one.dll": needs("dep.dll"),
        "pub/dep.dll": None,
        "other/two.dll": needs("dep.dll", "own.dll"),
        "other/Dep.dll": None,
        "other/own.dll": None,
    }
    site = f"base0@1/{WINDOWS_SITE}"
    assert plan("windows", own, lower).copies == {
        "Scripts/one.dll": f"{site}/pub/one.dll",
        "Scripts/dep.dll": f"{site}/pub/dep.dll",
        "Scripts/two.dll": f"{site}/other/two.dll",
    }


# --- torch 2.7.1 with nvidia-*-cu12, as its wheels for Linux on x86-64 are linked

CUDA: dict[str, Binary | None] = {
    "nvidia/cublas/lib/libcublas.so.12": needs("libcublasLt.so.12", search=("$ORIGIN",)),
    "nvidia/cublas/lib/libcublasLt.so.12": None,
    "nvidia/cuda_cupti/lib/libcupti.so.12": None,
    "nvidia/cuda_runtime/lib/libcudart.so.12": None,
    "nvidia/cudnn/lib/libcudnn.so.9": None,
    "nvidia/cufft/lib/libcufft.so.11": None,
    "nvidia/cufile/lib/libcufile.so.0": None,
    "nvidia/curand/lib/libcurand.so.10": None,
    "nvidia/cusparse/lib/libcusparse.so.12": needs(
        "libnvJitLink.so.12", search=("$ORIGIN/../../nvjitlink/lib", "$ORIGIN")
    ),
    "cusparselt/lib/libcusparseLt.so.0": None,
    "nvidia/nccl/lib/libnccl.so.2": None,
    "nvidia/nvjitlink/lib/libnvJitLink.so.12": None,
}
OF_TORCH = (
    *(f"$ORIGIN/../../nvidia/{one}/lib" for one in ("cublas", "cuda_cupti", "cuda_nvrtc")),
    *(f"$ORIGIN/../../nvidia/{one}/lib" for one in ("cuda_runtime", "cudnn", "cufft", "curand")),
    *(f"$ORIGIN/../../nvidia/{one}/lib" for one in ("cusolver", "cusparse")),
    "$ORIGIN/../../cusparselt/lib",
    *(f"$ORIGIN/../../nvidia/{one}/lib" for one in ("nccl", "nvtx", "cufile")),
    "$ORIGIN",
)
TORCH: dict[str, Binary | None] = {
    "torch/lib/libc10.so": None,
    "torch/lib/libc10_cuda.so": needs("libc10.so", "libcudart.so.12", search=OF_TORCH),
    "torch/lib/libtorch_cpu.so": needs(
        "libc10.so", "libcupti.so.12", "libcudart.so.12", search=OF_TORCH
    ),
    "torch/lib/libtorch_cuda.so": needs(
        *("libc10_cuda.so", "libcudart.so.12", "libcusparse.so.12", "libcufft.so.11"),
        *("libcufile.so.0", "libcusparseLt.so.0", "libcurand.so.10", "libcublas.so.12"),
        *("libcublasLt.so.12", "libcudnn.so.9", "libnccl.so.2", "libc10.so", "libtorch_cpu.so"),
        search=OF_TORCH,
    ),
    "torch/lib/libtorch.so": needs("libtorch_cpu.so", "libtorch_cuda.so", search=OF_TORCH),
    # It has libraries of these names too.
    "triton/backends/nvidia/lib/cupti/libcupti.so.12": None,
}
TORCHVISION: dict[str, Binary | None] = {
    # A link to libtorch.so beside this file would need others above site-packages.
    "torchvision/image.so": needs("libc10.so", "libtorch.so", search=("$ORIGIN",)),
    "torchvision/_C.so": needs(
        *("libc10.so", "libtorch.so", "libtorch_cpu.so", "libcudart.so.12", "libc10_cuda.so"),
        "libtorch_cuda.so",
        search=("/__w/_temp/conda_environment_15326457945/lib",),
    ),
}


def test_torch_on_a_framework_with_its_cuda_libraries() -> None:
    torch = layer("torch", "linux", TORCH)
    below = [
        layer("cuda", "linux", CUDA),
        LayerFiles(name="py", directory="py", os="linux", owners={}),
    ]
    linking = plan_linking(Chain([torch, *below]))
    everything = {f"{SITE}/{path}": f"cuda@1/{SITE}/{path}" for path in CUDA}
    assert linking == Linking(links=everything)
    vision = layer("vision", "linux", TORCHVISION)
    found = plan_linking(Chain([vision, linking.applied(torch), *below]))
    of_torch = {
        f"{SITE}/{path}": f"torch@1/{SITE}/{path}" for path in TORCH if path.startswith("torch/")
    }
    beside = {f"{SITE}/torchvision/libc10.so": of_torch[f"{SITE}/torch/lib/libc10.so"]}
    assert found.links == {**everything, **of_torch, **beside}
    assert list(found.edits) == [f"{SITE}/torchvision/image.so", f"{SITE}/torchvision/_C.so"]
    assert found.missing == found.excluded == {}
