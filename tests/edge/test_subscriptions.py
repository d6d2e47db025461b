"""Live updates are answered once for all that ask the same, and apart for those that do not."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from random import Random
from typing import Any, Final, TypeAlias
from uuid import uuid4

import pytest

from bootstrap import Api
from domain.ids import viewer_id_of
from domain.viewers import Viewer
from edge.execution import OperationExecutor
from edge.outcomes import Operation, Result, Streaming
from edge.subscriptions import MAX_GROUPS, LatestAnswers
from schema.context import Scope
from tests.edge import generated

PATIENCE_SECONDS: Final = 20.0
FOLLOW: Final = """
subscription($id: ID!, $after: String, $width: Int) {
  turnUpdated(conversationId: $id, after: $after) {
    cursor changedOutputs { id } turn { id outputs { images { url(width: $width) } } }
  }
}
"""


Results: TypeAlias = AsyncGenerator[Result, None]


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
    while not turns[-1]["outputs"]:
        conversation, turns = records.conversation()
    await api.database.conversations.insert_one(conversation)
    await api.database.turns.insert_many(turns)
    return Followed(api, viewer, conversation["_id"], turns[-1]["_id"])


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def test_what_is_the_same_for_subscribers_is_answered_once(
    executor: OperationExecutor, followed: Followed, stack: AsyncExitStack
) -> None:
    streams = [await _open(executor, followed, stack) for _ in range(3)]
    await _first_states(streams, followed)

    await followed.change()
    one, *others = await _next_of_all(streams)

    assert one.data is not None
    assert all(other is one for other in others)


async def test_other_variables_in_the_selection_are_answered_apart(
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


async def test_newcomers_that_come_together_get_the_same_first_state(
    executor: OperationExecutor, followed: Followed, stack: AsyncExitStack
) -> None:
    streams = [await _open(executor, followed, stack) for _ in range(3)]

    one, *others = await _next_of_all(streams)

    assert all(other is one for other in others)


def test_only_the_latest_groups_are_remembered_and_none_with_errors() -> None:
    latest, event = LatestAnswers(), object()
    for group in range(MAX_GROUPS + 1):
        latest.keep(group, event, Result({"number": group}))
    latest.keep("failed", event, Result(None, ({"message": "No.", "extensions": {"code": "X"}},)))

    assert latest.find(0, event) is None
    assert latest.find(1, event) == Result({"number": 1})
    assert latest.find(1, object()) is None
    assert latest.find("failed", event) is None


async def _open(
    executor: OperationExecutor, followed: Followed, stack: AsyncExitStack, **variables: Any
) -> Results:
    outcome = await executor.execute(
        Operation(document=FOLLOW, variables={"id": followed.conversation_id, **variables}),
        scope=Scope(followed.viewer),
        request_id=uuid4().hex,
    )
    assert isinstance(outcome, Streaming)
    assert outcome.deliver is not None
    return await stack.enter_async_context(aclosing(outcome.results))


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
