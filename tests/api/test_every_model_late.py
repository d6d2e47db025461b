"""Models whose providers never finish: they time out at their deadlines and cost nothing."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from domain.models import ImageModel
from tests.api.every_model import WAYS_OF_RUNNING, House, error_of, of_each, open_house
from tests.api.test_credits import STARTING, adds_up
from tests.providers.vendors import VENDORS

DEADLINE = timedelta(seconds=5)


@pytest.fixture(scope="module")
async def house(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """With little patience."""
    hurried = [replace(model, deadline=DEADLINE) for model in WAYS_OF_RUNNING]
    async with open_house(mongodb_uri, tmp_path_factory, hurried) as house:
        yield house
        await adds_up(house.darkroom)


@of_each(WAYS_OF_RUNNING, ahead=18)
async def test_a_run_that_never_ends_times_out_at_the_deadline_and_costs_nothing(
    house: House, model: ImageModel
) -> None:
    vendor = VENDORS[model.provider]
    async with house.story(model) as story:
        output = await story.made("hang=running", **await story.needed())

        # Without a job, it is unknown whether the request was accepted.
        code = "TIMED_OUT" if vendor.has_jobs else "OUTCOME_UNKNOWN"
        assert error_of(output) == (code, True)
        assert output["images"] == []
        assert (output["attempt"], len(story.bill)) == (1, 1)
        assert await story.account() == (STARTING, 0, 0)
        if vendor.can_cancel:
            await story.until(lambda: story.bill[0].cancelled)
