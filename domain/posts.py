"""A post: a message, a caption that is written about it, and then one output per model.

The caption is an output like any other, in slot 0: it is claimed, charged, cancelled and retried by
the same rules. Images wait for the first caption, which is part of their prompt; once there has
been one, no image waits.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from domain.captions import CaptionOptions, PlannedCaption, add_caption
from domain.errors import GenerationErrorCode
from domain.ids import ModelId, PostId
from domain.images import Image, ImageOrigin
from domain.outputs import UNFINISHED, GenerationError, Output, OutputStatus
from domain.parents import MAX_PROMPT_LENGTH, Parent
from domain.turns import TurnPlan, TurnRequest


class PostStatus(StrEnum):
    GENERATING_CAPTION = "GENERATING_CAPTION"
    GENERATING_IMAGES = "GENERATING_IMAGES"
    GENERATED = "GENERATED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratePost:
    """Ask for a post. `caption_model` None: the default."""

    images: TurnRequest
    caption_options: CaptionOptions
    caption_model: str | None = None
    max_credits: int | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RegenerateCaption:
    """Ask for a post's caption again. None: as before."""

    post_id: str
    caption_model: str | None = None
    caption_options: CaptionOptions | None = None
    max_credits: int | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PostPlan:
    """A post as it would be written."""

    images: TurnPlan
    caption: PlannedCaption


@dataclass(frozen=True, slots=True, kw_only=True)
class Post(Parent):
    """A post as it stands. `outputs` are those that deliver images."""

    id: PostId
    caption_output: Output
    """The output that delivers the caption: its status, model, error, credits and usage."""
    caption_options: CaptionOptions
    reference_prompts: tuple[str, ...]
    """The prompts of the references, as far as they are known."""
    landed_caption: str | None
    """The last complete caption; None until there is one."""

    @property
    def caption(self) -> str:
        """As much of the caption as has been written. If it cannot be written again, the last
        complete one stays.
        """
        output = self.caption_output
        has_failed = output.status in {OutputStatus.FAILED, OutputStatus.CANCELLED}
        if has_failed and self.landed_caption is not None:
            return self.landed_caption
        return output.text or self.landed_caption or ""

    @property
    def lacks_caption(self) -> bool:
        """Whether there is no caption, and none is being written."""
        return self.landed_caption is None and not self.caption_output.unfinished

    @property
    def uncaptioned(self) -> tuple[Output, ...]:
        """Outputs that were cancelled because there was no caption. They run once there is one."""
        return tuple(output for output in self.outputs if output.waits and not output.unfinished)

    @property
    def caption_error(self) -> GenerationError | None:
        return self.caption_output.error

    @property
    def caption_model_id(self) -> ModelId:
        return self.caption_output.model_id

    @property
    def status(self) -> PostStatus:
        return derive_post_status(
            self.caption_output.status, [output.status for output in self.outputs]
        )

    @property
    def error(self) -> GenerationError | None:
        """Why the post failed: without a caption, or without any image."""
        if self.status is not PostStatus.FAILED:
            return None
        errors = (self.caption_error, *(output.error for output in self.outputs))
        return next((error for error in errors if error is not None), _NO_IMAGE)

    @property
    def image(self) -> Image | None:
        """The first image that landed."""
        return min(self.images, key=lambda image: (image.created_at, image.id), default=None)

    @property
    def credits_reserved(self) -> int:
        return sum(entry.credits_reserved for entry in self.entries)

    @property
    def credits_charged(self) -> int:
        return sum(entry.credits_charged for entry in self.entries)

    @property
    def entries(self) -> tuple[Output, ...]:
        return (self.caption_output, *self.outputs)

    @property
    def image_origin(self) -> ImageOrigin:
        return ImageOrigin.POST

    @property
    def prompt(self) -> str:
        return add_caption(
            self.user_message, self.landed_caption or "", max_length=MAX_PROMPT_LENGTH
        )


def derive_post_status(caption: OutputStatus, outputs: Collection[OutputStatus]) -> PostStatus:
    """A post's status, which follows from those of its caption and of its outputs."""
    if caption in UNFINISHED:
        return PostStatus.GENERATING_CAPTION
    if UNFINISHED & set(outputs):
        return PostStatus.GENERATING_IMAGES
    if OutputStatus.COMPLETED in outputs:
        return PostStatus.GENERATED
    if caption is OutputStatus.FAILED:
        return PostStatus.FAILED  # Its outputs were cancelled because there is no caption.
    is_cancelled = OutputStatus.CANCELLED in {caption, *outputs}
    return PostStatus.CANCELLED if is_cancelled else PostStatus.FAILED


def as_post(parent: Parent) -> Post | None:
    """The parent, where it is a post."""
    return parent if isinstance(parent, Post) else None


_NO_IMAGE = GenerationError(GenerationErrorCode.NO_IMAGE, retryable=True)
