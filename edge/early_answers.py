"""Answers that are given while their request is still being sent.

A connection that is closed before everything that was sent to it has been read is reset, and the
client may never read the answer. So what is left of the request is dropped first, within limits.
"""

import asyncio
from contextlib import suppress
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

REST_BYTES: Final = 4 * 1024 * 1024
REST_SECONDS: Final = 2.0


class EarlyAnswer:
    """An ASGI application that answers at once, and ends when the request has, or too late."""

    def __init__(self, answer: ASGIApp) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_open(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "more_body": True}
            await send(message)

        await self._answer(scope, receive, send_open)
        await drop_rest(receive, most_bytes=REST_BYTES, seconds=REST_SECONDS)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def drop_rest(receive: Receive, *, most_bytes: int, seconds: float) -> bool:
    """Skip what is left of a request's body, within limits. Return whether that was all of it."""
    dropped = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while dropped < most_bytes:
                message = await receive()
                dropped += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return True
    return False
