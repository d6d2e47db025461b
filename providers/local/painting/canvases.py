"""A picture that painters share: outlines in units of length become soft-edged shapes in pixels."""

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

from providers.local.colours import Colour
from providers.local.editing.textures import Size, gradient
from providers.local.painting.outlines import Point, Shape

_FINER = 2
"""The factor of supersampling, which makes edges smooth."""


class Canvas:
    def __init__(self, size: Size) -> None:
        self.picture = Image.new("RGB", size)
        self.scale = math.sqrt(size[0] * size[1])

    @property
    def size(self) -> Size:
        return self.picture.size

    def pixels(self, point: Point) -> tuple[float, float]:
        return point[0] * self.scale, point[1] * self.scale

    def cover(
        self, layer: Image.Image | Colour, mask: Image.Image, at: tuple[int, int] = (0, 0)
    ) -> None:
        """Paint a layer as large as the mask, or a colour, where the mask is."""
        if isinstance(layer, Image.Image):
            self.picture.paste(layer, at, mask)
        else:
            self.picture.paste(layer, (*at, at[0] + mask.width, at[1] + mask.height), mask)

    def below(self, line: Sequence[Point]) -> tuple[Image.Image, int]:
        """A mask of all that lies below a line, and the row at which it begins."""
        points = [self.pixels(point) for point in line]
        width, height = self.size
        top = max(0, min(height - 1, math.floor(min(y for _, y in points)) - 1))
        mask = Image.new("L", (width * _FINER, (height - top) * _FINER))
        outline = [(x * _FINER, (y - top) * _FINER) for x, y in points]
        right, left = outline[-1][0], outline[0][0]
        outline += [(right, mask.height + 9), (left, mask.height + 9)]
        ImageDraw.Draw(mask).polygon(outline, fill=255)
        return mask.reduce(_FINER), top

    def polygon_mask(self, points: Sequence[Point]) -> tuple[Image.Image, tuple[int, int]]:
        """A mask as large as the polygon, and where its upper left corner is."""
        at = [self.pixels(point) for point in points]
        box = self._box(
            min(x for x, _ in at),
            min(y for _, y in at),
            max(x for x, _ in at),
            max(y for _, y in at),
        )
        mask = Image.new("L", ((box[2] - box[0]) * _FINER, (box[3] - box[1]) * _FINER))
        ImageDraw.Draw(mask).polygon(
            [((x - box[0]) * _FINER, (y - box[1]) * _FINER) for x, y in at], fill=255
        )
        return mask.reduce(_FINER), (box[0], box[1])

    def draw(
        self, shapes: Sequence[Shape], *, outline: Colour | None = None, line: float = 0
    ) -> None:
        """Fill the shapes in their order; with a colour for it, outline those that want it."""
        if not shapes:
            return
        boxes = [self._bounds(shape) for shape in shapes]
        margin = line * self.scale + 1
        left, top, right, bottom = self._box(
            min(box[0] for box in boxes) - margin,
            min(box[1] for box in boxes) - margin,
            max(box[2] for box in boxes) + margin,
            max(box[3] for box in boxes) + margin,
        )
        # In bands, so that the finer copy stays small.
        rows = max(64, 1_000_000 // max(1, right - left))
        for start in range(top, bottom, rows):
            stop = min(bottom, start + rows)
            inside = [
                shape
                for shape, box in zip(shapes, boxes, strict=True)
                if box[3] + margin >= start and box[1] - margin <= stop
            ]
            self._draw_band((left, start, right, stop), inside, outline=outline, line=line)

    def _draw_band(
        self,
        area: tuple[int, int, int, int],
        shapes: Sequence[Shape],
        *,
        outline: Colour | None,
        line: float,
    ) -> None:
        left, top, right, bottom = area
        if right <= left or bottom <= top or not shapes:
            return
        # Enlarging and reducing by whole numbers leaves what is not drawn on exactly as it was.
        finer = self.picture.crop(area).resize(
            ((right - left) * _FINER, (bottom - top) * _FINER), Image.Resampling.NEAREST
        )
        draw = ImageDraw.Draw(finer)
        width = max(1, round(line * self.scale * _FINER))

        def at(point: Point) -> tuple[float, float]:
            x, y = self.pixels(point)
            return (x - left) * _FINER, (y - top) * _FINER

        for shape in shapes:
            edge = outline if shape.outlined else None
            if shape.radii is not None:
                x, y = at(shape.points[0])
                across, down = (radius * self.scale * _FINER for radius in shape.radii)
                draw.ellipse(
                    (x - across, y - down, x + across, y + down),
                    fill=shape.colour,
                    outline=edge,
                    width=width if edge else 1,
                )
                continue
            corners = [at(point) for point in shape.points]
            draw.polygon(corners, fill=shape.colour)
            if edge:
                draw.line([*corners, *corners[:2]], fill=edge, width=width, joint="curve")
        self.picture.paste(finer.reduce(_FINER), (left, top))

    def stroke(self, line: Sequence[Point], colour: Colour, width: float) -> None:
        """A smooth line along the points."""
        thin = [
            Shape(
                tuple((x, y - width / 2) for x, y in line)
                + tuple((x, y + width / 2) for x, y in line[::-1]),
                colour,
                outlined=False,
            )
        ]
        self.draw(thin)

    def graded(self, size: Size, *, top: Colour, low: Colour, reach: float) -> Image.Image:
        """From one colour to another within a length, and on in the other."""
        end = min(1.0, reach * self.scale / max(1, size[1]))
        return gradient(size, [(0, top), (end, low), (1, low)])

    def _bounds(self, shape: Shape) -> tuple[float, float, float, float]:
        xs, ys = [x for x, _ in shape.points], [y for _, y in shape.points]
        across, down = shape.radii or (0.0, 0.0)
        return (
            (min(xs) - across) * self.scale,
            (min(ys) - down) * self.scale,
            (max(xs) + across) * self.scale,
            (max(ys) + down) * self.scale,
        )

    def _box(
        self, left: float, top: float, right: float, bottom: float
    ) -> tuple[int, int, int, int]:
        width, height = self.size
        first, above = (
            max(0, min(width - 1, math.floor(left))),
            max(0, min(height - 1, math.floor(top))),
        )
        last, below = min(width, math.ceil(right) + 1), min(height, math.ceil(bottom) + 1)
        return first, above, max(first + 1, last), max(above + 1, below)
