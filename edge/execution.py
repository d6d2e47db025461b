"""The one way to run an operation, whatever the transport.

A transport reads an `Operation` and a `Scope` from its own messages, calls `execute`, and writes
the outcome. What is decided about an operation is decided here: whether it is valid, what it costs,
how long it may take, and what a client sees of its errors.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sized
from contextlib import aclosing
from dataclasses import dataclass
from functools import cache, partial
from inspect import isawaitable
from typing import Any, Final, TypeVar, cast

import strawberry
import structlog
from graphql import (
    ExecutionResult,
    GraphQLError,
    GraphQLOutputType,
    GraphQLSyntaxError,
    OperationDefinitionNode,
    OperationType,
    get_named_type,
    is_leaf_type,
)
from graphql import execute as run_document
from graphql import subscribe as open_stream
from graphql.execution import Executor
from graphql.execution.values import VariableValues
from strawberry.execution import optimized_is_awaitable

from domain.errors import QueryTooComplex, RateLimited
from domain.ports.changes import Receiver
from edge.compiled.operations import Compiler
from edge.documents import MAX_COMPARISONS, Document, Documents
from edge.errors import present_errors
from edge.large_numbers import clamp_variables
from edge.outcomes import Answered, Operation, Outcome, Reason, Rejected, Result, Streaming
from edge.query_cost import MAX_ITEMS, Cost, check_cost, measure_cost, measure_variables
from edge.side_thread import Pace, SideThread
from edge.subscriptions import SharedAnswers, Subscription
from resolvers.root import build_schema
from schema.context import Request, Scope
from schema.loaders import Loaders
from schema.scalars import write_instant
from schema.services import Services

log = structlog.get_logger(__name__)

_T = TypeVar("_T")

OPERATION_SECONDS: Final = 10.0
"""For a query or mutation as a whole, and for a subscription until its stream is open."""
VALUES_AT_ONCE: Final = 2_000
"""Operations that may return more take turns, so that several at once do not hold up the loop."""
ITEMS_AT_ONCE: Final = 10
"""Within longer lists graphql-core gives way to others."""
MAX_COSTS: Final = 64
"""Remembered of one document."""

_CODES: Final[Mapping[Reason, str]] = {
    Reason.PERSISTED: "PERSISTED_QUERY_NOT_SUPPORTED",
    Reason.SYNTAX: "GRAPHQL_PARSE_FAILED",
    Reason.UNKNOWN_OPERATION: "OPERATION_RESOLUTION_FAILED",
    Reason.KIND: "OPERATION_KIND_NOT_SUPPORTED",
    Reason.INVALID: "GRAPHQL_VALIDATION_FAILED",
    Reason.NAME_MISSING: "OPERATION_RESOLUTION_FAILED",
    Reason.COST: QueryTooComplex.code,
    Reason.TIME: "DEADLINE_EXCEEDED",
    Reason.RATE: RateLimited.code,
}
_TOO_SLOW: Final = GraphQLError(
    "The operation took too long.", extensions={"code": "DEADLINE_EXCEEDED"}
)


@dataclass(frozen=True, slots=True)
class _Runnable:
    """An operation that may run."""

    document: Document
    operation: OperationDefinitionNode
    kind: OperationType
    given: Mapping[str, Any]
    """The variables as the client gave them, but for large numbers."""
    variables: VariableValues | None
    """As they run, such as 100 for the 100.0 of an Int. None where they are not valid."""
    cost: Cost


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rejection:
    """Why an operation may not run."""

    reason: Reason
    errors: Iterable[GraphQLError]
    kind: OperationType | None = None
    cost: Cost | None = None


@cache
def executable_schema() -> strawberry.Schema:
    """The schema that is executed, built once in a process."""
    return build_schema()


class OperationExecutor:
    """Runs operations. Their fields may use the services."""

    def __init__(self, services: Services) -> None:
        self._services = services
        # graphql-core's schema: Strawberry's own `execute` parses, validates and runs in one call.
        self._schema = executable_schema()._schema
        self._executor_class = executable_schema().execution_context_class
        self._pace = Pace()
        self._paced_class = _paced(self._executor_class, self._pace)
        self._thread = SideThread()
        self._documents = Documents(self._schema, self._thread)
        self._compiler = Compiler(executable_schema())
        self._shared = SharedAnswers()
        self.counts: Counter[str] = Counter()
        """How many queries and subscriptions began `compiled`; what graphql-core ran is `plain`."""

    @property
    def group_count(self) -> int:
        """How many groups of subscribers get the same answers at the moment."""
        return len(self._shared.groups)

    async def execute(self, operation: Operation, *, scope: Scope, request_id: str) -> Outcome:
        """Run an operation for a scope. What goes wrong with it is in the outcome."""
        ends_at = asyncio.get_running_loop().time() + OPERATION_SECONDS
        plan = await self._plan_within_rates(operation, scope, ends_at)
        extensions = self._show_cost(plan, scope) if operation.wants_cost else None
        if isinstance(plan, _Rejection):
            errors = present_errors(
                plan.errors, request_id=request_id, invalid_code=_CODES[plan.reason]
            )
            result = Result(None, errors, extensions)
            return Rejected(reason=plan.reason, result=result, kind=plan.kind, cost=plan.cost)
        request = Request(
            id=request_id,
            scope=scope,
            services=self._services,
            load=Loaders(self._services, scope.require_viewer),
            cost=plan.cost.total,
        )
        try:
            async with asyncio.timeout_at(ends_at):
                if plan.kind is OperationType.SUBSCRIPTION:
                    subscription = await self._compile_subscription(plan, request)
                    if subscription is not None:
                        return _stream(subscription, plan.cost)
                started = await self._start(plan, request)
        except TimeoutError:
            started = ExecutionResult(None, [_TOO_SLOW])
        except Exception as failure:
            started = _failed_result(failure)
        if isinstance(started, ExecutionResult):
            result = _present(started, request_id)
            if extensions:
                result = Result(result.data, result.errors, extensions)
            return Answered(kind=plan.kind, result=result, cost=plan.cost)
        results = (_present(result, request_id) async for result in started)
        return Streaming(results=_ended_by_errors(results, request_id), cost=plan.cost)

    async def _plan_within_rates(
        self, operation: Operation, scope: Scope, ends_at: float
    ) -> _Runnable | _Rejection:
        """Plan, and take the operation from the client's buckets, also if it is rejected."""
        rates, plan = self._services.rate_limits, None
        try:
            rates.check(scope.client)
            document = self._documents.find(operation.document)
            plan = (
                await self._read_and_plan(operation, scope, ends_at)
                if document is None
                else self._plan(operation, document)
            )
            cost = plan.cost.total if isinstance(plan, _Runnable) else 0
            await rates.take(scope.client, is_viewer=scope.viewer is not None, cost=cost)
        except RateLimited as error:
            limited = GraphQLError(str(error), original_error=error)
            kind, costs = (plan.kind, plan.cost) if plan else (None, None)
            return _Rejection(reason=Reason.RATE, errors=[limited], kind=kind, cost=costs)
        return plan

    def _show_cost(self, plan: _Runnable | _Rejection, scope: Scope) -> Mapping[str, object]:
        state = self._services.rate_limits.state(
            scope.client,
            is_viewer=scope.viewer is not None,
            cost=plan.cost.total if plan.cost else 0,
        )
        shown = {
            "cost": state.cost,
            "limit": state.limit,
            "remaining": state.remaining,
            "resetAt": write_instant(state.reset_at),
        }
        return {"cost": shown}

    async def _read_and_plan(
        self, operation: Operation, scope: Scope, ends_at: float
    ) -> _Runnable | _Rejection:
        """Parse and validate, then plan."""
        if operation.document is None:
            # Apollo Client and urql know these words.
            message = "PersistedQueryNotSupported"
            return _Rejection(reason=Reason.PERSISTED, errors=[GraphQLError(message)])
        try:
            async with asyncio.timeout_at(ends_at):
                document = await self._documents.read(operation.document, reader=scope.key)
        except GraphQLSyntaxError as error:
            return _Rejection(reason=Reason.SYNTAX, errors=[error])
        except TimeoutError:
            return _Rejection(reason=Reason.TIME, errors=[_TOO_SLOW])
        return self._plan(operation, document)

    def _plan(self, operation: Operation, document: Document) -> _Runnable | _Rejection:
        """Check and measure. The order decides which error a client sees."""
        node = document.find_operation(operation.name)
        if node is None:
            message = "The document has no operation of this name."
            return _Rejection(reason=Reason.UNKNOWN_OPERATION, errors=[GraphQLError(message)])
        kind = node.operation
        if kind not in operation.kinds:
            message = f"A {kind.value} is not supported here."
            return _Rejection(reason=Reason.KIND, errors=[GraphQLError(message)], kind=kind)
        if document.too_complex:
            comparisons = QueryTooComplex(
                "comparisons", maximum=MAX_COMPARISONS, actual=MAX_COMPARISONS + 1
            )
            return _reject_too_complex(comparisons, kind)
        if document.errors:
            return _Rejection(reason=Reason.INVALID, errors=document.errors, kind=kind)
        if operation.name is None and len(document.operations) > 1:
            message = "The document has several operations: set `operationName`."
            return _Rejection(reason=Reason.NAME_MISSING, errors=[GraphQLError(message)], kind=kind)
        given = operation.variables or {}
        sizes = measure_variables(node, given)
        longest = max((size.list_length for _, size in sizes), default=0)
        if longest > MAX_ITEMS:
            # To coerce it would take long, and it could only be refused after that.
            lists = QueryTooComplex("items", maximum=MAX_ITEMS, actual=longest)
            return _reject_too_complex(lists, kind)
        variables = self._compiler.variables(node, given)
        if variables is None:
            given = clamp_variables(self._schema, node, given)
            variables = self._compiler.variables(node, given)
        cost = self._measure(document, node, variables.coerced if variables else {})
        try:
            check_cost(cost, kind)
        except QueryTooComplex as error:
            return _reject_too_complex(error, kind, cost)
        return _Runnable(document, node, kind, given, variables, cost)

    def _measure(
        self, document: Document, node: OperationDefinitionNode, variables: Mapping[str, Any]
    ) -> Cost:
        key = (id(node), measure_variables(node, variables))
        cost = document.costs.get(key)
        if cost is None:
            cost = measure_cost(self._schema, document.node, node, variables=variables)
            if len(document.costs) < MAX_COSTS:
                document.costs[key] = cost
        return cast("Cost", cost)

    async def _start(
        self, plan: _Runnable, request: Request
    ) -> ExecutionResult | AsyncGenerator[ExecutionResult, None]:
        """Run a query or mutation to its end, or open the stream of a subscription."""
        if plan.cost.is_introspection:
            return await self._thread.call(
                request.scope.key, lambda: self._introspect(plan, request)
            )
        if plan.cost.values > VALUES_AT_ONCE:
            await self._pace.wait()
        if plan.kind is OperationType.QUERY and plan.document.uses > 1:
            data = await self._run_compiled(plan, request)
            if data is not None:
                return ExecutionResult(data, None)
        if plan.kind is OperationType.SUBSCRIPTION:
            started = open_stream(self._schema, plan.document.node, **self._options(plan, request))
        else:
            started = self._run(plan, request, executor_class=self._paced_class)
        if isawaitable(started):
            started = await started
        return cast("ExecutionResult | AsyncGenerator[ExecutionResult, None]", started)

    def _introspect(self, plan: _Runnable, request: Request) -> ExecutionResult:
        """Called in the thread. The fields of introspection wait for nothing."""
        result = self._run(plan, request)
        assert isinstance(result, ExecutionResult)
        return result

    def _run(
        self, plan: _Runnable, request: Request, root: object = None, **more: Any
    ) -> ExecutionResult | Awaitable[ExecutionResult]:
        """Have graphql-core run an operation, or a subscription for one event, its root."""
        self.counts["plain"] += 1
        options = {**self._options(plan, request), **more}
        # Called for each value: Strawberry's recognises plain ones faster than graphql-core's.
        options["is_awaitable"] = optimized_is_awaitable
        return run_document(self._schema, plan.document.node, root, **options)

    def _options(self, plan: _Runnable, request: Request) -> dict[str, Any]:
        name = plan.operation.name
        return {
            "context_value": request,
            "variable_values": plan.given,
            "operation_name": name.value if name else None,
            "executor_class": self._executor_class,
            "hide_suggestions": True,
        }

    async def _run_compiled(self, plan: _Runnable, request: Request) -> dict[str, Any] | None:
        """Answer a query by compiled functions. None where graphql-core has to run it."""
        variables = plan.variables
        if variables is None:
            return None
        compiled = await self._compile(self._compiler.query, plan, request, variables)
        if compiled is None:
            return None
        try:
            answer = await compiled.answer(request, variables)
        except Exception as surprise:
            log.debug("run again by graphql-core", error=repr(surprise))
            return None
        self.counts["compiled"] += 1
        return answer

    async def _compile_subscription(self, plan: _Runnable, request: Request) -> Subscription | None:
        """None where graphql-core has to run it."""
        variables = plan.variables
        if variables is None:
            return None
        compiled = await self._compile(self._compiler.subscription, plan, request, variables)
        if compiled is None:
            return None

        def run(event: object) -> Result | Awaitable[Result]:
            result = self._run(plan, request, event)
            if isinstance(result, ExecutionResult):
                return _present(result, request.id)
            return _present_later(result, request.id)

        self.counts["compiled"] += 1
        return Subscription(compiled, request, variables, self._shared, run)

    async def _compile(
        self,
        compile_operation: Callable[[Document, OperationDefinitionNode, VariableValues], _T],
        plan: _Runnable,
        request: Request,
        variables: VariableValues,
    ) -> _T:
        """Compile in the thread what would take long, once."""
        compiling = partial(compile_operation, plan.document, plan.operation, variables)
        is_known = self._compiler.has_compiled(plan.document, plan.operation, variables)
        if is_known or not plan.document.is_long:
            return compiling()
        return await self._thread.call(request.scope.key, compiling)


def _paced(executor_class: type[Executor[Any]], pace: Pace) -> type[Executor[Any]]:
    """An executor that gives way to others within lists of objects."""

    class PacedExecutor(executor_class):  # type: ignore[misc, valid-type]
        def complete_iterable_value(
            self,
            item_type: GraphQLOutputType,
            fields: Any,
            info: Any,
            path: Any,
            items: Any,
            *at: Any,
        ) -> Any:
            is_long = isinstance(items, Sized) and len(items) > ITEMS_AT_ONCE
            if not is_long or is_leaf_type(get_named_type(item_type)):
                return super().complete_iterable_value(item_type, fields, info, path, items, *at)
            return self.complete_async_iterator_value(
                item_type, fields, info, path, pace.through(items), *at
            )

    return PacedExecutor


def _reject_too_complex(
    error: QueryTooComplex, kind: OperationType, cost: Cost | None = None
) -> _Rejection:
    too_complex = GraphQLError(str(error), original_error=error)
    return _Rejection(reason=Reason.COST, errors=[too_complex], kind=kind, cost=cost)


def _stream(subscription: Subscription, cost: Cost) -> Streaming:
    request_id = subscription.request.id
    results = _ended_by_errors(subscription.results(), request_id)

    async def deliver(to: Receiver[Result]) -> Result | None:
        try:
            await subscription.deliver(to)
        except Exception as failure:
            return _present(_failed_result(failure), request_id)
        return None

    delivers = subscription.compiled.delivers
    return Streaming(results=results, cost=cost, deliver=deliver if delivers else None)


async def _ended_by_errors(
    results: AsyncGenerator[Result, None], request_id: str
) -> AsyncGenerator[Result, None]:
    async with aclosing(results):
        try:
            async for result in results:
                yield result
        except Exception as failure:
            # The source of a subscription failed; in a field, graphql-core makes it an error.
            yield _present(_failed_result(failure), request_id)


async def _present_later(running: Awaitable[ExecutionResult], request_id: str) -> Result:
    return _present(await running, request_id)


def _present(result: ExecutionResult, request_id: str) -> Result:
    return Result(result.data, present_errors(result.errors or (), request_id=request_id))


def _failed_result(failure: Exception) -> ExecutionResult:
    return ExecutionResult(None, [GraphQLError(str(failure), original_error=failure)])
