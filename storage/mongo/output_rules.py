"""The rules of `domain/rules.py` as MongoDB expressions.

They are here for decisions that must be one operation with their write, or that MongoDB makes about
more outputs than a process wants to read. Each names its rule, and
`tests/storage/test_output_rules.py` compares the two.

`$$output` is the output that an expression decides about. Null and missing sort before every date,
so that they are reached at any time.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Final

from domain.claims import Claim, Waiting
from domain.ids import ModelId
from domain.outputs import CAPTION_SLOT, UNFINISHED, OutputStatus, Run
from domain.rules import STUCK_AFTER
from storage.mongo.collections import UNFINISHED_PARENT, Document, over_all_parents

UNFINISHED_OUTPUT: Final = [status.value for status in OutputStatus if status in UNFINISHED]

_IS_UNFINISHED: Final[Document] = {"$in": ["$$output.status", UNFINISHED_OUTPUT]}
_IS_GENERATING: Final[Document] = {"$eq": ["$$output.status", "GENERATING"]}
_LEASE_IS_REACHED: Final[Document] = {"$lte": ["$$output.leaseUntil", "$$NOW"]}
_WAITS: Final[Document] = {"$eq": ["$$output.waits", True]}
_IS_FREE: Final[list[Document]] = [_IS_UNFINISHED, {"$not": _WAITS}, _LEASE_IS_REACHED]
_HAS_NO_LEASE: Final[Document] = {"$lte": ["$$output.leaseUntil", None]}

IS_HELD: Final[Document] = {"$and": [_IS_UNFINISHED, {"$not": _LEASE_IS_REACHED}]}
"""`rules.is_held`"""
IS_CLAIMABLE: Final[Document] = {"$and": [*_IS_FREE, {"$lte": ["$$output.notBefore", "$$NOW"]}]}
"""`rules.is_claimable`"""
IS_WAITING: Final[Document] = {"$and": [IS_CLAIMABLE, _HAS_NO_LEASE]}
"""`rules.is_waiting`"""
IS_INTERRUPTED: Final[Document] = {
    "$and": [
        _IS_GENERATING,
        {"$not": {"$and": [_HAS_NO_LEASE, {"$gt": ["$$output.notBefore", None]}]}},
    ]
}
"""`rules.is_interrupted`"""
_ANSWER_IS_AWAITED: Final[Document] = {
    "$and": [
        {"$not": "$$run.refused"},
        {"$lte": ["$$run.job", None]},
        {"$ne": ["$$run.landed", True]},
    ]
}
IS_OUTCOME_UNKNOWN: Final[Document] = {
    "$anyElementTrue": {
        "$map": {
            "input": {"$ifNull": ["$$output.runs", []]},
            "as": "run",
            "in": _ANSWER_IS_AWAITED,
        }
    }
}
"""`rules.is_outcome_unknown`"""
MAY_BE_CANCELLED: Final = _IS_UNFINISHED
"""`rules.may_be_cancelled`"""
WAITS_FOR_CAPTION: Final[Document] = {"$and": [_WAITS, _IS_UNFINISHED]}
IS_CANCELLED_WITH_CAPTION: Final[Document] = {
    "$and": [WAITS_FOR_CAPTION, {"$in": [{"$first": "$outputs.status"}, ["FAILED", "CANCELLED"]]}]
}
"""`rules.is_cancelled_with_caption`: the caption is the first entry where any output waits."""
CAPTION_IS_AWAITED: Final[Document] = {
    "$and": [{"$eq": [{"$first": "$outputs.slot"}, CAPTION_SLOT]}, {"$lte": ["$caption", None]}]
}
"""Whether a parent is a post that has never had a caption, so that its outputs wait."""
STATUS: Final[Document] = {
    "$switch": {
        "branches": [
            {"case": {"$setIsSubset": ["$outputs.status", ["QUEUED"]]}, "then": "PENDING"},
            {
                "case": {"$ne": [{"$setIntersection": ["$outputs.status", UNFINISHED_OUTPUT]}, []]},
                "then": "GENERATING",
            },
            {"case": {"$in": ["COMPLETED", "$outputs.status"]}, "then": "COMPLETED"},
            {"case": {"$in": ["CANCELLED", "$outputs.status"]}, "then": "CANCELLED"},
        ],
        "default": "FAILED",
    }
}
"""`rules.derive_status`"""


HAS_IMAGES: Final[Document] = {"$ne": ["$$output.images", []]}
CHARGE_FOR_IMAGES: Final[Document] = {
    "$floor": {
        "$divide": [
            {
                "$multiply": [
                    "$$output.creditsReserved",
                    {"$min": [{"$size": "$$output.images"}, "$options.imagesPerModel"]},
                ]
            },
            "$options.imagesPerModel",
        ]
    }
}
"""`domain.credits.charge_for`: for the images that have landed."""


def may_be_started_by_search(*, min_queued: timedelta, expired: bool) -> Document:
    """`rules.may_be_started_by_search`"""
    is_due = {"$or": [_IS_GENERATING, {"$lte": ["$$output.queuedAt", from_now(-min_queued)]}]}
    return {"$and": [IS_CLAIMABLE if expired else IS_WAITING, is_due]}


def is_overdue(max_queued: timedelta) -> Document:
    """`rules.is_overdue`"""
    queued_too_long = {"$lte": ["$$output.queuedAt", from_now(-max_queued)]}
    past_deadline = {"$lte": ["$$output.deadlineAt", "$$NOW"]}
    has_no_deadline = {"$lte": ["$$output.deadlineAt", None]}
    is_due = {"$cond": [has_no_deadline, queued_too_long, past_deadline]}
    return {"$and": [*_IS_FREE, is_due]}


def is_stuck(max_queued: timedelta, *, after: timedelta = STUCK_AFTER) -> Document:
    """`rules.is_stuck`"""
    queued_until = {"$add": ["$$output.queuedAt", _milliseconds(max_queued)]}
    due_at = {"$ifNull": ["$$output.deadlineAt", queued_until]}
    return {"$and": [_IS_UNFINISHED, {"$lte": [due_at, from_now(-after)]}]}


def in_fair_order(
    model_ids: Sequence[ModelId],
    *,
    begun_only: Sequence[ModelId] = (),
    min_queued: timedelta,
    expired: bool,
) -> list[Document]:
    """`rules.in_fair_order`: the pipeline over parents of all kinds, beginning with those of
    `SEARCHED_FIRST`. It makes one document per output.
    """
    is_begun = {"$and": [_IS_GENERATING, {"$in": ["$$output.model", list(begun_only)]}]}
    is_of_models = {"$or": [{"$in": ["$$output.model", list(model_ids)]}, is_begun]}
    is_eligible = {
        "$and": [is_of_models, may_be_started_by_search(min_queued=min_queued, expired=expired)]
    }
    unfinished: list[Document] = [
        {"$match": {"status": UNFINISHED_PARENT}},
        {"$project": {"ownerId": 1, **{f"outputs.{name}": 1 for name in _DECIDING}}},
        {"$unwind": "$outputs"},
        {"$match": {"outputs.status": {"$in": UNFINISHED_OUTPUT}}},
        {"$project": {"ownerId": 1, "output": "$outputs"}},
    ]
    return [
        *over_all_parents(unfinished),
        {"$set": {"eligible": of_output(is_eligible), "held": of_output(IS_HELD)}},
        {"$match": {"$or": [{"eligible": True}, {"held": True}]}},
        _COUNT_BEFORE,
        {"$match": {"eligible": True}},
        {"$set": {"interrupted": of_output(IS_INTERRUPTED)}},
        {"$sort": {"interrupted": -1, "before": 1, **_OLDEST_FIRST}},
    ]


_OLDEST_FIRST: Final = {"output.queuedAt": 1, "_id": 1, "output.slot": 1}
_COUNT_BEFORE: Final[Document] = {
    "$setWindowFields": {
        "partitionBy": "$ownerId",
        # Running outputs come before those that are eligible.
        "sortBy": {"eligible": 1, **_OLDEST_FIRST},
        "output": {"before": {"$sum": 1, "window": {"documents": ["unbounded", "current"]}}},
    }
}
"""Of each output, how many of its viewer's outputs run or wait before it."""
FOUND: Final = ("slot", "attempt", "model", "fence", "leaseUntil")
"""The stored fields of an output that a search returns."""
_DECIDING: Final = (*FOUND, "status", "waits", "notBefore", "queuedAt")


def of_output(expression: Document) -> Document:
    return {"$let": {"vars": {"output": "$output"}, "in": expression}}


def is_unchanged(waiting: Waiting) -> list[Document]:
    """`rules.is_unchanged`"""
    lease_until = {"$ifNull": ["$$output.leaseUntil", None]}
    return [
        {"$eq": ["$$output.fence", waiting.fence]},
        {"$eq": [lease_until, waiting.lease_until]},
    ]


def writable_by(claim: Claim, **more: object) -> Document:
    """`rules.may_write`: what a claim's writes match, and `more`."""
    output = claim.output
    return {
        "_id": claim.parent.id,
        "ownerId": claim.parent.owner_id,
        "outputs": {
            "$elemMatch": {
                "slot": output.slot,
                "attempt": output.attempt,
                "fence": output.fence,
                "status": "GENERATING",
                **more,
            }
        },
    }


def is_wanted(claim: Claim) -> Document:
    """The opposite of `rules.is_abandoned`: what a parent matches if it still wants the run."""
    return {
        "_id": claim.parent.id,
        "ownerId": claim.parent.owner_id,
        "outputs": {
            "$elemMatch": {
                "slot": claim.output.slot,
                "attempt": claim.output.attempt,
                "$or": [
                    {"status": {"$in": UNFINISHED_OUTPUT}},
                    {"status": "COMPLETED", "runs.landed": {"$ne": True}},
                ],
            }
        },
    }


def furthest_runs(runs: Sequence[Run]) -> Document:
    """`rules.furthest_runs`"""
    answered = {"$or": ["$$run.refused", {"$ne": ["$$run.job", None]}]}
    landed = {"$eq": ["$$run.landed", True]}
    step = {
        "$add": [
            {"$multiply": [2, "$$run.tries"]},
            {"$cond": [answered, 1, 0]},
            {"$cond": [landed, 1, 0]},
        ]
    }
    stored = {"$sum": {"$map": {"input": "$$output.runs", "as": "run", "in": step}}}
    written = sum(run.step for run in runs)
    documents = {"$literal": _run_documents(runs)}
    return {"$cond": [{"$gt": [stored, written]}, "$$output.runs", documents]}


def _run_documents(runs: Iterable[Run]) -> list[Document]:
    return [
        {
            "provider": run.provider,
            "tries": run.tries,
            "refused": run.rejected,
            "job": run.job and dict(run.job),
            "landed": run.landed,
        }
        for run in runs
    ]


def any_output(condition: Document) -> Document:
    return {"$anyElementTrue": {"$map": {"input": "$outputs", "as": "output", "in": condition}}}


def is_slot(slot: int) -> Document:
    return {"$eq": ["$$output.slot", slot]}


def from_now(delta: timedelta) -> Document:
    return {"$add": ["$$NOW", _milliseconds(delta)]}


def _milliseconds(delta: timedelta) -> int:
    return round(delta.total_seconds() * 1000)
