"""Reads masks of edits: which pixels of a base may change, and how much.

In a mask that has been read, 255 may change and 0 may not; values between them are mixed.
Transparent parts of the file count as black.
"""

from io import BytesIO
from itertools import pairwise
from typing import Final

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from domain.images import Rendition
from storage.imaging.container import Container
from storage.imaging.renditions import decode_upright

_NOISE_LEVELS: Final = 24
"""How far from black and from white a mask may be, because its encoder has not kept every pixel."""
_JPEG: Final = "image/jpeg"


def read_mask(container: Container, size: tuple[int, int], *, feather: int) -> Image.Image:
    """Read the mask in grey, scaled to a base of this size, with a soft edge of this many pixels
    around what may change.
    """
    picture = decode_upright(container)
    mask = picture.convert("L")
    if picture.mode == "RGBA":
        mask = ImageChops.multiply(mask, picture.getchannel("A"))
    if container.content_type == _JPEG or not container.lossless:
        mask = mask.point(_without_noise)
    # No filter that overshoots: black would become grey near an edge.
    return feathered(mask.resize(size, Image.Resampling.BILINEAR), feather)


def feathered(mask: Image.Image, feather: int) -> Image.Image:
    """The mask with edges that fade outwards; pixels that are further away than this do
    not change.
    """
    if feather == 0:
        return mask
    blurred = mask
    for start, end in pairwise(round(feather * third / 3) for third in range(4)):
        blurred = blurred.filter(ImageFilter.BoxBlur(end - start))
    # After blurring, an edge has half of its value. Doubled, it has all of it, and fades only
    # outwards.
    doubled = blurred.point(lambda value: min(255, 2 * value))
    return ImageChops.lighter(mask, ImageChops.darker(doubled, _dilate(mask, feather)))


def mask_for_model(mask: Image.Image) -> Rendition:
    """A PNG that is transparent where a model may change its image, and opaque black elsewhere.

    OpenAI's models read transparency. A model that reads white and black instead finds the same
    mask: transparent pixels have the colour white.
    """
    protected = mask.point(lambda value: 255 * (value == 0))
    picture = Image.merge("RGBA", (*(ImageChops.invert(protected),) * 3, protected))
    written = BytesIO()
    picture.save(written, "PNG")
    return Rendition(
        data=written.getvalue(),
        content_type="image/png",
        width=picture.width,
        height=picture.height,
    )


def _without_noise(value: int) -> int:
    return 0 if value <= _NOISE_LEVELS else 255 if value >= 255 - _NOISE_LEVELS else value


def _dilate(mask: Image.Image, radius: int) -> Image.Image:
    """Each pixel with the greatest value of the pixels within the radius along either axis."""
    values = np.asarray(mask)
    for axis in (0, 1):
        length = values.shape[axis]
        for direction in (1, -1):
            # Each step doubles the distance that has been covered.
            distance, target = 0, min(radius, length - 1)
            while distance < target:
                step = min(distance + 1, target - distance)
                written, read = slice(step, None), slice(None, length - step)
                if direction < 0:
                    written, read = read, written
                index = (written, slice(None)) if axis == 0 else (slice(None), written)
                source = (read, slice(None)) if axis == 0 else (slice(None), read)
                wider = values.copy()
                np.maximum(values[index], values[source], out=wider[index])
                values, distance = wider, distance + step
    return Image.fromarray(values)
