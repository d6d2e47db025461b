"""Request ids: sent by clients or generated, returned in responses, and propagated."""

import re
from typing import Final

import pytest

from domain.traces import Trace
from edge.traces import find_trace_values, merge_trace
from tests.api.test_webhooks import a_webhook
from tests.clients import GraphQLClient, Socket, connect_to
from tests.conftest import Darkroom
from tests.edge.streams import EVENTS, TITLES, a_conversation
from tests.operations import SMALL, START
from tests.receivers import a_receiver

TRACE_ID: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT: Final = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
MADE: Final = re.compile(r"[0-9a-f]{32}")


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/graphql"), ("PUT", "/graphql"), ("GET", "/healthz"), ("GET", "/nothing")],
)
async def test_every_response_has_the_request_id(
    client: GraphQLClient, method: str, path: str
) -> None:
    mine = {"X-Request-Id": "mine-1", "traceparent": PARENT}

    named = await client.http.request(method, path, headers=mine)
    unnamed = await client.http.request(method, path)

    assert named.headers["x-request-id"] == "mine-1"
    assert named.headers["traceparent"] == PARENT
    assert MADE.fullmatch(unnamed.headers["x-request-id"])
    assert "traceparent" not in unnamed.headers


@pytest.mark.parametrize(
    ("given", "id_", "parent"),
    [
        ({"x-request-id": "a" * 128}, "a" * 128, None),
        ({"x-request-id": "a" * 129}, None, None),
        ({"x-request-id": "two words"}, None, None),
        ({"x-request-id": "line\nbreak"}, None, None),
        ({"x-request-id": "é"}, None, None),
        ({"traceparent": PARENT}, None, PARENT),
        ({"traceparent": PARENT.upper()}, None, None),
        ({"traceparent": f"{PARENT}-more"}, None, None),
        ({"traceparent": f"01{PARENT[2:]}-more"}, None, PARENT),
        ({"traceparent": f"ff{PARENT[2:]}"}, None, None),
        ({"traceparent": f"00-{'0' * 32}-00f067aa0ba902b7-01"}, None, None),
        ({"traceparent": f"00-{TRACE_ID}-{'0' * 16}-01"}, None, None),
        ({"traceparent": ""}, None, None),
    ],
)
def test_an_invalid_request_id_is_ignored(
    given: dict[str, str], id_: str | None, parent: str | None
) -> None:
    trace = merge_trace(None, given)

    assert trace.request_id == id_ or (id_ is None and MADE.fullmatch(trace.request_id))
    assert trace.traceparent == parent


def test_an_id_in_a_message_replaces_the_one_of_its_socket() -> None:
    socket = Trace("socket", PARENT)

    assert merge_trace(socket, find_trace_values({"X-REQUEST-ID": "one", "cost": True})) == Trace(
        "one", PARENT
    )
    assert (
        merge_trace(socket, find_trace_values({"traceparent": 7, "x-request-id": None})) == socket
    )
    assert merge_trace(socket, find_trace_values(None)) == socket


async def test_a_stream_has_the_request_id(client: GraphQLClient) -> None:
    variables = {"id": await a_conversation(client)}
    async with client.http.stream(
        "POST",
        "/graphql",
        json={"query": TITLES, "variables": variables},
        headers={"accept": EVENTS, "x-request-id": "mine-2"},
    ) as response:
        assert response.headers["x-request-id"] == "mine-2"


async def test_a_socket_has_the_request_id_of_its_handshake_or_first_message(
    client: GraphQLClient,
) -> None:
    headers = {"X-Request-Id": "mine-3", "traceparent": PARENT}
    async with connect_to(client.url, additional_headers=headers) as connection:
        assert connection.response is not None
        assert connection.response.headers["x-request-id"] == "mine-3"
        assert connection.response.headers["traceparent"] == PARENT
    async with connect_to(client.url) as connection:
        assert connection.response is not None
        assert MADE.fullmatch(connection.response.headers["x-request-id"])
        socket = Socket(connection)
        payload = {"authorization": f"Bearer {client.token}", "X-Request-Id": "mine-4"}
        await socket.send(type="connection_init", payload=payload)
        assert await socket.receive() == {
            "type": "connection_ack",
            "payload": {"requestId": "mine-4"},
        }


@pytest.mark.parametrize("transport", ["HTTP", "a socket"])
async def test_a_webhook_has_the_id_of_the_request_that_caused_it(
    darkroom: Darkroom, transport: str
) -> None:
    client = darkroom.client()
    names = {"x-request-id": "mine-5", "traceparent": PARENT}
    given = {"userMessage": "A boat", "selectedModels": ["local-ink"], "options": SMALL}
    body = {"query": START, "variables": {"input": given}}
    async with a_receiver() as receiver:
        await a_webhook(client, f"{receiver.url}/", "TURN_ENDED")
        if transport == "HTTP":
            assert (await client.post(body, **names)).status_code == 200
        else:
            async with client.socket() as socket:
                payload = {**body, "extensions": names}
                await socket.send(id="1", type="subscribe", payload=payload)
                assert (await socket.receive())["type"] == "next"
        (ended,) = await receiver.until_received(1)

    assert ended.headers["x-request-id"] == "mine-5"
    assert ended.headers["traceparent"] == PARENT
