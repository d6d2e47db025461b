"""What a client without a token can send: long documents, invalid ones, and repetitions."""

import asyncio
import json
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any, Final

import httpx2
import pytest
from graphql import get_introspection_query

from tests.edge.hostile import an_api, loop_seconds, memory_of, others_are_served
from tests.http import open_http
from tests.resilience.processes import Api

MEGABYTE: Final = 1024 * 1024
LONG: Final = 250_000
SHORTER: Final = 120_000
"""Of what takes two bytes in JSON."""
AT_ONCE: Final = 4
MAX_ANSWER_BYTES: Final = 64 * 1024
REQUESTS: Final = 10
MAX_LOOP_SECONDS: Final = 0.01
"""For the event loop to serve one request."""


def fragments(count: int, body: str, *, on: str = "ImageModel") -> str:
    """A chain of them; `body` names the next one as `$next`."""
    links = [
        f"fragment f{number} on {on} {{ {body.replace('$next', f'f{number + 1}')} }}"
        for number in range(count)
    ]
    return " ".join([*links, f"fragment f{count} on {on} {{ __typename }}"])


REFUSED: Final = {
    "blanks": " " * LONG,
    "blanks before a mistake": " " * LONG + "{ x }",
    "lines before a mistake": "\n" * SHORTER + "{ x }",
    "lines before many mistakes": "\n" * (SHORTER - 8_000) + "{ " + "x " * 1_900 + "}",
    "lines between many mistakes": "{ " + ("x" + "\n" * 60) * 1_900 + "}",
    "lines before the end": "\n" * SHORTER + "{",
    "a comment": "#" * LONG,
    "many comments": "#\n" * (LONG // 3),
    "a name": f"{{ {'x' * LONG} }}",
    "a name in a conflict": f"{{ {'x' * 100_000}: __typename {'x' * 100_000}: models {{ id }} }}",
    "names in conflicts": "{ "
    + " ".join(
        f"{'x' * 5_000}{number}: __typename {'x' * 5_000}{number}: models {{ id }}"
        for number in range(20)
    )
    + " }",
    "a number": f"{{ models(search: {'1' * LONG}) {{ id }} }}",
    "a string of the wrong kind": f'{{ models(includeUnlisted: "{"x" * LONG}") {{ id }} }}',
    "a string that never ends": '{ models(search: "' + "\\n" * (LONG // 3),
    "a block that never ends": '{ models(search: """' + "\n " * (LONG // 3),
    "an object of the wrong kind": f'{{ models(search: {{a: "{"x" * LONG}"}}) {{ id }} }}',
    "one field again and again": "{ " + "models { id } " * 490 + "}",
    "one field below another": "{ models { " + "editModel { id } " * 490 + "} }",
    "unknown fields": "{ " + " ".join(f"x{number}" for number in range(1_990)) + " }",
    "one unknown field": "{ " + "x " * 1_990 + "}",
    "unknown directives": "{ __typename " + "@x " * 900 + "}",
    "unknown arguments": "{ models(" + " ".join(f"a{n}: 1" for n in range(600)) + ") { id } }",
    "unknown variables": "{ "
    + " ".join(f"a{n}: model(id: $v{n}) {{ id }}" for n in range(160))
    + " }",
    "unused variables": "query(" + " ".join(f"$a{n}: Int" for n in range(490)) + ") {__typename}",
    "unused fragments": "{ __typename } " + fragments(250, "__typename"),
    "many operations": "query a { __typename } " * 380,
    "nested selections": "{ " + "a { " * 900 + "a" + " }" * 900 + " }",
    "nested lists": "{ models(search: " + "[" * 900 + "]" * 900 + ") { id } }",
    "nested inline fragments": "{ models " + "{ ... " * 150 + "{ x }" + " }" * 150 + " }",
    "fragments that double": "{ models { ...f0 } } "
    + fragments(90, "editModel { ...$next id } editModel { ...$next }"),
    "fragments in a circle": "{ models { ...f0 } } "
    + fragments(90, "...$next ...f0 ...f1 ...f2 ...f3"),
    "tokens": "{ " + "__typename " * 2_100 + "}",
    "nothing but letters": "x" * LONG,
    "nothing but braces": "{" * LONG,
    "nothing but quotes": '"' * SHORTER,
}


MODEL: Final = (
    "id aliases listed isDefault retiresAt label description company logoUrl isNew provider "
    "available unavailableReason minReferences maxReferences aspectRatios resolutions qualities "
    "formats maxImages customSize { minimum maximum step } supportsPreviews supportsSeed "
    "supportsNegativePrompt supportsMentions scenes"
)
TYPE: Final = "kind name description fields { name description type { name kind ofType { name } } }"
TOO_COMPLEX: Final[dict[str, tuple[str, dict[str, object], str]]] = {
    "an introspection with aliases": (
        "{ __schema { " + " ".join(f"a{n}: types {{ {TYPE} }}" for n in range(30)) + " } }",
        {},
        "introspectionValues",
    ),
    "an introspection with fragments": (
        "{ __schema { types { ...f0 } } } "
        + fragments(12, "a: ofType { ...$next } b: ofType { ...$next }", on="__Type"),
        {},
        "introspectionValues",
    ),
    "two introspections": (
        "{ a: __schema { types { name } } b: __schema { types { name } } }",
        {},
        "introspections",
    ),
    "a large introspection beside another field": (
        f"{{ __schema {{ types {{ {TYPE} }} }} models {{ id }} }}",
        {},
        "introspectionValues",
    ),
    "a long variable in many places": (
        "query($s: String) { "
        + " ".join(f"a{n}: models(search: $s) {{ id }}" for n in range(20))
        + " }",
        {"s": "x" * LONG},
        "text",
    ),
    "a long variable in a list": (
        "query($s: String) { viewer { conversations(first: 5) { nodes { turns(after: $s) "
        "{ nodes { id } } } } } }",
        {"s": "x" * LONG},
        "text",
    ),
    "a long default in many places": (
        f'query($s: String = "{"x" * 200_000}") {{ a: models(search: $s) {{ id }} '
        "b: models(search: $s) { id } }",
        {},
        "text",
    ),
    "a hundred long names of files": (
        "mutation($n: String) { createUploads(input: { files: ["
        + '{ contentType: "image/png", byteSize: 1, filename: $n } ' * 100
        + "] }) { userErrors { code } } }",
        {"n": "x" * LONG},
        "text",
    ),
    "a long alias": (f"{{ {'x' * 1_000}: __typename }}", {}, "aliasLength"),
    "many directives": (
        "{ " + "... @include(if: true) { __typename } " * 51 + "}",
        {},
        "directives",
    ),
    "many values": (
        "{ "
        + " ".join(
            f"a{n}: models {{ {MODEL} editModel {{ {MODEL} replacement {{ {MODEL} }} }} }}"
            for n in range(12)
        )
        + " }",
        {},
        "values",
    ),
    "pages of pages": (
        "query($n: Int) { viewer { conversations(first: $n) { nodes { turns(first: $n) "
        "{ nodes { id } } } } } }",
        {"n": 2**31 - 1},
        "items",
    ),
    "a long list": (
        "query($i: [ID!]!) { nodes(ids: $i) { id } }",
        {"i": [""] * 60_000},
        "items",
    ),
    "many objects in a variable that nobody has declared": (
        "{ __typename }",
        {"a": [{}] * 60_000},
        "items",
    ),
    "a long list in an object": (
        "mutation($i: CreateUploadsInput!) { createUploads(input: $i) { userErrors { code } } }",
        {"i": {"files": [{}] * 60_000}},
        "items",
    ),
}
SERVED: Final[dict[str, tuple[str, dict[str, object]]]] = {
    "what tools ask of the schema": (get_introspection_query(), {}),
    "every model twenty times": (
        "{ " + " ".join(f"a{n}: models {{ {MODEL} }}" for n in range(20)) + " }",
        {},
    ),
    "every model, and what nobody may see": (
        "{ viewer { id } " + " ".join(f"a{n}: models {{ {MODEL} }}" for n in range(19)) + " }",
        {},
    ),
    "a search of two hundred letters": (
        "query($s: String) { "
        + " ".join(f"a{n}: models(search: $s) {{ id }}" for n in range(20))
        + " }",
        {"s": "a " * 100},
    ),
    "a search that is too long": (
        "query($s: String) { models(search: $s) { id } }",
        {"s": "a " * (LONG // 2)},
    ),
    "a provider that is too long": (
        "query($s: String) { models(provider: $s) { id } }",
        {"s": "a " * (LONG // 2)},
    ),
    "an id that is too long": (
        "query($s: ID!) { model(id: $s) { id } node(id: $s) { id } }",
        {"s": "a " * (LONG // 4)},
    ),
}


VARIABLE: Final = b'{"query":"{ __typename }","variables":{"a":[%b1]}}'
SLOW_JSON: Final = {
    "lists": VARIABLE % ((b"[" * 28 + b"]" * 28 + b",") * 4_000),
    "objects": VARIABLE % (b"{}," * 80_000),
    "halves of letters": VARIABLE % (b'"%b",' % (rb"\ud800" * 40_000)),
}


@pytest.fixture(scope="module")
async def api(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    async with an_api(mongodb_uri, tmp_path_factory.mktemp("api")) as api:
        yield api


@pytest.fixture
async def http(api: Api) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"accept": "application/graphql-response+json"}
    async with open_http(base_url=api.url, headers=headers) as http:
        yield http


async def post_at_once(
    api: Api, http: httpx2.AsyncClient, *bodies: dict[str, Any]
) -> list[httpx2.Response]:
    """The answers to several requests at once, while others are served."""
    contents = [json.dumps(body, ensure_ascii=False).encode() for body in bodies]
    headers = {"content-type": "application/json"}
    async with others_are_served(api):
        return await asyncio.gather(
            *(http.post("/graphql", content=content, headers=headers) for content in contents)
        )


@pytest.mark.parametrize("document", REFUSED.values(), ids=REFUSED)
async def test_a_hostile_document_is_refused_with_a_short_message(
    api: Api, http: httpx2.AsyncClient, document: str
) -> None:
    # Each is another document, so that none is remembered.
    bodies = [{"query": f"{document} #{number}"} for number in range(AT_ONCE)]

    answers = await post_at_once(api, http, *bodies)

    for answer in answers:
        assert answer.status_code == 400
        assert len(answer.content) < MAX_ANSWER_BYTES
        assert set(answer.json()) == {"errors"}


@pytest.mark.parametrize(("document", "variables", "limit"), TOO_COMPLEX.values(), ids=TOO_COMPLEX)
async def test_a_document_that_asks_for_too_much_is_refused(
    api: Api, http: httpx2.AsyncClient, document: str, variables: dict[str, object], limit: str
) -> None:
    bodies = [{"query": document, "variables": variables}] * AT_ONCE

    answers = await post_at_once(api, http, *bodies)

    for answer in answers:
        assert answer.status_code == 400
        assert len(answer.content) < 1_000
        (error,) = answer.json()["errors"]
        assert error["extensions"]["code"] == "QUERY_TOO_COMPLEX"
        assert error["extensions"]["limit"] == limit


@pytest.mark.parametrize(("document", "variables"), SERVED.values(), ids=SERVED)
async def test_an_expensive_accepted_document_does_not_delay_others(
    api: Api, http: httpx2.AsyncClient, document: str, variables: dict[str, object]
) -> None:
    for _ in range(3):  # by graphql-core, compiled, and compiled before
        answers = await post_at_once(
            api, http, *[{"query": document, "variables": variables}] * AT_ONCE
        )
        for answer in answers:
            assert "data" in answer.json()


@pytest.mark.parametrize("content", SLOW_JSON.values(), ids=SLOW_JSON)
async def test_json_that_is_slow_to_parse_does_not_delay_others(
    api: Api, http: httpx2.AsyncClient, content: bytes
) -> None:
    headers = {"content-type": "application/json"}
    before = loop_seconds(api)

    for _ in range(REQUESTS):
        answer = await http.post("/graphql", content=content, headers=headers)
        assert answer.status_code in (200, 400)

    assert loop_seconds(api) - before < REQUESTS * MAX_LOOP_SECONDS


async def test_the_document_cache_is_bounded(api: Api, http: httpx2.AsyncClient) -> None:
    async def ask(number: int) -> None:
        document = f"{{ {'__typename ' * 1_900} }} # {number}"
        assert (await http.post("/graphql", json={"query": document})).status_code in (200, 400)

    await ask(0)
    before = memory_of(api)

    async with others_are_served(api):
        # All of them would take 110 MB and more.
        for number in range(90):
            await ask(number)

    assert memory_of(api) - before < 80 * MEGABYTE


async def test_many_long_documents_of_one_client_do_not_delay_others(
    api: Api, http: httpx2.AsyncClient
) -> None:
    def document(number: int) -> str:
        return " ".join(f"query a{number}x{n} {{ __typename }}" for n in range(380))

    flood = [{"query": document(number), "operationName": f"a{number}x0"} for number in range(60)]
    flood_began = monotonic()
    flooding = asyncio.create_task(post_at_once(api, http, *flood))

    waits = []
    while not flooding.done():
        began = monotonic()
        answer = await http.post("/graphql", json={"query": "{ models { id } }"})
        waits.append(monotonic() - began)
        assert answer.status_code == 200

    assert {answer.status_code for answer in await flooding} <= {200, 504}
    # Each of the sixty may hold it up, but not all of them.
    assert max(waits) < (monotonic() - flood_began) / 5
