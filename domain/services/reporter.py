"""What a provider tells while it works, on its way to the output."""

import asyncio
import logging
from dataclasses import replace
from typing import Final

from domain.errors import GenerationFailed, Overloaded, StoreUnavailable
from domain.images import new_key
from domain.outputs import Preview, ProviderJob, Run
from domain.ports import ClaimRepository, Developer, ObjectStore
from domain.services.leases import LeaseLost
from domain.services.persistence import persist
from domain.turns import Claim

log = logging.getLogger(__name__)

_SHOW_EVERY_SECONDS: Final = 0.25


class HandedOver(Exception):
    """The provider has taken the job, and another process is to go on with it."""


class Reporter:
    """See `domain.ports.Watcher`. Progress and previews are shown not too often."""

    def __init__(
        self, claims: ClaimRepository, objects: ObjectStore, developer: Developer, claim: Claim
    ) -> None:
        self._claims = claims
        self._objects = objects
        self._developer = developer
        self._claim = claim
        self._shown_at = 0.0
        self._position = claim.output.queue_position or 0
        self._preview_count = 0
        self.run: Run | None = claim.output.runs[-1] if claim.output.runs else None
        self.hand_over = False
        """Leave the job to another process as soon as the provider has taken it."""
        preview = claim.output.preview
        self.shown_previews = [preview.key] if preview is not None else []
        """The one that the output shows; several where a write's answer was lost."""
        self.old_previews: list[str] = []

    @property
    def answer_is_awaited(self) -> bool:
        """Whether the provider may be doing the work without our knowing its job."""
        return self.run is not None and not self.run.refused and self.run.job is None

    async def submitting(self) -> None:
        before = self.run
        self.run = Run(tries=before.tries + 1 if before else 1, refused=False, job=None)
        try:
            await self._save_run(self.run)
        except LeaseLost:
            self.run = before  # the provider is not asked
            raise

    async def submitted(self, job: ProviderJob) -> None:
        assert self.run is not None, "A provider says `submitting` first."
        self.run = replace(self.run, job=job)
        # The job is saved before its first poll: a crash between would otherwise pay for it twice.
        await self._save_run(self.run)
        if self.hand_over:
            raise HandedOver

    async def queued(self, position: int) -> None:
        if position != self._position and self._may_show():
            self._position = position
            await self._show(queue_position=max(0, position))

    async def progress(self, fraction: float) -> None:
        if self._may_show():
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

    def _may_show(self) -> bool:
        now = asyncio.get_running_loop().time()
        if now - self._shown_at < _SHOW_EVERY_SECONDS:
            return False
        self._shown_at = now
        return True

    async def _save_run(self, run: Run) -> None:
        if not await persist(lambda: self._claims.save_run(self._claim, run)):
            raise LeaseLost

    async def _show(
        self,
        *,
        progress: float | None = None,
        queue_position: int | None = None,
        preview: Preview | None = None,
    ) -> bool:
        """Whether it was written. Raise LeaseLost where it can never be."""
        try:
            shown = await self._claims.show_progress(
                self._claim, progress=progress, queue_position=queue_position, preview=preview
            )
        except Overloaded:
            return False  # what comes next shows more
        if not shown:
            raise LeaseLost
        return True
