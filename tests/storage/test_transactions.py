"""Transactions: they commit or return their conflict, and no call escapes them."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from domain.conflicts import Conflict
from domain.errors import Overloaded
from domain.idempotency import IdempotencyKey
from domain.ids import new_conversation_id
from domain.references import Reference, ReferenceOrigin
from storage.mongo.calls import NestedCall
from storage.mongo.claims import MongoClaimRepository
from storage.mongo.conversations import MongoConversationRepository
from storage.mongo.database import Committed, Database
from storage.mongo.outputs import MongoOutputRepository
from storage.mongo.transaction import Abort, Contended, Transaction
from storage.mongo.turns import MongoTurnRepository
from tests.storage.builders import (
    ANA,
    MANY,
    a_claim,
    a_conversation,
    a_picture,
    a_plan,
    another_turn,
)
from tests.storage.test_turns import FAILURE

KEY = IdempotencyKey("key", "sendEdit", "…")


async def test_an_aborted_transaction_is_rolled_back_and_returns_its_reason(
    database: Database,
) -> None:
    async def work(transaction: Transaction) -> None:
        await transaction.turns.insert_one({"_id": "x"})
        raise Abort(Conflict.LIMIT_REACHED)

    assert await database.transact(work) is Conflict.LIMIT_REACHED
    assert await database.turns.find_one({"_id": "x"}) is None


async def test_a_transaction_with_a_write_conflict_is_retried(database: Database) -> None:
    runs = 0

    async def work(transaction: Transaction) -> int:
        nonlocal runs
        runs += 1
        await transaction.turns.insert_one({"_id": runs})
        if runs < 3:
            raise Contended
        return runs

    done = await database.transact(work)

    assert isinstance(done, Committed)
    assert done.result == 3
    assert [found["_id"] async for found in database.turns.find()] == [3]


async def test_a_transaction_that_the_server_ends_can_be_tried_again(database: Database) -> None:
    async def work(transaction: Transaction) -> None:
        await transaction.turns.insert_one({"_id": "x"})
        await transaction.turns.find_one({"$where": "sleep(7000) || true"})

    # As it does with one that a frozen primary has held up, also while it is being committed.
    with pytest.raises(Overloaded) as refused:
        await database.calls.run(lambda: database.transact(work))

    assert "transactionLifetimeLimitSeconds" in str(refused.value.__cause__)
    assert await database.turns.find_one({"_id": "x"}) is None


async def test_an_ended_transaction_refuses_every_call(database: Database) -> None:
    async def work(transaction: Transaction) -> Transaction:
        assert await transaction.turns.find_one({}) is None
        return transaction

    done = await database.transact(work)

    assert isinstance(done, Committed)
    with pytest.raises(RuntimeError, match="ended"):
        await done.result.turns.find_one({})


async def test_a_repository_called_inside_a_transaction_raises_at_once(database: Database) -> None:
    turns = MongoTurnRepository(database)

    async def work(_: Transaction) -> object:
        return await turns.list_in_progress(ANA)

    async def transact() -> object:
        return await database.transact(work)

    async def another_transaction(_: Transaction) -> object:
        return await transact()

    async def call() -> object:
        return await turns.list_in_progress(ANA)

    for nested in (
        transact,
        lambda: database.transact(another_transaction),
        lambda: database.calls.run(transact),
        lambda: database.calls.run(call),
    ):
        with pytest.raises(NestedCall):
            await asyncio.wait_for(_run(nested), 1)

    assert await turns.list_in_progress(ANA) == []


async def _run(nested: Callable[[], Awaitable[object]]) -> object:
    return await nested()


async def test_appending_a_turn_returns_its_conflict(database: Database) -> None:
    conversation, turn = await a_conversation(database)
    gone = Reference(a_picture().image, ReferenceOrigin.MANUAL)
    other, _ = await a_conversation(database)

    written = await another_turn(database, conversation, key=KEY)

    assert not isinstance(written, Conflict)
    # The key comes first: the conversation is stale because of the turn made under that key.
    assert await another_turn(database, conversation, key=KEY) is Conflict.KEY_USED
    assert await another_turn(database, conversation) is Conflict.STALE
    plan = a_plan(references=(gone,))
    assert await another_turn(database, other, plan) is Conflict.IMAGE_GONE
    assert await another_turn(database, other, max_active_outputs=1) is Conflict.LIMIT_REACHED
    assert await database.turns.count_documents({}) == 3
    assert turn.version == 1


async def test_starting_a_conversation_returns_its_conflict(database: Database) -> None:
    async def start(*, key: IdempotencyKey | None = None, max_active_outputs: int = MANY) -> object:
        return await MongoConversationRepository(database).start(
            ANA,
            new_conversation_id(),
            title="A boat",
            source_image=None if key else a_picture().image,
            plan=a_plan(),
            max_active_outputs=max_active_outputs,
            key=key,
        )

    await a_conversation(database)
    another = IdempotencyKey("another", "startConversation", "…")

    assert not isinstance(await start(key=KEY), Conflict)
    assert await start(key=KEY) is Conflict.KEY_USED
    assert await start(key=another, max_active_outputs=1) is Conflict.LIMIT_REACHED
    assert await start() is Conflict.IMAGE_GONE
    assert await database.idempotency.count_documents({}) == 1


async def test_retrying_an_output_returns_its_conflict(database: Database) -> None:
    turns = MongoTurnRepository(database)
    _, turn = await a_conversation(database)
    await MongoClaimRepository(database).fail(await a_claim(database, turn.outputs[0].id), FAILURE)
    (failed,) = (await turns.get_many(ANA, [turn.id]))[turn.id].outputs
    (planned,) = a_plan().outputs

    async def retry(*, key: IdempotencyKey | None = None, max_active_outputs: int = MANY) -> object:
        return await MongoOutputRepository(database).retry(
            ANA, failed, planned=planned, max_active_outputs=max_active_outputs, key=key
        )

    assert await retry(max_active_outputs=0) is Conflict.LIMIT_REACHED
    assert not isinstance(await retry(key=KEY), Conflict)
    assert await retry(key=KEY) is Conflict.KEY_USED
    assert await retry() is Conflict.STALE
