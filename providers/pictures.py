"""Whether bytes look like a complete image, by their beginning and end. Decoding shows whether they
are one.
"""

import re
from collections.abc import Iterable
from typing import Final, TypeVar

_PICTURE: Final = re.compile(rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF.{4}WEBP|.{4}ftyp", re.DOTALL)
"""The beginnings of PNG, JPEG, GIF, WebP, and AVIF or HEIC."""
_ENDS: Final = ((b"\x89PNG", b"IEND"), (b"\xff\xd8\xff", b"\xff\xd9"))
_TAIL_BYTES: Final = 2**16
"""How many bytes may follow the end: some write more."""

PictureT = TypeVar("PictureT", bound=bytes | str)


def looks_like_picture(data: bytes) -> bool:
    """Whether the bytes begin like an image of a usual format."""
    return _PICTURE.match(data) is not None


def looks_whole(data: bytes) -> bool:
    """Whether the bytes begin like an image, and are not cut off as far as the format tells."""
    for start, end in _ENDS:
        if data.startswith(start):
            return end in data[-_TAIL_BYTES:]
    if data.startswith(b"RIFF") and int.from_bytes(data[4:8], "little") > len(data) - 8:
        return False
    return looks_like_picture(data)


def whole_first(pictures: Iterable[PictureT]) -> list[PictureT]:
    """Images in their order, but those that look incomplete last. Links may lead to
    complete ones.
    """
    return sorted(pictures, key=lambda one: isinstance(one, bytes) and not looks_whole(one))
