"""Write a layer, and the layers below it, to one executable file.

The file begins with a script for sh, which is filled up to `HEADER_SIZE` bytes. A tar.gz archive as
of `install.archive` follows. The script unpacks it once for each digest, and then starts the layer
as `stackbuild run` does. It needs sh, tar, gzip, tail, mkdir, rm, and one program for sha256.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from pathlib import Path
from typing import IO, TYPE_CHECKING

from stackbuild.errors import InstallError, UsageError
from stackbuild.install.archive import (
    chains,
    file_path,
    gzipped,
    new_file,
    pack_report,
    packed,
    plain_members,
)
from stackbuild.install.run import LAYER_METADATA, default_command, module_command
from stackbuild.layout import ENVIRONMENT_SCRIPT
from stackbuild.platforms import host_platform
from stackbuild.registry.find import Published
from stackbuild.spec.model import LayerKind
from stackbuild.spec.select import check_single

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from stackbuild.compose.manifest import Manifest
    from stackbuild.frames.tarformat import Member
    from stackbuild.install.report import PackReport
    from stackbuild.messages import Messages
    from stackbuild.platforms import Platform
    from stackbuild.registry.base import Registry

HEADER_SIZE = 8192
CACHES = {"linux": ".cache", "macos": "Library/Caches"}
"""The user's cache directory, relative to the home directory."""
_CHECKSUM = r"""
    if command -v sha256sum >/dev/null; then
        __sum='sha256sum'
    elif command -v shasum >/dev/null; then
        __sum='shasum -a 256'
    elif command -v openssl >/dev/null; then
        __sum='openssl dgst -sha256 -r'
    else
        __fail 'this machine has no program for sha256 (sha256sum, shasum or openssl)'
    fi
""".strip("\n")
"""How scripts find the program that prints sha256 sums."""


def bundle(
    layer: str,
    registry: Registry,
    path: Path | None,
    platform: Platform | None,
    messages: Messages,
) -> PackReport:
    """Write `layer` and the layers below it to the executable `path`; see `api.bundle`."""
    published = Published(registry, platform or host_platform())
    if published.platform.os == "windows":
        raise UsageError(
            "a bundle is a script for sh, which Windows does not have",
            platform=published.platform,
            remedy=f"write a zip archive: stackbuild export {layer} --archive zip",
        )
    wanted = published.find([layer])
    check_single(layer, [one.layer for one in wanted], published.location)
    manifests = chains(wanted, published, messages)
    target = file_path(path, f"{wanted[0].layer}-{published.platform}.run")
    write_bundle(target, manifests, published, messages)
    return pack_report(target, manifests, published)


def write_bundle(
    path: Path,
    manifests: Sequence[Manifest],
    published: Published,
    messages: Messages,
    *,
    module: str | None = None,
) -> None:
    """Write `manifests`, lower layers first, to the executable `path`.

    It starts the last layer: `module`, or what `stackbuild run` starts. Raises as `packed` does.
    """
    with new_file(path) as file, packed(manifests, published, path, messages) as members:
        _write(file, members, manifests, module)
        work = Path(file.name)
        mode = work.stat().st_mode
        work.chmod(mode | (mode & 0o444) >> 2)  # executable for those who may read


def _write(
    file: IO[bytes], members: Iterator[Member], manifests: Sequence[Manifest], module: str | None
) -> None:
    """Write the archive and then, as its sha256 is known, the script before it."""
    top = manifests[-1]
    metadata: dict[str, bytes] = {}
    digest = hashlib.sha256()
    file.seek(HEADER_SIZE)
    for data in gzipped(_noting(members, f"{top.directory}/{LAYER_METADATA}", metadata)):
        digest.update(data)
        file.write(data)
    found = b"".join(metadata.values())
    command = module_command(top, module) if module else default_command(top, found)
    script = _script(manifests[0], top, command, digest.hexdigest())
    if len(script) > HEADER_SIZE:
        raise InstallError(
            "the names in the layer are too long for the script of a bundle",
            layer=top.layer,
            expected=f"at most {HEADER_SIZE} bytes of script",
            found=f"{len(script)} bytes",
        )
    file.seek(0)
    file.write(script.ljust(HEADER_SIZE, b"\n"))


def _noting(members: Iterator[Member], path: str, metadata: dict[str, bytes]) -> Iterator[Member]:
    """`members`, with the contents of `path` put into `metadata`."""
    for member in members:
        if member.path == path:
            metadata[path] = b"".join(member.data())
            yield from plain_members(metadata)
        else:
            yield member


def _script(runtime: Manifest, top: Manifest, command: Sequence[str], sha256: str) -> bytes:
    directory = shlex.quote(top.directory)
    is_runtime = top.kind is LayerKind.RUNTIME
    python = top.layout.runtime_interpreter if is_runtime else top.layout.interpreter
    variables = (
        f'    __at="$__tree"/{directory}/{python}\n'
        f'    . "$__tree"/{directory}/{ENVIRONMENT_SCRIPT}\n'
        if top.environment
        else ""
    )
    words = {
        "LAYER": top.layer,
        "PLATFORM": top.platform,
        "NAME": shlex.quote(f"{top.layer}-{sha256[:32]}"),
        "CACHE": CACHES[top.platform.os],
        "SHA256": sha256,
        "START": str(HEADER_SIZE + 1),
        "DIRECTORY": directory,
        "VARIABLES": variables,
        "COMMAND": shlex.join([python, *command[1:]]),
        "RUNTIME": shlex.quote(f"{runtime.directory}/{runtime.layout.runtime_interpreter}"),
    }
    return filled_script("bundle.sh", words).encode()


def filled_script(name: str, words: Mapping[str, str]) -> str:
    """The script `name` of this package, with `words` in place of ``@WORD@``."""
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    every = {"CHECKSUM": _CHECKSUM, **words}
    return re.sub(r"@([A-Z0-9]+)@", lambda match: every[match[1]], text)
