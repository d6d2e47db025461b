"""Failures of a bucket raise the errors of the port, in time; its signatures are valid for S3."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr

from domain.errors import ObjectMissing, StoreUnavailable
from domain.execution.image_writer import ImageWriter
from domain.images import new_key
from domain.ports.objects import Objects
from storage.objects.bucket import Bucket, open_client
from storage.objects.s3 import open_bucket
from storage.objects.sigv4 import Sigv4Signer
from tests.conftest import StartDarkroom
from tests.operations import SMALL, start, until_finished
from tests.storage.faulty_proxy import Fault, FaultyProxy, open_faulty_proxy
from tests.storage.places import PICTURE, POST, PUT, Place, place_in_bucket

LIMIT_SECONDS = 1.0
GIVEN_UP_SECONDS = 20.0
"""Far above the limit, and far below what the S3 client itself would wait."""
ERROR = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>InternalError</Code><Message>secret words</Message></Error>"""


def http_response(status: str, body: bytes, content_type: str = "application/xml") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class StoreSetup(NamedTuple):
    """A store behind a proxy, and the same bucket without one."""

    store: Objects
    proxy: FaultyProxy
    direct: Objects


@pytest.fixture(scope="module")
async def module_store_setup(
    ministack_bucket: Bucket,
) -> AsyncIterator[tuple[Objects, FaultyProxy]]:
    async with open_faulty_proxy(ministack_bucket.endpoint) as proxy:
        bucket = replace(ministack_bucket, endpoint=proxy.url)
        async with open_bucket(bucket, operation_seconds=LIMIT_SECONDS) as store:
            yield store, proxy


@pytest.fixture
def store_setup(
    module_store_setup: tuple[Objects, FaultyProxy], ministack: Place
) -> Iterator[StoreSetup]:
    store, proxy = module_store_setup
    yield StoreSetup(store, proxy, ministack.store)
    proxy.set_fault(Fault())


FAULTS = {
    "refused": Fault(refuses=True),
    "silent": Fault(silent=True),
    "503": Fault(answer=http_response("503 Slow Down", ERROR)),
    "500 with HTML": Fault(answer=http_response("500 Oh", b"<html>", "text/html")),
    "502 with nothing": Fault(answer=http_response("502 Bad Gateway", b"")),
    "403": Fault(
        answer=http_response("403 Forbidden", ERROR.replace(b"InternalError", b"AccessDenied"))
    ),
    "no bucket": Fault(
        answer=http_response("404 Not Found", ERROR.replace(b"Internal", b"NoSuchBucket"))
    ),
    "an error with 200": Fault(answer=http_response("200 OK", ERROR)),
    "a page with 200": Fault(answer=http_response("200 OK", b"<html>Welcome</html>", "text/html")),
    "nothing with 200": Fault(answer=http_response("200 OK", b"")),
    "no HTTP": Fault(answer=b"SSH-2.0-OpenSSH_9.2\r\n"),
    "a cut in the head": Fault(cut_answer_after=30),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
async def test_a_failing_bucket_is_reported_as_an_unavailable_store(
    store_setup: StoreSetup, fault: Fault
) -> None:
    key, new = new_key("images", "image/png"), new_key("images", "image/png")
    await store_setup.direct.put(key, PICTURE)
    store_setup.proxy.set_fault(fault)

    for attempt in (
        store_setup.store.put(new, PICTURE),
        store_setup.store.get(key),
        store_setup.store.delete([key]),
    ):
        with pytest.raises(StoreUnavailable) as failed:
            await asyncio.wait_for(attempt, GIVEN_UP_SECONDS)
        assert not isinstance(failed.value, ObjectMissing)
        assert "secret words" not in str(failed.value)

    # A request that was answered may have been carried out: then it was, as a whole.
    if fault.cut_answer_after is None:
        assert await store_setup.direct.get(key) == PICTURE
        with pytest.raises(ObjectMissing):
            await store_setup.direct.get(new)


@pytest.mark.parametrize("cut", [400, 1_000, 100_000, 1_999_000])
async def test_an_object_whose_bytes_are_cut_off_is_not_stored(
    store_setup: StoreSetup, cut: int
) -> None:
    key = new_key("images", "image/png")
    store_setup.proxy.set_fault(Fault(cut_request_after=cut))

    with pytest.raises(StoreUnavailable):
        await store_setup.store.put(key, bytes(2_000_000))

    with pytest.raises(ObjectMissing):
        await store_setup.direct.get(key)


@pytest.mark.parametrize("cut", [100, 1_000, 1_000_000, 1_999_999])
async def test_a_partial_object_is_never_returned(store_setup: StoreSetup, cut: int) -> None:
    key = new_key("images", "image/png")
    await store_setup.direct.put(key, bytes(2_000_000))
    store_setup.proxy.set_fault(Fault(cut_answer_after=cut))

    with pytest.raises(StoreUnavailable):
        await store_setup.store.get(key)


async def test_a_deletion_after_a_commit_does_not_wait_for_a_silent_bucket(
    store_setup: StoreSetup, ministack_bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a committed write would be reported as failed after the timeout of the store."""
    monkeypatch.setattr("domain.execution.image_writer._DELETE_SECONDS", 1.0)
    store_setup.proxy.set_fault(Fault(silent=True))
    bucket = replace(ministack_bucket, endpoint=store_setup.proxy.url)
    async with open_bucket(bucket, operation_seconds=60) as store, asyncio.timeout(30):
        await ImageWriter(store).delete([new_key("images", "image/png")])

        await store_setup.proxy.used.wait()


async def test_a_store_that_was_unavailable_is_used_again(store_setup: StoreSetup) -> None:
    key = new_key("images", "image/png")
    store_setup.proxy.set_fault(Fault(silent=True))
    with pytest.raises(StoreUnavailable):
        await store_setup.store.put(key, PICTURE)

    store_setup.proxy.set_fault(Fault())
    await store_setup.store.put(key, PICTURE)

    assert await store_setup.store.get(key) == PICTURE


async def test_a_single_failure_is_retried_without_an_error(
    store_setup: StoreSetup, ministack_bucket: Bucket
) -> None:
    key = new_key("images", "image/png")
    store_setup.proxy.set_fault(Fault(answer=http_response("503 Slow Down", ERROR)))

    async with open_bucket(replace(ministack_bucket, endpoint=store_setup.proxy.url)) as store:
        putting = asyncio.create_task(store.put(key, PICTURE))
        async with asyncio.timeout(5):
            await store_setup.proxy.used.wait()
        store_setup.proxy.set_fault(Fault())
        await putting

    assert await store_setup.direct.get(key) == PICTURE


async def test_connections_are_reused_and_closed_at_the_end(ministack_bucket: Bucket) -> None:
    async with open_faulty_proxy(ministack_bucket.endpoint) as proxy:
        async with open_bucket(replace(ministack_bucket, endpoint=proxy.url)) as store:
            for _ in range(20):
                key = new_key("images", "image/png")
                await store.put(key, PICTURE)
                assert await store.get(key) == PICTURE
        assert proxy.connections <= 2

        with pytest.raises(StoreUnavailable):
            await store.get(key)


async def test_aws_variables_of_the_machine_are_ignored(
    ministack_bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.setenv(name, "nothing-of-ours")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")

    async with open_bucket(ministack_bucket) as store:
        with pytest.raises(ObjectMissing):
            await store.get(new_key("images", "image/png"))


# Signatures


async def test_a_signature_equals_that_of_botocore(ministack_bucket: Bucket) -> None:
    key = new_key("images", "image/png")
    virtual = replace(ministack_bucket, addressing="virtual", endpoint="https://s3.test")
    for bucket in (ministack_bucket, replace(virtual, public_endpoint="https://s3.test")):
        async with open_client(bucket) as client:
            url = await client.generate_presigned_url(
                "get_object", Params={"Bucket": bucket.name, "Key": key}, ExpiresIn=3600
            )
        address = urlsplit(url)
        moment = parse_qs(address.query)["X-Amz-Date"][0]

        query = Sigv4Signer(key_id=bucket.key_id, secret=bucket.secret, region=bucket.region).query(
            "GET",
            address.path,
            headers={"host": address.netloc},
            at=datetime.strptime(moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC),
            seconds=3600,
        )

        assert sorted(query.split("&")) == sorted(address.query.split("&"))
        assert url.startswith(bucket.public_url + "/")


async def test_the_public_url_and_the_internal_url_can_differ(
    ministack_bucket: Bucket,
) -> None:
    named = ministack_bucket.endpoint.replace("127.0.0.1", "localhost")
    async with place_in_bucket(replace(ministack_bucket, public_endpoint=named)) as place:
        key = await place.put()
        link = place.store.link(key)
        _, put = place.presign(PUT)
        _, post = place.presign(POST)

        assert link.url.startswith("http://localhost:")
        assert (await place.http.get(link.url)).content == PICTURE
        assert (await place.send(put)).is_success
        assert (await place.send(post)).is_success


async def test_another_process_returns_the_same_url(
    ministack: Place, store_setup: StoreSetup
) -> None:
    key = new_key("images", "image/png")

    assert ministack.store.link(key) == store_setup.direct.link(key)


def test_signing_a_page_of_urls_takes_little_time(ministack: Place) -> None:
    keys = [new_key("images", "image/png") for _ in range(200)]

    def seconds() -> float:
        begun = time.thread_time()
        for key in keys:
            ministack.store.link(key)
        return time.thread_time() - begun

    fresh = seconds()
    assert fresh < 0.05
    assert min(seconds() for _ in range(20)) < 0.005


async def test_with_a_bucket_nothing_is_stored_in_the_data_folder(
    ministack_bucket: Bucket, start_darkroom: StartDarkroom, ministack: Place
) -> None:
    darkroom = await start_darkroom(
        s3_bucket=ministack_bucket.name,
        s3_endpoint=ministack_bucket.endpoint,
        s3_key_id=ministack_bucket.key_id,
        s3_secret=SecretStr(ministack_bucket.secret),
    )
    client = darkroom.client()

    payload = await start(client, userMessage="A red bridge", options=SMALL)
    turn = await until_finished(client, payload["turn"])

    [image] = turn["outputs"][0]["images"]
    answer = await ministack.http.get(image["url"])
    assert image["url"].startswith(f"{ministack_bucket.public_url}/images/")
    assert (answer.status_code, len(answer.content)) == (200, image["byteSize"])
    assert not (darkroom.settings.data_dir / "objects").exists()
    assert (await ministack.http.get(f"{darkroom.url}/objects/x")).status_code == 404


def test_the_secret_is_not_shown(ministack_bucket: Bucket) -> None:
    assert "canary" not in repr(replace(ministack_bucket, secret="canary"))
