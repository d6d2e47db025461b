"""Conversations: start, read, rename, delete."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from domain.conflicts import Conflict
from domain.conversations import (
    MAX_DELETED_LISTED,
    Conversation,
    DeletedConversation,
    StartConversation,
    title_from,
)
from domain.errors import UserError, UserErrorCode
from domain.execution.image_writer import ImageWriter
from domain.idempotency import IdempotencyKey
from domain.ids import (
    ConversationId,
    ImageId,
    new_conversation_id,
    parse_conversation_id,
)
from domain.images import Image
from domain.model_choice import Inherited
from domain.models import (
    ASPECT_RATIOS,
    SQUARE,
    AspectRatio,
    ModelRegistry,
    Resolution,
    nearest_resolution,
)
from domain.pages import Page, PageRequest
from domain.planning import plan_turn
from domain.ports.conversations import ConversationRepository
from domain.references import Reference, ReferenceOrigin
from domain.refusals import Refusals, refuse
from domain.services.accounts import AccountService
from domain.services.commands import CommandService, Written
from domain.services.images import ImageService
from domain.services.titles import clean_title
from domain.turns import PlannedOutput, Turn, TurnPlan
from domain.viewers import Viewer


@dataclass(frozen=True, slots=True)
class _PlannedStart:
    source: Image | None
    turn: TurnPlan

    @property
    def outputs(self) -> Sequence[PlannedOutput]:
        return self.turn.outputs


@dataclass(frozen=True, slots=True)
class ConversationService:
    conversations: ConversationRepository
    commands: CommandService
    accounts: AccountService
    images: ImageService
    registry: ModelRegistry
    image_writer: ImageWriter
    restorable_for: timedelta | None = None
    """How long deleted ones can be restored; None: not at all."""

    async def get_many(
        self, viewer: Viewer, ids: Iterable[ConversationId]
    ) -> Mapping[ConversationId, Conversation]:
        return await self.conversations.get_many(viewer.id, ids)

    async def page(
        self,
        viewer: Viewer,
        request: PageRequest,
        *,
        source_image_id: ImageId | None = None,
        words: Sequence[str] = (),
    ) -> Page[Conversation]:
        """Newest activity first. Only those with words that begin with each of these."""
        return await self.conversations.page(
            viewer.id, request, source_image_id=source_image_id, words=words
        )

    async def start(self, viewer: Viewer, command: StartConversation) -> tuple[Conversation, Turn]:
        """Write a conversation with its first turn and enqueue its outputs. Wait for none."""

        async def write(
            plan: _PlannedStart, key: IdempotencyKey | None
        ) -> Written[tuple[Conversation, Turn]] | Conflict:
            started = await self.conversations.start(
                viewer.id,
                new_conversation_id(),
                title=title_from(plan.turn.user_message),
                source_image=plan.source,
                plan=plan.turn,
                max_active_outputs=self.accounts.max_active_outputs,
                key=key,
            )
            if isinstance(started, Conflict):
                return started
            return Written(started, queued=started[1].outputs)

        return await self.commands.run(
            viewer,
            "startConversation",
            command,
            plan=self._plan,
            write=write,
            answer=self.commands.load_made,
        )

    async def plan(
        self, viewer: Viewer, command: StartConversation
    ) -> tuple[TurnPlan, Sequence[UserError]]:
        """What `start` would do, and what it would refuse. Nothing is written."""
        plan, found = await self.commands.foresee(viewer, command, plan=self._plan)
        return plan.turn, found

    async def _plan(
        self, viewer: Viewer, command: StartConversation, refusals: Refusals
    ) -> _PlannedStart:
        """The source and the first turn. Add all that is wrong to `refusals`."""
        source = await self.images.find_source(viewer, command.source_image_id, refusals)
        manual = await self.images.find_manual_references(
            viewer, command.turn.manual_reference_ids, refusals
        )
        mask = await self.images.find_mask(viewer, command.turn.mask, refusals)
        source_missing = command.source_image_id is not None and source is None
        references = None if manual is None or source_missing else _first(source, manual)
        turn = plan_turn(
            command.turn,
            registry=self.registry,
            inherited=_inherited_from(source),
            references=references,
            previous_were_named=False,
            mask=mask,
            refusals=refusals,
        )
        return _PlannedStart(source, turn)

    async def rename(self, viewer: Viewer, raw_conversation_id: str, title: str) -> Conversation:
        refusals = Refusals()
        cleaned = clean_title(title, refusals)
        conversation_id = parse_conversation_id(raw_conversation_id)
        if conversation_id is None or not await self.get_many(viewer, [conversation_id]):
            refusals.add(*CONVERSATION_NOT_FOUND)
        refusals.raise_if_any()

        assert conversation_id is not None
        renamed = await self.conversations.rename(viewer.id, conversation_id, cleaned)
        if renamed is None:
            refuse(*CONVERSATION_NOT_FOUND)
        return renamed

    async def delete(self, viewer: Viewer, raw_conversation_id: str) -> ConversationId:
        """Delete it with its turns and those of their images that nothing else uses. Unfinished
        outputs are cancelled.
        """
        conversation_id = parse_conversation_id(raw_conversation_id)
        keys = (
            await self.conversations.delete(
                viewer.id, conversation_id, restorable_for=self.restorable_for
            )
            if conversation_id is not None
            else None
        )
        if conversation_id is None or keys is None:
            refuse(*CONVERSATION_NOT_FOUND)
        await self.image_writer.delete(keys)
        return conversation_id

    async def list_restorable(self, viewer: Viewer) -> Sequence[DeletedConversation]:
        if self.restorable_for is None:
            return ()
        return await self.conversations.list_restorable(viewer.id, limit=MAX_DELETED_LISTED)

    async def restore(self, viewer: Viewer, raw_conversation_id: str) -> Conversation:
        """Undo a deletion, but for shares and exports."""
        conversation_id = parse_conversation_id(raw_conversation_id)
        if conversation_id is None:
            refuse(*CONVERSATION_NOT_FOUND)
        restored = await self.conversations.restore(viewer.id, conversation_id)
        if isinstance(restored, Conflict):
            message = "The conversation cannot be restored any more."
            if restored is Conflict.IMAGE_GONE:
                message = "An image that the conversation refers to has been deleted."
            refuse(UserErrorCode.NOT_RESTORABLE, message, "conversationId")
        return restored


CONVERSATION_NOT_FOUND: Final = (
    UserErrorCode.NOT_FOUND,
    "There is no such conversation.",
    "conversationId",
)


def _first(source: Image | None, manual: tuple[Reference, ...]) -> tuple[Reference, ...]:
    return (Reference(source, ReferenceOrigin.SOURCE), *manual) if source else manual


def _inherited_from(source: Image | None) -> Inherited:
    if source is None:
        return Inherited(aspect_ratio=SQUARE, resolution=Resolution.ONE_K)
    return Inherited(
        model_ids=(source.model_id,) if source.model_id else (),
        aspect_ratio=AspectRatio(source.width, source.height).nearest(ASPECT_RATIOS),
        resolution=nearest_resolution(source.width, source.height),
    )
