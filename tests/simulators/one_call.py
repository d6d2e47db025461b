"""Shared by simulators of providers that answer a request with its pictures."""

import asyncio
import time
from abc import abstractmethod
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tests.simulators.answers import html_error, retry_after
from tests.simulators.bill import Entry
from tests.simulators.jobs import Job, JobSpec
from tests.simulators.pictures import picture
from tests.simulators.script import Script
from tests.simulators.simulator import Simulator

_PIECE_LENGTH: Final = 2**14
_MAX_KEPT_LENGTH: Final = 200

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """What is requested."""

    endpoint: str
    prompt: str
    ratio: float
    payload: Fields


class OneCallSimulator(Simulator):
    """A provider of which one call is the whole run."""

    references: ClassVar = ""
    errors: ClassVar[frozenset[str]]
    """Those of `failures` that are no results."""
    max_request_bytes: ClassVar[int]

    @abstractmethod
    def key_in(self, request: Request) -> str: ...

    @abstractmethod
    def asked(self, path: str, payload: Fields) -> ParsedRequest | Response:
        """What is requested, or why the request is refused."""

    @abstractmethod
    def failed(self, kind: str, *, prompt: str = "") -> Response:
        """One of `errors`. What HTTP calls by a number is called so here too."""

    @abstractmethod
    def failed_late(self, kind: str, asked: ParsedRequest, job: Job) -> Response:
        """The same inside of a success."""

    @abstractmethod
    def result(self, asked: ParsedRequest, job: Job) -> Response: ...

    def writes(self, _: ParsedRequest) -> bool:
        """Whether it answers in pieces, and takes its time for each."""
        return False

    def job_spec_of(self, entry: Entry) -> JobSpec:
        # A picture can be made longer where it is a PNG.
        made_longer = self.read(entry.script).bytes > 0
        return JobSpec(
            format="png" if made_longer else "jpeg",
            ratio=entry.payload["ratio"],
            count=entry.payload.get("n", 1),
        )

    def error(self, status: int, script: Script) -> Response:
        known = str(status) in self.failures
        answer = self.failed(str(status)) if known else html_error(status, {})
        answer.headers.update(retry_after(status, script))
        return answer

    async def answer(self, request: Request, path: str) -> Response:
        if self.key_in(request) != self._key:
            return self.failed("key" if self.key_in(request) else "no-key")
        body = await request.body()
        if len(body) > self.max_request_bytes:
            return self.failed("413")
        try:
            payload = orjson.loads(body)
        except orjson.JSONDecodeError:
            return self.failed("400")
        asked = self.asked(path, payload)
        if isinstance(asked, Response):
            return asked
        kept = {"prompt": asked.prompt, "ratio": asked.ratio, "sent": shortened(asked.payload)}
        kept |= {name: asked.payload[name] for name in ("n", "stream") if name in asked.payload}

        async def answered(job: Job) -> Response:
            if not self.writes(asked):
                await asyncio.sleep(max(0.0, job.ends_at - time.time()))
                self.settle(job, time.time())
            if job.script.fail not in self.errors:
                return self.result(asked, job)
            if job.script.late:
                return self.failed_late(job.script.fail, asked, job)
            return self.failed(job.script.fail, prompt=asked.prompt)

        return await self.submission(request, asked.endpoint, kept, answered)

    def body(self, value: object, script: Script) -> Response:
        """An answer as JSON, laid out as Google does."""
        text = orjson.dumps(value, option=orjson.OPT_INDENT_2)
        if script.escaped:
            text = text.replace(b"/", b"\\/").replace(b"=", b"\\u003d")
        return StreamingResponse(_pieces(text), media_type="application/json")

    def events(
        self, values: Sequence[object], script: Script, *, start: bytes = b"", end: bytes = b""
    ) -> Response:
        """An answer as a stream, of which the last event is missing where it ends early."""
        sent = values[:-1] if script.early else values
        events = [b"data: " + orjson.dumps(value) + b"\n\n" for value in sent]
        text = b"".join([start, *events, end])
        return StreamingResponse(_pieces(text), media_type="text/event-stream")


def encoded(job: Job, index: int) -> str:
    return "@" * 400 if job.script.garbled else b64encode(job.inline_picture(index)).decode()


def partial(job: Job, index: int) -> str:
    """A picture that is none of the result's."""
    name = f"{job.entry.request_id} partial {index}"
    return b64encode(picture(name, format="jpeg", ratio=job.spec.ratio)).decode()


def ratio_in(text: str) -> float:
    """Width to height, of `16:9`."""
    width, _, height = text.partition(":")
    return float(width) / float(height) if height else 1.0


async def _pieces(text: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(text), _PIECE_LENGTH):
        yield text[start : start + _PIECE_LENGTH]


def shortened(value: Any) -> Any:
    """A payload without most of its pictures."""
    if isinstance(value, dict):
        return {name: shortened(kept) for name, kept in value.items()}
    if isinstance(value, list):
        return [shortened(kept) for kept in value]
    return value[:_MAX_KEPT_LENGTH] if isinstance(value, str) else value
