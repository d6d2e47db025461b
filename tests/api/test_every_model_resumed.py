"""Models whose providers have jobs: another process resumes those of one that was stopped.

How it is when a process is killed is tested with real ones in tests/resilience.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from math import inf

import pytest

from domain.ids import ModelId
from domain.models import ImageModel, Scene
from tests.api.every_model import (
    WITH_JOBS,
    House,
    Story,
    error_of,
    keep_catalogue,
    simulated,
)
from tests.api.test_credits import STARTING, adds_up
from tests.clients import Data
from tests.conftest import Darkroom, darkrooms

IMAGES = 2


@dataclass(frozen=True, slots=True)
class Resumed:
    """How the output of one model has ended."""

    output: Data
    jobs: list[str]
    """All that were ever taken."""
    ran_between: list[str]
    """Those of them that ran when one process had ended and the other had not begun."""
    account: tuple[int, int, int]


Begun = asyncio.Task[tuple[Story, Data]]


@pytest.fixture(scope="module")
async def resumed(
    mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Mapping[ModelId, asyncio.Task[Resumed]]]:
    """Stop a Darkroom while all models are running, and let another one continue."""
    async with (
        simulated() as (simulators, settings),
        darkrooms(mongodb_uri, tmp_path_factory.mktemp("resumed")) as start_one,
    ):
        with pytest.MonkeyPatch.context() as patch:
            keep_catalogue(patch)
            async with AsyncExitStack() as stack:
                first = House(await start_one(**settings, within=stack), simulators)
                begun = {model.id: asyncio.create_task(_begin(first, model)) for model in WITH_JOBS}
                await asyncio.wait(begun.values())
            running = {
                entry.request_id
                for simulator in simulators.values()
                for entry in simulator.settled()
                if entry.outcome is None
            }
            second = await start_one(**settings)
        ended = {
            model_id: asyncio.create_task(_end(second, one, running))
            for model_id, one in begun.items()
        }
        await asyncio.wait(ended.values())
        yield ended
        await adds_up(second)


async def _begin(house: House, model: ImageModel) -> tuple[Story, Data]:
    story = house.story(model, viewer=model.id)
    turn = await story.start("hang=running", image_count=IMAGES, **await story.needed())
    await story.until(lambda: len(story.bill) == model.runs_for(IMAGES))
    return story, turn


def _let_end(story: Story) -> None:
    for entry in story.bill:
        job = story.simulator.jobs[entry.request_id]
        if job.ends_at == inf:
            job.ends_at = time.time()


async def _end(darkroom: Darkroom, begun: Begun, running: Collection[str]) -> Resumed:
    story, turn = await begun
    story.client = darkroom.client(story.model.id)
    async with story.asking:
        _let_end(story)
        output = await story.end_of(turn)
        account = await story.account()
    jobs = [entry.request_id for entry in story.bill]
    between = [request_id for request_id in jobs if request_id in running]
    return Resumed(output, jobs, between, account)


@pytest.mark.parametrize("model", WITH_JOBS, ids=lambda one: str(one.id))
async def test_its_jobs_are_resumed_by_the_next_process_and_none_is_paid_twice(
    resumed: Mapping[ModelId, asyncio.Task[Resumed]], model: ImageModel
) -> None:
    found = await resumed[model.id]

    assert error_of(found.output) is None
    assert (found.output["attempt"], len(found.output["images"])) == (1, IMAGES)
    assert len(found.ran_between) == model.runs_for(IMAGES)
    assert found.jobs == found.ran_between
    scene = Scene.IMAGE_TO_IMAGE if model.min_references else Scene.TEXT_TO_IMAGE
    price = model.credits_per_image(scene) * IMAGES
    assert found.account == (STARTING - price, 0, 0)
