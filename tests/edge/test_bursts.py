"""What many clients do in the same moment does not stop the event loop."""

import asyncio
import hashlib
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.edge.hostile import an_api
from tests.edge.serve_with_probe import prepare, take_longest
from tests.edge.test_hostile_sockets import HANDSHAKE, PING_MESSAGE
from tests.resilience.processes import Api

CLIENTS: Final = 500
PATIENCE_SECONDS: Final = 60.0
GET: Final = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


class Exchange(NamedTuple):
    request: bytes
    answer: bytes
    """A part of it."""


class Burst(NamedTuple):
    """What each client does first, and what all of them send in the same moment."""

    first: Exchange
    request: Callable[[int], bytes]
    answer: bytes
    clients: int = CLIENTS
    max_seconds: float = 0.03
    """For the longest round. It took longer before there was a limit, and takes a quarter now."""


class Measured(NamedTuple):
    api: Api
    file: Path

    def longest_round(self) -> float:
        """Seconds of processor time, since the last call."""
        return take_longest(self.file).processor_seconds


def new_document(number: int) -> bytes:
    """A request with a document that is not known."""
    document = f"{{ __typename }} # {number}"
    digest = hashlib.sha256(document.encode()).hexdigest()
    persisted = {"persistedQuery": {"version": 1, "sha256Hash": digest}}
    body = json.dumps({"query": document, "extensions": persisted}).encode()
    head = b"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


REACHED: Final = Exchange(GET, b"}")
OPEN: Final = Exchange(HANDSHAKE, b"\r\n\r\n")
BURSTS: Final = {
    "documents that are new": Burst(
        REACHED, new_document, b'"Query"}}', clients=300, max_seconds=0.1
    ),
    "requests behind others": Burst(REACHED, lambda _: GET * 15, b"}", clients=250),
    "handshakes": Burst(REACHED, lambda _: HANDSHAKE, OPEN.answer),
    "messages": Burst(OPEN, lambda _: PING_MESSAGE * 99, b'"pong"}', clients=120),
}


@pytest.fixture(scope="module")
async def measured(
    mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Measured]:
    folder = tmp_path_factory.mktemp("api")
    file = folder / "round"
    prepare(file)
    settings = {"DARKROOM_TEST_ROUND": str(file), "DARKROOM_LIMIT_IDLE_SECONDS": "60"}
    module = "tests.edge.serve_with_probe"
    async with an_api(mongodb_uri, folder, settings=settings, module=module) as api:
        yield Measured(api, file)


@contextmanager
def clients_of(api: Api, count: int) -> Iterator[list[socket.socket]]:
    clients = [
        socket.create_connection(("127.0.0.1", api.port), PATIENCE_SECONDS) for _ in range(count)
    ]
    try:
        yield clients
    finally:
        for client in clients:
            client.close()


def read_until(client: socket.socket, part: bytes) -> None:
    received = b""
    while part not in received:
        more = client.recv(65_536)
        assert more, received
        received += more


@pytest.mark.parametrize("burst", BURSTS.values(), ids=BURSTS)
async def test_what_many_clients_do_at_the_same_time_takes_many_rounds(
    measured: Measured, burst: Burst
) -> None:
    api = measured.api
    assert api.pid is not None

    def send_at_once(pid: int) -> float:
        with clients_of(api, burst.clients) as clients:
            for client in clients:
                client.sendall(burst.first.request)
                read_until(client, burst.first.answer)
            measured.longest_round()
            os.kill(pid, signal.SIGSTOP)
            try:
                for number, client in enumerate(clients):
                    client.sendall(burst.request(number))
            finally:
                os.kill(pid, signal.SIGCONT)
            for client in clients:
                read_until(client, burst.answer)
            return measured.longest_round()

    assert await asyncio.to_thread(send_at_once, api.pid) < burst.max_seconds
