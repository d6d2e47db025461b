"""The provider of fal's models: what its runs need, and which of their ends are alarms."""

from typing import Final, NoReturn

import structlog

from domain.errors import GenerationErrorCode, GenerationFailed
from domain.generation import Delivery, GenerationRequest
from domain.outputs import ProviderJob
from domain.ports.providers import RunObserver
from providers.alerts import sound_alarm
from providers.fal.client import FalCalls
from providers.fal.jobs import FalJob
from providers.fal.runs import FalRun
from providers.http import MAX_BYTES, Unanswered
from providers.polling import Pace
from providers.references import References
from providers.safe_http import Downloader, Sources

log = structlog.get_logger(__name__)

RESULT_HOSTS: Final = (".fal.media", "storage.googleapis.com")


class FalProvider:
    """A `Provider` on fal's queue."""

    def __init__(
        self,
        references: References,
        *,
        key: str,
        url: str,
        places: int,
        pace: Pace | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._references = references
        self._key = key
        self._places = places
        self._pace = pace or Pace()
        self._calls = FalCalls(key=key, url=url, max_bytes=max_bytes)
        sources = Sources.of(*RESULT_HOSTS, base_url=url)
        self._downloader = Downloader(sources, max_bytes=max_bytes)

    @property
    def name(self) -> str:
        return "fal"

    @property
    def max_concurrent_runs(self) -> int:
        return self._places

    async def aclose(self) -> None:
        """Close the connections. Runs that are still under way must have been cancelled before."""
        await self._calls.aclose()
        await self._downloader.aclose()

    async def generate(self, request: GenerationRequest, observer: RunObserver) -> Delivery:
        run = FalRun(
            request,
            observer,
            calls=self._calls,
            downloader=self._downloader,
            pace=self._pace,
            leave_out=(self._key, request.prompt),
        )
        try:
            job = await self._job(run, request)
            try:
                result = await run.follow(job)
            except GenerationFailed:
                if not run.job_has_ended:
                    # It may be going on, and nobody waits for it any more.
                    await self.cancel(job.saved())
                raise
            return await run.fetch(result)
        except GenerationFailed as failure:
            sound_alarm(failure, request)
            raise

    async def cancel(self, job: ProviderJob) -> None:
        """Sure only while the job is in fal's queue. What comes of it is only logged."""
        known = self._calls.queue.job_of(job)
        if known is None:
            return
        try:
            answer = await self._calls.cancel(known, within=self._pace.cancel)
            outcome = f"HTTP {answer.status}"
        except Unanswered as silence:
            outcome = str(silence)
        log.info("job cancelled", provider=self.name, job=known.request_id, outcome=outcome)

    async def _job(self, run: FalRun, request: GenerationRequest) -> FalJob:
        if request.job is None:
            return await run.submit(self._references)
        job = self._calls.queue.job_of(request.job)
        if job is None:
            _fail(GenerationErrorCode.OUTCOME_UNKNOWN, "the stored job is none of fal's")
        return job


def _fail(code: GenerationErrorCode, detail: str, *, retryable: bool = True) -> NoReturn:
    raise GenerationFailed(code, retryable=retryable, detail=detail)
