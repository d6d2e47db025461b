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
from datetime import datetime
from time import time
from typing import Final

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from domain.ids import ParentId, as_turn_id, conversation_of_turn, parse_post_id
from tests.clients import Data, connect_to
from tests.resilience.evidence import Seen, SubscriberLog
from tests.resilience.mutation_sender import Router

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
FOLLOW_POST: Final = """
subscription Follow($id: ID!) {
  postUpdated(postId: $id) {
    id userMessage status updatedAt caption captionError { code }
    outputs {
      id status attempt progress text model { id } images { id } error { code }
    }
  }
}
"""
UNFINISHED: Final = frozenset({"PENDING", "GENERATING", "GENERATING_CAPTION", "GENERATING_IMAGES"})
"""Statuses of turns and posts."""
_FINAL: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED"})
_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 1.0
_CONNECT_SECONDS: Final = 10.0


class Follower:
    """Subscribes to one conversation or post, and reconnects after every cut: to a conversation
    with its newest cursor.
    """

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
        self._parents: dict[str, Data] = {}
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
        """Until cancelled, or until what is followed is gone."""
        while not self.log.completed:
            with suppress(OSError, InvalidHandshake, InvalidMessage, TimeoutError, EOFError):
                await self._follow_once()
            await asyncio.sleep(self._pause * random.uniform(0.5, 1))
            self._pause = min(self._pause * 2, _LONGEST_PAUSE_SECONDS)

    async def until(self, wanted: Callable[[dict[str, Data]], bool]) -> None:
        """Wait until the turns or posts that this subscriber has received match."""
        while not wanted(self._parents):
            await self._news.wait()

    async def until_as_new_as(self, stored: Data) -> None:
        """Wait until this subscriber has received a turn or post as the document has it."""

        def is_as_new(parents: dict[str, Data]) -> bool:
            received = parents.get(stored["_id"])
            return received is not None and changed_at(received) >= stored["updatedAt"].timestamp()

        await self.until(is_as_new)

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
                    subscribe = {"id": str(number), "type": "subscribe", "payload": self._request()}
                    await connection.send(json.dumps(subscribe))
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

    def _request(self) -> Data:
        if parse_post_id(self.log.followed_id):
            return {"query": FOLLOW_POST, "variables": {"id": self.log.followed_id}}
        return {"query": FOLLOW, "variables": {"id": self.log.followed_id, "after": self._after}}

    def _take(self, payload: Data, connection: int) -> None:
        if payload.get("errors"):
            self.log.errors.extend(payload["errors"])
        if not payload.get("data"):
            return
        (parent,) = payload["data"].values()
        if "cursor" in parent:
            self._after, parent = parent["cursor"], parent["turn"]
        self.log.seen.append(Seen(time(), connection, parent))
        self._parents[parent["id"]] = parent
        # Everybody who waits looks, and waits for the next.
        self._news.set()
        self._news = asyncio.Event()


def is_over(turn: Data) -> bool:
    return all(output["status"] in _FINAL for output in turn["outputs"])


async def caught_up(
    followers: Sequence[Follower], parents: Collection[Data], *, within: float
) -> None:
    """Until each has received the stored state of all that it follows.

    What one never sees is the checker's matter.
    """
    waiting = [
        follower.until_as_new_as(parent)
        for follower in followers
        for parent in parents
        if follower.log.from_the_beginning and is_followed(parent["_id"], by=follower.log)
    ]
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.gather(*waiting), within)


def is_followed(parent_id: ParentId, *, by: SubscriberLog) -> bool:
    turn_id = as_turn_id(parent_id)
    return by.followed_id == (conversation_of_turn(turn_id) if turn_id else parent_id)


def changed_at(parent: Data) -> float:
    """When the database last changed a turn or post that a client has read."""
    return datetime.fromisoformat(parent["updatedAt"]).timestamp()
