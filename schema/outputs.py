"""Outputs: one model's part of a turn, as it develops."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Self

import strawberry

from domain import errors, outputs, references
from domain.ids import turn_of_output
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
    image: Image = strawberry.field(description="The picture.")
    origin: references.ReferenceOrigin = strawberry.field(description="Why it goes along.")

    @classmethod
    def of(cls, reference: references.Reference) -> Self:
        return cls(image=Image.of(reference.image), origin=reference.origin)


@strawberry.type(description="Why a run ended without an image.")
class GenerationError:
    code: errors.GenerationErrorCode = strawberry.field(description="What went wrong.")
    message: str = strawberry.field(
        description="A sentence that may be shown to a person. Never a provider's raw text."
    )
    retryable: bool = strawberry.field(
        description="Whether trying again may help. Advice: `retryOutput` takes any failed or "
        "cancelled output."
    )

    @classmethod
    def of(cls, error: outputs.GenerationError | None) -> Self | None:
        if error is None:
            return None
        return cls(code=error.code, message=error.message, retryable=error.retryable)


@strawberry.type(description="Tokens that a run has used, where the provider tells.")
class Usage:
    input_tokens: int | None = strawberry.field(description="Tokens read.")
    output_tokens: int | None = strawberry.field(description="Tokens written.")
    total_tokens: int | None = strawberry.field(description="Both together.")

    @classmethod
    def of(cls, usage: outputs.Usage | None) -> Self | None:
        if usage is None:
            return None
        return cls(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            total_tokens=usage.total_tokens,
        )


@strawberry.type(description="A partial image.")
class Preview:
    picture: strawberry.Private[outputs.Preview]

    index: int = strawberry.field(description="Counts from 0 within one attempt.")
    width: int = strawberry.field(description="In pixels.")
    height: int = strawberry.field(description="In pixels.")

    @classmethod
    def of(cls, preview: outputs.Preview | None) -> Self | None:
        if preview is None:
            return None
        return cls(picture=preview, index=preview.index, width=preview.width, height=preview.height)

    @strawberry.field(description="A signed, absolute link.")
    def url(self, info: Info) -> str:
        return info.context.links.link(self.picture.key).url


@strawberry.type(description="One model's part of a turn.")
class Output(Node):
    value: strawberry.Private[outputs.Output]

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

    @classmethod
    def of(cls, output: outputs.Output) -> Self:
        images = [Image.of(image) for image in output.images]
        return cls(
            value=output,
            id=strawberry.ID(output.id),
            requested_model_id=strawberry.ID(output.requested_model_id),
            status=output.status,
            progress=output.progress,
            queue_position=output.queue_position,
            preview=Preview.of(output.preview),
            image=images[0] if images else None,
            images=images,
            text=output.text,
            error=GenerationError.of(output.error),
            usage=Usage.of(output.usage),
            references=[Reference.of(reference) for reference in output.references],
            attempt=output.attempt,
            credits_reserved=output.credits_reserved,
            credits_charged=output.credits_charged,
            queued_at=output.queued_at,
            started_at=output.started_at,
            completed_at=output.completed_at,
        )

    @strawberry.field(
        description="The turn that it is part of; null if that has just been deleted."
    )
    async def turn(self, info: Info) -> Annotated["Turn", strawberry.lazy("schema.turns")] | None:
        from schema.turns import Turn  # noqa: PLC0415 (the graph has cycles, modules must not)

        turn_id, _ = turn_of_output(self.value.id)
        turn = await info.context.load.turn.load(turn_id)
        return Turn.of(turn) if turn else None

    @strawberry.field(description="The model that runs.")
    def model(self, info: Info) -> ImageModel:
        return ImageModel.named(info, self.value.model_id)
