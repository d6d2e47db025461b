"""One storm from its beginning to its end: work, kills, the last output's end, all evidence."""

import asyncio
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final

from domain.ids import TurnId, conversation_of_turn
from tests.resilience.asking import Asker, round_robin
from tests.resilience.attempts import Attempt, attempts_of
from tests.resilience.chronicler import Chronicler
from tests.resilience.evidence import History, Terms, read_stored
from tests.resilience.load import Load, end
from tests.resilience.operators import Operator
from tests.resilience.processes import eventually
from tests.resilience.scale import SEED
from tests.resilience.sites import Arrangement, Site, open_site, viewer_id
from tests.resilience.snapshots import Auditor
from tests.resilience.storm import Storm

VIEWERS: Final = 4
TERMS: Final = Terms(starting_credits=80, max_active_outputs=8)
SETTINGS: Final = {
    "DARKROOM_STARTING_CREDITS": str(TERMS.starting_credits),
    "DARKROOM_MAX_ACTIVE_OUTPUTS": str(TERMS.max_active_outputs),
}
BEGIN_SECONDS: Final = 60.0
SETTLE_SECONDS: Final = 120.0
CATCH_UP_SECONDS: Final = 15.0


@dataclass(slots=True)
class Run:
    """What came of one storm."""

    name: str
    history: History
    attempts: list[Attempt]
    settled_seconds: float
    seconds: float
    """From the first request to the end of the last output."""
    worker_memory_bytes: int


async def run_storm(
    name: str,
    arrangement: Arrangement,
    folder: Path,
    *,
    kills: int,
    keys: bool = True,
    weights: Mapping[str, int],
    quiet_end: bool = True,
    tell: Callable[[str], None] = lambda _: None,
) -> Run:
    randomness = random.Random(f"{SEED} {name}")
    async with open_site(folder, arrangement) as site:
        route = round_robin([api.url for api in site.apis])
        asker = Asker(route=route, token=site.token)
        operator, auditor = Operator(site.database), Auditor(site.database)
        storm = Storm(site, randomness, weights, tell=lambda line: tell(f"{name}: {line}"))
        chronicler = Chronicler(site.documents)
        load = Load(
            asker,
            route=route,
            token=site.token,
            randomness=randomness,
            operator=operator,
            viewer_id=viewer_id,
            fal=arrangement.fal,
            keys=keys,
        )
        async with chronicler.writing():
            auditing = asyncio.create_task(auditor.look(), name="auditor")
            began = monotonic()
            try:
                async with load.working(VIEWERS):
                    await eventually(
                        lambda: _acknowledged(load), within=BEGIN_SECONDS, what="work has begun"
                    )
                    await storm.rage(kills, quiet_end=quiet_end)
                settled = await eventually(
                    lambda: _all_over(site), within=SETTLE_SECONDS, what="every output has ended"
                )
                seconds = monotonic() - began
                await chronicler.caught_up()
                stored = await read_stored(site.documents, site.data_dir)
                await _caught_up(load, [TurnId(turn["_id"]) for turn in stored.turns])
            finally:
                await end([auditing])
                await load.close()
                await asker.aclose()
            bill = await site.vendor.bill() if site.vendor else None
            for runner in site.runners:
                await runner.kill()
        history = History(
            load.subscribers,
            asker.asked,
            await read_stored(site.documents, site.data_dir),
            chronicle=chronicler.chronicle,
            bill=bill,
            snapshots=auditor.snapshots,
            grants=operator.grants,
            kills=storm.kills,
            terms=TERMS,
        )
        return Run(
            name,
            history,
            attempts_of(chronicler.chronicle),
            settled,
            seconds,
            max(runner.most_memory_bytes for runner in site.runners),
        )


async def _acknowledged(load: Load) -> bool:
    return len(load.acknowledged) >= VIEWERS


async def _all_over(site: Site) -> bool:
    unfinished = {"status": {"$in": ["PENDING", "GENERATING"]}}
    return await site.documents["turns"].find_one(unfinished, {"_id": 1}) is None


async def _caught_up(load: Load, turn_ids: list[TurnId]) -> None:
    """Wait until each subscriber has seen each end; what it never sees is the checker's matter."""
    waiting = [
        follower.until_over(turn_id)
        for follower in load.followers
        for turn_id in turn_ids
        if follower.log.from_the_beginning
        and conversation_of_turn(turn_id) == follower.log.conversation_id
    ]
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.gather(*waiting), CATCH_UP_SECONDS)
