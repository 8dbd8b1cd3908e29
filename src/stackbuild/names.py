"""Which names and paths stackbuild accepts: of layers, and of files in layers.

The spec, the locks and every reader of an index, a manifest or a root's state
ask these functions, so that what one of them accepts the others accept too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from stackbuild.platforms import OsName

LAYER_NAME = "letters, digits, '.', '_', '-' and '@', a letter or digit first"
"""What the name of a layer consists of, in words. Nothing in it has a meaning for a shell."""

MAX_LAYER_NAME = 100
"""In characters."""
MAX_NAME = 255
"""Bytes of one component of a path: NAME_MAX of Linux and macOS, and at most the
255 UTF-16 units of NTFS."""
MAX_PATH = 1024
"""Bytes of a path in a layer: PATH_MAX of macOS."""
MAX_DEPTH = 100
"""Components of a path in a layer."""

_LAYER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]*")
_VERSION = re.compile(r"@(0|[1-9][0-9]{0,8})")
_DRIVE = re.compile("[A-Za-z]:")
# "Naming Files, Paths, and Namespaces" of Microsoft's Win32 documentation. A device's name
# counts whatever follows a dot, and blanks before the dot do not matter. Windows takes the
# superscript digits for digits.
_DEVICE = r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3]) *(?:\.[^/]*)?"
_WINDOWS_DEVICE = re.compile(_DEVICE, re.IGNORECASE)
_WINDOWS_FAULTS = (
    (re.compile(r'[<>:"|?*]'), 'has one of the characters < > : " | ? * that Windows reserves'),
    (re.compile(r"[\x00-\x1f]"), "has a control character, which Windows does not allow"),
    (re.compile(r"[. ](?:/|\Z)"), "has a dot or a space at the end of a name, which Windows drops"),
    (
        re.compile(rf"(?:\A|/){_DEVICE}(?:/|\Z)", re.IGNORECASE),
        "has a name that Windows reserves for a device",
    ),
)
_OWN = frozenset(
    ("cachedir.tag", "current", "damaged", "generations", "lock", "staging", "state", "store")
)
"""What stackbuild's own files in a root are called, without ``.json``."""


def layer_name_fault(name: str) -> str | None:
    """Why a layer cannot be called `name`, as a sentence without subject; None if it can.

    A name is a directory on every platform, beside the files of stackbuild's
    own, and an argument on the command line.
    """
    if not _LAYER_NAME.fullmatch(name):
        return "is not a valid layer name"
    if name.endswith("."):
        return "ends with a dot, which Windows drops"
    if len(name) > MAX_LAYER_NAME:
        return f"is longer than {MAX_LAYER_NAME} characters"
    if _WINDOWS_DEVICE.fullmatch(name):
        return "is a name that Windows reserves for a device"
    if name.lower().removesuffix(".json") in _OWN:
        return "is the name of a file of stackbuild's own in an installed root"
    return None


def layer_directory(name: str, version: int | None) -> str:
    """The directory of the layer `name` in a root; `version` is set for versioned layers."""
    return name if version is None else f"{name}@{version}"


def is_directory_of(directory: str, layer: str) -> bool:
    """Whether the layer called `layer` can be in `directory`: see `layer_directory`."""
    rest = directory.removeprefix(layer)
    return directory == layer or (rest != directory and bool(_VERSION.fullmatch(rest)))


def path_fault(path: str, os: OsName | None = None) -> str | None:
    """Why a layer cannot hold a file at `path`, as a sentence without subject; None if it can.

    Without `os` that is what no platform can have: paths that leave the layer,
    name nothing, or are longer than a file system takes. With `os` also what
    that system cannot have. Names that differ by case only are not looked for.
    """
    fault = _text_fault(path)
    if not fault and any(part in ("", ".", "..") for part in path.split("/")):
        fault = "is absolute, or has an empty, '.' or '..' part"
    if not fault and path.count("/") >= MAX_DEPTH:
        fault = f"has more than {MAX_DEPTH} directories above one another"
    if not fault and len(path) * 4 > MAX_NAME:
        fault = _length_fault(path)
    if not fault and os == "windows":
        fault = next((text for form, text in _WINDOWS_FAULTS if form.search(path)), None)
    return fault


def link_fault(path: str, target: str, siblings: Collection[str] = ()) -> str | None:
    """Why a layer cannot hold a symbolic link at `path` to `target`, as `path_fault` says it.

    `siblings` are the directories beside the layer that links may lead into.
    ``..`` may only stand at the start: behind a name it could climb out through
    another link.
    """
    parts = target.split("/")
    ups = 0
    while ups < len(parts) and parts[ups] == "..":
        ups += 1
    down = parts[ups:]
    above = ups - path.count("/")
    fault = _text_fault(target)
    if not fault and any(part in ("", ".", "..") for part in down):
        fault = "is absolute, or has an empty, '.' or inner '..' part"
    if not fault and above > 0 and not (above == 1 and down and down[0] in siblings):
        fault = "leads out of the layer"
    return fault


def _text_fault(path: str) -> str | None:
    """Why neither a path nor the target of a link can be `path`, as `path_fault` says it."""
    if not path:
        return "is empty"
    if "\\" in path or "\0" in path or _DRIVE.match(path):
        return "has a backslash, a NUL or a drive letter"
    try:
        length = len(path.encode())
    except UnicodeEncodeError:
        return "is not UTF-8"
    return f"is longer than {MAX_PATH} bytes" if length > MAX_PATH else None


def _length_fault(path: str) -> str | None:
    longest = max(len(part.encode()) for part in path.split("/"))
    return f"has a name of more than {MAX_NAME} bytes" if longest > MAX_NAME else None
