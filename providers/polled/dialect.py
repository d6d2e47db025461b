"""What a run needs to know about a polled provider."""

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
    """What an answer says of a job, and no more: answers may repeat all that was sent."""

    id: str
    """Empty where the answer does not say it, or not as an id."""
    has_ended: bool
    links: tuple[str, ...] = ()
    """To its pictures: at least one, where it has ended without a failure."""
    failure: GenerationFailed | None = None
    progress: float | None = None
    """0 to 1, where it is known."""


class Dialect(Protocol):
    """What one provider is sent, and what its answers mean.

    `leave_out` is what must not get into a log.
    """

    @property
    def name(self) -> str: ...

    @property
    def max_references_bytes(self) -> int:
        """Of all references of a run together."""

    @property
    def status_path(self) -> str:
        """The path of a job's status, with `{id}` in it."""

    @property
    def cancel_path(self) -> str | None:
        """None where jobs cannot be cancelled."""

    def submission(self, request: GenerationRequest, links: Sequence[str]) -> Submission:
        """`links` are the references. Raise `GenerationFailed` where there is no such model."""

    def plain(self, answer: Answer) -> Answer:
        """The answer with the status that it states itself, wherever that stands."""

    def read(self, answer: Answer, *, leave_out: Sequence[str]) -> Prediction | None:
        """None where the answer has no prediction."""

    def failure(self, answer: Answer, *, leave_out: Sequence[str]) -> GenerationFailed:
        """What an answer without a prediction means."""

    def retry_hint(self, answer: Answer) -> float | None:
        """How many seconds the provider asks us to wait."""
