"""Untidy but complete pictures, from the client's or the provider's file to the rendition shown."""

from collections.abc import AsyncIterator, Callable, Sequence
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from pydantic import SecretStr

from tests.clients import Data
from tests.conftest import Darkroom, darkrooms
from tests.http import open_http
from tests.operations import codes, start, until_finished
from tests.simulators.fal import KEY, FalSimulator, serving_fal
from tests.storage.pictures import CANARY, CONTENT_TYPES
from tests.storage.test_colours import (
    GREY,
    GREY_ALPHA,
    RGB,
    Pixel,
    a_profile,
    assert_alike,
    cicp,
    gama,
    icc,
    png_of,
    seen,
)
from tests.storage.test_untidy import seen_apart
from tests.storage.untidy import INCOMPLETE, SEVERAL_FRAMES, UNTIDY
from tests.uploads import complete, complete_or_refuse, sent

MODEL = "img-nano-banana"
SHOWN = (
    "PNG without IEND",
    "PNG with a wrong checksum of tEXt",
    "PNG with a packed text of 4 MB",
    "PNG, an animation of one frame",
    "baseline JPEG without an end",
    "progressive JPEG without an end",
    "baseline JPEG with something behind its pixels",
    "JPEG with words between its segments",
    "WebP, an animation of one frame",
    "WebP, one frame on a larger canvas",
)
COLOURED: dict[str, tuple[Sequence[Pixel], int, int, tuple[bytes, bytes], Sequence[Pixel]]] = {
    "grey of 4 bits with a clear one": (
        *([(15,), (1,)], GREY, 4, (b"tRNS", b"\0\x0f")),
        [(255, 255, 255, 0), (17, 17, 17, 255)],
    ),
    "grey of 16 bits with a clear one": (
        *([(65_535,), (65_534,)], GREY, 16, (b"tRNS", b"\xff\xff")),
        [(255, 255, 255, 0), (255, 255, 255, 255)],
    ),
    "RGB of 16 bits with a clear one": (
        *([(0x8000,) * 3, (0x8001, 0x8000, 0x8000)], RGB, 16, (b"tRNS", b"\x80\0" * 3)),
        [(128, 128, 128, 0), (128, 128, 128, 255)],
    ),
    "grey and alpha with a profile": (
        *([(55, 255), (55, 0)], GREY_ALPHA, 8, icc(a_profile(b"GRAY", 1.0))),
        [(128, 128, 128, 255), (128, 128, 128, 0)],
    ),
    "gAMA of light itself": ([(55, 55, 55)], RGB, 8, gama(100_000), [(128, 128, 128, 255)]),
    "cICP of Display P3": ([(234, 51, 35)], RGB, 8, cicp(12, 13), [(255, 0, 0, 255)]),
    "cICP of PQ": ([(148, 148, 148)], RGB, 8, cicp(9, 16), [(254, 254, 254, 255)]),
}
REFUSED: dict[str, Callable[[], bytes]] = {
    name: {**INCOMPLETE, **SEVERAL_FRAMES}[name]
    for name in (
        "PNG without its last row",
        "baseline JPEG cut at 75 %",
        "baseline JPEG cut at 75 %, closed",
        "progressive JPEG cut at 50 %",
        "WebP cut in its picture",
        "WebP of two frames",
        "PNG of two frames",
    )
}


@pytest.fixture(scope="module")
async def with_fal(
    mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Darkroom]:
    async with (
        serving_fal(FalSimulator()) as url,
        darkrooms(mongodb_uri, tmp_path_factory.mktemp("untidy")) as start_one,
    ):
        yield await start_one(fal={"key": SecretStr(KEY), "url": url})


async def delivered(darkroom: Darkroom, path: Path) -> Data:
    """The output of a provider whose picture is this file."""
    client = darkroom.client()
    payload = await start(
        client,
        userMessage=f"Untidy [fal path={path}]",
        selectedModels=[MODEL],
        options={},
    )
    output: Data = (await until_finished(client, payload["turn"]))["outputs"][0]
    return output


def a_file(folder: Path, data: bytes) -> Path:
    path = folder / "picture"
    path.write_bytes(data)
    return path


async def fetched(url: str) -> bytes:
    async with open_http() as http:
        return (await http.get(url)).content


@pytest.mark.parametrize("row", SHOWN)
async def test_an_untidy_picture_is_shown_from_any_source(
    with_fal: Darkroom, tmp_path: Path, row: str
) -> None:
    untidy, client = UNTIDY[row], with_fal.client()
    data, content_type = untidy.make(), CONTENT_TYPES[untidy.image_format]

    upload = await sent(client, data, content_type)
    images = [await complete(client, upload["id"])]
    images += (await delivered(with_fal, a_file(tmp_path, data)))["images"]

    assert len(images) == 2
    for image in images:
        kept = await fetched(image["url"])
        shown = untidy.shown()
        assert (image["width"], image["height"]) == shown.size
        assert image["contentType"] == content_type
        assert seen_apart(Image.open(BytesIO(kept)), shown) <= untidy.apart
        assert CANARY not in kept


@pytest.mark.parametrize("row", COLOURED)
async def test_colours_of_a_picture_are_kept_from_any_source(
    with_fal: Darkroom, tmp_path: Path, row: str
) -> None:
    pixels, colour, bits, chunk, expected = COLOURED[row]
    client, data = with_fal.client(), png_of(pixels, colour, bits, chunk)

    upload = await sent(client, data)
    images = [await complete(client, upload["id"])]
    images += (await delivered(with_fal, a_file(tmp_path, data)))["images"]

    assert len(images) == 2
    for image in images:
        kept = Image.open(BytesIO(await fetched(image["url"])))
        for shown, pixel in zip(seen(kept, len(pixels)), expected, strict=True):
            assert_alike(shown, pixel)


@pytest.mark.parametrize("row", REFUSED)
async def test_incomplete_and_animated_pictures_are_refused_from_any_source(
    with_fal: Darkroom, tmp_path: Path, row: str
) -> None:
    data, client = REFUSED[row](), with_fal.client()

    upload = await sent(client, data)
    refused = await complete_or_refuse(client, upload["id"])
    output = await delivered(with_fal, a_file(tmp_path, data))

    assert codes(refused) == [("UPLOAD_INVALID", "uploadId")]
    assert output["status"] == "FAILED"
    assert output["error"]["code"] == "PROVIDER_BAD_RESPONSE"
