"""Turns, how to ask for one, and how to follow them."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Self

import strawberry

from domain import errors, models, turns
from domain.errors import BadUserInput
from domain.models import AspectRatio
from domain.planning import MAX_IMAGES_PER_MODEL
from schema.context import Info
from schema.enums import described_enum
from schema.errors import UserError
from schema.models import ImageModel
from schema.node import Node
from schema.outputs import GenerationError, Output, Reference
from schema.scalars import given

if TYPE_CHECKING:
    from schema.conversations import Conversation

_MAX_PREVIEWS = 3

described_enum(
    turns.TurnStatus,
    "Derived from the outputs, in the same write. A retry takes an ended turn back to GENERATING.",
    PENDING="Every output is queued.",
    GENERATING="Some output has not ended.",
    COMPLETED="All have ended, and at least one delivered.",
    FAILED="All have ended, none delivered, none was cancelled.",
    CANCELLED="All have ended, none delivered, at least one was cancelled.",
)


@strawberry.type(description="What was asked for, so that a form can be filled in again.")
class TurnOptions:
    images_per_model: int = strawberry.field(description="How many images of each model.")
    previews: int = strawberry.field(description="How many partial images, where a model has any.")
    quality: models.Quality | None = strawberry.field(description="Null where none was chosen.")
    format: models.ImageFormat | None = strawberry.field(description="Null where none was chosen.")
    width: int | None = strawberry.field(description="In pixels, instead of a ratio.")
    height: int | None = strawberry.field(description="In pixels, instead of a ratio.")
    seed: str | None = strawberry.field(description="Null where none was given.")
    negative_prompt: str | None = strawberry.field(description="What should not be seen.")

    @classmethod
    def of(cls, options: turns.TurnOptions) -> Self:
        return cls(
            images_per_model=options.images_per_model,
            previews=options.previews,
            quality=options.quality,
            format=options.format,
            width=options.width,
            height=options.height,
            seed=options.seed,
            negative_prompt=options.negative_prompt,
        )


@strawberry.type(description="One message of a conversation, and what every model made of it.")
class Turn(Node):
    value: strawberry.Private[turns.Turn]

    turn_index: int = strawberry.field(description="0, 1, 2, …")
    user_message: str = strawberry.field(description="What the viewer asked for.")
    references: list[Reference] = strawberry.field(
        description="One numbering for the whole turn: the previous outputs in their order, then "
        "the manual references. @Image1 is the first."
    )
    aspect_ratio: AspectRatio = strawberry.field(
        description="What was asked for or inherited; each image tells its true size."
    )
    resolution: models.Resolution = strawberry.field(
        description="What was asked for or inherited; each image tells its true size."
    )
    options: TurnOptions = strawberry.field(description="What else was asked for.")
    status: turns.TurnStatus = strawberry.field(description="Derived from the outputs.")
    outputs: list[Output] = strawberry.field(
        description="One per selected model, in the order of selectedModels."
    )
    error: GenerationError | None = strawberry.field(
        description="Why the whole turn failed: what its outputs' errors have in common, else the "
        "first one's; null otherwise."
    )
    created_at: datetime = strawberry.field(description="When it was asked for.")
    updated_at: datetime = strawberry.field(description="When it last changed.")
    completed_at: datetime | None = strawberry.field(description="When its last output ended.")

    @classmethod
    def of(cls, turn: turns.Turn) -> Self:
        return cls(
            value=turn,
            id=strawberry.ID(turn.id),
            turn_index=turn.turn_index,
            user_message=turn.user_message,
            references=[Reference.of(reference) for reference in turn.references],
            aspect_ratio=turn.aspect_ratio,
            resolution=turn.resolution,
            options=TurnOptions.of(turn.options),
            status=turn.status,
            outputs=[Output.of(output) for output in turn.outputs],
            error=GenerationError.of(turn.error),
            created_at=turn.created_at,
            updated_at=turn.updated_at,
            completed_at=turn.completed_at,
        )

    @strawberry.field(description="The conversation that it is part of.")
    async def conversation(
        self, info: Info
    ) -> Annotated["Conversation", strawberry.lazy("schema.conversations")]:
        from schema.conversations import Conversation  # noqa: PLC0415

        conversation = await info.context.load.conversation.load(self.value.conversation_id)
        if conversation is None:
            raise errors.NotFound("The conversation has just been deleted.")
        return Conversation.of(conversation, at_hand=self.value)

    @strawberry.field(description="What the viewer chose, or what was inherited.")
    def selected_models(self, info: Info) -> list[ImageModel]:
        return [ImageModel.named(info, name) for name in self.value.selected_model_ids]

    @strawberry.field(description="Models still at work; empty once the turn is over.")
    def pending_models(self, info: Info) -> list[ImageModel]:
        return [
            ImageModel.named(info, output.model_id)
            for output in self.value.outputs
            if output.unfinished
        ]


@strawberry.type(description="A turn that has changed.")
class TurnUpdate:
    value: strawberry.Private[turns.TurnUpdate]

    turn: Turn = strawberry.field(description="The turn as it stands.")
    changed_outputs: list[Output] = strawberry.field(
        description="At least the outputs that changed since this subscriber's previous update of "
        "this turn; all of them in the first, and after a gap."
    )

    @classmethod
    def of(cls, update: turns.TurnUpdate) -> Self:
        return cls(
            value=update,
            turn=Turn.of(update.turn),
            changed_outputs=[Output.of(output) for output in update.changed_outputs],
        )

    @strawberry.field(description="Pass the newest one as `after` when subscribing again.")
    def cursor(self) -> str:
        return self.value.cursor


@strawberry.input(
    description="What a chosen model does not support is a user error, never silently left out."
)
class GenerationOptions:
    images_per_model: int | None = strawberry.field(
        default=1,
        description="1 to 4. More than a model makes is TOO_MANY_IMAGES; less than 1 is "
        "BAD_USER_INPUT.",
    )
    previews: int | None = strawberry.field(
        default=2,
        description="How many partial images to show while a model works, 0 to 3; models that "
        "have none ignore it.",
    )
    quality: models.Quality | None = strawberry.field(
        default=strawberry.UNSET, description="Left out: the model's own choice."
    )
    format: models.ImageFormat | None = strawberry.field(
        default=strawberry.UNSET, description="Left out: the model's own choice."
    )
    width: int | None = strawberry.field(
        default=strawberry.UNSET,
        description="Together with `height`, and instead of aspectRatio and resolution; for "
        "models with `customSize`.",
    )
    height: int | None = strawberry.field(
        default=strawberry.UNSET, description="Together with `width`."
    )
    seed: str | None = strawberry.field(
        default=strawberry.UNSET, description="The same seed and input make the same image."
    )
    negative_prompt: str | None = strawberry.field(
        default=strawberry.UNSET, description="What should not be seen."
    )

    def to_options(self) -> turns.TurnOptions:
        images = 1 if self.images_per_model is None else self.images_per_model
        previews = 2 if self.previews is None else self.previews
        if images < 1:
            raise BadUserInput(f"imagesPerModel takes 1 to {MAX_IMAGES_PER_MODEL}.")
        if not 0 <= previews <= _MAX_PREVIEWS:
            raise BadUserInput(f"previews takes 0 to {_MAX_PREVIEWS}.")
        for text in (given(self.seed), given(self.negative_prompt)):
            if text is not None and len(text) > _MAX_OPTION_LENGTH:
                raise BadUserInput("seed and negativePrompt take 2,000 characters at most.")
        return turns.TurnOptions(
            images_per_model=images,
            previews=previews,
            quality=given(self.quality),
            format=given(self.format),
            width=given(self.width),
            height=given(self.height),
            seed=given(self.seed),
            negative_prompt=given(self.negative_prompt),
        )


_MAX_OPTION_LENGTH = 2_000


def to_turn_request(
    *,
    user_message: str,
    selected_models: list[strawberry.ID] | None,
    manual_reference_ids: list[strawberry.ID] | None,
    aspect_ratio: AspectRatio | None,
    resolution: models.Resolution | None,
    options: GenerationOptions | None,
) -> turns.TurnRequest:
    """What both mutations that ask for a turn have in common."""
    names, manual = given(selected_models), given(manual_reference_ids)
    asked_options = given(options)
    return turns.TurnRequest(
        user_message=user_message,
        selected_models=tuple(names) if names is not None else None,
        manual_reference_ids=tuple(manual or ()),
        aspect_ratio=given(aspect_ratio),
        resolution=given(resolution),
        options=asked_options.to_options() if asked_options else turns.TurnOptions(),
    )


@strawberry.input(description="Asks for the next turn of a conversation.")
class SendEditInput:
    conversation_id: strawberry.ID = strawberry.field(description="The conversation to go on.")
    user_message: str = strawberry.field(description="What to change: 1 to 2,000 characters.")
    selected_models: list[strawberry.ID] | None = strawberry.field(
        default=strawberry.UNSET, description="Left out: the previous turn's."
    )
    manual_reference_ids: list[strawberry.ID] | None = strawberry.field(
        default=strawberry.UNSET,
        description="Extra references for this turn, in order: 10 at most.",
    )
    previous_output_ids: list[strawberry.ID] | None = strawberry.field(
        default=strawberry.UNSET,
        description="Which earlier outputs of this conversation go along: any turn's, so that an "
        "edit can branch off from anywhere. Left out: all that have landed in the turn before "
        "(TURN_IN_PROGRESS if it runs and none has), or in the nearest earlier turn with an image, "
        "else the source. Empty: no references but the manual ones.",
    )
    aspect_ratio: AspectRatio | None = strawberry.field(
        default=strawberry.UNSET,
        description="Left out: the conversation's, fitted to each model. What is given is refused "
        "where a model does not offer it.",
    )
    resolution: models.Resolution | None = strawberry.field(
        default=strawberry.UNSET, description="Left out: the conversation's, likewise."
    )
    options: GenerationOptions | None = strawberry.field(
        default=strawberry.UNSET, description="Left out: the defaults of each option."
    )
    max_credits: int | None = strawberry.field(
        default=strawberry.UNSET, description="Refuse, rather than spend more than this."
    )
    idempotency_key: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="1 to 255 characters. The same key and input again answers with the same "
        "objects, as they stand now, and does nothing twice. A refused call does not use the key "
        "up. Kept for 48 hours.",
    )

    def to_command(self) -> turns.SendEdit:
        previous = given(self.previous_output_ids)
        return turns.SendEdit(
            conversation_id=self.conversation_id,
            turn=to_turn_request(
                user_message=self.user_message,
                selected_models=self.selected_models,
                manual_reference_ids=self.manual_reference_ids,
                aspect_ratio=self.aspect_ratio,
                resolution=self.resolution,
                options=self.options,
            ),
            previous_output_ids=tuple(previous) if previous is not None else None,
            max_credits=given(self.max_credits),
            idempotency_key=given(self.idempotency_key),
        )


@strawberry.type(description="The turn that was written; its outputs are at work.")
class SendEditPayload:
    turn: Turn | None = strawberry.field(default=None, description="Null where it was refused.")
    cursor: str | None = strawberry.field(
        default=None, description="Pass it as `after` to `turnUpdated`: nothing is missed."
    )
    user_errors: list[UserError] = strawberry.field(
        default_factory=list, description="All that is wrong with the input, at once."
    )


@strawberry.input(description="Asks for an output again.")
class RetryOutputInput:
    output_id: strawberry.ID = strawberry.field(description="A failed or cancelled output.")
    model_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="Another model in the failed one's place."
    )
    max_credits: int | None = strawberry.field(
        default=strawberry.UNSET, description="Refuse, rather than spend more than this."
    )
    idempotency_key: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="1 to 255 characters. The same key and input again answers with the same "
        "objects, as they stand now, and does nothing twice. A refused call does not use the key "
        "up. Kept for 48 hours.",
    )

    def to_command(self) -> turns.RetryOutput:
        return turns.RetryOutput(
            self.output_id,
            model_id=given(self.model_id),
            max_credits=given(self.max_credits),
            idempotency_key=given(self.idempotency_key),
        )


@strawberry.type(description="The output that waits for its next attempt.")
class RetryOutputPayload:
    output: Output | None = strawberry.field(default=None, description="Null where refused.")
    turn: Turn | None = strawberry.field(default=None, description="Its turn, back at work.")
    cursor: str | None = strawberry.field(
        default=None, description="Pass it as `after` to `turnUpdated`: nothing is missed."
    )
    user_errors: list[UserError] = strawberry.field(
        default_factory=list, description="All that is wrong with the input, at once."
    )


@strawberry.input(description="Names the output to cancel.")
class CancelOutputInput:
    output_id: strawberry.ID = strawberry.field(description="An output that has not ended.")


@strawberry.type(description="The output that was cancelled.")
class CancelOutputPayload:
    output: Output | None = strawberry.field(default=None, description="Null where refused.")
    turn: Turn | None = strawberry.field(default=None, description="Its turn.")
    user_errors: list[UserError] = strawberry.field(
        default_factory=list, description="All that is wrong with the input, at once."
    )


@strawberry.input(description="Names the turn to cancel.")
class CancelTurnInput:
    turn_id: strawberry.ID = strawberry.field(description="A turn that is not over.")


@strawberry.type(description="The turn that was cancelled.")
class CancelTurnPayload:
    turn: Turn | None = strawberry.field(default=None, description="Null where refused.")
    user_errors: list[UserError] = strawberry.field(
        default_factory=list, description="All that is wrong with the input, at once."
    )
