"""Images: pictures with signed links, and where they came from."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, TypeAlias

import strawberry

from domain import images, models, outputs, turns
from domain.ids import turn_of_output
from schema.companions import companion, with_companion
from schema.connections import Connection
from schema.context import Info
from schema.enums import described_enum
from schema.errors import Payload
from schema.models import ImageModel
from schema.node import Node
from schema.scalars import given

if TYPE_CHECKING:
    from schema.outputs import Output
    from schema.turns import Turn

described_enum(
    images.ImageOrigin,
    "How an image came to be the viewer's.",
    OUTPUT="A model delivered it in a conversation.",
    UPLOAD="The viewer brought it.",
    SAMPLE="Given to a viewer at first sight, in development.",
)


@strawberry.type(description="A picture that the viewer owns. What it shows never changes.")
class Image(Node):
    source = images.Image

    width: int = strawberry.field(description="In pixels.")
    height: int = strawberry.field(description="In pixels.")
    content_type: str = strawberry.field(description="E.g. `image/png`.")
    byte_size: int = strawberry.field(description="Of the original.")
    thumbhash: str | None = strawberry.field(
        description="A ThumbHash, base64: a placeholder to paint before the bytes arrive."
    )
    origin: images.ImageOrigin = strawberry.field(description="How it came to be the viewer's.")
    seed: str | None = strawberry.field(description="Makes it again, where the model tells.")
    created_at: datetime = strawberry.field(description="When it landed.")

    @strawberry.field(
        description="A signed, absolute link, stable for a while so that clients can cache it. "
        "Altered anywhere or expired, it is answered 403."
    )
    @staticmethod
    def url(
        image: strawberry.Parent[images.Image],
        info: Info,
        width: Annotated[
            int | None,
            strawberry.argument(
                description="In device pixels. Gives the smallest WebP of 256, 512 or 1024 pixels "
                "that is at least so wide, else the original. Left out: the original."
            ),
        ] = strawberry.UNSET,
    ) -> str:
        wanted = given(width)
        key = image.key if wanted is None else image.key_at_least(wanted)
        return info.context.links.link(key).url

    @strawberry.field(description="When `url` stops working.")
    @staticmethod
    def url_expires_at(image: strawberry.Parent[images.Image], info: Info) -> datetime:
        return min(info.context.links.link(key).expires_at for key in image.keys)

    @strawberry.field(graphql_type=ImageModel | None, description="The model that made it.")
    @staticmethod
    def model(image: strawberry.Parent[images.Image], info: Info) -> models.ImageModel | None:
        name = image.model_id
        return info.context.registry.remembered(name) if name is not None else None

    @strawberry.field(description="The words it was made from.")
    @staticmethod
    async def prompt(image: strawberry.Parent[images.Image], info: Info) -> str | None:
        record = await _record(info, image)
        return record.prompt if record else None

    @strawberry.field(
        description="Whether the viewer has marked it. A favourite stays when its conversation is "
        "deleted."
    )
    @staticmethod
    async def favourite(image: strawberry.Parent[images.Image], info: Info) -> bool:
        record = await _record(info, image)
        return record is not None and record.favourite

    @strawberry.field(
        graphql_type=list[Annotated["Image", strawberry.lazy("schema.images")]],
        description="The images it was made from, as far as they still exist; none for one made "
        "from words alone.",
    )
    @staticmethod
    async def made_from(
        image: strawberry.Parent[images.Image], info: Info
    ) -> Sequence[images.Image]:
        record = await _record(info, image)
        if record is None or not record.made_from:
            return ()
        found = await info.context.load.image.load_many(record.made_from)
        return [image_of(one) for one in found if one is not None]

    @strawberry.field(
        graphql_type=Annotated["Turn", strawberry.lazy("schema.turns")] | None,
        description="The turn that it landed in, while that exists.",
    )
    @staticmethod
    async def turn(image: strawberry.Parent[images.Image], info: Info) -> turns.Turn | None:
        if image.output_id is None:
            return None
        turn_id, _ = turn_of_output(image.output_id)
        return await info.context.load.turn.load(turn_id)

    @strawberry.field(
        graphql_type=Annotated["Output", strawberry.lazy("schema.outputs")] | None,
        description="The output that delivered it, while that exists.",
    )
    @staticmethod
    async def output(image: strawberry.Parent[images.Image], info: Info) -> outputs.Output | None:
        if image.output_id is None:
            return None
        turn_id, slot = turn_of_output(image.output_id)
        turn = await info.context.load.turn.load(turn_id)
        return turn.output(slot) if turn else None


def image_of(record: images.ImageRecord) -> images.Image:
    """The record's image, with the record at hand, so that a page of images costs one query."""
    return with_companion(record.image, record)


async def _record(info: Info, image: images.Image) -> images.ImageRecord | None:
    known = companion(image, images.ImageRecord)
    return known or await info.context.load.image.load(image.id)


ImageConnection: TypeAlias = Connection[Image]


@strawberry.input(description="Names the image to delete.")
class DeleteImageInput:
    image_id: strawberry.ID = strawberry.field(description="The image.")


@strawberry.type(description="What was deleted.")
class DeleteImagePayload(Payload):
    deleted_image_id: strawberry.ID | None = strawberry.field(
        default=None, description="To drop from a cache; null where it was refused."
    )
