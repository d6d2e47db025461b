"""Uploads are presigned only in forms that the server of the bucket supports."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

import pytest

from domain.uploads import UploadAbilities
from storage.mongo.database import open_database
from storage.objects.bucket import Bucket
from storage.objects.s3 import open_bucket
from tests.buckets import settings_of
from tests.clients import GraphQLClient
from tests.conftest import Darkroom, StartDarkroom
from tests.storage.faulty_proxy import Fault, FaultyProxy, open_faulty_proxy
from tests.storage.places import keys_in, new_bucket
from tests.storage.test_bucket import run
from tests.uploads import CREATE, a_picture, complete, create, declared, send_file

METHODS: Final = ("PUT", "POST")


def answer(status: str, code: str) -> Fault:
    body = f"<Error><Code>{code}</Code><Message>secret words</Message></Error>"
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nConnection: close\r\n"
    return Fault(answer=f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())


NOT_IMPLEMENTED: Final = answer("501 Not Implemented", "NotImplemented")


class Server:
    """A server that lacks something, before one that does not. It counts the uploads it is sent."""

    def __init__(self, proxy: FaultyProxy, bucket: Bucket, lacks: Callable[[bytes], bool]) -> None:
        self.bucket = replace(bucket, endpoint=proxy.url, public_endpoint=proxy.url)
        self.lacks = lacks
        self.answer = NOT_IMPLEMENTED
        """Mapped to what it does not support."""
        self.instead: Fault | None = None
        """Of all uploads."""
        self.uploads = 0
        proxy.choose_fault_by(self._choose)

    def _choose(self, head: bytes) -> Fault:
        is_upload = b"/uploads/" in head.splitlines()[0] or takes_form(head)
        if not is_upload or not head.startswith((b"PUT", b"POST")):
            return Fault()
        self.uploads += 1
        if self.instead is not None:
            return self.instead
        return self.answer if self.lacks(head) else Fault()


def takes_form(head: bytes) -> bool:
    return head.startswith(b"POST") and b"multipart/form-data" in head.lower()


def is_conditional(head: bytes) -> bool:
    return head.startswith(b"PUT") and b"\r\nif-none-match:" in head.lower()


LACKS: Final[dict[str, tuple[Callable[[bytes], bool], UploadAbilities]]] = {
    "nothing": (lambda _: False, UploadAbilities()),
    "forms, as Cloudflare R2": (takes_form, UploadAbilities(takes_forms=False)),
    "conditions": (is_conditional, UploadAbilities(takes_once=False)),
    "forms and conditions, as Backblaze B2": (
        lambda head: takes_form(head) or is_conditional(head),
        UploadAbilities(takes_forms=False, takes_once=False),
    ),
}
every_server = pytest.mark.parametrize(("lacks", "abilities"), LACKS.values(), ids=list(LACKS))


@asynccontextmanager
async def a_server(bucket: Bucket, lacks: Callable[[bytes], bool]) -> AsyncIterator[Server]:
    async with open_faulty_proxy(bucket.endpoint) as proxy:
        yield Server(proxy, await new_bucket(bucket), lacks)


async def upload(client: GraphQLClient, method: str) -> tuple[str, list[str]]:
    """Send a picture by this method. Return the method and the names of the headers."""
    data = a_picture()
    [presigned] = await create(client, declared(data, method=method))
    sent = await send_file(presigned, data)
    assert sent.is_success, sent.text
    assert (await complete(client, presigned["id"]))["origin"] == "UPLOAD"
    return presigned["method"], [one["name"] for one in presigned["headers"]]


@every_server
async def test_every_server_is_offered_the_forms_it_supports(
    start_darkroom: StartDarkroom,
    ministack_bucket: Bucket,
    lacks: Callable[[bytes], bool],
    abilities: UploadAbilities,
) -> None:
    async with a_server(ministack_bucket, lacks) as server:
        darkroom = await start_darkroom(**settings_of(server.bucket))

        found = [await upload(darkroom.client(), method) for method in METHODS]

        by_put = "PUT", ["Content-Type", *(["If-None-Match"] if abilities.takes_once else [])]
        assert found == [by_put, ("POST", []) if abilities.takes_forms else by_put]


@every_server
async def test_probing_a_server_leaves_nothing_behind(
    ceph_bucket: Bucket, lacks: Callable[[bytes], bool], abilities: UploadAbilities
) -> None:
    async with a_server(ceph_bucket, lacks) as server, open_bucket(server.bucket) as store:
        assert await store.find_abilities() == abilities
        assert await keys_in(server.bucket) == {}


async def test_a_server_is_probed_once_for_all_processes(
    start_darkroom: StartDarkroom, ministack_bucket: Bucket
) -> None:
    async with a_server(ministack_bucket, takes_form) as server:
        one = await start_darkroom(**settings_of(server.bucket))
        clients = [one.client() for _ in range(5)]
        data = declared(a_picture(), method="POST")

        created = await asyncio.gather(*(create(client, data) for client in clients))
        asked = server.uploads
        two = await start_darkroom(**settings_of(server.bucket))
        created.append(await create(two.client(), data))

        assert {presigned["method"] for [presigned] in created} == {"PUT"}
        assert asked == server.uploads == 2
        assert await remembered(one) == {server.bucket.public_url: (False, True)}


@pytest.mark.parametrize(
    "instead",
    [
        answer("503 Slow Down", "SlowDown"),
        answer("429 Too Many Requests", "TooManyRequests"),
        answer("403 Forbidden", "SignatureDoesNotMatch"),
        answer("307 Temporary Redirect", "TemporaryRedirect"),
        Fault(refuses=True),
        Fault(cut_answer_after=20),
    ],
    ids=["503", "429", "403", "307", "refused", "cut"],
)
async def test_nothing_is_offered_or_stored_while_support_is_unknown(
    start_darkroom: StartDarkroom, ministack_bucket: Bucket, instead: Fault
) -> None:
    async with a_server(ministack_bucket, takes_form) as server:
        darkroom = await start_darkroom(**settings_of(server.bucket))
        client = darkroom.client()
        server.instead = instead

        refused = await client.execute(CREATE, files=[declared(a_picture(), method="POST")])

        [error] = refused["errors"]
        assert error["extensions"]["code"] == "OVERLOADED"
        assert await remembered(darkroom) == {}
        server.instead = None
        assert await upload(client, "POST") == ("PUT", ["Content-Type", "If-None-Match"])


async def test_a_form_that_fails_once_is_offered_again_later(
    start_darkroom: StartDarkroom, ministack_bucket: Bucket
) -> None:
    async with a_server(ministack_bucket, takes_form) as server:
        server.answer = answer("503 Slow Down", "SlowDown")
        darkroom = await start_darkroom(**settings_of(server.bucket))
        client = darkroom.client()

        meanwhile = await upload(client, "POST")
        known = await remembered(darkroom)
        server.lacks = lambda _: False
        later = await upload(client, "POST")

        assert (meanwhile[0], known, later[0]) == ("PUT", {}, "POST")


async def test_the_check_names_what_a_server_does_not_support(ceph_bucket: Bucket) -> None:
    lines = {
        takes_form: "n/a  It accepts an upload by POST: it does not support POST forms, so uploads "
        "are sent by PUT.",
        is_conditional: "n/a  It refuses a second upload to the same URL: it does not support "
        "If-None-Match, so an upload can be replaced.",
    }
    for lacks, line in lines.items():
        async with a_server(ceph_bucket, lacks) as server:
            origins = {"DARKROOM_ALLOWED_ORIGINS": "http://app.test"}
            await run("cors", server.bucket, **origins)
            _, said = await run("check", server.bucket, **origins)

        other = [one for one in said.splitlines() if not one.startswith("yes  It ")]
        # A Ceph of 2021 does not look at digests.
        digests = "no   It refuses an upload of another length or digest: it answered 200."
        assert sorted(other) == sorted([line, digests])


async def remembered(darkroom: Darkroom) -> dict[str, tuple[bool, bool]]:
    settings = darkroom.settings
    assert settings.mongodb_uri is not None
    uri = settings.mongodb_uri.get_secret_value()
    async with open_database(uri, settings.mongodb_database) as database:
        return {
            one["_id"]: (one["takesForms"], one["takesOnce"])
            async for one in database.stores.find({})
        }
