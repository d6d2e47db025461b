import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from domain.errors import GenerationErrorCode, GenerationFailed
from providers.local.provider import LocalProvider
from providers.rehearsal import LAST_SECONDS, RehearsalProvider
from tests.providers.pictures import (
    MODELS,
    Shelf,
    Spectator,
    a_colourful_picture,
    a_reference,
    a_request,
    colourfulness,
    opened,
)


@pytest_asyncio.fixture
async def rehearsal(local: LocalProvider) -> AsyncIterator[RehearsalProvider]:
    yield RehearsalProvider(local, pace=0)


async def failure(
    rehearsal: RehearsalProvider, spectator: Spectator, **given: int
) -> GenerationFailed:
    with pytest.raises(GenerationFailed) as failed:
        await rehearsal.generate(
            a_request(
                "hills",
                model="rehearsal-fails-once" if "attempt" in given else "rehearsal-fails",
                preview_count=given.get("preview_count", 0),
                attempt=given.get("attempt", 1),
            ),
            spectator,
        )
    return failed.value


def test_the_labels_agree_with_the_catalogue(local: LocalProvider) -> None:
    rehearsal = RehearsalProvider(local)

    rows = [model for model in MODELS.all() if model.provider == rehearsal.name]

    assert len(rows) == 6
    assert local.name in {model.provider for model in MODELS.all()}


async def test_the_slow_model_shows_every_state_and_delivers(
    rehearsal: RehearsalProvider, local: LocalProvider
) -> None:
    spectator = Spectator()

    delivery = await rehearsal.generate(
        a_request("hills", model="rehearsal-slow", preview_count=3), spectator
    )

    assert delivery == await local.generate(a_request("hills", preview_count=3), Spectator())
    assert len(spectator.previews) == len(set(spectator.previews)) == 3
    assert spectator.fractions == sorted(set(spectator.fractions))
    assert spectator.fractions[-1] == 1
    assert len(spectator.fractions) > 10


async def test_rehearsal_models_can_edit(rehearsal: RehearsalProvider, shelf: Shelf) -> None:
    reference = await a_reference(shelf, a_colourful_picture())

    delivery = await rehearsal.generate(
        a_request("black and white", reference, model="rehearsal-slow"), Spectator()
    )

    assert colourfulness(opened(delivery)) < 1


async def test_the_model_that_lands_last_takes_its_time(local: LocalProvider) -> None:
    rehearsal = RehearsalProvider(local, pace=0.1)
    started = time.monotonic()

    delivery = await rehearsal.generate(
        a_request("hills", model="rehearsal-lands-last"), Spectator()
    )

    assert len(delivery.images) == 1
    assert time.monotonic() - started >= 0.1 * LAST_SECONDS * 0.9


@pytest.mark.parametrize("previews", [0, 2])
async def test_the_failing_model_fails_after_a_requested_preview(
    rehearsal: RehearsalProvider, previews: int
) -> None:
    spectator = Spectator()

    error = await failure(rehearsal, spectator, preview_count=previews)

    assert error.code is GenerationErrorCode.PROVIDER_UNAVAILABLE
    assert error.retryable
    assert len(spectator.previews) == min(1, previews)


async def test_the_model_that_fails_once_delivers_at_a_retry(
    rehearsal: RehearsalProvider,
) -> None:
    error = await failure(rehearsal, Spectator(), attempt=1)
    again = await rehearsal.generate(
        a_request("hills", model="rehearsal-fails-once", attempt=2), Spectator()
    )

    assert error.code is GenerationErrorCode.PROVIDER_UNAVAILABLE
    assert len(again.images) == 1


async def test_the_refusing_model_always_refuses(rehearsal: RehearsalProvider) -> None:
    with pytest.raises(GenerationFailed) as failed:
        await rehearsal.generate(a_request("hills", model="rehearsal-refuses"), Spectator())

    assert failed.value.code is GenerationErrorCode.CONTENT_REFUSED
    assert not failed.value.retryable


async def test_the_hanging_model_ends_only_when_cancelled(
    rehearsal: RehearsalProvider,
) -> None:
    run = asyncio.create_task(
        rehearsal.generate(a_request("hills", model="rehearsal-hangs"), Spectator())
    )

    _, pending = await asyncio.wait({run}, timeout=0.05)
    assert pending == {run}
    run.cancel()
    await asyncio.wait({run}, timeout=1)

    assert run.cancelled()
