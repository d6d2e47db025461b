"""The invariants can fail: each naive variant violates one of them.

Each variant leaves out one thing that the storage or a service does, and plays histories until an
violation is made to it. That none is made to the real ones is in `test_histories.py`.
"""
# ruff: noqa: ARG002 - naive code ignores some of its arguments

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from domain import rules
from domain.captions import CaptionDelivery
from domain.claims import Claim, Waiting
from domain.execution.landing import Landing
from domain.execution.leases import Lease, LeaseLost
from domain.execution.run_progress import RunReporter
from domain.execution.runner import OutputRun
from domain.execution.sweeper import Sweeper
from domain.generation import Delivery
from domain.idempotency import IdempotencyKey, IdempotencyRecord
from domain.ids import ConversationId, ImageId, OutputId, ViewerId
from domain.images import ImageRecord
from domain.outputs import (
    UNFINISHED,
    GenerationError,
    Output,
    OutputStatus,
    ProviderJob,
    Report,
    Run,
)
from domain.parents import Parent
from domain.services.commands import CommandService
from domain.viewers import Viewer
from tests.resilience.simulated.history import play
from tests.resilience.simulated.model.claims import Claims
from tests.resilience.simulated.model.repositories import Conversations, Receipts
from tests.resilience.simulated.model.tables import Row, Tables
from tests.resilience.simulated.nodes import Node
from tests.resilience.simulated.scenes import a_node, start, until, wait
from tests.resilience.simulated.site import LEASE, Bucket, Parts

_land, _sweep = Landing.land, Sweeper._sweep
AT_MOST = 3_000
"""Histories until a variant has to be found out; the slowest takes a few hundred."""


class NoFence(Claims):
    """A worker that lost its lease continues to write."""

    def holds(self, claim: Claim, output: Output) -> bool:
        return (output.attempt, output.status) == (claim.output.attempt, OutputStatus.GENERATING)


class NoStatus(Claims):
    """An ended output is ended again."""

    def holds(self, claim: Claim, output: Output) -> bool:
        return (output.attempt, output.fence) == (claim.output.attempt, claim.output.fence)


class NoAttempt(Claims):
    """A worker of one attempt writes to the next one."""

    def holds(self, claim: Claim, output: Output) -> bool:
        return output.unfinished


class AnyLease(Claims):
    """A living lease is claimed."""

    def may_be_claimed(self, row: Row, output: Output) -> bool:
        return output.unfinished

    def is_unchanged(self, waiting: Waiting, row: Row, output: Output) -> bool:
        return True


class NoRelease(Claims):
    """A failure does not release its credits."""

    def _fail(self, row: Row, output: Output, error: GenerationError) -> None:
        failed = self._tables.end(row, output, status=OutputStatus.FAILED, error=error)
        before = self._tables.put(row, [failed])
        self._tables.observer.committed(row.parent.owner_id, before, row.parent)


class ReleaseAndCapture(Claims):
    """What landed is paid for, and given back as well."""

    def land(
        self, claim: Claim, records: Sequence[ImageRecord], report: Report, *, landed: int = 0
    ) -> bool:
        has_landed = super().land(claim, records, report, landed=landed)
        if has_landed:
            self._tables.settle(claim.parent, [replace(claim.output, images=())])
        return has_landed


class PayLater(Claims):
    """The state moves in one transaction, the money in another: never, if the worker dies."""

    def land(
        self, claim: Claim, records: Sequence[ImageRecord], report: Report, *, landed: int = 0
    ) -> bool:
        ledger, accounts = dict(self._tables.ledger), dict(self._tables.accounts)
        has_landed = super().land(claim, records, report, landed=landed)
        self._tables.ledger, self._tables.accounts = ledger, accounts
        return has_landed


class ForgetWhoHasLanded(Claims):
    """Images are shown before the journal says whose they are."""

    def add_images(
        self, claim: Claim, records: Sequence[ImageRecord], report: Report, *, runs: Sequence[Run]
    ) -> bool:
        forgetful = [replace(run, landed=False) for run in runs]
        return super().add_images(claim, records, report, runs=forgetful)


class ForgetWhatIsAtWork(Conversations):
    """Credits reserved for running outputs are not released when they are deleted."""

    def delete(
        self,
        viewer_id: ViewerId,
        conversation_id: ConversationId,
        *,
        restorable_for: timedelta | None = None,
    ) -> Sequence[str] | None:
        for turn in self._tables.turns_of(conversation_id):
            self._tables.parents[turn.id].parent = replace(turn, outputs=())
        return super().delete(viewer_id, conversation_id)


class DeleteWhatIsUsed(Conversations):
    """Images are deleted with their conversation even if others refer to them."""

    def _used(self, viewer_id: ViewerId) -> set[ImageId]:
        return set()


class NoReceipts(Receipts):
    """Keys are forgotten."""

    def get(self, viewer_id: ViewerId, key: IdempotencyKey) -> IdempotencyRecord | None:
        return None


class Spendthrift(Tables):
    """The account is written without checking its balance."""

    def bears(self, viewer_id: ViewerId, outputs: Sequence[Output], most_active: int) -> bool:
        return True


class KeysTwice(Tables):
    """A key that a twin has just used is used again."""

    def is_used(self, viewer_id: ViewerId, key: IdempotencyKey | None) -> bool:
        return False


class KeepWhatWaits(Tables):
    """A caption ends alone: the images that wait for it keep waiting."""

    def end_with_caption(self, row: Row, ended: Iterable[Output]) -> list[Output]:
        return []


class ForgetWhatWaits(Tables):
    """Images that end with a caption do not release their credits."""

    def settle(self, parent: Parent, outputs: Iterable[Output]) -> None:
        super().settle(parent, [one for one in outputs if not one.waits])


class SayNothing(Claims):
    """A caption lands, and what waits for it does not learn of it."""

    def land_caption(self, claim: Claim, delivery: CaptionDelivery) -> Sequence[OutputId] | None:
        row = self._tables.parents.get(claim.parent.id)
        waits = [one for one in row.parent.outputs if one.waits] if row else []
        queued = super().land_caption(claim, delivery)
        if queued and row:
            before = self._tables.put(row, waits)
            self._tables.observer.committed(claim.parent.owner_id, before, row.parent)
        return queued


class LateBucket(Bucket):
    """Says that bytes are there before they are."""

    def __init__(self) -> None:
        super().__init__()
        self._late: list[tuple[str, bytes]] = []

    def put(self, key: str, data: bytes) -> None:
        self._late.append((key, data))
        if len(self._late) > 3:
            super().put(*self._late.pop(0))


@pytest.mark.parametrize(
    ("parts", "violation"),
    [
        (Parts(claims=NoFence), "the vendor was paid 2 times"),
        (Parts(claims=NoStatus), "within an attempt"),
        (Parts(claims=NoAttempt), "in attempt 2 ended with"),
        (Parts(claims=ForgetWhoHasLanded), "more images than runs that have landed"),
        (Parts(claims=AnyLease), "is claimed while its lease is alive"),
        (Parts(claims=NoRelease), "the outputs hold"),
        (Parts(claims=ReleaseAndCapture), "the outputs hold"),
        (Parts(claims=PayLater), "the outputs hold"),
        (Parts(conversations=ForgetWhatIsAtWork), "the outputs hold"),
        (Parts(conversations=DeleteWhatIsUsed), "is deleted, but still referred to"),
        (Parts(tables=KeepWhatWaits), "waits, but pout_"),
        (Parts(tables=ForgetWhatWaits), "the outputs hold"),
        (Parts(claims=SayNothing), "is QUEUED, and is not taken up"),
        (Parts(receipts=NoReceipts), "was done before, but refused"),
        (Parts(tables=Spendthrift), "has spent more than there was"),
        (Parts(tables=KeysTwice), "one request was done 2 times"),
        (Parts(bucket=LateBucket), "lands without bytes"),
        (Parts(sweeper=None), "is not taken up"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_naive_storage_violates_an_invariant(parts: Parts, violation: str) -> None:
    find_out(violation, parts)


async def _save_no_job(self: RunReporter, job: ProviderJob) -> None:
    self.run = replace(self.run, job=job)


async def _ask_at_once(self: RunReporter) -> None:
    self.run = replace(self.run, tries=1, rejected=False, job=None)


async def _refuse_at_once(self: CommandService, viewer: Viewer, key: IdempotencyKey | None) -> None:
    return None


async def _land_and_forget(self: Landing, delivery: Delivery) -> None:
    stored = tuple(self._stored)
    try:
        await _land(self, delivery)
    except LeaseLost:
        self._stored.extend(stored)  # whether or not an unacknowledged delivery was committed
        raise


async def _cancel_jobs_at_once(self: OutputRun) -> None:
    await self._work.cancel_jobs()


def _end_as_asked(status: OutputStatus, *, has_images: bool) -> OutputStatus:
    return status


def _is_free_without_caption(output: rules.OutputState, now: datetime) -> bool:
    return output.status in UNFINISHED and not rules.is_held(output, now)


async def _renew_nothing(self: Lease) -> None:
    return None


async def _take_what_has_run_out(self: Sweeper, min_queued: timedelta, *, expired: bool) -> None:
    await _sweep(self, min_queued, expired=True)  # though no worker could renew


@pytest.mark.parametrize(
    ("target", "name", "naive", "violation"),
    [
        (RunReporter, "submitted", _save_no_job, "nothing had happened"),
        (RunReporter, "submitting", _ask_at_once, "the vendor was paid 2 times"),
        (Run, "answer_is_awaited", False, "the vendor was paid 2 times"),
        (CommandService, "_find_after_refusal", _refuse_at_once, "was done before, but refused"),
        (Landing, "land", _land_and_forget, "is deleted, but still referred to"),
        (
            OutputRun,
            "_cancel_jobs_if_abandoned",
            _cancel_jobs_at_once,
            "cancelled, but still wanted",
        ),
        (rules, "end_of", _end_as_asked, "with images"),
        (rules, "_is_free", _is_free_without_caption, "is begun before its caption is there"),
        (Lease, "_renew_forever", _renew_nothing, "which is well"),
        (Claim, "seconds_left", 10_000.0, "is stuck"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_naive_service_violates_an_invariant(
    monkeypatch: pytest.MonkeyPatch, target: Any, name: str, naive: Any, violation: str
) -> None:
    monkeypatch.setattr(target, name, naive)

    find_out(violation)


def test_a_sweeper_that_does_not_wait_after_an_outage_violates_an_invariant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rare by chance: nothing else may have stopped the worker that could not renew."""
    monkeypatch.setattr(Sweeper, "_sweep", _take_what_has_run_out)

    with pytest.raises(AssertionError, match="which is well"):
        _go_through_outages()


def test_after_an_outage_a_live_worker_keeps_its_claims() -> None:
    _go_through_outages()


def _go_through_outages() -> None:
    lease = LEASE.total_seconds()
    for seed in range(20):
        with a_node(seed=f"outage {seed}") as node:
            start(node)
            until(node.site, node.site.vendor.bills.total)
            (job,) = node.site.vendor.jobs.values()
            job.ready_at += 10 * lease
            Node(node.site, "another", answers=False, runs=True)
            wait(node.site, 2 * lease)
            node.site.go_away(3 * lease)
            wait(node.site, 10 * lease)


def find_out(violation: str, parts: Parts | None = None) -> None:
    others: list[str] = []
    for number in range(AT_MOST):
        violations = play(f"naive {number}", parts=parts).violations
        if any(violation in one for one in violations):
            return
        others += violations
    pytest.fail(f"Nobody said “{violation}”, only {others[:10]}.")
