"""Which output runs next: fair between viewers, and never one that is claimed."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from domain.ids import ModelId, ViewerId, viewer_id_of
from domain.outputs import Run
from storage.mongo.claims import MongoClaimRepository
from storage.mongo.database import Database
from tests.storage.builders import ANA, LONG, a_claim, a_conversation

BOB = viewer_id_of("tests", "bob")
NOW = timedelta(0)


async def order(
    database: Database, *models: str, limit: int = 100
) -> Sequence[tuple[ViewerId, ModelId]]:
    found = await MongoClaimRepository(database).list_waiting(
        [ModelId(name) for name in models or ("model",)],
        min_queued=NOW,
        expired=False,
        limit=limit,
    )
    return [(one.viewer_id, one.model_id) for one in found]


async def test_a_hundred_outputs_of_one_viewer_do_not_come_before_one_of_another(
    database: Database,
) -> None:
    for _ in range(10):
        await a_conversation(database)
    await a_conversation(database, viewer_id=BOB)

    viewers = [viewer for viewer, _ in await order(database)]

    assert viewers == [ANA, BOB, *[ANA] * 9]


async def test_a_viewer_with_running_outputs_comes_after_one_without(database: Database) -> None:
    _, turn = await a_conversation(database, "model", "model", "model")
    for output in turn.outputs[:2]:
        await a_claim(database, output.id)
    await a_conversation(database, "model", "model", "model", viewer_id=BOB)

    viewers = [viewer for viewer, _ in await order(database)]

    assert viewers == [BOB, BOB, ANA, BOB]


async def test_outputs_left_by_a_worker_come_first(database: Database) -> None:
    claims = MongoClaimRepository(database)
    await a_conversation(database, viewer_id=BOB)
    _, turn = await a_conversation(database, "model", "left", "refused")
    refused = Run(provider="local", tries=1, rejected=True, job=None)
    assert await claims.postpone(
        await a_claim(database, turn.outputs[2].id), [refused], delay=timedelta(milliseconds=5)
    )
    assert await claims.give_back(await a_claim(database, turn.outputs[1].id))
    await asyncio.sleep(0.02)

    found = await order(database, "model", "left", "refused")

    assert found == [(ANA, "left"), (BOB, "model"), (ANA, "model"), (ANA, "refused")]


async def test_only_outputs_that_can_run_are_found(database: Database) -> None:
    claims = MongoClaimRepository(database)
    _, turn = await a_conversation(database, "held", "postponed", "waits", "elsewhere")
    held, postponed, waits, _ = turn.outputs
    await a_claim(database, held.id)
    claim = await a_claim(database, postponed.id)
    refused = Run(provider="local", tries=1, rejected=True, job=None)
    assert await claims.postpone(claim, [refused], delay=LONG)

    found = await order(database, "held", "postponed", "waits")

    assert found == [(ANA, "waits")]
    assert await claims.find_waiting(ANA, held.id) is None
    assert await claims.find_waiting(ANA, postponed.id) is None
    waiting = await claims.find_waiting(ANA, waits.id)
    assert waiting is not None
    assert (waiting.viewer_id, waiting.model_id) == (ANA, "waits")


async def test_a_postponed_output_is_found_with_its_run_when_it_is_due(
    database: Database,
) -> None:
    claims = MongoClaimRepository(database)
    _, turn = await a_conversation(database)
    claim = await a_claim(database, turn.outputs[0].id)
    refused = Run(provider="local", tries=2, rejected=True, job=None)
    assert await claims.postpone(claim, [refused], delay=timedelta(milliseconds=5))
    await asyncio.sleep(0.02)

    again = await a_claim(database, turn.outputs[0].id)

    assert again.output.runs == (refused,)
    assert again.output.attempt == 1
    assert again.deadline_at == claim.deadline_at


async def test_a_hint_does_not_claim_an_output_whose_lease_has_expired(database: Database) -> None:
    """The process may have been without its database, and the lease holder frozen meanwhile."""
    claims = MongoClaimRepository(database)
    _, turn = await a_conversation(database)
    (output,) = turn.outputs
    await a_claim(database, output.id, lease=timedelta(0))

    assert await claims.find_waiting(ANA, output.id) is None
    assert await claims.list_waiting([output.model_id], min_queued=NOW, expired=True, limit=1)


async def test_a_claim_depends_only_on_what_the_search_found(database: Database) -> None:
    """The process may have been suspended since it searched, and the database away: a lease that
    has expired meanwhile may be that of a live worker.
    """
    claims = MongoClaimRepository(database)
    _, turn = await a_conversation(database)
    (output,) = turn.outputs
    hinted = await claims.find_waiting(ANA, output.id)
    assert hinted is not None

    claim = await a_claim(database, output.id, lease=timedelta(0))
    assert await claims.claim(hinted, lease=LONG) is None

    (expired,) = await claims.list_waiting([output.model_id], min_queued=NOW, expired=True, limit=1)
    assert await claims.renew(claim, lease=timedelta(0))
    assert await claims.claim(expired, lease=LONG) is None

    (expired,) = await claims.list_waiting([output.model_id], min_queued=NOW, expired=True, limit=1)
    assert await claims.claim(expired, lease=LONG) is not None
