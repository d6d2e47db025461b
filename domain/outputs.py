"""An output: one model's part of its parent, such as a turn."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, TypeAlias

from domain.errors import GenerationErrorCode
from domain.ids import (
    ModelId,
    OutputId,
    ParentId,
    PostId,
    TurnId,
    as_post_id,
    as_turn_id,
    output_id_of,
)
from domain.images import Drift, Image
from domain.references import Reference


class OutputStatus(StrEnum):
    QUEUED = "QUEUED"
    GENERATING = "GENERATING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


CAPTION_SLOT: Final = 0
"""The slot of a post's caption. Outputs that deliver images have slots from 1."""
UNFINISHED: Final = frozenset({OutputStatus.QUEUED, OutputStatus.GENERATING})


@dataclass(frozen=True, slots=True)
class GenerationError:
    """Why a run ended without an image, in a form that clients may see."""

    code: GenerationErrorCode
    retryable: bool

    @property
    def message(self) -> str:
        return _MESSAGES[self.code]


@dataclass(frozen=True, slots=True)
class Preview:
    """A partial image; `index` counts from 0 within one attempt."""

    index: int
    key: str
    width: int
    height: int


MAX_COUNT: Final = 2**31 - 1
"""The largest count that clients can read, as a GraphQL Int."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Numbers of tokens, as far as the provider reports them."""

    input_tokens: int | None
    output_tokens: int | None
    total_tokens: int | None


def add_counts(counts: Iterable[int | None]) -> int | None:
    """The sum of the known numbers; None if none is known, or if it exceeds `MAX_COUNT`."""
    known = [count for count in counts if count is not None]
    return sum(known) if known and sum(known) <= MAX_COUNT else None


def total_usage(usages: Iterable[Usage | None]) -> Usage | None:
    """The sum over several runs; None if no provider reports any, or if it exceeds `MAX_COUNT`."""
    known = [usage for usage in usages if usage is not None]
    if not known:
        return None
    return Usage(
        input_tokens=add_counts(usage.input_tokens for usage in known),
        output_tokens=add_counts(usage.output_tokens for usage in known),
        total_tokens=add_counts(usage.total_tokens for usage in known),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What is known of delivered images beside the images themselves; None where
    nothing is known.
    """

    provider: str | None = None
    """The provider that made them."""
    quality: str | None = None
    """The quality in the provider's own word."""
    size: str | None = None
    """The size in the provider's own words, which may differ from the pixels."""
    text: str | None = None
    usage: Usage | None = None
    drift: Drift | None = None
    """How far the first image differs from its base; None where nothing was edited."""


ProviderJob: TypeAlias = Mapping[str, str]
"""What a provider needs to find its job again, such as ids and URLs. Only the provider reads it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One call of a provider within one attempt.

    If a model makes fewer images at a time than are requested, an attempt has several. A run is
    written before a submission that may be billed: `job` None means that it may have been sent, and
    that its answer is not known.
    """

    provider: str
    tries: int
    """How often the run was submitted; more than once only if all submissions but the last were
    certainly rejected. 0 if another run of the attempt has been submitted, and this one has not.
    """
    rejected: bool
    """Whether it is certain that the latest submission was not accepted."""
    job: ProviderJob | None
    landed: bool = False
    """Whether its images have been added to the output while other runs continue. It is not asked
    again.
    """

    @property
    def answer_is_awaited(self) -> bool:
        """Whether the provider may have accepted a submission whose answer is not known."""
        return not self.rejected and self.job is None and not self.landed

    @property
    def step(self) -> int:
        """How far the run has come. Each change adds one, so that a late write is recognised."""
        return 2 * self.tries + (self.rejected or self.job is not None) + self.landed


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One model's part of its parent, as it stands."""

    parent_id: ParentId
    slot: int
    model_id: ModelId
    requested_model_id: str
    status: OutputStatus
    attempt: int
    fence: int
    """Raised by each claim, so that a worker that has lost its lease can no longer write."""
    version: int
    """Raised by each write."""
    progress: float | None
    queue_position: int | None
    preview: Preview | None
    images: tuple[Image, ...]
    references: tuple[Reference, ...]
    provider: str | None = None
    """The provider that made the images. `quality` and `size` are what it reports, in its own
    words.
    """
    quality: str | None = None
    size: str | None = None
    text: str | None
    usage: Usage | None
    drift: Drift | None = None
    """How far the first image differs from its base, as the model has made it."""
    error: GenerationError | None
    waits: bool = False
    """Whether it cannot run before the caption of its post is written, or ended because
    it was not.
    """
    runs: tuple[Run, ...]
    """The runs of this attempt; none before a submission, or if a repetition costs nothing."""
    credits_reserved: int
    """Credits reserved for this attempt; 0 once it has ended."""
    credits_charged: int
    queued_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    chosen: bool = False
    """Whether the viewer has chosen it: at most one output of a turn."""

    @property
    def id(self) -> OutputId:
        return output_id_of(self.parent_id, self.slot)

    @property
    def turn_id(self) -> TurnId | None:
        return as_turn_id(self.parent_id)

    @property
    def post_id(self) -> PostId | None:
        return as_post_id(self.parent_id)

    @property
    def is_caption(self) -> bool:
        """Whether it delivers the caption of a post instead of images."""
        return self.slot == CAPTION_SLOT

    @property
    def unfinished(self) -> bool:
        return self.status in UNFINISHED

    @property
    def image(self) -> Image | None:
        """The image that this output gives as a reference: its first one."""
        return self.images[0] if self.images else None


_MESSAGES: Final = {
    GenerationErrorCode.CONTENT_REFUSED: "The request violates the model's content policy.",
    GenerationErrorCode.PROVIDER_REJECTED_INPUT: "The model rejected this request.",
    GenerationErrorCode.PROVIDER_UNAVAILABLE: "The provider is not available at the moment.",
    GenerationErrorCode.PROVIDER_RATE_LIMITED: "The provider is too busy at the moment.",
    GenerationErrorCode.PROVIDER_AUTHENTICATION: "This model is not configured correctly.",
    GenerationErrorCode.PROVIDER_BAD_RESPONSE: "The provider sent something that is not an image.",
    GenerationErrorCode.NO_IMAGE: "The model answered without an image.",
    GenerationErrorCode.MODEL_RETIRED: "This model is no longer offered.",
    GenerationErrorCode.OUTCOME_UNKNOWN: "The connection was lost; the model may have run.",
    GenerationErrorCode.TIMED_OUT: "The model took too long.",
    GenerationErrorCode.STORAGE_UNAVAILABLE: "The image could not be stored.",
    GenerationErrorCode.PREVIOUS_TURN_FAILED: "The previous turn did not make the needed image.",
    GenerationErrorCode.INSUFFICIENT_CREDITS: "There were not enough credits to begin.",
    GenerationErrorCode.MAX_CREDITS_EXCEEDED: "It would have cost more than `maxCredits` allows.",
    GenerationErrorCode.MASK_INVALID: "The mask does not have the shape of the image to edit.",
    GenerationErrorCode.UNKNOWN_MENTION: "The message mentions images that a model cannot take.",
    GenerationErrorCode.MODEL_CANNOT_EDIT: "A selected model cannot edit these images like this.",
    GenerationErrorCode.EXPORT_INVALID: "The file is not an export that can be read here.",
    GenerationErrorCode.INTERNAL: "Something went wrong on our side.",
}
