"""The acceptance test: every process is killed at random moments, again and again."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.resilience.clocks import APART_SECONDS, can_be_wrong, off_by
from tests.resilience.figures import damage_of, figures_of
from tests.resilience.gaps import takeovers
from tests.resilience.runs import BUSY, SETTINGS, Plan, Run, run_storm
from tests.resilience.scale import THOROUGH, kills, load_factor
from tests.resilience.sites import Arrangement
from tests.resilience.storm import DISTRIBUTED, EMBEDDED, to_terminal

TAKEOVER_SECONDS = 20.0
"""A lease of 15 seconds, a sweep, and the claim."""
SNAPSHOTS_PER_KILL = 2
"""At least. They are taken all the time: beside a suite of tests five for each kill."""
Record = Callable[[str, object], None]


async def test_nothing_is_lost_or_doubled_if_api_processes_run_outputs(
    tmp_path: Path, record_property: Record
) -> None:
    plan = Plan(
        name="embedded",
        arrangement=Arrangement(apis=2, fal=True, settings=SETTINGS),
        kills=kills(4, share=0.3),
        weights=EMBEDDED,
    )

    run = await run_storm(plan, tmp_path, tell=to_terminal)

    publish(plan, run, record_property)
    _assert_sound(run)


async def test_nothing_is_lost_or_doubled_if_workers_run_outputs(
    tmp_path: Path, record_property: Record
) -> None:
    """Their clocks are minutes apart, where that can be done."""
    clocks = {}
    if can_be_wrong():
        ahead, behind = off_by(APART_SECONDS), off_by(-APART_SECONDS)
        clocks = {"api-0": ahead, "worker-0": ahead, "worker-1": behind}
    arrangement = Arrangement(
        apis=2 if THOROUGH else 1, workers=2, fal=True, settings=SETTINGS, clocks=clocks
    )
    plan = Plan(
        name="distributed",
        arrangement=arrangement,
        kills=kills(6, share=0.6),
        weights=DISTRIBUTED,
    )

    run = await run_storm(plan, tmp_path, tell=to_terminal)

    publish(plan, run, record_property)
    _assert_sound(run)


async def test_a_naive_runner_fails_the_same_checks(
    tmp_path: Path, record_property: Record
) -> None:
    arrangement = Arrangement(
        apis=1, workers=2, worker_module="tests.resilience.naive", fal=True, settings=SETTINGS
    )
    plan = Plan(
        name="naive",
        arrangement=arrangement,
        kills=kills(3, share=0.1),
        weights={"worker": 1},
        keys=False,
        quiet_end=False,
        pauses_seconds=BUSY,  # so that each kill does damage
    )

    run = await run_storm(plan, tmp_path, tell=to_terminal)

    publish(plan, run, record_property)
    damage = damage_of(run)
    assert damage.double_bills > 0
    assert damage.wrong_charges > 0
    assert damage.doubled_outputs > 0
    if THOROUGH:
        assert damage.wrong_captions > 0


def publish(plan: Plan, run: Run, record_property: Record) -> None:
    record_property("figures", json.dumps({plan.name: figures_of(run)}))


def _assert_sound(run: Run) -> None:
    assert run.violations == [], "\n".join(run.violations)
    limit = TAKEOVER_SECONDS * (load_factor() if THOROUGH else max(3.0, load_factor()))
    late = [
        one
        for one in takeovers(run.attempts, run.history.kills)
        if one.after_calm > limit or (one.quiet and one.after_kill > limit)
    ]
    assert late == []
    assert len(run.history.snapshots) >= SNAPSHOTS_PER_KILL * len(run.history.kills)
