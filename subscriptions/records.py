"""Follows one record: as it is, then after each change, until it is deleted."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

from domain.errors import NotFound, Overloaded
from domain.ids import ConversationId, PostId
from subscriptions.hub import Hub, pause_before_reading

Record = TypeVar("Record")


async def follow(
    hub: Hub,
    subject: ConversationId | PostId,
    *,
    read: Callable[[], Awaitable[Record | None]],
    is_changed: Callable[[Record, Record], bool],
) -> AsyncGenerator[Record, None]:
    """Yield the record as it is, then after each change. Ends when it is deleted.

    Raise NotFound where there is none. `is_changed` compares what was yielded last with what is
    read.
    """
    sent: Record | None = None
    with hub.listen(subject) as listener:
        while not listener.ended:
            await listener.wait()
            try:
                found = await read()
            except Overloaded:
                listener.notify()
                await pause_before_reading()
                continue
            if found is None:
                if sent is None:
                    raise NotFound
                return
            if sent is None or is_changed(sent, found):
                sent = found
                yield found
