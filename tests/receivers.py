"""A receiver of webhooks over real HTTP, with a script, and a record of all that it was sent."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from standardwebhooks.webhooks import Webhook as Verifier
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from tests.serving import free_port, serving
from tests.waits import PATIENCE_SECONDS

Behaviour: TypeAlias = Callable[["Received"], Awaitable[Response | None]]


@dataclass(frozen=True, slots=True)
class Received:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def payload(self) -> dict[str, Any]:
        payload: dict[str, Any] = json.loads(self.body)
        return payload

    @property
    def kind(self) -> str:
        return str(self.payload["type"])

    def verify(self, secret: str) -> None:
        """Raise unless the signature is right and fresh, as the official library sees it."""
        Verifier(secret).verify(self.body, self.headers)


async def accept(_: Received) -> Response:
    return Response(status_code=204)


async def fail(_: Received) -> Response:
    return Response("no", status_code=500)


async def refuse_for_ever(_: Received) -> Response:
    return Response(status_code=410)


async def hang(_: Received) -> None:
    """Until the sender has had enough."""


async def accept_with_an_endless_body(_: Received) -> Response:
    async def body() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65_536
            await asyncio.sleep(0)  # otherwise nothing else would run, not even the disconnection

    return StreamingResponse(body())


def redirect_to(url: str) -> Behaviour:
    async def redirect(_: Received) -> Response:
        return Response(status_code=307, headers={"location": url})

    return redirect


@dataclass(slots=True)
class Receiver:
    """Each path is a separate receiver: it accepts, unless its script says otherwise."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    scripts: dict[str, Behaviour] = field(default_factory=dict)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    def of(self, path: str = "/") -> list[Received]:
        return [one for one in self.received if one.path == path]

    def ids_by_subject(self, path: str = "/") -> dict[str, list[str]]:
        """What came, by turn, each id where it came first."""
        found: dict[str, list[str]] = defaultdict(list)
        for one in self.of(path):
            turn = one.payload["data"]["turnId"]
            if one.id not in found[turn]:
                found[turn].append(one.id)
        return found

    async def until(self, holds: Callable[[], bool], *, within: float = PATIENCE_SECONDS) -> None:
        """Wait until the received requests match."""
        async with asyncio.timeout(within), self._news:
            await self._news.wait_for(holds)

    async def until_received(self, count: int, path: str = "/") -> list[Received]:
        await self.until(lambda: len(self.of(path)) >= count)
        return self.of(path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        one = Received(request.url.path, dict(request.headers), await request.body())
        async with self._news:
            self.received.append(one)
            self._news.notify_all()
        response = await self.scripts.get(one.path, accept)(one)
        if response is not None:
            await response(scope, receive, send)
        while response is None and (await receive())["type"] != "http.disconnect":
            pass


@asynccontextmanager
async def a_receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    async with serving(receiver, free_port()) as url:
        receiver.url = url
        yield receiver
