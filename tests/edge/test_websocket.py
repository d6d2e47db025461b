"""graphql-transport-ws: each sentence of the protocol, and bad input with its exact response."""

import json
from collections.abc import Callable
from datetime import datetime

import jwt
import pytest
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin, Subprotocol

from settings import Limits
from tests.clients import GraphQLClient, Socket, connect_to
from tests.conftest import Darkroom, StartDarkroom
from tests.operations import FOLLOW, conversation_with
from tests.waits import eventually

TYPENAME = {"query": "{ __typename }"}


async def opened(connection: object, token: str) -> Socket:
    socket = Socket(connection)  # type: ignore[arg-type]
    await socket.send(type="connection_init", payload={"authorization": f"Bearer {token}"})
    assert (await socket.receive()) == {"type": "connection_ack"}
    return socket


async def test_queries_and_mutations_run_over_a_socket(client: GraphQLClient) -> None:
    async with client.socket() as socket:
        operation = await socket.subscribe("{ viewer { id } }")

        assert (await operation.next())["viewer"]["id"].startswith("user_")
        assert await operation.completed() == []


async def test_a_ping_is_answered_with_a_pong(client: GraphQLClient) -> None:
    async with client.socket() as socket:
        await socket.send(type="ping")

        assert (await socket.receive())["type"] == "pong"


async def test_a_completed_operation_sends_nothing_more_and_its_id_is_free(
    client: GraphQLClient,
) -> None:
    payload = await conversation_with(client)
    async with client.socket() as socket:
        subscription = await socket.subscribe(FOLLOW, id=payload["conversation"]["id"])
        await subscription.next()

        await socket.send(id=subscription.id, type="complete")
        await socket.send(id=subscription.id, type="subscribe", payload=TYPENAME)

        assert (await socket.receive())["payload"] == {"data": {"__typename": "Query"}}


@pytest.mark.parametrize("protocols", [None, ["graphql-ws"], ["chat"]])
async def test_another_subprotocol_is_refused(
    darkroom: Darkroom, protocols: list[str] | None
) -> None:
    offered = [Subprotocol(one) for one in protocols] if protocols else None
    async with connect_to(darkroom.url, subprotocols=offered) as connection:
        assert await Socket(connection).closed_with() == 4406


@pytest.mark.parametrize(
    ("path", "origin", "status", "code"),
    [("", "https://evil.example", 403, "FORBIDDEN"), ("/x", None, 404, "NOT_FOUND")],
    ids=["another origin", "another path"],
)
async def test_a_handshake_that_is_refused_has_a_code(
    darkroom: Darkroom, path: str, origin: str | None, status: int, code: str
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect_to(darkroom.url + path, origin=Origin(origin) if origin else None):
            pass

    response = refused.value.response
    assert response.status_code == status
    assert response.body is not None
    assert json.loads(response.body)["errors"][0]["extensions"] == {"code": code}
    assert response.headers["x-request-id"]


async def test_a_page_of_an_allowed_origin_can_connect(darkroom: Darkroom) -> None:
    async with connect_to(darkroom.url, origin=Origin("http://localhost:5173")) as connection:
        await opened(connection, darkroom.token("ana"))


@pytest.mark.parametrize("name", ["authorization", "Authorization", "AUTHORIZATION"])
async def test_the_key_of_the_token_can_be_spelled_like_the_header(
    darkroom: Darkroom, name: str
) -> None:
    async with connect_to(darkroom.url) as connection:
        socket = Socket(connection)
        payload = {name: f"Bearer {darkroom.token('ana')}"}
        await socket.send(type="connection_init", payload=payload)

        assert (await socket.receive()) == {"type": "connection_ack"}


@pytest.mark.parametrize(
    "payload",
    [
        {},
        None,
        {"authorization": "nonsense"},
        {"authorization": "Bearer a.b.c"},
        {"authorization": ["Bearer"]},
    ],
)
async def test_a_socket_without_a_valid_token_is_closed_with_4403(
    darkroom: Darkroom, payload: object
) -> None:
    async with connect_to(darkroom.url) as connection:
        socket = Socket(connection)
        message = {"type": "connection_init"} | ({"payload": payload} if payload else {})
        await socket.send(**message)

        assert await socket.closed_with() == 4403


@pytest.mark.parametrize(("other", "code"), [("nonsense", 4400), (None, None)])
async def test_a_socket_can_have_one_token_only(
    darkroom: Darkroom, other: str | None, code: int | None
) -> None:
    token = f"Bearer {darkroom.token('ana')}"
    async with connect_to(darkroom.url) as connection:
        socket = Socket(connection)
        payload = {"authorization": token, "Authorization": other or token}
        await socket.send(type="connection_init", payload=payload)

        if code is None:
            assert (await socket.receive()) == {"type": "connection_ack"}
        else:
            assert await socket.closed_with() == code


async def test_a_socket_is_closed_when_its_token_expires(darkroom: Darkroom) -> None:
    """With the leeway that HTTP gives."""
    token = darkroom.ending_token("ana", in_seconds=5)
    await darkroom.with_token(token)("{ viewer { id } }")

    async with connect_to(darkroom.url) as connection:
        socket = await opened(connection, token)
        # Its time is over, and within the leeway it serves on a socket as it does over HTTP.
        operation = await socket.subscribe("{ viewer { id } }")
        over_http = await darkroom.with_token(token)("{ viewer { id } }")
        assert await operation.next() == over_http

        assert await socket.closed_with() == 4403


async def renew(socket: Socket, authorization: object) -> None:
    await socket.send(type="ping", payload={"authorization": authorization})


async def test_a_ping_renews_the_token(darkroom: Darkroom) -> None:
    """Subscriptions continue after the expiry of the token that the socket was opened with."""
    client = darkroom.client("ana who renews")
    started = await conversation_with(client)
    first = darkroom.ending_token("ana who renews", in_seconds=5)
    second = darkroom.ending_token("ana who renews", in_seconds=11)

    async with connect_to(darkroom.url) as connection:
        socket = await opened(connection, first)
        subscription = await socket.subscribe(FOLLOW, id=started["conversation"]["id"])
        await subscription.next()
        await renew(socket, f"Bearer {second}")
        pong = await socket.receive()
        await until_refused(darkroom, first)
        await socket.send(type="ping")

        ends = jwt.decode(second, options={"verify_signature": False})["exp"]
        assert pong["type"] == "pong"
        assert datetime.fromisoformat(pong["payload"]["expiresAt"]).timestamp() == ends
        assert await is_accepted(darkroom, second)
        assert await socket.receive() == {"type": "pong"}
        assert await socket.closed_with() == 4403
        assert not await is_accepted(darkroom, second)


async def is_accepted(darkroom: Darkroom, token: str) -> bool:
    response = await darkroom.with_token(token).post({"query": "{ viewer { id } }"})
    return response.status_code == 200


async def until_refused(darkroom: Darkroom, token: str) -> None:
    async def is_refused() -> bool:
        return not await is_accepted(darkroom, token)

    await eventually(is_refused, what="the token has expired", every=0.1)


async def test_the_newest_token_counts_even_if_it_expires_earlier(darkroom: Darkroom) -> None:
    client = darkroom.client("ana with little time")

    async with client.socket() as socket:
        await renew(socket, f"Bearer {darkroom.ending_token('ana with little time', in_seconds=5)}")

        assert (await socket.receive())["payload"]["expiresAt"]
        assert await socket.closed_with() == 4403


@pytest.mark.parametrize(
    "make",
    [
        lambda darkroom: f"Bearer {darkroom.token('bob')}",
        lambda darkroom: f"Bearer {darkroom.ending_token('ana', in_seconds=-5)}",
        lambda _: "Bearer nothing",
        lambda _: "nothing",
        lambda _: "",
        lambda _: 7,
        lambda _: ["Bearer"],
        lambda _: {},
        lambda _: False,
    ],
    ids=[
        "another viewer's",
        "ended",
        "no token",
        "no scheme",
        "empty",
        "a number",
        "a list",
        "an object",
        "false",
    ],
)
async def test_an_invalid_token_in_a_ping_closes_the_socket(
    darkroom: Darkroom, make: Callable[[Darkroom], object]
) -> None:
    async with darkroom.client("ana").socket() as socket:
        await renew(socket, make(darkroom))

        assert await socket.closed_with() == 4403


@pytest.mark.parametrize("payload", [{}, {"authorization": None}, {"other": "Bearer x"}])
async def test_a_ping_without_a_token_renews_nothing(
    client: GraphQLClient, payload: object
) -> None:
    async with client.socket() as socket:
        await socket.send(type="ping", payload=payload)

        assert await socket.receive() == {"type": "pong"}


async def test_a_ping_before_the_acknowledgement_renews_nothing(
    darkroom: Darkroom,
) -> None:
    async with connect_to(darkroom.url) as connection:
        socket = Socket(connection)
        await renew(socket, "Bearer nothing")
        assert await socket.receive() == {"type": "pong"}

        await socket.send(id="1", type="subscribe", payload=TYPENAME)
        assert await socket.closed_with() == 4401


async def test_a_socket_without_connection_init_is_closed(darkroom: Darkroom) -> None:
    async with connect_to(darkroom.url) as connection:
        assert await Socket(connection).closed_with() == 4408


async def test_a_second_connection_init_closes_the_socket(client: GraphQLClient) -> None:
    async with client.socket() as socket:
        await socket.send(type="connection_init", payload={})

        assert await socket.closed_with() == 4429


async def test_subscribing_before_the_acknowledgement_closes_the_socket(
    darkroom: Darkroom,
) -> None:
    async with connect_to(darkroom.url) as connection:
        socket = Socket(connection)
        await socket.send(id="1", type="subscribe", payload=TYPENAME)

        assert await socket.closed_with() == 4401


@pytest.mark.parametrize(
    "message",
    [
        "not json",
        b"binary",
        "[]",
        '"x"',
        "null",
        "1",
        "{}",
        '{"type": 1}',
        '{"type": "nonsense"}',
        json.dumps({"type": "a type that is longer than a close frame " * 5}),
        json.dumps({"id": "", "type": "subscribe", "payload": TYPENAME}),
        json.dumps({"id": 1, "type": "subscribe", "payload": TYPENAME}),
        json.dumps({"id": "x" * 65, "type": "subscribe", "payload": TYPENAME}),
        json.dumps({"id": "1", "type": "subscribe"}),
        json.dumps({"id": "1", "type": "subscribe", "payload": []}),
        json.dumps({"id": "1", "type": "subscribe", "payload": {"query": 1}}),
        json.dumps({"id": "1", "type": "subscribe", "payload": {**TYPENAME, "variables": []}}),
        json.dumps({"id": "1", "type": "subscribe", "payload": {**TYPENAME, "operationName": 1}}),
        json.dumps({"id": "1", "type": "subscribe", "payload": {**TYPENAME, "extensions": []}}),
        json.dumps({"type": "complete"}),
        json.dumps({"id": 1, "type": "complete"}),
        "[" * 40 + "]" * 40,
    ],
)
async def test_an_invalid_message_closes_the_socket_with_4400(
    client: GraphQLClient, message: str | bytes
) -> None:
    async with client.socket() as socket:
        await socket.connection.send(message)

        assert await socket.closed_with() == 4400


async def test_an_operation_id_in_use_closes_the_socket_with_4409(client: GraphQLClient) -> None:
    payload = await conversation_with(client)
    async with client.socket() as socket:
        subscription = await socket.subscribe(FOLLOW, id=payload["conversation"]["id"])
        await subscription.next()

        await socket.send(id=subscription.id, type="subscribe", payload=TYPENAME)

        assert await socket.closed_with() == 4409


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("", "GRAPHQL_PARSE_FAILED"),
        ("{", "GRAPHQL_PARSE_FAILED"),
        ("{ nonsense }", "GRAPHQL_VALIDATION_FAILED"),
        ("query A { __typename } query B { __typename }", "OPERATION_RESOLUTION_FAILED"),
        ("query($a: ID!) { model(id: $a) { id } }", "BAD_USER_INPUT"),
        (
            "subscription($a: ID!) { conversationUpdated(conversationId: $a) { id } }",
            "BAD_USER_INPUT",
        ),
        (
            'subscription { a: conversationUpdated(conversationId: "x") { id } '
            'b: conversationUpdated(conversationId: "x") { id } }',
            "GRAPHQL_VALIDATION_FAILED",
        ),
    ],
)
async def test_an_invalid_operation_ends_itself_and_not_the_socket(
    client: GraphQLClient, query: str, code: str
) -> None:
    payload = await conversation_with(client)
    async with client.socket() as socket:
        other = await socket.subscribe(FOLLOW, id=payload["conversation"]["id"])
        await other.next()

        refused = await socket.subscribe(query)
        message = await refused.message()

        assert message["type"] == "error"
        assert message["payload"][0]["extensions"]["code"] == code
        fine = await socket.subscribe("{ __typename }")
        assert await fine.next() == {"__typename": "Query"}


async def test_a_query_over_a_socket_has_a_time_limit(start_darkroom: StartDarkroom) -> None:
    client = (await start_darkroom(limit=Limits(operation_seconds=1e-6))).client()
    async with client.socket() as socket:
        operation = await socket.subscribe("{ viewer { conversations { nodes { id } } } }")
        message = await operation.message()

    assert message["type"] == "error"
    assert message["payload"][0]["extensions"] == {"code": "DEADLINE_EXCEEDED"}


async def test_a_socket_runs_fifty_operations_at_once(client: GraphQLClient) -> None:
    payload = await conversation_with(client)
    async with client.socket() as socket:
        for _ in range(50):
            subscription = await socket.subscribe(FOLLOW, id=payload["conversation"]["id"])
            await subscription.next()

        one_more = await socket.subscribe("{ __typename }")
        message = await one_more.message()

    assert message["type"] == "error"
    assert message["payload"][0]["extensions"] == {"code": "TOO_MANY_SUBSCRIPTIONS"}
