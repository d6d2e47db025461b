"""Batches: one call for several keys, while calls for others are under way."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


class _Batch(Generic[Key, Result]):
    """Keys, each with those that wait for its result, and the task that calls for them."""

    __slots__ = ("task", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[Key, list[asyncio.Future[Result]]] = {}
        self.task: asyncio.Task[None] | None = None


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

    async def join(self, key: Key) -> Result:
        """Return the result for a key, or raise what the call for its batch has raised."""
        batch = self._next
        if batch is None:
            batch = self._next = _Batch()
            batch.task = asyncio.create_task(self._serve(batch), name="batch")
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        batch.waiting.setdefault(key, []).append(answer)
        if len(batch.waiting) >= self._most_keys:
            self._next = None
        return await answer

    async def _serve(self, batch: _Batch[Key, Result]) -> None:
        try:
            async with self._room:
                if self._next is batch:
                    self._next = None
                keys = [key for key, answers in batch.waiting.items() if _is_awaited(answers)]
                if keys:
                    self._answer(batch, keys, await self._call(keys))
        except Exception as error:
            for answers in batch.waiting.values():
                for answer in answers:
                    if not answer.done():
                        answer.set_exception(error)
        finally:
            for answers in batch.waiting.values():
                for answer in answers:
                    answer.cancel()  # Only those that have no result: the event loop is closed.

    def _answer(
        self, batch: _Batch[Key, Result], keys: Sequence[Key], results: Sequence[Result]
    ) -> None:
        for key, result in zip(keys, results, strict=True):
            for answer in batch.waiting[key]:
                if not answer.done():
                    answer.set_result(result)


def _is_awaited(answers: Sequence["asyncio.Future[Result]"]) -> bool:
    """Whether any of those that have asked is still there."""
    return not all(answer.done() for answer in answers)
