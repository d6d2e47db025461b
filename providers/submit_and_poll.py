"""What runs with jobs share: waiting for the response to a submission, polling a job until a
response can be used, and cancelling it.
"""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from domain.errors import GenerationFailed
from providers.failures import (
    BAD_RESPONSE,
    OUTCOME_UNKNOWN,
    UNAVAILABLE,
    explain_silence,
    is_gone,
    is_transient,
)
from providers.http import Answer, AnswerUnusable, Unanswered
from providers.polling import PollingPolicy

log = structlog.get_logger(__name__)

TRIES: Final = 5
"""How often in a row a job is asked about again after a response that cannot be used, or that may
be final.
"""
_BUSY: Final = frozenset({429, *range(500, 600)})

Reading = TypeVar("Reading")


async def await_answer(submission: Awaitable[Answer]) -> Answer:
    """Return the response to a submission, whatever it is. If none came, raise `NotSubmitted` if
    the request was never sent, else `GenerationFailed` with OUTCOME_UNKNOWN.
    """
    try:
        return await submission
    except Unanswered as silence:
        raise explain_silence(silence) from silence


async def poll_job(
    ask: Callable[[], Awaitable[Answer]],
    read: Callable[[Answer], Reading | None],
    *,
    explain: Callable[[Answer], GenerationFailed],
    retry_hint: Callable[[Answer], float | None],
    policy: PollingPolicy,
) -> Reading:
    """Ask about a job until a response can be read, and tolerate faults in between.

    `read` returns None where a response says nothing about the job. `retry_hint` is how many
    seconds the provider asks to wait. Raise `GenerationFailed` where asking again cannot help, or
    has not helped.
    """
    while True:
        try:
            answer = await ask()
        except AnswerUnusable as nonsense:
            await policy.wait_out(BAD_RESPONSE.failure(f"status: {nonsense}"), tries=TRIES)
            continue
        except Unanswered as silence:
            await policy.wait_out(UNAVAILABLE.failure(str(silence)))
            continue
        found = read(answer)
        if found is not None:
            policy.reset_faults()
            return found
        failure = explain(answer)
        hint, status = retry_hint(answer), answer.status
        # It may be long, and is not needed during the pause.
        del answer
        if status < 300:
            await policy.wait_out(failure, tries=TRIES)
        elif is_gone(status):
            # The provider has given this id. Whether the job runs, or ever did, is unknown.
            failure = OUTCOME_UNKNOWN.failure(f"status: HTTP {status}")
            await policy.wait_out(failure, tries=TRIES)
        elif is_transient(status):
            await policy.wait_out(failure, retry_after=hint)
        else:
            raise failure


async def cancel_job(cancelling: Awaitable[Answer], *, provider: str, job_id: str) -> bool:
    """Ask the provider to stop a job, and log the response. Return False where there is none, or
    one that says that the provider is not available.
    """
    try:
        status = (await cancelling).status
        outcome, is_decided = f"HTTP {status}", status not in _BUSY
    except Unanswered as silence:
        outcome, is_decided = str(silence), False
    log.info("job cancelled", provider=provider, job=job_id, outcome=outcome)
    return is_decided
