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

WORKING_SIDE: Final = 512
"""The longest side, in pixels, of the compared images: it bounds time and memory."""
_LEVEL_SIDES: Final = (32, 64, 128, 256)
"""The longest sides, in pixels, on the coarser levels of the pyramid."""
_CANDIDATES_KEPT: Final = (8, 4, 2, 1, 1)
"""How many candidates each level passes on to the next finer one."""
_PHASE_CORRELATION_LEVEL: Final = 2
_START_SCALES: Final = (0.98, 1.0, 1.02)
_MAX_SHIFT: Final = 0.12
"""As a fraction of the side; also the largest relative change of the scale."""
_SAME_ASPECT_RATIO: Final = 0.02
"""Aspect ratios that differ by less, relative to each other, count as the same."""
_SAME_ALIGNMENT: Final = 0.002
"""Candidates that differ by less, as a fraction of the sides, lead to the same result."""

_MAX_ITERATIONS: Final = 12
_CONVERGED_PIXELS: Final = 0.02
"""A smaller step ends the iteration on its level."""
_MIN_GRADIENT: Final = 2.0
"""In grey levels per pixel: smaller gradients say nothing about the position."""
_MIN_PIXELS: Final = 16
"""The least total weight of the compared pixels from which a step can be computed."""

_MAX_PIXEL_DIFFERENCE: Final = 32.0
"""In grey levels: a larger difference of a pixel counts as this much."""
_ALIGNED_DIFFERENCE: Final = 0.002
"""Images that differ by less are aligned already."""
_MIN_GAIN: Final = 0.98
"""An alignment is used if it leaves less than this fraction of the difference without it."""
_MIN_OVERLAP: Final = 0.4
"""As a fraction of the base's pixels."""
_MASKED_WEIGHT: Final = 0.05
"""The weight of pixels that may differ. It is not 0, since a mask may leave no others."""


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
        """The box of the base's pixels that the edited image shows."""
        left, right = self.across.span(base[0])
        top, bottom = self.down.span(base[1])
        return left, top, right, bottom


def align(base: Image.Image, edited: Image.Image, *, free: Image.Image | None = None) -> Alignment:
    """Find the base in the edited image, whatever their sizes.

    `free`: a mask of the base's aspect ratio that is 0 where the images should be the same; None:
    they may differ anywhere. If the base cannot be found, the images are taken to have the same
    frame.
    """
    unaligned, pyramid = Alignment(), list(_build_pyramid(base, edited, free))
    finest = pyramid[-1]
    if _difference(unaligned, finest) < _ALIGNED_DIFFERENCE:
        return unaligned
    phase_level = pyramid[min(_PHASE_CORRELATION_LEVEL, len(pyramid) - 1)]
    candidates = [
        _Candidate(alignment, start)
        for start in _possible_frames(base.size, edited.size)
        for scaled in (_scaled(start, scale) for scale in _START_SCALES)
        for alignment in (scaled, _shift_by_phase_correlation(scaled, phase_level))
    ]
    for level, kept in zip(pyramid, _CANDIDATES_KEPT, strict=False):
        # The unrefined ones stay: refinement may lead astray, above all on a coarse level.
        candidates += [_refine(candidate, level) for candidate in candidates]
        candidates.sort(key=lambda candidate: _difference(candidate.alignment, level))
        candidates = _without_duplicates(candidates)[:kept]
    best = candidates[0].alignment
    is_better = _difference(best, finest) < _MIN_GAIN * _difference(unaligned, finest)
    return best if is_better else unaligned


@dataclass(frozen=True, slots=True)
class _Candidate:
    alignment: Alignment
    start: Alignment
    """The frame from which the search began: a result far from it is wrong."""


def _without_duplicates(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    distinct: list[_Candidate] = []
    for candidate in candidates:
        if not any(_is_same(candidate.alignment, other.alignment) for other in distinct):
            distinct.append(candidate)
    return distinct


def _is_same(left: Alignment, right: Alignment) -> bool:
    return all(
        abs(axis.at(end) - counterpart.at(end)) <= _SAME_ALIGNMENT
        for axis, counterpart in ((left.across, right.across), (left.down, right.down))
        for end in (0, 1)
    )


@dataclass(frozen=True, slots=True)
class _Level:
    base: Grey
    edited: Image.Image
    """The images in grey, in 32 bits, at about the base's size on this level."""
    weight: Grey
    """The weight of each pixel: small where the images may differ, else 1."""
    gradients: tuple[Grey, Grey]
    """The base's."""

    @property
    def size(self) -> tuple[int, int]:
        return self.base.shape[1], self.base.shape[0]


def _build_pyramid(
    base: Image.Image, edited: Image.Image, free: Image.Image | None
) -> Iterator[_Level]:
    base, edited = base.convert("L").convert("F"), edited.convert("L").convert("F")
    longest = max(base.size)
    sides = [side for side in _LEVEL_SIDES if side < longest]
    for side in [*sides, min(longest, WORKING_SIDE)]:
        size = _within(base.size, side)
        weight = np.ones(size[::-1], np.float32)
        if free is not None:
            small_mask = free.resize(size, Image.Resampling.BOX)
            weight = np.where(np.asarray(small_mask) == 0, 1, _MASKED_WEIGHT).astype(np.float32)
        small_base = np.asarray(base.resize(size, Image.Resampling.BOX))
        small_edited = edited.resize(size, Image.Resampling.BOX)
        yield _Level(small_base, small_edited, weight, _gradients_of(small_base))


def _within(size: tuple[int, int], side: int) -> tuple[int, int]:
    factor = min(1.0, side / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _possible_frames(base: tuple[int, int], edited: tuple[int, int]) -> Iterator[Alignment]:
    """Where a model may have put a base of another aspect ratio: stretched, with margins at two
    sides, or cropped there.
    """
    yield Alignment()
    ratio = (edited[0] / edited[1]) / (base[0] / base[1])
    if abs(ratio - 1) > _SAME_ASPECT_RATIO:
        across, down = Axis(1 / ratio, (1 - 1 / ratio) / 2), Axis(ratio, (1 - ratio) / 2)
        yield Alignment(across=across)
        yield Alignment(down=down)


def _scaled(start: Alignment, scale: float) -> Alignment:
    """Scaled around its middle."""
    return _apply_step(start, np.array([0, scale - 1, 0, scale - 1]))


def _warp(alignment: Alignment, level: _Level) -> tuple[Grey, Grey]:
    """The edited image in the base's frame, and 1 where it shows anything there, else 0."""
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


def _difference(alignment: Alignment, level: _Level) -> float:
    """How much the images differ, from 0 to 1."""
    warped, covered = _warp(alignment, level)
    weight = level.weight * covered
    overlap = float(weight.sum()) / max(1.0, float(level.weight.sum()))
    if overlap < _MIN_OVERLAP:
        return 1.0
    differences = np.minimum(np.abs(warped - level.base) / _MAX_PIXEL_DIFFERENCE, 1)
    return float((weight * differences).sum() / weight.sum())


def _shift_by_phase_correlation(start: Alignment, level: _Level) -> Alignment:
    warped, covered = _warp(start, level)
    weight = level.weight * covered
    window = np.outer(np.hanning(level.size[1] + 2)[1:-1], np.hanning(level.size[0] + 2)[1:-1])
    base = (level.base - _mean(level.base, weight)) * weight * window
    edited = (warped - _mean(warped, weight)) * weight * window
    spectrum = np.fft.rfft2(base).conj() * np.fft.rfft2(edited)
    spectrum /= np.abs(spectrum) + 1e-3 * np.abs(spectrum).max() + 1e-9
    correlation = np.fft.irfft2(spectrum, s=level.base.shape)
    height, width = correlation.shape
    max_x, max_y = int(width * _MAX_SHIFT), int(height * _MAX_SHIFT)
    correlation[max_y + 1 : height - max_y] = -1
    correlation[:, max_x + 1 : width - max_x] = -1
    y, x = np.unravel_index(int(np.argmax(correlation)), correlation.shape)
    shift_x = (int(x) + width // 2) % width - width // 2
    shift_y = (int(y) + height // 2) % height - height // 2
    return Alignment(
        Axis(start.across.scale, start.across.shift + start.across.scale * shift_x / width),
        Axis(start.down.scale, start.down.shift + start.down.scale * shift_y / height),
    )


def _mean(values: Grey, weight: Grey) -> float:
    return float((values * weight).sum() / max(1.0, float(weight.sum())))


def _refine(candidate: _Candidate, level: _Level) -> _Candidate:
    """Correct the alignment by the method of Lucas and Kanade, which follows the image's gradients.
    Brightness and contrast are fitted too.
    """
    alignment, start = candidate.alignment, candidate.start
    width, height = level.size
    x = ((np.arange(width, dtype=np.float32) + 0.5) / width - 0.5)[None, :]
    y = ((np.arange(height, dtype=np.float32) + 0.5) / height - 0.5)[:, None]
    for _ in range(_MAX_ITERATIONS):
        warped, covered = _warp(alignment, level)
        weight = level.weight * covered
        if weight.sum() < _MIN_PIXELS:
            break
        residual = level.base - warped
        gradient_x, gradient_y = _mean_gradients(level, warped)
        weight = _robust_weight(weight, residual, np.abs(gradient_x) + np.abs(gradient_y))
        jacobian = np.stack(
            [
                gradient_x * width,
                gradient_x * width * x,
                gradient_y * height,
                gradient_y * height * y,
                level.base / 255,
                np.ones_like(level.base),
            ]
        ).reshape(6, -1)
        step = _solve_least_squares(jacobian, residual.reshape(-1), weight.reshape(1, -1))
        alignment = _apply_step(alignment, step)
        if not _is_near(alignment, start):
            return _Candidate(start, start)
        if (
            max(abs(step[0]) * width, abs(step[1]) * width / 2) < _CONVERGED_PIXELS
            and max(abs(step[2]) * height, abs(step[3]) * height / 2) < _CONVERGED_PIXELS
        ):
            break
    return _Candidate(alignment, start)


def _mean_gradients(level: _Level, warped: Grey) -> tuple[Grey, Grey]:
    """The mean gradients of both images, to the right and downwards."""
    base_y, base_x = level.gradients
    warped_y, warped_x = _gradients_of(warped)
    half = np.float32(0.5)
    return (base_x + warped_x) * half, (base_y + warped_y) * half


def _robust_weight(weight: Grey, residual: Grey, gradient: Grey) -> Grey:
    """Reduce the weight of pixels that were edited: their residuals are larger than those that a
    wrong position explains.
    """
    at_edges = np.abs(residual[(weight > 0) & (gradient > _MIN_GRADIENT)])
    spread = 1.5 * _median(at_edges) + 1.0 if at_edges.size else 8.0
    reduced: Grey = weight / (1 + (residual / (2 * spread)) ** 2) ** 2
    return reduced


def _median(values: Grey) -> float:
    """As `np.median`, which searches for NaN too and takes several times as long."""
    low, high = (values.size - 1) // 2, values.size // 2
    ordered = np.partition(values, (low, high))
    return float((ordered[low] + ordered[high]) / 2)


def _solve_least_squares(jacobian: Grey, residual: Grey, weight: Grey) -> NDArray[np.floating]:
    weighted = jacobian * weight
    # BLAS is avoided: its threads wait for one another where all processors are busy.
    normal_matrix = np.einsum("ip,jp->ij", weighted, jacobian)
    normal_matrix += np.diag(1e-6 * np.diag(normal_matrix) + 1e-6)
    step: NDArray[np.floating] = np.linalg.solve(
        normal_matrix, np.einsum("ip,p->i", weighted, residual)
    )
    return step


def _apply_step(alignment: Alignment, step: NDArray[np.floating]) -> Alignment:
    """Steps are in fractions of the base's sides, around its middle."""

    def move(axis: Axis, shift: float, scale: float) -> Axis:
        return Axis(axis.scale * (1 + scale), axis.shift + axis.scale * (shift - scale / 2))

    return Alignment(
        move(alignment.across, float(step[0]), float(step[1])),
        move(alignment.down, float(step[2]), float(step[3])),
    )


def _is_near(alignment: Alignment, start: Alignment) -> bool:
    return all(
        abs(axis.scale / start_axis.scale - 1) <= _MAX_SHIFT
        and abs(axis.at(0.5) - start_axis.at(0.5)) <= _MAX_SHIFT * 1.5 * start_axis.scale
        for axis, start_axis in ((alignment.across, start.across), (alignment.down, start.down))
    )


def _gradients_of(values: Grey) -> tuple[Grey, Grey]:
    """The gradients downwards and to the right, in grey levels per pixel."""
    down, across = np.zeros_like(values), np.zeros_like(values)
    if values.shape[0] > 2:
        down[1:-1] = (values[2:] - values[:-2]) / 2
    if values.shape[1] > 2:
        across[:, 1:-1] = (values[:, 2:] - values[:, :-2]) / 2
    return down, across
