"""Every string, number and list that a viewer can send, with unexpected values."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import pytest
from graphql import (
    GraphQLField,
    GraphQLInputType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    get_named_type,
    is_enum_type,
    is_input_object_type,
    is_leaf_type,
)

from edge.dev_tokens import DevelopmentIssuer
from edge.execution import executable_schema
from tests.edge.hostile import an_api, others_are_served
from tests.edge.schema_calls import a_value, calls_of
from tests.http import open_http
from tests.resilience.processes import Api
from tests.resilience.scale import THOROUGH

LONG: Final = 240_000 if THOROUGH else 60_000
"""What takes a square of its length is seen at either."""
STRINGS: Final = {
    "letters": "x" * LONG,
    "blanks": " " * LONG,
    "words": "a " * (LONG // 2),
    "mentions": "@Image1 " * (LONG // 8),
    "accents": "a" + "\u0301" * (LONG // 2),
    "families": "\U0001f468\u200d" * (LONG // 8),
    "digits": "1" * LONG,
    "lines": "\n" * (LONG // 2),
    "base64": "A=" * (LONG // 2),
    "what decomposes": "\ufdfa" * (LONG // 3),
    "nothing": "",
}
NUMBERS: Final = (2**31 - 1, -(2**31), 0, -1, 2**31, 4 * 10**18, -(2**63), 10**18 + 0.5, 1e300)
ITEMS: Final = (0, 101, 250, 20_000)
MAX_ANSWER_BYTES: Final = 64 * 1024


def hostile_values(kind: GraphQLInputType) -> Iterator[Any]:
    match kind:
        case GraphQLNonNull():
            yield from hostile_values(kind.of_type)
        case GraphQLList():
            yield from ([value] for value in hostile_values(kind.of_type))
            yield from ([a_value(kind.of_type)] * count for count in ITEMS)
        case _ if is_input_object_type(kind):
            for name, field in kind.fields.items():
                for value in hostile_values(field.type):
                    yield {**a_value(kind), name: value}
        case _ if get_named_type(kind).name == "Int":
            yield from NUMBERS
        case _ if is_leaf_type(kind) and not is_enum_type(kind):
            yield from STRINGS.values()


def operations_of(name: str, field: GraphQLField, around: str) -> Iterator[dict[str, Any]]:
    """Each with one hostile value. `around` names the place of the field, as `$field`."""
    for call in calls_of(name, field, hostile_values):
        document = around.replace("$declared", call.declared).replace("$field", call.text)
        yield {"query": document, "variables": call.variables}


def fields() -> Iterator[tuple[str, GraphQLField, str]]:
    schema = executable_schema()._schema
    assert schema.query_type
    assert schema.mutation_type
    viewer = schema.type_map["Viewer"]
    assert isinstance(viewer, GraphQLObjectType)
    for kind, around in (
        (schema.query_type, "query($declared) { $field }"),
        (schema.mutation_type, "mutation($declared) { $field }"),
        (viewer, "query($declared) { viewer { $field } }"),
    ):
        for name, field in kind.fields.items():
            if field.args:
                yield name, field, around


@pytest.fixture(scope="module")
async def api(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    async with an_api(mongodb_uri, tmp_path_factory.mktemp("api")) as api:
        yield api


@pytest.mark.parametrize(
    ("name", "field", "around"),
    list(fields()),
    ids=[f"{name} {around[:5]}" for name, _, around in fields()],
)
async def test_no_input_causes_an_internal_error(
    api: Api, name: str, field: GraphQLField, around: str
) -> None:
    token = DevelopmentIssuer(api.log_path.parent).token("ana")
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    async with (
        others_are_served(api),
        open_http(base_url=api.url, headers=headers) as http,
    ):
        for body in operations_of(name, field, around):
            content = json.dumps(body, ensure_ascii=False).encode()

            answer = await http.post("/graphql", content=content)

            assert answer.status_code in (200, 400, 413), (answer.text[:500], content[:500])
            assert "INTERNAL" not in answer.text, (answer.text[:500], content[:500])
            assert len(answer.content) < MAX_ANSWER_BYTES


async def test_no_hostile_input_is_logged_with_a_traceback(api: Api) -> None:
    assert "Traceback" not in api.text_of_log()
