"""The memory that many concurrent responses take, with simulators in their own processes."""

import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from domain.errors import GenerationErrorCode
from providers.safe_http import AT_ONCE
from providers.streaming_json import MAX_WORDS_BYTES
from tests.providers.runs import Played, Processes, ends_of
from tests.providers.vendors import SYNCHRONOUS, VENDORS

Code = GenerationErrorCode
# Azure has OpenAI's adapter and simulator.
all_but_azure = pytest.mark.parametrize(
    "played", [name for name in VENDORS if name != "azure"], indirect=True
)
synchronous_but_azure = pytest.mark.parametrize(
    "played", [name for name in SYNCHRONOUS if name != "azure"], indirect=True
)
RUNS = 12
BESIDE = 2**21
"""What the client, its connections and the loop hold beside what the runs hold."""
LIMIT = 2**18
SIZE = 2**20


@asynccontextmanager
async def measured() -> AsyncIterator[list[int]]:
    """The most bytes that were held within the block, once it has ended."""
    peak: list[int] = []
    tracemalloc.start()
    try:
        yield peak
    finally:
        peak.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()


async def _end_at_once(
    played: Played, processes: Processes, script: str, **options: Any
) -> tuple[list[Any], int]:
    """How the runs end, and how much memory they have taken."""
    max_bytes = options.pop("max_bytes", 64 * 2**20)
    async with processes.playing(played.simulator.provider, script) as url:
        provider = played.provider(url=url, max_bytes=max_bytes)
        async with measured() as peak:
            ends = await ends_of(provider, [played.vendor.run(**options)] * RUNS)
    return ends, peak[0]


@all_but_azure
async def test_concurrent_endless_results_take_bounded_memory(
    played: Played, processes: Processes
) -> None:
    script = played.vendor.results("huge")

    ends, peak = await _end_at_once(played, processes, script, max_bytes=LIMIT)

    assert [end.code for end in ends] == [Code.PROVIDER_BAD_RESPONSE] * RUNS
    # Beside what the runs hold, the client, its connections and the loop hold something.
    held = 2 * LIMIT if played.vendor.has_jobs else 1.5 * (LIMIT + MAX_WORDS_BYTES)
    assert peak < RUNS * held + 2**22


async def test_concurrent_gzip_bombs_take_bounded_memory(
    openai: Played, processes: Processes
) -> None:
    ends, peak = await _end_at_once(openai, processes, "result=gzip", max_bytes=LIMIT)

    assert [end.code for end in ends] == [Code.PROVIDER_BAD_RESPONSE] * RUNS
    # The client inflates in pieces of 1 MiB, whatever one read of the connection can inflate to.
    assert peak < 1.2 * RUNS * (LIMIT + MAX_WORDS_BYTES + 2**20)


@synchronous_but_azure
async def test_pictures_beyond_the_limit_take_bounded_memory(
    played: Played, processes: Processes
) -> None:
    ends, peak = await _end_at_once(played, processes, "bytes=3000000", max_bytes=LIMIT)

    assert [end.code for end in ends] == [Code.PROVIDER_BAD_RESPONSE] * RUNS
    assert peak < 1.5 * RUNS * (LIMIT + MAX_WORDS_BYTES)


async def test_concurrent_endless_downloads_take_bounded_memory(
    polled: Played, processes: Processes
) -> None:
    ends, peak = await _end_at_once(polled, processes, "file=huge", max_bytes=2 * SIZE)

    assert [end.code for end in ends] == [Code.PROVIDER_BAD_RESPONSE] * RUNS
    assert peak < 2 * AT_ONCE * 2 * SIZE  # far below what all of them have


async def test_concurrent_endless_responses_to_submissions_take_bounded_memory(
    polled: Played, processes: Processes
) -> None:
    ends, peak = await _end_at_once(polled, processes, "taken submit=huge", max_bytes=LIMIT)

    assert [end.code for end in ends] == [Code.OUTCOME_UNKNOWN] * RUNS
    # fal's limit for an answer that carries text only is 1 MiB.
    assert peak < 2 * RUNS * max(LIMIT, 2**20 if polled.vendor.name == "fal" else 0) + BESIDE


@all_but_azure
async def test_large_results_take_no_more_memory_than_their_bytes(
    played: Played, processes: Processes
) -> None:
    ends, peak = await _end_at_once(played, processes, f"bytes={SIZE}")

    assert [len(end.images[0].data) for end in ends] == [SIZE] * RUNS
    # As text alone pictures inside an answer would be 1.33 times as much.
    bound = RUNS + 2 * AT_ONCE if played.vendor.has_jobs else 1.4 * RUNS
    assert peak < bound * SIZE + BESIDE


@synchronous_but_azure
async def test_large_streamed_results_take_no_more_memory_than_their_bytes(
    played: Played, processes: Processes
) -> None:
    ends, peak = await _end_at_once(
        played,
        processes,
        f"bytes={SIZE}",
        model=played.vendor.streamed,
        preview_count=2,
    )

    assert [len(end.images[0].data) for end in ends] == [SIZE] * RUNS
    assert peak < 1.4 * RUNS * SIZE + BESIDE
