"""Reads a `venvstacks.toml` into a `Stack`, or reports all its problems."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import tomli

from stackbuild.errors import Problem, SpecError, quoted
from stackbuild.files import read_regular, why
from stackbuild.reading import did_you_mean
from stackbuild.spec.layers import KEYS, LayerReader
from stackbuild.spec.model import Stack
from stackbuild.spec.sources import check_local_requirements
from stackbuild.spec.table import Problems, Table
from stackbuild.spec.tool_table import read_tool_table
from stackbuild.spec.uv_table import CONFIG_FILE, UvTable, read_uv_table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def load_stack(path: Path, data: Mapping[str, object] | None = None) -> Stack:
    """Read and check the spec file at `path`.

    `data` is the parsed content if the file does not have it yet. Raises SpecError with all
    problems of the file, also if it is missing or no TOML.
    """
    path = path.absolute()
    settings_file = path.parent / CONFIG_FILE
    uv_settings = parse_toml(settings_file) if os.path.lexists(settings_file) else None
    return read_stack(parse_toml(path) if data is None else data, path, uv_settings)


def read_stack(
    data: Mapping[str, object], path: Path, uv_settings: Mapping[str, object] | None = None
) -> Stack:
    """Check the contents of a spec file.

    `data` is the parsed file. Its paths are relative to the directory of the
    absolute `path`. `uv_settings` is the parsed `venvstacks.uv.toml` in the same
    directory. Raises SpecError with all problems.
    """
    problems = Problems()
    spec = Table(data, "", problems)
    tool = spec.part("tool")
    uv = _read_uv(tool, uv_settings, path.parent)
    reader = LayerReader(path.parent, uv, problems)
    reader.read(spec)
    spec.done()
    if not reader.kinds and not problems.found:
        expected = " or ".join(f"[[{key}]]" for key in KEYS)
        problems.add("", "defines no layer", expected=expected)
    own, overlays = tool.part("stackbuild"), path.parent / "overlays"
    settings = read_tool_table(own, reader, overlays, uv)
    for layer in settings.layers.values():
        check_local_requirements(layer, path.parent, problems)
    _check_tools(tool)
    if problems.found:
        raise SpecError(path, problems.found)
    return Stack(
        path=path,
        layers=settings.layers,
        python_versions=reader.python_versions,
        platforms=settings.platforms,
        frames=settings.frames,
        indexes=uv.indexes,
        index_platforms=settings.index_platforms,
        uv_settings=uv.settings,
        sources=uv.projects,
        local_wheels=settings.local_wheels,
        without_effect=tuple(problems.remarks),
        warnings=tuple(problems.warnings),
    )


def _read_uv(tool: Table, beside: Mapping[str, object] | None, directory: Path) -> UvTable:
    if beside is None or tool.has("uv"):
        if beside is not None:
            message = f"{CONFIG_FILE} beside this file has settings as well"
            tool.problems.add(tool.place_of("uv"), message, expected="one of the two")
        return read_uv_table(tool.part("uv"), directory)
    found = Problems()
    settings = read_uv_table(Table(beside, "", found), directory)
    tool.problems.found += [
        replace(problem, place=f"{CONFIG_FILE}: {problem.place}") for problem in found.found
    ]
    tool.problems.remarks += [f"{CONFIG_FILE}: {place}" for place in found.remarks]
    return settings


def _check_tools(tool: Table) -> None:
    """Report a misspelt `[tool.stackbuild]`; the tables of other tools are ignored."""
    for key in tool.values:
        if key != "stackbuild" and (hint := did_you_mean(key, ["stackbuild"])):
            tool.problems.add(tool.place_of(key), "unknown key", hint=hint)


def parse_toml(path: Path) -> dict[str, object]:
    """Parse the TOML file at `path`. Raises SpecError."""
    try:
        return tomli.loads(read_regular(path).decode())
    except FileNotFoundError:
        others = [other.name for other in path.parent.glob("*.toml")]
        hint = did_you_mean(path.name, others)
        problem = Problem(place="", message="the file does not exist", hint=hint)
    except OSError as error:
        problem = Problem(place="", message=f"the file {why(error)}")
        if path.is_dir():
            hint = f"name the file in it: {quoted(path / 'venvstacks.toml')}"
            problem = Problem(place="", message="this is a directory", hint=hint)
    except UnicodeDecodeError as error:
        found = f"byte 0x{error.object[error.start]:02x} at offset {error.start}"
        problem = Problem(place="", message="not text in UTF-8", found=found)
    except tomli.TOMLDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        # Editors do not show it, and venvstacks refuses it, too.
        marked = "save the file without its byte order mark" if error.doc[0] == "\ufeff" else None
        problem = Problem(place=place, message=f"not TOML: {error.msg}", hint=marked)
    except (ValueError, RecursionError) as error:
        # Numbers with thousands of digits, and brackets nested thousands deep.
        problem = Problem(place="", message=f"cannot be read as TOML: {error}")
    raise SpecError(path, [problem])
