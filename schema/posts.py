"""Posts: a caption, then images; how to ask for one."""

from datetime import datetime
from typing import Annotated, ClassVar, Final, TypeAlias

import strawberry

from domain import captions, models, posts
from schema.captions import CaptionModel
from schema.connections import Connection
from schema.context import Info
from schema.enums import described_enum
from schema.errors import Payload
from schema.hints import hints
from schema.images import Image
from schema.outputs import GenerationError
from schema.parents import ParentNode
from schema.scalars import given
from schema.turn_inputs import PaidInput, TurnInput

_DEFAULTS: Final = captions.CaptionOptions()

described_enum(
    posts.PostStatus,
    "The status of a post, which follows from those of its caption and its outputs. "
    "`regenerateCaption` and `retryOutput` set a post that has ended back.",
    GENERATING_CAPTION="The caption is waiting, or being written.",
    GENERATING_IMAGES="There is a caption, and at least one output has not ended.",
    GENERATED="All have ended, and at least one output has delivered an image.",
    FAILED="The caption has failed, or all outputs have. See `error`.",
    CANCELLED="All have ended without an image, and at least one was cancelled.",
)


@strawberry.type(
    description="The options that the caption was requested with, to fill in a form again."
)
class CaptionSettings:
    source: ClassVar[type] = captions.CaptionOptions

    language: str | None = strawberry.field(
        description="A BCP 47 tag, e.g. `pt-BR`. Null if none was given: the caption is in the "
        "language of the message."
    )
    max_length: int = strawberry.field(description="The maximum number of characters.")
    hashtags: int = strawberry.field(description="The maximum number of hashtags.")
    tone: str | None = strawberry.field(description="The tone. Null if none was given.")


@strawberry.type(
    description="A message, a caption that is written about it, and the output of each selected "
    "model, which makes images from the message and the caption."
)
class Post(ParentNode):
    source = posts.Post

    status: posts.PostStatus = strawberry.field(
        description="The status, which follows from those of the caption and the outputs."
    )
    caption: str = strawberry.field(
        description="The caption as far as there is one; it grows while it is being written. It "
        "stays if the images fail. If it cannot be written again, the one before stays."
    )
    caption_error: GenerationError | None = strawberry.field(
        description="Why the caption could not be written. Null unless it has failed. No image is "
        "made then, and none is charged: `regenerateCaption` continues."
    )
    caption_options: CaptionSettings = strawberry.field(
        description="The options that the caption was requested with."
    )
    image: Image | None = strawberry.field(
        description="The first image that was delivered, by any model. Null if there is none."
    )
    error: GenerationError | None = strawberry.field(
        description="Why the post failed: the error of its caption, otherwise that of its first "
        "output. Null unless `status` is FAILED."
    )
    credits_reserved: int = strawberry.field(
        description="The credits that are reserved for the caption and the outputs together."
    )
    credits_charged: int = strawberry.field(
        description="The credits that were charged for the caption and the images together."
    )
    completed_at: datetime | None = strawberry.field(
        description="When the last of the caption and the outputs ended. Null while one has not."
    )

    @strawberry.field(
        graphql_type=CaptionModel | None,
        description="The model that writes, or wrote, the caption.",
        metadata=hints("caption_model_id"),
    )
    @staticmethod
    def caption_model(
        post: strawberry.Parent[posts.Post], info: Info
    ) -> captions.CaptionModel | None:
        return info.context.services.caption_models.remembered(post.caption_model_id)

    @strawberry.field(
        description="The number of selected models: with `pendingModels`, how much is done.",
        metadata=hints("outputs"),
    )
    @staticmethod
    def total_models(post: strawberry.Parent[posts.Post]) -> int:
        return len(post.outputs)


PostConnection: TypeAlias = Connection[Post]


@strawberry.input(
    description="Options of a caption. One that is out of its limits is refused with "
    "CAPTION_OPTIONS_INVALID."
)
class CaptionOptions:
    language: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="A BCP 47 tag, e.g. `en` or `pt-BR`. If omitted: the language of the message.",
    )
    max_length: int | None = strawberry.field(
        default=_DEFAULTS.max_length,
        description="The maximum number of characters, hashtags included: 50 to 2,200.",
        metadata=hints(clamped=True),
    )
    hashtags: int | None = strawberry.field(
        default=_DEFAULTS.hashtags,
        description="The maximum number of hashtags at the end of the caption: 0 to 10.",
        metadata=hints(clamped=True),
    )
    tone: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="The tone in a few words, e.g. `warm`, `factual`, `playful`: at most 60 "
        "characters.",
    )

    def to_options(self) -> captions.CaptionOptions:
        length, hashtags = given(self.max_length), given(self.hashtags)
        return captions.CaptionOptions(
            language=given(self.language),
            max_length=_DEFAULTS.max_length if length is None else length,
            hashtags=_DEFAULTS.hashtags if hashtags is None else hashtags,
            tone=given(self.tone),
        )


@strawberry.input
class PostInput(TurnInput):
    """What every input that describes a post has in common."""

    user_message: str = strawberry.field(
        description="What the post is about, and how its images should look: 1 to 2,000 "
        "characters. It may mention references as @Image1, @Image2, …"
    )
    selected_models: list[strawberry.ID] | None = strawberry.field(
        default=strawberry.UNSET,
        description="The models that make images, 1 to 8, by id or alias. If omitted: the default "
        "model.",
    )
    manual_reference_ids: list[strawberry.ID] | None = strawberry.field(
        default=strawberry.UNSET,
        description="Images to use as references, in this order: at most 10. Any image of the "
        "viewer, also one that was made in a conversation. The caption is written about them too.",
    )
    aspect_ratio: models.AspectRatio | None = strawberry.field(
        default=strawberry.UNSET,
        description="If omitted: 1:1, adapted to each model. A ratio that a selected model does "
        "not support is refused.",
    )
    resolution: models.Resolution | None = strawberry.field(
        default=strawberry.UNSET,
        description="If omitted: ONE_K, adapted to each model. A resolution that a selected model "
        "does not support is refused.",
    )
    caption_model: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET,
        description="The model that writes the caption, by id or alias: one of `captionModels`. "
        "If omitted: the default one.",
    )
    caption_options: CaptionOptions | None = strawberry.field(
        default=strawberry.UNSET, description="If omitted, each option has its default."
    )

    def to_command(
        self, *, max_credits: int | None = None, idempotency_key: str | None = None
    ) -> posts.GeneratePost:
        options = given(self.caption_options)
        return posts.GeneratePost(
            images=self.to_request(),
            caption_model=given(self.caption_model),
            caption_options=options.to_options() if options else _DEFAULTS,
            max_credits=max_credits,
            idempotency_key=idempotency_key,
        )


@strawberry.input(description="The input of `planPost`: that of the `generatePost` to plan.")
class PlanPostInput(PostInput):
    pass


@strawberry.input(description="The input of `generatePost`.")
class GeneratePostInput(PostInput, PaidInput):
    def to_paid_command(self) -> posts.GeneratePost:
        return self.to_command(
            max_credits=given(self.max_credits), idempotency_key=given(self.idempotency_key)
        )


@strawberry.type
class PostPayload(Payload):
    post: Annotated[
        posts.Post | None,
        strawberry.field(
            graphql_type=Post | None, description="The post. Null if the mutation was refused."
        ),
    ] = None


@strawberry.type(description="The new post. Its caption is queued.")
class GeneratePostPayload(PostPayload):
    pass


@strawberry.input(description="The input of `regenerateCaption`.")
class RegenerateCaptionInput(PaidInput):
    post_id: strawberry.ID = strawberry.field(
        description="A post whose caption is not being written."
    )
    caption_model: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET,
        description="The model that writes the caption, by id or alias. If omitted: the same as "
        "before, or what replaces it if that costs no more.",
    )
    caption_options: CaptionOptions | None = strawberry.field(
        default=strawberry.UNSET, description="If omitted: the same options as before."
    )

    def to_command(self) -> posts.RegenerateCaption:
        options = given(self.caption_options)
        return posts.RegenerateCaption(
            post_id=self.post_id,
            caption_model=given(self.caption_model),
            caption_options=options.to_options() if options else None,
            max_credits=given(self.max_credits),
            idempotency_key=given(self.idempotency_key),
        )


@strawberry.type(description="The post. Its caption is queued.")
class RegenerateCaptionPayload(PostPayload):
    pass


@strawberry.input(description="The input of `cancelPost`.")
class CancelPostInput:
    post_id: strawberry.ID = strawberry.field(description="A post that has not ended.")


@strawberry.type(description="The cancelled post.")
class CancelPostPayload(PostPayload):
    pass


@strawberry.input(description="The input of `deletePost`.")
class DeletePostInput:
    post_id: strawberry.ID = strawberry.field(description="The id of the post.")


@strawberry.type(description="The result of `deletePost`.")
class DeletePostPayload(Payload):
    deleted_post_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="The id of the deleted post, to remove it from a cache. Null if the mutation "
        "was refused.",
    )
