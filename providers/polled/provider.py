"""A polled provider: what its runs share, and which of their failures are reported to
the operator.
"""

from collections.abc import Collection

from domain.errors import GenerationFailed
from domain.generation import Delivery, GenerationRequest
from domain.outputs import ProviderJob
from domain.ports.providers import RunObserver
from providers.alerts import alert_operator
from providers.failures import OUTCOME_UNKNOWN
from providers.http import MAX_BYTES
from providers.polled.client import PolledClient, is_job_id
from providers.polled.dialect import Dialect, Prediction
from providers.polled.runs import PolledRun
from providers.polling import Pace
from providers.references import References, fair_share
from providers.safe_http import Downloader, Sources
from providers.submit_and_poll import cancel_job


class PolledProvider:
    """A `Provider` in any dialect."""

    def __init__(
        self,
        dialect: Dialect,
        references: References,
        *,
        key: str,
        url: str,
        max_concurrent_runs: int,
        result_hosts: Collection[str],
        pace: Pace | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._dialect = dialect
        self._references = references
        self._key = key
        self._max_concurrent_runs = max_concurrent_runs
        self._pace = pace or Pace()
        self._calls = PolledClient(dialect, key=key, url=url, max_bytes=max_bytes)
        sources = Sources.of(*result_hosts, base_url=url)
        self._downloader = Downloader(sources, max_bytes=max_bytes)

    @property
    def name(self) -> str:
        return self._dialect.name

    @property
    def max_concurrent_runs(self) -> int:
        return self._max_concurrent_runs

    async def aclose(self) -> None:
        """Close the connections. Unfinished runs must have been cancelled before."""
        await self._calls.aclose()
        await self._downloader.aclose()

    async def generate(self, request: GenerationRequest, observer: RunObserver) -> Delivery:
        run = PolledRun(
            request,
            observer,
            dialect=self._dialect,
            calls=self._calls,
            downloader=self._downloader,
            pace=self._pace,
            leave_out=(self._key, request.prompt),
        )
        with alert_operator(request.model):
            job_id, prediction = await self._begin(run, request)
            try:
                result = await run.follow(prediction or await run.ask(job_id))
            except GenerationFailed:
                if not run.job_has_ended:
                    # It may be running, and its result is not needed.
                    await self.cancel({"id": job_id})
                raise
            return await run.fetch(result)

    async def cancel(self, job: ProviderJob) -> bool:
        """Ask the provider to stop the job, and log the response."""
        job_id = job.get("id", "")
        path = self._dialect.cancel_path
        if path is None or not is_job_id(job_id):
            return True
        cancelling = self._calls.cancel(path, job_id, within=self._pace.cancel)
        return await cancel_job(cancelling, provider=self.name, job_id=job_id)

    async def _begin(
        self, run: PolledRun, request: GenerationRequest
    ) -> tuple[str, Prediction | None]:
        """Submit or resume; return the job's id, and what is known of it."""
        if request.job is not None:
            job_id = request.job.get("id", "")
            if not is_job_id(job_id):
                raise OUTCOME_UNKNOWN.failure(f"the stored job is not one of {self.name}")
            return job_id, None
        # Everything that can fail here fails before the provider is asked.
        share = fair_share(request.references, self._dialect.max_references_bytes)
        references = await self._references.read(request.references, max_bytes=share)
        prediction = await run.submit([reference.as_link() for reference in references])
        return prediction.id, prediction
