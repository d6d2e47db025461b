"""Posts as use cases read and write them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from domain.captions import PlannedCaption
from domain.conflicts import Conflict
from domain.idempotency import IdempotencyKey
from domain.ids import PostId, ViewerId
from domain.pages import Page, PageRequest
from domain.posts import Post, PostPlan
from domain.turns import PlannedOutput


class PostRepository(Protocol):
    async def get_many(
        self, viewer_id: ViewerId, ids: Iterable[PostId]
    ) -> Mapping[PostId, Post]: ...

    async def page(self, viewer_id: ViewerId, request: PageRequest) -> Page[Post]:
        """A page of the viewer's posts, newest first."""

    async def start(
        self,
        viewer_id: ViewerId,
        post_id: PostId,
        *,
        plan: PostPlan,
        max_active_outputs: int,
        key: IdempotencyKey | None,
    ) -> Post | Conflict:
        """Write the post, the use of its prompt, the credits of its caption and its outputs, and
        the idempotency record together, or nothing.

        The conflict is KEY_USED, IMAGE_GONE or LIMIT_REACHED.
        """

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
        """Queue the caption of a post again, as its next attempt, and those of `Post.uncaptioned`
        that are planned, by their slots; reserve their credits and write the idempotency record
        together, or nothing.

        The conflict is KEY_USED, LIMIT_REACHED, or STALE: since `post` was read, one of them has
        changed, or it was deleted.
        """

    async def delete(
        self, viewer_id: ViewerId, post_id: PostId, *, keep_images: bool = False
    ) -> Sequence[str] | None:
        """Delete it with its outputs' images except favourites and those that are used elsewhere,
        or no image at all. Release what it had reserved.

        Return the keys of objects that are orphans from then on; None if there was no such post.
        """
