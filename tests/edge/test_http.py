"""GraphQL over HTTP: bad input and its exact response, health, CORS."""

import base64
import json

import pytest

from settings import Limits
from tests.clients import GraphQLClient
from tests.conftest import Darkroom, StartDarkroom
from tests.edge.streams import EVENTS, PARTS

NEW = "application/graphql-response+json"
JSON = {"content-type": "application/json"}


def code_of(body: dict[str, list[dict[str, dict[str, str]]]]) -> str:
    assert "data" not in body
    return body["errors"][0]["extensions"]["code"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"not json",
        b"\xff\xfe{\x00}\x00",
        b"\xef\xbb\xbf{}",
        b'"x"',
        b"42",
        b"true",
        b"null",
        b"[]",
        b'[{"query": "{ __typename }"}]',
        b"{}",
        b'{"query": ""}',
        b'{"query": 1}',
        b'{"query": "{ __typename }", "variables": []}',
        b'{"query": "{ __typename }", "variables": "x"}',
        b'{"query": "{ __typename }", "extensions": 1}',
        b'{"query": "{ __typename }", "operationName": 1}',
        b'{"query": "{ __typename }", "variables": {"a": NaN}}',
        b'{"query": "{ __typename }", "variables": ' + b'{"a":' * 40 + b"1" + b"}" * 40 + b"}",
    ],
)
async def test_an_invalid_request_is_a_bad_request(client: GraphQLClient, body: bytes) -> None:
    response = await client.http.post("/graphql", content=body, headers=JSON)

    assert response.status_code == 400
    assert code_of(response.json()) == "BAD_REQUEST"


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("{", "GRAPHQL_PARSE_FAILED"),
        ("# nothing", "GRAPHQL_PARSE_FAILED"),
        ("{ nonsense }", "GRAPHQL_VALIDATION_FAILED"),
        ("{ model { id } }", "GRAPHQL_VALIDATION_FAILED"),
        ("query A { __typename } query B { __typename }", "OPERATION_RESOLUTION_FAILED"),
        ("query($a: ID!) { model(id: $a) { id } }", "BAD_USER_INPUT"),
        ("{ a:__typename " * 1 + " __typename" * 2001 + "}", "QUERY_TOO_COMPLEX"),
    ],
    ids=range(7),
)
async def test_an_invalid_document_has_a_code(client: GraphQLClient, query: str, code: str) -> None:
    new = await client.post({"query": query}, accept=NEW)
    old = await client.post({"query": query}, accept="application/json")

    assert (new.status_code, code_of(new.json())) == (400, code)
    assert new.headers["content-type"] == NEW or code == "OPERATION_RESOLUTION_FAILED"
    assert code_of(old.json()) == code
    assert "Did you mean" not in new.text


async def test_an_unknown_enum_value_and_an_invalid_ratio_are_bad_input(
    client: GraphQLClient,
) -> None:
    query = """mutation($ratio: AspectRatio, $resolution: Resolution) { startConversation(
      input: {userMessage: "A", aspectRatio: $ratio, resolution: $resolution}) { cursor } }"""

    for variables in ({"ratio": "16x9"}, {"ratio": "0:1"}, {"ratio": 1}, {"resolution": "TEN_K"}):
        answer = await client.execute(query, **variables)
        assert code_of(answer) == "BAD_USER_INPUT"


async def test_a_ratio_given_as_a_number_is_a_client_error(client: GraphQLClient) -> None:
    literal = await client.execute(
        'mutation { startConversation(input: {userMessage: "A", aspectRatio: 169}) { cursor } }'
    )
    variable = await client.execute(
        "mutation($r: AspectRatio) { startConversation(input: "
        '{userMessage: "A", aspectRatio: $r}) { cursor } }',
        r=169,
    )

    assert code_of(literal) == "BAD_USER_INPUT"
    assert code_of(variable) == "BAD_USER_INPUT"
    assert "NoneType" not in str(variable)
    assert "object" not in str(variable)


async def test_a_body_can_have_256_kilobytes(client: GraphQLClient) -> None:
    body = json.dumps({"query": "{ __typename }", "extensions": {"x": "y" * 262_144}}).encode()

    response = await client.http.post("/graphql", content=body, headers=JSON)

    assert response.status_code == 413
    assert code_of(response.json()) == "PAYLOAD_TOO_LARGE"


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "xapplication/jsonx"},
        {"content-type": ""},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
async def test_other_media_types_are_refused(
    client: GraphQLClient, headers: dict[str, str]
) -> None:
    body = b'{"query": "{ __typename }"}'

    response = await client.http.post("/graphql", content=body, headers=headers)

    assert response.status_code == 415
    assert code_of(response.json()) == "UNSUPPORTED_MEDIA_TYPE"


async def test_the_types_to_accept_can_be_in_several_headers(client: GraphQLClient) -> None:
    headers = [("accept", "image/png"), ("accept", NEW)]

    response = await client.http.post("/graphql", json={"query": "{ __typename }"}, headers=headers)

    assert response.status_code == 200
    assert response.headers["content-type"].startswith(NEW)


@pytest.mark.parametrize("accept", ["image/png", "image/png," * 100 + NEW], ids=["one", "many"])
async def test_a_request_that_accepts_no_supported_type_is_not_acceptable(
    client: GraphQLClient, accept: str
) -> None:
    """Of a header that lists hundreds, the first hundred are read."""
    response = await client.post({"query": "{ __typename }"}, accept=accept)

    assert response.status_code == 406
    assert code_of(response.json()) == "NOT_ACCEPTABLE"
    assert response.json()["errors"][0]["message"] == (
        "Accept application/graphql-response+json, application/json, text/event-stream or "
        "multipart/mixed;subscriptionSpec=1.0."
    )


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
async def test_other_methods_are_refused(client: GraphQLClient, method: str) -> None:
    response = await client.http.request(method, "/graphql", content=b"{}", headers=JSON)

    assert response.status_code == 405
    assert response.headers["allow"] == "GET, POST"
    assert code_of(response.json()) == "METHOD_NOT_ALLOWED"


async def test_get_runs_queries_only(client: GraphQLClient) -> None:
    query = await client.http.get("/graphql", params={"query": "{ __typename }"})
    mutation = await client.http.get(
        "/graphql",
        params={"query": 'mutation { startConversation(input: {userMessage: "A"}) { cursor } }'},
    )

    assert query.json() == {"data": {"__typename": "Query"}}
    assert mutation.status_code == 405
    assert mutation.headers["allow"] == "POST"


async def test_a_subscription_by_get_without_a_stream_is_not_allowed(
    client: GraphQLClient,
) -> None:
    query = "subscription { viewerUpdated { viewer { id } } }"

    response = await client.http.get("/graphql", params={"query": query})

    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert code_of(response.json()) == "METHOD_NOT_ALLOWED"
    assert "text/event-stream" in response.text


async def test_a_subscription_over_plain_post_is_refused_with_the_types_to_accept(
    client: GraphQLClient,
) -> None:
    query = 'subscription { conversationUpdated(conversationId: "x") { id } }'

    response = await client.post({"query": query})

    assert response.status_code == 406
    assert code_of(response.json()) == "SUBSCRIPTION_TRANSPORT_REQUIRED"
    assert response.json()["errors"][0]["message"] == (
        "Accept text/event-stream or multipart/mixed;subscriptionSpec=1.0 for a subscription, or "
        "use a WebSocket with the graphql-transport-ws protocol."
    )


def altered(token: str) -> str:
    header, payload, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    claims["sub"] = "somebody else"
    forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"{header}.{forged}.{signature}"


async def test_an_invalid_token_is_refused_for_any_operation(darkroom: Darkroom) -> None:
    token = darkroom.token("ana")
    for bad in ("nonsense", token[:-4], altered(token), f"{token}.x"):
        response = await darkroom.with_token(bad).post({"query": "{ __typename }"})

        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert code_of(response.json()) == "UNAUTHENTICATED"


async def test_invalid_arguments_found_by_a_resolver_are_a_bad_request(
    client: GraphQLClient,
) -> None:
    for query in (
        "{ viewer { images(first: 101) { nodes { id } } } }",
        '{ viewer { images(after: "x") { nodes { id } } } }',
    ):
        new = await client.post({"query": query}, accept=NEW)
        old = await client.post({"query": query}, accept="application/json")

        assert (new.status_code, old.status_code) == (400, 200)
        assert new.json() == old.json()


async def test_an_error_has_the_accepted_media_type(darkroom: Darkroom) -> None:
    response = await darkroom.with_token("nonsense").post({"query": "{ __typename }"}, accept=NEW)

    assert (response.status_code, response.headers["content-type"]) == (401, NEW)


async def test_an_operation_has_a_time_limit(start_darkroom: StartDarkroom) -> None:
    client = (await start_darkroom(limit=Limits(operation_seconds=1e-6))).client()

    response = await client.post({"query": "{ viewer { conversations { nodes { id } } } }"})

    assert response.status_code == 504
    assert code_of(response.json()) == "DEADLINE_EXCEEDED"


async def test_pages_of_allowed_origins_can_send_requests(darkroom: Darkroom) -> None:
    http = darkroom.anonymous().http
    asking = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,traceparent",
    }

    good = await http.options("/graphql", headers={"origin": "http://localhost:5173", **asking})
    bad = await http.options("/graphql", headers={"origin": "https://evil.example", **asking})

    assert good.headers["access-control-allow-origin"] == "http://localhost:5173"
    assert good.headers["access-control-max-age"] == "7200"
    assert "access-control-allow-credentials" not in good.headers
    assert "access-control-allow-origin" not in bad.headers
    assert code_of(bad.json()) == "BAD_REQUEST"
    assert "traceparent" not in str(bad.headers)  # nothing of what is refused is repeated


@pytest.mark.parametrize("accept", [NEW, EVENTS, PARTS])
async def test_pages_of_allowed_origins_can_read_response_headers(
    darkroom: Darkroom, accept: str
) -> None:
    """Refusals too, and streams."""
    http = darkroom.anonymous().http
    wanted = {"query": "{ __typename }"}
    for authorization, status in ({}, 200), ({"authorization": "Bearer x"}, 401):
        headers = {"accept": accept, **authorization}
        good = await http.get(
            "/graphql", params=wanted, headers={**headers, "origin": "http://localhost:5173"}
        )
        bad = await http.get(
            "/graphql", params=wanted, headers={**headers, "origin": "https://evil.example"}
        )

        assert (good.status_code, bad.status_code) == (status, status)
        assert good.headers["access-control-allow-origin"] == "http://localhost:5173"
        assert "Origin" in good.headers["vary"]
        assert "retry-after" in good.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in good.headers
        assert "access-control-allow-origin" not in bad.headers


async def test_health_and_readiness(darkroom: Darkroom) -> None:
    http = darkroom.anonymous().http

    assert (await http.get("/healthz")).json() == {"status": "ok"}
    assert (await http.get("/readyz")).json() == {"status": "ok"}


async def test_a_browser_is_sent_graphiql_in_development(darkroom: Darkroom) -> None:
    http = darkroom.anonymous().http

    response = await http.get("/graphql", headers={"accept": "text/html"})

    assert response.headers["location"] == "/graphiql/"
    assert (await http.get("/graphiql")).headers["location"] == "/graphiql/"
