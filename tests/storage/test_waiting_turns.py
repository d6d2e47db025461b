"""Waiting turns in MongoDB: begun or ended once, with their credits and their images."""

import asyncio
from dataclasses import replace

import pytest

from domain.conflicts import Conflict
from domain.conversations import Conversation
from domain.errors import GenerationErrorCode, ViewerBeingDeleted
from domain.ids import new_conversation_id
from domain.images import ImageRecord
from domain.outputs import GenerationError
from domain.references import Reference, ReferenceOrigin
from domain.turns import Turn, TurnStatus, WaitingEdit
from storage.mongo.accounts import MongoAccountRepository
from storage.mongo.branches import MongoBranchRepository
from storage.mongo.database import Database
from storage.mongo.erasures import MongoErasureRepository
from storage.mongo.images import MongoImageRepository
from storage.mongo.turns import MongoTurnRepository
from storage.mongo.waiting_turns import MongoWaitingTurnRepository
from tests.storage.builders import (
    ANA,
    LONG,
    MANY,
    PRICE,
    a_conversation,
    a_gallery,
    a_picture,
    a_plan,
    another_turn,
)
from tests.storage.plans import profiled

WAITING = WaitingEdit(selected_models=("model",), previous_output_ids=None, max_credits=7)
FAILURE = GenerationError(GenerationErrorCode.PREVIOUS_TURN_FAILED, retryable=False)


@pytest.fixture
def waiting(database: Database) -> MongoWaitingTurnRepository:
    return MongoWaitingTurnRepository(database)


async def a_turn_that_waits(database: Database, *images: ImageRecord) -> tuple[Conversation, Turn]:
    conversation, _ = await a_conversation(database)
    references = tuple(Reference(one.image, ReferenceOrigin.MANUAL) for one in images)
    plan = replace(a_plan(references=references), waiting=WAITING)
    written = await another_turn(database, conversation, plan)
    assert not isinstance(written, Conflict)
    return written


async def begin(waiting: MongoWaitingTurnRepository, turn: Turn, **facts: int) -> Turn | Conflict:
    plan = a_plan("one", "two")
    return await waiting.begin(
        ANA, turn.id, plan=plan, max_active_outputs=facts.get("max_active_outputs", MANY)
    )


async def test_a_waiting_turn_stores_its_request_and_reserves_no_credits(
    database: Database, waiting: MongoWaitingTurnRepository
) -> None:
    before = await MongoAccountRepository(database).find(ANA)
    _, turn = await a_turn_that_waits(database)
    account = await MongoAccountRepository(database).find(ANA)

    assert (turn.status, turn.outputs, turn.in_progress) == (TurnStatus.WAITING, (), True)
    assert turn.waiting == WAITING
    assert turn.selected_model_ids == ("model",)
    assert before is None
    assert account is not None
    assert (account.reserved, account.active_outputs) == (PRICE, 1)  # of the turn before
    assert [one.id for one in await waiting.list(after=None, limit=9)] == [turn.id]
    assert await waiting.list(after=turn.id, limit=9) == []


async def test_a_waiting_turn_begins_or_ends_once(
    database: Database, waiting: MongoWaitingTurnRepository
) -> None:
    for _ in range(5):
        _, turn = await a_turn_that_waits(database)

        begun, ended, again, cancelled = await asyncio.gather(
            begin(waiting, turn),
            waiting.end(ANA, turn.id, FAILURE),
            begin(waiting, turn),
            waiting.end(ANA, turn.id, None),
        )

        done = [one for one in (begun, ended, again, cancelled) if isinstance(one, Turn)]
        assert len(done) == 1
        stored = (await MongoTurnRepository(database).get_many(ANA, [turn.id]))[turn.id]
        assert stored.status is done[0].status
        assert stored.waiting is None
        assert stored.version == turn.version + 1
        assert len(stored.outputs) == 2 * (stored.status is TurnStatus.PENDING)
    assert (await MongoAccountRepository(database).prove()).discrepancies == ()


async def test_a_turn_without_enough_credits_keeps_waiting(
    database: Database, waiting: MongoWaitingTurnRepository
) -> None:
    _, turn = await a_turn_that_waits(database)

    assert await begin(waiting, turn, max_active_outputs=2) is Conflict.LIMIT_REACHED

    assert [one.id for one in await waiting.list(after=None, limit=9)] == [turn.id]
    assert (await MongoAccountRepository(database).prove()).discrepancies == ()


async def test_waiting_turns_are_found_by_an_index(
    database: Database, waiting: MongoWaitingTurnRepository
) -> None:
    for _ in range(20):
        await a_conversation(database)
    await a_turn_that_waits(database)

    async with profiled(database, "turns") as profile:
        assert len(await waiting.list(after=None, limit=9)) == 1

    (command,) = profile.commands
    assert command["docsExamined"] == command["keysExamined"] == 1


async def test_images_of_waiting_turns_count_as_in_use(
    database: Database, waiting: MongoWaitingTurnRepository
) -> None:
    record = a_picture()
    await a_gallery(database, record)
    await a_turn_that_waits(database, record)

    kept = await MongoImageRepository(database).delete_unless_used(ANA, [record.image.id])

    assert kept is not None
    assert kept.used == {record.image.id}


async def test_a_fork_has_no_waiting_turns(
    database: Database, waiting: MongoWaitingTurnRepository
) -> None:
    conversation, _ = await a_turn_that_waits(database)
    written = await another_turn(database, conversation)
    assert not isinstance(written, Conflict)

    copied = await MongoBranchRepository(database).fork(
        ANA, written[1].id, new_conversation_id(), title=None, max_turns=9
    )

    assert isinstance(copied, Conversation)
    turns = await MongoTurnRepository(database).list_in_progress(ANA)
    assert all(one.conversation_id == conversation.id for one in turns)
    assert len(await waiting.list(after=None, limit=9)) == 1


async def test_no_turn_waits_for_a_viewer_who_is_being_deleted(database: Database) -> None:
    conversation, _ = await a_conversation(database)
    await MongoErasureRepository(database).begin(ANA, lease=LONG)

    with pytest.raises(ViewerBeingDeleted):
        await another_turn(database, conversation, replace(a_plan(), waiting=WAITING))
