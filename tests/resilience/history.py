"""The checker: reads all evidence of a run, and reports each violation in a sentence.

It knows nothing of how it came about. What was not looked at is not judged.
"""

from tests.resilience.attempts import attempts_of
from tests.resilience.checks.answers import against_answers, against_keys
from tests.resilience.checks.bills import against_bill
from tests.resilience.checks.credits import against_credits
from tests.resilience.checks.images import against_bytes, against_images, against_samples
from tests.resilience.checks.leases import against_deadlines, against_leases
from tests.resilience.checks.stops import against_stops
from tests.resilience.checks.subscribers import against_subscriber
from tests.resilience.checks.turns import against_attempts, against_posts, against_turns
from tests.resilience.evidence import History


def violations(history: History) -> list[str]:
    """Everything that must not be."""
    found = [
        *against_turns(history),
        *against_posts(history),
        *against_images(history.stored),
        *against_bytes(history.stored),
        *against_samples(history.stored),
        *against_answers(history),
        *against_keys(history),
    ]
    for subscriber in history.subscribers:
        found += against_subscriber(subscriber, history.stored)
    attempts = None
    if history.state_log is not None:
        attempts = attempts_of(history.state_log)
        found += against_attempts(attempts, history)
        found += against_leases(history.state_log)
        found += against_deadlines(attempts)
        if history.bill is not None:
            found += against_bill(attempts, history.bill, history.kills)
    found += against_credits(attempts, history)
    found += against_stops(attempts, history.kills)
    return found
