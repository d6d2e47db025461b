"""`make demo`: edits an image twice with the Darkroom that `make run` serves."""

import asyncio
import json
import os
import sys
from typing import Any

from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from edge.dev_tokens import DevelopmentIssuer
from examples import client
from settings import read_settings

MODELS = ["local-silver", "local-ink", "rehearsal-fails"]
EDITS = [
    "Make it night, with a golden frame",
    "Black and white, and write the words “Good night”",
]


async def main() -> None:
    settings = read_settings()
    client.URL = f"{settings.public_url}/graphql"
    os.environ["TOKEN"] = DevelopmentIssuer(settings.data_dir).token("demo")

    (image,) = client.execute("images", first=1, origin="SAMPLE")["viewer"]["images"]["nodes"]
    print(f"The source image: {image['prompt'] or image['id']}")

    source = {"sourceImageId": image["id"], "selectedModels": MODELS}
    started = client.mutate("start", userMessage=EDITS[0], **source)
    conversation_id = started["conversation"]["id"]
    await follow(conversation_id, started, EDITS[0])

    sent = client.mutate("send", conversationId=conversation_id, userMessage=EDITS[1])
    await follow(conversation_id, sent, EDITS[1])


async def follow(conversation_id: str, payload: dict[str, Any], message: str) -> None:
    """Print the outputs of a mutation's turn as they finish, until the turn has finished."""
    print(f"\n{message}")
    variables = {"id": conversation_id, "after": payload["cursor"]}
    subscribe = {"query": client.read_document("follow"), "variables": variables}
    authorization = f"Bearer {os.environ['TOKEN']}"
    protocol = Subprotocol("graphql-transport-ws")
    async with connect(client.URL.replace("http", "ws", 1), subprotocols=[protocol]) as socket:
        connection_init = {"type": "connection_init", "payload": {"authorization": authorization}}
        await socket.send(json.dumps(connection_init))
        await socket.recv()
        await socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": subscribe}))
        printed: set[str] = set()
        status = "PENDING"
        while status in {"PENDING", "GENERATING"}:
            update = json.loads(await socket.recv())["payload"]["data"]["turnUpdated"]
            if update["turn"]["id"] != payload["turn"]["id"]:
                continue  # an update of an earlier turn
            status = update["turn"]["status"]
            for output in update["changedOutputs"]:
                label = output["model"]["label"]
                if output["status"] in {"COMPLETED", "FAILED"} and label not in printed:
                    printed.add(label)
                    print(f"  {client.describe(output)}")
                    if output["text"]:
                        print(f"    {output['text']}")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
