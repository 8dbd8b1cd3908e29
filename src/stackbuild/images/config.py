"""The configuration and the manifest of an image (OCI image specification 1.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from stackbuild.compose.serialize import canonical_json
from stackbuild.images.base import ARCHITECTURES
from stackbuild.images.blobs import CONFIG_TYPE, document
from stackbuild.images.layers import PREFIX
from stackbuild.install.run import LEAKS, default_command
from stackbuild.spec.model import LayerKind
from stackbuild.transport.oci import MANIFEST
from stackbuild.variables import MARKER, applied

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stackbuild.compose.manifest import IndexEntry, Manifest
    from stackbuild.images.base import Base
    from stackbuild.images.blobs import Blob
    from stackbuild.images.layers import MadeLayer

USER = "65532:65532"
"""User and group of the process, which need no entry in /etc/passwd: those called nonroot in other
images."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What engines use where an image sets no PATH."""
_STANDARD = "org.opencontainers.image."
_DIGEST = "stackbuild.layer."
"""The beginning of labels with the digest of a layer; its directory follows."""
_DROPPED = ("Cmd", "Healthcheck", "OnBuild", "ArgsEscaped")
"""What the configuration of a base says about its own program."""


class Image(NamedTuple):
    """A complete image."""

    name: str
    """The layer at its top."""
    version: str
    layers: tuple[Blob, ...]
    """The base's first."""
    config: Blob
    manifest: Blob
    architecture: str

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """All that the manifest names, each once."""
        return tuple({blob.digest: blob for blob in (*self.layers, self.config)}.values())


def make(
    base: Base,
    manifests: Sequence[Manifest],
    made: Sequence[MadeLayer],
    blobs: Sequence[Blob],
    entry: IndexEntry,
    created: str,
) -> Image:
    """The image of a chain, lower layers first, on `base`.

    `made` and `blobs` are the image layers of `manifests`, `entry` is the index entry of the last
    one. `created` is the time for all parts, in the format of RFC 3339.
    """
    top = manifests[-1]
    notes = _annotations(base, manifests, entry)
    architecture = ARCHITECTURES[top.platform.machine]
    config = {
        **{key: base.config[key] for key in ("variant",) if key in base.config},
        "created": created,
        "architecture": architecture,
        "os": "linux",
        "config": _settings(base, top, made[-1], notes),
        "rootfs": {"type": "layers", "diff_ids": [*base.diff_ids, *(one.diff_id for one in made)]},
        "history": [
            *_history(base, created),
            *(
                {
                    "created": created,
                    "created_by": "stackbuild image",
                    "comment": f"{one.directory} sha256:{one.digest}",
                }
                for one in manifests
            ),
        ],
    }
    described = document(canonical_json(config), CONFIG_TYPE)
    layers = (*base.layers, *blobs)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": described.descriptor(),
        "layers": [blob.descriptor() for blob in layers],
        "annotations": notes,
    }
    return Image(
        name=top.layer,
        version=entry.version,
        layers=layers,
        config=described,
        manifest=document(canonical_json(manifest), MANIFEST),
        architecture=architecture,
    )


def _annotations(base: Base, manifests: Sequence[Manifest], entry: IndexEntry) -> dict[str, str]:
    about = {
        "title": manifests[-1].layer,
        "version": entry.version,
        "description": entry.description or entry.title,
        "base.name": base.reference,
        "base.digest": base.digest,
    }
    standard = {f"{_STANDARD}{key}": text for key, text in about.items() if text}
    return standard | {f"{_DIGEST}{one.directory}": f"sha256:{one.digest}" for one in manifests}


def _settings(
    base: Base, top: Manifest, made: MadeLayer, notes: Mapping[str, str]
) -> dict[str, object]:
    """How a container is started."""
    given = base.config.get("config")
    before: dict[str, object] = given if isinstance(given, dict) else {}
    labels = before.get("Labels")
    kept = {
        key: text
        for key, text in (labels.items() if isinstance(labels, dict) else ())
        if not key.startswith(_STANDARD)
    }
    layout = top.layout
    is_runtime = top.kind is LayerKind.RUNTIME
    python = f"{_home(top)}/{layout.runtime_interpreter if is_runtime else layout.interpreter}"
    return {
        **{key: value for key, value in before.items() if key not in _DROPPED},
        "User": USER,
        "WorkingDir": before.get("WorkingDir") or "/",
        "Env": _environment(before.get("Env"), top),
        "Entrypoint": [python, *default_command(top, made.metadata.encode())[1:]],
        "Labels": {**kept, **notes},
    }


def _home(manifest: Manifest) -> str:
    return f"/{PREFIX}/{manifest.directory}"


def _environment(before: object, top: Manifest) -> list[str]:
    """The variables of the base, and those that `stackbuild run` would set."""
    texts = before if isinstance(before, list) else []
    present = dict(str(text).partition("=")[::2] for text in texts)
    kept = {name: text for name, text in present.items() if name not in LEAKS}
    home = _home(top)
    new = applied(top.environment, {"PATH": _PATH, **kept}, ":", root=f"/{PREFIX}")
    inner = {"PATH": _PATH, **kept, **new, **({MARKER: home} if new else {}), "VIRTUAL_ENV": home}
    inner["PATH"] = f"{home}/{top.layout.scripts}:{inner['PATH'] or _PATH}"
    return [f"{name}={text}" for name, text in inner.items()]


def _history(base: Base, created: str) -> list[object]:
    """The history of `base`, if it fits to its layers."""
    found = base.config.get("history")
    items = [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
    if sum(not item.get("empty_layer") for item in items) == len(base.layers):
        return list(items)
    return [{"created": created, "created_by": "base"} for _ in base.layers]
