"""Input that parsers, proxies and clients read differently is refused."""

import asyncio
import json

import httpx2
import pytest

from edge.json_input import decode_json
from tests.clients import GraphQLClient
from tests.conftest import Darkroom, StartDarkroom

NEW = "application/graphql-response+json"
TYPENAME = '"query": "{ __typename }"'
AMBIGUOUS = {
    "an integer of 21 digits": f'{{{TYPENAME}, "variables": {{"n": 123456789012345678901}}}}',
    "a negative one": f'{{{TYPENAME}, "variables": {{"n": [-123456789012345678901]}}}}',
    "one in the extensions": f'{{{TYPENAME}, "extensions": {{"n": {"9" * 400}}}}}',
    "a key twice": f"{{{TYPENAME}, {TYPENAME}}}",
    "a key twice, once as an escape": f'{{{TYPENAME}, "quer\\u0079": "{{ viewer {{ id }} }}"}}',
    "a key twice deep down": f'{{{TYPENAME}, "variables": {{"a": [{{"b": 1, "b": 1}}]}}}}',
    "a number that is none": f'{{{TYPENAME}, "variables": {{"n": NaN}}}}',
    "nesting": f'{{{TYPENAME}, "variables": {{"n": {"[" * 33}{"]" * 33}}}}}',
}
CLEAR = {
    "an integer of 20 digits": f'{{{TYPENAME}, "variables": {{"n": 12345678901234567890}}}}',
    "digits in a text": f'{{{TYPENAME}, "variables": {{"n": "{"1" * 30}"}}}}',
    "digits after a point": f'{{{TYPENAME}, "variables": {{"n": 1.{"1" * 30}}}}}',
    "a key in two objects": f'{{{TYPENAME}, "variables": {{"a": {{"b": 1}}, "c": {{"b": 1}}}}}}',
    "what looks like a key": f'{{{TYPENAME}, "variables": {{"a": "\\"a\\":", "b": ":"}}}}',
    "blanks before a colon": f'{{{TYPENAME}, "variables" : {{"a"\\n\\t: 1}}}}'.replace(
        "\\n\\t", "\n\t"
    ),
}


@pytest.mark.parametrize("body", AMBIGUOUS.values(), ids=AMBIGUOUS)
async def test_ambiguous_json_is_a_bad_request(client: GraphQLClient, body: str) -> None:
    answer = await client.http.post(
        "/graphql", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["extensions"] == {"code": "BAD_REQUEST"}

    async with client.socket() as socket:
        message = f'{{"id": "1", "type": "subscribe", "payload": {body}}}'
        await socket.connection.send(message)
        assert await socket.closed_with() == 4400


@pytest.mark.parametrize("body", CLEAR.values(), ids=CLEAR)
async def test_unambiguous_json_is_accepted(client: GraphQLClient, body: str) -> None:
    answer = await client.http.post(
        "/graphql", content=body, headers={"content-type": "application/json"}
    )

    assert answer.json() == {"data": {"__typename": "Query"}}


@pytest.mark.parametrize("text", ['{"a": 1, "b": {"a": 1}}', '{"a": {}}', '"x"', "[]", "{}", "1"])
def test_keys_of_json_are_counted_correctly(text: str) -> None:
    assert decode_json(text) == json.loads(text)


async def test_a_declared_length_over_the_limit_is_refused_before_the_body_arrives(
    darkroom: Darkroom,
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", darkroom.settings.port)
    writer.write(
        b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 262145\r\n\r\n"
    )
    async with asyncio.timeout(5):
        assert b"413" in await reader.readline()
    writer.close()


async def test_a_body_over_the_limit_is_refused_while_it_is_being_sent(
    darkroom: Darkroom,
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", darkroom.settings.port)
    writer.write(
        b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 2000000\r\n\r\n"
    )
    async with asyncio.timeout(10):
        for _ in range(20):  # a connection that is closed meanwhile is reset
            writer.write(b" " * 100_000)
            await writer.drain()
            await asyncio.sleep(0.005)
        assert b"PAYLOAD_TOO_LARGE" in await reader.read()
    writer.close()


@pytest.mark.parametrize("separator", [" ", " a: b ", " ...on Query { x } "])
async def test_a_document_with_too_many_tokens_is_too_complex(
    client: GraphQLClient, separator: str
) -> None:
    document = "{ " + separator.join(["__typename"] * 2_001) + " }"

    answer = await client.post({"query": document}, accept=NEW)

    (error,) = answer.json()["errors"]
    assert answer.status_code == 400
    assert error["extensions"] == {
        "code": "QUERY_TOO_COMPLEX",
        "limit": "tokens",
        "max": 2_000,
        "actual": 2_001,
    }


@pytest.mark.parametrize(
    "fields",
    [
        "a: viewerUpdated { id } b: viewerUpdated { id }",
        'viewerUpdated { id } conversationUpdated(conversationId: "x") { id }',
        "viewerUpdated { id } __typename",
        "...Two",
    ],
)
async def test_a_subscription_must_have_one_root_field(client: GraphQLClient, fields: str) -> None:
    fragment = "fragment Two on Subscription { a: viewerUpdated { id } b: viewerUpdated { id } }"
    document = f"subscription {{ {fields} }} {fragment if 'Two' in fields else ''}"

    answer = await client.post({"query": document}, accept="text/event-stream")

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["extensions"] == {"code": "GRAPHQL_VALIDATION_FAILED"}


async def test_unknown_hosts_are_bad_requests(start_darkroom: StartDarkroom) -> None:
    darkroom = await start_darkroom(allowed_hosts=("app.example", "[::1]"))
    port = darkroom.settings.port
    body = {"query": "{ __typename }"}

    async def status(host: str, path: str = "/graphql") -> httpx2.Response:
        return await darkroom.anonymous().http.post(path, json=body, headers={"host": host})

    for known in (
        "app.example",
        f"app.example:{port}",
        "APP.example:443",
        f"[::1]:{port}",
        "[::1]",
    ):
        assert (await status(known)).status_code == 200, known
    for other in ("evil.example", "app.example.evil", "xapp.example", "app.example:x", ""):
        refused = await status(other)
        assert refused.status_code == 400, other
        assert refused.json()["errors"][0]["extensions"] == {"code": "BAD_REQUEST"}
    health = await darkroom.anonymous().http.get("/healthz", headers={"host": "10.0.0.7"})
    assert health.status_code == 200
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"GET /graphql HTTP/1.1\r\nHost: evil.example\r\nConnection: Upgrade\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
    )
    async with asyncio.timeout(5):
        assert b"400" in await reader.readline()
    writer.close()


@pytest.mark.parametrize("path", ["/graphql/", "/nothing", "/graphql/x"])
async def test_no_url_in_a_response_uses_the_host_of_the_request(
    darkroom: Darkroom, path: str
) -> None:
    answer = await darkroom.anonymous().http.post(path, json={}, headers={"host": "evil.example"})

    assert answer.status_code == 404
    assert "location" not in answer.headers
    assert answer.json()["errors"][0]["extensions"] == {"code": "NOT_FOUND"}


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/studio", "/studio/index.html"])
async def test_a_wrong_method_is_refused_with_a_code(darkroom: Darkroom, path: str) -> None:
    answer = await darkroom.anonymous().http.post(path, json={})

    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"]
    assert answer.json()["errors"][0]["extensions"] == {"code": "METHOD_NOT_ALLOWED"}


@pytest.mark.parametrize(
    ("variables", "path"),
    [
        ({"n": "x", "input": {"userMessage": "A boat"}}, ["n"]),
        ({"input": {"userMessage": "A boat"}}, ["n"]),
        ({"n": True, "input": {"userMessage": 7}}, ["input", "userMessage"]),
        (
            {"n": True, "input": {"userMessage": "A boat", "selectedModels": ["a", {}]}},
            ["input", "selectedModels", 1],
        ),
        (
            {"n": True, "input": {"userMessage": "A boat", "options": {"imagesPerModel": "x"}}},
            ["input", "options", "imagesPerModel"],
        ),
    ],
)
async def test_an_invalid_variable_is_named_in_the_error(
    client: GraphQLClient, variables: dict[str, object], path: list[object]
) -> None:
    document = """mutation($n: Boolean!, $input: StartConversationInput!) {
      startConversation(input: $input) { userErrors @include(if: $n) { code } }
    }"""

    (error,) = (await client.execute(document, **variables))["errors"]

    assert error["extensions"] == {"code": "BAD_USER_INPUT", "path": path}


async def test_a_duplicate_url_parameter_is_refused(client: GraphQLClient) -> None:
    query = ("query", "{ __typename }")

    answer = await client.http.get("/graphql", params=[query, query])

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["extensions"]["code"] == "BAD_REQUEST"


async def test_an_input_object_with_thousands_of_fields_is_too_complex(
    client: GraphQLClient,
) -> None:
    document = "mutation($i: StartConversationInput!) { startConversation(input: $i) { cursor } }"
    fields = {f"userMessage{number}": 1 for number in range(9_000)}

    answer = await client.post({"query": document, "variables": {"i": fields}}, accept=NEW)

    (error,) = answer.json()["errors"]
    assert answer.status_code == 400
    assert (error["extensions"]["limit"], error["extensions"]["actual"]) == ("items", 9_000)
