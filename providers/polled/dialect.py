"""What a run needs to know about a polled provider."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from domain.errors import GenerationFailed
from domain.generation import GenerationRequest
from providers.http import Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A submission of a job."""

    path: str
    """The path below the provider's base URL."""
    body: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a response says about a job, and no more: responses may repeat everything
    that was sent.
    """

    id: str
    """Empty where the response does not say it, or not as an id."""
    has_ended: bool
    links: tuple[str, ...] = ()
    """Links to its images: at least one, if it has ended without a failure."""
    failure: GenerationFailed | None = None
    progress: float | None = None
    """The progress from 0 to 1, if it is known."""


class Dialect(Protocol):
    """How one provider is asked, and what its responses mean. `leave_out` must not get
    into a log.
    """

    @property
    def name(self) -> str: ...

    @property
    def max_references_bytes(self) -> int:
        """The size of all references of a run together."""

    @property
    def status_path(self) -> str:
        """The path of a job's status, with `{id}` in it."""

    @property
    def cancel_path(self) -> str | None:
        """None where jobs cannot be cancelled."""

    @property
    def submission_tells_state(self) -> bool:
        """Whether the provider's own client takes a job's state from the response to its
        submission. If not, that response only names the job.
        """

    def submission(self, request: GenerationRequest, links: Sequence[str]) -> Submission:
        """The submission of a request; `links` lead to its references. Raise `GenerationFailed`
        where there is no such model.
        """

    def plain(self, answer: Answer) -> Answer:
        """The response with the status that it states itself, wherever that is."""

    def read(self, answer: Answer, *, leave_out: Sequence[str]) -> Prediction | None:
        """The prediction in a response; None where it has none."""

    def failure(self, answer: Answer, *, leave_out: Sequence[str]) -> GenerationFailed:
        """The meaning of a response without a prediction."""

    def retry_hint(self, answer: Answer) -> float | None:
        """How many seconds the provider asks to wait."""
