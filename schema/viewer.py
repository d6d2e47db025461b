"""The viewer: everything that belongs to whoever is asking."""

from typing import Annotated, Self

import strawberry

from domain import images, viewers
from domain.ids import ModelId, parse_image_id
from domain.pages import Page
from schema.connections import Cursor, First, page_request
from schema.context import Info
from schema.conversations import Conversation, ConversationConnection
from schema.images import Image, ImageConnection
from schema.node import Node
from schema.scalars import given
from schema.turns import Turn


@strawberry.type(description="Whoever is asking.")
class Viewer(Node):
    value: strawberry.Private[viewers.Viewer]

    @classmethod
    def of(cls, viewer: viewers.Viewer) -> Self:
        return cls(value=viewer, id=strawberry.ID(viewer.id))

    @strawberry.field(description="The viewer's conversations, newest activity first.")
    async def conversations(
        self,
        info: Info,
        first: First = strawberry.UNSET,
        after: Cursor = strawberry.UNSET,
        source_image_id: Annotated[
            strawberry.ID | None,
            strawberry.argument(
                description="Answers: is there already a conversation for this image?"
            ),
        ] = strawberry.UNSET,
    ) -> ConversationConnection:
        source = given(source_image_id)
        name = f"conversations {self.value.id} {source or ''}"
        request = page_request(info, name, first=first, after=after)
        image_id = parse_image_id(source) if source is not None else None
        if source is not None and image_id is None:
            return ConversationConnection.of(Page(()), Conversation.of, info, name)
        page = await info.context.conversations.page(self.value, request, source_image_id=image_id)
        return ConversationConnection.of(page, Conversation.of, info, name)

    @strawberry.field(description="The gallery: every image the viewer owns, newest first.")
    async def images(
        self,
        info: Info,
        first: First = strawberry.UNSET,
        after: Cursor = strawberry.UNSET,
        origin: Annotated[
            images.ImageOrigin | None, strawberry.argument(description="Only of this origin.")
        ] = strawberry.UNSET,
        model_id: Annotated[
            strawberry.ID | None,
            strawberry.argument(description="Only made by this model, by id or alias."),
        ] = strawberry.UNSET,
    ) -> ImageConnection:
        wanted, model_name = given(origin), given(model_id)
        name = f"images {self.value.id} {wanted or ''} {model_name or ''}"
        request = page_request(info, name, first=first, after=after)
        model = info.context.registry.get(model_name) if model_name is not None else None
        page = await info.context.images.page(
            self.value,
            request,
            origin=wanted,
            model_id=model.id if model else (ModelId(model_name) if model_name else None),
        )
        return ImageConnection.of(page, lambda record: Image.of(record.image), info, name)

    @strawberry.field(
        description="Turns with a model still at work: what an app asks for when it comes back to "
        "the foreground."
    )
    async def turns_in_progress(self, info: Info) -> list[Turn]:
        return [Turn.of(turn) for turn in await info.context.turns.in_progress(self.value)]
