"""The checker of credits, bills, leases and ends can fail."""

import copy
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from domain.credits import Discrepancy
from domain.ids import ViewerId
from tests.clients import Data
from tests.resilience.evidence import Grant, History, Snapshot, State
from tests.resilience.history import violations

Tamper = Callable[[History], object]


def _disagree(history: History) -> None:
    snapshot = history.snapshots[0]
    found = Discrepancy(ViewerId("user"), "balance and the ledger", 1, 2)
    history.snapshots = [replace(snapshot, proof=replace(snapshot.proof, discrepancies=(found,)))]


def _have_too_many_running(history: History) -> None:
    history.snapshots = [Snapshot(0.0, history.snapshots[0].proof, 9)]


def _invent_credits(history: History) -> None:
    history.stored.accounts[0]["balance"] += 1


def _keep_reserved(history: History) -> None:
    history.stored.accounts[0]["reserved"] = 2


def _owe(history: History) -> None:
    history.stored.accounts[0]["balance"] = -1


def _lose_an_account(history: History) -> None:
    history.stored.accounts.clear()


def _start_twice(history: History) -> None:
    line = _line(history, " start GRANT")
    history.stored.ledger.append(copy.deepcopy(line) | {"_id": f"another {line['_id']}"})


def _start_with_more(history: History) -> None:
    _line(history, " start GRANT")["balance"] = 500


def _grant_by_nobody(history: History) -> None:
    history.grants = []


def _grant_more(history: History) -> None:
    _line(history, " by grant 1 GRANT")["balance"] += 1


def _lose_a_grant(history: History) -> None:
    history.grants = [*history.grants, Grant(history.grants[0].viewer_id, "grant 2", 5, True)]


def _pay_for_nothing(history: History) -> None:
    line = copy.deepcopy(_line(history, " CAPTURE"))
    history.stored.ledger.append(line | {"_id": "out_nothing 1 CAPTURE"})


def _reserve_twice(history: History) -> None:
    line = copy.deepcopy(_line(history, " RESERVE"))
    history.stored.ledger.append(line | {"_id": f"{line['_id']} again"})


def _capture_twice(history: History) -> None:
    line = copy.deepcopy(_line(history, " CAPTURE"))
    history.stored.ledger.append(line | {"_id": f"{line['_id']} again"})


def _never_release(history: History) -> None:
    history.stored.ledger.remove(_line(history, " RELEASE"))


def _charge_more(history: History) -> None:
    _line(history, " CAPTURE")["balance"] -= 1


def _charge_another_viewer(history: History) -> None:
    _line(history, " RESERVE")["ownerId"] = "user_another"


def _deliver_for_nothing(history: History) -> None:
    line = _line(history, " CAPTURE")
    line["kind"] = "RELEASE"


def _charge_for_nothing(history: History) -> None:
    _line(history, " RELEASE")["kind"] = "CAPTURE"


def _tell_another_charge(history: History) -> None:
    _last(history, "COMPLETED")["creditsCharged"] += 1


def _take_a_strangers_job(history: History) -> None:
    assert history.bill is not None
    history.bill.append(_job(history) | {"request_id": "another", "prompt": "nobody's"})


def _ask_twice(history: History) -> None:
    assert history.bill is not None
    history.bill.append(_job(history) | {"request_id": "another"})


def _lose_the_bill(history: History) -> None:
    assert history.bill is not None
    history.bill.remove(_job(history))


def _not_be_billed(history: History) -> None:
    _job(history)["billed"] = False


def _deliver_by_an_unknown_job(history: History) -> None:
    _job(history)["request_id"] = "another"


def _know_the_job_of_an_unknown_outcome(history: History) -> None:
    lost = _lost(history)
    for state in lost:
        assert state.output is not None
        if state.output["runs"]:
            state.output["runs"] = [{**state.output["runs"][-1], "job": {"request_id": "known"}}]


def _lose_an_answer_without_a_cut(history: History) -> None:
    assert history.state_log is not None
    assert history.bill is not None
    for turn in history.state_log.parents.values():
        turn["userMessage"] = turn["userMessage"].replace(" [fal lose-answer]", "")
    for job in history.bill:
        job["prompt"] = job["prompt"].replace(" [fal lose-answer]", "")


def _end_a_lost_answer_otherwise(history: History) -> None:
    for state in _lost(history):
        assert state.output is not None
        if state.output["error"]:
            state.output["error"]["code"] = "PROVIDER_UNAVAILABLE"


def _time_out_a_lost_answer(history: History) -> None:
    *_, before, last = _lost(history)
    assert before.output is not None
    assert last.output is not None
    before.output["leaseUntil"] = datetime.fromtimestamp(last.at - 1, UTC)
    last.output["error"]["code"] = "TIMED_OUT"


def _lose_track(history: History) -> None:
    assert history.state_log is not None
    history.state_log.gaps.append("the state log lost track")


def _come_back(history: History) -> None:
    states = _states(history, "COMPLETED")
    states.insert(-1, State(states[-1].at, None))


def _change_after_the_end(history: History) -> None:
    states = _states(history, "COMPLETED")
    states.append(copy.deepcopy(states[-1]))


def _skip_an_attempt(history: History) -> None:
    _append(history, attempt=3)


def _retry_a_running_output(history: History) -> None:
    states = _states(history, "COMPLETED")
    assert states[-1].output is not None
    states[-1].output["attempt"] += 1


def _skip_a_fence(history: History) -> None:
    _last(history, "COMPLETED")["fence"] += 2


def _claim_what_is_held(history: History) -> None:
    states = _states(history, "COMPLETED")
    held = next(one for one in states if one.output and one.output["leaseUntil"])
    again = copy.deepcopy(held)
    assert again.output is not None
    again.output["fence"] += 1
    states.insert(states.index(held) + 1, again)


def _move_the_deadline(history: History) -> None:
    _last(history, "COMPLETED")["deadlineAt"] += timedelta(seconds=300)


def _time_out_early(history: History) -> None:
    _last(history, "FAILED")["error"] = {"code": "TIMED_OUT", "retryable": True}


def _never_end(history: History) -> None:
    _states(history, "COMPLETED").pop()


def _delete_unasked(history: History) -> None:
    history.asked[:] = [one for one in history.asked if one.mutation != "deleteConversation"]


def _cancel_unasked(history: History) -> None:
    history.asked[:] = [one for one in history.asked if one.mutation != "cancelOutput"]


def _lose_a_job(history: History) -> None:
    last = next(
        state.output
        for states in _recorded_states(history)
        for state in states
        if state.output and state.output["status"] == "COMPLETED" and state.output["runs"]
    )
    last |= {"status": "FAILED", "error": {"code": "OUTCOME_UNKNOWN", "retryable": True}}


def _blame_the_vendor(history: History) -> None:
    for state in _lost(history):
        assert state.output is not None
        if state.output["error"]:
            state.output["error"]["code"] = "PROVIDER_UNAVAILABLE"


def _stop_badly(history: History) -> None:
    history.kills[0].exit_code = 1


def _keep_what_was_held(history: History) -> None:
    states = _states(history, "COMPLETED")
    held = next(one for one in states if one.output and one.output["leaseUntil"])
    assert held.output is not None
    expired = held.output["leaseUntil"].timestamp()
    again = State(expired + 1, copy.deepcopy(held.output))
    assert again.output is not None
    again.output["fence"] += 1
    states.insert(states.index(held) + 1, again)
    history.kills[0].at = expired - 10


def _stop_late(history: History) -> None:
    history.kills[0].ended_after = 40.0


@pytest.mark.parametrize(
    ("tamper", "violation"),
    [
        (_disagree, "did not agree on balance and the ledger: 1 and 2"),
        (_have_too_many_running, "an account had 9 running outputs"),
        (_invent_credits, "its ledger"),
        (_keep_reserved, "still holds 2 credits"),
        (_owe, "owes 1 credits"),
        (_lose_an_account, "has a ledger, but no account"),
        (_start_twice, "was given 2 times credits to start with"),
        (_start_with_more, "was given 500 credits to start with"),
        (_grant_by_nobody, "was granted by nobody"),
        (_grant_more, "11 credits, 10 were granted"),
        (_lose_a_grant, "was given 0 times"),
        (_pay_for_nothing, "which has never been"),
        (_reserve_twice, "was reserved for 2 times"),
        (_capture_twice, "was captured 2 times"),
        (_never_release, "captured 0 times and released 0 times"),
        (_charge_more, "with its CAPTURE, not"),
        (_charge_another_viewer, "was paid for by user_another"),
        (_deliver_for_nothing, "was delivered for nothing"),
        (_charge_for_nothing, "was charged for, and delivered nothing"),
        (_tell_another_charge, "credits, 2 were due"),
        (_take_a_strangers_job, "which nobody was about to ask for"),
        (_ask_twice, "was asked for 2 times at the vendor's"),
        (_lose_the_bill, "that the vendor never took"),
        (_not_be_billed, "is on the bill 0 times"),
        (_deliver_by_an_unknown_job, "was delivered by a job that was not written down"),
        (_know_the_job_of_an_unknown_outcome, "has a job, and ended as unknown"),
        (_lose_an_answer_without_a_cut, "ended as unknown, and nothing had cut it off"),
        (_end_a_lost_answer_otherwise, "lost an answer, and ended FAILED"),
        (_time_out_a_lost_answer, "was being submitted, and ended as timed out"),
        (_lose_track, "the state log lost track"),
        (_come_back, "came back after its deletion"),
        (_change_after_the_end, "changed after its end"),
        (_skip_an_attempt, "went from attempt 1 to 3"),
        (_retry_a_running_output, "was tried again while it was GENERATING"),
        (_skip_a_fence, "went from fence 1 to 3"),
        (_claim_what_is_held, "was claimed before it was claimable"),
        (_move_the_deadline, "was given another deadline"),
        (_move_the_deadline, "has its deadline at"),
        (_time_out_early, "timed out"),
        (_never_end, "has no end"),
        (_delete_unasked, "was deleted, which nobody has asked for"),
        (_cancel_unasked, "was cancelled, which nobody has asked for"),
        (_lose_a_job, "lost its job"),
        (_blame_the_vendor, "the vendor was always there"),
        (_stop_badly, "was asked to stop, and ended with 1"),
        (_keep_what_was_held, "was not given back, and only worker-0 had been stopped"),
        (_stop_late, "took 40.0 s to stop"),
    ],
)
def test_a_tampered_history_fails(tampered: History, tamper: Tamper, violation: str) -> None:
    tamper(tampered)

    assert any(violation in one for one in violations(tampered)), violations(tampered)


def _line(history: History, ending: str) -> Data:
    return next(line for line in history.stored.ledger if line["_id"].endswith(ending))


def _job(history: History) -> Data:
    assert history.bill is not None
    return next(job for job in history.bill if job["prompt"] == "A sold boat")


def _recorded_states(history: History) -> list[list[State]]:
    assert history.state_log is not None
    return list(history.state_log.outputs.values())


def _states(history: History, status: str) -> list[State]:
    """Those of an output that has ended so."""
    return next(
        states
        for states in _recorded_states(history)
        if states[-1].output and states[-1].output["status"] == status
    )


def _last(history: History, status: str) -> Data:
    output = _states(history, status)[-1].output
    assert output is not None
    return output


def _append(history: History, **changes: object) -> None:
    states = _states(history, "COMPLETED")
    later = copy.deepcopy(states[-1])
    assert later.output is not None
    later.output |= changes
    states.append(later)


def _lost(history: History) -> list[State]:
    """Of the output whose answer was lost."""
    return next(
        states
        for states in _recorded_states(history)
        if states[-1].output
        and states[-1].output["error"]
        and states[-1].output["error"]["code"] == "OUTCOME_UNKNOWN"
    )
