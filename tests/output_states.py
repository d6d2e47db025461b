"""Stored outputs, read for the rules."""

from domain.outputs import OutputStatus
from domain.rules import OutputState
from tests.clients import Data


def state_of(output: Data) -> OutputState:
    """What the rules know of a stored output."""
    return OutputState(
        status=OutputStatus(output["status"]),
        queued_at=output["queuedAt"],
        lease_until=output.get("leaseUntil"),
        not_before=output.get("notBefore"),
        deadline_at=output.get("deadlineAt"),
        waits=output.get("waits", False),
    )
