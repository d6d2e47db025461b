"""Turns: ask for the next one, and read them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from domain.changes import Bookmark
from domain.conversations import Conversation
from domain.errors import Overloaded, UserError, UserErrorCode
from domain.execution.image_writer import ImageWriter
from domain.execution.tries import TRIES, back_off
from domain.idempotency import key_of
from domain.ids import (
    LAST_TURN_INDEX,
    ConversationId,
    TurnId,
    conversation_of_turn,
    parse_conversation_id,
    parse_output_id,
    parse_turn_id,
    turn_of_output,
)
from domain.images import Image
from domain.models import SQUARE, ModelRegistry, Resolution
from domain.outputs import Output, OutputStatus
from domain.pages import Page, PageRequest, Position, cut
from domain.planning import Inherited, Refusals, plan_retry, plan_turn, refuse
from domain.ports.execution import JobQueue
from domain.ports.repositories import ConversationRepository, TurnRepository
from domain.references import Reference, ReferenceOrigin
from domain.services.accounts import AccountService
from domain.services.conversations import CONVERSATION_NOT_FOUND
from domain.services.idempotency import IdempotencyService
from domain.services.images import ImageService
from domain.turns import RetryOutput, SendEdit, Turn, TurnPlan
from domain.viewers import Viewer

_RETRYABLE: Final = frozenset({OutputStatus.FAILED, OutputStatus.CANCELLED})
_MAX_PREVIOUS_OUTPUTS: Final = 100
_STRIP_TURNS: Final = 50
_BEFORE_ALL_TURNS: Final = (-1, 0, 0)


@dataclass(frozen=True, slots=True)
class _TurnBasis:
    """What the next turn of a conversation stands on. `previous` None: it could not be made out."""

    conversation: Conversation
    previous: tuple[Reference, ...] | None
    inherited: Inherited
    known: tuple[tuple[int, int], ...]
    """The latest turn's index and version."""


@dataclass(frozen=True, slots=True)
class TurnService:
    turns: TurnRepository
    conversations: ConversationRepository
    receipts: IdempotencyService
    accounts: AccountService
    images: ImageService
    registry: ModelRegistry
    jobs: JobQueue
    image_writer: ImageWriter

    async def get_many(self, viewer: Viewer, ids: Iterable[TurnId]) -> Mapping[TurnId, Turn]:
        return await self.turns.get_many(viewer.id, ids)

    async def latest_of_many(
        self, viewer: Viewer, ids: Iterable[ConversationId]
    ) -> Mapping[ConversationId, Turn]:
        return await self.turns.latest_of_many(viewer.id, ids)

    async def page(
        self, viewer: Viewer, conversation_id: ConversationId, request: PageRequest
    ) -> Page[Turn]:
        """Oldest first."""
        return await self.turns.page(viewer.id, conversation_id, request)

    async def in_progress(self, viewer: Viewer) -> Sequence[Turn]:
        """Turns with a model still at work, oldest first."""
        return await self.turns.in_progress(viewer.id)

    async def strip(
        self, viewer: Viewer, conversation: Conversation, request: PageRequest
    ) -> Page[Image]:
        """The source image, then every output's images, oldest first."""
        found: list[tuple[Image, Position]] = []
        if request.position is None and conversation.source_image is not None:
            found.append((conversation.source_image, _BEFORE_ALL_TURNS))
        after = request.position or _BEFORE_ALL_TURNS
        turn_index = max(-1, int(after[0]) - 1)
        more = True
        while more and len(found) <= request.size:
            page = await self.turns.page(
                viewer.id, conversation.id, PageRequest(_STRIP_TURNS, (turn_index,))
            )
            found.extend(
                (image, position)
                for turn, _ in page.items
                for output in turn.outputs
                for image in output.images
                if (position := (turn.turn_index, output.slot, image.id)) > after
            )
            more, turn_index = page.has_next, turn_index + len(page.items)
        return cut(request, found, lambda pair: pair[1]).map(lambda pair: pair[0])

    async def send_edit(self, viewer: Viewer, command: SendEdit) -> tuple[Turn, Bookmark]:
        """Write the next turn, hand its outputs over, and wait for nothing.

        The bookmark is for whoever follows from here on.
        """
        key = key_of("sendEdit", command.idempotency_key, command)
        for tries in range(TRIES):
            receipt = await self.receipts.find(viewer, key)
            if receipt is not None:
                conversation, turn = await self.receipts.answer(viewer, receipt)
                return turn, Bookmark(conversation.as_of)
            refusals = Refusals()
            basis, plan = await self._plan(viewer, command, refusals)
            await self.receipts.raise_if_refused(viewer, key, refusals)
            if refusals.found:
                continue
            assert basis is not None
            written = await self.conversations.append_turn(
                viewer.id,
                basis.conversation,
                plan,
                max_active_outputs=self.accounts.max_active_outputs,
                key=key,
            )
            if written is not None:
                conversation, turn = written
                self.jobs.enqueue(output.id for output in turn.outputs)
                return turn, Bookmark(conversation.as_of, basis.known)
            # Another turn came first, something was deleted, or the account bears it no more: look
            # again.
            await back_off(tries)
        raise Overloaded

    async def plan(self, viewer: Viewer, command: SendEdit) -> tuple[TurnPlan, Sequence[UserError]]:
        """What `send_edit` would do, and what it would refuse. Nothing is written."""
        refusals = Refusals()
        _, plan = await self._plan(viewer, command, refusals)
        return plan, refusals.found

    async def retry_output(
        self, viewer: Viewer, command: RetryOutput
    ) -> tuple[Turn, Output, Bookmark]:
        """Run a failed or cancelled output again, in its place."""
        key = key_of("retryOutput", command.idempotency_key, command)
        for tries in range(TRIES):
            receipt = await self.receipts.find(viewer, key)
            if receipt is not None and receipt.slot is not None:
                conversation, retried = await self.receipts.answer(viewer, receipt)
                return retried, _in(retried, receipt.slot), Bookmark(conversation.as_of)
            turn, output = await self._find_output(viewer, command.output_id)
            refusals = Refusals()
            if output.status not in _RETRYABLE:
                message = "Only an output that failed or was cancelled can be tried again."
                refusals.add(UserErrorCode.NOT_RETRYABLE, message, "outputId")
            planned = plan_retry(
                turn, output, command.model_id, registry=self.registry, refusals=refusals
            )
            await self.accounts.check(
                viewer,
                [planned] if planned else [],
                max_credits=command.max_credits,
                refusals=refusals,
            )
            await self.receipts.raise_if_refused(viewer, key, refusals)
            if refusals.found:
                continue
            assert planned is not None
            written = await self.turns.retry(
                viewer.id,
                turn.id,
                output,
                planned,
                max_active_outputs=self.accounts.max_active_outputs,
                key=key,
            )
            if written is not None:
                retried, moment = written
                self.jobs.enqueue([output.id])
                if output.preview is not None:
                    await self.image_writer.delete([output.preview.key])
                return retried, _in(retried, output.slot), Bookmark(moment)
            await back_off(tries)
        raise Overloaded

    async def cancel_output(self, viewer: Viewer, name: str) -> tuple[Turn, Output]:
        """End an output that has not ended. Its siblings go on."""
        turn, output = await self._find_output(viewer, name)
        cancelled = await self.turns.cancel(viewer.id, turn.id, [output.slot])
        if cancelled is None:
            message = "This output is over already."
            refuse(UserErrorCode.NOT_CANCELLABLE, message, "outputId")
        self.jobs.recall([output.id])
        return cancelled, _in(cancelled, output.slot)

    async def cancel_turn(self, viewer: Viewer, name: str) -> Turn:
        """End what is still at work; what has landed stays."""
        turn_id = parse_turn_id(name)
        turn = (await self.get_many(viewer, [turn_id])).get(turn_id) if turn_id else None
        if turn is None:
            refuse(UserErrorCode.NOT_FOUND, "There is no such turn.", "turnId")
        slots = [output.slot for output in turn.outputs]
        cancelled = await self.turns.cancel(viewer.id, turn.id, slots)
        if cancelled is None:
            refuse(UserErrorCode.NOT_CANCELLABLE, "This turn is over already.", "turnId")
        self.jobs.recall(output.id for output in turn.outputs)
        return cancelled

    async def _find_output(self, viewer: Viewer, name: str) -> tuple[Turn, Output]:
        output_id = parse_output_id(name)
        turn = output = None
        if output_id is not None:
            turn_id, slot = turn_of_output(output_id)
            turn = (await self.get_many(viewer, [turn_id])).get(turn_id)
            output = turn.output(slot) if turn else None
        if turn is None or output is None:
            refuse(UserErrorCode.NOT_FOUND, "There is no such output.", "outputId")
        return turn, output

    async def _plan(
        self, viewer: Viewer, command: SendEdit, refusals: Refusals
    ) -> tuple[_TurnBasis | None, TurnPlan]:
        """The next turn and what it stands on, with all that is wrong added to `refusals`."""
        basis = await self._find_basis(viewer, command, refusals)
        manual = await self.images.find_manual_references(
            viewer, command.turn.manual_reference_ids, refusals
        )
        plan = plan_turn(
            command.turn,
            registry=self.registry,
            inherited=basis.inherited if basis else _NOTHING_INHERITED,
            references=_together(basis, manual),
            previous_were_named=command.previous_output_ids is not None,
            refusals=refusals,
        )
        await self.accounts.check(
            viewer, plan.outputs, max_credits=command.max_credits, refusals=refusals
        )
        return basis, plan

    async def _find_basis(
        self, viewer: Viewer, command: SendEdit, refusals: Refusals
    ) -> _TurnBasis | None:
        conversation_id = parse_conversation_id(command.conversation_id)
        found = (
            await self.conversations.get_many(viewer.id, [conversation_id])
            if conversation_id is not None
            else {}
        )
        conversation = found.get(conversation_id) if conversation_id is not None else None
        if conversation is None:
            refusals.add(*CONVERSATION_NOT_FOUND)
            return None
        if conversation.turn_count > LAST_TURN_INDEX:
            message = "This conversation is full. Please start another one."
            refusals.add(UserErrorCode.CONVERSATION_FULL, message, "conversationId")

        latest = (await self.turns.latest_of_many(viewer.id, [conversation.id])).get(
            conversation.id
        )
        return _TurnBasis(
            conversation,
            await self._find_previous(viewer, conversation, latest, command, refusals),
            Inherited(
                model_ids=latest.selected_model_ids if latest else (),
                aspect_ratio=conversation.aspect_ratio,
                resolution=conversation.resolution,
            ),
            ((latest.turn_index, latest.version),) if latest else (),
        )

    async def _find_previous(
        self,
        viewer: Viewer,
        conversation: Conversation,
        latest: Turn | None,
        command: SendEdit,
        refusals: Refusals,
    ) -> tuple[Reference, ...] | None:
        if command.previous_output_ids is not None:
            return await self._find_named(
                viewer, conversation, command.previous_output_ids, refusals
            )
        if latest is not None and latest.in_progress and not latest.images:
            refusals.add(
                UserErrorCode.TURN_IN_PROGRESS,
                "The turn before is still at work, and nothing has landed yet.",
                "conversationId",
            )
            return None
        turn = latest
        if turn is None or not turn.images:
            turn = await self.turns.latest_with_images(viewer.id, conversation.id)
        if turn is not None:
            return tuple(Reference(image, ReferenceOrigin.PREVIOUS_TURN) for image in turn.images)
        source = conversation.source_image
        return (Reference(source, ReferenceOrigin.SOURCE),) if source else ()

    async def _find_named(
        self,
        viewer: Viewer,
        conversation: Conversation,
        names: Sequence[str],
        refusals: Refusals,
    ) -> tuple[Reference, ...] | None:
        """The images of the outputs that the viewer named, in the order given."""
        if len(names) > _MAX_PREVIOUS_OUTPUTS:
            message = f"Name at most {_MAX_PREVIOUS_OUTPUTS} earlier outputs."
            refusals.add(UserErrorCode.TOO_MANY_REFERENCES, message, "previousOutputIds")
            return None
        ids = [parse_output_id(name) for name in names]
        places = [turn_of_output(output_id) if output_id else None for output_id in ids]
        wanted = {
            place[0]
            for place in places
            if place and conversation_of_turn(place[0]) == conversation.id
        }
        turns = await self.turns.get_many(viewer.id, wanted) if wanted else {}

        references: list[Reference] = []
        for index, place in enumerate(places):
            turn = turns.get(place[0]) if place else None
            output = turn.output(place[1]) if turn and place else None
            image = output.image if output else None
            if image is not None:
                references.append(Reference(image, ReferenceOrigin.PREVIOUS_TURN))
            else:
                _refuse_named(output, index, refusals)
        return tuple(references) if len(references) == len(names) else None


def _in(turn: Turn, slot: int) -> Output:
    output = turn.output(slot)
    assert output is not None
    return output


def _together(
    basis: _TurnBasis | None, manual: tuple[Reference, ...] | None
) -> tuple[Reference, ...] | None:
    if basis is None or basis.previous is None or manual is None:
        return None
    return (*basis.previous, *manual)


def _refuse_named(output: Output | None, index: int, refusals: Refusals) -> None:
    path = ("previousOutputIds", str(index))
    if output is None:
        message = "There is no such output in this conversation."
        refusals.add(UserErrorCode.NOT_FOUND, message, *path)
    elif output.unfinished:
        refusals.add(UserErrorCode.REFERENCE_NOT_READY, "This output is still at work.", *path)
    else:
        refusals.add(UserErrorCode.REFERENCE_NOT_READY, "This output has no image.", *path)


_NOTHING_INHERITED: Final = Inherited(aspect_ratio=SQUARE, resolution=Resolution.ONE_K)
