from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from providers.local.provider import LocalProvider
from tests.providers.pictures import Shelf
from tests.providers.runs import Played, Processes, Stage
from tests.providers.vendors import SYNCHRONOUS, VENDORS, WITH_JOBS


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


@pytest_asyncio.fixture(scope="session")
async def processes() -> AsyncIterator[Processes]:
    processes = Processes()
    yield processes
    await processes.aclose()


@pytest_asyncio.fixture(params=VENDORS)
async def played(request: pytest.FixtureRequest, stage: Stage) -> AsyncIterator[Played]:
    """Each remote provider in turn, on its simulator."""
    async with stage.playing(VENDORS[request.param]) as played:
        yield played


@pytest_asyncio.fixture(params=WITH_JOBS)
async def polled(request: pytest.FixtureRequest, stage: Stage) -> AsyncIterator[Played]:
    """Each of those that have jobs."""
    async with stage.playing(VENDORS[request.param]) as played:
        yield played


@pytest_asyncio.fixture(params=SYNCHRONOUS)
async def synchronous(request: pytest.FixtureRequest, stage: Stage) -> AsyncIterator[Played]:
    """Each of those of which one call is the whole run."""
    async with stage.playing(VENDORS[request.param]) as played:
        yield played


def _play(name: str) -> Any:
    @pytest_asyncio.fixture(name=name)
    async def play(stage: Stage) -> AsyncIterator[Played]:
        async with stage.playing(VENDORS[name]) as played:
            yield played

    return play


fal = _play("fal")
openai = _play("openai")
azure = _play("azure")
gemini = _play("gemini")
openrouter = _play("openrouter")
replicate = _play("replicate")
wavespeed = _play("wavespeed")
