"""`make demo`: a conversation with a Darkroom that runs on this machine, told as it happens."""

import asyncio
import json
import sys
from typing import Any

import httpx2
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from edge.dev_tokens import DevelopmentIssuer
from settings import read_settings

MODELS = ["local-silver", "local-ink", "rehearsal-fails"]
EDITS = [
    "Make it night, with a golden frame",
    "Black and white, and write the words “Good night”",
]

PICTURES = "{ viewer { images(first: 1, origin: SAMPLE) { nodes { id prompt } } } }"
START = """mutation ($input: StartConversationInput!) {
  startConversation(input: $input) {
    conversation { id } turn { id } cursor userErrors { message } } }"""
SEND = """mutation ($input: SendEditInput!) {
  sendEdit(input: $input) { turn { id } cursor userErrors { message } } }"""
FOLLOW = """subscription ($id: ID!, $after: String) {
  turnUpdated(conversationId: $id, after: $after) {
  turn { id status }
  changedOutputs { model { label } status text image { url } error { message } } } }"""


async def main() -> int:
    settings = read_settings()
    url = f"{settings.public_url}/graphql"
    token = f"Bearer {DevelopmentIssuer(settings.data_dir).token('demo')}"

    async with httpx2.AsyncClient(headers={"authorization": token}, timeout=30) as http:

        async def ask(query: str, **variables: Any) -> Any:
            response = await http.post(url, json={"query": query, "variables": variables})
            return response.json()["data"]

        try:
            (picture,) = (await ask(PICTURES))["viewer"]["images"]["nodes"]
        except httpx2.ConnectError:
            print(f"Nothing answers at {url}. `make run` first, in another terminal.")
            return 2
        print(f"The picture: {picture['prompt']}")

        first = {"sourceImageId": picture["id"], "selectedModels": MODELS, "userMessage": EDITS[0]}
        started = (await ask(START, input=first))["startConversation"]
        conversation_id = started["conversation"]["id"]
        await tell(url, token, EDITS[0], conversation_id, started)

        second = {"conversationId": conversation_id, "userMessage": EDITS[1]}
        sent = (await ask(SEND, input=second))["sendEdit"]
        await tell(url, token, EDITS[1], conversation_id, sent)
    return 0


async def tell(
    url: str, token: str, message: str, conversation_id: str, payload: dict[str, Any]
) -> None:
    """Follow a mutation's turn until it is over, and print each output as it ends."""
    print(f"\n{message}")
    subscribe = {"query": FOLLOW, "variables": {"id": conversation_id, "after": payload["cursor"]}}
    messages = (
        {"type": "connection_init", "payload": {"authorization": token}},
        {"type": "subscribe", "id": "1", "payload": subscribe},
    )
    protocol = Subprotocol("graphql-transport-ws")
    async with connect(url.replace("http", "ws", 1), subprotocols=[protocol]) as socket:
        await socket.send(json.dumps(messages[0]))
        await socket.recv()
        await socket.send(json.dumps(messages[1]))
        told: set[str] = set()
        status = "PENDING"
        while status in {"PENDING", "GENERATING"}:
            update = json.loads(await socket.recv())["payload"]["data"]["turnUpdated"]
            if update["turn"]["id"] != payload["turn"]["id"]:
                continue  # an earlier turn may come along
            status = update["turn"]["status"]
            for output in update["changedOutputs"]:
                label = output["model"]["label"]
                if output["status"] in {"COMPLETED", "FAILED"} and label not in told:
                    told.add(label)
                    print(f"  {label}: {_end_of(output)}")


def _end_of(output: dict[str, Any]) -> str:
    if output["error"]:
        return str(output["error"]["message"])
    return f"{output['text']}\n    {output['image']['url']}"


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
