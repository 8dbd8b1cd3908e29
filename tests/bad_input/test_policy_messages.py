"""What is said of each policy field that is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.specs import ALL, problems_of, read_spec

if TYPE_CHECKING:
    from pathlib import Path

OWN = "tool.stackbuild.layers.app"
SHARED = "tool.stackbuild.shared"
PLATFORMS = (
    "expected one of linux-x64, linux-aarch64, macosx-x64, macosx-aarch64, windows-x64, "
    "windows-aarch64"
)
REQUIREMENT = "expected a name and versions, such as 'numpy>=2'"
INDEX = "expected the name or the address of a [[tool.uv.index]] that has a name"
MORE = '[[tool.uv.index]]\nname = "nvidia"\nurl = "https://wheels.example/simple"\n'

CASES: dict[str, tuple[str, list[str]]] = {
    "skip": (
        "skip = {'a b' = {}, torch = 'no', Numpy = {linux-x46 = 'x', linux-x64 = '', "
        "linux_x86_64 = 'y', macosx-x64 = 3}, numpy = {}}",
        [
            "skip.\"a b\": not the name of a distribution (found 'a b')",
            "skip.torch: wrong type (expected a table, found 'no')",
            f"skip.Numpy.linux-x46: unknown platform ({PLATFORMS}, found 'linux-x46'); "
            "did you mean 'linux-x64'?",
            "skip.Numpy.linux-x64: empty (expected some text)",
            "skip.Numpy.linux_x86_64: linux-x64 is named already (found 'linux_x86_64')",
            "skip.Numpy.macosx-x64: wrong type (expected a string, found 3)",
            "skip.numpy: numpy is named already (found 'numpy')",
        ],
    ),
    "skip is a list": (
        "skip = ['torch']",
        ["skip: wrong type (expected a table, found an array)"],
    ),
    "force-source": (
        "force-source.parasail = {linux-x64 = true, host = 'x'}",
        [
            "force-source.parasail.linux-x64: wrong type (expected a string, found true)",
            f"force-source.parasail.host: unknown platform ({PLATFORMS}, found 'host')",
        ],
    ),
    "build-wheel": (
        "build-wheel.freesasa.linux-x64 = {build-requires = ['-r x', 1], "
        "config-settings = {x = 1, y = ['z', 2], z = '{packageroot}/a', w = '{other}'}, "
        "reasons = 'x'}\nbuild-wheel.freesasa.macosx-x64 = 'because'",
        [
            "build-wheel.freesasa.linux-x64.reason: missing (expected a string)",
            "build-wheel.freesasa.linux-x64.build-requires[1]: wrong type "
            "(expected a string, found 1)",
            "build-wheel.freesasa.linux-x64.build-requires[0]: not a requirement: Expected "
            f"package name at the start of dependency specifier ({REQUIREMENT}, found '-r x')",
            "build-wheel.freesasa.linux-x64.config-settings.x: wrong type "
            "(expected a string, found 1)",
            "build-wheel.freesasa.linux-x64.config-settings.y[1]: wrong type "
            "(expected a string, found 2)",
            "build-wheel.freesasa.linux-x64.config-settings.z: unknown placeholder "
            "(found '{packageroot}/a'); did you mean '{packageRoot}'?",
            "build-wheel.freesasa.linux-x64.reasons: unknown key; did you mean 'reason'?",
            "build-wheel.freesasa.macosx-x64: wrong type (expected a table, found 'because')",
            "build-wheel.freesasa.macosx-x64.reason: missing (expected a string)",
        ],
    ),
    "no-deps": (
        "no-deps = ['a', 'A', 'b==1', 2]",
        [
            "no-deps[3]: wrong type (expected a string, found 2)",
            "no-deps[1]: named twice (found 'A')",
            "no-deps[2]: not the name of a distribution (found 'b==1')",
        ],
    ),
    "no-deps is a table": (
        "no-deps = {}",
        ["no-deps: wrong type (expected an array of strings, found a table)"],
    ),
    "overrides": (
        "overrides = {torch = 'newest', a = 1, b = '==1', B = '2', 'c>1' = '1', d = ','}",
        [
            "overrides.torch: neither a version nor a version specifier "
            "(expected one such as '2.7.0' or '>=2.7,<3', found 'newest')",
            "overrides.a: wrong type (expected a string, found 1)",
            "overrides.B: b is named already (found 'B')",
            "overrides.\"c>1\": not the name of a distribution (found 'c>1')",
            "overrides.d: neither a version nor a version specifier "
            "(expected one such as '2.7.0' or '>=2.7,<3', found ',')",
        ],
    ),
    "resolution": (
        "resolution = {allow-source-all = 'yes', strict-missing = 0, allow-source-list = 'a', "
        "force-no-binary-list = ['a', 'a'], only-binary-list = [''], allow-sources = []}",
        [
            "resolution.allow-source-all: wrong type (expected true or false, found 'yes')",
            "resolution.strict-missing: wrong type (expected true or false, found 0)",
            "resolution.allow-source-list: wrong type (expected an array of strings, found 'a')",
            "resolution.force-no-binary-list[1]: named twice (found 'a')",
            "resolution.only-binary-list[0]: empty (expected some text)",
            "resolution.allow-sources: unknown key; did you mean 'allow-source-list'?",
        ],
    ),
    "registries": (
        "registries = {additional = ['nvidja', 'https://user:word@other.example/', 'nvidia', "
        "'https://wheels.example/simple'], more = []}",
        [
            f"registries.additional[0]: not a package index of this file ({INDEX}, "
            "found 'nvidja'); did you mean 'nvidia'?",
            f"registries.additional[1]: not a package index of this file ({INDEX}, "
            "found 'https://***@other.example/'); write it as [[tool.uv.index]] with name, url "
            "and explicit = true, and assign distributions to it in `package_indexes` of the layer",
            "registries.additional[3]: named twice (found 'https://wheels.example/simple')",
            "registries.more: unknown key (expected one of additional)",
        ],
    ),
    "build": (
        "build = {logging = 1, parallel-downloads = 'no', timeout = 0, timeouts = 1}",
        [
            "build.logging: wrong type (expected true or false, found 1)",
            "build.parallel-downloads: wrong type (expected true or false, found 'no')",
            "build.timeout: out of range (expected a whole number from 1 to 604800, found 0)",
            "build.timeouts: unknown key; did you mean 'timeout'?",
        ],
    ),
    "allow-import-errors": (
        "allow-import-errors = {'cuml_cu12-*' = {'cuml.x' = 1}, other = 'text'}",
        [
            'allow-import-errors."cuml_cu12-*"."cuml.x": wrong type (expected a string, found 1)',
            "allow-import-errors.other: wrong type (expected a table, found 'text')",
        ],
    ),
    "platform-specific": (
        "platform-specific.linux-x64 = {dependencies = ['a', 1, 'x @ https://h/x.whl', "
        "'x @ git+https://u:p@h/x'], resolution = {strict = true}, allow-import-errors = 1, "
        "depends = []}",
        [
            "platform-specific.linux-x64.dependencies[1]: wrong type (expected a string, found 1)",
            "platform-specific.linux-x64.dependencies[2]: not the file name of a wheel or source "
            "distribution (found 'x.whl')",
            "platform-specific.linux-x64.dependencies[3]: a user or password in an address; "
            "it would be written into the locks (expected git's own credential helper, or netrc)",
            "platform-specific.linux-x64.resolution.strict: unknown key; "
            "did you mean 'strict-missing'?",
            "platform-specific.linux-x64.allow-import-errors: wrong type "
            "(expected a table, found 1)",
            "platform-specific.linux-x64.depends: unknown key; did you mean 'dependencies'?",
        ],
    ),
    "environment": (
        "environment = {PYTHONPATH = 'a', __X = 'a', OPTIND = '1', 'A B' = 'x', N = 1, E = {}, "
        "P = {prepend = ['{lr}'], after = []}, B = '{', C = '{other}', "
        "S = 'https://me:secret@host/', U = 'a\u200bb'}",
        [
            "environment.PYTHONPATH: reserved: the interpreter finds the layer by such variables "
            "(found 'PYTHONPATH')",
            "environment.__X: reserved: the interpreter finds the layer by such variables "
            "(found '__X')",
            "environment.OPTIND: reserved: shells set this variable themselves (found 'OPTIND')",
            "environment.\"A B\": not the name of an environment variable (found 'A B')",
            "environment.N: wrong type (expected a string, or a table with prepend or append, "
            "found 1)",
            "environment.E: empty (expected prepend or append)",
            "environment.P.prepend[0]: unknown placeholder {lr} (expected {layer} or {runtime} "
            "or {{ and }} for braces, found '{lr}'); did you mean '{layer}'?",
            "environment.P.after: unknown key (expected one of append, prepend)",
            "environment.B: a single { (expected {{ for a brace, found '{')",
            "environment.C: unknown placeholder {other} (expected {layer} or {runtime} or "
            "{{ and }} for braces, found '{other}')",
            "environment.S: a user or password in an address; it would be published "
            "(found 'https://***@host/')",
            "environment.U: contains a character that cannot be printed (found 'a\\u200bb')",
        ],
    ),
    "environment of builds": (
        "build.environment = {PYTHONPATH = 'a', A = '{layer}', B.after = ['b']}",
        [
            "build.environment.PYTHONPATH: reserved: the interpreter finds the layer by such "
            "variables (found 'PYTHONPATH')",
            "build.environment.A: unknown placeholder {layer} (expected {{ and }} for braces, "
            "found '{layer}')",
            "build.environment.B.after: unknown key (expected one of append, prepend)",
        ],
    ),
    "exclude-files": (
        "exclude-files = {'a b' = ['x'], a = ['!@test', '/x', 'x/../y', 1, '', 'x\\y'], "
        "'*' = ['**/x.dist-info/RECORD'], b = 'x'}",
        [
            "exclude-files.\"a b\": not the name of a distribution (found 'a b')",
            "exclude-files.a[3]: wrong type (expected a string, found 1)",
            "exclude-files.a[4]: empty (expected some text)",
            "exclude-files.a[0]: no such set (expected @tests or @headers or @typing or "
            "@static-libraries, found '!@test'); did you mean '@tests'?",
            *(
                f"exclude-files.a[{number}]: not a pattern (expected a path in site-packages, "
                f"with / between directories, found {text!r})"
                for number, text in ((1, "/x"), (2, "x/../y"), (5, "x\\y"))
            ),
            'exclude-files."*"[0]: the metadata of distributions is never left out '
            "(found '**/x.dist-info/RECORD')",
            "exclude-files.b: wrong type (expected an array of strings, found 'x')",
        ],
    ),
    "misspelt": (
        "skips = {}\nbuild_wheel = {}",
        [
            "skips: unknown key; did you mean 'skip'?",
            "build_wheel: unknown key; did you mean 'build-wheel'?",
        ],
    ),
}


@pytest.mark.parametrize("place", [OWN, SHARED])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_messages(tmp_path: Path, case: tuple[str, list[str]], place: str) -> None:
    text, messages = case
    given = ALL.replace('["base"]\n', '["base"]\npackage_indexes = {x = "nvidia"}\n')
    spec = f"{given}[{place}]\n{text}\n{MORE}"
    assert problems_of(tmp_path, spec) == [f"{place}.{message}" for message in messages]


def test_variables_of_a_chain_that_windows_takes_for_one(tmp_path: Path) -> None:
    spec = (
        f"{ALL}[{OWN}]\nenvironment.Mode = 'a'\nbuild.environment = {{Cc = 'a', CC = 'b'}}\n"
        "[tool.stackbuild.layers.base]\nenvironment.MODE = 'b'\n"
    )
    assert problems_of(tmp_path, spec) == [
        f"{OWN}.{problem}"
        for platform in ("windows-x64", "windows-aarch64")
        for problem in (
            f"environment: MODE and Mode are one variable on {platform}; write the name in one "
            "way in all layers of the chain",
            f"build.environment: Cc and CC are one variable on {platform}; write the name in one "
            "way in the spec",
        )
    ]


@pytest.mark.parametrize(
    ("platform", "limit"), [("linux-x64", 128 * 1024 - 1), ("windows-x64", 32 * 1024 - 2)]
)
def test_a_variable_of_a_chain_that_is_too_long(tmp_path: Path, platform: str, limit: int) -> None:
    def spec(size: int) -> str:
        entries = (size - 2) // 4000 * [3999 * "x"]
        rest = size - len(f"X={':'.join(entries)}:")
        return (
            f"{ALL}[{OWN}.platform-specific.{platform}]\nenvironment.X.append = ['{rest * 'y'}']\n"
            f"[tool.stackbuild.layers.base.platform-specific.{platform}]\n"
            f"environment.X.prepend = {entries}\n"
        )

    read_spec(tmp_path, spec(limit))
    assert problems_of(tmp_path, spec(limit + 1)) == [
        f"{OWN}.environment.X: {limit + 1} bytes with the name; {platform} does not start programs "
        f"then (expected at most {limit} bytes from all layers of the chain)"
    ]


@pytest.mark.parametrize("place", [OWN, SHARED])
def test_a_registry_that_nothing_comes_from(tmp_path: Path, place: str) -> None:
    spec = f'{ALL}[{place}]\nregistries.additional = ["nvidia"]\n{MORE}'
    assert problems_of(tmp_path, spec) == [
        f"{place}.registries.additional[0]: no distribution is assigned to this registry, so "
        "it has no effect (found 'nvidia'); assign its distributions in the layer that "
        'needs them: package_indexes = { torch = "nvidia" }'
    ]


def test_platforms_of_an_index(tmp_path: Path) -> None:
    tool = '[tool.stackbuild.index-platforms]\nnvidea = []\nnvidia = ["linux-x46", "linux-x64"]\n'
    found = problems_of(tmp_path, f"{ALL}{tool}{MORE}")
    assert [text.partition(" (")[0] for text in found] == [
        "tool.stackbuild.index-platforms.nvidea: unknown package index",
        "tool.stackbuild.index-platforms.nvidia[0]: unknown platform",
    ]
    tool = "[tool.stackbuild]\nindex-platforms.nvidia = []\n"
    assert problems_of(tmp_path, f"{ALL}{tool}{MORE}") == [
        "tool.stackbuild.index-platforms.nvidia: empty (expected at least one platform)"
    ]


def test_fields_that_stand_in_the_wrong_place(tmp_path: Path) -> None:
    spec = f"{ALL}[tool.stackbuild]\nbuild = {{}}\nregistries = {{}}\nskip = {{}}\n"
    shared = "belongs in [tool.stackbuild.shared] or in the table of a layer"
    assert problems_of(tmp_path, spec) == [
        f"tool.stackbuild.build: {shared}",
        f"tool.stackbuild.registries: {shared}",
        "tool.stackbuild.skip: unknown key (expected one of frames, index-platforms, layers, "
        "local-wheels, platforms, shared, sibling-conflicts)",
    ]


def test_shared_overlays_are_looked_for_in_each_layer(tmp_path: Path) -> None:
    (tmp_path / "overlays/base").mkdir(parents=True)
    (tmp_path / "overlays/base/x").write_text("")
    spec = f"{ALL}[{SHARED}]\ncopy-files = [{{from = 'x', to = 'x'}}]\n"
    assert problems_of(tmp_path, spec) == [
        f"{SHARED}.copy-files[0].from: does not exist in overlays/{layer}/ (found 'x')"
        for layer in ("py", "app")
    ]


def test_a_platform_that_the_layer_is_not_made_for(tmp_path: Path) -> None:
    layers = ALL.replace("requirements", "platforms = ['linux-x64']\nrequirements", 1)
    spec = f"{layers}[{OWN}]\nplatform-specific.windows-aarch64.dependencies = ['a']\n"
    assert problems_of(tmp_path, spec) == [
        f"{OWN}.platform-specific.windows-aarch64: app is not made for windows-aarch64"
    ]
