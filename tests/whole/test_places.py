"""Publishing to object stores and container registries, and installing from them."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import urllib3
from tools.standin import PROJECT

from stackbuild.messages import SILENT
from stackbuild.registry.directory import DirectoryRegistry
from stackbuild.registry.find import open_place
from stackbuild.registry.push import Chosen, push
from tests.support.containers import auth_file, container_registry
from tests.support.roots import command, fail, snapshot, succeed, tool
from tests.support.smallstack import SmallStack
from tests.support.stack import run

if TYPE_CHECKING:
    from tests.support.publish import Publisher


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallStack:
    stack = SmallStack(tmp_path / "project", tmp_path / "cache")
    monkeypatch.setenv("STACKBUILD_CACHE_DIR", str(stack.cache))
    return stack


def words(small: SmallStack, place: str, *layers: str) -> list[str]:
    chosen = [word for layer in layers for word in ("--layer", layer)]
    platform = ("--platform", "linux-x64")
    return ["publish", "--spec", str(small.spec), "--only", *platform, "--to", place, *chosen]


def sent(output: str) -> dict[str, int]:
    return {item["layer"]: item["sent"] for item in json.loads(output)["layers"]}


def index_of(place: str) -> dict[str, int]:
    """The number of versions of each layer."""
    entries = open_place(place).tagged_index()[0].entries
    return {layer: sum(map(len, platforms.values())) for layer, platforms in entries.items()}


def test_only_what_is_missing_is_sent(small: SmallStack, bucket: str) -> None:
    small.lock()
    place = f"s3://{bucket}/stack"
    planned = succeed(*words(small, place, "base", "app"), "--dry-run", "--json")
    assert not small.exports.exists()
    assert open_place(place).tagged_index()[1] is None
    done = succeed(*words(small, place, "base", "app"), "--json")
    assert sent(planned).keys() == sent(done).keys() == {"base", "app"}
    for item in json.loads(done)["layers"]:
        assert item["sent"] > item["size"]
        # The plan does not know the licences and so on that the manifest lists.
        assert item["size"] < sent(planned)[item["layer"]] <= item["sent"]
    assert sent(succeed(*words(small, place, "base", "app"), "--dry-run", "--json")) == {
        "base": 0,
        "app": 0,
    }
    small.write("launch/app.py", "print('changed')\n")
    small.lock()
    shown = succeed(*words(small, place, "base", "app"))
    base, app = shown.splitlines()
    assert base.startswith("base  linux-x64  unchanged")
    assert base.endswith(", complete there")
    assert app.startswith("app   linux-x64  new")
    assert app.endswith(" sent")
    assert index_of(place) == {"base": 1, "app": 2}


def test_publishers_at_once_both_get_into_the_index(small: SmallStack, bucket: str) -> None:
    small.lock()
    place = f"s3://{bucket}"
    processes = [
        subprocess.Popen(command(*words(small, place, layer)), stdout=subprocess.DEVNULL)
        for layer in ("base", "app")
    ]
    assert [process.wait() for process in processes] == [0, 0]
    assert index_of(place) == {"base": 1, "app": 1}


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_publisher_that_is_killed_leaves_the_old_index(
    small: SmallStack, bucket: str, s3_server: str
) -> None:
    small.lock()
    place = f"s3://{bucket}"
    succeed(*words(small, place, "base"))
    before = open_place(place).document("index.json")
    # Large enough to be caught in the middle.
    small.wheel("app", "big", "1.0", {"big.bin": os.urandom(40_000_000)})
    small.publish(["app"])
    caught = False
    while not caught:
        process = subprocess.Popen(command(*words(small, place, "app")), stdout=subprocess.DEVNULL)
        while process.poll() is None and not caught:
            uploads = urllib3.request("GET", f"{s3_server}/{bucket}?uploads")
            caught = b"<UploadId>" in uploads.data
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert caught, "the publisher was never seen sending"
    assert open_place(place).document("index.json") == before
    succeed(*words(small, place, "app"))
    assert index_of(place) == {"base": 1, "app": 1}


def test_layers_are_listed_installed_and_exported_from_a_store(
    made: Publisher, bucket: str, root: Path, tmp_path: Path
) -> None:
    place = f"s3://{bucket}/stack"
    chosen = [
        Chosen(layer, made.platform, made.entries[layer][made.platform][0])
        for layer in ("atls", "pgen")
    ]
    push(DirectoryRegistry(made.directory), chosen, open_place(place), SILENT)
    listed = succeed("list", "--from", place)
    assert "atls" in listed
    assert "framework" in listed
    succeed("install", "atls", "--from", place, "--root", root)
    assert tool(root, "atls") == "atls 1"
    assert {item["from"] for item in json.loads(succeed("list", "--root", root, "--json"))} == {
        place
    }
    damaged = next(root.rglob("data.bin"))
    damaged.chmod(0o644)
    damaged.write_bytes(b"damaged")
    succeed("repair", root, "--from", place)
    assert damaged.read_bytes() != b"damaged"
    succeed("export", "pgen", "--from", place, tmp_path / "plain")
    assert (tmp_path / "plain/pgen/bin/pgen-tool").exists()
    # Credentials are in none of the files.
    for directory in (root, tmp_path / "plain"):
        assert not [
            path for path, data in snapshot(directory).items() if "very-secret" in str(data)
        ]
    assert "nothing is published in" in fail(5, "list", "--from", f"s3://{bucket}/other")


def test_a_container_registry_with_a_password(
    small: SmallStack,
    made: Publisher,
    tmp_path: Path,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    small.lock()
    with container_registry(tmp_path, login=("ann", "very-secret")) as server:
        place = f"oci://{server.host}/team/stack"
        refused = fail(5, *words(small, place, "base"))
        assert f"{server.host} requires credentials, and none are stored" in refused
        assert f"to fix: log in: docker login {server.host}" in refused
        auth_file(tmp_path / "auth.json", **{server.host: "ann:very-secret"})
        assert "nothing is published in" in fail(5, "list", "--from", place)
        planned = succeed(*words(small, place, "base", "app"), "--dry-run", "--json")
        assert server.stored() == 0
        done = succeed(*words(small, place, "base", "app"), "--json")
        assert all(0 < size <= sent(done)[layer] for layer, size in sent(planned).items())
        again = succeed(*words(small, place, "base", "app"), "--json")
        assert sent(again) == {"base": 0, "app": 0}

        other = f"oci://{server.host}/other"
        installed = _installed_and_upgraded(made, other, root)
        assert installed == made.entries["atls"][made.platform][0].digest
        for path, data in snapshot(root).items():
            assert "very-secret" not in str(data), path


def _installed_and_upgraded(made: Publisher, place: str, root: Path) -> str:
    """Install `atls` from `place`, and upgrade it; its digest."""
    for version, changed in (("1", 3), ("2", 2)):
        made.stack(version)
        chosen = Chosen("atls", made.platform, made.entries["atls"][made.platform][0])
        push(DirectoryRegistry(made.directory), [chosen], open_place(place), SILENT)
        words = ("install", "atls", "--from", place, "--root", root)
        assert len(json.loads(succeed(*words, "--dry-run", "--json"))["layers"]) == changed
        succeed(*words)
        assert tool(root, "atls") == f"atls {version}"
    listed = {one["layer"]: one for one in json.loads(succeed("list", "--root", root, "--json"))}
    assert listed["atls"]["from"] == place
    return str(listed["atls"]["digest"])


def test_the_examples_of_the_page(
    made: Publisher, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.stack("2")
    monkeypatch.chdir(made.directory.parent)
    page = (PROJECT / "docs/places.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh places\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) == 6
    for line in lines:
        program, *rest = shlex.split(line.replace("my-bucket", bucket))
        assert program == "stackbuild"
        succeed(*rest)
    assert index_of(f"s3://{bucket}/stack") == {"cpython-3.12": 1, "framework": 1, "atls": 1}
    assert index_of(str(tmp_path / "released")) == index_of(f"s3://{bucket}/stack")
    assert index_of("exports") == {"cpython-3.12": 2, "framework": 2, "atls": 2, "pgen": 1}


@pytest.mark.slow
def test_copies_that_other_programs_make_are_installed(
    made: Publisher, tmp_path: Path, root: Path
) -> None:
    """`skopeo copy` to a directory, and from there to another registry."""
    skopeo = shutil.which("skopeo")
    if skopeo is None:
        pytest.skip("skopeo is not installed (Debian: the package skopeo)")
    copy = [skopeo, "--insecure-policy", "copy", "--all"]
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    with container_registry(one) as first, container_registry(other) as second:
        chosen = Chosen("atls", made.platform, made.entries["atls"][made.platform][0])
        place = open_place(f"oci://{first.host}/team/stack")
        push(DirectoryRegistry(made.directory), [chosen], place, SILENT)
        for name in ("cpython-3.12:latest", "framework:1", "atls:latest"):
            layout = f"oci:{tmp_path / 'layout'}:{name.replace(':', '-')}"
            there = f"docker://{second.host}/mirror/{name}"
            source = f"docker://{first.host}/team/stack/{name}"
            run(*copy, "--src-tls-verify=false", source, layout)
            run(*copy, "--dest-tls-verify=false", layout, there)
        index = (
            f"docker://{host}"
            for host in (f"{first.host}/team/stack:index", f"{second.host}/mirror:index")
        )
        run(*copy, "--src-tls-verify=false", "--dest-tls-verify=false", *index)
        succeed("install", "atls", "--from", f"oci://{second.host}/mirror", "--root", root)
    assert tool(root, "atls") == "atls 1"


@pytest.mark.slow
def test_oras_pulls_the_frames_of_a_layer(made: Publisher, tmp_path: Path) -> None:
    oras = shutil.which("oras")
    if oras is None:
        pytest.skip("oras is not installed (https://oras.land)")
    with container_registry(tmp_path) as server:
        chosen = Chosen("framework", made.platform, made.entries["framework"][made.platform][0])
        source = DirectoryRegistry(made.directory)
        push(source, [chosen], open_place(f"oci://{server.host}/stack"), SILENT)
        manifest = source.manifest(chosen.entry)
        name = f"{server.host}/stack/framework:{made.platform}-{manifest.digest[:12]}"
        run(oras, "pull", "--plain-http", name, "--output", tmp_path / "pulled")
    frames = sorted((tmp_path / "pulled").glob("*.tar.zst"))
    assert b"".join(map(Path.read_bytes, frames)) == made.archive(manifest).read_bytes()


NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
NGINX_SETTINGS = """\
daemon off;
{user}
pid {directory}/pid;
error_log {directory}/errors;
events {{}}
http {{
    log_format requests "$request_uri $status $body_bytes_sent";
    access_log {directory}/requests requests;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{ listen 127.0.0.1:{port}; root {served}; }}
}}
"""


@pytest.mark.slow
@pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian: the package nginx)")
def test_nginx_sends_only_the_frames_that_are_missing(
    made: Publisher, root: Path, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    directory = tmp_path / "nginx"
    directory.mkdir()
    user = "user root;" if os.name == "posix" and os.geteuid() == 0 else ""
    settings = directory / "nginx.conf"
    settings.write_text(
        NGINX_SETTINGS.format(directory=directory, served=made.directory, port=port, user=user)
    )
    process = subprocess.Popen([str(NGINX), "-e", directory / "errors", "-c", settings])
    try:
        place = f"http://127.0.0.1:{port}"
        for _ in range(500):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.01)
        words = ("install", "atls", "--from", place, "--root", root)
        succeed(*words)
        made.stack("2")
        (directory / "requests").write_text("")
        succeed(*words)
    finally:
        process.terminate()
        process.wait()
    assert tool(root, "atls") == "atls 2"
    requests = [line.split() for line in (directory / "requests").read_text().splitlines()]
    archives = {
        path.rpartition("/")[2]: int(size) for path, status, size in requests if status == "206"
    }
    assert archives.keys() == {
        made.archive(DirectoryRegistry(made.directory).manifest(entry)).name
        for layer in ("framework", "atls")
        for entry in made.entries[layer][made.platform][:1]
    }
    for name, size in archives.items():
        # The head of the layer has not changed.
        assert 0 < size < (made.directory / str(made.platform) / name).stat().st_size
