"""Measures what a model has changed of its base, and puts back what it should not have changed."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from domain.images import Drift
from storage.imaging.alignment import WORKING_SIDE, Alignment, Axis, align

DRIFT_SIDE: Final = 256
"""The longest side for measuring changes. Putting an image back needs more detail."""
_SEEN: Final = 20
"""In levels of any colour, of 255: a pixel that differs by more has visibly changed."""
_BLUR: Final = 1.5
_EDGE: Final = 5
"""In pixels: the width in which the edge of a change is looked for."""
_RIM: Final = 2
"""In pixels along the sides: a frame that a model may have added around its image. These pixels
count as those beside them do.
"""
_ROWS_AT_ONCE: Final = 256
_STRETCH: Final = 0.03
"""As a fraction of the side: how far the edge of an edited image that shows less than the base is
extended. Beyond that, the base stays.
"""


def compare(
    base: Image.Image,
    edited: Image.Image,
    mask: Image.Image | None = None,
    *,
    side: int = WORKING_SIDE,
) -> tuple[Drift, Alignment]:
    """Measure what has changed, and find the base in the edited image; `mask` has the base's aspect
    ratio.

    Images may have any size; they are compared at a longest side of `side` pixels. What the edited
    image does not show does not count as changed.
    """
    small_base, small_edited = _small(base, side), _small(edited, side)
    small_mask = mask.resize(small_base.size, Image.Resampling.BOX) if mask else None
    alignment = align(small_base, small_edited, free=small_mask)
    changed = _changed(small_base, _placed(small_base, small_edited, alignment))
    outside = None
    if mask is not None and small_mask is not None:
        # A pixel here stands for several pixels of the base.
        outside = float((changed * (np.asarray(small_mask) == 0)).mean())
    return Drift(changed=float(changed.mean()), outside_mask=outside), alignment


def put_back(
    base: Image.Image, edited: Image.Image, *, mask: Image.Image, alignment: Alignment
) -> Image.Image:
    """The base where the mask is 0, pixel for pixel; the edited image, aligned, where it is 255.

    `base` is modified.
    """
    if "RGBA" in (base.mode, edited.mode):
        base, edited = base.convert("RGBA"), edited.convert("RGBA")
    box = mask.getbbox()
    if box is None:
        return base
    edited, alignment = _stretched(edited, alignment)
    covered = alignment.covered(base.size)
    left, right = max(box[0], covered[0]), min(box[2], covered[2])
    first, end = max(box[1], covered[1]), min(box[3], covered[3])
    if left >= right:
        return base
    for top in range(first, end, _ROWS_AT_ONCE):
        rows = (left, top, right, min(end, top + _ROWS_AT_ONCE))
        base.paste(_piece(edited, alignment, box=rows, base=base.size), rows, mask.crop(rows))
    return base


def _piece(
    edited: Image.Image,
    alignment: Alignment,
    *,
    box: tuple[int, int, int, int],
    base: tuple[int, int],
) -> Image.Image:
    """The part of the edited image that is visible in this box of the base."""
    size = box[2] - box[0], box[3] - box[1]
    part = alignment.source_box(box, base=base, edited=edited.size)
    if all(value == round(value) for value in part) and size == (
        part[2] - part[0],
        part[3] - part[1],
    ):
        return edited.crop((round(part[0]), round(part[1]), round(part[2]), round(part[3])))
    return edited.resize(size, Image.Resampling.LANCZOS, box=part)


def _stretched(edited: Image.Image, alignment: Alignment) -> tuple[Image.Image, Alignment]:
    """The edited image with extended edges, if it does not show all of the base."""
    across, down = alignment.across, alignment.down
    ends = (across.at(0), down.at(0), 1 - across.at(1), 1 - down.at(1))
    if min(ends) >= 0:
        return edited, alignment
    width, height = edited.size
    more_x, more_y = round(_STRETCH * width) + 1, round(_STRETCH * height) + 1
    wide = Image.new(edited.mode, (width + 2 * more_x, height + 2 * more_y))
    wide.paste(edited, (more_x, more_y))
    for x, part in ((0, 0), (more_x + width, width - 1)):
        edge = edited.crop((part, 0, part + 1, height)).resize((more_x, height))
        wide.paste(edge, (x, more_y))
    for y, part in ((0, more_y), (more_y + height, more_y + height - 1)):
        edge = wide.crop((0, part, wide.width, part + 1)).resize((wide.width, more_y))
        wide.paste(edge, (0, y))

    def move(axis: Axis, side: int, more: int) -> Axis:
        whole = side + 2 * more
        return Axis(axis.scale * side / whole, (axis.shift * side + more) / whole)

    return wide, Alignment(move(across, width, more_x), move(down, height, more_y))


def _small(picture: Image.Image, side: int) -> Image.Image:
    """The image on white, with at most this longest side."""
    factor = min(1.0, side / max(picture.size))
    size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    small = picture.resize(size, Image.Resampling.BOX)
    if small.mode == "RGBA":
        white = Image.new("RGBA", size, (255, 255, 255, 255))
        small = Image.alpha_composite(white, small)
    return small.convert("RGB")


def _placed(base: Image.Image, edited: Image.Image, alignment: Alignment) -> Image.Image:
    """The edited image in the base's frame, filled up with the base where it shows nothing."""
    placed, box = base.copy(), alignment.covered(base.size)
    if box[0] < box[2] and box[1] < box[3]:
        placed.paste(_piece(edited, alignment, box=box, base=base.size), box)
    return placed


def _changed(base: Image.Image, placed: Image.Image) -> NDArray[np.bool_]:
    """The pixels that differ visibly.

    The images are blurred, since one that has been moved and encoded again differs in its finest
    detail; the edge of a change is where it has half of its strength.
    """
    one, other = (picture.filter(ImageFilter.GaussianBlur(_BLUR)) for picture in (base, placed))
    apart = np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).max(axis=2)
    strength = Image.fromarray(apart.astype(np.uint8))
    differs = strength.point(lambda value: 255 * (value > _SEEN))
    inside = np.asarray(differs.filter(ImageFilter.MinFilter(_EDGE))) > 0
    nearby = np.asarray(strength.filter(ImageFilter.MaxFilter(_EDGE)), np.int16)
    changed: NDArray[np.bool_] = (apart > _SEEN) & (inside | (2 * apart >= nearby))
    if min(changed.shape) <= 4 * _RIM:
        return changed
    return np.pad(changed[_RIM:-_RIM, _RIM:-_RIM], _RIM, mode="edge")
