"""Outputs: one model's part of a turn, with its status and images."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, ClassVar

import strawberry

from domain import errors, images, models, outputs, posts, references, turns
from schema.context import Info
from schema.enums import described_enum
from schema.hints import hints
from schema.images import Image
from schema.models import ImageModel
from schema.node import Node

if TYPE_CHECKING:
    from schema.posts import Post
    from schema.turns import Turn

described_enum(
    outputs.OutputStatus,
    "The status of an output. Within one attempt it only moves forward.",
    QUEUED="It waits for a worker.",
    GENERATING="The model is running.",
    COMPLETED="At least one image was delivered.",
    FAILED="It ended without an image; `error` says why.",
    CANCELLED="The viewer cancelled it before it had an image.",
)
described_enum(
    references.ReferenceOrigin,
    "Why an image is a reference.",
    SOURCE="It is the source image of the conversation.",
    PREVIOUS_TURN="It was made in an earlier turn of the conversation.",
    MANUAL="The viewer added it to this turn.",
)
described_enum(
    errors.GenerationErrorCode,
    "Why an output failed. Codes may be added.",
    CONTENT_REFUSED="The model's content rules do not allow this.",
    PROVIDER_REJECTED_INPUT="The provider rejected the request.",
    PROVIDER_UNAVAILABLE="The provider is not available.",
    PROVIDER_RATE_LIMITED="The provider's rate limit was reached.",
    PROVIDER_AUTHENTICATION="The provider rejected the credentials that are configured here.",
    PROVIDER_BAD_RESPONSE="The provider's response was not a valid image.",
    NO_IMAGE="The provider's response contained no image.",
    MODEL_RETIRED="The provider does not serve the model any more.",
    OUTCOME_UNKNOWN="The provider's response to the submission was lost, so it may have done "
    "the work. Darkroom does not try again automatically.",
    TIMED_OUT="The deadline of the model was exceeded.",
    STORAGE_UNAVAILABLE="The image could not be stored.",
    PREVIOUS_TURN_FAILED="Of a turn that waited: the turn before has failed, was cancelled, or has "
    "not made an image that this one needs, such as one that `previousOutputIds` names.",
    INSUFFICIENT_CREDITS="Of a turn that waited: the viewer had fewer credits available than it "
    "costs.",
    MAX_CREDITS_EXCEEDED="Of a turn that waited: it would have cost more than `maxCredits`.",
    MASK_INVALID="Of a turn that waited: the mask does not have the aspect ratio of the image that "
    "would have been edited.",
    UNKNOWN_MENTION="Of a turn that waited: the message mentions a reference that it does not "
    "have, or more of them than a model accepts.",
    MODEL_CANNOT_EDIT="Of a turn that waited: a selected model cannot edit the images that it "
    "would have been given, or not with these options.",
    EXPORT_INVALID="Of an import: the file is not an export, or it was changed.",
    INTERNAL="An internal error of Darkroom.",
)


@strawberry.type(description="An image that a turn gives to its models.")
class Reference:
    source: ClassVar[type] = references.Reference

    image: Image = strawberry.field(description="The image.")
    origin: references.ReferenceOrigin = strawberry.field(
        description="Why the image is a reference."
    )


@strawberry.type(description="Why an output failed.")
class GenerationError:
    source: ClassVar[type] = outputs.GenerationError

    code: errors.GenerationErrorCode = strawberry.field(description="What went wrong.")
    message: str = strawberry.field(
        description="An explanation that may be shown to the person. It never contains text "
        "from the provider."
    )
    retryable: bool = strawberry.field(
        description="Whether another attempt may succeed. This is only a hint: `retryOutput` "
        "accepts any failed or cancelled output."
    )


@strawberry.type(
    description="The number of tokens used. Each is null if the provider does not report it."
)
class Usage:
    source: ClassVar[type] = outputs.Usage

    input_tokens: int | None = strawberry.field(description="Tokens of the input.")
    output_tokens: int | None = strawberry.field(description="Tokens of the result.")
    total_tokens: int | None = strawberry.field(description="All tokens together.")


@strawberry.type(
    description="How much of the edited image a model has changed: fractions of that image's "
    "pixels, from 0 to 1, after the two have been aligned, since models shift and scale what they "
    "edit. Of what the model made, before the original was put back outside of a mask."
)
class Drift:
    source: ClassVar[type] = images.Drift

    changed: float = strawberry.field(description="The fraction that has visibly changed.")
    outside_mask: float | None = strawberry.field(
        description="The fraction that has changed although the mask excludes it. Null without a "
        "mask."
    )


@strawberry.type(description="A partial image that a model shows while it runs.")
class Preview:
    source: ClassVar[type] = outputs.Preview

    index: int = strawberry.field(
        description="The number of the preview within one attempt, starting at 0."
    )
    width: int = strawberry.field(description="The width in pixels.")
    height: int = strawberry.field(description="The height in pixels.")

    @strawberry.field(description="A signed, absolute URL of the preview.", metadata=hints("key"))
    @staticmethod
    def url(preview: strawberry.Parent[outputs.Preview], info: Info) -> str:
        return info.context.services.links.link(preview.key).url


@strawberry.type(
    description="The part of a turn or post that one model makes: its status, its images or its "
    "error."
)
class Output(Node):
    source = outputs.Output

    requested_model_id: strawberry.ID = strawberry.field(
        description="The id of the model that was selected. It differs from `model.id` if the "
        "model was replaced by its `editModel`."
    )
    status: outputs.OutputStatus = strawberry.field(description="The current status.")
    progress: float | None = strawberry.field(
        description="The progress from 0 to 1. Null if it is not known, or if the output is not "
        "running."
    )
    queue_position: int | None = strawberry.field(
        description="How many requests are ahead of it at the provider. Null if that is not known."
    )
    preview: Preview | None = strawberry.field(
        description="The newest preview. Null if there is none, and once an image has been "
        "delivered; it is kept if the output fails or is cancelled."
    )
    image: Image | None = strawberry.field(
        description="The first delivered image: the one that is used when the output is a "
        "reference. Null if there is none."
    )
    images: list[Image] = strawberry.field(
        description="All delivered images. If a model makes several one by one, each is here as "
        "soon as it has landed, while `status` is GENERATING. If the others fail then, or the "
        "output is cancelled, it is COMPLETED with those that it has."
    )
    text: str | None = strawberry.field(
        description="The text that the model returned with its image. Null if there is none."
    )
    error: GenerationError | None = strawberry.field(
        description="Why the output failed. Null unless `status` is FAILED."
    )
    usage: Usage | None = strawberry.field(
        description="The number of tokens used. Null if the provider does not report it."
    )
    drift: Drift | None = strawberry.field(
        description="How much of the edited image is changed in `image`. Null if no image was "
        "edited, if nothing has been delivered, and for outputs of earlier releases."
    )
    provider: str | None = strawberry.field(
        description="The provider that made the images, e.g. `fal`. Null until images have been "
        "delivered, if several providers made them, and for outputs of earlier releases."
    )
    quality: str | None = strawberry.field(
        description="The quality that the provider reports, in its own word, e.g. `high`. Null if "
        "it reports none."
    )
    size: str | None = strawberry.field(
        description="The size that the provider reports, in its own words, e.g. `1536x1024`. Null "
        "if it reports none. `Image.width` and `height` are the true size."
    )
    references: list[Reference] = strawberry.field(
        description="The references that the model was given. The first is the image that is "
        "edited; the others follow in the order of the turn's references, without those that "
        "exceed what the model accepts."
    )
    attempt: int = strawberry.field(
        description="The number of the attempt: 1 at first, and one more with each "
        "`retryOutput`. Automatic retries are not counted."
    )
    credits_reserved: int = strawberry.field(
        description="The credits that are reserved for it. 0 once it has ended."
    )
    credits_charged: int = strawberry.field(
        description="The credits that were charged for its delivered images: 0 until it ends."
    )
    queued_at: datetime = strawberry.field(description="When the current attempt was requested.")
    started_at: datetime | None = strawberry.field(
        description="When a worker started the current attempt. Null if none has yet."
    )
    completed_at: datetime | None = strawberry.field(
        description="When the current attempt ended. Null if it has not."
    )

    chosen: bool = strawberry.field(
        description="Whether it is the output of its turn that the viewer continues from: see "
        "`chooseOutput`."
    )

    @strawberry.field(
        graphql_type=Annotated["Turn", strawberry.lazy("schema.turns")] | None,
        description="The turn that it belongs to. Null if it belongs to a post, or if the turn "
        "has just been deleted.",
        metadata=hints("turn_id"),
    )
    @staticmethod
    async def turn(output: strawberry.Parent[outputs.Output], info: Info) -> turns.Turn | None:
        turn_id = output.turn_id
        return await info.context.reading(output).turn.load(turn_id) if turn_id else None

    @strawberry.field(
        graphql_type=Annotated["Post", strawberry.lazy("schema.posts")] | None,
        description="The post that it belongs to. Null if it belongs to a turn, or if the post "
        "has just been deleted.",
        metadata=hints("post_id"),
    )
    @staticmethod
    async def post(output: strawberry.Parent[outputs.Output], info: Info) -> posts.Post | None:
        post_id = output.post_id
        return await info.context.reading(output).post.load(post_id) if post_id else None

    @strawberry.field(
        graphql_type=ImageModel,
        description="The model that makes the images.",
        metadata=hints("model_id", constant_by="model_id"),
    )
    @staticmethod
    def model(output: strawberry.Parent[outputs.Output], info: Info) -> models.ImageModel:
        return info.context.services.registry.remembered(output.model_id)
