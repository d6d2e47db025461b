"""A provider of which one call is the whole run, whatever its dialect is."""

import httpx2

from domain.errors import GenerationErrorCode, GenerationFailed
from domain.generation import Delivery, GenerationRequest
from domain.outputs import ProviderJob
from domain.ports.providers import RunObserver
from providers.alerts import sound_alarm
from providers.http import MAX_BYTES
from providers.polling import Pace, PollingPolicy
from providers.references import References, fair_share
from providers.synchronous.client import OneCall
from providers.synchronous.dialect import Dialect, Question


class OneCallProvider:
    """A `Provider` in some dialect."""

    def __init__(
        self,
        dialect: Dialect,
        references: References,
        *,
        places: int,
        pace: Pace | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._dialect = dialect
        self._references = references
        self._places = places
        self._pace = pace or Pace()
        self._call = OneCall(dialect, max_bytes=max_bytes)

    @property
    def name(self) -> str:
        return self._dialect.name

    @property
    def max_concurrent_runs(self) -> int:
        return self._places

    async def aclose(self) -> None:
        """Close the connections. Runs that are still under way must have been cancelled before."""
        await self._call.aclose()

    async def generate(self, request: GenerationRequest, observer: RunObserver) -> Delivery:
        try:
            return await self._generate(request, observer)
        except GenerationFailed as failure:
            sound_alarm(failure, request)
            raise

    async def cancel(self, job: ProviderJob) -> None:
        """There are no jobs: what is under way ends with its connection."""

    async def _generate(self, request: GenerationRequest, observer: RunObserver) -> Delivery:
        if request.job is not None:
            raise GenerationFailed(
                GenerationErrorCode.OUTCOME_UNKNOWN,
                retryable=True,
                detail="a stored job, of which this provider has none",
            )
        policy = PollingPolicy(self._pace, request.seconds_left)
        url = self._dialect.url(request)
        # Whatever can go wrong on our side goes wrong before the provider is asked.
        question = await self._question(request)
        policy.check()
        await observer.submitting()
        leave_out = (self._dialect.key, request.prompt)
        reply = self._dialect.reply(request, leave_out)
        answer = await self._call.ask(
            url, question, reply, request=request, observer=observer, policy=policy
        )
        if answer.status != httpx2.codes.OK:
            raise self._dialect.failure(answer, leave_out)
        return reply.delivery()

    async def _question(self, request: GenerationRequest) -> Question:
        share = fair_share(request.references, self._dialect.max_references_bytes(request))
        references = await self._references.read(
            request.references,
            max_bytes=min(share, self._dialect.max_reference_bytes),
            content_types=self._dialect.reference_types,
        )
        return self._dialect.question(request, references)
