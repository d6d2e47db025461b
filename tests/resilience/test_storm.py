"""The acceptance: everything is killed in the middle of everything, again and again."""

from pathlib import Path

from tests.resilience.figures import damage_of, figures_of, table
from tests.resilience.gaps import takeovers
from tests.resilience.history import objections
from tests.resilience.runs import SETTINGS, Run, run_storm
from tests.resilience.scale import kills
from tests.resilience.sites import Arrangement
from tests.resilience.storm import DISTRIBUTED, EMBEDDED, to_terminal

TAKEOVER_SECONDS = 20.0
"""A lease of 15 seconds, a sweep, and the claim."""


async def test_nothing_is_lost_or_doubled_where_the_apis_run_outputs_themselves(
    tmp_path: Path,
) -> None:
    arrangement = Arrangement(apis=2, fal=True, settings=SETTINGS)

    run = await run_storm(
        "embedded",
        arrangement,
        tmp_path,
        kills=kills(6, share=0.3),
        weights=EMBEDDED,
        tell=to_terminal,
    )

    _judge(run)


async def test_nothing_is_lost_or_doubled_where_workers_run_outputs(tmp_path: Path) -> None:
    arrangement = Arrangement(apis=2, workers=2, fal=True, settings=SETTINGS)

    run = await run_storm(
        "distributed",
        arrangement,
        tmp_path,
        kills=kills(8, share=0.6),
        weights=DISTRIBUTED,
        tell=to_terminal,
    )

    _judge(run)


def _judge(run: Run) -> None:
    to_terminal(table(run.name, figures_of(run)))
    assert objections(run.history) == []
    late = [
        one
        for one in takeovers(run.attempts, run.history.kills)
        if one.after_calm > TAKEOVER_SECONDS or (one.quiet and one.after_kill > TAKEOVER_SECONDS)
    ]
    assert late == []


async def test_the_same_storm_is_objected_to_where_a_naive_runner_meets_it(tmp_path: Path) -> None:
    arrangement = Arrangement(
        apis=1, workers=2, worker_module="tests.resilience.naive", fal=True, settings=SETTINGS
    )

    run = await run_storm(
        "naive",
        arrangement,
        tmp_path,
        kills=kills(5, share=0.1),
        weights={"worker": 1},
        keys=False,
        quiet_end=False,
        tell=to_terminal,
    )

    to_terminal(table(run.name, figures_of(run)))
    damage = damage_of(run)
    assert damage.double_bills > 0
    assert damage.wrong_charges > 0
    assert damage.doubled_outputs > 0
