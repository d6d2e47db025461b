"""Exports: what a viewer takes along, as one ZIP that a job makes."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from domain.ids import ConversationId, ExportId, ViewerId
from domain.outputs import GenerationError, OutputStatus

MAX_RUNNING_EXPORTS: Final = 3
"""Of one viewer."""
MAX_TRIES: Final = 5
"""Of one export, each begun where a process has left it or a store was away."""
KEPT: Final = timedelta(hours=24)
"""How long its ZIP is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    id: ExportId
    owner_id: ViewerId
    conversation_id: ConversationId | None
    """None: everything of the viewer."""
    status: OutputStatus
    """Never CANCELLED."""
    progress: float | None
    key: str | None
    """Of the ZIP in the object store, once it is complete."""
    byte_size: int | None
    """None above what clients can read as an Int."""
    expires_at: datetime | None
    error: GenerationError | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ExportClaim:
    """A process' right to make an export. A later claim has a higher fence."""

    export: Export
    fence: int
