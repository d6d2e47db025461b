"""A bucket without a key in the settings: the credentials come from the platform, and change."""

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from domain.errors import StoreUnavailable
from domain.images import new_key
from domain.uploads import DeclaredFile, UploadMethod
from storage.objects.bucket import Bucket, open_client
from storage.objects.s3 import open_bucket
from storage.objects.sigv4 import Sigv4Signer
from tests.buckets import Ministack, bucket_at
from tests.http import open_http
from tests.serving import free_port, serving
from tests.storage.places import new_bucket
from tests.waits import eventually

FILE = DeclaredFile(content_type="image/png", byte_size=4, sha256=None)


class Platform:
    """Gives credentials as containers are given them, new ones each time."""

    def __init__(self) -> None:
        self.given = 0
        self.life = timedelta(hours=6)
        self.app = Starlette(routes=[Route("/credentials", self._give)])

    async def _give(self, _: Request) -> JSONResponse:
        self.given += 1
        expires_at = datetime.now(UTC) + self.life
        return JSONResponse(
            {
                "AccessKeyId": "test",
                "SecretAccessKey": "test",
                "Token": f"token/{self.given}+=",
                "Expiration": expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        )


@pytest.fixture
async def platform(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Platform]:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    platform = Platform()
    async with serving(platform.app, free_port()) as url:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/credentials")
        yield platform


@pytest.fixture
def bucket(ministack_bucket: Bucket) -> Bucket:
    return replace(ministack_bucket, key_id="", secret="")


def token_in(url: str) -> str:
    return parse_qs(urlsplit(url).query)["X-Amz-Security-Token"][0]


@pytest.fixture
async def strict_bucket(tmp_path: Path) -> AsyncIterator[Bucket]:
    """On a server that requires the first token."""
    server = Ministack(tmp_path, session_token="token/1+=")
    try:
        await server.start()
        bucket = await new_bucket(bucket_at(server.url))
        yield replace(bucket, key_id="", secret="")
    finally:
        await server.stop()


async def test_every_request_and_url_is_signed_with_the_session_token(
    platform: Platform, strict_bucket: Bucket
) -> None:
    key, uploaded = new_key("images", "image/png"), new_key("uploads", "image/png")
    async with open_bucket(strict_bucket) as store, open_http() as http:
        await store.put(key, b"data")
        link = store.link(key)
        put = store.presign(uploaded, FILE, method=UploadMethod.PUT)
        form = store.presign(uploaded, FILE, method=UploadMethod.POST)

        assert await store.get(key) == b"data"
        assert (await http.get(link.url)).text == "data"
        without = link.url.replace("&X-Amz-Security-Token=token%2F1%2B%3D", "")
        assert (await http.get(without)).status_code in (400, 403)
        assert (await http.put(put.url, content=b"data", headers=put.headers)).is_success
        files = {"file": ("file", b"data", "image/png")}
        assert (await http.post(form.url, data=form.fields, files=files)).is_success

    assert token_in(link.url) == token_in(put.url) == "token/1+="
    assert form.fields["x-amz-security-token"] == "token/1+="
    assert platform.given == 1


async def test_signed_urls_end_with_their_credentials_and_new_ones_follow(
    platform: Platform, bucket: Bucket
) -> None:
    platform.life = timedelta(minutes=10)  # less than the library's minimum: it refreshes each time
    key = new_key("images", "image/png")
    async with open_bucket(bucket, look_seconds=0.05) as store:
        first = store.link(key)
        presigned = store.presign(new_key("uploads", "image/png"), FILE, method=UploadMethod.PUT)
        latest = datetime.now(UTC) + timedelta(minutes=10)
        assert first.expires_at <= latest
        assert presigned.expires_at <= latest
        platform.life = timedelta(hours=6)

        async def is_replaced() -> bool:
            return store.link(key).expires_at > latest

        await eventually(is_replaced, what="new credentials are used")
        await store.put(key, b"data")

    assert token_in(first.url) != token_in(store.link(key).url)


async def test_environment_variables_are_credentials(
    platform: Platform, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of the environment")
    key = new_key("images", "image/png")

    async with open_bucket(bucket) as store:
        await store.put(key, b"data")
        assert token_in(store.link(key).url) == "of the environment"

    assert platform.given == 0


async def test_missing_credentials_are_reported_in_a_message(
    platform: Platform, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")

    with pytest.raises(StoreUnavailable, match="no credentials"):
        async with open_bucket(bucket):
            pass


async def test_a_signature_with_a_session_token_equals_that_of_botocore(
    platform: Platform, bucket: Bucket
) -> None:
    key = new_key("images", "image/png")
    async with open_client(bucket) as client:
        url = await client.generate_presigned_url(
            "get_object", Params={"Bucket": bucket.name, "Key": key}, ExpiresIn=600
        )
    address = urlsplit(url)
    moment = parse_qs(address.query)["X-Amz-Date"][0]

    query = Sigv4Signer(
        key_id="test", secret="test", region=bucket.region, token="token/1+="
    ).query(
        "GET",
        address.path,
        headers={"host": address.netloc},
        at=datetime.strptime(moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC),
        seconds=600,
    )

    assert sorted(query.split("&")) == sorted(address.query.split("&"))
