"""Retries end by count or by time, with a growing backoff and jitter."""

import asyncio

import pytest

from domain.errors import Overloaded
from domain.retries import RetryPolicy, retry

QUICK = 0.001


def policy(*, max_tries: int | None = None, max_seconds: float | None = None) -> RetryPolicy:
    return RetryPolicy(
        first_pause_seconds=QUICK,
        longest_pause_seconds=QUICK,
        max_tries=max_tries,
        max_seconds=max_seconds,
    )


async def count_failures(policy: RetryPolicy) -> int:
    tries = 0

    async def fail() -> None:
        nonlocal tries
        tries += 1
        raise Overloaded

    with pytest.raises(Overloaded):
        await retry(fail, on=Overloaded, policy=policy)
    return tries


def test_the_backoff_doubles_up_to_its_maximum_with_jitter() -> None:
    doubling = RetryPolicy(first_pause_seconds=1, longest_pause_seconds=8)

    for tries, expected in ((1, 1), (2, 2), (4, 8), (5, 8), (5_000, 8)):
        pauses = [doubling.pause_seconds(tries) for _ in range(50)]
        assert all(0.5 * expected <= pause <= 1.5 * expected for pause in pauses)
        assert len(set(pauses)) > 1


async def test_retries_end_after_the_maximum_count() -> None:
    assert await count_failures(policy(max_tries=3)) == 3
    assert await count_failures(policy(max_tries=1)) == 1


async def test_retries_end_after_the_maximum_time() -> None:
    clock = asyncio.get_running_loop().time
    began_at = clock()

    assert await count_failures(policy(max_seconds=0.05)) > 1
    assert clock() - began_at >= 0.05
    assert await count_failures(policy(max_seconds=0)) == 1


async def test_the_first_success_is_returned_and_another_error_ends_the_retries() -> None:
    answers = [Overloaded(), Overloaded(), "done"]

    async def work() -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert await retry(work, on=Overloaded, policy=policy(max_tries=3)) == "done"

    answers.append(KeyError())
    with pytest.raises(KeyError):
        await retry(work, on=Overloaded, policy=policy(max_tries=3))
