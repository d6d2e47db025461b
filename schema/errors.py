"""User errors, in the payloads of mutations. All other errors are presented by `edge.errors`."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import strawberry
from strawberry.extensions.field_extension import AsyncExtensionResolver, FieldExtension
from strawberry.types.field import StrawberryField

from domain import errors
from domain.errors import Refused
from schema.context import Info
from schema.enums import described_enum

described_enum(
    errors.UserErrorCode,
    "What is wrong with an input. Codes may be added: for a code you do not know, show `message`.",
    NOT_FOUND="The object does not exist, or belongs to another viewer.",
    PROMPT_EMPTY="The message is empty.",
    PROMPT_TOO_LONG="The message is longer than 2,000 characters.",
    NO_MODELS="The list of models is empty, or no model is available.",
    TOO_MANY_MODELS="More than eight models were selected.",
    UNKNOWN_MODEL="There is no model with this id or alias.",
    DUPLICATE_MODEL="A model was selected twice, possibly by its id and an alias.",
    MODEL_UNAVAILABLE="The model is not available here; `ImageModel.unavailableReason` says why. "
    "Or an inherited model is not available any more, and only one that costs more could take its "
    "place: the message names it.",
    MODEL_RETIRED="The model has been retired. The message names its replacement, if there is one.",
    MODEL_CANNOT_EDIT="The model makes images from text only, and the turn has references.",
    MODEL_NEEDS_REFERENCE="The model needs at least one reference.",
    TOO_MANY_REFERENCES="There are more than 10 manual references, or more than 100 previous "
    "outputs.",
    UNSUPPORTED_ASPECT_RATIO="A selected model does not support this aspect ratio.",
    UNSUPPORTED_RESOLUTION="A selected model does not support this resolution.",
    UNSUPPORTED_QUALITY="A selected model does not support this quality.",
    UNSUPPORTED_SIZE="A selected model does not support this width and height, only one of the "
    "two was given, or they were combined with an aspect ratio or a resolution.",
    UNSUPPORTED_FORMAT="A selected model does not support this file format.",
    UNSUPPORTED_SEED="A selected model does not support seeds.",
    UNSUPPORTED_NEGATIVE_PROMPT="A selected model does not support negative prompts.",
    UNSUPPORTED_MASK="There is no image to edit, so a mask cannot be used.",
    MASK_INVALID="The mask has another aspect ratio than an image that would be edited, or its "
    "feather is not from 0 to 500.",
    UNKNOWN_MENTION="The message mentions an image that is not a reference of the turn, or more "
    "references than a selected model accepts.",
    TOO_MANY_IMAGES="A selected model cannot make this many images at once, or an album would have "
    "more than 10,000.",
    REFERENCE_NOT_READY="A previous output has no image, or not yet; or the id is that of "
    "an upload instead of its image.",
    TURN_IN_PROGRESS="The turn to continue from is still running and none of its outputs has an "
    "image yet.",
    TURN_IN_USE="Something builds on the turn: it uses an image of the turn, or waits for "
    "it. There is an error for each, at most ten, and its `message` names it with its id.",
    CONVERSATION_FULL="The conversation has reached the maximum number of turns, or has too many "
    "to be forked.",
    TITLE_INVALID="The title is blank, or longer than 120 characters.",
    NOT_RETRYABLE="The output has neither failed nor been cancelled, its post has no caption, or "
    "the caption is being written.",
    NOT_CANCELLABLE="The output, turn or post has already ended.",
    INSUFFICIENT_CREDITS="The viewer has fewer credits available than this costs.",
    DAILY_LIMIT_REACHED="This costs more than the operator lets the viewer spend today; see "
    "`viewer.credits.dailyLimit`.",
    MAX_CREDITS_EXCEEDED="This costs more than `maxCredits`.",
    TOO_MANY_ACTIVE_OUTPUTS="The viewer would have more running outputs than allowed; see "
    "`viewer.limits`.",
    IMAGE_IN_USE="The image is the source image of a conversation, or a reference of a turn or "
    "a post.",
    UPLOAD_TOO_LARGE="The file is empty, or larger than `viewer.limits.maxUploadBytes`.",
    UPLOAD_TYPE_UNSUPPORTED="The file is not a PNG, JPEG, WebP or HEIC, or another type was "
    "declared, or it is HEIC and this server cannot read that.",
    UPLOAD_MISSING="No file has arrived, or one that differs from what was declared.",
    UPLOAD_INVALID="The file is not a complete image of a supported size.",
    WEBHOOK_INVALID="The URL of the webhook cannot be used, it names no event, or the viewer has "
    "as many webhooks as allowed.",
    EXPIRY_INVALID="The expiry time is not in the future.",
    EXPORT_INVALID="The file is not a ZIP of `exportConversation` or `exportViewer`, or it was "
    "changed.",
    NOT_RESTORABLE="The conversation was not deleted, or too long ago, or an image that it refers "
    "to has been deleted since.",
    TOO_MANY_SHARES="The conversation has 20 shares, or the viewer has 100. Those that have ended "
    "or were revoked do not count.",
    CAPTION_OPTIONS_INVALID="An option of the caption is outside of its limits, or the model "
    "does not write this language.",
    IDEMPOTENCY_KEY_REUSED="The idempotency key has been used with a different input.",
)


@strawberry.type(
    description="An error that the viewer can correct. Missing authentication, rate limits "
    "and internal errors are in the top-level `errors` instead, with "
    "`extensions.code`."
)
class UserError:
    source: ClassVar[type] = errors.UserError

    code: errors.UserErrorCode = strawberry.field(description="What is wrong.")
    message: str = strawberry.field(description="An explanation that may be shown to the person.")

    @strawberry.field(
        description='The path to the invalid field of the input, e.g. `["input", '
        '"selectedModels", "1"]`. List indexes are strings. Null if no single field '
        "is to blame."
    )
    @staticmethod
    def path(error: strawberry.Parent[errors.UserError]) -> list[str] | None:
        return list(error.path) or None


@strawberry.type
class Payload:
    """What every mutation returns. All other fields are null or empty if it was refused."""

    user_errors: Annotated[
        Sequence[errors.UserError],
        strawberry.field(
            graphql_type=list[UserError],
            description="Everything that is wrong with the input. If it is not empty, the mutation "
            "was refused and nothing was changed.",
        ),
    ] = ()


class Refusable(FieldExtension):
    """Returns the mutation's payload with `userErrors` if a service refuses the command."""

    async def resolve_async(
        self, next_: AsyncExtensionResolver, source: object, info: Info, **kwargs: Any
    ) -> Any:
        try:
            return await next_(source, info, **kwargs)
        except Refused as refused:
            return self._payload(user_errors=refused.user_errors)

    def apply(self, field: StrawberryField) -> None:
        payload: Any = field.type
        assert issubclass(payload, Payload)
        self._payload = payload
