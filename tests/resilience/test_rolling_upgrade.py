"""Two releases side by side on one database, under load, and then swapped."""

from pathlib import Path
from typing import Final

import pytest

from tests.releases import check_out, previous_release
from tests.resilience.runs import SETTINGS, Plan, run_storm
from tests.resilience.scale import THOROUGH, kills
from tests.resilience.sites import Arrangement
from tests.resilience.storm import to_terminal
from tests.resilience.test_storm import Record, publish
from tests.tools import need

LINES_BEFORE: Final = 3
LINES_AFTER: Final = 60


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the code of the release before this one is."""
    need("history")
    revision = previous_release()
    assert revision is not None
    return check_out(revision, tmp_path_factory.mktemp("previous"))


async def test_nothing_is_lost_while_two_releases_run_side_by_side_and_are_swapped(
    previous: Path, tmp_path: Path, record_property: Record
) -> None:
    arrangement = Arrangement(
        apis=2 if THOROUGH else 1,
        workers=2,
        fal=True,
        settings=SETTINGS,
        roots={"api-1": previous, "worker-0": previous},
    )
    plan = Plan(
        name="rollout",
        arrangement=arrangement,
        kills=kills(3, share=0.16),
        weights={},
        other_release=previous,
    )

    run = await run_storm(plan, tmp_path, tell=to_terminal)

    publish(plan, run, record_property)
    assert run.violations == []
    assert not (found := _tracebacks(tmp_path)), "\n".join(found)


def _tracebacks(folder: Path) -> list[str]:
    """Each with the log's name and the lines around it. Its paths say which release wrote it."""
    found: list[str] = []
    for path in folder.glob("*-?.log"):
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            if "Traceback" in line:
                around = lines[max(0, number - LINES_BEFORE) : number + LINES_AFTER]
                found.append("\n".join([f"{path.name}:{number}", *around]))
    return found
