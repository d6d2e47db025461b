"""What an output's run has held is freed at its end, without the garbage collector.

The collector rarely looks at everything (`runtime/garbage_collection.py`): what holds itself would
stay, and each output would add to it.
"""

import gc

import pytest

from domain.execution.image_runs import ImageRuns
from domain.execution.landing import Landing
from domain.execution.leases import Lease
from domain.execution.run_progress import RunProgress, RunReporter
from domain.execution.runner import OutputRun
from providers.local.painting.scenes import _Scene
from tests.api.test_outputs import CANCEL_TURN
from tests.clients import GraphQLClient
from tests.memory import count_objects, uncollected
from tests.operations import SMALL, START, until_finished
from tests.waits import eventually

OURS = (OutputRun, RunProgress, RunReporter, Lease, Landing, ImageRuns, _Scene)


@pytest.mark.parametrize("model", ["local-ink", "rehearsal-fails", "rehearsal-hangs"])
async def test_a_run_is_freed_at_its_end(client: GraphQLClient, model: str) -> None:
    def count() -> int:
        return count_objects(OURS)

    gc.collect()
    before = count()
    with uncollected():
        started = await client(
            START,
            input={"userMessage": "A lighthouse", "selectedModels": [model], "options": SMALL},
        )
        turn = started["startConversation"]["turn"]
        if model == "rehearsal-hangs":
            await eventually(lambda: count() > before, what="the run has begun")
            await client(CANCEL_TURN, id=turn["id"])
        await until_finished(client, turn)
        await eventually(lambda: count() <= before, what="nothing is left of the run")
