"""One run of one model: what a provider is asked for, and what it delivers."""

from dataclasses import dataclass

from domain.images import Image
from domain.models import AspectRatio, ImageFormat, ImageModel, Quality, Resolution
from domain.outputs import ProviderJob, Report


@dataclass(frozen=True, slots=True)
class Mask:
    """The part of the first reference that may change: where the mask is white."""

    image: Image
    """The mask has the reference's aspect ratio, in any size."""
    feather: int
    """The width of the mask's soft edge, outwards, in pixels of the reference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """Everything that a provider needs to know. Options that the model does not support were
    refused before.
    """

    attempt: int
    """The output's attempt, from 1. A run that is started again has the same number."""
    model: ImageModel
    prompt: str
    earlier_messages: tuple[str, ...] = ()
    """The conversation's earlier messages, oldest first, for a model that supports them."""
    references: tuple[Image, ...]
    """The references that this model receives, in order; empty where it makes an image from a
    message alone.
    """
    mask: Mask | None = None
    """Only for models that support masks."""
    aspect_ratio: AspectRatio
    """One of the model's aspect ratios."""
    resolution: Resolution
    """One of the model's resolutions."""
    size: tuple[int, int] | None = None
    """Width and height in pixels instead of ratio and resolution, for models with a custom size."""
    image_count: int = 1
    preview_count: int = 0
    quality: Quality | None = None
    format: ImageFormat | None = None
    seed: str | None = None
    negative_prompt: str | None = None
    seconds_left: float
    """The time until the output's deadline, at which it times out."""
    run: int = 0
    """The index of this run in its attempt, where the model makes fewer images at a time."""
    job: ProviderJob | None = None
    """A job that the provider has accepted for this run: it is polled, never submitted again."""


@dataclass(frozen=True, slots=True)
class DeliveredImage:
    """An encoded image as the provider delivered it, and the seed that reproduces it."""

    data: bytes
    seed: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery(Report):
    """What a successful run delivers: at least one image, and what is known of them.

    The runner adds the provider, since it knows which one it has asked.
    """

    images: tuple[DeliveredImage, ...]
    heeds_mask: bool = False
    """Whether the model received the mask of the edit. The runner adds it, too."""


class SilentObserver:
    """A `domain.ports.providers.RunObserver` that ignores all reports."""

    async def submitting(self) -> None:
        pass

    async def submitted(self, job: ProviderJob) -> None:
        pass

    async def queued(self, position: int) -> None:
        pass

    async def progress(self, fraction: float) -> None:
        pass

    async def preview(self, data: bytes) -> None:
        pass
