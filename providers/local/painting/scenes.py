"""Words become a scene: what stands where, drawn from back to front by a painter.

The composition follows from the words and the seed alone. A painter only says how things look, so
a scene can be painted in any style and at any size.
"""

import math
from collections.abc import Sequence
from random import Random
from typing import Final

from providers.local.colours import COLOURS, darker, lighter, mix
from providers.local.painting import buildings, crafts, outlines, plants
from providers.local.painting.outlines import Point, Shape
from providers.local.painting.painters import Stroke
from providers.local.painting.palettes import choose_palette

_PLACES: Final = frozenset(
    {"sea", "mountains", "hills", "city", "forest", "desert", "house", "tree", "flowers"}
)
_DEFAULTS: Final = (
    frozenset({"mountains", "hills"}),
    frozenset({"mountains", "sea"}),
    frozenset({"mountains", "hills", "forest"}),
    frozenset({"hills", "tree"}),
)
"""What is drawn where the words name no place."""


def compose(
    subjects: Sequence[str], colours: Sequence[str], *, aspect: float, seed: str
) -> list[Stroke]:
    """The strokes that paint a scene, back to front."""
    return _Scene(subjects, colours, aspect=aspect, seed=seed).strokes()


class _Scene:
    def __init__(
        self, subjects: Sequence[str], colours: Sequence[str], *, aspect: float, seed: str
    ) -> None:
        random = Random(seed)
        self.seed = seed
        self.colours = colours
        self.subjects = set(subjects)
        if self.subjects & {"lighthouse", "boat"}:
            self.subjects.add("sea")
        if not self.subjects & _PLACES:
            self.subjects |= random.choice(_DEFAULTS)
        self.palette = choose_palette(self.subjects, colours, random)
        self.width, self.height = math.sqrt(aspect), 1 / math.sqrt(aspect)
        self.wet = "sea" in self.subjects
        low, high = (0.56, 0.66) if self.wet else (0.48, 0.58)
        self.horizon = self.height * random.uniform(low, high)
        self.light_left = random.random() < 0.5
        side = random.uniform(0.22, 0.4) if self.light_left else random.uniform(0.6, 0.78)
        self.light_x = self.width * side
        self.house_x = self.width * (0.64 if self.light_left else 0.3)
        hidden = {"fog", "rain", "aurora"} & self.subjects
        self.lit = not hidden or bool({"sun", "moon"} & self.subjects)
        """Whether the sun or the moon is seen."""
        self.front: list[Point] = []
        """The line of the land that is nearest."""
        self.done: list[Stroke] = []

    def strokes(self) -> list[Stroke]:
        self._sky()
        self._distance()
        if self.wet:
            self._sea()
        elif "city" not in self.subjects:
            self._ground()
        self._foreground()
        self._weather()
        # Strokes refer to the scene. It keeps none of them: all are freed with the last one.
        done, self.done = self.done, []
        return done

    def _own(self, name: str) -> Random:
        """Randomness for one thing, so that one more word does not shuffle all the others."""
        return Random(f"{self.seed}/{name}")

    def _add(self, stroke: Stroke) -> None:
        self.done.append(stroke)

    def _shapes(self, shapes: Sequence[Shape]) -> None:
        self._add(lambda painter: painter.shapes(shapes))

    def _haze(self, height: float, share: float) -> None:
        self._add(lambda painter: painter.haze(height, self.palette.haze, share))

    def _land(self, line: Sequence[Point], depth: float, name: str) -> None:
        top = self.palette.land(depth)
        low = darker(top, 0.35) if depth > 0.6 else mix(top, self.palette.haze, 0.55 * (1 - depth))
        self._add(lambda painter: painter.land(line, self._own(name), top=top, low=low))

    def _sky(self) -> None:
        subjects, palette, horizon = self.subjects, self.palette, self.horizon
        self._add(lambda painter: painter.sky(palette, horizon))
        if palette.dark:
            self._add(lambda painter: painter.stars(self._own("stars"), horizon))
        if "aurora" in subjects:
            self._add(lambda painter: painter.aurora(self._own("aurora"), horizon))
        if self.lit:
            self._light()
        if "aurora" not in subjects:
            clouded = bool({"clouds", "rain"} & subjects)
            amount = (
                1.0 if clouded else 0.28 if palette.dark else self._own("air").uniform(0.4, 0.7)
            )
            self._add(lambda p: p.clouds(self._own("clouds"), horizon, palette, amount=amount))
        if "balloon" in subjects:
            self._balloons()
        elif "birds" in subjects or (not palette.dark and self._own("flight").random() < 0.3):
            self._birds()

    def _light(self) -> None:
        random, low = self._own("light"), "sunset" in self.subjects
        radius = random.uniform(0.045, 0.06) * (1.25 if low or "moon" in self.subjects else 1.0)
        y = (
            self.horizon - random.uniform(0.02, 0.13)
            if low
            else self.height * random.uniform(0.16, 0.3)
        )
        self._add(lambda painter: painter.light((self.light_x, y), radius, self.palette))

    def _balloons(self) -> None:
        random, palette = self._own("balloon"), self.palette
        dusk = 0.35 if palette.dark else 0.0
        warm, pale = darker(palette.accent, dusk), darker(lighter(palette.light, 0.3), dusk)
        shapes: list[Shape] = []
        for size, shift in ((0.035, 0.14), (0.022, -0.17), (0.085, 0.0)):
            x = self.width - self.light_x + shift * self.width
            centre = (
                min(self.width * 0.92, max(self.width * 0.08, x)),
                self.height * random.uniform(0.14, 0.34),
            )
            shapes += crafts.balloon(centre, size, colours=(warm, pale))
        self._shapes(shapes)

    def _birds(self) -> None:
        random = self._own("birds")
        x, y = self.width - self.light_x, self.height * random.uniform(0.2, 0.32)
        colour = darker(self.palette.land(0.8), 0.2)
        self._shapes(
            [
                crafts.bird(
                    (x + random.gauss(0, 0.09), y + random.gauss(0, 0.035)),
                    span=random.uniform(0.009, 0.02),
                    lift=random.uniform(0.25, 0.6),
                    colour=colour,
                )
                for _ in range(random.randint(5, 9))
            ]
        )

    def _distance(self) -> None:
        """What stands on the horizon."""
        subjects, random = self.subjects, self._own("distance")
        if "mountains" in subjects:
            for depth, height in ((0.0, 0.3), (0.22, 0.24), (0.42, 0.14)):
                line = outlines.rocky_ridge(
                    random, width=self.width, base=self.horizon + 0.015, height=height
                )
                self._land(line, depth, f"mountain {depth}")
                if height > 0.2:
                    self._crests(line, height, depth)
                self._haze(self.horizon - 0.02, 0.3)
        elif self.wet and not {"city", "lighthouse", "boat"} & subjects:
            line = outlines.rolling_ridge(
                random, width=self.width, base=self.horizon + 0.004, height=0.05
            )
            self._land(line, 0.12, "coast")
        if "city" in subjects:
            self._skyline()

    def _crests(self, line: Sequence[Point], height: float, depth: float) -> None:
        white = mix((244, 248, 255), self.palette.haze, 0.35 + 0.2 * depth)
        above = self.horizon - height * (0.25 if "snow" in self.subjects else 0.55)
        self._add(lambda p: p.crests(line, white, above=above, random=self._own(f"snow {depth}")))

    def _skyline(self) -> None:
        random = self._own("city")
        lit = 0.5 if self.palette.dark else 0.3 if "sunset" in self.subjects else 0.0
        near = ((0.1, 0.4, 0.06), (0.38, 0.34, 0.16), (0.68, 0.25, 0.28), (0.95, 0.18, 0.45))
        far = ((0.15, 0.3, 0.0), (0.4, 0.24, 0.0), (0.7, 0.17, 0.03))
        for depth, height, drop in far if self.wet else near:
            base = self.horizon + (0 if self.wet else drop * self.height)
            self._shapes(
                buildings.skyline(
                    random,
                    self.palette,
                    width=self.width,
                    base=base,
                    foot=base if self.wet else self.height + 0.01,
                    height=height,
                    depth=depth,
                    lit=lit,
                )
            )
            self._haze(base, 0.5 * (1 - depth))

    def _sea(self) -> None:
        random = self._own("shore")
        if "forest" in self.subjects:
            feet = [
                (random.uniform(-0.02, 1.02) * self.width, self.horizon + 0.006)
                for _ in range(round(110 * self.width))
            ]
            self._shapes(self._firs(random, feet, height=0.1, depth=0.35))
        if "lighthouse" in self.subjects:
            self._lighthouse()
        path = self.light_x if self.lit else None
        self._add(lambda p: p.water(self._own("water"), self.horizon, self.palette, light_x=path))
        if "boat" in self.subjects:
            self._boats()

    def _lighthouse(self) -> None:
        random, palette = self._own("lighthouse"), self.palette
        x = self.width * (0.76 if self.light_left else 0.24)
        top = self.horizon - 0.055
        rock = buildings.headland(
            random,
            (x, self.horizon + 0.012),
            half=0.24,
            height=0.067,
            colour=palette.land(0.86),
        )
        white = mix((246, 242, 234), palette.sky[1], 0.5 if palette.dark else 0.12)
        band = mix((190, 48, 44), palette.sky[0], 0.45 if palette.dark else 0.1)
        lamp = (255, 236, 176)
        house_x = x - 0.1 if self.light_left else x + 0.085
        house = buildings.cottage(
            (house_x, top + 0.014), 0.05, wall=white, roof=band, window=palette.accent
        )
        height = 0.36
        tower = buildings.lighthouse((x, top + 0.006), height, wall=white, band=band, lamp=lamp)
        self._shapes([rock, *house, *tower])
        at = (x, top - height * 0.86)
        self._add(lambda painter: painter.lamp(at, 0.3 if palette.dark else 0.1, lamp))

    def _boats(self) -> None:
        random, palette = self._own("boat"), self.palette
        hull = mix(darker(palette.accent, 0.45), palette.near, 0.4)
        sail = mix(mix((250, 246, 236), palette.light, 0.4), palette.sky[1], 0.4 * palette.dark)
        red = mix(sail, palette.accent, 0.55 if random.random() < 0.4 else 0.0)
        far_x, near_x = self.width * random.uniform(0.4, 0.6), self.width - self.light_x
        if "lighthouse" in self.subjects:
            near_x = self.width * random.uniform(0.46, 0.54)
        shapes: list[Shape] = []
        for size, down, x, tone in ((0.05, 0.04, far_x, sail), (0.15, 0.32, near_x, red)):
            y = self.horizon + (self.height - self.horizon) * down
            boat = crafts.sailing_boat((x, y), size, hull=hull, sail=tone)
            shapes += [*crafts.mirrored(boat, y + size * 0.05, palette), *boat]
        self._shapes(shapes)

    def _ground(self) -> None:
        """Layers of land down to the viewer, each nearer and darker than the one before."""
        random, desert = self._own("ground"), "desert" in self.subjects
        ridge = outlines.dune_ridge if desert else outlines.rolling_ridge
        depths = (0.3, 0.5, 0.72, 0.95)
        for index, depth in enumerate(depths):
            # Flowers need room: the land that they grow on begins further up.
            reach = 0.62 if "flowers" in self.subjects else 0.95
            base = self.horizon + 0.07 + (self.height - self.horizon) * index / len(depths) * reach
            height = (0.085 if desert else 0.06) * (1 + 0.55 * index)
            self.front = ridge(random, width=self.width, base=base, height=height)
            self._land(self.front, depth, f"ground {index}")
            if desert:
                self._dune_shadows(self.front, depth)
            if "forest" in self.subjects:
                self._forest(self.front, depth, index)
            # In a forest the house stands in front of most trees, or it would not be seen.
            if index == (2 if "forest" in self.subjects else 1) and "house" in self.subjects:
                self._cottage(self.front)
            if index < 2:
                self._haze(base - height * 0.1, 0.36 - 0.14 * index)

    def _dune_shadows(self, line: Sequence[Point], depth: float) -> None:
        """The side of each crest that the light does not reach."""
        colour = darker(self.palette.land(depth), 0.26)
        way = 1 if self.light_left else -1
        size = 0.2 * (0.45 + depth)
        shapes: list[Shape] = []
        for before, (x, y), after in zip(line, line[3:], line[6:], strict=False):
            if y > before[1] - 0.001 or y > after[1] - 0.001:
                continue
            if any(abs(shape.points[0][0] - x) < 0.1 for shape in shapes):
                continue
            slope = [point for point in line if 0 < (point[0] - x) * way < size]
            slope.sort(key=lambda point: abs(point[0] - x))
            foot = [
                (x + way * size * across, y + size * down)
                for across, down in ((0.85, 0.6), (0.5, 0.5), (0.27, 0.34), (0.12, 0.16))
            ]
            shapes.append(Shape(((x, y), *slope, *foot), colour, outlined=False))
        self._shapes(shapes)

    def _forest(self, line: Sequence[Point], depth: float, index: int) -> None:
        random = self._own(f"forest {index}")
        feet = []
        for _ in range(round((90, 80, 56, 20)[index] * self.width)):
            x = random.uniform(-0.03, 1.03) * self.width
            # A clearing in front lets the eye in, to a house if there is one.
            hides = index == 3 and 0.3 < x / self.width < 0.7
            if "house" in self.subjects:
                hides = hides or (index > 1 and -0.15 < x - self.house_x < 0.25)
            if not hides:
                feet.append((x, outlines.height_at(line, x) + random.uniform(0.0, 0.03)))
        self._shapes(self._firs(random, feet, height=0.07 + 0.2 * depth**2, depth=depth))

    def _firs(
        self, random: Random, feet: Sequence[Point], *, height: float, depth: float
    ) -> list[Shape]:
        return plants.firs(
            random,
            feet,
            height=height,
            depth=depth,
            palette=self.palette,
            snowy="snow" in self.subjects,
        )

    def _cottage(self, line: Sequence[Point]) -> None:
        palette, size = self.palette, 0.11
        x = self.house_x
        y = outlines.height_at(line, x) + 0.03
        wall = mix((240, 230, 212), palette.sky[1], 0.55 if palette.dark else 0.12)
        roof = darker(mix(palette.accent, (120, 60, 48), 0.5), 0.4 * palette.dark)
        if "snow" in self.subjects:
            roof = mix((240, 244, 252), palette.sky[1], 0.3)
        evening = palette.dark or bool({"sunset", "snow"} & self.subjects)
        window = (255, 214, 130) if evening else mix(palette.sky[0], (60, 70, 90), 0.5)
        self._shapes(buildings.cottage((x, y), size, wall=wall, roof=roof, window=window))
        if evening:
            at = (x + size * 0.4, y - size * 0.3)
            self._add(lambda painter: painter.lamp(at, 0.12, window))
        if not {"tree", "forest"} & self.subjects:
            green = mix(palette.land(0.75), (70, 96, 60), 0.3)
            foot = (x + 0.19, y + 0.01)
            self._shapes(
                plants.broadleaf(
                    self._own("house tree"), foot, height=0.15, colour=green, light=palette.light
                )
            )

    def _foreground(self) -> None:
        subjects, palette, random = self.subjects, self.palette, self._own("foreground")
        ashore = {"hills", "house", "tree", "flowers", "desert"} & subjects
        if self.wet and ashore:
            rise = 0.14 if "flowers" in subjects else 0.05
            self.front = outlines.rolling_ridge(
                random, width=self.width, base=self.height - rise, height=0.12
            )
            self._land(self.front, 0.92, "shore")
            if "house" in subjects:
                self._cottage(self.front)
        if not self.front:
            return
        if "tree" in subjects:
            x = self.width * (0.78 if self.light_left else 0.22)
            foot = (x, outlines.height_at(self.front, x) + 0.03)
            green = mix(palette.land(0.8), (64, 92, 54), 0.1 if palette.dark else 0.35)
            blossom = [name for name in self.colours if name in {"pink", "red", "white", "orange"}]
            if blossom:
                green = mix(COLOURS[blossom[0]], palette.near, 0.2)
            self._shapes(
                plants.broadleaf(random, foot, height=0.42, colour=green, light=palette.light)
            )
        if "flowers" in subjects:
            self._shapes(
                plants.meadow(
                    self._own("flowers"),
                    self.front,
                    self.height,
                    palette=palette,
                    colours=self.colours,
                )
            )

    def _weather(self) -> None:
        if "fog" in self.subjects:
            self._haze(self.horizon, 0.85)
            self._haze(self.height * 0.8, 0.5)
        if "snow" in self.subjects:
            self._add(lambda painter: painter.snowfall(self._own("snowfall")))
        if "rain" in self.subjects:
            self._add(lambda painter: painter.rainfall(self._own("rainfall")))
