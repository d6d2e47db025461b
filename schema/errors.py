"""Errors as clients see them: user errors in payloads, everything else with a code."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import strawberry
import structlog
from graphql import GraphQLError, GraphQLSyntaxError
from strawberry.extensions.field_extension import AsyncExtensionResolver, FieldExtension
from strawberry.schema.exceptions import CannotGetOperationTypeError
from strawberry.types.field import StrawberryField

from domain import errors
from domain.errors import ApiError, Refused
from schema.context import Info
from schema.enums import described_enum

log = structlog.get_logger(__name__)

described_enum(
    errors.UserErrorCode,
    "What is wrong with an input. Codes may be added: show `message` for one you do not know.",
    NOT_FOUND="There is no such object, or it is somebody else's.",
    PROMPT_EMPTY="The message says nothing.",
    PROMPT_TOO_LONG="The message is longer than 2,000 characters.",
    NO_MODELS="The list of models is empty, or no model is available for this.",
    TOO_MANY_MODELS="More than eight models were chosen.",
    UNKNOWN_MODEL="There is no model of this name.",
    DUPLICATE_MODEL="A model was chosen twice, perhaps under two names.",
    MODEL_UNAVAILABLE="The model cannot be used here.",
    MODEL_RETIRED="The model has been retired; the message names what takes its place.",
    MODEL_CANNOT_EDIT="The model makes images from words only, and there are references.",
    MODEL_NEEDS_REFERENCE="The model needs an image to work with.",
    TOO_MANY_REFERENCES="More than 10 manual references, or 100 earlier outputs, were given.",
    UNSUPPORTED_ASPECT_RATIO="A chosen model does not offer this ratio.",
    UNSUPPORTED_RESOLUTION="A chosen model does not offer this resolution.",
    UNSUPPORTED_QUALITY="A chosen model does not offer this quality.",
    UNSUPPORTED_SIZE="A chosen model does not take this width and height, only one of the two was "
    "given, or they came with a ratio or a resolution.",
    UNSUPPORTED_FORMAT="A chosen model does not offer this format.",
    UNSUPPORTED_SEED="A chosen model takes no seed.",
    UNSUPPORTED_NEGATIVE_PROMPT="A chosen model takes no negative prompt.",
    UNKNOWN_MENTION="The message mentions an image that does not go along, or more of them than a "
    "chosen model takes.",
    TOO_MANY_IMAGES="A chosen model does not make so many images at once.",
    REFERENCE_NOT_READY="A named output has no image, or none yet; or this is the id of an upload, "
    "not of the image that it becomes.",
    TURN_IN_PROGRESS="The turn before is at work and nothing has landed yet.",
    CONVERSATION_FULL="The conversation has as many turns as it can have.",
    TITLE_INVALID="The title is blank, or longer than 120 characters.",
    NOT_RETRYABLE="The output has not failed and was not cancelled.",
    NOT_CANCELLABLE="It is over already.",
    INSUFFICIENT_CREDITS="The viewer has fewer credits available than this costs.",
    MAX_CREDITS_EXCEEDED="This costs more than `maxCredits`.",
    TOO_MANY_ACTIVE_OUTPUTS="The viewer has as many outputs at work as there may be, or would have "
    "more; see `viewer.limits`.",
    IMAGE_IN_USE="A conversation began from the image, or one of its turns refers to it.",
    UPLOAD_TOO_LARGE="The file is empty, or larger than `viewer.limits.maxUploadBytes`.",
    UPLOAD_TYPE_UNSUPPORTED="The file is, or says to be, something other than a PNG, JPEG or WebP, "
    "or another of them than was declared.",
    UPLOAD_MISSING="Nothing has arrived, or something else than was declared.",
    UPLOAD_INVALID="What has arrived is not one whole picture of a size that is taken.",
    IDEMPOTENCY_KEY_REUSED="The key came with another input before.",
)


@strawberry.type(
    description="What the viewer can mend. Authentication, rate limits and faults of ours are "
    "top-level errors with `extensions.code`."
)
class UserError:
    source: ClassVar[type] = errors.UserError

    code: errors.UserErrorCode = strawberry.field(description="What is wrong.")
    message: str = strawberry.field(description="A sentence that may be shown to a person.")

    @strawberry.field(
        description='Where in the input, e.g. `["input", "selectedModels", "1"]`; positions in '
        "lists are strings."
    )
    @staticmethod
    def path(error: strawberry.Parent[errors.UserError]) -> list[str] | None:
        return list(error.path) or None


@strawberry.type
class Payload:
    """What every mutation answers with. All other fields are null or empty where it was refused."""

    user_errors: Annotated[
        Sequence[errors.UserError],
        strawberry.field(
            graphql_type=list[UserError], description="All that is wrong with the input, at once."
        ),
    ] = ()


class Refusable(FieldExtension):
    """Answer with the mutation's payload, `userErrors` filled in, where a service refuses."""

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


def present(
    found: Sequence[GraphQLError], *, executed: bool, request_id: str
) -> list[dict[str, object]]:
    """Errors for the wire. Faults of ours are logged, and shown as INTERNAL and nothing else."""
    return [_present(error, executed, request_id) for error in found]


def _present(error: GraphQLError, executed: bool, request_id: str) -> dict[str, object]:
    original = error.original_error
    if isinstance(original, ApiError):
        return {**error.formatted, "message": str(original), "extensions": original.extensions}
    if error.extensions and "code" in error.extensions:
        return dict(error.formatted)
    if isinstance(error, GraphQLSyntaxError):
        return _with_code(error, "GRAPHQL_PARSE_FAILED")
    if isinstance(original, CannotGetOperationTypeError):
        return _with_code(error, "OPERATION_RESOLUTION_FAILED")
    if error.path is None and isinstance(original, ValueError | GraphQLError | None):
        # Nothing of ours has run: the document is not valid, or a variable's value is not, which
        # then is the original of the error.
        invalid = original is None and not executed
        return _with_code(error, "GRAPHQL_VALIDATION_FAILED" if invalid else "BAD_USER_INPUT")

    log.error("internal error", path=error.path, exc_info=original or error)
    shown: dict[str, object] = {
        "message": "Something went wrong on our side.",
        "extensions": {"code": "INTERNAL", "requestId": request_id},
    }
    if error.path is not None:
        shown["path"] = error.path
    return shown


def _with_code(error: GraphQLError, code: str) -> dict[str, object]:
    return {**error.formatted, "extensions": {"code": code}}
