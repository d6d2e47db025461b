"""The rows of the table: each measures one server, and is run for all of them in turns."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, Final, TypeAlias

import orjson

from bench.documents import CONVERSATION, FOLLOW, IMAGES, START
from bench.load import Requests, Socket, Sockets
from bench.servers import Bench, Server
from domain.pages import MAX_PAGE_SIZE

Figures: TypeAlias = dict[str, float]
Measure: TypeAlias = Callable[[Bench, Server, float], Awaitable[Figures]]

_CROWDED_SECONDS: Final = 9
"""The p99 of one second is that of its two slowest commits, and mongod may stop all commits for
longer than that while it writes a checkpoint. The median of several seconds leaves such a one out.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """`targets` are multiples of the relay's figures."""

    name: str
    measure: Measure
    targets: Mapping[str, float]
    only_first: Collection[str] = ()
    """The figures that count in the first round only: a server that has done it before would not
    be the same.
    """
    plain_scale: float = 0.25
    """The part of the load that the plain server gets, which may need 30 times as long."""
    own_scale: float | None = None
    """The scale where it is not the one of all rows."""

    @property
    def is_measured_once(self) -> bool:
        return self.targets.keys() <= set(self.only_first)


async def fan_out(bench: Bench, server: Server, scale: float) -> Figures:
    """One conversation, 1,000 subscribers; a commit once all have the one before."""
    return await follow_one(bench, server, subscribers=1000, commits=_part(100, scale))


async def follow_one(bench: Bench, server: Server, *, subscribers: int, commits: int) -> Figures:
    """One conversation; a commit once all have the one before."""
    (conversation_id,) = await bench.add(1, turns=3)
    sockets = Sockets(server.port, server.token)
    await sockets.subscribe(FOLLOW, [conversation_id] * subscribers)
    figures = await land_on(
        bench, server, sockets, conversation_id=conversation_id, commits=commits
    )
    await sockets.close()
    return figures


async def land_on(
    bench: Bench, server: Server, sockets: Sockets, *, conversation_id: str, commits: int
) -> Figures:
    """Commits, each once all of these sockets have the one before."""
    subscribers = len(sockets.all)

    async def land(marker: int) -> float:
        began = time.perf_counter()
        await bench.commit(conversation_id, marker)
        heard = [socket for socket in sockets.all if socket.marker < marker]
        await sockets.until(lambda: _all_have(heard, marker))
        return time.perf_counter() - began

    for marker in range(3):
        await land(marker)
    await server.probe()
    used, frames = server.processor(), sockets.frames
    times = [await land(marker) for marker in range(3, 3 + commits)]
    used, frames = server.processor() - used, sockets.frames - frames
    probed = await server.probe()
    assert frames >= subscribers * commits, "updates were lost"
    return {"µs per update": 1e6 * used / frames, "last ms": 1000 * median(times), **probed}


def _has(socket: Socket, marker: int) -> bool:
    return socket.marker >= marker


def _all_have(sockets: list[Socket], marker: int) -> bool:
    while sockets and sockets[-1].marker >= marker:
        sockets.pop()
    return not sockets


async def many_at_most(bench: Bench, server: Server, scale: float) -> Figures:
    """500 conversations with two subscribers each; 8 commits under way at any time."""
    return await follow_many(bench, server, commits=_part(2_000, scale), per_second=None)


async def many_at_100(bench: Bench, server: Server, scale: float) -> Figures:
    """The same at 100 commits a second."""
    return await follow_many(bench, server, commits=_part(500, scale), per_second=100)


async def crowd(bench: Bench, server: Server, scale: float) -> Figures:
    """1,000 conversations with ten subscribers each; in each of some seconds, 200 outputs land.

    The p99 is the median of those of the seconds.
    """
    ids = await bench.add(_part(1_000, scale), turns=1)
    sockets = Sockets(server.port, server.token)
    await sockets.subscribe(FOLLOW, ids * 10)
    await asyncio.sleep(1)
    held = server.megabytes() - server.idle_megabytes
    await server.probe()
    chosen = ids[:: max(1, len(ids) // _part(200, scale))][: _part(200, scale)]
    used, frames, percentiles = server.processor(), sockets.frames, list[float]()
    for second in range(_CROWDED_SECONDS):
        times = await _land_within_a_second(bench, sockets, chosen, first=second * len(chosen))
        percentiles.append(sorted(times)[int(0.99 * len(times))])
    used, frames = server.processor() - used, sockets.frames - frames
    probed = await server.probe()
    await sockets.close()
    return {
        "µs per update": 1e6 * used / frames,
        "p99 ms": 1000 * median(percentiles),
        "MB per 1000": 1000 * held / len(ids * 10),
        **probed,
    }


async def _land_within_a_second(
    bench: Bench, sockets: Sockets, ids: list[str], *, first: int
) -> list[float]:
    """One commit in each of these conversations, evenly. Return the seconds from each commit's
    beginning to each of its updates.
    """
    began, committed = time.perf_counter(), dict[str, float]()

    async def land(number: int, conversation_id: str) -> None:
        await asyncio.sleep(max(0, began + number / len(ids) - time.perf_counter()))
        committed[conversation_id] = time.perf_counter()
        await bench.commit(conversation_id, first + number)

    wanted = set(ids)
    following = [one for one in sockets.all if one.conversation_id in wanted]
    expected = sockets.frames + len(following)
    await asyncio.gather(*(land(number, name) for number, name in enumerate(ids)))
    await sockets.until(lambda: sockets.frames >= expected)
    return [one.heard_at - committed[one.conversation_id] for one in following]


async def follow_many(
    bench: Bench, server: Server, *, commits: int, per_second: int | None, conversations: int = 500
) -> Figures:
    """Conversations with two subscribers each; 8 commits under way at any time."""
    ids = await bench.add(conversations, turns=1)
    sockets = Sockets(server.port, server.token)
    await sockets.subscribe(FOLLOW, ids * 2)
    await asyncio.sleep(0.5)
    await server.probe()
    used, frames = server.processor(), sockets.frames
    numbers, began = iter(range(commits)), time.perf_counter()

    async def write() -> None:
        for number in numbers:
            if per_second is not None:
                await asyncio.sleep(max(0, began + number / per_second - time.perf_counter()))
            await bench.commit(ids[number % len(ids)], number)

    await asyncio.gather(*(write() for _ in range(8)))
    await sockets.until_quiet(frames + 2 * commits)
    took = max(socket.heard_at for socket in sockets.all) - began
    used = server.processor() - used
    probed = await server.probe()
    await sockets.close()
    return {"µs per update": 1e6 * used / (2 * commits), "commits/s": commits / took, **probed}


async def one_at_50(bench: Bench, server: Server, scale: float) -> Figures:
    """One subscriber, 50 commits a second."""
    (conversation_id,) = await bench.add(1, turns=3)
    sockets = Sockets(server.port, server.token)
    await sockets.subscribe(FOLLOW, [conversation_id])
    (socket,) = sockets.all
    for marker in range(20):
        await bench.commit(conversation_id, marker)
        await asyncio.sleep(0.02)
    commits = _part(250, scale)
    await server.probe()
    used, times = server.processor(), []
    for marker in range(100, 100 + commits):
        began = time.perf_counter()
        await bench.commit(conversation_id, marker)
        await sockets.until(partial(_has, socket, marker))
        times.append(socket.heard_at - began)
        await asyncio.sleep(max(0, began + 0.02 - time.perf_counter()))
    used = server.processor() - used
    probed = await server.probe()
    await sockets.close()
    return {"µs per update": 1e6 * used / commits, "p50 ms": 1000 * median(times), **probed}


async def conversation(bench: Bench, server: Server, scale: float) -> Figures:
    """A conversation of 20 turns of 4 outputs, over 32 connections."""
    return await read_conversation(bench, server, turns=20, requests=_part(600, scale))


async def read_conversation(bench: Bench, server: Server, *, turns: int, requests: int) -> Figures:
    """A conversation with its latest turns, as many as a page may have, over 32 connections."""
    ids = await bench.add(20, turns=turns)
    page = min(turns, MAX_PAGE_SIZE)
    bodies = [
        _body(CONVERSATION, "Conversation", id=ids[number % len(ids)], last=page)
        for number in range(requests)
    ]
    return await _requests(server, bodies)


async def images(bench: Bench, server: Server, scale: float) -> Figures:
    """A page of 50 images of the gallery."""
    await bench.add(1, turns=20, gallery=True)
    own = {"owner": bench.owner_id} if server.name == "relay" else {}
    body = _body(IMAGES, "Images", **own)
    return await _requests(server, [body] * _part(600, scale))


async def _requests(server: Server, bodies: list[bytes]) -> Figures:
    requests = Requests(server.port, server.token)
    await requests.run(bodies[: len(bodies) // 5], connections=32)
    await server.probe()
    used = server.processor()
    times = await requests.run(bodies, connections=32)
    used = server.processor() - used
    return {
        "µs per request": 1e6 * used / len(bodies),
        "p50 ms": 1000 * median(times),
        **await server.probe(),
    }


async def idle(bench: Bench, server: Server, scale: float) -> Figures:
    """What 2,000 subscribers hold while nothing happens, of a server that had none before."""
    ids = await bench.add(_part(500, scale), turns=2)
    sockets = Sockets(server.port, server.token)
    await sockets.subscribe(FOLLOW, ids[:20])
    held = server.megabytes()
    await sockets.subscribe(FOLLOW, ids * 4)
    await asyncio.sleep(1)
    held = server.megabytes() - held
    await sockets.close()
    return {"MB per 1000": 1000 * held / len(ids * 4)}


async def connect(bench: Bench, server: Server, scale: float) -> Figures:
    """Connect and subscribe, the first state included."""
    count = _part(1000, scale)
    ids = await bench.add(count // 2, turns=2)
    sockets = Sockets(server.port, server.token)
    await sockets.subscribe(FOLLOW, ids[:50])
    await server.probe()
    used = server.processor()
    await sockets.subscribe(FOLLOW, ids * 2)
    used = server.processor() - used
    probed = await server.probe()
    await sockets.close()
    return {"µs": 1e6 * used / count, **probed}


async def start(bench: Bench, server: Server, scale: float) -> Figures:
    """`startConversation`, one at a time. Its output only waits: see `bench.darkroom`."""
    count = _part(150, scale)
    bodies = []
    for number in range(count + 20):
        records, (turn,) = bench.records.conversation(turns=1)
        given: dict[str, Any] = {
            "input": {
                "userMessage": f"A lighthouse in a storm {number}",
                "selectedModels": ["rehearsal-hangs"],
            }
        }
        if server.name == "relay":
            given = {"records": {"conversations": records, "turns": turn}}
        bodies.append(_body(START, "Start", **given))
    requests = Requests(server.port, server.token)
    await requests.run(bodies[:20], connections=1)
    await server.probe()
    used = server.processor()
    times = await requests.run(bodies[20:], connections=1)
    used = server.processor() - used
    probed = await server.probe()
    return {"µs per start": 1e6 * used / count, "p50 ms": 1000 * median(times), **probed}


def _part(count: int, scale: float) -> int:
    return max(1, int(count * scale))


def _body(document: str, name: str, **variables: Any) -> bytes:
    return orjson.dumps({"query": document, "operationName": name, "variables": variables})


ROWS: Final = (
    Row(
        "idle subscribers",
        idle,
        {"MB per 1000": 1.40},
        only_first=["MB per 1000"],
        own_scale=1.0,
    ),
    # Before all that leaves memory behind which is not its own.
    Row(
        "10,000 sockets, 200 commits in 1 s",
        crowd,
        {"µs per update": 1.25, "p99 ms": 1.25, "MB per 1000": 1.40},
        only_first=["MB per 1000"],
        own_scale=1.0,
        plain_scale=0.1,
    ),
    Row("1 × 1000", fan_out, {"µs per update": 0.80}, plain_scale=0.075),
    # A round of them is short: at a smaller scale, it is one of a second or two.
    Row("500 × 2, highest rate", many_at_most, {"µs per update": 1.25}, own_scale=1.0),
    Row("500 × 2, 100 commits/s", many_at_100, {"µs per update": 1.10}, own_scale=1.0),
    Row("1 × 1, 50 commits/s", one_at_50, {"µs per update": 1.20, "p50 ms": 1.15}),
    Row("conversation, 20 turns × 4 outputs", conversation, {"µs per request": 1.30}),
    Row("viewer.images, page of 50", images, {"µs per request": 1.50}),
    Row("connect + subscribe", connect, {"µs": 1.50}),
    Row("startConversation", start, {"µs per start": 2.0, "p50 ms": 2.0}),
)
LONGEST_BLOCK_MS: Final = 50.0
