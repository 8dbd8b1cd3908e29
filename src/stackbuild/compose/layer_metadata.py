"""The files that stackbuild generates for a layer."""

from __future__ import annotations

import json
import posixpath
import re
from dataclasses import asdict, astuple
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stackbuild.errors import ComposeError
from stackbuild.files import read_regular
from stackbuild.frames.files import FileContent, Link
from stackbuild.frames.scripts import script_files
from stackbuild.layout import ENVIRONMENT_SCRIPT, METADATA
from stackbuild.names import layer_directory
from stackbuild.spec.model import LayerKind
from stackbuild.variables import in_root, merged, sh_script

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from packaging.version import Version

    from stackbuild.compose.layer_inputs import LayerTarget, LowerLayer
    from stackbuild.frames.model import FrameSet
    from stackbuild.layout import Layout
    from stackbuild.lock.model import LayerLock
    from stackbuild.platforms import Platform
    from stackbuild.spec.model import Layer
    from stackbuild.variables import Variable


LICENCES = "share/licenses/distributions.json"

_LICENCE_FILE = re.compile(
    r"[^/]+\.dist-info/(licenses/.+|(LICEN[CS]E|COPYING|NOTICE|AUTHORS)[^/]*)", re.IGNORECASE
)
"""The directories of PEP 639, and those of older build backends."""


def directory_name(layer: Layer, lock: LayerLock) -> str:
    """The directory of `layer` in a root; with the lock's version if the layer is versioned."""
    return layer_directory(layer.name, lock.version if layer.versioned else None)


def module_files(
    target: LayerTarget,
    lower: Sequence[LowerLayer],
    sources: Mapping[str, Path],
    dll_directories: Sequence[str] = (),
) -> dict[str, FileContent]:
    """A layer's own Python modules, which are compiled like all others.

    These are `sources` (`project.modules.module_sources`) and the module that runs
    at start; a runtime has none. `lower` are the layers below, nearest first, and
    `dll_directories` those of `Linking`, of the whole chain. Raises ComposeError if a file cannot
    be read.
    """
    layer, layout = target.layer, target.layout
    if layer.kind is LayerKind.RUNTIME:
        return {}
    below = [(place.directory, place.pth) for place in lower]
    variables = chain_variables(target, lower)
    files = site_files(layout, lower[-1].directory, below, dll_directories, variables)
    for name, path in sources.items():
        try:
            content = FileContent(data=read_regular(path))
        except OSError as error:
            raise ComposeError(
                f"a module of the layer cannot be read: {error.strerror}",
                layer=layer.name,
                file=path,
            ) from error
        files[f"{layout.site_packages}/{name}"] = content
    return files


def head_files(
    layer: Layer,
    layout: Layout,
    lock: LayerLock,
    lower: Sequence[LowerLayer],
    dll_directories: Sequence[str] = (),
) -> dict[str, FileContent | Link]:
    """The files that make a directory a layer: configuration, interpreter, description.

    The console scripts of the chain and the licences are `chain_scripts` and
    `licence_files`. `lower` are the layers below, nearest first.
    """
    files: dict[str, FileContent | Link] = {}
    if layer.kind is not LayerKind.RUNTIME:
        if layout.os != "windows":
            files |= interpreter_links(layout, lower[-1].directory)
        files["pyvenv.cfg"] = _text(pyvenv_cfg(layer.name, lock.python_version))
    elif layout.os != "windows" and lock.python_version.release[:3] != (3, 14, 0):
        # It disables the user's site-packages in a runtime that is started directly.
        # Beside a python.exe it has another meaning, and 3.14.0 needs a `home`.
        files["pyvenv.cfg"] = _text(pyvenv_cfg(layer.name, lock.python_version))
    files[POSTINSTALL] = _filled(
        _POSTINSTALL, {"RUNTIME": repr(lower[-1].directory if lower else "")}
    )
    files[f"{METADATA}/venvstacks_layer.json"] = _json(
        _venvstacks_layer(layer, layout, lock, lower, dll_directories), indent=2
    )
    return files


def _venvstacks_layer(
    layer: Layer,
    layout: Layout,
    lock: LayerLock,
    lower: Sequence[LowerLayer],
    dll_directories: Sequence[str],
) -> dict[str, object]:
    """The metadata of venvstacks 0.8 in a layer (its class `LayerConfig`)."""
    windows = layout.os == "windows"
    base = "python.exe" if windows else "bin/python"
    is_runtime = layer.kind is LayerKind.RUNTIME
    config: dict[str, object] = {
        "python": base if is_runtime else layout.interpreter,
        "py_version": str(lock.python_version),
        "base_python": base if is_runtime else f"../{lower[-1].directory}/{base}",
        "site_dir": layout.site_packages,
        "pylib_dirs": [f"../{place.directory}/{layout.site_packages}" for place in lower],
        "dynlib_dirs": [f"../{path}" for path in dll_directories],
    }
    if layer.launch_module:
        config["launch_module"] = layer.launch_module.stem
    return config


def chain_scripts(
    lower: Sequence[LowerLayer], layout: Layout, platform: Platform, taken: Collection[str]
) -> dict[str, FileContent | Link]:
    """The console scripts of the layers below, started with this layer's interpreter.

    Of several with one name that of the nearest layer is used; paths `taken` by the
    layer itself have priority.
    """
    seen = {path.casefold() for path in taken}
    files: dict[str, FileContent | Link] = {}
    for place in lower:
        for frame_set in place.sets:
            for entry_point in frame_set.entry_points:
                for path, data in script_files(entry_point, layout, platform.machine).items():
                    if path.casefold() not in seen:
                        seen.add(path.casefold())
                        files[path] = FileContent(data=data, executable=True)
    return files


def chain_variables(target: LayerTarget, lower: Sequence[LowerLayer]) -> dict[str, Variable]:
    """The environment variables of a layer and those below, relative to the root."""
    chain = [place.target for place in reversed(lower)] + [target]
    windows = target.layout.os == "windows"
    place = partial(in_root, runtime=chain[0].directory, separator="\\" if windows else "/")
    return merged(
        {
            name.upper() if windows else name: place(variable, one.directory)
            for name, variable in one.layer.policy(one.platform).environment.items()
        }
        for one in chain
    )


def variable_files(
    variables: Mapping[str, Variable], layout: Layout
) -> dict[str, FileContent | Link]:
    """The files that tell the variables of a layer; none if it has no variables."""
    if not variables:
        return {}
    plain = {name: asdict(variable) for name, variable in variables.items()}
    files: dict[str, FileContent | Link] = {f"{METADATA}/environment.json": _json(plain, indent=2)}
    if layout.os != "windows":
        files[ENVIRONMENT_SCRIPT] = _text(sh_script(variables))
    return files


class Licensed(NamedTuple):
    """A part of a layer that has a licence."""

    name: str
    version: str
    frame_set: FrameSet


def licence_files(items: Iterable[Licensed], layout: Layout) -> dict[str, FileContent | Link]:
    """An overview: each distribution's licence, and the files with its text."""
    own, site = f"{layout.stdlib}/LICENSE.txt", f"{layout.site_packages}/"
    overview = [
        {
            "name": item.name,
            "version": item.version,
            "licence": item.frame_set.licence,
            "files": [
                path for path in item.frame_set.paths if path == own or _is_licence(path, site)
            ],
        }
        for item in items
    ]
    return {LICENCES: _json(overview, indent=2)}


def _is_licence(path: str, site: str) -> bool:
    # Cheap checks first: a layer may have tens of thousands of files.
    if ".dist-info/" not in path or not path.startswith(site):
        return False
    return bool(_LICENCE_FILE.fullmatch(path, len(site)))


def _text(text: str) -> FileContent:
    return FileContent(data=text.encode())


def _json(value: object, *, indent: int) -> FileContent:
    text = json.dumps(value, indent=indent, sort_keys=True, ensure_ascii=False)
    return _text(f"{text}\n")


POSTINSTALL = "postinstall.py"
"""Adjusts a layer that was moved on Windows; venvstacks has a script of this name."""

_TEMPLATE = Path(__file__).with_name("sitecustomize_template.py")
_POSTINSTALL = Path(__file__).with_name("postinstall_template.py")
_SETTINGS = re.compile(r"(?<=# stackbuild fills in from here\n).*(?=# to here\n)", re.DOTALL)

PTH = "zzz_stackbuild.pth"
"""Sorted last among a directory's `.pth` files, so that its path is inserted first."""
_PRECEDENCE = "import sys; sys.path.insert(0, sitedir)\n"
"""`sitedir` is a variable of the function in `site` that runs the line; the `.pth`
files of namespace packages use it, too."""


def pyvenv_cfg(name: str, python: Version) -> str:
    """The pyvenv.cfg of the layer `name` (PEP 405).

    It has no `home`: CPython finds the runtime through the link `bin/python`.
    If that is not enough, `install.home` adds one.
    """
    return f"include-system-site-packages = false\nversion = {python}\nprompt = {name}\n"


def interpreter_links(layout: Layout, runtime_directory: str) -> dict[str, Link]:
    """The links that start the runtime's interpreter in this layer."""
    first = f"{layout.scripts}/python"
    others = (f"{layout.scripts}/python3", f"{layout.scripts}/python{layout.python}")
    target = f"../../{runtime_directory}/{layout.runtime_interpreter}"
    return {first: Link(target), **{path: Link("python") for path in others}}


def site_files(
    layout: Layout,
    runtime_directory: str,
    lower: Sequence[tuple[str, Iterable[str]]],
    dll_directories: Sequence[str] = (),
    variables: Mapping[str, Variable] | None = None,
) -> dict[str, FileContent]:
    """The `sitecustomize.py` of a layer, and the `.pth` file through which it is found first.

    `lower` are the directories of the layers below, nearest first, each with the
    lines of its `.pth` files.
    """
    paths, imports = _lower_paths(layout, lower)
    settings = {
        "SITE_PACKAGES": repr(layout.site_packages),
        "RUNTIME": repr(runtime_directory),
        "INTERPRETER": repr(layout.runtime_interpreter),
        "PATHS: tuple[str, ...]": repr(paths),
        "IMPORTS: tuple[tuple[str, str], ...]": repr(imports),
        "PRECEDENCE": repr(PTH),
        "DLL_DIRECTORIES: tuple[str, ...]": repr(tuple(dll_directories)),
        'VARIABLES: "_Variables"': repr(
            tuple((name, *astuple(variable)) for name, variable in (variables or {}).items())
        ),
    }
    return {
        f"{layout.site_packages}/sitecustomize.py": _filled(_TEMPLATE, settings),
        f"{layout.site_packages}/{PTH}": _text(_PRECEDENCE),
    }


def _filled(template: Path, settings: Mapping[str, str]) -> FileContent:
    """A module of this package, with the values of its settings replaced."""
    text = "".join(f"{name} = {value}\n" for name, value in settings.items())
    return _text(_SETTINGS.sub(lambda _: text, template.read_text(encoding="utf-8")))


def _lower_paths(
    layout: Layout, lower: Sequence[tuple[str, Iterable[str]]]
) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Paths relative to the root, and lines to execute with their directories.

    Paths outside of the root are left out, as they depend on the machine.
    """
    paths: dict[str, None] = {}
    imports: list[tuple[str, str]] = []
    for directory, lines in lower:
        site = f"{directory}/{layout.site_packages}"
        paths[site] = None
        for line in lines:
            text = line.strip()
            if line.startswith(("import ", "import\t")):
                imports.append((site, text))
            elif text and not text.startswith("#"):
                path = posixpath.normpath(posixpath.join(site, text.replace("\\", "/")))
                if not path.startswith(("/", "../")) and ":" not in path:
                    paths[path] = None
    return tuple(paths), tuple(imports)
