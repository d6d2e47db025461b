"""Room for operations: who waits, who is next, and what is given back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import pytest

from edge.operation_room import ClientLeft, OperationRoom

LONG: Final = 60.0


@asynccontextmanager
async def an_operation(room: OperationRoom, client: str) -> AsyncIterator[None]:
    await room.enter(client, ends_at=asyncio.get_running_loop().time() + LONG)
    try:
        yield
    finally:
        room.leave(client)


class Clients:
    """Operations of clients, each of which runs until it is ended."""

    def __init__(self, room: OperationRoom) -> None:
        self._room = room
        self._ending: dict[str, list[asyncio.Event]] = {}
        self.begun: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def ask(self, *clients: str) -> None:
        for client in clients:
            self.tasks.append(asyncio.create_task(self._run(client)))
            await _settle()

    async def end_one_of(self, client: str) -> None:
        self._ending[client].pop().set()
        await _settle()

    async def _run(self, client: str) -> None:
        async with an_operation(self._room, client):
            self.begun.append(client)
            ends = asyncio.Event()
            self._ending.setdefault(client, []).append(ends)
            await ends.wait()


ClientsOf: TypeAlias = Callable[[OperationRoom], Clients]


@pytest.fixture
async def clients_of() -> AsyncIterator[ClientsOf]:
    """Make clients of a room. What still waits or runs when the test ends is cancelled."""
    made: list[Clients] = []

    def make(room: OperationRoom) -> Clients:
        made.append(Clients(room))
        return made[-1]

    yield make
    tasks = [task for clients in made for task in clients.tasks]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_runs_few_goes_before_who_runs_many(clients_of: ClientsOf) -> None:
    clients = clients_of(OperationRoom(of_client=4, in_all=4))
    await clients.ask("ana", "ana", "ana", "ana", "ana", "ana", "bob", "bob", "cy")
    assert clients.begun == ["ana"] * 4

    for _ in range(4):
        await clients.end_one_of("ana")

    # Each has one before bob has a second, and both of the last are level.
    assert clients.begun[4:] == ["bob", "cy", "bob", "ana"]


async def test_a_client_at_its_limit_leaves_room_to_others(clients_of: ClientsOf) -> None:
    clients = clients_of(OperationRoom(of_client=1, in_all=3))

    await clients.ask("ana", "ana", "bob")
    assert clients.begun == ["ana", "bob"]

    await clients.end_one_of("bob")
    assert clients.begun == ["ana", "bob"]

    await clients.end_one_of("ana")
    assert clients.begun == ["ana", "bob", "ana"]


async def test_who_waits_too_long_or_is_cancelled_takes_no_room(clients_of: ClientsOf) -> None:
    room = OperationRoom(of_client=2, in_all=1)
    clients = clients_of(room)
    await clients.ask("ana", "bob", "ana")

    with pytest.raises(TimeoutError):
        await room.enter("cy", ends_at=asyncio.get_running_loop().time())
    clients.tasks[1].cancel()
    await clients.end_one_of("ana")

    assert clients.begun == ["ana", "ana"]
    await clients.end_one_of("ana")
    async with an_operation(room, "bob"):
        assert room.is_full
    assert not room._running
    assert not room._waiting
    assert not room._next


async def test_one_that_is_cancelled_as_it_gets_room_gives_it_back(clients_of: ClientsOf) -> None:
    room = OperationRoom(of_client=2, in_all=1)
    clients = clients_of(room)
    await clients.ask("ana", "bob", "cy")

    room_of_ana = clients._ending["ana"].pop()
    room_of_ana.set()
    await asyncio.sleep(0)  # Ana has left, and bob has not noticed yet.
    clients.tasks[1].cancel()
    await _settle()

    assert clients.begun == ["ana", "cy"]


async def test_one_whose_client_leaves_waits_no_more(clients_of: ClientsOf) -> None:
    room, left = OperationRoom(of_client=2, in_all=1), asyncio.Event()
    clients = clients_of(room)
    await clients.ask("ana")
    waiting = asyncio.create_task(_wait_for_room(room, left))
    await _settle()
    await clients.ask("bob")

    left.set()
    with pytest.raises(ClientLeft):
        await waiting

    await clients.end_one_of("ana")
    await clients.end_one_of("bob")
    assert not room.is_full
    assert not room._waiting
    assert not room._next


async def test_one_whose_client_leaves_as_it_gets_room_gives_it_back(clients_of: ClientsOf) -> None:
    room, left = OperationRoom(of_client=2, in_all=1), asyncio.Event()
    clients = clients_of(room)
    await clients.ask("ana")
    waiting = asyncio.create_task(_wait_for_room(room, left))
    await _settle()

    left.set()
    await clients.end_one_of("ana")

    with pytest.raises(ClientLeft):
        await waiting
    assert not room.is_full
    assert not room._running


async def _wait_for_room(room: OperationRoom, left: asyncio.Event) -> None:
    async def wait_until_left() -> None:
        await left.wait()

    ends_at = asyncio.get_running_loop().time() + LONG
    await room.enter("cy", ends_at=ends_at, wait_until_left=wait_until_left)


async def test_one_that_steps_aside_makes_room_and_is_still_its_clients(
    clients_of: ClientsOf,
) -> None:
    room = OperationRoom(of_client=1, in_all=1)
    clients = clients_of(room)

    async with an_operation(room, "ana"):
        await clients.ask("bob", "ana")
        with room.stepping_aside():
            await _settle()
            assert clients.begun == ["bob"]
            await clients.end_one_of("bob")
            assert clients.begun == ["bob"]
    await _settle()
    assert clients.begun == ["bob", "ana"]
    await clients.end_one_of("ana")
    assert not room.is_full


async def test_only_so_many_operations_step_aside() -> None:
    room, begun, end = OperationRoom(of_client=9, in_all=1), list[int](), asyncio.Event()

    async def step_aside(number: int) -> None:
        async with an_operation(room, f"client {number}"):
            begun.append(number)
            with room.stepping_aside():
                await end.wait()

    tasks = [asyncio.create_task(step_aside(number)) for number in range(20)]
    await _settle()
    assert begun == [*range(11)]

    end.set()
    await asyncio.wait_for(asyncio.gather(*tasks), LONG)
    assert begun == [*range(20)]
    assert not room.is_full


async def test_a_client_has_as_many_that_wait_as_it_may_run(clients_of: ClientsOf) -> None:
    room = OperationRoom(of_client=2, in_all=1)
    clients = clients_of(room)

    await clients.ask("ana", "bob")
    assert not room.is_full_of("bob")
    await clients.ask("bob")
    assert room.is_full_of("bob")

    await clients.end_one_of("ana")
    await clients.end_one_of("bob")
    await clients.end_one_of("bob")
    assert not room.is_full_of("bob")
