"""`python -m bench.providers`: what our side of a provider takes, in memory and in time.

Providers are simulated on loopback, and never in the process that is measured. `memory`, `work` or
`waits` behind it measures this alone.
"""

import asyncio
import json
import sys
import time
from collections.abc import Collection
from statistics import median
from typing import Final

import httpx2

from bench.arrivals import PICTURE_BYTES, Together
from bench.sides import AT_ONCE, SIDES, OpenProvider, bare_side, our_side, request_of
from domain.generation import SilentObserver
from tests.providers.runs import simulator_process
from tests.serving import free_port, serving

COUNTS: Final = (1, 5, 20)
"""Outputs that arrive at once."""
RUNS: Final = 100
FILE_BYTES: Final = 2_000_000
QUEUED: Final = ("fal", "replicate", "wavespeed")
JOB_SECONDS: Final = 5.0
WAITS_AT_ONCE: Final = 20


async def measure_memory() -> None:
    """Pictures of 20 MB that arrive at once, and are all kept."""
    for name in ("openai", "gemini", "fal"):
        for count in COUNTS:
            if name == "fal":
                script = f"bytes={PICTURE_BYTES}"
                async with simulator_process(name, "--script", script) as url:
                    await _report_memory(name, url, count)
            else:
                async with serving(Together(count).app, free_port()) as url:
                    await _report_memory(name, url, count)


async def _report_memory(name: str, url: str, count: int) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.arrivals", name, url, str(count)),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    figures = json.loads(output)
    peak, given = (figures[what] / 1e6 for what in ("peak", "given"))
    print(
        f"{name}, {count} runs at the same time: {peak:.0f} MB above idle for {given:.0f} MB of "
        f"images ({peak / given:.2f} times)",
        flush=True,
    )


async def measure_work() -> None:
    """`generate` without pauses and the bare calls, in turns, for a picture of 2 MB."""
    for name, side in SIDES.items():
        script = f"bytes={FILE_BYTES}"
        async with (
            simulator_process(side.simulator, "--script", script) as url,
            our_side(name, url, pace=AT_ONCE) as provider,
            httpx2.AsyncClient() as client,
        ):
            request = request_of(name)
            ours: list[float] = []
            theirs: list[float] = []
            for _ in range(RUNS):
                began = time.perf_counter()
                delivery = await provider.generate(request, SilentObserver())
                generated = time.perf_counter()
                data = await bare_side(name, url, client)
                ours.append(generated - began)
                theirs.append(time.perf_counter() - generated)
                assert len(delivery.images[0].data) == len(data) == FILE_BYTES
        mine, other = (1000 * median(times) for times in (ours, theirs))
        added = 1000 * median(our - their for our, their in zip(ours, theirs, strict=True))
        print(
            f"{name}: generate {mine:.1f} ms, bare calls {other:.1f} ms "
            f"({added:+.1f} ms, {mine / other:.2f} times)",
            flush=True,
        )


async def measure_waits() -> None:
    """How long after its end a job is known to have ended, and fetched, with a worker's pauses."""
    for name in QUEUED:
        lags: list[float] = []
        async with (
            simulator_process(name, "--seconds-per-job", str(JOB_SECONDS)) as url,
            our_side(name, url) as provider,
        ):

            async def wait(provider: OpenProvider = provider, name: str = name) -> float:
                began = time.perf_counter()
                await provider.generate(request_of(name), SilentObserver())
                return time.perf_counter() - began - JOB_SECONDS

            for _ in range(RUNS // WAITS_AT_ONCE):
                lags += await asyncio.gather(*(wait() for _ in range(WAITS_AT_ONCE)))
        print(
            f"{name}, jobs of {JOB_SECONDS:.0f} s: received {median(lags):.2f} s after their end "
            f"(median), {max(lags):.2f} s at most",
            flush=True,
        )


MEASURES: Final = {"memory": measure_memory, "work": measure_work, "waits": measure_waits}


async def main(names: Collection[str]) -> None:
    for name, measure in MEASURES.items():
        if name in names or not names:
            await measure()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
