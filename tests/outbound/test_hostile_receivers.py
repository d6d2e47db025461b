"""Receivers of webhooks that attack the sender, over real connections.

Each attempt ends within its time, reads no more than the head of an answer, reaches no address that
is not public, and tells the owner no more than a fixed sentence.
"""

import asyncio
import gzip
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeAlias

import httpx2
import pytest

from domain.ids import DeliveryId, WebhookId
from domain.webhooks import Answer, DeliveryRules, HeldWebhook, Message, WebhookEvent
from outbound.guarded import send
from outbound.webhooks import HttpWebhookSender
from tests.authorities import an_authority
from tests.providers.test_http import ResetOnceOpen
from tests.storage.builders import ANA
from tests.storage.hooks import SECRET
from tests.waits import PATIENCE_SECONDS

SECONDS: Final = 1.0
"""For an attempt that will never end."""
UNREACHABLE: Final = Answer(
    error="The host's name has no public address, or could not be resolved."
)
NO_ANSWER: Final = Answer(error="There was no answer in time.")
NO_CONNECTION: Final = Answer(error="No connection could be made.")
BROKEN: Final = Answer(error="The connection broke, or the answer was not HTTP.")
UNTRUSTED: Final = Answer(
    error="The connection could not be encrypted, or its certificate is not valid."
)
PUBLIC: Final = "93.184.216.34"

Talk: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Receiver:
    """Talks to every client that connects, by a script, until it is closed."""

    def __init__(self, talk: Talk) -> None:
        self.url = ""
        self.connections = 0
        self._talk = talk
        self._talks: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.create_task(self._accept(reader, writer))
        self._talks.add(task)
        task.add_done_callback(self._talks.discard)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    async def aclose(self) -> None:
        for task in self._talks:
            task.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)


@asynccontextmanager
async def receiving(talk: Talk, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    receiver = Receiver(talk)
    server = await asyncio.start_server(receiver.accept, "127.0.0.1", 0, ssl=tls)
    scheme = "https" if tls else "http"
    receiver.url = f"{scheme}://localhost:{server.sockets[0].getsockname()[1]}/"
    try:
        yield receiver
    finally:
        server.close()
        await receiver.aclose()


def says(*parts: bytes, then: Talk | None = None) -> Talk:
    """Answer a request with these bytes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.writelines(parts)
        await writer.drain()
        if then is not None:
            await then(reader, writer)

    return talk


def repeats(part: bytes, *, pause: float = 0) -> Talk:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not writer.transport.is_closing():
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)

    return talk


async def stays_silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    while await reader.read(65_536):
        pass


def a_message() -> Message:
    return Message(
        id=DeliveryId("dlv_1"),
        subject="turn_1",
        sequence=1,
        event=WebhookEvent.TURN_ENDED,
        happened_at=datetime.now(UTC),
        facts={"turnId": "turn_1"},
        attempts=0,
    )


def a_webhook(url: str) -> HeldWebhook:
    return HeldWebhook(
        id=WebhookId("hook_1"), owner_id=ANA, url=url, secret=SECRET, failing=False, hold="1"
    )


async def attempt(
    url: str,
    *,
    names: Sequence[Sequence[str] | OSError] = (("127.0.0.1",),),
    loopback: bool = True,
    seconds: float = PATIENCE_SECONDS,
    verify: ssl.SSLContext | None = None,
) -> Answer:
    """What came of one, where the host's name has these addresses, one after the other."""
    answers = list(names)

    async def resolve(_: str, __: int) -> Sequence[str]:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    sender = HttpWebhookSender(
        allows_loopback=loopback, seconds=seconds, verify=verify, resolve=resolve
    )
    try:
        async with asyncio.timeout(2 * PATIENCE_SECONDS):
            return await sender.send(a_webhook(url), a_message())
    finally:
        await sender.aclose()


# ---------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "100.100.100.200",
        "0.0.0.0",
        "::1",
        "::",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:0:127.0.0.1",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "64:ff9b::7f00:1",
        "64:ff9b:1::a9fe:a9fe",
        "2002:7f00:1::",
        "2001:0:7f00:1::",
        "ff02::1",
    ],
)
async def test_a_name_that_becomes_private_is_not_connected_to(address: str) -> None:
    """It was public when the webhook was made; or one of its addresses still is."""
    async with receiving(says(b"HTTP/1.1 204 No Content\r\n\r\n")) as receiver:
        url = receiver.url.replace("http://localhost", "https://hooks.example.com")

        for names in ([address], [PUBLIC, address]):
            assert await attempt(url, loopback=False, names=[names]) == UNREACHABLE

    assert receiver.connections == 0


async def test_a_viewer_does_not_learn_whether_an_internal_name_exists() -> None:
    """What is said of a name with a private address is said of one that does not exist."""
    missing = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    url = "https://db.internal.example/"

    for names in (["10.0.0.7"], [], missing):
        assert await attempt(url, loopback=False, names=[names]) == UNREACHABLE


async def test_a_name_is_resolved_once_for_an_attempt() -> None:
    """The address that was checked is the one that is connected to."""
    async with receiving(says(b"HTTP/1.1 204 No Content\r\n\r\n")) as receiver:
        assert (await attempt(receiver.url, names=[["127.0.0.1"]])).delivered
        assert await attempt(receiver.url, names=[["127.0.0.2"], ["127.0.0.1"]]) == NO_CONNECTION

    assert receiver.connections == 1


async def test_a_webhook_of_development_is_not_delivered_in_production() -> None:
    async with receiving(says(b"HTTP/1.1 204 No Content\r\n\r\n")) as receiver:
        assert await attempt(receiver.url, loopback=False) == UNREACHABLE

    assert receiver.connections == 0


@pytest.mark.parametrize(
    "url",
    [
        "https://127\u30020\u30020\u30021/",
        "https://[::ffff:7f00:1]/",
        "https://[fe80::1%25eth0]/",
        "https://[::1%25lo]/",
        "https://localhost./",
        "https://0/",
        "https://hooks.example.com\\@10.0.0.1/",
        "https://127.0.0.1%2f@hooks.example.com/",
        "https://\u2460\u2461\u2466.\u24ea.\u24ea.\u2460/",
        "https://hooks.example.com:0/",
        "https://hooks..example.com/",
        "https://hooks.example.com../",
        "https://hooks%00.example.com/",
        "https://127.0.0.1\\.example.com/",
        f"https://{'a' * 64}.example.com/",
        f"https://{'.'.join(['a' * 60] * 5)}/",
    ],
)
async def test_an_address_in_disguise_is_refused(url: str) -> None:
    sender = HttpWebhookSender(allows_loopback=False, seconds=SECONDS)
    try:
        assert sender.find_problem(url) is not None
    finally:
        await sender.aclose()


async def test_a_name_is_resolved_as_it_is_sent() -> None:
    """Two forms of international names differ: another host could be resolved than is named."""
    asked: list[str] = []

    async def resolve(host: str, _: int) -> Sequence[str]:
        asked.append(host)
        return []

    sender = HttpWebhookSender(allows_loopback=False, seconds=SECONDS, resolve=resolve)
    await sender.send(a_webhook("https://faß.example/"), a_message())
    await sender.aclose()

    assert asked == ["xn--fa-hia.example"]


# ---------------------------------------------------------------- answers

OK: Final = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("talk", "status"),
    [
        (says(OK, b"\r\n", then=repeats(b"x" * 65_536)), 200),
        (says(OK, b"content-length: 99999999999\r\n\r\n", then=stays_silent), 200),
        (
            says(
                OK,
                b"content-encoding: gzip\r\n\r\n",
                gzip.compress(bytes(20_000_000)),
                then=stays_silent,
            ),
            200,
        ),
        (says(OK, b"transfer-encoding: chunked\r\n\r\nnone\r\n", then=stays_silent), 200),
        (says(b"HTTP/1.1 100 Continue\r\n\r\n" * 50, OK, b"\r\n"), 200),
    ],
    ids=["endless", "promised", "bomb", "broken chunks", "provisional"],
)
async def test_only_the_head_of_an_answer_is_read(talk: Talk, status: int) -> None:
    async with receiving(talk) as receiver:
        assert await attempt(receiver.url) == Answer(status)


@pytest.mark.parametrize(
    ("talk", "answer"),
    [
        (stays_silent, NO_ANSWER),
        (says(OK, then=repeats(b"x-drip: 1\r\n", pause=0.02)), NO_ANSWER),
        (says(then=repeats(b"HTTP/1.1 102 Processing\r\n\r\n", pause=0.001)), NO_ANSWER),
        (says(then=repeats(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 500)), NO_ANSWER),
    ],
    ids=["silent", "drip", "provisional for ever", "a flood of provisional ones"],
)
async def test_an_answer_that_never_ends_is_not_waited_for(talk: Talk, answer: Answer) -> None:
    async with receiving(talk) as receiver:
        assert await attempt(receiver.url, seconds=SECONDS) == answer


@pytest.mark.parametrize(
    "talk",
    [
        says(),
        says(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
        says(OK, then=repeats(b"x-flood: " + b"x" * 1_000 + b"\r\n")),
        says(b"HTTP/1.1 200 OK\r\nx" + b"x" * 200_000),
        says(b"HTTP/1.1 99999 What\r\n\r\n"),
        says(b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"),
        says(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ],
    ids=["nothing", "ssh", "headers", "a header", "status", "length", "HTTP/2"],
)
async def test_an_answer_that_is_not_http_is_a_failure(talk: Talk) -> None:
    async with receiving(talk) as receiver:
        assert await attempt(receiver.url) == BROKEN


async def test_a_connection_reset_as_soon_as_it_is_open_is_a_failure_of_http() -> None:
    """So that a delivery or a download which meets it is tried again."""
    async with httpx2.AsyncClient(transport=ResetOnceOpen()) as client:
        with pytest.raises(httpx2.ReadError):
            await send(client, "GET", httpx2.URL("https://example.com/"), addresses=[PUBLIC])


async def test_a_receiver_that_never_accepts_is_given_up() -> None:
    """Its system makes connections on its behalf."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"

        assert await attempt(url, seconds=SECONDS) == NO_ANSWER


@pytest.mark.parametrize(
    ("status", "header", "pause"),
    [
        (429, b"Retry-After: 120", 120.0),
        (503, b"Retry-After: 999999999", 600.0),
        (503, b"Retry-After: -5", None),
        (429, b"Retry-After: soon", None),
        (410, b"Retry-After: 120", 120.0),
        (301, b"Location: http://169.254.169.254/", None),
        (308, b"Location: //127.0.0.1/", None),
        (599, b"x: y", None),
    ],
)
async def test_a_refusal_is_reported_with_its_pause(
    status: int, header: bytes, pause: float | None
) -> None:
    async with receiving(says(b"HTTP/1.1 %d No\r\n%s\r\n\r\n" % (status, header))) as receiver:
        answer = await attempt(receiver.url)

    assert answer == Answer(status, f"The answer was HTTP {status}.", pause)
    assert answer.gone == (status == 410)
    assert DeliveryRules().pause_seconds(1, answer) >= (pause or 0)
    assert receiver.connections == 1


# ---------------------------------------------------------------- encryption


async def test_an_untrusted_or_broken_encryption_is_a_failure(tmp_path: Path) -> None:
    authority = an_authority(tmp_path / "authority.pem")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(authority.issue(tmp_path / "server.pem"))
    trusting = ssl.create_default_context(cafile=authority.file)

    async with (
        receiving(says(b"HTTP/1.1 204 No Content\r\n\r\n"), tls) as receiver,
        receiving(says(OK, b"\r\n", then=repeats(b"x" * 65_536)), tls) as endless,
        receiving(says(b"HTTP/1.1 204 No Content\r\n\r\n")) as plain,
        receiving(stays_silent) as silent,
        receiving(repeats(b"no TLS")) as trashing,
    ):
        assert (await attempt(receiver.url, verify=trusting)).status == 204
        assert (await attempt(endless.url, verify=trusting)).status == 200
        assert await attempt(receiver.url) == UNTRUSTED
        other_name = receiver.url.replace("localhost", "127.0.0.2")
        assert await attempt(other_name, verify=trusting, names=[["127.0.0.1"]]) == UNTRUSTED
        for one in (plain, silent):
            url = one.url.replace("http://", "https://")
            assert await attempt(url, verify=trusting, seconds=SECONDS) == NO_ANSWER
        broken = trashing.url.replace("http://", "https://")
        assert await attempt(broken, verify=trusting) == UNTRUSTED
