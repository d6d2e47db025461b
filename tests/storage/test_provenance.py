"""Files of any format say that a model made their picture, and no pixel changes by it."""

import struct
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import pytest
from PIL import Image

from domain.images import DigitalSourceType, ProcessedImage, Provenance, Rendition
from domain.ports.imaging import ImageProcessor
from storage.imaging.containers import read_container
from storage.imaging.threaded import ThreadedImageProcessor
from tests.storage.pictures import (
    CANARY,
    CONTENT_TYPES,
    FORMATS,
    a_picture,
    difference,
    encoded,
    exif,
    jpeg_with_everything,
    opened,
    png_with_everything,
    swapped_profile,
    webp_with_everything,
    with_jpeg_segment,
    with_png_chunk,
)

TRAINED: Final = DigitalSourceType.TRAINED_ALGORITHMIC_MEDIA
COMPOSITE: Final = DigitalSourceType.COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA
SIGNED: Final = Path(__file__).parent / "content_credentials"
TERMS: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/"
NAMES: Final = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "ext": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
}


@pytest.fixture
async def processor() -> AsyncIterator[ThreadedImageProcessor]:
    processor = ThreadedImageProcessor()
    yield processor
    await processor.aclose()


def said_by(rendition: Rendition) -> str:
    """What another program reads: the one digital source type in the XMP of the file."""
    image = Image.open(BytesIO(rendition.data))
    image.load()
    assert image.size == (rendition.width, rendition.height)
    packet = image.info.get("xmp") or image.info["XML:com.adobe.xmp"].encode()
    tree = ElementTree.fromstring(packet.decode("utf-8-sig").strip("\0"))
    [found] = tree.findall("./rdf:RDF/rdf:Description/ext:DigitalSourceType", NAMES)
    assert found.text
    assert found.text.startswith(TERMS)
    return found.text.removeprefix(TERMS)


def box(content: bytes) -> bytes:
    """A JUMBF box, as C2PA's manifests are."""
    return struct.pack(">I4s", 8 + len(content), b"jumb") + content


def with_manifest(data: bytes, content: bytes) -> bytes:
    manifest = box(b"c2pa" + content)
    if data.startswith(b"\x89PNG"):
        return with_png_chunk(data, b"caBX", manifest)
    if data.startswith(b"\xff\xd8"):
        # In two segments, as one that is longer than 64 KB.
        half = len(manifest) // 2
        for number, part in ((2, manifest[half:]), (1, manifest[:half])):
            head = b"JP\x02\x11" + struct.pack(">I", number) + (manifest[:8] * (number > 1))
            data = with_jpeg_segment(data, 0xEB, head + part)
        return data
    padding = b"\0" * (len(manifest) % 2)
    chunks = data[12:] + b"C2PA" + struct.pack("<I", len(manifest)) + manifest + padding
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


SAYING = f"\x78\x46{TERMS}trainedAlgorithmicMedia".encode()
"""A text of CBOR."""


def assert_marked(processed: ProcessedImage, source: DigitalSourceType) -> None:
    for rendition in (processed.original, *processed.thumbnails):
        assert said_by(rendition) == source.value


@pytest.mark.parametrize("source", DigitalSourceType)
@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
async def test_every_rendition_says_how_it_was_made(
    processor: ImageProcessor, image_format: str, mode: str, source: DigitalSourceType
) -> None:
    picture = a_picture(1100, 700, "L" if image_format == "JPEG" and mode == "RGBA" else mode)
    data = encoded(picture, image_format)

    bare = await processor.process(data)
    marked = await processor.process(data, source=source)

    assert len(marked.thumbnails) == 3
    assert_marked(marked, source)
    assert marked.provenance is not None
    assert marked.provenance.digital_source_type is source
    assert not marked.provenance.content_credentials
    assert marked.original.content_type == CONTENT_TYPES[image_format]
    renditions = (marked.original, *marked.thumbnails)
    for one, other in zip(renditions, (bare.original, *bare.thumbnails), strict=True):
        assert opened(one).mode == opened(other).mode
        assert opened(one).tobytes() == opened(other).tobytes()
    assert marked.thumbhash == bare.thumbhash
    assert bare.provenance is None


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("size", [(1, 1), (301, 203)])
async def test_a_webp_of_every_kind_is_marked(
    processor: ImageProcessor, mode: str, lossless: bool, size: tuple[int, int]
) -> None:
    picture = a_picture(*size, mode)
    data = encoded(picture, "WEBP", lossless=lossless)

    marked = await processor.process(data, source=TRAINED)

    assert_marked(marked, TRAINED)
    assert opened(marked.original).tobytes() == Image.open(BytesIO(data)).tobytes()
    assert opened(marked.original).mode == mode
    assert bool(marked.original.data[20] & 0x10) is (mode == "RGBA"), "the flag of transparency"
    assert len(marked.original.data) % 2 == 0
    assert int.from_bytes(marked.original.data[4:8], "little") == len(marked.original.data) - 8


@pytest.mark.parametrize("make", [png_with_everything, jpeg_with_everything, webp_with_everything])
async def test_other_metadata_is_removed_and_its_own_xmp_replaced(
    processor: ImageProcessor, make: object
) -> None:
    data = make()  # type: ignore[operator]
    marked = await processor.process(data, source=COMPOSITE)

    assert_marked(marked, COMPOSITE)
    without = read_container(marked.original.data, max_pixels=1_000_000)
    assert CANARY not in without.data
    # A manifest is no metadata of a person; the one of this PNG is nothing but the canary.
    assert marked.original.data.count(CANARY) == (make is png_with_everything)


@pytest.mark.parametrize("image_format", FORMATS)
async def test_a_re_encoded_image_is_marked(processor: ImageProcessor, image_format: str) -> None:
    turned = with_manifest(encoded(a_picture(), image_format, exif=exif(6)), SAYING)
    recoloured = with_manifest(
        encoded(a_picture(), image_format, icc_profile=swapped_profile()), SAYING
    )

    for data in (turned, recoloured):
        marked = await processor.process(data, source=TRAINED)
        assert_marked(marked, TRAINED)
        # It is signed for another picture.
        assert b"jumb" not in marked.original.data
        assert marked.provenance
        assert not marked.provenance.content_credentials


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("with_xmp", [False, True])
async def test_a_file_with_a_valid_manifest_is_kept_byte_for_byte(
    processor: ImageProcessor, image_format: str, with_xmp: bool
) -> None:
    """Any other byte would break its signature."""
    # Pillow writes no XMP into a PNG unless requested.
    options = {"xmp": b"<x/>"} if with_xmp and image_format != "PNG" else {}
    data = with_manifest(encoded(a_picture(1100, 700), image_format, **options), SAYING)
    if with_xmp and image_format == "PNG":
        data = with_png_chunk(data, b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x/>")

    marked = await processor.process(data, source=COMPOSITE)

    assert marked.original.data == data
    assert marked.provenance
    assert marked.provenance.content_credentials
    # What it says itself counts, for all renditions.
    assert marked.provenance.digital_source_type is TRAINED
    for thumbnail in marked.thumbnails:
        assert said_by(thumbnail) == TRAINED.value


@pytest.mark.parametrize("image_format", FORMATS)
async def test_real_content_credentials_stay_valid(
    processor: ImageProcessor, image_format: str
) -> None:
    """Files that c2pa-python has signed, with a certificate of its own and the action
    `c2pa.created`, whose source is IPTC's trained algorithmic media.
    """
    data = (SIGNED / f"signed.{image_format.lower()}").read_bytes()

    marked = await processor.process(data, source=COMPOSITE)

    assert marked.original.data == data
    assert marked.provenance == Provenance(TRAINED, content_credentials=True)
    [thumbnail] = marked.thumbnails
    assert said_by(thumbnail) == TRAINED.value


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("content", [b"", b"something else", SAYING])
async def test_a_manifest_is_kept_beside_added_metadata(
    processor: ImageProcessor, image_format: str, content: bytes
) -> None:
    """Where it does not say it, or something else in the file had to go."""
    data = encoded(a_picture(), image_format)
    if content is SAYING:
        data = encoded(a_picture(), image_format, exif=exif(1))
    data = with_manifest(data, content)

    marked = await processor.process(data, source=COMPOSITE)

    assert_marked(marked, COMPOSITE)
    assert marked.provenance
    assert marked.provenance.content_credentials
    assert b"jumb" in marked.original.data
    assert CANARY not in marked.original.data
    assert difference(opened(marked.original), Image.open(BytesIO(data))) == 0
    # Both are found again, and once.
    again = await processor.process(marked.original.data, source=COMPOSITE)
    assert again.original == marked.original


@pytest.mark.parametrize(
    ("image_format", "behind"),
    [
        ("PNG", struct.pack(">I4s", 9_000, b"caBX") + b"jumb"),
        ("PNG", struct.pack(">I4s", 4, b"caBX") + b"jumb" + b"\0\0\0\0"),
        ("WEBP", struct.pack("<4sI", b"C2PA", 9_000) + b"jumb"),
    ],
)
async def test_bytes_after_the_end_of_the_file_are_no_manifest(
    processor: ImageProcessor, image_format: str, behind: bytes
) -> None:
    data = encoded(a_picture(), image_format)

    marked = await processor.process(data + behind, source=TRAINED)

    assert_marked(marked, TRAINED)
    assert marked.provenance == Provenance(TRAINED, content_credentials=False)
    assert behind not in marked.original.data
    assert difference(opened(marked.original), Image.open(BytesIO(data))) == 0


@pytest.mark.parametrize("image_format", FORMATS)
async def test_previews_are_marked(processor: ImageProcessor, image_format: str) -> None:
    preview = await processor.preview(encoded(a_picture(), image_format), source=TRAINED)

    assert said_by(preview) == TRAINED.value
