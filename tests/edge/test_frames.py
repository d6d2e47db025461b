"""Frames written past ASGI: what clients read, and what happens if one is slow."""

import asyncio
import gc
from contextlib import suppress

import pytest
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import connect
from websockets.datastructures import Headers
from websockets.frames import Frame
from websockets.streams import StreamReader

from edge.frames import Frames, frames_of, text_frame
from tests.serving import free_port, serving
from tests.waits import PATIENCE_SECONDS


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 1_000_000])
def test_a_frame_is_parsed_into_the_message_it_was_made_from(size: int) -> None:
    message = b"x" * size
    reader = StreamReader()
    reader.feed_data(text_frame(message))

    parsing = Frame.parse(reader.read_exact, mask=False, max_size=None)
    with pytest.raises(StopIteration) as parsed:
        next(parsing)

    frame = parsed.value.value
    assert (frame.data, frame.fin, frame.opcode) == (message, True, 1)


class Application:
    """Accepts one WebSocket, and keeps its frames."""

    def __init__(self) -> None:
        self.frames: asyncio.Future[Frames] = asyncio.get_running_loop().create_future()
        self.scope: Scope = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            return
        await receive()
        self.scope = scope
        await send({"type": "websocket.accept"})
        frames = frames_of(scope)
        assert frames is not None
        self.frames.set_result(frames)
        while (await receive())["type"] != "websocket.disconnect":
            await send({"type": "websocket.send", "text": "sent"})


async def test_frames_and_sent_messages_arrive_in_order() -> None:
    application = Application()
    async with serving(application, free_port()) as url, connect(url.replace("http", "ws")) as ws:
        frames = await application.frames
        assert frames.write(text_frame(b"first"))
        await ws.send("anything")
        assert [await ws.recv(), await ws.recv()] == ["first", "sent"]
        assert frames.write(text_frame(b"last"))
        assert await ws.recv() == "last"


async def test_a_full_connection_accepts_nothing_until_it_is_read() -> None:
    application = Application()
    large = text_frame(b"x" * 100_000)
    async with (
        serving(application, free_port()) as url,
        connect(url.replace("http", "ws"), max_queue=1, max_size=None) as ws,
    ):
        frames = await application.frames
        written = 0
        while frames.write(large):
            written += 1
            await asyncio.sleep(0)
        assert not frames.write(large)

        async def read() -> None:
            for _ in range(written):
                await ws.recv()

        reading = asyncio.create_task(read())
        await asyncio.wait_for(frames.ready(), PATIENCE_SECONDS)
        assert frames.write(text_frame(b"last"))
        await asyncio.wait_for(reading, PATIENCE_SECONDS)
        assert await ws.recv() == "last"


async def test_nothing_is_written_to_a_closed_connection() -> None:
    application = Application()
    async with serving(application, free_port()) as url:
        async with connect(url.replace("http", "ws")):
            frames = await application.frames
        async with asyncio.timeout(PATIENCE_SECONDS):
            with suppress(asyncio.CancelledError):
                await frames.ready()
        assert frames.write(text_frame(b"too late"))


async def test_an_accepted_socket_releases_its_headers() -> None:
    application, named = Application(), {"x-mark": "1"}
    async with (
        serving(application, free_port()) as url,
        connect(url.replace("http", "ws"), additional_headers=named) as ws,
    ):
        await application.frames
        held = [one for one in gc.get_objects() if type(one) is Headers and "x-mark" in one]
        assert ws.request is not None
        assert [one is ws.request.headers for one in held] == [True]
        assert application.scope["headers"] == []


async def test_the_parser_does_not_hold_a_message_that_was_read() -> None:
    application, message = Application(), "something long that a client has sent"
    async with serving(application, free_port()) as url, connect(url.replace("http", "ws")) as ws:
        await ws.send(message)
        assert await ws.recv() == "sent"

        frames = [one for one in gc.get_objects() if type(one) is Frame]
        assert frames
        assert message.encode() not in [bytes(one.data) for one in frames]
