"""Permits: however many processes ask, a provider runs no more outputs than it has permits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from domain.claims import Hint, Permit, Waiting
from domain.execution.dispatcher import Dispatcher
from domain.execution.leases import LEASE
from domain.execution.permits import Permits
from domain.ids import ModelId, OutputId
from domain.models import ModelRegistry
from storage.mongo.claims import MongoClaimRepository
from storage.mongo.database import Database
from storage.mongo.permits import MongoPermitRepository
from tests.storage.builders import ANA, a_conversation, a_model
from tests.storage.test_dispatcher import (
    BOB,
    Hangs,
    Rejects,
    a_dispatcher,
    given_back,
    ids_of,
    outputs_of,
)
from tests.waits import PATIENCE_SECONDS

AT_MOST = 3
FIRST, SECOND = OutputId("first"), OutputId("second")


async def take(
    database: Database,
    output_id: OutputId = FIRST,
    *,
    at_most: int = AT_MOST,
    expired: bool = True,
) -> Permit | None:
    return await MongoPermitRepository(database).take(
        "local", output_id, 1, at_most=at_most, lease=LEASE, expired=expired
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
    repository = MongoPermitRepository(database)
    assert not await repository.take_back(FIRST, 1, limits={"local": 0}, lease=LEASE)
    (continued,) = await repository.take_back(FIRST, 1, limits={"local": 1}, lease=LEASE)
    assert first is not None
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


async def test_a_renewal_that_comes_late_does_not_take_a_returned_permit(
    database: Database,
) -> None:
    repository = MongoPermitRepository(database)
    returned = await take(database, at_most=1)
    assert returned is not None

    await repository.give_back(returned, continues=False)
    await repository.renew([returned], lease=LEASE)

    assert await repository.is_free("local", at_most=1)


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


class CountsSearches(MongoClaimRepository):
    searches = 0

    async def list_waiting(self, *given, **more):  # type: ignore[no-untyped-def]
        self.searches += 1
        return await super().list_waiting(*given, **more)


async def begin_and_leave(database: Database, output_id: OutputId) -> None:
    """As if a process had run the output for a while and given it back."""
    claims = MongoClaimRepository(database)
    waiting = await claims.find_waiting(ANA, output_id)
    assert waiting is not None
    claim = await claims.claim(waiting, lease=LEASE)
    assert claim is not None
    assert await claims.give_back(claim)


async def test_where_permits_are_missing_the_database_is_not_searched_again_and_again(
    database: Database, provider: Counts, tmp_path: Path
) -> None:
    await take(database, SECOND, at_most=1)
    begun, *others = await outputs_of(database, 3)
    await begin_and_leave(database, begun)
    claims = CountsSearches(database)
    permits = Permits(MongoPermitRepository(database), {"local": 1})
    registry = ModelRegistry([a_model()])
    dispatcher = a_dispatcher(
        database, tmp_path, registry, [provider], claims=claims, permits=permits
    )
    async with permits.serve():
        filling = asyncio.create_task(dispatcher.fill())
        await dispatcher.start_waiting(min_queued=timedelta(0), expired=False)
        for _ in range(10):
            dispatcher.enqueue(ANA, others)
            await asyncio.sleep(0.1)
        filling.cancel()

    assert claims.searches <= 2
    assert provider.begun == 0


async def test_an_output_keeps_its_permits_of_every_provider_until_it_ends(
    database: Database,
) -> None:
    repository = MongoPermitRepository(database)
    permits = Permits(repository, {"local": 1, "other": 1})
    waiting = Waiting(
        output_id=FIRST,
        attempt=1,
        viewer_id=ANA,
        model_id=ModelId("model"),
        fence=0,
        lease_until=None,
    )

    for provider in ("local", "other", "local"):
        assert await permits.take(provider, waiting, expired=False)
    assert permits.held == {"local": 1, "other": 1}
    assert not await repository.is_free("local", at_most=1)

    async with permits.serve():
        permits.give_back(FIRST, 1)
    assert await repository.is_free("local", at_most=1)
    assert await repository.is_free("other", at_most=1)


async def test_none_of_several_runs_of_an_output_moves_without_a_permit(
    database: Database, provider: Counts, tmp_path: Path
) -> None:
    await take(database, SECOND, at_most=1)
    rejects, other = Rejects(), replace(a_model(), max_images=2, images_per_run=1)
    model = replace(other, provider=rejects.name, other_routes=(other,))
    permits = Permits(MongoPermitRepository(database), {"local": 1})
    registry = ModelRegistry([model])
    dispatcher = a_dispatcher(database, tmp_path, registry, [rejects, provider], permits=permits)
    _, turn = await a_conversation(database, "model", images_per_model=2)

    dispatcher.enqueue(ANA, ids_of(turn))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while rejects.asked < 4:  # noqa: ASYNC110 - a provider tells nobody that it was asked
            await asyncio.sleep(0.02)
    await dispatcher.stop(0)

    assert provider.begun == 0


async def test_an_output_continues_with_the_permit_of_the_provider_it_has_moved_to(
    database: Database, provider: Counts, tmp_path: Path
) -> None:
    """And needs none of the provider that it was planned for."""
    repository = MongoPermitRepository(database)
    await take(database, SECOND, at_most=1)
    (output_id,) = await outputs_of(database, 1)
    moved = await repository.take("other", output_id, 1, at_most=1, lease=LEASE, expired=False)
    assert moved is not None
    await begin_and_leave(database, output_id)
    await repository.give_back(moved, continues=True)
    permits = Permits(repository, {"local": 1, "other": 1})
    dispatcher = a_dispatcher(
        database, tmp_path, ModelRegistry([a_model()]), [provider], permits=permits
    )

    assert await dispatcher.start(Hint(ANA, output_id)) is not None

    assert permits.held == {"other": 1}
    await dispatcher.stop(0)


class TakesSlowly(MongoPermitRepository):
    """Takes a permit, and answers when it may."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.has_taken, self.may_answer = asyncio.Event(), asyncio.Event()

    async def take(self, *given, **more):  # type: ignore[no-untyped-def]
        permit = await super().take(*given, **more)
        self.has_taken.set()
        await self.may_answer.wait()
        return permit


async def test_a_run_that_is_cancelled_while_it_moves_leaves_neither_permit_nor_room_taken(
    database: Database, provider: Counts, tmp_path: Path
) -> None:
    repository = TakesSlowly(database)
    permits = Permits(repository, {"local": 1})
    rejects, other = Rejects(), a_model()
    model = replace(other, provider=rejects.name, other_routes=(other,))
    registry = ModelRegistry([model])
    dispatcher = a_dispatcher(database, tmp_path, registry, [rejects, provider], permits=permits)
    (output_id,) = await outputs_of(database, 1)
    async with permits.serve():
        run = await dispatcher.start(Hint(ANA, output_id))
        assert run is not None
        await repository.has_taken.wait()

        run.cancel()
        await asyncio.wait([run], timeout=PATIENCE_SECONDS)
        repository.may_answer.set()

    assert await repository.is_free("local", at_most=1)
    assert not any(dispatcher.running.values())
