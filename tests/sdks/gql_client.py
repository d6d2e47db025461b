"""Subscribes to a conversation with unmodified gql, and reports events as lines of JSON.

`gql_client.py TRANSPORT URL TOKEN CONVERSATION WHAT`. Like `tests/npm/follow.mjs`.
"""

import asyncio
import json
import sys
from typing import Any

from gql import Client, gql
from gql.transport.aiohttp import AIOHTTPTransport
from gql.transport.aiohttp_websockets import AIOHTTPWebsocketsTransport
from gql.transport.exceptions import TransportError, TransportQueryError, TransportServerError
from gql.transport.websockets import WebsocketsTransport

VIEWER = gql("{ viewer { id } }")
TITLES = gql("subscription($id: ID!) { conversationUpdated(conversationId: $id) { title } }")
TURNS = gql(
    "subscription($id: ID!, $after: String) { turnUpdated(conversationId: $id, after: $after) "
    "{ cursor turn { turnIndex status } } }"
)


def tell(event: str, payload: object = None) -> None:
    print(json.dumps({"event": event, "payload": payload}), flush=True)


def transport_of(name: str, url: str, token: str) -> Any:
    authorization = f"Bearer {token}"
    if name == "aiohttp":
        return AIOHTTPTransport(url, headers={"authorization": authorization})
    kinds = {"websockets": WebsocketsTransport, "aiohttp websockets": AIOHTTPWebsocketsTransport}
    return kinds[name](
        url.replace("http", "ws", 1),
        init_payload={"authorization": authorization},
        subprotocols=["graphql-transport-ws"],
    )


async def follow(name: str, url: str, token: str, conversation_id: str, what: str) -> None:
    variables: dict[str, Any] = {"id": conversation_id}
    introduced = False
    while True:
        try:
            async with Client(transport=transport_of(name, url, token)) as session:
                if not introduced:
                    tell("next", list(await session.execute(VIEWER)))
                    introduced = True
                document = TITLES if what == "title" else TURNS
                document.variable_values = variables
                async for data in session.subscribe(document):
                    if what == "title":
                        tell("next", data["conversationUpdated"]["title"])
                        continue
                    update = data["turnUpdated"]
                    variables["after"] = update["cursor"]
                    tell("next", f"{update['turn']['turnIndex']} {update['turn']['status']}")
                tell("complete")
                return
        except TransportQueryError as error:
            tell("errors", [one["extensions"]["code"] for one in error.errors])
            return
        except TransportServerError as error:
            if error.code is not None:
                raise
            tell("errors", [str(error)])  # the last part of multipart, without its code
            return
        except (TransportError, OSError):
            await asyncio.sleep(0.2)


asyncio.run(follow(*sys.argv[1:]))
