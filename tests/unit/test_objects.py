"""Object stores: conditional puts, errors, settings."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import obstore
import pytest
import urllib3

from stackbuild.errors import FetchError, IntegrityError, UsageError
from stackbuild.messages import Silent
from stackbuild.registry import objects
from stackbuild.registry.aws import aws_settings
from stackbuild.registry.directory import DirectoryRegistry
from stackbuild.registry.find import Published, open_place, open_registry
from stackbuild.registry.objects import ObjectRegistry
from stackbuild.registry.places import IndexChangedError
from tests.support.http import CutAfter, Status, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.publish import Publisher


class Heard(Silent):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


EMPTY = b'{"format": 3, "layers": {}}'


def ignoring(real: Callable[..., object]) -> Callable[..., object]:
    """A store that ignores the condition of a put, as some do."""

    def put(*arguments: object, mode: object = "", **options: object) -> object:
        return real(*arguments, **options)

    return put


def refusing(real: Callable[..., object]) -> Callable[..., object]:
    """A store that does not implement conditional puts."""

    def put(*arguments: object, mode: object = "overwrite", **options: object) -> object:
        if mode != "overwrite":
            raise obstore.exceptions.GenericError("501 Not Implemented")
        return real(*arguments, **options)

    return put


@pytest.mark.parametrize("kind", [ignoring, refusing])
def test_a_store_without_conditional_puts_is_named(
    bucket: str, monkeypatch: pytest.MonkeyPatch, kind: Callable[..., Callable[..., object]]
) -> None:
    monkeypatch.setattr(obstore, "put", kind(obstore.put))
    heard = Heard()
    place = open_place(f"s3://{bucket}/x", heard)
    place.replace_index(EMPTY, None)
    place.replace_index(EMPTY + b" ", place.tagged_index()[1])
    assert len(heard.warnings) == 1
    assert "the store does not make puts conditional" in heard.warnings[0]
    assert place.document("index.json") == EMPTY + b" "
    with pytest.raises(IndexChangedError):
        place.replace_index(EMPTY, None)
    # The attempt leaves nothing behind.
    assert isinstance(place, ObjectRegistry)
    assert [one["path"] for some in obstore.list(place._store) for one in some] == ["index.json"]


def test_large_files_are_sent_in_parts_and_abandoned_as_a_whole(
    bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_PART", 5 << 20)
    place = ObjectRegistry(f"s3://{bucket}/x")
    size = 11 << 20
    place.put("linux-x64/a.tar.zst", size, "5" * 64, (b"x" * (1 << 20) for _ in range(11)))
    found = place.stored("linux-x64/a.tar.zst")
    assert found is not None
    assert (found.size, found.sha256) == (size, "5" * 64)

    def broken() -> Iterator[bytes]:
        yield b"x" * (6 << 20)
        raise IntegrityError("the archive does not match its manifest")

    with pytest.raises(IntegrityError, match="does not match"):
        place.put("linux-x64/b.tar.zst", size, "5" * 64, broken())
    assert place.stored("linux-x64/b.tar.zst") is None
    uploads = urllib3.request("GET", f"{s3_server}/{bucket}?uploads")
    assert b"<UploadId>" not in uploads.data


def test_a_bucket_that_does_not_exist_is_named(bucket: str) -> None:
    del bucket
    place = open_place("s3://no-such-bucket/x")
    for request in (
        place.tagged_index,
        lambda: place.put_document("a.json", b""),
        lambda: place.unnamed(()),
    ):
        with pytest.raises(FetchError, match="there is no bucket no-such-bucket"):
            request()


def test_a_place_without_layers_says_so(bucket: str) -> None:
    with pytest.raises(FetchError, match=f"nothing is published in s3://{bucket}/x"):
        open_registry(f"s3://{bucket}/x/").index()


def test_a_refusal_names_the_settings_and_no_secret(
    bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with serving(directory=tmp_path) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        server.script(f"/{bucket}/index.json", Status(403))
        with pytest.raises(FetchError, match="does not allow to read this file") as caught:
            open_registry(f"s3://{bucket}").index()
    assert "AWS_PROFILE" in str(caught.value)
    assert "very-secret" not in str(caught.value)
    assert "Debug" not in str(caught.value)


def test_an_interrupted_transfer_goes_on(
    bucket: str, made: Publisher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    manifest = Published(DirectoryRegistry(made.directory), made.platform).current("framework")
    (tmp_path / "served").mkdir()
    made.directory.rename(tmp_path / "served" / bucket)
    with serving(directory=tmp_path / "served") as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        published = Published(open_registry(f"s3://{bucket}"), made.platform)
        manifest = published.current("framework")
        monkeypatch.setattr(objects, "_PART", 150)
        monkeypatch.setattr(objects, "_PAUSE", 0)
        path = f"/{bucket}/{made.platform}/{manifest.archive.name}"
        server.script(path, CutAfter(50), CutAfter(60))
        entry = published.entry(manifest)
        got = b"".join(published.registry.read(entry, manifest, [(10, 100), (100, 200)]))
        archive = tmp_path / "served" / path[1:]
        assert got == archive.read_bytes()[10:200]
        asked = [request.headers["range"] for request in server.requests if request.path == path]
        assert sorted(set(asked)) == ["bytes=10-159", "bytes=160-199"]
        assert len(asked) > 2


def test_a_token_in_an_address_is_not_shown() -> None:
    error = obstore.exceptions.GenericError(
        "GET https://a/b?sv=1&sig=token) failed\n\nDebug source:"
    )
    assert objects._reason(error) == "GET https://a/b failed"
    error = obstore.exceptions.GenericError(
        "PUT http://a - Server returned non-2xx status code: 501 Not Implemented: <?xml?>\n"
        "<Error><Message>A header is not implemented</Message></Error>"
    )
    assert objects._reason(error) == "501 Not Implemented: A header is not implemented"


@pytest.mark.parametrize(
    "address",
    [
        "s3://",
        "s3://key:secret@bucket/x",
        "gs://bucket?token=secret",
        "s3://bucket/../x",
        "az:///x",
    ],
)
def test_an_invalid_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="the address of the object store is not valid") as caught:
        open_registry(address)
    assert "secret" not in str(caught.value)


def test_other_stores_open_with_their_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    assert open_place("az://container/a/b/").location == "az://container/a/b"
    assert open_place("GS://bucket").location == "gs://bucket"
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "not base64!")
    with pytest.raises(UsageError, match="the settings of the object store are not valid"):
        open_place("az://container")


def test_the_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.delitem(sys.modules, "stackbuild.registry.objects")
    with pytest.raises(UsageError, match="need the library obstore") as caught:
        open_registry("s3://bucket")
    assert ("to fix", "pip install 'stackbuild[objects]'") in caught.value.details


CREDENTIALS = """
[default]
aws_access_key_id = one
aws_secret_access_key = secret-one
[work]
aws_access_key_id = two
aws_secret_access_key = secret%two
aws_session_token = token
"""
CONFIG = """
[default]
region = eu-west-1
[profile work]
region = eu-central-1
endpoint_url = https://s3.example.org
[profile company]
sso_session = company
"""


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "credentials").write_text(CREDENTIALS)
    (tmp_path / "config").write_text(CONFIG)
    return {
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
    }


def test_profiles_of_aws_are_read(variables: dict[str, str]) -> None:
    assert aws_settings(variables)[0] == {
        "region": "eu-west-1",
        "access_key_id": "one",
        "secret_access_key": "secret-one",
    }
    assert aws_settings(variables | {"AWS_PROFILE": "work"})[0] == {
        "region": "eu-central-1",
        "endpoint": "https://s3.example.org",
        "access_key_id": "two",
        "secret_access_key": "secret%two",
        "session_token": "token",
    }


def test_the_environment_comes_before_the_profile(variables: dict[str, str]) -> None:
    variables |= {
        "AWS_PROFILE": "work",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_ENDPOINT_URL": "http://localhost:1",
        "AWS_DEFAULT_REGION": "us-east-2",
    }
    assert aws_settings(variables) == (
        {"region": "us-east-2", "endpoint": "http://localhost:1"},
        None,
    )


def test_profiles_that_cannot_be_used_are_named(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="there is no AWS profile other"):
        aws_settings(variables | {"AWS_PROFILE": "other"})
    monkeypatch.setattr("stackbuild.registry.aws.find_spec", lambda _: None)
    with pytest.raises(UsageError, match="the AWS profile company need the library boto3"):
        aws_settings(variables | {"AWS_PROFILE": "company"})
    (tmp_path / "config").write_text("region = x")
    with pytest.raises(UsageError, match="the AWS settings cannot be read"):
        aws_settings(variables)
    assert aws_settings({"AWS_CONFIG_FILE": "/no", "AWS_SHARED_CREDENTIALS_FILE": "/no"}) == (
        {},
        None,
    )
