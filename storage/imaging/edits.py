"""Measures what a model has changed of its base, and puts back what it should not have changed."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from domain.images import Drift
from storage.imaging.alignment import WORKING_SIDE, Alignment, Axis, align

DRIFT_SIDE: Final = 256
"""The longest side for measuring changes. Putting an image back needs more detail."""
_VISIBLE_DIFFERENCE: Final = 20
"""In levels of any colour, of 255: a pixel that differs by more counts as changed."""
_BLUR_RADIUS: Final = 1.5
_EDGE_PIXELS: Final = 5
"""In pixels: the width in which the edge of a change is looked for."""
_FRAME_PIXELS: Final = 2
"""In pixels along the sides: a frame that a model may have added around its image. These pixels
count as those beside them do.
"""
_ROWS_PER_STRIP: Final = 256
_MAX_EXTENSION: Final = 0.03
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
    small_base, small_edited = _shrink(base, side), _shrink(edited, side)
    small_mask = mask.resize(small_base.size, Image.Resampling.BOX) if mask else None
    alignment = align(small_base, small_edited, free=small_mask)
    changed = _changed_pixels(small_base, _place_in_base(small_base, small_edited, alignment))
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
    edited, alignment = _extend_edges(edited, alignment)
    covered = alignment.covered(base.size)
    left, right = max(box[0], covered[0]), min(box[2], covered[2])
    first, end = max(box[1], covered[1]), min(box[3], covered[3])
    if left >= right:
        return base
    for top in range(first, end, _ROWS_PER_STRIP):
        rows = (left, top, right, min(end, top + _ROWS_PER_STRIP))
        base.paste(_crop_to_box(edited, alignment, box=rows, base=base.size), rows, mask.crop(rows))
    return base


def _crop_to_box(
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


def _extend_edges(edited: Image.Image, alignment: Alignment) -> tuple[Image.Image, Alignment]:
    """The edited image with extended edges, if it does not show all of the base."""
    across, down = alignment.across, alignment.down
    ends = (across.at(0), down.at(0), 1 - across.at(1), 1 - down.at(1))
    if min(ends) >= 0:
        return edited, alignment
    width, height = edited.size
    margin_x, margin_y = round(_MAX_EXTENSION * width) + 1, round(_MAX_EXTENSION * height) + 1
    extended = Image.new(edited.mode, (width + 2 * margin_x, height + 2 * margin_y))
    extended.paste(edited, (margin_x, margin_y))
    for x, column in ((0, 0), (margin_x + width, width - 1)):
        edge = edited.crop((column, 0, column + 1, height)).resize((margin_x, height))
        extended.paste(edge, (x, margin_y))
    for y, row in ((0, margin_y), (margin_y + height, margin_y + height - 1)):
        edge = extended.crop((0, row, extended.width, row + 1)).resize((extended.width, margin_y))
        extended.paste(edge, (0, y))

    def move(axis: Axis, side: int, margin: int) -> Axis:
        extended_side = side + 2 * margin
        return Axis(axis.scale * side / extended_side, (axis.shift * side + margin) / extended_side)

    return extended, Alignment(move(across, width, margin_x), move(down, height, margin_y))


def _shrink(picture: Image.Image, side: int) -> Image.Image:
    """The image on white, with at most this longest side."""
    factor = min(1.0, side / max(picture.size))
    size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    small = picture.resize(size, Image.Resampling.BOX)
    if small.mode == "RGBA":
        white = Image.new("RGBA", size, (255, 255, 255, 255))
        small = Image.alpha_composite(white, small)
    return small.convert("RGB")


def _place_in_base(base: Image.Image, edited: Image.Image, alignment: Alignment) -> Image.Image:
    """The edited image in the base's frame, filled up with the base where it shows nothing."""
    placed, box = base.copy(), alignment.covered(base.size)
    if box[0] < box[2] and box[1] < box[3]:
        placed.paste(_crop_to_box(edited, alignment, box=box, base=base.size), box)
    return placed


def _changed_pixels(base: Image.Image, placed: Image.Image) -> NDArray[np.bool_]:
    """The pixels that differ visibly.

    The images are blurred, since one that has been moved and encoded again differs in its finest
    detail; the edge of a change is where it has half of its strength.
    """
    blurred_base, blurred_placed = (
        np.asarray(picture.filter(ImageFilter.GaussianBlur(_BLUR_RADIUS)), np.int16)
        for picture in (base, placed)
    )
    differences = np.abs(blurred_base - blurred_placed).max(axis=2)
    strength = Image.fromarray(differences.astype(np.uint8))
    differs = strength.point(lambda value: 255 * (value > _VISIBLE_DIFFERENCE))
    inside_change = np.asarray(differs.filter(ImageFilter.MinFilter(_EDGE_PIXELS))) > 0
    strongest_nearby = np.asarray(strength.filter(ImageFilter.MaxFilter(_EDGE_PIXELS)), np.int16)
    changed: NDArray[np.bool_] = (differences > _VISIBLE_DIFFERENCE) & (
        inside_change | (2 * differences >= strongest_nearby)
    )
    if min(changed.shape) <= 4 * _FRAME_PIXELS:
        return changed
    return np.pad(
        changed[_FRAME_PIXELS:-_FRAME_PIXELS, _FRAME_PIXELS:-_FRAME_PIXELS],
        _FRAME_PIXELS,
        mode="edge",
    )
