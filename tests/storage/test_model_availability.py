"""Withdrawn models in MongoDB."""

from domain.ids import ModelId
from storage.mongo.database import Database
from storage.mongo.model_availability import MongoModelAvailabilityRepository


async def test_a_model_that_is_withdrawn_again_is_withdrawn_since_the_first_time(
    database: Database,
) -> None:
    """Outputs that were planned in between were planned with another provider."""
    stored = MongoModelAvailabilityRepository(database)
    await stored.withdraw(ModelId("one"), "fal")
    first = (await stored.find_unavailable()).withdrawn

    await stored.withdraw(ModelId("one"), "fal")

    assert (await stored.find_unavailable()).withdrawn == first
