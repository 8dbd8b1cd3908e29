"""The dependencies of an older configuration: requirements, or addresses of git repositories."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

from stackbuild.importers.runenv.model import Dependency
from stackbuild.reading import Item, ReadError, redacted
from stackbuild.spec import values
from stackbuild.transport.urls import without_credentials

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from stackbuild.importers.runenv.jsonfile import JsonTable
    from stackbuild.spec.table import Problems

_USER = re.compile(r"(?<=://)(?P<user>[^/@]*)@")


def read_dependencies(table: JsonTable, key: str, file: str) -> tuple[Dependency, ...]:
    """The dependencies in the array at `key`; `file` is the file that holds `table`.

    Secrets in addresses, and addresses that a stack cannot use, are left out and noted.
    """
    found: dict[str, Dependency] = {}
    for item in table.array(key, "an array of strings") or ():
        if not isinstance(item.value, str):
            table.problems.add(item.place, "wrong type", expected="a string", found=item.value)
        elif item.value.strip():
            requirement = read_requirement(item.value.strip(), item.place, table.problems)
            if requirement is not None and requirement.url:
                requirement = _usable(requirement, item.place, table)
            if requirement is not None:
                dependency = Dependency(requirement=requirement, place=f"{file}: {item.place}")
                found.setdefault(str(requirement), dependency)
    return tuple(found.values())


def read_requirement(text: str, place: str, problems: Problems) -> Requirement | None:
    """The requirement `text`. A `git+` address without a name is named after its repository."""
    from packaging.requirements import InvalidRequirement, Requirement

    words = text
    if re.match(r"(git|hg|svn|bzr)\+", text):
        address, _, fragment = text.partition("#")
        egg = re.search(r"(?:^|&)egg=([^&]+)", fragment)
        rest = "&".join(part for part in fragment.split("&") if part and part[:4] != "egg=")
        path = re.sub(r"@[^@/]*$", "", address.partition("://")[2])
        name = egg[1] if egg else path.rstrip("/").rpartition("/")[2].removesuffix(".git")
        words = f"{name} @ {address}{f'#{rest}' if rest else ''}"
    try:
        return Requirement(words)
    except InvalidRequirement as error:
        problems.add(
            place,
            f"not a requirement: {redacted(str(error).partition(chr(10))[0])}",
            expected="a name and versions, such as 'numpy==2.2.6', or 'git+https://…@revision'",
            found=text,
        )
        return None


def _usable(requirement: Requirement, place: str, table: JsonTable) -> Requirement | None:
    """`requirement` with an address that a stack can use. A note tells what was changed."""
    address = requirement.url or ""
    match = _USER.search(address)
    if match and not (address.startswith("git+ssh:") and ":" not in match["user"]):
        requirement.url = _USER.sub("", address)
    with suppress(ReadError):
        values.as_requirement(Item(place, str(requirement)))
        if requirement.url != address:
            text = f"the user in the address of {requirement.name} was left out;"
            text += " set it up in git's credential helper or netrc"
            table.add_note("question", place, text)
        return requirement
    pinned = _of_wheel(requirement, address)
    shown = without_credentials(address.partition("?")[0])
    what = f"is now required as {pinned}" if pinned else "was left out"
    text = f"{requirement.name} from {shown} {what}; add its wheel with `stackbuild wheel add`"
    table.add_note("without-counterpart", place, text)
    return pinned


def _of_wheel(requirement: Requirement, address: str) -> Requirement | None:
    """The name and version that the address of a wheel tells."""
    from urllib.parse import unquote, urlsplit

    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        version = parse_wheel_filename(unquote(urlsplit(address).path).rpartition("/")[2])[1]
    except InvalidWheelFilename:
        return None
    found = Requirement(str(requirement))
    found.url, found.specifier = None, SpecifierSet(f"=={version}")
    return found
