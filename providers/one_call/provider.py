"""A provider of which one call is the whole run, whatever its dialect is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import httpx2
import orjson

from domain.errors import GenerationErrorCode, GenerationFailed
from domain.generation import Delivery, GenerationRequest
from domain.outputs import ProviderJob
from domain.ports import Watcher
from providers.alarms import sound_alarm
from providers.http import MAX_BYTES, Answer
from providers.one_call.calls import Fields, OneCall, Reply
from providers.patience import Pace, Patience
from providers.references import Reference, References, fair_share

EndpointT = TypeVar("EndpointT")
LeaveOut = tuple[str, ...]
"""What must not get into a log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """In what such providers differ."""

    name: str
    picture_names: frozenset[str]
    """The fields in which an answer has its pictures."""
    headers: Callable[[str], Mapping[str, str]]
    """With the key."""
    path: Callable[[GenerationRequest], str]
    """Below the provider's URL."""
    max_reference_bytes: int
    """Of one."""
    max_references_bytes: Callable[[GenerationRequest], int]
    """Of all together."""
    payload: Callable[[GenerationRequest, Sequence[Reference]], Fields]
    reply: Callable[[GenerationRequest, LeaveOut], Reply]
    failure: Callable[[Answer, LeaveOut], GenerationFailed]
    """What any answer but a good one means."""


class OneCallProvider:
    """A `Provider` in some dialect."""

    def __init__(
        self,
        dialect: Dialect,
        references: References,
        *,
        key: str,
        url: str,
        places: int,
        pace: Pace | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._dialect = dialect
        self._references = references
        self._key = key
        self._url = url.rstrip("/")
        self._places = places
        self._pace = pace or Pace()
        self._call = OneCall(
            headers=dialect.headers(key),
            picture_names=dialect.picture_names,
            max_bytes=max_bytes,
        )

    @property
    def name(self) -> str:
        return self._dialect.name

    @property
    def places(self) -> int:
        return self._places

    async def aclose(self) -> None:
        """Close the connections. Runs that are still under way must have been cancelled before."""
        await self._call.aclose()

    async def generate(self, request: GenerationRequest, watcher: Watcher) -> Delivery:
        try:
            return await self._generate(request, watcher)
        except GenerationFailed as failure:
            sound_alarm(failure, request)
            raise

    async def cancel(self, job: ProviderJob) -> None:
        """There are no jobs: what is under way ends with its connection."""

    async def _generate(self, request: GenerationRequest, watcher: Watcher) -> Delivery:
        if request.job is not None:
            raise GenerationFailed(
                GenerationErrorCode.OUTCOME_UNKNOWN,
                retryable=True,
                detail="a stored job, of which this provider has none",
            )
        patience = Patience(self._pace, request.seconds_left)
        url = f"{self._url}/{self._dialect.path(request)}"
        # Whatever can go wrong on our side goes wrong before the provider is asked.
        body = await self._body(request)
        patience.check()
        await watcher.submitting()
        leave_out = (self._key, request.prompt)
        reply = self._dialect.reply(request, leave_out)
        answer = await self._call.ask(
            url, body, reply, request=request, watcher=watcher, patience=patience
        )
        if answer.status != httpx2.codes.OK:
            raise self._dialect.failure(answer, leave_out)
        return reply.delivery()

    async def _body(self, request: GenerationRequest) -> bytes:
        share = fair_share(request.references, self._dialect.max_references_bytes(request))
        references = await self._references.read(
            request.references, max_bytes=min(share, self._dialect.max_reference_bytes)
        )
        return orjson.dumps(self._dialect.payload(request, references))


def endpoint_of(
    request: GenerationRequest, endpoints: Mapping[str, EndpointT]
) -> tuple[str, EndpointT]:
    """What the provider calls the request's model, and in what it differs from others."""
    name = request.model.endpoint or request.model.id
    endpoint = endpoints.get(name)
    if endpoint is None:
        raise GenerationFailed(
            GenerationErrorCode.INTERNAL, retryable=False, detail=f"{name} is no endpoint"
        )
    return name, endpoint
