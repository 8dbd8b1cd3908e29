"""What layers are in a container registry, and registries that send something wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from stackbuild.compose.serialize import index_to_json
from stackbuild.errors import ComposeError, FetchError, IntegrityError, StackbuildError
from stackbuild.messages import SILENT, Silent
from stackbuild.registry.directory import DirectoryRegistry
from stackbuild.registry.find import Published, open_place, open_registry
from stackbuild.registry.oci_format import document_manifest
from stackbuild.registry.push import Chosen, change_index, plan, push, upload_of
from stackbuild.spec.model import LayerKind
from stackbuild.transport.oci import MANIFEST, OciClient
from stackbuild.transport.references import digest_of, parse_reference
from tests.support.containers import MISSING, PROGRAM, container_registry
from tests.support.http import Send, serving
from tests.support.publish import publisher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stackbuild.compose.manifest import Index, Manifest
    from stackbuild.registry.places import Place
    from tests.support.containers import ContainerRegistry
    from tests.support.http import Server
    from tests.support.publish import Files, Publisher


if PROGRAM is None:
    pytest.skip(MISSING, allow_module_level=True)


@pytest.fixture
def address(container_host: ContainerRegistry, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of an empty place."""
    monkeypatch.setattr("stackbuild.registry.oci_place._SETTLED", 0)
    return f"oci://{container_host.host}/team/{uuid4().hex}"


def send(made: Publisher, place: Place, *layers: str) -> dict[str, int]:
    """Send the current versions; the bytes that were sent by layer."""
    chosen = [Chosen(one, made.platform, made.entries[one][made.platform][0]) for one in layers]
    sent = push(DirectoryRegistry(made.directory), chosen, place, SILENT)
    return {one.layer: one.sent for one in sent}


def pulled(address: str, layer: str, name: str) -> dict[str, object]:
    """A manifest of a layer, from the registry itself."""
    reference = parse_reference(f"{address.removeprefix('oci://')}/{layer}")
    value = json.loads(OciClient(reference.host).manifest(reference.repository, name).data)
    assert isinstance(value, dict)
    return value


def manifest_of(made: Publisher, layer: str) -> Manifest:
    return DirectoryRegistry(made.directory).manifest(made.entries[layer][made.platform][0])


def test_a_layer_is_an_image_index_of_manifests_whose_blobs_are_frames(
    made: Publisher, address: str
) -> None:
    send(made, open_place(address), "framework")
    manifest = manifest_of(made, "framework")
    latest, version = (pulled(address, "framework", name) for name in ("latest", "1"))
    assert latest["artifactType"] == "application/vnd.stackbuild.layer.v1"
    assert isinstance(latest["manifests"], list)
    (entry,) = latest["manifests"]
    assert latest["manifests"] == version["manifests"]
    assert entry["platform"] == {"os": "linux", "architecture": "amd64"}
    described = pulled(address, "framework", entry["digest"])
    assert described == pulled(address, "framework", f"{made.platform}-{manifest.digest[:12]}")
    path = made.directory / made.entries["framework"][made.platform][0].manifest
    assert described["config"] == {
        "mediaType": "application/vnd.stackbuild.manifest.v1+json",
        "digest": digest_of(path.read_bytes()),
        "size": path.stat().st_size,
    }
    layers = described["layers"]
    assert isinstance(layers, list)
    assert [(one["digest"], one["size"]) for one in layers] == [
        (f"sha256:{placed.frame.sha256}", placed.frame.size) for placed in manifest.frames
    ]
    assert {one["mediaType"] for one in layers} == {"application/vnd.oci.image.layer.v1.tar+zstd"}
    titles = [one["annotations"]["org.opencontainers.image.title"] for one in layers]
    assert titles == sorted(titles)


def test_versions_are_tags_and_follow_the_index(made: Publisher, address: str) -> None:
    place = open_place(address)
    send(made, place, "framework")
    first = pulled(address, "framework", "latest")["manifests"]
    made.stack("2")
    send(made, place, "framework")
    assert pulled(address, "framework", "1")["manifests"] == first
    assert pulled(address, "framework", "2")["manifests"] != first
    assert (
        pulled(address, "framework", "latest")["manifests"]
        == pulled(address, "framework", "2")["manifests"]
    )
    change_index(place, _without_current)
    assert pulled(address, "framework", "latest")["manifests"] == first
    with pytest.raises(FetchError, match="the registry does not have it"):
        pulled(address, "framework", "2")


def _without_current(index: Index) -> Index:
    framework = index.entries["framework"]
    older = {platform: entries[1:] for platform, entries in framework.items()}
    return type(index)(entries={**index.entries, "framework": older})


def test_only_missing_blobs_are_sent_and_others_are_mounted(
    made: Publisher, address: str, container_host: ContainerRegistry
) -> None:
    data = bytes(range(256)) * 3000
    runtime = manifest_of(made, "cpython-3.12")
    for name in ("one", "two"):
        files: dict[str, Files] = {"shared 1": {"shared.bin": data}, "own": {"own": name}}
        made.publish(name, files, below=[runtime], kind=LayerKind.APPLICATION)
    big = max(placed.frame.size for placed in manifest_of(made, "one").frames)
    place = open_place(address)
    assert send(made, place, "one")["one"] > big
    before = container_host.stored()
    two = manifest_of(made, "two")
    uploads = [upload_of(DirectoryRegistry(made.directory), made.entries["two"][made.platform][0])]
    (planned,) = plan(uploads, open_place(address), SILENT)
    there = {placed.frame.sha256 for placed in manifest_of(made, "one").frames}
    own = [one.frame for one in two.frames if one.frame.sha256 not in there]
    assert 0 < len(own) < len(two.frames)
    assert planned.sent == sum(frame.size for frame in own) + len(uploads[0].document)
    source = DirectoryRegistry(made.directory)
    chosen = Chosen("two", made.platform, made.entries["two"][made.platform][0])
    (sent,) = push(source, [chosen], open_place(address), SILENT)
    assert sent.sent == planned.sent
    # What is mounted is not read.
    assert source.transferred == sum(frame.size for frame in own)
    published = Published(open_registry(address), made.platform)
    found = published.current("two")
    archive = published.registry.read(published.entry(found), found, [(0, found.archive.size)])
    assert b"".join(archive) == made.archive(two).read_bytes()
    # Our manifest, that of the registry, two image indexes, the mark, the new index and its blob.
    assert container_host.stored() - before == len(own) + 7
    assert send(made, open_place(address), "one", "two") == {"one": 0, "two": 0}


def test_other_formats_are_refused(tmp_path: Path, address: str) -> None:
    made = publisher(tmp_path)
    made.archive_format = "tar.xz"
    made.publish("app", {"a 1": {"a": "1"}}, kind=LayerKind.RUNTIME)
    with pytest.raises(ComposeError, match=r"only archives in .* can be sent") as caught:
        send(made, open_place(address), "app")
    assert ("to fix", "publish with --format tar.zst") in caught.value.details


def test_what_the_index_does_not_name_is_found_and_removed(made: Publisher, address: str) -> None:
    place = open_place(address)
    send(made, place, "atls")
    assert place.unnamed(()).keys() == {
        made.entries[layer][made.platform][0].manifest
        for layer in ("atls", "framework", "cpython-3.12")
    }
    change_index(place, lambda index: type(index)(entries={}))
    kept = made.entries["atls"][made.platform][0]
    unnamed = place.unnamed([(kept, manifest_of(made, "atls"))])
    assert kept.manifest not in unnamed
    assert len(unnamed) == 2
    place.remove(unnamed.keys())
    assert place.unnamed(()).keys() == {kept.manifest}
    # What was removed is sent again; what is new is used again.
    sent = send(made, open_place(address), "atls")
    assert (sent["atls"], sent["framework"] > 0) == (0, True)


def test_a_manifest_that_prune_may_remove_is_written_again(
    made: Publisher, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = open_place(address)
    monkeypatch.setattr("stackbuild.registry.oci_place.now", lambda: "2020-01-01T00:00:00Z")
    send(made, place, "cpython-3.12")
    assert send(made, open_place(address), "cpython-3.12") == {"cpython-3.12": 0}
    old = next(iter(place.unnamed(()).values()))
    change_index(place, lambda index: type(index)(entries={}))
    monkeypatch.undo()
    (size,) = send(made, open_place(address), "cpython-3.12").values()
    assert size > 0
    assert next(iter(place.unnamed(()).values())) > old


def test_a_manifest_that_was_sent_again_is_not_removed(
    made: Publisher, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stackbuild.registry.oci_place.now", lambda: "2020-01-01T00:00:00Z")
    pruned = open_place(address)
    send(made, pruned, "cpython-3.12")
    change_index(pruned, lambda index: type(index)(entries={}))
    old = pruned.unnamed(())
    monkeypatch.undo()
    monkeypatch.setattr("stackbuild.registry.oci_place._SETTLED", 0)
    send(made, open_place(address), "cpython-3.12")
    pruned.remove(old.keys())
    assert pruned.unnamed(()).keys() == old.keys()
    published = Published(open_registry(address), made.platform)
    manifest = published.current("cpython-3.12")
    spans = [(0, manifest.archive.size)]
    archive = b"".join(published.registry.read(published.entry(manifest), manifest, spans))
    assert archive == made.archive(manifest).read_bytes()


@pytest.mark.parametrize("has_read", [True, False])
def test_an_index_that_another_publisher_overwrote_is_written_again(
    made: Publisher, address: str, monkeypatch: pytest.MonkeyPatch, has_read: bool
) -> None:
    """Both compare the tag before one of them writes it."""
    place = open_place(address)
    send(made, place, "framework")
    before, tag = place.tagged_index()
    reference = parse_reference(address.removeprefix("oci://"))
    other = OciClient(reference.host)

    def overwrite(_seconds: float) -> None:
        monkeypatch.setattr("stackbuild.registry.oci_place.time.sleep", lambda _: None)
        ours = other.manifest(reference.repository, "index").digest
        data = index_to_json(before)
        other.push_bytes(reference.repository, data)
        manifest = document_manifest("index.json", data, ours if has_read else tag)
        other.push_manifest(reference.repository, "index", manifest, MANIFEST)

    monkeypatch.setattr("stackbuild.registry.oci_place.time.sleep", overwrite)
    monkeypatch.setattr("stackbuild.registry.push._LONGEST_PAUSE", 0)
    send(made, place, "atls")
    # One that has read the index may remove layers from it.
    assert ("atls" in open_place(address).tagged_index()[0].entries) is not has_read


def test_a_registry_that_does_not_delete(
    made: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stackbuild.registry.oci_place._SETTLED", 0)
    heard = Heard()
    with container_registry(tmp_path, deletes=False) as server:
        place = open_place(f"oci://{server.host}/stack", heard)
        send(made, place, "cpython-3.12")
        change_index(place, lambda index: type(index)(entries={}))
        assert place.index().entries == {}
        assert [text for text in heard.warnings if "of a version that is no longer" in text]
        with pytest.raises(FetchError, match="refuses the request") as caught:
            place.remove(place.unnamed(()))
    assert "storage.delete.enabled" in dict(caught.value.details)["to fix"]


class Heard(Silent):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture
def lying(made: Publisher, address: str) -> Iterator[Server]:
    """A server with the answers of a registry that has `cpython-3.12`."""
    send(made, open_place(address), "cpython-3.12")
    reference = parse_reference(address.removeprefix("oci://"))
    client = OciClient(reference.host)
    files = {}
    for repository, names in ((reference.repository, ["index"]), (None, [])):
        for name in names:
            pulled_ = client.manifest(str(repository), name)
            files[f"/v2/stack/manifests/{name}"] = pulled_.data
            for blob in json.loads(pulled_.data)["layers"]:
                data = b"".join(client.read_blob(str(repository), blob["digest"]))
                files[f"/v2/stack/blobs/{blob['digest']}"] = data
    entry = made.entries["cpython-3.12"][made.platform][0]
    blobs = [entry.sha256, *(one.frame.sha256 for one in manifest_of(made, "cpython-3.12").frames)]
    for sha256 in blobs:
        layer = f"{reference.repository}/cpython-3.12"
        data = b"".join(client.read_blob(layer, f"sha256:{sha256}"))
        files[f"/v2/stack/cpython-3.12/blobs/sha256:{sha256}"] = data
    with serving(files) as server:
        yield server


def read_all(server: Server, made: Publisher) -> bytes:
    published = Published(open_registry(f"oci://127.0.0.1:{server.port}/stack"), made.platform)
    manifest = published.current("cpython-3.12")
    spans = [(0, manifest.archive.size)]
    return b"".join(published.registry.read(published.entry(manifest), manifest, spans))


@pytest.mark.parametrize(
    ("path", "data", "message"),
    [
        ("/v2/stack/manifests/index", b"{", "index is damaged"),
        ("/v2/stack/manifests/index", b'{"layers": []}', "layers does not have one item"),
        ("/v2/stack/blobs/", b"other", "sends another blob than requested"),
        ("/v2/stack/cpython-3.12/blobs/", b"other", "sends another blob than requested"),
    ],
)
def test_wrong_answers_are_refused(
    lying: Server, made: Publisher, path: str, data: bytes, message: str
) -> None:
    whole = made.archive(manifest_of(made, "cpython-3.12")).read_bytes()
    assert read_all(lying, made) == whole
    full = next(one for one in lying.files if one.startswith(path))
    lying.script(full, Send(data))
    with pytest.raises(IntegrityError, match=message):
        read_all(lying, made)


def test_missing_and_long_blobs_of_frames(lying: Server, made: Publisher) -> None:
    sha256 = manifest_of(made, "cpython-3.12").frames[0].frame.sha256
    path = f"/v2/stack/cpython-3.12/blobs/sha256:{sha256}"
    whole = lying.files[path]
    lying.files[path] = whole + b"x"
    with pytest.raises(IntegrityError, match="does not have the size that the manifest says"):
        read_all(lying, made)
    del lying.files[path]
    with pytest.raises(StackbuildError, match="does not have a blob") as caught:
        read_all(lying, made)
    details = dict(caught.value.details)
    assert details["file"].endswith(f"/stack/cpython-3.12@sha256:{sha256}")
    assert "publish the layer again" in details["to fix"]
