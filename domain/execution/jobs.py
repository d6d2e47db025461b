"""Runs the jobs of one kind, one at a time in each process.

When a process abandons a job, for whatever reason, any process starts it again once its lease has
expired. Only the holder of the latest claim can write the result.
"""

import asyncio
import logging
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from time import monotonic
from typing import Any, Final, Generic, TypeVar

from domain.background import run_in_background
from domain.errors import GenerationErrorCode, Overloaded, StoreUnavailable
from domain.execution.leases import LeaseLost
from domain.jobs import KEPT, MAX_TRIES, AnyJob, JobClaim
from domain.outputs import GenerationError
from domain.ports.jobs import JobRepository

Result = TypeVar("Result")

log = logging.getLogger(__name__)

LEASE: Final = timedelta(seconds=60)
"""Longer than the object store may take for one object."""
_RENEW_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 10.0
"""Between two searches for jobs that another process has left."""
_PROCESS_LOST: Final = GenerationError(GenerationErrorCode.STORAGE_UNAVAILABLE, retryable=True)
_INTERNAL_ERROR: Final = GenerationError(GenerationErrorCode.INTERNAL, retryable=True)


class JobRunner(ABC, Generic[AnyJob]):
    kind: str
    """The kind of the jobs, for the log."""

    def __init__(self, jobs: JobRepository[AnyJob], *, lease: timedelta = LEASE) -> None:
        self._jobs: JobRepository[AnyJob] = jobs
        self._lease = lease
        self._wake_up = asyncio.Event()
        self._renewed_at = 0.0

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Run the jobs that wait, until the block ends."""
        async with run_in_background(self._run_forever(), name=f"{self.kind}s"):
            yield

    def search_now(self) -> None:
        """Look for jobs now: one has just been created."""
        self._wake_up.set()

    @abstractmethod
    async def delete_left(self, keys: Sequence[str]) -> None:
        """Delete bytes that an earlier process has left. It comes first of all."""

    @abstractmethod
    async def run(self, claim: JobClaim[AnyJob]) -> None:
        """Do the job completely. An exception makes it start again, or end as failed."""

    async def fail(self, claim: JobClaim[AnyJob], error: GenerationError) -> None:
        await self._jobs.fail(claim, error, kept=KEPT)

    async def renew(self, claim: JobClaim[AnyJob], *, progress: float | None) -> None:
        """Report progress; called often. Raise LeaseLost where the job was deleted, or another
        process has claimed it.
        """
        if monotonic() - self._renewed_at > _RENEW_SECONDS:
            self._renewed_at = monotonic()
            if not await self._jobs.renew(claim, progress=progress, lease=self._lease):
                raise LeaseLost

    async def renew_during(
        self, claim: JobClaim[AnyJob], work: Coroutine[Any, Any, Result]
    ) -> Result:
        """Do work that reports no progress. Raise LeaseLost as `renew` does."""
        task = asyncio.create_task(work)
        try:
            while not (await asyncio.wait([task], timeout=_RENEW_SECONDS))[0]:
                await self.renew(claim, progress=None)
            return task.result()
        finally:
            task.cancel()

    async def _run_forever(self) -> None:
        while True:
            self._wake_up.clear()
            try:
                claim = await self._jobs.claim(lease=self._lease)
                if claim is not None:
                    await self._do(claim)
                    continue
            except Overloaded:
                pass  # The next check will find it.
            except Exception:
                log.exception("search for %ss failed", self.kind)
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS * random.uniform(0.75, 1.25)):
                    await self._wake_up.wait()

    async def _do(self, claim: JobClaim[AnyJob]) -> None:
        started_at = self._renewed_at = monotonic()
        try:
            if claim.fence > MAX_TRIES:
                with suppress(StoreUnavailable):  # It ends even while the store is away.
                    await self.delete_left(claim.job.keys_left)
                await self.fail(claim, _PROCESS_LOST)
                return
            await self.delete_left(claim.job.keys_left)
            await self.run(claim)
        except LeaseLost:
            pass
        except (Overloaded, StoreUnavailable) as error:
            # The lease expires, and a process starts the job again.
            reason = str(error) or type(error).__name__
            log.warning("%s interrupted", self.kind, extra={"reason": reason})
        except Exception:
            log.exception("%s failed", self.kind)
            await self.fail(claim, _INTERNAL_ERROR)
        else:
            seconds = round(monotonic() - started_at, 3)
            log.info("%s made", self.kind, extra={"seconds": seconds})
