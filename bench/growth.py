"""How cost grows: with the subscribers of a conversation, with conversations, with turns."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench.load import Sockets
from bench.rows import Figures, follow_many, follow_one, read_conversation
from bench.servers import PLAIN, SERVERS, Bench, Server
from domain.pages import MAX_PAGE_SIZE

POINT_SECONDS: Final = 120
"""How long one server may take for one size."""


@dataclass(frozen=True, slots=True)
class Curve:
    """`measure` gets the size and the scale of the load."""

    name: str
    what: str
    """Of the horizontal axis."""
    figure: str
    sizes: Sequence[int]
    measure: Callable[[Bench, Server, int, float], Awaitable[Figures]]
    longest_plain: int
    """The largest size for the plain server, which would need minutes for more."""
    why: str
    """What the cost of one consists of."""


@dataclass(frozen=True, slots=True)
class GrowthResult:
    curve: Curve
    points: Mapping[str, Mapping[int, float]]
    """The figure by server and size."""

    def bend(self, server: str) -> int | None:
        """The first size beyond the cheapest one that costs half as much again, if there is one."""
        points = self.points[server]
        if not points:
            return None
        cheapest = min(points, key=points.__getitem__)
        return next(
            (
                size
                for size, value in points.items()
                if size > cheapest and value > 1.5 * points[cheapest]
            ),
            None,
        )


async def grow(
    bench: Bench, curve: Curve, *, say: Callable[[str], None], ends_at: float, scale: float
) -> GrowthResult:
    """Measure each size once, on all servers, for as long as there is time."""
    points: dict[str, dict[int, float]] = {name: {} for name in SERVERS}
    for size in curve.sizes:
        if time.monotonic() > ends_at:
            say(f"{curve.name}: no time is left for {size} {curve.what} and more")
            break
        for name in SERVERS:
            if name == PLAIN and size > curve.longest_plain:
                continue
            own_scale = scale * (0.25 if name == PLAIN else 1)
            try:
                async with asyncio.timeout(POINT_SECONDS):
                    found = await curve.measure(bench, bench.servers[name], size, own_scale)
            except Exception as failure:
                await Sockets.close_all()
                say(f"{curve.name}: {name} at {size}: {failure!r:.200}")
            else:
                points[name][size] = found[curve.figure]
        known = ", ".join(f"{name} {of[size]:.0f}" for name, of in points.items() if size in of)
        say(f"{curve.name}: {size} {curve.what}: {curve.figure}: {known}")
    return GrowthResult(curve, points)


async def _subscribers(bench: Bench, server: Server, size: int, scale: float) -> Figures:
    commits = max(2, int(scale * min(100, 20_000 / size)))
    return await follow_one(bench, server, subscribers=size, commits=commits)


async def _conversations(bench: Bench, server: Server, size: int, scale: float) -> Figures:
    return await follow_many(
        bench, server, commits=int(500 * scale), per_second=None, conversations=size
    )


async def _turns(bench: Bench, server: Server, size: int, scale: float) -> Figures:
    requests = max(20, int(scale * min(400, 8_000 / size)))
    found = await read_conversation(bench, server, turns=size, requests=requests)
    return {"µs per turn": found["µs per request"] / min(size, MAX_PAGE_SIZE)}


CURVES: Final = (
    Curve(
        "growth with subscribers",
        "subscribers of one conversation",
        "µs per update",
        (1, 10, 100, 1_000, 10_000),
        _subscribers,
        longest_plain=1_000,
        why="An update is made once for all subscribers; what remains for each is one write to its "
        "socket. With few subscribers, the one read of the change stream dominates.",
    ),
    Curve(
        "growth with conversations",
        "conversations with two subscribers each",
        "µs per update",
        (1, 10, 100, 1_000),
        _conversations,
        longest_plain=1_000,
        why="Each commit is one event of the change stream, one update and two writes, however "
        "many conversations are followed.",
    ),
    Curve(
        "growth with turns",
        "turns of the conversation",
        "µs per turn",
        (1, 5, 20, 50, 100, 200),
        _turns,
        longest_plain=100,
        why="With few turns, the request itself dominates (token, cost, one read); then the "
        "decoding of the stored turns. A page has at most 100 of them, and costs the same however "
        "long the conversation is.",
    ),
)
