"""A vendor with a bill, and the providers that use it: one with jobs, one without, one for free,
and two with caption models.

Every job that it takes is a line of the bill, under the request, the model and the attempt it is
for. It may refuse, take a job and lose the answer, never answer, fail, be slow, or never end.
"""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, NamedTuple

from domain.captions import CaptionDelivery, CaptionRequest
from domain.errors import GenerationErrorCode, GenerationFailed, NotSubmitted
from domain.generation import DeliveredImage, Delivery, GenerationRequest
from domain.outputs import ProviderJob, Usage
from domain.ports.providers import CaptionObserver, RunObserver
from tests.resilience.simulated.faults import FaultInjector
from tests.resilience.simulated.world import Dead, Process

AGAIN: Final = "-again"
BROKEN: Final = b"no picture"
_POLL_SECONDS: Final = 1.0
_REFUSES: Final = 0.3
_NEVER: Final = float("inf")


class Bill(NamedTuple):
    """What a job was for: one attempt of one output, since every request has its own words."""

    prompt: str
    model: str
    attempt: int


def bill_of(request: GenerationRequest | CaptionRequest) -> Bill:
    # After the words of a post comes its caption.
    words = request.message if isinstance(request, CaptionRequest) else request.prompt
    return Bill(words.partition("\n")[0], family(request.model.id), request.attempt)


def family(model_id: str) -> str:
    """A model and its stand-in share one: a turn never has both."""
    return model_id.removesuffix(AGAIN)


class Fate(Enum):
    """How a submission can end."""

    REFUSED = auto()
    UNKNOWN = auto()
    """Accepted, with an unknown outcome."""
    CUT = auto()
    """Not accepted, with an unknown outcome."""
    SILENCE = auto()
    """Taken, and never answered."""
    SLOW = auto()
    DIES_BEFORE = auto()
    DIES_MEANWHILE = auto()
    DIES_AFTER = auto()
    FREEZES = auto()


_DEADLY: Final = frozenset({Fate.DIES_BEFORE, Fate.DIES_MEANWHILE, Fate.DIES_AFTER, Fate.FREEZES})
_REFUSALS: Final = (
    (GenerationErrorCode.PROVIDER_UNAVAILABLE, None),
    (GenerationErrorCode.PROVIDER_RATE_LIMITED, 2.0),
    (GenerationErrorCode.PROVIDER_RATE_LIMITED, 600.0),
)
_FAILURES: Final = (
    (GenerationErrorCode.CONTENT_REFUSED, False),
    (GenerationErrorCode.PROVIDER_BAD_RESPONSE, True),
)


@dataclass(slots=True)
class Job:
    id: str
    bill: Bill
    ready_at: float
    images: tuple[bytes, ...]
    failure: tuple[GenerationErrorCode, bool] | None
    started_at: float
    cancelled: bool = False


class Vendor:
    def __init__(self, injector: FaultInjector) -> None:
        self.injector = injector
        self.jobs: dict[str, Job] = {}
        self.bills: Counter[tuple[Bill, int]] = Counter()
        """How often each run of an attempt was submitted."""
        self.fates: deque[Fate] = deque()
        """How the next submissions end, if that is not random."""
        self.uncertain: set[Bill] = set()
        """Something happened while an answer was awaited: OUTCOME_UNKNOWN has a cause."""
        self.when_taken: list[Callable[[Bill], object]] = []
        self.when_cancelled: list[Callable[[Bill], object]] = []
        self._awaited: dict[Process, Counter[Bill]] = defaultdict(Counter)
        injector.hurt.append(self._hurt)

    def take(self, request: GenerationRequest | CaptionRequest, *, billed: bool) -> Job:
        """From here on the job runs, whether or not the response arrives."""
        random, now = self.injector.random, self.injector.world.now
        bill = bill_of(request)
        number = len(self.jobs) + 1
        image_count, run = 1, 0
        if isinstance(request, GenerationRequest):
            image_count, run = request.image_count, request.run
        images = tuple(f"{number} {index} {bill}".encode() for index in range(1, image_count + 1))
        ready_at, failure = now + random.uniform(0.2, 6.0), None
        if random.random() < self.injector.fault_rates.jobs:
            match random.randrange(5):
                case 0:
                    failure = random.choice(_FAILURES)
                case 1:
                    images = (BROKEN, *images[1:])
                case 2:
                    images = ()
                case 3:
                    ready_at = _NEVER
                case _:
                    ready_at = now + random.uniform(5.0, 40.0)
        job = Job(f"job{number}", bill, ready_at, images, failure, now)
        self.jobs[job.id] = job
        if billed:
            self.bills[bill, run] += 1
            self.injector.world.note("vendor", f"takes {job.id} for {bill}")
            for tell in self.when_taken:
                tell(bill)
        return job

    def cancel(self, job_id: str) -> None:
        job = self.jobs[job_id]
        self.injector.world.note("vendor", f"cancels {job.id} for {job.bill}")
        for tell in self.when_cancelled:
            tell(job.bill)
        if job.ready_at > self.injector.world.now:
            job.cancelled = True

    def await_answer(self, process: Process, bill: Bill) -> None:
        self._awaited[process][bill] += 1
        if self.injector.world.now - process.thawed_at < self.injector.lease_seconds:
            # It may have been frozen for longer than its lease, and has had no time to notice.
            self.uncertain.add(bill)

    def know_answer(self, process: Process, bill: Bill) -> None:
        self._awaited[process][bill] -= 1

    def _hurt(self, process: Process) -> None:
        self.uncertain |= set(+self._awaited[process])


class _Provider:
    """What the three have in common: the way to the vendor."""

    name = ""

    def __init__(self, process: Process, vendor: Vendor, max_concurrent_runs: int) -> None:
        self._process = process
        self._vendor = vendor
        self._injector = vendor.injector
        self._max_concurrent_runs = max_concurrent_runs

    @property
    def max_concurrent_runs(self) -> int:
        return self._max_concurrent_runs

    async def cancel(self, job: ProviderJob) -> bool:
        injector = self._injector
        slowly = (
            8.0
            if injector.random.random() < injector.fault_rates.jobs
            else injector.fault_rates.latency_seconds
        )
        await self._ask(lambda: self._vendor.cancel(job["id"]), within=slowly)
        return True

    async def _ask(self, effect: Callable[[], Any], *, within: float) -> Any:
        if not self._process.is_alive:
            raise Dead
        answer = self._process.create_future()

        def arrive() -> None:
            result = effect()
            if not answer.done():
                answer.set_result(result)

        self._injector.world.after(self._injector.random.random() * within, arrive)
        return await answer

    async def _submit(self, request: GenerationRequest | CaptionRequest) -> Job:
        """Submit a request that costs something."""
        if not self._process.is_alive:
            raise Dead
        answer = self._process.create_future()
        fate = self._draw()
        if fate is Fate.REFUSED:
            self._injector.count(self._process, "submit REFUSED")
        elif fate is not None:
            self._injector.inject(self._process, f"submit {fate.name}")
        delay = self._injector.random.random() * (9.0 if fate is Fate.SLOW else 0.3)
        if fate is Fate.FREEZES:
            self._injector.freeze(self._process)
        if fate not in (Fate.DIES_BEFORE, Fate.CUT, Fate.REFUSED):
            self._injector.world.after(delay, self._arrive, request, answer, fate)
        if fate in (Fate.DIES_BEFORE, Fate.DIES_MEANWHILE):
            self._process.kill()
        if fate is Fate.REFUSED:
            self._injector.world.after(delay, self._fail, answer, self._refusal())
        elif fate in (Fate.CUT, Fate.UNKNOWN):
            self._injector.world.after(delay, self._fail, answer, _unknown())
        job: Job = await answer
        return job

    def _arrive(
        self,
        request: GenerationRequest | CaptionRequest,
        answer: asyncio.Future[Job],
        fate: Fate | None,
    ) -> None:
        job = self._vendor.take(request, billed=True)
        if fate is Fate.DIES_AFTER:
            self._injector.kill(self._process)
        elif fate not in (Fate.UNKNOWN, Fate.SILENCE) and not answer.done():
            answer.set_result(job)

    def _draw(self) -> Fate | None:
        fault_rates, random = self._injector.fault_rates, self._injector.random
        if self._vendor.fates:
            return self._vendor.fates.popleft()
        if random.random() >= fault_rates.submits:
            return None
        if random.random() < _REFUSES:
            return Fate.REFUSED
        harmless = [fate for fate in Fate if fate not in _DEADLY]
        return random.choice(list(Fate) if fault_rates.dies + fault_rates.freezes > 0 else harmless)

    def _refusal(self) -> NotSubmitted:
        code, retry_after = self._injector.random.choice(_REFUSALS)
        return NotSubmitted(code, retry_after_seconds=retry_after)

    def _fail(self, answer: asyncio.Future[Job], error: Exception) -> None:
        if not answer.done():
            answer.set_exception(error)

    async def _wait_for(
        self, job: Job, request: GenerationRequest, observer: RunObserver
    ) -> Delivery:
        """Look again and again until it is over."""
        reported_queued = shown = False
        while True:
            within = self._injector.fault_rates.latency_seconds
            now = await self._ask(lambda: self._injector.world.now, within=within)
            if job.cancelled:
                raise GenerationFailed(GenerationErrorCode.PROVIDER_UNAVAILABLE, retryable=True)
            if job.ready_at <= now:
                return _delivery(job)
            if not reported_queued:
                reported_queued = True
                await observer.queued(3)
            else:
                await observer.progress(0.5)
                if request.preview_count and not shown:
                    shown = True
                    await observer.preview(b"preview " + job.id.encode())
            await asyncio.sleep(_POLL_SECONDS * self._injector.random.uniform(0.5, 2.0))


class QueueProvider(_Provider):
    """Accepts jobs that any process with their id can resume."""

    name = "queue"

    async def generate(self, request: GenerationRequest, observer: RunObserver) -> Delivery:
        if request.job is None:
            bill = bill_of(request)
            self._vendor.await_answer(self._process, bill)
            await observer.submitting()
            job = await self._submit(request)
            await observer.submitted({"id": job.id})
            self._vendor.know_answer(self._process, bill)
        else:
            job = self._vendor.jobs[request.job["id"]]
        return await self._wait_for(job, request, observer)


class DirectProvider(_Provider):
    """Answers with the pictures: there is no job to resume."""

    name = "direct"

    async def generate(self, request: GenerationRequest, observer: RunObserver) -> Delivery:
        # Until it has landed, a death loses the pictures: the answer stays awaited.
        self._vendor.await_answer(self._process, bill_of(request))
        await observer.submitting()
        job = await self._submit(request)
        await asyncio.sleep(min(job.ready_at - self._injector.world.now, 1000.0))
        return _delivery(job)


class FreeProvider(_Provider):
    """Costs nothing, so that a run is repeated where it broke off."""

    name = "free"

    async def generate(self, request: GenerationRequest, observer: RunObserver) -> Delivery:
        if not self._process.is_alive:
            raise Dead
        job = self._vendor.take(request, billed=False)
        return await self._wait_for(job, request, observer)


class DirectWriter(_Provider):
    """Writes a caption as `DirectProvider` makes pictures: there is no job to resume."""

    name = "direct"

    async def write(self, request: CaptionRequest, observer: CaptionObserver) -> CaptionDelivery:
        if request.job is not None:
            raise _unknown()
        self._vendor.await_answer(self._process, bill_of(request))
        await observer.submitting()
        job = await self._submit(request)
        return await _write(job, observer, self._injector)


class FreeWriter(_Provider):
    """Costs nothing, so that a caption is written again where that broke off."""

    name = "free"

    async def write(self, request: CaptionRequest, observer: CaptionObserver) -> CaptionDelivery:
        if not self._process.is_alive:
            raise Dead
        return await _write(self._vendor.take(request, billed=False), observer, self._injector)


async def _write(job: Job, observer: CaptionObserver, injector: FaultInjector) -> CaptionDelivery:
    """Show the words one by one, and deliver them all."""
    words = [*job.images[:1], *job.images[:1]]
    for count in range(len(words)):
        await asyncio.sleep(min(job.ready_at - injector.world.now, 1000.0) / 2)
        await observer.text(" ".join(str(word) for word in words[: count + 1]))
    await asyncio.sleep(min(job.ready_at - injector.world.now, 1000.0))
    delivery = _delivery(job)
    if not delivery.images or delivery.images[0].data == BROKEN:
        raise GenerationFailed(GenerationErrorCode.PROVIDER_BAD_RESPONSE, retryable=True)
    return CaptionDelivery(text=delivery.images[0].data.decode(), usage=delivery.usage)


def _delivery(job: Job) -> Delivery:
    if job.failure is not None:
        code, retryable = job.failure
        raise GenerationFailed(code, retryable=retryable)
    images = tuple(DeliveredImage(data, seed=job.id) for data in job.images)
    return Delivery(images=images, text="done", usage=Usage(1, 2, 3))


def _unknown() -> GenerationFailed:
    return GenerationFailed(GenerationErrorCode.OUTCOME_UNKNOWN, retryable=True)
