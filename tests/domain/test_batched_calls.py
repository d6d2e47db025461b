import asyncio
from collections.abc import Sequence

import pytest

from domain.batched_calls import BatchedCalls
from domain.errors import Overloaded


class Reader:
    """Reads what `release` lets it read; an answer is the number of the call, and the key."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.may_answer = asyncio.Semaphore(0)

    async def read(self, keys: Sequence[str]) -> Sequence[tuple[int, str]]:
        self.calls.append(list(keys))
        number = len(self.calls)
        await self.may_answer.acquire()
        if "broken" in keys:
            raise Overloaded
        return [(number, key) for key in keys]


async def rounds(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_comes_while_a_call_is_under_way_waits_for_the_next_one() -> None:
    reader = Reader()
    batched = BatchedCalls(reader.read, most_calls=1, most_keys=3)
    first = asyncio.create_task(batched.join("a"))
    await rounds()
    others = [asyncio.create_task(batched.join(key)) for key in "abcdb"]
    await rounds()
    assert reader.calls == [["a"]]

    for _ in range(3):
        reader.may_answer.release()

    assert await first == (1, "a")
    assert [await other for other in others] == [(2, "a"), (2, "b"), (2, "c"), (3, "d"), (3, "b")]
    assert reader.calls == [["a"], ["a", "b", "c"], ["d", "b"]]


async def test_as_many_calls_are_under_way_as_there_may_be() -> None:
    reader = Reader()
    batched = BatchedCalls(reader.read, most_calls=2, most_keys=8)
    tasks = []
    for key in "abc":
        tasks.append(asyncio.create_task(batched.join(key)))
        await rounds()

    assert reader.calls == [["a"], ["b"]]
    for _ in range(3):
        reader.may_answer.release()
    assert [await task for task in tasks] == [(1, "a"), (2, "b"), (3, "c")]


async def test_who_has_left_is_not_called_for_and_takes_nobody_along() -> None:
    reader = Reader()
    batched = BatchedCalls(reader.read, most_calls=1, most_keys=8)
    first = asyncio.create_task(batched.join("a"))
    await rounds()
    left, same, stays = (asyncio.create_task(batched.join(key)) for key in ("b", "c", "c"))
    await rounds()
    left.cancel()
    same.cancel()
    reader.may_answer.release()
    await rounds()
    reader.may_answer.release()

    assert await first == (1, "a")
    assert await stays == (2, "c")
    assert reader.calls == [["a"], ["c"]]


async def test_a_call_for_nobody_is_not_made_and_makes_room() -> None:
    reader = Reader()
    batched = BatchedCalls(reader.read, most_calls=1, most_keys=1)
    task = asyncio.create_task(batched.join("a"))
    await asyncio.sleep(0)
    task.cancel()
    await rounds()
    reader.may_answer.release()

    assert await batched.join("b") == (1, "b")
    assert reader.calls == [["b"]]


async def test_a_failure_is_raised_for_all_of_its_call_and_for_no_others() -> None:
    reader = Reader()
    batched = BatchedCalls(reader.read, most_calls=1, most_keys=2)
    for _ in range(2):
        reader.may_answer.release()

    answers = await asyncio.gather(
        *(batched.join(key) for key in ("a", "broken", "b")), return_exceptions=True
    )

    assert [type(answer) for answer in answers[:2]] == [Overloaded, Overloaded]
    assert answers[2] == (2, "b")


async def test_a_call_that_is_cancelled_leaves_nobody_waiting() -> None:
    reader = Reader()
    batched = BatchedCalls(reader.read, most_calls=1, most_keys=2)
    waiting = asyncio.create_task(batched.join("a"))
    await rounds()
    (call,) = [task for task in asyncio.all_tasks() if task.get_name() == "batch"]
    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
