"""Effects that depend on a pixel's neighbours: blur, brushes, pencils and weather.

Every function takes a picture, an amount (1 is the default) and a source of randomness. Sizes are
relative to the picture's, so that a draft looks like the full picture.
"""

import math
from random import Random

from PIL import Image, ImageDraw, ImageFilter, ImageOps

from providers.local.editing import tones
from providers.local.editing.textures import (
    clouds,
    column,
    corners,
    curve,
    evened,
    grain,
    in_bands,
    scaled,
    smooth_step,
    soften,
)


def unit(picture: Image.Image) -> float:
    """How many pixels stand for one pixel of a 1K picture."""
    return math.sqrt(picture.width * picture.height) / 1024


def blur(picture: Image.Image, amount: float, _random: Random) -> Image.Image:
    return soften(picture, max(0.6, 7 * amount * unit(picture)))


def sharpen(picture: Image.Image, amount: float, _random: Random) -> Image.Image:
    blurred = picture.filter(ImageFilter.GaussianBlur(max(0.7, 1.6 * unit(picture))))
    return Image.blend(blurred, picture, 1 + 1.1 * amount)


def pixelate(picture: Image.Image, amount: float, _random: Random) -> Image.Image:
    block = max(2, round(20 * amount * unit(picture)))
    across, down = max(1, round(picture.width / block)), max(1, round(picture.height / block))
    small = picture.resize((across, down), Image.Resampling.BOX)
    return small.resize(picture.size, Image.Resampling.NEAREST)


def film_grain(picture: Image.Image, amount: float, random: Random) -> Image.Image:
    """Grain that is strongest in the middle tones and leaves black and white clean."""
    noise = grain(picture.size, random, coarseness=max(0.6, min(2.0, unit(picture))))
    power = 1 + 0.45 * amount
    darker = curve(lambda value: value**power) * 3
    brighter = curve(lambda value: 1 - (1 - value) ** power) * 3
    return in_bands(
        lambda band, specks: Image.composite(band.point(brighter), band.point(darker), specks),
        picture,
        noise,
    )


def sketch(picture: Image.Image, amount: float, random: Random) -> Image.Image:
    """Pencil on paper: lines where the light changes, and hatching in the shadows."""
    scale = unit(picture)
    grey = ImageOps.autocontrast(picture.convert("L"), cutoff=(1, 1))
    # Without the grain of the film, or the pencil would draw each of its specks.
    grey = soften(grey, max(0.5, 1.1 * scale))
    fine = _lines(grey, 2.2 * scale, 8 + 2 * amount)
    broad = _lines(grey, 8 * scale, 3 + amount)
    # Hatching: strokes on a slant, the closer the darker the picture is.
    strokes = clouds(grey.size, random, cells=110, stretch=0.16)
    shadow = soften(grey, 2.5 * scale).point(curve(lambda value: min(1.0, 0.28 + 0.95 * value)))
    hatching = Image.blend(strokes, shadow, 0.62).point(smooth_step(0.40, 0.62))
    hatching = Image.blend(hatching, Image.new("L", grey.size, 255), 0.34)
    drawing = Image.composite(hatching, Image.new("L", grey.size, 70), broad)
    drawing = Image.composite(drawing, Image.new("L", grey.size, 30), fine)
    tooth = grain(grey.size, random, coarseness=max(0.6, 1.3 * scale))
    tooth = tooth.point(curve(lambda value: 0.75 + 0.4 * value))
    drawing = Image.composite(drawing, Image.blend(drawing, shadow, 0.5), tooth)
    return Image.merge(
        "RGB",
        [
            drawing.point(curve(lambda value: 0.13 + 0.85 * value)),
            drawing.point(curve(lambda value: 0.13 + 0.84 * value)),
            drawing.point(curve(lambda value: 0.14 + 0.79 * value)),
        ],
    )


def posterise(picture: Image.Image, amount: float, _random: Random) -> Image.Image:
    """A handful of flat colours, taken from the picture."""
    small = tones.colourful(tones.contrast(within(picture, 400), 0.4), 0.9)
    count = max(3, round(9 - 3 * amount))
    inks = small.quantize(count, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    strong = tones.colourful(tones.contrast(picture, 0.4), 0.9)
    smooth = soften(strong, max(0.8, 2 * unit(picture)))
    return smooth.quantize(palette=inks, dither=Image.Dither.NONE).convert("RGB")


def oil(picture: Image.Image, amount: float, random: Random) -> Image.Image:
    """Dabs of one colour each, with the light catching their edges."""
    small = within(picture, 560 / (1 + 0.3 * amount))
    side = 7 if amount >= 0.75 else 5
    # Whole colours are counted, not their channels one by one, which would make new ones.
    paints = small.quantize(160, dither=Image.Dither.NONE)
    numbers = Image.frombytes("L", paints.size, paints.tobytes())
    numbers = in_bands(lambda band: band.filter(ImageFilter.ModeFilter(side)), numbers, margin=side)
    paints.paste(numbers)
    dabs = paints.convert("RGB").filter(ImageFilter.SMOOTH)
    painted = dabs.resize(picture.size, Image.Resampling.BICUBIC)
    painted = sharpen(tones.colourful(painted, 0.7), 0.8, random)
    bristles = clouds(picture.size, random, cells=40, stretch=2.4)
    relief = Image.blend(painted.convert("L"), bristles, 0.3)
    return _lit(painted, relief, 0.34)


def watercolour(picture: Image.Image, amount: float, random: Random) -> Image.Image:
    """Washes of thin colour that pool at their edges, on rough paper."""
    washes = evened(within(picture, 330), passes=3)
    washes = washes.filter(ImageFilter.GaussianBlur(0.8))
    painted = tones.colourful(tones.brighter(washes, 0.5), 0.6).resize(
        picture.size, Image.Resampling.BICUBIC
    )
    pools = _lines(painted.convert("L"), 3 * unit(picture), 3 + amount)
    painted = Image.composite(painted, painted.point(curve(lambda value: value**1.7) * 3), pools)
    blooms = clouds(picture.size, random, cells=5).point(smooth_step(0.25, 0.95))
    paper = Image.new("RGB", picture.size, (251, 248, 240))
    painted = Image.composite(paper, painted, scaled(blooms, 0.3))
    # The paper stays bare at the rim, where a brush does not go.
    rim = corners(picture.size, reach=1.15).point(smooth_step(0.5, 1))
    painted = Image.composite(paper, painted, scaled(rim, 0.75))
    tooth = clouds(picture.size, random, cells=90)
    return _lit(painted, tooth, 0.09)


def cartoon(picture: Image.Image, amount: float, _random: Random) -> Image.Image:
    flat = evened(within(picture, 520), passes=2)
    flat = tones.colourful(flat, 1.2).quantize(18, dither=Image.Dither.NONE).convert("RGB")
    flat = flat.resize(picture.size, Image.Resampling.BICUBIC)
    lines = _lines(soften(picture.convert("L"), 1.5 * unit(picture)), 2.2 * unit(picture), 9.0)
    lines = lines.point(smooth_step(0.25, 0.6 + 0.05 / max(amount, 0.2)))
    return Image.composite(flat, Image.new("RGB", picture.size, (24, 20, 28)), lines)


def emboss(picture: Image.Image, amount: float, _random: Random) -> Image.Image:
    grey = soften(picture.convert("L"), max(0.6, 0.9 * unit(picture)))
    plate = Image.new("RGB", picture.size, (168, 166, 162))
    return Image.blend(plate, _lit(plate, grey, 1.0), min(2.0, 0.6 + 0.7 * amount))


def fog(picture: Image.Image, amount: float, random: Random) -> Image.Image:
    banks = clouds(picture.size, random, cells=2.2, stretch=2.4).point(smooth_step(0.1, 0.8))
    low = column(picture.size, [(0, 0.62), (0.45, 0.92), (0.75, 0.72), (1, 0.5)])
    # Banks thin the mist out here and there; it never clears altogether.
    thin = scaled(low, 0.55)
    mask = scaled(Image.composite(low, thin, banks), min(1.1, 0.45 + 0.5 * amount))
    misty = picture.copy()
    misty.paste(soften(picture, 4 * unit(picture)), (0, 0), mask)
    misty.paste((222, 226, 229), (0, 0, *picture.size), scaled(mask, 0.82))
    return misty


def glow(picture: Image.Image, amount: float, _random: Random) -> Image.Image:
    return tones.glow(picture, amount, blurred=soften(picture, 16 * unit(picture)))


def vintage(picture: Image.Image, amount: float, random: Random) -> Image.Image:
    """A print that has spent forty years in a drawer."""
    faded = tones.sepia(tones.contrast(picture, -0.7), 0.55)
    faded = tones.warmer(faded, 0.35)
    light = clouds(picture.size, random, cells=1.5).point(smooth_step(0.55, 1))
    faded = Image.composite(
        Image.new("RGB", picture.size, (255, 214, 170)), faded, scaled(light, 0.25)
    )
    faded = tones.vignette(faded, 0.55 * amount)
    return film_grain(faded, 0.35 * amount, random)


def snow(picture: Image.Image, amount: float, random: Random) -> Image.Image:
    pale = tones.brighter(tones.colourful(tones.warmer(picture, -0.5), -0.8), 0.3)
    return flakes(pale, amount, random)


def flakes(picture: Image.Image, amount: float, random: Random) -> Image.Image:
    """Falling snow in three depths: many small flakes far away, few soft ones close by."""
    short = math.sqrt(picture.width * picture.height)
    picture = picture.copy()
    for count, radius, softness, share in (
        (700, 0.0011, 0.0006, 0.55),
        (170, 0.0026, 0.0012, 0.75),
        (26, 0.0075, 0.0045, 0.5),
    ):
        mask = Image.new("L", picture.size)
        draw = ImageDraw.Draw(mask)
        for _ in range(round(count * amount)):
            x, y = random.random() * picture.width, random.random() * picture.height
            size = max(0.5, radius * short * random.uniform(0.6, 1.4))
            draw.ellipse((x - size, y - size, x + size, y + size), fill=random.randint(140, 255))
        mask = soften(mask, max(0.4, softness * short))
        picture.paste((250, 251, 255), (0, 0, *picture.size), scaled(mask, share * 1.25))
    return picture


def rain(picture: Image.Image, amount: float, random: Random) -> Image.Image:
    wet = tones.brighter(tones.colourful(tones.warmer(picture, -0.45), -0.9), -0.35)
    return streaks(wet, amount, random)


def streaks(picture: Image.Image, amount: float, random: Random) -> Image.Image:
    """Falling rain: slanted threads of light."""
    short = math.sqrt(picture.width * picture.height)
    mask = Image.new("L", picture.size)
    draw = ImageDraw.Draw(mask)
    for _ in range(round(420 * amount)):
        x, y = random.uniform(-0.1, 1.1) * picture.width, random.random() * picture.height
        length = short * random.uniform(0.02, 0.075)
        width = max(1, round(short * random.choice((0.0009, 0.0012, 0.002))))
        draw.line((x, y, x - length * 0.22, y + length), fill=random.randint(70, 190), width=width)
    mask = soften(mask, max(0.5, 0.0008 * short))
    picture = picture.copy()
    picture.paste((214, 222, 232), (0, 0, *picture.size), scaled(mask, 0.62))
    return picture


def _lines(grey: Image.Image, radius: float, strength: float) -> Image.Image:
    """White paper, dark where a point is darker than its surroundings."""
    around = soften(grey, max(0.6, radius))
    inverse = around.point(curve(lambda value: 1 - value))
    # Half of each: middle grey wherever a point equals its surroundings.
    difference = Image.blend(grey, inverse, 0.5)
    return difference.point(curve(lambda value: 1 + min(0.0, (value - 0.498) * 2 * strength)))


def _lit(picture: Image.Image, relief: Image.Image, share: float) -> Image.Image:
    """The picture with light from the upper left on a relief."""
    step = max(1, round(unit(picture)))
    shifted = Image.new("L", relief.size, 128)
    shifted.paste(relief, (step, step))
    slopes = Image.blend(relief, shifted.point(curve(lambda value: 1 - value)), 0.5)
    lit = picture.copy()
    light = slopes.point(curve(lambda value: min(1.0, max(0.0, value * 8 - 4)) * share))
    lit.paste((255, 255, 255), (0, 0, *picture.size), light)
    shade = slopes.point(curve(lambda value: min(1.0, max(0.0, 4 - value * 8)) * share))
    lit.paste((0, 0, 0), (0, 0, *picture.size), shade)
    return lit


def within(picture: Image.Image, side: float) -> Image.Image:
    """A copy with at most the area of a square of that side."""
    factor = min(1.0, side / math.sqrt(picture.width * picture.height))
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Image.Resampling.BOX) if factor < 1 else picture.copy()
