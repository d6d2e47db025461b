"""Deletes a viewer with everything that belongs to them.

It begins with a mark in the account, so that another process finishes it if this one dies. Until it
is finished, nothing new can be made for the viewer: a repetition would not delete what the viewer
makes afterwards. Bytes are deleted before the records that lead to them.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from time import monotonic
from typing import Final

from domain.background import cancel_all
from domain.errors import Overloaded, StoreUnavailable
from domain.ids import ViewerId
from domain.ports.cleanup import ErasureRepository
from domain.ports.conversations import ConversationRepository
from domain.ports.objects import ObjectStore
from domain.ports.outputs import OutputRepository
from domain.ports.posts import PostRepository

log = logging.getLogger(__name__)

LEASE: Final = timedelta(seconds=15)
_POLL_SECONDS: Final = 10.0
_ANSWER_SECONDS: Final = 6.0
"""How long the request waits, which is less than an operation may take. The rest is
done after it.
"""
_BATCH_SIZE: Final = 200


class ViewerEraser:
    def __init__(
        self,
        erasures: ErasureRepository,
        *,
        outputs: OutputRepository,
        conversations: ConversationRepository,
        posts: PostRepository,
        objects: ObjectStore,
    ) -> None:
        self._erasures = erasures
        self._outputs = outputs
        self._conversations = conversations
        self._posts = posts
        self._objects = objects
        self._running: dict[ViewerId, asyncio.Task[None]] = {}

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Finish erasures that other processes have begun, periodically, until the block ends."""
        task = asyncio.create_task(self._take_over_forever(), name="viewer eraser")
        try:
            yield
        finally:
            await cancel_all([task, *self._running.values()])

    async def erase(self, viewer_id: ViewerId) -> None:
        """Delete the viewer. From its return on, the deletion is certain, and usually finished.

        Raise Overloaded if the database cannot be reached, and nothing has begun.
        """
        await self._erasures.begin(viewer_id, lease=LEASE)
        await asyncio.wait([self._run(viewer_id)], timeout=_ANSWER_SECONDS)

    def _run(self, viewer_id: ViewerId) -> asyncio.Task[None]:
        """Erase in a task that outlives the request, one task for each viewer."""
        task = self._running.get(viewer_id)
        if task is None:
            task = asyncio.create_task(self._erase(viewer_id), name="erasure of a viewer")
            self._running[viewer_id] = task
            task.add_done_callback(lambda _: self._running.pop(viewer_id))
        return task

    async def _take_over_forever(self) -> None:
        while True:
            try:
                viewer_id = await self._erasures.take_over(lease=LEASE)
                if viewer_id is not None:
                    log.info("deletion of a viewer taken over")
                    await asyncio.wait([self._run(viewer_id)])
                    continue
            except Overloaded:
                pass  # The next round will find it.
            except Exception:
                log.exception("search for unfinished deletions of viewers failed")
            await asyncio.sleep(_POLL_SECONDS * random.uniform(0.75, 1.25))

    async def _erase(self, viewer_id: ViewerId) -> None:
        started_at = monotonic()
        try:
            await self._delete_all(viewer_id)
            while not await self._erasures.finish(viewer_id):
                await self._delete_all(viewer_id)
        except (Overloaded, StoreUnavailable) as error:
            # The lease expires, and another process takes over.
            reason = str(error) or type(error).__name__
            log.warning("deletion of a viewer interrupted", extra={"reason": reason})
        except Exception:
            log.exception("deletion of a viewer failed")
        else:
            log.info("viewer deleted", extra={"seconds": round(monotonic() - started_at, 3)})

    async def _delete_all(self, viewer_id: ViewerId) -> None:
        # First, so that no receiver is notified of outputs that are cancelled by the deletion.
        await self._erasures.delete_webhooks(viewer_id)
        await self._cancel_outputs(viewer_id)
        await self._erasures.delete_imports(viewer_id)
        await self._delete_exports(viewer_id)
        await self._delete_parents(viewer_id)
        # A request that makes an image of an upload at the same time finds out when it writes to
        # the upload. So uploads are deleted first, then all images that were made of them.
        await self._delete_uploads(viewer_id)
        await self._delete_trash(viewer_id)
        await self._delete_images(viewer_id)
        await self._erasures.delete_small_records(viewer_id)
        while await self._erasures.anonymise_ledger(viewer_id, limit=_BATCH_SIZE):
            await self._renew(viewer_id)

    async def _cancel_outputs(self, viewer_id: ViewerId) -> None:
        while parents := await self._outputs.list_unfinished(viewer_id):
            for parent in parents:
                slots = [entry.slot for entry in parent.entries]
                await self._outputs.cancel(viewer_id, parent.id, slots)
            await self._renew(viewer_id)

    async def _delete_exports(self, viewer_id: ViewerId) -> None:
        exports = await self._erasures.list_exports(viewer_id)
        await self._objects.delete([key for keys in exports.values() for key in keys])
        await self._erasures.delete_exports(viewer_id, exports.keys())

    async def _delete_parents(self, viewer_id: ViewerId) -> None:
        # No output runs any more, so no further previews will come.
        await self._objects.delete(await self._erasures.list_preview_keys(viewer_id))
        while found := await self._erasures.list_conversations(viewer_id, limit=_BATCH_SIZE):
            for conversation_id in found:
                await self._conversations.delete(viewer_id, conversation_id, keep_images=True)
                await self._renew(viewer_id)
        await self._erasures.delete_turns_left(viewer_id)
        while posts := await self._erasures.list_posts(viewer_id, limit=_BATCH_SIZE):
            for post_id in posts:
                await self._posts.delete(viewer_id, post_id, keep_images=True)
                await self._renew(viewer_id)

    async def _delete_uploads(self, viewer_id: ViewerId) -> None:
        while uploads := await self._erasures.list_uploads(viewer_id, limit=_BATCH_SIZE):
            await self._objects.delete([key for keys in uploads.values() for key in keys])
            await self._erasures.delete_uploads(viewer_id, uploads.keys())
            await self._renew(viewer_id)

    async def _delete_trash(self, viewer_id: ViewerId) -> None:
        while kept := await self._erasures.list_trash(viewer_id, limit=_BATCH_SIZE):
            await self._objects.delete([key for keys in kept.values() for key in keys])
            await self._erasures.delete_trash(viewer_id, kept.keys())
            await self._renew(viewer_id)

    async def _delete_images(self, viewer_id: ViewerId) -> None:
        while images := await self._erasures.list_images(viewer_id, limit=_BATCH_SIZE):
            await self._objects.delete([key for keys in images.values() for key in keys])
            await self._erasures.delete_images(viewer_id, images.keys())
            await self._renew(viewer_id)

    async def _renew(self, viewer_id: ViewerId) -> None:
        await self._erasures.renew(viewer_id, lease=LEASE)
