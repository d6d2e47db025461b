"""Subscribers that reconnect as an app with graphql-ws does.

Each reconnects elsewhere, a little later each time, from where it was. What was
seen is kept for the checker.
"""

import asyncio
import itertools
import json
import random
import socket
import struct
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from time import time
from typing import Final

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from domain.ids import TurnId, conversation_of_turn
from tests.clients import Data, connect_to
from tests.resilience.asking import Router
from tests.resilience.evidence import Seen, SubscriberLog

FOLLOW: Final = """
subscription Follow($id: ID!, $after: String) {
  turnUpdated(conversationId: $id, after: $after) {
    cursor
    turn {
      id userMessage status updatedAt
      outputs {
        id status attempt progress text model { id } images { id } error { code }
      }
    }
  }
}
"""
_FINAL: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED"})
_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 1.0
_CONNECT_SECONDS: Final = 10.0


class Follower:
    """Subscribes to one conversation, and reconnects with its newest cursor after every cut."""

    def __init__(
        self, log: SubscriberLog, *, route: Router, token: str, after: str | None = None
    ) -> None:
        self.log = log
        self._route = route
        self._token = token
        self._after = after
        self._pause = _FIRST_PAUSE_SECONDS
        self._connections = 0
        self._news = asyncio.Event()
        self._turns: dict[str, Data] = {}
        self._connection: ClientConnection | None = None

    @property
    def is_connected(self) -> bool:
        return self._connection is not None

    def cut(self, *, reset: bool) -> None:
        """Lose the connection without a word: as a broken network does, with RST, or as an app
        that is ended, with FIN.
        """
        assert self._connection is not None
        transport = self._connection.transport
        if reset:
            lingering = struct.pack("ii", 1, 0)
            transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, lingering
            )
            transport.abort()
        else:
            transport.close()
        self._connection = None

    async def follow(self) -> None:
        """Until cancelled, or until the conversation is gone."""
        while not self.log.completed:
            with suppress(OSError, InvalidHandshake, InvalidMessage, TimeoutError, EOFError):
                await self._follow_once()
            await asyncio.sleep(self._pause * random.uniform(0.5, 1))
            self._pause = min(self._pause * 2, _LONGEST_PAUSE_SECONDS)

    async def until(self, wanted: Callable[[dict[str, Data]], bool]) -> None:
        """Wait until the turns that this subscriber has received match."""
        while not wanted(self._turns):
            await self._news.wait()

    async def until_ended(self, turn_id: str) -> Data:
        """The turn, once this subscriber knows that it is over."""
        await self.until(lambda turns: turn_id in turns and is_over(turns[turn_id]))
        return self._turns[turn_id]

    async def _follow_once(self) -> None:
        self._connections += 1
        connection_number = self._connections
        async with connect_to(self._route(), open_timeout=_CONNECT_SECONDS) as connection:
            try:
                payload = {"authorization": f"Bearer {self._token}"}
                await connection.send(json.dumps({"type": "connection_init", "payload": payload}))
                async with asyncio.timeout(_CONNECT_SECONDS):
                    assert json.loads(await connection.recv())["type"] == "connection_ack"
                self._connection = connection
                for number in itertools.count(1):
                    variables = {"id": self.log.conversation_id, "after": self._after}
                    await connection.send(
                        json.dumps(
                            {
                                "id": str(number),
                                "type": "subscribe",
                                "payload": {"query": FOLLOW, "variables": variables},
                            }
                        )
                    )
                    async for text in connection:
                        message = json.loads(text)
                        if message["type"] == "next":
                            self._pause = _FIRST_PAUSE_SECONDS
                            self._take(message["payload"], connection_number)
                        else:
                            break
                    else:
                        break
                    if message["type"] == "complete":
                        self.log.completed = True
                        return
                    # The operation has ended, the socket has not: an app subscribes on it again.
                    self.log.errors.extend(message["payload"])
                    await asyncio.sleep(0.5)
            except ConnectionClosed:
                pass
            finally:
                self._connection = None
                if connection.close_code is not None:
                    self.log.closes.append((time(), connection.close_code))

    def _take(self, payload: Data, connection: int) -> None:
        if payload.get("errors"):
            self.log.errors.extend(payload["errors"])
        if not payload.get("data"):
            return
        update = payload["data"]["turnUpdated"]
        self._after = update["cursor"]
        turn = update["turn"]
        self.log.seen.append(Seen(time(), connection, update["cursor"], turn))
        self._turns[turn["id"]] = turn
        # Everybody who waits looks, and waits for the next.
        self._news.set()
        self._news = asyncio.Event()


def is_over(turn: Data) -> bool:
    return all(output["status"] in _FINAL for output in turn["outputs"])


async def caught_up(
    followers: Sequence[Follower], turn_ids: Collection[TurnId], *, within: float
) -> None:
    """Until each that knows where it began has seen the end of each of these turns.

    What one never sees is the checker's matter.
    """
    waiting = [
        follower.until_ended(turn_id)
        for follower in followers
        for turn_id in turn_ids
        if follower.log.from_the_beginning
        and conversation_of_turn(turn_id) == follower.log.conversation_id
    ]
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.gather(*waiting), within)
