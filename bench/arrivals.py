"""Many large pictures that arrive at one process at once, and the memory that this takes.

`python -m bench.arrivals PROVIDER URL COUNT` is the process that is measured: it has one provider
and nothing else, asks for so many outputs at the same time, and prints as JSON by how many bytes
its resident memory was at most above what it was before, and how many bytes of pictures it was
given.
"""

import asyncio
import json
import sys
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from bench.sides import our_side, request_of
from domain.generation import SilentObserver
from tests.simulators.pictures import padded, picture

PICTURE_BYTES: Final = 20_000_000
_PIECE_BYTES: Final = 2**16
_CLEAR: Final = Path("/proc/self/clear_refs")


class Together:
    """OpenAI and Gemini, as far as an answer goes: all that are asked for come at the same time."""

    def __init__(self, count: int, *, byte_count: int = PICTURE_BYTES) -> None:
        self._barrier = asyncio.Barrier(count)
        text = b64encode(padded(picture("large"), byte_count)).decode()
        part = {"inlineData": {"mimeType": "image/png", "data": text}}
        candidate = {"content": {"parts": [part]}, "finishReason": "STOP"}
        self._bodies = {
            "v1": json.dumps({"data": [{"b64_json": text}]}).encode(),
            "v1beta": json.dumps({"candidates": [candidate]}).encode(),
        }
        self.app = Starlette(
            routes=[Route("/{version}/{path:path}", self._answer, methods=["POST"])]
        )

    async def _answer(self, request: Request) -> Response:
        await request.body()
        await self._barrier.wait()
        body = self._bodies[request.path_params["version"]]
        return StreamingResponse(_pieces(body), media_type="application/json")


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _PIECE_BYTES):
        yield body[start : start + _PIECE_BYTES]


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024


async def _measure(name: str, url: str, count: int) -> dict[str, int]:
    request = request_of(name)
    async with our_side(name, url) as provider:
        before = _status("VmRSS")
        _CLEAR.write_text("5")  # from here on the peak is counted again
        deliveries = await asyncio.gather(
            *(provider.generate(request, SilentObserver()) for _ in range(count))
        )
        peak = _status("VmHWM") - before
    given = sum(len(image.data) for delivery in deliveries for image in delivery.images)
    return {"peak": peak, "given": given}


if __name__ == "__main__":
    figures = asyncio.run(_measure(sys.argv[1], sys.argv[2], int(sys.argv[3])))
    print(json.dumps(figures))
