"""Batches: one call for several keys, while calls for others are under way."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from itertools import chain
from typing import Generic, TypeAlias, TypeVar

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")
_Batch: TypeAlias = dict[Key, list[asyncio.Future[Result]]]
"""Keys, each with what waits for its result."""


class BatchedCalls(Generic[Key, Result]):
    """Calls for many keys: at most `most_calls` are under way, each for at most `most_keys`.

    What comes while as many are under way waits for the next call, which is one for all of them. So
    a call serves only those that had come before it began, and nothing waits where none is under
    way.
    """

    def __init__(
        self,
        call: Callable[[Sequence[Key]], Awaitable[Sequence[Result]]],
        *,
        most_calls: int,
        most_keys: int,
    ) -> None:
        self._call = call
        self._most_keys = most_keys
        self._room = asyncio.Semaphore(most_calls)
        self._next: _Batch[Key, Result] | None = None
        """The batch that has not begun, and has room for one more key."""
        self._under_way: set[asyncio.Task[None]] = set()

    async def join(self, key: Key) -> Result:
        """Return the result for a key, or raise what the call for its batch has raised."""
        batch = self._next
        if batch is None:
            batch = self._next = {}
            task = asyncio.create_task(self._serve(batch), name="batch")
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        batch.setdefault(key, []).append(answer)
        if len(batch) >= self._most_keys:
            self._next = None
        return await answer

    async def _serve(self, batch: _Batch[Key, Result]) -> None:
        try:
            async with self._room:
                if self._next is batch:
                    self._next = None
                # Those that have left are not called for.
                keys = [key for key, answers in batch.items() if _unanswered(answers)]
                results = await self._call(keys) if keys else ()
            for key, result in zip(keys, results, strict=True):
                for answer in _unanswered(batch[key]):
                    answer.set_result(result)
        except Exception as error:
            for answer in _unanswered(chain(*batch.values())):
                answer.set_exception(error)
        finally:
            for answer in _unanswered(chain(*batch.values())):
                answer.cancel()  # The event loop is closed.


def _unanswered(answers: "Iterable[asyncio.Future[Result]]") -> "list[asyncio.Future[Result]]":
    """Those whose result is still waited for."""
    return [answer for answer in answers if not answer.done()]
