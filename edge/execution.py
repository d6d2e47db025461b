"""The one way to run an operation, whatever the transport.

A transport reads an `Operation` and a `Scope` from its own messages, calls `execute`, and writes
the outcome. What is decided about an operation is decided here: whether it is valid, what it costs,
how long it may take, and what a client sees of its errors.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sized
from contextlib import AsyncExitStack, ExitStack, aclosing
from dataclasses import dataclass, replace
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

from domain.errors import Overloaded, QueryTooComplex, RateLimited, TryLater
from domain.ports.changes import Receiver
from domain.waiting import SemaphoresByKey, answering_until
from edge.capacity import Tally
from edge.compiled.operations import Compiler
from edge.documents import MAX_COMPARISONS, Document, Documents
from edge.errors import present_errors
from edge.large_numbers import clamp_variables
from edge.outcomes import Answered, Operation, Outcome, Reason, Rejected, Result, Streaming
from edge.persisted import (
    DigestWrong,
    DocumentNotKnown,
    DocumentNotTrusted,
    PersistedDocuments,
)
from edge.query_cost import MAX_ITEMS, Cost, check_cost, measure_cost, measure_variables
from edge.side_thread import Pace, SideThread
from edge.subscriptions import SharedAnswers, Subscription
from resolvers.root import build_schema
from schema.context import Request, Scope
from schema.loaders import Loaders
from schema.scalars import write_instant
from schema.services import Services
from settings import Limits

log = structlog.get_logger(__name__)

_T = TypeVar("_T")

VALUES_AT_ONCE: Final = 2_000
"""Operations that may return more take turns, so that several at once do not hold up the loop."""
ITEMS_AT_ONCE: Final = 10
"""Within longer lists graphql-core gives way to others."""
_WAITING_OF_ADDRESS: Final = 100
"""How many operations without a token may wait over HTTP until others of their address have ended.
"""
_MARGIN: Final = 0.1
"""The part of an operation's time that is left when calls to the database give up."""
MAX_COSTS: Final = 64
"""Remembered of one document."""

_CODES: Final[Mapping[Reason, str]] = {
    Reason.PERSISTED: "PERSISTED_QUERY_NOT_FOUND",
    Reason.DIGEST: "BAD_REQUEST",
    Reason.UNTRUSTED: "DOCUMENT_NOT_TRUSTED",
    Reason.SYNTAX: "GRAPHQL_PARSE_FAILED",
    Reason.UNKNOWN_OPERATION: "OPERATION_RESOLUTION_FAILED",
    Reason.KIND: "OPERATION_KIND_NOT_SUPPORTED",
    Reason.INVALID: "GRAPHQL_VALIDATION_FAILED",
    Reason.NAME_MISSING: "OPERATION_RESOLUTION_FAILED",
    Reason.COST: QueryTooComplex.code,
    Reason.TIME: "DEADLINE_EXCEEDED",
    Reason.RATE: RateLimited.code,
    Reason.CAPACITY: RateLimited.code,
    Reason.SUBSCRIPTIONS: "TOO_MANY_SUBSCRIPTIONS",
}
_PERSISTED: Final[Mapping[type[Exception], tuple[Reason, str]]] = {
    # Apollo Client and urql know these words.
    DocumentNotKnown: (Reason.PERSISTED, "PersistedQueryNotFound"),
    DigestWrong: (Reason.DIGEST, "The digest is not that of the document."),
    DocumentNotTrusted: (Reason.UNTRUSTED, "Only listed documents can be executed here."),
}
_TOO_MANY: Final = GraphQLError("A viewer cannot have more subscriptions at the same time.")
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

    def __init__(
        self,
        services: Services,
        limits: Limits | None = None,
        persisted: PersistedDocuments | None = None,
    ) -> None:
        self._services = services
        self._persisted = persisted or PersistedDocuments()
        self._limits = limits = limits or Limits()
        self._running = SemaphoresByKey(limits.requests_in_flight)
        self._running_in_all = asyncio.Semaphore(limits.process_requests_in_flight)
        self._waiting_of_nobody = Tally(_WAITING_OF_ADDRESS)
        self._subscriptions = Tally(limits.viewer_subscriptions)
        self._subscriptions_of_nobody = Tally(limits.address_subscriptions)
        # graphql-core's schema: Strawberry's own `execute` parses, validates and runs in one call.
        self._schema = executable_schema()._schema
        self._executor_class = executable_schema().execution_context_class
        self._pace = Pace()
        self._paced_class = _paced(self._executor_class, self._pace)
        self.thread = SideThread()
        """For what would hold up the event loop."""
        self._documents = Documents(self._schema, self.thread)
        self._compiler = Compiler(executable_schema())
        self._shared = SharedAnswers()
        self.counts: Counter[str] = Counter()
        """How many queries and subscriptions began `compiled`; what graphql-core ran is `plain`."""

    @property
    def group_count(self) -> int:
        """How many groups of subscribers get the same answers at the moment."""
        return len(self._shared.groups)

    @property
    def ends_at(self) -> float:
        """When the time of an operation that begins at present is over, in the loop's time."""
        return asyncio.get_running_loop().time() + self._limits.operation_seconds

    async def execute(
        self,
        operation: Operation,
        *,
        scope: Scope,
        request_id: str,
        ends_at: float | None = None,
        waits: bool = False,
    ) -> Outcome:
        """Run an operation for a scope. What goes wrong with it is in the outcome.

        `ends_at`: when its time is over, in the time of the event loop. `waits`: whether it waits
        where too many are running, instead of being rejected at once. Without a token some wait in
        any case: many may be behind one address.
        """
        ends_at = self.ends_at if ends_at is None else ends_at
        own = self._running.get(scope.client)
        try:
            if not waits and self._running_in_all.locked():
                raise Overloaded
            async with AsyncExitStack() as held:
                if not waits and own.locked():
                    self._wait_among_nobody(scope, held)
                async with asyncio.timeout_at(ends_at):
                    await held.enter_async_context(own)
                    await held.enter_async_context(self._running_in_all)
                margin = _MARGIN * self._limits.operation_seconds
                with answering_until(ends_at - margin):
                    return await self._execute(operation, scope, request_id, ends_at)
        except TryLater as error:
            limited = GraphQLError(str(error), original_error=error)
            rejection = _Rejection(reason=Reason.CAPACITY, errors=[limited])
        except TimeoutError:
            rejection = _Rejection(reason=Reason.TIME, errors=[_TOO_SLOW])
        return self._reject(rejection, request_id)

    def _wait_among_nobody(self, scope: Scope, held: AsyncExitStack) -> None:
        """Raise RateLimited where it is not to wait."""
        leave = self._waiting_of_nobody.enter(scope.client) if scope.viewer is None else None
        if leave is None:
            raise RateLimited("Too many operations are running.", retry_after_seconds=1)
        held.callback(leave)

    def _reject(
        self,
        rejection: _Rejection,
        request_id: str,
        extensions: Mapping[str, object] | None = None,
    ) -> Rejected:
        errors = present_errors(
            rejection.errors, request_id=request_id, invalid_code=_CODES[rejection.reason]
        )
        return Rejected(
            reason=rejection.reason,
            result=Result(None, errors, extensions),
            kind=rejection.kind,
            cost=rejection.cost,
        )

    async def _execute(
        self, operation: Operation, scope: Scope, request_id: str, ends_at: float
    ) -> Outcome:
        plan = await self._plan_within_rates(operation, scope, ends_at)
        extensions = self._show_cost(plan, scope) if operation.wants_cost else None
        if isinstance(plan, _Rejection):
            return self._reject(plan, request_id, extensions)
        request = Request(
            id=request_id,
            scope=scope,
            services=self._services,
            load=Loaders(self._services, scope.require_viewer),
            cost=plan.cost.total,
        )
        if plan.kind is OperationType.SUBSCRIPTION:
            return await self._subscribe(plan, request, ends_at)
        started = await self._start_in_time(plan, request, ends_at)
        assert isinstance(started, ExecutionResult)
        result = _present(started, request_id)
        if extensions:
            result = Result(result.data, result.errors, extensions)
        return Answered(kind=plan.kind, result=result, cost=plan.cost)

    async def _subscribe(self, plan: _Runnable, request: Request, ends_at: float) -> Outcome:
        is_nobody = request.scope.viewer is None
        tally = self._subscriptions_of_nobody if is_nobody else self._subscriptions
        release = tally.enter(request.scope.client)
        if release is None:
            rejection = _Rejection(
                reason=Reason.SUBSCRIPTIONS, errors=[_TOO_MANY], kind=plan.kind, cost=plan.cost
            )
            return self._reject(rejection, request.id)
        with ExitStack() as held:
            held.callback(release)
            try:
                async with asyncio.timeout_at(ends_at):
                    subscription = await self._compile_subscription(plan, request)
            except TimeoutError:
                late = _present(_late_result(), request.id)
                return Answered(kind=plan.kind, result=late, cost=plan.cost)
            if subscription is not None:
                held.pop_all()
                return _stream(subscription, plan.cost, release)
            started = await self._start_in_time(plan, request, ends_at)
            if isinstance(started, ExecutionResult):
                result = _present(started, request.id)
                return Answered(kind=plan.kind, result=result, cost=plan.cost)
            held.pop_all()
        results = (_present(result, request.id) async for result in started)
        return Streaming(
            open=lambda: _ended_by_errors(results, request.id), cost=plan.cost, release=release
        )

    async def _start_in_time(
        self, plan: _Runnable, request: Request, ends_at: float
    ) -> ExecutionResult | AsyncGenerator[ExecutionResult, None]:
        try:
            async with asyncio.timeout_at(ends_at):
                return await self._start(plan, request)
        except TimeoutError:
            return _late_result()
        except Exception as failure:
            return _failed_result(failure)

    async def _plan_within_rates(
        self, operation: Operation, scope: Scope, ends_at: float
    ) -> _Runnable | _Rejection:
        """Plan, and take the operation from the client's buckets, also if it is rejected."""
        rates = self._services.rate_limits
        plan: _Runnable | _Rejection
        try:
            rates.check(scope.client)
            operation = await self._look_up(operation)
            document = self._documents.find(operation.document)
            plan = (
                await self._read_and_plan(operation, scope, ends_at)
                if document is None
                else self._plan(operation, document)
            )
            if operation.persisted is not None and isinstance(plan, _Runnable):
                assert operation.document is not None
                await self._persisted.keep(operation.document, operation.persisted)
        except (DocumentNotKnown, DigestWrong, DocumentNotTrusted) as error:
            reason, message = _PERSISTED[type(error)]
            plan = _Rejection(reason=reason, errors=[GraphQLError(message)])
        except RateLimited as error:
            return _limited(error)
        cost = plan.cost.total if isinstance(plan, _Runnable) else 0
        try:
            await rates.take(scope.client, is_viewer=scope.viewer is not None, cost=cost)
        except RateLimited as error:
            return _limited(error, plan.kind, plan.cost)
        return plan

    async def _look_up(self, operation: Operation) -> Operation:
        """Put the document into an operation that names it."""
        if not self._persisted.needs_looking_up(operation.document, operation.persisted):
            return operation
        found = await self._persisted.find(operation.document, operation.persisted)
        return replace(operation, document=found)

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
        assert operation.document is not None
        try:
            async with asyncio.timeout_at(ends_at):
                document = await self._documents.read(operation.document, reader=scope.key)
        except GraphQLSyntaxError as error:
            return _Rejection(reason=Reason.SYNTAX, errors=[error])
        except QueryTooComplex as error:
            return _reject_too_complex(error)
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
        longest = 0
        if any(isinstance(value, list | dict) for value in given.values()):
            sizes = measure_variables(node, given)
            longest = max((size.list_length for _, size in sizes), default=0)
        if longest > MAX_ITEMS:
            # To coerce it would take long, and it could only be refused after that.
            lists = QueryTooComplex("items", maximum=MAX_ITEMS, actual=longest)
            return _reject_too_complex(lists, kind)
        variables = self._compiler.variables(document, node, given)
        if variables is None:
            given = clamp_variables(self._schema, node, given)
            variables = self._compiler.variables(document, node, given)
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
            return await self.thread.call(
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

        self.counts["compiled"] += 1
        run = partial(self._run_event, plan, request)
        return Subscription(compiled, request, variables, self._shared, run)

    def _run_event(
        self, plan: _Runnable, request: Request, event: object
    ) -> Result | Awaitable[Result]:
        result = self._run(plan, request, event)
        if isinstance(result, ExecutionResult):
            return _present(result, request.id)
        return _present_later(result, request.id)

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
        return await self.thread.call(request.scope.key, compiling)


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


def _limited(
    error: RateLimited, kind: OperationType | None = None, cost: Cost | None = None
) -> _Rejection:
    limited = GraphQLError(str(error), original_error=error)
    return _Rejection(reason=Reason.RATE, errors=[limited], kind=kind, cost=cost)


def _reject_too_complex(
    error: QueryTooComplex, kind: OperationType | None = None, cost: Cost | None = None
) -> _Rejection:
    too_complex = GraphQLError(str(error), original_error=error)
    return _Rejection(reason=Reason.COST, errors=[too_complex], kind=kind, cost=cost)


def _stream(subscription: Subscription, cost: Cost, release: Callable[[], None]) -> Streaming:
    delivers = subscription.compiled.delivers
    return Streaming(
        open=lambda: _ended_by_errors(subscription.results(), subscription.request.id),
        cost=cost,
        deliver=partial(_deliver, subscription) if delivers else None,
        release=release,
    )


async def _deliver(subscription: Subscription, to: Receiver[Result]) -> Result | None:
    try:
        await subscription.deliver(to)
    except Exception as failure:
        return _present(_failed_result(failure), subscription.request.id)
    return None


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


def _late_result() -> ExecutionResult:
    return ExecutionResult(None, [_TOO_SLOW])


def _failed_result(failure: Exception) -> ExecutionResult:
    return ExecutionResult(None, [GraphQLError(str(failure), original_error=failure)])
