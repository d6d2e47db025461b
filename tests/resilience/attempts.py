"""Attempts according to the state log: what each requested of whom, and how it ended."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from domain.ids import OutputId, parent_of_output
from domain.outputs import CAPTION_SLOT, UNFINISHED
from domain.rules import is_outcome_unknown
from storage.mongo.stored_outputs import read_run
from tests.clients import Data
from tests.resilience.evidence import State, StateLog

DELETED: Final = "DELETED"
"""How an attempt ends whose conversation is deleted while it is running."""


@dataclass(slots=True)
class Claimed:
    """A worker has taken an attempt."""

    at: float
    fence: int
    lease_before: float | None
    """Until when the claim before it was good, where that one was not given back."""


@dataclass(slots=True)
class Attempt:
    output_id: OutputId
    number: int
    parent: Data
    first: Data
    """The output as it was queued."""
    claims: list[Claimed] = field(default_factory=list)
    asking: list[float] = field(default_factory=list)
    """When it was stored that the vendor is about to be called."""
    job_ids: list[str] = field(default_factory=list)
    """The vendor's jobs that were written down."""
    answered_at: float | None = None
    """When the first of them was."""
    ended_at: float | None = None
    ended_as: str | None = None
    """A final status, or `DELETED`; None where it has not ended."""
    code: str | None = None
    was_held: bool = False
    """Whether a worker held it when it ended."""
    last: Data = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"attempt {self.number} of {self.output_id}"

    @property
    def prompt(self) -> str:
        return str(self.parent["userMessage"])

    @property
    def model(self) -> str:
        return str(self.first["model"])

    @property
    def images_asked(self) -> int:
        return int(self.parent["options"]["imagesPerModel"])

    @property
    def is_caption(self) -> bool:
        return parent_of_output(self.output_id)[1] == CAPTION_SLOT

    @property
    def outcome_is_unknown(self) -> bool:
        """Whether its journal says, at its end, that the vendor may have accepted a submission."""
        return is_outcome_unknown(read_run(run) for run in self.last.get("runs", ()))

    @property
    def awaiting(self) -> tuple[float, float] | None:
        """The period in which the vendor may have run a job whose id we do not know."""
        if not self.asking:
            return None
        end = self.answered_at if self.answered_at is not None else self.ended_at
        return self.asking[0], end if end is not None else float("inf")


def attempts_of(state_log: StateLog) -> list[Attempt]:
    """All of them, each output's in their order."""
    return [
        attempt
        for output_id, states in state_log.outputs.items()
        for attempt in _attempts_of(OutputId(output_id), states, state_log)
    ]


def _attempts_of(
    output_id: OutputId, states: list[State], state_log: StateLog
) -> Iterator[Attempt]:
    parent = state_log.parents[parent_of_output(output_id)[0]]
    attempt: Attempt | None = None
    before: Data | None = None
    for state in states:
        output = state.output
        if output is None:
            if attempt is not None and attempt.ended_at is None:
                attempt.ended_at, attempt.ended_as = state.at, DELETED
            break
        if attempt is None or output["attempt"] != attempt.number:
            if attempt is not None:
                yield attempt
            attempt, before = Attempt(output_id, output["attempt"], parent, output), None
        _note(attempt, before, state.at, output)
        before = output
    if attempt is not None:
        yield attempt


def _note(attempt: Attempt, before: Data | None, at: float, output: Data) -> None:
    attempt.last = output
    if before is not None and output["fence"] != before["fence"]:
        lease = before["leaseUntil"]
        attempt.claims.append(Claimed(at, output["fence"], lease.timestamp() if lease else None))
    run = output["runs"][-1] if output["runs"] else None
    run_before = before["runs"][-1] if before and before["runs"] else None
    if run is not None and run != run_before:
        if run["job"] is None and not run["refused"]:
            attempt.asking.append(at)
        if run["job"] is not None and run["job"]["request_id"] not in attempt.job_ids:
            attempt.job_ids.append(run["job"]["request_id"])
            attempt.answered_at = attempt.answered_at or at
    if output["status"] not in UNFINISHED and attempt.ended_at is None:
        attempt.ended_at, attempt.ended_as = at, output["status"]
        attempt.code = output["error"] and output["error"]["code"]
        lease = before["leaseUntil"] if before is not None else None
        attempt.was_held = lease is not None and lease.timestamp() > at
