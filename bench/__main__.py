"""`make bench`: Darkroom beside the least that would do the same, and a table of both.

`python -m bench --rounds 3 --scale 1.0 --rows "1 × 1000"` measures some rows, or more shortly. What
has been measured is written after each row: a run that is ended early is not lost.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeVar

from bench.growth import CURVES, GrowthResult, grow
from bench.load import Sockets
from bench.report import Measured, write_report
from bench.rows import ROWS, Figures, Row
from bench.servers import PLAIN, SERVERS, Bench, open_bench

ROW_SECONDS: Final = 120
PLAIN_SECONDS: Final = 60
"""How long one server may take for a row, the plain one included."""
SHORT_ROW_SECONDS: Final = 40
MOST_TIMES_THE_ROUNDS: Final = 3
"""A row that has taken less time is repeated, up to so many times as often: the processor's speed
changes within seconds on machines that others share.
"""
GROWTH_SHARE: Final = 0.3
"""Of the time, for the curves."""

_Item = TypeVar("_Item")


class Budget:
    """Divides the time that is left among what is still to be measured."""

    def __init__(self, minutes: float) -> None:
        self._began = time.monotonic()
        self._ends_at = self._began + 60 * minutes

    def say(self, text: str) -> None:
        seconds = int(time.monotonic() - self._began)
        print(f"{seconds // 60:3}:{seconds % 60:02}  {text}", flush=True)

    def end_of_next(self, items: Sequence[_Item], *, reserved: float = 0.0) -> float:
        """When the next of these items is to have ended. `reserved`: seconds for what follows."""
        left = self._ends_at - reserved - time.monotonic()
        return time.monotonic() + max(0.0, left) / max(1, len(items))


async def measure(
    bench: Bench, row: Row, budget: Budget, *, ends_at: float, options: argparse.Namespace
) -> Measured:
    """Each round measures the relay and Darkroom, in an order that changes; the plain server, which
    needs longest, is measured once. At least one round, more of a short row, and no more than there
    is time for.
    """
    found: dict[str, list[Figures]] = {name: [] for name in SERVERS}
    measured = Measured(row, found)
    scale = options.scale if row.own_scale is None else row.own_scale
    budget.say(f"{row.name} ...")
    row_began = time.monotonic()
    for number in range(1 if row.is_measured_once else options.rounds * MOST_TIMES_THE_ROUNDS):
        began = time.monotonic()
        if number >= options.rounds and began > row_began + SHORT_ROW_SECONDS:
            break
        for name in SERVERS if number % 2 == 0 else reversed(SERVERS):
            if name == PLAIN and number > 0:
                continue
            part = row.plain_scale if name == PLAIN else 1
            try:
                limit = PLAIN_SECONDS if name == PLAIN else ROW_SECONDS
                async with asyncio.timeout(limit):
                    found[name].append(await row.measure(bench, bench.servers[name], scale * part))
            except Exception as failure:
                await Sockets.close_all()
                measured.failures.append(f"{name}: {failure!r:.200}")
                budget.say(f"{row.name}: {measured.failures[-1]}")
        if time.monotonic() + (time.monotonic() - began) > ends_at:
            break
    for line in measured.sentences():
        budget.say(line)
    return measured


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--rounds", type=int, default=3, help="of each row; of short ones up to three times as many"
    )
    parser.add_argument("--scale", type=float, default=0.4, help="of the load of each round")
    parser.add_argument("--minutes", type=float, default=17.0, help="for rows and curves")
    parser.add_argument("--rows", default="", help="only rows and curves whose name contains this")
    parser.add_argument("--report", action="store_true", help="write docs/performance.md")
    options = parser.parse_args()
    rows = [row for row in ROWS if options.rows in row.name]
    curves = [curve for curve in CURVES if options.rows in curve.name]
    reserved = 60 * options.minutes * GROWTH_SHARE if curves else 0.0
    measured: list[Measured] = []
    grown: list[GrowthResult] = []
    with tempfile.TemporaryDirectory() as folder:
        budget = Budget(options.minutes)
        async with open_bench(Path(folder)) as bench:
            for number, row in enumerate(rows):
                ends_at = budget.end_of_next(rows[number:], reserved=reserved)
                measured.append(await measure(bench, row, budget, ends_at=ends_at, options=options))
                if options.report:
                    write_report(measured, grown)
            for number, curve in enumerate(curves):
                ends_at = budget.end_of_next(curves[number:])
                grown.append(
                    await grow(bench, curve, say=budget.say, ends_at=ends_at, scale=options.scale)
                )
                if options.report:
                    write_report(measured, grown)


if __name__ == "__main__":
    asyncio.run(main())
