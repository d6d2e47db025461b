"""The model is correct: for the same calls it returns what the storage on a real mongod returns.

Random requests go to both, one after the other; what differs by its nature - instants, and what is
made of them - is left out of the comparison.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

import pytest

from domain.captions import CaptionDelivery, CaptionOptions, PlannedCaption
from domain.changes import ClusterTime
from domain.claims import Claim
from domain.conflicts import Conflict
from domain.conversations import Conversation
from domain.errors import GenerationErrorCode
from domain.idempotency import IdempotencyKey
from domain.ids import ModelId, new_conversation_id, new_post_id, viewer_id_of
from domain.images import Image, ImageRecord
from domain.models import SQUARE, Resolution
from domain.outputs import GenerationError, Preview, Report, Run, Usage
from domain.parents import Parent, TurnOptions
from domain.posts import Post, PostPlan, as_post
from domain.references import Reference, ReferenceOrigin
from domain.turns import PlannedOutput, TurnPlan
from storage.mongo.accounts import MongoAccountRepository
from storage.mongo.claims import MongoClaimRepository
from storage.mongo.conversations import MongoConversationRepository
from storage.mongo.database import Database
from storage.mongo.idempotency import MongoIdempotencyRepository
from storage.mongo.images import MongoImageRepository
from storage.mongo.outputs import MongoOutputRepository
from storage.mongo.posts import MongoPostRepository
from storage.mongo.turns import MongoTurnRepository
from tests.resilience.simulated.model.claims import Claims
from tests.resilience.simulated.model.repositories import (
    Accounts,
    Conversations,
    Images,
    Outputs,
    Posts,
    Receipts,
    Turns,
)
from tests.resilience.simulated.model.tables import Tables
from tests.storage.builders import EXPIRED, LONG, PRICE, a_caption_model, a_model, a_picture

SEQUENCES = 4
REQUESTS = 100
VIEWERS = [viewer_id_of("model", name) for name in ("ana", "bob")]
MODELS = [ModelId(name) for name in ("one", "two", "three")]
CAPTION_MODEL = ModelId("caption")
CREDITS = 40
MOST_ACTIVE = 9
A_MOMENT_SECONDS = 0.003
"""Longer than `EXPIRED`, so that an expired lease has expired for both."""

Answers = tuple[Any, Any]


class Both:
    """The model and the storage, called with the same values."""

    def __init__(self, database: Database, randomness: random.Random) -> None:
        tables = Tables(time.time)
        self.random = randomness
        self.conversations = Conversations(tables), MongoConversationRepository(database)
        self.turns = Turns(tables), MongoTurnRepository(database)
        self.outputs = Outputs(tables), MongoOutputRepository(database)
        self.posts = Posts(tables), MongoPostRepository(database)
        self.claims = Claims(tables), MongoClaimRepository(database)
        self.images = Images(tables), MongoImageRepository(database)
        self.accounts = Accounts(tables), MongoAccountRepository(database)
        self.receipts = Receipts(tables), MongoIdempotencyRepository(database)
        self.tables = tables
        self.claimed: list[tuple[Claim, Claim]] = []
        self.known: list[Conversation] = []
        self.stale: list[Parent] = []
        self.read: list[Post] = []
        self.keys: list[IdempotencyKey] = []
        self.asked: list[str] = []
        self.found: list[Answers] = []

    async def ask(self, repositories: tuple[Any, Any], name: str, *args: Any, **kwargs: Any) -> Any:
        """Call both with the same values."""
        model, mongo = repositories
        return await self._compare(
            name,
            lambda: getattr(model, name)(*args, **kwargs),
            lambda: getattr(mongo, name)(*args, **kwargs),
        )

    async def claim(self, found: Answers, *, lease: timedelta) -> Answers:
        """Claim what each of them has found, perhaps some time ago."""
        model, mongo = self.claims
        ours, theirs = found
        return await self._compare(
            "claim",
            lambda: model.claim(ours, lease=lease),
            lambda: mongo.claim(theirs, lease=lease),
        )

    async def ask_with_claims(
        self, name: str, *args: Any, caption: bool | None = None, **kwargs: Any
    ) -> Any:
        """Call both with a claim that each of them has given, of a caption or of images. None: of
        either.
        """
        model, mongo = self.claims
        claimed = [pair for pair in self.claimed if caption in (None, pair[0].output.is_caption)]
        if not claimed:
            return None
        ours, theirs = self.random.choice(claimed)
        return await self._compare(
            name,
            lambda: getattr(model, name)(ours, *args, **kwargs),
            lambda: getattr(mongo, name)(theirs, *args, **kwargs),
        )

    async def _compare(
        self, name: str, model: Callable[[], Any], mongo: Callable[[], Awaitable[Any]]
    ) -> Answers:
        await asyncio.sleep(A_MOMENT_SECONDS)
        answers = model(), await mongo()
        if name == "end_overdue":  # it promises no order
            answers = sorted(answers[0]), sorted(answers[1])
        self.asked.append(name)
        assert timeless(answers[0]) == timeless(answers[1]), self.asked
        return answers


@pytest.mark.parametrize("number", range(SEQUENCES))
async def test_the_model_returns_the_same_as_the_storage(database: Database, number: int) -> None:
    both = Both(database, random.Random(f"model {number}"))
    for viewer_id in VIEWERS:
        await both.ask(both.accounts, "open", viewer_id, starting_credits=CREDITS)

    for _ in range(REQUESTS):
        await both.random.choice(REQUESTED)(both)
        if both.random.random() < 0.2:
            await everything(both)
    await everything(both)

    assert (await both.accounts[1].prove()).discrepancies == ()


async def everything(both: Both) -> None:
    """What is there: each turn with its outputs, each account, what waits."""
    for viewer_id in VIEWERS:
        ids = [row.parent.id for row in both.tables.parents.values()]
        await both.ask(both.turns, "get_many", viewer_id, ids)
        await both.ask(both.posts, "get_many", viewer_id, ids)
        await both.ask(both.accounts, "open", viewer_id, starting_credits=CREDITS)


async def start(both: Both) -> None:
    viewer_id, images = both.random.choice(VIEWERS), some_images(both)
    written, _ = await both.ask(
        both.conversations,
        "start",
        viewer_id,
        new_conversation_id(),
        title="A boat",
        source_image=images[0] if images else None,
        plan=a_plan(both, images),
        max_active_outputs=MOST_ACTIVE,
        key=a_key(both),
    )
    if not isinstance(written, Conflict):
        both.known.append(written[0])


async def append(both: Both) -> None:
    if both.known:
        written, _ = await both.ask(
            both.conversations,
            "append_turn",
            both.random.choice(VIEWERS),
            both.random.choice(both.known),
            plan=a_plan(both, some_images(both)),
            max_active_outputs=MOST_ACTIVE,
            key=a_key(both),
        )
        if not isinstance(written, Conflict):
            both.known.append(written[0])


async def delete(both: Both) -> None:
    if both.known and both.random.random() < 0.4:
        conversation = both.random.choice(both.known)
        await both.ask(both.conversations, "delete", both.random.choice(VIEWERS), conversation.id)


async def post(both: Both) -> None:
    images = some_images(both)
    await both.ask(
        both.posts,
        "start",
        both.random.choice(VIEWERS),
        new_post_id(),
        plan=PostPlan(images=a_plan(both, images), caption=a_caption(both)),
        max_active_outputs=MOST_ACTIVE,
        key=a_key(both),
    )


async def rewrite(both: Both) -> None:
    found = [one for row in both.tables.parents.values() if (one := as_post(row.parent))]
    ended = [one for one in [*found, *both.read] if not one.caption_output.unfinished]
    if not ended:
        return
    before = both.random.choice(ended)
    both.read.append(before)
    await both.ask(
        both.posts,
        "rewrite_caption",
        both.random.choice((before.owner_id, *VIEWERS)),
        before,
        caption=a_caption(both),
        outputs={
            output.slot: planned(both.random.choice(MODELS), (), 1)
            for output in before.uncaptioned
            if both.random.random() < 0.8
        },
        max_active_outputs=MOST_ACTIVE,
        key=a_key(both),
    )


async def delete_post(both: Both) -> None:
    if both.random.random() < 0.3 and (parent := a_parent(both)) and as_post(parent):
        await both.ask(both.posts, "delete", both.random.choice(VIEWERS), parent.id)


async def cancel(both: Both) -> None:
    if parent := a_parent(both):
        slots = [both.random.choice((0, 1, 1, 2, 2, 3)) for _ in range(both.random.randint(1, 2))]
        await both.ask(both.outputs, "cancel", both.random.choice(VIEWERS), parent.id, slots)


async def retry(both: Both) -> None:
    stale = both.random.choice(both.stale) if both.stale and both.random.random() < 0.3 else None
    parent = stale or a_parent(both)
    if parent is not None:
        both.stale.append(parent)
        output = both.random.choice(parent.outputs)
        if output.unfinished:
            return
        await both.ask(
            both.outputs,
            "retry",
            both.random.choice(VIEWERS),
            output,
            planned=planned(both.random.choice(MODELS), (), 1),
            max_active_outputs=MOST_ACTIVE,
            key=a_key(both),
        )


async def claim(both: Both) -> None:
    if parent := a_parent(both):
        output = both.random.choice(parent.entries)
        owner_id = parent.owner_id if both.random.random() < 0.9 else both.random.choice(VIEWERS)
        await both.ask(both.outputs, "find_parent", owner_id, output.id)
        hinted = await both.ask(both.claims, "find_waiting", owner_id, output.id)
        searched = await both.ask(
            both.claims,
            "list_waiting",
            [output.model_id],
            min_queued=EXPIRED,
            expired=True,
            limit=3,
        )
        both.found += [pair for pair in (hinted, *zip(*searched, strict=True)) if all(pair)]
    if both.found:
        lease = both.random.choice((EXPIRED, LONG))
        ours, theirs = await both.claim(both.random.choice(both.found[-8:]), lease=lease)
        if ours and theirs:
            assert ours.seconds_left == pytest.approx(theirs.seconds_left, abs=1.0)
            both.claimed.append((ours, theirs))


async def look_around(both: Both) -> None:
    await both.ask(
        both.claims,
        "list_waiting",
        both.random.sample([*MODELS, CAPTION_MODEL], 2),
        min_queued=both.random.choice((timedelta(0), LONG)),
        expired=both.random.choice((True, False)),
        limit=both.random.choice((2, 100)),
    )


async def end_overdue(both: Both) -> None:
    if both.random.random() < 0.3:
        max_queued = both.random.choice((timedelta(0), LONG))
        await both.ask(both.claims, "end_overdue", max_queued=max_queued, limit=100)


async def work(both: Both) -> None:
    """What a worker does with a claim that it has, or had."""
    if not both.claimed:
        return
    run = Run(
        provider="vendor",
        tries=both.random.randint(1, 3),
        rejected=both.random.choice((True, False)),
        job=both.random.choice((None, {"id": "job"})),
    )
    match both.random.randrange(11):
        case 0:
            await both.ask_with_claims("renew", lease=both.random.choice((EXPIRED, LONG)))
        case 1:
            await both.ask_with_claims("give_back")
        case 2:
            await both.ask_with_claims("postpone", [run], delay=both.random.choice((EXPIRED, LONG)))
        case 3:
            await both.ask_with_claims("save_runs", [run])
        case 4:
            await both.ask_with_claims("is_abandoned")
            await both.ask_with_claims("find_earlier_messages", limit=2)
        case 5 | 6:
            await both.ask_with_claims("show_progress", **both.random.choice(SHOWN))
        case 7:
            error = GenerationError(GenerationErrorCode.NO_IMAGE, retryable=True)
            await both.ask_with_claims("fail", error)
        case 8 | 9:
            runs = [replace(run, landed=True)]
            await both.ask_with_claims("add_images", *delivered(both), runs=runs, caption=False)
        case _:
            await land(both)


def delivered(both: Both) -> tuple[list[ImageRecord], Report]:
    ours, _ = both.claimed[-1]
    records = [a_picture(ours.output.id) for _ in range(both.random.randint(1, 2))]
    usage = both.random.choice((None, Usage(1, None, 3)))
    report = Report(provider="$p", quality=None, size="$s", text="Done $x", usage=usage)
    return records, report


async def land(both: Both) -> None:
    records, report = delivered(both)
    landed = both.random.choice((0, 0, 1))
    await both.ask_with_claims("land", records, report, landed=landed, caption=False)
    usage = report.usage
    delivery = CaptionDelivery(text="A $caption", provider="$p", usage=usage)
    await both.ask_with_claims("land_caption", delivery, caption=True)
    ids = [record.image.id for record in records]
    viewer_id = both.random.choice(VIEWERS)
    await both.ask(both.images, "any_refers_to", viewer_id, ids)
    await both.ask(both.images, "get_many", viewer_id, ids)


async def read(both: Both) -> None:
    viewer_id = both.random.choice(VIEWERS)
    ids = list(both.tables.conversations)
    await both.ask(both.conversations, "get_many", viewer_id, ids)
    await both.ask(both.turns, "find_latest_of_many", viewer_id, ids)
    for conversation_id in ids:
        await both.ask(both.turns, "find_latest_with_images", viewer_id, conversation_id)
        await both.ask(both.conversations, "get_with_latest_turn", viewer_id, conversation_id)
    if both.keys:
        await both.ask(both.receipts, "get", viewer_id, both.random.choice(both.keys))


async def grant(both: Both) -> None:
    key = both.random.choice(("may", "june"))
    await both.ask(both.accounts, "grant", both.random.choice(VIEWERS), 10, key=key)


REQUESTED: list[Callable[[Both], Awaitable[None]]] = [
    *(start, append, delete, cancel, retry, retry, retry, grant),
    *(post, post, rewrite, rewrite, delete_post),
    *(claim, claim, claim, claim, look_around, end_overdue, read),
    *(work, work, work, work, work, work),
]
SHOWN: list[Mapping[str, Any]] = [
    {"progress": 0.25},
    {"progress": 0.75},
    {"queue_position": 3},
    {"preview": Preview(0, "previews/$x", 1, 1)},
    {"progress": 0.5, "preview": Preview(1, "previews/y", 1, 1)},
    {"text": "A $cap"},
]


def a_plan(both: Both, images: list[Image]) -> TurnPlan:
    references = tuple(Reference(image, ReferenceOrigin.MANUAL) for image in images)
    count = both.random.choice((1, 2))
    models = both.random.sample(MODELS, both.random.randint(1, 3))
    return TurnPlan(
        user_message="A $boat",
        references=references,
        previous_were_named=False,
        aspect_ratio=SQUARE,
        resolution=Resolution.ONE_K,
        options=TurnOptions(images_per_model=count),
        outputs=tuple(planned(name, references, count) for name in models),
    )


def planned(name: ModelId, references: tuple[Reference, ...], count: int) -> PlannedOutput:
    """One model's deadline is over as soon as it begins."""
    model = a_model(name, deadline=EXPIRED if name == MODELS[0] else LONG)
    return PlannedOutput(model, name, references, (), PRICE * count)


def a_caption(both: Both) -> PlannedCaption:
    tone = both.random.choice((None, "$warm"))
    return PlannedCaption(
        model=a_caption_model(CAPTION_MODEL),
        options=CaptionOptions(tone=tone),
        reference_prompts=both.random.choice(((), ("a $boat",))),
    )


def some_images(both: Both) -> list[Image]:
    """Of any viewer, sometimes a deleted one."""
    images = [record.image for _, record in both.tables.images.values()]
    found = both.random.sample(images, min(len(images), both.random.choice((0, 0, 1, 2))))
    return [*found, a_picture().image] if both.random.random() < 0.05 else found


def a_parent(both: Both) -> Parent | None:
    parents = [row.parent for row in both.tables.parents.values()]
    return both.random.choice(parents) if parents else None


def a_key(both: Both) -> IdempotencyKey | None:
    """None, a new one, or one that may have been used."""
    if both.random.random() < 0.5:
        return None
    if not both.keys or both.random.random() < 0.7:
        both.keys.append(IdempotencyKey(f"key {len(both.keys)}", "startConversation", "…"))
    return both.random.choice(both.keys)


def timeless(value: Any) -> Any:
    """A value without its instants."""
    if isinstance(value, datetime | ClusterTime):
        return "then"
    if isinstance(value, Enum) or value is None:
        return value
    if is_dataclass(value):
        return {one.name: timeless(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {key: timeless(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [timeless(one) for one in value]
    return value
