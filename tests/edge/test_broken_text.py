"""Broken text from clients: a lone surrogate becomes U+FFFD, NUL is removed, and no connection
ends.
"""

import json
from typing import Any, Final
from urllib.parse import quote

import pytest
from graphql import GraphQLSyntaxError
from hypothesis import given
from hypothesis import strategies as st

from edge.documents import read_document
from edge.execution import executable_schema
from edge.json_input import decode_json
from tests.clients import Data, GraphQLClient, Socket, connect_to
from tests.conftest import Darkroom
from tests.operations import FOLLOW, RENAME, conversation_with

SENT: Final = "a\0 fox \ud83d\ud83d\ude00 \ude00\0"
READ: Final = "a fox \ufffd\U0001f600 \ufffd"
START: Final = """mutation($input: StartConversationInput!) { startConversation(input: $input) {
  conversation { id title } turn { userMessage } userErrors { code } } }"""
MODEL: Final = "local-ink"
JSON: Final = {"content-type": "application/json"}


async def execute(client: GraphQLClient, query: str, **variables: Any) -> Data:
    """As most clients write JSON: with escapes, which is how a lone surrogate can be sent."""
    body = json.dumps({"query": query, "variables": variables})
    answer = (await client.http.post("/graphql", content=body, headers=JSON)).json()
    assert "errors" not in answer, answer
    data: Data = answer["data"]
    return data


def literal_of(document: str) -> str:
    node = read_document(executable_schema()._schema, document).node
    value: str = node.definitions[0].selection_set.selections[0].arguments[0].value.value  # type: ignore[attr-defined]
    return value


def repaired(text: str) -> str:
    """What is read of a text: Python's own decoder joins the surrogates of a pair."""
    joined = json.loads(json.dumps(text)).replace("\0", "")
    return "".join("\ufffd" if "\ud800" <= one <= "\udfff" else one for one in joined)


broken = st.text(st.sampled_from('\ud83d\udbff\ude00\udfff\0\\"u0dD{}a é狐\n'), max_size=12)


@given(broken)
def test_every_string_of_json_is_repaired(text: str) -> None:
    written = json.dumps({"texts": [text, {"b": text}], text: None})  # no text is "texts"

    assert decode_json(written) == {
        "texts": [repaired(text), {"b": repaired(text)}],
        repaired(text): None,
    }
    assert decode_json(written.encode()) == decode_json(written)


@given(broken)
def test_a_literal_is_repaired_like_a_variable(text: str) -> None:
    literal = json.dumps(text)

    assert literal_of(f"{{ model(id: {literal}) {{ id }} }}") == decode_json(literal)


@pytest.mark.parametrize(
    ("literal", "value"),
    [
        (r'"a\u{0}b\u{0000}"', "ab"),
        (r'"\u{D83D}\u{DE00}"', "\ufffd\ufffd"),
        (r'"\u{0000d83d}"', "\ufffd"),
        (r'"\u{1F600}\u0000"', "\U0001f600"),
        (r'"""\ud83d"""', r"\ud83d"),
        ('"a" # \\ud83d\n', "a"),
    ],
)
def test_literals_can_contain_escapes(literal: str, value: str) -> None:
    assert literal_of(f"{{ model(id: {literal}) {{ id }} }}") == value


@pytest.mark.parametrize("escape", [r"\ud8", r"\u{110000}", r"\u{}", r"\u{d83d", r"\uwxyz", r"\x"])
def test_an_invalid_escape_is_still_a_syntax_error(escape: str) -> None:
    with pytest.raises(GraphQLSyntaxError):
        literal_of(f'{{ model(id: "\\u0000{escape}") {{ id }} }}')


async def test_a_message_cut_inside_an_emoji_starts_a_turn(client: GraphQLClient) -> None:
    started = await execute(
        client, START, input={"userMessage": SENT, "selectedModels": [f"{MODEL}\0"]}
    )

    payload = started["startConversation"]
    assert payload["userErrors"] == []
    assert payload["turn"]["userMessage"] == payload["conversation"]["title"] == READ


async def test_a_literal_can_contain_nul(client: GraphQLClient) -> None:
    query = r"""mutation { startConversation(input: {
      userMessage: "a\u0000b \ud83d", selectedModels: ["%s\u0000"]
    }) { conversation { title } turn { userMessage } userErrors { code } } }"""

    payload = (await execute(client, query % MODEL))["startConversation"]

    assert payload["userErrors"] == []
    assert payload["turn"]["userMessage"] == payload["conversation"]["title"] == "ab \ufffd"


async def test_ids_keys_titles_searches_and_cursors_can_contain_broken_text(
    client: GraphQLClient,
) -> None:
    message = {"userMessage": "a fox", "selectedModels": [MODEL], "idempotencyKey": f"1\0{SENT}"}
    first = (await execute(client, START, input=message))["startConversation"]
    again = (await execute(client, START, input=message))["startConversation"]
    conversation_id = first["conversation"]["id"]

    assert again == first
    renamed = await execute(client, RENAME, id=f"{conversation_id}\0", title=SENT)
    assert renamed["renameConversation"]["conversation"]["title"] == READ
    for unknown in (SENT, f"{conversation_id}\ud800", "\0"):
        found = await execute(client, "query($id: ID!) { node(id: $id) { id } }", id=unknown)
        assert found == {"node": None}
    search = "query($words: String) { viewer { conversations(search: $words) { nodes { id } } } }"
    for words in (SENT, "f\0ox", "\ud83d"):
        found = await execute(client, search, words=words)
        assert [one["id"] for one in found["viewer"]["conversations"]["nodes"]] == [conversation_id]
    after = "query($after: String) { viewer { conversations(after: $after) { nodes { id } } } }"
    body = json.dumps({"query": after, "variables": {"after": SENT}})
    refused = (await client.http.post("/graphql", content=body, headers=JSON)).json()
    assert refused["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"


async def test_a_query_in_a_url_is_repaired(client: GraphQLClient) -> None:
    query = quote("query A\0 ($id: ID!) { model(id: $id) { id } }")
    variables = quote(json.dumps({"id": f"{MODEL}\0", "\ud800": "\ud800"}))

    for name in ("A", "A%00", ""):
        url = f"/graphql?query={query}&variables={variables}%00&operationName={name}"
        answer = (await client.http.get(url)).json()
        assert answer == {"data": {"model": {"id": MODEL}}}


async def test_a_socket_stays_open_after_broken_text(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    payload = await conversation_with(client)
    async with connect_to(darkroom.url) as connection:
        socket = Socket(connection)
        authorization = f"Bearer {client.token}\0"
        await socket.send(type="ping", payload={SENT: SENT})
        await socket.send(
            type="connection_init", payload={"authorization": authorization, SENT: [SENT]}
        )
        assert [(await socket.receive())["type"] for _ in range(2)] == ["pong", "connection_ack"]

        for operation_id, read in ((SENT, READ), ("\ud800", "\ufffd"), ("\0", "")):
            await socket.send(
                id=operation_id,
                type="subscribe",
                payload={
                    "query": FOLLOW,
                    "variables": {"id": f"{payload['conversation']['id']}\0", SENT: SENT},
                    "operationName": "Follow\0",
                },
            )
            message = await socket.receive()
            assert (message["type"], message["id"]) == ("next", read)
            await socket.send(id=operation_id, type="complete", payload=None)
        await socket.send(id=SENT, type="complete")
        fine = await socket.subscribe("{ __typename }")
        assert await fine.next() == {"__typename": "Query"}
