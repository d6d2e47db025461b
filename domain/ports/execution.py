"""What a worker does to outputs, and how it hears of them.

All raise `Overloaded` where the database cannot be reached.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from typing import Protocol

from domain.ids import (
    ModelId,
    OutputId,
)
from domain.images import ImageRecord
from domain.outputs import GenerationError, Preview, Run, Usage
from domain.turns import Claim, Waiting


class ClaimRepository(Protocol):
    """What a worker does to outputs. A write that returns False came too late: the claim is
    over.
    """

    async def find_waiting(self, output_id: OutputId) -> Waiting | None:
        """The output, if it may run now, and no worker has it.

        One whose worker has let its lease run out is left to `waiting`: whether that worker is dead
        is for those to say who have watched it for a while.
        """

    async def waiting(
        self, model_ids: Iterable[ModelId], *, queued_for: timedelta, expired: bool, limit: int
    ) -> Sequence[Waiting]:
        """Outputs of these models that no worker holds: given back, or queued so long.

        With `expired`, also those whose worker has let its lease run out. In fair order: those
        first whose viewer has the fewest at work, then the longest queued.
        """

    async def claim(self, output_id: OutputId, *, lease: timedelta) -> Claim | None:
        """Take an unfinished output whose lease is over, or return None.

        The claim raises `fence`, and every later write names that fence: a worker that lost its
        lease can write nothing more, even if it does not know yet that it lost it. All times are
        the database's.
        """

    async def renew(self, claim: Claim, *, lease: timedelta) -> bool:
        """Hold the output for longer, unless it has been given back."""

    async def give_back(self, claim: Claim) -> bool:
        """End the lease at once, so that another worker can claim the output."""

    async def postpone(self, claim: Claim, runs: Sequence[Run], *, delay: timedelta) -> bool:
        """Give it back with what became of its runs, and let nobody claim it before this has
        passed.
        """

    async def save_runs(self, claim: Claim, runs: Sequence[Run]) -> bool:
        """Write how far they have come. What is stored and has come further stays."""

    async def is_abandoned(self, claim: Claim) -> bool:
        """Whether nobody wants what this claim's provider is doing: the attempt ended without it,
        or was deleted.
        """

    async def show_progress(
        self,
        claim: Claim,
        *,
        progress: float | None = None,
        queue_position: int | None = None,
        preview: Preview | None = None,
    ) -> bool:
        """Write what is not None."""

    async def land(
        self,
        claim: Claim,
        records: Sequence[ImageRecord],
        *,
        text: str | None,
        usage: Usage | None,
    ) -> bool:
        """End the output with its images, write their records and charge for them, together."""

    async def fail(self, claim: Claim, error: GenerationError) -> bool:
        """End the output without images, and release what it held."""

    async def end_overdue(self, *, queued_for: timedelta, limit: int) -> Sequence[OutputId]:
        """End, as timed out, what no worker holds and is past its deadline or queued so long.

        What it held is released. Return what was ended.
        """


class WithdrawnModelRepository(Protocol):
    """Models that their providers say are gone. Each is forgotten after an hour."""

    async def add(self, model_id: ModelId) -> None: ...

    async def ids(self) -> Collection[ModelId]: ...


class JobQueue(Protocol):
    """Carries ids of outputs to workers: a hint, not a promise. The sweeper brings what gets
    lost.
    """

    def enqueue(self, output_ids: Iterable[OutputId]) -> None: ...

    def recall(self, output_ids: Iterable[OutputId]) -> None:
        """Stop those that run here. Other workers find out when they renew their leases."""
