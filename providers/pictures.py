"""What the ends of a picture say of it. Whether it is one shows when it is decoded."""

import re
from collections.abc import Iterable
from typing import Final, TypeVar

_PICTURE: Final = re.compile(rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF.{4}WEBP|.{4}ftyp", re.DOTALL)
"""How PNG, JPEG, GIF, WebP, and AVIF or HEIC begin."""
_ENDS: Final = ((b"\x89PNG", b"IEND"), (b"\xff\xd8\xff", b"\xff\xd9"))
_TAIL_BYTES: Final = 2**16
"""Some write more after the end."""

PictureT = TypeVar("PictureT", bound=bytes | str)


def looks_like_picture(data: bytes) -> bool:
    """Whether it begins as a picture of some usual format does."""
    return _PICTURE.match(data) is not None


def looks_whole(data: bytes) -> bool:
    """Whether it begins as a picture, and is not cut off as far as its format tells."""
    for start, end in _ENDS:
        if data.startswith(start):
            return end in data[-_TAIL_BYTES:]
    if data.startswith(b"RIFF") and int.from_bytes(data[4:8], "little") > len(data) - 8:
        return False
    return looks_like_picture(data)


def whole_first(pictures: Iterable[PictureT]) -> list[PictureT]:
    """In their order, but those that do not look whole last. Links may lead to whole ones."""
    return sorted(pictures, key=lambda one: isinstance(one, bytes) and not looks_whole(one))
