"""Loaders: a list costs one query for each kind of object that its items lead to."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TypeVar

from strawberry.dataloader import DataLoader

from domain.albums import Album
from domain.conversations import Conversation
from domain.credits import Account
from domain.ids import (
    AlbumId,
    ConversationId,
    ImageId,
    OutputId,
    PostId,
    PromptId,
    TurnId,
    ViewerId,
    as_post_id,
    as_turn_id,
    conversation_of_turn,
    parent_of_output,
)
from domain.images import Image, ImageRecord
from domain.jobs import Export, Import
from domain.outputs import Output
from domain.pages import Page
from domain.parents import Parent
from domain.posts import Post
from domain.prompts import Prompt
from domain.shares import ShareScope
from domain.shown import output_within, show
from domain.turns import Turn
from domain.viewers import Viewer
from schema.services import Services

Key = TypeVar("Key")
Value = TypeVar("Value")


class Loaders:
    """The loaders of one request, each made at its first use.

    They batch, but do not cache: a subscription lives longer than what it has read.
    `require_viewer` raises Unauthenticated if the client is anonymous. Within a share's scope they
    read for its owner, find only what belongs to its conversation, and show it as its readers may
    see it.
    """

    def __init__(
        self,
        services: Services,
        require_viewer: Callable[[], Viewer],
        scope: ShareScope | None = None,
    ) -> None:
        self._services = services
        self._require_viewer = require_viewer
        self.scope = scope
        self._within: dict[ShareScope, Loaders] = {}

    def within(self, scope: ShareScope) -> "Loaders":
        found = self._within.get(scope)
        if found is None:
            found = Loaders(self._services, lambda: Viewer(scope.owner_id), scope)
            self._within[scope] = found
        return found

    @property
    def viewer(self) -> Viewer:
        """For whom they read. Raise Unauthenticated if the client is anonymous."""
        return self._require_viewer()

    def show_page(self, page: Page[Value]) -> Page[Value]:
        """A page that was read for the viewer, as it is shown."""
        scope = self.scope
        return page if scope is None else page.map(lambda item: show(item, scope))

    @cached_property
    def conversation(self) -> DataLoader[ConversationId, Conversation | None]:
        return self._make(
            self._services.conversations.get_many,
            lambda key, scope: key == scope.conversation_id,
        )

    @cached_property
    def turn(self) -> DataLoader[TurnId, Turn | None]:
        return self._make(
            self._services.turns.get_many,
            lambda key, scope: conversation_of_turn(key) == scope.conversation_id,
        )

    @cached_property
    def post(self) -> DataLoader[PostId, Post | None]:
        return self._make(self._services.posts.get_many)

    @cached_property
    def latest_turn(self) -> DataLoader[ConversationId, Turn | None]:
        return self._make(self._services.turns.find_latest_of_many)

    @cached_property
    def image(self) -> DataLoader[ImageId, ImageRecord | None]:
        scope = self.scope
        if scope is None or not scope.includes_prompts:
            return self._make(self._services.images.get_many)

        async def get_many(viewer: Viewer, ids: Iterable[ImageId]) -> Mapping[ImageId, ImageRecord]:
            records = await self._services.images.get_many(viewer, ids)
            made_by = await asyncio.gather(
                *(self.load_output_that_made(record.image) for record in records.values())
            )
            return {
                record.image.id: record
                for record, output in zip(records.values(), made_by, strict=True)
                if output is not None
            }

        return self._make(get_many, lambda _key, _scope: True)

    @cached_property
    def export(self) -> DataLoader[str, Export | None]:
        return self._make(self._services.exports.get_many)

    @cached_property
    def importing(self) -> DataLoader[str, Import | None]:
        return self._make(self._services.imports.get_many)

    @cached_property
    def prompt(self) -> DataLoader[PromptId, Prompt | None]:
        return self._make(self._services.prompts.get_many)

    @cached_property
    def album(self) -> DataLoader[AlbumId, Album | None]:
        return self._make(self._services.albums.get_many)

    @cached_property
    def account(self) -> DataLoader[ViewerId, Account | None]:
        return self._make(self._services.accounts.get_many)

    async def output(self, output_id: OutputId) -> Output | None:
        """With its turn or its post."""
        parent_id, slot = parent_of_output(output_id)
        turn_id, post_id = as_turn_id(parent_id), as_post_id(parent_id)
        parent: Parent | None = None
        if turn_id is not None:
            parent = await self.turn.load(turn_id)
        elif post_id is not None:
            parent = await self.post.load(post_id)
        return parent.output(slot) if parent is not None else None

    async def load_turn_that_made(self, image: Image) -> Turn | None:
        if self.scope is not None:
            turn_and_output = await self._find_made_within(image, self.scope)
            return turn_and_output[0] if turn_and_output else None
        turn_id = as_turn_id(parent_of_output(image.output_id)[0]) if image.output_id else None
        return await self.turn.load(turn_id) if turn_id else None

    async def load_output_that_made(self, image: Image) -> Output | None:
        if self.scope is not None:
            turn_and_output = await self._find_made_within(image, self.scope)
            return turn_and_output[1] if turn_and_output else None
        return await self.output(image.output_id) if image.output_id else None

    async def _find_made_within(
        self, image: Image, scope: ShareScope
    ) -> tuple[Turn, Output] | None:
        """The turn of a share that has the image, and the output."""
        within = output_within(image, scope)
        turn = await self.turn.load(within[0]) if within else None
        output = turn.output(within[1]) if turn and within else None
        if turn is None or output is None or all(other.id != image.id for other in output.images):
            return None
        return turn, output

    def _make(
        self,
        get_many: Callable[[Viewer, Iterable[Key]], Awaitable[Mapping[Key, Value]]],
        is_shared: Callable[[Key, ShareScope], bool] = lambda _key, _scope: False,
    ) -> DataLoader[Key, Value | None]:
        # A loader that held `self` would keep it, and the request, until a full garbage collection.
        scope, require_viewer = self.scope, self._require_viewer

        async def load(keys: list[Key]) -> Sequence[Value | None]:
            if scope is None:
                found = await get_many(require_viewer(), keys)
                return [found.get(key) for key in keys]
            shared = [key for key in keys if is_shared(key, scope)]
            found = await get_many(require_viewer(), shared) if shared else {}
            return [show(found.get(key), scope) for key in keys]

        return DataLoader(load_fn=load, cache=False)
