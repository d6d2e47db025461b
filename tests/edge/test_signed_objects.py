"""Signed URLs over real HTTP: what they return, how, and what they do not reveal."""

import asyncio
import os
import re
import socket
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import httpx2
import pytest
import uvicorn
from starlette.applications import Starlette

from domain.images import new_key, rendition_key
from domain.signing import Signer
from edge.signed_objects import CHUNK_BYTES, signed_object_routes
from storage.objects.folder import FolderObjectStore
from storage.objects.folder_files import LEFTOVER_PREFIX
from tests.http import open_http

PICTURE = bytes(range(250)) * 4
SECRET = b"a secret"


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Site:
    """A store, served."""

    def __init__(self, store: FolderObjectStore, folder: Path, clock: Clock, port: int) -> None:
        self.store = store
        self.folder = folder
        self.clock = clock
        self.port = port
        self.http = open_http()

    async def put(self, data: bytes = PICTURE, *, content_type: str = "image/png") -> str:
        """Put an object and return its link."""
        key = new_key("images", content_type)
        await self.store.put(key, data)
        return self.store.link(key).url

    async def get(self, url: str, **headers: str) -> httpx2.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.get(url, headers=named)

    async def raw(self, target: str) -> bytes:
        """The whole answer to a request whose target no client has tidied up."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(
            f"GET {target} HTTP/1.1\r\nHost: pictures.test\r\nConnection: close\r\n\r\n".encode()
        )
        answer = await asyncio.wait_for(reader.read(), timeout=5)
        writer.close()
        await writer.wait_closed()
        return answer


@asynccontextmanager
async def served(app: Starlette, listening: socket.socket) -> AsyncIterator[None]:
    # The socket listens already, so that no client waits for the server to be ready.
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    running = asyncio.create_task(server.serve([listening]))
    try:
        yield
    finally:
        server.should_exit = True
        await running


@pytest.fixture(scope="module")
async def module_site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("links") / "objects"
    # Only of a socket that says to be TCP asyncio takes away the delay of small answers.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    port = cast(int, listening.getsockname()[1])
    clock = Clock()
    store = FolderObjectStore(
        folder, public_url=f"http://127.0.0.1:{port}", signer=Signer(SECRET), clock=clock
    )
    site = Site(store, folder, clock, port)
    async with served(Starlette(routes=signed_object_routes(store)), listening), site.http:
        yield site
    await store.aclose()


@pytest.fixture
def site(module_site: Site) -> Site:
    module_site.clock.now = Clock().now
    return module_site


def key_of(url: str) -> str:
    found = re.search(r"/objects/(images/[^?]+)", url)
    assert found is not None
    return found[1]


def assert_refused(response: httpx2.Response, status: int, code: str) -> None:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    [error] = response.json()["errors"]
    assert error["message"]
    assert error["extensions"] == {"code": code}


# What a link opens


@pytest.mark.parametrize("content_type", ["image/png", "image/jpeg", "image/webp"])
async def test_a_signed_url_returns_its_object(site: Site, content_type: str) -> None:
    url = await site.put(content_type=content_type)

    response = await site.get(url)

    assert response.status_code == 200
    assert response.content == PICTURE
    assert response.headers["content-type"] == content_type
    assert response.headers["content-length"] == str(len(PICTURE))


async def test_a_signed_url_returns_a_thumbnail(site: Site) -> None:
    key = rendition_key(new_key("images", "image/png"), 256)
    await site.store.put(key, b"thumbnail")

    response = await site.get(site.store.link(key).url)

    assert response.content == b"thumbnail"
    assert response.headers["content-type"] == "image/webp"


async def test_an_object_can_be_embedded_but_not_executed(site: Site) -> None:
    headers = (await site.get(await site.put())).headers

    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-disposition"] == "inline"
    assert headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert headers["cross-origin-resource-policy"] == "cross-origin"
    assert headers["access-control-allow-origin"] == "*"
    assert headers["accept-ranges"] == "bytes"


async def test_an_object_can_be_cached_as_long_as_its_url_is_valid(site: Site) -> None:
    key = new_key("images", "image/png")
    await site.store.put(key, PICTURE)
    link = site.store.link(key)

    site.clock.now = link.expires_at.timestamp() - 1234
    response = await site.get(link.url)

    assert response.headers["cache-control"] == "private, max-age=1234, immutable"


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 5 * CHUNK_BYTES - 1])
async def test_objects_of_every_size_arrive_complete(site: Site, size: int) -> None:
    data = os.urandom(size)

    response = await site.get(await site.put(data))

    assert response.content == data
    assert response.headers["content-length"] == str(size)


async def test_a_client_that_disconnects_does_not_affect_the_next_one(site: Site) -> None:
    data = os.urandom(20_000_000)
    url = await site.put(data)

    async with site.http.stream("GET", url) as response:
        assert response.status_code == 200
    again = await site.get(url)

    assert again.content == data


async def test_a_response_is_cut_off_if_its_object_disappears(site: Site) -> None:
    url = await site.put(os.urandom(50_000_000))

    async def fetch() -> None:
        async with site.http.stream("GET", url) as response:
            assert response.status_code == 200
            await site.store.delete([key_of(url)])
            async for _ in response.aiter_bytes():
                pass

    with pytest.raises(httpx2.RemoteProtocolError):
        await fetch()


# HEAD and other methods


async def test_head_has_the_headers_of_get(site: Site) -> None:
    url = await site.put()

    got, headed = await site.get(url), await site.http.head(url)

    assert headed.status_code == 200
    assert headed.content == b""
    differing = {"date"}
    assert {k: v for k, v in headed.headers.items() if k not in differing} == {
        k: v for k, v in got.headers.items() if k not in differing
    }


async def test_head_ignores_ranges(site: Site) -> None:
    response = await site.http.head(await site.put(), headers={"Range": "bytes=0-9"})

    assert response.status_code == 200
    assert response.headers["content-length"] == str(len(PICTURE))


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
async def test_other_methods_are_refused(site: Site, method: str) -> None:
    url = await site.put()

    response = await site.http.request(method, url)

    assert_refused(response, 405, "METHOD_NOT_ALLOWED")
    assert response.headers["allow"] == "GET, HEAD"
    assert (await site.get(url)).content == PICTURE


# What a link does not open


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        pytest.param(r"\?.*", "", id="no query"),
        pytest.param(r"expires=\d+&", "", id="no expiry"),
        pytest.param(r"&signature=.*", "", id="no signature"),
        pytest.param(r"signature=.*", "signature=", id="an empty signature"),
        pytest.param(r"expires=\d", "expires=9", id="a later expiry"),
        pytest.param(r"expires=", "expires=0", id="an expiry with a leading zero"),
        pytest.param(r"expires=", "expires=%2b", id="an expiry with a sign"),
        pytest.param(r"expires=(\d+)", r"expires=\1.0", id="an expiry with a fraction"),
        pytest.param(r"expires=\d+", "expires=" + "9" * 5000, id="an endless expiry"),
        pytest.param(r"$", "=", id="padding behind the signature"),
        pytest.param(r"$", "&", id="an ampersand at the end"),
        pytest.param(r"$", "&x=1", id="one parameter more"),
        pytest.param(r"(expires=\d+)&", r"\1&\1&", id="the expiry twice"),
        pytest.param(r"(&signature=.*)", r"\1\1", id="the signature twice"),
        pytest.param(r"(expires=\d+)&(.*)", r"\2&\1", id="the other way round"),
        pytest.param(r"signature", "Signature", id="a capital"),
        pytest.param(r"signature", "%73ignature", id="an escape in the query"),
        pytest.param(r"\.png", "%2Epng", id="an escape in the key"),
        pytest.param(r"objects/images/", "objects/images%2F", id="an escaped slash"),
        pytest.param(r"objects/images/", "objects//images/", id="a doubled slash"),
        pytest.param(r"objects/images/", "objects/previews/", id="another folder"),
        pytest.param(r"\.png", ".jpg", id="another ending"),
        pytest.param(r"\.png", ".png/", id="a slash behind"),
        pytest.param(r"\.png", ".png%0A", id="a line break behind"),
        pytest.param(r"\.png", ".png%00", id="a NUL behind"),
        pytest.param(r"\.png", "-256w.webp", id="its thumbnail"),
    ],
)
async def test_a_modified_url_is_refused(site: Site, pattern: str, replacement: str) -> None:
    url = await site.put()
    altered = re.sub(pattern, replacement, url, count=1)
    assert altered != url

    answer = await site.raw(altered.removeprefix(f"http://127.0.0.1:{site.port}"))

    assert re.match(rb"HTTP/1.1 40[34] ", answer)
    assert PICTURE not in answer
    if b".png%0A" not in altered.encode():  # No route takes a line break.
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b'"code":"FORBIDDEN"' in answer


async def test_an_expired_url_is_refused(site: Site) -> None:
    key = new_key("images", "image/png")
    await site.store.put(key, PICTURE)
    link = site.store.link(key)

    site.clock.now = link.expires_at.timestamp() - 1
    assert (await site.get(link.url)).status_code == 200
    site.clock.now = link.expires_at.timestamp()
    assert_refused(await site.get(link.url), 403, "FORBIDDEN")


async def test_a_refusal_does_not_reveal_whether_the_object_exists(site: Site) -> None:
    there = await site.put()
    missing = site.store.link(new_key("images", "image/png")).url

    answers = []
    for url in (there, missing):
        response = await site.get(re.sub(r"signature=.{4}", "signature=AAAA", url))
        assert_refused(response, 403, "FORBIDDEN")
        response.headers.pop("date")
        answers.append((response.status_code, dict(response.headers), response.content))

    assert answers[0] == answers[1]


async def test_a_deleted_object_is_not_found(site: Site) -> None:
    url = await site.put()
    await site.store.delete([key_of(url)])

    assert_refused(await site.get(url), 404, "NOT_FOUND")
    assert_refused(await site.get(url, If_None_Match="*"), 404, "NOT_FOUND")
    assert (await site.http.head(url)).status_code == 404


async def test_an_unavailable_store_is_answered_with_503_and_retry_after(site: Site) -> None:
    url = await site.put()
    away = site.folder.rename(site.folder.with_name("away"))
    site.folder.write_bytes(b"no folder")

    response = await site.get(url)
    site.folder.unlink()
    away.rename(site.folder)

    assert_refused(response, 503, "STORAGE_UNAVAILABLE")
    assert int(response.headers["retry-after"]) > 0
    assert (await site.get(url)).content == PICTURE


def signed(key: str, clock: Clock) -> str:
    """A query with a true signature, as only we can make it, for what need not be a key."""
    expires = int(clock.now) + 600
    tag = Signer(SECRET).tag("link", f"{key}\n{expires}".encode())
    return f"expires={expires}&signature={urlsafe_b64encode(tag).decode().rstrip('=')}"


@pytest.mark.parametrize(
    "path",
    [
        "/objects/../secret.png",
        "/objects/images/../../secret.png",
        "/objects/images/3f/../../../secret.png",
        "/objects/%2e%2e/secret.png",
        "/objects/..%2fsecret.png",
        "/objects/%2e%2e%2fsecret.png",
        "/objects/%252e%252e%252fsecret.png",
        "/objects/..%5csecret.png",
        "/objects/..%c0%afsecret.png",
        "/objects/%00/../../secret.png",
        "/objects//etc/passwd",
        "/objects/%2fetc%2fpasswd",
        "/objects/file:///etc/passwd",
        "/objects/images/3f",
        "/objects/images/3f/",
        "/objects/",
        f"/objects/images/3f/{LEFTOVER_PREFIX}0123456789abcdef",
    ],
)
async def test_no_path_leads_outside_the_store(site: Site, path: str) -> None:
    secret = b"the secret outside"
    leftover = site.folder / "images" / "3f" / f"{LEFTOVER_PREFIX}0123456789abcdef"
    leftover.parent.mkdir(parents=True, exist_ok=True)
    leftover.write_bytes(secret)
    site.folder.with_name("secret.png").write_bytes(secret)

    key = path.removeprefix("/objects/")
    true_key = new_key("images", "image/png")
    assert site.store.seconds_left(true_key, signed(true_key, site.clock))
    for query in ("", signed(key, site.clock)):
        answer = await site.raw(f"{path}?{query}")

        assert re.match(rb"HTTP/1.1 40[034] ", answer)
        assert secret not in answer
        assert b"root:" not in answer


# Ranges


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-9", 0, 9),
        ("bytes=0-0", 0, 0),
        ("bytes=100-199", 100, 199),
        ("bytes=990-", 990, 999),
        ("bytes=0-", 0, 999),
        ("bytes=999-999", 999, 999),
        ("bytes=990-5000", 990, 999),
        ("bytes=990-" + "9" * 5000, 990, 999),
        ("bytes=-10", 990, 999),
        ("bytes=-5000", 0, 999),
        ("bytes=-" + "9" * 5000, 0, 999),
        ("BYTES=0-9", 0, 9),
        ("bytes= 0-9", 0, 9),
        ("bytes=" + "0" * 5000 + "-9", 0, 9),
    ],
)
async def test_a_range_can_be_requested(site: Site, asked: str, first: int, last: int) -> None:
    response = await site.get(await site.put(), Range=asked)

    assert response.status_code == 206
    assert response.content == PICTURE[first : last + 1]
    assert response.headers["content-range"] == f"bytes {first}-{last}/1000"
    assert response.headers["content-length"] == str(last + 1 - first)
    assert response.headers["content-type"] == "image/png"
    assert response.headers["etag"]


async def test_a_long_range_is_sent_in_chunks(site: Site) -> None:
    data = os.urandom(6 * CHUNK_BYTES)

    response = await site.get(await site.put(data), Range=f"bytes=77-{5 * CHUNK_BYTES}")

    assert response.status_code == 206
    assert response.content == data[77 : 5 * CHUNK_BYTES + 1]


@pytest.mark.parametrize(
    "asked", ["bytes=1000-", "bytes=1000-2000", "bytes=-0", "bytes=" + "9" * 5000 + "-"]
)
async def test_a_range_beyond_the_end_is_not_satisfiable(site: Site, asked: str) -> None:
    response = await site.get(await site.put(), Range=asked)

    assert_refused(response, 416, "RANGE_NOT_SATISFIABLE")
    assert response.headers["content-range"] == "bytes */1000"


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=9-0",
        "bytes=9-8",
        "bytes=-",
        "bytes=",
        "bytes",
        "bytes=a-b",
        "bytes=0x0-9",
        "bytes=1_0-20",
        "bytes=+1-9",
        "bytes=--1",
        "bytes 0-9",
        "lines=0-9",
        "bytes=0-1,5-6",
        "bytes=0-1, 900-",
        "bytes=" + ",".join(["0-"] * 1000),
    ],
)
async def test_anything_but_a_single_range_returns_the_whole_object(site: Site, asked: str) -> None:
    response = await site.get(await site.put(), Range=asked)

    assert response.status_code == 200
    assert response.content == PICTURE


async def test_a_range_of_an_empty_object_is_not_satisfiable(site: Site) -> None:
    response = await site.get(await site.put(b""), Range="bytes=0-")

    assert_refused(response, 416, "RANGE_NOT_SATISFIABLE")
    assert response.headers["content-range"] == "bytes */0"


async def test_if_range_resumes_a_download_of_the_same_object_only(site: Site) -> None:
    url = await site.put()
    etag = (await site.get(url)).headers["etag"]

    same = await site.get(url, Range="bytes=10-19", If_Range=etag)
    assert (same.status_code, same.content) == (206, PICTURE[10:20])

    for other in ('"another"', f"W/{etag}", "Wed, 21 Oct 2015 07:28:00 GMT", "*"):
        whole = await site.get(url, Range="bytes=10-19", If_Range=other)
        assert (whole.status_code, whole.content) == (200, PICTURE)


# Conditions


async def test_each_object_has_its_own_strong_etag(site: Site) -> None:
    urls = [await site.put(), await site.put()]

    etags = [(await site.get(url)).headers["etag"] for url in urls]

    assert all(re.fullmatch(r'"[^"]+"', etag) for etag in etags)
    assert etags[0] != etags[1]
    assert (await site.get(urls[0])).headers["etag"] == etags[0]


@pytest.mark.parametrize("asked", ["{}", "W/{}", '"another", {}', '"a,b",W/{} , "another"', "*"])
async def test_an_object_that_the_client_has_is_not_modified(site: Site, asked: str) -> None:
    url = await site.put()
    full = await site.get(url)

    response = await site.get(url, If_None_Match=asked.format(full.headers["etag"]))

    assert response.status_code == 304
    assert response.content == b""
    for name in ("etag", "cache-control", "access-control-allow-origin"):
        assert response.headers[name] == full.headers[name]


@pytest.mark.parametrize("asked", ['"another"', "{} without quotes", '"*"', ""])
async def test_an_object_that_the_client_does_not_have_is_sent(site: Site, asked: str) -> None:
    url = await site.put()
    etag = (await site.get(url)).headers["etag"].strip('"')

    response = await site.get(url, If_None_Match=asked.format(etag))

    assert response.status_code == 200
    assert response.content == PICTURE


async def test_if_none_match_takes_precedence_over_range(site: Site) -> None:
    url = await site.put()
    etag = (await site.get(url)).headers["etag"]

    response = await site.get(url, If_None_Match=etag, Range="bytes=0-9")

    assert response.status_code == 304


async def test_a_conditional_request_does_not_renew_an_expired_url(site: Site) -> None:
    url = await site.put()
    etag = (await site.get(url)).headers["etag"]
    site.clock.now += 3601

    response = await site.get(url, If_None_Match=etag)

    assert_refused(response, 403, "FORBIDDEN")
