"""The provider of OpenAI's models behind one door, and which ends of its runs are alarms."""

from typing import Final

from domain.errors import GenerationErrorCode, GenerationFailed
from domain.generation import Delivery, GenerationRequest
from domain.outputs import ProviderJob
from domain.ports import Watcher
from providers.alarms import sound_alarm
from providers.http import MAX_BYTES
from providers.openai.calls import OpenAICalls
from providers.openai.doors import Door
from providers.openai.runs import OpenAIRun
from providers.patience import Pace
from providers.references import References

MAX_REFERENCE_BYTES: Final = 50_000_000 - 1


class OpenAIProvider:
    """A `Provider` on the Images API. It has no jobs: see docs/decisions/0017."""

    def __init__(
        self,
        references: References,
        door: Door,
        *,
        places: int,
        pace: Pace | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._references = references
        self._door = door
        self._places = places
        self._pace = pace or Pace()
        self._max_bytes = max_bytes
        self._calls = OpenAICalls(door)

    @property
    def name(self) -> str:
        return self._door.provider

    @property
    def places(self) -> int:
        return self._places

    async def aclose(self) -> None:
        """Close the connections. Runs that are still under way must have been cancelled before."""
        await self._calls.aclose()

    async def generate(self, request: GenerationRequest, watcher: Watcher) -> Delivery:
        run = OpenAIRun(
            request,
            watcher,
            calls=self._calls,
            door=self._door,
            pace=self._pace,
            max_bytes=self._max_bytes,
        )
        try:
            if request.job is not None:
                raise GenerationFailed(
                    GenerationErrorCode.OUTCOME_UNKNOWN,
                    retryable=True,
                    detail="the stored job is none of these",
                )
            # Whatever can go wrong on our side goes wrong before anybody is asked.
            references = await self._references.read(
                request.references,
                max_bytes=MAX_REFERENCE_BYTES,
                content_types=self._door.reference_types,
            )
            return await run.make(references)
        except GenerationFailed as failure:
            sound_alarm(failure, request)
            raise

    async def cancel(self, job: ProviderJob) -> None:
        """There are no jobs: a run ends with its task, and may be billed nevertheless."""
