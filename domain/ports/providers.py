"""Providers and writers, which run models, and what they report during a run."""

from typing import Protocol

from domain.captions import CaptionDelivery, CaptionRequest
from domain.generation import Delivery, GenerationRequest
from domain.outputs import ProviderJob


class SubmissionObserver(Protocol):
    """What is reported for every run that may be billed.

    A provider that charges calls `submitting`, sends its request, and calls `submitted` with the
    job, in this order and before anything else. A provider without jobs omits `submitted`. Where
    repeating a run costs nothing, neither is called.
    """

    async def submitting(self) -> None:
        """From now on the provider may run the job even if its answer is lost."""

    async def submitted(self, job: ProviderJob) -> None:
        """The provider has accepted the job: another process can resume it."""


class RunObserver(SubmissionObserver, Protocol):
    """What a provider reports during a run. Reports that come too fast may be dropped."""

    async def queued(self, position: int) -> None:
        """The number of jobs before this one in the provider's queue; 0 once it runs."""

    async def progress(self, fraction: float) -> None:
        """0 to 1."""

    async def preview(self, data: bytes) -> None:
        """A partial image, encoded. Not called where the request wants no previews."""


class Provider(Protocol):
    """Runs models. One `generate` is one run; cancelling the task ends it."""

    @property
    def name(self) -> str: ...

    @property
    def max_concurrent_runs(self) -> int:
        """How many runs one process may have at this provider at the same time."""

    async def generate(self, request: GenerationRequest, observer: RunObserver) -> Delivery:
        """Make the images, or raise `GenerationFailed`.

        With `request.job`, resume that job and submit nothing. Raise `NotSubmitted` only where it
        is certain that no job was accepted, and `OUTCOME_UNKNOWN` where that is unknown. A failure
        with `nothing_taken` allows the runner to ask another provider.
        """

    async def cancel(self, job: ProviderJob) -> bool:
        """Ask the provider to stop a job, if it can. Return False where it is worth asking again,
        because there was no response, or the provider was not available.
        """


class CaptionObserver(SubmissionObserver, Protocol):
    """What a writer reports during a run. Reports that come too fast may be dropped."""

    async def text(self, so_far: str) -> None:
        """The caption as far as it is written; not blank."""


class CaptionWriter(Protocol):
    """Runs models that write captions. One `write` is one run; cancelling the task ends it."""

    @property
    def name(self) -> str:
        """The provider's name in the catalogue."""

    @property
    def max_concurrent_runs(self) -> int:
        """How many captions one process may have written here at the same time, not counting
        images.
        """

    async def write(self, request: CaptionRequest, observer: CaptionObserver) -> CaptionDelivery:
        """Write the caption, or raise `GenerationFailed`, as `Provider.generate` does.

        A writer has no jobs: with `request.job`, raise `OUTCOME_UNKNOWN`.
        """
