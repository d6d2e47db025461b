"""One key, one response: also if a duplicate commits while the other request is still being
planned.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from domain.conflicts import Conflict
from domain.conversations import Conversation, StartConversation
from domain.errors import GenerationErrorCode
from domain.execution.image_writer import ImageWriter
from domain.idempotency import IdempotencyKey, IdempotencyRecord
from domain.ids import ConversationId, ViewerId
from domain.outputs import GenerationError
from domain.services.accounts import AccountService
from domain.services.canceller import OutputCanceller
from domain.services.commands import CommandService
from domain.services.conversations import ConversationService
from domain.services.edit_planning import EditPlanner
from domain.services.images import ImageService
from domain.services.outputs import OutputService
from domain.services.turns import TurnService
from domain.signing import Signer
from domain.turns import RetryOutput, SendEdit, Turn, TurnRequest
from domain.viewers import Viewer
from providers.catalogue import load_catalogue
from storage.mongo.accounts import MongoAccountRepository
from storage.mongo.claims import MongoClaimRepository
from storage.mongo.conversations import MongoConversationRepository
from storage.mongo.database import Database
from storage.mongo.idempotency import MongoIdempotencyRepository
from storage.mongo.images import MongoImageRepository
from storage.mongo.outputs import MongoOutputRepository
from storage.mongo.turns import MongoTurnRepository
from storage.objects.folder import FolderObjectStore
from storage.queue.connection import NatsConnection
from storage.queue.publisher import NatsPublisher
from tests.resilience.nobody_waits import NobodyWaits
from tests.storage.builders import ANA, a_claim

VIEWER = Viewer(ANA)
A_BOAT = TurnRequest(user_message="A boat", selected_models=("local-silver",))
Twin = Callable[[], Awaitable[object]]


def a_queue_to_nobody() -> NatsPublisher:
    return NatsPublisher(NatsConnection(SecretStr("nats://127.0.0.1:1"), database="test"))


class Receipts(MongoIdempotencyRepository):
    """The real ones. Right after the first look that finds nothing, the twin comes first."""

    twin: Twin | None = None

    async def get(self, viewer_id: ViewerId, key: IdempotencyKey) -> IdempotencyRecord | None:
        found = await super().get(viewer_id, key)
        if self.twin is not None:
            twin, self.twin = self.twin, None
            await twin()
        return found


class Conversations(MongoConversationRepository):
    """The real ones. They count the plans of edits, and let something happen before a write."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.plans = 0
        self.writes = 0
        self.before_write: Twin | None = None

    async def get_with_latest_turn(
        self, viewer_id: ViewerId, conversation_id: ConversationId
    ) -> tuple[Conversation, Turn | None] | None:
        self.plans += 1
        return await super().get_with_latest_turn(viewer_id, conversation_id)

    async def append_turn(
        self, viewer_id: ViewerId, conversation: Conversation, **facts: Any
    ) -> tuple[Conversation, Turn] | Conflict:
        if self.before_write is not None:
            happen, self.before_write = self.before_write, None
            await happen()
        self.writes += 1
        return await super().append_turn(viewer_id, conversation, **facts)


class Desk:
    """The services of one process, for a viewer who can afford one picture at a time."""

    def __init__(
        self,
        database: Database,
        folder: Path,
        *,
        credits: int = 1_000,
        max_active_outputs: int = 1,
    ) -> None:
        self.receipts = Receipts(database)
        self.written = conversations = Conversations(database)
        turns = MongoTurnRepository(database)
        accounts = AccountService(
            MongoAccountRepository(database), credits, max_active_outputs=max_active_outputs
        )
        image_writer = ImageWriter(
            FolderObjectStore(folder, public_url="", signer=Signer(b"x" * 32))
        )
        images = ImageService(MongoImageRepository(database), image_writer)
        registry, hints = load_catalogue(rehearsals=False), a_queue_to_nobody()
        commands = CommandService(
            records=self.receipts,
            conversations=conversations,
            turns=turns,
            accounts=accounts,
            hints=hints,
        )
        self.conversations = ConversationService(
            conversations, commands, accounts, images, registry, image_writer
        )
        outputs = MongoOutputRepository(database)
        edits = EditPlanner(turns, conversations, images, registry)
        canceller = OutputCanceller(outputs=outputs, hints=hints)
        self.turns = TurnService(
            turns=turns,
            conversations=conversations,
            commands=commands,
            accounts=accounts,
            edits=edits,
            canceller=canceller,
            waiting=NobodyWaits(),
        )
        self.outputs = OutputService(
            outputs=outputs,
            commands=commands,
            accounts=accounts,
            registry=registry,
            canceller=canceller,
            image_writer=image_writer,
        )

    async def start(self) -> tuple[Conversation, Turn]:
        return await self.conversations.start(
            VIEWER, StartConversation(turn=A_BOAT, idempotency_key="start")
        )


@pytest.mark.parametrize("credits", [2, 1_000], ids=["for-one", "for-many"])
async def test_a_duplicate_start_is_not_refused_if_the_first_used_the_last_credits(
    database: Database, tmp_path: Path, credits: int
) -> None:
    desk = Desk(database, tmp_path, credits=credits)
    first: list[Turn] = []

    async def twin() -> None:
        first.append((await desk.start())[1])

    desk.receipts.twin = twin
    _, turn = await desk.start()

    assert [turn.id] == [one.id for one in first]


async def test_a_duplicate_edit_is_not_refused_while_the_first_is_running(
    database: Database, tmp_path: Path
) -> None:
    desk = Desk(database, tmp_path)
    conversation, turn = await desk.start()
    await _fail(database, turn)
    command = SendEdit(conversation.id, A_BOAT, idempotency_key="edit")
    first: list[Turn] = []

    async def twin() -> None:
        first.append((await desk.turns.send_edit(VIEWER, command))[0])

    desk.receipts.twin = twin
    edit, _ = await desk.turns.send_edit(VIEWER, command)

    assert [edit.id] == [one.id for one in first]


async def test_a_duplicate_retry_is_not_refused_while_the_first_is_running(
    database: Database, tmp_path: Path
) -> None:
    desk = Desk(database, tmp_path)
    _, turn = await desk.start()
    await _fail(database, turn)
    command = RetryOutput(turn.outputs[0].id, idempotency_key="retry")

    async def twin() -> None:
        await desk.outputs.retry(VIEWER, command)

    desk.receipts.twin = twin
    _, output, _ = await desk.outputs.retry(VIEWER, command)

    assert output.attempt == 2


async def _fail(database: Database, turn: Turn) -> None:
    claim = await a_claim(database, turn.outputs[0].id)
    error = GenerationError(GenerationErrorCode.PROVIDER_UNAVAILABLE, retryable=True)
    assert await MongoClaimRepository(database).fail(claim, error)
