"""Root fields of posts: read, generate, cancel, delete, subscribe."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

import strawberry

from domain import posts
from resolvers.nodes import find_post
from schema.context import Info
from schema.errors import Refusable
from schema.posts import (
    CancelPostInput,
    CancelPostPayload,
    DeletePostInput,
    DeletePostPayload,
    GeneratePostInput,
    GeneratePostPayload,
    Post,
    RegenerateCaptionInput,
    RegenerateCaptionPayload,
)


@strawberry.type
class PostQueries:
    @strawberry.field(
        graphql_type=Post | None,
        description="A post of the viewer. Null if there is none with this id.",
    )
    async def post(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The id of the post.")],
    ) -> posts.Post | None:
        _ = info.context.viewer
        return await find_post(info, id)


@strawberry.type
class PostMutations:
    @strawberry.mutation(
        description="Generate a post: a caption is written about the message, then each selected "
        "model makes images from both. The response does not wait for any of it: follow the post "
        "with `postUpdated`.",
        extensions=[Refusable()],
    )
    async def generate_post(
        self,
        info: Info,
        input: Annotated[
            GeneratePostInput, strawberry.argument(description="The post to generate.")
        ],
    ) -> GeneratePostPayload:
        post = await info.context.services.posts.generate(
            info.context.viewer, input.to_paid_command()
        )
        return GeneratePostPayload(post=post)

    @strawberry.mutation(
        description="Write the caption again: after a failure, or to get another one. Images "
        "that have been delivered are kept. Outputs that were cancelled because there was no "
        "caption are queued again, and their credits reserved.",
        extensions=[Refusable()],
    )
    async def regenerate_caption(
        self,
        info: Info,
        input: Annotated[
            RegenerateCaptionInput,
            strawberry.argument(description="The post whose caption to write again."),
        ],
    ) -> RegenerateCaptionPayload:
        post = await info.context.services.posts.regenerate_caption(
            info.context.viewer, input.to_command()
        )
        return RegenerateCaptionPayload(post=post)

    @strawberry.mutation(
        description="Cancel the parts of a post that have not ended. The caption and images that "
        "have been delivered are kept. Closing a connection never cancels anything.",
        extensions=[Refusable()],
    )
    async def cancel_post(
        self,
        info: Info,
        input: Annotated[CancelPostInput, strawberry.argument(description="The post to cancel.")],
    ) -> CancelPostPayload:
        post = await info.context.services.posts.cancel(info.context.viewer, input.post_id)
        return CancelPostPayload(post=post)

    @strawberry.mutation(
        description="Delete a post with its caption and its images. Images that are favourites, "
        "or that a conversation or another post uses as source image or reference, are kept. "
        "What has not ended is cancelled.",
        extensions=[Refusable()],
    )
    async def delete_post(
        self,
        info: Info,
        input: Annotated[DeletePostInput, strawberry.argument(description="The post to delete.")],
    ) -> DeletePostPayload:
        deleted = await info.context.services.posts.delete(info.context.viewer, input.post_id)
        return DeletePostPayload(deleted_post_id=strawberry.ID(deleted))


@strawberry.type
class PostSubscriptions:
    @strawberry.subscription(
        graphql_type=Post,
        description="Changes of a post: its caption grows, a preview arrives, an output delivers "
        "its images or fails, the post ends. Sends the current state first, then the new state at "
        "every change. Completes when the post is deleted.",
    )
    async def post_updated(
        self,
        info: Info,
        post_id: Annotated[
            strawberry.ID, strawberry.argument(description="The post to subscribe to.")
        ],
    ) -> AsyncGenerator[posts.Post, None]:
        updates = info.context.services.updates.posts.of(info.context.viewer, post_id)
        async with aclosing(updates):
            async for post in updates:
                yield post
