"""The words of a spec that have a form of their own: names, versions, addresses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from stackbuild.names import LAYER_NAME, layer_name_fault
from stackbuild.platforms import Platform
from stackbuild.reading import Item, did_you_mean, redacted
from stackbuild.transport.urls import has_valid_port

if TYPE_CHECKING:
    from collections.abc import Iterable

    from packaging.requirements import Requirement
    from packaging.utils import NormalizedName
    from packaging.version import Version

    from stackbuild.reading import Problems, Table

_PLATFORMS = {str(platform): platform for platform in Platform} | {
    platform.venvstacks_name: platform for platform in Platform
}

_PREFIXES_OF_VENVSTACKS = ("framework-", "app-")

_REQUIREMENT = "a name and versions, such as 'numpy>=2'"
_DIRECT = "such as 'name @ git+https://host/repository@revision'"
_GIT = re.compile(r"git\+(?P<scheme>https?|ssh|file)://((?P<user>[^/\s@]*)@)?[^/\s@]*/[^\s?]+")
OLDEST_PYTHON = (3, 9)
"""What stackbuild runs in a layer, at its start and to compile and verify it, is written for it."""
_PYTHON = re.compile(r"3\.(0|[1-9][0-9]{0,3})\.(0|[1-9][0-9]{0,3})")
_LINUX_TARGET = re.compile(r"glibc(@[0-9]{1,3}\.[0-9]{1,3})?")
_MACOSX_TARGET = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3})?")
_ADDRESS = re.compile(r"https?://([^/\s]*@)?[^/\s@:]+(:[0-9]+)?(/\S*)?|file:///\S+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_INDEX_NAME = re.compile(r"[A-Za-z0-9._-]+")


def check_layer_name(item: Item[str], problems: Problems, *, runtime: bool) -> None:
    """Report a name that cannot be a directory on every platform, or that is taken."""
    name, place = item.value, item.place
    if fault := layer_name_fault(name):
        problems.add(place, fault, expected=LAYER_NAME, found=name)
    elif runtime and name.lower().startswith(_PREFIXES_OF_VENVSTACKS):
        problems.add(
            place, "a prefix that venvstacks keeps for frameworks and applications", found=name
        )


def read_platforms(table: Table, key: str) -> list[Item[Platform]] | None:
    """The platforms of an array, each once, by either naming scheme; None without one."""
    items = table.texts(key)
    if items is None:
        return None
    found: dict[Platform, Item[Platform]] = {}
    for item in items:
        platform = read_platform(item, table.problems)
        if platform in found:
            table.problems.add(item.place, "named twice", found=item.value)
        elif platform is not None:
            found[platform] = Item(item.place, platform)
    return list(found.values())


def read_platform(item: Item[str], problems: Problems) -> Platform | None:
    """The platform that a text names; its value `host` would depend on the machine."""
    platform = _PLATFORMS.get(item.value)
    if platform is None:
        problems.add(
            item.place,
            "unknown platform",
            expected=f"one of {', '.join(Platform)}",
            found=item.value,
            hint=did_you_mean(item.value, _PLATFORMS),
        )
    return platform


def in_order(platforms: Iterable[Platform]) -> tuple[Platform, ...]:
    """`platforms` in the order of `Platform`."""
    wanted = set(platforms)
    return tuple(platform for platform in Platform if platform in wanted)


def read_requirement(item: Item[str], problems: Problems) -> Requirement | None:
    """A requirement in the form of PEP 508; its address can only be that of a git repository."""
    from packaging.requirements import InvalidRequirement, Requirement

    reason = None
    try:
        requirement = Requirement(item.value)
    except InvalidRequirement as error:
        reason = redacted(str(error).partition("\n")[0])
    except RecursionError:
        reason = "Too many parentheses in its marker"
    if reason is not None:
        address = "://" in item.value
        problems.add(
            item.place,
            "an address without a name" if address else f"not a requirement: {reason}",
            expected=_DIRECT if address else _REQUIREMENT,
            found=item.value,
        )
        return None
    if requirement.url is not None and not _check_git(item, requirement.url, problems):
        return None
    return requirement


def _check_git(item: Item[str], url: str, problems: Problems) -> bool:
    """Whether the address of a requirement is that of a git repository, without a secret."""
    match = _GIT.fullmatch(url)
    if match is None or not has_valid_port(url):
        # Not shown, as other parts of an address than the user can be secrets too.
        problems.add(item.place, "not the address of a git repository", expected=_DIRECT)
    elif match["user"] and (match["scheme"] != "ssh" or ":" in match["user"]):
        problems.add(
            item.place,
            "a user or password in an address, which would get into the locks",
            expected="git's own credential helper, or netrc",
        )
    else:
        return True
    return False


def read_python(item: Item[str], problems: Problems) -> Version | None:
    """The version in a `python_implementation` such as ``cpython@3.12.10``."""
    from packaging.version import Version

    implementation, _, version = item.value.partition("@")
    hint = None
    if implementation == "pypy":
        message = "PyPy is not supported yet"
    elif implementation != "cpython":
        message = "not an implementation of Python"
        hint = did_you_mean(implementation.lower(), ["cpython"])
    elif _PYTHON.fullmatch(version) and Version(version).release < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        message = f"layers run on CPython {oldest} and later"
    elif _PYTHON.fullmatch(version):
        return Version(version)
    elif _PYTHON.fullmatch(f"{version}.0"):
        message = "the version lacks its patch number"
    else:
        message = "not a version of CPython 3"
    problems.add(
        item.place,
        message,
        expected="cpython@ and three numbers, such as cpython@3.12.10",
        found=item.value,
        hint=hint,
    )
    return None


def read_linux_target(table: Table) -> str | None:
    """`linux_target`, such as ``glibc@2.28``; plain ``glibc`` is the default, None."""
    text = table.text("linux_target")
    if text is None or text == "glibc":
        return None
    if _LINUX_TARGET.fullmatch(text):
        return text
    musl = text.partition("@")[0] == "musl"
    table.problems.add(
        table.place_of("linux_target"),
        "musl is not supported yet" if musl else "not a C library and its version",
        expected="glibc@ and a version, such as glibc@2.28",
        found=text,
    )
    return None


def read_macosx_target(table: Table) -> str | None:
    """`macosx_target`, such as ``12.0``."""
    text = table.text("macosx_target")
    if text is None or _MACOSX_TARGET.fullmatch(text):
        return text
    table.problems.add(
        table.place_of("macosx_target"),
        "not a version of macOS",
        expected="a version such as 12.0",
        found=text,
    )
    return None


def read_distribution(item: Item[str], problems: Problems) -> NormalizedName | None:
    """The normalised name of a distribution (PEP 503)."""
    from packaging.utils import InvalidName, canonicalize_name

    try:
        return canonicalize_name(item.value, validate=True)
    except InvalidName:
        problems.add(item.place, "not the name of a distribution", found=item.value)
        return None


def read_override(item: Item[str], problems: Problems) -> str | None:
    """A version, or a specifier (PEP 440), as a specifier: ``2.7.0`` becomes ``==2.7.0``."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import InvalidVersion, Version

    try:
        return f"=={Version(item.value)}"
    except InvalidVersion:
        pass
    try:
        specifier = str(SpecifierSet(item.value))
    except InvalidSpecifier:
        specifier = ""
    if not specifier:
        problems.add(
            item.place,
            "neither a version nor a version specifier",
            expected="one such as '2.7.0' or '>=2.7,<3'",
            found=item.value,
        )
    return specifier or None


def read_address(table: Table, key: str, *, required: bool = False) -> str | None:
    """An address of the schemes that stackbuild fetches from."""
    text = table.text(key, required=required)
    if text is None or (_ADDRESS.fullmatch(text) and has_valid_port(text)):
        return text
    table.problems.add(
        table.place_of(key),
        "not an address",
        expected="https://…, http://… or file:///…",
        found=text,
    )
    return None


def read_sha256(table: Table, key: str) -> str | None:
    """A required sha256 in hexadecimal, in lower case."""
    text = table.text(key, required=True)
    if text is None or _SHA256.fullmatch(text.lower()):
        return text and text.lower()
    table.problems.add(
        table.place_of(key), "not a sha256", expected="64 hexadecimal digits", found=text
    )
    return None


def read_index_name(table: Table) -> str | None:
    """The name of a package index, as uv allows it."""
    text = table.text("name")
    if text is None or _INDEX_NAME.fullmatch(text):
        return text
    table.problems.add(
        table.place_of("name"),
        "not a name for a package index",
        expected="letters, digits, '-', '_' and '.'",
        found=text,
    )
    return None
