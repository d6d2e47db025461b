"""Sentences of graphql-transport-ws that other tests do not cover."""

import pytest

from tests.clients import GraphQLClient, Socket, connect_to
from tests.conftest import Darkroom

TYPENAME = {"query": "{ __typename }"}
CREDITS = "subscription { viewerUpdated { id } }"


async def test_the_server_selects_the_offered_subprotocol(darkroom: Darkroom) -> None:
    async with connect_to(darkroom.url) as connection:
        assert connection.subprotocol == "graphql-transport-ws"


@pytest.mark.parametrize("payload", [{}, {"payload": None}, {"payload": {"anything": [1]}}])
async def test_a_ping_can_be_sent_at_any_time_with_any_payload(
    darkroom: Darkroom, client: GraphQLClient, payload: dict[str, object]
) -> None:
    async with connect_to(darkroom.url) as connection:
        before_init = Socket(connection)
        await before_init.send(type="ping", **payload)
        assert (await before_init.receive())["type"] == "pong"

    async with client.socket() as socket:
        await socket.send(type="ping", **payload)
        assert (await socket.receive())["type"] == "pong"


@pytest.mark.parametrize("payload", [{}, {"payload": None}, {"payload": {"anything": [1]}}])
async def test_an_unsolicited_pong_is_a_heartbeat(
    client: GraphQLClient, payload: dict[str, object]
) -> None:
    async with client.socket() as socket:
        await socket.send(type="pong", **payload)

        assert await (await socket.subscribe("{ __typename }")).next() == {"__typename": "Query"}


async def test_completing_an_ended_or_unknown_operation_does_nothing(client: GraphQLClient) -> None:
    async with client.socket() as socket:
        operation = await socket.subscribe("{ __typename }")
        await operation.completed()
        for name in (operation.id, "never"):
            await socket.send(id=name, type="complete")

        assert await (await socket.subscribe("{ __typename }")).next() == {"__typename": "Query"}


async def test_an_operation_id_is_free_after_an_error_and_after_completion(
    client: GraphQLClient,
) -> None:
    async with client.socket() as socket:
        await socket.send(id="one", type="subscribe", payload={"query": "{ nothing }"})
        assert (await socket.receive())["type"] == "error"
        for _ in range(2):
            await socket.send(id="one", type="subscribe", payload=TYPENAME)
            assert [(await socket.receive())["type"] for _ in range(2)] == ["next", "complete"]


async def test_an_error_is_the_last_message_of_its_operation(client: GraphQLClient) -> None:
    async with client.socket() as socket:
        await socket.send(id="bad", type="subscribe", payload={"query": "{ nothing }"})
        await socket.send(id="good", type="subscribe", payload=TYPENAME)
        messages = [await socket.receive() for _ in range(3)]
        await socket.send(type="ping")

        assert (await socket.receive())["type"] == "pong"
    assert sorted((one["id"], one["type"]) for one in messages) == [
        ("bad", "error"),
        ("good", "complete"),
        ("good", "next"),
    ]
    assert all(isinstance(one["payload"], list) for one in messages if one["type"] == "error")


async def test_a_field_error_is_sent_in_next_and_not_in_error(client: GraphQLClient) -> None:
    page = '{ viewer { conversations(after: "x") { nodes { id } } } }'
    async with client.socket() as socket:
        operation = await socket.subscribe(page)
        message = await operation.message()

        assert message["type"] == "next"
        assert message["payload"]["errors"][0]["path"]
        assert (await operation.message())["type"] == "complete"


async def test_operations_of_one_socket_run_concurrently(client: GraphQLClient) -> None:
    async with client.socket() as socket:
        first, second = await socket.subscribe(CREDITS), await socket.subscribe(CREDITS)
        assert {(await socket.receive())["id"] for _ in range(2)} == {first.id, second.id}
        await socket.send(id=first.id, type="complete")
        await (await socket.subscribe("{ __typename }")).completed()

        assert [first.id, second.id] == ["1", "2"]


@pytest.mark.parametrize("kind", ["connection_ack", "next", "error"])
async def test_a_server_message_sent_by_a_client_is_invalid(
    client: GraphQLClient, kind: str
) -> None:
    async with client.socket() as socket:
        await socket.send(type=kind, id="1", payload={})

        assert await socket.closed_with() == 4400


async def test_unknown_fields_of_a_message_are_ignored(client: GraphQLClient) -> None:
    async with client.socket() as socket:
        await socket.send(id="1", type="subscribe", payload={**TYPENAME, "more": 1}, more=[1])

        assert (await socket.receive())["payload"] == {"data": {"__typename": "Query"}}
