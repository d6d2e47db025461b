"""Turns in MongoDB: claims, fences, the derived status, and atomic transactions."""

import asyncio
from datetime import timedelta

import pytest
from pymongo import MongoClient, monitoring

from domain.changes import ClusterTime
from domain.claims import Claim
from domain.conflicts import Conflict
from domain.errors import GenerationErrorCode, Overloaded
from domain.ids import ViewerId, viewer_id_of
from domain.images import ImageRecord
from domain.outputs import GenerationError, OutputStatus, Preview, Report, Usage
from domain.references import Reference, ReferenceOrigin
from domain.rules import derive_status
from domain.turns import CurrentTurns, Turn, TurnsAsOf
from storage.mongo.claims import MongoClaimRepository
from storage.mongo.collections import Document
from storage.mongo.conversations import MongoConversationRepository
from storage.mongo.database import Database, open_database
from storage.mongo.images import MongoImageRepository
from storage.mongo.stored_turns import StoredTurn
from storage.mongo.turns import MongoTurnRepository
from tests.serving import free_port
from tests.storage.builders import (
    ANA,
    EXPIRED,
    LONG,
    a_claim,
    a_conversation,
    a_gallery,
    a_picture,
    a_plan,
    another_turn,
    as_stored,
)

BOB = viewer_id_of("tests", "bob")
FAILURE = GenerationError(GenerationErrorCode.TIMED_OUT, retryable=True)


@pytest.fixture
def turns(database: Database) -> MongoTurnRepository:
    return MongoTurnRepository(database)


@pytest.fixture
def claims(database: Database) -> MongoClaimRepository:
    return MongoClaimRepository(database)


async def read(turns: MongoTurnRepository, turn: Turn) -> Turn:
    return (await turns.get_many(ANA, [turn.id]))[turn.id]


async def read_one(
    turns: MongoTurnRepository, request: CurrentTurns, recent: timedelta = timedelta(0)
) -> TurnsAsOf:
    (page,) = await turns.read_current([request], recent=recent)
    return page


async def land(claims: MongoClaimRepository, claim: Claim, *records: ImageRecord) -> bool:
    return await claims.land(claim, records or [a_picture(claim.output.id)], Report())


async def test_of_many_workers_one_claims_the_output(
    database: Database, claims: MongoClaimRepository
) -> None:
    _, turn = await a_conversation(database)

    waiting = await as_stored(database, turn.outputs[0].id)

    got = await asyncio.gather(*(claims.claim(waiting, lease=LONG) for _ in range(20)))

    assert [claim.output.fence for claim in got if claim] == [1]


async def test_a_claim_starts_the_output_and_sets_its_deadline(database: Database) -> None:
    _, turn = await a_conversation(database)

    claim = await a_claim(database, turn.outputs[0].id)

    assert claim.output.status is OutputStatus.GENERATING
    assert claim.output.started_at == claim.claimed_at
    assert claim.seconds_left == pytest.approx(180, abs=0.01)
    assert claim.parent.version == turn.version + 1


async def test_a_worker_that_lost_its_lease_cannot_write(
    database: Database, claims: MongoClaimRepository
) -> None:
    _, turn = await a_conversation(database)
    dead = await a_claim(database, turn.outputs[0].id, lease=EXPIRED)
    await asyncio.sleep(0.01)
    living = await a_claim(database, turn.outputs[0].id)

    preview = Preview(0, "previews/x", 1, 1)
    tried = [
        await claims.renew(dead, lease=LONG),
        await claims.give_back(dead),
        await claims.show_progress(dead, progress=0.5, preview=preview),
        await claims.fail(dead, FAILURE),
        await land(claims, dead),
    ]

    assert tried == [False] * 5
    assert (await database.images.find().to_list()) == []
    assert living.output.fence == dead.output.fence + 1
    assert living.output.started_at == dead.output.started_at
    assert living.deadline_at == dead.deadline_at
    assert await land(claims, living)


async def test_delivery_writes_the_output_and_its_images_atomically(
    database: Database, turns: MongoTurnRepository, claims: MongoClaimRepository
) -> None:
    _, turn = await a_conversation(database)
    claim = await a_claim(database, turn.outputs[0].id)
    records = [a_picture(claim.output.id), a_picture(claim.output.id)]

    assert await claims.land(
        claim,
        records,
        Report(provider="$p", quality="high", size="1x1", text="Done $x", usage=Usage(1, 2, 3)),
    )
    assert not await claims.land(claim, [a_picture()], Report())

    output = (await read(turns, turn)).outputs[0]
    assert output.status is OutputStatus.COMPLETED
    assert output.images == tuple(record.image for record in records)
    assert (output.text, output.usage) == ("Done $x", Usage(1, 2, 3))
    assert (output.provider, output.quality, output.size) == ("$p", "high", "1x1")
    found = await MongoImageRepository(database).get_many(
        ANA, [record.image.id for record in records]
    )
    assert list(found.values()) == records
    assert await database.images.count_documents({}) == 2


async def test_the_status_of_a_turn_changes_in_the_same_write_as_its_outputs(
    database: Database, turns: MongoTurnRepository, claims: MongoClaimRepository
) -> None:
    _, turn = await a_conversation(database, "one", "two", "three")
    ends = [FAILURE, None, FAILURE]

    seen = [turn]
    for output, end in zip(turn.outputs, ends, strict=True):
        claim = await a_claim(database, output.id)
        seen.append(await read(turns, turn))
        await (claims.fail(claim, end) if end else land(claims, claim))
        seen.append(await read(turns, turn))

    for state in seen:
        assert state.status is derive_status(output.status for output in state.outputs)
        assert (state.completed_at is not None) == (not state.in_progress)
    assert [state.version for state in seen] == list(range(1, 8))


async def test_progress_never_decreases(
    database: Database, turns: MongoTurnRepository, claims: MongoClaimRepository
) -> None:
    _, turn = await a_conversation(database)
    claim = await a_claim(database, turn.outputs[0].id)

    for progress in (0.2, 0.6, 0.4):
        await claims.show_progress(claim, progress=progress, preview=None)

    assert (await read(turns, turn)).outputs[0].progress == 0.6


async def test_renewing_a_lease_is_not_an_update(
    database: Database, turns: MongoTurnRepository, claims: MongoClaimRepository
) -> None:
    _, turn = await a_conversation(database)
    claim = await a_claim(database, turn.outputs[0].id)
    before = await read(turns, turn)

    assert await claims.renew(claim, lease=LONG)

    assert await read(turns, turn) == before


async def test_each_state_is_later_than_the_one_before(
    database: Database, turns: MongoTurnRepository, claims: MongoClaimRepository
) -> None:
    """Also if the write before began later: clients keep the state that is the latest."""
    conversation, turn = await a_conversation(database)
    claim = await a_claim(database, turn.outputs[0].id)
    later = turn.updated_at + timedelta(minutes=1)
    for collection in (database.turns, database.conversations):
        await collection.update_many({}, {"$set": {"updatedAt": later}})

    assert await claims.fail(claim, FAILURE)
    renamed = await MongoConversationRepository(database).rename(ANA, conversation.id, "Boats")

    assert (await read(turns, turn)).updated_at == later + timedelta(milliseconds=1)
    assert renamed is not None
    assert renamed.updated_at == later + timedelta(milliseconds=1)


async def test_unclaimed_outputs_are_found_when_they_are_due(
    database: Database, claims: MongoClaimRepository
) -> None:
    _, turn = await a_conversation(database, "queued", "held", "given back", "dead", "ended")
    _, held, given_back, dead, ended = (output.id for output in turn.outputs)
    await a_claim(database, held)
    await claims.give_back(await a_claim(database, given_back))
    await a_claim(database, dead, lease=EXPIRED)
    await claims.fail(await a_claim(database, ended), FAILURE)
    await asyncio.sleep(0.01)

    async def found(min_queued: timedelta, *, expired: bool) -> list[str]:
        models = [output.model_id for output in turn.outputs]
        waiting = await claims.list_waiting(
            models, min_queued=min_queued, expired=expired, limit=10
        )
        return [one.model_id for one in waiting]

    assert await found(timedelta(0), expired=True) == ["given back", "dead", "queued"]
    assert await found(timedelta(0), expired=False) == ["given back", "queued"]
    assert await found(LONG, expired=True) == ["given back", "dead"]


async def test_an_existing_turn_is_never_overwritten(database: Database) -> None:
    conversation, _ = await a_conversation(database)

    written = await asyncio.gather(*(another_turn(database, conversation) for _ in range(8)))

    assert written.count(Conflict.STALE) == 7
    assert await database.turns.count_documents({}) == 2
    (count,) = [one["turnCount"] async for one in database.conversations.find()]
    assert count == 2


async def test_an_image_used_and_deleted_concurrently_is_never_partly_deleted(
    database: Database, claims: MongoClaimRepository
) -> None:
    conversations = MongoConversationRepository(database)
    for _ in range(10):
        doomed, turn = await a_conversation(database)
        record = a_picture(turn.outputs[0].id)
        await land(claims, await a_claim(database, turn.outputs[0].id), record)
        other, _ = await a_conversation(database)
        plan = a_plan(references=(Reference(record.image, ReferenceOrigin.MANUAL),))

        used, _ = await asyncio.gather(
            another_turn(database, other, plan),
            conversations.delete(ANA, doomed.id),
        )

        exists = await MongoImageRepository(database).any_refers_to(ANA, [record.image.id])
        assert exists == (used is not Conflict.IMAGE_GONE)


async def test_a_deleted_image_is_never_referred_to(
    database: Database, claims: MongoClaimRepository
) -> None:
    conversations = MongoConversationRepository(database)
    doomed, turn = await a_conversation(database)
    record = a_picture(turn.outputs[0].id)
    await land(claims, await a_claim(database, turn.outputs[0].id), record)
    other, _ = await a_conversation(database)
    plan = a_plan(references=(Reference(record.image, ReferenceOrigin.MANUAL),))

    await conversations.delete(ANA, doomed.id)

    assert await another_turn(database, other, plan) is Conflict.IMAGE_GONE


async def test_a_deletion_returns_the_keys_of_objects_that_nothing_refers_to(
    database: Database, claims: MongoClaimRepository
) -> None:
    conversations = MongoConversationRepository(database)
    source = a_picture()
    await a_gallery(database, source)
    conversation, turn = await a_conversation(database, "one", "two", source=source.image)
    first, second = (output.id for output in turn.outputs)
    lost, kept = a_picture(first), a_picture(first)
    await land(claims, await a_claim(database, first), lost, kept)
    claim = await a_claim(database, second)
    await claims.show_progress(claim, progress=None, preview=Preview(0, "previews/x", 1, 1))
    await a_conversation(database, source=kept.image)

    keys = await conversations.delete(ANA, conversation.id)

    assert sorted(keys or []) == sorted([*lost.image.keys, "previews/x"])
    assert not await land(claims, claim)


async def test_changed_turns_are_read_with_the_latest_and_running_ones(
    database: Database, turns: MongoTurnRepository, claims: MongoClaimRepository
) -> None:
    conversation, first = await a_conversation(database)
    for _ in range(3):
        written = await another_turn(database, conversation)
        assert not isinstance(written, Conflict)
        conversation = written[0]
    second = (await read_one(turns, CurrentTurns(ANA, conversation.id))).turns[1]
    await claims.fail(await a_claim(database, second.outputs[0].id), FAILURE)

    async def indexes(since: ClusterTime | None) -> list[int]:
        found = await read_one(turns, CurrentTurns(ANA, conversation.id, since))
        return [turn.turn_index for turn in found.turns]

    now = (await read_one(turns, CurrentTurns(ANA, conversation.id))).cluster_time
    assert await indexes(None) == [0, 2, 3]
    assert await indexes(ClusterTime(0, 0)) == [0, 1, 2, 3]
    claim = await a_claim(database, first.outputs[0].id)
    await claims.fail(claim, FAILURE)
    assert await indexes(None) == [2, 3]
    assert await indexes(now) == [0, 2, 3]


async def test_of_turns_that_have_just_ended_a_newcomer_reads_the_latest_whole_and_others_versions(
    database: Database, turns: MongoTurnRepository, claims: MongoClaimRepository
) -> None:
    conversation, first = await a_conversation(database)
    written = await another_turn(database, conversation)
    assert not isinstance(written, Conflict)
    for turn in (first, written[1]):
        await claims.fail(await a_claim(database, turn.outputs[0].id), FAILURE)

    async def read(since: ClusterTime | None) -> TurnsAsOf:
        return await read_one(turns, CurrentTurns(ANA, conversation.id, since), timedelta(hours=1))

    known, latest = (await read(None)).turns
    whole, same = (await read(ClusterTime(0, 0))).turns
    assert (known.turn_index, known.version) == (0, whole.version)
    assert not known.in_progress
    assert len(whole.outputs) == 1
    with pytest.raises(KeyError):
        _ = known.outputs
    assert latest == same


async def test_a_conversation_is_read_with_its_latest_turn_if_there_is_any(
    database: Database,
) -> None:
    conversations = MongoConversationRepository(database)
    await a_conversation(database)
    conversation, _ = await a_conversation(database)
    written = await another_turn(database, conversation)
    assert not isinstance(written, Conflict)
    latest = written[1]

    async def read(viewer_id: ViewerId) -> tuple[int, Turn | None] | None:
        found = await conversations.get_with_latest_turn(viewer_id, conversation.id)
        return found and (found[0].turn_count, found[1])

    assert await read(ANA) == (2, latest)
    assert await read(BOB) is None
    await database.turns.delete_one({"_id": latest.id})
    found = await read(ANA)
    assert found is not None
    assert found[1] is not None
    assert found[1].turn_index == 0
    await database.turns.delete_many({"ownerId": ANA})
    assert await read(ANA) == (2, None)
    await database.conversations.delete_one({"_id": conversation.id})
    assert await read(ANA) is None


async def test_a_latest_turn_that_is_counted_and_shown_a_moment_later_is_waited_for(
    database: Database, mongodb_uri: str
) -> None:
    """As where conversations and turns are on two shards: a commit shows on one before the other.
    An edit that was planned from the turn before would leave the latest one out.
    """
    conversation, first = await a_conversation(database)
    written = await another_turn(database, conversation)
    assert not isinstance(written, Conflict)
    latest = written[1]
    late = ShownLater(mongodb_uri, database.commands.name)
    late.turn = await database.turns.find_one_and_delete({"_id": latest.id})
    monitoring.register(late)
    try:
        async with open_database(mongodb_uri, database.commands.name) as opened:
            conversations = MongoConversationRepository(opened)
            found = await conversations.get_with_latest_turn(ANA, conversation.id)
    finally:
        monitoring._LISTENERS.command_listeners.remove(late)  # there is no public way

    assert late.turn is None
    assert found is not None
    assert found[1] == latest != first


class ShownLater(monitoring.CommandListener):
    """Inserts a turn as soon as conversations have been read."""

    def __init__(self, uri: str, name: str) -> None:
        self.turn: Document | None = None
        self._uri = uri
        self._name = name

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        pass

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        read = event.command_name == "aggregate" and event.reply["cursor"]["ns"]
        if read == f"{self._name}.conversations" and self.turn is not None:
            turn, self.turn = self.turn, None
            with MongoClient[Document](self._uri, w="majority") as client:
                client[self._name]["turns"].insert_one(turn)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


async def test_an_unavailable_database_is_reported_as_overloaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("storage.mongo.database.SELECTION_SECONDS", 0.2)
    uri = f"mongodb://127.0.0.1:{free_port()}/"
    nowhere = open_database(uri, "nothing", start_seconds=0.5)

    with pytest.raises(Overloaded):
        await nowhere.__aenter__()


async def test_changed_turns_are_read_in_pages_with_the_latest_last(
    database: Database, turns: MongoTurnRepository
) -> None:
    conversation, _ = await a_conversation(database)
    for _ in range(60):
        written = await another_turn(database, conversation)
        assert not isinstance(written, Conflict)
        conversation = written[0]

    pages, after_index, more = [], -1, True
    while more:
        page = await read_one(
            turns, CurrentTurns(ANA, conversation.id, ClusterTime(0, 0), after_index)
        )
        pages.append([turn.turn_index for turn in page.turns])
        after_index, more = page.turns[-1].turn_index, page.more

    assert [len(page) for page in pages] == [50, 11]
    assert sum(pages, []) == list(range(61))  # noqa: RUF017 (two short lists)


async def test_the_states_of_several_conversations_are_read_as_each_by_itself(
    database: Database, turns: MongoTurnRepository
) -> None:
    long, _ = await a_conversation(database)
    for _ in range(52):
        written = await another_turn(database, long)
        assert not isinstance(written, Conflict)
        long = written[0]
    short, _ = await a_conversation(database)
    empty, lost = await a_conversation(database)
    await database.turns.delete_one({"_id": lost.id})
    since = ClusterTime(0, 0)
    requests = [
        CurrentTurns(ANA, long.id, since),
        CurrentTurns(BOB, short.id),
        CurrentTurns(ANA, empty.id),
        CurrentTurns(ANA, long.id),
        CurrentTurns(ANA, short.id, since),
        CurrentTurns(ANA, long.id, since, 49),
        CurrentTurns(ANA, short.id),
    ]

    together = await turns.read_current(requests, recent=timedelta(0))

    def shown(page: TurnsAsOf) -> tuple[object, ...]:
        return page.turns, page.more, page.exists

    alone = [await read_one(turns, request) for request in requests]
    assert [shown(page) for page in together] == [shown(page) for page in alone]
    assert [(len(page.turns), page.more, page.exists) for page in together] == [
        (50, True, True),
        (0, False, False),
        (0, False, True),
        (50, True, True),
        (1, False, True),
        (3, False, True),
        (1, False, True),
    ]
    (turn,) = together[6].turns
    assert turn.conversation_id == short.id
    assert isinstance(turn, StoredTurn)
    assert "request" not in turn.record
