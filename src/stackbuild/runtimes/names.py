"""File names and addresses of python-build-standalone's archives."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from stackbuild import strictjson

if TYPE_CHECKING:
    from packaging.version import Version

    from stackbuild.platforms import Platform

TRIPLES = {"linux": "unknown-linux-gnu", "macos": "apple-darwin", "windows": "pc-windows-msvc"}
_VERSION = re.compile(r"cpython-(\d+\.\d+\.\d+)\+")
_RELEASE = re.compile(r"/([0-9]{8})/(cpython-[^/]+)$")


def archive_name(version: Version, tag: str, platform: Platform) -> str:
    """``cpython-3.12.1+20240107-x86_64-unknown-linux-gnu-install_only.tar.gz``."""
    triple = f"{platform.machine}-{TRIPLES[platform.os]}"
    return f"cpython-{version}+{tag}-{triple}-install_only.tar.gz"


def release_path(url: str) -> tuple[str, str] | None:
    """The release tag and the (still quoted) file name in a download's address, or None."""
    match = _RELEASE.search(url)
    return (match[1], match[2]) if match else None


def version_in(name: str) -> Version | None:
    """The version in the file name of an archive; None for other names."""
    from packaging.version import Version

    match = _VERSION.match(name)
    return Version(match[1]) if match else None


def release_tag(version: Version, platform: Platform, built: str) -> str:
    """The release tag of `version` on a mirror.

    Taken from pbs-installer's table; for a version that was never released, the compile date of the
    interpreter (`built`, in the format of `platform.python_build`).
    """
    from importlib import resources

    # Read as data, because importing the package builds all tables and reads an environment
    # variable.
    path = resources.files("pbs_installer").joinpath("versions.json")
    for release in strictjson.parse(path.read_bytes(), str(path)):
        named = release["python_version"]
        if (
            named["implementation"] == "cpython"
            and not named["freethreaded"]
            and (named["major"], named["minor"], named["micro"]) == version.release
        ):
            for file in release["files"]:
                same = (file["platform"], file["arch"]) == (platform.os, platform.machine)
                if same and file["install_only"] and (found := release_path(file["url"])):
                    return found[0]
    try:
        return time.strftime("%Y%m%d", time.strptime(built, "%b %d %Y %H:%M:%S"))
    except ValueError:
        return "19800101"
