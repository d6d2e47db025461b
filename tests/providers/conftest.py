from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from providers.fal.provider import FalProvider
from providers.local.provider import LocalProvider
from providers.openai.provider import OpenAIProvider
from tests.providers.fal_runs import PlayedFal
from tests.providers.openai_runs import PlayedOpenAI
from tests.providers.pictures import Shelf
from tests.providers.runs import Played, Stage
from tests.simulators.fal import FalSimulator
from tests.simulators.openai import OpenAISimulator


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
async def fal(stage: Stage) -> AsyncIterator[Played[FalProvider, FalSimulator]]:
    """A simulated fal, served, and providers on it."""
    async with stage.playing(FalSimulator, PlayedFal) as played:
        yield played


@pytest_asyncio.fixture
async def openai(stage: Stage) -> AsyncIterator[Played[OpenAIProvider, OpenAISimulator]]:
    """A simulated OpenAI, served, and providers on it."""
    async with stage.playing(OpenAISimulator, PlayedOpenAI) as played:
        yield played
