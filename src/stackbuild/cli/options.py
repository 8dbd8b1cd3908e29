"""The options that several commands have, and short forms to declare others."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from stackbuild.api import UsageError


def path_argument(text: str) -> Path:
    """The path in an option. An empty one (an unset variable in a script) would mean `.`."""
    if not text:
        raise argparse.ArgumentTypeError("empty; name a path, or . for this directory")
    return Path(text)


def place_argument(text: str) -> str:
    """The directory or address in an option."""
    path_argument(text)
    return text


def whole(text: str) -> int:
    """The whole number in an option."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


_PATHS = {"DIR", "MIRROR", "PATH"}
_SEVERAL: dict[str, Any] = {"action": "append", "default": []}
_FLAG: dict[str, Any] = {"action": "store_true"}

LAYER_HELP = (
    "the name of a layer, its name in venvstacks (app-NAME, framework-NAME), or a pattern such as "
    "'app-*'"
)
"""How commands take layers (`spec.select.find_names`)."""
PUBLISHED_HELP = (
    f"{LAYER_HELP}; with @VERSION or ==VERSION, or @sha256: and the start of a digest, another "
    "version than the current one"
)
"""How commands take published layers (`registry.find.Published.find`)."""

_SHARED: dict[str, dict[str, Any]] = {
    "--spec": {
        "type": path_argument,
        "default": Path("venvstacks.toml"),
        "metavar": "FILE",
        "help": "the stack (default: venvstacks.toml in this directory)",
    },
    "--layer": _SEVERAL
    | {
        "metavar": "LAYER",
        "help": f"only this layer and the layers below it: {LAYER_HELP}; "
        "may be given several times",
    },
    "--platform": _SEVERAL
    | {
        "metavar": "PLATFORM",
        "help": "only this platform, such as linux-x64, or host; may be given several times",
    },
    "--no-sync": _FLAG
    | {
        "help": "do not wait until the files are on the disk: faster, but a power cut may damage "
        "the root",
    },
    "--allow-unresolved": _FLAG
    | {"help": "accept layers that lack shared libraries, with a warning"},
    "--json": _FLAG | {"help": "print the result as JSON"},
}


_OTHER_SPELLINGS = {"--layer": ["--include"]}
"""That of venvstacks."""


def check_unresolved(arguments: argparse.Namespace) -> None:
    """Raise UsageError for --allow-unresolved with layers that are published already."""
    if arguments.allow_unresolved and arguments.place is not None:
        raise UsageError(
            "--allow-unresolved cannot be combined with --from",
            remedy="leave it out: layers are checked when they are published",
        )


def add_shared(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add the options `names` of those that several commands have."""
    for name in names:
        parser.add_argument(name, *_OTHER_SPELLINGS.get(name, ()), **_SHARED[name])


def add_flag(parser: argparse._ActionsContainer, name: str, text: str) -> None:
    """Add an option without a value; `text` is its line in `--help`."""
    parser.add_argument(name, action="store_true", help=text)


def add_value(
    parser: argparse._ActionsContainer, name: str, metavar: str, text: str, **settings: Any
) -> None:
    """Add an option with a value, or an argument; `metavar` says whether it is a path."""
    if metavar in _PATHS:
        settings["type"] = path_argument
    elif metavar == "PLACE":
        settings["type"] = place_argument
    parser.add_argument(name, metavar=metavar, help=text, **settings)


ROOT_HELP = "(default: the root of this directory, or that stackbuild.install.toml in it names)"
"""The default of `--root` (`root_here`)."""


def root_here(given: Path | None) -> Path:
    """`given`, or the root of the working directory (`api.find_root`). Raises UsageError."""
    from stackbuild.api import UsageError, find_root

    found = given or find_root()
    if found is None:
        raise UsageError(
            "no root was named, and this directory neither is in one nor has the file for `sync`",
            file=Path.cwd(),
            remedy="name the root, with --root DIR where the command has that option",
        )
    return found


def add_place(parser: argparse._ActionsContainer, text: str, **settings: Any) -> None:
    """Add `--from`, a place that layers are published to."""
    parser.add_argument("--from", dest="place", metavar="PLACE", help=text, **settings)
