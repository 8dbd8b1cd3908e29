"""Manifests and the index as JSON."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.utils import canonicalize_name

from stackbuild.compose.export_directory import index_entry
from stackbuild.compose.manifest import (
    Archive,
    ChainLink,
    Index,
    IndexEntry,
    Manifest,
    Patch,
    PatchFile,
    PlacedFrame,
    Shipped,
)
from stackbuild.compose.serialize import (
    body_digest,
    canonical_json,
    index_from_json,
    index_to_json,
    manifest_from_json,
    manifest_to_json,
)
from stackbuild.errors import IntegrityError
from stackbuild.frames.model import Frame, FrameKind
from stackbuild.lock.model import LeftOut
from stackbuild.names import layer_directory, layer_name_fault
from stackbuild.platforms import Platform
from stackbuild.spec.model import Catalogue, LayerKind
from stackbuild.variables import Variable

if TYPE_CHECKING:
    from collections.abc import Callable

sha256s = st.text("0123456789abcdef", min_size=64, max_size=64)
names = st.text(
    st.characters(blacklist_categories=("Cs", "Cc", "Cf", "Zl", "Zp"), blacklist_characters="/\\:"),
    min_size=1,
    max_size=20,
).filter(lambda name: name not in {".", ".."})
layer_names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,20}", fullmatch=True).filter(
    lambda name: not layer_name_fault(name)
)
versions = st.none() | st.integers(0, 999_999_999)
python_versions = st.from_regex(r"3\.[0-9]{1,2}\.[0-9]{1,2}((a|b|rc)[0-9])?", fullmatch=True)
counts = st.integers(min_value=0, max_value=2**50)


@st.composite
def links(draw: st.DrawFn, layer: str, kind: LayerKind) -> ChainLink:
    return ChainLink(
        layer=layer,
        kind=kind,
        directory=layer_directory(layer, draw(versions)),
        lock=draw(sha256s),
    )


frames = st.builds(
    Frame,
    kind=st.sampled_from(FrameKind),
    subject=names,
    sha256=sha256s,
    size=counts,
    content_size=counts,
    files=counts,
    content_sha256=sha256s,
)
shipped = st.builds(Shipped, name=names, version=names, wheel=names, sha256=sha256s)


texts = st.sampled_from(["", "/opt/lib", "{root}/app", "{{x}} é"])
variables = st.builds(
    Variable,
    value=st.none() | texts,
    prepend=st.lists(texts, max_size=2).map(tuple),
    append=st.lists(texts, max_size=2).map(tuple),
)
left_out = st.builds(LeftOut, name=names.map(canonicalize_name), reason=names)


def _placed(parts: list[Frame]) -> tuple[PlacedFrame, ...]:
    offset = 0
    result = []
    for frame in parts:
        result.append(PlacedFrame(frame=frame, offset=offset))
        offset += frame.size
    return tuple(result)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    placed = _placed(draw(st.lists(frames, max_size=4)))
    kind = draw(st.sampled_from(LayerKind))
    below = 0 if kind is LayerKind.RUNTIME else 1
    layer, *lower = draw(
        st.lists(layer_names, min_size=1 + below, max_size=1 + 3 * below, unique=True)
    )
    kinds = [LayerKind.FRAMEWORK] * (len(lower) - 1) + [LayerKind.RUNTIME]
    manifest = Manifest(
        layer=layer,
        kind=kind,
        platform=draw(st.sampled_from(Platform)),
        directory=layer_directory(layer, draw(versions)),
        python_version=draw(python_versions),
        lock=draw(sha256s),
        digest="",
        chain=tuple(draw(links(*item)) for item in zip(lower, kinds, strict=bool(lower))),
        frames=placed,
        archive=Archive(
            name=draw(names), size=sum(item.frame.size for item in placed), sha256=draw(sha256s)
        ),
        distributions=tuple(draw(st.lists(shipped, max_size=3))),
        skipped=tuple(draw(st.lists(left_out, max_size=2))),
        omitted=tuple(draw(st.lists(left_out, max_size=2))),
        environment=draw(st.dictionaries(st.sampled_from(["A", "LD_X", "b"]), variables)),
        provenance={"level": draw(counts), "zstd": draw(names)},
    )
    whole = {item.frame.sha256: item.frame.size for item in placed if item.frame.size > 1}
    patches, offset = [], 0
    for frame, size in whole.items():
        patch = Patch(
            sources=tuple(draw(st.lists(sha256s, min_size=1, max_size=2))),
            frames=(frame,),
            offset=offset,
            size=size // 2,
            sha256=draw(sha256s),
        )
        patches.append(patch)
        offset += patch.size
    file = PatchFile(name="x", size=offset, sha256=draw(sha256s), patches=tuple(patches))
    return replace(manifest, digest=body_digest(manifest), patch_file=file if patches else None)


def _example() -> Manifest:
    frame = Frame(
        kind=FrameKind.DISTRIBUTION,
        subject="numpy 2.2.6",
        sha256="ab" * 32,
        size=10,
        content_size=512,
        files=1,
        content_sha256="45" * 32,
    )
    manifest = Manifest(
        layer="framework",
        kind=LayerKind.FRAMEWORK,
        platform=Platform.LINUX_X64,
        directory="framework",
        python_version="3.12.10",
        lock="cd" * 32,
        digest="",
        chain=(
            ChainLink(
                layer="cpython-3.12",
                kind=LayerKind.RUNTIME,
                directory="cpython-3.12",
                lock="ef" * 32,
            ),
        ),
        frames=_placed([frame, replace(frame, kind=FrameKind.HEAD, subject="framework")]),
        archive=Archive(name="framework-0123456789ab.tar.zst", size=20, sha256="01" * 32),
        distributions=(
            Shipped(name="numpy", version="2.2.6", wheel="numpy-2.2.6.whl", sha256="23" * 32),
        ),
    )
    patch = Patch(sources=("67" * 32,), frames=("ab" * 32,), offset=0, size=4, sha256="89" * 32)
    file = PatchFile(name="framework.patches", size=4, sha256="ab" * 32, patches=(patch,))
    return replace(manifest, digest=body_digest(manifest), patch_file=file)


def _entry() -> IndexEntry:
    return index_entry(_example(), "linux-x64/framework.json", Catalogue(version="2.1"), 3)


@given(manifests())
def test_a_manifest_survives_the_way_through_json(manifest: Manifest) -> None:
    data = manifest_to_json(manifest)
    assert manifest_from_json(data) == manifest
    assert manifest_to_json(manifest_from_json(data)) == data


@given(
    st.builds(
        Index,
        entries=st.dictionaries(
            layer_names,
            st.dictionaries(
                st.sampled_from(Platform),
                st.lists(
                    st.builds(
                        IndexEntry,
                        manifest=st.lists(names, min_size=1, max_size=3).map("/".join),
                        sha256=sha256s,
                        digest=sha256s,
                        lock=sha256s,
                        kind=st.sampled_from(LayerKind),
                        version=names,
                        python_version=python_versions,
                        chain=st.lists(layer_names, max_size=3).map(tuple),
                        size=counts,
                        content_size=counts,
                        files=counts,
                        lock_version=st.none() | counts,
                        published=st.none() | st.just("2026-01-31T08:00:00Z"),
                        title=st.none() | names,
                        description=st.none() | names,
                        deprecated=st.none() | names,
                        superseded_by=st.none() | layer_names,
                    ),
                    max_size=3,
                ).map(tuple),
                max_size=3,
            ),
            max_size=3,
        ),
    )
)
def test_the_index_survives_the_way_through_json(index: Index) -> None:
    assert index_from_json(index_to_json(index)) == index


def test_the_json_is_canonical() -> None:
    text = manifest_to_json(_example()).decode()
    assert text.endswith("}\n")
    assert text.startswith('{\n  "archive": {\n    "format": "tar.zst"')
    assert list(json.loads(text)) == sorted(json.loads(text))


def test_the_digest_covers_contents_and_chain() -> None:
    example = _example()
    archive = Archive(name="other.tar.xz", size=3, sha256="99" * 32, format="tar.xz")
    assert body_digest(replace(example, archive=archive)) == example.digest
    elsewhere = replace(example, provenance={"bytecode": "3.12.1", "stackbuild": "9.9"})
    assert body_digest(elsewhere) == example.digest
    assert body_digest(replace(example, patch_file=None)) == example.digest
    assert manifest_from_json(manifest_to_json(elsewhere)) == elsewhere
    assert body_digest(replace(example, lock="00" * 32)) != example.digest
    assert body_digest(replace(example, chain=())) != example.digest
    assert body_digest(replace(example, frames=example.frames[:1])) != example.digest


@pytest.mark.parametrize("format_number", [1, 2, 3])
def test_a_manifest_of_an_older_format_is_read_and_written_as_it_was(format_number: int) -> None:
    """A root and a place of published layers may hold some, which keep their names."""
    value = json.loads(manifest_to_json(_example()))
    value["format"] = format_number
    del value["patch_file"]
    for frame in value["frames"]:
        del frame["content_sha256"]
    if format_number < 3:
        del value["environment"]
    left_out = {"archive", "digest"} if format_number == 1 else {"archive", "digest", "provenance"}
    covered = {key: value[key] for key in value if key not in left_out}
    value["digest"] = hashlib.sha256(canonical_json(covered)).hexdigest()
    data = canonical_json(value)
    manifest = manifest_from_json(data)
    assert manifest_to_json(manifest) == data
    value["lock"] = "1" * 64
    with pytest.raises(IntegrityError, match="digest is not the digest of this manifest"):
        manifest_from_json(canonical_json(value))


def _set(*path: str | int, to: object) -> Callable[[object], None]:
    def change(value: object) -> None:
        for step in path[:-1]:
            value = value[step]  # type: ignore[index]  # JSON of any shape
        value[path[-1]] = to  # type: ignore[index]  # JSON of any shape

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("python_version", to="3.12"), "python_version is not a version of Python"),
        (_set("python_version", to=f"3.12.{'9' * 5000}"), "is not a version of Python"),
        (_set("python_version", to="3.12.1+" + "a" * 5000), "is not a version of Python"),
        (_set("chain", to=[{}] * 1001), "the manifest is damaged: chain has 1001 layers"),
        (_set("provenance", to=json.loads("[" * 70 + "]" * 70)), "the manifest is damaged"),
        (_set("format", to=5), "the manifest was written by a newer stackbuild"),
        (_set("environment", to={"PYTHONPATH": {}}), "environment.PYTHONPATH reserved"),
        (
            _set("environment", to={"A": {"value": "{root.x}", "prepend": [], "append": []}}),
            "environment.A.value is no value of a variable\n"
            "  expected: one line, with {root} as its only placeholder",
        ),
        (_set("environment", to={"A": {"value": "x"}}), "environment.A.prepend is missing"),
        (_set("format", to="1"), "the manifest is damaged: format is wrong"),
        (_set("format", to=0), "the manifest is damaged: format is wrong"),
        (_set("layer", to="../x"), "the manifest is damaged: layer is not a valid layer name"),
        (_set("layer", to="Current"), "layer is used for a file of stackbuild"),
        (_set("directory", to=".."), "directory is not the directory of framework"),
        (_set("directory", to="framework@"), "directory is not the directory of framework"),
        (_set("directory", to="framework@01"), "directory is not the directory of framework"),
        (_set("directory", to="cpython-3.12"), "directory is not the directory of framework"),
        (_set("chain", 0, "layer", to="a\nb"), "chain[0].layer is not a valid layer name"),
        (_set("chain", 0, "directory", to="x"), "chain[0].directory is not the directory of"),
        (_set("archive", "name", to="a\x9b1m"), "archive.name is not the name of a file"),
        (_set("archive", "name", to="a\u202eb"), "archive.name is not the name of a file"),
        (_set("kind", to="thing"), "the manifest is damaged: kind has an unknown value"),
        (_set("platform", to=1), "the manifest is damaged: platform has an unknown value"),
        (_set("colour", to="red"), "the manifest is damaged: colour is not known"),
        (_set("frames", 1, "offset", to=9), "frames[1].offset does not follow the frame before"),
        (_set("frames", 0, "size", to=-1), "frames[0].size is not a whole number"),
        (_set("frames", 0, "size", to=True), "frames[0].size is not a whole number"),
        (_set("frames", 0, "sha256", to="AB" * 32), "frames[0].sha256 is not a sha256"),
        (_set("frames", to={}), "the manifest is damaged: frames is not an array"),
        (_set("chain", 0, to=[]), "the manifest is damaged: chain[0] is not an object"),
        (_set("chain", to=[]), "chain does not end with a runtime"),
        (_set("chain", 0, "kind", to="framework"), "chain does not end with a runtime"),
        (_set("kind", to="runtime"), "chain names layers below a runtime"),
        (
            lambda value: value["chain"].insert(0, value["chain"][0]),
            "chain has another kind of layer before its end",
        ),
        (
            lambda value: value["chain"].insert(
                0,
                {
                    **value["chain"][0],
                    "layer": "framework",
                    "directory": "framework",
                    "kind": "framework",
                },
            ),
            "chain[0].layer is in the chain twice",
        ),
        (_set("chain", 0, "lock", to=None), "chain[0].lock is not a string"),
        (
            _set("patch_file", "patches", 0, "offset", to=1),
            "does not follow the patch before",
        ),
        (
            _set("patch_file", "patches", 0, "frames", 0, to="1" * 64),
            "a frame of another manifest",
        ),
        (
            _set("patch_file", "patches", 0, "size", to=10),
            "size is not that of a patch\n  expected: 1",
        ),
        (_set("patch_file", "patches", 0, "size", to=0), "patches[0].size is not that of a patch"),
        (_set("frames", 0, "content_sha256", to="4"), "content_sha256 is not a sha256"),
        (_set("patch_file", "size", to=5), "patch_file.size is not the sum of the patches' sizes"),
        (_set("patch_file", "name", to="../x"), "patch_file.name is not the name of a file"),
        (_set("archive", "size", to=21), "archive.size is not the sum of the frames' sizes"),
        (_set("archive", "format", to="rar"), "archive.format has an unknown value"),
        (_set("archive", "name", to="a/b"), "archive.name is not the name of a file"),
        (_set("frames", 0, "sha256", to="00" * 32), "digest is not the digest of this manifest"),
        (_set("distributions", 0, "version", to="3"), "digest is not the digest of this manifest"),
    ],
)
def test_a_manifest_that_was_changed_is_refused_with_the_place(
    change: Callable[[Any], None], message: str
) -> None:
    value = json.loads(manifest_to_json(_example()))
    change(value)
    with pytest.raises(IntegrityError) as caught:
        manifest_from_json(json.dumps(value).encode())
    assert message in str(caught.value)


def test_a_missing_key_is_named() -> None:
    value = json.loads(manifest_to_json(_example()))
    del value["frames"][1]["files"]
    with pytest.raises(IntegrityError, match=r"frames\[1\]\.files is missing"):
        manifest_from_json(json.dumps(value).encode(), "atls.json")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff",
        b"NaN",
        b'{"format": 1, "format": 1}',
        b"[" * 100_000,
        manifest_to_json(_example())[:-30],
    ],
)
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError, match="the index is damaged"):
        index_from_json(data)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "file:///etc/passwd", "../x.json", "a//b", "a/../b", "C:\\x", ""]
)
def test_a_manifest_outside_the_index_directory_is_refused(path: str) -> None:
    entry = replace(_entry(), manifest=path)
    data = index_to_json(Index(entries={"cpython-3.12": {Platform.LINUX_X64: (entry,)}}))
    with pytest.raises(IntegrityError) as caught:
        index_from_json(data)
    assert "layers.cpython-3.12.linux-x64[0].manifest is not" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("kind", "thing", "kind has an unknown value"),
        ("version", "", "version is not a string"),
        ("version", 3, "version is not a string"),
        ("python_version", None, "python_version is not a version of Python"),
        ("python_version", "3.12", "python_version is not a version of Python"),
        ("chain", "cpython", "chain is not an array"),
        ("chain", ["../x"], "chain[0] is not a valid layer name"),
        ("size", -1, "size is not a whole number"),
        ("content_size", 1.5, "content_size is not a whole number"),
        ("files", True, "files is not a whole number"),
        ("lock_version", "1", "lock_version is not a whole number"),
        ("published", "2026-01-31", "published is not a time such as 2026-01-31T08:00:00Z"),
        ("published", "2026-02-30T08:00:00Z", "published is not a time"),
        ("title", 1, "title is not a string"),
        ("description", "", "description is not a string"),
        ("deprecated", "", "deprecated is not a string"),
        ("superseded_by", 3, "superseded_by is not a string"),
        ("superseded_by", "a\nb", "superseded_by is not a valid layer name"),
        ("colour", "red", "colour is not known"),
    ],
)
def test_an_entry_of_the_index_that_was_changed_is_refused(
    key: str, value: object, message: str
) -> None:
    index = json.loads(index_to_json(Index(entries={"app": {Platform.LINUX_X64: (_entry(),)}})))
    index["layers"]["app"]["linux-x64"][0][key] = value
    with pytest.raises(IntegrityError) as caught:
        index_from_json(json.dumps(index).encode())
    assert f"the index is damaged: layers.app.linux-x64[0].{message}" in str(caught.value)


def test_indexes_of_older_formats_are_read() -> None:
    old = replace(_entry(), lock_version=None, published=None)
    index = Index(entries={"app": {Platform.LINUX_X64: (old,)}})
    plain = json.loads(index_to_json(index))
    (entry,) = plain["layers"]["app"]["linux-x64"]
    plain["format"] = 2
    with pytest.raises(IntegrityError, match="lock_version is not known"):
        index_from_json(json.dumps(plain).encode())
    del entry["lock_version"], entry["published"]
    assert index_from_json(json.dumps(plain).encode()) == index
    plain["format"] = 1
    with pytest.raises(IntegrityError, match="description is not known"):
        index_from_json(json.dumps(plain).encode())
    del entry["title"], entry["description"]
    assert index_from_json(json.dumps(plain).encode()) == index


def test_the_index_tells_what_an_entry_is() -> None:
    entry = _entry()
    assert entry.kind is LayerKind.FRAMEWORK
    assert (entry.version, entry.python_version) == ("2.1", "3.12.10")
    assert entry.lock_version == 3
    assert entry.chain == ("cpython-3.12",)
    assert (entry.size, entry.content_size, entry.files) == (20, 1024, 2)
    assert entry.deprecated is None
    assert entry.superseded_by is None
