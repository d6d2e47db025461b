"""Viewers who do not stop, and subscribers who come back: as an app with graphql-ws behaves.

Whatever breaks is tried again somewhere else, a little later each time. What was answered and what
was seen is kept for the checker.
"""

import asyncio
import itertools
import json
import random
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from time import time
from typing import Any, Final

import httpx2
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from tests.clients import Data, GraphQLClient, connect_to
from tests.resilience.history import RANK, Acknowledged, Seen, SubscriberLog

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
START: Final = """
mutation Start($input: StartConversationInput!) {
  startConversation(input: $input) {
    cursor userErrors { code } turn { id turnIndex selectedModels { id } }
  }
}
"""
SEND: Final = """
mutation Send($input: SendEditInput!) {
  sendEdit(input: $input) {
    cursor userErrors { code } turn { id turnIndex selectedModels { id } }
  }
}
"""

SUBSCRIBERS_EACH: Final = 2
_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 1.0
_CONNECT_SECONDS: Final = 10.0
_MIXES: Final = (
    ("local-silver",),
    ("local-ink",),
    ("local-silver", "local-ink"),
    ("local-silver", "rehearsal-lands-last"),
    ("local-ink", "rehearsal-fails"),
    ("rehearsal-lands-last", "rehearsal-fails", "local-ink"),
    ("local-silver", "rehearsal-slow"),
)
_WORDS: Final = ("A red boat at sea", "Make it sepia", "More contrast", "A lighthouse at night")

Router = Callable[[], str]
"""The address of one of the API processes, as a balancer chooses."""


def round_robin(urls: Sequence[str]) -> Router:
    return itertools.cycle(urls).__next__


class Follower:
    """Follows one conversation, and comes back with its newest cursor whenever it is cut off."""

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

    async def follow(self) -> None:
        """Until cancelled, or until the conversation is gone."""
        while not self.log.completed:
            with suppress(OSError, InvalidHandshake, InvalidMessage, TimeoutError, EOFError):
                await self._follow_once()
            await asyncio.sleep(self._pause * random.uniform(0.5, 1))
            self._pause = min(self._pause * 2, _LONGEST_PAUSE_SECONDS)

    async def until(self, wanted: Callable[[dict[str, Data]], bool]) -> None:
        """Until the turns as this subscriber knows them are as wanted."""
        while not wanted(self._turns):
            await self._news.wait()

    async def until_over(self, turn_id: str) -> Data:
        """The turn, once this subscriber knows that it is over."""
        await self.until(lambda turns: turn_id in turns and _is_over(turns[turn_id]))
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
                    # The operation is over, the socket is not: an app asks again on it.
                    self.log.errors.extend(message["payload"])
                    await asyncio.sleep(0.5)
            except ConnectionClosed:
                pass
            finally:
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


@dataclass(slots=True)
class _Followed:
    id: str
    latest_turn_id: str
    followers: list[Follower]


@dataclass(slots=True)
class Load:
    """Several viewers at work. `random` decides what they do, the machine when."""

    route: Router
    token: Callable[[str], str]
    randomness: random.Random
    most_conversations: int
    pauses_seconds: tuple[float, float] = (0.4, 1.4)
    subscribers: list[SubscriberLog] = field(default_factory=list)
    acknowledged: list[Acknowledged] = field(default_factory=list)
    refusals: int = 0
    failures: list[str] = field(default_factory=list)
    """Answers that were none: how each mutation failed that was not acknowledged."""
    followers: list[Follower] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _conversations: list[tuple[str, _Followed]] = field(default_factory=list)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    @asynccontextmanager
    async def working(self, viewers: int) -> AsyncIterator[None]:
        """Viewers work inside the block; what they follow is followed on until `close`."""
        tasks = [
            asyncio.create_task(self._work(f"viewer {number}", random.Random(number)))
            for number in range(viewers)
        ]
        try:
            yield
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            await end(tasks)

    async def close(self) -> None:
        await end(self._tasks)

    async def start(self, viewer: str, **input: Any) -> Data | None:
        """Start a conversation and follow it; the payload, None where it was not acknowledged."""
        payload = await self._mutate(viewer, "startConversation", START, input)
        if payload is None:
            return None
        conversation_id = "conv_" + payload["turn"]["id"].split("_")[1]
        followers = [
            self._follow(viewer, conversation_id, payload["cursor"])
            for _ in range(SUBSCRIBERS_EACH)
        ]
        followed = _Followed(conversation_id, payload["turn"]["id"], followers)
        self._conversations.append((viewer, followed))
        return payload

    async def send(self, viewer: str, followed: _Followed, **input: Any) -> Data | None:
        wanted = {"conversationId": followed.id, **input}
        payload = await self._mutate(viewer, "sendEdit", SEND, wanted)
        if payload is not None:
            followed.latest_turn_id = payload["turn"]["id"]
        return payload

    async def _work(self, viewer: str, choice: random.Random) -> None:
        choice.seed(self.randomness.random())
        while True:
            mine = [followed for name, followed in self._conversations if name == viewer]
            fresh = not mine or (
                choice.random() < 0.3 and len(self._conversations) < self.most_conversations
            )
            if fresh:
                await self.start(viewer, **self._input(choice))
                if choice.random() < 0.3 and self._conversations:
                    self._refresh_page(*choice.choice(self._conversations))
            else:
                followed = choice.choice(mine)
                with suppress(TimeoutError):
                    async with asyncio.timeout(choice.uniform(0, 3)):
                        await followed.followers[0].until(_landed_in(followed.latest_turn_id))
                await self.send(viewer, followed, **self._input(choice))
            await asyncio.sleep(choice.uniform(*self.pauses_seconds))

    def _input(self, choice: random.Random) -> Data:
        return {
            "userMessage": f"{choice.choice(_WORDS)}, number {next(self._numbers)}",
            "selectedModels": list(choice.choice(_MIXES)),
            "options": {
                "width": 256,
                "height": 256,
                "previews": choice.choice((1, 2)),
                "imagesPerModel": choice.choice((1, 1, 1, 2)),
            },
        }

    def _refresh_page(self, viewer: str, followed: _Followed) -> None:
        """Somebody opens the conversation anew, knowing nothing."""
        self._follow(viewer, followed.id, None)

    def _follow(self, viewer: str, conversation_id: str, after: str | None) -> Follower:
        name = f"subscriber {len(self.subscribers)} of {conversation_id}"
        log = SubscriberLog(name, conversation_id, from_the_beginning=after is not None)
        follower = Follower(log, route=self.route, token=self.token(viewer), after=after)
        self.subscribers.append(log)
        self.followers.append(follower)
        self._keep(follower.follow())
        return follower

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.create_task(work))

    async def _mutate(self, viewer: str, mutation: str, query: str, input: Data) -> Data | None:
        client = GraphQLClient(self.route(), self.token(viewer))
        try:
            response = await client.post({"query": query, "variables": {"input": input}})
            answer = response.json()
        except (httpx2.HTTPError, json.JSONDecodeError) as error:
            self.failures.append(type(error).__name__)
            return None
        finally:
            await client.aclose()
        if "errors" in answer:
            self.failures.append(answer["errors"][0]["extensions"]["code"])
            return None
        payload: Data = answer["data"][mutation]
        if payload["userErrors"]:
            self.refusals += 1
            return None
        self.acknowledged.append(Acknowledged(mutation, input, payload))
        return payload


def _landed_in(turn_id: str) -> Callable[[dict[str, Data]], bool]:
    def landed(turns: dict[str, Data]) -> bool:
        turn = turns.get(turn_id)
        return turn is not None and (
            _is_over(turn) or any(output["images"] for output in turn["outputs"])
        )

    return landed


def _is_over(turn: Data) -> bool:
    return all(RANK[output["status"]] == 2 for output in turn["outputs"])


async def end(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel them until they have ended: one in the middle of connecting may not notice at once."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=1)
    for task in tasks:
        if not task.cancelled():
            task.result()
