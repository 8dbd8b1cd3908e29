"""The client for container registries, and names in them."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING

import pytest

from stackbuild.errors import FetchError, IntegrityError, UsageError
from stackbuild.registry.find import open_registry
from stackbuild.registry.oci_format import manifest_tag, repository_name, version_tag
from stackbuild.transport.container_logins import Login, find_login
from stackbuild.transport.oci import MANIFEST, OciClient
from stackbuild.transport.references import digest_of, parse_reference
from stackbuild.transport.registry_access import UnauthorizedError, bearer_parameters
from stackbuild.transport.retries import NotFoundError, Patience
from tests.support.containers import auth_file, container_registry
from tests.support.http import CutAfter, Page, Redirect, Status, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stackbuild.transport.retries import Patience as _Patience
    from tests.support.http import Server

QUICK = Patience(reach=2.0, silence=1.0, attempts=3, backoff=0.01)
BLOB = bytes(range(256)) * 400
TOKEN = "t0ken-of-the-server"
DIGEST = digest_of(BLOB)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No credentials but the test's own."""
    for name in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("debian", "docker.io/library/debian:latest"),
        ("debian:12-slim", "docker.io/library/debian:12-slim"),
        ("user/image", "docker.io/user/image:latest"),
        ("ghcr.io/a/b:v1", "ghcr.io/a/b:v1"),
        ("localhost/a", "localhost/a:latest"),
        ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b:latest"),
        ("[::1]:5000/a:x", "[::1]:5000/a:x"),
        (f"ghcr.io/a/b:v1@{DIGEST}", f"ghcr.io/a/b@{DIGEST}"),
    ],
)
def test_references(text: str, expected: str) -> None:
    assert str(parse_reference(text)) == expected


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "name of a repository"),
        ("ghcr.io/Upper", "name of a repository"),
        ("ghcr.io/a//b", "name of a repository"),
        ("ghcr.io/a..b", "name of a repository"),
        ("user@host.io/a", "host or port"),
        ("a.io/../b", "name of a repository"),
        ("a:" + "x" * 129, "tag"),
        ("a:", "tag"),
        ("a:t/x", "host or port"),
        ("a@sha256:12", "digest"),
        ("a@", "digest"),
        ("ghcr.io/" + "a" * 255, "longer than 255"),
    ],
)
def test_invalid_references(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        parse_reference(text)


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        ("atls", "atls"),
        ("cpython-3.12", "cpython-3.12"),
        ("a__b--c", "a__b--c"),
        ("R_Base@2", "r-base-2-{}"),
        ("a._b", "a-b-{}"),
        ("a-", "a-{}"),
    ],
)
def test_names_of_repositories(layer: str, name: str) -> None:
    digits = hashlib.sha256(layer.encode()).hexdigest()[:8]
    assert repository_name(layer) == name.format(digits)


def test_names_of_tags() -> None:
    assert [version_tag(text) for text in ("7", "1.0+cpu.1", "-x y", "v" * 200)] == [
        "7",
        "1.0_cpu.1",
        "_x_y",
        "v" * 128,
    ]
    assert manifest_tag("linux-x64/A-1-0123456789ab.json") == (
        repository_name("A-1"),
        "linux-x64-0123456789ab",
    )
    for path in ("linux-x64/a-0123456789ab.tar.xz.json", "../a-0123456789ab.json", "a/b/c.json"):
        found = manifest_tag(path)
        assert found is None or found.name == "..-0123456789ab"


@pytest.mark.parametrize(
    ("location", "fault"),
    [
        ("oci://host.io", "invalid name of a repository"),
        ("oci://host.io/Team/x", "invalid name of a repository"),
        ("oci://host.io/x:tag", "invalid name of a repository"),
        ("oci://ann:secret@host.io/x", "invalid host or port"),
        ("oci:///x", "invalid host or port"),
        ("oci://host.io/" + "x" * 200, "is too long"),
    ],
)
def test_invalid_addresses(location: str, fault: str) -> None:
    with pytest.raises(UsageError, match=fault) as caught:
        open_registry(location)
    assert "secret" not in str(caught.value)


def test_challenges() -> None:
    text = (
        'realm="https://a.io/token?x=1,2",Service="re\\"gistry", scope="repository:a/b:pull,push"'
    )
    assert bearer_parameters(text) == {
        "realm": "https://a.io/token?x=1,2",
        "service": 're"gistry',
        "scope": "repository:a/b:pull,push",
    }


def test_the_most_specific_entry_of_the_first_file_is_used(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_login("a.io", "x").login is None
    auth_file(home / ".docker/config.json", **{"https://a.io/v1/": "old:1", "docker.io": "hub:2"})
    assert find_login("a.io", "x").login == Login(user="old", password="1")
    assert find_login("docker.io", "library/debian").login == Login(user="hub", password="2")
    auth_file(home / ".config/containers/auth.json", **{"a.io/x": "x:1:2", "a.io": "a:3"})
    assert find_login("a.io", "x/y").login == Login(user="x", password="1:2")
    assert find_login("a.io", "xy").login == Login(user="a", password="3")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home / "run"))
    auth_file(home / "run/containers/auth.json", **{"a.io/xy": "run:4"})
    assert find_login("a.io", "xy").login == Login(user="run", password="4")
    monkeypatch.setenv("DOCKER_CONFIG", str(home / "docker"))
    auth_file(home / "docker/config.json", **{"https://index.docker.io/v1/": "new:5"})
    assert find_login("docker.io", "a/b").login == Login(user="new", password="5")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(home / "other.json"))
    assert find_login("docker.io", "a/b").login is None
    assert "4" not in repr(Login(user="run", password="4"))


@pytest.mark.skipif(os.name == "nt", reason="the helper is a shell script")
def test_credential_helpers(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    helper = tmp_path / "bin/docker-credential-own"
    helper.parent.mkdir()
    helper.write_text(
        "#!/bin/sh\nread -r host\ncase $1-$host in\n"
        """get-a.io) printf '{"ServerURL":"a.io","Username":"ann","Secret":"s3"}';;\n"""
        """get-t.io) printf '{"Username":"<token>","Secret":"identity"}';;\n"""
        "get-none.io) echo credentials not found in native keychain; exit 1;;\n"
        "*) echo secret-detail; exit 3;;\nesac\n"
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(helper.parent), prepend=os.pathsep)
    config = home / ".docker/config.json"
    config.parent.mkdir(parents=True)
    helpers = dict.fromkeys(("a.io", "t.io", "none.io", "bad.io"), "own")
    config.write_text(json.dumps({"credHelpers": {**helpers, "m.io": "missing", "v.io": "../x"}}))
    assert find_login("a.io", "x").login == Login(user="ann", password="s3")
    assert find_login("t.io", "x").login == Login(identity_token="identity")
    none = find_login("none.io", "x")
    assert (none.login, none.problems) == (None, ())
    for host, text in {
        "bad.io": "docker-credential-own failed with exit code 3",
        "m.io": "docker-credential-missing cannot be run: No such file or directory",
        "v.io": "the name of a credential helper is not valid",
    }.items():
        assert find_login(host, "x").problems == (f"{config}: {text}",)
    config.write_text(json.dumps({"credsStore": "own"}))
    assert find_login("a.io", "x").login == Login(user="ann", password="s3")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "it is not valid JSON"),
        ("[]", "it is not a JSON object"),
        ('{"auths": 1}', "`auths` is not a JSON object"),
        ('{"auths": {"a.io": {"auth": "s3cret?"}}}', "`auth` of an entry is not base64"),
    ],
)
def test_a_damaged_file_is_named_if_the_registry_refuses(
    home: Path, text: str, problem: str
) -> None:
    config = home / ".docker/config.json"
    config.parent.mkdir(parents=True)
    config.write_text(text)
    assert find_login("a.io", "x").problems == (f"{config}: {problem}",)
    with serving() as server:
        server.script("/v2/a/manifests/b", refused("Basic realm=x"))
        with pytest.raises(UnauthorizedError, match="requires credentials") as caught:
            client(server).manifest("a", "b")
    host = f"127.0.0.1:{server.port}"
    remedy = dict(caught.value.details)["to fix"]
    assert remedy.startswith(f"log in: docker login {host}, or podman login {host}")
    if "a.io" not in text:
        assert remedy.endswith(f"; not used: {config}: {problem}")


def client(server: Server, patience: _Patience = QUICK) -> OciClient:
    return OciClient(f"127.0.0.1:{server.port}", patience=patience)


def refused(challenge: str) -> Status:
    return Status(401, {"WWW-Authenticate": challenge})


def test_a_token_is_requested_once_and_stays_with_the_registry(home: Path) -> None:
    with serving({f"/v2/a/b/blobs/{DIGEST}": BLOB}) as server, serving({"/x": BLOB}) as storage:
        host = f"127.0.0.1:{server.port}"
        auth_file(home / ".docker/config.json", **{host: "ann:secret"})
        blob = f"/v2/a/b/blobs/{DIGEST}"
        realm = f'Bearer realm="{server.url}/token",service="reg",scope="repository:a/b:pull"'
        server.script(blob, refused(realm), CutAfter(1000), Redirect(f"{storage.url}/x"))
        token = json.dumps({"token": TOKEN}).encode()
        server.script("/token", Status(503), Page(token, "application/json"))
        assert b"".join(client(server).read_blob("a/b", DIGEST)) == BLOB
        seen = [(one.path, one.headers.get("authorization")) for one in server.requests]
        assert seen == [
            (blob, None),
            ("/token", "Basic YW5uOnNlY3JldA=="),
            ("/token", "Basic YW5uOnNlY3JldA=="),
            (blob, f"Bearer {TOKEN}"),
            (blob, f"Bearer {TOKEN}"),
        ]
        assert server.requests[2].query == "service=reg&scope=repository%3Aa%2Fb%3Apull"
        (last,) = storage.requests
        assert "authorization" not in last.headers
        assert last.headers["range"] == "bytes=1000-"


def test_an_identity_token_is_exchanged(home: Path) -> None:
    with serving() as server:
        config = home / ".docker/config.json"
        config.parent.mkdir(parents=True)
        entry = {"auth": "", "identitytoken": "identity"}
        config.write_text(json.dumps({"auths": {f"127.0.0.1:{server.port}": entry}}))
        server.script("/v2/a/manifests/b", refused(f'Bearer realm="{server.url}/t",scope="s"'))
        answer = json.dumps({"access_token": TOKEN}).encode()
        server.script("/t", Page(answer, "application/json"))
        server.script("/v2/a/manifests/b", Page(b"{}", f"{MANIFEST}; charset=utf-8"))
        found = client(server).manifest("a", "b")
        assert (found.data, found.media_type) == (b"{}", MANIFEST)
        asked = server.requests[1]
        assert (asked.method, asked.headers.get("authorization")) == ("POST", None)
        assert b"grant_type=refresh_token" in asked.body
        assert b"refresh_token=identity" in asked.body
        assert server.requests[2].headers["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    ("challenge", "message"),
    [
        ('Bearer realm="http://tokens.invalid/t"', "names a server for tokens without https"),
        ('Bearer realm="{url}/none"', "the registry does not have it"),
        ('Bearer realm="{url}/bad"', "the server for tokens does not send one"),
        ('Bearer realm="{url}/refusing"', "does not accept the stored credentials"),
        ("Basic", "does not accept the stored credentials"),
        ("Negotiate", "does not accept the stored credentials"),
    ],
)
def test_refusals_do_not_show_the_password(home: Path, challenge: str, message: str) -> None:
    with serving({"/bad": b'{"token": ["x"]}'}) as server:
        auth_file(home / ".docker/config.json", **{f"127.0.0.1:{server.port}": "ann:s3cret"})
        url = "/v2/a/manifests/b"
        server.script(url, *[refused(challenge.format(url=server.url))] * 2)
        server.script("/refusing", Status(401))
        with pytest.raises(FetchError, match=message) as caught:
            client(server).manifest("a", "b")
    text = str(caught.value)
    assert "s3cret" not in text
    assert "YW5u" not in text


def test_a_manifest_with_another_digest_is_refused() -> None:
    with serving({f"/v2/a/manifests/{DIGEST}": b"{}"}) as server:
        with pytest.raises(IntegrityError, match="another manifest than requested"):
            client(server).manifest("a", DIGEST)
        server.script("/v2/a/manifests/big", Page(b" " * (5 << 20), MANIFEST))
        with pytest.raises(FetchError, match="too large"):
            client(server).manifest("a", "big")


def opened(data: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: (data[start : start + 1000] for start in range(0, len(data), 1000))


def pushed(client: OciClient, repository: str) -> bytes:
    """Push a manifest with one layer, and return it."""
    config = b"{}"
    client.push_bytes(repository, config)
    layers = [{"mediaType": "application/octet-stream", "digest": DIGEST, "size": len(BLOB)}]
    kind = "application/vnd.oci.empty.v1+json"
    value = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": "application/vnd.example",
        "config": {"mediaType": kind, "digest": digest_of(config), "size": len(config)},
        "layers": layers,
    }
    data = json.dumps(value).encode()
    client.push_manifest(repository, "v1", data, MANIFEST)
    return data


def test_pushing_and_pulling_with_docker_registry(tmp_path: Path, home: Path) -> None:
    with container_registry(tmp_path, login=("ann", "secret")) as server:
        there = OciClient(server.host)
        with pytest.raises(UnauthorizedError, match="requires credentials, and none are stored"):
            there.has_blob("own/a", DIGEST)
        auth_file(home / ".docker/config.json", **{server.host: "ann:wrong"})
        with pytest.raises(UnauthorizedError, match="does not accept the stored credentials"):
            there.has_blob("own/a", DIGEST)
        auth_file(home / ".docker/config.json", **{server.host: "ann:secret"})
        assert not there.has_blob("own/a", DIGEST)
        assert there.push_blob("own/a", DIGEST, len(BLOB), opened(BLOB))
        assert not there.push_blob("own/a", DIGEST, len(BLOB), opened(BLOB))
        # A mounted blob is not read.
        assert not there.push_blob("own/b", DIGEST, len(BLOB), opened(b""), source="own/a")
        # The registry does not mount what the source does not have.
        assert there.push_blob("own/c", DIGEST, len(BLOB), opened(BLOB), source="own/none")
        assert b"".join(there.read_blob("own/b", DIGEST, [(10, 700)])) == BLOB[10:700]
        assert b"".join(there.read_blob("own/c", DIGEST)) == BLOB
        data = pushed(there, "own/b")
        assert there.manifest("own/b", "v1").data == data
        assert there.manifest("own/b", digest_of(data)).media_type == MANIFEST
        with pytest.raises(NotFoundError, match="does not have it"):
            there.manifest("own/b", "v2")
        with pytest.raises(FetchError, match="DIGEST_INVALID"):
            there.push_blob("own/b", digest_of(b"x"), 1, opened(b"y"))
        missing = data.replace(DIGEST.encode(), digest_of(b"x").encode())
        with pytest.raises(FetchError, match="MANIFEST_BLOB_UNKNOWN"):
            there.push_manifest("own/b", "v2", missing, MANIFEST)
        assert server.stored() == 3
        assert (there.tags("own/b"), there.tags("own/none")) == (["v1"], [])
        there.delete_manifest("own/b", digest_of(data))
        assert there.tags("own/b") == []


def test_tags_come_in_pages() -> None:
    with serving() as server:
        pages = [b'{"name": "a", "tags": ["x", "y"]}', b'{"name": "a", "tags": null}']
        following = {"Link": '</v2/a/tags/list?n=1000&last=y>; rel="next"'}
        server.script(
            "/v2/a/tags/list",
            Page(pages[0], "application/json", following),
            Page(pages[1], "application/json"),
        )
        assert client(server).tags("a") == ["x", "y"]
        assert server.requests[1].query == "n=1000&last=y"


def test_an_interrupted_upload_is_sent_again() -> None:
    with serving() as server:
        uploads = "/v2/a/blobs/uploads/"
        server.script(uploads, *[Status(202, {"Location": "/v2/up?state=1"})] * 2)
        server.script("/v2/up", Status(503), Status(201))
        assert client(server).push_blob("a", DIGEST, len(BLOB), opened(BLOB))
        sent = [one for one in server.requests if one.method == "PUT"]
        assert [one.body == BLOB for one in sent] == [True, True]
        assert sent[0].query == f"state=1&digest={DIGEST.replace(':', '%3A')}"
        assert server.count(uploads, "POST") == 2


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_blob_is_sent_where_it_may_not_be_mounted(status: int) -> None:
    with serving() as server:
        uploads = "/v2/a/blobs/uploads/"
        server.script(uploads, Status(status), Status(202, {"Location": "/v2/up"}))
        server.script("/v2/up", Status(201))
        assert client(server).push_blob("a", DIGEST, len(BLOB), opened(BLOB), source="other")
        asked = [one.query for one in server.requests if one.path == uploads]
        assert asked == [f"mount={DIGEST.replace(':', '%3A')}&from=other", ""]
        server.script(uploads, Status(status))
        with pytest.raises(FetchError):
            client(server).push_blob("a", DIGEST, len(BLOB), opened(BLOB))


def test_a_registry_that_nobody_may_write_to(tmp_path: Path) -> None:
    with container_registry(tmp_path, read_only=True) as server:
        with pytest.raises(FetchError, match="the registry refuses the request") as caught:
            OciClient(server.host).push_blob("a", DIGEST, len(BLOB), opened(BLOB))
        assert "405" in dict(caught.value.details)["found"]
