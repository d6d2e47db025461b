"""Records what a provider reports during a run: the journal, progress and previews of
the output.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final
from weakref import proxy

from domain.claims import Claim
from domain.errors import GenerationFailed, Overloaded, StoreUnavailable
from domain.execution.database_retries import persist
from domain.execution.leases import LeaseLost
from domain.images import DigitalSourceType, new_key
from domain.outputs import MAX_COUNT, Preview, ProviderJob, Run
from domain.ports.execution import ClaimRepository
from domain.ports.imaging import ImageProcessor
from domain.ports.objects import ObjectStore

log = logging.getLogger(__name__)

_SHOW_EVERY_SECONDS: Final = 0.25


class HandedOver(Exception):
    """The provider has accepted the job, and another process is to continue it."""


class RunProgress:
    """Collects what the runs of one output report, and writes it at most four times a second."""

    def __init__(
        self,
        claims: ClaimRepository,
        claim: Claim,
        *,
        objects: ObjectStore,
        image_processor: ImageProcessor,
        provider: str,
        run_count: int,
    ) -> None:
        self._claims = claims
        self._objects = objects
        self._image_processor = image_processor
        self._claim = claim
        self._shown_at = 0.0
        self._position = claim.output.queue_position or 0
        self._preview_count = 0
        self._saving = asyncio.Lock()
        self._showing = asyncio.Lock()
        not_asked = Run(provider=provider, tries=0, rejected=True, job=None)
        known = claim.output.runs or (not_asked,) * run_count
        self.runs = tuple(RunReporter(self, index, run) for index, run in enumerate(known))
        self.hand_over = False
        """Leave the jobs to another process as soon as the provider has accepted them."""
        preview = claim.output.preview
        self.shown_previews = [preview.key] if preview is not None else []
        """The key of the preview that the output shows; several if the answer of a
        write was lost.
        """
        self.old_previews: list[str] = []

    @property
    def answer_is_awaited(self) -> bool:
        return any(reporter.answer_is_awaited for reporter in self.runs)

    @property
    def has_asked(self) -> bool:
        """Whether a submission may have been billed."""
        return any(reporter.run.tries for reporter in self.runs)

    async def save_runs(self) -> None:
        # One write at a time, so that an older state never overwrites a newer one.
        async with self._saving:
            saved = await persist(
                lambda: self._claims.save_runs(
                    self._claim, [reporter.run for reporter in self.runs]
                )
            )
        if not saved:
            raise LeaseLost

    @asynccontextmanager
    async def landing(self, landed: "RunReporter") -> AsyncIterator[Sequence[Run]]:
        """The journal once the images of this run are shown. Nothing else writes it in the
        meantime: a journal that says that images have landed before they have would lose them.
        """
        async with self._saving:
            run = replace(landed.run, landed=True)
            yield [run if reporter is landed else reporter.run for reporter in self.runs]
            landed.run = run

    async def show_position(self, position: int) -> None:
        if position != self._position and self._may_show():
            self._position = position
            await self._show(queue_position=max(0, min(position, MAX_COUNT)))

    async def show_progress(self) -> None:
        if self._may_show():
            await self._show(
                progress=sum(reporter.fraction for reporter in self.runs) / len(self.runs)
            )

    async def show_text(self, so_far: str) -> None:
        if self._may_show():
            await self._show(text=so_far)

    async def show_preview(self, data: bytes) -> None:
        if self._preview_count >= self._claim.parent.options.previews:
            return
        try:
            source = DigitalSourceType.of_model(edited=bool(self._claim.output.references))
            picture = await self._image_processor.preview(data, source=source)
            key = new_key("previews", picture.content_type)
            self.old_previews.append(key)  # No record refers to it, even if the run ends here.
            await self._objects.put(key, picture.data)
        except (GenerationFailed, StoreUnavailable):
            log.warning("preview skipped", extra={"output_id": self._claim.output.id})
            return
        # One preview at a time, so that it is known which one is shown.
        async with self._showing:
            index, self._preview_count = self._preview_count, self._preview_count + 1
            preview = Preview(index, key, picture.width, picture.height)
            self.old_previews.remove(key)
            self.shown_previews.append(key)
            try:
                shown = await self._show(preview=preview)
            except LeaseLost:
                self.shown_previews.remove(key)
                self.old_previews.append(key)  # It is too late to show it.
                raise
            if shown:
                self.old_previews += self.shown_previews[:-1]
                self.shown_previews = [key]

    def _may_show(self) -> bool:
        now = asyncio.get_running_loop().time()
        if now - self._shown_at < _SHOW_EVERY_SECONDS:
            return False
        self._shown_at = now
        return True

    async def _show(
        self,
        *,
        progress: float | None = None,
        queue_position: int | None = None,
        preview: Preview | None = None,
        text: str | None = None,
    ) -> bool:
        """Write the journal, and return whether it was written. Raise LeaseLost if the claim has
        ended.
        """
        try:
            shown = await self._claims.show_progress(
                self._claim,
                progress=progress,
                queue_position=queue_position,
                preview=preview,
                text=text,
            )
        except Overloaded:
            return False  # The next report is newer.
        if not shown:
            raise LeaseLost
        return True


class RunReporter:
    """The `RunObserver` of one run, and the `CaptionObserver` of one caption."""

    def __init__(self, reporter: RunProgress, index: int, run: Run) -> None:
        # It has this one. Otherwise both, and all that a run holds, would be freed only by the next
        # full garbage collection, which is rare.
        self._reporter = proxy(reporter)
        self.index = index
        self.run = run
        self.is_lost = run.answer_is_awaited
        """Another process submitted the job, and stopped before it had the answer."""
        self.fraction = 0.0

    @property
    def answer_is_awaited(self) -> bool:
        return self.run.answer_is_awaited and not self.is_lost

    async def submitting(self) -> None:
        before = self.run
        self.run = replace(before, tries=before.tries + 1, rejected=False, job=None)
        try:
            await self._reporter.save_runs()
        except (LeaseLost, asyncio.CancelledError):
            self.run = before  # The provider is not asked.
            raise

    async def submitted(self, job: ProviderJob) -> None:
        assert self.run.tries, "A provider says `submitting` first."
        self.run = replace(self.run, job=job)
        # The job is saved before its first poll: a crash in between would lead to a second payment.
        await self._reporter.save_runs()
        if self._reporter.hand_over:
            raise HandedOver

    async def queued(self, position: int) -> None:
        await self._reporter.show_position(position)

    async def progress(self, fraction: float) -> None:
        self.fraction = min(1.0, max(0.0, fraction))
        await self._reporter.show_progress()

    async def preview(self, data: bytes) -> None:
        await self._reporter.show_preview(data)

    async def text(self, so_far: str) -> None:
        await self._reporter.show_text(so_far)
