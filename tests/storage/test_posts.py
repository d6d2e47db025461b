"""Posts in MongoDB: the caption is an output, and the images wait for it."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from domain.captions import CaptionDelivery
from domain.conflicts import Conflict
from domain.errors import GenerationErrorCode
from domain.idempotency import IdempotencyKey
from domain.ids import ModelId, OutputId, PostId, new_post_id, output_id_of
from domain.outputs import CAPTION_SLOT, GenerationError, Output, OutputStatus, Report
from domain.pages import PageRequest
from domain.posts import Post, PostStatus
from domain.references import Reference, ReferenceOrigin
from storage.mongo.accounts import MongoAccountRepository
from storage.mongo.claims import MongoClaimRepository
from storage.mongo.database import Database
from storage.mongo.images import MongoImageRepository
from storage.mongo.outputs import MongoOutputRepository
from storage.mongo.posts import MongoPostRepository
from tests.storage.builders import (
    ANA,
    EXPIRED,
    LONG,
    MANY,
    PLENTY,
    PRICE,
    a_claim,
    a_conversation,
    a_gallery,
    a_picture,
    a_plan,
    a_post,
    a_post_plan,
    as_stored,
)

FAILURE = GenerationError(GenerationErrorCode.CONTENT_REFUSED, retryable=False)
WORDS = "A boat, $in the sun."
MODELS = [ModelId(name) for name in ("caption-model", "model", "one", "two")]


@pytest.fixture
def posts(database: Database) -> MongoPostRepository:
    return MongoPostRepository(database)


@pytest.fixture
def claims(database: Database) -> MongoClaimRepository:
    return MongoClaimRepository(database)


@pytest.fixture
def outputs(database: Database) -> MongoOutputRepository:
    return MongoOutputRepository(database)


async def read(database: Database, post: Post) -> Post:
    return (await MongoPostRepository(database).get_many(ANA, [post.id]))[post.id]


async def land_caption(database: Database, post: Post, text: str = WORDS) -> list[OutputId]:
    claim = await a_claim(database, post.caption_output.id)
    queued = await MongoClaimRepository(database).land_caption(claim, CaptionDelivery(text=text))
    assert queued is not None
    return list(queued)


async def fail(database: Database, output: Output) -> None:
    assert await MongoClaimRepository(database).fail(await a_claim(database, output.id), FAILURE)


async def prove(database: Database, *, balance: int, active: int, reserved: int) -> None:
    proof = await MongoAccountRepository(database).prove()
    assert proof.discrepancies == ()
    assert (proof.balance, proof.active_outputs, proof.reserved) == (balance, active, reserved)


async def test_a_new_post_waits_for_its_caption(
    database: Database, claims: MongoClaimRepository
) -> None:
    post = await a_post(database, "one", "two")

    assert post.status is PostStatus.GENERATING_CAPTION
    assert [output.slot for output in post.outputs] == [1, 2]
    assert post.caption == ""
    assert post.caption_options.tone == "$warm"
    assert post.credits_reserved == 2 * PRICE + 1
    await prove(database, balance=PLENTY, active=3, reserved=2 * PRICE + 1)
    found = await claims.list_waiting(MODELS, min_queued=timedelta(0), expired=True, limit=9)
    assert [one.output_id for one in found] == [post.caption_output.id]
    assert await claims.find_waiting(ANA, post.outputs[0].id) is None
    waiting = await as_stored(database, post.outputs[0].id)
    assert await claims.claim(waiting, lease=LONG) is None


async def test_the_caption_is_delivered_before_any_image_starts(
    database: Database, claims: MongoClaimRepository
) -> None:
    post = await a_post(database, "one", "two")
    claim = await a_claim(database, post.caption_output.id)
    assert await claims.show_progress(claim, text="A $boat")
    assert (await read(database, post)).caption == "A $boat"
    assert (await read(database, post)).prompt == "A boat"

    queued = await claims.land_caption(claim, CaptionDelivery(text=WORDS, provider="local"))

    assert queued == [output.id for output in post.outputs]
    written = await read(database, post)
    assert (written.caption, written.status) == (WORDS, PostStatus.GENERATING_IMAGES)
    assert written.prompt == f"A boat\n\n{WORDS}"
    assert written.outputs[0].queued_at >= post.outputs[0].queued_at
    assert written.credits_charged == 1
    await prove(database, balance=PLENTY - 1, active=2, reserved=2 * PRICE)
    image_claim = await a_claim(database, post.outputs[0].id)
    assert image_claim.parent.prompt == written.prompt
    assert await claims.land_caption(claim, CaptionDelivery(text="again")) is None


async def test_images_are_not_overdue_while_they_wait(
    database: Database, claims: MongoClaimRepository
) -> None:
    post = await a_post(database, "one")
    await a_claim(database, post.caption_output.id)
    assert await claims.end_overdue(max_queued=timedelta(0), limit=9) == []

    other = await a_post(database, "two")
    assert await claims.end_overdue(max_queued=timedelta(0), limit=9) == [other.caption_output.id]

    ended = await read(database, other)
    assert ended.caption_error is not None
    assert ended.caption_error.code is GenerationErrorCode.TIMED_OUT
    assert ended.outputs[0].status is OutputStatus.CANCELLED
    await prove(database, balance=PLENTY, active=2, reserved=PRICE + 1)


async def test_a_failed_caption_ends_the_post_and_charges_nothing(
    database: Database, outputs: MongoOutputRepository
) -> None:
    post = await a_post(database, "one", "two")
    assert await outputs.cancel(ANA, post.id, [2])

    await fail(database, post.caption_output)

    ended = await read(database, post)
    assert ended.status is PostStatus.FAILED
    assert ended.error == FAILURE
    assert {output.status for output in ended.outputs} == {OutputStatus.CANCELLED}
    assert [output.slot for output in ended.uncaptioned] == [1]
    assert ended.lacks_caption
    assert ended.completed_at is not None
    await prove(database, balance=PLENTY, active=0, reserved=0)


async def test_a_caption_is_retried_with_the_images_that_depend_on_it(
    database: Database, posts: MongoPostRepository
) -> None:
    post = await a_post(database, "one", "two")
    await fail(database, post.caption_output)
    ended = await read(database, post)
    plan, key = a_post_plan("one", "two"), IdempotencyKey("key", "regenerateCaption", "…")
    planned = dict(zip((1, 2), plan.images.outputs, strict=True))

    async def rewrite(key: IdempotencyKey | None = None, most: int = MANY) -> Post | Conflict:
        return await posts.rewrite_caption(
            ANA, ended, caption=plan.caption, outputs=planned, max_active_outputs=most, key=key
        )

    assert await rewrite(most=2) is Conflict.LIMIT_REACHED
    again = await rewrite(key)
    assert not isinstance(again, Conflict)
    assert await rewrite(key) is Conflict.KEY_USED
    assert await rewrite() is Conflict.STALE
    assert again.status is PostStatus.GENERATING_CAPTION
    assert (again.caption_output.attempt, again.outputs[0].attempt) == (2, 2)
    await prove(database, balance=PLENTY, active=3, reserved=2 * PRICE + 1)
    assert await land_caption(database, post) == [output.id for output in post.outputs]
    assert (await read(database, post)).status is PostStatus.GENERATING_IMAGES


async def test_a_caption_can_be_rewritten_while_the_images_stay(
    database: Database, posts: MongoPostRepository, claims: MongoClaimRepository
) -> None:
    post = await a_post(database, "one", "two")
    await land_caption(database, post)
    claim = await a_claim(database, post.outputs[0].id)
    assert await claims.land(claim, [a_picture(claim.output.id)], Report())
    caption = a_post_plan().caption

    again = await posts.rewrite_caption(
        ANA,
        await read(database, post),
        caption=replace(caption, options=replace(caption.options, hashtags=3)),
        outputs={},
        max_active_outputs=MANY,
        key=None,
    )

    assert not isinstance(again, Conflict)
    assert again.caption == WORDS
    assert again.caption_options.hashtags == 3
    # The other image runs on with the caption that there is.
    assert (await a_claim(database, post.outputs[1].id)).parent.prompt == f"A boat\n\n{WORDS}"
    await fail(database, again.caption_output)
    kept = await read(database, post)
    assert (kept.caption, kept.caption_error) == (WORDS, FAILURE)
    assert kept.outputs[1].status is OutputStatus.GENERATING
    assert (kept.credits_charged, kept.image) == (PRICE + 1, kept.outputs[0].image)
    await prove(database, balance=PLENTY - PRICE - 1, active=1, reserved=PRICE)


async def test_a_post_cancelled_with_its_caption_can_be_retried_only_with_a_caption(
    database: Database, outputs: MongoOutputRepository
) -> None:
    post = await a_post(database, "one")

    cancelled = await outputs.cancel(ANA, post.id, [entry.slot for entry in post.entries])

    assert isinstance(cancelled, Post)
    assert cancelled.status is PostStatus.CANCELLED
    assert [output.slot for output in cancelled.uncaptioned] == [1]
    await prove(database, balance=PLENTY, active=0, reserved=0)
    (planned,) = a_plan("one").outputs
    for output in (cancelled.outputs[0], replace(cancelled.outputs[0], attempt=2)):
        assert (
            await outputs.retry(ANA, output, planned=planned, max_active_outputs=MANY, key=None)
            is Conflict.STALE
        )
    await prove(database, balance=PLENTY, active=0, reserved=0)


async def test_an_image_retried_while_the_caption_is_written_waits_for_it(
    database: Database, outputs: MongoOutputRepository
) -> None:
    post = await a_post(database, "one", "two")
    cancelled = await outputs.cancel(ANA, post.id, [1])
    assert cancelled is not None
    (planned,) = a_plan("one").outputs

    retried = await outputs.retry(
        ANA, cancelled.outputs[0], planned=planned, max_active_outputs=MANY, key=None
    )

    assert not isinstance(retried, Conflict)
    assert retried[0].outputs[0].waits
    assert await land_caption(database, post) == [output.id for output in post.outputs]
    await a_claim(database, post.outputs[0].id)


async def test_a_worker_that_lost_its_claim_on_a_caption_writes_nothing(
    database: Database, claims: MongoClaimRepository
) -> None:
    post = await a_post(database, "one")
    old = await a_claim(database, post.caption_output.id, lease=EXPIRED)
    await asyncio.sleep(0.01)
    new = await a_claim(database, post.caption_output.id)

    assert not await claims.show_progress(old, text="old words")
    assert await claims.land_caption(old, CaptionDelivery(text="old words")) is None
    assert not await claims.fail(old, FAILURE)
    assert await claims.land_caption(new, CaptionDelivery(text=WORDS)) is not None
    assert (await read(database, post)).caption == WORDS


async def test_a_post_keeps_its_references_and_is_deleted_with_its_images(
    database: Database, posts: MongoPostRepository, claims: MongoClaimRepository
) -> None:
    images = MongoImageRepository(database)
    source = a_picture()
    await a_gallery(database, source)
    reference = Reference(source.image, ReferenceOrigin.MANUAL)
    post = await a_post(database, "one", "two", references=(reference,))
    kept = await images.delete_unless_used(ANA, [source.image.id])
    assert kept is not None
    assert kept.used == {source.image.id}
    await land_caption(database, post)
    records = []
    for output in post.outputs:
        claim = await a_claim(database, output.id)
        records.append(a_picture(output.id))
        assert await claims.land(claim, records[-1:], Report())
    first, second = (record.image for record in records)
    await a_conversation(database, source=second)

    assert await posts.delete(ANA, post.id) == list(first.keys)
    assert await posts.delete(ANA, post.id) is None
    assert await posts.get_many(ANA, [post.id]) == {}
    assert set(await images.get_many(ANA, [first.id, second.id])) == {second.id}
    assert await images.delete_unless_used(ANA, [source.image.id]) is None


async def test_an_image_of_a_post_can_be_deleted(
    database: Database, claims: MongoClaimRepository
) -> None:
    post = await a_post(database, "one")
    await land_caption(database, post)
    record = a_picture(post.outputs[0].id)
    assert await claims.land(await a_claim(database, post.outputs[0].id), [record], Report())

    assert await MongoImageRepository(database).delete_unless_used(ANA, [record.image.id]) is None

    without = await read(database, post)
    assert without.outputs[0].images == ()
    assert without.status is PostStatus.GENERATED


async def test_posts_are_listed_newest_first(
    database: Database, posts: MongoPostRepository
) -> None:
    made = [await a_post(database, "one") for _ in range(3)]

    page = await posts.page(ANA, PageRequest(2))

    assert [post.id for post in page.items] == [made[2].id, made[1].id]
    assert page.has_next
    rest = await posts.page(ANA, PageRequest(2, page.positions[-1]))
    assert [post.id for post in rest.items] == [made[0].id]


def test_a_caption_has_the_id_of_its_post() -> None:
    post_id = new_post_id()
    assert output_id_of(post_id, CAPTION_SLOT) == f"pout_{PostId(post_id)[5:]}_0"
