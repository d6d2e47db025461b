"""The synchronisation primitives of connections behave as those of asyncio."""

import asyncio
from contextlib import suppress

from edge.light_waits import Gate, Inbox
from tests.waits import PATIENCE_SECONDS


async def test_an_open_gate_lets_all_waiters_pass() -> None:
    gate = Gate()
    await asyncio.wait_for(gate.wait(), PATIENCE_SECONDS)
    gate.clear()
    gate.clear()  # closed already
    waiting = [asyncio.create_task(gate.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting.pop().cancel()  # a cancelled waiter cancels no other
    await asyncio.sleep(0)
    assert not gate.is_set()
    assert not any(one.done() for one in waiting)
    gate.set()
    gate.clear()  # at once, which is too late for those
    await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE_SECONDS)
    assert not gate.is_set()


async def test_an_inbox_returns_items_in_order_and_loses_none() -> None:
    inbox = Inbox()
    inbox.put_nowait({"number": 0})
    inbox.put_nowait({"number": 1})
    assert [(await inbox.get())["number"] for _ in range(2)] == [0, 1]
    assert inbox.empty()
    reading = asyncio.create_task(inbox.get())
    await asyncio.sleep(0)
    inbox.put_nowait({"number": 2})
    reading.cancel()  # woken and cancelled at the same time
    with suppress(asyncio.CancelledError):
        await reading
    again = asyncio.create_task(inbox.get())
    assert (await asyncio.wait_for(again, PATIENCE_SECONDS))["number"] == 2
