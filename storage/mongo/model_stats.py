"""Counts what becomes of outputs, in the transaction in which it happens.

A viewer has one document for each day, with the counts of all models: however many turns there are,
the statistics of a month are 30 documents. An event is counted on the day on which its turn began,
so that the counts of a turn stay together.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime, time
from typing import Final

from pymongo.errors import DuplicateKeyError

from domain.ids import ModelId, ParentId, ViewerId, as_turn_id
from domain.model_stats import ModelStats, step_of
from domain.parents import Parent
from storage.mongo.collections import Document
from storage.mongo.database import Database, repository
from storage.mongo.transaction import Contended, Transaction

_COUNTS: Final = ("asked", "delivered", "failed", "compared", "chosen", "credits")
_DECIDING: Final = ("slot", "model", "status", "chosen", "creditsCharged")
_TIMES: Final = ("startedAt", "completedAt")


@repository
class MongoModelStatsRepository:
    """See `domain.ports.model_stats.ModelStatsRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_since(self, viewer_id: ViewerId, day: date) -> Sequence[ModelStats]:
        query = {"ownerId": viewer_id, "day": {"$gte": _midnight(day)}}
        return [
            _read(model_id, counts)
            async for document in self._database.model_days.find(query, {"models": 1})
            for model_id, counts in document["models"].items()
        ]


async def count_asked(
    transaction: Transaction, owner_id: ViewerId, parent: Parent, *, slots: Collection[int]
) -> None:
    """Count outputs of a turn that have just been queued. Those of other parents are not counted,
    since none of them can be chosen.
    """
    if as_turn_id(parent.id) is None:
        return
    queued = [output for output in parent.outputs if output.slot in slots]
    facts = [ModelStats(model_id=output.model_id, asked=1) for output in queued]
    await count(transaction, owner_id, begun_at=parent.created_at, facts=facts)


async def count_ends(
    transaction: Transaction, owner_id: ViewerId, parent_id: ParentId, *, slots: Collection[int]
) -> None:
    """Count how outputs of a turn have just ended, after the transaction has written it. Outputs
    that the viewer cancelled are not counted, nor are those of other parents.
    """
    if as_turn_id(parent_id) is None:
        return
    shown = {f"outputs.{name}": 1 for name in (*_DECIDING, *_TIMES)} | {"createdAt": 1, "copied": 1}
    query = {"_id": parent_id, "ownerId": owner_id}
    (turn,) = await transaction.turns.find(query, shown).to_list()
    compared = _has_choice(turn) and not turn.get("copied")
    ends = [
        _end_of(output, compared=compared) for output in turn["outputs"] if output["slot"] in slots
    ]
    facts = [fact for fact in ends if fact]
    if compared:
        before = [output for output in turn["outputs"] if output["slot"] not in slots]
        facts += _wins(turn["outputs"], besides=_rivals(before))
    await count(transaction, owner_id, begun_at=turn["createdAt"], facts=facts)


async def count_choice(
    transaction: Transaction, owner_id: ViewerId, *, before: Document, after: Document
) -> None:
    """Count what a choice has changed in a turn. Choices in copies of turns are not counted."""
    if after.get("copied"):
        return
    facts = [
        ModelStats(
            model_id=new["model"],
            compared=(new["status"] == "COMPLETED") * (_has_choice(after) - _has_choice(before)),
            chosen=bool(new.get("chosen")) - bool(old.get("chosen")),
        )
        for old, new in zip(before["outputs"], after["outputs"], strict=True)
    ]
    facts += [*_wins(after["outputs"]), *_wins(before["outputs"], times=-1)]
    await count(transaction, owner_id, begun_at=after["createdAt"], facts=facts)


def _has_choice(turn: Document) -> bool:
    return any(output.get("chosen") for output in turn["outputs"])


def _wins(
    outputs: Sequence[Document], *, times: int = 1, besides: Collection[str] = ()
) -> list[ModelStats]:
    """Count the chosen output's model as better than the other models that have delivered."""
    others = _rivals(outputs).difference(besides)
    return [
        ModelStats(
            model_id=output["model"],
            beaten={ModelId(other): times for other in others if other != output["model"]},
        )
        for output in outputs
        if output.get("chosen")
    ]


def _rivals(outputs: Sequence[Document]) -> set[str]:
    """The models of the outputs that could be chosen."""
    return {output["model"] for output in outputs if output["status"] == "COMPLETED"}


def _end_of(output: Document, *, compared: bool) -> ModelStats | None:
    if output["status"] == "FAILED":
        return ModelStats(model_id=output["model"], failed=1)
    if output["status"] != "COMPLETED":
        return None
    seconds = (output["completedAt"] - output["startedAt"]).total_seconds()
    return ModelStats(
        model_id=output["model"],
        delivered=1,
        compared=int(compared),
        credits=output["creditsCharged"],
        steps={step_of(seconds): 1},
    )


async def count(
    transaction: Transaction, owner_id: ViewerId, *, begun_at: datetime, facts: Sequence[ModelStats]
) -> None:
    """Add counts for outputs of a turn that began on this day. Call this shortly before the account
    is written: all transactions of a viewer conflict in both documents.
    """
    increments: Counter[str] = Counter()
    for fact in facts:
        at = f"models.{fact.model_id}"
        increments.update({f"{at}.{name}": getattr(fact, name) for name in _COUNTS})
        increments.update({f"{at}.steps.{step}": times for step, times in fact.steps.items()})
        increments.update({f"{at}.beaten.{one}": times for one, times in fact.beaten.items()})
    changes = {path: number for path, number in increments.items() if number}
    if not changes:
        return
    day = begun_at.astimezone(UTC).date()
    try:
        await transaction.model_days.update_one(
            {"_id": f"{owner_id} {day}", "ownerId": owner_id},
            {"$setOnInsert": {"day": _midnight(day)}, "$inc": changes},
            upsert=True,
        )
    except DuplicateKeyError:
        raise Contended from None  # Another transaction has just made the document of the day.


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


def _read(model_id: str, counts: Document) -> ModelStats:
    return ModelStats(
        model_id=ModelId(model_id),
        **{name: counts.get(name, 0) for name in _COUNTS},
        steps={int(step): times for step, times in counts.get("steps", {}).items()},
        beaten={ModelId(one): times for one, times in counts.get("beaten", {}).items()},
    )
