"""Live updates are executed once for all subscribers with the same selection, and separately for
others.
"""

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any, Final, TypeAlias
from uuid import uuid4

import pytest

from bootstrap import Api
from domain.conflicts import Conflict
from domain.ids import viewer_id_of
from domain.shares import CreateShare
from domain.turns import Turn
from domain.viewers import Viewer
from edge.execution import OperationExecutor
from edge.outcomes import Operation, Result, Streaming
from edge.subscriptions import SharedAnswers
from schema.context import ANONYMOUS, Scope
from storage.mongo.database import Database
from tests.edge import generated
from tests.storage.builders import ANA, a_conversation, another_turn
from tests.waits import PATIENCE_SECONDS

FOLLOW: Final = """
subscription($id: ID!, $after: String, $width: Int) {
  turnUpdated(conversationId: $id, after: $after) {
    cursor changedOutputs { id } turn { id outputs { images { url(width: $width) } } }
  }
}
"""


Results: TypeAlias = AsyncGenerator[Result, None]


class Receiver:
    """Takes all results."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self._heard = asyncio.Event()

    def take(self, item: Result) -> bool:
        self.results.append(item)
        self._heard.set()
        return True

    async def ready(self) -> None:
        return

    async def has(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.results) < count:
                self._heard.clear()
                await self._heard.wait()


class Broken(Receiver):
    """Fails with all but the first result."""

    def take(self, item: Result) -> bool:
        assert not self.results
        return super().take(item)


class Event:
    """Anything."""


@dataclass
class Followed:
    """A conversation of which a turn can be changed."""

    api: Api
    viewer: Viewer
    conversation_id: str
    turn_id: str

    async def change(self) -> None:
        found = await self.api.database.turns.update_one(
            {"_id": self.turn_id}, {"$inc": {"version": 1, "outputs.0.version": 1}}
        )
        assert found.modified_count == 1


@pytest.fixture
async def followed(api: Api) -> Followed:
    viewer = Viewer(viewer_id_of("tests", uuid4().hex))
    records = generated.Records(Random(7), viewer.id)
    conversation, turns = records.conversation()
    while not any(
        max(image["renditionWidths"], default=0) >= 1_024
        for output in turns[-1]["outputs"]
        for image in output["images"]
    ):
        conversation, turns = records.conversation()
    for turn in turns:
        # Unfinished outputs would be ended by the API's own sweeper.
        for one in (turn, *turn["outputs"]):
            one["status"] = "COMPLETED"
    await api.database.conversations.insert_one(conversation)
    await api.database.turns.insert_many(turns)
    return Followed(api, viewer, conversation["_id"], turns[-1]["_id"])


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def test_an_update_that_is_the_same_for_several_subscribers_is_executed_once(
    executor: OperationExecutor, followed: Followed, stack: AsyncExitStack
) -> None:
    streams = [await _open(executor, followed, stack) for _ in range(3)]
    await _first_states(streams, followed)

    await followed.change()
    one, *others = await _next_of_all(streams)

    assert one.data is not None
    assert all(other is one for other in others)


async def test_selections_with_different_variables_are_executed_separately(
    executor: OperationExecutor, followed: Followed, stack: AsyncExitStack
) -> None:
    wide = await _open(executor, followed, stack, width=1_024)
    original = await _open(executor, followed, stack)
    null = await _open(executor, followed, stack, width=None)
    await _first_states([wide, original, null], followed)

    await followed.change()
    found = await _next_of_all([wide, original, null])

    assert len({id(result) for result in found}) == 3
    assert found[1].encoded == found[2].encoded != found[0].encoded


async def test_readers_of_shares_with_the_same_visible_fields_are_executed_once(
    executor: OperationExecutor, followed: Followed, stack: AsyncExitStack
) -> None:
    """With and without viewers, by the same link and by different ones."""
    await followed.api.database.accounts.insert_one({"_id": followed.viewer.id})
    tokens = [await _share(followed, with_prompts) for with_prompts in (False, False, True)]
    readers = [
        (ANONYMOUS, tokens[0]),
        (ANONYMOUS, tokens[0]),
        (ANONYMOUS, tokens[1]),
        (Scope(Viewer(ANA)), tokens[1]),
        (ANONYMOUS, tokens[2]),
    ]
    shared = FOLLOW.replace("$id: ID!", "$id: String!").replace(
        "turnUpdated(conversationId:", "turnUpdated: sharedTurnUpdated(token:"
    )
    streams = [
        await _open(executor, followed, stack, scope=scope, document=shared, id=token)
        for scope, token in readers
    ]
    await _first_states(streams, followed)

    await followed.change()
    one, *others, with_prompts = await _next_of_all(streams)

    assert one.data is not None
    assert all(other is one for other in others)
    assert with_prompts is not one


async def _share(followed: Followed, with_prompts: bool) -> str:
    shares = followed.api.services.shares
    command = CreateShare(followed.conversation_id, None, with_prompts)
    return shares.url_of(await shares.create(followed.viewer, command)).rpartition("/")[2]


async def test_subscribers_that_start_together_receive_the_same_snapshot(
    executor: OperationExecutor, followed: Followed, stack: AsyncExitStack
) -> None:
    streams = [await _open(executor, followed, stack) for _ in range(3)]

    one, *others = await _next_of_all(streams)

    assert all(other is one for other in others)


async def test_turns_that_change_together_are_executed_once_for_all(
    api: Api, executor: OperationExecutor
) -> None:
    turns = await _two_turns(api.database)
    receivers = [Receiver() for _ in range(3)]

    async with _receiving(executor, receivers, turns[0]):
        for receiver in receivers:
            receiver.results.clear()
        await _write_again(api.database, *turns)
        for receiver in receivers:
            await receiver.has(2)

    first, *others = [receiver.results for receiver in receivers]
    assert {_turn_of(result) for result in first} == {turn.id for turn in turns}
    for results in others:
        assert all(one is another for one, another in zip(results, first, strict=True))


async def test_a_subscriber_that_fails_does_not_affect_others(
    api: Api, executor: OperationExecutor
) -> None:
    _, turn = await a_conversation(api.database)
    broken, *others = Broken(), *(Receiver() for _ in range(6))

    async with _receiving(executor, [broken, *others], turn):
        await _write_again(api.database, turn)
        for receiver in others:
            await receiver.has(2)
        await _write_again(api.database, turn)
        for receiver in others:
            await receiver.has(3)

    assert len(broken.results) == 1
    for number in (1, 2):
        (_,) = {id(receiver.results[number]) for receiver in others}  # none had to read again


def test_a_group_shares_a_response_as_long_as_its_event_exists() -> None:
    shared, event, other = SharedAnswers(), Event(), Event()
    result, group = Result({"answer": 1}), shared.join("a group")

    group.keep(event, result)

    assert shared.join("a group").find(event) is result
    assert shared.join("another group").find(event) is None
    assert group.find(other) is None
    del event
    gc.collect()
    assert len(group) == 0


def test_a_group_exists_as_long_as_it_has_subscribers() -> None:
    shared = SharedAnswers()
    groups = [shared.join("a group"), shared.join("a group")]

    for size in (2, 1):
        assert (len(shared.groups), groups[0].size) == (1, size)
        shared.leave(groups.pop())

    assert not shared.groups


def test_a_response_with_errors_is_not_shared() -> None:
    group, event = SharedAnswers().join("a group"), Event()

    group.keep(event, Result(None, ({"message": "It failed.", "extensions": {"code": "X"}},)))

    assert group.find(event) is None


async def _open(
    executor: OperationExecutor,
    followed: Followed,
    stack: AsyncExitStack,
    *,
    document: str = FOLLOW,
    scope: Scope | None = None,
    **variables: Any,
) -> Results:
    outcome = await executor.execute(
        Operation(document=document, variables={"id": followed.conversation_id, **variables}),
        scope=scope or Scope(followed.viewer),
        request_id=uuid4().hex,
    )
    assert isinstance(outcome, Streaming)
    assert outcome.deliver is not None
    return await stack.enter_async_context(aclosing(outcome.open()))


async def _first_states(streams: list[Results], followed: Followed) -> None:
    """Read all that comes at first: turns in progress, and the latest one."""

    async def read(stream: Results) -> None:
        while not _is_about(await anext(stream), followed.turn_id):
            pass

    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.gather(*map(read, streams))


async def _next_of_all(streams: list[Results]) -> list[Result]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await asyncio.gather(*map(anext, streams))


def _is_about(result: Result, turn_id: str) -> bool:
    assert result.data is not None
    return bool(result.data["turnUpdated"]["turn"]["id"] == turn_id)


@asynccontextmanager
async def _receiving(
    executor: OperationExecutor, receivers: Sequence[Receiver], turn: Turn, **variables: object
) -> AsyncIterator[None]:
    """Receivers that have the first state."""
    tasks = []
    for receiver in receivers:
        outcome = await executor.execute(
            Operation(document=FOLLOW, variables={"id": turn.conversation_id, **variables}),
            scope=Scope(Viewer(ANA)),
            request_id="a request",
        )
        assert isinstance(outcome, Streaming)
        assert outcome.deliver is not None
        tasks.append(asyncio.ensure_future(outcome.deliver(receiver)))
    try:
        for receiver in receivers:
            await receiver.has(1)
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _write_again(database: Database, *turns: Turn) -> None:
    """A new version of each, in one transaction."""
    async with database.client.start_session() as session, await session.start_transaction():
        for turn in turns:
            await database.turns.update_one(
                {"_id": turn.id}, {"$inc": {"version": 1}}, session=session
            )


async def _two_turns(database: Database) -> tuple[Turn, Turn]:
    conversation, first = await a_conversation(database)
    await database.turns.update_one({"_id": first.id}, {"$set": {"status": "COMPLETED"}})
    written = await another_turn(database, conversation)
    assert not isinstance(written, Conflict)
    return first, written[1]


def _turn_of(result: Result) -> object:
    assert result.data is not None
    return result.data["turnUpdated"]["turn"]["id"]
