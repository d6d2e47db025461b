"""`node` and `nodes`: any object by its id, whose prefix says what it is."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

import strawberry

from domain.albums import Album
from domain.conversations import Conversation
from domain.errors import QueryTooComplex
from domain.ids import (
    parse_album_id,
    parse_conversation_id,
    parse_export_id,
    parse_image_id,
    parse_import_id,
    parse_output_id,
    parse_post_id,
    parse_prompt_id,
    parse_turn_id,
)
from domain.images import Image
from domain.jobs import Export, Import
from domain.outputs import Output
from domain.posts import Post
from domain.prompts import Prompt
from domain.turns import Turn
from domain.viewers import Viewer
from schema.context import Info
from schema.images import image_of
from schema.node import Node

_MAX_IDS = 100


async def find_conversation(info: Info, name: str) -> Conversation | None:
    conversation_id = parse_conversation_id(name)
    return await info.context.load.conversation.load(conversation_id) if conversation_id else None


async def find_turn(info: Info, name: str) -> Turn | None:
    turn_id = parse_turn_id(name)
    return await info.context.load.turn.load(turn_id) if turn_id else None


async def find_post(info: Info, name: str) -> Post | None:
    post_id = parse_post_id(name)
    return await info.context.load.post.load(post_id) if post_id else None


async def find_image(info: Info, name: str) -> Image | None:
    image_id = parse_image_id(name)
    record = await info.context.load.image.load(image_id) if image_id else None
    return image_of(record) if record else None


async def _find_output(info: Info, name: str) -> Output | None:
    output_id = parse_output_id(name)
    return await info.context.load.output(output_id) if output_id else None


async def _find_prompt(info: Info, name: str) -> Prompt | None:
    prompt_id = parse_prompt_id(name)
    return await info.context.load.prompt.load(prompt_id) if prompt_id else None


async def _find_album(info: Info, name: str) -> Album | None:
    album_id = parse_album_id(name)
    return await info.context.load.album.load(album_id) if album_id else None


async def _find_export(info: Info, name: str) -> Export | None:
    export_id = parse_export_id(name)
    return await info.context.load.export.load(export_id) if export_id else None


async def _find_import(info: Info, name: str) -> Import | None:
    import_id = parse_import_id(name)
    return await info.context.load.importing.load(import_id) if import_id else None


async def _find_viewer(info: Info, name: str) -> Viewer | None:
    viewer = info.context.viewer
    return viewer if name == viewer.id else None


_FINDERS = {
    "conv": find_conversation,
    "turn": find_turn,
    "out": _find_output,
    "post": find_post,
    "pout": _find_output,
    "img": find_image,
    "prompt": _find_prompt,
    "album": _find_album,
    "user": _find_viewer,
    "exp": _find_export,
    "imp": _find_import,
}


async def find_node(info: Info, name: str) -> object:
    """Find a domain value by its id; None if there is none. Its class tells its GraphQL type."""
    _ = info.context.viewer  # raises Unauthenticated for an anonymous client
    finder = _FINDERS.get(name.partition("_")[0])
    return await finder(info, name) if finder else None


@strawberry.type
class NodeQueries:
    @strawberry.field(
        graphql_type=Node | None,
        description="An object of the viewer. Null if there is none with this id, or if it "
        "belongs to another viewer.",
    )
    async def node(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The id of the object.")],
    ) -> object:
        return await find_node(info, id)

    @strawberry.field(
        graphql_type=list[Node | None],
        description="Objects of the viewer, in the order of their ids. Null for each id that "
        "`node` would return null for.",
    )
    async def nodes(
        self,
        info: Info,
        ids: Annotated[
            list[strawberry.ID], strawberry.argument(description="The ids: at most 100.")
        ],
    ) -> Sequence[object]:
        if len(ids) > _MAX_IDS:
            raise QueryTooComplex("ids", maximum=_MAX_IDS, actual=len(ids))
        # Awaited together, so that each kind costs one query.
        return await asyncio.gather(*(find_node(info, node_id) for node_id in ids))
