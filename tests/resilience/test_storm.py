"""The acceptance: mongod and the API are killed in the middle of turns, again and again."""

import asyncio
import os
import random
import sys
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest

from tests.resilience.history import History, SubscriberLog, objections, orphans, read_stored
from tests.resilience.load import Load, end, round_robin
from tests.resilience.processes import KILLS, Site, eventually, open_site
from tests.resilience.storm import MONGOD, Storm, Watch, silences

SEED = os.environ.get("DARKROOM_TEST_SEED") or uuid4().hex[:8]
VIEWERS = 4
TAKEOVER_SECONDS = 20.0
"""A lease of 15 seconds, a sweep, and the claim."""
SETTLE_SECONDS = 90.0
CATCH_UP_SECONDS = 15.0


async def test_no_output_is_stuck_or_lands_twice_and_no_subscriber_misses_one_whatever_is_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    randomness = random.Random(SEED)
    async with open_site(tmp_path, apis=2) as site:
        storm = Storm(site, randomness)
        watch = Watch(site.documents)
        load = Load(
            route=round_robin([api.url for api in site.apis]),
            token=site.token,
            randomness=randomness,
            most_conversations=16 + 2 * KILLS,
        )
        watching = asyncio.create_task(watch.look())
        try:
            async with load.working(VIEWERS):
                await eventually(
                    lambda: _acknowledged(load, VIEWERS), within=30, what="work has begun"
                )
                await storm.rage(KILLS)
            settled = await eventually(
                lambda: _all_over(site), within=SETTLE_SECONDS, what="every output has ended"
            )
            stored = await read_stored(site.documents, site.data_dir)
            await _caught_up(load, [turn["_id"] for turn in stored.turns])
        finally:
            await end([watching])
            await load.close()
        stored = await read_stored(site.documents, site.data_dir)

    history = History(load.subscribers, load.acknowledged, stored)
    takeovers = watch.takeovers(storm.kills)
    worst_takeover = max((takeover.after_return for takeover in takeovers), default=0.0)
    worst_calm = max((takeover.after_calm for takeover in takeovers), default=0.0)
    heard_again = silences(load.subscribers, storm.kills)
    left = orphans(stored)
    outputs = [output for turn in stored.turns for output in turn["outputs"]]
    figures = {
        "seed": SEED,
        "kills of mongod": sum(kill.who == MONGOD for kill in storm.kills),
        "kills of the API": sum(kill.who != MONGOD for kill in storm.kills),
        "outputs at work when killed": sum(kill.unfinished for kill in storm.kills),
        "turns": len(stored.turns),
        "outputs": len(outputs),
        "landed": sum(len(output["images"]) for output in outputs),
        "timed out": sum((output["error"] or {}).get("code") == "TIMED_OUT" for output in outputs),
        "acknowledged": len(load.acknowledged),
        "failed mutations": _counted(load.failures),
        "subscribers": len(load.subscribers),
        "reconnections": sum(_connections(one) - 1 for one in load.subscribers),
        "overloaded subscriptions": sum(len(one.errors) for one in load.subscribers),
        "takeovers": len(takeovers),
        "worst takeover": f"{worst_takeover:.1f} s after the process was back, "
        f"{worst_calm:.1f} s after the last return of anything",
        "settled after": f"{settled:.1f} s",
        "worst silence after mongod's return": (
            f"{max(heard_again, default=0):.2f} s of {len(heard_again)}"
        ),
        "orphaned": f"{len(left)} objects, {sum(left.values())} bytes",
    }
    with capsys.disabled():
        line = ", ".join(f"{name} {value}" for name, value in figures.items())
        sys.stdout.write(f"\nstorm: {line}\n")
    assert objections(history) == []
    assert "INTERNAL" not in load.failures
    assert worst_calm <= TAKEOVER_SECONDS
    assert len(storm.kills) == 2 * KILLS


async def _acknowledged(load: Load, count: int) -> bool:
    return len(load.acknowledged) >= count


async def _all_over(site: Site) -> bool:
    unfinished = {"status": {"$in": ["PENDING", "GENERATING"]}}
    return await site.documents["turns"].find_one(unfinished, {"_id": 1}) is None


async def _caught_up(load: Load, turn_ids: list[str]) -> None:
    """Wait until each subscriber has seen each end; what it never sees is the checker's matter."""
    waiting = [
        follower.until_over(turn_id)
        for follower in load.followers
        for turn_id in turn_ids
        if follower.log.from_the_beginning
        and turn_id.startswith(follower.log.conversation_id.replace("conv_", "turn_"))
    ]
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.gather(*waiting), CATCH_UP_SECONDS)


def _counted(names: list[str]) -> str:
    return " ".join(f"{names.count(name)}×{name}" for name in sorted(set(names))) or "none"


def _connections(log: SubscriberLog) -> int:
    return len({seen.connection for seen in log.seen}) or 1
