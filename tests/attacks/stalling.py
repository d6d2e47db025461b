"""P10: clients that are slow, silent, or read nothing are dropped in time, and cost little."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from itertools import cycle
from time import monotonic
from typing import Final

from tests.attacks.limits import Limit
from tests.attacks.site import Site
from tests.attacks.slow_uploads import present_upload, send_slowly
from tests.attacks.unread_streams import (
    Owner,
    count_subscriptions,
    owners_of_streams,
    unread_streams,
)
from tests.clients import Data
from tests.edge.hostile import Connection, connection_to, memory_of
from tests.edge.test_hostile_sockets import FINAL, TEXT, connect, frame, read_close_code
from tests.promises.figures import open_files_of
from tests.promises.test_clients_that_stall import LARGE, OPERATIONS
from tests.resilience.scale import load_factor
from tests.waits import eventually

SHARE_READING_NOTHING: Final = 0.1
SHARE_DRIPPING: Final = 0.05
SHARE_STREAMS: Final = 0.05
OPENING: Final = 100
"""At once."""
DRIP_SECONDS: Final = 0.2
HEAD: Final = b"POST /graphql HTTP/1.1\r\nHost: x\r\n"
BODY: Final = HEAD + b"Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
DROPPED_SECONDS: Final = 300.0
LEFT_FILES: Final = 5
"""That others may have open."""
LATEST: Final = {
    "silent": 5.0,
    "slow heads": 10.0,
    "slow bodies": 10.0,
    "slow uploads": 10.0,
    "slow forms": 10.0,
    "reading nothing": 30.0,
    "streams that nobody reads": 30.0,
}
"""After how many seconds each kind is dropped, with what its client has to read a refusal."""
SLACK_SECONDS: Final = 0.5
"""For timers. All takes longer where more processes want to run than there are processors."""
SERVED_BYTES: Final = 2_000_000
IDLE_BYTES: Final = 64_000
DRIFT_BYTES: Final = 10_000_000
"""How much more a second wave may take: how many are served in the same moment differs."""


class Stalling:
    def __init__(self, site: Site, owners: Sequence[Owner]) -> None:
        self._site = site
        self._owners = owners
        self._tokens = cycle(site.attackers)
        self._opening = asyncio.Semaphore(OPENING)
        self.refused = 0
        self.slowest = dict.fromkeys(LATEST, 0.0)

    async def be_silent(self) -> None:
        async with AsyncExitStack() as stack:
            async with self._opening:
                connection = await stack.enter_async_context(connection_to(self._site.api))
                try:
                    await connect(connection)
                except (EOFError, OSError):  # The server was too busy to read the head in time.
                    self.refused += 1
                    return
            began = monotonic()
            assert await read_close_code(connection) == 4408
            self._note("silent", began)

    async def drip(self, what: str, begin: bytes, again: bytes) -> None:
        async with connection_to(self._site.api) as connection:
            began = monotonic()
            await connection.send(begin)
            await connection.drip(again, every=DRIP_SECONDS)
            self._note(what, began)

    async def read_nothing(self, stack: AsyncExitStack) -> None:
        """Ask for more than the kernel keeps."""
        async with self._opening:
            connection = await stack.enter_async_context(
                connection_to(self._site.api, has_room=False)
            )
            await connect(connection)
            connection.stop_reading()
            await self._ask_for_much(connection)

    async def present_uploads(self, number: int) -> list[Data]:
        """As many of each method."""

        async def present(method: str) -> Data:
            async with self._opening:
                return await present_upload(self._site, method)

        return await asyncio.gather(*(present(method) for method in ("PUT", "POST") * number))

    async def upload_slowly(self, upload: Data) -> None:
        began = monotonic()
        await send_slowly(self._site, upload)
        self._note("slow uploads" if upload["method"] == "PUT" else "slow forms", began)

    async def read_no_streams(self, streams: int) -> None:
        """They are dropped when their subscriptions have ended."""

        async def are(count: int) -> bool:
            return await count_subscriptions(self._site) == count

        async with unread_streams(self._site, self._owners, streams):
            await eventually(partial(are, streams), what="all streams are open", every=0.5)
            await self.note_dropped("streams that nobody reads", partial(are, 0))

    async def note_dropped(
        self, what: str, are_dropped: Callable[[], bool | Awaitable[bool]]
    ) -> None:
        began = monotonic()
        await eventually(are_dropped, within=DROPPED_SECONDS, what=what, every=0.2)
        self._note(what, began)

    async def _ask_for_much(self, connection: Connection) -> None:
        token = f"Bearer {next(self._tokens)}"
        init = {"type": "connection_init", "payload": {"authorization": token}}
        asked = {"type": "subscribe", "payload": {"query": LARGE}}
        for message in (init, *({"id": str(n), **asked} for n in range(OPERATIONS))):
            await connection.send(frame(FINAL | TEXT, json.dumps(message).encode()))

    def _note(self, what: str, began: float) -> None:
        self.slowest[what] = max(self.slowest[what], monotonic() - began)


async def attack(site: Site, limit: Limit) -> str:
    """A wave, and a second one, which adds nothing."""
    async with owners_of_streams(site) as owners:
        first, stalling = memory_of(site.api), Stalling(site, owners)
        await _wave(site, stalling, limit.count)
        second = memory_of(site.api)
        await _wave(site, stalling, limit.count)
        limit.done = 2 * limit.count
        third = memory_of(site.api)
    dropped = ", ".join(f"{what} {seconds:.1f} s" for what, seconds in stalling.slowest.items())
    cost = (
        f"2 waves of {limit.count} clients, {stalling.refused} of them refused; "
        f"the slowest were dropped after: {dropped}; "
        f"the first wave left {(second - first) / 1e6:+.1f} MB, the second "
        f"{(third - second) / 1e6:+.1f} MB"
    )
    for what, seconds in stalling.slowest.items():
        assert seconds < (LATEST[what] + SLACK_SECONDS) * load_factor(), cost
    served = round(limit.count * (SHARE_READING_NOTHING + SHARE_STREAMS))
    assert second - first < served * SERVED_BYTES + limit.count * IDLE_BYTES, cost
    assert third - second < DRIFT_BYTES, cost
    return cost


async def _wave(site: Site, stalling: Stalling, clients: int) -> None:
    files = open_files_of(site.api)
    reading_nothing, dripping, streams = (
        max(1, round(clients * share))
        for share in (SHARE_READING_NOTHING, SHARE_DRIPPING, SHARE_STREAMS)
    )

    def are_closed() -> bool:
        return open_files_of(site.api) <= files + LEFT_FILES

    uploads = await stalling.present_uploads(dripping)
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(stalling.be_silent())
        for _ in range(dripping):
            group.create_task(stalling.drip("slow heads", HEAD, b"a"))
            group.create_task(stalling.drip("slow bodies", BODY, b" "))
        for upload in uploads:
            group.create_task(stalling.upload_slowly(upload))
    async with AsyncExitStack() as stack:
        await asyncio.gather(*(stalling.read_nothing(stack) for _ in range(reading_nothing)))
        await stalling.note_dropped("reading nothing", are_closed)
    await stalling.read_no_streams(streams)
    await eventually(are_closed, within=DROPPED_SECONDS, what="all connections are closed")
