"""Credits: the ledger equals the account at every moment, and each attempt is settled once."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from domain.credits import charge_for
from tests.clients import Data
from tests.resilience.attempts import Attempt
from tests.resilience.evidence import Grant, History
from tests.resilience.orders import CAPTION, price_of

_MOVED = ("balance", "reserved", "activeOutputs")


def against_credits(attempts: Sequence[Attempt] | None, history: History) -> Iterator[str]:
    yield from _against_snapshots(history)
    yield from _against_accounts(history)
    yield from _against_grants(history)
    if attempts is not None:
        yield from _against_settlements(attempts, history.stored.ledger)


def _against_snapshots(history: History) -> Iterator[str]:
    for snapshot in history.snapshots:
        for found in snapshot.proof.discrepancies:
            yield (
                f"at {snapshot.at:.3f} {found.viewer_id} did not agree on {found.what}: "
                f"{found.account} and {found.elsewhere}"
            )
        if snapshot.most_active > history.terms.max_active_outputs:
            yield f"at {snapshot.at:.3f} an account had {snapshot.most_active} running outputs"


def _against_accounts(history: History) -> Iterator[str]:
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for line in history.stored.ledger:
        sums[line["ownerId"]].update({name: line[name] for name in _MOVED})
    for account in history.stored.accounts:
        for name in _MOVED:
            if account[name] != sums[account["_id"]][name]:
                yield (
                    f"{account['_id']} has {name} {account[name]}, "
                    f"its ledger {sums[account['_id']][name]}"
                )
        if account["reserved"] or account["activeOutputs"]:
            yield (
                f"{account['_id']} still holds {account['reserved']} credits "
                f"for {account['activeOutputs']} outputs"
            )
        if account["balance"] < 0:
            yield f"{account['_id']} owes {-account['balance']} credits"
    for viewer_id in sums.keys() - {account["_id"] for account in history.stored.accounts}:
        yield f"{viewer_id} has a ledger, but no account"


def _against_grants(history: History) -> Iterator[str]:
    lines = [line for line in history.stored.ledger if line["kind"] == "GRANT"]
    starts = Counter(line["ownerId"] for line in lines if line["_id"].endswith(" start GRANT"))
    for account in history.stored.accounts:
        if starts[account["_id"]] != 1:
            yield f"{account['_id']} was given {starts[account['_id']]} times credits to start with"
    for line in lines:
        if line["_id"].endswith(" start GRANT"):
            if line["balance"] != history.terms.starting_credits:
                yield f"{line['ownerId']} was given {line['balance']} credits to start with"
            continue
        grant = next((one for one in history.grants if _is_for(line, one)), None)
        if grant is None:
            yield f"{line['_id']} was granted by nobody"
        elif line["balance"] != grant.credits:
            yield f"{line['_id']} is {line['balance']} credits, {grant.credits} were granted"
    for grant in history.grants:
        count = sum(_is_for(line, grant) for line in lines)
        if count > 1 or (count == 0 and grant.acknowledged):
            yield f"{grant.key} of {grant.viewer_id} was given {count} times"


def _is_for(line: Data, grant: Grant) -> bool:
    return line["ownerId"] == grant.viewer_id and f"by {grant.key} GRANT" in line["_id"]


def _against_settlements(attempts: Sequence[Attempt], ledger: Sequence[Data]) -> Iterator[str]:
    lines: dict[str, list[Data]] = defaultdict(list)
    for line in ledger:
        if line["kind"] != "GRANT":
            cause = " ".join(line["_id"].split(" ")[:2])
            lines[cause].append(line)
    for attempt in attempts:
        found = lines.pop(f"{attempt.output_id} {attempt.number}", [])
        yield from _against_settlement(attempt, found)
    for cause, found in lines.items():
        kinds = ", ".join(line["kind"] for line in found)
        yield f"credits were moved for {cause} ({kinds}), which has never been"


def _against_settlement(attempt: Attempt, lines: Sequence[Data]) -> Iterator[str]:
    counts = Counter(line["kind"] for line in lines)
    price = price_of(images=attempt.images_asked, with_references=bool(attempt.first["references"]))
    if attempt.is_caption:
        price = CAPTION
    if counts["RESERVE"] != 1:
        yield f"{attempt.name} was reserved for {counts['RESERVE']} times"
    if attempt.ended_as is not None and counts["CAPTURE"] + counts["RELEASE"] != 1:
        yield (
            f"{attempt.name} was captured {counts['CAPTURE']} times "
            f"and released {counts['RELEASE']} times"
        )
    delivered = len(attempt.last["images"]) if attempt.ended_as == "COMPLETED" else 0
    due = charge_for(price, delivered=delivered, asked=attempt.images_asked)
    if attempt.is_caption:
        due = price if attempt.ended_as == "COMPLETED" else 0
    wanted = {"RESERVE": (0, price, 1), "CAPTURE": (-due, -price, -1), "RELEASE": (0, -price, -1)}
    for line in lines:
        moved = tuple(line[name] for name in _MOVED)
        due_to_move = wanted[line["kind"]]
        if moved != due_to_move:
            yield f"{attempt.name} moved {moved} with its {line['kind']}, not {due_to_move}"
        if line["ownerId"] != attempt.parent["ownerId"]:
            yield f"{attempt.name} was paid for by {line['ownerId']}"
    if attempt.ended_as == "COMPLETED" and counts["CAPTURE"] == 0:
        yield f"{attempt.name} was delivered for nothing"
    if attempt.ended_as not in ("COMPLETED", None) and counts["CAPTURE"]:
        yield f"{attempt.name} was charged for, and delivered nothing"
    # What a caption has cost before is still in it.
    before = attempt.first["creditsCharged"] if attempt.is_caption else 0
    if attempt.ended_as == "COMPLETED" and attempt.last["creditsCharged"] != before + due:
        yield f"{attempt.name} tells of {attempt.last['creditsCharged']} credits, {due} were due"
