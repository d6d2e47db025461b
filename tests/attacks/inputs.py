"""P8: no input makes an internal error or an unexplained close."""

import asyncio
import json
from itertools import cycle
from random import Random
from typing import Any, Final

from tests.attacks.limits import Limit
from tests.attacks.site import Site
from tests.attacks.wire import INTERNAL, TOO_MANY, Wire, wires
from tests.edge.hostile import connection_to
from tests.edge.test_hostile_inputs import fields, operations_of
from tests.edge.test_hostile_sockets import FINAL, TEXT, connect, frame, read_close_code
from tests.promises.mutations import a_body, some_frames
from tests.promises.test_inputs import CLOSES, CLOSES_OF_GRAPHQL, STATUSES
from tests.resilience.scale import SEED

WORKERS: Final = 8
SOCKETS: Final = 40
"""At once. On some a frame says that it is longer than it is: the server closes it after a ping."""
SHARE_OF_SOCKETS: Final = 0.02
SHARE_OF_VALUES: Final = 0.05
FRAMES: Final = 5
"""At most, on a socket."""


class Inputs:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._random = Random(f"{SEED} inputs")
        self._values = cycle(
            body for name, field, around in fields() for body in operations_of(name, field, around)
        )
        self.frames = 0

    async def send(self, wire: Wire) -> None:
        own = self._random.random() < SHARE_OF_VALUES
        await self._post(wire, _encode(next(self._values)) if own else a_body(self._random))

    async def _post(self, wire: Wire, body: bytes) -> None:
        token = self._random.choice([*self._site.attackers, None])
        answer = await wire.post(body, token)
        while answer.status == TOO_MANY:
            answer = await wire.post(body, self._random.choice(self._site.attackers))
        assert answer.status in STATUSES, (SEED, answer, body[:500])
        assert INTERNAL not in answer.body, (SEED, body[:500])
        assert answer.status == 200 or b'"code":"' in answer.body, (answer, body[:500])

    async def send_frames(self) -> None:
        random = self._random
        token = f"Bearer {random.choice(self._site.attackers)}"
        init = {"type": "connection_init", "payload": {"authorization": token}}
        async with connection_to(self._site.api) as connection:
            await connect(connection)
            if random.random() < 0.8:
                await connection.send(frame(FINAL | TEXT, _encode(init)))
            for _ in range(random.randint(1, FRAMES)):
                await connection.send(some_frames(random, frame))
                self.frames += 1
            await connection.send(frame(FINAL | 0x8, b"\x03\xe8"))
            code = await read_close_code(connection)
            assert code in CLOSES or code in CLOSES_OF_GRAPHQL, (SEED, code)


def _encode(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")


async def attack(site: Site, limit: Limit) -> str:
    inputs = Inputs(site)
    sockets = Limit(round(limit.count * SHARE_OF_SOCKETS), limit.seconds)
    async with wires(site.api, WORKERS) as open_wires, asyncio.TaskGroup() as group:
        group.create_task(sockets.work(SOCKETS, lambda _: inputs.send_frames()))
        await limit.work(WORKERS, lambda number: inputs.send(open_wires[number]))
    return f"{limit.done} bodies, and {inputs.frames} messages on {sockets.done} sockets"
