"""PNG, JPEG and WebP from the outside: what a file says of its picture, and the bare picture.

Only what is needed to paint the pixels is carried over, piece by piece. Everything else is left
out, known or not: EXIF, XMP, comments, manifests of provenance, thumbnails, whatever stands behind
the end. No pixel is changed by it.

A file that is untidy but has all its pixels is read as common decoders read it, and repaired: what
comes out has an end, right checksums, and nothing between its pieces.
"""

import struct

from storage.imaging.container import BadContainer, Container
from storage.imaging.jpeg import read_jpeg
from storage.imaging.png import PNG_MAGIC, read_png
from storage.imaging.webp import read_webp


def content_type_of(data: bytes) -> str | None:
    """What the first bytes say; None where it is none of the three."""
    if data.startswith(PNG_MAGIC):
        return "image/png"
    if data.startswith(b"\xff\xd8"):
        return "image/jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def read_container(
    data: bytes, *, max_pixels: int, max_profile_bytes: int = 0, max_text_bytes: int = 0
) -> Container:
    """Read the file from beginning to end, or raise `BadContainer`.

    Nothing is unpacked of a picture that says to be larger than `max_pixels`. A colour profile or
    texts of more bytes, once unpacked, are refused where there is a limit; otherwise no text is
    unpacked.
    """
    try:
        match content_type_of(data):
            case "image/png":
                container = read_png(data, max_pixels, max_text_bytes)
            case "image/jpeg":
                container = read_jpeg(data, max_pixels)
            case "image/webp":
                container = read_webp(data, max_pixels)
            case _:
                raise BadContainer("neither PNG nor JPEG nor WebP")
    except (struct.error, IndexError) as error:
        raise BadContainer("cut off") from error
    if 0 < max_profile_bytes < len(container.colour_profile or b""):
        raise BadContainer("a colour profile without end")
    return container
