"""Updates that move outputs: expressions for the database, so that one write does it all.

A write that a client can see raises the turn's `version`, sets `changedAt` to the database's own
time, and derives the turn's status and end from its outputs.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Final

from domain.ids import ImageId, ModelId
from domain.outputs import Run
from domain.turns import Claim
from storage.mongo.collections import UNFINISHED_TURN, Document

UNFINISHED_OUTPUT: Final = ["QUEUED", "GENERATING"]

_WRITTEN: Final[Document] = {
    "version": {"$add": ["$version", 1]},
    "changedAt": "$$CLUSTER_TIME",
    "updatedAt": "$$NOW",
}
"""Set by every write that a client can see."""

_DERIVED: Final[list[Document]] = [
    {
        "$set": {
            "status": {
                "$switch": {
                    "branches": [
                        {
                            "case": {"$setIsSubset": ["$outputs.status", ["QUEUED"]]},
                            "then": "PENDING",
                        },
                        {
                            "case": {
                                "$gt": [
                                    {
                                        "$size": {
                                            "$setIntersection": [
                                                "$outputs.status",
                                                UNFINISHED_OUTPUT,
                                            ]
                                        }
                                    },
                                    0,
                                ]
                            },
                            "then": "GENERATING",
                        },
                        {"case": {"$in": ["COMPLETED", "$outputs.status"]}, "then": "COMPLETED"},
                        {"case": {"$in": ["CANCELLED", "$outputs.status"]}, "then": "CANCELLED"},
                    ],
                    "default": "FAILED",
                }
            }
        }
    },
    {
        "$set": {
            "completedAt": {
                "$cond": [{"$in": ["$status", ["PENDING", "GENERATING"]]}, None, "$$NOW"]
            }
        }
    },
]
"""The database's twin of `domain.turns.derive_status`, and when the turn came to its end."""

UNHELD: Final[list[Document]] = [
    {"$in": ["$$output.status", UNFINISHED_OUTPUT]},
    # Null and missing sort before every date, so that they hold nothing and forbid nothing.
    {"$lte": ["$$output.leaseUntil", "$$NOW"]},
]
CLAIMABLE: Final[list[Document]] = [*UNHELD, {"$lte": ["$$output.notBefore", "$$NOW"]}]
GIVEN_TO_NOBODY: Final[Document] = {"$lte": ["$$output.leaseUntil", None]}
ENDED: Final[Document] = {
    "progress": None,
    "queuePosition": None,
    "leaseUntil": None,
    "creditsReserved": 0,
    "completedAt": "$$NOW",
}
"""Set with every end of an output, whichever it is."""


def any_output(condition: Document) -> Document:
    return {"$anyElementTrue": {"$map": {"input": "$outputs", "as": "output", "in": condition}}}


def is_overdue(queued_for: timedelta) -> Document:
    """Past its deadline; never started, and queued so long."""
    too_long = {"$lte": ["$$output.queuedAt", from_now(-queued_for)]}
    past = {"$lte": ["$$output.deadlineAt", "$$NOW"]}
    return {"$cond": [{"$eq": ["$$output.deadlineAt", None]}, too_long, past]}


def waiting_in_fair_order(
    model_ids: list[ModelId], *, queued_for: timedelta, expired: bool
) -> list[Document]:
    """The pipeline over turns that finds what waits: one document per output.

    What a worker has left behind comes first: it had its turn, and somebody may be paid for it. Of
    the rest, an output's place is how many of its viewer's are at work or go before it; so that one
    viewer's hundred are never all before another's one.
    """
    started = {"$eq": ["$output.status", "GENERATING"]}
    given_back = {"$eq": ["$output.leaseUntil", None]}
    old_enough = {"$lte": ["$output.queuedAt", from_now(-queued_for)]}
    waits = {
        "$and": [
            {"$in": ["$output.model", model_ids]},
            {"$lte": ["$output.leaseUntil", "$$NOW"]},
            {"$lte": ["$output.notBefore", "$$NOW"]},
            {"$cond": [started, True if expired else given_back, old_enough]},
        ]
    }
    held = {"$gt": ["$output.leaseUntil", "$$NOW"]}
    postponed = {"$and": [given_back, {"$ne": ["$output.notBefore", None]}]}
    left_behind = {"$cond": [{"$and": [started, {"$not": postponed}]}, 0, 1]}
    return [
        {"$match": {"status": UNFINISHED_TURN}},
        {"$project": {"ownerId": 1, **{f"outputs.{name}": 1 for name in _DECIDING}}},
        {"$unwind": "$outputs"},
        {"$match": {"outputs.status": {"$in": UNFINISHED_OUTPUT}}},
        {"$project": {"ownerId": 1, "output": "$outputs"}},
        {"$set": {"waits": waits, "weight": {"$cond": [{"$or": [held, waits]}, 1, 0]}}},
        {
            "$setWindowFields": {
                "partitionBy": "$ownerId",
                # Those at work count before all that wait.
                "sortBy": {"waits": 1, "output.queuedAt": 1, "_id": 1, "output.slot": 1},
                "output": {
                    "place": {
                        "$sum": "$weight",
                        "window": {"documents": ["unbounded", "current"]},
                    }
                },
            }
        },
        {"$match": {"waits": True}},
        {"$set": {"order": left_behind}},
        {"$sort": {"order": 1, "place": 1, "output.queuedAt": 1, "_id": 1, "output.slot": 1}},
    ]


_DECIDING: Final = ("slot", "attempt", "model", "status", "leaseUntil", "notBefore", "queuedAt")


def furthest(runs: Sequence[Run]) -> Document:
    """These runs, unless the stored ones have come further: a write may be done late, after those
    that came after it.
    """
    answered = {"$or": ["$$run.refused", {"$ne": ["$$run.job", None]}]}
    step = {"$add": [{"$multiply": [2, "$$run.tries"]}, {"$cond": [answered, 1, 0]}]}
    stored = {"$sum": {"$map": {"input": "$$output.runs", "as": "run", "in": step}}}
    ours = sum(run.step for run in runs)
    return {"$cond": [{"$gt": [stored, ours]}, "$$output.runs", {"$literal": _run_documents(runs)}]}


def _run_documents(runs: Iterable[Run]) -> list[Document]:
    return [
        {
            "provider": run.provider,
            "tries": run.tries,
            "refused": run.refused,
            "job": run.job and dict(run.job),
        }
        for run in runs
    ]


def is_slot(slot: int) -> Document:
    return {"$eq": ["$$output.slot", slot]}


def held(claim: Claim, **more: object) -> Document:
    """What a claim's writes match: its output, while nobody else has claimed it; and `more`."""
    output = claim.output
    return {
        "_id": claim.turn.id,
        "ownerId": claim.turn.owner_id,
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


def moving(which: Document, changes: Document) -> list[Document]:
    """The update that changes outputs, with all that follows from it."""
    return [_versioned(which, changes), *_DERIVED, {"$set": _WRITTEN}]


def taking_out(image_id: ImageId) -> list[Document]:
    """The update that takes an image out of the output that delivered it. How the output ended, and
    when, stays as it is.
    """
    others = {
        "$filter": {
            "input": "$$output.images",
            "as": "image",
            "cond": {"$ne": ["$$image.id", image_id]},
        }
    }
    return [
        _versioned({"$in": [image_id, "$$output.images.id"]}, {"images": others}),
        {"$set": _WRITTEN},
    ]


def _versioned(which: Document, changes: Document) -> Document:
    return set_on_outputs(which, {**changes, "version": {"$add": ["$$output.version", 1]}})


def set_on_outputs(which: Document, changes: Document) -> Document:
    changed = {"$mergeObjects": ["$$output", changes]}
    return {
        "$set": {
            "outputs": {
                "$map": {
                    "input": "$outputs",
                    "as": "output",
                    "in": {"$cond": [which, changed, "$$output"]},
                }
            }
        }
    }


def from_now(delta: timedelta) -> Document:
    return {"$add": ["$$NOW", round(delta.total_seconds() * 1000)]}
