"""What viewers request: starts, edits, retries, cancellations, deletions, under keys of all kinds.

A request knows what its answer must look like; whether it is true is for `viewers` to find out.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Final, TypeAlias

from domain.captions import CaptionOptions
from domain.conversations import StartConversation
from domain.idempotency import IdempotencyRecord, key_of
from domain.ids import ParentId, ViewerId
from domain.outputs import Output
from domain.parents import Parent, TurnOptions
from domain.posts import GeneratePost, Post, RegenerateCaption, as_post
from domain.rules import may_be_retried
from domain.turns import RetryOutput, SendEdit, Turn, TurnRequest, as_turn
from domain.viewers import Viewer
from tests.resilience.simulated.nodes import Node
from tests.resilience.simulated.site import FAMILIES, WRITERS, Site
from tests.resilience.simulated.vendor import AGAIN

Work: TypeAlias = Callable[[Node], Awaitable[Parent | None]]
"""Has the services of a process execute a request."""

_MUTATIONS: Final[dict[type, str]] = {
    StartConversation: "startConversation",
    SendEdit: "sendEdit",
    RetryOutput: "retryOutput",
    GeneratePost: "generatePost",
    RegenerateCaption: "regenerateCaption",
}
_Command: TypeAlias = StartConversation | SendEdit | RetryOutput | GeneratePost | RegenerateCaption


@dataclass(slots=True)
class Request:
    """A request, sent once or several times at once, with one key or none."""

    name: str
    work: Work
    command: _Command | None = None
    parent_ids: set[ParentId] = field(default_factory=set)
    """The effect according to the responses."""

    @property
    def key(self) -> str | None:
        return self.command.idempotency_key if self.command else None

    @property
    def words(self) -> str | None:
        """The message of a turn or a post, if there is one. No other request has the same."""
        if isinstance(self.command, StartConversation | SendEdit | GeneratePost):
            return _words(self.command)
        return None

    def made(self, receipt: IdempotencyRecord) -> bool:
        """Whether a receipt is for this input, and not for another one under its key."""
        if self.command is None:
            return False
        key = key_of(_MUTATIONS[type(self.command)], self.key, self.command)
        return key is not None and receipt.is_for(key)


class Requests:
    """Generates requests that may make sense in the current state, and some that do not."""

    def __init__(self, site: Site, *, keyed: float) -> None:
        self.requests: list[Request] = []
        """All that came under a key."""
        self._site = site
        self._random = site.injector.random
        self._keyed = keyed
        self._numbers = count(1)

    def turns_of(self, viewer_id: ViewerId) -> list[Turn]:
        turns = (as_turn(row.parent) for row in self._site.tables.parents.values())
        return [turn for turn in turns if turn and turn.owner_id == viewer_id]

    def posts_of(self, viewer_id: ViewerId) -> list[Post]:
        posts = (as_post(row.parent) for row in self._site.tables.parents.values())
        return [post for post in posts if post and post.owner_id == viewer_id]

    def make_request(self, viewer: Viewer) -> Request:
        turns, posts = self.turns_of(viewer.id), self.posts_of(viewer.id)
        outputs = [output for parent in (*turns, *posts) for output in parent.outputs]
        running = [output for output in outputs if output.unfinished]
        retryable = [output for output in outputs if may_be_retried(output.status)]
        pick = self._random.choice
        choices: list[Callable[[], Request]] = [lambda: self._start(viewer)] * 2
        choices += [lambda: self._post(viewer)] * 2
        if posts:
            choices += [lambda: self._rewrite(viewer, pick(posts))] * 3
            choices += [lambda: self._cancel_parent(viewer, pick(posts))]
            choices += [lambda: self._delete(viewer, pick(posts))]
        if turns:
            choices += [lambda: self._edit(viewer, pick(turns))] * 3
            choices += [lambda: self._delete(viewer, pick(turns))] * 2
            choices += [lambda: self._cancel_parent(viewer, pick(turns))]
        if running:
            choices += [lambda: self._cancel(viewer, pick(running))] * 2
        if retryable:
            choices += [lambda: self._retry(viewer, pick(retryable))] * 5
        if self.requests:
            choices += [lambda: self._use_a_key_again(viewer, pick(self.requests))]
        return pick(choices)()

    def _start(self, viewer: Viewer) -> Request:
        sources = self._some_images(viewer, most=1)
        command = StartConversation(
            self._a_turn(viewer),
            source_image_id=sources[0] if sources else None,
            idempotency_key=self._a_key(),
        )
        return self._remember(
            Request(f"start {_words(command)}", _starting(viewer, command), command)
        )

    def _post(self, viewer: Viewer) -> Request:
        command = GeneratePost(
            images=self._a_turn(viewer),
            caption_options=CaptionOptions(),
            caption_model=self._random.choice(WRITERS),
            idempotency_key=self._a_key(),
        )

        async def work(node: Node) -> Parent:
            return await node.posts.generate(viewer, command)

        return self._remember(Request(f"post {_words(command)}", work, command))

    def _rewrite(self, viewer: Viewer, post: Post) -> Request:
        command = RegenerateCaption(
            post_id=post.id,
            caption_model=self._random.choice((None, *WRITERS)),
            idempotency_key=self._a_key(),
        )

        async def work(node: Node) -> Parent:
            return await node.posts.regenerate_caption(viewer, command)

        name = f"caption of {post.id} after {post.caption_output.attempt}"
        return self._remember(Request(name, work, command))

    def _edit(self, viewer: Viewer, turn: Turn) -> Request:
        named = None
        if self._random.random() < 0.3:
            named = tuple(output.id for output in turn.outputs if output.images)
        command = SendEdit(
            turn.conversation_id,
            self._a_turn(viewer),
            previous_output_ids=named,
            idempotency_key=self._a_key(),
        )

        async def work(node: Node) -> Turn:
            sent, _ = await node.turns.send_edit(viewer, command)
            return sent

        return self._remember(Request(f"edit {_words(command)}", work, command))

    def _retry(self, viewer: Viewer, output: Output) -> Request:
        model_id = None
        if self._random.random() < 0.3:
            own = output.model_id.removesuffix(AGAIN)
            model_id = own + AGAIN if output.model_id == own else own
        command = RetryOutput(output.id, model_id, idempotency_key=self._a_key())
        name = f"retry {output.id} after {output.attempt}"

        async def work(node: Node) -> Parent:
            parent, retried, _ = await node.outputs.retry(viewer, command)
            if retried.attempt <= output.attempt:
                self._site.invariants.object(f"{name} was answered with {retried.attempt}")
            return parent

        return self._remember(Request(name, work, command))

    def _cancel(self, viewer: Viewer, output: Output) -> Request:
        async def work(node: Node) -> Parent:
            parent, cancelled = await node.outputs.cancel(viewer, output.id)
            if cancelled.unfinished:
                self._site.invariants.object(f"{output.id} was cancelled, but is running")
            return parent

        return Request(f"cancel {output.id}", work)

    def _cancel_parent(self, viewer: Viewer, parent: Turn | Post) -> Request:
        async def work(node: Node) -> Parent:
            cancelled: Turn | Post
            if isinstance(parent, Turn):
                cancelled = await node.turns.cancel_turn(viewer, parent.id)
            else:
                cancelled = await node.posts.cancel(viewer, parent.id)
            if cancelled.in_progress:
                self._site.invariants.object(f"{parent.id} was cancelled, but is running")
            return cancelled

        return Request(f"cancel {parent.id}", work)

    def _delete(self, viewer: Viewer, parent: Turn | Post) -> Request:
        """Delete a post, or the conversation of a turn."""
        deleted = parent.conversation_id if isinstance(parent, Turn) else parent.id

        async def work(node: Node) -> None:
            if isinstance(parent, Turn):
                await node.conversations.delete(viewer, parent.conversation_id)
            else:
                await node.posts.delete(viewer, parent.id)
            committed = self._site.tables.committed
            if deleted in {*committed.conversations, *committed.parents}:
                self._site.invariants.object(f"{deleted} was deleted, but is there")

        return Request(f"delete {deleted}", work)

    def _use_a_key_again(self, viewer: Viewer, used: Request) -> Request:
        """For another request; or by another viewer, for whom it is an unused key."""
        command = StartConversation(self._a_turn(viewer), idempotency_key=used.key)
        name = f"start {_words(command)} by the key of {used.name}"
        request = Request(name, _starting(viewer, command), command)

        async def work(node: Node) -> Turn:
            receipt = self._site.tables.committed.receipts.get((viewer.id, used.key or ""))
            turn = await _starting(viewer, command)(node)
            if receipt is not None and not request.made(receipt):
                self._site.invariants.object(f"{name} was done")
            return turn

        request.work = work
        return request

    def _a_turn(self, viewer: Viewer) -> TurnRequest:
        models = self._random.sample(FAMILIES, self._random.choice((1, 1, 1, 2, 3)))
        return TurnRequest(
            user_message=f"words {next(self._numbers)}",
            selected_models=tuple(models),
            manual_reference_ids=self._some_images(viewer, most=2),
            options=TurnOptions(
                images_per_model=self._random.choice((1, 1, 2)),
                previews=self._random.choice((0, 1)),
            ),
        )

    def _some_images(self, viewer: Viewer, *, most: int) -> tuple[str, ...]:
        images = [
            image_id
            for image_id, (owner_id, _) in self._site.tables.images.items()
            if owner_id == viewer.id
        ]
        if not images or self._random.random() < 0.6:
            return ()
        return tuple(self._random.sample(images, min(most, len(images))))

    def _a_key(self) -> str | None:
        return f"key {next(self._numbers)}" if self._random.random() < self._keyed else None

    def _remember(self, request: Request) -> Request:
        if request.key is not None:
            self.requests.append(request)
        return request


def _starting(viewer: Viewer, command: StartConversation) -> Callable[[Node], Awaitable[Turn]]:
    async def work(node: Node) -> Turn:
        _, turn = await node.conversations.start(viewer, command)
        return turn

    return work


def _words(command: StartConversation | SendEdit | GeneratePost) -> str:
    request = command.images if isinstance(command, GeneratePost) else command.turn
    return request.user_message
