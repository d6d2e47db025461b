"""The style of Silver: clean and photographic, with soft light, haze and fine grain."""

import math
from collections.abc import Sequence
from random import Random

from PIL import Image, ImageDraw

from providers.local.colours import Colour, darker, lighter, mix
from providers.local.editing import effects, tones
from providers.local.editing.textures import (
    Size,
    clouds,
    column,
    gradient,
    scaled,
    smooth_step,
    soften,
    spot,
)
from providers.local.painting.canvases import Canvas
from providers.local.painting.outlines import Point, Shape
from providers.local.painting.palettes import Palette


def restyle(picture: Image.Image, _random: Random) -> Image.Image:
    """Restyle a picture as Silver: nearly unchanged, with a gentle S-curve."""
    return tones.contrast(picture, 0.18)


def finish(picture: Image.Image, random: Random, *, own: bool) -> Image.Image:
    """Fine grain; less where the picture has Silver's grain already."""
    # Each speck of a small picture is larger to the eye.
    size = min(1.0, 0.3 + 0.7 * effects.unit(picture))
    return effects.film_grain(picture, size * (0.13 if own else 0.2), random)


class SilverPainter:
    """Paints a scene with light: gradients, glow, layers that fade into haze."""

    def __init__(self, size: Size) -> None:
        self.canvas = Canvas(size)

    @property
    def picture(self) -> Image.Image:
        return self.canvas.picture

    def sky(self, palette: Palette, horizon: float) -> None:
        height = self.canvas.size[1] / self.canvas.scale
        top, middle, low = palette.sky
        end = min(0.98, horizon / height)
        self.canvas.picture = gradient(
            self.canvas.size,
            [(0, top), (end * 0.55, middle), (end, low), (1, mix(low, palette.far, 0.5))],
        )

    def stars(self, random: Random, horizon: float) -> None:
        canvas = self.canvas
        width = canvas.size[0] / canvas.scale
        shapes = []
        for _ in range(round(420 * width * horizon)):
            x, share = random.random() * width, random.random() ** 1.5
            y = share * horizon * 0.95
            bright = random.random() ** 4 * (1 - 0.7 * share)
            colour = mix((168, 184, 220), (255, 252, 244), bright)
            radius = 0.0006 + 0.0014 * bright
            shapes.append(Shape(((x, y),), colour, (radius, radius)))
        night = canvas.picture.copy()
        canvas.draw(shapes)
        # The Milky Way, and then fewer stars towards the horizon.
        band = clouds(canvas.size, random, cells=1.6, stretch=0.8).point(smooth_step(0.45, 0.95))
        canvas.cover((150, 160, 205), scaled(band, 0.16))
        fade = column(
            canvas.size, [(0, 0), (horizon * canvas.scale / canvas.size[1], 0.85), (1, 1)]
        )
        canvas.cover(night, fade)

    def aurora(self, random: Random, horizon: float) -> None:
        canvas = self.canvas
        for colour, shift in (
            ((72, 236, 160), 0.0),
            ((70, 200, 220), 0.13),
            ((170, 96, 220), 0.22),
        ):
            curtain = self._curtain(random, horizon, shift)
            canvas.cover(colour, scaled(curtain, 0.72 - shift))

    def _curtain(self, random: Random, horizon: float, shift: float) -> Image.Image:
        """Vertical rays that hang from a wavy band."""
        canvas = self.canvas
        width = 256
        height = max(1, round(width * canvas.size[1] / canvas.size[0]))
        rays = clouds((width, 8), random, cells=9).resize((width, 1)).point(smooth_step(0.15, 0.9))
        sheet = Image.new("L", (width, height))
        phase, pace = random.uniform(0, math.tau), random.uniform(4, 7)
        end = horizon * canvas.scale / canvas.size[1]
        fall = column((1, height), [(0, 0), (0.3, 0.35), (0.86, 1), (1, 0)])
        for x in range(width):
            wave = math.sin(x / width * pace + phase) + 0.4 * math.sin(x / width * pace * 2.7)
            foot = height * end * (0.72 - shift + 0.12 * wave)
            tall = height * end * (0.5 + 0.1 * wave)
            ray = fall.resize((1, max(1, round(tall))))
            strength = rays.getpixel((x, 0))
            assert isinstance(strength, (int, float))
            ray = scaled(ray, 0.25 + 0.75 * strength / 255)
            sheet.paste(ray, (x, round(foot - tall)))
        return soften(sheet, 2.2).resize(canvas.size, Image.Resampling.BICUBIC)

    def light(self, centre: Point, radius: float, palette: Palette) -> None:
        canvas = self.canvas
        at = canvas.pixels(centre)
        for reach, share in ((1.15, 0.42), (0.5, 0.42), (0.18, 0.5)):
            halo = spot(canvas.size, at, reach * canvas.scale)
            tone = palette.light if reach < 1 else mix(palette.light, palette.sky[2], 0.4)
            canvas.cover(tone, scaled(halo, share * (0.5 if palette.dark else 0.9)))
        face = lighter(palette.light, 0.6)
        canvas.draw([Shape((centre,), face, (radius, radius))])
        if palette.dark:
            self._seas_of_the_moon(centre, radius, face)

    def _seas_of_the_moon(self, centre: Point, radius: float, face: Colour) -> None:
        canvas = self.canvas
        side = max(8, round(2 * radius * canvas.scale))
        spots = clouds((side, side), Random("the same moon every night"), cells=4)
        disc = Image.new("L", (side * 2, side * 2))
        ImageDraw.Draw(disc).ellipse((4, 4, side * 2 - 5, side * 2 - 5), fill=255)
        black = Image.new("L", (side, side))
        mask = Image.composite(spots.point(smooth_step(0.5, 0.85)), black, disc.reduce(2))
        x, y = canvas.pixels(centre)
        canvas.cover(
            darker(face, 0.3), scaled(mask, 0.5), (round(x - side / 2), round(y - side / 2))
        )

    def clouds(self, random: Random, horizon: float, palette: Palette, *, amount: float) -> None:
        canvas = self.canvas
        end = min(1.0, horizon * canvas.scale / canvas.size[1])
        billows = clouds(canvas.size, random, cells=2.6, stretch=2.6)
        threshold = 0.78 - 0.42 * amount
        mask = billows.point(smooth_step(threshold, threshold + 0.38))
        fade = column(canvas.size, [(0, 0.75), (end * 0.6, 0.95), (end * 0.95, 0.35), (1, 0)])
        black = Image.new("L", canvas.size)
        mask = Image.composite(mask, black, fade)
        # Lit from the horizon: bright below, in the sky's own shade above.
        shade = mix(palette.sky[0], palette.sky[1], 0.6)
        bright = mix(lighter(palette.sky[2], 0.45), palette.light, 0.4)
        if palette.dark:
            shade, bright = palette.sky[1], mix(palette.sky[2], palette.light, 0.1)
        lit = gradient(canvas.size, [(0, mix(shade, bright, 0.35)), (end, bright), (1, bright)])
        body = Image.composite(
            Image.new("RGB", canvas.size, mix(shade, bright, 0.3)),
            lit,
            billows.point(smooth_step(threshold + 0.2, 1.0)),
        )
        canvas.cover(body, scaled(mask, 0.5 if palette.dark else 0.86))

    def land(self, line: Sequence[Point], random: Random, *, top: Colour, low: Colour) -> None:
        canvas = self.canvas
        mask, start = canvas.below(line)
        layer = canvas.graded(mask.size, top=top, low=low, reach=0.26)
        # Light and shade on the slopes: coarse folds and fine roughness.
        folds = clouds(mask.size, random, cells=6, stretch=1.6)
        bright, dark = lighter(top, 0.2), darker(top, 0.24)
        lit = Image.composite(
            Image.new("RGB", mask.size, bright), Image.new("RGB", mask.size, dark), folds
        )
        share = column(mask.size, [(0, 0.5), (0.5, 0.3), (1, 0.18)])
        layer.paste(lit, (0, 0), share)
        canvas.cover(layer, mask, (0, start))

    def crests(
        self, line: Sequence[Point], colour: Colour, *, above: float, random: Random
    ) -> None:
        canvas = self.canvas
        mask, start = canvas.below(line)
        height = mask.height
        end = (above * canvas.scale - start) / height
        if end <= 0:
            return
        broken = clouds(mask.size, random, cells=16, stretch=0.45)
        fall = column(
            mask.size,
            [
                (0, 1),
                (max(0.02, end * 0.35), 0.72),
                (min(1, end), 0.2),
                (min(1, end * 1.3), 0),
                (1, 0),
            ],
        )
        snow = Image.blend(broken, fall, 0.62).point(smooth_step(0.5, 0.62))
        black = Image.new("L", mask.size)
        snow = Image.composite(snow, black, mask)
        canvas.cover(
            colour,
            scaled(Image.composite(snow, black, fall.point(smooth_step(0, 0.15))), 0.85),
            (0, start),
        )

    def water(
        self, random: Random, horizon: float, palette: Palette, *, light_x: float | None
    ) -> None:
        canvas = self.canvas
        width, height = canvas.size
        top = round(horizon * canvas.scale)
        depth = height - top
        if depth < 2:
            return
        # What is mirrored is squeezed, as it is when seen at a low angle.
        above = canvas.picture.crop((0, max(0, top - round(depth * 1.15)), width, top))
        mirror = above.transpose(Image.Transpose.FLIP_TOP_BOTTOM).resize((width, depth))
        mirror = soften(mirror, 0.0025 * canvas.scale)
        water = self._rippled(mirror, random)
        tone = mix(palette.sky[1], palette.near, 0.45)
        deep = gradient(
            (width, depth), [(0, mix(tone, palette.sky[2], 0.4)), (1, darker(tone, 0.5))]
        )
        share = column((width, depth), [(0, 0.12), (0.35, 0.4), (1, 0.78)])
        water = Image.composite(deep, water, share)
        self._sparkle(random, water, palette, light_x=light_x)
        canvas.picture.paste(water, (0, top))
        mist = column((width, round(depth * 0.1) + 2), [(0, 0.5), (1, 0)])
        canvas.cover(palette.haze, scaled(mist, 0.8), (0, top))

    def _rippled(self, mirror: Image.Image, random: Random) -> Image.Image:
        """Rows are shifted sideways by waves that grow towards the viewer."""
        width, depth = mirror.size
        result = mirror.copy()
        scale = self.canvas.scale
        phase = random.uniform(0, math.tau)
        rows = max(1, round(scale / 1024))
        for row in range(0, depth, rows):
            near = row / depth
            wave = math.sin(phase + 130 * (near + 0.02) ** 0.55) + 0.5 * math.sin(phase + 41 * near)
            shift = round(wave * scale * (0.0015 + 0.012 * near))
            strip = mirror.crop((0, row, width, min(depth, row + rows)))
            result.paste(strip, (shift, row))
        return result

    def _sparkle(
        self, random: Random, water: Image.Image, palette: Palette, *, light_x: float | None
    ) -> None:
        """Waves as streaks of light and shade, and the path of light below the sun or the moon."""
        width, depth = water.size
        scale = self.canvas.scale
        # Waves are closer together further away: streaks are drawn evenly and pulled towards us.
        even = clouds((width, depth), random, cells=40, stretch=9)
        waves = Image.new("L", (width, depth))
        bands = 9
        for band in range(bands):
            low, high = (band / bands) ** 1.8, ((band + 1) / bands) ** 1.8
            part = even.crop(
                (0, round(depth * band / bands), width, round(depth * (band + 1) / bands))
            )
            first, last = round(depth * low), round(depth * high)
            if last > first:
                waves.paste(
                    part.resize((width, last - first), Image.Resampling.BICUBIC), (0, first)
                )
        shade = waves.point(smooth_step(0.62, 0.3))
        water.paste(darker(palette.near, 0.2), (0, 0, width, depth), scaled(shade, 0.26))
        gleam = waves.point(smooth_step(0.56, 0.82))
        water.paste(lighter(palette.sky[2], 0.3), (0, 0, width, depth), scaled(gleam, 0.22))
        if light_x is None:
            return
        path = Image.new("L", (width, depth))
        x = light_x * scale
        beam = spot((width, 64), (x, 32), 0.34 * scale)
        beam = beam.crop((0, 31, width, 33)).resize((width, depth), Image.Resampling.BICUBIC)
        path = Image.composite(waves.point(smooth_step(0.42, 0.66)), path, beam)
        water.paste(lighter(palette.light, 0.4), (0, 0, width, depth), scaled(path, 0.85))

    def shapes(self, shapes: Sequence[Shape]) -> None:
        self.canvas.draw(shapes)

    def lamp(self, centre: Point, radius: float, colour: Colour) -> None:
        canvas = self.canvas
        at = canvas.pixels(centre)
        for reach, share in ((radius, 0.55), (radius * 0.3, 0.8)):
            canvas.cover(
                lighter(colour, 0.3), scaled(spot(canvas.size, at, reach * canvas.scale), share)
            )

    def haze(self, height: float, colour: Colour, share: float) -> None:
        canvas = self.canvas
        at = height * canvas.scale / canvas.size[1]
        low, high = max(0.0, at - 0.16), min(1.0, at + 0.14)
        mask = column(
            canvas.size, [(0, 0), (low, 0), (min(1.0, at), share), (high, share * 0.15), (1, 0)]
        )
        canvas.cover(colour, mask)

    def snowfall(self, random: Random) -> None:
        self.canvas.picture = effects.flakes(self.picture, 0.9, random)

    def rainfall(self, random: Random) -> None:
        self.canvas.picture = effects.streaks(self.picture, 0.9, random)

    def finish_scene(self) -> None:
        """What a lens adds: light that spreads, and corners a little darker."""
        picture = tones.glow(
            self.picture, 0.35, blurred=soften(self.picture, 0.014 * self.canvas.scale)
        )
        self.canvas.picture = tones.vignette(tones.contrast(picture, 0.22), 0.42)
