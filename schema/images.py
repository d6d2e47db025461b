"""Images: pictures with signed links, and where they came from."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Self, TypeAlias

import strawberry

from domain import images
from domain.ids import turn_of_output
from schema.connections import Connection
from schema.context import Info
from schema.enums import described_enum
from schema.errors import UserError
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
    facts: strawberry.Private[images.Image]
    at_hand: strawberry.Private[images.ImageRecord | None]
    """The record where it has just been read, so that a page of images costs one query."""

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

    @classmethod
    def of(cls, facts: images.Image, *, at_hand: images.ImageRecord | None = None) -> Self:
        return cls(
            facts=facts,
            at_hand=at_hand,
            id=strawberry.ID(facts.id),
            width=facts.width,
            height=facts.height,
            content_type=facts.content_type,
            byte_size=facts.byte_size,
            thumbhash=facts.thumbhash,
            origin=facts.origin,
            seed=facts.seed,
            created_at=facts.created_at,
        )

    @classmethod
    def of_record(cls, record: images.ImageRecord) -> Self:
        return cls.of(record.image, at_hand=record)

    async def _record(self, info: Info) -> images.ImageRecord | None:
        return self.at_hand or await info.context.load.image.load(self.facts.id)

    @strawberry.field(
        description="A signed, absolute link, stable for a while so that clients can cache it. "
        "Altered anywhere or expired, it is answered 403."
    )
    def url(
        self,
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
        key = self.facts.key if wanted is None else self.facts.key_at_least(wanted)
        return info.context.links.link(key).url

    @strawberry.field(description="When `url` stops working.")
    def url_expires_at(self, info: Info) -> datetime:
        return min(info.context.links.link(key).expires_at for key in self.facts.keys)

    @strawberry.field(description="The model that made it.")
    def model(self, info: Info) -> ImageModel | None:
        name = self.facts.model_id
        return ImageModel.named(info, name) if name is not None else None

    @strawberry.field(description="The words it was made from.")
    async def prompt(self, info: Info) -> str | None:
        record = await self._record(info)
        return record.prompt if record else None

    @strawberry.field(
        description="Whether the viewer has marked it. A favourite stays when its conversation is "
        "deleted."
    )
    async def favourite(self, info: Info) -> bool:
        record = await self._record(info)
        return record is not None and record.favourite

    @strawberry.field(
        description="The images it was made from, as far as they still exist; none for one made "
        "from words alone."
    )
    async def made_from(
        self, info: Info
    ) -> list[Annotated["Image", strawberry.lazy("schema.images")]]:
        record = await self._record(info)
        if record is None or not record.made_from:
            return []
        found = await info.context.load.image.load_many(record.made_from)
        return [Image.of_record(one) for one in found if one is not None]

    @strawberry.field(description="The turn that it landed in, while that exists.")
    async def turn(self, info: Info) -> Annotated["Turn", strawberry.lazy("schema.turns")] | None:
        from schema.turns import Turn  # noqa: PLC0415 (the graph has cycles, modules must not)

        if self.facts.output_id is None:
            return None
        turn_id, _ = turn_of_output(self.facts.output_id)
        turn = await info.context.load.turn.load(turn_id)
        return Turn.of(turn) if turn else None

    @strawberry.field(description="The output that delivered it, while that exists.")
    async def output(
        self, info: Info
    ) -> Annotated["Output", strawberry.lazy("schema.outputs")] | None:
        from schema.outputs import Output  # noqa: PLC0415

        if self.facts.output_id is None:
            return None
        turn_id, slot = turn_of_output(self.facts.output_id)
        turn = await info.context.load.turn.load(turn_id)
        output = turn.output(slot) if turn else None
        return Output.of(output) if output else None


ImageConnection: TypeAlias = Connection[Image]


@strawberry.input(description="Names the image to delete.")
class DeleteImageInput:
    image_id: strawberry.ID = strawberry.field(description="The image.")


@strawberry.type(description="What was deleted.")
class DeleteImagePayload:
    deleted_image_id: strawberry.ID | None = strawberry.field(
        default=None, description="To drop from a cache; null where it was refused."
    )
    user_errors: list[UserError] = strawberry.field(
        default_factory=list, description="All that is wrong with the input, at once."
    )
