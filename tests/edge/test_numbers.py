"""Numbers that are too large for an Int, or for Python to read, from clients and from providers."""

import json
import time
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.mentions import mentioned_in, spell_mentions
from domain.outputs import MAX_COUNT, Usage, total_usage
from edge.documents import read_document
from edge.execution import executable_schema
from edge.validation import MAX_COMPARISONS, MAX_ERRORS
from tests.clients import Data, GraphQLClient

DIGITS: Final = "9" * 4_301
CREATE: Final = """mutation($files: [UploadFileInput!]!) {
  createUploads(input: {files: $files}) { uploads { id } userErrors { code path } } }"""
CREATE_ONE: Final = """mutation($input: CreateUploadsInput!) {
  createUploads(input: $input) { uploads { id } userErrors { code path } } }"""
PLAN: Final = """query($input: PlanTurnInput!) {
  planTurn(input: $input) { userErrors { code message } } }"""
TOO_LARGE: Final = [{"code": "UPLOAD_TOO_LARGE", "path": ["input", "files", "0", "byteSize"]}]
# Of more than a second to validate, before there was a limit.
HEAVY: Final = {
    "one field": "{ models { " + "editModel { id } " * 480 + "} }",
    "leaves": "{ models { " + "id " * 1_900 + "} }",
    "deep": "{ models { " + ("editModel { " * 8 + "id" + " }" * 8 + " ") * 70 + "} }",
    "arguments": "{ viewer { " + "conversations(first: 1) { nodes { id } } " * 120 + "} }",
    "inline fragments": "{ models { " + "... { editModel { id } } " * 240 + "} }",
    "fragments": "{ models { "
    + " ".join(f"...F{number}" for number in range(120))
    + " } } "
    + " ".join(
        f"fragment F{number} on ImageModel {{ editModel {{ id }} }}" for number in range(120)
    ),
}


@pytest.mark.parametrize("digits", [DIGITS, "0" * 5_000 + "7", "2147483648", "1" + "0" * 400])
async def test_a_mention_of_an_out_of_range_number_is_unknown(
    client: GraphQLClient, digits: str
) -> None:
    message = f"Blend @Image{digits} in"

    data = await client(PLAN, input={"userMessage": message})

    [error] = [one for one in data["planTurn"]["userErrors"] if one["code"] == "UNKNOWN_MENTION"]
    assert len(error["message"]) < 200


@given(st.integers(1, 12), st.integers(0, 6_000))
def test_a_mention_is_read_as_its_number(number: int, zeros: int) -> None:
    message = f"@Image{'0' * zeros}{number} and @Image{number}{'0' * zeros if zeros > 1 else ''}"

    assert mentioned_in(message)[0] == number
    assert spell_mentions(message, {number: 1}, "image {number}").startswith("image 1 and")


@pytest.mark.parametrize("size", [2**31, 2**32, 2**53, 2**63, 2**64 - 1, 3e9, 1e300])
async def test_a_file_of_any_excessive_size_is_too_large(
    client: GraphQLClient, size: float
) -> None:
    file = {"contentType": "image/png", "byteSize": size}

    several = await client(CREATE, files=[file])
    alone = await client(CREATE, files=file)
    inside = await client(CREATE_ONE, input={"files": [file]})

    for data in (several, alone, inside):
        assert data["createUploads"] == {"uploads": [], "userErrors": TOO_LARGE}


@pytest.mark.parametrize("size", [-(2**31) - 1, -1, 0])
async def test_a_negative_file_size_is_refused_in_the_same_way(
    client: GraphQLClient, size: int
) -> None:
    file = {"contentType": "image/png", "byteSize": size}

    data = await client(CREATE, files=[file])

    assert data["createUploads"] == {"uploads": [], "userErrors": TOO_LARGE}


@pytest.mark.parametrize(
    ("variables", "query"),
    [
        ('{"files": [{"contentType": "image/png", "byteSize": #}]}', CREATE),
        ('{"files": [{"contentType": "image/png", "byteSize": 2147483648.5}]}', CREATE),
        ('{"files": [{"contentType": "image/png", "byteSize": "2147483648"}]}', CREATE),
        ('{"files": [{"contentType": "image/png", "byteSize": true}]}', CREATE),
        ('{"files": [{"contentType": 1e9, "byteSize": 2147483648}]}', CREATE),
        ('{"files": [2147483648, {"byteSizes": 2147483648}]}', CREATE),
        ('{"n": 2147483648}', "query($n: Int) { viewer { images(first: $n) { nodes { id } } } }"),
        ('{"n": #}', "query($n: Int) { viewer { images(first: $n) { nodes { id } } } }"),
        ("{}", "{ viewer { images(first: #) { nodes { id } } } }"),
        ("{}", "query($n: Int = #) { viewer { images(first: $n) { nodes { id } } } }"),
        ("{}", "{ viewer { images(first: 2147483648) { nodes { id } } } }"),
        (
            "{}",
            'mutation { startConversation(input: {userMessage: "a", aspectRatio: #}) { cursor } }',
        ),
        ('{"r": "#:1"}', "query($r: AspectRatio) { models { id } viewer { id } }"),
    ],
    ids=range(13),
)
async def test_an_invalid_number_is_a_client_error(
    client: GraphQLClient, variables: str, query: str
) -> None:
    """`#` stands for a number that Python does not read."""
    body = f'{{"query": {json.dumps(query)}, "variables": {variables}}}'.replace("#", DIGITS)
    answer: Data = (
        await client.http.post(
            "/graphql", content=body, headers={"content-type": "application/json"}
        )
    ).json()

    codes = {error["extensions"]["code"] for error in answer["errors"]}
    assert codes <= {"BAD_USER_INPUT", "BAD_REQUEST", "GRAPHQL_VALIDATION_FAILED"}


def test_a_sum_outside_the_range_of_an_int_is_null() -> None:
    most = Usage(MAX_COUNT, 1, None)

    assert total_usage([most]) == most
    assert total_usage([most, Usage(1, 1, 7)]) == Usage(None, 2, 7)


@pytest.mark.parametrize("query", HEAVY.values(), ids=list(HEAVY))
async def test_a_document_that_is_slow_to_validate_is_too_complex(
    client: GraphQLClient, query: str
) -> None:
    answer = await client.execute(query)

    [error] = answer["errors"]
    assert error["extensions"] == {
        "code": "QUERY_TOO_COMPLEX",
        "limit": "comparisons",
        "max": MAX_COMPARISONS,
        "actual": MAX_COMPARISONS + 1,
    }
    taken = []
    for _ in range(5):
        begin = time.process_time()
        read_document(executable_schema()._schema, query)
        taken.append(time.process_time() - begin)
    assert min(taken) < 0.1


@pytest.mark.parametrize(
    "query",
    [
        'mutation { startConversation(input: {userMessage: "a" '
        + " ".join(f"resolution{number}: ONE" for number in range(600))
        + "}) { cursor } }",
        "{ " + " ".join(f"unknown{number}" for number in range(1_900)) + " }",
    ],
    ids=["an input", "fields"],
)
async def test_a_document_with_many_errors_reports_some_of_them(
    client: GraphQLClient, query: str
) -> None:
    answer = await client.execute(query)

    codes = [error["extensions"]["code"] for error in answer["errors"]]
    assert codes == ["GRAPHQL_VALIDATION_FAILED"] * (MAX_ERRORS + 1)
    assert "id you mean" not in str(answer)


async def test_a_list_that_is_too_long_is_refused_before_it_is_read(client: GraphQLClient) -> None:
    query = "query($ids: [ID!]!) { nodes(ids: $ids) { id } }"

    answer = await client.execute(query, ids=["x"] * 60_000)

    [error] = answer["errors"]
    assert error["extensions"]["code"] == "QUERY_TOO_COMPLEX"
    assert error["extensions"]["actual"] == 60_000


async def test_fragments_can_select_the_same_fields(client: GraphQLClient) -> None:
    """As an app does whose components say each for itself what they show."""
    spread = " ".join(f"...Part{number}" for number in range(20))
    fields = "id label description company available listed isNew __typename"
    parts = " ".join(f"fragment Part{number} on ImageModel {{ {fields} }}" for number in range(20))

    data = await client(f"{{ models {{ {spread} }} }} {parts}")

    assert data["models"][0]["__typename"] == "ImageModel"
