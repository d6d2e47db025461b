"""Outputs as use cases read and write them."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from domain.changes import ClusterTime
from domain.conflicts import Conflict
from domain.idempotency import IdempotencyKey
from domain.ids import OutputId, ParentId, ViewerId
from domain.outputs import Output
from domain.parents import Parent
from domain.turns import PlannedOutput


class OutputRepository(Protocol):
    """Outputs, whatever the kind of their parent."""

    async def find_parent(
        self, viewer_id: ViewerId, output_id: OutputId
    ) -> tuple[Parent, ClusterTime] | None:
        """The parent of an output, and the cluster time since which it may have changed."""

    async def list_unfinished(self, viewer_id: ViewerId) -> Sequence[Parent]:
        """Some of the viewer's parents with unfinished outputs; none if there are none."""

    async def retry(
        self,
        viewer_id: ViewerId,
        output: Output,
        *,
        planned: PlannedOutput,
        max_active_outputs: int,
        key: IdempotencyKey | None,
    ) -> tuple[Parent, ClusterTime] | Conflict:
        """Queue an ended output again, as its next attempt, reserve its credits and write the
        idempotency record together, or nothing.

        The conflict is KEY_USED, LIMIT_REACHED, or STALE: since `output` was read, it has changed
        or was deleted.
        """

    async def cancel(
        self, viewer_id: ViewerId, parent_id: ParentId, slots: Iterable[int]
    ) -> Parent | None:
        """End those of these outputs that have not ended, and release what they had reserved; None
        if all have ended.
        """
