"""A simulated Wavespeed: its predictions over real HTTP, with a script and a bill.

`python -m tests.simulators.wavespeed --port N --bill FILE` serves it on loopback; see
`simulator.py`. Of its own it has the words `shape` and `state`, and faults such as `429in200`:
errors that only the envelope tells of.
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, Final
from uuid import uuid4

import orjson
from starlette.requests import Request
from starlette.responses import Response

from tests.simulators.answers import json, retry_after
from tests.simulators.bill import Entry
from tests.simulators.checks import Check, is_bool, is_words, one_of, whole
from tests.simulators.jobs import Job, JobSpec
from tests.simulators.script import Script
from tests.simulators.simulator import Simulator, run_as_program

KEY: Final = "wavespeed-simulator-secret"
MODELS: Final[Mapping[str, Mapping[str, Check]]] = {
    "google/imagen3": {
        "prompt": is_words,
        "aspect_ratio": one_of("1:1", "16:9", "9:16", "4:3", "3:4"),
        "num_images": whole(1, 4),
        "negative_prompt": is_words,
        "seed": whole(-1, 2**31 - 1),
        "enable_base64_output": is_bool,
        "enable_sync_mode": is_bool,
    }
}
"""Written down again from Wavespeed's page, not from our own code."""
CODES: Final = frozenset({"1200", "1400", "1401", "1402", "1403", "1405", "5000", "5003", "5004"})
WORDS: Final[Mapping[str, str]] = {
    "flagged": "The content was flagged by the provider.",
    "words": "Something went wrong.",
}
"""Failures that have no code."""
STATES: Final = frozenset({"cancelled", "timeout", "deleted"})
_RUNNING: Final = {"IN_QUEUE": "created", "IN_PROGRESS": "processing"}


class WavespeedSimulator(Simulator):
    """One Wavespeed."""

    provider: ClassVar = "wavespeed"
    key: ClassVar = KEY
    failures: ClassVar = CODES | STATES | frozenset(WORDS)
    references: ClassVar = "images"

    def error(self, status: int, script: Script) -> Response:
        return _refused(status, f"scripted {status}", headers=retry_after(status, script))

    def job_spec_of(self, entry: Entry) -> JobSpec:
        width, height = map(int, str(entry.payload.get("aspect_ratio", "1:1")).split(":"))
        return JobSpec(
            format="png", ratio=width / height, count=int(entry.payload.get("num_images", 1))
        )

    def new_id(self) -> str:
        return uuid4().hex

    async def answer(self, request: Request, path: str) -> Response:
        if request.headers.get("authorization") != f"Bearer {self._key}":
            return _refused(401, "Unauthorized")
        match request.method, path.split("/"):
            case "GET", ["api", "v3", "predictions", job_id, *rest] if rest in ([], ["result"]):
                job = self.jobs.get(job_id)
                if job is None:
                    return _refused(404, "Prediction not found")
                return await self.faulty(request, job, "status") or self._prediction(request, job)
            case "POST", ["api", "v3", *model]:
                return await self._create(request, "/".join(model))
        return _refused(404, "Not found")

    async def _create(self, request: Request, model: str) -> Response:
        if model not in MODELS:
            return _refused(404, f"Model {model} not found")
        given = orjson.loads(await request.body())
        checks = MODELS[model]
        faults = [name for name in given if name not in checks or not checks[name](given[name])]
        if faults or "prompt" not in given:
            return _refused(400, f"Invalid: {', '.join(faults) or 'prompt'}", error_code=1401)

        async def created(job: Job) -> Response:
            return self._prediction(request, job, created=True)

        try:
            return await self.submission(request, model, given, created)
        except ValueError as error:
            return _refused(400, str(error))

    async def late_fault(self, request: Request, fault: str, job: Job) -> Response:
        answer = await super().late_fault(request, fault, job)
        if not (job.script.names and fault[:3].isdigit()):
            return answer
        fields = orjson.loads(self._prediction(request, job, created=True).body)
        return json({**fields, "code": int(fault[:3]), "message": "failed"}, answer.status_code)

    def _prediction(self, request: Request, job: Job, *, created: bool = False) -> Response:
        now = time.time()
        self.settle(job, now)
        entry, outcome = job.entry, None if created else job.entry.outcome
        state = "created" if created else _RUNNING.get(job.state(now), "")
        root = job.script.urls or str(request.base_url).rstrip("/")
        link = f"{root}/api/v3/predictions/{entry.request_id}/result"
        data: dict[str, Any] = {
            "id": entry.request_id,
            "model": entry.endpoint,
            "outputs": [],
            "urls": {"get": link},
            "has_nsfw_contents": [],
            "status": job.script.state or state,
            "created_at": datetime.fromtimestamp(entry.received_at, UTC).isoformat(),
            "error": "",
            "timings": {"inference": 0},
        }
        if outcome == "delivered":
            links = self.picture_links(request, job)
            outputs: list[object] = [{"url": link} if job.script.shape else link for link in links]
            if job.script.bare:
                outputs = [{} for _ in links]
            black = [job.is_black(index) for index in range(job.count)]
            data |= {"status": "completed", "outputs": outputs, "has_nsfw_contents": black}
            data["timings"] = {"inference": 2500}
        elif outcome in STATES:
            data["status"] = outcome
        elif outcome is not None:
            words = WORDS.get(outcome, f"Failed with {outcome}.")
            data |= {"status": "failed", "error": f"{words} {entry.prompt}"}
            if outcome in CODES:
                data["code"] = int(outcome)
        return json({"code": 200, "message": "success", "data": data})


def _refused(
    status: int,
    words: str,
    *,
    error_code: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    fields: dict[str, object] = {"code": status, "message": words}
    if error_code is not None:
        fields["error_code"] = error_code
    return json(fields, status, headers)


if __name__ == "__main__":
    run_as_program(WavespeedSimulator)
