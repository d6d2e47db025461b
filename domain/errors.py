"""All errors of Darkroom.

    DarkroomError
    ├── Refused(user_errors)             the viewer can correct it    → payload.userErrors
    ├── ApiError(code)                   an error of the request      → errors[].extensions.code
    │   ├── Unauthenticated              UNAUTHENTICATED
    │   ├── Forbidden                    FORBIDDEN                    the viewer is blocked
    │   ├── BadUserInput                 BAD_USER_INPUT
    │   ├── QueryTooComplex              QUERY_TOO_COMPLEX
    │   ├── NotFound                     NOT_FOUND                    where null is not possible
    │   ├── InvalidCursor                INVALID_CURSOR               subscriptions only
    │   └── TryLater(retry_after)
    │       ├── Overloaded               OVERLOADED                   dependency away or at capacity
    │       │   └── NotBegun             OVERLOADED                   before anything was sent
    │       └── RateLimited              RATE_LIMITED                 one viewer asks for too much
    ├── PictureRefused(code)             an uploaded file is refused  → payload.userErrors
    ├── GenerationFailed(code)           a run failed                 → stored, read as Output.error
    │   └── NotSubmitted                 no job was accepted: retried within the deadline
    └── StoreUnavailable                 the object store is away     → STORAGE_UNAVAILABLE
        ├── ObjectMissing                it answers, but has no such object
        └── ObjectTooLarge               the object is larger than the reader allows

Anything else is a bug: it is logged once and shown as INTERNAL.
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
    UNSUPPORTED_MASK = "UNSUPPORTED_MASK"
    MASK_INVALID = "MASK_INVALID"
    TOO_MANY_IMAGES = "TOO_MANY_IMAGES"
    UNKNOWN_MENTION = "UNKNOWN_MENTION"
    REFERENCE_NOT_READY = "REFERENCE_NOT_READY"
    TURN_IN_PROGRESS = "TURN_IN_PROGRESS"
    TURN_IN_USE = "TURN_IN_USE"
    CONVERSATION_FULL = "CONVERSATION_FULL"
    TITLE_INVALID = "TITLE_INVALID"
    NOT_RETRYABLE = "NOT_RETRYABLE"
    NOT_CANCELLABLE = "NOT_CANCELLABLE"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    INSUFFICIENT_CREDITS = "INSUFFICIENT_CREDITS"
    MAX_CREDITS_EXCEEDED = "MAX_CREDITS_EXCEEDED"
    DAILY_LIMIT_REACHED = "DAILY_LIMIT_REACHED"
    TOO_MANY_ACTIVE_OUTPUTS = "TOO_MANY_ACTIVE_OUTPUTS"
    IMAGE_IN_USE = "IMAGE_IN_USE"
    UPLOAD_TOO_LARGE = "UPLOAD_TOO_LARGE"
    UPLOAD_TYPE_UNSUPPORTED = "UPLOAD_TYPE_UNSUPPORTED"
    UPLOAD_MISSING = "UPLOAD_MISSING"
    UPLOAD_INVALID = "UPLOAD_INVALID"
    WEBHOOK_INVALID = "WEBHOOK_INVALID"
    EXPIRY_INVALID = "EXPIRY_INVALID"
    EXPORT_INVALID = "EXPORT_INVALID"
    NOT_RESTORABLE = "NOT_RESTORABLE"
    TOO_MANY_SHARES = "TOO_MANY_SHARES"
    CAPTION_OPTIONS_INVALID = "CAPTION_OPTIONS_INVALID"


@dataclass(frozen=True, slots=True)
class UserError:
    """One thing that the viewer can correct, and the input field that causes it."""

    code: UserErrorCode
    message: str
    path: tuple[str, ...] = ()


class Refused(DarkroomError):
    """A command was refused. It carries all user errors at once; nothing was written."""

    def __init__(self, user_errors: Sequence[UserError]) -> None:
        super().__init__(", ".join(error.code for error in user_errors))
        self.user_errors = tuple(user_errors)


class ApiError(DarkroomError):
    """An error of the whole request. Clients receive `extensions` unchanged."""

    code: str
    message: str

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.message)

    @property
    def extensions(self) -> dict[str, object]:
        return {"code": self.code}


class Unauthenticated(ApiError):
    code = "UNAUTHENTICATED"
    message = "A valid bearer token is required."


class Forbidden(ApiError):
    code = "FORBIDDEN"
    message = "This viewer is blocked."


class BadUserInput(ApiError):
    code = "BAD_USER_INPUT"
    message = "The input is not valid."


class QueryTooComplex(ApiError):
    code = "QUERY_TOO_COMPLEX"
    message = "The operation is too complex."

    def __init__(self, limit: str, *, maximum: int, actual: int) -> None:
        super().__init__(f"`{limit}` must be between 1 and {maximum}; it is {actual}.")
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
    message = "The cursor is not valid for this conversation."


class TryLater(ApiError):
    """The same request may succeed later."""

    def __init__(self, message: str | None = None, *, retry_after_seconds: int = 2) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds

    @property
    def extensions(self) -> dict[str, object]:
        return {"code": self.code, "retryAfterSeconds": self.retry_after_seconds}


class Overloaded(TryLater):
    code = "OVERLOADED"
    message = "Darkroom is temporarily unavailable. Please try again."


class NotBegun(Overloaded):
    """There was no capacity in time: nothing has been sent, so nothing can have been written."""


class ViewerBeingDeleted(Overloaded):
    message = "This viewer is being deleted. Please try again."


class RateLimited(TryLater):
    code = "RATE_LIMITED"
    message = "Too many requests. Please try again later."


class PictureRefused(DarkroomError):
    """An uploaded file is not an acceptable image. The message may be shown to the viewer."""

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
    PREVIOUS_TURN_FAILED = "PREVIOUS_TURN_FAILED"
    INSUFFICIENT_CREDITS = "INSUFFICIENT_CREDITS"
    MAX_CREDITS_EXCEEDED = "MAX_CREDITS_EXCEEDED"
    MASK_INVALID = "MASK_INVALID"
    UNKNOWN_MENTION = "UNKNOWN_MENTION"
    MODEL_CANNOT_EDIT = "MODEL_CANNOT_EDIT"
    EXPORT_INVALID = "EXPORT_INVALID"
    INTERNAL = "INTERNAL"


class GenerationFailed(DarkroomError):
    """A run ended without an image. It becomes the output's `error`, not an error of a request.

    `detail` is for the log and for operators only: it may contain the provider's own message.
    `nothing_taken` is True only where it is certain that the provider has accepted no job, so that
    another provider may be asked.
    """

    def __init__(
        self,
        code: GenerationErrorCode,
        *,
        retryable: bool,
        detail: str = "",
        nothing_taken: bool = False,
    ) -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.nothing_taken = nothing_taken
        self.code = code
        self.retryable = retryable
        self.detail = detail


class NotSubmitted(GenerationFailed):
    """The provider has certainly accepted no job, so a retry cannot be billed twice.

    The output ends with `code` if no retry succeeds. `retry_after_seconds` is the provider's own
    retry hint, if it sent one.
    """

    def __init__(
        self,
        code: GenerationErrorCode,
        *,
        retry_after_seconds: float | None = None,
        detail: str = "",
    ) -> None:
        super().__init__(code, retryable=True, detail=detail, nothing_taken=True)
        self.retry_after_seconds = retry_after_seconds


class StoreUnavailable(DarkroomError):
    """The object store could not be read or written."""


class ObjectMissing(StoreUnavailable):
    """The store answers, but the object does not exist."""


class ObjectTooLarge(StoreUnavailable):
    """The object is larger than allowed. None of it is returned."""
