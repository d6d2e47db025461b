"""Reads PNG, JPEG, WebP and HEIC: what a file says about its image, and the bare image.

Only what is needed to show the pixels is copied, piece by piece. Everything else is left out, known
or not: EXIF, XMP, comments, manifests of provenance, thumbnails, and whatever follows the end. No
pixel is changed. A file that is untidy but has all its pixels is read as common decoders read it,
and repaired: the result has an end, correct checksums, and nothing between its pieces.
"""

import struct

from storage.imaging.container import BadContainer, Container
from storage.imaging.heif import HEIC, is_heif, read_heif
from storage.imaging.jpeg import read_jpeg
from storage.imaging.png import PNG_MAGIC, read_png
from storage.imaging.webp import read_webp


def content_type_of(data: bytes) -> str | None:
    """The format by the first bytes; None for other formats."""
    if data.startswith(PNG_MAGIC):
        return "image/png"
    if data.startswith(b"\xff\xd8"):
        return "image/jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return HEIC if is_heif(data) else None


def read_container(
    data: bytes,
    *,
    max_pixels: int,
    max_profile_bytes: int = 0,
    max_text_bytes: int = 0,
    with_heif: bool = False,
) -> Container:
    """Read a whole file. Raise `BadContainer`.

    Nothing is unpacked if the image has more than `max_pixels`. A colour profile or texts with more
    bytes than the limit, once unpacked, are refused; without a limit, no text is unpacked. HEIC is
    only read if that is requested, since its decoder is not trusted.
    """
    try:
        match content_type_of(data):
            case "image/png":
                container = read_png(data, max_pixels, max_text_bytes)
            case "image/jpeg":
                container = read_jpeg(data, max_pixels)
            case "image/webp":
                container = read_webp(data, max_pixels)
            case "image/heic" if with_heif:
                container = read_heif(data, max_pixels)
            case _:
                raise BadContainer("of no known type")
    except (struct.error, IndexError) as error:
        raise BadContainer("cut off") from error
    if 0 < max_profile_bytes < len(container.colour_profile or b""):
        raise BadContainer("a colour profile without end")
    return container
