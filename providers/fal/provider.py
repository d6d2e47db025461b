"""The provider of fal's models: what its runs need, and which of their ends are alarms."""

from base64 import b64encode
from typing import Final, NoReturn

import structlog

from domain.errors import GenerationErrorCode, GenerationFailed
from domain.generation import Delivery, GenerationRequest
from domain.images import Image
from domain.outputs import ProviderJob
from domain.ports import ObjectStore, Watcher
from providers.downloads import Downloader, Sources
from providers.fal.calls import FalCalls
from providers.fal.jobs import FalJob
from providers.fal.patience import Pace
from providers.fal.runs import FalRun
from providers.http import MAX_BYTES, Unanswered

log = structlog.get_logger(__name__)

RESULT_HOSTS: Final = (".fal.media", "storage.googleapis.com")
MAX_REFERENCE_BYTES: Final = 64 * 2**20
"""Of all references of a run: they are in memory together while they are sent."""


class FalProvider:
    """A `Provider` on fal's queue."""

    def __init__(
        self,
        store: ObjectStore,
        *,
        key: str,
        url: str,
        places: int,
        pace: Pace | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._store = store
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
    def places(self) -> int:
        return self._places

    async def aclose(self) -> None:
        """Close the connections. Runs that are still under way must have been cancelled before."""
        await self._calls.aclose()
        await self._downloader.aclose()

    async def generate(self, request: GenerationRequest, watcher: Watcher) -> Delivery:
        run = FalRun(
            request,
            watcher,
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
            _sound_alarm(failure, request)
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
            # Whatever can go wrong on our side goes wrong before fal is asked.
            links = await self._reference_links(request.references)
            return await run.submit(links)
        job = self._calls.queue.job_of(request.job)
        if job is None:
            _fail(GenerationErrorCode.OUTCOME_UNKNOWN, "the stored job is none of fal's")
        return job

    async def _reference_links(self, references: tuple[Image, ...]) -> list[str]:
        """References inside of the request, although fal would rather fetch them.

        A folder's links lead to this machine, where fal cannot reach them; and what is put into
        fal's own store can be seen by whoever gets to know its address.
        """
        if sum(image.byte_size for image in references) > MAX_REFERENCE_BYTES:
            _fail(
                GenerationErrorCode.PROVIDER_REJECTED_INPUT,
                "the references are too large together",
                retryable=False,
            )
        links = []
        for image in references:
            data = b64encode(await self._store.get(image.key)).decode()
            links.append(f"data:{image.content_type};base64,{data}")
        return links


def _sound_alarm(failure: GenerationFailed, request: GenerationRequest) -> None:
    """What only the operator can mend."""
    facts = {"provider": "fal", "model": request.model.id, "reason": str(failure)}
    if failure.code is GenerationErrorCode.PROVIDER_AUTHENTICATION:
        log.error("provider does not take our key", **facts)
    elif failure.code is GenerationErrorCode.MODEL_RETIRED:
        log.error("provider does not have the model", **facts)


def _fail(code: GenerationErrorCode, detail: str, *, retryable: bool = True) -> NoReturn:
    raise GenerationFailed(code, retryable=retryable, detail=detail)
