"""Jobs of a viewer that take longer than a request: exports, and imports of what was exported."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Generic, TypeVar

from domain.ids import ConversationId, ExportId, ImportId, UploadId, ViewerId
from domain.outputs import GenerationError, OutputStatus

MAX_RUNNING_JOBS: Final = 3
"""Of one kind, of one viewer."""
MAX_TRIES: Final = 5
"""Of one job, each begun where a process has left it or a store was away."""
KEPT: Final = timedelta(hours=24)
"""How long a job that has ended, and the ZIP of an export, are there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    owner_id: ViewerId
    status: OutputStatus = OutputStatus.QUEUED
    """Never CANCELLED."""
    progress: float | None = None
    error: GenerationError | None = None
    created_at: datetime
    expires_at: datetime | None = None
    """Once it has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export(Job):
    id: ExportId
    conversation_id: ConversationId | None
    """None: everything of the viewer."""
    key: str | None = None
    """Of the ZIP in the object store, once it is complete."""
    byte_size: int | None = None
    """None above what clients can read as an Int."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Import(Job):
    id: ImportId
    upload_id: UploadId
    key: str
    """Of the ZIP in the object store, as it was uploaded."""
    conversation_id: ConversationId | None = None
    """The new one, or the first of several, once it is complete; None where there is none."""
    failure: GenerationError | None = None
    """Why it has failed, while what it has made is taken back."""
    keys_left: Sequence[str] = ()
    """Of bytes that its last process may have left, to which nothing refers."""


@dataclass(frozen=True, slots=True)
class TakenBack:
    """A part of what an import has made, which is there no longer."""

    keys: Sequence[str]
    """Of bytes that nothing refers to any more."""
    is_all: bool
    """Whether there is no more."""


AnyJob = TypeVar("AnyJob", Export, Import)


@dataclass(frozen=True, slots=True)
class JobClaim(Generic[AnyJob]):
    """A process' right to do a job. A later claim has a higher fence."""

    job: AnyJob
    fence: int
