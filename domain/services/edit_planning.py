"""Planning an edit: what the next turn of a conversation builds on, and what it would be."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from domain.conversations import Conversation
from domain.errors import UserErrorCode
from domain.ids import (
    LAST_TURN_INDEX,
    ConversationId,
    as_turn_id,
    conversation_of_turn,
    parent_of_output,
    parse_conversation_id,
    parse_output_id,
)
from domain.model_choice import Inherited
from domain.models import SQUARE, ModelRegistry, Resolution
from domain.outputs import Output
from domain.planning import plan_turn
from domain.ports.repositories import ConversationRepository, TurnRepository
from domain.references import Reference, ReferenceOrigin
from domain.refusals import Refusals
from domain.services.conversations import CONVERSATION_NOT_FOUND
from domain.services.images import ImageService
from domain.turns import PlannedOutput, SendEdit, Turn, TurnPlan
from domain.viewers import Viewer

_MAX_PREVIOUS_OUTPUTS: Final = 100


@dataclass(frozen=True, slots=True)
class TurnBefore:
    """What the next turn of a conversation builds on."""

    conversation: Conversation
    latest: Turn
    previous: tuple[Reference, ...] | None
    """None where something is wrong with them."""


@dataclass(frozen=True, slots=True)
class PlannedEdit:
    """`before` None: the conversation was not found."""

    before: TurnBefore | None
    turn: TurnPlan

    @property
    def outputs(self) -> Sequence[PlannedOutput]:
        return self.turn.outputs


@dataclass(frozen=True, slots=True)
class EditPlanner:
    turns: TurnRepository
    conversations: ConversationRepository
    images: ImageService
    registry: ModelRegistry

    async def plan(self, viewer: Viewer, command: SendEdit, refusals: Refusals) -> PlannedEdit:
        """The next turn and what it builds on. Add all that is wrong to `refusals`."""
        before = await self._find_before(viewer, command, refusals)
        manual = await self.images.find_manual_references(
            viewer, command.turn.manual_reference_ids, refusals
        )
        mask = await self.images.find_mask(viewer, command.turn.mask, refusals)
        turn = plan_turn(
            command.turn,
            registry=self.registry,
            inherited=_inherited_from(before) if before else _NOTHING_INHERITED,
            references=_together(before, manual),
            previous_were_named=command.previous_output_ids is not None,
            mask=mask,
            refusals=refusals,
        )
        return PlannedEdit(before, turn)

    async def _find_before(
        self, viewer: Viewer, command: SendEdit, refusals: Refusals
    ) -> TurnBefore | None:
        conversation_id = parse_conversation_id(command.conversation_id)
        found = (
            await self.conversations.get_with_latest_turn(viewer.id, conversation_id)
            if conversation_id is not None
            else None
        )
        if found is None:
            refusals.add(*CONVERSATION_NOT_FOUND)
            return None
        conversation, latest = found
        if conversation.turn_count > LAST_TURN_INDEX:
            message = "This conversation is full. Please start a new one."
            refusals.add(UserErrorCode.CONVERSATION_FULL, message, "conversationId")
        if command.previous_output_ids is not None:
            previous = await self._find_named(
                viewer, conversation.id, names=command.previous_output_ids, refusals=refusals
            )
        else:
            previous = await self._find_previous(viewer, conversation, latest, refusals=refusals)
        return TurnBefore(conversation, latest, previous)

    async def _find_previous(
        self, viewer: Viewer, conversation: Conversation, latest: Turn, *, refusals: Refusals
    ) -> tuple[Reference, ...] | None:
        """The images of the nearest turn that has any, else the source image."""
        if latest.in_progress and not latest.images:
            refusals.add(
                UserErrorCode.TURN_IN_PROGRESS,
                "The previous turn is still running and has no image yet.",
                "conversationId",
            )
            return None
        turn: Turn | None = latest
        if not latest.images:
            turn = await self.turns.latest_with_images(viewer.id, conversation.id)
        if turn is not None:
            return tuple(Reference(image, ReferenceOrigin.PREVIOUS_TURN) for image in turn.images)
        source = conversation.source_image
        return (Reference(source, ReferenceOrigin.SOURCE),) if source else ()

    async def _find_named(
        self,
        viewer: Viewer,
        conversation_id: ConversationId,
        *,
        names: Sequence[str],
        refusals: Refusals,
    ) -> tuple[Reference, ...] | None:
        """The images of the outputs that the viewer named, in the order given."""
        if len(names) > _MAX_PREVIOUS_OUTPUTS:
            message = f"Select at most {_MAX_PREVIOUS_OUTPUTS} previous outputs."
            refusals.add(UserErrorCode.TOO_MANY_REFERENCES, message, "previousOutputIds")
            return None
        ids = [parse_output_id(name) for name in names]
        slots = [parent_of_output(output_id) if output_id else None for output_id in ids]
        turn_ids = [as_turn_id(slot[0]) if slot else None for slot in slots]
        wanted = {one for one in turn_ids if one and conversation_of_turn(one) == conversation_id}
        turns = await self.turns.get_many(viewer.id, wanted) if wanted else {}

        references: list[Reference] = []
        for index, (turn_id, slot) in enumerate(zip(turn_ids, slots, strict=True)):
            turn = turns.get(turn_id) if turn_id else None
            output = turn.output(slot[1]) if turn and slot else None
            image = output.image if output else None
            if image is not None:
                references.append(Reference(image, ReferenceOrigin.PREVIOUS_TURN))
            else:
                _refuse_named(output, index, refusals)
        return tuple(references) if len(references) == len(names) else None


def _inherited_from(before: TurnBefore) -> Inherited:
    return Inherited(
        # A retry may have put another model in the place of a selected one.
        model_ids=tuple(output.requested_model_id for output in before.latest.outputs),
        aspect_ratio=before.conversation.aspect_ratio,
        resolution=before.conversation.resolution,
    )


def _together(
    before: TurnBefore | None, manual: tuple[Reference, ...] | None
) -> tuple[Reference, ...] | None:
    if before is None or before.previous is None or manual is None:
        return None
    return (*before.previous, *manual)


def _refuse_named(output: Output | None, index: int, refusals: Refusals) -> None:
    path = ("previousOutputIds", str(index))
    if output is None:
        message = "There is no such output in this conversation."
        refusals.add(UserErrorCode.NOT_FOUND, message, *path)
    elif output.unfinished:
        refusals.add(UserErrorCode.REFERENCE_NOT_READY, "This output has not finished yet.", *path)
    else:
        refusals.add(UserErrorCode.REFERENCE_NOT_READY, "This output has no image.", *path)


_NOTHING_INHERITED: Final = Inherited(aspect_ratio=SQUARE, resolution=Resolution.ONE_K)
