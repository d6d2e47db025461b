"""Outputs: one model's part of a turn, as it develops."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, ClassVar

import strawberry

from domain import errors, models, outputs, references, turns
from schema.context import Info
from schema.enums import described_enum
from schema.images import Image
from schema.models import ImageModel
from schema.node import Node

if TYPE_CHECKING:
    from schema.turns import Turn

described_enum(
    outputs.OutputStatus,
    "Within one attempt it only goes forward.",
    QUEUED="Waiting for a worker.",
    GENERATING="The model is at work.",
    COMPLETED="At least one image was delivered.",
    FAILED="It ended without an image; `error` says why.",
    CANCELLED="It was called off.",
)
described_enum(
    references.ReferenceOrigin,
    "Why a reference goes along.",
    SOURCE="The conversation began from it.",
    PREVIOUS_TURN="An earlier turn of the conversation brought it.",
    MANUAL="The viewer added it.",
)
described_enum(
    errors.GenerationErrorCode,
    "Why a run ended without an image. Codes may be added.",
    CONTENT_REFUSED="The model's rules forbid this content.",
    PROVIDER_REJECTED_INPUT="The provider could not work with the request.",
    PROVIDER_UNAVAILABLE="The provider is down.",
    PROVIDER_RATE_LIMITED="The provider is too busy.",
    PROVIDER_AUTHENTICATION="The provider does not accept our credentials.",
    PROVIDER_BAD_RESPONSE="The provider sent something that is not an image.",
    NO_IMAGE="The provider answered, but with no image.",
    MODEL_RETIRED="The provider does not serve the model any more.",
    OUTCOME_UNKNOWN="A submit whose answer was lost: the provider may have done the work. Never "
    "tried again by itself.",
    TIMED_OUT="It took longer than the model's deadline.",
    STORAGE_UNAVAILABLE="The image could not be stored.",
    INTERNAL="A fault of ours.",
)


@strawberry.type(description="A picture that goes along with a turn.")
class Reference:
    source: ClassVar[type] = references.Reference

    image: Image = strawberry.field(description="The picture.")
    origin: references.ReferenceOrigin = strawberry.field(description="Why it goes along.")


@strawberry.type(description="Why a run ended without an image.")
class GenerationError:
    source: ClassVar[type] = outputs.GenerationError

    code: errors.GenerationErrorCode = strawberry.field(description="What went wrong.")
    message: str = strawberry.field(
        description="A sentence that may be shown to a person. Never a provider's raw text."
    )
    retryable: bool = strawberry.field(
        description="Whether trying again may help. Advice: `retryOutput` takes any failed or "
        "cancelled output."
    )


@strawberry.type(description="Tokens that a run has used, where the provider tells.")
class Usage:
    source: ClassVar[type] = outputs.Usage

    input_tokens: int | None = strawberry.field(description="Tokens read.")
    output_tokens: int | None = strawberry.field(description="Tokens written.")
    total_tokens: int | None = strawberry.field(description="Both together.")


@strawberry.type(description="A partial image.")
class Preview:
    source: ClassVar[type] = outputs.Preview

    index: int = strawberry.field(description="Counts from 0 within one attempt.")
    width: int = strawberry.field(description="In pixels.")
    height: int = strawberry.field(description="In pixels.")

    @strawberry.field(description="A signed, absolute link.")
    @staticmethod
    def url(preview: strawberry.Parent[outputs.Preview], info: Info) -> str:
        return info.context.links.link(preview.key).url


@strawberry.type(description="One model's part of a turn.")
class Output(Node):
    source = outputs.Output

    requested_model_id: strawberry.ID = strawberry.field(
        description="What was asked for, where an editing sibling took its place."
    )
    status: outputs.OutputStatus = strawberry.field(description="How far it has come.")
    progress: float | None = strawberry.field(
        description="0 to 1 where the provider tells; null otherwise."
    )
    queue_position: int | None = strawberry.field(
        description="How many are before it at the provider, where that is known."
    )
    preview: Preview | None = strawberry.field(
        description="The newest partial image; it stays if the run fails, and goes when the "
        "image lands."
    )
    image: Image | None = strawberry.field(
        description="The delivered image; the first where the model was asked for several. As a "
        "reference, an output brings this one."
    )
    images: list[Image] = strawberry.field(description="All delivered images.")
    text: str | None = strawberry.field(
        description="What the model said alongside its image, if anything."
    )
    error: GenerationError | None = strawberry.field(description="Why it failed.")
    usage: Usage | None = strawberry.field(description="Tokens, where the provider tells.")
    references: list[Reference] = strawberry.field(
        description="What this model was given; the turn's references, less what it does not take."
    )
    attempt: int = strawberry.field(
        description="The viewer's try: 1 at first, one more with each `retryOutput`. A worker's "
        "death or a transient fault does not count."
    )
    credits_reserved: int = strawberry.field(
        description="Held while it is at work; 0 once it has ended."
    )
    credits_charged: int = strawberry.field(
        description="Paid for what was delivered; 0 where nothing was."
    )
    queued_at: datetime = strawberry.field(description="When it was asked for.")
    started_at: datetime | None = strawberry.field(description="When a worker first took it.")
    completed_at: datetime | None = strawberry.field(description="When it ended.")

    @strawberry.field(
        graphql_type=Annotated["Turn", strawberry.lazy("schema.turns")] | None,
        description="The turn that it is part of; null if that has just been deleted.",
    )
    @staticmethod
    async def turn(output: strawberry.Parent[outputs.Output], info: Info) -> turns.Turn | None:
        return await info.context.load.turn.load(output.turn_id)

    @strawberry.field(graphql_type=ImageModel, description="The model that runs.")
    @staticmethod
    def model(output: strawberry.Parent[outputs.Output], info: Info) -> models.ImageModel:
        return info.context.registry.remembered(output.model_id)
