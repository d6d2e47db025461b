"""Results are downloaded from allowed hosts only."""

import asyncio
import gzip
import tracemalloc
import zlib
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from domain.errors import GenerationErrorCode, GenerationFailed
from outbound.guarded import is_public
from providers.safe_http import AT_ONCE, DownloadBroke, Downloader, Sources
from tests.serving import free_port, serving

LIMIT = 50_000
PICTURE = b"\x89PNG" + bytes(1000)
FAL = "https://queue.fal.run"
PACKED: dict[str, tuple[bytes, str]] = {
    "gzip": (gzip.compress(PICTURE), "gzip"),
    "capitals": (gzip.compress(PICTURE), "GZIP"),
    "older-name": (gzip.compress(PICTURE), "x-gzip"),
    "members": (gzip.compress(PICTURE[:99]) + gzip.compress(PICTURE[99:]), "gzip"),
    "a-member-and-more": (gzip.compress(PICTURE) + b"more", "gzip"),
    "members-beyond": (gzip.compress(bytes(LIMIT // 2)) * 3, "gzip"),
    "deflate": (zlib.compress(PICTURE), "deflate"),
    "twice": (zlib.compress(gzip.compress(PICTURE)), "gzip, deflate"),
    "aws-chunked": (PICTURE, "aws-chunked"),
    "aws-chunked-gzip": (gzip.compress(PICTURE), "gzip, aws-chunked"),
    "identity": (PICTURE, "identity"),
    "strange": (PICTURE, "x-of-our-own"),
    "nothing": (PICTURE, ""),
    "limit": (gzip.compress(bytes(LIMIT)), "gzip"),
    "beyond": (gzip.compress(bytes(LIMIT + 1)), "gzip"),
    "bomb": (gzip.compress(bytes(50_000_000)), "gzip"),
    "bomb-in-a-bomb": (gzip.compress(gzip.compress(bytes(50_000_000))), "gzip, gzip"),
    "seven-times": (PICTURE, ", ".join(["gzip"] * 7)),
    "lie": (PICTURE, "gzip"),
}
"""Bodies, and what they say of their encoding."""


class Files:
    """A host of results, as odd as its paths say."""

    def __init__(self) -> None:
        self.hosts: list[str] = []
        self.heads: list[dict[str, str]] = []
        self.held = 0
        self.release = asyncio.Event()
        self.enough_held = asyncio.Event()
        self.app = Starlette(routes=[Route("/{path:path}", self._answer)])

    async def _answer(self, request: Request) -> Response:
        self.hosts.append(request.headers["host"])
        self.heads.append(dict(request.headers))
        path = request.path_params["path"]
        match path.split("/"):
            case ["picture.png"]:
                return Response(PICTURE, media_type="image/png")
            case ["hop", count]:
                left = int(count)
                return RedirectResponse(f"/hop/{left - 1}" if left > 1 else "/picture.png")
            case ["to", *_]:
                return RedirectResponse(request.query_params["link"])
            case ["nowhere"]:
                return Response(status_code=302)
            case ["status", status]:
                return Response(PICTURE, int(status))
            case ["bytes", count]:
                return Response(bytes(int(count)))
            case ["endless"]:
                return StreamingResponse(self._endless())
            case ["packed", name]:
                content, encoding = PACKED[name]
                return Response(content, headers={"content-encoding": encoding})
            case ["slow"]:
                return StreamingResponse(self._slow())
            case ["short"]:
                return StreamingResponse(self._short(), headers={"content-length": "1000"})
        return Response(b"")

    async def _endless(self) -> AsyncIterator[bytes]:
        while True:
            yield bytes(8192)
            await asyncio.sleep(0)

    async def _slow(self) -> AsyncIterator[bytes]:
        self.held += 1
        if self.held >= AT_ONCE:
            self.enough_held.set()
        yield PICTURE[:2]
        await self.release.wait()
        yield PICTURE[2:]

    async def _short(self) -> AsyncIterator[bytes]:
        yield b"."
        raise ConnectionError("cut")


@pytest_asyncio.fixture
async def files() -> Files:
    return Files()


@pytest_asyncio.fixture
async def url(files: Files) -> AsyncIterator[str]:
    async with serving(files.app, free_port()) as url:
        yield url


class Names:
    """A resolver that returns the given answers one after the other."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@asynccontextmanager
async def downloading(
    base_url: str, *, names: Names | None = None, seconds: float = 10
) -> AsyncIterator[Downloader]:
    downloader = Downloader(
        Sources.of(".fal.media", "storage.googleapis.com", base_url=base_url),
        max_bytes=LIMIT,
        seconds=seconds,
        resolve=names,
    )
    try:
        yield downloader
    finally:
        await downloader.aclose()


async def refusal(base_url: str, link: str, *, names: Names | None = None) -> GenerationFailed:
    async with downloading(base_url, names=names) as downloader:
        with pytest.raises(GenerationFailed) as refused:
            await downloader.fetch(link)
    assert refused.value.code is GenerationErrorCode.PROVIDER_BAD_RESPONSE
    return refused.value


async def test_a_result_of_a_simulator_is_downloaded(url: str, files: Files) -> None:
    async with downloading(url) as downloader:
        data = await downloader.fetch(f"{url}/picture.png")

    assert data == PICTURE
    assert files.hosts == [url.removeprefix("http://")]
    assert "authorization" not in files.heads[0]


@pytest.mark.parametrize(
    "link",
    [
        "",
        "picture.png",
        "//v3.fal.media/a.png",
        "file:///etc/passwd",
        "ftp://v3.fal.media/a.png",
        "http://v3.fal.media/a.png",
        "https://fal.media/a.png",
        "https://evil.example/a.png",
        "https://v3.fal.media.evil.example/a.png",
        "https://evilfal.media/a.png",
        "https://evil.example/?v3.fal.media",
        "https://evil.example#.fal.media",
        "https://v3.fal.media@evil.example/a.png",
        "https://v3.fal.media\\@evil.example/a.png",
        "https://user:secret@v3.fal.media/a.png",
        "https://v3.fal.media:8443/a.png",
        "https://storage.googleapis.com.evil.example/a.png",
        "https://127.0.0.1/a.png",
        "https://[::1]/a.png",
        "http://127.0.0.1:1/a.png",
        "http://169.254.169.254/latest/meta-data",
        "https://v3.fal.media/" + "a" * 5000,
        "https://[v3.fal.media/",
        "javascript:alert(1)",
        "\x00",
    ],
)
async def test_a_url_of_an_unknown_host_is_not_followed(link: str) -> None:
    names = Names(["8.8.8.8"])

    refused = await refusal(FAL, link, names=names)

    assert names.asked == []
    assert not isinstance(refused, DownloadBroke)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.0.8",
        "198.18.0.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fec0::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a00:1",
        "2002:7f00:1::",
        "2001:0:7f00:1::",
        "2001:db8::1",
        "3fff::1",
        "5f00::1",
    ],
)
async def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    alone = await refusal(FAL, "https://v3.fal.media/a.png", names=Names([address]))
    among_others = await refusal(
        FAL, "https://v3.fal.media/a.png", names=Names(["8.8.8.8", address])
    )

    assert not alone.retryable
    assert not among_others.retryable


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"],
)
def test_a_public_address_is_accepted(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize("host", ["a" * 64 + ".fal.media", "a..fal.media"])
async def test_an_invalid_host_name_is_refused(host: str) -> None:
    await refusal(FAL, f"https://{host}/a.png")


async def test_a_real_provider_is_never_connected_to_on_loopback(url: str, files: Files) -> None:
    await refusal(FAL, f"{url}/picture.png")
    await refusal(url.replace("http:", "https:"), f"{url}/picture.png")

    assert files.hosts == []


async def test_a_simulator_is_reached_on_its_own_port_only(url: str, files: Files) -> None:
    await refusal(f"http://127.0.0.1:{free_port()}", f"{url}/picture.png")

    assert files.hosts == []


async def test_a_host_name_of_a_simulator_must_resolve_to_loopback(url: str, files: Files) -> None:
    named = url.replace("127.0.0.1", "localhost")

    await refusal(named, f"{named}/picture.png", names=Names(["10.0.0.1"]))

    assert files.hosts == []


async def test_a_name_is_resolved_once_and_pinned(url: str, files: Files) -> None:
    named = url.replace("127.0.0.1", "localhost")
    names = Names(["127.0.0.1"], ["10.0.0.1"])

    async with downloading(named, names=names) as downloader:
        data = await downloader.fetch(f"{named}/hop/3")

    assert data == PICTURE
    assert len(names.asked) == 1
    assert set(files.hosts) == {named.removeprefix("http://")}


async def test_only_the_resolved_address_is_connected_to(url: str, files: Files) -> None:
    named = url.replace("127.0.0.1", "localhost")

    # Nothing listens there, but on 127.0.0.1, to which the name really resolves.
    refused = await refusal(named, f"{named}/picture.png", names=Names(["127.0.0.2"]))

    assert isinstance(refused, DownloadBroke)
    assert files.hosts == []


async def test_the_next_address_is_tried_if_one_cannot_be_reached(url: str) -> None:
    named = url.replace("127.0.0.1", "localhost")

    async with downloading(named, names=Names(["127.0.0.2", "127.0.0.1"])) as downloader:
        assert await downloader.fetch(f"{named}/picture.png") == PICTURE


@pytest.mark.parametrize("count", [1, 3])
async def test_redirects_within_one_host_are_followed(url: str, count: int) -> None:
    async with downloading(url) as downloader:
        assert await downloader.fetch(f"{url}/hop/{count}") == PICTURE


@pytest.mark.parametrize(
    "path",
    [
        "hop/4",
        "nowhere",
        "to/?link=https://v3.fal.media/a.png",
        "to/?link=http://localhost:{port}/picture.png",
        "to/?link=http://127.0.0.1:1/picture.png",
        "to/?link=https://127.0.0.1:{port}/picture.png",
        "to/?link=http://user@127.0.0.1:{port}/picture.png",
        "to/?link=file:///etc/passwd",
        "to/?link=//169.254.169.254/",
    ],
)
async def test_other_redirects_are_not_followed(url: str, path: str) -> None:
    port = url.rpartition(":")[2]

    refused = await refusal(url, f"{url}/{path.format(port=port)}")

    assert not refused.retryable


@pytest.mark.parametrize(
    "path",
    [
        *("bytes/50001", "endless", "bytes/0", "status/204", "status/206", "status/400"),
        *("packed/beyond", "packed/bomb", "packed/bomb-in-a-bomb", "packed/seven-times"),
        *("packed/lie", "packed/members-beyond"),
    ],
)
async def test_a_download_that_is_not_an_accepted_picture_is_refused(url: str, path: str) -> None:
    refused = await refusal(url, f"{url}/{path}")

    assert not isinstance(refused, DownloadBroke)


async def test_a_picture_exactly_at_the_limit_is_accepted(url: str) -> None:
    async with downloading(url) as downloader:
        assert len(await downloader.fetch(f"{url}/bytes/{LIMIT}")) == LIMIT
        assert await downloader.fetch(f"{url}/packed/limit") == bytes(LIMIT)


@pytest.mark.parametrize(
    "name",
    [
        *("older-name", "members", "a-member-and-more"),
        *("gzip", "capitals", "deflate", "twice", "aws-chunked", "aws-chunked-gzip", "identity"),
        *("strange", "nothing"),
    ],
)
async def test_a_compressed_picture_is_decompressed_and_an_unknown_encoding_is_ignored(
    url: str, name: str
) -> None:
    async with downloading(url) as downloader:
        assert await downloader.fetch(f"{url}/packed/{name}") == PICTURE


@pytest.mark.parametrize("name", ["bomb", "bomb-in-a-bomb"])
async def test_a_compression_bomb_is_cut_off_at_the_limit(url: str, name: str) -> None:
    tracemalloc.start()
    try:
        await refusal(url, f"{url}/packed/{name}")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    # What is packed is inflated in pieces of at most 1 MiB.
    assert peak < 6 * 2**20


@pytest.mark.parametrize(
    "path",
    ["status/500", "status/503", "status/429", "status/404", "status/403", "short"],
)
async def test_a_transient_failure_can_be_retried(url: str, path: str) -> None:
    refused = await refusal(url, f"{url}/{path}")

    assert isinstance(refused, DownloadBroke)
    assert refused.retryable


async def test_a_host_that_cannot_be_reached_can_be_retried() -> None:
    url = f"http://127.0.0.1:{free_port()}"

    assert isinstance(await refusal(url, f"{url}/picture.png"), DownloadBroke)


async def test_a_download_has_a_time_limit(url: str, files: Files) -> None:
    async with downloading(url, seconds=0.1) as downloader:
        with pytest.raises(DownloadBroke):
            await downloader.fetch(f"{url}/slow")
    files.release.set()


async def test_a_few_downloads_run_at_once(url: str, files: Files) -> None:
    async with downloading(url) as downloader, downloading(url) as another:
        fetches = [asyncio.create_task(downloader.fetch(f"{url}/slow")) for _ in range(5 * AT_ONCE)]
        await asyncio.wait_for(files.enough_held.wait(), 10)
        # Time enough for a fifth one to get as far.
        for _ in range(AT_ONCE):
            await another.fetch(f"{url}/picture.png")
        held = files.held
        files.release.set()
        fetched = await asyncio.gather(*fetches)

    assert held == AT_ONCE
    assert fetched == [PICTURE] * 5 * AT_ONCE


async def test_a_data_url_contains_its_bytes() -> None:
    link = f"data:image/png;base64,{b64encode(PICTURE).decode()}"

    async with downloading(FAL) as downloader:
        assert await downloader.fetch(link) == PICTURE
        assert await downloader.fetch(link.replace("data:", "DATA:", 1)) == PICTURE


@pytest.mark.parametrize(
    "link",
    [
        "data:",
        "data:,",
        "data:image/png;base64,",
        "data:image/png,abcd",
        "data:image/png;base64,@@@@",
        "data:image/png;base64,abcde",
        "data:image/png;base64,abcdé",
        f"data:{'x' * 300};base64,abcd",
        f"data:image/png;base64,{b64encode(bytes(LIMIT + 1)).decode()}",
        f"data:image/png;base64,{'A' * LIMIT * 4}",
    ],
)
async def test_other_data_urls_are_refused(link: str) -> None:
    refused = await refusal(FAL, link)

    assert len(str(refused)) < 400
