"""Two releases side by side on one database, under load, and then swapped."""

import re
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

TRACEBACK: Final = re.compile(r"Traceback.*(?:\n\s.*)*\n?.*")
"""With the line that names the exception."""
FIXED_SINCE: Final = ("response_transport.py", "in send_eof")
"""Where only the previous release logs tracebacks: if a client leaves as its answer begins or opens
a WebSocket as the server stops. For this release, tests/edge/test_loop_rounds.py has tests of both.
"""


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
    found = [text for text in _tracebacks(tmp_path) if not _is_fixed(text)]
    assert not found, "\n".join(found)


def _is_fixed(traceback: str) -> bool:
    return any(place in traceback for place in FIXED_SINCE)


def _tracebacks(folder: Path) -> list[str]:
    """Each with its log's name. Its paths say which release wrote it."""
    return [
        f"{path.name}: {traceback}"
        for path in sorted(folder.glob("*-?.log"))
        for traceback in TRACEBACK.findall(path.read_text())
    ]
