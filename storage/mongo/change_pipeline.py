"""What the database leaves in the change stream: the changes that may have listeners, and of each
only what these need.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from domain.partitions import FollowedPartitions
from domain.ports.changes import ChangedKind

Stage: TypeAlias = Mapping[str, Any]

KINDS: Final = {
    "conversations": ChangedKind.CONVERSATION,
    "turns": ChangedKind.TURN,
    "posts": ChangedKind.POST,
    "accounts": ChangedKind.ACCOUNT,
    "shares": ChangedKind.SHARE,
}
WRITES: Final = ["insert", "update", "replace", "delete"]


def pipeline(partitions: FollowedPartitions, *, last: str | None) -> list[Stage]:
    """The stages that select and shorten changes.

    `last` is the partition of the change after which the stream continues: the database has to find
    that change again, even if its partition is no longer followed.
    """
    followed = partitions.followed()
    concerning = {}
    if followed is not None:
        alternatives = "|".join(sorted(followed | ({last} if last else set())))
        # Without any, nothing is found: no id has a digit in the place of this one.
        pattern = f"{partitions.pattern_before}(?:{alternatives or '!'})"
        concerning = {"documentKey._id": {"$regex": pattern}}
    matched: Stage = {
        "$or": [
            {
                "operationType": {"$in": WRITES},
                "ns.coll": {"$in": list(KINDS)},
                **concerning,
                # An update that raises no version, such as a renewed lease, wakes no listener.
                "$or": [
                    {"operationType": {"$ne": "update"}},
                    {"updateDescription.updatedFields.version": {"$exists": True}},
                ],
            },
            {"operationType": {"$nin": WRITES}},
        ]
    }
    return [{"$match": matched}, _FLAT]


def _of_a_turn(path: str) -> Stage:
    return {"$cond": [{"$eq": ["$ns.coll", "turns"]}, path, "$$REMOVE"]}


# What is nested would be decoded by itself, and a whole turn for its time.
_FLAT: Final[Stage] = {
    "$project": {
        "operationType": 1,
        "collection": "$ns.coll",
        "documentId": "$documentKey._id",
        "clusterTime": 1,
        "writtenAt": _of_a_turn("$fullDocument.updatedAt"),
        "fullDocument": _of_a_turn("$fullDocument"),
    }
}
