"""The operations on a picture that a prompt can request."""

from dataclasses import dataclass
from enum import StrEnum

from domain.models import AspectRatio


class Effect(StrEnum):
    """An effect that has only an amount. The values are shown to people."""

    MONOCHROME = "black and white"
    SEPIA = "sepia"
    WARMER = "warmer"
    COOLER = "cooler"
    SUNSET = "sunset light"
    NIGHT = "night"
    BRIGHTER = "brighter"
    DARKER = "darker"
    MORE_CONTRAST = "more contrast"
    LESS_CONTRAST = "less contrast"
    MORE_COLOUR = "more vivid"
    LESS_COLOUR = "more muted"
    BLUR = "blurred"
    SHARPEN = "sharpened"
    VIGNETTE = "a vignette"
    PIXELATE = "pixelated"
    POSTERISE = "posterised"
    NEGATIVE = "a negative"
    SKETCH = "a pencil sketch"
    OIL = "an oil painting"
    WATERCOLOUR = "a watercolour"
    CARTOON = "a cartoon"
    GRAIN = "grain"
    FOG = "fog"
    EMBOSS = "embossed"
    GLOW = "a soft glow"
    VINTAGE = "an old print"
    CINEMATIC = "a cinematic look"
    SNOW = "snow"
    RAIN = "rain"


class Place(StrEnum):
    TOP = "top"
    CENTRE = "centre"
    BOTTOM = "bottom"


class Arrangement(StrEnum):
    """How several references become one picture."""

    COLLAGE = "a collage"
    BLEND = "a double exposure"


@dataclass(frozen=True, slots=True)
class Apply:
    effect: Effect
    amount: float = 1.0
    """1 is the default, which is about 30 % where percentages apply."""

    @property
    def said(self) -> str:
        if self.amount < 0.75:
            return (
                f"slightly {self.effect}" if self.effect in _GRADUAL else f"{self.effect}, lightly"
            )
        if self.amount > 1.4:
            return f"much {self.effect}" if self.effect in _GRADUAL else f"{self.effect}, strongly"
        return str(self.effect)


@dataclass(frozen=True, slots=True)
class Tint:
    colour: tuple[int, int, int]
    name: str
    amount: float = 1.0

    @property
    def said(self) -> str:
        return f"tinted {self.name}"


@dataclass(frozen=True, slots=True)
class Flip:
    vertical: bool = False

    @property
    def said(self) -> str:
        return "flipped top to bottom" if self.vertical else "mirrored"


@dataclass(frozen=True, slots=True)
class Rotate:
    degrees: int
    """Clockwise, from 1 to 359."""

    @property
    def said(self) -> str:
        if self.degrees == 180:
            return "turned upside down"
        way, turned = (
            ("right", self.degrees) if self.degrees < 180 else ("left", 360 - self.degrees)
        )
        return f"rotated {turned}° to the {way}"


@dataclass(frozen=True, slots=True)
class Crop:
    ratio: AspectRatio

    @property
    def said(self) -> str:
        return f"cropped to {self.ratio}"


@dataclass(frozen=True, slots=True)
class Zoom:
    amount: float = 1.0

    @property
    def said(self) -> str:
        return "closer in"


@dataclass(frozen=True, slots=True)
class Frame:
    colour: tuple[int, int, int]
    name: str
    amount: float = 1.0

    @property
    def said(self) -> str:
        return f"a {self.name} frame"


@dataclass(frozen=True, slots=True)
class Write:
    words: str
    place: Place = Place.BOTTOM
    colour: tuple[int, int, int] | None = None

    @property
    def said(self) -> str:
        words = self.words if len(self.words) <= 40 else f"{self.words[:39]}…"
        where = "in the centre" if self.place is Place.CENTRE else f"at the {self.place}"
        return f"the words “{words}” {where}"


@dataclass(frozen=True, slots=True)
class Gather:
    arrangement: Arrangement

    @property
    def said(self) -> str:
        return str(self.arrangement)


Operation = Apply | Tint | Flip | Rotate | Crop | Zoom | Frame | Write | Gather

_GRADUAL = frozenset(
    {
        Effect.WARMER,
        Effect.COOLER,
        Effect.BRIGHTER,
        Effect.DARKER,
        Effect.MORE_CONTRAST,
        Effect.LESS_CONTRAST,
        Effect.MORE_COLOUR,
        Effect.LESS_COLOUR,
        Effect.BLUR,
        Effect.SHARPEN,
        Effect.PIXELATE,
        Effect.POSTERISE,
        Effect.EMBOSS,
    }
)
