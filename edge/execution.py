"""The one way to run an operation, whatever the transport.

A transport reads an `Operation` and a `Scope` from its own messages, calls `execute`, and writes
the outcome. Whether the operation may run is decided in `operation_checks`; `engine` answers it.
Here is what both need: room for one more operation, and a limit of its time.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import ExitStack, aclosing
from functools import cache, partial
from typing import Final

import strawberry
from graphql import ExecutionResult, GraphQLError, OperationType

from domain.errors import Overloaded, RateLimited, TryLater
from domain.ports.changes import Receiver
from domain.waiting import limit_calls_until
from edge.capacity import Tally
from edge.compiled.operations import Compiler
from edge.documents import Documents
from edge.engine import Engine, is_long
from edge.operation_checks import OperationChecks, Runnable
from edge.operation_room import OperationRoom, WaitUntilLeft
from edge.outcomes import (
    Answered,
    Operation,
    Outcome,
    Reason,
    Result,
    Streaming,
    present_result,
)
from edge.persisted import PersistedDocuments
from edge.query_limits import Cost
from edge.rejections import TOO_SLOW, Rejection, reject, reject_excess
from edge.side_thread import SideThread
from edge.subscriptions import Subscription
from resolvers.root import build_schema
from schema.context import Request, Scope
from schema.loaders import Loaders
from schema.scalars import write_instant
from schema.services import Services
from settings import Limits

_WAITING_OF_ADDRESS: Final = 100
"""How many operations without a token may wait over HTTP until others of their address have ended.
"""
_LONG_AT_ONCE: Final = 8
"""How many operations with many values run at the same time. One continues at a time; the others
wait for the database, or for their turn.
"""
_MARGIN: Final = 0.1
"""The part of an operation's time that is left when it gives up waiting for room, and its calls to
the database give up.
"""
_TOO_MANY: Final = GraphQLError("A viewer cannot have more subscriptions at the same time.")


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
        self._limits = limits = limits or Limits()
        self._room = OperationRoom(
            of_client=limits.requests_in_flight, in_all=limits.process_requests_in_flight
        )
        self._room_of_long = OperationRoom(of_client=_LONG_AT_ONCE, in_all=_LONG_AT_ONCE)
        """For those that take turns: they would keep others out while they wait."""
        self._waiting_anonymous = Tally(_WAITING_OF_ADDRESS)
        self._waiting = Tally(limits.process_requests_in_flight)
        """Operations over HTTP that wait for others to end."""
        self._subscriptions = Tally(limits.viewer_subscriptions)
        self._anonymous_subscriptions = Tally(limits.address_subscriptions)
        schema, thread = executable_schema(), SideThread()
        self.thread = thread
        """For what would hold up the event loop."""
        compiler = Compiler(schema)
        self._engine = Engine(schema, compiler=compiler, thread=thread)
        self._checks = OperationChecks(
            schema._schema,
            documents=Documents(schema._schema, thread),
            compiler=compiler,
            persisted=persisted or PersistedDocuments(),
            rates=services.rate_limits,
        )

    @property
    def counts(self) -> Counter[str]:
        """How many queries and subscriptions began `compiled`; what graphql-core ran is `plain`."""
        return self._engine.counts

    @property
    def group_count(self) -> int:
        """How many groups of subscribers get the same answers at the moment."""
        return len(self._engine.shared.groups)

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
        wait_until_left: WaitUntilLeft | None = None,
    ) -> Outcome:
        """Run an operation for a scope. What goes wrong with it is in the outcome; but raise
        ClientLeft where `wait_until_left` returns while it waits for room.

        `ends_at`: when its time is over, in the time of the event loop. `waits`: whether it waits
        where its client runs too many, instead of being rejected at once. Without a token some wait
        in any case: many may be behind one address. Where the process runs too many, some wait,
        too: those of clients that run few are next.
        """
        ends_at = self.ends_at if ends_at is None else ends_at
        gives_up_at = ends_at - _MARGIN * self._limits.operation_seconds
        try:
            await self._take_room(
                scope, ends_at=gives_up_at, waits=waits, wait_until_left=wait_until_left
            )
            try:
                with limit_calls_until(gives_up_at):
                    return await self._check_and_run(
                        operation, scope, request_id=request_id, ends_at=ends_at
                    )
            finally:
                self._room.leave(scope.client)
        except TryLater as error:
            return reject(reject_excess(error), request_id=request_id)

    async def _take_room(
        self, scope: Scope, *, ends_at: float, waits: bool, wait_until_left: WaitUntilLeft | None
    ) -> None:
        """Take room for one more operation, which has to leave it.

        Raise RateLimited where it may not wait, Overloaded where too many wait or it has waited for
        too long, ClientLeft where its client has left.
        """
        leave = None
        if not waits:
            if self._room.is_full_of(scope.client):
                leave = self._count_waiting(scope)
            elif self._room.is_full:
                leave = self._waiting.enter("")
                if leave is None:
                    raise Overloaded
        try:
            await self._room.enter(scope.client, ends_at=ends_at, wait_until_left=wait_until_left)
        except TimeoutError:
            raise Overloaded from None
        finally:
            if leave is not None:
                leave()

    def _count_waiting(self, scope: Scope) -> Callable[[], None]:
        """Count an operation without a token that waits, until the function that is returned is
        called. Raise RateLimited where it may not wait.
        """
        leave = self._waiting_anonymous.enter(scope.client) if scope.viewer is None else None
        if leave is None:
            raise RateLimited("Too many operations are running.", retry_after_seconds=1)
        return leave

    async def _check_and_run(
        self, operation: Operation, scope: Scope, *, request_id: str, ends_at: float
    ) -> Outcome:
        checked = await self._checks.check(operation, scope, ends_at=ends_at)
        extensions = self._show_cost(checked.cost, scope) if operation.wants_cost else None
        if isinstance(checked, Rejection):
            return reject(checked, request_id=request_id, extensions=extensions)
        request = Request(
            id=request_id,
            scope=scope,
            services=self._services,
            load=Loaders(self._services, scope.require_viewer),
            cost=checked.cost.total,
        )
        if checked.kind is OperationType.SUBSCRIPTION:
            return await self._subscribe(checked, request, ends_at)
        started = await self._start_in_time(checked, request, ends_at)
        assert isinstance(started, ExecutionResult)
        result = present_result(started, request_id)
        if extensions:
            result = Result(result.data, result.errors, extensions)
        return Answered(kind=checked.kind, result=result, cost=checked.cost)

    async def _subscribe(self, runnable: Runnable, request: Request, ends_at: float) -> Outcome:
        kind, cost = runnable.kind, runnable.cost
        release = self._count_subscription(request.scope)
        if release is None:
            rejection = Rejection(
                reason=Reason.SUBSCRIPTIONS, errors=[_TOO_MANY], kind=kind, cost=cost
            )
            return reject(rejection, request_id=request.id)
        with ExitStack() as held:
            held.callback(release)
            try:
                async with asyncio.timeout_at(ends_at):
                    subscription = await self._engine.compile_subscription(runnable, request)
            except TimeoutError:
                late = present_result(_late_result(), request.id)
                return Answered(kind=kind, result=late, cost=cost)
            if subscription is not None:
                held.pop_all()
                return _stream(subscription, cost, release)
            started = await self._start_in_time(runnable, request, ends_at)
            if isinstance(started, ExecutionResult):
                result = present_result(started, request.id)
                return Answered(kind=kind, result=result, cost=cost)
            held.pop_all()
        results = (present_result(result, request.id) async for result in started)
        return Streaming(
            open=lambda: _end_at_failure(results, request.id), cost=cost, release=release
        )

    def _count_subscription(self, scope: Scope) -> Callable[[], None] | None:
        """Count one more subscription of a client, until the function that is returned is called.
        None where there are too many.
        """
        tally = self._anonymous_subscriptions if scope.viewer is None else self._subscriptions
        return tally.enter(scope.client)

    async def _start_in_time(
        self, runnable: Runnable, request: Request, ends_at: float
    ) -> ExecutionResult | AsyncGenerator[ExecutionResult, None]:
        try:
            async with asyncio.timeout_at(ends_at):
                if not is_long(runnable):
                    return await self._engine.start(runnable, request)
                return await self._start_long(runnable, request, ends_at)
        except TimeoutError:
            return _late_result()
        except Exception as failure:
            return _failed_result(failure)

    async def _start_long(
        self, runnable: Runnable, request: Request, ends_at: float
    ) -> ExecutionResult | AsyncGenerator[ExecutionResult, None]:
        room, client = self._room_of_long, request.scope.client
        with self._room.stepping_aside():
            await room.enter(client, ends_at=ends_at)
            try:
                return await self._engine.start(runnable, request)
            finally:
                room.leave(client)

    def _show_cost(self, cost: Cost | None, scope: Scope) -> Mapping[str, object]:
        state = self._services.rate_limits.state(
            scope.client,
            is_viewer=scope.viewer is not None,
            cost=cost.total if cost else 0,
        )
        shown = {
            "cost": state.cost,
            "limit": state.limit,
            "remaining": state.remaining,
            "resetAt": write_instant(state.reset_at),
        }
        return {"cost": shown}


def _stream(subscription: Subscription, cost: Cost, release: Callable[[], None]) -> Streaming:
    delivers = subscription.compiled.delivers
    return Streaming(
        open=lambda: _end_at_failure(subscription.results(), subscription.request.id),
        cost=cost,
        deliver=partial(_deliver, subscription) if delivers else None,
        release=release,
    )


async def _deliver(subscription: Subscription, to: Receiver[Result]) -> Result | None:
    try:
        await subscription.deliver(to)
    except Exception as failure:
        return present_result(_failed_result(failure), subscription.request.id)
    return None


async def _end_at_failure(
    results: AsyncGenerator[Result, None], request_id: str
) -> AsyncGenerator[Result, None]:
    async with aclosing(results):
        try:
            async for result in results:
                yield result
        except Exception as failure:
            # The source of a subscription failed; in a field, graphql-core makes it an error.
            yield present_result(_failed_result(failure), request_id)


def _late_result() -> ExecutionResult:
    return ExecutionResult(None, [TOO_SLOW])


def _failed_result(failure: Exception) -> ExecutionResult:
    return ExecutionResult(None, [GraphQLError(str(failure), original_error=failure)])
