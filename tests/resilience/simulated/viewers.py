"""Viewers: what they ask for, what they do with answers that are lost, and what they must be told.

An answer is held against what is true at the moment it is given (P4, P5).
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from domain.conversations import StartConversation
from domain.errors import ApiError, Refused, UserErrorCode
from domain.idempotency import Receipt, key_of
from domain.ids import TurnId, ViewerId, conversation_of_turn, viewer_id_of
from domain.outputs import Output, OutputStatus
from domain.turns import RetryOutput, SendEdit, Turn, TurnOptions, TurnRequest
from domain.viewers import Viewer
from tests.resilience.simulated.network import brief
from tests.resilience.simulated.nodes import Node
from tests.resilience.simulated.site import FAMILIES, Site
from tests.resilience.simulated.vendor import AGAIN
from tests.resilience.simulated.world import Process, Step

_TRIES: Final = 4
_GIVES_UP_SECONDS: Final = 12.0
_PAUSES_SECONDS: Final = (0.0, 0.05, 1.0, 5.0)
_MUTATIONS: Final[dict[type, str]] = {
    StartConversation: "startConversation",
    SendEdit: "sendEdit",
    RetryOutput: "retryOutput",
}
_IN_HAND: Final = frozenset({OutputStatus.FAILED, OutputStatus.CANCELLED})


class Lost(Exception):
    """No answer came."""


@dataclass(slots=True)
class Request:
    """What is asked for, once or by several at once, under one key or none."""

    name: str
    command: StartConversation | SendEdit | RetryOutput | None
    work: Callable[[Node], Awaitable[Any]]
    turn_ids: set[TurnId] = field(default_factory=set)
    """What answers have told that came of it."""

    @property
    def key(self) -> str | None:
        return self.command.idempotency_key if self.command else None

    @property
    def words(self) -> str | None:
        """A turn's, where it asks for one."""
        if isinstance(self.command, StartConversation | SendEdit):
            return self.command.turn.user_message
        return None

    def made(self, receipt: Receipt) -> bool:
        assert self.command is not None
        mutation = _MUTATIONS[type(self.command)]
        key = key_of(mutation, self.command.idempotency_key, self.command)
        return key is not None and receipt.is_for(key)


class Crowd:
    """All viewers of a history, in a process that nothing befalls."""

    def __init__(self, site: Site, *, viewers: int, requests: int, keyed: float) -> None:
        self.site = site
        self.process = Process.of(site.sky.world, "viewers")
        self.requests = 0
        self._random = site.sky.random
        self._keyed = keyed
        self._numbers = count(1)
        self._keys: list[Request] = []
        self._deleted: set[str] = set()
        self._tasks = [
            self.process.begin(
                self._want(Viewer(viewer_id_of("simulated", str(number))), requests),
                name=f"viewer {number}",
            )
            for number in range(viewers)
        ]

    def has_what_it_wants(self) -> bool:
        return all(task.done() for task in self._tasks)

    async def _want(self, viewer: Viewer, requests: int) -> None:
        under_way: list[asyncio.Task[None]] = []
        for _ in range(requests):
            request = self._choose(viewer)
            if request is None:
                continue
            twins = self._random.choice((1, 1, 2, 3)) if request.key else 1
            for _ in range(twins):
                under_way.append(asyncio.create_task(self._insist(request, viewer)))
            await self._pause(viewer)
        if under_way:
            await asyncio.wait(under_way)
            for task in under_way:
                task.result()

    async def _pause(self, viewer: Viewer) -> None:
        """For any time, or until something of theirs has ended."""
        await asyncio.sleep(self._random.choice(_PAUSES_SECONDS) * self._random.random())
        if self._random.random() < 0.4:
            ended = self._count_ended(viewer)
            for _ in range(10):
                if self._count_ended(viewer) != ended:
                    break
                await asyncio.sleep(self._random.random() * 2.0)

    def _count_ended(self, viewer: Viewer) -> int:
        turns = self._turns_of(viewer.id)
        return sum(not output.unfinished for turn in turns for output in turn.outputs)

    def _choose(self, viewer: Viewer) -> Request | None:
        turns = self._turns_of(viewer.id)
        outputs = [output for turn in turns for output in turn.outputs]
        wishes: list[Callable[[Viewer], Request | None]] = [self._start] * 2
        if turns:
            wishes += [self._edit] * 3 + [self._cancel_turn, self._delete]
        if any(output.unfinished for output in outputs):
            wishes += [self._cancel] * 2
        if any(output.status in _IN_HAND for output in outputs):
            wishes += [self._retry] * 5
        if self._keys:
            wishes += [self._use_a_key_again]
        return self._random.choice(wishes)(viewer)

    # Requests

    def _start(self, viewer: Viewer) -> Request:
        images = [
            image_id
            for image_id, (owner, _) in self.site.tables.images.items()
            if owner == viewer.id
        ]
        source = self._random.choice(images) if images and self._random.random() < 0.5 else None
        key = self._a_key()
        command = StartConversation(
            self._a_turn(), source_image_id=source, max_credits=None, idempotency_key=key
        )

        async def work(node: Node) -> Turn:
            _, turn = await node.conversations.start(viewer, command)
            return turn

        return self._keep(Request(f"start {command.turn.user_message}", command, work))

    def _edit(self, viewer: Viewer) -> Request:
        turn = self._random.choice(self._turns_of(viewer.id))
        key = self._a_key()
        named = None
        if self._random.random() < 0.3:
            named = tuple(output.id for output in turn.outputs if output.images)
        command = SendEdit(
            turn.conversation_id, self._a_turn(), previous_output_ids=named, idempotency_key=key
        )

        async def work(node: Node) -> Turn:
            sent, _ = await node.turns.send_edit(viewer, command)
            return sent

        return self._keep(Request(f"edit {command.turn.user_message}", command, work))

    def _retry(self, viewer: Viewer) -> Request | None:
        output = self._an_output(viewer, lambda output: output.status in _IN_HAND)
        if output is None:
            return None
        key = self._a_key()
        model_id = None
        if self._random.random() < 0.3:
            model_id = output.model_id.removesuffix(AGAIN)
            model_id += AGAIN if output.model_id == model_id else ""
        command = RetryOutput(output.id, model_id, idempotency_key=key)

        async def work(node: Node) -> Turn:
            turn, retried, _ = await node.turns.retry_output(viewer, command)
            if retried.attempt <= output.attempt:
                self._object(f"{command} was answered with attempt {retried.attempt}")
            return turn

        name = f"retry {output.id} after {output.attempt}"
        return self._keep(Request(name, command, work))

    def _cancel(self, viewer: Viewer) -> Request | None:
        output = self._an_output(viewer, lambda output: output.unfinished)
        if output is None:
            return None

        async def work(node: Node) -> Turn:
            turn, cancelled = await node.turns.cancel_output(viewer, output.id)
            if cancelled.unfinished:
                self._object(f"{output.id} was cancelled, but is {cancelled.status}")
            return turn

        return Request(f"cancel {output.id}", None, work)

    def _cancel_turn(self, viewer: Viewer) -> Request:
        turn = self._random.choice(self._turns_of(viewer.id))

        async def work(node: Node) -> Turn:
            cancelled = await node.turns.cancel_turn(viewer, turn.id)
            if cancelled.in_progress:
                self._object(f"{turn.id} was cancelled, but is {cancelled.status}")
            return cancelled

        return Request(f"cancel {turn.id}", None, work)

    def _delete(self, viewer: Viewer) -> Request:
        conversation_id = self._random.choice(self._turns_of(viewer.id)).conversation_id

        async def work(node: Node) -> None:
            await node.conversations.delete(viewer, conversation_id)
            if conversation_id in self.site.tables.conversations:
                self._object(f"{conversation_id} was deleted, but is there")

        return Request(f"delete {conversation_id}", None, work)

    def _use_a_key_again(self, viewer: Viewer) -> Request:
        """For something else, which must be refused where the key has had its effect."""
        used = self._random.choice(self._keys)
        command = StartConversation(self._a_turn(), idempotency_key=used.key)
        words = command.turn.user_message
        request = Request(f"start {words} by the key of {used.name}", command, _nothing)

        async def work(node: Node) -> Turn:
            receipt = self._receipt(viewer, request)
            _, turn = await node.conversations.start(viewer, command)
            if receipt is not None and not request.made(receipt):
                self._object(f"the key of {used.name} was used again for {turn.id}")
            return turn

        request.work = work
        return request

    def _a_turn(self) -> TurnRequest:
        models = self._random.sample(FAMILIES, self._random.choice((1, 1, 2, 3)))
        return TurnRequest(
            user_message=f"words {next(self._numbers)}",
            selected_models=tuple(models),
            options=TurnOptions(
                images_per_model=self._random.choice((1, 1, 2)),
                previews=self._random.choice((0, 1)),
            ),
        )

    def _a_key(self) -> str | None:
        return f"key {next(self._numbers)}" if self._random.random() < self._keyed else None

    def _keep(self, request: Request) -> Request:
        if request.key is not None:
            self._keys.append(request)
        return request

    # Answers

    async def _insist(self, request: Request, viewer: Viewer) -> None:
        """Ask, and where no answer comes and the key makes it safe, ask again."""
        for _ in range(_TRIES if request.key else 1):
            self.requests += 1
            try:
                answer = await self._ask(request, viewer)
            except Refused:
                return
            except (Lost, ApiError):
                pass
            else:
                self._check_answer(request, answer)
                return
            await asyncio.sleep(self._random.random() * 2.0)

    async def _ask(self, request: Request, viewer: Viewer) -> Any:
        sky = self.site.sky
        nodes = [
            one
            for one in self.site.residents
            if isinstance(one, Node) and one.answers and not one.is_stopping
        ]
        if not nodes:
            await asyncio.sleep(0.5)
            raise Lost
        node = self._random.choice(nodes)
        answer = self.process.create_future()
        sky.world.after(sky.pause(), self._arrive, node, request, viewer, answer)
        return await answer

    def _arrive(
        self, node: Node, request: Request, viewer: Viewer, answer: "asyncio.Future[Any]"
    ) -> None:
        def lose() -> None:
            if not answer.done():
                answer.set_exception(Lost())

        if not node.process.is_alive:
            lose()
            return
        node.process.when_it_dies(lose)
        sky = self.site.sky
        task = node.process.begin(self._handle(node, request, viewer, answer), name=request.name)
        if sky.random.random() < sky.weather.answers:
            seconds = sky.random.choice((0.05, 0.5, 2.0)) * sky.random.random()
            sky.world.after(seconds, lose)
            if sky.random.random() < 0.5:  # whoever hangs up has the request cancelled
                sky.world.after(seconds, task.cancel)
        sky.world.after(_GIVES_UP_SECONDS, lose)

    async def _handle(
        self, node: Node, request: Request, viewer: Viewer, answer: "asyncio.Future[Any]"
    ) -> None:
        """In the node's own process: have the service do it, and say what came of it."""
        result: Any = None
        error: Exception | None = None
        try:
            result = await request.work(node)
            self._check_truth(request, result)
        except Refused as refusal:
            error = refusal
            self._check_refusal(request, viewer, refusal)
        except ApiError as problem:
            error = problem
        self.site.sky.world.note(
            node.process.name, f"{request.name}: {error.args if error else brief(result)}"
        )
        self.site.sky.world.after(self.site.sky.pause(), _settle, answer, result, error)

    def _check_truth(self, request: Request, turn: Turn | None) -> None:
        """What is acknowledged is there (P4), and is what the key has made (P5)."""
        if turn is None:
            return
        if turn.id not in self.site.tables.turns and not self._was_deleted(turn.id):
            self._object(f"{request.name} was answered with {turn.id}, which is not there")
        if request.words not in (None, turn.user_message):
            self._object(f"{request.name} was answered with {turn.user_message}")

    def _check_answer(self, request: Request, turn: Turn | None) -> None:
        if turn is not None:
            request.turn_ids.add(turn.id)
            if len(request.turn_ids) > 1:
                self._object(f"{request.name} was answered with {sorted(request.turn_ids)}")

    def _check_refusal(self, request: Request, viewer: Viewer, refusal: Refused) -> None:
        """Nothing is refused that has been done under this key already (P5)."""
        receipt = self._receipt(viewer, request)
        codes = [error.code for error in refusal.user_errors]
        if receipt is None or not request.made(receipt):
            if receipt is None and UserErrorCode.IDEMPOTENCY_KEY_REUSED in codes:
                self._object(f"{request.name} was refused for a key that has not been used")
            return
        task = asyncio.current_task()
        assert isinstance(task, Step)
        if self.site.tables.receipts_at[viewer.id, request.key or ""] >= task.acted_at:
            return  # it was refused before it was done
        if codes != [UserErrorCode.NOT_FOUND] or not self._was_deleted(receipt.turn_id):
            self._object(f"{request.name} was done before, but refused with {codes}")

    def _receipt(self, viewer: Viewer, request: Request) -> Receipt | None:
        return self.site.tables.receipts.get((viewer.id, request.key or ""))

    def check_the_end(self) -> None:
        """What was acknowledged is there in the end (P4)."""
        for request in self._keys:
            for turn_id in request.turn_ids:
                if turn_id not in self.site.tables.turns and not self._was_deleted(turn_id):
                    self._object(f"{request.name} was acknowledged, but {turn_id} is gone")

    def _was_deleted(self, turn_id: TurnId) -> bool:
        return conversation_of_turn(turn_id) in self.site.invariants.conversations_deleted

    def _object(self, sentence: str) -> None:
        self.site.invariants.object(sentence)

    def _turns_of(self, viewer_id: ViewerId) -> list[Turn]:
        rows = self.site.tables.turns.values()
        return [row.turn for row in rows if row.turn.owner_id == viewer_id]

    def _an_output(self, viewer: Viewer, fits: Callable[[Output], bool]) -> Output | None:
        fitting = [
            output for turn in self._turns_of(viewer.id) for output in turn.outputs if fits(output)
        ]
        return self._random.choice(fitting) if fitting else None


async def _nothing(_: Node) -> None:
    pass


def _settle(answer: "asyncio.Future[Any]", result: Any, error: Exception | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)
