"""Effects on the brightness and colour of each pixel: curves, matrices, gradients.

Every function takes a picture and an amount, of which 1 is the default. Greys stay grey, unless the
effect adds a colour.
"""

import math

from PIL import Image

from providers.local.colours import Colour, darker, lighter
from providers.local.editing.textures import (
    column,
    corners,
    curve,
    gradient,
    scaled,
    smooth_step,
    spot,
)

_LUMA = (0.299, 0.587, 0.114)


def brighter(picture: Image.Image, amount: float) -> Image.Image:
    """By a curve that leaves black and white where they are; a negative amount darkens."""
    power = 1.45**-amount
    return picture.point(curve(lambda value: value**power) * 3)


def contrast(picture: Image.Image, amount: float) -> Image.Image:
    """An S for a positive amount, a flat, slightly lifted line for a negative one."""
    if amount < 0:
        slope = max(0.25, 1 + 0.32 * amount)
        return picture.point(curve(lambda value: 0.52 + (value - 0.5) * slope) * 3)
    steepness = 2.2 + 3.2 * amount
    end = math.tanh(steepness / 4)
    bend = min(1.0, 0.75 * amount)

    def s_curve(value: float) -> float:
        bent = 0.5 + math.tanh((value - 0.5) * steepness / 2) / end / 2
        return value + (bent - value) * bend

    return picture.point(curve(s_curve) * 3)


def saturation(picture: Image.Image, factor: float) -> Image.Image:
    """1 leaves the colours as they are, 0 takes them away."""
    red, green, blue = ((1 - factor) * weight for weight in _LUMA)
    matrix = (
        *(red + factor, green, blue, 0.0),
        *(red, green + factor, blue, 0.0),
        *(red, green, blue + factor, 0.0),
    )
    return picture.convert("RGB", matrix)


def colourful(picture: Image.Image, amount: float) -> Image.Image:
    return saturation(
        picture, max(0.0, 1 + 0.42 * amount) if amount > 0 else max(0, 1 + 0.34 * amount)
    )


def warmer(picture: Image.Image, amount: float) -> Image.Image:
    """Towards candlelight; a negative amount goes towards shade."""
    red = curve(lambda value: value ** (1.22**-amount))
    green = curve(lambda value: value ** (1.03**-amount))
    blue = curve(lambda value: value ** (1.30**amount))
    return picture.point([*red, *green, *blue])


def monochrome(picture: Image.Image, amount: float) -> Image.Image:
    grey = Image.merge("RGB", [picture.convert("L").point(_print_curve())] * 3)
    return grey if amount >= 0.75 else Image.blend(picture, grey, 0.4 + 0.5 * amount)


def sepia(picture: Image.Image, amount: float) -> Image.Image:
    toned = _apply_tone(picture, dark=(34, 22, 14), middle=(168, 128, 88), bright=(252, 240, 214))
    return toned if amount >= 0.75 else Image.blend(picture, toned, 0.4 + 0.4 * amount)


def tint(picture: Image.Image, amount: float, *, colour: Colour) -> Image.Image:
    toned = _apply_tone(
        picture, dark=darker(colour, 0.82), middle=colour, bright=lighter(colour, 0.86)
    )
    return Image.blend(picture, toned, min(1.0, 0.62 * amount))


def negative(picture: Image.Image, _amount: float) -> Image.Image:
    return picture.point(curve(lambda value: 1 - value) * 3)


def vignette(picture: Image.Image, amount: float) -> Image.Image:
    dark = picture.point(curve(lambda value: value**1.7 * 0.22) * 3)
    return Image.composite(dark, picture, scaled(corners(picture.size), min(1.0, 0.92 * amount)))


def sunset(picture: Image.Image, amount: float) -> Image.Image:
    """Low sun: violet above, fire at the horizon, and long warm light below."""
    size = picture.size
    base = warmer(contrast(picture, 0.25), 1.1 * min(amount, 1.6))
    sky = gradient(
        size, [(0, (78, 52, 118)), (0.3, (206, 88, 98)), (0.5, (255, 168, 84)), (1, (112, 52, 62))]
    )
    share = column(size, [(0, 0.5), (0.3, 0.42), (0.52, 0.34), (1, 0.36)])
    base = Image.composite(sky, base, scaled(share, min(1.4, amount)))
    glow = spot(size, (size[0] * 0.62, size[1] * 0.46), 0.6 * max(size))
    warm_light = Image.new("RGB", size, (255, 196, 112))
    return Image.composite(warm_light, base, scaled(glow, min(0.8, 0.5 * amount)))


def night(picture: Image.Image, amount: float) -> Image.Image:
    """Day for night: dark, blue and without much colour, with moonlight from above."""
    dark = saturation(picture, 0.35).point(
        [
            *curve(lambda value: value**1.4 * 0.42),
            *curve(lambda value: value**1.35 * 0.48 + 0.015),
            *curve(lambda value: value**1.2 * 0.64 + 0.055),
        ]
    )
    moon = spot(picture.size, (picture.width * 0.7, 0), 0.9 * max(picture.size))
    moonlight = dark.point(curve(lambda value: value**0.72) * 3)
    dark = Image.composite(moonlight, dark, scaled(moon, 0.9))
    return vignette(Image.blend(picture, dark, min(1.0, 0.35 + 0.65 * amount)), 0.5)


def cinematic(picture: Image.Image, amount: float) -> Image.Image:
    """Teal shadows, orange light."""
    graded = contrast(picture, 0.5).point(
        [
            *curve(lambda value: value**1.12 * 1.06 - 0.02),
            *curve(lambda value: 0.02 + value * 0.97),
            *curve(lambda value: 0.075 + value * 0.82),
        ]
    )
    return vignette(Image.blend(picture, graded, min(1.0, 0.4 + 0.6 * amount)), 0.6)


def glow(picture: Image.Image, amount: float, *, blurred: Image.Image) -> Image.Image:
    """Light that spreads: where the blurred picture is bright, it shines over its surroundings."""
    shine = blurred.point(curve(lambda value: min(1.0, value**0.8 * 1.12)) * 3)
    bright = blurred.convert("L").point(smooth_step(0.15, 0.95))
    return Image.composite(shine, picture, scaled(bright, min(0.85, 0.6 * amount)))


def _print_curve() -> list[int]:
    """The response of a silver print: deep shadows, a long bright shoulder."""
    return curve(lambda value: value + 0.06 * math.sin((value - 0.5) * 2 * math.pi))


def _apply_tone(
    picture: Image.Image, *, dark: Colour, middle: Colour, bright: Colour
) -> Image.Image:
    grey = picture.convert("L")
    bands = []
    for low, centre, high in zip(dark, middle, bright, strict=True):
        # A parabola through the three tones at 0, 0.5 and 1.
        bow = 4 * (centre - (low + high) / 2) / 255

        def tone(value: float, *, low: int = low, high: int = high, bow: float = bow) -> float:
            return (low + (high - low) * value) / 255 + bow * value * (1 - value)

        bands.append(grey.point(curve(tone)))
    return Image.merge("RGB", bands)
