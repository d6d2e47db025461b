"""A plain Strawberry server: what its documentation leads to, on the same records.

One change stream, a queue for each subscriber, types with a class method that copies from a
record; no tokens, no signed links, no limits. Where Darkroom is slower than this, it has no excuse.

`python -m bench.plain URI DATABASE PORT OWNER FILE`: into the file goes what its probe sees.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import strawberry
from pymongo import AsyncMongoClient
from pymongo.asynchronous.client_session import AsyncClientSession
from starlette.applications import Starlette
from starlette.routing import Route, WebSocketRoute
from strawberry.asgi import GraphQL

from bench.documents import Record, Records
from bench.probe import probe_at_signal
from bench.relay import LINK, PATTERN, turns_of
from bench.serving import serve
from domain.ids import ViewerId

_QUEUED = 100
"""Updates that wait for one subscriber."""


@strawberry.type
class Model:
    id: strawberry.ID
    label: str

    @classmethod
    def named(cls, name: str) -> Self:
        return cls(id=strawberry.ID(name), label=name)


@strawberry.type
class Preview:
    index: int
    url: str


@strawberry.type
class Error:
    code: str
    message: str
    retryable: bool


@strawberry.type
class Image:
    id: strawberry.ID
    width: int
    height: int
    thumbhash: str | None
    created_at: datetime
    favourite: bool
    prompt: str | None
    origin: str
    model: Model | None
    key: strawberry.Private[str]

    @strawberry.field
    def url(self, width: int | None = None) -> str:  # noqa: ARG002
        return LINK % self.key

    @classmethod
    def of(cls, record: Record) -> Self:
        return cls(
            id=strawberry.ID(record.get("id") or record["_id"]),
            width=record["width"],
            height=record["height"],
            thumbhash=record["thumbhash"],
            created_at=record["createdAt"],
            favourite=record.get("favourite", False),
            prompt=record.get("prompt"),
            origin=record["origin"],
            model=Model.named(record["model"]) if record["model"] else None,
            key=record["key"],
        )


@strawberry.type
class Output:
    id: strawberry.ID
    status: str
    progress: float | None
    text: str | None
    model: Model
    preview: Preview | None
    error: Error | None
    images: list[Image]
    credits_charged: int
    queued_at: datetime
    completed_at: datetime | None

    @classmethod
    def of(cls, turn_id: str, record: Record) -> Self:
        preview, error = record["preview"], record["error"]
        return cls(
            id=strawberry.ID(f"out_{turn_id[5:]}_{record['slot']}"),
            status=record["status"],
            progress=record["progress"],
            text=record["text"],
            model=Model.named(record["model"]),
            preview=preview and Preview(index=preview["index"], url=LINK % preview["key"]),
            error=error
            and Error(
                code=error["code"],
                message="The request violates the model's content policy.",
                retryable=error["retryable"],
            ),
            images=[Image.of(image) for image in record["images"]],
            credits_charged=record["creditsCharged"],
            queued_at=record["queuedAt"],
            completed_at=record["completedAt"],
        )


@strawberry.type
class Turn:
    id: strawberry.ID
    turn_index: int
    user_message: str
    status: str
    created_at: datetime
    completed_at: datetime | None
    outputs: list[Output]

    @classmethod
    def of(cls, record: Record) -> Self:
        return cls(
            id=strawberry.ID(record["_id"]),
            turn_index=record["turnIndex"],
            user_message=record["userMessage"],
            status=record["status"],
            created_at=record["createdAt"],
            completed_at=record["completedAt"],
            outputs=[Output.of(record["_id"], output) for output in record["outputs"]],
        )


@strawberry.type
class Turns:
    nodes: list[Turn]


@strawberry.type
class Conversation:
    id: strawberry.ID
    title: str
    turn_count: int
    aspect_ratio: str | None
    updated_at: datetime

    @classmethod
    def of(cls, record: Record) -> Self:
        return cls(
            id=strawberry.ID(record["_id"]),
            title=record["title"],
            turn_count=record["turnCount"],
            aspect_ratio=record["aspectRatio"],
            updated_at=record["updatedAt"],
        )

    @strawberry.field
    async def turns(self, info: strawberry.Info[Any], last: int = 20) -> Turns:
        server: Plain = info.context["server"]
        found = server.database.turns.find(turns_of(self.id)).sort("_id", -1).limit(last)
        return Turns(nodes=[Turn.of(turn) for turn in reversed(await found.to_list())])


@strawberry.type
class PageInfo:
    has_next_page: bool
    end_cursor: str | None


@strawberry.type
class Images:
    nodes: list[Image]
    page_info: PageInfo


@strawberry.type
class Viewer:
    id: strawberry.ID

    @strawberry.field
    async def images(self, info: strawberry.Info[Any], first: int = 50) -> Images:
        server: Plain = info.context["server"]
        found = (
            await server.database.images.find({"ownerId": self.id})
            .sort([("createdAt", -1), ("_id", -1)])
            .limit(first + 1)
            .to_list()
        )
        page = PageInfo(has_next_page=len(found) > first, end_cursor="c" * 60)
        return Images(nodes=[Image.of(image) for image in found[:first]], page_info=page)


@strawberry.type
class Changed:
    id: strawberry.ID


@strawberry.type
class TurnUpdate:
    cursor: str
    changed_outputs: list[Changed]
    turn: Turn

    @classmethod
    def of(cls, record: Record) -> Self:
        changed = Changed(id=strawberry.ID(f"out_{record['_id'][5:]}_1"))
        return cls(cursor="c" * 80, changed_outputs=[changed], turn=Turn.of(record))


@strawberry.input
class StartConversationInput:
    user_message: str
    selected_models: list[strawberry.ID]


@strawberry.type
class Problem:
    code: str
    message: str
    path: list[str]


@strawberry.type
class Started:
    conversation: Conversation
    turn: Turn
    cursor: str
    user_errors: list[Problem]


@strawberry.type
class Query:
    @strawberry.field
    async def conversation(self, info: strawberry.Info[Any], id: strawberry.ID) -> Conversation:
        server: Plain = info.context["server"]
        found = await server.database.conversations.find_one({"_id": id})
        assert found is not None
        return Conversation.of(found)

    @strawberry.field
    async def viewer(self, info: strawberry.Info[Any]) -> Viewer:
        return Viewer(id=strawberry.ID(info.context["server"].owner_id))


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def start_conversation(
        self, info: strawberry.Info[Any], input: StartConversationInput
    ) -> Started:
        server: Plain = info.context["server"]
        conversation, (turn,) = Records(ViewerId(server.owner_id)).conversation(turns=1)
        turn["userMessage"] = input.user_message
        await server.write(conversation, turn)
        return Started(
            conversation=Conversation.of(conversation),
            turn=Turn.of(turn),
            cursor="c" * 80,
            user_errors=[],
        )


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def turn_updated(
        self,
        info: strawberry.Info[Any],
        conversation_id: strawberry.ID,
        after: str | None = None,  # noqa: ARG002
    ) -> AsyncGenerator[TurnUpdate, None]:
        server: Plain = info.context["server"]
        updates = asyncio.Queue[Record](_QUEUED)
        subscribers = server.subscribers.setdefault(conversation_id, set())
        subscribers.add(updates)
        try:
            newest = await server.database.turns.find_one(
                turns_of(conversation_id), sort=[("_id", -1)]
            )
            assert newest is not None
            yield TurnUpdate.of(newest)
            while True:
                yield TurnUpdate.of(await updates.get())
        finally:
            subscribers.discard(updates)


class Plain(GraphQL[Any, None]):
    def __init__(self, uri: str, name: str, owner_id: str, probe: str) -> None:
        super().__init__(strawberry.Schema(Query, Mutation, Subscription))
        self._client = AsyncMongoClient[Record](uri)
        self.database = self._client[name]
        self.owner_id = owner_id
        self._probe = Path(probe)
        self.subscribers: dict[str, set[asyncio.Queue[Record]]] = {}

    async def get_context(self, request: Any, response: Any) -> Any:
        return {"request": request, "response": response, "server": self}

    @asynccontextmanager
    async def serve(self, _: Starlette) -> AsyncIterator[None]:
        probe_at_signal(self._probe)
        task = asyncio.create_task(self._follow())
        yield
        task.cancel()
        await self._client.close()

    async def _follow(self) -> None:
        async with await self.database.watch(PATTERN, full_document="updateLookup") as stream:
            async for event in stream:
                turn = event["fullDocument"]
                conversation_id = f"conv_{turn['_id'].split('_')[1]}"
                for updates in self.subscribers.get(conversation_id, ()):
                    updates.put_nowait(turn)

    async def write(self, conversation: Record, turn: Record) -> None:
        """The writes of the relay."""

        async def work(session: AsyncClientSession) -> None:
            await self.database.bench_conversations.insert_one(conversation, session=session)
            await self.database.bench_turns.insert_one(turn, session=session)
            await self.database.bench_prompts.update_one(
                {"_id": "prompt"}, {"$inc": {"uses": 1}}, upsert=True, session=session
            )
            await self.database.bench_entries.insert_one({"credits": 4}, session=session)
            await self.database.bench_accounts.update_one(
                {"_id": "account"}, {"$inc": {"reserved": 4}}, upsert=True, session=session
            )

        async with self._client.start_session() as session:
            await session.with_transaction(work)


def main(uri: str, name: str, port: str, owner_id: str, probe: str) -> None:
    plain = Plain(uri, name, owner_id, probe)
    routes = [Route("/graphql", plain), WebSocketRoute("/graphql", plain)]
    serve(routes, plain.serve, port=int(port))


if __name__ == "__main__":
    main(*sys.argv[1:])
