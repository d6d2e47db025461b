"""Runs one output: claim, provider, previews, bytes, state.

What must stay true: bytes are stored before anything refers to them; every write names the claim's
fence; a failure of the database never costs a result that is already there.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from types import TracebackType
from typing import Final, Self

from domain.errors import GenerationErrorCode, GenerationFailed, Overloaded, StoreUnavailable
from domain.generation import Delivery, GenerationRequest
from domain.ids import OutputId
from domain.images import ImageOrigin, ImageRecord, new_key
from domain.models import ImageModel, ModelRegistry
from domain.outputs import GenerationError, Preview
from domain.ports import Developer, ImageRepository, ObjectStore, Provider, TurnRepository
from domain.services.keeping import ImageKeeper
from domain.turns import Claim

log = logging.getLogger(__name__)

LEASE: Final = timedelta(seconds=15)
HEARTBEAT: Final = timedelta(seconds=5)
_SHOW_EVERY_SECONDS: Final = 0.25
_GIVE_BACK_SECONDS: Final = 2
_PERSIST_SECONDS: Final = 120
"""How long a result waits for a database that is away; its bytes are safe by then."""


class OutputRunner:
    """Runs outputs, each independently of all others."""

    def __init__(
        self,
        *,
        turns: TurnRepository,
        images: ImageRepository,
        keeper: ImageKeeper,
        developer: Developer,
        registry: ModelRegistry,
        providers: Mapping[str, Provider],
        lease: timedelta = LEASE,
        heartbeat: timedelta = HEARTBEAT,
    ) -> None:
        self._turns = turns
        self._images = images
        self._keeper = keeper
        self._developer = developer
        self._registry = registry
        self._providers = providers
        self._lease = lease
        self._heartbeat = heartbeat

    async def run(self, output_id: OutputId) -> None:
        """Bring the output to its end, unless another worker holds it or it has ended.

        Cancelled, it gives the output back for others to claim.
        """
        claim = await self._turns.claim(output_id, lease=self._lease)
        if claim is None:
            return
        started = asyncio.get_running_loop().time()
        facts = {"output_id": output_id, "model": claim.output.model_id}
        log.info("output started", extra={**facts, "fence": claim.output.fence})
        reporter = _Reporter(self._turns, self._keeper.objects, self._developer, claim)
        kept: list[ImageRecord] = []
        try:
            async with _Lease(self._turns, claim, self._lease, self._heartbeat):
                outcome = await self._finish(claim, reporter, kept)
        except asyncio.CancelledError:
            with suppress(Overloaded, TimeoutError):
                await asyncio.wait_for(self._turns.give_back(claim), _GIVE_BACK_SECONDS)
            raise
        except _LeaseLost:
            outcome = "lost to another worker, or deleted"
        except Overloaded:
            outcome = "left for the sweeper: the database is away"
        finally:
            await self._clear_away(kept, reporter)
        seconds = round(asyncio.get_running_loop().time() - started, 3)
        log.info("output finished", extra={**facts, "outcome": outcome, "seconds": seconds})

    async def _finish(self, claim: Claim, reporter: "_Reporter", kept: list[ImageRecord]) -> str:
        """Run the model and write what came of it. Return how it ended, for the log.

        What is in `kept` afterwards has landed or never will.
        """
        try:
            clock = _Clock(claim)
            async with asyncio.timeout(max(0.0, claim.seconds_left)):
                delivery = await self._generate(claim, reporter)
                await self._keep(claim, delivery, clock, kept)
            try:
                return await self._land(claim, delivery, kept)
            except asyncio.CancelledError:
                # The database may still commit what it has been told: the bytes have to stay.
                kept.clear()
                raise
        except GenerationFailed as failure:
            facts = {"output_id": claim.output.id, "reason": str(failure)}
            log.warning("generation failed", extra=facts)
            return await self._fail(claim, failure.code, retryable=failure.retryable)
        except TimeoutError:
            return await self._fail(claim, GenerationErrorCode.TIMED_OUT, retryable=True)
        except StoreUnavailable:
            log.warning("object store away", extra={"output_id": claim.output.id})
            return await self._fail(claim, GenerationErrorCode.STORAGE_UNAVAILABLE, retryable=True)
        except (Overloaded, _LeaseLost):
            raise
        except Exception:
            log.exception("output broke", extra={"output_id": claim.output.id})
            return await self._fail(claim, GenerationErrorCode.INTERNAL, retryable=True)

    async def _generate(self, claim: Claim, reporter: "_Reporter") -> Delivery:
        model = self._registry.get(claim.output.model_id)
        provider = self._providers.get(model.provider) if model else None
        if model is None or provider is None:
            raise GenerationFailed(GenerationErrorCode.MODEL_RETIRED, retryable=False)
        delivery = await provider.generate(_request(claim, model), reporter)
        if not delivery.images:
            raise GenerationFailed(GenerationErrorCode.NO_IMAGE, retryable=True)
        return delivery

    async def _keep(
        self, claim: Claim, delivery: Delivery, clock: "_Clock", kept: list[ImageRecord]
    ) -> None:
        """Develop and store each picture that came. One that is none is left out if others are."""
        output = claim.output
        made_from = tuple(reference.image.id for reference in output.references)
        broken: GenerationFailed | None = None
        for delivered in delivery.images:
            try:
                developed = await self._developer.develop(delivered.data)
            except GenerationFailed as failure:
                broken = failure
                continue
            image = await self._keeper.keep(
                developed,
                origin=ImageOrigin.OUTPUT,
                created_at=clock.now(),
                model_id=output.model_id,
                seed=delivered.seed,
                output_id=output.id,
            )
            kept.append(ImageRecord(image, claim.turn.user_message, made_from))
        if broken is not None and not kept:
            raise broken

    async def _land(self, claim: Claim, delivery: Delivery, records: list[ImageRecord]) -> str:
        landed = await _persist(
            lambda: self._turns.land(claim, records, text=delivery.text, usage=delivery.usage)
        )
        # The commit may have happened although its answer was lost.
        if not landed and not await _persist(lambda: self._has_landed(records)):
            raise _LeaseLost
        return "COMPLETED"

    async def _fail(self, claim: Claim, code: GenerationErrorCode, *, retryable: bool) -> str:
        error = GenerationError(code, retryable=retryable)
        if not await _persist(lambda: self._turns.fail(claim, error)):
            raise _LeaseLost
        return code.value

    async def _clear_away(self, kept: list[ImageRecord], reporter: "_Reporter") -> None:
        """Delete bytes that nothing refers to: old previews, images that did not land."""
        keys = list(reporter.old_previews)
        if kept:
            try:
                landed = await self._has_landed(kept)
            except Overloaded:
                return  # nobody knows: better to leave bytes behind than a record without any
            if landed:
                keys.extend(reporter.shown_previews)
            else:
                keys.extend(key for record in kept for key in record.image.keys)
        await self._keeper.discard(keys)

    async def _has_landed(self, records: list[ImageRecord]) -> bool:
        return await self._images.any_refers_to([record.image.id for record in records])


class _LeaseLost(Exception):
    """The output has moved on without us: another worker has it, or it is gone."""


class _Lease:
    """Keeps a claim alive while its body runs; ends the body with _LeaseLost if it is lost."""

    def __init__(
        self, turns: TurnRepository, claim: Claim, lease: timedelta, heartbeat: timedelta
    ) -> None:
        self._turns = turns
        self._claim = claim
        self._lease = lease
        self._heartbeat = heartbeat
        self._lost = False

    async def __aenter__(self) -> Self:
        body = asyncio.current_task()
        assert body is not None
        self._body = body
        self._beat = asyncio.create_task(self._keep(), name=f"lease {self._claim.output.id}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._beat.cancel()
        try:
            await asyncio.wait([self._beat])
        except asyncio.CancelledError:
            if kind is not None or not self._lost or self._body.uncancel() > 0:
                raise
            return  # the body had come to its end before it was told
        if kind is asyncio.CancelledError and self._lost and self._body.uncancel() == 0:
            raise _LeaseLost

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat.total_seconds())
            try:
                held = await self._turns.renew(self._claim, lease=self._lease)
            except Overloaded:
                continue  # the fence protects what we write, however long this takes
            except Exception:
                log.exception("lease not renewed", extra={"output_id": self._claim.output.id})
                continue
            if not held:
                self._lost = True
                self._body.cancel()
                return


class _Reporter:
    """The provider's Watcher: previews and progress on their way to the output, not too often."""

    def __init__(
        self, turns: TurnRepository, objects: ObjectStore, developer: Developer, claim: Claim
    ) -> None:
        self._turns = turns
        self._objects = objects
        self._developer = developer
        self._claim = claim
        self._shown_at = 0.0
        self._preview_count = 0
        preview = claim.output.preview
        self.shown_previews = [preview.key] if preview is not None else []
        """The one that the output shows; several where a write's answer was lost."""
        self.old_previews: list[str] = []

    async def progress(self, fraction: float) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._shown_at < _SHOW_EVERY_SECONDS:
            return
        self._shown_at = now
        await self._show(progress=min(1.0, max(0.0, fraction)))

    async def preview(self, data: bytes) -> None:
        if self._preview_count >= self._claim.turn.options.previews:
            return
        try:
            picture = await self._developer.preview(data)
            key = new_key("previews", picture.content_type)
            await self._objects.put(key, picture.data)
        except (GenerationFailed, StoreUnavailable):
            log.warning("preview left out", extra={"output_id": self._claim.output.id})
            return
        index, self._preview_count = self._preview_count, self._preview_count + 1
        self.shown_previews.append(key)
        if await self._show(preview=Preview(index, key, picture.width, picture.height)):
            self.old_previews += self.shown_previews[:-1]
            self.shown_previews = [key]

    async def _show(self, *, progress: float | None = None, preview: Preview | None = None) -> bool:
        """Whether it was written. Raise _LeaseLost where it can never be."""
        try:
            shown = await self._turns.show_progress(self._claim, progress=progress, preview=preview)
        except Overloaded:
            return False  # what comes next shows more
        if not shown:
            raise _LeaseLost
        return True


class _Clock:
    """The database's time, so that workers' clocks never disorder a gallery."""

    def __init__(self, claim: Claim) -> None:
        self._claimed_at = claim.claimed_at
        self._started = asyncio.get_running_loop().time()

    def now(self) -> datetime:
        elapsed = asyncio.get_running_loop().time() - self._started
        return self._claimed_at + timedelta(milliseconds=round(elapsed * 1000))


def _request(claim: Claim, model: ImageModel) -> GenerationRequest:
    turn, output, options = claim.turn, claim.output, claim.turn.options
    size = None
    if options.width is not None and options.height is not None:
        size = options.width, options.height
    return GenerationRequest(
        attempt=output.attempt,
        model=model,
        prompt=turn.user_message,
        references=tuple(reference.image for reference in output.references),
        aspect_ratio=model.fit_aspect_ratio(turn.aspect_ratio),
        resolution=model.fit_resolution(turn.resolution),
        size=size,
        image_count=options.images_per_model,
        preview_count=options.previews if model.supports_previews else 0,
        quality=options.quality,
        format=options.format,
        seed=options.seed,
        negative_prompt=options.negative_prompt,
    )


async def _persist(write: Callable[[], Awaitable[bool]]) -> bool:
    """Repeat a write while the database is away. Deterministic ids make a repeated one harmless."""
    give_up_at = asyncio.get_running_loop().time() + _PERSIST_SECONDS
    pause = 0.1
    while True:
        try:
            return await write()
        except Overloaded:
            if asyncio.get_running_loop().time() > give_up_at:
                raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)
