"""The placeholder has the expected content, read by a decoder of the tests."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import cos, pi

import pytest

from storage.imaging.thumbhash import thumbhash_of

Rgba = tuple[int, int, int, int]


@dataclass
class Decoded:
    """What the published format says that a hash means."""

    hash: bytes

    def __post_init__(self) -> None:
        head = int.from_bytes(self.hash[:5], "little")
        self.has_alpha = bool(head >> 23 & 1)
        self.is_landscape = bool(head >> 39 & 1)
        short, long = head >> 24 & 7, 5 if self.has_alpha else 7
        self.terms = (long, short) if self.is_landscape else (short, long)
        nibbles = self._nibbles()
        self.opacity, opacity_scale = 1.0, 0.0
        if self.has_alpha:
            self.opacity, opacity_scale = next(nibbles) / 15, next(nibbles) / 15
        self.averages = (
            (head & 63) / 63,
            (head >> 6 & 63) / 31.5 - 1,
            (head >> 12 & 63) / 31.5 - 1,
        )
        scales = ((head >> 18 & 31) / 31, (head >> 27 & 63) / 63, (head >> 33 & 63) / 63)
        sizes = ((max(3, self.terms[0]), max(3, self.terms[1])), (3, 3), (3, 3))
        self._channels = [
            self._waves(nibbles, size, scale) for size, scale in zip(sizes, scales, strict=True)
        ]
        self._opacity_waves = self._waves(nibbles, (5, 5), opacity_scale) if self.has_alpha else []

    @property
    def ratio(self) -> float:
        return self.terms[0] / self.terms[1]

    @property
    def average(self) -> tuple[float, float, float]:
        return self._rgb(*self.averages)

    def at(self, x: float, y: float) -> tuple[float, float, float, float]:
        """Colour and opacity at a place; both coordinates from 0 to 1."""

        def value(average: float, waves: list[tuple[int, int, float]]) -> float:
            return average + sum(
                2 * f * cos(pi * i * x) * cos(pi * j * y) * (1 if i and j else 0.5) * 2
                for i, j, f in waves
            )

        colours = [value(a, w) for a, w in zip(self.averages, self._channels, strict=True)]
        return (*self._rgb(*colours), value(self.opacity, self._opacity_waves))

    def _nibbles(self) -> Iterator[int]:
        for byte in self.hash[5:]:
            yield byte & 15
            yield byte >> 4

    @staticmethod
    def _waves(
        nibbles: Iterator[int], size: tuple[int, int], scale: float
    ) -> list[tuple[int, int, float]]:
        return [
            (x, y, (next(nibbles) / 7.5 - 1) * scale)
            for y in range(size[1])
            for x in range(size[0])
            if (x or y) and x * size[1] < size[0] * (size[1] - y)
        ]

    @staticmethod
    def _rgb(light: float, yellow_blue: float, red_green: float) -> tuple[float, float, float]:
        blue = light - 2 / 3 * yellow_blue
        red = (3 * light - blue + red_green) / 2
        return red, red - red_green, blue


def pixels(width: int, height: int, colour: Callable[[int, int], Rgba]) -> bytes:
    return bytes(value for y in range(height) for x in range(width) for value in colour(x, y))


def plain(width: int, height: int, colour: Rgba) -> Decoded:
    return Decoded(thumbhash_of(width, height, bytes(colour) * (width * height)))


@pytest.mark.parametrize(
    "colour",
    [(0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 120, 40)],
)
def test_a_plain_colour_is_restored(colour: tuple[int, int, int]) -> None:
    decoded = plain(32, 32, (*colour, 255))

    assert decoded.average == pytest.approx([value / 255 for value in colour], abs=0.05)
    assert not decoded.has_alpha


@pytest.mark.parametrize(
    ("width", "height"), [(32, 32), (32, 18), (18, 32), (32, 24), (24, 32), (100, 30), (1, 1)]
)
def test_the_aspect_ratio_is_restored(width: int, height: int) -> None:
    decoded = plain(width, height, (90, 120, 150, 255))

    assert decoded.ratio == pytest.approx(width / height, rel=0.2)
    assert decoded.is_landscape == (width > height)


def test_alpha_is_encoded_only_if_there_is_transparency() -> None:
    opaque = plain(20, 20, (10, 20, 30, 255))
    nearly = Decoded(
        thumbhash_of(20, 20, pixels(20, 20, lambda x, y: (10, 20, 30, 254 if x == y == 7 else 255)))
    )

    assert not opaque.has_alpha
    assert nearly.has_alpha


def test_fully_transparent_pixels_do_not_affect_the_average() -> None:
    def half_seen(x: int, y: int) -> Rgba:
        return (255, 0, 0, 255) if x < 16 else (0, 255, 0, 0)

    decoded = Decoded(thumbhash_of(32, 32, pixels(32, 32, half_seen)))

    assert decoded.average == pytest.approx((1, 0, 0), abs=0.05)
    assert decoded.opacity == pytest.approx(0.5, abs=0.05)
    assert decoded.at(0.1, 0.5)[3] > 0.8
    assert decoded.at(0.9, 0.5)[3] < 0.2


def test_an_empty_picture_has_a_placeholder() -> None:
    decoded = plain(10, 10, (1, 2, 3, 0))

    assert decoded.has_alpha
    assert decoded.opacity == 0


def test_light_and_colour_are_restored_in_place() -> None:
    def corners(x: int, y: int) -> Rgba:
        return (255 * (x >= 16), 255 * (y >= 12), 60, 255)

    decoded = Decoded(thumbhash_of(32, 24, pixels(32, 24, corners)))

    for x in (0.15, 0.85):
        for y in (0.15, 0.85):
            red, green, blue, _ = decoded.at(x, y)
            assert (red > 0.5) == (x > 0.5)
            assert (green > 0.5) == (y > 0.5)
            assert blue == pytest.approx(60 / 255, abs=0.25)


def test_a_gradient_is_restored_approximately() -> None:
    decoded = Decoded(
        thumbhash_of(32, 32, pixels(32, 32, lambda x, y: (8 * x, 8 * y, 8 * (31 - x), 255)))
    )

    # At the edges a few waves cannot be true to it.
    for x in range(5, 27, 3):
        for y in range(5, 27, 3):
            red, green, blue, _ = decoded.at((x + 0.5) / 32, (y + 0.5) / 32)
            assert (red, green, blue) == pytest.approx(
                (8 * x / 255, 8 * y / 255, 8 * (31 - x) / 255), abs=0.15
            )


@pytest.mark.parametrize(("width", "height"), [(1, 100), (100, 1), (3, 3), (32, 32), (100, 100)])
@pytest.mark.parametrize("alpha", [255, 128])
def test_a_placeholder_has_at_most_25_bytes(width: int, height: int, alpha: int) -> None:
    def noise(x: int, y: int) -> Rgba:
        return (x * 89 + y * 47) % 256, (x * 31 + y * 97) % 256, (x * y * 7) % 256, alpha

    found = thumbhash_of(width, height, pixels(width, height, noise))

    assert 16 <= len(found) <= 25


@pytest.mark.parametrize(
    ("width", "height", "byte_size"), [(101, 1, 404), (1, 101, 404), (0, 5, 0), (2, 2, 15)]
)
def test_other_sizes_are_refused(width: int, height: int, byte_size: int) -> None:
    with pytest.raises(ValueError, match="100 pixels"):
        thumbhash_of(width, height, bytes(byte_size))
