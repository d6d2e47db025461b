from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from providers.local.provider import LocalProvider
from tests.providers.fal_runs import PlayedFal, Stage
from tests.providers.pictures import Shelf


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest_asyncio.fixture
async def local(shelf: Shelf) -> AsyncIterator[LocalProvider]:
    provider = LocalProvider(shelf)
    yield provider
    await provider.aclose()


@pytest_asyncio.fixture(scope="session")
async def stage() -> AsyncIterator[Stage]:
    async with Stage().served() as stage:
        yield stage


@pytest_asyncio.fixture
async def fal(stage: Stage) -> AsyncIterator[PlayedFal]:
    """A simulated fal, served, and providers on it."""
    async with stage.playing() as played:
        yield played
