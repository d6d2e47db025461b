"""Viewers who never stop: they start, edit, retry, cancel, delete, and request too much."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from domain.ids import ConversationId, TurnId, ViewerId, conversation_of_turn
from tests.clients import Data
from tests.resilience.evidence import SentMutation, SubscriberLog
from tests.resilience.followers import Follower, is_over
from tests.resilience.mutation_sender import MutationSender, Router
from tests.resilience.operators import Operator
from tests.resilience.orders import a_post_order, an_order
from tests.resilience.scale import THOROUGH

SUBSCRIBERS_EACH: Final = 2
MOST_CONVERSATIONS_EACH: Final = 4
GRANT: Final = 60
_TWINS: Final = (1, 1, 1, 1, 2, 3, 8, 16) if THOROUGH else (1, 1, 1, 1, 2, 3)
"""How many equal requests are sent at the same time."""
_DEEDS: Final = {
    "start": 20,
    "edit": 40,
    "retry": 14,
    "cancel_output": 7,
    "cancel_turn": 5,
    "delete": 5,
    "misuse_a_key": 4,
    "be_stingy": 3,
    "post": 12,
    "rewrite": 6,
    "retry_of_post": 6,
    "cancel_output_of_post": 3,
    "cancel_post": 3,
    "delete_post": 2,
}
_POST_DEEDS: Final = (
    *("post", "rewrite", "retry_of_post", "cancel_output_of_post", "cancel_post", "delete_post"),
)


@dataclass(slots=True)
class _Own:
    """A conversation as its viewer knows it."""

    id: ConversationId
    latest_turn_id: str


@dataclass(slots=True)
class Viewer:
    name: str
    choice: random.Random
    conversations: list[_Own] = field(default_factory=list)
    posts: list[str] = field(default_factory=list)
    keys: int = 0
    broke: int = 0
    """How often in a row there were too few credits."""


class Load:
    """Several active viewers. `randomness` decides what they do, the machine when."""

    def __init__(
        self,
        sender: MutationSender,
        *,
        route: Router,
        token: Callable[[str], str],
        randomness: random.Random,
        operator: Operator | None = None,
        viewer_id: Callable[[str], ViewerId] | None = None,
        fal: bool = False,
        keys: bool = True,
        most_followed: int = 20,
        pauses_seconds: tuple[float, float] = (0.2, 0.9),
    ) -> None:
        self.sender = sender
        self.subscribers: list[SubscriberLog] = []
        self.followers: list[Follower] = []
        self._route = route
        self._token = token
        self._randomness = randomness
        self._operator = operator
        self._viewer_id = viewer_id
        self._fal = fal
        self._keys = keys
        self._most_followed = most_followed
        self._pauses_seconds = pauses_seconds
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count()

    @property
    def acknowledged(self) -> list[SentMutation]:
        return [asked for asked in self.sender.asked if asked.acknowledged]

    @asynccontextmanager
    async def working(self, viewers: int) -> AsyncIterator[None]:
        """Viewers work inside the block; what they follow is followed on until `close`."""
        tasks = [asyncio.create_task(self._work(self.viewer(name))) for name in self.names(viewers)]
        try:
            yield
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            await end(tasks)

    async def close(self) -> None:
        await end(self._tasks)

    @staticmethod
    def names(viewers: int) -> list[str]:
        return [f"viewer {number}" for number in range(viewers)]

    def viewer(self, name: str) -> Viewer:
        """A viewer who does only what the test requests."""
        return Viewer(name, random.Random(self._randomness.random()))

    async def start(self, viewer: Viewer, **input: Any) -> SentMutation | None:
        """Start a conversation, and follow it if not too many are followed already."""
        asked = await self._ask(viewer, "startConversation", input)
        if asked is None or not asked.acknowledged:
            return asked
        turn_id = asked.result["turn"]["id"]
        conversation_id = conversation_of_turn(turn_id)
        if all(own.id != conversation_id for own in viewer.conversations):
            viewer.conversations.append(_Own(conversation_id, turn_id))
        if self._may_follow("conv_"):
            # One with a cursor of the beginning, and one without.
            self._follow(viewer, conversation_id, asked.result["cursor"])
            self._follow(viewer, conversation_id, None)
        return asked

    async def post(self, viewer: Viewer, **input: Any) -> SentMutation | None:
        """Generate a post, and follow it if not too many are followed already."""
        asked = await self._ask(viewer, "generatePost", input)
        if asked is None or not asked.acknowledged:
            return asked
        post_id = asked.result["post"]["id"]
        viewer.posts.append(post_id)
        if self._may_follow("post_"):
            for _ in range(SUBSCRIBERS_EACH):
                self._follow(viewer, post_id, None)
        return asked

    async def edit(self, viewer: Viewer, own: _Own, **input: Any) -> SentMutation | None:
        wanted = {"conversationId": own.id, **input}
        asked = await self._ask(viewer, "sendEdit", wanted)
        if asked is not None and asked.acknowledged:
            own.latest_turn_id = asked.result["turn"]["id"]
        return asked

    async def retry(self, viewer: Viewer, output: Data) -> SentMutation | None:
        return await self._ask(viewer, "retryOutput", {"outputId": output["id"]})

    async def cancel_output(self, viewer: Viewer, output: Data) -> SentMutation:
        return await self.sender.once(viewer.name, "cancelOutput", {"outputId": output["id"]})

    async def cancel_turn(self, viewer: Viewer, turn_id: str) -> SentMutation:
        return await self.sender.once(viewer.name, "cancelTurn", {"turnId": turn_id})

    async def delete(self, viewer: Viewer, own: _Own) -> SentMutation:
        viewer.conversations.remove(own)
        return await self.sender.once(viewer.name, "deleteConversation", {"conversationId": own.id})

    async def misuse_a_key(self, viewer: Viewer) -> SentMutation | None:
        """Another input under a key that has had an effect."""
        used = [
            asked
            for asked in self.acknowledged
            if asked.viewer == viewer.name and asked.key and "userMessage" in asked.input
        ]
        if not used:
            return None
        one = viewer.choice.choice(used)
        other = {**one.input, "userMessage": f"{one.input['userMessage']}, but another"}
        return await self.sender.once(viewer.name, one.mutation, other)

    async def _work(self, viewer: Viewer) -> None:
        choice = viewer.choice
        while True:
            action = choice.choices(list(_DEEDS), list(_DEEDS.values()))[0]
            await self._do(action, viewer)
            if viewer.broke >= 2 and self._operator and self._viewer_id:
                viewer.broke = 0
                await self._operator.grant(self._viewer_id(viewer.name), GRANT)
            await asyncio.sleep(choice.uniform(*self._pauses_seconds))

    async def _do(self, action: str, viewer: Viewer) -> None:
        choice, order = viewer.choice, self._order(viewer)
        if action == "misuse_a_key":
            await self.misuse_a_key(viewer)
            return
        if action in _POST_DEEDS:
            await self._do_with_post(action, viewer)
            return
        if action == "be_stingy":
            await self.sender.once(viewer.name, "startConversation", {**order, "maxCredits": 1})
            return
        if len(viewer.conversations) > MOST_CONVERSATIONS_EACH:
            # Left alone, not deleted: what is in it has to stay.
            viewer.conversations.pop(0)
        if action == "start" or not viewer.conversations:
            await self.start(viewer, **order)
            return
        own = choice.choice(viewer.conversations)
        if action == "delete":
            await self.delete(viewer, own)
            return
        turn = await self.sender.read(viewer.name, own.latest_turn_id)
        if turn is None:
            return
        if action == "edit" and (is_over(turn) or choice.random() < 0.2):
            await self.edit(viewer, own, **order)
        elif action == "cancel_turn" and not is_over(turn):
            await self.cancel_turn(viewer, turn["id"])
        elif action == "cancel_output":
            await self.cancel_output(viewer, choice.choice(turn["outputs"]))
        else:
            await self._retry_one(viewer, turn)

    async def _retry_one(self, viewer: Viewer, parent: Data) -> None:
        ended = [one for one in parent["outputs"] if one["status"] in ("FAILED", "CANCELLED")]
        if ended:
            await self.retry(viewer, viewer.choice.choice(ended))

    async def _do_with_post(self, action: str, viewer: Viewer) -> None:
        if action == "post" or not viewer.posts:
            order = a_post_order(viewer.choice, next(self._numbers), fal=self._fal)
            await self.post(viewer, **order)
            return
        post_id = viewer.choice.choice(viewer.posts)
        if action == "rewrite":
            await self._ask(viewer, "regenerateCaption", {"postId": post_id})
        elif action == "cancel_post":
            await self.sender.once(viewer.name, "cancelPost", {"postId": post_id})
        elif action == "delete_post":
            viewer.posts.remove(post_id)
            await self.sender.once(viewer.name, "deletePost", {"postId": post_id})
        else:
            post = await self.sender.read(viewer.name, post_id)
            if post is not None and action == "retry_of_post":
                await self._retry_one(viewer, post)
            elif post is not None:
                await self.cancel_output(viewer, viewer.choice.choice(post["outputs"]))

    def _order(self, viewer: Viewer) -> Data:
        return an_order(viewer.choice, next(self._numbers), fal=self._fal)

    async def _ask(self, viewer: Viewer, mutation: str, input: Data) -> SentMutation | None:
        choice = viewer.choice
        if not self._keys:
            # A naive client: it repeats a request without a key.
            asked = await self.sender.keyed(viewer.name, mutation, input, choice=choice)
        elif choice.random() < 0.75:
            viewer.keys += 1
            # Each viewer counts for himself: two viewers' keys are often the same.
            keyed = {**input, "idempotencyKey": f"key {viewer.keys}"}
            asked = await self.sender.keyed(
                viewer.name, mutation, keyed, choice=choice, twins=choice.choice(_TWINS)
            )
        else:
            asked = await self.sender.once(viewer.name, mutation, input)
        if asked is not None and not asked.failure:
            short = "INSUFFICIENT_CREDITS" in asked.refusals
            viewer.broke = viewer.broke + 1 if short else 0
        return asked

    def _may_follow(self, kind: str) -> bool:
        followed = [one for one in self.subscribers if one.followed_id.startswith(kind)]
        return len(followed) < SUBSCRIBERS_EACH * self._most_followed

    def _follow(self, viewer: Viewer, followed_id: str, after: str | None) -> Follower:
        name = f"subscriber {len(self.subscribers)} of {followed_id}"
        is_post = followed_id.startswith("post_")
        log = SubscriberLog(name, followed_id, from_the_beginning=is_post or after is not None)
        follower = Follower(log, route=self._route, token=self._token(viewer.name), after=after)
        self.subscribers.append(log)
        self.followers.append(follower)
        self._tasks.add(asyncio.create_task(follower.follow()))
        return follower


def turn_of(asked: SentMutation | None) -> TurnId:
    """The turn that an acknowledged request made or moved."""
    assert asked is not None, "nobody answered"
    assert asked.acknowledged, asked
    return TurnId(asked.result["turn"]["id"])


async def end(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel them until they have ended: one in the middle of connecting may not notice at once."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=1)
    for task in tasks:
        if not task.cancelled():
            task.result()
