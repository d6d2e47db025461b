"""`make bench`: Darkroom beside the least that would do the same, and a table of both.

`python -m bench --rounds 3 --scale 1.0 --rows "1 × 1000"` measures some rows, or more shortly.
"""

import argparse
import asyncio
import tempfile
from pathlib import Path
from statistics import median

from bench.report import Measured, write_report
from bench.rows import ROWS, Figures, Row
from bench.servers import Bench, open_bench

SERVERS = ("relay", "darkroom")


async def measure(bench: Bench, row: Row, *, rounds: int, scale: float) -> Measured:
    """Each round measures all servers, in an order that changes."""
    found: dict[str, list[Figures]] = {name: [] for name in SERVERS}
    for number in range(1 if row.only_once else rounds):
        for name in SERVERS if number % 2 == 0 else reversed(SERVERS):
            found[name].append(await row.measure(bench, bench.servers[name], scale))
    measured = Measured(row, found["relay"], found["darkroom"])
    for name in row.targets:
        ours = median(one[name] for one in found["darkroom"])
        theirs = median(one[name] for one in found["relay"])
        print(
            f"{row.name}: {name}: {ours:.1f}, relay {theirs:.1f}: {measured.ratio(name):.2f} × "
            f"(target {row.targets[name]:.2f}), longest block {measured.longest_block:.0f} ms",
            flush=True,
        )
    return measured


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the load of each round")
    parser.add_argument("--rows", default="", help="only rows whose name contains this")
    parser.add_argument("--report", action="store_true", help="write docs/performance.md")
    options = parser.parse_args()
    rows = [row for row in ROWS if options.rows in row.name]
    with tempfile.TemporaryDirectory() as folder:
        async with open_bench(Path(folder), "relay") as bench:
            measured = [
                await measure(bench, row, rounds=options.rounds, scale=options.scale)
                for row in rows
            ]
    if options.report:
        write_report(measured)


if __name__ == "__main__":
    asyncio.run(main())
