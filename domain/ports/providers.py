"""Who runs models, and what they report while they do."""

from typing import Protocol

from domain.generation import Delivery, GenerationRequest
from domain.outputs import ProviderJob


class RunObserver(Protocol):
    """What a provider tells while it works. What comes too fast is left out.

    A provider that costs something calls `submitting`, asks, and calls `submitted` with the job, in
    this order and before anything else. One that has no jobs to come back to leaves `submitted`
    out. Where repeating a run costs nothing, neither is called.
    """

    async def submitting(self) -> None:
        """From here on the provider may do the work although its answer is lost."""

    async def submitted(self, job: ProviderJob) -> None:
        """The provider has taken the job: whatever happens, another process can go on with it."""

    async def queued(self, position: int) -> None:
        """How many are before it at the provider's; 0 once it is its turn."""

    async def progress(self, fraction: float) -> None:
        """0 to 1."""

    async def preview(self, data: bytes) -> None:
        """A partial image, encoded. Not called where the request wants no previews."""


class Provider(Protocol):
    """Somebody who runs models. One `generate` is one run; cancelling the task ends it."""

    @property
    def name(self) -> str: ...

    @property
    def max_concurrent_runs(self) -> int:
        """How many runs one process may have here at the same time."""

    async def generate(self, request: GenerationRequest, observer: RunObserver) -> Delivery:
        """Make the pictures, or raise `GenerationFailed`.

        With `request.job`, go on with that job and submit nothing. Raise `NotSubmitted` only where
        it is certain that no job was taken, and `OUTCOME_UNKNOWN` where nobody can tell.
        """

    async def cancel(self, job: ProviderJob) -> None:
        """Tell the provider that nobody wants this job any more, where it can be told."""
