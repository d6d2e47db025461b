"""What inputs that describe a turn, or that may spend credits, have in common."""

from dataclasses import replace
from typing import Final

import strawberry

from domain import models, parents, turns
from domain.abilities import MAX_IMAGES_PER_MODEL
from domain.errors import BadUserInput
from domain.models import AspectRatio
from schema.enums import described_enum
from schema.hints import hints
from schema.scalars import given

_MAX_PREVIEWS: Final = 3
_MAX_OPTION_LENGTH: Final = 2_000

described_enum(
    parents.PromptContext,
    "What a model reads of a conversation.",
    MESSAGE="The message of the turn.",
    CONVERSATION="The messages of earlier turns as well, at most 20, if the model supports it.",
)


@strawberry.input(
    description="Options of a turn. One that a selected model does not support is a user "
    "error; nothing is ignored silently, except `previews` and `context`."
)
class GenerationOptions:
    images_per_model: int | None = strawberry.field(
        default=1,
        description="The number of images of each model, 1 to 4. TOO_MANY_IMAGES if a selected "
        "model makes fewer; BAD_USER_INPUT below 1.",
    )
    previews: int | None = strawberry.field(
        default=2,
        description="The number of previews that each model shows while it runs, 0 to 3. "
        "Ignored by models without previews.",
    )
    quality: models.Quality | None = strawberry.field(
        default=strawberry.UNSET, description="If omitted, each model uses its own default."
    )
    format: models.ImageFormat | None = strawberry.field(
        default=strawberry.UNSET, description="If omitted, each model uses its own default."
    )
    width: int | None = strawberry.field(
        default=strawberry.UNSET,
        description="A width in pixels, for models with `customSize`. Give `height` too, and "
        "neither aspectRatio nor resolution.",
    )
    height: int | None = strawberry.field(
        default=strawberry.UNSET, description="A height in pixels. Give `width` too."
    )
    seed: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="A seed: with the same input it makes the same image again. If omitted, "
        "each model chooses one.",
    )
    negative_prompt: str | None = strawberry.field(
        default=strawberry.UNSET, description="What the images should not show."
    )
    context: parents.PromptContext | None = strawberry.field(
        default=parents.PromptContext.MESSAGE,
        description="What the models read. Models without `supportsContext` always read the "
        "message alone.",
    )

    def to_options(self) -> parents.TurnOptions:
        images = 1 if self.images_per_model is None else self.images_per_model
        previews = 2 if self.previews is None else self.previews
        if images < 1:
            raise BadUserInput(f"imagesPerModel takes 1 to {MAX_IMAGES_PER_MODEL}.")
        if not 0 <= previews <= _MAX_PREVIEWS:
            raise BadUserInput(f"previews takes 0 to {_MAX_PREVIEWS}.")
        for text in (given(self.seed), given(self.negative_prompt)):
            if text is not None and len(text) > _MAX_OPTION_LENGTH:
                raise BadUserInput("seed and negativePrompt take 2,000 characters at most.")
        return parents.TurnOptions(
            images_per_model=images,
            previews=previews,
            quality=given(self.quality),
            format=given(self.format),
            width=given(self.width),
            height=given(self.height),
            seed=given(self.seed),
            negative_prompt=given(self.negative_prompt),
            # Absent unless it is wanted: an idempotency key of an older client stays the same.
            earlier_messages=True if self.context is parents.PromptContext.CONVERSATION else None,
        )


@strawberry.input(
    description="A mask of an edit: where the image that is edited may change. What a model makes "
    "elsewhere is replaced by the original, pixel for pixel, after the two have been aligned."
)
class MaskInput:
    image_id: strawberry.ID = strawberry.field(
        description="An image of the viewer, in any format: white may change, black may not, grey "
        "is mixed, and transparent parts count as black. It has the aspect ratio of the image that "
        "is edited, in any size (otherwise MASK_INVALID)."
    )
    feather: int | None = strawberry.field(
        default=0,
        description="The width of a soft edge around what may change, in pixels of the image that "
        "is edited: 0 to 500.",
        metadata=hints(clamped=True),
    )
    keep_outside: bool | None = strawberry.field(
        default=True,
        description="Whether to put the original back outside of the mask also if the model "
        "supports masks: such a model may change more than it should. It is always put back if the "
        "model does not. The image then has the size of the original and is kept without loss, as "
        "PNG, or as WebP if that is the `format`.",
    )

    def to_request(self) -> turns.MaskRequest:
        return turns.MaskRequest(
            image_id=self.image_id,
            feather=self.feather or 0,
            keep_outside=self.keep_outside is not False,
        )


@strawberry.input
class TurnInput:
    """What every input that describes a turn has in common."""

    user_message: str = strawberry.field(
        description="What to make or to change: 1 to 2,000 characters. It may mention "
        "references as @Image1, @Image2, …"
    )
    selected_models: list[strawberry.ID] | None = strawberry.field(
        default=strawberry.UNSET,
        description="The models to use, 1 to 8, by id or alias. If omitted: those of the "
        "previous turn's outputs, retries with another model included. In the first turn: the "
        "model of the source image, otherwise the default model. In place of an inherited model "
        "that is not available any more, its replacement is used, or the default model, but only "
        "if it costs no more: otherwise MODEL_UNAVAILABLE names what to select.",
    )
    manual_reference_ids: list[strawberry.ID] | None = strawberry.field(
        default=strawberry.UNSET,
        description="Images to use as additional references in this turn, in this order: at "
        "most 10.",
    )
    aspect_ratio: AspectRatio | None = strawberry.field(
        default=strawberry.UNSET,
        description="If omitted: that of the conversation. In the first turn: the standard "
        "ratio that is nearest to the source image, or 1:1 without one. A ratio "
        "that is given here and that a selected model does not support is refused; "
        "an inherited one is adapted to each model.",
    )
    resolution: models.Resolution | None = strawberry.field(
        default=strawberry.UNSET,
        description="If omitted: that of the conversation. In the first turn: that of the "
        "source image, or ONE_K without one. A resolution that is given here and "
        "that a selected model does not support is refused; an inherited one is "
        "adapted to each model.",
    )
    options: GenerationOptions | None = strawberry.field(
        default=strawberry.UNSET, description="If omitted, each option has its default."
    )

    def to_request(self) -> turns.TurnRequest:
        names, options = given(self.selected_models), given(self.options)
        return turns.TurnRequest(
            user_message=self.user_message,
            selected_models=tuple(names) if names is not None else None,
            manual_reference_ids=tuple(given(self.manual_reference_ids) or ()),
            aspect_ratio=given(self.aspect_ratio),
            resolution=given(self.resolution),
            options=options.to_options() if options else parents.TurnOptions(),
        )


@strawberry.input
class EditInput(TurnInput):
    """A turn whose base may be masked."""

    mask: MaskInput | None = strawberry.field(
        default=strawberry.UNSET,
        description="Where the edited image may change. If omitted: everywhere. UNSUPPORTED_MASK "
        "if there is no image to edit.",
    )

    def to_request(self) -> turns.TurnRequest:
        mask = given(self.mask)
        return replace(super().to_request(), mask=mask.to_request() if mask else None)


@strawberry.input
class NextTurnInput(EditInput):
    """A turn that may have earlier ones."""

    previous_output_ids: list[strawberry.ID] | None = strawberry.field(
        default=strawberry.UNSET,
        description="The earlier outputs to use as references. They may be of any turn of this "
        "conversation, so that an edit can branch off anywhere. If omitted: the "
        "chosen output of the previous turn, or all of its outputs that have an image "
        "if none is chosen (TURN_IN_PROGRESS if it is running and none has one), otherwise "
        "those of the latest turn that has images, otherwise the source image. If empty: "
        "none, only the manual references. Ignored for a new conversation.",
    )

    def previous(self) -> tuple[str, ...] | None:
        named = given(self.previous_output_ids)
        return tuple(named) if named is not None else None


IDEMPOTENCY_KEY: Final = (
    "A key for safe retries: 1 to 255 characters. Another call with the same key and input does "
    "nothing and returns the same objects in their current state. A refused call does not use the "
    "key up. Keys are kept for 48 hours."
)


@strawberry.input
class PaidInput:
    """What every input has in common that may spend credits."""

    max_credits: int | None = strawberry.field(
        default=strawberry.UNSET,
        description="Refuse the mutation if it would cost more than this many credits.",
    )
    idempotency_key: str | None = strawberry.field(
        default=strawberry.UNSET,
        description=IDEMPOTENCY_KEY,
    )
