"""The rules of running outputs, each at its limits."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import rules
from domain.ids import ModelId, TurnId, ViewerId
from domain.outputs import OutputStatus
from domain.rules import Candidate, OutputState
from domain.turns import TurnStatus

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
EARLIER, LATER = NOW - timedelta(milliseconds=1), NOW + timedelta(milliseconds=1)
WAIT = timedelta(minutes=15)
QUEUED = OutputState(
    status=OutputStatus.QUEUED,
    queued_at=NOW - timedelta(seconds=5),
    lease_until=None,
    not_before=None,
    deadline_at=None,
)
RUNNING = replace(QUEUED, status=OutputStatus.GENERATING, lease_until=LATER, deadline_at=LATER)
EXPIRED = replace(RUNNING, lease_until=NOW)
GIVEN_BACK = replace(RUNNING, lease_until=None)
POSTPONED = replace(GIVEN_BACK, not_before=LATER)
ENDED = replace(GIVEN_BACK, status=OutputStatus.FAILED)
MODEL = ModelId("model")


@pytest.mark.parametrize(
    ("output", "claimable", "waiting"),
    [
        (QUEUED, True, True),
        (RUNNING, False, False),
        (EXPIRED, True, False),
        (GIVEN_BACK, True, True),
        (POSTPONED, False, False),
        (replace(POSTPONED, not_before=NOW), True, True),
        (ENDED, False, False),
        (replace(ENDED, status=OutputStatus.CANCELLED), False, False),
        (replace(ENDED, status=OutputStatus.COMPLETED), False, False),
    ],
)
def test_unclaimed_outputs_can_be_claimed_and_a_hint_claims_no_expired_one(
    output: OutputState, claimable: bool, waiting: bool
) -> None:
    assert rules.is_claimable(output, NOW) == claimable
    assert rules.is_waiting(output, NOW) == waiting


@pytest.mark.parametrize(
    ("output", "found", "found_if_expired"),
    [
        (replace(QUEUED, queued_at=NOW - WAIT), True, True),
        (replace(QUEUED, queued_at=LATER - WAIT), False, False),
        (GIVEN_BACK, True, True),
        (EXPIRED, False, True),
        (RUNNING, False, False),
        (POSTPONED, False, False),
        (ENDED, False, False),
    ],
)
def test_a_search_claims_waiting_outputs_and_expired_ones_only_if_allowed(
    output: OutputState, found: bool, found_if_expired: bool
) -> None:
    assert rules.may_be_started_by_search(output, NOW, min_queued=WAIT, expired=False) == found
    assert (
        rules.may_be_started_by_search(output, NOW, min_queued=WAIT, expired=True)
        == found_if_expired
    )


@pytest.mark.parametrize(
    ("output", "overdue"),
    [
        (replace(EXPIRED, deadline_at=NOW), True),
        (replace(EXPIRED, deadline_at=LATER), False),
        (replace(RUNNING, deadline_at=EARLIER), False),
        (replace(POSTPONED, deadline_at=EARLIER), True),
        (replace(ENDED, deadline_at=EARLIER), False),
        (replace(QUEUED, queued_at=NOW - WAIT), True),
        (replace(QUEUED, queued_at=LATER - WAIT), False),
        (replace(GIVEN_BACK, queued_at=NOW - WAIT, deadline_at=LATER), False),
    ],
)
def test_an_output_is_overdue_past_its_deadline_or_if_queued_too_long(
    output: OutputState, overdue: bool
) -> None:
    assert rules.is_overdue(output, NOW, max_queued=WAIT) == overdue


def a_candidate(viewer: str, number: int, state: OutputState = QUEUED) -> Candidate:
    return Candidate(
        parent_id=TurnId(f"turn_{number:04}"),
        slot=1,
        viewer_id=ViewerId(viewer),
        model_id=MODEL,
        state=state,
    )


def order(*candidates: Candidate) -> list[int]:
    """The numbers of those that a search starts, the first one first."""
    found = rules.in_fair_order(
        candidates, NOW, model_ids={MODEL}, min_queued=timedelta(0), expired=True
    )
    return [int(one.parent_id.removeprefix("turn_")) for one in found]


def test_viewers_take_turns_however_many_outputs_one_has_queued() -> None:
    many = [a_candidate("ana", number) for number in range(100)]

    assert order(*many, a_candidate("bob", 100), a_candidate("bob", 101))[:4] == [0, 100, 1, 101]


def test_a_viewer_with_running_outputs_comes_after_one_without() -> None:
    running = a_candidate("ana", 1, RUNNING)

    assert order(running, a_candidate("ana", 2), a_candidate("bob", 3)) == [3, 2]


def test_interrupted_outputs_come_first_and_postponed_ones_do_not() -> None:
    retried = replace(POSTPONED, not_before=NOW)
    candidates = [
        a_candidate("ana", 1),
        a_candidate("ana", 2, retried),
        a_candidate("bob", 3, replace(GIVEN_BACK, queued_at=NOW)),
        a_candidate("bob", 4, replace(EXPIRED, not_before=NOW, queued_at=NOW)),
    ]

    assert order(*candidates) == [3, 4, 1, 2]


def test_only_outputs_of_the_given_models_are_found() -> None:
    other = replace(a_candidate("ana", 1), model_id=ModelId("other"))

    assert order(other, a_candidate("ana", 2)) == [2]


STATES = [QUEUED, replace(QUEUED, queued_at=NOW), RUNNING, EXPIRED, GIVEN_BACK, POSTPONED, ENDED]


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(STATES)), max_size=12), st.randoms()
)
def test_the_order_depends_only_on_the_candidates_and_omits_none(
    drawn: list[tuple[str, OutputState]], randomness: Random
) -> None:
    candidates = [
        a_candidate(viewer, number, state) for number, (viewer, state) in enumerate(drawn)
    ]
    shuffled = list(candidates)
    randomness.shuffle(shuffled)

    found = order(*candidates)

    assert order(*shuffled) == found
    assert sorted(found) == [
        number
        for number, (_, state) in enumerate(drawn)
        if rules.may_be_started_by_search(state, NOW, min_queued=timedelta(0), expired=True)
    ]


@pytest.mark.parametrize(
    ("limit", "running", "own", "has_room"),
    [
        (10, 9, 4, True),
        (10, 9, 5, False),
        (10, 10, 0, False),
        (3, 1, 1, True),
        (3, 2, 2, False),
        (1, 0, 0, True),
        (1, 1, 0, False),
    ],
)
def test_a_viewer_gets_at_most_half_of_a_providers_runs(
    limit: int, running: int, own: int, has_room: bool
) -> None:
    assert rules.has_room(limit, running=running, own=own) == has_room


@pytest.mark.parametrize(
    ("outputs", "status"),
    [
        ("Q", "PENDING"),
        ("QQ", "PENDING"),
        ("QG", "GENERATING"),
        ("GG", "GENERATING"),
        ("FQ", "GENERATING"),
        ("GCF", "GENERATING"),
        ("C", "COMPLETED"),
        ("FCX", "COMPLETED"),
        ("FF", "FAILED"),
        ("FX", "CANCELLED"),
    ],
)
def test_the_status_of_a_turn_follows_from_its_outputs(outputs: str, status: str) -> None:
    statuses = {one.value[0]: one for one in OutputStatus} | {
        "C": OutputStatus.COMPLETED,
        "X": OutputStatus.CANCELLED,
    }

    assert rules.derive_status(statuses[one] for one in outputs) is TurnStatus(status)


def test_an_output_only_advances_within_an_attempt_and_ends_once() -> None:
    allowed = {
        (before.value, after.value)
        for before in OutputStatus
        for after in OutputStatus
        if rules.may_become(before, after)
    }

    ends = ("COMPLETED", "FAILED", "CANCELLED")
    assert allowed == {
        *(("QUEUED", after) for after in ("QUEUED", "GENERATING", *ends)),
        *(("GENERATING", after) for after in ("GENERATING", *ends)),
    }


def test_unfinished_outputs_can_be_cancelled_and_failed_or_cancelled_ones_retried() -> None:
    cancelled = {one.value for one in OutputStatus if rules.may_be_cancelled(one)}
    retried = {one.value for one in OutputStatus if rules.may_be_retried(one)}

    assert cancelled == {"QUEUED", "GENERATING"}
    assert retried == {"FAILED", "CANCELLED"}


@pytest.mark.parametrize(
    ("tries", "retry_after", "left", "seconds"),
    [
        (1, 0.0, 60.0, 1.5),
        (3, 0.0, 60.0, 6.0),
        (1, 20.0, 60.0, 20.0),
        (1, 60.0, 60.0, None),
        (3, 0.0, 6.0, None),
        (4, 0.0, 60.0, None),
    ],
)
def test_a_provider_is_asked_at_most_four_times_and_before_the_deadline(
    tries: int, retry_after: float, left: float, seconds: float | None
) -> None:
    delay = rules.next_try_seconds(
        tries, jitter=1.5, retry_after_seconds=retry_after, seconds_left=left
    )

    assert delay == seconds


def test_an_expired_lease_means_a_dead_worker_after_one_lease_of_contact() -> None:
    assert rules.expiry_means_death(15.0, lease_seconds=15.0)
    assert not rules.expiry_means_death(14.9, lease_seconds=15.0)
    assert rules.was_suspended(10.1, lease_seconds=15.0)
    assert not rules.was_suspended(10.0, lease_seconds=15.0)
