"""The whole deployment as plain processes, as `make cluster CHECK=1` tries it."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.resilience.scale import KILLS, THOROUGH, WHY_NOT
from tests.resilience.storm import to_terminal
from tests.tools import need

ROOT: Final = Path(__file__).parents[2]
LIMIT_SECONDS: Final = 280
TRIALS: Final = max(1, KILLS // 25)
"""How often each part is taken away: 20 times with the usual number of kills."""
TRIAL_SECONDS: Final = 900

pytestmark = pytest.mark.skipif(not THOROUGH, reason=WHY_NOT)


def test_a_cluster_starts_delivers_an_image_and_answers_every_query(tmp_path: Path) -> None:
    done = _run(
        "tests.cluster.cluster", "--check", "--folder", tmp_path / "cluster", seconds=LIMIT_SECONDS
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "An image landed, and its updates came through the proxy." in done.stdout
    assert "Prometheus scrapes all 4 processes." in done.stdout


def test_each_part_of_a_cluster_can_be_stopped_under_load_without_loss(tmp_path: Path) -> None:
    done = _run(
        *("tests.cluster.trials", "--rounds", str(TRIALS), "--folder", tmp_path / "cluster"),
        seconds=TRIALS * TRIAL_SECONDS,
    )

    to_terminal(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Promises broken: 0" in done.stdout


def _run(*arguments: str | Path, seconds: float) -> subprocess.CompletedProcess[str]:
    for program in ("nats-server", "ministack", "caddy", "promtool"):
        need(program)
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
