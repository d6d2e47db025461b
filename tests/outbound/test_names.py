"""Names that viewers or providers choose are resolved in threads of their own."""

import asyncio
import socket
from collections.abc import Sequence
from threading import Event, stack_size

import pytest

from outbound.names import Names, TooManyLookups
from tests.waits import PATIENCE_SECONDS


class Servers:
    """Those of names that begin with `silent` do not answer until they are released."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.released = Event()

    def look_up(self, host: str, _: int) -> Sequence[str]:
        self.asked.append(host)
        if host.startswith("silent"):
            self.released.wait(PATIENCE_SECONDS)
        if host.startswith("unknown"):
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [f"192.0.2.{len(self.asked)}"]


async def test_the_systems_resolver_is_asked() -> None:
    assert "127.0.0.1" in await Names().resolve("localhost", 80)
    assert await Names().resolve("192.0.2.1", 80) == ["192.0.2.1"]
    with pytest.raises(UnicodeError):
        await Names().resolve("x" * 64 + ".example.com", 80)


async def test_names_that_are_not_answered_delay_no_others() -> None:
    """Neither other names here, nor what the process resolves and does in asyncio's threads."""
    servers = Servers()
    names = Names(look_up=servers.look_up, max_lookups=50)
    waiting = [asyncio.create_task(names.resolve(f"silent-{number}", 443)) for number in range(49)]
    loop = asyncio.get_running_loop()

    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await names.resolve("other", 443)
        assert await loop.getaddrinfo("localhost", 80)
        await asyncio.to_thread(lambda: None)
    assert not any(task.done() for task in waiting)

    servers.released.set()
    assert len(await asyncio.gather(*waiting)) == 49


async def test_a_name_is_looked_up_once_for_all_who_ask_meanwhile() -> None:
    servers = Servers()
    names = Names(look_up=servers.look_up, max_lookups=1)
    first, second = (asyncio.create_task(names.resolve("silent", 443)) for _ in range(2))
    await asyncio.sleep(0)

    with pytest.raises(TooManyLookups):
        await names.resolve("other", 443)
    first.cancel()
    servers.released.set()

    assert await second == ["192.0.2.1"]
    assert first.cancelled() or first.done()
    # Nothing is kept.
    assert await names.resolve("silent", 443) == ["192.0.2.2"]
    assert servers.asked == ["silent", "silent"]


async def test_a_lookup_that_fails_is_reported_and_takes_no_place() -> None:
    names = Names(look_up=Servers().look_up, max_lookups=1)

    for _ in range(3):
        with pytest.raises(socket.gaierror):
            await names.resolve("unknown", 443)
    assert await names.resolve("other", 443)


async def test_a_lookup_that_gets_no_thread_fails_and_takes_no_place() -> None:
    names = Names(look_up=Servers().look_up, max_lookups=1)
    usual = stack_size(2**46)  # more memory than there is
    try:
        with pytest.raises(TooManyLookups):
            await names.resolve("other", 443)
    finally:
        stack_size(usual)
    assert await names.resolve("other", 443)
