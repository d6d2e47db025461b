"""`make bench`: Darkroom beside the least that would do the same, and a table of both.

`python -m bench --rounds 3 --scale 1.0 --rows "1 × 1000"` measures some rows, or more shortly.
"""

import argparse
import asyncio
import tempfile
from pathlib import Path

from bench.growth import CURVES, Grown, grow
from bench.report import Measured, write_report
from bench.rows import ROWS, Figures, Row
from bench.servers import PLAIN, SERVERS, Bench, open_bench


async def measure(bench: Bench, row: Row, *, rounds: int, scale: float) -> Measured:
    """Each round measures all servers, in an order that changes."""
    found: dict[str, list[Figures]] = {name: [] for name in SERVERS}
    for number in range(1 if row.only_once else rounds):
        for name in SERVERS if number % 2 == 0 else reversed(SERVERS):
            own_scale = scale * (row.plain_scale if name == PLAIN else 1)
            found[name].append(await row.measure(bench, bench.servers[name], own_scale))
    measured = Measured(row, found)
    for line in measured.sentences():
        print(line, flush=True)
    return measured


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the load of each round")
    parser.add_argument("--rows", default="", help="only rows and curves whose name contains this")
    parser.add_argument("--report", action="store_true", help="write docs/performance.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        async with open_bench(Path(folder)) as bench:
            measured = [
                await measure(bench, row, rounds=options.rounds, scale=options.scale)
                for row in ROWS
                if options.rows in row.name
            ]
            grown: list[Grown] = [
                await grow(bench, curve, scale=options.scale)
                for curve in CURVES
                if options.rows in curve.name
            ]
    if options.report:
        write_report(measured, grown)


if __name__ == "__main__":
    asyncio.run(main())
