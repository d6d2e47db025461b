"""The provider of fal's models: what its runs share, and which failures are reported to the
operator.
"""

from typing import Final

from domain.errors import GenerationFailed
from domain.generation import Delivery, GenerationRequest
from domain.outputs import ProviderJob
from domain.ports.providers import RunObserver
from providers.alerts import alert_operator
from providers.failures import OUTCOME_UNKNOWN
from providers.fal.client import FalClient
from providers.fal.jobs import FalJob
from providers.fal.runs import FalRun
from providers.http import MAX_BYTES
from providers.polling import Pace
from providers.references import References
from providers.safe_http import Downloader, Sources
from providers.submit_and_poll import cancel_job

RESULT_HOSTS: Final = (".fal.media", "storage.googleapis.com")


class FalProvider:
    """A `Provider` on fal's queue."""

    def __init__(
        self,
        references: References,
        *,
        key: str,
        url: str,
        max_concurrent_runs: int,
        pace: Pace | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._references = references
        self._key = key
        self._max_concurrent_runs = max_concurrent_runs
        self._pace = pace or Pace()
        self._calls = FalClient(key=key, url=url, max_bytes=max_bytes)
        sources = Sources.of(*RESULT_HOSTS, base_url=url)
        self._downloader = Downloader(sources, max_bytes=max_bytes)

    @property
    def name(self) -> str:
        return "fal"

    @property
    def max_concurrent_runs(self) -> int:
        return self._max_concurrent_runs

    async def aclose(self) -> None:
        """Close the connections. Unfinished runs must have been cancelled before."""
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
        with alert_operator(request.model):
            job = await self._begin(run, request)
            try:
                result = await run.follow(job)
            except GenerationFailed:
                if not run.job_has_ended:
                    # It may be running, and its result is not needed.
                    await self.cancel(job.to_stored())
                raise
            return await run.fetch(result)

    async def cancel(self, job: ProviderJob) -> bool:
        """Ask fal to stop the job, and log the response. fal guarantees it only while the job is
        queued.
        """
        known = self._calls.queue.load_job(job)
        if known is None:
            return True
        cancelling = self._calls.cancel(known, within=self._pace.cancel)
        return await cancel_job(cancelling, provider=self.name, job_id=known.request_id)

    async def _begin(self, run: FalRun, request: GenerationRequest) -> FalJob:
        if request.job is None:
            return await run.submit(self._references)
        job = self._calls.queue.load_job(request.job)
        if job is None:
            raise OUTCOME_UNKNOWN.failure("the stored job is not one of fal")
        return job
