"""What workers need: outputs to claim, and notification of waiting outputs.

All repositories raise `Overloaded` where the database cannot be reached.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Protocol

from domain.captions import CaptionDelivery
from domain.claims import Claim, Waiting
from domain.ids import ModelId, OutputId, ViewerId
from domain.images import ImageRecord
from domain.outputs import GenerationError, Output, Preview, Report, Run


class ClaimRepository(Protocol):
    """Claims outputs, and writes their results. A write that returns False came too late: the claim
    has ended.
    """

    async def find_waiting(self, viewer_id: ViewerId, output_id: OutputId) -> Waiting | None:
        """The viewer's output, if it may run now and no worker has claimed it.

        An output whose worker has let its lease expire is left to `list_waiting`: only a process
        that has watched for the time of a lease can tell that the worker is dead.
        """

    async def list_waiting(
        self,
        model_ids: Iterable[ModelId],
        *,
        begun_only: Iterable[ModelId] = (),
        min_queued: timedelta,
        expired: bool,
        limit: int,
    ) -> Sequence[Waiting]:
        """Outputs of these models, of all viewers, that no worker holds: given back, or queued for
        this long.

        Of the models in `begun_only`, only outputs that a worker has begun. With `expired`, also
        those whose worker has let its lease expire. In fair order: outputs of the viewer with the
        fewest running ones first, then the longest queued.
        """

    async def claim(self, waiting: Waiting, *, lease: timedelta) -> Claim | None:
        """Claim an unfinished output that no worker holds and that is as it was found, or return
        None.

        The claim raises `fence`, and every later write names that fence: a worker that has lost its
        lease can write nothing more, even if it does not know yet that it has lost it. All times
        are the database's.

        Between the search and the claim, this process may have been suspended, and the database
        away, for longer than a lease. A lease that expired after the search therefore proves
        nothing.
        """

    async def find_earlier_messages(self, claim: Claim, *, limit: int) -> Sequence[str]:
        """The messages of the conversation's turns before the claim's: the latest ones, at most
        `limit`, oldest first.
        """

    async def renew(self, claim: Claim, *, lease: timedelta) -> bool:
        """Renew the lease, unless the output has been given back."""

    async def give_back(self, claim: Claim) -> bool:
        """End the lease at once, so that another worker can claim the output."""

    async def postpone(self, claim: Claim, runs: Sequence[Run], *, delay: timedelta) -> bool:
        """Give the output back with its journal. No worker can claim it before the delay has
        passed.
        """

    async def save_runs(self, claim: Claim, runs: Sequence[Run]) -> bool:
        """Write the journal. A stored run that has come further stays."""

    async def is_abandoned(self, claim: Claim) -> bool:
        """Whether the result of this claim is no longer needed: the attempt ended without it, or
        was deleted.
        """

    async def show_progress(
        self,
        claim: Claim,
        *,
        progress: float | None = None,
        queue_position: int | None = None,
        preview: Preview | None = None,
        text: str | None = None,
    ) -> bool:
        """Write the values that are not None. `text`: the caption as far as it is written."""

    async def add_images(
        self, claim: Claim, records: Sequence[ImageRecord], report: Report, *, runs: Sequence[Run]
    ) -> bool:
        """Show images of an output that continues, with their records and its journal, in one
        transaction.

        From then on the output ends as completed, whatever happens.
        """

    async def land(
        self, claim: Claim, records: Sequence[ImageRecord], report: Report, *, landed: int = 0
    ) -> bool:
        """End the output with these images too, write their records and charge for all images, in
        one transaction. `landed`: how many it has already.
        """

    async def land_caption(
        self, claim: Claim, delivery: CaptionDelivery
    ) -> Sequence[OutputId] | None:
        """End a caption with its words, charge for it, and queue the outputs of its post that wait
        for it, in one transaction. Return these outputs; None if it came too late.
        """

    async def fail(self, claim: Claim, error: GenerationError) -> bool:
        """End the output, and release its credits.

        With a caption, the outputs that wait for it are cancelled. If some images of the output
        have landed, it is completed, and they are charged.
        """

    async def end_overdue(self, *, max_queued: timedelta, limit: int) -> Sequence[OutputId]:
        """End outputs of all viewers that no worker holds and that are past their deadline or have
        been queued for this long: as `rules.overdue_error` says, by their journals.

        Release their credits, or complete those of which some images have landed. Return what was
        ended.
        """


class HintQueue(Protocol):
    """Notifies workers of waiting outputs: a hint, not a promise. The sweeper finds the rest."""

    def enqueue_written(self, viewer_id: ViewerId, outputs: Iterable[Output]) -> None:
        """Notify a worker of these outputs of the viewer, as they have just been written: a worker
        in this process reads them no more. Never waits and never fails.
        """

    def recall(self, output_ids: Iterable[OutputId]) -> None:
        """Stop the runs of these outputs in this process. Other workers notice when they renew
        their leases.
        """


class ContactRepository(Protocol):
    async def note(self, *, longest_gap: timedelta) -> timedelta:
        """Note that the database has been reached.

        Return for how long, by its clock, it has been reached by any process without too long a gap
        between two notes.
        """
