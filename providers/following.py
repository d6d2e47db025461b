"""What runs with jobs share: a submission that nobody has answered, and asking about a job until
an answer makes sense.
"""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from domain.errors import GenerationErrorCode, GenerationFailed, NotSubmitted
from providers.failures import is_transient
from providers.http import Answer, AnswerUnusable, NotSent, Unanswered
from providers.patience import Patience

TRIES: Final = 5
"""How often in a row an answer is asked for that makes no sense, or that may be final."""

Told = TypeVar("Told")


async def submitted(submission: Awaitable[Answer]) -> Answer:
    """The answer to a submission, whatever it is.

    Where none came raise `NotSubmitted` if it was never sent, else `GenerationFailed` with
    OUTCOME_UNKNOWN.
    """
    try:
        return await submission
    except NotSent as silence:
        raise NotSubmitted(
            GenerationErrorCode.PROVIDER_UNAVAILABLE, detail=f"not connected: {silence}"
        ) from silence
    except Unanswered as silence:
        raise unknown(f"submission: {silence}") from silence


async def told_of_job(
    ask: Callable[[], Awaitable[Answer]],
    read: Callable[[Answer], Told | None],
    *,
    failure_of: Callable[[Answer], GenerationFailed],
    patience: Patience,
) -> Told:
    """Ask about a job until an answer can be read, and wait out what comes in between.

    `read` gives None where an answer says nothing of the job. Raise `GenerationFailed` where asking
    again cannot help, or has not helped.
    """
    while True:
        try:
            answer = await ask()
        except AnswerUnusable as nonsense:
            await patience.wait_out(bad(f"status: {nonsense}"), tries=TRIES)
            continue
        except Unanswered as silence:
            await patience.wait_out(unavailable(silence))
            continue
        told = read(answer)
        if told is not None:
            patience.went_well()
            return told
        failure = failure_of(answer)
        wish, status = answer.retry_after_seconds, answer.status
        # It may be long, and nobody needs it while time passes.
        del answer
        if status < 300:
            await patience.wait_out(failure, tries=TRIES)
        elif status == 404:
            # The provider has given us this id. Whether the job runs, or ever did, nobody can tell.
            await patience.wait_out(unknown("status: HTTP 404"), tries=TRIES)
        elif is_transient(status):
            await patience.wait_out(failure, wish=wish)
        else:
            raise failure


def unavailable(silence: Unanswered) -> GenerationFailed:
    return GenerationFailed(
        GenerationErrorCode.PROVIDER_UNAVAILABLE, retryable=True, detail=str(silence)
    )


def unknown(detail: str) -> GenerationFailed:
    return GenerationFailed(GenerationErrorCode.OUTCOME_UNKNOWN, retryable=True, detail=detail)


def bad(detail: str) -> GenerationFailed:
    return GenerationFailed(
        GenerationErrorCode.PROVIDER_BAD_RESPONSE, retryable=True, detail=detail
    )
