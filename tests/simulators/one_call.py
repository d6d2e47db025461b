"""What simulators share of providers that answer a request with its pictures.

Beside the provider's own routes there are:

    GET /bill       every run that was ever taken, with what became of it
    POST /script    {"script": …, "endpoint"?: …, "words"?: …, "times"?: …}: what runs do from
                    here on, in the words of `one_call_script.py`
    DELETE /script  forget all of these
"""

import argparse
import asyncio
import signal
import sys
import time
from abc import ABC, abstractmethod
from base64 import b64encode
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tests.simulators.fal_answers import bomb, filling, json, never
from tests.simulators.fal_bill import Bill, Entry
from tests.simulators.fal_script import Rule, fault_at
from tests.simulators.lines import Lines, serving_lines
from tests.simulators.one_call_script import IN_PROMPT, Script, read_script
from tests.simulators.pictures import padded, picture

_SEEN: Final = 5_000
_PIECE_LENGTH: Final = 2**14
_LIMIT_OF_KEPT_STRINGS: Final = 200

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """A request to the provider's own routes."""

    method: str
    path: str
    headers: Mapping[str, str]
    byte_count: int


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for."""

    endpoint: str
    prompt: str
    payload: Fields


class OneCallSimulator(ABC):
    """One provider, with its bill."""

    name: str
    key: str

    def __init__(
        self,
        *,
        bill: Path | None = None,
        seconds_per_run: float = 0.0,
        key: str | None = None,
        lines: Lines | None = None,
    ) -> None:
        self.bill = Bill(bill)
        self.lines = lines or Lines()
        self.seen: deque[Seen] = deque(maxlen=_SEEN)
        self._seconds_per_run = seconds_per_run
        self._key = key or self.key
        self._rules: list[Rule] = []
        self._calls: Counter[str] = Counter()
        self.app = Starlette(
            routes=[
                Route("/bill", self._show_bill),
                Route("/script", self._take_script, methods=["POST", "DELETE"]),
                Route("/{path:path}", self._answer, methods=["GET", "POST"]),
            ]
        )

    @abstractmethod
    def key_in(self, request: Request) -> str: ...

    @abstractmethod
    def failure(self, kind: str, *, prompt: str = "", inside: bool = False) -> Response:
        """One of `failures`; what HTTP calls by a number is called so here too."""

    @property
    @abstractmethod
    def failures(self) -> frozenset[str]: ...

    @abstractmethod
    def asked(self, request: Request, payload: Fields) -> Asked | Response:
        """What a request asks for, or why it is refused."""

    @abstractmethod
    def result(self, asked: Asked, entry: Entry, script: Script) -> Response: ...

    def play(
        self,
        script: str,
        *,
        endpoint: str | None = None,
        words: str | None = None,
        times: int | None = None,
    ) -> None:
        """From here on runs do this; later rules go first, and a prompt's own script before all."""
        self._read(script)
        self._rules.insert(0, Rule(script, endpoint, words, times))

    def picture_of(self, entry: Entry, script: Script, index: object, *, ratio: float) -> str:
        """A picture as base64: a JPEG, unless its length is given."""
        name = f"{entry.request_id} {index}"
        data = picture(name, format="png" if script.bytes else "jpeg", ratio=ratio)
        if script.bytes:
            data = padded(data, script.bytes)
        return "@@@@" if script.garbled else b64encode(data).decode()

    def body(self, value: object, script: Script) -> Response:
        """An answer as JSON, laid out as Google does."""
        text = orjson.dumps(value, option=orjson.OPT_INDENT_2)
        if script.escaped:
            text = text.replace(b"/", b"\\/").replace(b"=", b"\\u003d")
        return StreamingResponse(self._slowly(text, script), media_type="application/json")

    def events(self, values: list[object], script: Script, *, done: bool) -> Response:
        """An answer as a stream, of which the last event is missing where it is left open."""
        told = values[:-1] if script.open else values
        lines = [
            b": PROCESSING\n\n",
            *(b"data: " + orjson.dumps(value) + b"\n\n" for value in told),
        ]
        if done and not script.open:
            lines.append(b"data: [DONE]\n\n")
        return StreamingResponse(
            self._slowly(b"".join(lines), script), media_type="text/event-stream"
        )

    async def _slowly(self, text: bytes, script: Script) -> AsyncIterator[bytes]:
        for piece in _pieces(text):
            yield piece
            if script.slow:
                await asyncio.sleep(script.slow)

    async def _show_bill(self, _: Request) -> Response:
        return json([{**asdict(entry), "payload": None} for entry in self.bill])

    async def _take_script(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._rules.clear()
            return json({})
        asked = orjson.loads(await request.body())
        try:
            self.play(asked.pop("script"), **asked)
        except (KeyError, TypeError, ValueError) as error:
            return json({"detail": str(error)}, 400)
        return json({})

    async def _answer(self, request: Request) -> Response:
        body = await request.body()
        self.seen.append(Seen(request.method, request.url.path, dict(request.headers), len(body)))
        if self.key_in(request) != self._key:
            return self.failure("key" if self.key_in(request) else "no-key")
        try:
            payload = orjson.loads(body)
        except orjson.JSONDecodeError:
            return self.failure("invalid")
        asked = self.asked(request, payload)
        if isinstance(asked, Response):
            return asked
        text = self._script_for(asked)
        try:
            script = self._read(text)
        except ValueError as error:
            return json({"error": str(error)}, 400)
        fault = fault_at(script.answer, self._count(f"{text} {asked.prompt}"))
        if fault and not script.taken:
            return await self._fault(request, fault, script)
        return await self._run(request, asked, script, fault, text)

    async def _run(
        self, request: Request, asked: Asked, script: Script, fault: str, text: str
    ) -> Response:
        entry = Entry(
            request_id=str(uuid4()),
            endpoint=asked.endpoint,
            prompt=asked.prompt,
            received_at=time.time(),
            script=text,
            payload=_shortened(asked.payload),
            start_within=None,
        )
        self.bill.take(entry)
        if script.silent:
            return await never(request)
        await asyncio.sleep(script.delay or self._seconds_per_run)
        went_well = not (script.fail or script.block or script.finish or script.images == 0)
        self.bill.end(entry, "delivered" if went_well else "failed")
        if fault:
            answer = await self._fault(request, fault, script)
        elif script.fail:
            answer = self.failure(script.fail, prompt=asked.prompt, inside=script.inside)
        else:
            answer = self.result(asked, entry, script)
        if script.cut is not None:
            self.lines.of(request).cut_after(script.cut)
        return answer

    def _read(self, text: str) -> Script:
        script = read_script(text)
        if script.fail and script.fail not in self.failures:
            raise ValueError(f"{script.fail} is no way to fail")
        return script

    def _script_for(self, asked: Asked) -> str:
        told = IN_PROMPT.search(asked.prompt)
        if told is not None:
            return told[1]
        applying = (rule.text for rule in self._rules if rule.applies(asked.endpoint, asked.prompt))
        return next(applying, "")

    def _count(self, what: str) -> int:
        """How often this was asked for before."""
        self._calls[what] += 1
        return self._calls[what] - 1

    async def _fault(self, request: Request, fault: str, script: Script) -> Response:
        match fault:
            case "drop":
                self.lines.of(request).cut_after(0)
                return json({})
            case "html":
                return Response("<html><body>Bad gateway</body></html>", media_type="text/html")
            case "empty":
                return Response(b"", media_type="application/json")
            case "nothing":
                return json({})
            case "list":
                return json([])
            case "huge":
                return StreamingResponse(filling(), media_type="application/json")
            case "words":
                return json({"words": "many " * 2**20})
            case "gzip":
                packed = {"content-encoding": "gzip"}
                return StreamingResponse(bomb(), media_type="application/json", headers=packed)
            case "broken":
                return Response(b"no gzip at all", headers={"content-encoding": "gzip"})
        return self._error(fault, script)

    def _error(self, fault: str, script: Script) -> Response:
        status = int(fault[:3])
        if fault.endswith("html") or fault not in self.failures:
            answer = Response(f"<h1>{status}</h1>", status, media_type="text/html")
        else:
            answer = self.failure(fault)
        if script.retry_after and status in (429, 503):
            answer.headers["retry-after"] = script.retry_after
            if script.retry_after.startswith("@"):
                until = datetime.now(UTC) + timedelta(seconds=float(script.retry_after[1:]))
                answer.headers["retry-after"] = format_datetime(until, usegmt=True)
        return answer


def ratio_in(text: str) -> float:
    """Width to height, of `16:9`."""
    width, _, height = text.partition(":")
    return float(width) / float(height) if height else 1.0


def main(simulator: type[OneCallSimulator]) -> None:
    """Serve one on loopback until it is told to stop."""
    parser = argparse.ArgumentParser(description=f"{simulator.name}, to test against, on loopback.")
    parser.add_argument("--port", type=int, default=0, help="0 takes any that is free")
    parser.add_argument("--bill", type=Path, help="the file that keeps what was taken")
    parser.add_argument("--seconds-per-run", type=float, default=0.0)
    parser.add_argument("--key", help="the only key that is let in")
    parser.add_argument("--script", default="", help="what runs do, see one_call_script.py")
    given = parser.parse_args()
    played = simulator(bill=given.bill, seconds_per_run=given.seconds_per_run, key=given.key)
    if given.script:
        played.play(given.script)
    asyncio.run(_serve(played, given.port))


async def _serve(simulator: OneCallSimulator, port: int) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with serving_lines(simulator.app, simulator.lines, port=port) as url:
        sys.stdout.write(f"{simulator.name} is simulated at {url}\n")
        sys.stdout.flush()
        await stopped.wait()
    simulator.bill.close()


def _pieces(text: bytes) -> Iterator[bytes]:
    for start in range(0, len(text), _PIECE_LENGTH):
        yield text[start : start + _PIECE_LENGTH]


def _shortened(value: Any) -> Any:
    """A payload without the rest of its pictures."""
    if isinstance(value, dict):
        return {name: _shortened(kept) for name, kept in value.items()}
    if isinstance(value, list):
        return [_shortened(kept) for kept in value]
    return value[:_LIMIT_OF_KEPT_STRINGS] if isinstance(value, str) else value
