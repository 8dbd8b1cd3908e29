"""Shared libraries of lower layers, used by real modules and programs without a wrapper."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from stackbuild.errors import ComposeError
from stackbuild.messages import SILENT, Silent
from stackbuild.record import record_hash, record_rows
from tests.support import native
from tests.support.archives import unpack_layer
from tests.support.handmade import HandMade, execute, interpreters, make_layers
from tests.support.smallstack import SmallStack

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from stackbuild.compose.manifest import Manifest
    from stackbuild.messages import Messages

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the files are compiled for Linux")

NEWEST = max(interpreters(), key=lambda minor: int(minor.partition(".")[2]))
MACHINE = os.uname().machine if sys.platform == "linux" else ""
PLATFORM = "linux-aarch64" if MACHINE == "aarch64" else "linux-x64"
TAG = f"cp3-none-linux_{MACHINE}"
SITE = f"lib/python{NEWEST}/site-packages"
CALL = "extern int answer(void); if (answer() != 42) return NULL;"
IMPORT = "import consumer.native; print('works')"


class Stack:
    """A stack of a framework `base` and an application `app`, made of compiled wheels."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.small = SmallStack(
            directory / "project", directory / "cache", python=f"{NEWEST}.0", more=""
        )
        self.compiler = native.compiler(NEWEST)

    def library(self, name: str = "libanswer.so.1", *options: str, **source: str) -> Path:
        """Compile a library; returns its file."""
        return self.compiler.library(self.directory / "built", name, *source.values(), *options)

    def wheel(self, layer: str, name: str, files: Mapping[str, Path], **more: bytes) -> None:
        """Add a wheel of compiled files to a layer; `more` are scripts."""
        contents: dict[str, bytes | str] = {f"{name}/__init__.py": ""}
        contents |= {path: file.read_bytes() for path, file in files.items()}
        data = {f"scripts/{script}": content for script, content in more.items()}
        self.small.wheel(layer, name, "1.0", contents, tag=TAG, data=data)

    def consumer(self, *options: str, body: str = CALL) -> Path:
        """Compile a module that needs a library."""
        built = self.directory / "built" / "consumer"
        return self.compiler.module(built, "native", body, *options)

    def publish(
        self,
        *layers: str,
        allow_unresolved: bool = False,
        messages: Messages = SILENT,
    ) -> dict[str, Manifest]:
        """Publish `layers`, or `base` and `app`."""
        report = self.small.publish(
            layers or ("base", "app"),
            platform=PLATFORM,
            allow_unresolved=allow_unresolved,
            messages=messages,
        )
        for failure in report.failures:
            raise failure.error
        return {one.manifest.layer: one.manifest for one in report.layers}

    def deploy(self, manifests: Mapping[str, Manifest]) -> HandMade:
        """Unpack the archives beside a real runtime."""
        made = make_layers(self.directory / "root", NEWEST)
        for name in ("framework", "atls"):
            shutil.rmtree(made.directory / name)
        for manifest in manifests.values():
            archive = self.small.exports / PLATFORM / manifest.archive.name
            unpack_layer(archive, made.directory / manifest.directory)
        return made


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path)


def python(made: HandMade, *arguments: str) -> str:
    return execute(made.directory / "app" / "bin" / "python", *arguments)


def check_record(made: HandMade, distribution: str) -> None:
    """Check that RECORD has the hashes of the files that are there."""
    site = made.directory / "app" / SITE
    rows = record_rows((site / f"{distribution}-1.0.dist-info" / "RECORD").read_text())
    for path, digest, _ in rows:
        assert not digest or record_hash((site / path).read_bytes()) == digest, path


@pytest.mark.parametrize(
    ("rpath", "is_edited"),
    [("", True), ("/nowhere", True), ("$ORIGIN/../publisher", False), ("$ORIGIN", False)],
)
def test_a_module_finds_a_library_of_a_lower_layer(
    stack: Stack, tmp_path: Path, rpath: str, is_edited: bool
) -> None:
    library = stack.library()
    stack.wheel("base", "publisher", {"publisher/libanswer.so.1": library})
    options = [f"-Wl,-rpath,{rpath}"] if rpath else []
    module = stack.consumer(str(library), *options)
    stack.wheel("app", "consumer", {f"consumer/{module.name}": module})
    manifests = stack.publish()
    library.unlink()
    made = stack.deploy(manifests)
    assert python(made, "-c", IMPORT) == "works"
    # Isolated, and in a child process.
    assert python(made, "-I", "-c", IMPORT) == "works"
    child = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {IMPORT!r}], check=True)"
    )
    assert python(made, "-c", child) == "works"
    # No variable is set for anybody.
    code = "import os; print(sorted(name for name in os.environ if 'LIBRARY' in name))"
    assert python(made, "-c", code) == "[]"
    made.directory.rename(tmp_path / "moved é")
    made.directory = tmp_path / "moved é"
    assert python(made, "-c", IMPORT) == "works"
    check_record(made, "consumer")
    path = f"{SITE}/consumer/{module.name}"
    edited = manifests["app"].provenance.get("edited", {})
    assert edited == (
        {path: {"libanswer.so.1": f"{SITE}/publisher/libanswer.so.1"}} if is_edited else {}
    )
    assert ((made.directory / "app" / path).read_bytes() != module.read_bytes()) is is_edited


@pytest.mark.parametrize("rpath", ["", "$ORIGIN/../publisher"])
def test_the_variable_of_a_user_comes_first(stack: Stack, tmp_path: Path, rpath: str) -> None:
    library = stack.library()
    stack.wheel("base", "publisher", {"publisher/libanswer.so.1": library})
    options = ["-Wl,--enable-new-dtags", f"-Wl,-rpath,{rpath}"] if rpath else []
    module = stack.consumer(str(library), *options, body=CALL.replace("42", "7"))
    stack.wheel("app", "consumer", {f"consumer/{module.name}": module})
    made = stack.deploy(stack.publish())
    library.unlink()
    source = "int answer(void) { return 7; }"
    other = stack.compiler.library(tmp_path / "other", "libanswer.so.1", source)
    app = made.directory / "app" / "bin" / "python"
    assert execute(app, "-c", IMPORT, LD_LIBRARY_PATH=str(other.parent)) == "works"


def test_the_frames_of_edited_files_do_not_depend_on_the_layers_below(stack: Stack) -> None:
    library = stack.library()
    stack.wheel("base", "publisher", {"publisher/libanswer.so.1": library})
    module = stack.consumer(str(library))
    stack.wheel("app", "consumer", {f"consumer/{module.name}": module})

    def edited() -> list[str]:
        frames = [placed.frame for placed in stack.publish()["app"].frames]
        of_consumer = [frame.sha256 for frame in frames if frame.subject == "consumer 1.0"]
        assert len(of_consumer) == 2
        return of_consumer

    before = edited()
    stack.small.more_base = "versioned = true"
    assert edited() == before


def test_libraries_of_libraries_are_found(stack: Stack) -> None:
    deepest = stack.library("libdeep.so.2", source="int deep(void) { return 40; }")
    middle = stack.library(
        "libanswer.so.1",
        str(deepest),
        "-Wl,-rpath,$ORIGIN/../../deep/lib",
        source="extern int deep(void); int answer(void) { return deep() + 2; }",
    )
    files = {"nvidia/deep/lib/libdeep.so.2": deepest, "nvidia/answer/lib/libanswer.so.1": middle}
    stack.wheel("base", "publisher", files)
    # Both directories are beside those of the layer below in one site-packages only.
    module = stack.consumer(str(middle), "-Wl,-rpath,$ORIGIN/../nvidia/answer/lib")
    stack.wheel("app", "consumer", {f"consumer/{module.name}": module})
    manifests = stack.publish()
    shutil.rmtree(stack.directory / "built")
    made = stack.deploy(manifests)
    assert python(made, "-c", IMPORT) == "works"
    found = (made.directory / "app" / SITE / "nvidia").rglob("*.so.*")
    links = {path.name for path in found if path.is_symlink()}
    assert links == {"libdeep.so.2", "libanswer.so.1"}
    assert "edited" not in manifests["app"].provenance
    # The directory with the link does not hide the package below.
    where = "import nvidia.answer; print(len(list(nvidia.answer.__path__)))"
    assert python(made, "-c", where) == "2"


@pytest.mark.parametrize("rpath", ["", "$ORIGIN/../lib"])
def test_a_program_in_bin_finds_its_library(stack: Stack, rpath: str) -> None:
    library = stack.library()
    stack.wheel("base", "publisher", {"publisher/libanswer.so.1": library})
    options = [f"-Wl,-rpath,{rpath}"] if rpath else []
    program = stack.compiler.program(
        stack.directory / "built" / "tell",
        "#include <stdio.h>\nextern int answer(void);\n"
        'int main(void) { printf("%d\\n", answer()); return 0; }',
        str(library),
        *options,
    )
    stack.wheel("app", "consumer", {}, tell=program.read_bytes())
    manifests = stack.publish()
    library.unlink()
    made = stack.deploy(manifests)
    assert execute(made.directory / "app" / "bin" / "tell") == "42"
    where = "lib" if rpath else f"{SITE}/publisher"
    assert (made.directory / "app" / where / "libanswer.so.1").is_symlink()
    check_record(made, "consumer")


def test_libraries_with_several_versions_are_links(stack: Stack) -> None:
    library = stack.library("libanswer.so.1")
    overlay = stack.small.directory / "overlays" / "base" / "libs"
    overlay.mkdir(parents=True)
    shutil.copy(library, overlay / "libanswer.so.1.2.3")
    (overlay / "libanswer.so.1").symlink_to("libanswer.so.1.2.3")
    (overlay / "libanswer.so").symlink_to("libanswer.so.1")
    stack.small.more = '[tool.stackbuild.layers.base]\ncopy-files = [{ from = "libs", to = "lib" }]'
    module = stack.consumer(str(library))
    stack.wheel("app", "consumer", {f"consumer/{module.name}": module})
    manifests = stack.publish()
    library.unlink()
    made = stack.deploy(manifests)
    assert python(made, "-c", IMPORT) == "works"


def test_two_libraries_of_one_name_are_an_error_that_says_what_settles_it(stack: Stack) -> None:
    library = stack.library()
    other = stack.compiler.library(
        stack.directory / "other", "libanswer.so.1", "int answer(void) { return 1; }"
    )
    stack.wheel("base", "publisher", {"publisher/libanswer.so.1": library})
    stack.wheel("base", "second", {"second/libanswer.so.1": other})
    module = stack.consumer(str(library))
    stack.wheel("app", "consumer", {f"consumer/{module.name}": module})
    with pytest.raises(ComposeError) as caught:
        stack.publish()
    text = str(caught.value)
    assert text == (
        "2 libraries are called libanswer.so.1, and this file needs one of them\n"
        f"  layer: app\n  platform: {PLATFORM}\n  distribution: consumer 1.0\n"
        f"  file: {SITE}/consumer/{module.name}\n"
        "  expected: one library of this name in the chain, or one that is not excluded\n"
        f"  found: {SITE}/publisher/libanswer.so.1 in base,"
        f" {SITE}/second/libanswer.so.1 in base\n"
        f"  to fix: to use {SITE}/publisher/libanswer.so.1,"
        ' set `dynlib_exclude = ["second/libanswer.so.1"]`'
        " in the layer base"
    )
    stack.small.more_base = text.partition("set `")[2].partition("`")[0]
    manifests = stack.publish()
    library.unlink()
    assert python(stack.deploy(manifests), "-c", IMPORT) == "works"


def test_a_layer_that_lacks_a_library_is_not_published(stack: Stack) -> None:
    library = stack.library()
    module = stack.consumer(str(library))
    stack.wheel("app", "consumer", {f"consumer/{module.name}": module})
    with pytest.raises(ComposeError) as caught:
        stack.publish()
    path = f"{SITE}/consumer/{module.name}"
    assert str(caught.value) == (
        "a shared library that the layer needs is neither in its chain nor on every host\n"
        f"  layer: app\n  platform: {PLATFORM}\n  distribution: consumer 1.0\n  file: {path}\n"
        f"  expected: libanswer.so.1\n  found: libanswer.so.1 is needed by {path}\n"
        "  to fix: add the distribution that has the library to this layer or to one below it; if"
        " the file is not used, run publish, build or export with --allow-unresolved; if every host"
        " has the library, set in [tool.stackbuild.layers.app.verify]:\n"
        '    host-libraries = ["libanswer.so.1"]'
    )
    assert caught.value.exit_code == 7
    assert set(stack.publish(allow_unresolved=True)) == {"base", "app"}
    stack.small.more = '[tool.stackbuild.layers.app.verify]\nhost-libraries = ["libanswer.*"]'
    assert set(stack.publish()) == {"base", "app"}
    stack.small.more = (
        "[tool.stackbuild.layers.app.allow-import-errors]\n"
        '"consumer-*" = { "consumer.native" = "libanswer.so.1: cannot open" }'
    )
    assert set(stack.publish()) == {"base", "app"}


# --- the shapes of venvstacks' test project `local_wheels_project`


class Notes(Silent):
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


CONSUMER = "dynlib_consumer"
SPLIT = """\
versioned = true
{more}

[[frameworks]]
name = "only-consumer"
frameworks = ["base"]
requirements = []
"""
SPLIT_APP = """\

[[applications]]
name = "via-split-layers"
frameworks = ["only-consumer"]
requirements = []
"""


def publisher_and_consumer(stack: Stack, publisher: str, consumer: str) -> None:
    """The two wheels as Meson builds them there, in two layers or in one."""
    library = stack.library("libcheckdynlib.so")
    stack.wheel(publisher, "dynlib_publisher", {"dynlib_publisher/libcheckdynlib.so": library})
    built = stack.directory / "built"
    rpath = "-Wl,-rpath,$ORIGIN/dynlib_publisher"
    module = stack.compiler.module(built, CONSUMER, CALL, str(library), rpath)
    contents: dict[str, bytes | str] = {module.name: module.read_bytes()}
    stack.small.wheel(consumer, CONSUMER, "1.0", contents, tag=TAG)
    shutil.rmtree(built)


def test_publisher_and_consumer_in_one_layer(stack: Stack) -> None:
    publisher_and_consumer(stack, "base", "base")
    made = stack.deploy(stack.publish())
    assert python(made, "-c", f"import {CONSUMER}; print('works')") == "works"
    assert not list((made.directory / "base").rglob("*.so.*"))


@pytest.mark.parametrize("layer", ["only-consumer", "via-split-layers"])
def test_publisher_and_consumer_in_split_layers(stack: Stack, layer: str) -> None:
    stack.small.more_base = SPLIT.format(more="")
    stack.small.more_app = SPLIT_APP
    publisher_and_consumer(stack, "base", "only-consumer")
    manifests = stack.publish("base", "only-consumer", "via-split-layers")
    assert manifests["base"].directory == "base@3"
    made = stack.deploy(manifests)
    interpreter = made.directory / layer / "bin" / "python"
    assert execute(interpreter, "-c", f"import {CONSUMER}; print('works')") == "works"


def test_an_excluded_library_is_not_used_and_named(stack: Stack) -> None:
    stack.small.more_base = SPLIT.format(more='dynlib_exclude = ["*.so", "*.dylib"]')
    stack.small.more_app = SPLIT_APP
    publisher_and_consumer(stack, "base", "only-consumer")
    notes = Notes()
    made = stack.deploy(stack.publish("base", "only-consumer", "via-split-layers", messages=notes))
    suffix = stack.compiler.suffix
    assert notes.warnings == [
        f"only-consumer on {PLATFORM} lacks shared libraries that `dynlib_exclude` excludes:"
        f" libcheckdynlib.so is needed by {SITE}/{CONSUMER}{suffix}"
    ]
    interpreter = made.directory / "via-split-layers" / "bin" / "python"
    code = f"try:\n    import {CONSUMER}\nexcept ImportError as error:\n    print(error.msg)"
    assert execute(interpreter, "-c", code).startswith("libcheckdynlib.so: cannot open")
