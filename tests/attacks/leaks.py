"""P18: clients that come and go leave nothing behind."""

import asyncio
import json
from itertools import cycle
from typing import Final

from tests.attacks.limits import Limit
from tests.attacks.site import Site
from tests.edge.hostile import connection_to, memory_of
from tests.edge.test_hostile_sockets import (
    CLOSE,
    FINAL,
    TEXT,
    connect,
    frame,
    read_close_code,
)
from tests.promises.figures import open_files_of
from tests.promises.test_clients_that_stall import LARGE
from tests.waits import eventually

WORKERS: Final = 12
CYCLES: Final = 10
"""Subscriptions of one socket, each of which is completed."""
LEFT_FILES: Final = 5
WARM: Final = 500
"""Sockets before the measurement: pools and caches are filled by then."""
NORMAL: Final = frame(FINAL | CLOSE, b"\x03\xe8")


class Visitors:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._tokens = cycle(site.attackers)
        self.subscriptions = 0
        self.refused = 0

    async def come_and_go(self) -> None:
        """Subscribe and complete on a socket, and leave a request without reading its answer."""
        token = f"Bearer {next(self._tokens)}"
        messages: list[dict[str, object]] = [
            {"type": "connection_init", "payload": {"authorization": token}}
        ]
        for number in range(CYCLES):
            asked = {"query": "subscription { viewerUpdated { id } }"}
            messages += [
                {"id": str(number), "type": "subscribe", "payload": asked},
                {"id": str(number), "type": "complete"},
            ]
        sent = b"".join(frame(FINAL | TEXT, json.dumps(one).encode()) for one in messages)
        async with connection_to(self._site.api) as connection:
            await connect(connection)
            await connection.send(sent + NORMAL)
            code = await read_close_code(connection)
            self.refused += code != 1000
        self.subscriptions += CYCLES
        await self._leave(token)

    async def _leave(self, token: str) -> None:
        body = json.dumps({"query": LARGE}).encode()
        head = (
            f"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Authorization: {token}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        async with connection_to(self._site.api) as connection:
            await connection.send(head.encode() + body)
            await asyncio.sleep(0.002)
            connection.reset()


async def attack(site: Site, limit: Limit) -> str:
    warming = Visitors(site)
    await Limit(min(WARM, limit.count), limit.seconds).work(
        WORKERS, lambda _: warming.come_and_go()
    )
    files, before = open_files_of(site.api), memory_of(site.api)
    visitors = Visitors(site)
    await limit.work(WORKERS, lambda _: visitors.come_and_go())
    await eventually(
        lambda: open_files_of(site.api) <= files + LEFT_FILES, what="no connection is left"
    )
    return (
        f"{visitors.subscriptions} subscriptions, {limit.done} sockets and as many requests that "
        f"were left; {visitors.refused} sockets refused; "
        f"memory {(memory_of(site.api) - before) / 1e6:+.1f} MB"
    )
