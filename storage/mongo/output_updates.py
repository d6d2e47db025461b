"""Updates that change outputs inside of their parent, in one write.

A write that a client can see raises the parent's `version`, sets `changedAt` to the database's own
time, and derives the parent's status and end from its outputs.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from domain.ids import ImageId, ParentId
from storage.mongo.collections import Document
from storage.mongo.output_rules import (
    CHARGE_FOR_IMAGES,
    HAS_IMAGES,
    IS_CANCELLED_WITH_CAPTION,
    STATUS,
    from_now,
    is_slot,
)
from storage.mongo.versions import NEXT_STATE

WRITTEN: Final[Document] = {**NEXT_STATE, "changedAt": "$$CLUSTER_TIME"}
"""Set by every write that a client can see."""

_DERIVED: Final[list[Document]] = [
    {"$set": {"status": STATUS}},
    {
        "$set": {
            "completedAt": {
                "$cond": [{"$in": ["$status", ["PENDING", "GENERATING"]]}, None, "$$NOW"]
            }
        }
    },
]
"""The parent's status and the time of its end."""

ENDED: Final[Document] = {
    "progress": None,
    "queuePosition": None,
    "leaseUntil": None,
    "creditsReserved": 0,
    "completedAt": "$$NOW",
}
"""Fields that every end of an output sets."""


def claim_changes(lease: timedelta) -> Document:
    """The changes of a claim. The first claim of an attempt sets its start and its deadline."""
    deadline = {"$add": ["$$NOW", {"$multiply": ["$$output.deadlineSeconds", 1000]}]}
    return {
        "status": "GENERATING",
        "fence": {"$add": ["$$output.fence", 1]},
        "leaseUntil": from_now(lease),
        "startedAt": {"$ifNull": ["$$output.startedAt", "$$NOW"]},
        "deadlineAt": {"$ifNull": ["$$output.deadlineAt", deadline]},
    }


def insert_update(parent_id: ParentId, document: Document) -> list[Document]:
    """The update that inserts a parent, with the database's time in it and in its outputs."""
    times = {"changedAt": "$$CLUSTER_TIME", "createdAt": "$$NOW", "updatedAt": "$$NOW"}
    new = {"$literal": {"_id": parent_id, **document}}
    return [{"$replaceWith": {"$mergeObjects": [new, {"outputs": _queued(document), **times}]}}]


def begin_update(document: Document) -> list[Document]:
    """The update that turns a waiting parent into what this document of a new one contains."""
    changes = {name: {"$literal": value} for name, value in document.items() if name != "version"}
    return [
        {"$set": changes},
        {"$set": {"outputs": _queued(document), **WRITTEN}},
        {"$unset": "waiting"},
    ]


def _queued(document: Document) -> Document:
    return {
        "$map": {
            "input": {"$literal": document["outputs"]},
            "in": {"$mergeObjects": ["$$this", {"queuedAt": "$$NOW"}]},
        }
    }


def change_update(which: Document, changes: Document) -> list[Document]:
    """The update that changes outputs, and everything that follows from it."""
    return with_derived_fields(versioned(which, changes))


def end_update(which: Document, changes: Document) -> list[Document]:
    """The update that ends outputs before they have delivered everything: those of which some
    images have landed are completed. If a caption ends, what waits for it ends too.
    """
    return with_derived_fields(
        versioned(which, {**ENDED, **changes, **_unless_some_landed(changes)}),
        versioned(IS_CANCELLED_WITH_CAPTION, {**ENDED, "status": "CANCELLED"}),
    )


def _unless_some_landed(changes: Document) -> Document:
    """`rules.end_of`"""
    completed: Document = {
        "status": "COMPLETED",
        "error": None,
        "preview": None,
        "creditsCharged": {"$toInt": CHARGE_FOR_IMAGES},
    }
    return {
        name: {"$cond": [HAS_IMAGES, value, changes.get(name, f"$$output.{name}")]}
        for name, value in completed.items()
    }


def with_derived_fields(*stages: Document, **more: object) -> list[Document]:
    """The update of these stages, with everything that follows from them, and the changes `more` of
    the parent.
    """
    return [*stages, *_DERIVED, {"$set": {**WRITTEN, **more}}]


def remove_images_update(ids: Sequence[ImageId]) -> list[Document]:
    """The update that removes images from the outputs that delivered them. How and when an output
    ended is unchanged.
    """
    others = {
        "$filter": {
            "input": "$$output.images",
            "as": "image",
            "cond": {"$not": {"$in": ["$$image.id", ids]}},
        }
    }
    delivered_any = {"$ne": [{"$setIntersection": ["$$output.images.id", ids]}, []]}
    return [
        versioned(delivered_any, {"images": others}),
        {"$set": WRITTEN},
    ]


def choose_update(slot: int, *, chosen: bool) -> tuple[Document, list[Document]]:
    """Which outputs change when one is chosen or is no longer chosen, and the update. How and when
    they ended is unchanged.
    """
    is_chosen = {"$eq": ["$$output.chosen", True]}
    changed = (
        {"$ne": [is_chosen, is_slot(slot)]} if chosen else {"$and": [is_chosen, is_slot(slot)]}
    )
    return changed, [versioned(changed, {"chosen": {"$not": is_chosen}}), {"$set": WRITTEN}]


def versioned(which: Document, changes: Document) -> Document:
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
