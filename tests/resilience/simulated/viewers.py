"""Viewers: how they send requests, what they do if a response is lost, and what they must receive.

An answer is held against what is true at the moment it is given.
"""

import asyncio
from typing import Any, Final

from domain.errors import ApiError, Refused, UserErrorCode
from domain.ids import ParentId, viewer_id_of
from domain.parents import Parent
from domain.viewers import Viewer
from tests.resilience.simulated.network import brief
from tests.resilience.simulated.nodes import Node
from tests.resilience.simulated.requests import Request, Requests
from tests.resilience.simulated.site import Site
from tests.resilience.simulated.world import Process, Step

_TRIES: Final = 4
_GIVES_UP_SECONDS: Final = 12.0
_PAUSES_SECONDS: Final = (0.0, 0.05, 1.0, 5.0)
_HANGS_UP_SECONDS: Final = (0.05, 0.5, 2.0)
_TWINS: Final = (1, 1, 2, 3)


class Lost(Exception):
    """No answer came."""


class Viewers:
    """All viewers of a history, in a process that never fails."""

    def __init__(self, site: Site, *, viewers: int, requests: int, keyed: float) -> None:
        self.site = site
        self.process = Process.of(site.injector.world, "viewers")
        self.requests = 0
        self._random = site.injector.random
        self._requests = Requests(site, keyed=keyed)
        self._tasks = [
            self.process.begin(
                self._live(Viewer(viewer_id_of("simulated", str(number))), requests),
                name=f"viewer {number}",
            )
            for number in range(viewers)
        ]

    def is_satisfied(self) -> bool:
        return all(task.done() for task in self._tasks)

    def check_the_end(self) -> None:
        """What was acknowledged exists at the end."""
        for request in self._requests.requests:
            for parent_id in request.parent_ids:
                if not self._is_there(parent_id):
                    self._object(f"{request.name} was acknowledged, but {parent_id} is gone")

    async def _live(self, viewer: Viewer, requests: int) -> None:
        under_way: list[asyncio.Task[None]] = []
        for _ in range(requests):
            request = self._requests.make_request(viewer)
            for _ in range(self._random.choice(_TWINS) if request.key else 1):
                under_way.append(asyncio.create_task(self._insist(request, viewer)))
            await self._pause(viewer)
        for task in under_way:
            await task

    async def _pause(self, viewer: Viewer) -> None:
        """For any time, or until something of theirs has ended."""
        await asyncio.sleep(self._random.choice(_PAUSES_SECONDS) * self._random.random())
        if self._random.random() < 0.4:
            running = self._count_running(viewer)
            for _ in range(10):
                if not running or self._count_running(viewer) < running:
                    break
                await asyncio.sleep(self._random.random() * 2.0)

    def _count_running(self, viewer: Viewer) -> int:
        turns = self._requests.turns_of(viewer.id)
        return sum(output.unfinished for turn in turns for output in turn.outputs)

    async def _insist(self, request: Request, viewer: Viewer) -> None:
        """Send a request, and repeat it if there is no response and the key makes that safe."""
        for _ in range(_TRIES if request.key else 1):
            self.requests += 1
            try:
                parent = await self._ask(request, viewer)
            except Refused:
                return
            except (Lost, ApiError):
                await asyncio.sleep(self._random.random() * 2.0)
                continue
            if parent is not None:
                request.parent_ids.add(parent.id)
                if len(request.parent_ids) > 1:
                    self._object(f"{request.name} was answered with {sorted(request.parent_ids)}")
            return

    async def _ask(self, request: Request, viewer: Viewer) -> Parent | None:
        injector = self.site.injector
        nodes = [
            one
            for one in self.site.residents
            if isinstance(one, Node) and one.answers and not one.is_stopping
        ]
        if not nodes:
            await asyncio.sleep(0.5)
            raise Lost
        answer: asyncio.Future[Parent | None] = self.process.create_future()
        node = self._random.choice(nodes)
        injector.world.after(injector.pause(), self._arrive, node, request, viewer, answer)
        return await answer

    def _arrive(
        self, node: Node, request: Request, viewer: Viewer, answer: "asyncio.Future[Parent | None]"
    ) -> None:
        """A request reaches a process, or finds none."""

        def lose() -> None:
            if not answer.done():
                answer.set_exception(Lost())

        if not node.process.is_alive:
            lose()
            return
        node.process.when_it_dies(lose)
        injector = self.site.injector
        task = node.process.begin(self._handle(node, request, viewer, answer), name=request.name)
        injector.world.after(_GIVES_UP_SECONDS, lose)
        if injector.random.random() < injector.fault_rates.answers:
            seconds = injector.random.choice(_HANGS_UP_SECONDS) * injector.random.random()
            injector.world.after(seconds, lose)
            if (
                injector.random.random() < 0.5
            ):  # a client that disconnects has its request cancelled
                injector.world.after(seconds, task.cancel)

    async def _handle(
        self, node: Node, request: Request, viewer: Viewer, answer: "asyncio.Future[Parent | None]"
    ) -> None:
        """In the node's own process: have the services do it, and say what came of it."""
        result: Parent | None = None
        error: Exception | None = None
        try:
            result = await request.work(node)
            self._check_answer(request, result)
        except Refused as refusal:
            error = refusal
            self._check_refusal(request, viewer, refusal)
        except ApiError as problem:
            error = problem
        injector = self.site.injector
        injector.world.note(node.process.name, f"{request.name}: {error or brief(result)}")
        injector.world.after(injector.pause(), _settle, answer, result, error)

    def _check_answer(self, request: Request, parent: Parent | None) -> None:
        """What is acknowledged exists, and is what was requested."""
        if parent is None:
            return
        if not self._is_there(parent.id):
            self._object(f"{request.name} was answered with {parent.id}, which is not there")
        if request.words not in (None, parent.user_message):
            self._object(f"{request.name} was answered with {parent.user_message}")

    def _check_refusal(self, request: Request, viewer: Viewer, refusal: Refused) -> None:
        """Nothing is refused that has been done under this key already."""
        place = viewer.id, request.key or ""
        receipt = self.site.tables.committed.receipts.get(place)
        codes = [error.code for error in refusal.user_errors]
        if receipt is None or not request.made(receipt):
            if receipt is None and UserErrorCode.IDEMPOTENCY_KEY_REUSED in codes:
                self._object(f"{request.name} was refused for a key that has not been used")
            return
        task = asyncio.current_task()
        assert isinstance(task, Step)
        if self.site.tables.receipts_at[place] >= task.acted_at:
            return  # it was refused before it was done
        if codes != [UserErrorCode.NOT_FOUND] or receipt.parent_id in self.site.tables.parents:
            self._object(f"{request.name} was done before, but refused with {codes}")

    def _is_there(self, parent_id: ParentId) -> bool:
        """Or existed until it was deleted."""
        deleted = self.site.invariants.parents_deleted
        return parent_id in self.site.tables.parents or parent_id in deleted

    def _object(self, sentence: str) -> None:
        self.site.invariants.object(sentence)


def _settle(answer: "asyncio.Future[Any]", result: Parent | None, error: Exception | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)
