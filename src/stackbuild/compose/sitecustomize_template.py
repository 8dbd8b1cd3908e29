"""What a layer does when its interpreter starts: it is chained to the layers below.

`stackbuild` copies this file into the site-packages of each framework and
application as `sitecustomize.py`, with the settings below filled in. The `site`
module imports it last of all, also with `-I`. The `.pth` file beside it puts it
before a `sitecustomize` that stands in `PYTHONPATH`; that one, or any other on
the path, is run afterwards.

It is written for every CPython that a runtime may be (3.9 and later), and
imports nothing that is not loaded by then, not even `__future__`.
"""

# pathlib is not loaded by then, and `sys` has no public names for what is set here.
# ruff: noqa: PTH110, PTH112, PTH114, PTH115, PTH118, PTH119, PTH120, SLF001

import os
import sys

# importlib.machinery has the same class, but is not loaded by then.
from _frozen_importlib_external import PathFinder

TYPE_CHECKING = False  # the `typing` module is not loaded by then either
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

    _Variables = tuple[tuple[str, str | None, tuple[str, ...], tuple[str, ...]], ...]

# stackbuild fills in from here
SITE_PACKAGES = "lib/python3.12/site-packages"
RUNTIME = "cpython-3.12"
INTERPRETER = "bin/python3.12"
PATHS: tuple[str, ...] = ("framework/lib/python3.12/site-packages",)
IMPORTS: tuple[tuple[str, str], ...] = ()
PRECEDENCE = "zzz_stackbuild.pth"
DLL_DIRECTORIES: tuple[str, ...] = ()
VARIABLES: "_Variables" = ()
# to here


def activate() -> list[str]:
    """See what the lower layers hold, and stay in the generation that was started.

    Returns what has been added to the path.
    """
    here = os.path.dirname(__file__)
    while sys.path[0] == here:
        del sys.path[0]  # what PRECEDENCE has put there; `site` has the directory at its place
    if here != os.path.join(sys.prefix, *SITE_PACKAGES.split("/")):
        return []  # seen from another environment, through its `.pth` or `PYTHONPATH`
    prefix = sys.prefix
    if os.path.islink(prefix) or os.path.islink(os.path.dirname(prefix)):
        prefix = _followed(prefix)
    root = os.path.dirname(prefix)
    _rename(_new_names(prefix, root))
    if VARIABLES:
        _set_variables(os.path.realpath(prefix))
    if os.name == "posix":
        # What `venv` and others start to make an environment of their own. Without a
        # `home` in pyvenv.cfg, CPython takes the layer's own link for it.
        interpreter = os.path.join(root, RUNTIME, *INTERPRETER.split("/"))
        sys._base_executable = interpreter  # type: ignore[attr-defined]  # CPython's own
    if sys.platform == "win32":
        # For DLLs of other distributions. Other systems find theirs through links.
        for path in DLL_DIRECTORIES:
            directory = os.path.join(root, *path.split("/"))
            if os.path.isdir(directory):
                os.add_dll_directory(directory)
    lower = [os.path.join(root, *path.split("/")) for path in PATHS]
    added = [path for path in lower if path not in sys.path and os.path.exists(path)]
    sys.path += added
    for path, line in IMPORTS:
        _run(line, os.path.join(root, *path.split("/")))
    return added


def _followed(prefix: str) -> str:
    """`prefix` without the links of a root: …/atls -> current/atls, …/current -> generations/7.

    `realpath` would look at every directory above them, which takes ten times as long.
    """
    path = prefix
    while os.path.islink(path):
        path = os.path.join(os.path.dirname(path), os.readlink(path))
    root, name = os.path.split(path)
    if os.path.islink(root):
        path = os.path.join(os.path.dirname(root), os.readlink(root), name)
    return path if path.startswith("/") and "/.." not in path else os.path.realpath(prefix)


def _set_variables(layer: str) -> None:
    """Set the variables of this layer, unless a process of this layer has started this one.

    The same as `stackbuild.variables.to_set`. Those that the dynamic loader or Python itself
    read at the start have an effect only in child processes.
    """
    if os.environ.get("STACKBUILD_LAYER") == layer:
        return
    root = layer.rpartition(os.sep)[0]
    for name, value, before, after in VARIABLES:
        middle = os.environ.get(name, "") if value is None else value.format(root=root)
        parts = [text.format(root=root) for text in before]
        parts += [middle] if middle else []
        parts += [text.format(root=root) for text in after]
        os.environ[name] = os.pathsep.join(parts)
    os.environ["STACKBUILD_LAYER"] = layer


def _another(paths: list[str]) -> "ModuleSpec | None":
    """The first `sitecustomize` in `paths` that is no layer's."""
    others = [path for path in paths if not os.path.exists(os.path.join(path, PRECEDENCE))]
    return PathFinder.find_spec("sitecustomize", others)


def _give_way(spec: "ModuleSpec") -> None:
    """Run the `sitecustomize` that this one stands before, and let it have the name."""
    from importlib.util import module_from_spec

    if spec.loader is not None:
        module = module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


def _new_names(prefix: str, root: str) -> list[tuple[str, str]]:
    """Old and new beginnings of paths.

    The way through `current` is replaced by the generation it leads to now: else
    a process that imports something after an upgrade would take it from the new
    generation, and mix the two. Where no such link was followed, all names stay
    as the user wrote them.
    """
    base = os.path.normpath(sys.base_prefix)
    if sys.prefix != prefix and os.path.basename(os.path.dirname(root)) == "generations":
        runtime = os.path.join(root, RUNTIME)
        return [(sys.base_prefix, runtime), (base, runtime), (sys.prefix, prefix)]
    # CPython 3.10 says …/atls/bin/../../cpython-3.10
    return [(sys.base_prefix, base)] if sys.base_prefix != base else []


def _rename(moves: list[tuple[str, str]]) -> None:
    if not moves:
        return
    for name in ("prefix", "exec_prefix", "base_prefix", "base_exec_prefix", "executable"):
        setattr(sys, name, _moved(getattr(sys, name), moves))
    if hasattr(sys, "_stdlib_dir"):
        sys._stdlib_dir = _moved(sys._stdlib_dir, moves)
    sys.path[:] = dict.fromkeys([_moved(path, moves) for path in sys.path])
    for module in list(sys.modules.values()):
        path = getattr(module, "__path__", None)
        if isinstance(path, list):
            path[:] = [_moved(entry, moves) for entry in path]


def _moved(path: str, moves: list[tuple[str, str]]) -> str:
    for old, new in moves:
        if path == old or path.startswith(old + os.sep):
            return new + path[len(old) :]
    return path


def _run(line: str, sitedir: str) -> None:
    # Old namespace packages look for `sitedir` in the frame that runs their line.
    try:
        exec(line)  # noqa: S102 - what `site` does with such a line
    except Exception as error:  # noqa: BLE001 - as in `site`: it stops nothing else
        print(f"{sitedir}: {line!r} failed: {error!r}", file=sys.stderr)


# Looked for before directories get new names, under which Python would read them anew.
# Most often there is none, and no directory has to be asked whether it is a layer's.
_others = [path for path in sys.path if path != os.path.dirname(__file__)]
_next = PathFinder.find_spec("sitecustomize", _others) and _another(_others)
_added = activate()
_next = _next or _another(_added)
if _next is not None:
    _give_way(_next)
