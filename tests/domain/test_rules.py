"""A turn's status is derived from its outputs alone."""

import pytest

from domain.execution.rules import derive_status
from domain.outputs import OutputStatus
from domain.turns import TurnStatus


@pytest.mark.parametrize(
    ("outputs", "status"),
    [
        ("Q", "PENDING"),
        ("QQ", "PENDING"),
        ("QG", "GENERATING"),
        ("GG", "GENERATING"),
        ("FQ", "GENERATING"),
        ("GCF", "GENERATING"),
    ],
)
def test_while_any_output_is_at_work(outputs: str, status: str) -> None:
    statuses = {"Q": "QUEUED", "G": "GENERATING", "C": "COMPLETED", "F": "FAILED"}

    assert derive_status(OutputStatus(statuses[one]) for one in outputs) == TurnStatus(status)


@pytest.mark.parametrize(
    ("outputs", "status"),
    [
        (["COMPLETED"], "COMPLETED"),
        (["FAILED", "COMPLETED", "CANCELLED"], "COMPLETED"),
        (["FAILED", "FAILED"], "FAILED"),
        (["FAILED", "CANCELLED"], "CANCELLED"),
    ],
)
def test_once_all_have_ended(outputs: list[str], status: str) -> None:
    assert derive_status(OutputStatus(one) for one in outputs) == TurnStatus(status)
