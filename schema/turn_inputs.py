"""What inputs that describe a turn, or that may spend credits, have in common."""

from typing import Final

import strawberry

from domain import models, turns
from domain.errors import BadUserInput
from domain.models import AspectRatio
from domain.planning import MAX_IMAGES_PER_MODEL
from schema.scalars import given

_MAX_PREVIEWS: Final = 3
_MAX_OPTION_LENGTH: Final = 2_000


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


@strawberry.input
class TurnInput:
    """What every input that describes a turn has in common."""

    user_message: str = strawberry.field(
        description="What to make or to change: 1 to 2,000 characters."
    )
    selected_models: list[strawberry.ID] | None = strawberry.field(
        default=strawberry.UNSET,
        description="Left out: the previous turn's. In a first turn: the source image's own model, "
        "its replacement where it is retired, its editing sibling where it has one; else the "
        "registry's default.",
    )
    manual_reference_ids: list[strawberry.ID] | None = strawberry.field(
        default=strawberry.UNSET,
        description="Extra references for this turn, in order: 10 at most.",
    )
    aspect_ratio: AspectRatio | None = strawberry.field(
        default=strawberry.UNSET,
        description="Left out: the conversation's. In a first turn: the nearest of the ten ratios "
        "to the source image's; else 1:1. What is inherited is fitted to each model; only what is "
        "given here is refused.",
    )
    resolution: models.Resolution | None = strawberry.field(
        default=strawberry.UNSET,
        description="Left out: the conversation's. In a first turn: the source image's; else "
        "ONE_K. Fitted or refused likewise.",
    )
    options: GenerationOptions | None = strawberry.field(
        default=strawberry.UNSET, description="Left out: the defaults of each option."
    )

    def to_request(self) -> turns.TurnRequest:
        names, options = given(self.selected_models), given(self.options)
        return turns.TurnRequest(
            user_message=self.user_message,
            selected_models=tuple(names) if names is not None else None,
            manual_reference_ids=tuple(given(self.manual_reference_ids) or ()),
            aspect_ratio=given(self.aspect_ratio),
            resolution=given(self.resolution),
            options=options.to_options() if options else turns.TurnOptions(),
        )


@strawberry.input
class NextTurnInput(TurnInput):
    """A turn that may have earlier ones."""

    previous_output_ids: list[strawberry.ID] | None = strawberry.field(
        default=strawberry.UNSET,
        description="Which earlier outputs of this conversation go along: any turn's, so that an "
        "edit can branch off from anywhere. Left out: all that have landed in the turn before "
        "(TURN_IN_PROGRESS if it runs and none has), or in the nearest earlier turn with an image, "
        "else the source. Empty: no references but the manual ones.",
    )

    def previous(self) -> tuple[str, ...] | None:
        named = given(self.previous_output_ids)
        return tuple(named) if named is not None else None


@strawberry.input
class PaidInput:
    """What every input has in common that may spend credits."""

    max_credits: int | None = strawberry.field(
        default=strawberry.UNSET, description="Refuse, rather than spend more than this."
    )
    idempotency_key: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="1 to 255 characters. The same key and input again answers with the same "
        "objects, as they stand now, and does nothing twice. A refused call does not use the key "
        "up. Kept for 48 hours.",
    )
