"""The vendor's own bill: one job for one attempt, and no job lost without a cut connection."""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from providers.catalogue import load_catalogue
from tests.clients import Data
from tests.resilience.attempts import Attempt
from tests.resilience.evidence import Kill
from tests.resilience.orders import LOSING, is_sold, script_of

LATE_SECONDS: Final = 10.0
"""A job may be taken so late for an attempt that was cut off and tried again meanwhile."""
_ENDPOINTS: Final = {
    str(model.id): model.endpoint for model in load_catalogue(rehearsals=True).all()
}


def against_bill(
    attempts: Sequence[Attempt], bill: Sequence[Data], kills: Sequence[Kill]
) -> Iterator[str]:
    taken, strangers = jobs_of(attempts, bill)
    for job in strangers:
        yield f"the vendor took {job['request_id']}, which nobody was about to ask for"
    known = {job["request_id"]: job for job in bill}
    for attempt in attempts:
        if is_sold(attempt.model):
            yield from _against_attempt(attempt, taken.get(id(attempt), []), known, kills)


def jobs_of(
    attempts: Sequence[Attempt], bill: Sequence[Data]
) -> tuple[Mapping[int, list[Data]], list[Data]]:
    """The jobs of each attempt, by its identity, and those that no attempt can have submitted.

    A job whose answer arrived was written down with its attempt. One whose answer was lost belongs
    to the attempt with its message that was the last being submitted when it was accepted.
    """
    owners = {job_id: attempt for attempt in attempts for job_id in attempt.job_ids}
    askers: dict[tuple[str, str], list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        if attempt.asking:
            askers[attempt.prompt, _ENDPOINTS[attempt.model]].append(attempt)
    taken: dict[int, list[Data]] = defaultdict(list)
    strangers: list[Data] = []
    for job in sorted(bill, key=lambda job: job["request_id"] not in owners):
        owner = owners.get(job["request_id"]) or _owner_by_time(
            job, askers.get((_message_of(job), job["endpoint"]), []), taken
        )
        if owner is None:
            strangers.append(job)
        else:
            taken[id(owner)].append(job)
    return taken, strangers


def doubled_jobs(attempts: Sequence[Attempt], bill: Sequence[Data]) -> int:
    """How many jobs there are beyond one for an attempt, whatever was stored about them."""
    sold = [attempt for attempt in attempts if is_sold(attempt.model)]
    attempts_of = Counter((attempt.prompt, _ENDPOINTS[attempt.model]) for attempt in sold)
    jobs_of = Counter((_message_of(job), job["endpoint"]) for job in bill)
    return sum(max(0, count - attempts_of[asked]) for asked, count in jobs_of.items())


def hits(attempts: Sequence[Attempt], kills: Sequence[Kill]) -> list[Attempt]:
    """Attempts that were being submitted when the worker or the vendor was killed."""
    return [attempt for attempt in attempts if _was_hit(attempt, kills)]


def _message_of(job: Data) -> str:
    """What the viewer wrote: in the prompt of a post, its caption follows."""
    message: str = job["prompt"].partition("\n")[0]
    return message


def _owner_by_time(
    job: Data, askers: Sequence[Attempt], taken: Mapping[int, list[Data]]
) -> Attempt | None:
    place = bisect_right(askers, job["received_at"], key=lambda attempt: attempt.asking[0])
    if place == 0:
        return None
    owner, before = askers[place - 1], askers[place - 2] if place > 1 else None
    # Sent for the attempt before, and taken when that had been cut off and tried again.
    late = job["received_at"] - owner.asking[0] < LATE_SECONDS
    if before is not None and late and taken.get(id(owner)) and not taken.get(id(before)):
        return before
    return owner


def _against_attempt(
    attempt: Attempt, jobs: Sequence[Data], known: Mapping[str, Data], kills: Sequence[Kill]
) -> Iterator[str]:
    if len(jobs) > 1:
        yield f"{attempt.name} was asked for {len(jobs)} times at the vendor's"
    for job_id in attempt.job_ids:
        if job_id not in known:
            yield f"{attempt.name} has a job {job_id} that the vendor never took"
    if attempt.ended_as == "COMPLETED":
        billed = [job for job in jobs if job["billed"]]
        if len(billed) != 1:
            yield f"{attempt.name} was delivered, and is on the bill {len(billed)} times"
        elif billed[0]["request_id"] not in attempt.job_ids:
            yield f"{attempt.name} was delivered by a job that was not written down"
    if attempt.code == "OUTCOME_UNKNOWN":
        if attempt.job_ids:
            yield f"{attempt.name} has a job, and ended as unknown"
        if script_of(attempt.prompt) not in LOSING and not _was_hit(attempt, kills):
            yield f"{attempt.name} ended as unknown, and nothing had cut it off"
    # A worker that holds it may know that it did not get as far as asking.
    if attempt.code == "TIMED_OUT" and attempt.outcome_is_unknown and not attempt.was_held:
        yield f"{attempt.name} was being submitted, and ended as timed out"
    lost = [job for job in jobs if job["request_id"] not in attempt.job_ids]
    if lost and attempt.code != "OUTCOME_UNKNOWN" and attempt.ended_as not in _BY_THE_VIEWER:
        yield f"{attempt.name} lost an answer, and ended {attempt.ended_as} with {attempt.code}"


_BY_THE_VIEWER: Final = frozenset({"CANCELLED", "DELETED"})


def _was_hit(attempt: Attempt, kills: Sequence[Kill]) -> bool:
    awaiting = attempt.awaiting
    return awaiting is not None and any(
        awaiting[0] <= kill.at + kill.ended_after and kill.at <= awaiting[1]
        for kill in kills
        if kill.ran_outputs or kill.kind == "fal"
    )
