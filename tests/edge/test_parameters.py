"""The parameters of an operation have the same meaning over HTTP and over a socket."""

import json
from hashlib import sha256
from typing import Any, Final
from urllib.parse import quote

import pytest

from domain.errors import QueryTooComplex
from tests.clients import Data, GraphQLClient

TYPENAME: Final = {"data": {"__typename": "Query"}}
PERSISTED: Final = {"persistedQuery": {"version": 1, "sha256Hash": "0" * 64}}
NOT_FOUND: Final = {
    "message": "PersistedQueryNotFound",
    "extensions": {"code": "PERSISTED_QUERY_NOT_FOUND"},
}
PAGES: Final = """query($n: Int = 100, $m: Int) {
  viewer { conversations(first: $n) { nodes { turns(first: $m) { nodes { id } } } } }
}"""


async def both(client: GraphQLClient, parameters: Data) -> tuple[Data, Data]:
    """What is answered over HTTP, and the first message over a socket."""
    over_http = (await client.post(parameters)).json()
    async with client.socket() as socket:
        await socket.send(id="1", type="subscribe", payload=parameters)
        return over_http, await socket.receive()


async def test_an_empty_operation_name_counts_as_none(client: GraphQLClient) -> None:
    named = {"query": "query A { __typename }", "operationName": ""}
    over_http, over_socket = await both(client, named)

    assert over_http == over_socket["payload"] == TYPENAME

    several = {"query": "query A { __typename } query B { __typename }", "operationName": ""}
    over_http, over_socket = await both(client, several)
    for errors in (over_http["errors"], over_socket["payload"]):
        assert errors[0]["extensions"]["code"] == "OPERATION_RESOLUTION_FAILED"


@pytest.mark.parametrize("accept", ["application/json", "application/graphql-response+json"])
@pytest.mark.parametrize("query", [{}, {"query": None}, {"query": ""}])
@pytest.mark.parametrize("more", [{}, {"operationName": "Me", "variables": {}}])
async def test_an_unknown_digest_asks_the_client_for_the_document(
    client: GraphQLClient, accept: str, query: Data, more: Data
) -> None:
    parameters = {**query, **more, "extensions": PERSISTED}

    over_http = await client.post(parameters, accept=accept)
    over_url = await client.http.get(
        f"/graphql?extensions={quote(json.dumps(PERSISTED))}", headers={"accept": accept}
    )

    for answer in (over_http, over_url):
        assert (answer.status_code, answer.json()) == (200, {"errors": [NOT_FOUND]})
    async with client.socket() as socket:
        await socket.send(id="1", type="subscribe", payload=parameters)
        error = {"id": "1", "type": "error", "payload": [NOT_FOUND]}
        assert await socket.receive() == error
        fine = await socket.subscribe("{ __typename }")
        assert await fine.next() == TYPENAME["data"]


async def test_a_document_sent_with_its_digest_runs(client: GraphQLClient) -> None:
    digest = sha256(b"{ __typename }").hexdigest()
    persisted = {"persistedQuery": {"version": 1, "sha256Hash": digest}}
    parameters = {"query": "{ __typename }", "extensions": persisted}

    over_http, over_socket = await both(client, parameters)

    assert over_http == over_socket["payload"] == TYPENAME


@pytest.mark.parametrize(
    "variables",
    [
        {"n": 100.0, "m": 100.0},
        {"n": 1e2, "m": 100},
        {"m": 100.0},
        {"n": None, "m": 100.0},
    ],
)
async def test_a_numeric_argument_costs_what_it_runs_as(
    client: GraphQLClient, variables: dict[str, Any]
) -> None:
    over_http, over_socket = await both(client, {"query": PAGES, "variables": variables})

    for errors in (over_http["errors"], over_socket["payload"]):
        assert errors[0]["extensions"]["code"] == QueryTooComplex.code
        assert errors[0]["extensions"]["limit"] == "items"


async def test_an_invalid_document_costs_nothing(client: GraphQLClient) -> None:
    for variables in ({"n": 100.5, "m": 100}, {"n": "100"}, {"n": True}, {"n": [1]}):
        over_http, over_socket = await both(client, {"query": PAGES, "variables": variables})
        for errors in (over_http["errors"], over_socket["payload"]):
            assert errors[0]["extensions"]["code"] == "BAD_USER_INPUT"
