"""Asks NATS for hints, one at a time, and gives back a hint that arrives when no more
are wanted.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Final, Self

import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.errors import APIError

from domain.background import cancel_all
from storage.queue.connection import Connected, QueueNames

PULL_SECONDS: Final = 5.0
"""How long NATS keeps a request for a hint."""
_ANSWER_SECONDS: Final = 1.0
CLOSE_SECONDS: Final = 0.5
_POLL_SECONDS: Final = 0.02
_NOTHING: Final = frozenset({"404", "408"})


class Pull:
    """Requests to the consumer of a deployment. `next` returns a hint, or it is given back."""

    def __init__(self, client: Client, subscription: Subscription, names: QueueNames) -> None:
        self._client = client
        self._subscription = subscription
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{names.stream}.{names.consumer}"
        self._request = orjson.dumps({"batch": 1, "expires": int(PULL_SECONDS * 1e9)})

    @classmethod
    async def open(cls, connected: Connected, names: QueueNames) -> Self:
        client = connected.client
        return cls(client, await client.subscribe(client.new_inbox()), names)

    async def next(self) -> Msg | None:
        """The next hint, or None if there is none for a while. Raise if the connection
        is broken.
        """
        await self._client.publish(self._subject, self._request, self._subscription.subject)
        try:
            message = await self._subscription.next_msg(PULL_SECONDS + _ANSWER_SECONDS)
        except TimeoutError:
            return None
        status = _status_of(message)
        if status is None:
            return message
        if status in _NOTHING:
            return None
        raise APIError.from_msg(message)

    async def close(self) -> None:
        """Ask for no more hints, and give back one that is on its way, unless a call of `next`
        receives it.

        NATS would wait for its acknowledgement before it delivered it to another worker.
        """
        drain: Callable[[], Coroutine[None, None, None]] = self._subscription.drain
        draining = asyncio.create_task(drain(), name="end of requests to NATS")
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    while not draining.done():
                        await self._give_back_next()
        finally:
            await cancel_all([draining])
            if not draining.cancelled():
                draining.exception()  # A connection that is lost has nothing to give back.

    async def _give_back_next(self) -> None:
        try:
            message = await self._subscription.next_msg(_POLL_SECONDS)
        except TimeoutError:
            return
        if _status_of(message) is None:
            await message.nak()


def _status_of(message: Msg) -> str | None:
    """What NATS says in place of a hint, or None if the message is a hint."""
    return (message.headers or {}).get("Status")
