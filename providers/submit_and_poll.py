"""What runs with jobs share: a submission that nobody has answered, and asking about a job until
an answer makes sense.
"""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from domain.errors import GenerationFailed
from providers.failures import bad, is_gone, is_transient, of_silence, unavailable, unknown
from providers.http import Answer, AnswerUnusable, Unanswered
from providers.polling import PollingPolicy

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
    except Unanswered as silence:
        raise of_silence(silence) from silence


async def told_of_job(
    ask: Callable[[], Awaitable[Answer]],
    read: Callable[[Answer], Told | None],
    *,
    failure_of: Callable[[Answer], GenerationFailed],
    wish_of: Callable[[Answer], float | None],
    policy: PollingPolicy,
) -> Told:
    """Ask about a job until an answer can be read, and wait out what comes in between.

    `read` gives None where an answer says nothing of the job. `wish_of` is for how many seconds the
    provider wants to be left alone. Raise `GenerationFailed` where asking again cannot help, or has
    not helped.
    """
    while True:
        try:
            answer = await ask()
        except AnswerUnusable as nonsense:
            await policy.wait_out(bad(f"status: {nonsense}"), tries=TRIES)
            continue
        except Unanswered as silence:
            await policy.wait_out(unavailable(silence))
            continue
        told = read(answer)
        if told is not None:
            policy.went_well()
            return told
        failure = failure_of(answer)
        wish, status = wish_of(answer), answer.status
        # It may be long, and nobody needs it while time passes.
        del answer
        if status < 300:
            await policy.wait_out(failure, tries=TRIES)
        elif is_gone(status):
            # The provider has given us this id. Whether the job runs, or ever did, nobody can tell.
            await policy.wait_out(unknown(f"status: HTTP {status}"), tries=TRIES)
        elif is_transient(status):
            await policy.wait_out(failure, wish=wish)
        else:
            raise failure
