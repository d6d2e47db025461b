"""Images, their signed URLs, and where they came from."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, ClassVar, TypeAlias

import strawberry

from domain import images, models, outputs, posts, turns
from domain.ids import as_post_id, parent_of_output
from domain.object_keys import LINK_WINDOW_SECONDS
from domain.pages import Page
from domain.ports.objects import Link
from domain.stored import StoredValues
from schema.companions import companion, with_companion
from schema.connections import Connection
from schema.context import Info
from schema.enums import described_enum
from schema.errors import Payload
from schema.hints import hints
from schema.models import ImageModel
from schema.node import Node
from schema.scalars import given

if TYPE_CHECKING:
    from schema.outputs import Output
    from schema.posts import Post
    from schema.turns import Turn

described_enum(
    images.ImageOrigin,
    "Where an image comes from.",
    OUTPUT="A model made it in a conversation.",
    POST="A model made it for a post.",
    UPLOAD="The viewer uploaded it.",
    SAMPLE="A sample image that every new viewer gets in development.",
)


described_enum(
    images.DigitalSourceType,
    "How an image was made, by the terms of IPTC's digital source types.",
    TRAINED_ALGORITHMIC_MEDIA="A model made it from text alone.",
    COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA="A model made it from other images: it is an edit.",
)


@strawberry.type(
    description="What the files of an image say about how it was made, for machines: the original "
    "and every thumbnail have the digital source type as XMP (Iptc4xmpExt:DigitalSourceType)."
)
class Provenance:
    source: ClassVar[type] = images.Provenance

    digital_source_type: images.DigitalSourceType = strawberry.field(
        description="How the image was made."
    )
    content_credentials: bool = strawberry.field(
        description="Whether the original contains the provider's content credentials, a C2PA "
        "manifest. Where those name the digital source type, the original is the provider's file "
        "byte for byte, and has no other mark."
    )


def _link(image: images.Image, info: Info, width: int | None) -> Link:
    wanted = given(width)
    key = image.key if wanted is None else image.key_at_least(wanted)
    return info.context.services.links.link(key)


def _url_until(image: images.Image, info: Info, width: int | None = strawberry.UNSET) -> float:
    """When the URL changes: a link is given out for the first half of its life."""
    return _link(image, info, width).expires_at.timestamp() - LINK_WINDOW_SECONDS


@strawberry.type(description="An image that the viewer owns. Its pixels never change.")
class Image(Node):
    source = images.Image

    width: int = strawberry.field(description="The width of the original in pixels.")
    height: int = strawberry.field(description="The height of the original in pixels.")
    content_type: str = strawberry.field(
        description="The media type of the original, e.g. `image/png`."
    )
    byte_size: int = strawberry.field(description="The size of the original in bytes.")
    thumbhash: str | None = strawberry.field(
        description="A ThumbHash in base64: a placeholder to show until the image has loaded."
    )
    origin: images.ImageOrigin = strawberry.field(description="Where the image comes from.")
    seed: str | None = strawberry.field(
        description="The seed that the model used. Null if it did not report one."
    )
    created_at: datetime = strawberry.field(description="When the image was created.")
    provenance: Provenance | None = strawberry.field(
        description="What the image's files say about how it was made. Null for uploads, whose "
        "metadata is removed, and for images that were made before files said it."
    )

    @strawberry.field(
        description="A signed, absolute URL of the image. It stays the same for a while, so "
        "that clients can cache the image. An expired or altered URL is answered "
        "with 403: query `url` again.",
        metadata=hints("key", "rendition_widths", until=_url_until),
    )
    @staticmethod
    def url(
        image: strawberry.Parent[images.Image],
        info: Info,
        width: Annotated[
            int | None,
            strawberry.argument(
                description="A width in device pixels: the URL leads to the smallest "
                "thumbnail (WebP, 256, 512 or 1024 pixels wide) that is at least this wide, or to "
                "the original if there is none. If omitted: the original."
            ),
        ] = strawberry.UNSET,
    ) -> str:
        return _link(image, info, width).url

    @strawberry.field(
        description="When the image's URLs expire.", metadata=hints("key", "rendition_widths")
    )
    @staticmethod
    def url_expires_at(image: strawberry.Parent[images.Image], info: Info) -> datetime:
        return min(info.context.services.links.link(key).expires_at for key in image.keys)

    @strawberry.field(
        graphql_type=ImageModel | None,
        description="The model that made the image. Null if no model did.",
        metadata=hints("model_id", constant_by="model_id"),
    )
    @staticmethod
    def model(image: strawberry.Parent[images.Image], info: Info) -> models.ImageModel | None:
        name = image.model_id
        return info.context.services.registry.remembered(name) if name is not None else None

    @strawberry.field(
        description="The prompt that the image was made from. Null if it was not made from one.",
        metadata=hints("id", "companion", stored=True),
    )
    @staticmethod
    async def prompt(image: strawberry.Parent[images.Image], info: Info) -> str | None:
        record = await _record(info, image)
        return record.prompt if record else None

    @strawberry.field(
        description="Whether the viewer has marked it as a favourite. A favourite is kept when "
        "its conversation or post is deleted, and so is an image in an album.",
        metadata=hints("id", "companion", stored=True),
    )
    @staticmethod
    async def favourite(image: strawberry.Parent[images.Image], info: Info) -> bool:
        record = await _record(info, image)
        return record is not None and record.favourite

    @strawberry.field(
        graphql_type=list[Annotated["Image", strawberry.lazy("schema.images")]],
        description="The images that it was made from, without those that have been deleted. "
        "Empty if it was made from text alone.",
        metadata=hints("id", "companion"),
    )
    @staticmethod
    async def made_from(
        image: strawberry.Parent[images.Image], info: Info
    ) -> Sequence[images.Image]:
        record = await _record(info, image)
        if record is None or not record.made_from:
            return ()
        sources = await info.context.reading(image).image.load_many(record.made_from)
        return [image_of(source) for source in sources if source is not None]

    @strawberry.field(
        graphql_type=Annotated["Turn", strawberry.lazy("schema.turns")] | None,
        description="The turn that it was made in. Null if there was none, or if it has been "
        "deleted.",
        metadata=hints("output_id"),
    )
    @staticmethod
    async def turn(image: strawberry.Parent[images.Image], info: Info) -> turns.Turn | None:
        return await info.context.reading(image).load_turn_that_made(image)

    @strawberry.field(
        graphql_type=Annotated["Post", strawberry.lazy("schema.posts")] | None,
        description="The post that it was made for. Null if there was none, or if it has been "
        "deleted.",
        metadata=hints("output_id"),
    )
    @staticmethod
    async def post(image: strawberry.Parent[images.Image], info: Info) -> posts.Post | None:
        post_id = as_post_id(parent_of_output(image.output_id)[0]) if image.output_id else None
        return await info.context.reading(image).post.load(post_id) if post_id else None

    @strawberry.field(
        graphql_type=Annotated["Output", strawberry.lazy("schema.outputs")] | None,
        description="The output that delivered it. Null if there was none, or if it has been "
        "deleted.",
        metadata=hints("output_id"),
    )
    @staticmethod
    async def output(image: strawberry.Parent[images.Image], info: Info) -> outputs.Output | None:
        return await info.context.reading(image).load_output_that_made(image)


def image_of(record: images.ImageRecord) -> images.Image:
    """The record's image, with the record at hand, so that a page of images costs one query."""
    return with_companion(record.image, record)


def images_of(page: Page[images.ImageRecord]) -> Page[images.Image]:
    """The same for a page."""
    records = page.items
    if not isinstance(records, StoredValues):
        return page.map(image_of)
    return Page(records.each("image"), page.positions, page.has_next, page.has_previous)


async def _record(info: Info, image: images.Image) -> images.ImageRecord | None:
    known = companion(image, images.ImageRecord)
    return known or await info.context.reading(image).image.load(image.id)


ImageConnection: TypeAlias = Connection[Image]


@strawberry.input(description="The input of `deleteImages`.")
class DeleteImagesInput:
    image_ids: list[strawberry.ID] = strawberry.field(
        description="The ids of up to 100 images. An id may be there twice."
    )


@strawberry.type(description="The result of `deleteImages`.")
class DeleteImagesPayload(Payload):
    deleted_image_ids: list[strawberry.ID] = strawberry.field(
        default_factory=list,
        description="The ids of the deleted images, each once, to remove them from a cache. Empty "
        "if the mutation was refused.",
    )


@strawberry.input(description="The input of `deleteImage`.")
class DeleteImageInput:
    image_id: strawberry.ID = strawberry.field(description="The id of the image.")


@strawberry.type(description="The result of `deleteImage`.")
class DeleteImagePayload(Payload):
    deleted_image_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="The id of the deleted image, to remove it from a cache. Null if the "
        "mutation was refused.",
    )
