"""`stackbuild image`: what is in images, what they begin with, and where they are written."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from stackbuild.frames.files import FileContent, Link
from stackbuild.platforms import Platform
from stackbuild.transport.oci import IMAGE_INDEX, OciClient
from stackbuild.transport.references import digest_of
from stackbuild.variables import Variable
from stackbuild.workspace import CACHE_VARIABLE
from tests.support.bases import GLIBC, LAYER, add_image, add_index, tagged
from tests.support.containers import container_registry
from tests.support.images import elf
from tests.support.publish import PYTHON, publisher
from tests.support.roots import fail, snapshot, stackbuild, succeed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.support.publish import Publisher

SITE = "lib/python3.12/site-packages"
LIBC = {"usr/lib/x86_64-linux-gnu/libc.so.6": GLIBC}
DOCKER = "application/vnd.docker."


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def made(tmp_path: Path) -> Publisher:
    """The small stack for linux-x64, on whichever machine."""
    made = publisher(tmp_path)
    made.platform = Platform.LINUX_X64
    made.stack()
    return made


def words(
    made: Publisher, layer: str, to: str, base: str = "scratch", platform: str = "linux-x64"
) -> list[str]:
    place = ["--from", str(made.directory), "--platform", platform]
    return ["image", layer, *place, "--base", base, "--to", to]


def image(made: Publisher, layer: str, to: str, base: str = "scratch") -> dict[str, Any]:
    """What the command answers."""
    answer = json.loads(succeed(*words(made, layer, to, base), "--json"))
    assert isinstance(answer, dict)
    return answer


def blob(layout: Path, descriptor: Mapping[str, Any]) -> bytes:
    data: bytes = (
        layout / "blobs/sha256" / descriptor["digest"].removeprefix("sha256:")
    ).read_bytes()
    assert len(data) == descriptor["size"]
    assert digest_of(data) == descriptor["digest"]
    return data


def read(layout: Path, tag: str) -> tuple[dict[str, Any], dict[str, Any], list[bytes]]:
    """The manifest and the configuration of an image, and the tar archives of its layers."""
    index = json.loads((layout / "index.json").read_bytes())
    (found,) = [one for one in index["manifests"] if one["annotations"] == tagged(tag)]
    manifest = json.loads(blob(layout, found))
    config = json.loads(blob(layout, manifest["config"]))
    layers = [gzip.decompress(blob(layout, one)) for one in manifest["layers"]]
    assert [digest_of(data) for data in layers] == config["rootfs"]["diff_ids"]
    assert sum(not one.get("empty_layer") for one in config["history"]) == len(layers)
    return manifest, config, layers


def unpacked(layers: Sequence[bytes], to: Path) -> Path:
    """The files of an image; every directory has an entry before its files."""
    for data in layers:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            seen = {""}
            for entry in tar:
                assert entry.name.rpartition("/")[0] in seen
                assert (entry.uid, entry.gid, entry.mtime) == (0, 0, 315_532_800)
                seen.add(entry.name)
                if not (entry.isdir() and (to / entry.name).exists()):
                    tar.extract(entry, to)
    return to / "opt/stackbuild"


def test_applications_share_the_layers_below_them(made: Publisher, tmp_path: Path) -> None:
    layout = tmp_path / "out"
    first = image(made, "atls", f"oci-layout:{layout}")
    assert [(one["layer"], one["new"]) for one in first["layers"]] == [
        *(("cpython-3.12", True), ("framework", True), ("atls", True))
    ]
    assert first["written"] > first["layers"][0]["size"]
    second = image(made, "pgen", f"oci-layout:{layout}")
    assert [one["new"] for one in second["layers"]] == [False, False, True]
    manifests = {}
    for layer in ("atls", "pgen"):
        manifest, _, layers = read(layout, layer)
        manifests[layer] = manifest["layers"]
        assert [one["mediaType"] for one in manifest["layers"]] == [f"{LAYER}+gzip"] * 3
        # The files are those that `export` copies.
        tree = unpacked(layers, tmp_path / layer)
        succeed(
            "export", layer, tmp_path / "plain", "--from", made.directory, "--platform", "linux-x64"
        )
        exported = snapshot(tmp_path / "plain")
        assert snapshot(tree) == {
            name: content
            for name, content in exported.items()
            if name.partition("/")[0] in {"cpython-3.12", "framework", layer}
        }
        assert os.access(tree / layer / "bin/python", os.X_OK)
    assert manifests["atls"][:2] == manifests["pgen"][:2]
    assert manifests["atls"][2] != manifests["pgen"][2]


def test_equal_layers_give_equal_bytes(
    made: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = tmp_path / "out"
    first = image(made, "atls", f"oci-layout:{layout}")
    before = snapshot(layout)
    again = image(made, "atls", f"oci-layout:{layout}")
    assert again["written"] == 0
    assert again["digest"] == first["digest"]
    assert snapshot(layout).keys() == before.keys()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "another"))
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    other = image(made, "atls", f"oci-layout:{tmp_path / 'other'}")
    assert other["layers"][0]["new"]
    assert other["digest"] == first["digest"]
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    dated = image(made, "atls", f"oci-layout:{tmp_path / 'other'}:dated")
    assert dated["digest"] != first["digest"]
    assert read(tmp_path / "other", "dated")[1]["created"] == "2023-11-14T22:13:20Z"
    assert read(tmp_path / "other", "atls")[1]["created"] == "1980-01-01T00:00:00Z"
    for wrong in ("tomorrow", "-1", "999999999999999999999"):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", wrong)
        assert "SOURCE_DATE_EPOCH is not a time" in fail(2, *words(made, "atls", "oci-layout:o"))


def test_how_a_container_is_started(made: Publisher, tmp_path: Path) -> None:
    runtime = made.publish("cpython-3.12", {"c": {"bin/python3.12": PYTHON}}, lock="2")
    variables = {
        "MODELS": Variable(value="{root}/app/share/{{models}}"),
        "SEARCH": Variable(prepend=("{root}/app/first",), append=("last",)),
    }
    metadata = FileContent(data=b'{"launch_module": "app.main"}')
    app = made.publish(
        "app",
        {"a": {"share/venv/metadata/venvstacks_layer.json": metadata}},
        below=[runtime],
        environment=variables,
        lock="7",
    )
    config = {
        "Env": ["PATH=/sbin:/bin", "SEARCH=base", "PYTHONHOME=/usr", "LANG=C.UTF-8"],
        "Cmd": ["bash"],
        "Entrypoint": ["/init"],
        "Labels": {"vendor": "some", "org.opencontainers.image.title": "base"},
        "ExposedPorts": {"80/tcp": {}},
        "WorkingDir": "/data",
    }
    base, layout = tmp_path / "base", tmp_path / "out"
    found = add_image(base, LIBC, config=config)
    add_index(base, [found])
    image(made, "app", f"oci-layout:{layout}", f"oci-layout:{base}")
    manifest, about, layers = read(layout, "app")
    assert (about["os"], about["architecture"]) == ("linux", "amd64")
    home = "/opt/stackbuild/app"
    assert about["config"]["Env"] == [
        f"PATH={home}/bin:/sbin:/bin",
        f"SEARCH={home}/first:base:last",
        "LANG=C.UTF-8",
        f"MODELS={home}/share/{{models}}",
        f"STACKBUILD_LAYER={home}",
        f"VIRTUAL_ENV={home}",
    ]
    assert about["config"]["Entrypoint"] == [f"{home}/bin/python", "-P", "-m", "app.main"]
    assert about["config"]["User"] == "65532:65532"
    assert about["config"]["WorkingDir"] == "/data"
    assert about["config"]["ExposedPorts"] == {"80/tcp": {}}
    assert "Cmd" not in about["config"]
    assert manifest["annotations"] == {
        "org.opencontainers.image.title": "app",
        "org.opencontainers.image.version": "7",
        "org.opencontainers.image.base.digest": found["digest"],
        "stackbuild.layer.cpython-3.12": f"sha256:{runtime.digest}",
        "stackbuild.layer.app": f"sha256:{app.digest}",
    }
    assert about["config"]["Labels"] == {"vendor": "some", **manifest["annotations"]}
    assert len(layers) == 3
    # Neither a launch module nor anything of a base; and a runtime has no link to itself.
    image(made, "cpython-3.12", f"oci-layout:{layout}")
    settings = read(layout, "cpython-3.12")[1]["config"]
    assert settings["Entrypoint"] == ["/opt/stackbuild/cpython-3.12/bin/python3.12"]
    assert settings["WorkingDir"] == "/"
    assert settings["Env"][0] == (
        "PATH=/opt/stackbuild/cpython-3.12/bin:"
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    )


def test_an_archive_for_docker(made: Publisher, tmp_path: Path) -> None:
    file = tmp_path / "new" / "atls.tar"
    answer = image(made, "atls", f"docker-archive:{file}")
    assert answer["written"] == file.stat().st_size
    with tarfile.open(file) as tar:
        contents = {entry.name: tar.extractfile(entry).read() for entry in tar}  # type: ignore[union-attr]  # all are files
    (about,) = json.loads(contents["manifest.json"])
    assert about["RepoTags"] == ["atls:1"]
    config = json.loads(contents[about["Config"]])
    layers = [gzip.decompress(contents[name]) for name in about["Layers"]]
    assert [digest_of(data) for data in layers] == config["rootfs"]["diff_ids"]
    assert len(contents) == 5
    # It is replaced, with another name; a file of others is not.
    image(made, "atls", f"docker-archive:{file}:example.org/tools/atls:2")
    with tarfile.open(file) as tar:
        about = json.loads(tar.extractfile("manifest.json").read())  # type: ignore[union-attr]  # as above
    assert about[0]["RepoTags"] == ["example.org/tools/atls:2"]
    file.write_bytes(b"manifest.json of mine")
    error = fail(8, *words(made, "atls", f"docker-archive:{file}"))
    assert f"something that stackbuild did not make is in the way: {file}" in error
    assert "to fix: move it away, or name another place with --to" in error
    assert file.read_bytes() == b"manifest.json of mine"


def test_a_directory_of_others_stays(made: Publisher, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    error = fail(8, *words(made, "atls", f"oci-layout:{tmp_path / 'mine'}"))
    assert "something that stackbuild did not make is in the way" in error
    assert list(snapshot(tmp_path / "mine")) == ["notes.txt"]


@pytest.mark.parametrize(
    ("layer_type", "manifest_type"),
    [
        (LAYER, "application/vnd.oci.image.manifest.v1+json"),
        (f"{LAYER}+zstd", "application/vnd.oci.image.manifest.v1+json"),
        (
            f"{DOCKER}image.rootfs.diff.tar.gzip",
            f"{DOCKER}distribution.manifest.v2+json",
        ),
    ],
)
def test_kinds_of_bases(
    made: Publisher, tmp_path: Path, layer_type: str, manifest_type: str
) -> None:
    base, layout = tmp_path / "base", tmp_path / "out"
    kinds: dict[str, Any] = {"layer_type": layer_type, "manifest_type": manifest_type}
    both = [
        add_image(
            base,
            {**LIBC, "name": name.encode()},
            architecture=name,
            platform={"os": "linux", "architecture": name},
            **kinds,
        )
        for name in ("arm64", "amd64")
    ]
    index = {"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": both}
    data = json.dumps(index).encode()
    path = base / "blobs/sha256" / hashlib.sha256(data).hexdigest()
    path.write_bytes(data)
    entry = {"mediaType": IMAGE_INDEX, "digest": digest_of(data), "size": len(data)}
    add_index(base, [{**entry, "annotations": tagged("one")}])
    image(made, "atls", f"oci-layout:{layout}", f"oci-layout:{base}:one")
    manifest = json.loads(
        blob(layout, json.loads((layout / "index.json").read_bytes())["manifests"][0])
    )
    kept = layer_type if layer_type.startswith(LAYER) else f"{LAYER}+gzip"
    assert manifest["layers"][0]["mediaType"] == kept
    assert blob(layout, manifest["layers"][0])


def test_bases_that_cannot_be_used(made: Publisher, tmp_path: Path) -> None:
    base = tmp_path / "base"
    names = ("one", "two")
    images = [add_image(base, {**LIBC, "x": n.encode()}, annotations=tagged(n)) for n in names]
    add_index(base, images)
    to = f"oci-layout:{tmp_path / 'out'}"
    place = f"oci-layout:{base}"
    assert "expected: a tag at its end: one, two" in fail(2, *words(made, "atls", to, place))
    error = fail(2, *words(made, "atls", to, f"{place}:three"))
    assert f"{place}:three has no such image" in error
    add_index(base, [add_image(base, LIBC, architecture="arm64")])
    error = fail(2, *words(made, "atls", to, place))
    assert f"the base {place} is not for linux-x64" in error
    assert "expected: an image for linux/amd64\n  found: linux/arm64" in error
    add_index(base, [add_image(base, LIBC, layer_type=f"{LAYER}+rar")])
    assert "has a layer of another kind" in fail(2, *words(made, "atls", to, place))
    assert "no complete OCI layout" in fail(2, *words(made, "atls", to, f"{place}-2"))
    assert "has an invalid" in fail(2, *words(made, "atls", to, "Debian"))
    good = add_image(base, {"data": os.urandom(2000)})
    add_index(base, [good])
    manifest = json.loads(blob(base, good))
    path = base / "blobs/sha256" / manifest["layers"][0]["digest"].removeprefix("sha256:")
    path.write_bytes(path.read_bytes()[:-9] + bytes(9))
    error = fail(6, *words(made, "atls", to, place))
    assert "a layer of an image is damaged" in error
    assert str(path) in error
    assert not (tmp_path / "out").exists()
    path = base / "blobs/sha256" / good["digest"].removeprefix("sha256:")
    path.write_bytes(b"{}")
    assert "a part of the base image is damaged" in fail(6, *words(made, "atls", to, place))


def test_host_libraries(made: Publisher, tmp_path: Path) -> None:
    runtime = made.publish("cpython-3.12", {"c": {"bin/python3.12": elf(needed=["libc.so.6"])}})
    module = elf(needed=["libstdc++.so.6", "libz.so.1", "libown-1.so", "libcuda.so.1"])
    files = {f"{SITE}/m.so": module, "lib/libz.so.1": elf()}
    made.publish("app", {"a": files}, below=[runtime])
    to = f"oci-layout:{tmp_path / 'out'}"
    error = fail(7, *words(made, "app", to))
    assert "the base scratch lacks shared libraries that the layers need" in error
    assert "expected: libc.so.6, libstdc++.so.6\n" in error
    assert "to fix: use a base with glibc, such as --base debian:12-slim" in error
    assert not (tmp_path / "out").exists()
    base = tmp_path / "base"
    add_index(base, [add_image(base, LIBC)])
    for _ in range(2):  # the second one from the cache
        done = stackbuild(*words(made, "app", to, f"oci-layout:{base}"))
        assert done.returncode == 0
        assert f"the base oci-layout:{base} lacks libstdc++.so.6: modules that need it" in (
            done.stderr
        )


@pytest.mark.parametrize(
    ("tags", "works"),
    [
        ("manylinux_2_17_x86_64.manylinux2014_x86_64", True),
        ("manylinux_2_36_x86_64", True),
        ("manylinux_2_37_x86_64", False),
        ("manylinux_2_40_x86_64.manylinux_2_34_x86_64", True),
        ("manylinux2014_x86_64", True),
        ("linux_x86_64", True),
    ],
)
def test_the_glibc_of_a_base(made: Publisher, tmp_path: Path, tags: str, works: bool) -> None:
    made.tags = f"cp312-cp312-{tags}"
    runtime = made.publish("cpython-3.12", {"c": {"bin/python3.12": PYTHON}})
    made.publish("app", {"a": {"x": "1"}}, below=[runtime])
    base = tmp_path / "base"
    add_index(base, [add_image(base, {"lib/libc-2.36.so": GLIBC, "lib/libc.so.6": b"old"})])
    done = stackbuild(*words(made, "app", f"oci-layout:{tmp_path / 'out'}", f"oci-layout:{base}"))
    assert done.returncode == (0 if works else 7)
    if not works:
        assert "is too old for a wheel" in done.stderr
        assert "distribution: demo 1" in done.stderr
        assert "expected: glibc 2.37 or newer\n  found: glibc 2.36" in done.stderr


def test_files_that_would_delete_others(made: Publisher, tmp_path: Path) -> None:
    for name in (".wh.notes", "deep/.wh..wh..opq"):
        made.publish("cpython-3.12", {"c": {"bin/python3.12": PYTHON, name: "1"}})
        error = fail(7, *words(made, "cpython-3.12", f"oci-layout:{tmp_path / 'out'}"))
        assert "an image cannot contain a file of this name" in error
        assert f"file: {name}" in error


def test_several_frames_with_one_path(made: Publisher, tmp_path: Path) -> None:
    frames: dict[str, dict[str, FileContent | Link | bytes | str]] = {
        "one": {"bin/python3.12": PYTHON, "a": "old", "b": Link("a"), "e/": b""},
        "overlay": {"a": FileContent(data=b"new", executable=True), "b": "file"},
    }
    made.publish("cpython-3.12", frames)
    image(made, "cpython-3.12", f"oci-layout:{tmp_path / 'out'}")
    tree = unpacked(read(tmp_path / "out", "cpython-3.12")[2], tmp_path / "tree")
    assert (tree / "cpython-3.12/a").read_text() == "new"
    assert (tree / "cpython-3.12/b").read_text() == "file"
    assert (tree / "cpython-3.12/e").is_dir()


def test_a_cache_that_was_damaged(made: Publisher, tmp_path: Path) -> None:
    answer = image(made, "atls", f"oci-layout:{tmp_path / 'one'}")
    path = tmp_path / "cache/images/blobs" / answer["layers"][2]["digest"].removeprefix("sha256:")
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    to = words(made, "atls", f"oci-layout:{tmp_path / 'two'}")
    error = fail(6, *to)
    assert "a layer of an image is damaged" in error
    assert f"file: {path}" in error
    assert "to fix: remove this file and run the command again" in error
    assert not (tmp_path / "two" / "index.json").exists()
    path.unlink()
    assert answer["digest"] in succeed(*to)
    assert "layers of images" in succeed("clean")


def test_words(made: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    base = ["image", "atls", "--from", str(made.directory), "--base", "scratch"]
    for place, problem in {
        "out": "'out' is not a place for images",
        "oci-layout:": "'oci-layout:' has no path",
        "oci-layout:o:a b": "has an invalid tag",
        "docker-archive:f:Name": "has an invalid name of a repository",
        "oci://": "has an invalid",
        f"oci://localhost/a@sha256:{'0' * 64}": "has a digest",
    }.items():
        assert problem in fail(2, *base, "--platform", "linux-x64", "--to", place)
    error = fail(2, *base, "--platform", "windows-x64")
    assert "container images of layers are for Linux, not for windows-x64" in error
    assert "'*' matches several layers" in fail(2, *words(made, "*", "oci-layout:o"))
    printed = succeed(*base, "--platform", "linux-x64")
    assert printed.splitlines()[0].split()[:2] == ["cpython-3.12", "new"]
    assert "oci-layout:atls-linux-x64 (" in printed
    assert read(tmp_path / "atls-linux-x64", "atls")


def test_a_registry(made: Publisher, tmp_path: Path) -> None:
    with container_registry(tmp_path) as registry:
        client = OciClient(registry.host)
        base = tmp_path / "base"
        found = add_image(base, LIBC)
        manifest = json.loads(blob(base, found))
        for part in (manifest["config"], *manifest["layers"]):
            data = blob(base, part)
            client.push_blob("bases/small", part["digest"], len(data), lambda d=data: io.BytesIO(d))  # type: ignore[misc]  # d is bound
        client.push_manifest("bases/small", "12", blob(base, found), found["mediaType"])
        name = f"{registry.host}/bases/small:12"
        first = image(made, "atls", f"oci://{registry.host}/atls:1", name)
        pulled = json.loads(client.manifest("atls", "1").data)
        assert digest_of(client.manifest("atls", "1").data) == first["digest"]
        notes = pulled["annotations"]
        assert notes["org.opencontainers.image.base.name"] == name
        # The layer of the base is mounted and not sent.
        ours = sum(one["size"] for one in first["layers"]) + pulled["config"]["size"]
        assert first["written"] == ours
        for part in (*pulled["layers"], pulled["config"]):
            data = b"".join(client.read_blob("atls", part["digest"]))
            assert digest_of(data) == part["digest"]
        assert image(made, "atls", f"oci://{registry.host}/atls:2", name)["written"] == 0
        # An image of stackbuild is a base, too.
        layout = tmp_path / "out"
        image(made, "pgen", f"oci-layout:{layout}", f"{registry.host}/atls:1")
        assert len(read(layout, "pgen")[2]) == 7
        error = fail(5, *words(made, "atls", "oci-layout:o", f"{registry.host}/missing:1"))
        assert "the registry does not have it" in error
