"""Rules that hold for all files of the repository."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tools.mutants import PAGE, explained_changes

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).resolve().parents[2]
PACKAGE = PROJECT / "src" / "stackbuild"

# From the left to the right of the flow; a module imports from its own group and those before it.
FLOW: tuple[frozenset[str], ...] = tuple(
    frozenset(group.split())
    for group in (
        "__init__",
        "errors names platforms layout messages workspace mark windows durable files globs record"
        " scripts strictjson tomltext reading variables processes zstd",
        "transport",
        "spec",
        "project",
        "lock",
        "resolve",
        "runtimes",
        "builds",
        "frames",
        "linking",
        "compose",
        "registry",
        "install",
        "images planning",
        "importers verify",
        "api",
        "cli",
        "__main__",
    )
)


def position(module: str) -> int:
    """Where `stackbuild.<module>` stands in the flow."""
    for index, group in enumerate(FLOW):
        if module in group:
            return index
    raise AssertionError(f"stackbuild.{module} has no place in FLOW of this test")


def imports(file: Path) -> Iterator[tuple[str, int]]:
    """What `file` imports of the package, at any depth, with the line."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: a relative import"
            names = [node.module or ""]
            if node.module == "stackbuild":
                names = [f"stackbuild.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            first, _, rest = name.partition(".")
            if first == "stackbuild":
                yield rest.partition(".")[0] or "__init__", node.lineno


def test_imports_point_leftwards_only() -> None:
    wrong = []
    seen = 0
    for file in sorted(PACKAGE.rglob("*.py")):
        own = position(file.relative_to(PACKAGE).parts[0].removesuffix(".py"))
        for module, line in imports(file):
            seen += 1
            known = module if not module.startswith("__version__") else "__init__"
            if position(known) > own:
                wrong.append(f"{file.relative_to(PROJECT)}:{line} imports stackbuild.{module}")
    assert wrong == []
    assert seen > 50, "the imports were not found"


def graph() -> dict[str, set[str]]:
    """The modules of the package, each with the modules that it imports, also for types only."""
    files = {
        ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(
            ".__init__"
        ): file
        for file in PACKAGE.rglob("*.py")
    }
    found: dict[str, set[str]] = {name: set() for name in files}
    for name, file in files.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                found[name] |= inner & files.keys() or {node.module or ""}
        found[name] = (found[name] & files.keys()) - {name}
    return found


def test_no_circle_of_imports() -> None:
    modules = graph()
    assert sum(map(len, modules.values())) > 500, "the imports were not found"

    # What imports nothing of the rest, or is not imported by it, goes until circles are left.
    def is_free(name: str) -> bool:
        used = any(name in below for below in modules.values())
        return not used or not modules[name] & modules.keys()

    while free := [name for name in modules if is_free(name)]:
        for name in free:
            del modules[name]
    assert modules == {}


def test_no_small_module_for_one_other() -> None:
    modules = graph()
    wrong = []
    for name in modules:
        users = [other for other, below in modules.items() if name in below]
        file = PACKAGE.parent / f"{name.replace('.', '/')}.py"
        if len(users) == 1 and file.is_file() and len(file.read_text().splitlines()) < 40:
            wrong.append(f"{name} belongs into {users[0]}, which alone imports it")
    assert wrong == []


def test_importers_only_read_and_write_files() -> None:
    online = {"lock", "resolve", "builds", "runtimes", "registry", "install", "planning"}
    files = sorted((PACKAGE / "importers").rglob("*.py"))
    used = {module for file in files for module, _ in imports(file)}
    assert "spec" in used, "the imports were not found"
    assert used.isdisjoint(online)


# What commands need besides: words, values, and how a root is known.
OF_COMMANDS = {
    "__init__",
    "api",
    "cli",
    "errors",
    "mark",
    "messages",
    "platforms",
    "processes",
    "spec.model",
    "compose.manifest",
}


def test_commands_call_the_interface() -> None:
    """What a command decides and does is then what `stackbuild.api` offers everybody."""
    found = [
        f"{file.name}:{node.lineno} imports {node.module}"
        for file in sorted((PACKAGE / "cli").glob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        if (node.module or "").startswith("stackbuild.")
        if not {
            (node.module or "").removeprefix("stackbuild."),
            (node.module or "").split(".")[1],
        }
        & OF_COMMANDS
    ]
    assert found == []


ALONE = {"builds/hook_worker.py", "verify/import_worker.py"}
"""Programs that run in other interpreters, where there is no stackbuild to import."""


def test_json_is_read_in_one_place() -> None:
    found = [
        f"{name}:{node.lineno}"
        for file in sorted(PACKAGE.rglob("*.py"))
        if (name := file.relative_to(PACKAGE).as_posix()) not in {*ALONE, "strictjson.py"}
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Attribute) and ast.unparse(node) in {"json.load", "json.loads"})
        or (isinstance(node, ast.ImportFrom) and node.module == "json")
    ]
    assert found == [], "use stackbuild.strictjson, which has bounds"


def test_headers_of_layer_tables_are_quoted() -> None:
    found = {
        file.relative_to(PACKAGE).as_posix()
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.JoinedStr)
        and re.search(r"tool\.stackbuild\.layers\.\{(?!quoted_key\()", ast.unparse(node))
    }
    assert found == set(), "use stackbuild.tomltext.layer_table"


def test_what_programs_get_of_the_environment_is_told_in_one_place() -> None:
    found = {
        file.relative_to(PACKAGE).as_posix()
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in {"SYSTEMROOT", "HTTPS_PROXY"}
    }
    assert found == {"processes.py"}


def writes(file: Path) -> Iterator[int]:
    """The lines of `file` that write to stdout or stderr."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name in {"print", "sys.stdout.write", "sys.stderr.write"} or name.startswith(
            "traceback.print_"
        ):
            yield node.lineno


def test_only_one_module_writes_to_the_terminal() -> None:
    # The template runs inside layers, in the processes of their users.
    allowed = {PACKAGE / "cli/output.py", PACKAGE / "compose/sitecustomize_template.py"}
    assert all(list(writes(file)) for file in allowed), "the search finds nothing"
    found = [
        f"{file.relative_to(PROJECT)}:{line}"
        for file in sorted(PACKAGE.rglob("*.py"))
        if file not in allowed
        for line in writes(file)
    ]
    assert found == [], "use stackbuild.cli.output, which escapes what a terminal acts on"


def tracked() -> list[Path]:
    """All files that are committed, or would be."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip("not a git repository")
    names = [PROJECT / name for name in result.stdout.splitlines()]
    return [path for path in names if path.is_file()]


# Written in parts, so that this file does not hold what it looks for.
UNWANTED = {
    "the host of a package index": re.compile("py" + r"pi\.org|python" + r"hosted\.org"),
    "a path of this machine": re.compile(
        "|".join(map(re.escape, (f"{PROJECT}/", f"{Path.home()}/.")))
    ),
}


def test_no_host_of_an_index_and_no_path_of_a_machine() -> None:
    found = []
    for file in tracked():
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            found += [
                f"{file.relative_to(PROJECT)}:{number}: {what}: {line.strip()[:80]}"
                for what, pattern in UNWANTED.items()
                if pattern.search(line)
            ]
    assert found == []


def test_locks_hold_no_address() -> None:
    for lock in (PROJECT / "pdm.lock", *PROJECT.glob("layers/*/pylock.*.toml")):
        assert "://" not in lock.read_text(encoding="utf-8"), lock


def test_the_locked_environment_is_the_one_asked_for() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    lock = tomllib.loads((PROJECT / "pdm.lock").read_text(encoding="utf-8"))
    versions = {
        canonicalize_name(package["name"]): package["version"] for package in lock["package"]
    }
    groups = project["dependency-groups"].values()
    wanted = [*project["project"]["dependencies"], *(line for group in groups for line in group)]
    for line in wanted:
        requirement = Requirement(line)
        version = versions.get(canonicalize_name(requirement.name))
        assert version, f"pdm.lock has no {requirement.name}: run `pdm lock`"
        assert requirement.specifier.contains(version, prereleases=True), f"{line} or {version}?"


def test_every_dependency_is_explained() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    text = (PROJECT / "docs" / "libraries.md").read_text(encoding="utf-8")
    groups = project["dependency-groups"].values()
    lines = [*project["project"]["dependencies"], *(line for group in groups for line in group)]
    missing = [line for line in lines if f"`{Requirement(line).name}`" not in text]
    assert missing == []


def functions(tree: ast.AST, within: str) -> Iterator[tuple[str, ast.AST]]:
    """Each function below `tree`, with its dotted name below `within`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from functions(node, f"{within}.{node.name}")
        elif isinstance(node, ast.FunctionDef):
            yield f"{within}.{node.name}", node


def test_the_mutants_that_are_explained_are_of_the_code_as_it_is() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    lines: dict[str, set[str]] = {}
    for name in project["tool"]["mutmut"]["only_mutate"]:
        text = (PROJECT / name).read_text(encoding="utf-8")
        module = ".".join(Path(name).with_suffix("").parts[2:])
        for function, node in functions(ast.parse(text), module):
            source = ast.get_source_segment(text, node) or ""
            lines[function] = {line.strip() for line in source.splitlines()}
    explained = explained_changes(PAGE.read_text(encoding="utf-8"))
    assert len(explained) > 20
    wrong = [
        f"{place}: {line}"
        for place, *changed in (change.splitlines() for change in explained)
        for line in changed
        if line.startswith("- ") and line[2:] not in lines.get(place, ())
    ]
    assert wrong == [], "docs/testing.md explains mutants of lines that are no longer there"


def test_venvstacks_reads_the_stack_as_it_is() -> None:
    with warnings.catch_warnings():
        # It says on import that its Python interface may change.
        warnings.simplefilter("ignore", FutureWarning)
        from venvstacks.stacks import StackSpec

        stack = StackSpec.load(PROJECT / "venvstacks.toml")
    names = [str(spec.name) for spec in stack.all_environment_specs()]
    assert names == ["cpython-3.12", "framework", "atls", "pgen", "prodigy"]
    launched = {str(app.name): app.launch_module_path for app in stack.applications.values()}
    assert [name for name, path in launched.items() if path.is_file()] == names[2:]


def test_the_overlays_programs_are_executable_on_both_platforms() -> None:
    programs = sorted(PROJECT.glob("overlays/atls/*/bin/*"))
    assert [program.parts[-3] for program in programs] == ["linux-x64", "macosx-aarch64"]
    for program in programs:
        assert program.stat().st_mode & 0o111, program
        ast.parse(program.read_text(encoding="utf-8"))


def test_the_walk_of_the_architecture_names_what_there_is() -> None:
    """Each function or class that a step names exists, and is named once."""
    page = (PROJECT / "docs/architecture.md").read_text(encoding="utf-8")
    walk = page.partition("## One wheel and one overlay")[2].partition("\n## ")[0]
    steps = re.findall(r"`((?:\w+\.){2,})(\w+)`", walk)
    assert len(steps) > 20
    assert len(set(steps)) == len(steps)
    for module, name in steps:
        path = PACKAGE / f"{module.rstrip('.').replace('.', '/')}.py"
        defined = {
            node.name
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
        }
        assert name in defined, f"{module}{name}"
