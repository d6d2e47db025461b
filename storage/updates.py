"""Updates that move outputs: expressions for the database, so that one write does it all.

A write that a client can see raises the turn's `version`, sets `changedAt` to the database's own
time, and derives the turn's status and end from its outputs.
"""

from datetime import timedelta
from typing import Final

from domain.turns import Claim
from storage.database import Document

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

CLAIMABLE: Final[list[Document]] = [
    {"$in": ["$$output.status", UNFINISHED_OUTPUT]},
    # Null and missing sort before every date, so that neither keeps an output from being claimed.
    {"$lte": ["$$output.leaseUntil", "$$NOW"]},
    {"$lte": ["$$output.notBefore", "$$NOW"]},
]


def any_output(condition: Document) -> Document:
    return {"$anyElementTrue": {"$map": {"input": "$outputs", "as": "output", "in": condition}}}


def is_slot(slot: int) -> Document:
    return {"$eq": ["$$output.slot", slot]}


def held(claim: Claim) -> Document:
    output = claim.output
    return {
        "_id": claim.turn.id,
        "outputs": {
            "$elemMatch": {
                "slot": output.slot,
                "attempt": output.attempt,
                "fence": output.fence,
                "status": "GENERATING",
            }
        },
    }


def moving(which: Document, changes: Document) -> list[Document]:
    """The update that changes outputs, with all that follows from it."""
    versioned = {**changes, "version": {"$add": ["$$output.version", 1]}}
    return [set_on_outputs(which, versioned), *_DERIVED, {"$set": _WRITTEN}]


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
