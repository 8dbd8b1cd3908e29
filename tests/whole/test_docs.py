"""What README.md and docs/ show is what happens.

- A `console` block is a session: lines after `$ ` are run in order, in one shell for each page, in
  a copy of this repository; the lines below each are what it prints (both streams). `…` stands for
  any text, alone on a line for any lines; digests, sizes and counts may differ. Only where an
  `error:` is shown may a command fail. Where CPython 3.12 is neither downloaded nor installed, the
  commands from the first one that needs it on are run in the copy of the stack for another Python,
  and the versions shown stand for those of that copy. The page about container images has a `base`.
- The `python` blocks of a page are one program, run in a copy of the stack; a `text output` block
  shows what the block before it prints.
- A `toml` block is a part of a venvstacks.toml and is read together with a small stack; one
  marked `toml text` is some other file, and only its syntax is checked.
- A `sh example` block is run in a copy of the example, by test_example.py; a `sh blocks` block in a
  small stack, by test_export.py.
- A `sh places` block is run with an S3 server, by test_places.py.
- A `json manifest` or `json index` block shows keys of those files, a `json patch_file` block those
  of this part of a manifest.
- Links between pages lead somewhere.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
import tomllib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pytest
from tools.standin import PROJECT, RUNTIME, copy_stack, other_versions

from stackbuild.compose.manifest import Patch, PatchFile
from stackbuild.platforms import host_platform
from stackbuild.spec.reader import load_stack
from stackbuild.workspace import CACHE_VARIABLE
from tests.support.bases import base_of_this_machine
from tests.support.stack import APPLICATION, PROGRAM, RealStack, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)(#[^)]*)?\)")

# From the first such command on a page needs the interpreter of the stack.
NEEDS_INTERPRETER = re.compile(r"\bstackbuild (?:-\S+ )*(fetch|publish|build)\b")
# What only machines print that cannot download the interpreter, or have fetched nothing yet.
CIRCUMSTANCES = re.compile(
    r"^(.*is used instead of .*|.*compiles the bytecode instead of .*|downloading .*)\n",
    re.MULTILINE,
)
# What differs between machines and versions, in what is shown and in what is printed.
NUMBERS = (
    (re.compile(r"\b[0-9a-f]{12}\b"), "<digest>"),
    (re.compile(r"\b[\d.]+ [kMG]?B\b"), "<size>"),
    (re.compile(r"<digest> +\d+ +<size>"), "<digest> <count> <size>"),
    (re.compile(r"\b\d+ (?=frames|files)"), "<count> "),
    (re.compile(r"(?<=linux-x64 ) +3\.\d+\.\d+(?= )"), "<python>"),
    (re.compile(r" +"), " "),
)
SMALL_STACK = {
    "runtimes": [
        {"name": "cpython-3.12", "python_implementation": "cpython@3.12.10", "requirements": []}
    ],
    "frameworks": [{"name": "framework", "runtime": "cpython-3.12", "requirements": []}],
    "applications": [
        {"name": name, "frameworks": ["framework"], "requirements": []} for name in ("atls", "pgen")
    ],
}


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    mark: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(PROJECT)}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            language, mark, body = match.groups()
            if language in languages:
                line = text.count("\n", 0, match.start()) + 1
                found.append(Block(page, line, language, mark.strip(), body))
    return found


def sessions() -> dict[Path, list[Block]]:
    pages: dict[Path, list[Block]] = {}
    for block in blocks("console"):
        pages.setdefault(block.page, []).append(block)
    return pages


def commands(block: Block) -> Iterator[tuple[str, str]]:
    """Each command with what it should print."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        yield command, expected


def without_numbers(text: str) -> str:
    for found, name in NUMBERS:
        text = found.sub(name, text)
    return text


def pattern(expected: str) -> re.Pattern[str]:
    return re.compile("".join(map(_line_pattern, expected.splitlines())))


def _line_pattern(line: str) -> str:
    if line == "…":
        return r"(?:.*\n)*"
    return ".*".join(map(re.escape, line.rstrip().split("…"))) + " *\n"


def test_pattern() -> None:
    assert pattern("a … c\n…\nz\n").fullmatch("a b c\nx\ny\nz\n")
    assert pattern("a\n…\nz\n").fullmatch("a\nz\n")
    assert not pattern("a\n").fullmatch("a\nb\n")
    assert not pattern("a.c\n").fullmatch("abc\n")


def test_numbers() -> None:
    line = "framework  linux-x64  3.12.10  c518fa252414  7884   292.7 MB  65.8 MB  for atls"
    assert without_numbers(line) == (
        "framework linux-x64 <python> <digest> <count> <size> <size> for atls"
    )
    assert without_numbers("57 frames fetched (106.6 MB)") == "<count> frames fetched (<size>)"


def ignored_by_git() -> set[str]:
    """The names in the project's directory that `.gitignore` excludes."""
    lines = (PROJECT / ".gitignore").read_text(encoding="utf-8").splitlines()
    return {line.strip("/*") for line in lines if line.startswith("/")}


def test_what_is_not_committed_is_ignored() -> None:
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    _, _, sentence = text.partition("Do not commit ")
    named = set(re.findall(r"`([^`]+)/`", sentence.partition("\n\n")[0]))
    assert named == {"wheelhouse", "exports", "build", ".stackbuild", "envs", "plain"}
    assert named <= ignored_by_git()


@dataclass(frozen=True)
class Step:
    block: Block
    command: str
    expected: str
    directory: Path


def steps_of(page: Path, real_stack: RealStack, to: Path) -> Iterator[Step]:
    """The commands of a page, as they are for this machine; frames are made already."""
    directory = copy_stack(to / "stack")
    (directory / "wheelhouse").symlink_to(PROJECT / "wheelhouse")
    words: dict[str, str] = {}
    for block in sessions()[page]:
        for command, expected in commands(block):
            if real_stack.runtime != RUNTIME and not words and NEEDS_INTERPRETER.search(command):
                directory = copy_of(real_stack, to / "another")
                words = words_of(real_stack)
            yield Step(block, replaced(command, words), replaced(expected, words), directory)


def copy_of(real_stack: RealStack, to: Path) -> Path:
    """A copy of the stack without what is published."""
    parts = shutil.ignore_patterns("exports")
    return shutil.copytree(real_stack.directory, to, symlinks=True, ignore=parts)


def words_of(real_stack: RealStack) -> dict[str, str]:
    """What the copy for another Python has in place of the runtime and the versions shown."""
    others = other_versions(real_stack.directory, APPLICATION).values()
    return {RUNTIME: real_stack.runtime, **dict(others)}


def replaced(text: str, words: Mapping[str, str]) -> str:
    """`text` with other words, where they stand alone."""
    for word, other in words.items():
        text = re.sub(rf"(?<![\w.]){re.escape(word)}(?![\w.])", other, text)
    return text


def test_replaced() -> None:
    words = {"2.2.3": "2.3.0", "cpython-3.12": "cpython-3.13"}
    text = "cpython-3.12-<digest> pandas==2.2.3 12.2.3 2.2.30 in $layer cpython-3.12"
    expected = "cpython-3.13-<digest> pandas==2.3.0 12.2.3 2.2.30 in $layer cpython-3.13"
    assert replaced(text, words) == expected


@pytest.mark.index
@pytest.mark.skipif(host_platform() != "linux-x64", reason="the pages show what linux-x64 prints")
@pytest.mark.parametrize("page", sessions(), ids=lambda page: page.name)
def test_sessions(page: Path, real_stack: RealStack, tmp_path: Path) -> None:
    steps = list(steps_of(page, real_stack, tmp_path))
    separator = "\x1e"
    script = "exec 2>&1\n"
    directory = tmp_path
    for step in steps:
        if step.directory != directory:
            directory = step.directory
            script += f"cd {shlex.quote(str(directory))}\n"
        script += f"{step.command}\nprintf '{separator}%s{separator}' $?\n"
    if page.name == "container-images.md":
        for project in {step.directory for step in steps}:
            base_of_this_machine(project / "base", real_stack.host_libraries())
    before = {step.directory: set(step.directory.iterdir()) for step in steps}
    environment = {
        CACHE_VARIABLE: str(real_stack.cache),
        "PATH": f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "100",
    }
    result = run("bash", "-c", script, directory=tmp_path, environment=environment)
    printed = result.stdout.split(separator)
    for step, output, code in zip(steps, printed[::2], printed[1::2], strict=False):
        place = f"{step.block}: $ {step.command}"
        seen = CIRCUMSTANCES.sub("", output.replace(str(step.directory), "…"))
        if seen and not seen.endswith("\n"):
            seen += "\n"
        wanted = pattern(without_numbers(step.expected))
        assert wanted.fullmatch(without_numbers(seen)), f"{place}\nprints:\n{output}"
        failed = code != "0"
        assert failed == bool(re.search("^error:", step.expected, re.MULTILINE)), f"{place}: {code}"
    assert len(printed) == 2 * len(steps) + 1, "the shell ended early"
    if page.name == "README.md":  # whose examples are run in a checkout
        new = [path.name for at, paths in before.items() for path in set(at.iterdir()) - paths]
        assert set(new) <= ignored_by_git(), "examples write files that git would list"


def programs() -> dict[Path, list[tuple[Block, str]]]:
    """By page, each `python` block with what it prints."""
    pages: dict[Path, list[tuple[Block, str]]] = {}
    for block in blocks("python", "text"):
        found = pages.setdefault(block.page, [])
        if block.language == "python":
            found.append((block, ""))
        elif block.mark == "output":
            found[-1] = (found[-1][0], block.text)
    return {page: found for page, found in pages.items() if found}


@pytest.mark.index
@pytest.mark.skipif(host_platform() != "linux-x64", reason="the pages show what linux-x64 prints")
@pytest.mark.parametrize("page", programs(), ids=lambda page: page.name)
def test_programs(page: Path, real_stack: RealStack, tmp_path: Path) -> None:
    directory = copy_of(real_stack, tmp_path / "stack")
    words = words_of(real_stack) if real_stack.runtime != RUNTIME else {}
    separator = "\x1e"
    parts = [f"{block.text}\nprint(end={separator!r})\n" for block, _ in programs()[page]]
    environment = {CACHE_VARIABLE: str(real_stack.cache)}
    result = run(
        *(sys.executable, "-c", replaced("".join(parts), words)),
        directory=directory,
        environment=environment,
    )
    printed = result.stdout.replace(str(directory), "…").split(separator)
    for (block, expected), output in zip(programs()[page], printed, strict=False):
        wanted = pattern(without_numbers(replaced(expected, words)))
        assert wanted.fullmatch(without_numbers(output)), f"{block}\nprints:\n{output}"
    assert printed[-1] == "", result.stderr


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_toml(block: Block, tmp_path: Path) -> None:
    values = tomllib.loads(block.text)
    if block.mark == "text":
        return
    copy_stack(tmp_path / "stack")
    spec = tmp_path / "stack" / "venvstacks.toml"
    small = {key: value for key, value in SMALL_STACK.items() if key not in values}
    text = block.text
    if small:
        import tomlkit

        # Tables of the block come last: its own keys may stand before them.
        text = block.text + "\n" + tomlkit.dumps(small)
    spec.write_text(text, encoding="utf-8")
    load_stack(spec)


@pytest.mark.index
@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_json(block: Block, real_stack: RealStack) -> None:
    shown = json.loads(block.text)
    if block.mark == "index":
        real = json.loads((real_stack.exports / "index.json").read_bytes())
    elif block.mark == "patch_file":
        patch = Patch(sources=("",), frames=("",), offset=0, size=0, sha256="")
        file = PatchFile(name="", size=0, sha256="", patches=(patch,))
        real = json.loads(json.dumps(asdict(file)))
    else:
        assert block.mark == "manifest", f"{block}: which file is it?"
        real = real_stack.manifests()["atls"]
        assert set(shown) == set(real), f"{block}: {set(shown) ^ set(real)}"
    _same_shape(shown, real, str(block))


def _same_shape(shown: Any, real: Any, place: str) -> None:
    """Keys and types are the same; of a list the first item shown, of a table every key."""
    assert type(shown) is type(real), place
    if isinstance(shown, dict):
        assert set(shown) <= set(real), f"{place}: {set(shown) - set(real)}"
        for key in shown:
            _same_shape(shown[key], real[key], f"{place}.{key}")
    elif isinstance(shown, list) and shown:
        _same_shape(shown[0], real[0], f"{place}[0]")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    missing = [link for link, _ in LINK.findall(text) if not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_of_this_repository_exist(page: Path) -> None:
    """Such as `src/stackbuild/frames/wheel.py` or `tests/whole/`."""
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`((?:src|tests|docs|tools|bench|launch|overlays)/[\w./-]*)`", text)
    assert [name for name in named if not (PROJECT / name).exists()] == []


def test_every_kind_of_block_is_known() -> None:
    """So that no example escapes these tests."""
    known = {"console", "toml", "json", "text", "sh", "diff", "python"}
    for page in PAGES:
        for language in re.findall(r"^```(\w*)", page.read_text(encoding="utf-8"), re.MULTILINE):
            assert language in known | {""}, f"{page}: {language}"
    # Those with a mark are run by other tests.
    others = [block for block in blocks("sh") if block.mark not in ("example", "blocks", "places")]
    commands_of_make = {line for block in others for line in block.text.splitlines()}
    assert commands_of_make <= {"git clone … stackbuild && cd stackbuild", "make demo", "make test"}
