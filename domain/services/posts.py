"""Posts: generate one, write its caption again, read, cancel, delete."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from domain.captions import CaptionModelRegistry, PlannedCaption
from domain.conflicts import Conflict
from domain.errors import UserError, UserErrorCode
from domain.execution.image_writer import ImageWriter
from domain.idempotency import IdempotencyKey, IdempotencyRecord
from domain.ids import PostId, as_post_id, new_post_id, parse_post_id
from domain.model_choice import Inherited
from domain.models import SQUARE, ModelRegistry, Resolution
from domain.pages import Page, PageRequest
from domain.planning import plan_caption, plan_retry, plan_turn
from domain.ports.posts import PostRepository
from domain.posts import GeneratePost, Post, PostPlan, RegenerateCaption
from domain.references import Reference
from domain.refusals import Refusals, refuse
from domain.services.accounts import AccountService
from domain.services.canceller import OutputCanceller
from domain.services.commands import CommandService, Written, refuse_deleted_result
from domain.services.images import ImageService
from domain.text import shorten
from domain.turns import PlannedOutput, TurnPlan
from domain.viewers import Viewer

_MAX_REFERENCE_PROMPT_LENGTH: Final = 300
_POST_NOT_FOUND: Final = (UserErrorCode.NOT_FOUND, "There is no such post.", "postId")
_NOTHING_INHERITED: Final = Inherited(aspect_ratio=SQUARE, resolution=Resolution.ONE_K)


@dataclass(frozen=True, slots=True)
class _PlannedPost:
    """`caption` None: no model can write one."""

    images: TurnPlan
    caption: PlannedCaption | None

    @property
    def outputs(self) -> Sequence[PlannedCaption | PlannedOutput]:
        return [*([self.caption] if self.caption else []), *self.images.outputs]


@dataclass(frozen=True, slots=True)
class _PlannedCaption:
    """`post` None: it was not found; `caption` None: no model can write one."""

    post: Post | None
    caption: PlannedCaption | None
    images: Mapping[int, PlannedOutput]
    """Outputs that were cancelled without a caption and can run now, by their slots."""

    @property
    def outputs(self) -> Sequence[PlannedCaption | PlannedOutput]:
        return [*([self.caption] if self.caption else []), *self.images.values()]


@dataclass(frozen=True, slots=True, kw_only=True)
class PostService:
    posts: PostRepository
    canceller: OutputCanceller
    commands: CommandService
    accounts: AccountService
    images: ImageService
    registry: ModelRegistry
    caption_models: CaptionModelRegistry
    image_writer: ImageWriter

    async def get_many(self, viewer: Viewer, ids: Iterable[PostId]) -> Mapping[PostId, Post]:
        return await self.posts.get_many(viewer.id, ids)

    async def page(self, viewer: Viewer, request: PageRequest) -> Page[Post]:
        """Newest first."""
        return await self.posts.page(viewer.id, request)

    async def generate(self, viewer: Viewer, command: GeneratePost) -> Post:
        """Write a post and enqueue its caption. Wait for nothing."""

        async def write(plan: _PlannedPost, key: IdempotencyKey | None) -> Written[Post] | Conflict:
            assert plan.caption is not None
            post = await self.posts.start(
                viewer.id,
                new_post_id(),
                plan=PostPlan(images=plan.images, caption=plan.caption),
                max_active_outputs=self.accounts.max_active_outputs,
                key=key,
            )
            return _written(post)

        return await self.commands.run(
            viewer, "generatePost", command, plan=self._plan, write=write, answer=self._load_made
        )

    async def plan(
        self, viewer: Viewer, command: GeneratePost
    ) -> tuple[TurnPlan, Sequence[UserError]]:
        """What `generate` would do, and what it would refuse. Nothing is written."""
        plan, found = await self.commands.foresee(viewer, command, plan=self._plan)
        price = plan.caption.credits if plan.caption else 0
        return replace(plan.images, caption_credits=price), found

    async def regenerate_caption(self, viewer: Viewer, command: RegenerateCaption) -> Post:
        """Enqueue the caption as its next attempt, and the outputs that waited for one."""

        async def write(
            plan: _PlannedCaption, key: IdempotencyKey | None
        ) -> Written[Post] | Conflict:
            assert plan.post is not None
            assert plan.caption is not None
            post = await self.posts.rewrite_caption(
                viewer.id,
                plan.post,
                caption=plan.caption,
                outputs=plan.images,
                max_active_outputs=self.accounts.max_active_outputs,
                key=key,
            )
            return _written(post)

        return await self.commands.run(
            viewer,
            "regenerateCaption",
            command,
            plan=self._plan_caption,
            write=write,
            answer=self._load_made,
        )

    async def cancel(self, viewer: Viewer, raw_post_id: str) -> Post:
        """End all that has not ended. What has been delivered is kept."""
        post = await self._find(viewer, raw_post_id)
        if post is None:
            refuse(*_POST_NOT_FOUND)
        return await self.canceller.cancel(viewer, post, post.entries, noun="post")

    async def delete(self, viewer: Viewer, raw_post_id: str) -> PostId:
        """Delete it with those of its images that nothing else uses. What has not ended is
        cancelled.
        """
        post_id = parse_post_id(raw_post_id)
        keys = await self.posts.delete(viewer.id, post_id) if post_id is not None else None
        if post_id is None or keys is None:
            refuse(*_POST_NOT_FOUND)
        await self.image_writer.delete(keys)
        return post_id

    async def _plan(
        self, viewer: Viewer, command: GeneratePost, refusals: Refusals
    ) -> _PlannedPost:
        """The caption and the images. Add all that is wrong to `refusals`."""
        references = await self.images.find_manual_references(
            viewer, command.images.manual_reference_ids, refusals
        )
        images = plan_turn(
            command.images,
            registry=self.registry,
            inherited=_NOTHING_INHERITED,
            references=references,
            previous_were_named=False,
            refusals=refusals,
        )
        caption = plan_caption(
            command.caption_model,
            command.caption_options,
            registry=self.caption_models,
            reference_prompts=await self._find_prompts_of(viewer, references or ()),
            refusals=refusals,
        )
        return _PlannedPost(images, caption)

    async def _find_prompts_of(self, viewer: Viewer, references: Sequence[Reference]) -> list[str]:
        """From which the references were made, each once, as far as that is known."""
        if not references:
            return []
        ids = [reference.image.id for reference in references]
        records = await self.images.get_many(viewer, ids)
        prompts = (records[image_id].prompt for image_id in ids if image_id in records)
        return list(
            dict.fromkeys(
                shorten(prompt, _MAX_REFERENCE_PROMPT_LENGTH) for prompt in prompts if prompt
            )
        )

    async def _plan_caption(
        self, viewer: Viewer, command: RegenerateCaption, refusals: Refusals
    ) -> _PlannedCaption:
        post = await self._find(viewer, command.post_id)
        if post is None:
            refusals.add(*_POST_NOT_FOUND)
            return _PlannedCaption(None, None, {})
        if post.caption_output.unfinished:
            message = "The caption is being written. Cancel the post, or wait."
            refusals.add(UserErrorCode.NOT_RETRYABLE, message, "postId")
        caption = plan_caption(
            self._choose_writer(post, command.caption_model, refusals),
            command.caption_options or post.caption_options,
            registry=self.caption_models,
            reference_prompts=post.reference_prompts,
            refusals=refusals,
        )
        return _PlannedCaption(post, caption, self._plan_images(post))

    def _choose_writer(self, post: Post, name: str | None, refusals: Refusals) -> str | None:
        """The name of the model that is to write: the given one, else that which wrote before or
        what may take its place.
        """
        if name is not None:
            return name
        heir = self.caption_models.heir(post.caption_model_id)
        if heir is not None:
            return heir.id
        before = self.caption_models.remembered(post.caption_model_id)
        message = f"{before.label} is not available any more. Select another caption model."
        refusals.add(UserErrorCode.MODEL_UNAVAILABLE, message, "captionModel")
        return None

    def _plan_images(self, post: Post) -> dict[int, PlannedOutput]:
        """Outputs that were cancelled because there was no caption, as far as they can run now."""
        planned: dict[int, PlannedOutput] = {}
        for output in post.uncaptioned:
            unable = Refusals()
            retry = plan_retry(post, output, None, registry=self.registry, refusals=unable)
            if retry is not None and not unable.found:
                planned[output.slot] = retry
        return planned

    async def _find(self, viewer: Viewer, raw_post_id: str) -> Post | None:
        post_id = parse_post_id(raw_post_id)
        found = await self.posts.get_many(viewer.id, [post_id]) if post_id is not None else {}
        return found.get(post_id) if post_id is not None else None

    async def _load_made(self, viewer: Viewer, record: IdempotencyRecord) -> Post:
        """What was stored under a key, as it is now. Raise Refused where that has been deleted."""
        post_id = as_post_id(record.parent_id)
        assert post_id is not None
        post = (await self.posts.get_many(viewer.id, [post_id])).get(post_id)
        if post is None:
            refuse_deleted_result()
        return post


def _written(post: Post | Conflict) -> Written[Post] | Conflict:
    return post if isinstance(post, Conflict) else Written(post, queued=[post.caption_output])
