"""Jobs of a viewer that take longer than a request: exports and imports."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Generic, TypeVar

from domain.ids import ConversationId, ExportId, ImportId, UploadId, ViewerId
from domain.outputs import GenerationError, OutputStatus

MAX_RUNNING_JOBS: Final = 3
"""Unfinished jobs of one kind and one viewer."""
MAX_TRIES: Final = 5
"""How often a job is tried. It starts again where a process has abandoned it or the
store was away.
"""
KEPT: Final = timedelta(hours=24)
"""How long an ended job, and the ZIP of an export, are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    owner_id: ViewerId
    status: OutputStatus = OutputStatus.QUEUED
    """Never CANCELLED."""
    progress: float | None = None
    error: GenerationError | None = None
    created_at: datetime
    expires_at: datetime | None = None
    """When it is deleted, once it has ended."""
    keys_left: Sequence[str] = ()
    """The keys of bytes that its last process may have left, and that no record refers to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export(Job):
    id: ExportId
    conversation_id: ConversationId | None
    """The conversation that is exported; None: everything of the viewer."""
    key: str | None = None
    """The key of the ZIP in the object store, once it is complete."""
    byte_size: int | None = None
    """The ZIP's size; None above what clients can read as an Int."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Import(Job):
    id: ImportId
    upload_id: UploadId
    key: str
    """The key of the uploaded ZIP in the object store."""
    conversation_id: ConversationId | None = None
    """The imported conversation, or the first of several, once it is complete; None where there is
    none.
    """
    failure: GenerationError | None = None
    """Why it has failed, while it takes back what it has made."""


@dataclass(frozen=True, slots=True)
class TakenBack:
    """A part of what an import has made, whose records have been deleted."""

    keys: Sequence[str]
    """The keys of bytes that no record refers to any more."""
    is_all: bool
    """Whether everything has been taken back."""


AnyJob = TypeVar("AnyJob", Export, Import)


@dataclass(frozen=True, slots=True)
class JobClaim(Generic[AnyJob]):
    """The right of a process to run a job. A later claim has a higher fence."""

    job: AnyJob
    fence: int
