"""The collections of the database, by name, with their indexes."""

from abc import ABC, abstractmethod
from typing import Any, Final, Generic, TypeAlias, TypeVar

from pymongo import ASCENDING, DESCENDING, IndexModel

from domain.ids import ParentId
from domain.webhooks import LOG_LIFE

Document: TypeAlias = dict[str, Any]
Collection = TypeVar("Collection")

KEY_LIFE_SECONDS: Final = 48 * 3600
UPLOAD_LIFE_SECONDS: Final = 48 * 3600
"""How long an upload can be completed. Its bytes are deleted much sooner."""
WITHDRAWN_SECONDS: Final = 3600
"""After this time a withdrawn model is offered again, so that a run finds out whether
it is back.
"""
DOCUMENT_LIFE_SECONDS: Final = 7 * 24 * 3600
"""After this time a client that names a document by its digest has to send it again."""
ABILITIES_SECONDS: Final = 30 * 24 * 3600
"""After this time an object store is asked again what it can do, since servers are upgraded."""
DELIVERY_LIFE_SECONDS: Final = int(LOG_LIFE.total_seconds())
UNFINISHED_JOB: Final = {"$in": ["QUEUED", "GENERATING"]}
UNFINISHED_PARENT: Final = {"$in": ["PENDING", "GENERATING"]}
"""The stored status of a parent with unfinished outputs."""

PARENTS: Final = {"turn": "turns", "post": "posts"}
"""The collections whose documents embed outputs, by how their ids begin."""
SEARCHED_FIRST, *_SEARCHED_NEXT = PARENTS.values()

OPEN_TURN: Final = {"$in": ["WAITING", "PENDING", "GENERATING"]}
"""The statuses of a turn that has not ended, whether it has begun or not."""

_OF_PARENTS: Final = [
    IndexModel([("ownerId", ASCENDING), ("status", ASCENDING)]),
    IndexModel([("references.image.id", ASCENDING)]),
    IndexModel(
        [("status", ASCENDING), ("outputs.leaseUntil", ASCENDING)],
        name="unfinished",
        partialFilterExpression={"status": UNFINISHED_PARENT},
    ),
    # Reconciliation asks which keys of the object store are referenced: here and in `images`.
    IndexModel(
        "outputs.preview.key",
        partialFilterExpression={"outputs.preview.key": {"$exists": True}},
    ),
]
_OF_IMPORT: Final = IndexModel(
    [("ownerId", ASCENDING), ("importId", ASCENDING)],
    name="imported",
    partialFilterExpression={"importId": {"$exists": True}},
)
"""Finds what a failed import has made."""
INDEXES: Final[dict[str, list[IndexModel]]] = {
    "conversations": [
        IndexModel([("ownerId", ASCENDING), ("updatedAt", DESCENDING), ("_id", DESCENDING)]),
        IndexModel([("ownerId", ASCENDING), ("sourceImage.id", ASCENDING)]),
        IndexModel([("ownerId", ASCENDING), ("words", ASCENDING)]),
    ],
    "turns": [
        *_OF_PARENTS,
        _OF_IMPORT,
        # Turns that wait for the one before them, in the order of their ids.
        IndexModel(
            [("status", ASCENDING), ("_id", ASCENDING)],
            name="waiting",
            partialFilterExpression={"status": "WAITING"},
        ),
        # Turns that were copied into a conversation: other conversations may have their images.
        IndexModel(
            [("ownerId", ASCENDING), ("outputs.images.id", ASCENDING)],
            name="copies",
            partialFilterExpression={"copied": True},
        ),
        IndexModel(
            "options.mask.id",
            partialFilterExpression={"options.mask.id": {"$exists": True}},
        ),
    ],
    "posts": [
        *_OF_PARENTS,
        _OF_IMPORT,
        IndexModel([("ownerId", ASCENDING), ("createdAt", DESCENDING), ("_id", DESCENDING)]),
    ],
    "images": [
        IndexModel([("ownerId", ASCENDING), ("createdAt", DESCENDING), ("_id", DESCENDING)]),
        IndexModel(
            [("ownerId", ASCENDING), ("createdAt", DESCENDING), ("_id", DESCENDING)],
            name="favourites",
            partialFilterExpression={"favourite": True},
        ),
        IndexModel([("ownerId", ASCENDING), ("words", ASCENDING)]),
        IndexModel("key"),
        _OF_IMPORT,
    ],
    "prompts": [
        IndexModel([("ownerId", ASCENDING), ("lastUsedAt", DESCENDING), ("_id", DESCENDING)]),
        IndexModel([("ownerId", ASCENDING), ("words", ASCENDING)]),
        IndexModel(
            [("ownerId", ASCENDING), ("lastUsedAt", DESCENDING), ("_id", DESCENDING)],
            name="favourites",
            partialFilterExpression={"favourite": True},
        ),
    ],
    "albums": [
        IndexModel([("ownerId", ASCENDING), ("createdAt", DESCENDING), ("_id", DESCENDING)]),
    ],
    "albumImages": [
        IndexModel([("ownerId", ASCENDING), ("albumId", ASCENDING), ("position", ASCENDING)]),
        IndexModel([("ownerId", ASCENDING), ("imageId", ASCENDING)]),
    ],
    "modelDays": [IndexModel([("ownerId", ASCENDING), ("day", ASCENDING)])],
    "shares": [
        IndexModel([("ownerId", ASCENDING), ("createdAt", DESCENDING), ("_id", DESCENDING)]),
        IndexModel([("ownerId", ASCENDING), ("conversationId", ASCENDING)]),
        IndexModel("expiresAt", expireAfterSeconds=0),
    ],
    "exports": [
        IndexModel([("ownerId", ASCENDING), ("conversationId", ASCENDING)]),
        IndexModel(
            [("status", ASCENDING), ("createdAt", ASCENDING)],
            name="unfinished",
            partialFilterExpression={"status": UNFINISHED_JOB},
        ),
        IndexModel("key", partialFilterExpression={"key": {"$type": "string"}}),
        IndexModel([("expiresAt", ASCENDING), ("_id", ASCENDING)], name="over"),
    ],
    "imports": [
        IndexModel("ownerId"),
        IndexModel(
            [("status", ASCENDING), ("createdAt", ASCENDING)],
            name="unfinished",
            partialFilterExpression={"status": UNFINISHED_JOB},
        ),
        IndexModel("expiresAt", expireAfterSeconds=0),
    ],
    "trash": [
        IndexModel([("ownerId", ASCENDING), ("conversationId", ASCENDING)]),
        IndexModel("key", partialFilterExpression={"key": {"$exists": True}}),
        IndexModel([("until", ASCENDING), ("_id", ASCENDING)], name="over"),
    ],
    "uploads": [
        IndexModel([("ownerId", ASCENDING), ("createdAt", DESCENDING)]),
        # Set only while there may be bytes. Reconciliation looks for `key`.
        IndexModel("sweepAt", partialFilterExpression={"sweepAt": {"$exists": True}}),
        IndexModel("key", partialFilterExpression={"sweepAt": {"$exists": True}}),
        IndexModel("createdAt", expireAfterSeconds=UPLOAD_LIFE_SECONDS),
    ],
    "accounts": [
        # Viewers who are being deleted.
        IndexModel(
            "erasure.leaseUntil",
            partialFilterExpression={"erasure.leaseUntil": {"$exists": True}},
        ),
    ],
    "ledger": [IndexModel([("ownerId", ASCENDING), ("createdAt", DESCENDING)])],
    "viewers": [
        IndexModel("blockedAt", partialFilterExpression={"blockedAt": {"$exists": True}}),
    ],
    "documents": [IndexModel("createdAt", expireAfterSeconds=DOCUMENT_LIFE_SECONDS)],
    "webhooks": [
        IndexModel([("ownerId", ASCENDING), ("createdAt", ASCENDING)]),
        # Set only while something waits to be delivered. Deliverers search those of all viewers.
        IndexModel(
            [("failing", ASCENDING), ("dueAt", ASCENDING)],
            partialFilterExpression={"dueAt": {"$exists": True}},
        ),
    ],
    "deliveries": [
        IndexModel(
            [
                ("ownerId", ASCENDING),
                ("webhookId", ASCENDING),
                ("createdAt", DESCENDING),
                ("_id", DESCENDING),
            ]
        ),
        IndexModel(
            [("ownerId", ASCENDING), ("webhookId", ASCENDING), ("dueAt", ASCENDING)],
            name="due",
            partialFilterExpression={"dueAt": {"$exists": True}},
        ),
        IndexModel(
            [
                ("ownerId", ASCENDING),
                ("webhookId", ASCENDING),
                ("subject", ASCENDING),
                ("sequence", ASCENDING),
            ],
            name="waiting",
            partialFilterExpression={"dueAt": {"$exists": True}},
        ),
        IndexModel("createdAt", expireAfterSeconds=DELIVERY_LIFE_SECONDS),
    ],
    "buckets": [IndexModel("expiresAt", expireAfterSeconds=0)],
    "idempotency": [IndexModel("createdAt", expireAfterSeconds=KEY_LIFE_SECONDS)],
    "chores": [],
    "stores": [IndexModel("foundAt", expireAfterSeconds=ABILITIES_SECONDS)],
    "withdrawals": [IndexModel("createdAt", expireAfterSeconds=WITHDRAWN_SECONDS)],
    "permits": [IndexModel([("provider", ASCENDING), ("leaseUntil", ASCENDING)])],
}
RETIRED_INDEXES: Final = {"exports": ["expiresAt_1"], "trash": ["until_1"]}
"""Retired indexes, by name. By them the database deleted records, but not their bytes."""
COLLECTIONS: Final = tuple(INDEXES)


class Collections(ABC, Generic[Collection]):
    """All collections by their names in code: of a database, or of one transaction."""

    __slots__ = ()

    @abstractmethod
    def collection(self, name: str) -> Collection: ...

    def of_parent(self, parent_id: ParentId) -> Collection:
        """The collection that has the document with this id and its outputs."""
        return self.collection(PARENTS[parent_id.partition("_")[0]])

    @property
    def conversations(self) -> Collection:
        return self.collection("conversations")

    @property
    def turns(self) -> Collection:
        return self.collection("turns")

    @property
    def posts(self) -> Collection:
        return self.collection("posts")

    @property
    def images(self) -> Collection:
        return self.collection("images")

    @property
    def prompts(self) -> Collection:
        return self.collection("prompts")

    @property
    def albums(self) -> Collection:
        return self.collection("albums")

    @property
    def album_images(self) -> Collection:
        return self.collection("albumImages")

    @property
    def model_days(self) -> Collection:
        return self.collection("modelDays")

    @property
    def shares(self) -> Collection:
        return self.collection("shares")

    @property
    def exports(self) -> Collection:
        return self.collection("exports")

    @property
    def imports(self) -> Collection:
        return self.collection("imports")

    @property
    def trash(self) -> Collection:
        return self.collection("trash")

    @property
    def uploads(self) -> Collection:
        return self.collection("uploads")

    @property
    def idempotency(self) -> Collection:
        return self.collection("idempotency")

    @property
    def accounts(self) -> Collection:
        return self.collection("accounts")

    @property
    def ledger(self) -> Collection:
        return self.collection("ledger")

    @property
    def viewers(self) -> Collection:
        return self.collection("viewers")

    @property
    def documents(self) -> Collection:
        return self.collection("documents")

    @property
    def webhooks(self) -> Collection:
        return self.collection("webhooks")

    @property
    def deliveries(self) -> Collection:
        return self.collection("deliveries")

    @property
    def buckets(self) -> Collection:
        return self.collection("buckets")

    @property
    def periodic_jobs(self) -> Collection:
        return self.collection("chores")

    @property
    def stores(self) -> Collection:
        return self.collection("stores")

    @property
    def withdrawals(self) -> Collection:
        return self.collection("withdrawals")

    @property
    def permits(self) -> Collection:
        return self.collection("permits")


def over_all_parents(stages: list[Document]) -> list[Document]:
    """The stages over parents of all kinds. They are to be run on `SEARCHED_FIRST`."""
    others = ({"$unionWith": {"coll": name, "pipeline": stages}} for name in _SEARCHED_NEXT)
    return [*stages, *others]
