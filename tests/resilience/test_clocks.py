"""Clocks that differ by minutes, and one that jumps: only the database's clock counts."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from random import Random
from time import time

import pytest

from tests.clients import Data
from tests.resilience.attempts import Attempt, attempts_of
from tests.resilience.clocks import (
    APART_SECONDS,
    need_wrong_clocks,
    off_by,
    reported_by,
    set_clock,
)
from tests.resilience.evidence import History, all_ended, read_stored
from tests.resilience.history import violations
from tests.resilience.mutation_sender import MutationSender
from tests.resilience.scale import THOROUGH, WHY_NOT
from tests.resilience.sites import Arrangement, open_site
from tests.resilience.state_recorder import StateRecorder
from tests.waits import eventually

LOCAL = {"width": 256, "height": 256, "previews": 1, "imagesPerModel": 1}
SOLD = {"previews": 0, "imagesPerModel": 1}
LONGER_THAN_A_LEASE = "[fal seconds=18]"
STEP_AFTER_SECONDS = 8.0
OVER_SECONDS = 60.0
SLACK_SECONDS = 30.0


def test_the_clock_of_a_process_can_be_shifted() -> None:
    need_wrong_clocks()
    look = [sys.executable, "-c", "import time; print(time.time())"]

    for seconds in (APART_SECONDS, -APART_SECONDS):
        environment = {**os.environ, **off_by(seconds)}
        printed = subprocess.run(
            look, env=environment, capture_output=True, text=True, timeout=20, check=True
        )
        assert abs(float(printed.stdout) - time() - seconds) < SLACK_SECONDS


@pytest.mark.skipif(not THOROUGH, reason=f"{WHY_NOT}; the small storm has such clocks as well")
async def test_with_shifted_clocks_no_claim_is_stolen_and_no_deadline_moves(
    tmp_path: Path,
) -> None:
    need_wrong_clocks()
    jumping = tmp_path / "clock"
    set_clock(jumping, seconds=APART_SECONDS)
    clocks = {
        "api-0": off_by(APART_SECONDS),
        "worker-0": off_by(-APART_SECONDS),
        "worker-1": reported_by(jumping),
    }
    arrangement = Arrangement(apis=1, workers=2, fal=True, clocks=clocks)
    async with open_site(tmp_path, arrangement) as site:
        assert site.vendor is not None
        url = site.apis[0].url
        recorder = StateRecorder(site.documents)
        sender = MutationSender(route=lambda: url, token=site.token)
        async with recorder.writing():
            for number in range(3):
                message = f"A boat, number {number} {LONGER_THAN_A_LEASE}"
                await _start(sender, message, "img-nano-banana", "img-flux-2-max", options=SOLD)
            message = "A boat that never comes"
            await _start(sender, message, "rehearsal-hangs", "local-silver", options=LOCAL)
            await asyncio.sleep(STEP_AFTER_SECONDS)
            set_clock(jumping, seconds=-APART_SECONDS)
            await eventually(
                lambda: all_ended(site.documents), within=OVER_SECONDS, what="all is over"
            )
            await recorder.caught_up()
        bill = await site.vendor.bill()
        await sender.aclose()
        stored = await read_stored(site.documents, site.data_dir)

    history = History([], sender.asked, stored, state_log=recorder.state_log, bill=bill)
    attempts = attempts_of(recorder.state_log)
    assert violations(history) == []
    assert [len(attempt.claims) for attempt in attempts] == [1] * 8
    hanging = next(one for one in attempts if one.model == "rehearsal-hangs")
    assert (hanging.ended_as, hanging.code) == ("FAILED", "TIMED_OUT")
    assert _clocks_seen(attempts, history) == {-APART_SECONDS, APART_SECONDS}


async def _start(sender: MutationSender, message: str, *models: str, options: Data) -> None:
    wanted = {
        "userMessage": message,
        "selectedModels": list(models),
        "options": options,
        "idempotencyKey": message,
    }
    asked = await sender.keyed("ana", "startConversation", wanted, choice=Random(0))
    assert asked is not None
    assert asked.acknowledged, asked


def _clocks_seen(attempts: list[Attempt], history: History) -> set[int]:
    """By how much those were off who wrote the ledger: proof that the clocks really differ."""
    moments = {
        f"{attempt.output_id} {attempt.number} {kind}": at
        for attempt in attempts
        for kind, at in (
            ("RESERVE", attempt.parent["at"]),
            ("CAPTURE", attempt.ended_at),
            ("RELEASE", attempt.ended_at),
        )
    }
    seen = set()
    for line in history.stored.ledger:
        if (at := moments.get(line["_id"])) is not None:
            seen.add(round((line["createdAt"].timestamp() - at) / 100) * 100)
    return seen
