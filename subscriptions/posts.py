"""`postUpdated`: a post as it is, then after each change of its caption or its outputs."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from domain.errors import NotFound
from domain.ids import parse_post_id
from domain.ports.posts import PostRepository
from domain.posts import Post
from domain.viewers import Viewer
from subscriptions.hub import Hub
from subscriptions.records import follow


@dataclass(frozen=True, slots=True)
class PostUpdates:
    hub: Hub
    posts: PostRepository

    async def of(self, viewer: Viewer, raw_post_id: str) -> AsyncGenerator[Post, None]:
        """Yield the post. Ends when it is deleted. Raise NotFound unless it is the viewer's."""
        post_id = parse_post_id(raw_post_id)
        if post_id is None:
            raise NotFound

        async def read() -> Post | None:
            return (await self.posts.get_many(viewer.id, [post_id])).get(post_id)

        def is_changed(sent: Post, found: Post) -> bool:
            return found.version != sent.version

        updates = follow(self.hub, post_id, read=read, is_changed=is_changed)
        async with aclosing(updates):
            async for post in updates:
                yield post
