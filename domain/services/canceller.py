"""Ending what has not ended: all of a turn or a post, or one output."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from domain.errors import UserErrorCode
from domain.outputs import Output
from domain.parents import Parent
from domain.ports.execution import HintQueue
from domain.ports.outputs import OutputRepository
from domain.refusals import refuse
from domain.viewers import Viewer

AnyParent = TypeVar("AnyParent", bound=Parent)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputCanceller:
    outputs: OutputRepository
    hints: HintQueue

    async def cancel(
        self, viewer: Viewer, parent: AnyParent, entries: Sequence[Output], *, noun: str
    ) -> AnyParent:
        """End those of a parent's outputs that have not ended. What has been delivered is kept.

        Raise Refused if all have ended; the noun is what the viewer wanted to cancel.
        """
        slots = [entry.slot for entry in entries]
        cancelled = await self.outputs.cancel(viewer.id, parent.id, slots)
        if cancelled is None:
            message = f"This {noun} has already finished."
            refuse(UserErrorCode.NOT_CANCELLABLE, message, f"{noun}Id")
        self.hints.recall(entry.id for entry in entries)
        assert isinstance(cancelled, type(parent))
        return cancelled
