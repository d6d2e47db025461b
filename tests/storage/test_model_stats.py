"""Statistics of models in MongoDB: written with each event, counted once, read by one query."""

import asyncio
import os
from datetime import UTC, date, datetime, timedelta
from random import Random
from time import perf_counter
from typing import Final

from domain.errors import GenerationErrorCode
from domain.ids import ModelId, new_conversation_id, turn_id_of, viewer_id_of
from domain.model_stats import ModelStats, step_of, total
from domain.outputs import GenerationError, Report
from domain.turns import Turn
from storage.mongo.choices import MongoChoiceRepository
from storage.mongo.claims import MongoClaimRepository
from storage.mongo.database import Database
from storage.mongo.model_stats import MongoModelStatsRepository, count
from storage.mongo.outputs import MongoOutputRepository
from storage.mongo.turns import MongoTurnRepository
from tests.storage.builders import (
    ANA,
    EXPIRED,
    LONG,
    MANY,
    PRICE,
    a_claim,
    a_conversation,
    a_picture,
    a_plan,
)
from tests.storage.plans import profiled

TURNS: Final = int(os.environ.get("DARKROOM_TEST_TURNS", "500"))
"""How many turns the viewer has whose statistics are measured. `make resilience`: 100,000."""
DAYS: Final = 30
FAILURE = GenerationError(GenerationErrorCode.TIMED_OUT, retryable=True)


async def stats_of(database: Database) -> dict[str, ModelStats]:
    found = await MongoModelStatsRepository(database).list_since(ANA, date.min)
    return {one.model_id: one for one in total(found)}


async def deliver(database: Database, turn: Turn, slot: int) -> None:
    claim = await a_claim(database, turn.outputs[slot - 1].id)
    assert await MongoClaimRepository(database).land(claim, [a_picture(claim.output.id)], Report())


async def choose(database: Database, turn: Turn, slot: int, *, chosen: bool = True) -> None:
    await MongoChoiceRepository(database).choose(ANA, turn.id, slot, chosen=chosen)


async def test_each_finished_output_is_counted_once(database: Database) -> None:
    claims = MongoClaimRepository(database)
    _, turn = await a_conversation(database, "lands", "fails", "is-late", "is-cancelled")
    await deliver(database, turn, 1)
    failing = await a_claim(database, turn.outputs[1].id)
    assert await claims.fail(failing, FAILURE)
    assert not await claims.fail(failing, FAILURE)
    await MongoOutputRepository(database).cancel(ANA, turn.id, [4])
    assert await claims.end_overdue(max_queued=timedelta(0), limit=10)

    found = await stats_of(database)

    counts = {
        name: (one.asked, one.delivered, one.failed, one.credits) for name, one in found.items()
    }
    assert counts == {
        "lands": (1, 1, 0, PRICE),
        "fails": (1, 0, 1, 0),
        "is-late": (1, 0, 1, 0),
        "is-cancelled": (1, 0, 0, 0),
    }
    assert (found["lands"].median_seconds or 99) < 5
    assert found["fails"].median_seconds is None


async def test_a_retry_is_counted_separately(database: Database) -> None:
    _, turn = await a_conversation(database, "one")
    assert await MongoClaimRepository(database).fail(
        await a_claim(database, turn.outputs[0].id), FAILURE
    )
    turns = MongoTurnRepository(database)
    failed = (await turns.get_many(ANA, [turn.id]))[turn.id].outputs[0]
    (other,) = a_plan("other").outputs

    await MongoOutputRepository(database).retry(
        ANA, failed, planned=other, max_active_outputs=MANY, key=None
    )
    await deliver(database, turn, 1)

    found = await stats_of(database)
    assert (found["one"].asked, found["one"].failed, found["one"].delivered) == (1, 1, 0)
    assert (found["other"].asked, found["other"].failed, found["other"].delivered) == (1, 0, 1)


async def test_a_choice_counts_against_the_outputs_it_was_chosen_from(
    database: Database,
) -> None:
    _, turn = await a_conversation(database, "first", "second", "late", "fails")
    await deliver(database, turn, 1)
    await deliver(database, turn, 2)
    await MongoClaimRepository(database).fail(await a_claim(database, turn.outputs[3].id), FAILURE)

    async def rates() -> dict[str, tuple[int, int]]:
        found = await stats_of(database)
        return {name: (one.chosen, one.compared) for name, one in found.items()}

    async def wins() -> dict[str, dict[str, tuple[int, int]]]:
        found = await stats_of(database)
        return {
            name: {pair.model_id: (pair.won, pair.lost) for pair in one.against}
            for name, one in found.items()
            if one.against
        }

    won, lost = (1, 0), (0, 1)
    await asyncio.gather(*(choose(database, turn, 1) for _ in range(5)))
    chosen = await rates()
    assert await wins() == {"first": {"second": won}, "second": {"first": lost}}
    await deliver(database, turn, 3)
    landed = await rates()
    assert await wins() == {
        "first": {"second": won, "late": won},
        "second": {"first": lost},
        "late": {"first": lost},
    }
    await asyncio.gather(*(choose(database, turn, slot) for slot in (1, 2, 3, 2, 1)))
    await choose(database, turn, 2)
    moved = await rates()
    assert await wins() == {
        "first": {"second": lost},
        "second": {"first": won, "late": won},
        "late": {"second": lost},
    }
    await choose(database, turn, 1, chosen=False)
    assert await rates() == moved
    await choose(database, turn, 2, chosen=False)

    nothing = (0, 0)
    assert chosen == {"first": (1, 1), "second": (0, 1), "late": nothing, "fails": nothing}
    assert landed == {"first": (1, 1), "second": (0, 1), "late": (0, 1), "fails": nothing}
    assert moved == {"first": (0, 1), "second": (1, 1), "late": (0, 1), "fails": nothing}
    assert await rates() == dict.fromkeys(moved, nothing)
    assert await wins() == {}


async def test_concurrent_counts_of_many_turns_are_all_added(database: Database) -> None:
    turns = await asyncio.gather(*(a_conversation(database, "one", "two") for _ in range(8)))

    await asyncio.gather(*(deliver(database, turn, 2) for _, turn in turns))

    found = await stats_of(database)
    assert (found["one"].asked, found["two"].asked, found["two"].delivered) == (8, 8, 8)
    (day,) = await database.model_days.find().to_list()
    assert day["ownerId"] == ANA


async def test_a_worker_that_lost_its_lease_counts_nothing(database: Database) -> None:
    _, turn = await a_conversation(database, "one")
    lost = await a_claim(database, turn.outputs[0].id, lease=EXPIRED)
    await a_claim(database, turn.outputs[0].id, lease=LONG)

    assert not await MongoClaimRepository(database).land(lost, [a_picture()], Report())

    assert (await stats_of(database))["one"].delivered == 0


async def test_statistics_of_many_turns_take_one_query_of_a_few_documents(
    database: Database,
) -> None:
    models = [f"model-{number}" for number in range(40)]
    written = await _write_turns(database, models)
    repository = MongoModelStatsRepository(database)
    first = datetime.now(UTC).date() - timedelta(days=DAYS - 1)

    async with profiled(database, "modelDays") as profile:
        found = total(await repository.list_since(ANA, first))

    assert sum(one.asked for one in found) == written
    assert sum(pair.won for one in found for pair in one.against) == TURNS
    (command,) = profile.commands
    assert command["planSummary"] == "IXSCAN { ownerId: 1, day: 1 }"
    assert command["docsExamined"] == DAYS
    seconds = []
    for _ in range(20):
        begun = perf_counter()
        total(await repository.list_since(ANA, first))
        seconds.append(perf_counter() - begun)
    # The best of them, since other processes may be busy: it is printed, not asserted.
    print(f"modelStats of {TURNS:,} turns: {min(seconds) * 1000:.1f} ms")  # noqa: T201


async def _write_turns(database: Database, models: list[str]) -> int:
    """Turns of two of many models each, over the last days, and as many of another viewer."""
    random, now = Random(1), datetime.now(UTC)
    conversation_id, asked = new_conversation_id(), 0
    for number in range(DAYS):
        begun_at = now - timedelta(days=number)
        indexes = range(number * TURNS // DAYS, (number + 1) * TURNS // DAYS)
        if TURNS > 10_000:
            await database.turns.insert_many(
                {
                    "_id": f"{turn_id_of(conversation_id, 0)}{index}",
                    "ownerId": ANA,
                    "status": "COMPLETED",
                    "createdAt": begun_at,
                    "outputs": [{"slot": 1}, {"slot": 2}],
                }
                for index in indexes
            )
        facts = total(
            ModelStats(
                model_id=ModelId(model),
                asked=1,
                delivered=1,
                compared=1,
                chosen=place == 0,
                credits=4,
                steps={step_of(random.lognormvariate(2, 0.8)): 1},
                beaten={ModelId(pair[1]): 1} if place == 0 else {},
            )
            for pair in (random.sample(models, 2) for _ in indexes)
            for place, model in enumerate(pair)
        )
        asked += sum(one.asked for one in facts)
        for owner in (ANA, viewer_id_of("tests", "bob")):
            await database.transact(
                lambda transaction, owner=owner, begun_at=begun_at, facts=facts: count(  # type: ignore[misc]
                    transaction, owner, begun_at=begun_at, facts=facts
                )
            )
    return asked
