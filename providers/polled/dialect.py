"""What a run needs to know of a provider of predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from domain.errors import GenerationFailed
from domain.generation import GenerationRequest
from providers.http import Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A request for a job."""

    path: str
    """Below the provider's base URL."""
    body: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What an answer tells of a job, and no more: answers may repeat all that was sent."""

    id: str
    over: bool
    links: tuple[str, ...] = ()
    """To its pictures: at least one, where it is over and has not failed."""
    failure: GenerationFailed | None = None
    progress: float | None = None
    """0 to 1, where it is told."""


class Dialect(Protocol):
    """How one provider wants to be asked, and what its answers mean.

    `leave_out` is what must not get into a log.
    """

    @property
    def name(self) -> str: ...

    @property
    def max_references_bytes(self) -> int:
        """Of all references of a run together."""

    @property
    def status_path(self) -> str:
        """Where a job is asked about, with `{id}` in it."""

    @property
    def cancel_path(self) -> str | None:
        """None where jobs cannot be cancelled."""

    def submission(self, request: GenerationRequest, links: Sequence[str]) -> Submission:
        """`links` are the references. Raise `GenerationFailed` where there is no such model."""

    def plain(self, answer: Answer) -> Answer:
        """An answer whose status says what the answer says, wherever it says it."""

    def read(self, answer: Answer, *, leave_out: Sequence[str]) -> Prediction | None:
        """None where the answer tells of no prediction."""

    def failure(self, answer: Answer, *, leave_out: Sequence[str]) -> GenerationFailed:
        """What an answer means that tells of no prediction."""

    def wish(self, answer: Answer) -> float | None:
        """For how many seconds the provider wants to be left alone."""
