"""Conversations: start, read, rename, delete."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from domain.conversations import (
    MAX_TITLE_LENGTH,
    Conversation,
    StartConversation,
    clean_line,
    is_blank,
    title_from,
)
from domain.errors import Overloaded, UserError, UserErrorCode
from domain.execution.image_writer import ImageWriter
from domain.execution.tries import TRIES, back_off
from domain.idempotency import key_of
from domain.ids import (
    ConversationId,
    ImageId,
    new_conversation_id,
    parse_conversation_id,
)
from domain.images import Image
from domain.models import (
    ASPECT_RATIOS,
    SQUARE,
    AspectRatio,
    ModelRegistry,
    Resolution,
    nearest_resolution,
)
from domain.pages import Page, PageRequest
from domain.planning import Inherited, Refusals, plan_turn, refuse
from domain.ports.execution import JobQueue
from domain.ports.repositories import ConversationRepository
from domain.references import Reference, ReferenceOrigin
from domain.services.accounts import AccountService
from domain.services.idempotency import IdempotencyService
from domain.services.images import ImageService
from domain.turns import Turn, TurnPlan
from domain.viewers import Viewer


@dataclass(frozen=True, slots=True)
class ConversationService:
    conversations: ConversationRepository
    receipts: IdempotencyService
    accounts: AccountService
    images: ImageService
    registry: ModelRegistry
    jobs: JobQueue
    image_writer: ImageWriter

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
        """Write a conversation with its first turn, hand its outputs over, and wait for nothing."""
        key = key_of("startConversation", command.idempotency_key, command)
        for tries in range(TRIES):
            receipt = await self.receipts.find(viewer, key)
            if receipt is not None:
                return await self.receipts.answer(viewer, receipt)
            refusals = Refusals()
            source, plan = await self._plan(viewer, command, refusals)
            await self.receipts.raise_if_refused(viewer, key, refusals)
            if refusals.found:
                continue
            written = await self.conversations.start(
                viewer.id,
                new_conversation_id(),
                title=title_from(plan.user_message),
                source_image=source,
                plan=plan,
                max_active_outputs=self.accounts.max_active_outputs,
                key=key,
            )
            if written is not None:
                _, turn = written
                self.jobs.enqueue(output.id for output in turn.outputs)
                return written
            # A picture has just been deleted, a twin came first, or another start has spent what
            # there was: looking again finds out.
            await back_off(tries)
        raise Overloaded

    async def plan(
        self, viewer: Viewer, command: StartConversation
    ) -> tuple[TurnPlan, Sequence[UserError]]:
        """What `start` would do, and what it would refuse. Nothing is written."""
        refusals = Refusals()
        _, plan = await self._plan(viewer, command, refusals)
        return plan, refusals.found

    async def _plan(
        self, viewer: Viewer, command: StartConversation, refusals: Refusals
    ) -> tuple[Image | None, TurnPlan]:
        """The source and the first turn, with all that is wrong added to `refusals`."""
        source = await self.images.find_source(viewer, command.source_image_id, refusals)
        manual = await self.images.find_manual_references(
            viewer, command.turn.manual_reference_ids, refusals
        )
        source_missing = command.source_image_id is not None and source is None
        references = None if manual is None or source_missing else _first(source, manual)
        plan = plan_turn(
            command.turn,
            registry=self.registry,
            inherited=_inherited_from(source),
            references=references,
            previous_were_named=False,
            refusals=refusals,
        )
        await self.accounts.check(
            viewer, plan.outputs, max_credits=command.max_credits, refusals=refusals
        )
        return source, plan

    async def rename(self, viewer: Viewer, name: str, title: str) -> Conversation:
        refusals = Refusals()
        cleaned = clean_line(title)
        if is_blank(cleaned):
            refusals.add(UserErrorCode.TITLE_INVALID, "A title needs some letters.", "title")
        elif len(cleaned) > MAX_TITLE_LENGTH:
            message = f"A title may be {MAX_TITLE_LENGTH} characters long."
            refusals.add(UserErrorCode.TITLE_INVALID, message, "title")
        conversation_id = parse_conversation_id(name)
        if conversation_id is None or not await self.get_many(viewer, [conversation_id]):
            refusals.add(*CONVERSATION_NOT_FOUND)
        refusals.raise_if_any()

        assert conversation_id is not None
        renamed = await self.conversations.rename(viewer.id, conversation_id, cleaned)
        if renamed is None:
            refuse(*CONVERSATION_NOT_FOUND)
        return renamed

    async def delete(self, viewer: Viewer, name: str) -> ConversationId:
        """Delete it with its turns and those of their images that nothing else keeps. Outputs still
        at work end with it.
        """
        conversation_id = parse_conversation_id(name)
        keys = (
            await self.conversations.delete(viewer.id, conversation_id)
            if conversation_id is not None
            else None
        )
        if conversation_id is None or keys is None:
            refuse(*CONVERSATION_NOT_FOUND)
        await self.image_writer.delete(keys)
        return conversation_id


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
