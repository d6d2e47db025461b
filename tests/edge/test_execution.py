"""How an operation is executed: its result, its errors and its cost."""

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import Any, cast
from uuid import uuid4

import orjson
import pytest
from graphql import (
    GraphQLError,
    IntrospectionQuery,
    OperationDefinitionNode,
    OperationType,
    build_client_schema,
    get_introspection_query,
    parse,
)

from bootstrap import Api
from domain.ids import viewer_id_of
from domain.viewers import Viewer
from edge.documents import Documents, read_document
from edge.execution import OperationExecutor, executable_schema
from edge.outcomes import Answered, Operation, Outcome, Reason, Rejected, Result, Streaming
from edge.side_thread import SideThread
from schema.context import ANONYMOUS, Scope
from settings import Limits
from subscriptions.viewer import ViewerUpdates

QUERIES = frozenset({OperationType.QUERY})
CREDITS = "subscription { viewerUpdated { id credits { available } } }"


def a_scope() -> Scope:
    return Scope(Viewer(viewer_id_of("tests", uuid4().hex)))


async def run(
    executor: OperationExecutor, document: str, scope: Scope = ANONYMOUS, **options: Any
) -> Outcome:
    operation = Operation(document=document, **options)
    return await executor.execute(operation, scope=scope, request_id="the request")


async def answered(executor: OperationExecutor, document: str, scope: Scope = ANONYMOUS) -> Result:
    outcome = await run(executor, document, scope)
    assert isinstance(outcome, Answered)
    return outcome.result


async def test_a_query_returns_its_cost(executor: OperationExecutor) -> None:
    document = "{ viewer { conversations(first: 7) { nodes { id } } } again: __typename }"

    outcome = await run(executor, document, a_scope())

    assert isinstance(outcome, Answered)
    assert outcome.result.body == {
        "data": {"viewer": {"conversations": {"nodes": []}}, "again": "Query"}
    }
    assert (outcome.cost.items, outcome.cost.depth) == (8, 4)
    assert (outcome.cost.aliases, outcome.cost.root_fields) == (1, 2)


@pytest.mark.parametrize(
    ("document", "options", "reason", "code", "kind"),
    [
        ("{", {}, Reason.SYNTAX, "GRAPHQL_PARSE_FAILED", None),
        ("", {}, Reason.SYNTAX, "GRAPHQL_PARSE_FAILED", None),
        (
            "query A { __typename }",
            {"name": "B"},
            Reason.UNKNOWN_OPERATION,
            "OPERATION_RESOLUTION_FAILED",
            None,
        ),
        (
            CREDITS,
            {"kinds": QUERIES},
            Reason.KIND,
            "OPERATION_KIND_NOT_SUPPORTED",
            OperationType.SUBSCRIPTION,
        ),
        ("{ nonsense }", {}, Reason.INVALID, "GRAPHQL_VALIDATION_FAILED", OperationType.QUERY),
        (
            "query A { __typename } query B { __typename }",
            {},
            Reason.NAME_MISSING,
            "OPERATION_RESOLUTION_FAILED",
            OperationType.QUERY,
        ),
        (
            "{ viewer { conversations(first: 100) { nodes { turns { nodes { id } } } } } }",
            {},
            Reason.COST,
            "QUERY_TOO_COMPLEX",
            OperationType.QUERY,
        ),
    ],
)
async def test_an_error_before_execution_is_returned_as_data(  # noqa: PLR0917
    executor: OperationExecutor,
    document: str,
    options: dict[str, Any],
    reason: Reason,
    code: str,
    kind: OperationType | None,
) -> None:
    outcome = await run(executor, document, a_scope(), **options)

    assert isinstance(outcome, Rejected)
    assert (outcome.reason, outcome.kind) == (reason, kind)
    assert outcome.result.codes == (code,)
    assert not outcome.result.has_run
    assert (outcome.cost is None) == (reason is not Reason.COST)


async def test_the_cost_of_a_refused_operation_is_reported(executor: OperationExecutor) -> None:
    outcome = await run(
        executor, "query($n: Int = 2000) { viewer { images(first: $n) { nodes { id } } } }"
    )

    assert isinstance(outcome, Rejected)
    assert outcome.cost is not None
    assert outcome.cost.items == 2001


async def test_an_operation_without_a_viewer_can_read_public_fields(
    executor: OperationExecutor,
) -> None:
    models = await answered(executor, '{ model(id: "local-silver") { id } }')
    viewer = await answered(executor, "{ viewer { id } }")

    assert models.data == {"model": {"id": "local-silver"}}
    assert viewer.codes == ("UNAUTHENTICATED",)
    assert viewer.has_run
    assert viewer.body["data"] is None


async def test_an_internal_error_is_masked(api: Api) -> None:
    broken = OperationExecutor(replace(api.services, registry=cast(Any, None)))

    result = await answered(broken, "{ __typename models { id } }")

    assert result.errors == (
        {
            "message": "Something went wrong on our side.",
            "extensions": {"code": "INTERNAL", "requestId": "the request"},
            "path": ["models"],
        },
    )


@pytest.mark.parametrize("document", ["{ viewer { conversations { nodes { id } } } }"])
async def test_an_operation_has_a_time_limit(api: Api, document: str) -> None:
    executor = OperationExecutor(api.services, Limits(operation_seconds=1e-6))

    result = await answered(executor, document, a_scope())

    assert result.codes == ("DEADLINE_EXCEEDED",)
    assert not result.has_run


async def test_an_operation_that_gets_no_room_in_time_can_be_sent_again(api: Api) -> None:
    limits = Limits(process_requests_in_flight=1, operation_seconds=0.1)
    executor = OperationExecutor(api.services, limits)
    await executor._room.enter("another client", ends_at=asyncio.get_running_loop().time())

    outcome = await run(executor, "{ __typename }", a_scope())

    assert isinstance(outcome, Rejected)
    assert outcome.result.codes == ("OVERLOADED",)


async def test_closing_the_stream_ends_its_subscription(
    api: Api, executor: OperationExecutor
) -> None:
    hub = cast(ViewerUpdates, api.services.updates.viewers).hub

    outcome = await run(executor, CREDITS, a_scope())
    assert isinstance(outcome, Streaming)
    async with aclosing(outcome.open()) as results:
        async with asyncio.timeout(10):
            first = await anext(results)
        while_open = hub.subscriber_count

    assert first.has_run
    assert outcome.cost.items == 1
    assert (while_open, hub.subscriber_count) == (1, 0)


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ('subscription { turnUpdated(conversationId: "x") { cursor } }', "NOT_FOUND"),
        (CREDITS, "UNAUTHENTICATED"),
    ],
)
async def test_a_stream_whose_source_fails_ends_with_the_error(
    executor: OperationExecutor, document: str, code: str
) -> None:
    outcome = await run(executor, document, ANONYMOUS if code == "UNAUTHENTICATED" else a_scope())

    assert isinstance(outcome, Streaming)
    async with aclosing(outcome.open()) as results, asyncio.timeout(10):
        found = [result async for result in results]
    assert [result.codes for result in found] == [(code,)]
    assert not found[0].has_run


async def test_an_invalid_variable_of_a_subscription_opens_no_stream(
    executor: OperationExecutor,
) -> None:
    document = "subscription($id: ID!) { turnUpdated(conversationId: $id) { cursor } }"

    result = await answered(executor, document, a_scope())

    assert result.codes == ("BAD_USER_INPUT",)
    assert not result.has_run


def test_a_response_that_is_too_large_is_an_error() -> None:
    largest = {"a": "x" * (8 * 1024 * 1024 - len(b'{"data":{"a":""}}'))}
    larger = {"a": largest["a"] + "x"}

    assert len(Result(largest).encoded) == 8 * 1024 * 1024
    answer = orjson.loads(Result(larger).encoded)

    assert answer["data"] is None
    (error,) = answer["errors"]
    assert error["extensions"] == {"code": "RESPONSE_TOO_LARGE"}
    assert error["path"] == ["a"]


async def test_long_lists_do_not_block_the_event_loop(executor: OperationExecutor) -> None:
    rounds = 0

    async def count_rounds() -> None:
        nonlocal rounds
        while True:
            await asyncio.sleep(0)
            rounds += 1

    counting = asyncio.create_task(count_rounds())
    document = "{ " + " ".join(f"a{n}: models {{ id label company }}" for n in range(20)) + " }"
    plain = await answered(executor, document)
    rounds_meanwhile = rounds
    counting.cancel()

    assert rounds_meanwhile > 20
    compiled = await answered(executor, document)
    assert executor.counts == {"plain": 1, "compiled": 1}
    assert plain == compiled


async def test_introspection_runs_outside_the_event_loop(executor: OperationExecutor) -> None:
    result = await answered(executor, get_introspection_query())

    assert build_client_schema(cast("IntrospectionQuery", result.data)).query_type


async def test_a_document_is_parsed_once() -> None:
    documents = Documents(executable_schema()._schema, SideThread())

    read = await documents.read("{ __typename }", reader=None)

    assert documents.find("{ __typename }") is read
    assert documents.find("{ __typename } ") is None


async def test_a_long_document_sent_many_times_at_once_is_parsed_once() -> None:
    documents = Documents(executable_schema()._schema, SideThread())
    text = "{ " + "__typename " * 100 + "}"

    read = await asyncio.gather(*(documents.read(text, reader=number % 3) for number in range(9)))

    assert len(set(map(id, read))) == 1


async def test_the_document_cache_is_bounded() -> None:
    documents = Documents(executable_schema()._schema, SideThread())
    small = "{ __typename }"
    large = [f"{{ {'__typename ' * 1900} }} # {number}" for number in range(40)]
    await documents.read(small, reader=None)

    for text in large:
        await documents.read(text, reader=None)
        assert documents.find(small)

    remembered = [text for text in large if documents.find(text)]
    assert remembered == large[-len(remembered) :]
    assert 5 < len(remembered) < 20


@pytest.mark.parametrize("ends", ["\n", "\r", "\r\n", "\n\r", "\r\r\n\n"])
def test_error_locations_equal_those_of_graphql_core(ends: str) -> None:
    text = f"{{{ends} a {ends}{ends}  b{ends}c}}"

    read = read_document(executable_schema()._schema, text)

    (operation,) = parse(text).definitions
    assert isinstance(operation, OperationDefinitionNode)
    expected = [GraphQLError("", field).locations for field in operation.selection_set.selections]
    assert [error.locations for error in read.errors] == expected
