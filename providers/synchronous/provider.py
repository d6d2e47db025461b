"""A provider whose answer to one call is the whole run, in any dialect."""

from domain.generation import Delivery, GenerationRequest
from domain.outputs import ProviderJob
from domain.ports.providers import RunObserver
from providers.alerts import alert_operator
from providers.failures import OUTCOME_UNKNOWN
from providers.http import MAX_BYTES
from providers.polling import Pace, PollingPolicy
from providers.references import References, fair_share
from providers.result_downloads import fetch_pictures
from providers.safe_http import Downloader
from providers.synchronous.client import ANSWERED, SynchronousClient
from providers.synchronous.dialect import Body, Partial, PictureDialect


class SynchronousProvider:
    """A `Provider` in some dialect."""

    def __init__(
        self,
        dialect: PictureDialect,
        references: References,
        *,
        max_concurrent_runs: int,
        pace: Pace | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._dialect = dialect
        self._references = references
        self._max_concurrent_runs = max_concurrent_runs
        self._pace = pace or Pace()
        self._call = SynchronousClient(
            dialect, last_words_seconds=self._pace.last_words, max_bytes=max_bytes
        )
        self._downloader = Downloader(dialect.sources, max_bytes=max_bytes)

    @property
    def name(self) -> str:
        return self._dialect.name

    @property
    def max_concurrent_runs(self) -> int:
        return self._max_concurrent_runs

    async def aclose(self) -> None:
        """Close the connections. Unfinished runs must have been cancelled before."""
        await self._call.aclose()
        await self._downloader.aclose()

    async def generate(self, request: GenerationRequest, observer: RunObserver) -> Delivery:
        with alert_operator(request.model):
            return await self._generate(request, observer)

    async def cancel(self, job: ProviderJob) -> bool:  # noqa: ARG002 - there are none
        """There are no jobs: a run ends with its connection."""
        return True

    async def _generate(self, request: GenerationRequest, observer: RunObserver) -> Delivery:
        if request.job is not None:
            raise OUTCOME_UNKNOWN.failure("a stored job, but this provider has no jobs")
        policy = PollingPolicy(self._pace, request.seconds_left)
        url = self._dialect.url(request)
        # Everything that can fail here fails before the provider is asked.
        body = await self._build_body(request)
        policy.check()
        await observer.submitting()
        leave_out = (self._dialect.key, request.prompt)
        reply = self._dialect.reply(request, leave_out)
        previews = _Previews(observer, request.preview_count)
        answer = await self._call.ask(url, body, reply, show=previews.show, policy=policy)
        if answer.status not in ANSWERED:
            raise self._dialect.failure(answer, leave_out)
        if not reply.pictures:
            raise reply.failure()
        pictures = await fetch_pictures(
            reply.pictures,
            self._downloader,
            pace=self._pace,
            seconds_left=policy.seconds_left,
            provider=self.name,
        )
        return reply.delivery(pictures)

    async def _build_body(self, request: GenerationRequest) -> Body:
        share = fair_share(request.references, self._dialect.max_references_bytes(request))
        references = await self._references.read(
            request.references,
            max_bytes=min(share, self._dialect.max_reference_bytes),
            content_types=self._dialect.reference_types,
            mask=request.mask,
        )
        return self._dialect.body(request, references)


class _Previews:
    """Shows as many of a run's partial images as are wanted."""

    def __init__(self, observer: RunObserver, wanted: int) -> None:
        self._observer = observer
        self._left = wanted

    async def show(self, partial: Partial) -> None:
        if self._left > 0:
            self._left -= 1
            if partial.progress is not None:
                await self._observer.progress(partial.progress)
            await self._observer.preview(partial.data)
