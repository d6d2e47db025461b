"""Measures what stops the event loop: blocking code, and the garbage collector."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any, Final

from prometheus_client import Histogram

from domain.background import run_in_background
from metrics.series import Metrics

_EVERY_SECONDS: Final = 0.25
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


@asynccontextmanager
async def measure_process(metrics: Metrics) -> AsyncIterator[None]:
    """Measure until the block ends."""
    lag = Histogram(
        "darkroom_loop_lag_seconds",
        "How late the event loop is, sampled four times a second.",
        buckets=_BUCKETS,
        registry=metrics.registry,
    )
    pauses = Histogram(
        "darkroom_collector_pause_seconds",
        "How long the garbage collector stopped the process, by generation.",
        ["generation"],
        buckets=_BUCKETS,
        registry=metrics.registry,
    )
    of_generation = [pauses.labels(str(generation)) for generation in range(3)]
    began_at = 0.0

    def notice(phase: str, info: dict[str, Any]) -> None:
        nonlocal began_at
        if phase == "start":
            began_at = perf_counter()
        else:
            of_generation[info["generation"]].observe(perf_counter() - began_at)

    gc.callbacks.append(notice)
    try:
        async with run_in_background(_sample(lag), name="loop lag"):
            yield
    finally:
        gc.callbacks.remove(notice)


async def _sample(lag: Histogram) -> None:
    while True:
        expected = perf_counter() + _EVERY_SECONDS
        await asyncio.sleep(_EVERY_SECONDS)
        lag.observe(max(0.0, perf_counter() - expected))
