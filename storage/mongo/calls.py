"""Calls to the driver: bounded, protected from cancellation, and never nested."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import nullcontext
from contextvars import ContextVar
from enum import Enum, auto
from time import perf_counter
from typing import Any, Final, TypeVar

import pymongo
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    WTimeoutError,
)

from domain.errors import NotBegun, Overloaded
from domain.ports.observers import DatabaseObserver
from domain.traces import span
from domain.waiting import seconds_left

MAX_CALLS: Final = 80
"""Less than the size of the driver's own pool, which is therefore never exhausted."""
WAIT_SECONDS: Final = 2
_LEAST_SECONDS: Final = 0.2
LAST_SECONDS: Final = 3
"""How long calls may continue when the database is closed."""
_DATABASE: Final = {"db.system.name": "mongodb"}

Result = TypeVar("Result")


class Inside(Enum):
    CALL = auto()
    TRANSACTION = auto()


inside: Final[ContextVar[Inside | None]] = ContextVar("inside", default=None)
"""The call that the current task is in."""


class NestedCall(RuntimeError):
    """A repository's method was called inside another one's call.

    It would take up capacity twice, so that all calls could wait for one another for ever; and
    inside a transaction it would read and write outside of it.
    """


class Calls:
    """Calls to the driver: at most MAX_CALLS at the same time, and protected from cancellation.

    If a call is cancelled while one of the driver's own limits runs out, the driver's pool can stay
    locked for ever. So it runs in a task of its own, which ends within its time limit.
    """

    def __init__(
        self, reconnect: Callable[[], Awaitable[None]], *, observer: DatabaseObserver
    ) -> None:
        self._reconnect = reconnect
        self._observer = observer
        self._capacity = asyncio.Semaphore(MAX_CALLS)
        self._under_way: set[asyncio.Task[Any]] = set()

    async def run(
        self, work: Callable[[], Coroutine[Any, Any, Result]], *, repository: str = "database"
    ) -> Result:
        """Run a call. Raise NotBegun where there is no capacity in time, Overloaded where there is
        no database.
        """
        if inside.get() is not None:
            raise NestedCall
        began_at = perf_counter()
        try:
            if self._capacity.locked():
                await self._wait_for_capacity()
            else:
                await self._capacity.acquire()
        except Overloaded as failure:
            self._observer.call_ended(repository, perf_counter() - began_at, failure)
            raise
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Result] = loop.create_future()
        task = asyncio.create_task(
            self._answer(answer, work, repository=repository, began_at=began_at)
        )
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        left = seconds_left()
        if left is None:
            return await answer
        # The driver ends later: it looks for a primary every half second only.
        limit = loop.call_later(max(left, _LEAST_SECONDS), _give_up, answer)
        try:
            return await answer
        finally:
            limit.cancel()

    async def _wait_for_capacity(self) -> None:
        left = seconds_left()
        try:
            async with asyncio.timeout(WAIT_SECONDS if left is None else min(left, WAIT_SECONDS)):
                await self._capacity.acquire()
        except TimeoutError:
            raise NotBegun from None

    async def wait_until_ended(self) -> None:
        """Wait for the calls that are running."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=LAST_SECONDS)

    async def _answer(
        self,
        answer: "asyncio.Future[Result]",
        work: Callable[[], Coroutine[Any, Any, Result]],
        *,
        repository: str,
        began_at: float,
    ) -> None:
        """Give the result to the caller, unless it has been cancelled or has given up: then nobody
        waits for it.
        """
        try:
            result = await self._run_to_its_end(work, repository, began_at)
        except asyncio.CancelledError:
            answer.cancel()
            raise
        except BaseException as error:
            if not answer.done():
                answer.set_exception(error)
                answer.exception()  # The caller may still be cancelled before it sees the result.
        else:
            if not answer.done():
                answer.set_result(result)

    async def _run_to_its_end(
        self, work: Callable[[], Coroutine[Any, Any, Result]], repository: str, began_at: float
    ) -> Result:
        inside.set(Inside.CALL)
        left = seconds_left()
        # Without time left, the limit of the operation itself ends the call.
        limit = nullcontext() if left is None else pymongo.timeout(max(left, _LEAST_SECONDS))
        failure: BaseException | None = None
        try:
            with span(f"database {repository}", _DATABASE, outwards=True), translated(), limit:
                try:
                    return await work()
                except ConfigurationError:
                    await self._reconnect()
                    raise
        except BaseException as error:
            failure = error
            raise
        finally:
            self._observer.call_ended(repository, perf_counter() - began_at, failure)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._capacity.release()
        self._under_way.discard(task)


def _give_up(answer: asyncio.Future[Any]) -> None:
    if not answer.done():
        answer.set_exception(Overloaded())


class translated:  # noqa: N801 (reads as a phrase: `with translated():`)
    """Translates errors of a database that cannot be reached into `Overloaded`, and no others."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, PyMongoError) and is_passing(error):
            raise Overloaded from error


_PASSING_CODES: Final = frozenset(
    {6, 7, 43, 89, 91, 134, 189, 237, 262, 290, 9001, 11600, 11601, 11602}
)
"""Codes of a server that cannot be reached, shuts down, steps down, or has just started; of a
cursor whose server is gone; and of what a server has ended: a transaction or an operation that took
too long, or that an operator ended.
"""


def is_passing(error: PyMongoError) -> bool:
    """Whether the same call may succeed a little later."""
    return (
        isinstance(error, (ConnectionFailure, ExecutionTimeout, WTimeoutError, ConfigurationError))
        or (isinstance(error, OperationFailure) and error.code in _PASSING_CODES)
        or error.timeout
        or error.has_error_label("TransientTransactionError")
        or error.has_error_label("RetryableWriteError")
        or error.has_error_label("UnknownTransactionCommitResult")
    )
