"""The viewer: everything that belongs to whoever is asking."""

from typing import Annotated, Self

import strawberry

from domain import images, viewers
from domain.credits import Account
from domain.ids import ModelId, parse_image_id
from domain.pages import Page
from domain.planning import MAX_MANUAL_REFERENCES, MAX_MODELS, MAX_PROMPT_LENGTH
from domain.text_search import searched_words
from schema.connections import Cursor, First, Search, page_request
from schema.context import Info
from schema.conversations import Conversation, ConversationConnection
from schema.images import Image, ImageConnection
from schema.node import Node
from schema.prompts import Prompt, PromptConnection
from schema.scalars import given
from schema.turns import Turn


@strawberry.type(description="What a viewer can spend.")
class Credits:
    balance: int = strawberry.field(description="What is owned, what is reserved included.")
    reserved: int = strawberry.field(description="Held for outputs at work.")
    available: int = strawberry.field(description="The balance less what is reserved.")

    @classmethod
    def of(cls, account: Account) -> Self:
        return cls(balance=account.balance, reserved=account.reserved, available=account.available)


@strawberry.type(description="What a viewer may ask for, and how much of it is taken.")
class Limits:
    max_active_outputs: int = strawberry.field(
        description="How many outputs may be at work at the same time."
    )
    active_outputs: int = strawberry.field(description="How many are.")
    max_prompt_length: int = strawberry.field(description="Characters of a message.")
    max_upload_bytes: int = strawberry.field(description="Bytes of an image to upload.")
    max_manual_references: int = strawberry.field(description="Extra references of a turn.")
    max_models: int = strawberry.field(description="Models of a turn.")

    @classmethod
    def of(cls, account: Account, *, max_active_outputs: int, max_upload_bytes: int) -> Self:
        return cls(
            max_active_outputs=max_active_outputs,
            active_outputs=account.active_outputs,
            max_prompt_length=MAX_PROMPT_LENGTH,
            max_upload_bytes=max_upload_bytes,
            max_manual_references=MAX_MANUAL_REFERENCES,
            max_models=MAX_MODELS,
        )


@strawberry.type(description="Whoever is asking.")
class Viewer(Node):
    value: strawberry.Private[viewers.Viewer]
    at_hand: strawberry.Private[Account | None]

    @classmethod
    def of(cls, viewer: viewers.Viewer, *, at_hand: Account | None = None) -> Self:
        """`at_hand` is the viewer's account, where it has just been read."""
        return cls(value=viewer, at_hand=at_hand, id=strawberry.ID(viewer.id))

    @strawberry.field(description="What the viewer can spend.")
    async def credits(self, info: Info) -> Credits:
        return Credits.of(await self._account(info))

    @strawberry.field(description="What the viewer may ask for, and how much of it is taken.")
    async def limits(self, info: Info) -> Limits:
        return Limits.of(
            await self._account(info),
            max_active_outputs=info.context.accounts.max_active_outputs,
            max_upload_bytes=info.context.uploads.max_bytes,
        )

    async def _account(self, info: Info) -> Account:
        account = self.at_hand or await info.context.load.account.load(self.value.id)
        assert account is not None, "An account is made at first sight."
        return account

    @strawberry.field(
        description="The viewer's conversations, newest activity first. `search` looks at their "
        "titles and messages."
    )
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
        search: Search = strawberry.UNSET,
    ) -> ConversationConnection:
        source, words = given(source_image_id), searched_words(given(search))
        name = f"conversations {self.value.id} {source or ''} {' '.join(words)}"
        request = page_request(info, name, first=first, after=after)
        image_id = parse_image_id(source) if source is not None else None
        if source is not None and image_id is None:
            return ConversationConnection.of(Page(()), Conversation.of, info, name)
        page = await info.context.conversations.page(
            self.value, request, source_image_id=image_id, words=words
        )
        return ConversationConnection.of(page, Conversation.of, info, name)

    @strawberry.field(description="The gallery: every image the viewer owns, newest first.")
    async def images(
        self,
        info: Info,
        first: First = strawberry.UNSET,
        after: Cursor = strawberry.UNSET,
        *,
        favourite: Annotated[
            bool | None, strawberry.argument(description="Only favourites, or only others.")
        ] = strawberry.UNSET,
        origin: Annotated[
            images.ImageOrigin | None, strawberry.argument(description="Only of this origin.")
        ] = strawberry.UNSET,
        model_id: Annotated[
            strawberry.ID | None,
            strawberry.argument(description="Only made by this model, by id or alias."),
        ] = strawberry.UNSET,
    ) -> ImageConnection:
        marked, wanted, model_name = given(favourite), given(origin), given(model_id)
        name = f"images {self.value.id} {marked} {wanted or ''} {model_name!r}"
        request = page_request(info, name, first=first, after=after)
        wanted_id = ModelId(model_name) if model_name is not None else None
        model = info.context.registry.get(model_name) if model_name is not None else None
        page = await info.context.images.page(
            self.value,
            request,
            favourite=marked,
            origin=wanted,
            model_id=model.id if model else wanted_id,
        )
        return ImageConnection.of(page, Image.of_record, info, name)

    @strawberry.field(
        description="The prompts that the viewer has begun turns with, each once, last used first."
    )
    async def prompts(
        self,
        info: Info,
        first: First = strawberry.UNSET,
        after: Cursor = strawberry.UNSET,
        search: Search = strawberry.UNSET,
        favourite: Annotated[
            bool | None, strawberry.argument(description="Only favourites, or only others.")
        ] = strawberry.UNSET,
    ) -> PromptConnection:
        marked, words = given(favourite), searched_words(given(search))
        name = f"prompts {self.value.id} {marked} {' '.join(words)}"
        request = page_request(info, name, first=first, after=after)
        page = await info.context.prompts.page(self.value, request, favourite=marked, words=words)
        return PromptConnection.of(page, Prompt.of, info, name)

    @strawberry.field(
        description="Turns with a model still at work: what an app asks for when it comes back to "
        "the foreground."
    )
    async def turns_in_progress(self, info: Info) -> list[Turn]:
        return [Turn.of(turn) for turn in await info.context.turns.in_progress(self.value)]
