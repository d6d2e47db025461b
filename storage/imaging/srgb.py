"""Converts images to the form in which they are meant to be seen: in sRGB, with alpha for
transparency.
"""

import struct
from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from itertools import chain, product
from typing import Final

from PIL import Image, ImageChops, ImageCms

from storage.imaging.colours import SRGB, Colours
from storage.imaging.container import Container
from storage.imaging.decoding import decode_low_bytes

_SAMPLE_COLOURS: Final = bytes(chain.from_iterable(product((0, 64, 128, 191, 255), repeat=3)))
"""Sample colours from the whole cube."""
_MAX_INVISIBLE_DIFFERENCE: Final = 4
_ROWS_PER_STRIP: Final = 256
_COMMON_BITS: Final = 8
_VALUES_OF_8_BITS: Final = 256
_VALUES_OF_16_BITS: Final = 65_536
_EXACT: Final = ImageCms.Flags.NOOPTIMIZE
_GREY_MODES: Final = ("1", "L", "LA", "I;16")


def is_plain_srgb(container: Container) -> bool:
    """Whether every decoder shows it in sRGB and with its transparency. Pillow, and programs that
    use it, compare fewer bits than a sample has, or more.
    """
    return (
        container.colours is None
        and _non_srgb_profile(container.colour_profile) is None
        and (container.transparent is None or container.bits == _COMMON_BITS)
    )


def to_srgb(picture: Image.Image, container: Container) -> Image.Image:
    """A decoded image in RGB, or in RGBA if it has transparency."""
    has_16_bits = container.bits == 16 and picture.mode in ("RGB", "RGBA")
    low_image = (
        decode_low_bytes(container)
        if has_16_bits and (container.transparent or container.colours)
        else None
    )
    mask = _transparency_mask(picture, low_image, container) if container.transparent else None
    if container.colours is not None:
        picture = _convert_colours(picture, low_image, container.colours)
    elif profile := _non_srgb_profile(container.colour_profile):
        picture = _convert_by_profile(picture, profile)
    picture = _to_rgb(picture)
    if mask is not None:
        picture.putalpha(mask)
    return picture


def _transparency_mask(
    picture: Image.Image, low_image: Image.Image | None, container: Container
) -> Image.Image:
    """Make the pixels transparent that have the transparent colour, in all of its bits."""
    samples = container.transparent or ()
    if picture.mode == "I;16":
        pairs = Image.frombytes("LA", picture.size, picture.tobytes())
        bands, transparent_samples = pairs.split(), [samples[0] & 0xFF, samples[0] >> 8]
    elif low_image is not None:
        bands = (*picture.split()[:3], *low_image.split()[:3])
        transparent_samples = [
            *(sample >> 8 for sample in samples),
            *(sample & 0xFF for sample in samples),
        ]
    elif picture.mode == "RGB":
        bands, transparent_samples = picture.split(), list(samples)
    else:
        bands = (picture.convert("L"),)
        transparent_samples = [samples[0] * 255 // ((1 << container.bits) - 1)]
    mask = Image.new("L", picture.size)
    for band, sample in zip(bands, transparent_samples, strict=True):
        opaque = band.point([255 * (value != sample) for value in range(256)])
        mask = ImageChops.lighter(mask, opaque)
    return mask


def _convert_colours(
    picture: Image.Image, low_image: Image.Image | None, colours: Colours
) -> Image.Image:
    if picture.mode in _GREY_MODES:
        return _convert_grey(picture, colours.srgb)
    if low_image is not None:
        # littleCMS receives only eight bits: with the transfer of sRGB they are enough.
        picture = _apply_srgb_transfer(picture, low_image, colours)
        if colours.has_srgb_primaries:
            return picture
        colours = Colours(primaries=colours.primaries, transfer=SRGB)
    return _convert_by_profile(picture, ImageCms.ImageCmsProfile(BytesIO(colours.profile())))


def _apply_srgb_transfer(
    high: Image.Image, low_image: Image.Image, colours: Colours
) -> Image.Image:
    table = colours.srgb(_VALUES_OF_16_BITS)
    converted = Image.new(high.mode, high.size)
    for top in range(0, high.height, _ROWS_PER_STRIP):
        rows = (0, top, high.width, min(high.height, top + _ROWS_PER_STRIP))
        high_bands, low_bands = high.crop(rows).split(), low_image.crop(rows).split()
        bands = []
        for high_band, low_band in zip(high_bands[:3], low_bands[:3], strict=True):
            pairs = Image.merge("LA", (low_band, high_band))
            samples = Image.frombytes("I;16", pairs.size, pairs.tobytes())
            bands.append(samples.convert("I").point(table, "L"))
        converted.paste(Image.merge(high.mode, (*bands, *high_bands[3:])), rows)
    return converted


def _non_srgb_profile(data: bytes | None) -> ImageCms.ImageCmsProfile | None:
    """The colour profile, unless it is sRGB, which is assumed for an image without one."""
    if data is None:
        return None
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(data))
    except OSError:
        return None
    return None if _is_srgb(data) else profile


@lru_cache(maxsize=16)
def _is_srgb(profile: bytes) -> bool:
    """Whether the profile changes no colour visibly: its name alone says little."""
    opened = ImageCms.ImageCmsProfile(BytesIO(profile))
    if "sRGB" not in (opened.profile.profile_description or ""):
        return False
    samples = Image.frombytes("RGB", (len(_SAMPLE_COLOURS) // 3, 1), _SAMPLE_COLOURS)
    converted = _convert_by_profile(samples, opened)
    return max(ImageChops.difference(samples, converted).tobytes()) <= _MAX_INVISIBLE_DIFFERENCE


def _convert_grey(picture: Image.Image, table_of: Callable[[int], list[int]]) -> Image.Image:
    """A grey image in 8 bits, by a table for as many values as it has; alpha is unchanged."""
    if picture.mode == "I;16":
        return picture.convert("I").point(table_of(_VALUES_OF_16_BITS), "L")
    grey = picture.convert("L").point(table_of(_VALUES_OF_8_BITS))
    if picture.mode == "LA":
        grey.putalpha(picture.getchannel("A"))
    return grey


def _convert_by_profile(picture: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    """The image in sRGB, or unchanged where the profile does not fit it."""
    space = profile.profile.xcolor_space.strip()
    try:
        if space == "GRAY" and picture.mode in _GREY_MODES:
            return _convert_grey(picture, lambda count: _grey_table(profile, count))
        if space == "RGB" and picture.mode != "CMYK":
            return _convert_with_littlecms(_to_rgb(picture), profile)
        return _convert_with_littlecms(picture, profile) if space == picture.mode else picture
    except ImageCms.PyCMSError:
        return picture


def _grey_table(profile: ImageCms.ImageCmsProfile, count: int) -> list[int]:
    """The exact result of a grey profile for each value. Converting images would be inexact in dark
    parts.
    """
    if count == _VALUES_OF_8_BITS:
        values = Image.frombytes("L", (count, 1), bytes(range(count)))
    else:
        values = Image.frombytes("I;16", (count, 1), struct.pack(f"<{count}H", *range(count)))
    return list(_convert_with_littlecms(values, profile).getchannel("G").tobytes())


def _convert_with_littlecms(picture: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    converted = ImageCms.profileToProfile(
        picture,
        profile,
        ImageCms.createProfile("sRGB"),
        outputMode="RGBA" if picture.mode == "RGBA" else "RGB",
        flags=ImageCms.Flags.NONE if picture.mode not in _GREY_MODES else _EXACT,
    )
    assert converted is not None
    del converted.info["icc_profile"]
    return converted


def _to_rgb(picture: Image.Image) -> Image.Image:
    """The image in RGB, or in RGBA if it has transparency."""
    if picture.mode in ("RGB", "RGBA") and "transparency" not in picture.info:
        return picture
    if picture.mode.startswith("I"):
        # Sixteen bits of grey: Pillow would clip everything above 255.
        picture = picture.convert("I").point(lambda grey: grey * (1 / 257)).convert("L")
    return picture.convert("RGBA" if picture.has_transparency_data else "RGB")
