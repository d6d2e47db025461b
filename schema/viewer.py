"""The viewer: everything that belongs to the person who asks."""

from collections.abc import Sequence
from typing import Annotated

import strawberry

import domain.albums
import domain.conversations
import domain.images
import domain.model_stats
import domain.models
import domain.posts
import domain.prompts
import domain.shares
import domain.turns
import domain.viewers
import domain.webhooks
from domain.credits import Account
from domain.ids import ModelId, parse_image_id
from domain.model_choice import MAX_MODELS
from domain.pages import Page
from domain.parents import MAX_PROMPT_LENGTH
from domain.rate_limits import RateLimitState
from domain.references import MAX_MANUAL_REFERENCES
from domain.text_search import searched_words
from schema.albums import AlbumConnection
from schema.companions import companion
from schema.connections import Cursor, First, ListPage, Search, page_request
from schema.context import Info, wanted
from schema.conversations import ConversationConnection, DeletedConversation
from schema.credits import Credits
from schema.errors import Payload
from schema.hints import hints
from schema.images import ImageConnection, images_of
from schema.model_stats import ModelStats
from schema.node import Node
from schema.posts import PostConnection
from schema.prompts import PromptConnection
from schema.rate_limits import RateLimit
from schema.scalars import given
from schema.shares import Share
from schema.turns import Turn
from schema.webhooks import Webhook


@strawberry.type(description="What a viewer may request.")
class Limits:
    max_active_outputs: int = strawberry.field(
        description="How many outputs may be queued or running at the same time."
    )
    active_outputs: int = strawberry.field(description="How many outputs are queued or running.")
    max_prompt_length: int = strawberry.field(
        description="The maximum length of a message in characters."
    )
    max_upload_bytes: int = strawberry.field(
        description="The maximum size of an uploaded file in bytes."
    )
    max_manual_references: int = strawberry.field(
        description="The maximum number of manual references of a turn."
    )
    max_models: int = strawberry.field(description="The maximum number of models of a turn.")
    restore_days: int = strawberry.field(
        description="How many days a deleted conversation can be restored for. 0: not at all."
    )


@strawberry.type(description="The person or service that the token identifies.")
class Viewer(Node):
    source = domain.viewers.Viewer

    @strawberry.field(graphql_type=Credits, description="The viewer's credits.")
    @staticmethod
    async def credits(viewer: strawberry.Parent[domain.viewers.Viewer], info: Info) -> Account:
        return await _account(info, viewer)

    @strawberry.field(description="What the viewer may request, and how many outputs are running.")
    @staticmethod
    async def limits(viewer: strawberry.Parent[domain.viewers.Viewer], info: Info) -> Limits:
        restorable_for = info.context.services.conversations.restorable_for
        return Limits(
            max_active_outputs=info.context.services.accounts.max_active_outputs,
            active_outputs=(await _account(info, viewer)).active_outputs,
            max_prompt_length=MAX_PROMPT_LENGTH,
            max_upload_bytes=info.context.services.uploads.max_bytes,
            max_manual_references=MAX_MANUAL_REFERENCES,
            max_models=MAX_MODELS,
            restore_days=restorable_for.days if restorable_for else 0,
        )

    @strawberry.field(
        graphql_type=RateLimit,
        description="How much the viewer's operations may cost at the moment.",
        metadata=hints("id"),
    )
    @staticmethod
    def rate_limit(viewer: strawberry.Parent[domain.viewers.Viewer], info: Info) -> RateLimitState:
        request = info.context
        return request.services.rate_limits.state(viewer.id, cost=request.cost)

    @strawberry.field(
        graphql_type=ConversationConnection,
        description="The viewer's conversations, most recently active first. `search` matches "
        "titles and messages.",
    )
    @staticmethod
    async def conversations(
        viewer: strawberry.Parent[domain.viewers.Viewer],
        info: Info,
        first: First = strawberry.UNSET,
        after: Cursor = strawberry.UNSET,
        *,
        source_image_id: Annotated[
            strawberry.ID | None,
            strawberry.argument(
                description="Return only conversations that started from this image."
            ),
        ] = strawberry.UNSET,
        search: Search = strawberry.UNSET,
    ) -> ListPage[domain.conversations.Conversation]:
        source, words = given(source_image_id), searched_words(given(search))
        name = f"conversations {viewer.id} {source or ''} {' '.join(words)}"
        request = page_request(info, name, first=first, after=after)
        image_id = parse_image_id(source) if source is not None else None
        if source is not None and image_id is None:
            return ListPage(Page(()), name, info.context.services.page_cursors)
        page = await info.context.services.conversations.page(
            viewer, request, source_image_id=image_id, words=words
        )
        return ListPage(page, name, info.context.services.page_cursors)

    @strawberry.field(
        graphql_type=ImageConnection,
        description="The gallery: all images that the viewer owns, newest first. "
        "`search` matches the prompts that images were made from.",
        metadata=hints(projects=True),
    )
    @staticmethod
    async def images(
        viewer: strawberry.Parent[domain.viewers.Viewer],
        info: Info,
        first: First = strawberry.UNSET,
        after: Cursor = strawberry.UNSET,
        *,
        favourite: Annotated[
            bool | None,
            strawberry.argument(
                description="True: only favourites. False: only others. If omitted: all."
            ),
        ] = strawberry.UNSET,
        origin: Annotated[
            domain.images.ImageOrigin | None,
            strawberry.argument(description="Return only images of this origin."),
        ] = strawberry.UNSET,
        model_id: Annotated[
            strawberry.ID | None,
            strawberry.argument(
                description="Return only images made by this model, by id or alias."
            ),
        ] = strawberry.UNSET,
        search: Search = strawberry.UNSET,
    ) -> ListPage[domain.images.Image]:
        marked, made_by, model_name = given(favourite), given(origin), given(model_id)
        words = searched_words(given(search))
        name = f"images {viewer.id} {marked} {made_by or ''} {model_name!r} {' '.join(words)}"
        request = page_request(info, name, first=first, after=after)
        wanted_id = ModelId(model_name) if model_name is not None else None
        model = info.context.services.registry.get(model_name) if model_name is not None else None
        page = await info.context.services.images.page(
            viewer,
            request,
            favourite=marked,
            origin=made_by,
            model_id=model.id if model else wanted_id,
            words=words,
            wanted=wanted(info),
        )
        return ListPage(images_of(page), name, info.context.services.page_cursors)

    @strawberry.field(
        graphql_type=AlbumConnection, description="The viewer's albums, newest first."
    )
    @staticmethod
    async def albums(
        viewer: strawberry.Parent[domain.viewers.Viewer],
        info: Info,
        first: First = strawberry.UNSET,
        after: Cursor = strawberry.UNSET,
    ) -> ListPage[domain.albums.Album]:
        name = f"albums {viewer.id}"
        request = page_request(info, name, first=first, after=after)
        page = await info.context.services.albums.page(viewer, request)
        return ListPage(page, name, info.context.services.page_cursors)

    @strawberry.field(
        graphql_type=PromptConnection,
        description="The prompts that the viewer has started turns and posts with, without "
        "duplicates, most recently used first.",
    )
    @staticmethod
    async def prompts(
        viewer: strawberry.Parent[domain.viewers.Viewer],
        info: Info,
        first: First = strawberry.UNSET,
        after: Cursor = strawberry.UNSET,
        *,
        search: Search = strawberry.UNSET,
        favourite: Annotated[
            bool | None,
            strawberry.argument(
                description="True: only favourites. False: only others. If omitted: all."
            ),
        ] = strawberry.UNSET,
    ) -> ListPage[domain.prompts.Prompt]:
        marked, words = given(favourite), searched_words(given(search))
        name = f"prompts {viewer.id} {marked} {' '.join(words)}"
        request = page_request(info, name, first=first, after=after)
        page = await info.context.services.prompts.page(
            viewer, request, favourite=marked, words=words
        )
        return ListPage(page, name, info.context.services.page_cursors)

    @strawberry.field(
        graphql_type=PostConnection,
        description="The viewer's posts, newest first.",
    )
    @staticmethod
    async def posts(
        viewer: strawberry.Parent[domain.viewers.Viewer],
        info: Info,
        first: First = strawberry.UNSET,
        after: Cursor = strawberry.UNSET,
    ) -> ListPage[domain.posts.Post]:
        name = f"posts {viewer.id}"
        request = page_request(info, name, first=first, after=after)
        page = await info.context.services.posts.page(viewer, request)
        return ListPage(page, name, info.context.services.page_cursors)

    @strawberry.field(
        graphql_type=list[Turn],
        description="Turns with an output that has not ended, and turns that wait. "
        "Query it when an app returns to "
        "the foreground.",
    )
    @staticmethod
    async def turns_in_progress(
        viewer: strawberry.Parent[domain.viewers.Viewer], info: Info
    ) -> Sequence[domain.turns.Turn]:
        return await info.context.services.turns.list_in_progress(viewer)

    @strawberry.field(
        graphql_type=list[ModelStats],
        description="What became of the outputs of each model that the viewer has used, those that "
        "were requested most often first.",
    )
    @staticmethod
    async def model_stats(
        viewer: strawberry.Parent[domain.viewers.Viewer],
        info: Info,
        days: Annotated[
            int | None,
            strawberry.argument(
                description="Count the turns of this many days, today included, 1 to 366. A day "
                "begins at midnight in UTC."
            ),
        ] = 30,
    ) -> Sequence[domain.model_stats.ModelStats]:
        return await info.context.services.choices.model_stats(
            viewer, days=30 if days is None else days
        )

    @strawberry.field(
        graphql_type=list[Webhook],
        description="The viewer's webhooks, oldest first: 10 at most.",
    )
    @staticmethod
    async def webhooks(
        viewer: strawberry.Parent[domain.viewers.Viewer], info: Info
    ) -> Sequence[domain.webhooks.Webhook]:
        return await info.context.services.webhooks.list(viewer)

    @strawberry.field(
        graphql_type=list[DeletedConversation],
        description="The conversations that `restoreConversation` can bring back, the latest "
        "deletion first: 100 at most. Empty where `limits.restoreDays` is 0.",
    )
    @staticmethod
    async def deleted_conversations(
        viewer: strawberry.Parent[domain.viewers.Viewer], info: Info
    ) -> Sequence[domain.conversations.DeletedConversation]:
        return await info.context.services.conversations.list_restorable(viewer)

    @strawberry.field(
        graphql_type=list[Share],
        description="The links that the viewer has given to conversations, newest first. Those "
        "that have ended or were revoked are not there.",
    )
    @staticmethod
    async def shares(
        viewer: strawberry.Parent[domain.viewers.Viewer], info: Info
    ) -> Sequence[domain.shares.Share]:
        return await info.context.services.shares.list(viewer)


@strawberry.input(description="The input of `deleteViewer`.")
class DeleteViewerInput:
    viewer_id: strawberry.ID = strawberry.field(
        description="The viewer's own id, as confirmation: nothing can be restored."
    )


@strawberry.type(description="The result of `deleteViewer`.")
class DeleteViewerPayload(Payload):
    deleted_viewer_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="The id of the deleted viewer. Null if the mutation was refused.",
    )


async def _account(info: Info, viewer: domain.viewers.Viewer) -> Account:
    account = companion(viewer, Account) or await info.context.load.account.load(viewer.id)
    assert account is not None, "An account is made at first sight."
    return account
