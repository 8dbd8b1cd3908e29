"""What a spec says, and that nothing but a SpecError comes out of a bad one."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from packaging.utils import canonicalize_name
from packaging.version import Version

from stackbuild.errors import SpecError
from stackbuild.platforms import DEFAULT_PLATFORMS, Platform
from stackbuild.spec.model import (
    CopyFiles,
    Download,
    FrameSettings,
    LayerKind,
    PackageIndex,
    RuntimeSettings,
)
from stackbuild.spec.reader import load_stack, read_stack
from stackbuild.spec.sources import local_path
from tests.support.specs import ALL, APPLICATION, FRAMEWORK, RUNTIME, read_spec, write_spec

NOWHERE = Path("/nonexistent/project/venvstacks.toml")


def test_smallest(tmp_path: Path) -> None:
    stack = read_spec(tmp_path, RUNTIME)
    assert stack.path == tmp_path / "venvstacks.toml"
    assert list(stack.layers) == ["py"]
    layer = stack.layers["py"]
    assert (layer.kind, layer.runtime, layer.frameworks) == (LayerKind.RUNTIME, "py", ())
    assert layer.platforms == tuple(Platform)
    assert stack.platforms == DEFAULT_PLATFORMS
    assert layer.runtime_settings == RuntimeSettings()
    assert stack.python_versions == {"py": Version("3.12.10")}
    assert stack.frames == FrameSettings()
    assert stack.chain(layer) == (layer,)


def test_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_spec(tmp_path, RUNTIME)
    monkeypatch.chdir(tmp_path)
    assert load_stack(Path("venvstacks.toml")).path == tmp_path / "venvstacks.toml"


def test_a_path_of_a_source_is_no_address(tmp_path: Path) -> None:
    name = "a%25 b#c"
    (tmp_path / name).mkdir()
    (tmp_path / name / "setup.py").touch()
    stack = read_spec(tmp_path, RUNTIME, f"[tool.uv.sources]\nx = {{ path = '{name}' }}")
    assert local_path(stack.sources[canonicalize_name("x")]) == name


def test_everything(tmp_path: Path) -> None:
    (tmp_path / "launch").mkdir()
    (tmp_path / "launch" / "__main__.py").touch()
    (tmp_path / "b.py").touch()
    (tmp_path / "a.py").touch()
    (tmp_path / "overlays" / "app" / "mac" / "bin").mkdir(parents=True)
    (tmp_path / "overlays" / "app" / "notes").touch()
    stack = read_spec(
        tmp_path,
        RUNTIME,
        """
        linux_target = "glibc@2.28"
        macosx_target = "12.0"
        package_indexes = { Torch = "cpu" }
        """,
        FRAMEWORK,
        """
        versioned = true
        dynlib_exclude = ["triton/**"]
        platforms = ["macosx_arm64", "linux-x64", "win_amd64"]
        priority_indexes = ["cpu"]
        """,
        APPLICATION,
        """
        platforms = ["linux_x86_64", "macosx-aarch64"]
        linux_target = "glibc"
        launch_module = "launch"
        support_modules = ["b.py", "a.py"]
        index_overrides = { cpu = "main" }
        package_indexes = { torch = "main" }

        [[tool.uv.index]]
        name = "cpu"
        url = "https://user:secret@host.example:8080/simple"
        explicit = true

        [[tool.uv.index]]
        name = "main"
        url = "overlays"
        format = "flat"
        default = true

        [tool.uv]
        exclude-newer = "2025-10-19T00:00:00+02:00"
        exclude-newer-package = { My_Thing = "2025-10-19T00:00:00Z" }
        prerelease = "allow"
        no-build = true
        sources = { "Some.Thing" = { index = "cpu" } }

        [tool.stackbuild]
        platforms = ["macosx_arm64", "linux-x64"]
        frames = { level = 19, bytecode = false }

        [tool.stackbuild.layers.py]
        sources = ["local", "pbs"]
        mirror = "https://mirror.example/pbs"
        path = "interpreters/python3.12"
        keep = ["pip"]
        downloads.win_amd64.url = "file:///x.tar.gz"
        downloads.win_amd64.sha256 = "%s"
        downloads.win_amd64.host-libraries = ["a.dll"]

        [tool.stackbuild.layers.app]
        copy-files = [
            { from = "notes", to = "{site-packages}/notes", overwrite = true },
            { from = "*", to = "built/", include-ignored = true },
        ]
        platform-specific.macosx_arm64.copy-files = [{ from = "mac/", to = "bin/" }]
        """
        % ("AB" * 32),
    )
    py, base, app = stack.layers.values()
    some_thing, torch = canonicalize_name("some-thing"), canonicalize_name("torch")
    assert (py.linux_target, py.macosx_target) == ("glibc@2.28", "12.0")
    assert py.package_indexes == {some_thing: "cpu", torch: "cpu"}
    assert py.runtime_settings == RuntimeSettings(
        sources=("local", "pbs"),
        mirror="https://mirror.example/pbs",
        path=tmp_path / "interpreters/python3.12",
        downloads={Platform.WINDOWS_X64: Download(url="file:///x.tar.gz", sha256="ab" * 32)},
        keep=(canonicalize_name("pip"),),
    )
    assert py.runtime_settings.downloads[Platform.WINDOWS_X64].host_libraries == ("a.dll",)
    assert base.versioned
    assert base.platforms == (
        Platform.LINUX_X64,
        Platform.MACOSX_AARCH64,
        Platform.WINDOWS_X64,
    )
    assert base.priority_indexes == ("cpu",)
    assert base.package_indexes == {some_thing: "cpu", torch: "cpu"}
    assert app.platforms == stack.platforms == (Platform.LINUX_X64, Platform.MACOSX_AARCH64)
    assert app.linux_target is None
    assert app.launch_module == tmp_path / "launch"
    assert app.support_modules == (tmp_path / "a.py", tmp_path / "b.py")
    assert app.package_indexes == {some_thing: "cpu", torch: "main"}
    assert app.copy_files == (
        CopyFiles(source="notes", target="{site-packages}/notes", overwrite=True),
        CopyFiles(source="*", target="built/", include_ignored=True),
    )
    assert app.platform_copy_files == {
        Platform.MACOSX_AARCH64: (CopyFiles(source="mac/", target="bin/"),)
    }
    assert stack.chain(app) == (app, base, py)
    assert stack.frames == FrameSettings(level=19, bytecode=False)
    assert stack.indexes == (
        PackageIndex(name="cpu", url="https://user:secret@host.example:8080/simple", explicit=True),
        PackageIndex(name="main", url="overlays", default=True, format="flat"),
    )
    assert stack.uv_settings == {
        "exclude-newer": "2025-10-19T00:00:00+02:00",
        "exclude-newer-package": {"my-thing": "2025-10-19T00:00:00Z"},
        "prerelease": "allow",
    }


def test_settings_of_uv_beside_the_spec(tmp_path: Path) -> None:
    (tmp_path / "venvstacks.uv.toml").write_text(
        'resolution = "lowest"\n[[index]]\nurl = "https://host.example/simple"\n'
    )
    stack = read_spec(tmp_path, ALL)
    assert stack.uv_settings == {"resolution": "lowest"}
    assert stack.indexes == (PackageIndex(name=None, url="https://host.example/simple"),)


def test_former_name_of_a_field(tmp_path: Path) -> None:
    stack = read_spec(tmp_path, RUNTIME.replace("python_implementation", "fully_versioned_name"))
    assert stack.python_versions == {"py": Version("3.12.10")}


def test_order_of_the_file_does_not_matter_between_kinds(tmp_path: Path) -> None:
    stack = read_spec(tmp_path, APPLICATION, FRAMEWORK, RUNTIME)
    assert list(stack.layers) == ["py", "base", "app"]


def test_windows_line_ends(tmp_path: Path) -> None:
    (tmp_path / "venvstacks.toml").write_bytes(ALL.replace("\n", "\r\n").encode())
    assert list(load_stack(tmp_path / "venvstacks.toml").layers) == ["py", "base", "app"]


def test_a_layer_that_is_switched_off(tmp_path: Path) -> None:
    stack = read_spec(tmp_path, RUNTIME, FRAMEWORK, "platforms = []\n", APPLICATION)
    assert [layer.platforms for layer in stack.layers.values()] == [tuple(Platform), (), ()]
    assert [layer.name for layer, _ in stack.pairs()] == ["py"] * 6


def test_windows_on_arm_is_opt_in(tmp_path: Path) -> None:
    stack = read_spec(tmp_path, RUNTIME, 'platforms = ["win_arm64"]\n', FRAMEWORK)
    assert stack.layers["base"].platforms == stack.platforms == (Platform.WINDOWS_AARCH64,)


def test_settings_of_uv_are_honoured(tmp_path: Path) -> None:
    stack = read_spec(
        tmp_path,
        ALL,
        """
        [tool.uv]
        override-dependencies = ["idna==3.6", "torch; sys_platform == 'never'"]
        constraint-dependencies = ["numpy<2"]
        exclude-dependencies = ["Some.Thing"]
        no-build-package = ["lxml"]
        no-binary-package = ["Freesasa"]
        dependency-metadata = [
            { name = "A", version = "1", requires-dist = ["b"] },
            { name = "a", version = "2.0", requires-python = ">=3.9", provides-extra = ["X_y"] },
        ]

        [[tool.uv.index]]
        url = "https://host.example/simple"
        authenticate = "never"
        publish-url = "https://host.example/upload"
        """,
    )
    assert stack.uv_settings == {
        "override-dependencies": ['torch; sys_platform == "never"'],
        "constraint-dependencies": ["numpy<2"],
        "exclude-dependencies": ["some-thing"],
        "dependency-metadata": [
            {"name": "a", "version": "1", "requires-dist": ["b"]},
            {
                "name": "a",
                "version": "2.0",
                "requires-python": ">=3.9",
                "provides-extra": ["x-y"],
            },
        ],
    }
    policy = stack.layers["app"].policy(Platform.LINUX_X64)
    assert policy.overrides == {"idna": "==3.6"}
    assert policy.resolution.only_binary_list == ("lxml",)
    assert policy.from_source == ("freesasa",)
    assert stack.indexes[0].authenticate == "never"
    assert stack.without_effect == ("tool.uv.index[0].publish-url",)


def test_settings_without_effect_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "venvstacks.uv.toml").write_text(
        "environments = []\ncache-keys = []\nlink-mode = 'copy'\nnative-tls = true\n"
        "concurrent-downloads = 3\nno-build = false\n"
    )
    stack = read_spec(tmp_path, RUNTIME, "build_requirements = []\n")
    assert stack.without_effect == tuple(
        f"venvstacks.uv.toml: {key}"
        for key in (
            *("no-build = false", "environments", "cache-keys", "link-mode"),
            *("concurrent-downloads", "native-tls"),
        )
    )
    assert stack.warnings == (
        "runtimes[0].build_requirements has no effect since venvstacks 0.1; remove it",
    )


@pytest.mark.parametrize(
    "text",
    [
        *("2025-10-19", "2025-10-19 00:00:00+00:00", "P7D", "PT24H"),
        *("1 week", "7 days", "24h", "2 weeks 3 days"),
    ],
)
def test_every_form_of_exclude_newer(tmp_path: Path, text: str) -> None:
    stack = read_spec(tmp_path, RUNTIME, f'[tool.uv]\nexclude-newer = "{text}"\n')
    assert stack.uv_settings == {"exclude-newer": text}


def test_all_platforms_belong_to_layers_and_five_to_commands(tmp_path: Path) -> None:
    stack = read_spec(tmp_path, RUNTIME, FRAMEWORK, 'platforms = ["win_arm64", "win_amd64"]\n')
    assert stack.layers["py"].platforms == stack.platforms == tuple(Platform)
    stack = read_spec(tmp_path, RUNTIME, FRAMEWORK)
    assert stack.layers["base"].platforms == tuple(Platform)
    assert stack.platforms == DEFAULT_PLATFORMS


def test_a_platform_of_a_framework_that_no_application_has(tmp_path: Path) -> None:
    def frameworks(*platforms: str) -> str:
        return "".join(
            f'[[frameworks]]\nname = "{name}"\nruntime = "py"\nrequirements = []\n{more}\n'
            for name, more in zip(("gui", "other"), platforms, strict=True)
        )

    app = '[[applications]]\nname = "app"\nlaunch_module = "main.py"\nrequirements = []\n'
    app += 'frameworks = ["gui", "other"]\n'
    (tmp_path / "main.py").touch()
    named, five = (
        f"platforms = {[str(one) for one in each]}" for each in (Platform, DEFAULT_PLATFORMS)
    )
    stack = read_spec(tmp_path, RUNTIME, frameworks(named, five), app)
    assert stack.layers["gui"].platforms == tuple(Platform)
    assert stack.platforms == DEFAULT_PLATFORMS
    stack = read_spec(tmp_path, RUNTIME, frameworks(named, ""), app)
    assert stack.platforms == tuple(Platform)
    # Nothing needs the framework of an application that is switched off.
    stack = read_spec(tmp_path, RUNTIME, frameworks(named, five), app, "platforms = []\n")
    assert stack.platforms == tuple(Platform)


def diamond(*below: str) -> str:
    return "".join(
        f'[[frameworks]]\nname = "{name}"\nrequirements = []\n'
        + ('runtime = "py"\n' if not lower else f"frameworks = {list(lower)}\n")
        for name, lower in (("a", ""), ("b", "a"), ("c", "a"), ("d", below))
    )


def test_frameworks_are_linearised_as_written(tmp_path: Path) -> None:
    stack = read_spec(tmp_path, RUNTIME, diamond("b", "c"))
    assert stack.layers["d"].frameworks == ("b", "c", "a")
    stack = read_spec(tmp_path, RUNTIME, diamond("c", "b"))
    assert stack.layers["d"].frameworks == ("c", "b", "a")
    assert [layer.name for layer in stack.chain(stack.layers["d"])] == ["d", "c", "b", "a", "py"]


def test_index_overrides_settle_differences(tmp_path: Path) -> None:
    indexes = "".join(
        f'[[tool.uv.index]]\nname = "{name}"\nurl = "https://{name}.example"\n'
        for name in ("one", "two")
    )
    two = [
        FRAMEWORK.replace("base", name) + f'package_indexes = {{ torch = "{index}" }}\n'
        for name, index in (("a", "one"), ("b", "two"))
    ]
    both = '[[frameworks]]\nname = "x"\nframeworks = ["a", "b"]\nrequirements = []\n'
    stack = read_spec(tmp_path, RUNTIME, *two, both, 'index_overrides = { two = "one" }\n', indexes)
    assert stack.layers["x"].package_indexes == {canonicalize_name("torch"): "one"}
    # The other way round is another difference, which it does not settle.
    with pytest.raises(SpecError):
        read_spec(tmp_path, RUNTIME, *two, both, 'index_overrides = { one = "two" }\n', indexes)


def test_index_overrides_may_name_an_index_that_nobody_below_uses(tmp_path: Path) -> None:
    stack = read_spec(
        tmp_path,
        RUNTIME,
        'package_indexes = { torch = "one" }\nindex_overrides = { one = "one" }\n',
        FRAMEWORK,
        'package_indexes = { numpy = "one" }\nindex_overrides = { one = "two" }\n',
        "[tool.uv]\n",
        'index = [{ name = "one", url = "http://h" }, { name = "two", url = "http://h" }]\n',
    )
    assert stack.layers["base"].package_indexes == {
        canonicalize_name("torch"): "one",
        canonicalize_name("numpy"): "one",
    }


def test_the_repository_s_own_spec() -> None:
    path = Path(__file__).parents[2] / "venvstacks.toml"
    stack = load_stack(path)
    assert [layer.name for layer in stack.chain(stack.layers["atls"])] == [
        "atls",
        "framework",
        "cpython-3.12",
    ]
    assert stack.python_version(stack.layers["pgen"]) == Version("3.12.10")
    assert stack.layers["atls"].platforms == (Platform.LINUX_X64, Platform.MACOSX_AARCH64)


def test_loading_imports_nothing_slow() -> None:
    code = (
        "import sys; from pathlib import Path; from stackbuild.spec.reader import load_stack;"
        "load_stack(Path('venvstacks.toml'));"
        "print([m for m in ('rich', 'urllib3', 'tomlkit', 'stackbuild.zstd') if m in sys.modules])"
    )
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


# Properties

KEYS = [
    *("name", "requirements", "platforms", "runtime", "frameworks", "python_implementation"),
    *("versioned", "linux_target", "macosx_target", "dynlib_exclude", "package_indexes"),
    *("priority_indexes", "index_overrides", "launch_module", "support_modules"),
    *("fully_versioned_name", "build_requirements", "copy-files", "from", "to", "overwrite"),
    *("platform-specific", "linux-x64", "sources", "downloads", "url", "sha256", "path", "keep"),
    *("mirror", "level", "bytecode", "frames", "layers", "index", "exclude-newer", "explicit"),
    *("default", "format", "resolution", "exclude-newer-package", "skip", "shared", "a", ""),
]
WORDS = [
    *("py", "base", "app", "a", "cpython@3.12.10", "linux-x64", "win_amd64", "numpy>=2", "host"),
    *("glibc@2.28", "12.0", "x.py", "../x", "/", ".", "", "{site-packages}/x", "pbs", "flat"),
    *("https://h/x", "file:///x", "://@", "\0", "\ud800", "é", "a" * 5000, "~", "current", "-"),
]
scalars = st.one_of(
    st.sampled_from(WORDS),
    st.text(max_size=8),
    st.booleans(),
    st.integers(),
    st.just(2**99),
    st.floats(),
    st.datetimes(),
    st.dates(),
    st.times(),
)
keys = st.one_of(st.sampled_from(KEYS), st.text(max_size=5))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=5)),
    max_leaves=12,
)
layer_tables = st.fixed_dictionaries(
    {},
    optional={
        "name": st.one_of(st.sampled_from(["py", "base", "app", "a"]), values),
        "requirements": st.one_of(st.just([]), values),
        "python_implementation": st.one_of(st.just("cpython@3.12.10"), values),
        "runtime": st.one_of(st.just("py"), values),
        "frameworks": st.one_of(st.lists(st.sampled_from(["base", "a", "py"])), values),
        "platforms": values,
        "package_indexes": values,
        "index_overrides": values,
        "priority_indexes": values,
        "launch_module": values,
        "support_modules": values,
        "linux_target": values,
        "macosx_target": values,
    },
)
layer_arrays = st.one_of(st.lists(layer_tables, max_size=3), values)
spec_dicts = st.fixed_dictionaries(
    {},
    optional={
        "runtimes": layer_arrays,
        "frameworks": layer_arrays,
        "applications": layer_arrays,
        "tool": st.one_of(
            values,
            st.fixed_dictionaries(
                {},
                optional={
                    "uv": st.dictionaries(keys, values, max_size=4),
                    "stackbuild": st.fixed_dictionaries(
                        {},
                        optional={
                            "platforms": values,
                            "frames": values,
                            "layers": st.dictionaries(
                                st.sampled_from(["py", "base", "app", "zz"]),
                                st.dictionaries(keys, values, max_size=4),
                                max_size=3,
                            ),
                        },
                    ),
                },
            ),
        ),
        "other": values,
    },
)


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(spec_dicts, st.none() | st.dictionaries(keys, values, max_size=3))
@example({"runtimes": [{"name": "\ud800"}]}, {"\ud800": 1})
@example({"frameworks": [{"name": "\x85", "frameworks": ["a\nb"]}]}, None)
def test_nothing_but_spec_errors(data: dict[str, Any], beside: dict[str, Any] | None) -> None:
    error = None
    try:
        stack = read_stack(data, NOWHERE, beside)
    except SpecError as caught:
        error = caught
    if error is None:
        runtimes = {name for name, layer in stack.layers.items() if layer.runtime == name}
        assert set(stack.python_versions) == runtimes
    else:
        lines = str(error).splitlines()[1:]
        assert len(lines) == len(error.problems) > 0
        assert all(line.startswith("  ") for line in lines)


@settings(max_examples=200)
@given(
    st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace"))
)
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(content)
    with pytest.raises(SpecError):
        load_stack(path)


names = st.from_regex(r"[a-z][a-z0-9]{0,3}(-[a-z0-9]{1,2})?", fullmatch=True).filter(
    lambda name: (
        name not in ("current", "nul", "con", "aux", "prn")
        and not name.startswith(("app-", "com", "lpt"))
    )
)
platform_lists = st.lists(st.sampled_from(list(Platform)), unique=True, min_size=1)
requirement_lists = st.lists(
    st.sampled_from(["numpy", "pandas==2.2.3", "a[b,c]>=1,<2 ; python_version < '3.13'"])
)


@st.composite
def valid_specs(draw: st.DrawFn) -> dict[str, Any]:
    """A spec of several layers without a fault: a runtime, frameworks on all before them."""
    runtime, *others = draw(st.lists(names, min_size=1, max_size=6, unique=True))
    base: list[Platform] = draw(platform_lists)
    spec: dict[str, Any] = {
        "runtimes": [
            {
                "name": runtime,
                "python_implementation": f"cpython@3.{draw(st.integers(9, 15))}.1",
                "platforms": [draw(st.sampled_from([p, p.venvstacks_name])) for p in base],
                "requirements": draw(requirement_lists),
            }
        ]
    }
    count = draw(st.integers(0, len(others)))
    for position, name in enumerate(others):
        frameworks = others[: min(position, count)][::-1]
        layer: dict[str, Any] = {"name": name, "requirements": draw(requirement_lists)}
        layer |= {"frameworks": frameworks} if frameworks else {"runtime": runtime}
        if draw(st.booleans()):
            layer["versioned"] = draw(st.booleans())
        if draw(st.booleans()):
            layer["macosx_target"] = draw(st.sampled_from(["12", "13.1"]))
        spec.setdefault("frameworks" if position < count else "applications", []).append(layer)
    return spec


@given(valid_specs())
def test_valid_specs_are_read_as_they_say(data: dict[str, Any]) -> None:
    # Through TOML, so that the dictionary is one that a file can give.
    stack = read_stack(tomllib.loads(tomlkit.dumps(data)), NOWHERE)
    said = [
        (kind, layer)
        for kind in ("runtimes", "frameworks", "applications")
        for layer in data.get(kind, [])
    ]
    assert [f"{layer.kind}s" for layer in stack.layers.values()] == [kind for kind, _ in said]
    below: list[str] = []
    for layer, (kind, table) in zip(stack.layers.values(), said, strict=True):
        assert layer.name == table["name"]
        assert [str(item) for item in layer.requirements] == [
            text.replace(" ; ", "; ").replace("'", '"').replace(">=1,<2", "<2,>=1")
            for text in table["requirements"]
        ]
        assert layer.versioned is table.get("versioned", False)
        assert layer.macosx_target == table.get("macosx_target")
        assert layer.platforms == stack.platforms
        assert layer.runtime == data["runtimes"][0]["name"]
        assert list(layer.frameworks) == table.get("frameworks", [])
        if kind == "frameworks":
            below.append(layer.name)
    assert {platform.venvstacks_name for platform in stack.platforms} == {
        Platform(name).venvstacks_name if name in list(Platform) else name
        for name in data["runtimes"][0]["platforms"]
    }
