"""How long each subscriber that was waiting for an update received none after a cut."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tests.resilience.cuts import OF_CLIENTS, OF_DATABASE, Cut, Kind
from tests.resilience.evidence import Seen, SubscriberLog
from tests.resilience.followers import UNFINISHED, changed_at

_LIVELY_SECONDS: Final = 1.5
"""A subscriber with an update of a running turn this shortly before a cut was waiting."""


@dataclass(frozen=True, slots=True)
class Silence:
    """The time from a cut to the next update of a subscriber that was waiting for one."""

    seconds: float
    changed_after: float
    """How long after the cut the received change was made."""


def silences(
    subscribers: Sequence[SubscriberLog], cuts: Sequence[Cut], kind: Kind
) -> list[Silence]:
    """Those after cuts of this kind during which nothing else was cut or killed."""
    found = []
    for cut in cuts:
        if cut.kind is not kind:
            continue
        others = [other for other in cuts if other is not cut and other.kind not in OF_CLIENTS]
        for subscriber in subscribers:
            received = _received_after(subscriber, cut)
            if received is None or any(
                other.at < received.at and (other.over_at or received.at) > cut.at - _LIVELY_SECONDS
                for other in others
            ):
                continue
            changed = max(0.0, changed_at(received.parent) - cut.at)
            found.append(Silence(received.at - cut.at, changed))
    return found


def _received_after(subscriber: SubscriberLog, cut: Cut) -> Seen | None:
    """The first state that the database had after the cut, if this subscriber waited for one."""
    before = [seen for seen in subscriber.seen if cut.at - _LIVELY_SECONDS < seen.at <= cut.at]
    after = [seen for seen in subscriber.seen if seen.at > cut.at]
    if not before:
        return None
    connection = before[-1].connection
    if cut.kind in OF_DATABASE:
        waited_for = {seen.parent["id"]: seen.parent["status"] for seen in before}
        received = [
            seen
            for seen in after
            if waited_for.get(seen.parent["id"]) in UNFINISHED and changed_at(seen.parent) > cut.at
        ]
        return received[0] if received and received[0].connection == connection else None
    closed = any(cut.at <= at < cut.at + _LIVELY_SECONDS for at, _ in subscriber.closes)
    if not closed or (cut.kind in OF_CLIENTS and cut.who != subscriber.name):
        return None
    # A subscriber that reconnects receives the current state, changed or not.
    return next((seen for seen in after if seen.connection > connection), None)
