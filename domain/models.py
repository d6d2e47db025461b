"""The image models that people choose from, and the registry that knows them all."""

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, Self

from domain.errors import BadUserInput
from domain.ids import ModelId
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


class ModelUnavailableReason(StrEnum):
    NO_CREDENTIALS = "NO_CREDENTIALS"
    RETIRED = "RETIRED"
    REFUSED_BY_PROVIDER = "REFUSED_BY_PROVIDER"
    SWITCHED_OFF = "SWITCHED_OFF"


@dataclass(frozen=True, slots=True)
class AspectRatio:
    """A width to a height, in lowest terms as people write it: 21:9 stays 21:9."""

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
        """The one among the others whose shape is closest, itself if it is there."""
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
    """The resolution whose square is closest in area to these pixels."""
    side = math.sqrt(width * height)
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
    """What one image costs in some cases. A condition that is None is always met."""

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
class ImageModel:
    """One row of the catalogue; see `providers/catalogue.py`."""

    id: ModelId
    label: str
    description: str
    company: str
    provider: str
    scenes: frozenset[Scene]
    aliases: tuple[str, ...] = ()
    listed: bool = True
    is_new: bool = False
    logo_url: str | None = None
    unavailable_reason: ModelUnavailableReason | None = None
    retires_at: datetime | None = None
    replacement_id: ModelId | None = None
    edit_model_id: ModelId | None = None
    min_references: int = 0
    max_references: int = 0
    aspect_ratios: tuple[AspectRatio, ...] = (SQUARE,)
    resolutions: tuple[Resolution, ...] = (Resolution.ONE_K,)
    qualities: tuple[Quality, ...] = ()
    formats: tuple[ImageFormat, ...] = ()
    max_images: int = 1
    images_per_run: int | None = None
    """How many the provider makes of one request; None: as many as are asked for."""
    custom_size: CustomSize | None = None
    supports_previews: bool = False
    supports_seed: bool = False
    supports_negative_prompt: bool = False
    supports_context: bool = False
    """Whether it can be given earlier messages of the conversation."""
    mention_spelling: str | None = None
    """How the model itself names its references, if it does; see `domain.mentions`."""
    endpoint: str = ""
    """What the provider calls it; empty where that is the id."""
    wire: object | None = field(default=None, hash=False)
    """How the provider wants to be asked for it, in its own type. Nothing else reads it."""
    prices: tuple[Price, ...] = ()
    """Per image: the first one that applies. Where none does, one of the next two."""
    credits_from_words: int = 2
    credits_with_references: int = 4
    """Per image."""
    deadline: timedelta = timedelta(seconds=180)
    other_routes: tuple["ImageModel", ...] = ()
    """The same model by the other providers that make it here, in the order of preference."""
    route_providers: tuple[str, ...] = ()
    """All providers of its routes, also those that cannot be used here."""

    @property
    def supports_mentions(self) -> bool:
        return self.mention_spelling is not None

    @property
    def providers(self) -> tuple[str, ...]:
        """All that can make it, here or elsewhere, in the order of preference."""
        return self.route_providers or tuple(filter(None, [self.provider]))

    @property
    def available(self) -> bool:
        return self.unavailable_reason is None

    def credits_per_image(
        self,
        scene: Scene,
        *,
        resolution: Resolution | None = None,
        quality: Quality | None = None,
    ) -> int:
        """The price of one image. `resolution` None: the one where none is requested."""
        size = resolution or self.fit_resolution(Resolution.ONE_K)
        for price in self.prices:
            if price.applies(scene, size, quality):
                return price.credits
        if scene is Scene.TEXT_TO_IMAGE:
            return self.credits_from_words
        return self.credits_with_references

    @property
    def retired(self) -> bool:
        return self.unavailable_reason is ModelUnavailableReason.RETIRED

    @property
    def ends_at(self) -> datetime | None:
        """When the last of its routes here ends; None if one has no end."""
        ends = [one.retires_at for one in (self, *self.other_routes)]
        return None if None in ends else max(end for end in ends if end)

    def is_over(self, now: datetime) -> bool:
        """Whether the day has come on which its provider stopped serving it."""
        return self.retires_at is not None and self.retires_at <= now

    def runs_for(self, image_count: int) -> int:
        """How many requests so many images take."""
        return math.ceil(image_count / self.images_per_run) if self.images_per_run else 1

    def fit_aspect_ratio(self, wanted: AspectRatio) -> AspectRatio:
        return wanted.nearest(self.aspect_ratios)

    def fit_resolution(self, wanted: Resolution) -> Resolution:
        """The wanted resolution, else the largest below it, else the smallest there is."""
        order = list(Resolution)
        below = [one for one in self.resolutions if order.index(one) <= order.index(wanted)]
        return max(below, key=order.index) if below else min(self.resolutions, key=order.index)


_KNOWN_EVERYWHERE: Final = timedelta(seconds=5)
"""How long after it was switched off no process plans with a model or provider any more."""
_ENDS_SOON: Final = timedelta(days=31)
"""How long before its end a model's description says so."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class ModelRegistry:
    """All models by id and alias, as they stand now: one whose day has come is retired, and one
    that its provider does not have any more is withdrawn, and the operator may switch models and
    providers off. A stored id that is not here still resolves.
    """

    def __init__(
        self,
        models: Iterable[ImageModel],
        *,
        defaults: Sequence[str] | None = None,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        """`defaults`: ids or aliases, in the order in which they are tried as the default of a
        scene. None: all that are listed.
        """
        self._models: Mapping[str, ImageModel] = {model.id: model for model in models}
        self._ids = {name: name for name in self._models} | {
            alias: model.id for model in self._models.values() for alias in model.aliases
        }
        listed = [model.id for model in self._models.values() if model.listed]
        self._defaults = [
            name
            for name in (listed if defaults is None else defaults)
            if name in self._ids and self._models[self._ids[name]].available
        ]
        self._now = now
        self._withdrawn: frozenset[str] = frozenset()
        self._off: Mapping[str, datetime] = {}

    def withdraw(self, model_ids: Iterable[ModelId]) -> None:
        """From now on these, and no others, are shown as refused by their provider."""
        self._withdrawn = frozenset(model_ids)

    def switch_off(self, since: Mapping[str, datetime]) -> None:
        """From now on none of these models and providers, and all others, may be asked."""
        self._off = dict(since)

    def may_ask(self, route: ImageModel, *, planned_at: datetime | None = None) -> bool:
        """Whether the operator lets the model be run by this route: now, or at a time in the past
        as far as what is switched off now was switched off then, and every process knew it.
        """
        return not any(
            name in self._off
            and (planned_at is None or self._off[name] + _KNOWN_EVERYWHERE < planned_at)
            for name in (route.id, route.provider)
        )

    def is_off(self, name: str) -> bool:
        """Whether the operator has switched off the model, or every provider that makes it here."""
        routes = self.routes(name) if self._off else ()
        return bool(routes) and not any(map(self.may_ask, routes))

    def all(self) -> tuple[ImageModel, ...]:
        return tuple(self._as_it_stands(model) for model in self._models.values())

    def get(self, name: str) -> ImageModel | None:
        """By id or alias."""
        model_id = self._ids.get(name)
        return self._as_it_stands(self._models[model_id]) if model_id is not None else None

    def routes(self, name: str) -> tuple[ImageModel, ...]:
        """The model by each of its routes here whose day has not come, in the order of preference;
        by its own where all have. None if it is not known.
        """
        model_id = self._ids.get(name)
        if model_id is None:
            return ()
        row, now = self._models[model_id], self._now()
        lasting = tuple(one for one in (row, *row.other_routes) if not one.is_over(now))
        return lasting or (row,)

    def _as_it_stands(self, row: ImageModel) -> ImageModel:
        """By the first of its routes whose day has not come and that may be asked; by its own where
        there is none.
        """
        now = self._now()
        lasting = [one for one in (row, *row.other_routes) if not one.is_over(now)] or [row]
        model = next(filter(self.may_ask, lasting), lasting[0])
        reason = None
        if model.is_over(now):
            reason = ModelUnavailableReason.RETIRED
        elif model.available and not self.may_ask(model):
            reason = ModelUnavailableReason.SWITCHED_OFF
        elif model.available and model.id in self._withdrawn:
            reason = ModelUnavailableReason.REFUSED_BY_PROVIDER
        if reason is not None:
            return replace(model, unavailable_reason=reason)
        ends_at = row.ends_at
        if model.available and ends_at is not None and ends_at - now <= _ENDS_SOON:
            notice = f"Ends on {ends_at.day} {ends_at:%B} {ends_at.year}."
            return replace(model, description=f"{model.description} {notice}".strip())
        return model

    def providers_in_use(self) -> frozenset[str]:
        """The providers by which a model can be made here now."""
        now = self._now()
        return frozenset(
            route.provider
            for row in self._models.values()
            if row.available
            for route in (row, *row.other_routes)
            if not route.is_over(now)
        )

    def find(
        self,
        *,
        scene: Scene | None = None,
        provider: str | None = None,
        search: str | None = None,
        include_unlisted: bool = False,
    ) -> tuple[ImageModel, ...]:
        """Those that fit all that is given, in the registry's order."""
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

    def remembered(self, name: str) -> ImageModel:
        """By id or alias; a model that has left the registry is shown unlisted and unavailable."""
        return self.get(name) or ImageModel(
            id=ModelId(name),
            label=name.rsplit("/", 1)[-1],
            description="This model is no longer offered.",
            company="",
            provider="",
            scenes=frozenset(),
            listed=False,
            unavailable_reason=ModelUnavailableReason.RETIRED,
        )

    def default(self, scene: Scene) -> ImageModel | None:
        """What is used where no model is named and none can be inherited."""
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

    def successor(self, name: str) -> ImageModel | None:
        """The model itself if it can be used, else the nearest replacement that can, else None."""
        model, seen = self.get(name), set[str]()
        while model is not None and not model.available and model.id not in seen:
            seen.add(model.id)
            model = self.get(model.replacement_id) if model.replacement_id else None
        return model if model is not None and model.available else None

    def for_references(self, model: ImageModel) -> ImageModel | None:
        """The model that would run where there are references: itself, its editing sibling, or
        None.
        """
        if Scene.IMAGE_TO_IMAGE in model.scenes:
            return model
        return self.get(model.edit_model_id) if model.edit_model_id else None

    def editor(self, name: str) -> ImageModel | None:
        """The model that an inherited name stands for where there are references, or None."""
        model = self.successor(name)
        editor = self.for_references(model) if model is not None else None
        return self.successor(editor.id) if editor is not None else None


def _has_all(model: ImageModel, words: Collection[str]) -> bool:
    if not words:
        return True
    searchable = " ".join((model.id, model.label, model.company, *model.aliases)).casefold()
    return all(word in searchable for word in words)
