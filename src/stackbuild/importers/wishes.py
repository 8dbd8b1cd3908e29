"""The dependencies of an older configuration: requirements, and bare addresses of git."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from stackbuild.importers.model import Note, Wish
from stackbuild.reading import Item, Problems, redacted
from stackbuild.spec import values
from stackbuild.transport.urls import without_credentials

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from stackbuild.importers.jsonfile import JsonTable

_USER = re.compile(r"(?<=://)(?P<user>[^/@]*)@")


def read_wishes(table: JsonTable, key: str, file: str) -> tuple[Wish, ...]:
    """The dependencies that the array at `key` names; `file` is what the table was read from.

    What a stack cannot ask for, and secrets in addresses, are left out and noted.
    """
    found: dict[str, Wish] = {}
    for item in table.array(key, "an array of strings") or ():
        if not isinstance(item.value, str):
            table.problems.add(item.place, "wrong type", expected="a string", found=item.value)
        elif item.value.strip():
            requirement = read_requirement(item.value.strip(), item.place, table.problems)
            if requirement is not None and requirement.url:
                requirement = _usable(requirement, item.place, table)
            if requirement is not None:
                wish = Wish(requirement=requirement, place=f"{file}: {item.place}")
                found.setdefault(str(requirement), wish)
    return tuple(found.values())


def read_requirement(text: str, place: str, problems: Problems) -> Requirement | None:
    """A requirement, with the name that a bare `git+` address has not."""
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
    """A requirement with an address as a stack can have it; notes tell what was changed."""
    address = requirement.url or ""
    match = _USER.search(address)
    if match and not (address.startswith("git+ssh:") and ":" not in match["user"]):
        requirement.url = _USER.sub("", address)
    if values.read_requirement(Item(place, str(requirement)), Problems()):
        if requirement.url != address:
            text = f"the user in the address of {requirement.name} was left out: "
            text += "git's own credential helper or netrc has to tell it"
            table.unknown.append(Note(kind="question", place=place, text=text))
        return requirement
    pinned = _of_wheel(requirement, address)
    shown = without_credentials(address.partition("?")[0])
    what = f"is required as {pinned} here" if pinned else "was left out"
    text = f"{requirement.name} comes from {shown}, and {what}: `stackbuild wheel add` takes wheels"
    table.unknown.append(Note(kind="without-counterpart", place=place, text=text))
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
