"""The viewer: everything that belongs to the person who asks."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, ClassVar

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
from domain.rates import RateLimitState
from domain.references import MAX_MANUAL_REFERENCES
from domain.text_search import searched_words
from schema.albums import AlbumConnection
from schema.companions import companion
from schema.connections import Cursor, First, ListPage, Search, page_request
from schema.context import Info, wanted
from schema.conversations import ConversationConnection, DeletedConversation
from schema.errors import Payload
from schema.hints import hints
from schema.images import ImageConnection, images_of
from schema.models import ImageModel
from schema.node import Node
from schema.posts import PostConnection
from schema.prompts import PromptConnection
from schema.scalars import given
from schema.shares import Share
from schema.turns import Turn
from schema.webhooks import Webhook


@strawberry.type(description="The credits of a viewer.")
class Credits:
    source: ClassVar[type] = Account

    balance: int = strawberry.field(
        description="All credits that the viewer owns, including the reserved ones."
    )
    reserved: int = strawberry.field(
        description="The credits that are reserved for outputs that have not ended."
    )
    available: int = strawberry.field(
        description="The credits that can be spent: `balance` minus `reserved`."
    )
    daily_limit: int | None = strawberry.field(
        description="How many credits the operator lets the viewer spend on a day, from 00:00 UTC. "
        "Null: all that are available."
    )
    spent_today: int | None = strawberry.field(
        description="What counts towards `dailyLimit`: the credits that were reserved today, "
        "without those that were released again. Null where there is no limit."
    )


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


@strawberry.type(
    description="How a model did against another one, in turns in which both have delivered images."
)
class ModelComparison:
    source: ClassVar[type] = domain.model_stats.Comparison

    won: int = strawberry.field(description="How often this model's output was chosen.")
    lost: int = strawberry.field(description="How often the other model's output was chosen.")

    @strawberry.field(
        graphql_type=ImageModel, description="The other model.", metadata=hints("model_id")
    )
    @staticmethod
    def model(
        comparison: strawberry.Parent[domain.model_stats.Comparison], info: Info
    ) -> domain.models.ImageModel:
        return info.context.services.registry.remembered(comparison.model_id)


@strawberry.type(
    description="What became of the viewer's outputs by one model. An output counts on the day on "
    "which its turn began, each attempt by itself; what the viewer cancelled counts as asked only. "
    "Turns that are deleted still count, copies of turns do not."
)
class ModelStats:
    source: ClassVar[type] = domain.model_stats.ModelStats

    asked: int = strawberry.field(description="How many outputs were requested, retries included.")
    delivered: int = strawberry.field(description="How many of them have delivered images.")
    chosen: int = strawberry.field(
        description="How many of them are chosen, or were when they were deleted."
    )
    win_rate: float | None = strawberry.field(
        description="Of the turns in which an output is chosen and this model has delivered one: "
        "the share in which it is this model's, 0 to 1. Null if there are none."
    )
    median_seconds: float | None = strawberry.field(
        description="The median time from the start of a delivered output to its end, in seconds, "
        "within 2 %. Null if none was delivered."
    )
    failure_rate: float = strawberry.field(
        description="The share of failed outputs among those that were delivered or failed, 0 to 1."
    )
    credits_per_choice: float | None = strawberry.field(
        description="All credits that were charged for this model's outputs, divided by `chosen`. "
        "Null if none is chosen."
    )
    against: Annotated[
        Sequence[domain.model_stats.Comparison],
        strawberry.field(
            graphql_type=list[ModelComparison],
            description="The models that it won or lost against, the most frequent first. A turn "
            "in which a third model was chosen does not count.",
        ),
    ]

    @strawberry.field(graphql_type=ImageModel, description="The model.", metadata=hints("model_id"))
    @staticmethod
    def model(
        stats: strawberry.Parent[domain.model_stats.ModelStats], info: Info
    ) -> domain.models.ImageModel:
        return info.context.services.registry.remembered(stats.model_id)


@strawberry.type(
    description="The bucket that the cost of a viewer's operations is taken from. It fills up "
    "again continuously. An operation that costs more than what is left is answered with the error "
    "RATE_LIMITED, whose `retryAfterSeconds` says when to try again."
)
class RateLimit:
    source: ClassVar[type] = RateLimitState

    limit: int = strawberry.field(description="What the full bucket contains.")
    remaining: int = strawberry.field(
        description="What is left after this operation. Other operations of the viewer that run at "
        "the same time may be missing."
    )
    cost: int = strawberry.field(description="What this operation costs.")
    reset_at: datetime = strawberry.field(
        description="When the bucket is full again, if no other operation runs before."
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
        return await info.context.services.turns.in_progress(viewer)

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
