"""Models that rehearse everything that a provider can do to a client, so that every state can be
seen at will.

The local provider makes what they deliver; they decide when and whether they deliver.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from domain.captions import CaptionDelivery, CaptionRequest
from domain.errors import GenerationErrorCode, GenerationFailed
from domain.generation import Delivery, GenerationRequest, SilentObserver
from domain.outputs import ProviderJob
from domain.ports.providers import CaptionObserver, Provider, RunObserver

SLOW_SECONDS: Final = 10.0
FAILING_SECONDS: Final = 1.0
LAST_SECONDS: Final = 4.0
MAX_CONCURRENT_RUNS: Final = 50
_STEPS: Final = 20
"""How often the slow models report their progress."""
_SLOW_CAPTION_SECONDS: Final = 5.0


class RehearsalProvider:
    """`pace` multiplies all times: 0 rehearses without waiting."""

    def __init__(self, painter: Provider, *, pace: float = 1.0) -> None:
        self._painter = painter
        self._pace = pace

    @property
    def name(self) -> str:
        return "rehearsal"

    @property
    def max_concurrent_runs(self) -> int:
        return MAX_CONCURRENT_RUNS

    async def cancel(self, job: ProviderJob) -> bool:  # noqa: ARG002 - there are none
        """Rehearsals have no jobs: they end with their task."""
        return True

    async def generate(self, request: GenerationRequest, observer: RunObserver) -> Delivery:
        match request.model.id:
            case "rehearsal-slow":
                return await self._deliver(request, observer, seconds=SLOW_SECONDS)
            case "rehearsal-lands-last":
                return await self._deliver(request, observer, seconds=LAST_SECONDS)
            case "rehearsal-fails":
                return await self._fail(request, observer)
            case "rehearsal-fails-once":
                if request.attempt < 2:
                    return await self._fail(request, observer)
                return await self._painter.generate(request, observer)
            case "rehearsal-refuses":
                await self._wait(FAILING_SECONDS)
                raise GenerationFailed(
                    GenerationErrorCode.CONTENT_REFUSED, retryable=False, detail="rehearsed"
                )
            case "rehearsal-hangs":
                # Neither pace nor a timer: it ends only where the task is cancelled.
                await asyncio.Event().wait()
                raise AssertionError("Nobody sets the event.")
            case other:
                raise GenerationFailed(
                    GenerationErrorCode.INTERNAL, retryable=False, detail=f"no rehearsal of {other}"
                )

    async def _deliver(
        self, request: GenerationRequest, observer: RunObserver, *, seconds: float
    ) -> Delivery:
        """Have the images made at once, and report them as if it had taken this long."""
        kept = _Keeper()
        delivery = await self._painter.generate(request, kept)
        shown = 0
        for step in range(_STEPS):
            fraction = step / _STEPS
            await observer.progress(fraction)
            while shown < len(kept.previews) and fraction >= (shown + 1) / (len(kept.previews) + 1):
                await observer.preview(kept.previews[shown])
                shown += 1
            await self._wait(seconds / _STEPS)
        for preview in kept.previews[shown:]:
            await observer.preview(preview)
        await observer.progress(1.0)
        return delivery

    async def _fail(self, request: GenerationRequest, observer: RunObserver) -> Delivery:
        if request.preview_count > 0:
            kept = _Keeper()
            await self._painter.generate(replace(request, image_count=1, preview_count=1), kept)
            for preview in kept.previews[:1]:
                await observer.preview(preview)
        await self._wait(FAILING_SECONDS)
        raise GenerationFailed(
            GenerationErrorCode.PROVIDER_UNAVAILABLE, retryable=True, detail="rehearsed"
        )

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds * self._pace)


class _Keeper(SilentObserver):
    """An observer that keeps the partial images for later."""

    def __init__(self) -> None:
        self.previews: list[bytes] = []

    async def preview(self, data: bytes) -> None:
        self.previews.append(data)


class RehearsalWriter:
    """The same for captions: another writer's rules compose what it delivers. `pace` multiplies all
    times.
    """

    def __init__(self, compose: Callable[[CaptionRequest], str], *, pace: float = 1.0) -> None:
        self._compose = compose
        self._pace = pace

    @property
    def name(self) -> str:
        return "rehearsal"

    @property
    def max_concurrent_runs(self) -> int:
        return MAX_CONCURRENT_RUNS

    async def write(self, request: CaptionRequest, observer: CaptionObserver) -> CaptionDelivery:
        text = self._compose(request)
        match request.model.id:
            case "rehearsal-caption-slow":
                await self._show(text, observer, seconds=_SLOW_CAPTION_SECONDS)
            case "rehearsal-caption-fails":
                await self._fail(text, observer)
            case "rehearsal-caption-fails-once":
                if request.attempt < 2:
                    await self._fail(text, observer)
                await observer.text(text)
            case "rehearsal-caption-refuses":
                await asyncio.sleep(FAILING_SECONDS * self._pace)
                raise GenerationFailed(
                    GenerationErrorCode.CONTENT_REFUSED, retryable=False, detail="rehearsed"
                )
            case "rehearsal-caption-hangs":
                await observer.text(_half_of(text))
                await asyncio.Event().wait()
            case other:
                raise GenerationFailed(
                    GenerationErrorCode.INTERNAL, retryable=False, detail=f"no rehearsal of {other}"
                )
        return CaptionDelivery(text=text)

    async def _show(self, text: str, observer: CaptionObserver, *, seconds: float) -> None:
        for step in range(1, _STEPS + 1):
            written = text[: len(text) * step // _STEPS].strip()
            if written:
                await observer.text(written)
            await asyncio.sleep(seconds / _STEPS * self._pace)

    async def _fail(self, text: str, observer: CaptionObserver) -> None:
        await self._show(_half_of(text), observer, seconds=FAILING_SECONDS)
        raise GenerationFailed(
            GenerationErrorCode.PROVIDER_UNAVAILABLE, retryable=True, detail="rehearsed"
        )


def _half_of(text: str) -> str:
    return text[: (len(text) + 1) // 2].strip()
