"""The style of Ink: flat colours, strong outlines and halftone dots, like a printed poster."""

import itertools
import math
from collections.abc import Sequence
from random import Random

from PIL import Image, ImageChops, ImageOps

from providers.local.colours import Colour, brightness, darker, lighter, mix
from providers.local.editing import effects, tones
from providers.local.editing.textures import (
    Size,
    column,
    curve,
    evened,
    grain,
    in_bands,
    scaled,
    smooth_step,
    soften,
)
from providers.local.painting.canvases import Canvas
from providers.local.painting.outlines import Point, Shape, disc
from providers.local.painting.palettes import Palette

_INK: Colour = (28, 24, 36)
_MAX_SIDE = 2048
"""Other pictures are restyled at most at the area of a square of this side, in pixels."""
_LINE = 0.0036
"""How wide outlines are."""
_INKS_BY_AREA, _INKS_BY_REACH = 14, 8
"""How many colours another picture is reduced to."""


def restyle(picture: Image.Image, _random: Random) -> Image.Image:
    """Restyle a picture as Ink: few flat colours, and its edges drawn as outlines.

    Flat colours have no detail that would be lost where a very large picture is enlarged again.
    """
    full_size = picture.size
    picture = effects.within(picture, _MAX_SIDE)
    scale = effects.unit(picture)
    small = effects.within(picture, 560)
    small = ImageOps.autocontrast(small, cutoff=(0.5, 0.5), preserve_tone=True)
    small = tones.contrast(tones.colourful(small, 1.3), 0.25)
    small = evened(small, passes=3)
    inks = _inks(small)
    # Flat areas are smoothed large and sorted into the inks again, which makes crisp, round edges.
    large = soften(small.resize(picture.size, Image.Resampling.BICUBIC), max(0.8, 2.2 * scale))
    flat = large.quantize(palette=inks, dither=Image.Dither.NONE).convert("RGB")
    flat = soften(flat, max(0.5, 0.6 * scale))
    lines = _outlines(large.convert("L"), scale)
    flat.paste(_INK, (0, 0, *flat.size), lines)
    return flat if flat.size == full_size else flat.resize(full_size, Image.Resampling.LANCZOS)


def finish(picture: Image.Image, random: Random, *, own: bool) -> Image.Image:
    """The tooth of the paper; less where the picture is on paper already."""
    share = 0.4 if own else 0.75
    tooth = grain(picture.size, random, coarseness=max(0.8, 1.4 * effects.unit(picture)))
    tooth = tooth.point(curve(lambda value: 1 - share * (1 - value) ** 1.5))
    shade = curve(lambda value: value * 0.9 + 0.012) * 3
    return in_bands(
        lambda band, specks: Image.composite(band, band.point(shade), specks), picture, tooth
    )


class InkPainter:
    """Paints a scene as a printer would cut it: shapes, a few inks, and a black line around."""

    def __init__(self, size: Size) -> None:
        self.canvas = Canvas(size)
        self._ink = _INK

    @property
    def picture(self) -> Image.Image:
        return self.canvas.picture

    def sky(self, palette: Palette, horizon: float) -> None:
        canvas = self.canvas
        width = canvas.size[0] / canvas.scale
        top, middle, low = (_strong(colour) for colour in palette.sky)
        self._ink = mix(_INK, darker(palette.near, 0.4), 0.35)
        canvas.picture.paste(top, (0, 0, *canvas.size))
        bands = 7
        for band in range(1, bands + 1):
            share = band / bands
            colour = mix(top, middle, share * 2) if share < 0.5 else mix(middle, low, share * 2 - 1)
            y = horizon * share**0.8 * 0.94
            line = [
                (x, y + 0.011 * math.sin(x * 5.2 + band * 1.9) + 0.006 * math.sin(x * 11 + band))
                for x in (-0.01 + (width + 0.02) * step / 80 for step in range(81))
            ]
            mask, start = canvas.below(line)
            canvas.cover(colour, mask, (0, start))

    def stars(self, random: Random, horizon: float) -> None:
        width = self.canvas.size[0] / self.canvas.scale
        shapes = []
        for index in range(round(110 * width)):
            x, y = random.random() * width, random.random() ** 1.3 * horizon * 0.9
            size = random.uniform(0.0012, 0.0026)
            colour = (250, 240, 208)
            if index % 9:
                shapes.append(disc((x, y), size, colour))
                continue
            reach, waist = size * 4.4, size * 0.8
            points = []
            for step in range(8):
                angle, far = math.tau * step / 8, reach if step % 2 == 0 else waist
                points.append((x + math.cos(angle) * far, y + math.sin(angle) * far))
            shapes.append(Shape(tuple(points), colour, outlined=False))
        self.canvas.draw(shapes)

    def aurora(self, random: Random, horizon: float) -> None:
        canvas = self.canvas
        width = canvas.size[0] / canvas.scale
        phase = random.uniform(0, math.tau)
        for index, colour in enumerate(
            ((96, 60, 150), (44, 120, 160), (52, 188, 140), (150, 236, 170))
        ):
            upper, lower = [], []
            for step in range(121):
                x = -0.01 + (width + 0.02) * step / 120
                wave = math.sin(x * 3.4 + phase) + 0.45 * math.sin(x * 8.3 + phase * 2)
                foot = horizon * (0.6 + 0.09 * index * 0.4 + 0.11 * wave)
                rays = 0.1 + 0.05 * math.sin(x * 23 + index) + 0.04 * math.sin(x * 51 + phase)
                upper.append((x, foot - horizon * (0.42 - 0.1 * index) - rays * (1 - 0.2 * index)))
                lower.append((x, foot))
            mask, at = canvas.polygon_mask([*upper, *lower[::-1]])
            canvas.cover(colour, scaled(mask, 0.75), at)

    def light(self, centre: Point, radius: float, palette: Palette) -> None:
        canvas = self.canvas
        around = _strong(palette.sky[1] if palette.dark else palette.light)
        for reach, share in ((4.6, 0.16), (3.3, 0.22), (2.2, 0.32)):
            mask, at = self._round(centre, radius * reach)
            canvas.cover(lighter(around, 0.3), scaled(mask, share), at)
        face = mix(palette.light, (255, 236, 180) if palette.dark else (255, 206, 92), 0.55)
        canvas.draw([disc(centre, radius, face, outlined=True)], outline=self._ink, line=_LINE)
        if palette.dark:
            x, y = centre
            spots = [
                disc((x + a * radius, y + b * radius), size * radius, darker(face, 0.14))
                for a, b, size in (
                    (-0.3, -0.25, 0.24),
                    (0.32, 0.12, 0.3),
                    (-0.18, 0.42, 0.16),
                    (0.28, -0.45, 0.13),
                )
            ]
            canvas.draw(spots)

    def clouds(self, random: Random, horizon: float, palette: Palette, *, amount: float) -> None:
        width = self.canvas.size[0] / self.canvas.scale
        colour = mix(palette.sky[2], palette.light, 0.45)
        if palette.dark:
            colour = mix(palette.sky[1], palette.sky[2], 0.6)
        for _ in range(round((2 + 8 * amount) * width)):
            x, y = random.uniform(-0.05, 1.05) * width, random.uniform(0.12, 0.8) * horizon
            size = random.uniform(0.06, 0.15) * (1.25 - y / horizon * 0.7)
            self._cloud(random, (x, y), size=size, colour=colour)

    def _cloud(self, random: Random, at: Point, *, size: float, colour: Colour) -> None:
        """A flat underside with a heap of round tops."""
        x, y = at
        upper = []
        puffs = [(random.uniform(-0.65, 0.65), random.uniform(0.16, 0.36)) for _ in range(6)] + [
            (0.0, 0.42)
        ]
        for step in range(81):
            across = -1 + 2 * step / 80
            rise = max(
                (math.sqrt(max(0.0, tall**2 - (across - middle) ** 2)) for middle, tall in puffs),
                default=0.0,
            )
            floor = 0.06 * math.sqrt(max(0.0, 1 - across**2))
            upper.append((x + across * size, y - max(rise, floor) * size * 0.8))
        shade = [(px, y - (y - py) * 0.42) for px, py in upper]
        body = Shape((*upper, (x + size, y), (x - size, y)), lighter(colour, 0.35))
        under = Shape((*shade, (x + size, y), (x - size, y)), colour, outlined=False)
        self.canvas.draw([body, under], outline=self._ink, line=_LINE * 0.7)

    def land(self, line: Sequence[Point], random: Random, *, top: Colour, low: Colour) -> None:
        canvas = self.canvas
        base = _strong(top)
        mask, start = canvas.below(line)
        canvas.cover(base, mask, (0, start))
        self._facets(line, darker(base, 0.24), random)
        # Dots that swell on the way down.
        tone = column(mask.size, [(0, 0), (0.12, 0.0), (0.75, 0.6), (1, 0.8)])
        dots = self._halftone(tone, 0.0085)
        black = Image.new("L", mask.size)
        # Far away the dots are mist, close by they are shade.
        tint = _strong(low) if brightness(low) > brightness(top) else darker(base, 0.3)
        canvas.cover(tint, Image.composite(dots, black, mask), (0, start))
        canvas.stroke(line, self._ink, _LINE * 1.15)

    def _facets(self, line: Sequence[Point], colour: Colour, random: Random) -> None:
        """The sides of peaks that lie in the shade."""
        window = max(3, len(line) // 40)
        shapes = []
        for index in range(window, len(line) - window):
            x, y = line[index]
            around = line[index - window : index + window + 1]
            low = max(py for _, py in around) - y
            if y > min(py for _, py in around) or low < 0.012:
                continue
            fall = [(px, py) for px, py in line[index:] if px - x < 0.22 and py >= y - 0.001]
            stop = next(
                (i for i, (a, b) in enumerate(itertools.pairwise(fall)) if b[1] < a[1] - 0.006),
                len(fall),
            )
            fall = fall[: max(2, stop)]
            end = fall[-1]
            deep = max(0.03, end[1] - y)
            zigzag = []
            for step in range(5, 0, -1):
                share = step / 6
                jag = 0.014 * (1 if step % 2 else -1) * random.uniform(0.6, 1.3)
                zigzag.append((x + (end[0] - x) * share * 0.35 + jag, y + deep * share * 1.35))
            shapes.append(Shape((*fall, *zigzag), colour, outlined=False))
        self.canvas.draw(shapes)

    def crests(
        self, line: Sequence[Point], colour: Colour, *, above: float, random: Random
    ) -> None:
        shapes = []
        run: list[Point] = []
        for x, y in [*line, (line[-1][0], math.inf)]:
            if y < above:
                run.append((x, y))
                continue
            if len(run) > 4:
                lower = []
                for index, (px, py) in enumerate(run[::-2]):
                    drop = (
                        0.34 * (above - py) + (0.02 if index % 2 else 0.0) + random.uniform(0, 0.01)
                    )
                    lower.append((px, min(above + 0.004, py + 0.012 + drop)))
                shapes.append(Shape((*run, *lower), lighter(colour, 0.5), outlined=False))
            run = []
        self.canvas.draw(shapes)
        self.canvas.stroke(line, self._ink, _LINE * 1.15)

    def water(
        self, random: Random, horizon: float, palette: Palette, *, light_x: float | None
    ) -> None:
        canvas = self.canvas
        width, height = canvas.size
        top = round(horizon * canvas.scale)
        depth = height - top
        if depth < 2:
            return
        base = _strong(mix(palette.sky[1], palette.near, 0.34))
        above = canvas.picture.crop((0, max(0, top - depth), width, top))
        mirror = above.transpose(Image.Transpose.FLIP_TOP_BOTTOM).resize((width, depth))
        flat = Image.new("RGB", (width, depth), base)
        share = column((width, depth), [(0, 0.42), (0.6, 0.14), (1, 0)])
        canvas.picture.paste(Image.composite(mirror, flat, share), (0, top))
        self._waves(random, horizon, palette, base=base, light_x=light_x)
        line = [(-0.01, horizon), (width / canvas.scale + 0.01, horizon)]
        canvas.stroke(line, self._ink, _LINE)

    def _waves(
        self,
        random: Random,
        horizon: float,
        palette: Palette,
        *,
        base: Colour,
        light_x: float | None,
    ) -> None:
        canvas = self.canvas
        width, height = (side / canvas.scale for side in canvas.size)
        depth = height - horizon
        shapes = []
        for colour, count in ((darker(base, 0.28), 90), (lighter(base, 0.24), 70)):
            for _ in range(round(count * width)):
                near = random.random() ** 1.4
                y = horizon + 0.012 + depth * near
                long = (0.012 + 0.07 * near) * random.uniform(0.5, 1.4)
                shapes.append(
                    _dash(
                        (random.uniform(-0.05, 1.05) * width, y),
                        long=long,
                        thick=0.0012 + 0.0045 * near,
                        colour=colour,
                    )
                )
        glint = mix(palette.light, (255, 222, 140), 0.35)
        rows = 22 if light_x is not None else 0
        for row in range(rows):
            near = (row + 0.5) / rows
            y = horizon + 0.004 + depth * near**1.5
            for _ in range(2):
                x = (light_x or 0) + random.gauss(0, 0.012 + 0.035 * near)
                long = random.uniform(0.02, 0.055) * (0.7 + 0.8 * near)
                shapes.append(_dash((x, y), long=long, thick=0.0016 + 0.0052 * near, colour=glint))
        canvas.draw(shapes)

    def shapes(self, shapes: Sequence[Shape]) -> None:
        strong = [Shape(s.points, _strong(s.colour), s.radii, s.outlined) for s in shapes]
        self.canvas.draw(strong, outline=self._ink, line=_LINE * 0.8)

    def lamp(self, centre: Point, radius: float, colour: Colour) -> None:
        for reach, share in ((0.75, 0.2), (0.45, 0.28), (0.2, 0.4)):
            mask, at = self._round(centre, radius * reach)
            self.canvas.cover(mix(colour, (255, 220, 120), 0.4), scaled(mask, share), at)

    def haze(self, height: float, colour: Colour, share: float) -> None:
        canvas = self.canvas
        at = min(1.0, height * canvas.scale / canvas.size[1])
        low, high = max(0.0, at - 0.1), min(1.0, at + 0.07)
        tone = column(canvas.size, [(0, 0), (low, 0), (at, share), (high, 0), (1, 0)])
        canvas.cover(lighter(colour, 0.15), scaled(self._halftone(tone, 0.007), 0.75))

    def snowfall(self, random: Random) -> None:
        width, height = (side / self.canvas.scale for side in self.canvas.size)
        self.canvas.draw(
            [
                disc((random.random() * width, random.random() * height), radius, (252, 252, 250))
                for radius, count in ((0.0028, 190), (0.0048, 80), (0.0075, 22))
                for _ in range(count)
            ]
        )

    def rainfall(self, random: Random) -> None:
        width, height = (side / self.canvas.scale for side in self.canvas.size)
        shapes = []
        for _ in range(190):
            x, y = random.uniform(0, 1.1) * width, random.random() * height
            long, thick = random.uniform(0.03, 0.08), 0.0014
            points = ((x, y), (x + thick * 1.6, y), (x - long * 0.25, y + long))
            shapes.append(Shape(points, (226, 232, 238), outlined=False))
        self.canvas.draw(shapes)

    def finish_scene(self) -> None:
        """Inks on paper are never quite black, and paper never quite white."""
        self.canvas.picture = self.picture.point(
            [
                *curve(lambda value: 0.03 + 0.955 * value),
                *curve(lambda value: 0.03 + 0.94 * value),
                *curve(lambda value: 0.045 + 0.89 * value),
            ]
        )

    def _round(self, centre: Point, radius: float) -> tuple[Image.Image, tuple[int, int]]:
        points = [
            (
                centre[0] + radius * math.cos(math.tau * step / 96),
                centre[1] + radius * math.sin(math.tau * step / 96),
            )
            for step in range(96)
        ]
        return self.canvas.polygon_mask(points)

    def _halftone(self, tone: Image.Image, pitch: float) -> Image.Image:
        """Dots on a diagonal grid, the larger the stronger the tone."""
        cell = max(3, round(pitch * self.canvas.scale))
        one = Image.radial_gradient("L").resize((cell, cell), Image.Resampling.BICUBIC)
        tile = Image.new("L", (cell, cell * 2))
        tile.paste(one, (0, 0))
        half = cell // 2
        tile.paste(one.crop((half, 0, cell, cell)), (0, cell))
        tile.paste(one.crop((0, 0, half, cell)), (cell - half, cell))
        grid = Image.new("L", tone.size)
        grid.paste(tile, (0, 0))
        filled = cell
        while filled < tone.width:
            grid.paste(
                grid.crop((0, 0, min(filled, tone.width - filled), tile.height)), (filled, 0)
            )
            filled *= 2
        filled = tile.height
        while filled < tone.height:
            grid.paste(
                grid.crop((0, 0, tone.width, min(filled, tone.height - filled))), (0, filled)
            )
            filled *= 2
        inverse = grid.point(curve(lambda value: 1 - value))
        return Image.blend(tone, inverse, 0.5).point(smooth_step(0.60, 0.66))


def _inks(picture: Image.Image) -> Image.Image:
    """A palette for a picture: the colours of its large areas, and those that stand out from them.

    The former alone would lose a red roof, the latter alone would break up a plain sky.
    """
    colours: list[int] = []
    for count, method in (
        (_INKS_BY_AREA, Image.Quantize.MEDIANCUT),
        (_INKS_BY_REACH, Image.Quantize.MAXCOVERAGE),
    ):
        palette = picture.quantize(count, method=method, dither=Image.Dither.NONE).getpalette()
        colours += (palette or [])[: 3 * count]
    inks = Image.new("P", (1, 1))
    inks.putpalette(colours)
    return inks


def _outlines(grey: Image.Image, scale: float) -> Image.Image:
    """Where the light changes abruptly: a mask of lines as wide as a brush makes them."""
    soft = soften(grey, max(0.7, 1.3 * scale))
    step = max(1, round(1.2 * scale))
    slopes = Image.new("L", grey.size)
    for across, down in ((step, 0), (0, step), (step, step), (step, -step)):
        moved = soft.copy()
        moved.paste(soft, (across, down))
        slope = in_bands(ImageChops.difference, soft, moved)
        slopes = in_bands(ImageChops.lighter, slopes, slope)
    sharp = slopes.point(smooth_step(0.045, 0.085))
    return soften(sharp, max(0.6, 0.9 * scale)).point(smooth_step(0.3, 0.62))


def _dash(centre: Point, *, long: float, thick: float, colour: Colour) -> Shape:
    x, y = centre
    return Shape(
        ((x - long, y), (x - long * 0.3, y - thick), (x + long, y), (x + long * 0.3, y + thick)),
        colour,
        outlined=False,
    )


def _strong(colour: Colour) -> Colour:
    """The colour as a printing ink: purer, at nearly the same brightness."""
    grey = round(255 * brightness(colour))
    red, green, blue = (min(255, max(0, round(grey + (band - grey) * 1.4))) for band in colour)
    return red, green, blue
