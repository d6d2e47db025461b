"""Answers requests before their body has arrived.

If a connection is closed before everything that was sent has been read, the system resets it, and
the client may never read the answer. The rest of the request is therefore read and dropped first,
within limits.
"""

import asyncio
from contextlib import suppress
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_DRAINED_BYTES: Final = 4 * 1024 * 1024
DRAIN_SECONDS: Final = 2.0


class EarlyAnswer:
    """An ASGI application that answers at once, and ends when the body has arrived or its time is
    over.
    """

    def __init__(self, answer: ASGIApp) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_open(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "more_body": True}
            await send(message)

        await self._answer(scope, receive, send_open)
        await drop_rest(receive, most_bytes=MAX_DRAINED_BYTES, seconds=DRAIN_SECONDS)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def drop_rest(receive: Receive, *, most_bytes: int, seconds: float) -> bool:
    """Skip the rest of a request's body, within limits. Return whether all of it has arrived."""
    dropped = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while dropped < most_bytes:
                message = await receive()
                dropped += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return True
    return False
