"""The whole deployment as plain processes, as `make cluster CHECK=1` tries it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.tools import need

ROOT: Final = Path(__file__).parents[2]
LIMIT_SECONDS: Final = 280


@pytest.mark.skipif(
    "DARKROOM_TEST_KILLS" not in os.environ, reason="it takes long: `make resilience` runs it"
)
def test_a_cluster_starts_lands_an_image_and_answers_every_query(tmp_path: Path) -> None:
    for program in ("nats-server", "ministack", "caddy", "promtool"):
        need(program)

    done = subprocess.run(
        [sys.executable, "-m", "deploy.cluster", "--check", "--folder", tmp_path / "cluster"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_SECONDS,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "An image landed, and its updates came through the proxy." in done.stdout
    assert "Prometheus scrapes all 4 processes." in done.stdout
