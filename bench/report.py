"""Writes `docs/performance.md` from what was measured."""

import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final

from bench.rows import LONGEST_BLOCK_MS, Figures, Row
from bench.servers import RAISED_LIMITS

PATH: Final = Path("docs/performance.md")


@dataclass(frozen=True, slots=True)
class Measured:
    """One row's rounds, on the relay and on Darkroom."""

    row: Row
    theirs: list[Figures]
    ours: list[Figures]

    def ratio(self, name: str) -> float:
        """The median of the rounds' own ratios."""
        pairs = zip(self.ours, self.theirs, strict=True)
        return median(mine[name] / max(other[name], 0.001) for mine, other in pairs)

    @property
    def longest_block(self) -> float:
        """Of Darkroom's event loop, in milliseconds."""
        return max(one.get("longest_block_ms", 0.0) for one in self.ours)

    @property
    def longest_collection(self) -> float:
        return max(one.get("longest_collection_ms", 0.0) for one in self.ours)


def write_report(rows: list[Measured]) -> None:
    lines = [
        "# Performance",
        "",
        "Written by `make bench`, which anybody can run again. Each row compares Darkroom, a "
        "process of its own",
        "with its real settings, with a bare relay (`bench/relay.py`): Starlette and uvicorn in "
        "the same",
        "version, one change stream, the same records, and fields selected by hand; no GraphQL, "
        "no tokens, no",
        "signed links. Rounds of both alternate; figures are medians, ratios are medians of the "
        "rounds' ratios.",
        "",
        f"Measured on {datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}, everything on one machine.",
        "",
        "| | relay | Darkroom | × relay | target | met | longest block | longest collection |",
        "|---|--:|--:|--:|--:|---|--:|--:|",
        *(line for one in rows for line in _lines(one)),
        "",
        f"A block of the event loop is to be at most {LONGEST_BLOCK_MS:.0f} ms.",
        "",
        "Limits that are raised, since all load is one viewer's: "
        + ", ".join(f"`{name}={value}`" for name, value in RAISED_LIMITS.items())
        + ".",
    ]
    PATH.write_text("\n".join(lines) + "\n")


def _lines(one: Measured) -> list[str]:
    lines: list[str] = []
    for name, target in one.row.targets.items():
        ours = median(figures[name] for figures in one.ours)
        theirs = median(figures[name] for figures in one.theirs)
        ratio = one.ratio(name)
        lines.append(
            f"| {one.row.name}: {name} | {theirs:.1f} | {ours:.1f} | {ratio:.2f} | "
            f"≤ {target:.2f} | {'yes' if ratio <= target else 'no'} | "
            f"{one.longest_block:.0f} ms | {one.longest_collection:.0f} ms |"
        )
    return lines
