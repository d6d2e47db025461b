"""Finds a base in an edited image: models shift and scale what they are given.

Only shift and scale are looked for, each along both axes: that is what models do, and an image can
be put back by a plain resize.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Grey: TypeAlias = NDArray[np.float32]

_LARGEST_STRAY: Final = 0.12
"""How far an image may be shifted, as a fraction of its side."""
WORKING_SIDE: Final = 512
"""The longest side, in pixels, of the compared images: it bounds time and memory."""
_LEVELS: Final = (32, 64, 128, 256)
"""The sides in which images are compared first, from coarse to fine."""
_ROUNDS: Final = 12
_SETTLED: Final = 0.02
"""In pixels: a smaller correction ends the search on its level."""
_TELLING_SLOPE: Final = 2.0
"""In grey levels for each pixel: gentler slopes say nothing about the position."""
_SAME_SHAPE: Final = 0.02
_MUCH: Final = 32.0
"""In grey levels: pixels that differ by more do not count as more different."""
_SCALES: Final = (0.98, 1.0, 1.02)
"""The scales at which the search begins."""
_SHIFTED_LEVEL: Final = 2
"""The scales at which the shift is found by phase correlation."""
_ALIKE: Final = 0.002
"""Images that differ by less than this are aligned already."""
_FOLLOWED: Final = (8, 4, 2, 1, 1)
"""How many alignments are followed from each level to the next: fewer on finer levels."""
_SAME: Final = 0.002
"""Alignments that differ by less, as a fraction of the sides, lead to the same result."""
_NEEDED_GAIN: Final = 0.98
"""How much better an alignment must be than no alignment."""
_FREE_WEIGHT: Final = 0.05
"""The fraction of pixels that may differ: a mask may leave none to compare."""
_LEAST_SHOWN: Final = 0.4
"""As a fraction of the base's pixels."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps a position in the base to one in the edited image, in fractions of their sides."""

    scale: float = 1.0
    shift: float = 0.0

    def at(self, position: float) -> float:
        return self.scale * position + self.shift

    def span(self, size: int) -> tuple[int, int]:
        """The range of this many pixels of the base that the edited image shows: the first one, and
        the end.
        """
        first, end = -self.shift / self.scale * size, (1 - self.shift) / self.scale * size
        return max(0, int(np.ceil(first - 1e-6))), min(size, int(np.floor(end + 1e-6)))


@dataclass(frozen=True, slots=True)
class Alignment:
    across: Axis = Axis()
    down: Axis = Axis()

    def source_box(
        self, box: tuple[int, int, int, int], *, base: tuple[int, int], edited: tuple[int, int]
    ) -> tuple[float, float, float, float]:
        """The part of the edited image that fills a box of the base's pixels."""
        left, top, right, bottom = box
        width, height = edited
        return (
            max(0.0, self.across.at(left / base[0]) * width),
            max(0.0, self.down.at(top / base[1]) * height),
            min(float(width), self.across.at(right / base[0]) * width),
            min(float(height), self.down.at(bottom / base[1]) * height),
        )

    def covered(self, base: tuple[int, int]) -> tuple[int, int, int, int]:
        """The box of the base's pixels that the edited picture shows."""
        left, right = self.across.span(base[0])
        top, bottom = self.down.span(base[1])
        return left, top, right, bottom


def align(base: Image.Image, edited: Image.Image, *, free: Image.Image | None = None) -> Alignment:
    """Find the base in the edited image, whatever their sizes.

    `free`: a mask of the base's aspect ratio that is 0 where the images should be the same; None:
    they may differ anywhere. If the base cannot be found, the images are taken to have the same
    frame.
    """
    plain, pyramid = Alignment(), list(_pyramid(base, edited, free))
    finest = pyramid[-1]
    if _unlikeness(plain, finest) < _ALIKE:
        return plain
    found = [
        (begun, start)
        for start in _frames(base.size, edited.size)
        for scaled in (_scaled(start, scale) for scale in _SCALES)
        for begun in (scaled, _shifted(scaled, pyramid[min(_SHIFTED_LEVEL, len(pyramid) - 1)]))
    ]
    for level, followed in zip(pyramid, _FOLLOWED, strict=False):
        # A step may lead to a wrong alignment, above all a coarse one.
        found += [(_refined(one, start, level), start) for one, start in found]
        found.sort(key=lambda one: _unlikeness(one[0], level))
        found = _different(found)[:followed]
    best, _ = found[0]
    is_better = _unlikeness(best, finest) < _NEEDED_GAIN * _unlikeness(plain, finest)
    return best if is_better else plain


def _different(
    found: Sequence[tuple[Alignment, Alignment]],
) -> list[tuple[Alignment, Alignment]]:
    kept: list[tuple[Alignment, Alignment]] = []
    for one, start in found:
        if not any(_is_same(one, other) for other, _ in kept):
            kept.append((one, start))
    return kept


def _is_same(one: Alignment, other: Alignment) -> bool:
    return all(
        abs(axis.at(end) - counterpart.at(end)) <= _SAME
        for axis, counterpart in ((one.across, other.across), (one.down, other.down))
        for end in (0, 1)
    )


@dataclass(frozen=True, slots=True)
class _Level:
    base: Grey
    edited: Image.Image
    """The images in grey, in 32 bits, at about the base's size on this level."""
    weight: Grey
    """The weight of each pixel: small where the images may differ, else 1."""

    @property
    def size(self) -> tuple[int, int]:
        return self.base.shape[1], self.base.shape[0]


def _pyramid(base: Image.Image, edited: Image.Image, free: Image.Image | None) -> Iterator[_Level]:
    base, edited = base.convert("L").convert("F"), edited.convert("L").convert("F")
    longest = max(base.size)
    sides = [side for side in _LEVELS if side < longest]
    for side in [*sides, min(longest, WORKING_SIDE)]:
        size = _within(base.size, side)
        weight = np.ones(size[::-1], np.float32)
        if free is not None:
            small = free.resize(size, Image.Resampling.BOX)
            weight = np.where(np.asarray(small) == 0, 1, _FREE_WEIGHT).astype(np.float32)
        small_base = base.resize(size, Image.Resampling.BOX)
        yield _Level(np.asarray(small_base), edited.resize(size, Image.Resampling.BOX), weight)


def _within(size: tuple[int, int], side: int) -> tuple[int, int]:
    factor = min(1.0, side / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _frames(base: tuple[int, int], edited: tuple[int, int]) -> Iterator[Alignment]:
    """The places where a model may have put a base of another aspect ratio: stretched, with margins
    at two sides, or cropped there.
    """
    yield Alignment()
    ratio = (edited[0] / edited[1]) / (base[0] / base[1])
    if abs(ratio - 1) > _SAME_SHAPE:
        across, down = Axis(1 / ratio, (1 - 1 / ratio) / 2), Axis(ratio, (1 - ratio) / 2)
        yield Alignment(across=across)
        yield Alignment(down=down)


def _scaled(start: Alignment, scale: float) -> Alignment:
    """Scaled around its middle."""
    return _moved(start, np.array([0, scale - 1, 0, scale - 1]))


def _warped(alignment: Alignment, level: _Level) -> tuple[Grey, Grey]:
    """The edited picture in the base's frame, and 1 where it shows anything there, else 0."""
    size = level.size
    left, top, right, bottom = box = alignment.covered(size)
    warped, covered = np.zeros(size[::-1], np.float32), np.zeros(size[::-1], np.float32)
    if left < right and top < bottom:
        part = alignment.source_box(box, base=size, edited=level.edited.size)
        if part[0] < part[2] and part[1] < part[3]:
            piece = level.edited.resize(
                (right - left, bottom - top), Image.Resampling.BICUBIC, box=part
            )
            warped[top:bottom, left:right] = np.asarray(piece)
            covered[top:bottom, left:right] = 1
    return warped, covered


def _unlikeness(alignment: Alignment, level: _Level) -> float:
    """How much the images differ, from 0 to 1."""
    warped, covered = _warped(alignment, level)
    seen = level.weight * covered
    shown = float(seen.sum()) / max(1.0, float(level.weight.sum()))
    if shown < _LEAST_SHOWN:
        return 1.0
    apart = np.minimum(np.abs(warped - level.base) / _MUCH, 1)
    return float((seen * apart).sum() / seen.sum())


def _shifted(start: Alignment, level: _Level) -> Alignment:
    """The alignment by the shift that phase correlation finds."""
    warped, covered = _warped(start, level)
    seen = level.weight * covered
    window = np.outer(np.hanning(level.size[1] + 2)[1:-1], np.hanning(level.size[0] + 2)[1:-1])
    one = (level.base - _mean(level.base, seen)) * seen * window
    other = (warped - _mean(warped, seen)) * seen * window
    spectrum = np.fft.rfft2(one).conj() * np.fft.rfft2(other)
    spectrum /= np.abs(spectrum) + 1e-3 * np.abs(spectrum).max() + 1e-9
    peaks = np.fft.irfft2(spectrum, s=level.base.shape)
    height, width = peaks.shape
    reach_x, reach_y = int(width * _LARGEST_STRAY), int(height * _LARGEST_STRAY)
    peaks[reach_y + 1 : height - reach_y] = -1
    peaks[:, reach_x + 1 : width - reach_x] = -1
    y, x = np.unravel_index(int(np.argmax(peaks)), peaks.shape)
    shift_x = (int(x) + width // 2) % width - width // 2
    shift_y = (int(y) + height // 2) % height - height // 2
    return Alignment(
        Axis(start.across.scale, start.across.shift + start.across.scale * shift_x / width),
        Axis(start.down.scale, start.down.shift + start.down.scale * shift_y / height),
    )


def _mean(values: Grey, weight: Grey) -> float:
    return float((values * weight).sum() / max(1.0, float(weight.sum())))


def _refined(found: Alignment, start: Alignment, level: _Level) -> Alignment:
    """The alignment corrected by the method of Lucas and Kanade, which follows the slopes of the
    image. Changed parts are outweighed by unchanged ones; brightness and contrast are fitted too.
    """
    width, height = level.size
    across = ((np.arange(width, dtype=np.float32) + 0.5) / width - 0.5)[None, :]
    down = ((np.arange(height, dtype=np.float32) + 0.5) / height - 0.5)[:, None]
    slope_y, slope_x = _slopes(level.base)
    for _ in range(_ROUNDS):
        warped, covered = _warped(found, level)
        seen = level.weight * covered
        if seen.sum() < 16:
            return found
        apart = level.base - warped
        other_y, other_x = _slopes(warped)
        by_x, by_y = (slope_x + other_x) / 2, (slope_y + other_y) / 2
        # Only slopes show whether the images fit.
        telling = np.abs(apart[(seen > 0) & (np.abs(by_x) + np.abs(by_y) > _TELLING_SLOPE)])
        spread = 1.5 * float(np.median(telling)) + 1.0 if telling.size else 8.0
        weight = seen / (1 + (apart / (2 * spread)) ** 2) ** 2
        columns = np.stack(
            [
                by_x * width,
                by_x * width * across,
                by_y * height,
                by_y * height * down,
                level.base / 255,
                np.ones_like(level.base),
            ]
        ).reshape(6, -1)
        weighted = columns * weight.reshape(1, -1)
        # BLAS is avoided: its threads wait for one another where all processors are busy.
        square = np.einsum("ip,jp->ij", weighted, columns)
        square += np.diag(1e-6 * np.diag(square) + 1e-6)
        step = np.linalg.solve(square, np.einsum("ip,p->i", weighted, apart.reshape(-1)))
        found = _moved(found, step)
        if not _is_near(found, start):
            return start
        if (
            max(abs(step[0]) * width, abs(step[1]) * width / 2) < _SETTLED
            and max(abs(step[2]) * height, abs(step[3]) * height / 2) < _SETTLED
        ):
            break
    return found


def _moved(found: Alignment, step: NDArray[np.floating]) -> Alignment:
    """Steps are in fractions of the base's sides, around its middle."""

    def move(axis: Axis, shift: float, scale: float) -> Axis:
        return Axis(axis.scale * (1 + scale), axis.shift + axis.scale * (shift - scale / 2))

    return Alignment(
        move(found.across, float(step[0]), float(step[1])),
        move(found.down, float(step[2]), float(step[3])),
    )


def _is_near(found: Alignment, start: Alignment) -> bool:
    return all(
        abs(axis.scale / first.scale - 1) <= _LARGEST_STRAY
        and abs(axis.at(0.5) - first.at(0.5)) <= _LARGEST_STRAY * 1.5 * first.scale
        for axis, first in ((found.across, start.across), (found.down, start.down))
    )


def _slopes(values: Grey) -> tuple[Grey, Grey]:
    """The slopes downwards and to the right, in grey levels for each pixel."""
    down, across = np.zeros_like(values), np.zeros_like(values)
    if values.shape[0] > 2:
        down[1:-1] = (values[2:] - values[:-2]) / 2
    if values.shape[1] > 2:
        across[:, 1:-1] = (values[:, 2:] - values[:, :-2]) / 2
    return down, across
