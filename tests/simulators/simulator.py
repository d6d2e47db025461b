"""Shared by simulators of providers: a script, a bill, jobs, files, and faults.

A simulator serves its provider's routes, and beside them:

    GET /bill       every job ever accepted, with how it ended
    POST /script    {"script": …, "endpoint"?: …, "words"?: …, "times"?: …}: what jobs do from
                    here on, in the words of `script.py`
    DELETE /script  forget all of these
    GET /files/…    the pictures; they need no key
"""

import argparse
import asyncio
import signal
import sys
import time
from abc import ABC, abstractmethod
from base64 import b64encode
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, ClassVar, Final
from uuid import uuid4

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.simulators.answers import NONSENSE, bomb, filling, html_error, json, never
from tests.simulators.bill import Bill, Entry
from tests.simulators.cut_connections import Connections, serving_connections
from tests.simulators.jobs import Job, JobSpec
from tests.simulators.script import Rule, Script, fault_at, in_prompt, read_script

_MAX_KEPT_LINK: Final = 4096
_SEEN: Final = 5_000
_HOPS: Final = {"hop": 1, "hops": 3, "loop": 1000}


@dataclass(frozen=True, slots=True)
class Seen:
    """A request to the provider's own routes."""

    method: str
    path: str
    headers: Mapping[str, str]


class Simulator(ABC):
    """One provider, with all its jobs in memory."""

    provider: ClassVar[str]
    key: ClassVar[str]
    """The only one that is let in, unless another is given."""
    failures: ClassVar[frozenset[str]]
    """The ways in which a job can fail."""
    billed_failures: ClassVar[frozenset[str]] = frozenset()
    references: ClassVar[str]
    """The field of a payload that has its pictures."""

    def __init__(
        self,
        *,
        bill: Path | None = None,
        seconds_per_job: float = 0.0,
        key: str | None = None,
        connections: Connections | None = None,
    ) -> None:
        self.bill = Bill(bill, billed_failures=self.billed_failures)
        self.connections = connections or Connections()
        self.seen: deque[Seen] = deque(maxlen=_SEEN)
        self.jobs: dict[str, Job] = {}
        self._seconds_per_job = seconds_per_job
        self._key = key or self.key
        self._in_prompt = in_prompt(self.provider)
        self._rules: list[Rule] = []
        self._calls: Counter[tuple[str, str]] = Counter()
        for entry in self.bill:
            self._run(entry)
        self.app = Starlette(
            routes=[
                Route("/bill", self._show_bill),
                Route("/script", self._take_script, methods=["POST", "DELETE"]),
                Route("/files/{request_id}/{name}", self._file),
                Route("/{path:path}", self._asked, methods=["GET", "POST", "PUT"]),
            ]
        )

    @abstractmethod
    async def answer(self, request: Request, path: str) -> Response:
        """Answer a request to one of the provider's own routes."""

    @abstractmethod
    def job_spec_of(self, entry: Entry) -> JobSpec:
        """What a job is requested to do."""

    @abstractmethod
    def error(self, status: int, script: Script) -> Response:
        """An error in the provider's own shape."""

    def play(
        self,
        script: str,
        *,
        endpoint: str | None = None,
        words: str | None = None,
        times: int | None = None,
    ) -> None:
        """From here on jobs do this; later rules go first, and a prompt's own script before all."""
        self.read(script)
        self._rules.insert(0, Rule(script, endpoint, words, times))

    def settled(self) -> list[Entry]:
        """The current bill."""
        now = time.time()
        for job in self.jobs.values():
            self.settle(job, now)
        return list(self.bill)

    def settle(self, job: Job, now: float) -> None:
        if job.entry.outcome is None and job.state(now) == "COMPLETED":
            self.bill.end(job.entry, job.outcome(now))

    def picture_links(self, request: Request, job: Job) -> list[str]:
        """Where the pictures of a job are, or are said to be."""
        links = []
        for index in range(job.count):
            link = f"{request.base_url}files/{job.file_name(index)}"
            if job.script.inside:
                data = b64encode(job.picture(index)).decode()
                link = f"data:image/{job.spec.format};base64,{data}"
            links.append(job.script.link or link)
        return links

    def script_for(self, endpoint: str, prompt: str) -> str:
        match = self._in_prompt.search(prompt)
        if match is not None:
            return match[1]
        return next((rule.text for rule in self._rules if rule.applies(endpoint, prompt)), "")

    def read(self, text: str) -> Script:
        """Raise ValueError where it is no script."""
        script = read_script(text)
        if script.fail and script.fail not in self.failures:
            raise ValueError(f"{script.fail} is no way to fail")
        return script

    async def submission(
        self,
        request: Request,
        endpoint: str,
        payload: Mapping[str, Any],
        answer: Callable[[Job], Awaitable[Response]],
        *,
        start_within: float | None = None,
    ) -> Response:
        """Take a job, and answer by `answer`, unless the job's script says otherwise.

        Raise ValueError where there is no such script.
        """
        prompt = str(payload.get("prompt", ""))
        text = self.script_for(endpoint, prompt)
        script = self.read(text)
        fault = fault_at(script.submit, self.count(endpoint, f"{text} {prompt}"))
        if fault and not script.taken:
            return await self.fault(request, fault, script)
        job = self._take(endpoint, payload, text, start_within)
        if script.silent:
            return await never(request)
        if script.delay:
            await asyncio.sleep(script.delay)
        answered = await (self.late_fault(request, fault, job) if fault else answer(job))
        answered.headers.update(self.naming(job))
        if script.cut is not None:
            self.connections.of(request).cut_after(script.cut)
        return answered

    async def late_fault(self, request: Request, fault: str, job: Job) -> Response:
        """The answer to a submission that was taken nevertheless."""
        return await self.fault(request, fault, job.script)

    def naming(self, _: Job) -> Mapping[str, str]:
        """What the head of an answer to a submission says of the job."""
        return {}

    def new_id(self) -> str:
        return str(uuid4())

    def count(self, whose: str, what: str) -> int:
        """How many times this was requested before."""
        self._calls[whose, what] += 1
        return self._calls[whose, what] - 1

    async def faulty(self, request: Request, job: Job, what: str) -> Response | None:
        """The fault that this call about a job meets, if any."""
        fault = fault_at(getattr(job.script, what), self.count(job.entry.request_id, what))
        return await self.fault(request, fault, job.script) if fault else None

    async def fault(self, request: Request, fault: str, script: Script) -> Response:
        if fault[:3].isdigit():
            answer = self.error(int(fault[:3]), script)
            if fault.endswith("html"):
                return html_error(answer.status_code, {})
            if fault.endswith("in200"):
                answer.status_code = 200
            return answer
        if fault == "silent":
            return await never(request)
        if fault == "drop":
            self.connections.of(request).cut_after(0)
        if fault == "huge":
            return StreamingResponse(filling(), media_type="application/json")
        if fault == "gzip":
            packed = {"content-encoding": "gzip"}
            return StreamingResponse(bomb(), media_type="application/json", headers=packed)
        if fault == "broken":
            return Response(b"no gzip at all", headers={"content-encoding": "gzip"})
        return NONSENSE.get(fault, NONSENSE["html"])()

    async def _asked(self, request: Request) -> Response:
        path = request.path_params["path"]
        self.seen.append(Seen(request.method, f"/{path}", dict(request.headers)))
        return await self.answer(request, path)

    async def _show_bill(self, _: Request) -> Response:
        return json([_bill_line(entry) for entry in self.settled()])

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

    def _take(
        self, endpoint: str, payload: Mapping[str, Any], script: str, start_within: float | None
    ) -> Job:
        entry = Entry(
            request_id=self.new_id(),
            endpoint=endpoint,
            prompt=str(payload.get("prompt", "")),
            received_at=time.time(),
            script=script,
            payload=self._without_pictures(payload),
            start_within=start_within,
        )
        self.bill.take(entry)
        return self._run(entry)

    def _run(self, entry: Entry) -> Job:
        script = self.read(entry.script)
        seconds = self._seconds_per_job if script.seconds is None else script.seconds
        starts_at = inf if script.hang == "queue" else entry.received_at + script.queue
        ends_at = inf if script.hang == "running" else starts_at + seconds
        job = Job(entry, script, self.job_spec_of(entry), starts_at, ends_at)
        self.jobs[entry.request_id] = job
        return job

    def _without_pictures(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        links = payload.get(self.references)
        if not isinstance(links, list):
            return dict(payload)
        return {**payload, self.references: [str(link)[:_MAX_KEPT_LINK] for link in links]}

    async def _file(self, request: Request) -> Response:
        job = self.jobs.get(request.path_params["request_id"])
        if job is None:
            return json({"detail": "Not Found"}, 404)
        name = request.path_params["name"]
        index = int(name.partition(".")[0])
        hops = int(request.query_params.get("hops", "0"))
        fault = fault_at(job.script.file, self.count(job.entry.request_id, f"file {index}"))
        if fault in ("hop", "hops", "loop") and not (hops >= _HOPS[fault]):
            return RedirectResponse(f"{request.url.path}?hops={hops + 1}")
        if fault == "across":
            return RedirectResponse(f"http://localhost:{request.url.port}{request.url.path}")
        data = job.picture(index)
        if fault == "short":
            return Response(data[: len(data) // 2], media_type=f"image/{job.spec.format}")
        if fault == "drop":
            return StreamingResponse(
                self._broken_off(request, data), headers={"content-length": str(len(data))}
            )
        if fault and fault not in _HOPS:
            return await self.fault(request, fault, job.script)
        return Response(data, media_type=f"image/{job.spec.format}")

    async def _broken_off(self, request: Request, data: bytes) -> AsyncIterator[bytes]:
        yield data[: len(data) // 2]
        self.connections.of(request).close()
        await asyncio.sleep(0.05)


@asynccontextmanager
async def serving(simulator: Simulator, *, port: int = 0) -> AsyncIterator[str]:
    """Serve until the block ends; the base URL."""
    async with serving_connections(simulator.app, simulator.connections, port=port) as url:
        yield url


def _bill_line(entry: Entry) -> dict[str, Any]:
    return {
        "request_id": entry.request_id,
        "endpoint": entry.endpoint,
        "prompt": entry.prompt,
        "received_at": entry.received_at,
        "cancelled": entry.cancelled,
        "outcome": entry.outcome,
        "delivered": entry.outcome == "delivered",
        "billed": entry.billed,
    }


async def _serve(simulator: Simulator, port: int) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with serving(simulator, port=port) as url:
        sys.stdout.write(f"{simulator.provider} is simulated at {url}\n")
        sys.stdout.flush()
        await stopped.wait()
    simulator.bill.close()


def run_as_program(kind: type[Simulator]) -> None:
    """Serve a simulator, as the command line says, until it is stopped."""
    parser = argparse.ArgumentParser(description=f"A {kind.provider} to test against, on loopback.")
    parser.add_argument("--port", type=int, default=0, help="0 takes any that is free")
    parser.add_argument("--bill", type=Path, help="the file that keeps what was taken")
    parser.add_argument("--seconds-per-job", type=float, default=0.0)
    parser.add_argument("--key", default=kind.key, help="the only key that is let in")
    parser.add_argument("--script", default="", help="what jobs do, see script.py")
    given = parser.parse_args()
    simulator = kind(bill=given.bill, seconds_per_job=given.seconds_per_job, key=given.key)
    if given.script:
        simulator.play(given.script)
    asyncio.run(_serve(simulator, given.port))
