"""Calls to the database: no cancellation reaches the driver, and their number is limited."""

import asyncio
from contextlib import AsyncExitStack
from uuid import uuid4

import pytest
from pymongo import AsyncMongoClient
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from domain.errors import Overloaded
from domain.waiting import limit_calls_until
from storage.mongo.calls import MAX_CALLS, WAIT_SECONDS
from storage.mongo.collections import INDEXES
from storage.mongo.database import Database, open_database
from storage.mongo.preparation import prepare
from storage.mongo.transaction import Transaction
from tests.waits import PATIENCE_SECONDS


async def test_concurrent_processes_can_start_with_an_empty_database(mongodb_uri: str) -> None:
    name = f"test_{uuid4().hex}"

    async def begin(stack: AsyncExitStack, number: int) -> Database:
        await asyncio.sleep(number * 0.003)  # one is in the middle of it when another comes
        return await stack.enter_async_context(open_database(mongodb_uri, name))

    for _ in range(3):
        async with AsyncExitStack() as stack:
            opened = await asyncio.gather(*(begin(stack, number) for number in range(8)))
            await opened[0].client.drop_database(name)


async def test_each_index_is_built_by_one_of_the_concurrent_processes(mongodb_uri: str) -> None:
    builds = _Builds()
    name = f"test_{uuid4().hex}"
    client = AsyncMongoClient[dict[str, object]](mongodb_uri, event_listeners=[builds])
    async with client:
        try:
            await asyncio.gather(*(prepare(client[name]) for _ in range(10)))
            await client[name]["turns"].drop_index("waiting")
            await asyncio.gather(*(prepare(client[name]) for _ in range(10)))
        finally:
            await client.drop_database(name)

    with_indexes = [one for one, indexes in INDEXES.items() if indexes]
    assert sorted(builds.built) == sorted([*with_indexes, "turns"])
    assert len(builds.built) < len(INDEXES) + 2


class _Builds(CommandListener):
    """Counts in which collections indexes were built."""

    def __init__(self) -> None:
        self.built: list[str] = []

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name == "createIndexes":
            self.built.append(event.command["createIndexes"])

    def succeeded(self, event: CommandSucceededEvent) -> None: ...

    def failed(self, event: CommandFailedEvent) -> None: ...


async def test_an_abandoned_call_runs_to_its_end(database: Database) -> None:
    await database.turns.insert_one({"_id": "x"})

    async def slow_write() -> None:
        # Half a second on the server, so that it is under way when its caller gives up.
        await database.turns.update_one(
            {"_id": "x", "$where": "sleep(500) || true"}, {"$set": {"done": True}}
        )

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await database.calls.run(slow_write)

    await database.calls.wait_until_ended()
    assert await database.turns.find_one({"_id": "x"}) == {"_id": "x", "done": True}


async def test_callers_that_give_up_in_large_numbers_do_no_harm(database: Database) -> None:
    await database.turns.insert_one({"_id": "x"})

    async def slow_read() -> None:
        await database.turns.find_one({"$where": "sleep(20) || true"})

    async def impatient(seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await database.calls.run(slow_read)
        except (TimeoutError, Overloaded):
            pass

    for _ in range(5):
        await asyncio.gather(*(impatient(0.001 * number) for number in range(200)))

    await database.calls.wait_until_ended()
    await database.ping()


async def test_a_caller_without_a_free_connection_is_refused_as_overloaded(
    database: Database,
) -> None:
    calls, release = database.calls, asyncio.Event()
    holding = [asyncio.create_task(calls.run(release.wait)) for _ in range(MAX_CALLS)]
    await asyncio.sleep(0)

    with pytest.raises(Overloaded):
        await calls.run(release.wait)

    release.set()
    assert await asyncio.gather(*holding) == [True] * MAX_CALLS
    assert await calls.run(release.wait)


async def test_a_call_that_outlasts_its_operation_is_given_up(database: Database) -> None:
    """The driver keeps to its limits only roughly while it looks for a primary."""
    release, loop = asyncio.Event(), asyncio.get_running_loop()

    async with asyncio.timeout(PATIENCE_SECONDS):
        with limit_calls_until(loop.time() + 0.1), pytest.raises(Overloaded):
            await database.calls.run(release.wait)

    release.set()
    await database.calls.wait_until_ended()
    await database.ping()


async def test_an_operation_waits_for_capacity_within_its_time(database: Database) -> None:
    calls, release, loop = database.calls, asyncio.Event(), asyncio.get_running_loop()
    holding = [asyncio.create_task(calls.run(release.wait)) for _ in range(MAX_CALLS)]
    await asyncio.sleep(0)

    began = loop.time()
    with limit_calls_until(began + 0.1), pytest.raises(Overloaded):
        await calls.run(release.wait)
    assert loop.time() - began < WAIT_SECONDS

    release.set()
    await asyncio.gather(*holding)


async def test_a_failure_of_an_abandoned_call_is_not_reported(database: Database) -> None:
    calls, begun = database.calls, asyncio.Event()

    async def fail() -> None:
        begun.set()
        await asyncio.sleep(0)
        raise ValueError

    caller = asyncio.create_task(calls.run(fail))
    await begun.wait()
    caller.cancel()
    await asyncio.wait([caller])

    await calls.wait_until_ended()
    assert caller.cancelled()


async def test_transactions_of_one_account_do_not_conflict(
    database: Database,
) -> None:
    runs = 0

    async def work(transaction: Transaction) -> None:
        nonlocal runs
        runs += 1
        await transaction.accounts.update_one({"_id": "ana"}, {"$inc": {"n": 1}})

    await database.accounts.insert_one({"_id": "ana", "n": 0})
    await asyncio.gather(*(database.transact(work, account="ana") for _ in range(20)))

    assert (runs, await database.accounts.find_one()) == (20, {"_id": "ana", "n": 20})


async def test_a_transaction_that_waits_too_long_for_its_account_is_refused_as_overloaded(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = asyncio.Event()

    async def look(transaction: Transaction) -> None:
        await transaction.accounts.find_one({})

    async def hold(transaction: Transaction) -> None:
        await look(transaction)
        await let_go.wait()

    holding = asyncio.create_task(database.transact(hold, account="ana"))
    await asyncio.sleep(0.1)
    monkeypatch.setattr("storage.mongo.database.TRANSACTION_SECONDS", 2.2)
    with pytest.raises(Overloaded):
        await database.transact(look, account="ana")

    assert await database.transact(look, account="bob")
    let_go.set()
    await holding
    assert await database.transact(look, account="ana")
