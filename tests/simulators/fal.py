"""A fal to test against: its queue's protocol over real HTTP, with a script and a bill.

`python -m tests.simulators.fal --port N --bill FILE` serves it on loopback. Beside fal's routes:

    GET /bill       every job that was ever taken, with what became of it
    POST /script    {"script": …, "endpoint"?: …, "words"?: …, "times"?: …}: what jobs do from
                    here on, in the words of `fal_script.py`
    DELETE /script  forget all of these
    GET /files/…    the pictures; they need no key
"""

import argparse
import asyncio
import signal
import sys
import time
from base64 import b64encode
from collections import Counter, deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import ceil, inf
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.simulators.fal_answers import (
    FAILURES,
    NONSENSE,
    bomb,
    error,
    failure,
    filling,
    json,
    logs,
    never,
    platform_error,
)
from tests.simulators.fal_bill import Bill, Entry
from tests.simulators.fal_jobs import Job
from tests.simulators.fal_models import MODELS, ONE_IMAGE, TELLS_SEED, TELLS_TEXT, faults_of
from tests.simulators.fal_script import IN_PROMPT, Rule, Script, fault_at, read_script
from tests.simulators.lines import Lines, serving_lines

KEY: Final = "simulator-id:simulator-secret"
_MAX_KEPT_LINK: Final = 4096
_STREAM_SECONDS: Final = 0.2
_SEEN: Final = 5_000


@dataclass(frozen=True, slots=True)
class Seen:
    """A request to fal's own routes."""

    method: str
    path: str
    headers: Mapping[str, str]


class FalSimulator:
    """One fal, with all its jobs in memory."""

    def __init__(
        self,
        *,
        bill: Path | None = None,
        seconds_per_job: float = 0.0,
        key: str = KEY,
        lines: Lines | None = None,
    ) -> None:
        self.bill = Bill(bill)
        self.lines = lines or Lines()
        self.seen: deque[Seen] = deque(maxlen=_SEEN)
        self.jobs: dict[str, Job] = {}
        self._seconds_per_job = seconds_per_job
        self._key = key
        self._rules: list[Rule] = []
        self._calls: Counter[tuple[str, str]] = Counter()
        for entry in self.bill:
            self._run(entry)
        self.app = Starlette(
            routes=[
                Route("/bill", self._show_bill),
                Route("/script", self._take_script, methods=["POST", "DELETE"]),
                Route("/files/{request_id}/{name}", self._file),
                Route("/{path:path}", self._queue, methods=["GET", "POST", "PUT"]),
            ]
        )

    def play(
        self,
        script: str,
        *,
        endpoint: str | None = None,
        words: str | None = None,
        times: int | None = None,
    ) -> None:
        """From here on jobs do this; later rules go first, and a prompt's own script before all."""
        _read(script)
        self._rules.insert(0, Rule(script, endpoint, words, times))

    def settled(self) -> list[Entry]:
        """The bill as it stands by now."""
        now = time.time()
        for job in self.jobs.values():
            self._settle(job, now)
        return list(self.bill)

    async def _show_bill(self, _: Request) -> Response:
        return json([_told(entry) for entry in self.settled()])

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

    async def _queue(self, request: Request) -> Response:
        path = request.path_params["path"]
        self.seen.append(Seen(request.method, f"/{path}", dict(request.headers)))
        if request.headers.get("authorization") != f"Key {self._key}":
            return json({"detail": "Invalid Key Authorization credentials"}, 401)
        name, is_job, rest = path.partition("/requests/")
        if not is_job:
            return await self._submit(request, name)
        request_id, _, verb = rest.partition("/")
        job = self.jobs.get(request_id)
        if job is None or name != queue_name(job.entry.endpoint):
            return json({"status": "NOT_FOUND"}, 404)
        now = time.time()
        match request.method, verb:
            case "GET", "status":
                return await self._faulty(request, job, "status") or self._status(request, job, now)
            case "GET", "status/stream":
                return StreamingResponse(self._stream(request, job), media_type="text/event-stream")
            case "GET", "" | "response":
                return await self._faulty(request, job, "result") or self._result(request, job, now)
            case "PUT", "cancel":
                return self._cancel(job, now)
        return json({"detail": "Not Found"}, 404)

    async def _submit(self, request: Request, endpoint: str) -> Response:
        if request.method != "POST":
            return json({"detail": "Method Not Allowed"}, 405)
        if endpoint not in MODELS:
            return json({"detail": f"Application '{endpoint}' not found"}, 404)
        try:
            payload = orjson.loads(await request.body())
            text = self._script_for(endpoint, str(payload.get("prompt", "")))
            script = _read(text)
        except (AttributeError, ValueError) as error:
            return json({"detail": str(error), "error_type": "bad_request"}, 400)
        fault = fault_at(script.submit, self._count(endpoint, f"{text} {payload.get('prompt')}"))
        if fault and not script.taken:
            return await self._fault(request, fault, script)
        job = self._take(request, endpoint, payload, text)
        if script.silent:
            return await never(request)
        if script.delay:
            await asyncio.sleep(script.delay)
        if fault:
            answer = await self._fault(request, fault, script)
        else:
            queued = {"status": "IN_QUEUE", "queue_position": script.position}
            answer = json(_addresses(request, job, script) | queued)
        if script.names:
            answer.headers["x-fal-request-id"] = job.entry.request_id
        if script.cut is not None:
            self.lines.of(request).cut_after(script.cut)
        return answer

    def _script_for(self, endpoint: str, prompt: str) -> str:
        told = IN_PROMPT.search(prompt)
        if told is not None:
            return told[1]
        return next((rule.text for rule in self._rules if rule.applies(endpoint, prompt)), "")

    def _take(
        self, request: Request, endpoint: str, payload: Mapping[str, Any], script: str
    ) -> Job:
        start_within = request.headers.get("x-fal-request-timeout")
        entry = Entry(
            request_id=str(uuid4()),
            endpoint=endpoint,
            prompt=str(payload.get("prompt", "")),
            received_at=time.time(),
            script=script,
            payload=_without_pictures(payload),
            start_within=float(start_within) if start_within else None,
        )
        self.bill.take(entry)
        return self._run(entry)

    def _run(self, entry: Entry) -> Job:
        script = _read(entry.script)
        seconds = self._seconds_per_job if script.seconds is None else script.seconds
        starts_at = inf if script.hang == "queue" else entry.received_at + script.queue
        ends_at = inf if script.hang == "running" else starts_at + seconds
        job = Job(entry, script, starts_at, ends_at)
        self.jobs[entry.request_id] = job
        return job

    def _settle(self, job: Job, now: float) -> None:
        if job.entry.outcome is None and job.state(now) == "COMPLETED":
            self.bill.end(job.entry, job.outcome(now))

    def _status(self, request: Request, job: Job, now: float) -> Response:
        self._settle(job, now)
        told = self._status_fields(job, now)
        if told["status"] != "IN_QUEUE":
            asked = request.query_params.get("logs") in ("1", "true")
            told["logs"] = logs(told["status"]) if asked else None
        return json(
            _addresses(request, job, job.script) | told,
            200 if told["status"] == "COMPLETED" else 202,
        )

    def _status_fields(self, job: Job, now: float) -> dict[str, Any]:
        state = job.state(now)
        told: dict[str, Any] = {"request_id": job.entry.request_id, "status": state}
        if state == "IN_QUEUE":
            waited = (now - job.entry.received_at) / (job.script.queue or inf)
            told["queue_position"] = ceil(job.script.position * max(0.0, 1 - waited))
        if state == "COMPLETED":
            told["metrics"] = {"inference_time": 0.1}
            outcome = job.entry.outcome or job.outcome(now)
            if outcome != "delivered" and not job.script.quiet:
                told |= {"error": "the request failed", "error_type": outcome}
        return told

    async def _stream(self, request: Request, job: Job) -> AsyncIterator[bytes]:
        while True:
            told = self._status_fields(job, time.time())
            yield b"data: " + orjson.dumps(_addresses(request, job, job.script) | told) + b"\n\n"
            if told["status"] == "COMPLETED" or await request.is_disconnected():
                return
            await asyncio.sleep(_STREAM_SECONDS)

    def _cancel(self, job: Job, now: float) -> Response:
        self._settle(job, now)
        if job.state(now) == "COMPLETED":
            return json({"status": "ALREADY_COMPLETED"}, 400)
        if not job.entry.cancelled:
            self.bill.cancel(job.entry, now)
        return json({"status": "CANCELLATION_REQUESTED"}, 202)

    def _result(self, request: Request, job: Job, now: float) -> Response:
        if job.state(now) != "COMPLETED":
            return json({"detail": "Request is still in progress"}, 400)
        self._settle(job, now)
        outcome = job.entry.outcome or ""
        if outcome == "delivered":
            return json(self._delivered(request, job))
        if outcome == "rejected":
            return json({"detail": faults_of(job.entry.endpoint, job.entry.payload)}, 422)
        if outcome == "expired":
            return platform_error("request_timeout", {"x-fal-request-timeout-type": "user"})
        if outcome == "cancelled":
            return platform_error("client_cancelled", {})
        return failure(outcome, prompt=job.entry.prompt)

    def _delivered(self, request: Request, job: Job) -> dict[str, Any]:
        script, payload, endpoint = job.script, job.entry.payload, job.entry.endpoint
        count = script.images
        if count is None:
            count = int(payload.get("num_images", 1))
        ending = {"jpeg": "jpg"}.get(job.format, job.format)
        images: list[dict[str, Any]] = []
        for index in range(count):
            link = f"{request.base_url}files/{job.entry.request_id}/{index}.{ending}"
            if script.inside:
                data = b64encode(job.picture(index)).decode()
                link = f"data:image/{job.format};base64,{data}"
            images.append({} if script.bare else {"url": script.link or link})
        told: dict[str, Any] = (
            {"image": images[0]} if script.one or endpoint in ONE_IMAGE else {"images": images}
        )
        if script.black:
            told["has_nsfw_concepts"] = [job.is_black(index) for index in range(count)]
        if script.seed is not None:
            told["seed"] = script.seed
        elif endpoint in TELLS_SEED:
            told["seed"] = payload.get("seed", 1234)
        if script.text or endpoint in TELLS_TEXT:
            told["description"] = script.text
        return told

    async def _faulty(self, request: Request, job: Job, what: str) -> Response | None:
        fault = fault_at(getattr(job.script, what), self._count(job.entry.request_id, what))
        return await self._fault(request, fault, job.script) if fault else None

    def _count(self, whose: str, what: str) -> int:
        """How often this was asked for before."""
        self._calls[whose, what] += 1
        return self._calls[whose, what] - 1

    async def _fault(self, request: Request, fault: str, script: Script) -> Response:
        if fault[:3].isdigit():
            return error(int(fault[:3]), script, html=fault.endswith("html"))
        if fault == "silent":
            return await never(request)
        if fault == "drop":
            self.lines.of(request).cut_after(0)
        if fault == "huge":
            return StreamingResponse(filling(), media_type="application/json")
        if fault == "gzip":
            packed = {"content-encoding": "gzip"}
            return StreamingResponse(bomb(), media_type="application/json", headers=packed)
        if fault == "broken":
            return Response(b"no gzip at all", headers={"content-encoding": "gzip"})
        return NONSENSE.get(fault, NONSENSE["html"])()

    async def _file(self, request: Request) -> Response:
        job = self.jobs.get(request.path_params["request_id"])
        if job is None:
            return json({"detail": "Not Found"}, 404)
        name = request.path_params["name"]
        index = int(name.partition(".")[0])
        hops = int(request.query_params.get("hops", "0"))
        fault = fault_at(job.script.file, self._count(job.entry.request_id, f"file {index}"))
        if fault in ("hop", "hops", "loop") and not (hops >= _HOPS[fault]):
            return RedirectResponse(f"{request.url.path}?hops={hops + 1}")
        if fault == "across":
            return RedirectResponse(f"http://localhost:{request.url.port}{request.url.path}")
        data = job.picture(index)
        if fault == "short":
            return Response(data[: len(data) // 2], media_type=f"image/{job.format}")
        if fault == "drop":
            return StreamingResponse(
                self._broken_off(request, data), headers={"content-length": str(len(data))}
            )
        if fault and fault not in _HOPS:
            return await self._fault(request, fault, job.script)
        return Response(data, media_type=f"image/{job.format}")

    async def _broken_off(self, request: Request, data: bytes) -> AsyncIterator[bytes]:
        yield data[: len(data) // 2]
        self.lines.of(request).close()
        await asyncio.sleep(0.05)


def queue_name(endpoint: str) -> str:
    """What fal leaves of an endpoint where it names jobs."""
    owner, alias, *rest = endpoint.split("/")
    if owner in ("workflows", "comfy"):
        alias = f"{alias}/{rest[0]}"
    return f"{owner}/{alias}"


@asynccontextmanager
async def serving_fal(simulator: FalSimulator, *, port: int = 0) -> AsyncIterator[str]:
    """Serve until the block ends; the base URL."""
    async with serving_lines(simulator.app, simulator.lines, port=port) as url:
        yield url


_HOPS: Final = {"hop": 1, "hops": 3, "loop": 1000}


def _read(text: str) -> Script:
    script = read_script(text)
    if script.fail and script.fail not in FAILURES:
        raise ValueError(f"{script.fail} is no way to fail")
    return script


def _addresses(request: Request, job: Job, script: Script) -> dict[str, Any]:
    request_id, endpoint = job.entry.request_id, job.entry.endpoint
    if script.urls == "none":
        return {"request_id": request_id}
    base = str(request.base_url).rstrip("/")
    if script.urls.startswith("http"):
        base = script.urls
    root = f"{base}/{queue_name(endpoint)}/requests/{request_id}"
    return {
        "request_id": request_id,
        "response_url": f"{root}/response" if script.urls == "full" else root,
        "status_url": f"{root}/status",
        "cancel_url": f"{root}/cancel",
    }


def _told(entry: Entry) -> dict[str, Any]:
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


def _without_pictures(payload: Mapping[str, Any]) -> dict[str, Any]:
    links = payload.get("image_urls")
    if not isinstance(links, list):
        return dict(payload)
    kept = [str(link)[:_MAX_KEPT_LINK] for link in links]
    return {**payload, "image_urls": kept}


async def _serve(simulator: FalSimulator, port: int) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with serving_fal(simulator, port=port) as url:
        sys.stdout.write(f"fal is simulated at {url}\n")
        sys.stdout.flush()
        await stopped.wait()
    simulator.bill.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="A fal to test against, on loopback.")
    parser.add_argument("--port", type=int, default=0, help="0 takes any that is free")
    parser.add_argument("--bill", type=Path, help="the file that keeps what was taken")
    parser.add_argument("--seconds-per-job", type=float, default=0.0)
    parser.add_argument("--key", default=KEY, help="the only key that is let in")
    parser.add_argument("--script", default="", help="what jobs do, see fal_script.py")
    given = parser.parse_args()
    simulator = FalSimulator(bill=given.bill, seconds_per_job=given.seconds_per_job, key=given.key)
    if given.script:
        simulator.play(given.script)
    asyncio.run(_serve(simulator, given.port))


if __name__ == "__main__":
    main()
