"""Every way in which Darkroom says no.

    DarkroomError
    ├── Refused(user_errors)             the viewer can mend it       → payload.userErrors
    ├── ApiError(code)                   who, how often, not what     → errors[].extensions.code
    │   ├── Unauthenticated              UNAUTHENTICATED
    │   ├── BadUserInput                 BAD_USER_INPUT
    │   ├── QueryTooComplex              QUERY_TOO_COMPLEX
    │   ├── NotFound                     NOT_FOUND                    where null cannot say it
    │   ├── InvalidCursor                INVALID_CURSOR               subscriptions only
    │   └── TryLater(retry_after)
    │       ├── Overloaded               OVERLOADED                   away, or no place is free
    │       └── RateLimited              RATE_LIMITED                 too much of one viewer
    ├── PictureRefused(code)             a client brought no picture  → payload.userErrors
    ├── GenerationFailed(code)           a run went wrong             → stored, read as Output.error
    │   └── NotSubmitted                 the provider took no job: asked again within the deadline
    └── StoreUnavailable                 the object store is away → STORAGE_UNAVAILABLE
        ├── ObjectMissing                it is there, and has no such object
        └── ObjectTooLarge               it has more bytes than whoever reads it takes

Anything else is our own fault: it is logged once and shown as INTERNAL.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class DarkroomError(Exception):
    """The root of the tree above."""


class UserErrorCode(StrEnum):
    NOT_FOUND = "NOT_FOUND"
    PROMPT_EMPTY = "PROMPT_EMPTY"
    PROMPT_TOO_LONG = "PROMPT_TOO_LONG"
    NO_MODELS = "NO_MODELS"
    TOO_MANY_MODELS = "TOO_MANY_MODELS"
    UNKNOWN_MODEL = "UNKNOWN_MODEL"
    DUPLICATE_MODEL = "DUPLICATE_MODEL"
    MODEL_UNAVAILABLE = "MODEL_UNAVAILABLE"
    MODEL_RETIRED = "MODEL_RETIRED"
    MODEL_CANNOT_EDIT = "MODEL_CANNOT_EDIT"
    MODEL_NEEDS_REFERENCE = "MODEL_NEEDS_REFERENCE"
    TOO_MANY_REFERENCES = "TOO_MANY_REFERENCES"
    UNSUPPORTED_ASPECT_RATIO = "UNSUPPORTED_ASPECT_RATIO"
    UNSUPPORTED_RESOLUTION = "UNSUPPORTED_RESOLUTION"
    UNSUPPORTED_QUALITY = "UNSUPPORTED_QUALITY"
    UNSUPPORTED_SIZE = "UNSUPPORTED_SIZE"
    UNSUPPORTED_FORMAT = "UNSUPPORTED_FORMAT"
    UNSUPPORTED_SEED = "UNSUPPORTED_SEED"
    UNSUPPORTED_NEGATIVE_PROMPT = "UNSUPPORTED_NEGATIVE_PROMPT"
    TOO_MANY_IMAGES = "TOO_MANY_IMAGES"
    UNKNOWN_MENTION = "UNKNOWN_MENTION"
    REFERENCE_NOT_READY = "REFERENCE_NOT_READY"
    TURN_IN_PROGRESS = "TURN_IN_PROGRESS"
    CONVERSATION_FULL = "CONVERSATION_FULL"
    TITLE_INVALID = "TITLE_INVALID"
    NOT_RETRYABLE = "NOT_RETRYABLE"
    NOT_CANCELLABLE = "NOT_CANCELLABLE"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    INSUFFICIENT_CREDITS = "INSUFFICIENT_CREDITS"
    MAX_CREDITS_EXCEEDED = "MAX_CREDITS_EXCEEDED"
    TOO_MANY_ACTIVE_OUTPUTS = "TOO_MANY_ACTIVE_OUTPUTS"
    IMAGE_IN_USE = "IMAGE_IN_USE"
    UPLOAD_TOO_LARGE = "UPLOAD_TOO_LARGE"
    UPLOAD_TYPE_UNSUPPORTED = "UPLOAD_TYPE_UNSUPPORTED"
    UPLOAD_MISSING = "UPLOAD_MISSING"
    UPLOAD_INVALID = "UPLOAD_INVALID"


@dataclass(frozen=True, slots=True)
class UserError:
    """One thing that the viewer can mend, and where in the input it stands."""

    code: UserErrorCode
    message: str
    path: tuple[str, ...] = ()


class Refused(DarkroomError):
    """A command was refused. All that is wrong with it is told at once, and nothing was written."""

    def __init__(self, user_errors: Sequence[UserError]) -> None:
        super().__init__(", ".join(error.code for error in user_errors))
        self.user_errors = tuple(user_errors)


class ApiError(DarkroomError):
    """An error of a request as a whole: `extensions` travel to the client as they are."""

    code: str
    message: str

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.message)

    @property
    def extensions(self) -> dict[str, object]:
        return {"code": self.code}


class Unauthenticated(ApiError):
    code = "UNAUTHENTICATED"
    message = "A valid bearer token is needed."


class BadUserInput(ApiError):
    code = "BAD_USER_INPUT"
    message = "The input is not valid."


class QueryTooComplex(ApiError):
    code = "QUERY_TOO_COMPLEX"
    message = "The query asks for too much at once."

    def __init__(self, limit: str, *, maximum: int, actual: int) -> None:
        super().__init__(f"`{limit}` may be 1 to {maximum}; this is {actual}.")
        self.limit, self.maximum, self.actual = limit, maximum, actual

    @property
    def extensions(self) -> dict[str, object]:
        return {
            "code": self.code,
            "limit": self.limit,
            "max": self.maximum,
            "actual": self.actual,
        }


class NotFound(ApiError):
    code = "NOT_FOUND"
    message = "There is no such object."


class InvalidCursor(ApiError):
    code = "INVALID_CURSOR"
    message = "The cursor is not one of this conversation's."


class TryLater(ApiError):
    """The same request may well be answered a little later."""

    def __init__(self, message: str | None = None, *, retry_after_seconds: int = 2) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds

    @property
    def extensions(self) -> dict[str, object]:
        return {"code": self.code, "retryAfterSeconds": self.retry_after_seconds}


class Overloaded(TryLater):
    code = "OVERLOADED"
    message = "Darkroom cannot answer at the moment. Please try again."


class RateLimited(TryLater):
    code = "RATE_LIMITED"
    message = "That is too much at once. Please wait a little."


class PictureRefused(DarkroomError):
    """Bytes that a client brought are not a picture that is taken. The message may be shown."""

    def __init__(self, code: UserErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class GenerationErrorCode(StrEnum):
    CONTENT_REFUSED = "CONTENT_REFUSED"
    PROVIDER_REJECTED_INPUT = "PROVIDER_REJECTED_INPUT"
    PROVIDER_UNAVAILABLE = "PROVIDER_UNAVAILABLE"
    PROVIDER_RATE_LIMITED = "PROVIDER_RATE_LIMITED"
    PROVIDER_AUTHENTICATION = "PROVIDER_AUTHENTICATION"
    PROVIDER_BAD_RESPONSE = "PROVIDER_BAD_RESPONSE"
    NO_IMAGE = "NO_IMAGE"
    MODEL_RETIRED = "MODEL_RETIRED"
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    TIMED_OUT = "TIMED_OUT"
    STORAGE_UNAVAILABLE = "STORAGE_UNAVAILABLE"
    INTERNAL = "INTERNAL"


class GenerationFailed(DarkroomError):
    """A model's run ended without an image. It is data of the output, not an error of a request.

    `detail` is for the log and for operators only: it may hold a provider's own words.
    """

    def __init__(self, code: GenerationErrorCode, *, retryable: bool, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.retryable = retryable
        self.detail = detail


class NotSubmitted(GenerationFailed):
    """The provider has taken no job, and that is certain: asking again costs nothing twice.

    `code` is what the output ends with if it never takes one. `retry_after_seconds` is the
    provider's own wish, where it has said one.
    """

    def __init__(
        self,
        code: GenerationErrorCode,
        *,
        retry_after_seconds: float | None = None,
        detail: str = "",
    ) -> None:
        super().__init__(code, retryable=True, detail=detail)
        self.retry_after_seconds = retry_after_seconds


class StoreUnavailable(DarkroomError):
    """The object store did not take or give bytes."""


class ObjectMissing(StoreUnavailable):
    """The store is there, the object is not."""


class ObjectTooLarge(StoreUnavailable):
    """The object has more bytes than it may have. Nothing of it is given."""
