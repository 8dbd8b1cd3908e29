"""Validate names of layers and distributions, and paths of files in layers.

The readers of specs, locks, indexes, manifests and states all use these functions, so they accept
the same names.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from packaging.utils import NormalizedName
    from packaging.version import Version

    from stackbuild.platforms import OsName

LAYER_NAME = "letters, digits, '.', '_', '-' and '@', a letter or digit first"
"""The allowed characters of a layer name, for messages. None is special in a shell."""

MAX_LAYER_NAME = 100
"""In characters."""
MAX_NAME = 255
"""Bytes of one component of a path: NAME_MAX of Linux and macOS, and at most the
255 UTF-16 units of NTFS."""
MAX_PATH = 1024
"""Bytes of a path in a layer: PATH_MAX of macOS."""
MAX_DEPTH = 100
"""The maximum number of components of a path in a layer."""

_LAYER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]*")
_VERSION = re.compile(r"@(0|[1-9][0-9]{0,8})")
_DRIVE = re.compile("[A-Za-z]:")
# "Naming Files, Paths, and Namespaces" in Microsoft's Win32 documentation. A device name is
# reserved with any extension, also with spaces before the dot. Superscript digits count as digits.
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
"""Names of stackbuild's own files in a root, without ``.json``."""


def layer_name_fault(name: str) -> str | None:
    """The fault of the layer name `name`, as a sentence without subject, or None.

    A name is a directory on every platform, beside stackbuild's own files, and an argument on the
    command line. Example: `layer_name_fault("con")` is ``is a name that Windows reserves for a
    device``.
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
        return "is used for a file of stackbuild in installed roots"
    return None


def layer_directory(name: str, version: int | None) -> str:
    """The directory of the layer `name` in a root; `version` is set for versioned layers."""
    return name if version is None else f"{name}@{version}"


def is_directory_of(directory: str, layer: str) -> bool:
    """Whether `directory` is a possible directory of `layer` (see `layer_directory`)."""
    rest = directory.removeprefix(layer)
    return directory == layer or (rest != directory and bool(_VERSION.fullmatch(rest)))


def path_fault(path: str, os: OsName | None = None) -> str | None:
    """The fault of the path `path` in a layer, as a sentence without subject, or None.

    Faults on all platforms are paths out of the layer, empty parts, and too long names. With `os`,
    names that are invalid on this system are also faults. Names that differ only by case are not
    checked.
    """
    fault = _text_fault(path)
    if not fault and any(part in ("", ".", "..") for part in path.split("/")):
        fault = "is absolute, or has an empty, '.' or '..' part"
    if not fault and path.count("/") >= MAX_DEPTH:
        fault = f"has more than {MAX_DEPTH} nested directories"
    if not fault and len(path) * 4 > MAX_NAME:
        fault = _length_fault(path)
    if not fault and os == "windows":
        fault = next((text for form, text in _WINDOWS_FAULTS if form.search(path)), None)
    return fault


def link_fault(path: str, target: str, siblings: Collection[str] = ()) -> str | None:
    """The fault of a symbolic link at `path` to `target`, like `path_fault`.

    Links may lead into `siblings`, the directories beside the layer. ``..`` is only allowed at the
    start, because after a name it could leave the layer through another link. Example:
    `link_fault("bin/python", "../../cpython/bin/python", ["cpython"])` is None.
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
    """The fault of `path` as a path or the target of a link, like `path_fault`."""
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


def is_distribution(
    its_name: str, its_version: str, name: NormalizedName, version: Version
) -> bool:
    """Whether `Name` and `Version` of core metadata are `name` and `version`."""
    from packaging.utils import canonicalize_name
    from packaging.version import InvalidVersion, Version

    try:
        return (canonicalize_name(its_name), Version(its_version)) == (name, version)
    except InvalidVersion:
        return False
