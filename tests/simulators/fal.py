"""A simulated fal: its queue's protocol over real HTTP, with a script and a bill.

`python -m tests.simulators.fal --port N --bill FILE` serves it on loopback; see `simulator.py`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from math import ceil, inf
from typing import Any, ClassVar, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tests.simulators.answers import json
from tests.simulators.bill import Entry
from tests.simulators.fal_answers import (
    BILLED_FAILURES,
    FAILURES,
    error,
    failure,
    logs,
    platform_error,
)
from tests.simulators.fal_models import (
    MODELS,
    ONE_IMAGE,
    REPORTS_SEED,
    REPORTS_TEXT,
    faults_of,
    ratio_of,
)
from tests.simulators.jobs import Job, JobSpec
from tests.simulators.script import Script
from tests.simulators.simulator import Simulator, run_as_program, serving

KEY: Final = "simulator-id:simulator-secret"
_STREAM_SECONDS: Final = 0.2


class FalSimulator(Simulator):
    """One fal."""

    provider: ClassVar = "fal"
    key: ClassVar = KEY
    failures: ClassVar = FAILURES
    billed_failures: ClassVar = BILLED_FAILURES
    references: ClassVar = "image_urls"

    def error(self, status: int, script: Script) -> Response:
        return error(status, script)

    def job_spec_of(self, entry: Entry) -> JobSpec:
        default = "jpeg" if "flux" in entry.endpoint else "png"
        return JobSpec(
            format=str(entry.payload.get("output_format", default)),
            ratio=ratio_of(entry.payload),
            count=int(entry.payload.get("num_images", 1)),
            rejected=bool(faults_of(entry.endpoint, entry.payload)),
        )

    async def answer(self, request: Request, path: str) -> Response:
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
                return await self.faulty(request, job, "status") or self._status(request, job, now)
            case "GET", "status/stream":
                return StreamingResponse(self._stream(request, job), media_type="text/event-stream")
            case "GET", "" | "response":
                return await self.faulty(request, job, "result") or self._result(request, job, now)
            case "PUT", "cancel":
                return self._cancel(job, now)
        return json({"detail": "Not Found"}, 404)

    async def _submit(self, request: Request, endpoint: str) -> Response:
        if request.method != "POST":
            return json({"detail": "Method Not Allowed"}, 405)
        if endpoint not in MODELS:
            return json({"detail": f"Application '{endpoint}' not found"}, 404)
        start_within = request.headers.get("x-fal-request-timeout")

        async def queued(job: Job) -> Response:
            fields = {"status": "IN_QUEUE", "queue_position": job.script.position}
            return json(_addresses(request, job, job.script) | fields)

        try:
            return await self.submission(
                request,
                endpoint,
                orjson.loads(await request.body()),
                queued,
                start_within=float(start_within) if start_within else None,
            )
        except (AttributeError, ValueError) as error:
            return json({"detail": str(error), "error_type": "bad_request"}, 400)

    def naming(self, job: Job) -> Mapping[str, str]:
        return {"x-fal-request-id": job.entry.request_id} if job.script.names else {}

    def _status(self, request: Request, job: Job, now: float) -> Response:
        self.settle(job, now)
        fields = self._status_fields(job, now)
        if fields["status"] != "IN_QUEUE":
            asked = request.query_params.get("logs") in ("1", "true")
            fields["logs"] = logs(fields["status"]) if asked else None
        return json(
            _addresses(request, job, job.script) | fields,
            200 if fields["status"] == "COMPLETED" else 202,
        )

    def _status_fields(self, job: Job, now: float) -> dict[str, Any]:
        state = job.state(now)
        fields: dict[str, Any] = {"request_id": job.entry.request_id, "status": state}
        if state == "IN_QUEUE":
            waited = (now - job.entry.received_at) / (job.script.queue or inf)
            fields["queue_position"] = ceil(job.script.position * max(0.0, 1 - waited))
        if state == "COMPLETED":
            fields["metrics"] = {"inference_time": 0.1}
            outcome = job.entry.outcome or job.outcome(now)
            if outcome != "delivered" and not job.script.quiet:
                fields |= {"error": "the request failed", "error_type": outcome}
        return fields

    async def _stream(self, request: Request, job: Job) -> AsyncIterator[bytes]:
        while True:
            fields = self._status_fields(job, time.time())
            yield b"data: " + orjson.dumps(_addresses(request, job, job.script) | fields) + b"\n\n"
            if fields["status"] == "COMPLETED" or await request.is_disconnected():
                return
            await asyncio.sleep(_STREAM_SECONDS)

    def _cancel(self, job: Job, now: float) -> Response:
        self.settle(job, now)
        if job.state(now) == "COMPLETED":
            return json({"status": "ALREADY_COMPLETED"}, 400)
        if not job.entry.cancelled:
            self.bill.cancel(job.entry, now)
        return json({"status": "CANCELLATION_REQUESTED"}, 202)

    def _result(self, request: Request, job: Job, now: float) -> Response:
        if job.state(now) != "COMPLETED":
            return json({"detail": "Request is still in progress"}, 400)
        self.settle(job, now)
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
        images: list[dict[str, Any]] = [
            {} if script.bare else {"url": link} for link in self.picture_links(request, job)
        ]
        fields: dict[str, Any] = (
            {"image": images[0]} if script.one or endpoint in ONE_IMAGE else {"images": images}
        )
        if script.black:
            fields["has_nsfw_concepts"] = [job.is_black(index) for index in range(job.count)]
        if script.seed is not None:
            fields["seed"] = script.seed
        elif endpoint in REPORTS_SEED:
            fields["seed"] = payload.get("seed", 1234)
        if script.text or endpoint in REPORTS_TEXT:
            fields["description"] = script.text
        return fields


def queue_name(endpoint: str) -> str:
    """What fal leaves of an endpoint where it names jobs."""
    owner, alias, *rest = endpoint.split("/")
    if owner in ("workflows", "comfy"):
        alias = f"{alias}/{rest[0]}"
    return f"{owner}/{alias}"


def serving_fal(simulator: FalSimulator, *, port: int = 0) -> AbstractAsyncContextManager[str]:
    """Serve until the block ends; the base URL."""
    return serving(simulator, port=port)


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


if __name__ == "__main__":
    run_as_program(FalSimulator)
