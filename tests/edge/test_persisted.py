"""Persisted documents: automatically persisted and trusted ones; and GET, for caches."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest

from domain.errors import Overloaded
from edge.persisted import (
    REMEMBERED_DOCUMENTS,
    DigestWrong,
    DocumentNotKnown,
    DocumentNotTrusted,
    PersistedDocuments,
    read_trusted_documents,
)
from settings import SettingsError
from storage.mongo.database import Database
from storage.mongo.documents import MongoDocumentRepository
from tests.clients import Data, GraphQLClient
from tests.conftest import Darkroom, StartDarkroom

ME = "query Me { viewer { id } }"
TYPENAME = "{ __typename }"
ACCEPTS = ["application/json", "application/graphql-response+json"]


def digest_of(document: str) -> str:
    return sha256(document.encode()).hexdigest()


def named(document: str, **more: Any) -> Data:
    return {
        "extensions": {"persistedQuery": {"version": 1, "sha256Hash": digest_of(document)}},
        **more,
    }


def code_of(answer: httpx2.Response) -> str:
    code: str = answer.json()["errors"][0]["extensions"]["code"]
    return code


@pytest.mark.parametrize("accept", ACCEPTS)
async def test_a_document_sent_once_is_known_to_all_processes(
    start_darkroom: StartDarkroom, accept: str
) -> None:
    first, second = await start_darkroom(), await start_darkroom()
    client = first.client("ana")

    asked = await client.post(named(ME), accept=accept)
    assert (asked.status_code, asked.json()) == (
        200,
        {
            "errors": [
                {
                    "message": "PersistedQueryNotFound",
                    "extensions": {"code": "PERSISTED_QUERY_NOT_FOUND"},
                }
            ]
        },
    )
    sent = await client.post(named(ME, query=ME), accept=accept)
    assert sent.json()["data"]["viewer"]["id"]

    for other in (first.client("bob"), second.client("bob")):
        again = await other.post(named(ME), accept=accept)
        assert again.json()["data"]["viewer"]["id"]
        over_url = await other.http.get(
            "/graphql", params={"extensions": json.dumps(named(ME)["extensions"])}
        )
        assert over_url.json() == again.json()
        async with other.socket() as socket:
            await socket.send(id="1", type="subscribe", payload=named(ME))
            assert (await socket.receive())["payload"] == again.json()
            # Of one that is not known, the socket says so and lives.
            await socket.receive()
            await socket.send(id="2", type="subscribe", payload=named("{ another: __typename }"))
            refused = await socket.receive()
            assert (refused["type"], refused["payload"][0]["message"]) == (
                "error",
                "PersistedQueryNotFound",
            )


async def test_a_digest_is_accepted_for_its_own_document_only(client: GraphQLClient) -> None:
    answer = await client.post(named(ME, query=TYPENAME))
    assert (answer.status_code, code_of(answer)) == (400, "BAD_REQUEST")

    assert code_of(await client.post(named(ME))) == "PERSISTED_QUERY_NOT_FOUND"


async def test_an_invalid_document_is_not_stored(client: GraphQLClient) -> None:
    for document in ("{ nothing }", "{", "mutation { nothing }"):
        await client.post(named(document, query=document))
        assert code_of(await client.post(named(document))) == "PERSISTED_QUERY_NOT_FOUND"


@pytest.mark.parametrize(
    "persisted",
    [
        {"version": 2, "sha256Hash": digest_of(ME)},
        {"sha256Hash": digest_of(ME)},
        {"version": 1},
        {"version": 1, "sha256Hash": 7},
        {"version": 1, "sha256Hash": "0" * 201},
        {"version": 1, "sha256Hash": ""},
        "text",
        [],
    ],
)
async def test_an_invalid_digest_is_a_bad_request(client: GraphQLClient, persisted: object) -> None:
    for body in ({}, {"query": TYPENAME}):
        answer = await client.post({**body, "extensions": {"persistedQuery": persisted}})
        assert (answer.status_code, code_of(answer)) == (400, "BAD_REQUEST")
    answer = await client.post({"documentId": 7})
    assert (answer.status_code, code_of(answer)) == (400, "BAD_REQUEST")


@pytest.mark.parametrize("digest", ["0" * 64, "A" * 64, "$ne", "sha256:" + "1" * 64, "../x"])
async def test_an_unknown_digest_is_not_found(client: GraphQLClient, digest: str) -> None:
    persisted = {"version": 1, "sha256Hash": digest}

    answers = [
        await client.post({"extensions": {"persistedQuery": persisted}}),
        await client.post({"documentId": digest}),
    ]

    assert {code_of(answer) for answer in answers} == {"PERSISTED_QUERY_NOT_FOUND"}


async def test_stored_documents_are_limited(database: Database) -> None:
    store = MongoDocumentRepository(database)
    one, other = "abc" + "0" * 61, "abc" + "1" * 61
    await store.keep(one, ME)
    await store.keep(other, TYPENAME)
    assert (await store.find(one), await store.find(other)) == (None, TYPENAME)

    persisted = PersistedDocuments()
    documents = [f"{{ a{number}: __typename }}" for number in range(REMEMBERED_DOCUMENTS + 1)]
    for document in documents:
        await persisted.keep(document, digest_of(document))
    with pytest.raises(DocumentNotKnown):
        await persisted.find(None, digest_of(documents[0]))
    assert await persisted.find(None, digest_of(documents[1])) == documents[1]

    long = f"{{ a: __typename }} # {'x' * 40_000}"
    await persisted.keep(long, digest_of(long))
    with pytest.raises(DocumentNotKnown):
        await persisted.find(None, digest_of(long))


async def test_while_the_database_is_unavailable_clients_are_asked_for_documents() -> None:
    class Away:
        async def find(self, _: str) -> str | None:
            raise Overloaded

        async def keep(self, _: str, __: str) -> None:
            raise Overloaded

    persisted = PersistedDocuments(Away())

    with pytest.raises(DocumentNotKnown):
        await persisted.find(None, digest_of(ME))
    assert await persisted.find(ME, digest_of(ME)) == ME
    await persisted.keep(ME, digest_of(ME))
    assert await persisted.find(None, digest_of(ME)) == ME


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    path = tmp_path / "documents.json"
    path.write_text(json.dumps({"me": ME, digest_of(TYPENAME): TYPENAME}))
    return path


async def test_trusted_documents_are_addressed_by_id(
    start_darkroom: StartDarkroom, listed: Path
) -> None:
    client = (await start_darkroom(trusted_documents=listed)).client("ana")

    assert (await client.post({"documentId": "me"})).json()["data"]["viewer"]
    assert (await client.post({"documentId": f"sha256:{digest_of(TYPENAME)}"})).json() == {
        "data": {"__typename": "Query"}
    }
    assert (await client.post(named(TYPENAME))).json()["data"]
    assert (await client.http.get("/graphql", params={"documentId": "me"})).json()["data"]
    assert code_of(await client.post({"documentId": "nobody"})) == "PERSISTED_QUERY_NOT_FOUND"
    assert (await client.post({"query": "{ other: __typename }"})).json()["data"]


@pytest.mark.parametrize("accept", ACCEPTS)
async def test_if_only_trusted_documents_are_allowed_others_are_refused(
    start_darkroom: StartDarkroom, listed: Path, accept: str
) -> None:
    darkroom = await start_darkroom(trusted_documents=listed, only_trusted_documents=True)
    client, other = darkroom.client("ana"), "{ other: __typename }"

    for fine in ({"documentId": "me"}, {"query": ME}, named(TYPENAME), named(ME, query=ME)):
        assert (await client.post(fine, accept=accept)).json()["data"], fine
    for bad in (
        {"query": other},
        named(other),
        named(other, query=other),
        {"documentId": "nobody"},
        {"documentId": "me", "query": other},
        {"query": "{ __schema { queryType { name } } }"},
    ):
        answer = await client.post(bad, accept=accept)
        assert (answer.status_code, code_of(answer)) == (400, "DOCUMENT_NOT_TRUSTED"), bad
    async with client.socket() as socket:
        await socket.send(id="1", type="subscribe", payload={"query": other})
        message = await socket.receive()
        assert message["payload"][0]["extensions"] == {"code": "DOCUMENT_NOT_TRUSTED"}
    with pytest.raises(DocumentNotTrusted):
        await PersistedDocuments(only_trusted=True).find(ME, None)
    with pytest.raises(DigestWrong):
        await PersistedDocuments().find(ME, digest_of(TYPENAME))


def test_lists_of_trusted_documents_are_read_in_the_formats_of_tools(tmp_path: Path) -> None:
    manifest = {
        "format": "apollo-persisted-query-manifest",
        "version": 1,
        "operations": [{"id": "me", "name": "Me", "type": "query", "body": ME}],
    }
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(manifest))

    assert read_trusted_documents(path) == {"me": ME}


@pytest.mark.parametrize("content", ["", "[]", '{"me": 7}', '{"operations": [{"id": "me"}]}', None])
async def test_an_unreadable_list_of_trusted_documents_is_reported_in_a_message(
    start_darkroom: StartDarkroom, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "list.json"
    if content is not None:
        path.write_text(content)

    with pytest.raises(SettingsError, match=r"DARKROOM_TRUSTED_DOCUMENTS=.*cannot be read: "):
        await start_darkroom(trusted_documents=path)


async def test_a_get_response_can_be_cached_by_its_client_only(darkroom: Darkroom) -> None:
    http = darkroom.client().http

    answer = await http.get("/graphql", params={"query": ME})
    assert answer.headers["cache-control"] == "private, no-cache"
    assert {one.strip() for one in answer.headers["vary"].split(",")} >= {"Authorization", "Accept"}
    again = await http.get(
        "/graphql", params={"query": ME}, headers={"if-none-match": answer.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")
    other = await darkroom.client().http.get(
        "/graphql", params={"query": ME}, headers={"if-none-match": answer.headers["etag"]}
    )
    assert other.status_code == 200

    for query in (
        "{ nothing }",
        'mutation { deleteViewer(input: {viewerId: "x"}) { __typename } }',
    ):
        refused = await http.get("/graphql", params={"query": query})
        assert refused.headers["cache-control"] == "no-store"
        assert "etag" not in refused.headers
    assert refused.status_code == 405
    posted = await http.post("/graphql", json={"query": ME})
    assert posted.headers["cache-control"] == "no-store"


async def test_pages_of_allowed_origins_can_get_and_post(darkroom: Darkroom) -> None:
    http = darkroom.client().http
    for origin, allowed in (("http://localhost:5173", True), ("https://evil.example", False)):
        answer = await http.get(
            "/graphql", params={"query": ME}, headers={"origin": origin, "accept": "*/*"}
        )
        assert answer.headers.get("access-control-allow-origin") == (origin if allowed else None)
        assert "Origin" in answer.headers["vary"]
        assert "access-control-allow-credentials" not in answer.headers
