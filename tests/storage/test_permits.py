"""Permits: however many processes ask, a provider runs no more outputs than it has permits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from domain.claims import Permit
from domain.execution.dispatcher import Dispatcher
from domain.execution.leases import LEASE
from domain.execution.permits import Permits
from domain.ids import OutputId
from domain.models import ModelRegistry
from storage.mongo.database import Database
from storage.mongo.permits import MongoPermitRepository
from tests.storage.builders import ANA, a_model
from tests.storage.test_dispatcher import BOB, Hangs, a_dispatcher, given_back, outputs_of

AT_MOST = 3
FIRST, SECOND = OutputId("first"), OutputId("second")


async def take(
    database: Database,
    output_id: OutputId = FIRST,
    *,
    at_most: int = AT_MOST,
    is_begun: bool = False,
    expired: bool = True,
) -> Permit | None:
    return await MongoPermitRepository(database).take(
        "local", output_id, 1, at_most=at_most, lease=LEASE, is_begun=is_begun, expired=expired
    )


async def expire(database: Database, *, seconds: float) -> None:
    """As if the process that holds them had ended, and their leases had been over for so long."""
    since_renewal = LEASE + timedelta(seconds=seconds)
    earlier = {"$subtract": ["$leaseUntil", round(since_renewal.total_seconds() * 1000)]}
    await database.permits.update_many(
        {"takenAs": {"$ne": None}}, [{"$set": {"leaseUntil": earlier}}]
    )


async def test_concurrent_processes_get_as_many_permits_as_there_are(
    database: Database,
) -> None:
    taken = await asyncio.gather(
        *(take(database, OutputId(f"output {index}"), at_most=5) for index in range(12))
    )

    ids = [permit.id for permit in taken if permit is not None]
    assert sorted(ids) == [f"local/{index}" for index in range(5)]


async def test_a_permit_of_a_dead_process_is_kept_for_its_output_and_then_freed(
    database: Database,
) -> None:
    first = await take(database, at_most=1)
    await expire(database, seconds=1)

    assert await take(database, SECOND, at_most=1) is None
    continued = await take(database, at_most=1, is_begun=True)
    assert first is not None
    assert continued is not None
    assert continued.id == first.id

    await expire(database, seconds=11)
    assert await take(database, SECOND, at_most=1, expired=False) is None
    assert await take(database, SECOND, at_most=1) is not None


async def test_a_process_that_lost_a_permit_neither_renews_nor_returns_it(
    database: Database,
) -> None:
    repository = MongoPermitRepository(database)
    lost = await take(database, at_most=1)
    await expire(database, seconds=11)
    taken = await take(database, SECOND, at_most=1)
    assert lost is not None
    assert taken is not None

    await repository.give_back(lost, continues=False)
    await repository.renew([lost], lease=timedelta(hours=1))

    (found,) = await database.permits.find().to_list()
    assert found["takenAs"] == taken.taken_as
    assert not await repository.is_free("local", at_most=1)


async def test_permits_above_a_lowered_limit_are_not_given_and_a_raised_limit_adds_some(
    database: Database,
) -> None:
    repository = MongoPermitRepository(database)
    held = [await take(database, at_most=3) for _ in range(3)]
    highest = next(one for one in held if one is not None and one.id == "local/2")
    await repository.give_back(highest, continues=False)

    assert await take(database, SECOND, at_most=2) is None
    assert not await repository.is_free("local", at_most=2)
    assert await take(database, SECOND, at_most=4) is not None
    assert await take(database, SECOND, at_most=4) is not None
    assert await take(database, SECOND, at_most=4) is None


@asynccontextmanager
async def two_processes(
    database: Database, folder: Path, provider: Hangs
) -> AsyncIterator[tuple[Dispatcher, Dispatcher]]:
    async with AsyncExitStack() as stack:
        dispatchers = []
        for _ in range(2):
            permits = Permits(
                MongoPermitRepository(database),
                {"local": AT_MOST},
                heartbeat=timedelta(seconds=0.1),
            )
            await stack.enter_async_context(permits.serve())
            dispatcher = a_dispatcher(
                database, folder, ModelRegistry([a_model()]), [provider], permits=permits
            )
            stack.push_async_callback(dispatcher.stop, 0)
            filling = asyncio.create_task(dispatcher.fill())
            stack.callback(filling.cancel)
            dispatchers.append(dispatcher)
        yield dispatchers[0], dispatchers[1]


class Counts(Hangs):
    """Knows how many it has run at most at the same time, and ends each after a while."""

    def __init__(self) -> None:
        super().__init__()
        self.running = self.most = 0

    async def generate(self, *given, **more):  # type: ignore[no-untyped-def]
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await super().generate(*given, **more)
        finally:
            self.running -= 1


@pytest.fixture
def provider() -> Counts:
    return Counts()


async def test_two_processes_together_run_no_more_than_there_are_permits(
    database: Database, provider: Counts, tmp_path: Path
) -> None:
    async with two_processes(database, tmp_path, provider) as (one, other):
        one.enqueue(ANA, await outputs_of(database, 3))
        other.enqueue(BOB, await outputs_of(database, 3, viewer_id=BOB))
        await provider.until_begun(AT_MOST)
        await asyncio.sleep(0.7)  # until each has looked whether there is a free one
        assert provider.begun == AT_MOST

        provider.may_end.set()
        await provider.until_begun(6)

    assert provider.most == AT_MOST
    assert await MongoPermitRepository(database).is_free("local", at_most=1)


async def test_an_output_waiting_in_one_process_starts_when_another_returns_permits(
    database: Database, provider: Counts, tmp_path: Path
) -> None:
    async with two_processes(database, tmp_path, provider) as (one, other):
        one.enqueue(ANA, await outputs_of(database, AT_MOST))
        await provider.until_begun(AT_MOST)
        waiting = await outputs_of(database, 1, viewer_id=BOB)
        other.enqueue(BOB, waiting)
        await asyncio.sleep(0.1)
        assert await given_back(database, BOB, waiting)

        await one.stop(0)

        # No sweeper runs here: the other process has looked for a permit on its own.
        await provider.until_begun(AT_MOST + 1)
        assert provider.most == AT_MOST
