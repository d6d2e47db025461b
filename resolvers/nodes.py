"""`node` and `nodes`: any object by its id, whose prefix says what it is."""

import asyncio
from typing import Annotated

import strawberry

from domain.errors import QueryTooComplex
from domain.ids import (
    parse_conversation_id,
    parse_image_id,
    parse_output_id,
    parse_prompt_id,
    parse_turn_id,
    turn_of_output,
)
from schema.context import Info
from schema.conversations import Conversation
from schema.images import Image
from schema.node import Node
from schema.outputs import Output
from schema.prompts import Prompt
from schema.turns import Turn
from schema.viewer import Viewer

_MAX_IDS = 100


async def find_conversation(info: Info, name: str) -> Conversation | None:
    conversation_id = parse_conversation_id(name)
    if conversation_id is None:
        return None
    found = await info.context.load.conversation.load(conversation_id)
    return Conversation.of(found) if found else None


async def find_turn(info: Info, name: str) -> Turn | None:
    turn_id = parse_turn_id(name)
    found = await info.context.load.turn.load(turn_id) if turn_id else None
    return Turn.of(found) if found else None


async def find_image(info: Info, name: str) -> Image | None:
    image_id = parse_image_id(name)
    found = await info.context.load.image.load(image_id) if image_id else None
    return Image.of_record(found) if found else None


async def _find_output(info: Info, name: str) -> Output | None:
    output_id = parse_output_id(name)
    if output_id is None:
        return None
    turn_id, slot = turn_of_output(output_id)
    turn = await info.context.load.turn.load(turn_id)
    output = turn.output(slot) if turn else None
    return Output.of(output) if output else None


async def _find_prompt(info: Info, name: str) -> Prompt | None:
    prompt_id = parse_prompt_id(name)
    found = await info.context.load.prompt.load(prompt_id) if prompt_id else None
    return Prompt.of(found) if found else None


async def _find_viewer(info: Info, name: str) -> Viewer | None:
    viewer = info.context.viewer
    return Viewer.of(viewer) if name == viewer.id else None


_FINDERS = {
    "conv": find_conversation,
    "turn": find_turn,
    "out": _find_output,
    "img": find_image,
    "prompt": _find_prompt,
    "user": _find_viewer,
}


async def find_node(info: Info, name: str) -> Node | None:
    _ = info.context.viewer  # nobody's objects are read by nobody
    finder = _FINDERS.get(name.partition("_")[0])
    return await finder(info, name) if finder else None


@strawberry.type
class NodeQueries:
    @strawberry.field(
        description="Any object the viewer may read, or null. Somebody else's object is null, as "
        "if it did not exist."
    )
    async def node(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The object's id.")],
    ) -> Node | None:
        return await find_node(info, id)

    @strawberry.field(
        description="Objects in the order of their ids; null for each that the viewer may not read."
    )
    async def nodes(
        self,
        info: Info,
        ids: Annotated[list[strawberry.ID], strawberry.argument(description="At most 100 ids.")],
    ) -> list[Node | None]:
        if len(ids) > _MAX_IDS:
            raise QueryTooComplex("ids", maximum=_MAX_IDS, actual=len(ids))
        # Awaited together, so that each kind costs one query.
        return list(await asyncio.gather(*(find_node(info, one) for one in ids)))
