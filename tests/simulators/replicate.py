"""A simulated Replicate: its predictions over real HTTP, with a script and a bill.

`python -m tests.simulators.replicate --port N --bill FILE` serves it on loopback; see
`simulator.py`. Of its own it has the words `shape`, `state` and `removed`.
"""

import asyncio
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from math import isfinite
from secrets import choice
from typing import Any, ClassVar, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from tests.simulators.answers import json, retry_after
from tests.simulators.bill import Entry
from tests.simulators.jobs import Job, JobSpec
from tests.simulators.replicate_models import (
    MODELS,
    VERSIONS,
    faults_of,
    format_of,
    gives_one_link,
    ratio_of,
)
from tests.simulators.script import Script
from tests.simulators.simulator import Simulator, run_as_program

KEY: Final = "r8_simulator_secret"
FAILURES: Final[Mapping[str, str]] = {
    "sensitive": "The input or output was flagged as sensitive. Please try again. (E005)",
    "code": "The request could not be served. (E005)",
    "nsfw": "NSFW content detected. Try running it again, or try a different prompt.",
    "policy": "The request was refused by the content policy of the model's maker.",
    "unknown": "Prediction failed for an unknown reason. (E1000)",
    "memory": "Out of memory. (E1001)",
    "words": "Something went wrong.",
    "nothing": "",
}
"""What `error` says; it goes on with the prompt, as models do that repeat it."""
_WAIT: Final = re.compile(r"wait(?:=([1-9]|[1-5][0-9]|60))?")
_CANCEL_AFTER: Final = re.compile(r"([0-9]+)([smh])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600}
_STATES: Final = {"IN_QUEUE": "starting", "IN_PROGRESS": "processing"}
_ENDS: Final = {"delivered": "succeeded", "cancelled": "canceled", "expired": "aborted"}
_STEPS: Final = 28
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789"


class ReplicateSimulator(Simulator):
    """One Replicate."""

    provider: ClassVar = "replicate"
    key: ClassVar = KEY
    failures: ClassVar = frozenset(FAILURES)
    references: ClassVar = "image_input"

    def error(self, status: int, script: Script) -> Response:
        headers = retry_after(status, script)
        if status == 429 and not headers:
            words = "Request was throttled. Your rate limit resets in ~2s."
            return json({"detail": words, "status": 429}, 429)
        return _problem(status, f"scripted {status}", headers=headers)

    def job_spec_of(self, entry: Entry) -> JobSpec:
        return JobSpec(
            format=format_of(entry.endpoint, entry.payload),
            ratio=ratio_of(entry.payload),
            count=int(entry.payload.get("num_outputs", 1)),
        )

    def new_id(self) -> str:
        return "".join(choice(_LETTERS) for _ in range(26))

    async def answer(self, request: Request, path: str) -> Response:
        if request.headers.get("authorization") != f"Bearer {self._key}":
            return _problem(401, "You did not pass a valid authentication token")
        match request.method, path.split("/"):
            case "POST", ["v1", "models", owner, name, "predictions"]:
                return await self._create(request, f"{owner}/{name}")
            case "POST", ["v1", "predictions"]:
                return await self._create(request, None)
            case "GET", ["v1", "predictions", job_id] if job_id in self.jobs:
                job = self.jobs[job_id]
                return await self.faulty(request, job, "status") or self._prediction(request, job)
            case "POST", ["v1", "predictions", job_id, "cancel"] if job_id in self.jobs:
                return self._cancel(request, self.jobs[job_id])
        return _problem(404, "The requested resource could not be found.")

    async def _create(self, request: Request, model: str | None) -> Response:
        body = orjson.loads(await request.body())
        if model is None:
            model = _model_of(str(body.get("version")))
            if model is None:
                words = "The specified version does not exist, or is not yours."
                return _problem(422, words, title="Invalid version or not permitted")
        elif model not in MODELS:
            return _problem(404, "The requested resource could not be found.")
        given = body.get("input")
        faults = faults_of(model, given) if isinstance(given, dict) else ["input is required"]
        wait = _WAIT.fullmatch(request.headers.get("prefer", "wait"))
        if faults or wait is None:
            words = "\n".join(f"- input: {fault}" for fault in faults) or "Prefer is not valid"
            return _problem(422, words, title="Input validation failed")
        limit = _CANCEL_AFTER.fullmatch(request.headers.get("cancel-after", "30m"))
        seconds = int(limit[1]) * _UNITS[limit[2]] if limit else 0
        if seconds < 5:
            return _problem(422, "Cancel-After is not valid")
        waited = int(wait[1] or 60) if "prefer" in request.headers else 0

        async def created(job: Job) -> Response:
            await asyncio.sleep(max(0.0, min(waited, job.ends_at - time.time())))
            has_finished = job.state(time.time()) == "COMPLETED"
            return self._prediction(
                request, job, status=202 if waited and not has_finished else 201
            )

        try:
            return await self.submission(request, model, given, created, start_within=seconds)
        except ValueError as error:
            return _problem(422, str(error))

    def _cancel(self, request: Request, job: Job) -> Response:
        now = time.time()
        self.settle(job, now)
        if job.entry.outcome is None and not job.entry.cancelled:
            self.bill.cancel(job.entry, now)
        return self._prediction(request, job)

    def _prediction(self, request: Request, job: Job, *, status: int = 200) -> Response:
        now = time.time()
        self.settle(job, now)
        entry, outcome = job.entry, job.entry.outcome
        root = job.script.urls or str(request.base_url).rstrip("/")
        base = f"{root}/v1/predictions/{entry.request_id}"
        fields: dict[str, Any] = {
            "id": entry.request_id,
            "model": entry.endpoint,
            "version": "hidden",
            "input": entry.payload,
            "logs": _logs(job, now),
            "output": None,
            "data_removed": False,
            "error": None,
            "source": "api",
            "status": job.script.state or _STATES.get(job.state(now), ""),
            "created_at": _instant(entry.received_at),
            "started_at": _instant(min(now, job.starts_at)),
            "urls": {"get": base, "cancel": f"{base}/cancel", "web": base},
        }
        if outcome is not None:
            fields["status"] = _ENDS.get(outcome, "failed")
            fields["completed_at"] = _instant(now)
            fields["metrics"] = {"predict_time": 0.1, "total_time": 0.2}
        if words := FAILURES.get(outcome or "", ""):
            fields["error"] = f"{words} {entry.prompt}"
        if outcome == "delivered":
            fields |= self._output(request, job)
        return json(fields, status)

    def _output(self, request: Request, job: Job) -> dict[str, Any]:
        if job.script.removed:
            return {"data_removed": True, "input": {}, "logs": None}
        links = self.picture_links(request, job)
        usual = "string" if gives_one_link(job.entry.endpoint) else "list"
        match job.script.shape or usual:
            case "string":
                return {"output": links[0] if links else None}
            case "list":
                return {"output": links}
            case "images":
                return {"output": None, "images": [{"url": link} for link in links]}
            case "data":
                return {"output": {"data": [{"image": {"uri": link}} for link in links]}}
            case "text":
                return {"output": "I cannot draw this."}
            case "bare":
                return {"output": [{} for _ in links]}
            case name:
                return {"output": [{name: link, "width": 1} for link in links]}


def _problem(
    status: int, words: str, *, title: str = "", headers: Mapping[str, str] | None = None
) -> Response:
    fields = {"title": title or f"Problem {status}", "detail": words, "status": status}
    return json(fields, status, headers)


def _model_of(version: str) -> str | None:
    """Named as `owner/name:version`, as a version alone, or as an official model."""
    name, _, fields = version.rpartition(":")
    if version in MODELS:
        return version
    known = {text: model for model, text in VERSIONS.items()}.get(fields)
    return known if name in ("", known) else None


def _logs(job: Job, now: float) -> str:
    """A progress bar as tqdm writes it, where the script says how long the job runs."""
    if not job.script.seconds or now < job.starts_at or not isfinite(job.ends_at):
        return ""
    part = min(1.0, (now - job.starts_at) / (job.ends_at - job.starts_at))
    steps = range(int(part * _STEPS) + 1)
    return "\n".join(
        ["Using seed: 1", *(f"{100 * n // _STEPS:3d}%|█▉   | {n}/{_STEPS} [00:01]" for n in steps)]
    )


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


if __name__ == "__main__":
    run_as_program(ReplicateSimulator)
