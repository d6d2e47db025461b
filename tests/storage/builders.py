"""Conversations, turns and pictures written straight into a database, with defaults."""

from datetime import UTC, datetime, timedelta

from domain.captions import CaptionModel, CaptionOptions, PlannedCaption
from domain.claims import Claim, Waiting
from domain.conflicts import Conflict
from domain.conversations import Conversation
from domain.credits import Account
from domain.idempotency import IdempotencyKey
from domain.ids import (
    ModelId,
    OutputId,
    ViewerId,
    new_conversation_id,
    new_image_id,
    new_post_id,
    parent_of_output,
    viewer_id_of,
)
from domain.images import Image, ImageOrigin, ImageRecord, new_key
from domain.models import SQUARE, ImageModel, Resolution, Scene
from domain.parents import TurnOptions
from domain.posts import Post, PostPlan
from domain.references import Reference
from domain.turns import PlannedOutput, Turn, TurnPlan
from storage.mongo.accounts import MongoAccountRepository
from storage.mongo.claims import MongoClaimRepository
from storage.mongo.conversations import MongoConversationRepository
from storage.mongo.database import Database
from storage.mongo.posts import MongoPostRepository
from storage.mongo.viewers import MongoViewerRepository

ANA = viewer_id_of("tests", "ana")
LONG = timedelta(seconds=60)
PLENTY = 10_000
PRICE = 2
MANY = 1_000
EXPIRED = timedelta(milliseconds=1)


def a_model(name: str = "model", *, deadline: timedelta = timedelta(seconds=180)) -> ImageModel:
    return ImageModel(
        id=ModelId(name),
        label=name,
        description="",
        company="",
        provider="local",
        scenes=frozenset(Scene),
        deadline=deadline,
    )


def a_picture(output_id: OutputId | None = None) -> ImageRecord:
    image = Image(
        id=new_image_id(),
        key=new_key("images", "image/png"),
        width=1,
        height=1,
        content_type="image/png",
        byte_size=1,
        thumbhash=None,
        rendition_widths=(),
        origin=ImageOrigin.OUTPUT if output_id else ImageOrigin.SAMPLE,
        model_id=None,
        seed=None,
        output_id=output_id,
        created_at=datetime.now(UTC).replace(microsecond=0),
    )
    return ImageRecord(image, "a prompt", ())


def a_plan(
    *models: str,
    references: tuple[Reference, ...] = (),
    images_per_model: int = 1,
    message: str = "A boat",
) -> TurnPlan:
    return TurnPlan(
        user_message=message,
        references=references,
        previous_were_named=False,
        aspect_ratio=SQUARE,
        resolution=Resolution.ONE_K,
        options=TurnOptions(images_per_model=images_per_model),
        outputs=tuple(
            PlannedOutput(a_model(name), ModelId(name), references, (), PRICE * images_per_model)
            for name in models or ("model",)
        ),
    )


async def a_conversation(
    database: Database,
    *models: str,
    viewer_id: ViewerId = ANA,
    source: Image | None = None,
    images_per_model: int = 1,
    message: str = "A boat",
) -> tuple[Conversation, Turn]:
    await an_account(database, viewer_id=viewer_id)
    written = await MongoConversationRepository(database).start(
        viewer_id,
        new_conversation_id(),
        title="A boat",
        source_image=source,
        plan=a_plan(*models, images_per_model=images_per_model, message=message),
        max_active_outputs=MANY,
        key=None,
    )
    assert not isinstance(written, Conflict)
    return written


async def another_turn(
    database: Database,
    conversation: Conversation,
    plan: TurnPlan | None = None,
    *,
    max_active_outputs: int = MANY,
    key: IdempotencyKey | None = None,
) -> tuple[Conversation, Turn] | Conflict:
    return await MongoConversationRepository(database).append_turn(
        ANA,
        conversation,
        plan=plan or a_plan(),
        max_active_outputs=max_active_outputs,
        key=key,
    )


async def an_account(database: Database, *, viewer_id: ViewerId = ANA) -> Account:
    """The viewer's account, with plenty to begin with."""
    accounts = MongoAccountRepository(database)
    return await accounts.open(viewer_id, starting_credits=PLENTY)


async def a_gallery(database: Database, *records: ImageRecord, viewer_id: ViewerId = ANA) -> None:
    assert await MongoViewerRepository(database).welcome(viewer_id, records)


async def a_claim(
    database: Database,
    output_id: OutputId,
    *,
    lease: timedelta = LONG,
    viewer_id: ViewerId = ANA,
) -> Claim:
    waiting = await as_stored(database, output_id, viewer_id=viewer_id)
    claim = await MongoClaimRepository(database).claim(waiting, lease=lease)
    assert claim is not None
    return claim


async def as_stored(
    database: Database, output_id: OutputId, *, viewer_id: ViewerId = ANA
) -> Waiting:
    """The output as a search finds it now, whether it may be claimed or not."""
    parent_id, slot = parent_of_output(output_id)
    parent = await database.of_parent(parent_id).find_one({"_id": parent_id})
    assert parent is not None
    output = next(one for one in parent["outputs"] if one["slot"] == slot)
    return Waiting(
        output_id=output_id,
        attempt=output["attempt"],
        viewer_id=viewer_id,
        model_id=output["model"],
        fence=output["fence"],
        lease_until=output.get("leaseUntil"),
    )


def a_caption_model(name: str = "caption-model") -> CaptionModel:
    return CaptionModel(
        id=ModelId(name), label=name, description="", company="", provider="local", credits=1
    )


def a_post_plan(*models: str, references: tuple[Reference, ...] = ()) -> PostPlan:
    caption = PlannedCaption(
        model=a_caption_model(),
        options=CaptionOptions(tone="$warm"),
        reference_prompts=("A boat",) * len(references),
    )
    return PostPlan(images=a_plan(*models, references=references), caption=caption)


async def a_post(
    database: Database,
    *models: str,
    viewer_id: ViewerId = ANA,
    references: tuple[Reference, ...] = (),
    key: IdempotencyKey | None = None,
) -> Post:
    await an_account(database, viewer_id=viewer_id)
    written = await MongoPostRepository(database).start(
        viewer_id,
        new_post_id(),
        plan=a_post_plan(*models, references=references),
        max_active_outputs=MANY,
        key=key,
    )
    assert not isinstance(written, Conflict)
    return written
