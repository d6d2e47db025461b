"""Webhooks in a storm: receivers fail, hang, answer wrongly and disappear, and processes are killed
at random.

Nothing is lost, the events of a turn stay in order, and what comes twice has the same id.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from standardwebhooks.webhooks import WebhookVerificationError
from starlette.responses import Response

from domain.errors import Overloaded
from domain.ids import TurnId, ViewerId, viewer_id_of
from storage.mongo.database import Database
from tests.receivers import (
    Received,
    Receiver,
    a_receiver,
    accept,
    accept_with_an_endless_body,
    fail,
    hang,
    redirect_to,
)
from tests.resilience.processes import Process
from tests.resilience.scale import KILLS, SEED
from tests.storage.faulty_proxy import Fault, open_faulty_proxy
from tests.storage.hooks import SECRET, a_hook, a_turn_that_ends
from tests.waits import eventually

EVENTS: Final = 1_000 if KILLS else 60
"""Of both webhooks together."""
OUTPUTS: Final = 2
PROCESSES: Final = 3
SECONDS_BETWEEN_KILLS: Final = 0.5
LIMIT_SECONDS: Final = 600.0 if KILLS else 120.0
VIEWERS: Final = [viewer_id_of("tests", name) for name in ("ana", "bob")]
TURNS: Final = -(-EVENTS // len(VIEWERS) // (OUTPUTS + 1))
"""Of each viewer."""


class _Deliverer(Process):
    async def _is_ready(self, _: httpx2.AsyncClient, /) -> bool:
        return "delivering" in self._text_since_start()


@asynccontextmanager
async def _deliverers(folder: Path, environment: dict[str, str]) -> AsyncIterator[list[_Deliverer]]:
    processes = [
        _Deliverer(
            f"deliverer-{number}",
            ["tests.resilience.deliverer_process"],
            log_dir=folder,
            environment=environment,
        )
        for number in range(PROCESSES)
    ]
    try:
        await asyncio.gather(*(process.start() for process in processes))
        yield processes
    finally:
        await asyncio.gather(*(process.kill() for process in processes if process.pid))


def _moody(chance: random.Random, receiver: Receiver, unsigned: list[str]) -> Any:
    """Signatures are verified on arrival: some minutes later they are too old."""
    moods = [
        *[accept] * 12,
        fail,
        hang,
        accept_with_an_endless_body,
        redirect_to(f"{receiver.url}/elsewhere"),
    ]

    async def behave(one: Received) -> Response | None:
        try:
            one.verify(SECRET)
        except WebhookVerificationError:
            unsigned.append(one.id)
        return await chance.choice(moods)(one)

    return behave


def _mortal(chance: random.Random) -> Callable[[bytes], Fault]:
    """How a request ends: some receivers are killed before it, and some after,
    when the sender cannot know that it has arrived.
    """
    faults = [*[Fault()] * 8, Fault(refuses=True), Fault(cut_answer_after=1)]
    return lambda _: chance.choice(faults)


async def _kill_forever(processes: list[_Deliverer], chance: random.Random) -> None:
    while True:
        await asyncio.sleep(chance.uniform(0, 2 * SECONDS_BETWEEN_KILLS))
        process = chance.choice(processes)
        await process.kill()
        await process.start()


@pytest.mark.timeout(0 if KILLS else 200)
async def test_no_event_is_lost_and_events_of_a_turn_stay_in_order(
    database: Database, mongodb_uri: str, tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    environment = {
        "DARKROOM_MONGODB_URI": mongodb_uri,
        "DARKROOM_MONGODB_DATABASE": database.commands.name,
    }
    async with (
        a_receiver() as receiver,
        open_faulty_proxy(receiver.url) as proxy,
        _deliverers(tmp_path, environment) as processes,
    ):
        proxy.choose_fault_by(_mortal(chance))
        unsigned: list[str] = []
        paths = [f"/{number}" for number, _ in enumerate(VIEWERS)]
        hooks = [
            await a_hook(database, proxy.url + path, viewer_id=viewer)
            for path, viewer in zip(paths, VIEWERS, strict=True)
        ]
        for path in paths:
            receiver.scripts[path] = _moody(chance, receiver, unsigned)
        killing = asyncio.create_task(_kill_forever(processes, chance))

        async def make_turns(viewer: ViewerId) -> list[TurnId]:
            made: list[TurnId] = []
            while len(made) < TURNS:
                with suppress(Overloaded):  # The machine is busy, and the turn may never end.
                    turn = await a_turn_that_ends(database, outputs=OUTPUTS, viewer_id=viewer)
                    made.append(turn.id)
            return made

        async def all_is_delivered() -> bool:
            assert not killing.done(), killing.result()
            return await database.deliveries.find_one({"deliveredAt": None}) is None

        made = await asyncio.gather(*map(make_turns, VIEWERS))
        seconds = await eventually(
            all_is_delivered, within=LIMIT_SECONDS, what="all is delivered", every=0.2
        )
        killing.cancel()
        kills = sum(process.starts - 1 for process in processes)

    for path, hook, turns in zip(paths, hooks, made, strict=True):
        expected: dict[str, list[str]] = {}
        async for one in database.deliveries.find({"webhookId": hook.id}).sort("sequence", 1):
            expected.setdefault(one["subject"], []).append(one["_id"])
        assert [len(expected[turn_id]) for turn_id in turns] == [OUTPUTS + 1] * TURNS
        assert receiver.ids_by_subject(path) == expected, f"seed {SEED}"
    bodies = {one.id: one.body for one in receiver.received}
    for request in receiver.received:
        assert request.body == bodies[request.id]
    assert unsigned == []
    assert receiver.of("/elsewhere") == []
    assert kills > 0
    print(  # noqa: T201 - the figures of the storm
        f"{len(bodies)} events, {len(receiver.received)} requests, {kills} kills, "
        f"{seconds:.1f} s after the last event"
    )
