"""Posts as documents: the caption is the first of the embedded outputs."""

from collections.abc import Iterable, Mapping, Sequence

from pymongo import ReturnDocument

from domain.captions import PlannedCaption
from domain.conflicts import Conflict
from domain.idempotency import IdempotencyKey
from domain.ids import PostId, ViewerId
from domain.outputs import CAPTION_SLOT
from domain.pages import Page, PageRequest
from domain.posts import Post, PostPlan
from domain.rules import derive_status
from domain.turns import PlannedOutput
from storage.mongo.collections import Document
from storage.mongo.credits import reserve_credits
from storage.mongo.database import SHOWN, Database, repository
from storage.mongo.idempotency import use_key
from storage.mongo.images import hold_images
from storage.mongo.output_updates import insert_update
from storage.mongo.pages import beyond, read_page
from storage.mongo.parents import delete_parents, owned_by, queue_again
from storage.mongo.prompts import count_prompt_use
from storage.mongo.stored_outputs import imported_output, new_entry, queued_caption, queued_output
from storage.mongo.stored_parents import imported_parent, new_parent
from storage.mongo.stored_posts import StoredPost, caption_changes, caption_documents
from storage.mongo.transaction import Abort, Transaction


@repository
class MongoPostRepository:
    """See `domain.ports.posts.PostRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._posts = database.posts
        self._shown = database.posts.with_options(codec_options=SHOWN)

    async def get_many(self, viewer_id: ViewerId, ids: Iterable[PostId]) -> Mapping[PostId, Post]:
        cursor = self._posts.find({"_id": {"$in": list(set(ids))}, "ownerId": viewer_id})
        return {PostId(document["_id"]): StoredPost.of(document) async for document in cursor}

    async def page(self, viewer_id: ViewerId, request: PageRequest) -> Page[Post]:
        cursor = self._shown.find({"ownerId": viewer_id, **beyond(request, "createdAt")})
        return await read_page(cursor, request, sorted_by="createdAt", read=StoredPost.of)

    async def start(
        self,
        viewer_id: ViewerId,
        post_id: PostId,
        *,
        plan: PostPlan,
        max_active_outputs: int,
        key: IdempotencyKey | None,
    ) -> Post | Conflict:
        document = _new_post(viewer_id, plan)
        references = {reference.image.id for reference in plan.images.references}

        async def work(transaction: Transaction) -> Post:
            await use_key(transaction, viewer_id, key=key, parent_id=post_id)
            await hold_images(transaction, viewer_id, ids=references)
            found = await transaction.posts.find_one_and_update(
                {**owned_by(viewer_id, post_id), "version": {"$exists": False}},
                insert_update(post_id, document),
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
            assert found is not None
            post = StoredPost.of(found)
            await count_prompt_use(transaction, viewer_id, text=plan.images.user_message)
            await reserve_credits(
                transaction, post.entries, owner_id=viewer_id, max_active=max_active_outputs
            )
            return post

        started = await self._database.transact(work, account=viewer_id)
        return started if isinstance(started, Conflict) else started.result

    async def rewrite_caption(
        self,
        viewer_id: ViewerId,
        post: Post,
        *,
        caption: PlannedCaption,
        outputs: Mapping[int, PlannedOutput],
        max_active_outputs: int,
        key: IdempotencyKey | None,
    ) -> Post | Conflict:
        queued = [
            (post.caption_output, queued_caption(caption)),
            *(
                (output, queued_output(outputs[output.slot]))
                for output in post.outputs
                if output.slot in outputs
            ),
        ]
        changes = {name: {"$literal": value} for name, value in caption_changes(caption).items()}

        async def work(transaction: Transaction) -> Post:
            await use_key(transaction, viewer_id, key=key, parent_id=post.id, slot=CAPTION_SLOT)
            again = await queue_again(
                transaction, viewer_id, queued, max_active=max_active_outputs, more=changes
            )
            assert isinstance(again, Post)
            return again

        queued_again = await self._database.transact(work, account=viewer_id)
        return queued_again if isinstance(queued_again, Conflict) else queued_again.result

    async def delete(
        self, viewer_id: ViewerId, post_id: PostId, *, keep_images: bool = False
    ) -> Sequence[str] | None:
        owned = owned_by(viewer_id, post_id)

        async def work(transaction: Transaction) -> list[str]:
            if await transaction.posts.find_one(owned) is None:
                raise Abort(Conflict.STALE)
            return await delete_parents(
                transaction,
                viewer_id,
                owned,
                among=transaction.posts,
                besides=post_id,
                keep_images=keep_images,
            )

        deleted = await self._database.transact(work, account=viewer_id)
        return None if isinstance(deleted, Conflict) else deleted.result


def imported_post(post: Post) -> Document:
    document = imported_parent(post)
    status = derive_status(entry.status for entry in post.entries)
    return {
        **document,
        "outputs": [imported_output(post.caption_output), *document["outputs"]],
        "status": status.value,
        "caption": post.landed_caption,
        **caption_documents(post.caption_options, post.reference_prompts),
    }


def _new_post(owner_id: ViewerId, plan: PostPlan) -> Document:
    document = new_parent(owner_id, plan.images, waits=True)
    caption = new_entry(CAPTION_SLOT, queued_caption(plan.caption))
    return {
        **document,
        "outputs": [caption, *document["outputs"]],
        "caption": None,
        **caption_changes(plan.caption),
    }
