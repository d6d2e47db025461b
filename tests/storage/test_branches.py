"""Forks and deleted turns in MongoDB: concurrent changes lose no images and leave none behind."""

import asyncio
from datetime import date

import pytest

from domain.conflicts import Conflict
from domain.conversations import Conversation
from domain.errors import ViewerBeingDeleted
from domain.ids import TurnId, new_conversation_id, turn_id_of, viewer_id_of
from domain.images import ImageRecord
from domain.outputs import Report
from domain.references import Reference, ReferenceOrigin
from domain.turns import KeptTurn, Turn
from storage.mongo.accounts import MongoAccountRepository
from storage.mongo.branches import MongoBranchRepository
from storage.mongo.choices import MongoChoiceRepository
from storage.mongo.claims import MongoClaimRepository
from storage.mongo.conversations import MongoConversationRepository
from storage.mongo.database import Database
from storage.mongo.erasures import MongoErasureRepository
from storage.mongo.images import MongoImageRepository
from storage.mongo.model_stats import MongoModelStatsRepository
from storage.mongo.referenced_objects import MongoReferencedObjectRepository
from storage.mongo.turns import MongoTurnRepository
from tests.storage.builders import (
    ANA,
    LONG,
    a_claim,
    a_conversation,
    a_picture,
    a_plan,
    another_turn,
)
from tests.storage.plans import profiled


@pytest.fixture
def branches(database: Database) -> MongoBranchRepository:
    return MongoBranchRepository(database)


async def landed(database: Database, turn: Turn, slot: int = 1) -> ImageRecord:
    claim = await a_claim(database, turn.outputs[slot - 1].id)
    record = a_picture(claim.output.id)
    assert await MongoClaimRepository(database).land(claim, [record], Report())
    return record


async def forked(branches: MongoBranchRepository, turn_id: TurnId) -> Conversation:
    made = await branches.fork(ANA, turn_id, new_conversation_id(), title=None, max_turns=100)
    assert isinstance(made, Conversation)
    return made


async def first_turn_of(database: Database, conversation: Conversation) -> Turn:
    turn_id = turn_id_of(conversation.id, 0)
    return (await MongoTurnRepository(database).get_many(ANA, [turn_id]))[turn_id]


async def test_other_conversations_with_an_image_are_found_by_an_index(
    database: Database, branches: MongoBranchRepository
) -> None:
    for _ in range(30):
        _, turn = await a_conversation(database)
        await landed(database, turn)
    await forked(branches, turn.id)

    async with profiled(database, "turns") as profile:
        assert await MongoImageRepository(database).delete_unless_used(ANA, [a_picture().image.id])
        assert await branches.delete_turn(ANA, turn.id) == []

    plans = [one["planSummary"] for one in profile.commands if "planSummary" in one]
    assert plans
    assert all(plan.startswith(("IXSCAN", "IDHACK", "CLUSTERED")) for plan in plans), plans
    assert all(one.get("docsExamined", 0) <= 2 for one in profile.commands)


async def test_a_fork_has_a_maximum_number_of_turns(
    database: Database, branches: MongoBranchRepository
) -> None:
    conversation, turn = await a_conversation(database)
    written = await another_turn(database, conversation)
    assert not isinstance(written, Conflict)

    for max_turns, wanted in ((1, Conflict.LIMIT_REACHED), (2, None)):
        made = await branches.fork(
            ANA, written[1].id, new_conversation_id(), title="Two", max_turns=max_turns
        )
        assert (made if isinstance(made, Conflict) else None) is wanted
    gone = turn_id_of(conversation.id, 7)
    assert (
        await branches.fork(ANA, gone, new_conversation_id(), title=None, max_turns=9)
    ) is Conflict.STALE
    bob = viewer_id_of("tests", "bob")
    stolen = await branches.fork(bob, turn.id, new_conversation_id(), title=None, max_turns=9)
    assert stolen is Conflict.STALE


async def test_forking_a_conversation_while_it_is_deleted_is_atomic(
    database: Database, branches: MongoBranchRepository
) -> None:
    conversations = MongoConversationRepository(database)
    for _ in range(6):
        conversation, turn = await a_conversation(database)
        record = await landed(database, turn)

        made, keys = await asyncio.gather(
            branches.fork(ANA, turn.id, new_conversation_id(), title=None, max_turns=9),
            conversations.delete(ANA, conversation.id),
        )

        there = await database.images.count_documents({"_id": record.image.id})
        assert there == isinstance(made, Conversation)
        assert keys == ([] if there else [record.image.key])


async def test_a_turn_is_deleted_or_used_but_never_both(
    database: Database, branches: MongoBranchRepository
) -> None:
    for _ in range(6):
        conversation, turn = await a_conversation(database)
        record = await landed(database, turn)
        plan = a_plan(references=(Reference(record.image, ReferenceOrigin.PREVIOUS_TURN),))

        deleted, written = await asyncio.gather(
            branches.delete_turn(ANA, turn.id), another_turn(database, conversation, plan)
        )

        assert isinstance(deleted, KeptTurn) != isinstance(written, Conflict)
        there = await database.images.count_documents({"_id": record.image.id})
        assert there == isinstance(deleted, KeptTurn)


async def test_an_image_that_only_a_fork_has_is_still_referred_to(
    database: Database, branches: MongoBranchRepository
) -> None:
    conversation, turn = await a_conversation(database)
    record = await landed(database, turn)
    await forked(branches, turn.id)
    await MongoConversationRepository(database).delete(ANA, conversation.id)

    shard = record.image.key.split("/")[1]
    kept = (await MongoReferencedObjectRepository(database).read_shard(shard)).kept

    assert record.image.key in kept


async def test_copies_have_no_credits_previews_or_statistics(
    database: Database, branches: MongoBranchRepository
) -> None:
    _, turn = await a_conversation(database, "one", "two", "three")
    await landed(database, turn, 1)
    await landed(database, turn, 2)
    running = await a_claim(database, turn.outputs[2].id, lease=LONG)
    await MongoChoiceRepository(database).choose(ANA, turn.id, 1, chosen=True)
    stats = MongoModelStatsRepository(database)

    before = await stats.list_since(ANA, date.min)
    copy = await first_turn_of(database, await forked(branches, turn.id))
    await MongoChoiceRepository(database).choose(ANA, copy.id, 2, chosen=True)

    assert await stats.list_since(ANA, date.min) == before
    assert copy.chosen_output is not None
    assert copy.chosen_output.slot == 1
    assert [output.credits_reserved + output.credits_charged for output in copy.outputs] == [0] * 3
    assert (await MongoAccountRepository(database).prove()).discrepancies == ()
    assert await MongoClaimRepository(database).land(running, [a_picture()], Report())


async def test_nothing_is_forked_while_its_viewer_is_being_deleted(
    database: Database, branches: MongoBranchRepository
) -> None:
    _, turn = await a_conversation(database)
    await landed(database, turn)
    await MongoErasureRepository(database).begin(ANA, lease=LONG)

    with pytest.raises(ViewerBeingDeleted):
        await forked(branches, turn.id)
