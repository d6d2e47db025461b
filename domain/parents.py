"""Parents of outputs, such as turns.

What runs outputs uses only this part of a parent, so that there may be other kinds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from domain.ids import ModelId, ParentId, ViewerId
from domain.images import Image, ImageOrigin
from domain.models import AspectRatio, ImageFormat, Quality, Resolution
from domain.outputs import Output
from domain.references import Reference

MAX_PROMPT_LENGTH: Final = 2_000


class PromptContext(StrEnum):
    MESSAGE = "MESSAGE"
    CONVERSATION = "CONVERSATION"


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnOptions:
    """Options beside the message; None where an option was not given."""

    images_per_model: int = 1
    previews: int = 2
    quality: Quality | None = None
    format: ImageFormat | None = None
    width: int | None = None
    height: int | None = None
    seed: str | None = None
    negative_prompt: str | None = None
    earlier_messages: bool | None = None
    """Whether models that support it also receive the conversation's earlier messages."""
    mask: Image | None = None
    """The part of the base that may change: white areas may; black and transparent areas may not.
    It has the base's aspect ratio, in any size.
    """
    feather: int | None = None
    """The width of the mask's soft edge, outwards, in pixels of the base; None without a mask."""
    keep_outside: bool | None = None
    """Whether the original is put back outside of the mask even if the model received the mask;
    None without one.
    """

    def with_seed(self, seed: str | None) -> "TurnOptions":
        return replace(self, seed=seed)

    @property
    def context(self) -> PromptContext:
        return PromptContext.CONVERSATION if self.earlier_messages else PromptContext.MESSAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """A message, its references, and one output per model."""

    id: ParentId
    owner_id: ViewerId
    user_message: str
    selected_model_ids: tuple[ModelId, ...]
    references: tuple[Reference, ...]
    previous_were_named: bool
    """Whether the viewer chose which earlier outputs are references; otherwise all were included
    automatically.
    """
    aspect_ratio: AspectRatio
    resolution: Resolution
    options: TurnOptions
    outputs: tuple[Output, ...]
    version: int
    """Raised by every write."""
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None

    @property
    def prompt(self) -> str:
        """The prompt from which models make images."""
        return self.user_message

    @property
    def entries(self) -> Sequence[Output]:
        """Everything that is run for it: its outputs, and a caption."""
        return self.outputs

    @property
    def image_origin(self) -> ImageOrigin:
        """The origin of the images that its outputs deliver."""
        return ImageOrigin.OUTPUT

    @property
    def in_progress(self) -> bool:
        return any(entry.unfinished for entry in self.entries)

    @property
    def images(self) -> tuple[Image, ...]:
        """The images that it gives as references: the first image of each output that has any."""
        return tuple(output.image for output in self.outputs if output.image is not None)

    def output(self, slot: int) -> Output | None:
        return next((entry for entry in self.entries if entry.slot == slot), None)
