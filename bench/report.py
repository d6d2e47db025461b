"""Writes `docs/performance.md` and its plots from what was measured."""

import math
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final

from bench.growth import GrowthResult
from bench.plots import draw
from bench.rows import LONGEST_BLOCK_MS, Figures, Row
from bench.servers import PLAIN, RAISED_LIMITS

PATH: Final = Path("docs/performance.md")
_NAMES: Final = {"relay": "bare relay", "darkroom": "Darkroom", PLAIN: "plain Strawberry"}
_INTRODUCTION: Final = """\
# Performance

Written by `make bench`, which anyone can run again. Each row compares Darkroom, a process of its
own with its real settings and limits, with a bare relay (`bench/relay.py`): Starlette and uvicorn
in the same version, one change stream, the same records, and fields selected by hand; no GraphQL,
no tokens, no signed links. A plain Strawberry server (`bench/plain.py`), without tokens, links and
limits either, shows what GraphQL costs otherwise. Rounds alternate; figures are medians, and ratios
are medians of the rounds' ratios to the relay.
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """One row's rounds, by server."""

    row: Row
    rounds: Mapping[str, Sequence[Figures]]
    failures: list[str] = field(default_factory=list)

    def figure(self, server: str, name: str) -> float:
        """The median of the rounds, NaN where there is none."""
        return _median(figures[name] for figures in self.rounds_of(server, name))

    def ratio(self, server: str, name: str) -> float:
        """The median of the rounds' own ratios: the plain server has fewer rounds."""
        pairs = zip(self.rounds_of(server, name), self.rounds_of("relay", name), strict=False)
        return _median(mine[name] / max(other[name], 0.001) for mine, other in pairs)

    def rounds_of(self, server: str, name: str) -> Sequence[Figures]:
        return self.rounds[server][: 1 if name in self.row.only_first else None]

    def longest(self, name: str, server: str = "darkroom") -> float:
        """For how long the server's event loop was kept from anything else, in milliseconds."""
        return max((figures.get(name, 0.0) for figures in self.rounds[server]), default=math.nan)

    def sentences(self) -> Iterator[str]:
        """One line for each target: whether it is met."""
        for name, target in self.row.targets.items():
            ratio = self.ratio("darkroom", name)
            yield (
                f"{self.row.name}: {name}: {self.figure('darkroom', name):.1f}, "
                f"relay {self.figure('relay', name):.1f}: {ratio:.2f} × (target {target:.2f}: "
                f"{_met(ratio, target)}), plain {self.ratio(PLAIN, name):.2f} ×, "
                f"longest block {self.longest('longest_block_ms'):.0f} ms, own work in one "
                f"{self.longest('own_block_ms'):.0f} ms"
            )


def _median(values: Iterable[float]) -> float:
    known = list(values)
    return median(known) if known else math.nan


def write_report(rows: Sequence[Measured], grown: Sequence[GrowthResult]) -> None:
    load, processors = os.getloadavg()[1], os.cpu_count()
    lines = [
        _INTRODUCTION,
        f"Measured on {datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}, {processors} processors,",
        f"everything on one machine (load average {load:.1f} at the end).",
        "",
        "| | relay | Darkroom | plain | Darkroom × relay | plain × relay | target | met | rounds |",
        "|---|--:|--:|--:|--:|--:|--:|---|--:|",
        *(line for one in rows for line in _lines(one)),
        "",
        *(f"Failed: {one.row.name}, {failure}" for one in rows for failure in one.failures),
        *_blocks(rows),
        "",
        "Limits that are raised, since all load is one viewer's: "
        + ", ".join(f"`{name}={value}`" for name, value in RAISED_LIMITS.items())
        + ".",
        *(line for one in grown for line in _chapter(one)),
    ]
    PATH.write_text("\n".join(lines) + "\n")


def _lines(one: Measured) -> Iterator[str]:
    for name, target in one.row.targets.items():
        ratio = one.ratio("darkroom", name)
        figures = " | ".join(f"{one.figure(server, name):.1f}" for server in _NAMES)
        yield (
            f"| {one.row.name}: {name} | {figures} | {ratio:.2f} | {one.ratio(PLAIN, name):.2f} | "
            f"≤ {target:.2f} | {_met(ratio, target)} | {len(one.rounds_of('darkroom', name))} |"
        )


def _blocks(rows: Sequence[Measured]) -> Iterator[str]:
    yield from (
        "## How long the event loop stands still",
        "",
        "A timer of 5 ms in each server notes by how much it comes too late: that is a block. The",
        "machine is shared with the load and the database, so a block need not be the server's",
        "own work: `own` is the most that the loop's thread has used of a processor within one,",
        "and `collection` the longest pass of the garbage collector. The target is "
        f"{LONGEST_BLOCK_MS:.0f} ms.",
        "",
        "| ms | relay: block | own | Darkroom: block | own | collection | own within the target |",
        "|---|--:|--:|--:|--:|--:|---|",
    )
    for one in rows:
        own = one.longest("own_block_ms")
        if not own > 0:
            continue
        figures = " | ".join(
            f"{one.longest(name, server):.0f}"
            for server in ("relay", "darkroom")
            for name in ("longest_block_ms", "own_block_ms")
        )
        collection = one.longest("longest_collection_ms")
        met = _met(own, LONGEST_BLOCK_MS)
        yield f"| {one.row.name} | {figures} | {collection:.0f} | {met} |"


def _chapter(one: GrowthResult) -> Iterator[str]:
    curve = one.curve
    if not any(one.points.values()):
        return
    plot = PATH.with_name(f"performance-{curve.name.replace(' ', '-')}.svg")
    lines = {_NAMES[server]: points for server, points in one.points.items() if points}
    plot.write_text(
        draw(curve.name.capitalize(), horizontal=curve.what, vertical=curve.figure, lines=lines)
    )
    bend = one.bend("darkroom")
    bends = (
        "From the cheapest size on, none costs half as much again."
        if bend is None
        else f"It bends at {bend:,}: there it costs half as much again as at its cheapest size."
    )
    yield from (
        "",
        f"## {curve.name.capitalize()}",
        "",
        f"![{curve.figure} by {curve.what}]({plot.name})",
        "",
        f"{bends} {curve.why}",
        "",
        f"| {curve.what} | {' | '.join(lines)} |",
        f"|--:|{'--:|' * len(lines)}",
    )
    for size in curve.sizes:
        if not any(size in points for points in lines.values()):
            continue
        cells = (f"{points[size]:.1f}" if size in points else "" for points in lines.values())
        yield f"| {size:,} | {' | '.join(cells)} |"


def _met(ratio: float, target: float) -> str:
    return "yes" if ratio <= target else "no"
