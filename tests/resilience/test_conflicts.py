"""A write with a conflict is repeated, and planned again only if necessary."""

from pathlib import Path

import pytest

from domain.conflicts import Conflict
from domain.conversations import Conversation
from domain.errors import Refused, UserErrorCode
from domain.turns import SendEdit, TurnRequest
from storage.mongo.database import Database
from tests.resilience.test_twins import A_BOAT, VIEWER, Desk, _fail
from tests.storage.builders import ANA, another_turn

SEPIA = TurnRequest(user_message="Sepia", selected_models=("local-silver",))


async def a_desk(
    database: Database, folder: Path, *, max_active_outputs: int = 8
) -> tuple[Desk, Conversation]:
    """With a conversation whose first turn has ended."""
    desk = Desk(database, folder, max_active_outputs=max_active_outputs)
    conversation, turn = await desk.start()
    await _fail(database, turn)
    return desk, conversation


async def test_an_edit_is_planned_again_after_a_conflict_with_another_turn(
    database: Database, tmp_path: Path
) -> None:
    desk, conversation = await a_desk(database, tmp_path)

    async def another_edit() -> None:
        written = await another_turn(database, conversation)
        assert not isinstance(written, Conflict)
        await _fail(database, written[1])

    desk.written.before_write = another_edit
    turn, _ = await desk.turns.send_edit(VIEWER, SendEdit(conversation.id, SEPIA))

    assert turn.turn_index == 2
    assert (desk.written.plans, desk.written.writes) == (2, 2)


async def test_a_duplicate_request_is_answered_without_planning_again(
    database: Database, tmp_path: Path
) -> None:
    desk, conversation = await a_desk(database, tmp_path)
    command = SendEdit(conversation.id, A_BOAT, idempotency_key="edit")
    first: list[str] = []

    async def twin() -> None:
        turn, _ = await desk.turns.send_edit(VIEWER, command)
        first.append(turn.id)

    desk.written.before_write = twin
    turn, _ = await desk.turns.send_edit(VIEWER, command)

    assert [turn.id] == first
    assert (desk.written.plans, desk.written.writes) == (2, 2)  # one of each is the twin's


async def test_an_edit_without_enough_credits_is_refused_without_planning_again(
    database: Database, tmp_path: Path
) -> None:
    desk, conversation = await a_desk(database, tmp_path)

    async def spend() -> None:
        await database.accounts.update_one({"_id": ANA}, {"$set": {"balance": 0}})

    desk.written.before_write = spend
    with pytest.raises(Refused) as refused:
        await desk.turns.send_edit(VIEWER, SendEdit(conversation.id, SEPIA))

    codes = [error.code for error in refused.value.user_errors]
    assert codes == [UserErrorCode.INSUFFICIENT_CREDITS]
    assert (desk.written.plans, desk.written.writes) == (1, 1)


async def test_an_edit_refused_for_a_limit_that_no_longer_applies_is_only_written_again(
    database: Database, tmp_path: Path
) -> None:
    desk, conversation = await a_desk(database, tmp_path)
    found = await database.accounts.find_one({"_id": ANA})
    assert found is not None

    async def spend_for_a_while() -> None:
        await database.accounts.update_one({"_id": ANA}, {"$set": {"balance": 0}})
        desk.receipts.twin = give_back

    async def give_back() -> None:
        await database.accounts.update_one({"_id": ANA}, {"$set": {"balance": found["balance"]}})

    desk.written.before_write = spend_for_a_while
    turn, _ = await desk.turns.send_edit(
        VIEWER, SendEdit(conversation.id, SEPIA, idempotency_key="edit")
    )

    assert turn.turn_index == 1
    assert (desk.written.plans, desk.written.writes) == (1, 2)


async def test_an_edit_of_a_deleted_conversation_is_refused(
    database: Database, tmp_path: Path
) -> None:
    desk, conversation = await a_desk(database, tmp_path)

    async def delete() -> None:
        await desk.conversations.delete(VIEWER, conversation.id)

    desk.written.before_write = delete
    with pytest.raises(Refused) as refused:
        await desk.turns.send_edit(VIEWER, SendEdit(conversation.id, SEPIA))

    assert [error.code for error in refused.value.user_errors] == [UserErrorCode.NOT_FOUND]
