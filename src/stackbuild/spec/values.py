"""Parsers for the strings of a spec: names, versions, addresses."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from stackbuild.names import LAYER_NAME, layer_name_fault
from stackbuild.platforms import Platform
from stackbuild.reading import Item, ReadError, did_you_mean, redacted
from stackbuild.spec.model import VENVSTACKS_PREFIXES
from stackbuild.spec.sources import canonical_name, check_file_name, file_in
from stackbuild.transport.urls import has_valid_port

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from packaging.requirements import Requirement
    from packaging.utils import NormalizedName
    from packaging.version import Version

    from stackbuild.spec.table import Problems

_PLATFORMS = {str(platform): platform for platform in Platform} | {
    platform.venvstacks_name: platform for platform in Platform
}

_REQUIREMENT = "a name and versions, such as 'numpy>=2'"
_DIRECT = "such as 'name @ git+https://host/repository@revision'"
_OF_LAYER = f"{_DIRECT}, 'name @ https://host/name-1.0-py3-none-any.whl' or 'name @ file:name'"
_GIT = re.compile(r"git\+(?P<scheme>https?|ssh|file)://((?P<user>[^/\s@]*)@)?[^/\s@]*/[^\s?]+")
OLDEST_PYTHON = (3, 9)
"""The code that stackbuild runs in layers, such as `sitecustomize`, supports it."""
_PYTHON = re.compile(r"3\.(0|[1-9][0-9]{0,3})\.(0|[1-9][0-9]{0,3})")
_LOCAL = re.compile(r"file:(?!/)[^\s?#]+")
_WEB = re.compile(
    r"https?://((?P<user>[^/\s@]*)@)?[^/\s@?#]+/[^\s?#]+"
    r"\.(whl|tar\.gz|zip)(#sha256=[0-9a-fA-F]{64})?"
)
_LINUX_TARGET = re.compile(r"glibc(@[0-9]{1,3}\.[0-9]{1,3})?")
_MACOSX_TARGET = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3})?")
_ADDRESS = re.compile(r"https?://([^/\s]*@)?[^/\s@:]+(:[0-9]+)?(/\S*)?|file:///\S+")
_ADDRESSES = "https://…, http://… or file:///…"
_WITH_USER = "a user or password in an address; it would be written into the locks"
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_INDEX_NAME = re.compile(r"[A-Za-z0-9._-]+")


def check_layer_name(item: Item[str], problems: Problems, *, runtime: bool) -> None:
    """Report a name that cannot be a directory on every platform, or that is reserved."""
    name, place = item.value, item.place
    if fault := layer_name_fault(name):
        problems.add(place, fault, expected=LAYER_NAME, found=name)
    elif runtime and any(
        prefix and name.lower().startswith(prefix) for prefix in VENVSTACKS_PREFIXES.values()
    ):
        problems.add(place, "a prefix that venvstacks reserves for other layers", found=name)


def as_platform(item: Item[str]) -> Platform:
    """A platform in either naming scheme; not `host`, which depends on the machine."""
    if item.value in _PLATFORMS:
        return _PLATFORMS[item.value]
    hint = did_you_mean(item.value, _PLATFORMS)
    raise item.error("unknown platform", f"one of {', '.join(Platform)}", hint)


def in_order(platforms: Iterable[Platform]) -> tuple[Platform, ...]:
    """`platforms` in the order of `Platform`."""
    wanted = set(platforms)
    return tuple(platform for platform in Platform if platform in wanted)


def as_layer_requirement(item: Item[str]) -> Requirement:
    """A requirement of a layer: as `as_requirement`, or with the address of a file or project.

    That is ``file:`` and a relative path, or http(s), a file, and optionally its sha256. Whether
    it exists is not checked.
    """
    return _requirement(item, _check_address, _OF_LAYER)


def as_requirement(item: Item[str]) -> Requirement:
    """A requirement (PEP 508); only a git repository is accepted as its address."""
    return _requirement(item, _check_git, _DIRECT)


def _requirement(
    item: Item[str], check: Callable[[str, Requirement, str], None], direct: str
) -> Requirement:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        found = Requirement(item.value)
    except InvalidRequirement as error:
        reason = redacted(str(error).partition("\n")[0])
    except RecursionError:
        reason = "Too many parentheses in its marker"
    else:
        if found.url is not None:
            check(item.place, found, direct)
        return found
    if "://" in item.value:
        raise item.error("an address without a name", direct)
    raise item.error(f"not a requirement: {reason}", _REQUIREMENT)


def _check_address(place: str, requirement: Requirement, expected: str) -> None:
    """Raise ReadError unless the address is one of a layer's requirement, without a secret."""
    url = requirement.url or ""
    web = _WEB.fullmatch(url)
    if not _LOCAL.fullmatch(url) and not web:
        _check_git(place, requirement, expected)
    elif web and not has_valid_port(url):
        raise ReadError(place, None, expected, "not a supported address")
    elif web and web["user"]:
        raise ReadError(place, None, "a netrc file", _WITH_USER)
    elif file := file_in(url):
        check_file_name(Item(place, file), canonical_name(requirement))


def _check_git(place: str, requirement: Requirement, expected: str) -> None:
    """Raise ReadError unless the address is that of a git repository, without a secret.

    The error does not show it, as any part of an address may be a secret.
    """
    url = requirement.url or ""
    match = _GIT.fullmatch(url)
    if match is None or not has_valid_port(url):
        raise ReadError(place, None, expected, "not a supported address")
    if match["user"] and (match["scheme"] != "ssh" or ":" in match["user"]):
        raise ReadError(place, None, "git's own credential helper, or netrc", _WITH_USER)


def as_python(item: Item[str]) -> Version:
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
    expected = "cpython@ and three numbers, such as cpython@3.12.10"
    raise item.error(message, expected, hint)


def as_linux_target(item: Item[str]) -> str | None:
    """`linux_target`, such as ``glibc@2.28``; plain ``glibc`` is the default, None."""
    text = item.value
    if _LINUX_TARGET.fullmatch(text):
        return None if text == "glibc" else text
    musl = text.partition("@")[0] == "musl"
    message = "musl is not supported yet" if musl else "not a C library and its version"
    raise item.error(message, "glibc@ and a version, such as glibc@2.28")


def as_macosx_target(item: Item[str]) -> str:
    """`macosx_target`, such as ``12.0``."""
    return _matching(item, _MACOSX_TARGET, "not a version of macOS", "a version such as 12.0")


def as_distribution(item: Item[str]) -> NormalizedName:
    """The normalised name of a distribution (PEP 503)."""
    from packaging.utils import InvalidName, canonicalize_name

    try:
        return canonicalize_name(item.value, validate=True)
    except InvalidName:
        raise item.error("not the name of a distribution") from None


def as_specifier(item: Item[Any]) -> str:
    """A version, or a specifier (PEP 440), as a specifier: ``2.7.0`` becomes ``==2.7.0``."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import InvalidVersion, Version

    text = item.line()
    with suppress(InvalidVersion):
        return f"=={Version(text)}"
    with suppress(InvalidSpecifier):
        if found := str(SpecifierSet(text)):
            return found
    expected = "one such as '2.7.0' or '>=2.7,<3'"
    raise item.error("neither a version nor a version specifier", expected)


def as_address(item: Item[str]) -> str:
    """An address with a scheme that stackbuild can download from."""
    if not has_valid_port(item.value):
        raise item.error("not an address", _ADDRESSES)
    return _matching(item, _ADDRESS, "not an address", _ADDRESSES)


def as_sha256(item: Item[str]) -> str:
    """A sha256 in hexadecimal, in lower case."""
    return _matching(item, _SHA256, "not a sha256", "64 hexadecimal digits").lower()


def as_index(names: Collection[str]) -> Callable[[Item[str]], str]:
    """A parser for the name of one of the indexes called `names`."""

    def read(item: Item[str]) -> str:
        if item.value in names:
            return item.value
        expected = f"one of {', '.join(names)}" if names else "the name of a [[tool.uv.index]]"
        raise item.error("unknown package index", expected, did_you_mean(item.value, names))

    return read


def as_index_name(item: Item[str]) -> str:
    """A name that uv allows for a package index."""
    expected = "letters, digits, '-', '_' and '.'"
    return _matching(item, _INDEX_NAME, "not a name for a package index", expected)


def _matching(item: Item[str], form: re.Pattern[str], message: str, expected: str) -> str:
    if not form.fullmatch(item.value):
        raise item.error(message, expected)
    return item.value
