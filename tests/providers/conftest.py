from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from providers.fal.provider import FalProvider
from providers.local.provider import LocalProvider
from providers.openai.provider import OpenAIProvider
from providers.replicate.provider import ReplicateProvider
from providers.synchronous.provider import SynchronousProvider
from providers.wavespeed.provider import WavespeedProvider
from tests.providers.fal_runs import PlayedFal
from tests.providers.one_call_runs import PlayedGemini, PlayedOneCall, PlayedOpenRouter
from tests.providers.openai_runs import PlayedOpenAI
from tests.providers.pictures import Shelf
from tests.providers.prediction_runs import PlayedReplicate, PlayedWavespeed
from tests.providers.runs import Played, Stage
from tests.simulators.fal import FalSimulator
from tests.simulators.gemini import GeminiSimulator
from tests.simulators.one_call import OneCallSimulator
from tests.simulators.openai import OpenAISimulator
from tests.simulators.openrouter import OpenRouterSimulator
from tests.simulators.replicate import ReplicateSimulator
from tests.simulators.wavespeed import WavespeedSimulator


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
async def wavespeed(stage: Stage) -> AsyncIterator[Played[WavespeedProvider, WavespeedSimulator]]:
    """A simulated Wavespeed, served, and providers on it."""
    async with stage.playing(WavespeedSimulator, PlayedWavespeed) as played:
        yield played


@pytest_asyncio.fixture
async def replicate(stage: Stage) -> AsyncIterator[Played[ReplicateProvider, ReplicateSimulator]]:
    """A simulated Replicate, served, and providers on it."""
    async with stage.playing(ReplicateSimulator, PlayedReplicate) as played:
        yield played


@pytest.fixture(params=["wavespeed", "replicate"])
def predictions(request: pytest.FixtureRequest) -> Any:
    """Each of the two in turn, for what they have in common."""
    return request.getfixturevalue(request.param)


@pytest_asyncio.fixture
async def openai(stage: Stage) -> AsyncIterator[Played[OpenAIProvider, OpenAISimulator]]:
    """A simulated OpenAI, served, and providers on it."""
    async with stage.playing(OpenAISimulator, PlayedOpenAI) as played:
        yield played


@pytest_asyncio.fixture
async def gemini(stage: Stage) -> AsyncIterator[Played[SynchronousProvider, OneCallSimulator]]:
    """A simulated Gemini API, served, and providers on it."""
    async with stage.playing(*_ONE_CALL["gemini"]) as played:
        yield played


@pytest_asyncio.fixture
async def openrouter(stage: Stage) -> AsyncIterator[Played[SynchronousProvider, OneCallSimulator]]:
    """A simulated OpenRouter, served, and providers on it."""
    async with stage.playing(*_ONE_CALL["openrouter"]) as played:
        yield played


@pytest_asyncio.fixture(params=["gemini", "openrouter"])
async def one_call(
    request: pytest.FixtureRequest, stage: Stage
) -> AsyncIterator[Played[SynchronousProvider, OneCallSimulator]]:
    """Each of the providers of which one call is the whole run, one after the other."""
    async with stage.playing(*_ONE_CALL[request.param]) as played:
        yield played


_ONE_CALL: dict[str, tuple[type[OneCallSimulator], type[PlayedOneCall]]] = {
    "gemini": (GeminiSimulator, PlayedGemini),
    "openrouter": (OpenRouterSimulator, PlayedOpenRouter),
}
