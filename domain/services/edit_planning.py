"""Planning an edit: what the next turn of a conversation builds on, and what it would be."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    parse_turn_id,
)
from domain.model_choice import Inherited
from domain.models import SQUARE, ModelRegistry, Resolution
from domain.outputs import Output
from domain.planning import plan_turn
from domain.plurals import count
from domain.ports.conversations import ConversationRepository
from domain.ports.turns import TurnRepository
from domain.references import Reference, ReferenceOrigin
from domain.refusals import Refusals, refuse
from domain.services.conversations import CONVERSATION_NOT_FOUND
from domain.services.images import ImageService
from domain.turns import (
    PlannedOutput,
    RerunTurn,
    SendEdit,
    Turn,
    TurnPlan,
    TurnRequest,
    TurnStatus,
    WaitingEdit,
)
from domain.viewers import Viewer

MAX_WAITING_TURNS: Final = 20
"""Of one viewer."""
_MAX_PREVIOUS_OUTPUTS: Final = 100


@dataclass(frozen=True, slots=True)
class TurnBefore:
    """What the next turn of a conversation builds on."""

    conversation: Conversation
    latest: Turn | None
    """None where all turns have been deleted."""
    previous: tuple[Reference, ...] | None
    """None where something is wrong with them, or while they are waited for."""
    waits: bool = False
    """Whether the next turn is to wait for the latest one."""


@dataclass(frozen=True, slots=True)
class PlannedEdit:
    """`before` None: the conversation was not found."""

    before: TurnBefore | None
    turn: TurnPlan

    @property
    def outputs(self) -> Sequence[PlannedOutput]:
        """What has to be paid for. A turn that waits is paid for when it begins."""
        return () if self.turn.waiting else self.turn.outputs


@dataclass(frozen=True, slots=True)
class EditPlanner:
    turns: TurnRepository
    conversations: ConversationRepository
    images: ImageService
    registry: ModelRegistry

    async def plan(self, viewer: Viewer, command: SendEdit, refusals: Refusals) -> PlannedEdit:
        """Plan the next turn, and find what it builds on. Add all that is wrong to `refusals`."""
        before = await self._find_before(viewer, command, refusals)
        manual = await self.images.find_manual_references(
            viewer, command.turn.manual_reference_ids, refusals
        )
        mask = await self.images.find_mask(viewer, command.turn.mask, refusals)
        turn = plan_turn(
            command.turn,
            registry=self.registry,
            inherited=_inherited_by_next_turn(before) if before else _NOTHING_INHERITED,
            references=_join_references(before, manual),
            previous_were_named=command.previous_output_ids is not None,
            mask=mask,
            refusals=refusals,
        )
        if before is not None and before.waits:
            turn = replace(
                turn,
                references=manual or (),
                waiting=WaitingEdit(
                    selected_models=command.turn.selected_models,
                    previous_output_ids=command.previous_output_ids,
                    max_credits=command.max_credits,
                ),
            )
        return PlannedEdit(before, turn)

    async def plan_waiting(
        self,
        viewer: Viewer,
        conversation: Conversation,
        turn: Turn,
        *,
        waiting: WaitingEdit,
        previous: Turn | None,
        refusals: Refusals,
    ) -> TurnPlan:
        """Plan a turn that has waited for the previous one, as it would begin."""
        if waiting.previous_output_ids is not None:
            references_before = await self._find_selected(
                viewer, conversation.id, raw_ids=waiting.previous_output_ids, refusals=refusals
            )
        else:
            references_before = await self._find_previous(
                viewer, conversation, previous, refusals=refusals
            )
        return plan_turn(
            TurnRequest(
                user_message=turn.user_message,
                selected_models=waiting.selected_models,
                options=turn.options,
            ),
            registry=self.registry,
            inherited=Inherited(
                model_ids=turn.selected_model_ids,
                aspect_ratio=turn.aspect_ratio,
                resolution=turn.resolution,
            ),
            references=None
            if references_before is None
            else (*references_before, *turn.references),
            mask=turn.options.mask,
            previous_were_named=waiting.previous_output_ids is not None,
            refusals=refusals,
        )

    async def plan_rerun(
        self, viewer: Viewer, command: RerunTurn, refusals: Refusals
    ) -> PlannedEdit:
        """Plan a turn once more, with its own references and new seeds. Add all that is wrong to
        `refusals`.
        """
        turn, conversation, latest = await self._find_turn(viewer, command.turn_id)
        _check_space(conversation, refusals, field="turnId")
        if not turn.outputs:
            _refuse_without_outputs(turn, refusals)
        request = TurnRequest(
            user_message=turn.user_message,
            selected_models=command.selected_models,
            options=turn.options.with_seed(None),
        )
        unsupported = Refusals()
        plan = plan_turn(
            request,
            registry=self.registry,
            inherited=Inherited(
                model_ids=_requested_of(turn),
                aspect_ratio=turn.aspect_ratio,
                resolution=turn.resolution,
            ),
            references=turn.references,
            mask=turn.options.mask,
            previous_were_named=turn.previous_were_named,
            refusals=unsupported,
        )
        for error in unsupported.found:
            # Everything but the models is the turn's own.
            is_about_models = error.path[1:2] == ("selectedModels",)
            path = error.path[1:] if is_about_models else ("turnId",)
            refusals.add(error.code, error.message, *path)
        return PlannedEdit(
            TurnBefore(conversation, latest, turn.references), _with_random_seed(plan)
        )

    async def _find_turn(
        self, viewer: Viewer, raw_turn_id: str
    ) -> tuple[Turn, Conversation, Turn | None]:
        """The turn, its conversation, and the latest turn of that. Raise Refused."""
        turn_id = parse_turn_id(raw_turn_id)
        turn = (await self.turns.get_many(viewer.id, [turn_id])).get(turn_id) if turn_id else None
        found = (
            await self.conversations.get_with_latest_turn(viewer.id, turn.conversation_id)
            if turn is not None
            else None
        )
        if turn is None or found is None:
            refuse(UserErrorCode.NOT_FOUND, "There is no such turn.", "turnId")
        return turn, *found

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
        _check_space(conversation, refusals, field="conversationId")
        if command.when_ready and latest is not None and latest.in_progress:
            await self._check_waiting(viewer, conversation, command, refusals=refusals)
            return TurnBefore(conversation, latest, None, waits=True)
        if command.previous_output_ids is not None:
            previous = await self._find_selected(
                viewer, conversation.id, raw_ids=command.previous_output_ids, refusals=refusals
            )
        else:
            previous = await self._find_previous(viewer, conversation, latest, refusals=refusals)
        return TurnBefore(conversation, latest, previous)

    async def _check_waiting(
        self, viewer: Viewer, conversation: Conversation, command: SendEdit, *, refusals: Refusals
    ) -> None:
        """Refuse what waiting cannot correct."""
        if command.previous_output_ids is not None:
            selected = Refusals()
            await self._find_selected(
                viewer, conversation.id, raw_ids=command.previous_output_ids, refusals=selected
            )
            refusals.found += [
                error
                for error in selected.found
                if error.code is not UserErrorCode.REFERENCE_NOT_READY
            ]
        open_turns = await self.turns.list_in_progress(viewer.id)
        waiting = sum(turn.status is TurnStatus.WAITING for turn in open_turns)
        if waiting >= MAX_WAITING_TURNS:
            message = f"{count(waiting, 'turn')} waiting; at most {MAX_WAITING_TURNS} can wait."
            refusals.add(UserErrorCode.TOO_MANY_ACTIVE_OUTPUTS, message)

    async def _find_previous(
        self,
        viewer: Viewer,
        conversation: Conversation,
        latest: Turn | None,
        *,
        refusals: Refusals,
    ) -> tuple[Reference, ...] | None:
        """The images of the nearest turn that has any, else the source image."""
        if latest is not None and latest.in_progress and not latest.images:
            refusals.add(
                UserErrorCode.TURN_IN_PROGRESS,
                "The previous turn is still running and has no image yet. With `whenReady` the "
                "edit waits for it.",
                "conversationId",
            )
            return None
        turn = latest
        if latest is not None and not latest.images:
            turn = await self.turns.find_latest_with_images(viewer.id, conversation.id)
        if turn is not None:
            return tuple(Reference(image, ReferenceOrigin.PREVIOUS_TURN) for image in turn.images)
        source = conversation.source_image
        return (Reference(source, ReferenceOrigin.SOURCE),) if source else ()

    async def _find_selected(
        self,
        viewer: Viewer,
        conversation_id: ConversationId,
        *,
        raw_ids: Sequence[str],
        refusals: Refusals,
    ) -> tuple[Reference, ...] | None:
        """The images of the outputs that the viewer selected, in that order."""
        if len(raw_ids) > _MAX_PREVIOUS_OUTPUTS:
            message = f"Select at most {_MAX_PREVIOUS_OUTPUTS} previous outputs."
            refusals.add(UserErrorCode.TOO_MANY_REFERENCES, message, "previousOutputIds")
            return None
        ids = [parse_output_id(name) for name in raw_ids]
        slots = [parent_of_output(output_id) if output_id else None for output_id in ids]
        turn_ids = [as_turn_id(slot[0]) if slot else None for slot in slots]
        own_turn_ids = {
            turn_id
            for turn_id in turn_ids
            if turn_id and conversation_of_turn(turn_id) == conversation_id
        }
        turns = await self.turns.get_many(viewer.id, own_turn_ids) if own_turn_ids else {}

        references: list[Reference] = []
        for index, (turn_id, slot) in enumerate(zip(turn_ids, slots, strict=True)):
            turn = turns.get(turn_id) if turn_id else None
            output = turn.output(slot[1]) if turn and slot else None
            image = output.image if output else None
            if image is not None:
                references.append(Reference(image, ReferenceOrigin.PREVIOUS_TURN))
            else:
                _refuse_selected(output, index, refusals)
        return tuple(references) if len(references) == len(raw_ids) else None


def _check_space(conversation: Conversation, refusals: Refusals, *, field: str) -> None:
    if conversation.next_turn_index > LAST_TURN_INDEX:
        message = "This conversation is full. Please start a new one."
        refusals.add(UserErrorCode.CONVERSATION_FULL, message, field)


def _refuse_without_outputs(turn: Turn, refusals: Refusals) -> None:
    """A turn that has never begun has no references: they depend on the turn before it."""
    if turn.status is TurnStatus.WAITING:
        message = "This turn waits for the one before it."
        refusals.add(UserErrorCode.TURN_IN_PROGRESS, message, "turnId")
    else:
        message = "This turn has never begun. Send its message again."
        refusals.add(UserErrorCode.NOT_RETRYABLE, message, "turnId")


def _with_random_seed(plan: TurnPlan) -> TurnPlan:
    """Local models make the same image of the same words without a seed; others choose one."""
    if not all(planned.model.supports_seed for planned in plan.outputs):
        return plan
    return replace(plan, options=plan.options.with_seed(str(secrets.randbelow(2**31))))


def _requested_of(turn: Turn) -> tuple[str, ...]:
    # A retry may have put another model in the place of a selected one.
    requested = tuple(output.requested_model_id for output in turn.outputs)
    return requested or turn.selected_model_ids


def _inherited_by_next_turn(before: TurnBefore) -> Inherited:
    source = before.conversation.source_image
    of_source = (source.model_id,) if source and source.model_id else ()
    return Inherited(
        model_ids=_requested_of(before.latest) if before.latest else of_source,
        aspect_ratio=before.conversation.aspect_ratio,
        resolution=before.conversation.resolution,
    )


def _join_references(
    before: TurnBefore | None, manual: tuple[Reference, ...] | None
) -> tuple[Reference, ...] | None:
    if before is None or before.previous is None or manual is None:
        return None
    return (*before.previous, *manual)


def _refuse_selected(output: Output | None, index: int, refusals: Refusals) -> None:
    path = ("previousOutputIds", str(index))
    if output is None:
        message = "There is no such output in this conversation."
        refusals.add(UserErrorCode.NOT_FOUND, message, *path)
    elif output.unfinished:
        refusals.add(UserErrorCode.REFERENCE_NOT_READY, "This output has not finished yet.", *path)
    else:
        refusals.add(UserErrorCode.REFERENCE_NOT_READY, "This output has no image.", *path)


_NOTHING_INHERITED: Final = Inherited(aspect_ratio=SQUARE, resolution=Resolution.ONE_K)
