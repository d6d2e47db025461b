"""The bare relay: the least that answers the same requests from the same records, by hand.

Starlette and uvicorn as Darkroom runs them, one change stream, no GraphQL, tokens or signatures.
It speaks as much of graphql-transport-ws as its one client needs.

`python -m bench.relay URI DATABASE PORT FILE`: into the file goes what its probe sees.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

import orjson
from pymongo import AsyncMongoClient
from pymongo.asynchronous.client_session import AsyncClientSession
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from bench.documents import Record
from bench.probe import probe_at_signal
from bench.serving import serve

LINK: Final = "http://127.0.0.1:8000/objects/%s?expires=1900000000&signature=abcdefghijklmnopqrstuv"
PATTERN: Final = [
    {
        "$match": {
            # Those that it writes itself as well: Darkroom's change stream brings its own, too.
            "ns.coll": {"$in": ["turns", "bench_turns"]},
            "operationType": {"$in": ["insert", "update", "replace"]},
        }
    }
]


class Relay:
    def __init__(self, uri: str, name: str, probe: str) -> None:
        self._probe = Path(probe)
        self._client = AsyncMongoClient[Record](uri)
        self._database = self._client[name]
        self._subscribers: dict[str, set[WebSocket]] = {}

    @asynccontextmanager
    async def serve(self, _: Starlette) -> AsyncIterator[None]:
        probe_at_signal(self._probe)
        task = asyncio.create_task(self._follow())
        yield
        task.cancel()
        await self._client.close()

    async def _follow(self) -> None:
        async with await self._database.watch(PATTERN, full_document="updateLookup") as stream:
            async for event in stream:
                turn = event["fullDocument"]
                conversation_id = f"conv_{turn['_id'].split('_')[1]}"
                subscribers = self._subscribers.get(conversation_id)
                if subscribers:
                    message = _next(turn)
                    for websocket in tuple(subscribers):
                        await websocket.send_text(message)

    async def socket(self, websocket: WebSocket) -> None:
        await websocket.accept("graphql-transport-ws")
        conversation_id = ""
        try:
            while True:
                message = orjson.loads(await websocket.receive_text())
                if message["type"] == "connection_init":
                    await websocket.send_text('{"type":"connection_ack"}')
                elif message["type"] == "subscribe":
                    conversation_id = message["payload"]["variables"]["id"]
                    self._subscribers.setdefault(conversation_id, set()).add(websocket)
                    await websocket.send_text(await self._first_state(conversation_id))
        except WebSocketDisconnect:
            self._subscribers.get(conversation_id, set()).discard(websocket)

    async def _first_state(self, conversation_id: str) -> str:
        turn = await self._database.turns.find_one(turns_of(conversation_id), sort=[("_id", -1)])
        assert turn is not None
        return _next(turn)

    async def post(self, request: Request) -> Response:
        asked = orjson.loads(await request.body())
        variables = asked["variables"]
        match asked["operationName"]:
            case "Conversation":
                data = await self._conversation(variables["id"], variables.get("last", 20))
            case "Images":
                data = await self._images(variables["owner"])
            case _:
                data = await self._start(variables["records"])
        return Response(orjson.dumps({"data": data}), media_type="application/json")

    async def _conversation(self, conversation_id: str, last: int) -> Record:
        found = await self._database.conversations.find_one({"_id": conversation_id})
        assert found is not None
        turns = (
            await self._database.turns.find(turns_of(conversation_id))
            .sort("_id", -1)
            .limit(last)
            .to_list()
        )
        conversation = {
            "id": found["_id"],
            "title": found["title"],
            "turnCount": found["turnCount"],
            "aspectRatio": found["aspectRatio"],
            "updatedAt": _text(found["updatedAt"]),
            "turns": {"nodes": [select_turn(turn) for turn in reversed(turns)]},
        }
        return {"conversation": conversation}

    async def _images(self, owner_id: str) -> Record:
        found = (
            await self._database.images.find({"ownerId": owner_id})
            .sort([("createdAt", -1), ("_id", -1)])
            .limit(51)
            .to_list()
        )
        page = {"hasNextPage": len(found) > 50, "endCursor": "c" * 60}
        images = {"nodes": [_gallery_image(image) for image in found[:50]], "pageInfo": page}
        return {"viewer": {"id": owner_id, "images": images}}

    async def _start(self, records: dict[str, Record]) -> Record:
        """The writes of `startConversation`, each as the driver makes it."""
        database = self._database

        async def work(session: AsyncClientSession) -> None:
            for name in ("conversations", "turns"):
                record = records[name]
                await database[f"bench_{name}"].find_one_and_replace(
                    {"_id": record["_id"]}, record, upsert=True, session=session
                )
            await database["bench_prompts"].update_one(
                {"_id": "prompt"}, {"$inc": {"uses": 1}}, upsert=True, session=session
            )
            await database["bench_days"].update_one(
                {"_id": "day"},
                {"$inc": {"models.rehearsal.asked": 1}},
                upsert=True,
                session=session,
            )
            await database["bench_entries"].insert_one({"credits": 4}, session=session)
            await database["bench_accounts"].update_one(
                {"_id": "account"}, {"$inc": {"reserved": 4}}, upsert=True, session=session
            )

        async with self._client.start_session() as session:
            await session.with_transaction(work)
        return {"startConversation": {"turn": {"id": records["turns"]["_id"]}}}


def turns_of(conversation_id: str) -> Record:
    suffix = conversation_id.removeprefix("conv_")
    return {"_id": {"$gte": f"turn_{suffix}_", "$lt": f"turn_{suffix}`"}}


def _next(turn: Record) -> str:
    update = {
        "cursor": "c" * 80,
        "changed": [{"id": f"out_{turn['_id'][5:]}_1"}],
        "turn": select_turn(turn),
    }
    payload = {"data": {"turnUpdated": update}}
    return orjson.dumps({"id": "1", "type": "next", "payload": payload}).decode()


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat(timespec="milliseconds") + "Z"


def select_turn(turn: Record) -> Record:
    turn_id = turn["_id"]
    return {
        "__typename": "Turn",
        "id": turn_id,
        "turnIndex": turn["turnIndex"],
        "userMessage": turn["userMessage"],
        "status": turn["status"],
        "createdAt": _text(turn["createdAt"]),
        "completedAt": _text(turn["completedAt"]),
        "outputs": [_output(turn_id, output) for output in turn["outputs"]],
    }


def _output(turn_id: str, output: Record) -> Record:
    preview, error = output["preview"], output["error"]
    return {
        "id": f"out_{turn_id[5:]}_{output['slot']}",
        "status": output["status"],
        "progress": output["progress"],
        "text": output["text"],
        "model": {"id": output["model"], "label": output["model"]},
        "preview": preview and {"index": preview["index"], "url": LINK % preview["key"]},
        "error": error
        and {
            "code": error["code"],
            "message": "The request violates the model's content policy.",
            "retryable": error["retryable"],
        },
        "images": [_image(image) for image in output["images"]],
        "credits": output["creditsCharged"],
        "queuedAt": _text(output["queuedAt"]),
        "completedAt": _text(output["completedAt"]),
    }


def _image(image: Record) -> Record:
    return {
        "id": image["id"],
        "width": image["width"],
        "height": image["height"],
        "thumbhash": image["thumbhash"],
        "small": LINK % image["key"],
        "url": LINK % image["key"],
    }


def _gallery_image(image: Record) -> Record:
    return {
        "id": image["_id"],
        "width": image["width"],
        "height": image["height"],
        "thumbhash": image["thumbhash"],
        "createdAt": _text(image["createdAt"]),
        "favourite": image["favourite"],
        "prompt": image["prompt"],
        "origin": image["origin"],
        "thumbnail": LINK % image["key"],
        "model": image["model"] and {"id": image["model"], "label": image["model"]},
    }


def main(uri: str, name: str, port: str, probe: str) -> None:
    relay = Relay(uri, name, probe)
    routes = [
        WebSocketRoute("/graphql", relay.socket),
        Route("/graphql", relay.post, methods=["POST"]),
    ]
    serve(routes, relay.serve, port=int(port))


if __name__ == "__main__":
    main(*sys.argv[1:])
