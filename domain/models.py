"""The image models that viewers select, and the registry of all of them."""

import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self

from domain.errors import BadUserInput
from domain.ids import ModelId
from domain.registry import RegisteredModel, Registry
from domain.text_search import MAX_SEARCH_LENGTH


class Scene(StrEnum):
    TEXT_TO_IMAGE = "TEXT_TO_IMAGE"
    IMAGE_TO_IMAGE = "IMAGE_TO_IMAGE"


class Resolution(StrEnum):
    ONE_K = "ONE_K"
    TWO_K = "TWO_K"
    FOUR_K = "FOUR_K"


class Quality(StrEnum):
    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"


class ImageFormat(StrEnum):
    PNG = "PNG"
    JPEG = "JPEG"
    WEBP = "WEBP"


@dataclass(frozen=True, slots=True)
class AspectRatio:
    """The ratio of a width to a height, in the terms that people write: 21:9 stays 21:9."""

    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raise ValueError unless the text is two whole numbers, at most three digits each,
        around a colon.
        """
        match = re.fullmatch(r"([1-9][0-9]{0,2}):([1-9][0-9]{0,2})", text)
        if match is None:
            raise ValueError("An aspect ratio is written as width:height, such as 16:9.")
        return cls(int(match[1]), int(match[2]))

    def nearest(self, others: Iterable["AspectRatio"]) -> "AspectRatio":
        """The closest of these ratios; this one if it is among them."""
        return min(others, key=lambda other: abs(math.log(self.value / other.value)))

    @property
    def value(self) -> float:
        return self.width / self.height

    def __str__(self) -> str:
        return f"{self.width}:{self.height}"


ASPECT_RATIOS: Final = tuple(
    AspectRatio.parse(text)
    for text in ("21:9", "16:9", "3:2", "4:3", "5:4", "1:1", "4:5", "3:4", "2:3", "9:16")
)
SQUARE: Final = AspectRatio(1, 1)
_SIDE_PIXELS: Final = {Resolution.ONE_K: 1024, Resolution.TWO_K: 2048, Resolution.FOUR_K: 4096}


def pixel_size(ratio: AspectRatio, resolution: Resolution) -> tuple[int, int]:
    """Width and height in pixels: the area of the resolution's square, sides in steps of 16."""
    side = _SIDE_PIXELS[resolution]
    width = side * math.sqrt(ratio.value)
    return max(16, round(width / 16) * 16), max(16, round(width / ratio.value / 16) * 16)


def nearest_resolution(width: int, height: int) -> Resolution:
    """The resolution whose square has the most similar area. Sides that no image has count as 1."""
    side = math.sqrt(max(1, width) * max(1, height))
    return min(Resolution, key=lambda one: abs(math.log(side / _SIDE_PIXELS[one])))


@dataclass(frozen=True, slots=True)
class CustomSize:
    """Bounds and step of a width and a height that may be asked for, in pixels."""

    minimum: int
    maximum: int
    step: int

    def allows(self, side: int) -> bool:
        return self.minimum <= side <= self.maximum and (side - self.minimum) % self.step == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """The price of one image in some cases. A condition that is None is always met."""

    credits: int
    scene: Scene | None = None
    resolution: Resolution | None = None
    quality: Quality | None = None
    """Met only where this quality is requested, not where it is the model's own default."""

    def applies(self, scene: Scene, resolution: Resolution, quality: Quality | None) -> bool:
        return (
            self.scene in (None, scene)
            and self.resolution in (None, resolution)
            and self.quality in (None, quality)
        )

    def covers(self, other: "Price") -> bool:
        """Whether it applies in every case in which the other one does."""
        return (
            self.scene in (None, other.scene)
            and self.resolution in (None, other.resolution)
            and self.quality in (None, other.quality)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageModel(RegisteredModel):
    """One row of the catalogue; see `providers/catalogue.py`."""

    scenes: frozenset[Scene]
    edit_model_id: ModelId | None = None
    min_references: int = 0
    max_references: int = 0
    aspect_ratios: tuple[AspectRatio, ...] = (SQUARE,)
    resolutions: tuple[Resolution, ...] = (Resolution.ONE_K,)
    qualities: tuple[Quality, ...] = ()
    formats: tuple[ImageFormat, ...] = ()
    max_images: int = 1
    images_per_run: int | None = None
    """How many images the provider makes for one request; None: as many as are asked for."""
    custom_size: CustomSize | None = None
    supports_previews: bool = False
    supports_seed: bool = False
    supports_negative_prompt: bool = False
    supports_masks: bool = False
    """Whether it receives the mask of an edit, by this route. What other models change outside of a
    mask is put back afterwards.
    """
    supports_context: bool = False
    """Whether it can be given earlier messages of the conversation."""
    mention_spelling: str | None = None
    """How the model itself refers to its references, if it does; see `domain.mentions`."""
    prices: tuple[Price, ...] = ()
    """Prices of one image: the first one that applies. Where none does, one of the next
    two fields.
    """
    credits_from_words: int = 2
    credits_with_references: int = 4
    """Per image."""
    other_routes: tuple["ImageModel", ...] = ()

    @property
    def supports_mentions(self) -> bool:
        return self.mention_spelling is not None

    def credits_per_image(
        self,
        scene: Scene,
        *,
        resolution: Resolution | None = None,
        quality: Quality | None = None,
    ) -> int:
        """The price of one image. `resolution` None: none was requested."""
        size = resolution or self.fit_resolution(Resolution.ONE_K)
        for price in self.prices:
            if price.applies(scene, size, quality):
                return price.credits
        if scene is Scene.TEXT_TO_IMAGE:
            return self.credits_from_words
        return self.credits_with_references

    def runs_for(self, image_count: int) -> int:
        """How many requests this many images take."""
        return math.ceil(image_count / self.images_per_run) if self.images_per_run else 1

    def fit_aspect_ratio(self, wanted: AspectRatio) -> AspectRatio:
        return wanted.nearest(self.aspect_ratios)

    def fit_resolution(self, wanted: Resolution) -> Resolution:
        """The wanted resolution, else the largest one below it, else the smallest one."""
        order = list(Resolution)
        below = [one for one in self.resolutions if order.index(one) <= order.index(wanted)]
        return max(below, key=order.index) if below else min(self.resolutions, key=order.index)


class ModelRegistry(Registry[ImageModel]):
    """The image models. A stored id that is not here still resolves."""

    def find(
        self,
        *,
        scene: Scene | None = None,
        provider: str | None = None,
        search: str | None = None,
        include_unlisted: bool = False,
    ) -> tuple[ImageModel, ...]:
        """The models that match all given conditions, in the registry's order."""
        if len(search or "") > MAX_SEARCH_LENGTH:
            raise BadUserInput(f"`search` can have at most {MAX_SEARCH_LENGTH} characters.")
        words = set((search or "").casefold().split())
        return tuple(
            model
            for model in self.all()
            if (include_unlisted or model.listed)
            and (scene is None or scene in model.scenes)
            and (provider is None or provider in model.providers)
            and _has_all(model, words)
        )

    def _make_retired(self, **facts: Any) -> ImageModel:
        return ImageModel(scenes=frozenset(), **facts)

    def default(self, scene: Scene) -> ImageModel | None:
        """The model that is used where none is named and none can be inherited."""
        for name in self._defaults:
            model = self.get(name)
            if model is not None and model.available and scene is Scene.IMAGE_TO_IMAGE:
                model = self.for_references(model)
            if model is not None and model.available and scene in model.scenes:
                return model
        return None

    def is_default(self, model: ImageModel, scene: Scene | None = None) -> bool:
        """Whether it is the default of this scene; of any scene if None."""
        scenes = Scene if scene is None else (scene,)
        return any(
            one in model.scenes and (default := self.default(one)) and default.id == model.id
            for one in scenes
        )

    def for_references(self, model: ImageModel) -> ImageModel | None:
        """The model that would run with references: itself, its editing sibling, or None."""
        if Scene.IMAGE_TO_IMAGE in model.scenes:
            return model
        return self.get(model.edit_model_id) if model.edit_model_id else None

    def editor(self, name: str) -> ImageModel | None:
        """The model that an inherited name stands for if there are references, or None."""
        model = self.successor(name)
        editor = self.for_references(model) if model is not None else None
        return self.successor(editor.id) if editor is not None else None


def _has_all(model: ImageModel, words: Collection[str]) -> bool:
    if not words:
        return True
    searchable = " ".join((model.id, model.label, model.company, *model.aliases)).casefold()
    return all(word in searchable for word in words)
