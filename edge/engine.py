"""What answers an operation that may run: compiled functions, or else graphql-core.

What must stay true: no operation holds up the event loop for long. What would is done in a thread,
or in slices between which others get their turn.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sized
from functools import partial
from inspect import isawaitable
from typing import Any, Final, TypeVar, cast

import strawberry
import structlog
from graphql import (
    ExecutionResult,
    GraphQLOutputType,
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

from edge.compiled.operations import Compiler
from edge.documents import Document
from edge.operation_checks import Runnable
from edge.outcomes import Result, present_result
from edge.side_thread import Pace, SideThread
from edge.subscriptions import SharedAnswers, Subscription
from schema.context import Request

log = structlog.get_logger(__name__)

_T = TypeVar("_T")

VALUES_AT_ONCE: Final = 2_000
"""Operations that may return more take turns, so that several at once do not hold up the loop."""
ITEMS_AT_ONCE: Final = 10
"""Within longer lists graphql-core gives way to others."""


class Engine:
    """Answers operations of one schema."""

    def __init__(
        self, schema: strawberry.Schema, *, compiler: Compiler, thread: SideThread
    ) -> None:
        # graphql-core's schema: Strawberry's own `execute` parses, validates and runs in one call.
        self._schema = schema._schema
        self._executor_class = schema.execution_context_class
        self._pace = Pace()
        self._paced_class = _paced(self._executor_class, self._pace)
        self._compiler = compiler
        self._thread = thread
        self.shared = SharedAnswers()
        self.counts: Counter[str] = Counter()
        """How many queries and subscriptions began `compiled`; what graphql-core ran is `plain`."""

    async def start(
        self, runnable: Runnable, request: Request
    ) -> ExecutionResult | AsyncGenerator[ExecutionResult, None]:
        """Run a query or mutation to its end, or open the stream of a subscription."""
        if runnable.cost.is_introspection:
            return await self._thread.call(
                request.scope.key, lambda: self._introspect(runnable, request)
            )
        if is_long(runnable):
            await self._pace.wait()
        if runnable.kind is OperationType.QUERY and runnable.document.uses > 1:
            data = await self._run_compiled(runnable, request)
            if data is not None:
                return ExecutionResult(data, None)
        if runnable.kind is OperationType.SUBSCRIPTION:
            options = self._options(runnable, request)
            started = open_stream(self._schema, runnable.document.node, **options)
        else:
            started = self._run_plain(runnable, request, executor_class=self._paced_class)
        if isawaitable(started):
            started = await started
        return cast("ExecutionResult | AsyncGenerator[ExecutionResult, None]", started)

    async def compile_subscription(
        self, runnable: Runnable, request: Request
    ) -> Subscription | None:
        """Compile a subscription. None if graphql-core has to run it."""
        variables = runnable.variables
        if variables is None:
            return None
        compiled = await self._compile(
            self._compiler.compile_subscription, runnable, request, variables=variables
        )
        if compiled is None:
            return None
        self.counts["compiled"] += 1
        run = partial(self._run_event, runnable, request)
        return Subscription(compiled, request, variables, self.shared, run)

    def _introspect(self, runnable: Runnable, request: Request) -> ExecutionResult:
        """Answer an operation about the schema, in the thread: the fields of introspection wait for
        nothing.
        """
        result = self._run_plain(runnable, request)
        assert isinstance(result, ExecutionResult)
        return result

    async def _run_compiled(self, runnable: Runnable, request: Request) -> dict[str, Any] | None:
        """Answer a query by compiled functions. None where graphql-core has to run it."""
        variables = runnable.variables
        if variables is None:
            return None
        compiled = await self._compile(
            self._compiler.compile_query, runnable, request, variables=variables
        )
        if compiled is None:
            return None
        try:
            answer = await compiled.answer(request, variables)
        except Exception as surprise:
            log.debug("run again by graphql-core", error=repr(surprise))
            return None
        self.counts["compiled"] += 1
        return answer

    async def _compile(
        self,
        compile_operation: Callable[[Document, OperationDefinitionNode, VariableValues], _T],
        runnable: Runnable,
        request: Request,
        *,
        variables: VariableValues,
    ) -> _T:
        """Compile in the thread what would take long, once."""
        document, operation = runnable.document, runnable.operation
        compiling = partial(compile_operation, document, operation, variables)
        is_known = self._compiler.has_compiled(document, operation, variables)
        if is_known or not document.is_long:
            return compiling()
        return await self._thread.call(request.scope.key, compiling)

    def _run_event(
        self, runnable: Runnable, request: Request, event: object
    ) -> Result | Awaitable[Result]:
        result = self._run_plain(runnable, request, event)
        if isinstance(result, ExecutionResult):
            return present_result(result, request.id)
        return _present_later(result, request.id)

    def _run_plain(
        self, runnable: Runnable, request: Request, root: object = None, **more: Any
    ) -> ExecutionResult | Awaitable[ExecutionResult]:
        """Have graphql-core run an operation, or a subscription for one event, its root."""
        self.counts["plain"] += 1
        options = {**self._options(runnable, request), **more}
        # Called for each value: Strawberry's recognises plain ones faster than graphql-core's.
        options["is_awaitable"] = optimized_is_awaitable
        return run_document(self._schema, runnable.document.node, root, **options)

    def _options(self, runnable: Runnable, request: Request) -> dict[str, Any]:
        name = runnable.operation.name
        return {
            "context_value": request,
            "variable_values": runnable.given,
            "operation_name": name.value if name else None,
            "executor_class": self._executor_class,
            "hide_suggestions": True,
        }


def is_long(runnable: Runnable) -> bool:
    """Whether a query or mutation takes turns with others of its kind."""
    return runnable.cost.values > VALUES_AT_ONCE and not runnable.cost.is_introspection


async def _present_later(running: Awaitable[ExecutionResult], request_id: str) -> Result:
    return present_result(await running, request_id)


def _paced(executor_class: type[Executor[Any]], pace: Pace) -> type[Executor[Any]]:
    """An executor that gives way to others within lists of objects."""

    class PacedExecutor(executor_class):  # type: ignore[misc, valid-type]
        def build_response(self, data: dict[str, Any] | None) -> Any:
            response = super().build_response(data)
            del self.async_helpers  # They hold this, and with it the request.
            return response

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
