"""Waiting: for a semaphore, never longer than a limit; together, for a call that serves all; for
the database, no longer than an operation has time; and for what is not to be interrupted.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Generic, TypeVar
from weakref import WeakValueDictionary

from domain.errors import NotBegun

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


class SemaphoresByKey:
    """One semaphore for each key, while a task holds it or waits for it."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._semaphores = WeakValueDictionary[str, asyncio.Semaphore]()

    def get(self, key: str) -> asyncio.Semaphore:
        """The key's semaphore. It lives while the caller keeps a reference to it."""
        semaphore = self._semaphores.get(key)
        if semaphore is None:
            semaphore = self._semaphores[key] = asyncio.Semaphore(self._size)
        return semaphore


@asynccontextmanager
async def holding(*semaphores: asyncio.Semaphore, max_seconds: float) -> AsyncIterator[None]:
    """Hold all of these, in this order; without any waiting where they are free. Raise NotBegun,
    and hold none of them, where waiting for them takes longer.
    """
    async with AsyncExitStack() as held:
        try:
            async with asyncio.timeout(max_seconds):
                for semaphore in semaphores:
                    await held.enter_async_context(semaphore)
        except TimeoutError:
            raise NotBegun from None
        yield


@dataclass(slots=True)
class _Deadline:
    ends_at: float
    """In the time of the event loop."""
    has_ended: bool = False
    """Whether the operation has ended. What it has started and left behind has no deadline."""


_deadline: Final[ContextVar[_Deadline | None]] = ContextVar("deadline", default=None)


class limit_calls_until:  # noqa: N801 (reads as a phrase: `with limit_calls_until(ends_at):`)
    """Let calls to the database give up at this time of the event loop, so that an operation can
    still answer that the database cannot be reached.
    """

    __slots__ = ("_deadline", "_token")

    def __init__(self, ends_at: float) -> None:
        self._deadline = _Deadline(ends_at)

    def __enter__(self) -> None:
        self._token = _deadline.set(self._deadline)

    def __exit__(self, *_: object) -> None:
        self._deadline.has_ended = True
        _deadline.reset(self._token)


def seconds_left() -> float | None:
    """How long a call to the database may take. None: as long as usual."""
    deadline = _deadline.get()
    if deadline is None or deadline.has_ended:
        return None
    return max(deadline.ends_at - asyncio.get_running_loop().time(), 0.0)


@dataclass(eq=False, slots=True)
class _Joined(Generic[Result]):
    waiting: int = 0
    task: "asyncio.Task[Result] | None" = None


class JoinedCalls(Generic[Key, Result]):
    """Calls for one key that come while one is under way wait for the next, which is one for all.

    So a call serves only those that had come before it began.
    """

    def __init__(self) -> None:
        self._under_way: dict[Key, asyncio.Task[Result]] = {}
        self._next: dict[Key, _Joined[Result]] = {}

    async def join(self, key: Key, call: Callable[[int], Awaitable[Result]]) -> Result:
        """Return what `call` returns to all that have joined it; it is given their number."""
        joined = self._next.get(key)
        if joined is None:
            joined = self._next[key] = _Joined()
            joined.task = asyncio.create_task(self._call(key, call))
            joined.task.add_done_callback(_retrieve_exception)
        joined.waiting += 1
        assert joined.task is not None
        return await asyncio.shield(joined.task)

    async def _call(self, key: Key, call: Callable[[int], Awaitable[Result]]) -> Result:
        under_way = self._under_way.get(key)
        if under_way is not None:
            await asyncio.wait([under_way])
        joined = self._next.pop(key)
        assert joined.task is not None
        self._under_way[key] = joined.task
        try:
            return await call(joined.waiting)
        finally:
            if self._under_way.get(key) is joined.task:
                del self._under_way[key]


async def finish(work: Awaitable[Result], *, max_seconds: float) -> Result:
    """Await work that goes on where the caller is cancelled, which then waits for its end, at most
    for this time.
    """
    task = asyncio.ensure_future(work)
    task.add_done_callback(_retrieve_exception)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=max_seconds)
        raise


def _retrieve_exception(task: "asyncio.Task[Result]") -> None:
    """All that waited for it may have left."""
    if not task.cancelled():
        task.exception()


class LimitedRounds:
    """Lets tasks continue in their order: in each round of the event loop, as many as have together
    at most `most` things to do, or a single one that has more.

    Answers of the database that arrive together would otherwise let all of their tasks continue in
    one round, and nothing else would run until all of them have done their next step. One task in
    each round would be too few: while rounds are long, those that have little to do would be late.
    """

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        """How much each has to do. While there are any, the next round is scheduled."""

    async def wait(self, count: int) -> None:
        """Wait for a round in which there is room for this many things."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._fill_round)
        self._waiting.append((count, turn))
        await turn

    def _fill_round(self) -> None:
        in_round = 0
        while self._waiting:
            count, turn = self._waiting[0]
            if not turn.cancelled():
                if in_round and in_round + count > self._most:
                    break
                in_round += count
                turn.set_result(None)
            self._waiting.popleft()
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._fill_round)
