"""Reads HEIC, as phones write it: what the file says, and its primary image, decoded by libheif.

The library takes long to load, few files need it, and it is not available on every machine: it is
only loaded for files of this kind, and only inside the sandbox.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from typing import Any, Final

from PIL import Image

from storage.imaging.colours import Colours, colours_of_code_points
from storage.imaging.container import BadContainer, Container, SeveralFrames, check_size

HEIC: Final = "image/heic"
HEIC_TYPES: Final = (HEIC, "image/heif")
_LIBRARY: Final = "pillow_heif"
_STILL_BRANDS: Final = frozenset((b"heic", b"heix", b"heim", b"heis"))
_SEQUENCE_BRANDS: Final = frozenset((b"hevc", b"hevx", b"hevm", b"hevs"))
_ANY_CODING: Final = b"mif1"
"""The brand of images of any coding: some phones write no other one."""
_CODED_BY_HEVC: Final = b"hvc1"
_OTHER_CODINGS: Final = frozenset((b"avif", b"avis"))
_NEEDED: Final = frozenset((b"ftyp", b"meta", b"mdat"))
_MAX_BOXES: Final = 100
_DESCRIPTION_BYTES: Final = 2**16


def can_read_heif() -> bool:
    return find_spec(_LIBRARY) is not None


def is_heif(data: bytes) -> bool:
    """Whether it is a container with images coded by HEVC."""
    if data[4:8] != b"ftyp":
        return False
    brands, names = _brands(data), {name for name, _ in _boxes(data)}
    is_hevc = brands & (_STILL_BRANDS | _SEQUENCE_BRANDS) or (
        _ANY_CODING in brands and _CODED_BY_HEVC in data[:_DESCRIPTION_BYTES]
    )
    return bool(is_hevc and not brands & _OTHER_CODINGS and names & {b"meta", b"moov"})


def load_library() -> Any:
    """Load the library, with as few of its features as possible."""
    library = import_module(_LIBRARY)
    library.options.DECODE_THREADS = 1
    library.options.THUMBNAILS = False
    library.options.DEPTH_IMAGES = False
    library.options.AUX_IMAGES = False
    return library


def read_heif(data: bytes, max_pixels: int) -> Container:
    """Decode the primary image. The others are thumbnails, depth maps, and former states.

    Phones append things to a photo, in boxes or not, such as the video of a motion photo.
    """
    names = set()
    for name, end in _boxes(data):
        names.add(name)
        if end > len(data) and name in _NEEDED:
            raise BadContainer("HEIF cut off")
    if b"moov" in names and (b"meta" not in names or _brands(data) & _SEQUENCE_BRANDS):
        raise SeveralFrames("HEIF with a sequence")
    with _errors():
        picture = _primary(data)
        width, height = picture.size
        info = picture.info
    check_size(width, height, max_pixels)
    return Container(
        content_type=HEIC,
        width=width,
        height=height,
        # The orientation in EXIF has been applied already: a property of the image repeats it.
        orientation=1,
        colour_profile=info.get("icc_profile") or None,
        colours=_colours(info.get("nclx_profile") or {}) if not info.get("icc_profile") else None,
        lossless=False,
        tidy=False,
        data=data,
    )


def decode_heif(data: bytes) -> Image.Image:
    with _errors():
        picture: Image.Image = _primary(data).to_pillow()
    picture.info.clear()
    return picture.convert("RGBA") if picture.mode == "RGBa" else picture


def _primary(data: bytes) -> Any:
    file = load_library().open_heif(BytesIO(data))
    return file[file.primary_index]


def _colours(numbers: dict[str, int]) -> Colours | None:
    """Decoded pixels have the full range, whatever the range of the file is."""
    primaries = numbers.get("color_primaries", 0)
    transfer = numbers.get("transfer_characteristics", 0)
    colours = colours_of_code_points(primaries, transfer, full_range=True)
    return None if colours is None or colours.is_srgb else colours


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise BadContainer(f"HEIF: {error}") from error


def _brands(data: bytes) -> set[bytes]:
    return {data[place : place + 4] for place in range(8, min(_box_end(data, 0), 256), 4)}


def _boxes(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Names and ends of consecutive boxes; an end may lie beyond the file's."""
    position = 0
    for _ in range(_MAX_BOXES):
        if position + 8 > len(data):
            return
        end = _box_end(data, position)
        yield data[position + 4 : position + 8], end
        position = end


def _box_end(data: bytes, position: int) -> int:
    (length,) = struct.unpack_from(">I", data, position)
    if length == 0:
        return len(data)
    if length == 1 and position + 16 <= len(data):
        (length,) = struct.unpack_from(">Q", data, position + 8)
    return position + max(int(length), 8)
