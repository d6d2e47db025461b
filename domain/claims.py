"""Outputs that wait for a worker, and a worker's right to run one."""

from dataclasses import dataclass
from datetime import datetime

from domain.ids import ModelId, OutputId, ViewerId
from domain.outputs import Output
from domain.parents import Parent
from domain.traces import Trace


@dataclass(frozen=True, slots=True)
class Hint:
    """A message that says which output is waiting. It may be lost, late or repeated."""

    viewer_id: ViewerId
    """The output's owner: the key by which a sharded database finds its parent."""
    output_id: OutputId


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An output that no worker holds, as a search found it: what decides where and when it may run,
    and what a claim relies on.
    """

    output_id: OutputId
    attempt: int
    viewer_id: ViewerId
    model_id: ModelId
    fence: int
    lease_until: datetime | None

    @classmethod
    def as_written(cls, viewer_id: ViewerId, output: Output) -> "Waiting":
        """An output that has just been queued, by what its writer knows."""
        return cls(
            output_id=output.id,
            attempt=output.attempt,
            viewer_id=viewer_id,
            model_id=output.model_id,
            fence=output.fence,
            lease_until=None,
        )


@dataclass(frozen=True, slots=True)
class Permit:
    """The right to one of the runs that a provider takes from all processes together."""

    id: str
    provider: str
    taken_as: str
    """Made up when it was taken: the next process that takes it makes up another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A worker's right to run an output. Every write names it, and does nothing once another worker
    has claimed the output.
    """

    parent: Parent
    output: Output
    claimed_at: datetime
    deadline_at: datetime
    """Both times are by the database's clock."""
    trace: Trace | None = None
    """The trace of the request that the output is run for."""

    @property
    def seconds_left(self) -> float:
        """The time until the output's deadline, measured at the claim."""
        return (self.deadline_at - self.claimed_at).total_seconds()
