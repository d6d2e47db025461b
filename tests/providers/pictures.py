"""Shared by tests of providers: a store, an observer, requests with defaults, pictures."""

import asyncio
import colorsys
import io
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

from PIL import Image as Pictures
from PIL import ImageChops, ImageDraw, ImageStat

from domain.errors import ObjectTooLarge, StoreUnavailable
from domain.generation import Delivery, GenerationRequest, SilentObserver
from domain.ids import ModelId, OutputId, new_image_id
from domain.images import FOLDERS, Image, ImageOrigin, shard_of
from domain.models import AspectRatio, ImageFormat, Resolution
from domain.ports.objects import MAX_OBJECT_BYTES, Link, StoredObject
from domain.ports.providers import Provider
from providers.catalogue import load_catalogue

SMALL = (320, 256)
MODELS = load_catalogue(rehearsals=True, with_credentials={"fal"})


class Shelf:
    """An `ObjectStore` that keeps its bytes in memory."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}
        self.read: list[str] = []

    async def put(self, key: str, data: bytes) -> None:
        self._kept[key] = data

    async def get(self, key: str, *, max_bytes: int = MAX_OBJECT_BYTES) -> bytes:
        self.read.append(key)
        if key not in self._kept:
            raise StoreUnavailable(key)
        if len(self._kept[key]) > max_bytes:
            raise ObjectTooLarge(key)
        return self._kept[key]

    async def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._kept.pop(key, None)

    async def list_keys(
        self, shard: str, *, folders: Sequence[str] = FOLDERS
    ) -> AsyncIterator[StoredObject]:
        for key, data in self._kept.items():
            if key.partition("/")[0] in folders and shard_of(key) == shard:
                yield StoredObject(key, len(data), datetime.now(UTC))

    def link(self, key: str) -> Link:
        return Link(url=f"memory:{key}", expires_at=datetime.max.replace(tzinfo=UTC))


class Spectator(SilentObserver):
    """A `RunObserver` that remembers, and says when it has seen something."""

    def __init__(self) -> None:
        self.fractions: list[float] = []
        self.previews: list[bytes] = []
        self.saw_progress = asyncio.Event()

    async def progress(self, fraction: float) -> None:
        self.fractions.append(fraction)
        self.saw_progress.set()

    async def preview(self, data: bytes) -> None:
        self.previews.append(data)


def a_request(
    prompt: str,
    *references: Image,
    model: str = "local-silver",
    attempt: int = 1,
    aspect_ratio: str = "1:1",
    size: tuple[int, int] | None = SMALL,
    image_count: int = 1,
    preview_count: int = 0,
    format: ImageFormat | None = ImageFormat.PNG,
    seed: str | None = None,
) -> GenerationRequest:
    known = MODELS.get(model)
    assert known is not None
    return GenerationRequest(
        attempt=attempt,
        model=known,
        prompt=prompt,
        references=references,
        aspect_ratio=AspectRatio.parse(aspect_ratio),
        resolution=Resolution.ONE_K,
        size=size,
        image_count=image_count,
        preview_count=preview_count,
        format=format,
        seed=seed,
        seconds_left=180.0,
    )


async def a_reference(
    shelf: Shelf,
    picture: Pictures.Image,
    *,
    model: str | None = None,
    output: str | None = None,
    data: bytes | None = None,
) -> Image:
    """A picture in the store; `model` and `output` where it is an earlier output."""
    if data is None:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        data = buffer.getvalue()
    image_id = new_image_id()
    key = f"images/{image_id}.png"
    await shelf.put(key, data)
    return Image(
        id=image_id,
        key=key,
        width=picture.width,
        height=picture.height,
        content_type="image/png",
        byte_size=len(data),
        thumbhash=None,
        rendition_widths=(),
        origin=ImageOrigin.OUTPUT,
        model_id=ModelId(model) if model else None,
        seed=None,
        output_id=OutputId(output) if output else None,
        created_at=datetime(2025, 1, 1, tzinfo=UTC),
    )


def a_colourful_picture(size: tuple[int, int] = SMALL) -> Pictures.Image:
    """A red left half, a blue right half, and a bright disc in the upper left quarter."""
    picture = Pictures.new("RGB", size, (176, 60, 52))
    draw = ImageDraw.Draw(picture)
    width, height = size
    draw.rectangle((width // 2, 0, width, height), fill=(48, 84, 168))
    radius = min(size) // 8
    x, y = width // 4, height // 4
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(244, 226, 150))
    return picture


async def made(provider: Provider, request: GenerationRequest) -> Pictures.Image:
    """The only picture of a run, decoded."""
    return opened(await provider.generate(request, Spectator()))


def opened(delivery: Delivery, index: int = 0) -> Pictures.Image:
    picture = Pictures.open(io.BytesIO(delivery.images[index].data))
    picture.load()
    return picture


def mean(picture: Pictures.Image) -> tuple[float, float, float]:
    red, green, blue = ImageStat.Stat(picture.convert("RGB")).mean
    return red, green, blue


def brightness(picture: Pictures.Image) -> float:
    return ImageStat.Stat(picture.convert("L")).mean[0]


def contrast(picture: Pictures.Image) -> float:
    return ImageStat.Stat(picture.convert("L")).stddev[0]


def colourfulness(picture: Pictures.Image) -> float:
    """How far the channels of a point are apart, on average."""
    red, green, blue = picture.convert("RGB").split()
    pairs = ((red, green), (green, blue), (red, blue))
    return sum(ImageStat.Stat(ImageChops.difference(*pair)).mean[0] for pair in pairs) / 3


def detail(picture: Pictures.Image) -> float:
    """How much neighbouring points differ, on average."""
    grey = picture.convert("L")
    moved = ImageChops.offset(grey, 1, 0).crop((1, 0, grey.width, grey.height))
    return ImageStat.Stat(ImageChops.difference(grey.crop((1, 0, *grey.size)), moved)).mean[0]


def distance(one: Pictures.Image, other: Pictures.Image) -> float:
    """The mean difference of two pictures of the same size, from 0 to 255."""
    assert one.size == other.size
    difference = ImageChops.difference(one.convert("RGB"), other.convert("RGB"))
    return sum(ImageStat.Stat(difference).mean) / 3


def hue(colour: tuple[float, float, float]) -> float:
    return colorsys.rgb_to_hsv(*(band / 255 for band in colour))[0] * 360
