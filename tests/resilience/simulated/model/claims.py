"""What workers read and write of outputs: the model of `storage/mongo/claims.py`."""

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

from domain import rules
from domain.captions import CaptionDelivery
from domain.claims import Claim, Waiting
from domain.credits import captured, charge_for
from domain.ids import ModelId, OutputId, ViewerId, parent_of_output
from domain.images import ImageRecord
from domain.outputs import GenerationError, Output, OutputStatus, Preview, Report, Run
from domain.posts import Post
from domain.turns import as_turn
from tests.resilience.simulated.model.tables import Row, Tables, WrittenTwice, with_entries


class Claims:
    def __init__(self, tables: Tables, worker: object = None) -> None:
        self._tables = tables
        self._worker = worker

    def find_waiting(self, viewer_id: ViewerId, output_id: OutputId) -> Waiting | None:
        row, output = self._find(output_id, self._tables.committed, owner_id=viewer_id)
        if row is None or output is None:
            return None
        if not rules.is_waiting(row.state(output), self._tables.now()):
            return None
        return _waiting(row, output)

    def list_waiting(
        self,
        model_ids: Iterable[ModelId],
        *,
        begun_only: Iterable[ModelId] = (),
        min_queued: timedelta,
        expired: bool,
        limit: int,
    ) -> Sequence[Waiting]:
        unfinished = {
            (row.parent.id, output.slot): (row, output)
            for row, output in self._unfinished(self._tables.committed)
        }
        found = rules.in_fair_order(
            [_candidate(row, output) for row, output in unfinished.values()],
            self._tables.now(),
            model_ids=set(model_ids),
            begun_only=set(begun_only),
            min_queued=min_queued,
            expired=expired,
        )
        return [_waiting(*unfinished[one.parent_id, one.slot]) for one in found[:limit]]

    def find_earlier_messages(self, claim: Claim, *, limit: int) -> Sequence[str]:
        own = as_turn(claim.parent)
        turns = self._tables.turns_of(own.conversation_id) if own else []
        earlier = [turn for turn in turns if own and turn.turn_index < own.turn_index]
        owned = [turn for turn in earlier if turn.owner_id == claim.parent.owner_id]
        in_order = sorted(owned, key=lambda turn: turn.turn_index)
        return [turn.user_message for turn in in_order][-limit:]

    def claim(self, waiting: Waiting, *, lease: timedelta) -> Claim | None:
        tables = self._tables
        row, output = self._find(waiting.output_id, self._tables, owner_id=waiting.viewer_id)
        if row is None or output is None or not self.may_be_claimed(row, output):
            return None
        if not self.is_unchanged(waiting, row, output):
            return None
        now, hidden = tables.now(), row.hidden[output.slot]
        hold = hidden.hold
        hidden.claimed_by = self._worker
        hidden.lease_until = now + lease
        hidden.deadline_at = hidden.deadline_at or now + hidden.deadline
        started = replace(
            output,
            status=OutputStatus.GENERATING,
            fence=output.fence + 1,
            started_at=output.started_at or now,
        )
        before = tables.put(row, [started])
        tables.observer.committed(row.parent.owner_id, before, row.parent)
        claimed = row.parent.output(output.slot)
        assert claimed is not None
        tables.observer.claimed(claimed, hold)
        return Claim(
            parent=row.parent, output=claimed, claimed_at=now, deadline_at=hidden.deadline_at
        )

    def renew(self, claim: Claim, *, lease: timedelta) -> bool:
        row, output = self._held(claim)
        if row is None or output is None or row.hidden[output.slot].lease_until is None:
            return False
        row.hidden[output.slot].lease_until = self._tables.now() + lease
        return True

    def give_back(self, claim: Claim) -> bool:
        row, output = self._held(claim)
        if row is None or output is None:
            return False
        row.hidden[output.slot].lease_until = None
        return True

    def postpone(self, claim: Claim, runs: Sequence[Run], *, delay: timedelta) -> bool:
        row, output = self._held(claim)
        if row is None or output is None or not self.save_runs(claim, runs):
            return False
        hidden = row.hidden[output.slot]
        hidden.lease_until = None
        hidden.not_before = self._tables.now() + delay
        return True

    def save_runs(self, claim: Claim, runs: Sequence[Run]) -> bool:
        row, output = self._held(claim)
        if row is None or output is None:
            return False
        kept = replace(output, runs=tuple(rules.furthest_runs(output.runs, runs)))
        row.parent = with_entries(
            row.parent, [kept if one.slot == kept.slot else one for one in row.parent.entries]
        )
        return True

    def is_abandoned(self, claim: Claim) -> bool:
        owner_id = claim.parent.owner_id
        _, output = self._find(claim.output.id, self._tables.committed, owner_id=owner_id)
        return rules.is_abandoned(claim.output, output)

    def show_progress(
        self,
        claim: Claim,
        *,
        progress: float | None = None,
        queue_position: int | None = None,
        preview: Preview | None = None,
        text: str | None = None,
    ) -> bool:
        row, output = self._held(claim)
        if row is None or output is None:
            return False
        shown = output
        if queue_position is not None:
            shown = replace(shown, queue_position=queue_position)
        if progress is not None:
            progress = max(progress, output.progress or 0.0)
            shown = replace(shown, queue_position=None, progress=progress)
        if preview is not None:
            shown = replace(shown, preview=preview)
        if text is not None:
            shown = replace(shown, text=text)
        before = self._tables.put(row, [shown])
        self._tables.observer.committed(row.parent.owner_id, before, row.parent)
        return True

    def add_images(
        self, claim: Claim, records: Sequence[ImageRecord], report: Report, *, runs: Sequence[Run]
    ) -> bool:
        tables = self._tables
        row, output = self._held(claim)
        if row is None or output is None or {one.image for one in records} & {*output.images}:
            return False
        self._insert(claim, records)
        shown = replace(
            output,
            images=(*output.images, *(record.image for record in records)),
            runs=tuple(rules.furthest_runs(output.runs, runs)),
            **_reported(report),
        )
        before = tables.put(row, [shown])
        tables.observer.committed(row.parent.owner_id, before, row.parent)
        return True

    def land(
        self, claim: Claim, records: Sequence[ImageRecord], report: Report, *, landed: int = 0
    ) -> bool:
        tables, held = self._tables, claim.output.credits_reserved
        row, output = self._held(claim)
        if row is None or output is None:
            return False
        asked = claim.parent.options.images_per_model
        charged = charge_for(held, delivered=landed + len(records), asked=asked)
        completed = tables.end(
            row,
            output,
            status=OutputStatus.COMPLETED,
            images=(*output.images, *(record.image for record in records)),
            preview=None,
            credits_charged=charged,
            **_reported(report),
        )
        self._insert(claim, records)
        before = tables.put(row, [completed])
        movement = captured(claim.output.id, claim.output.attempt, held, charged=charged)
        tables.move(claim.parent.owner_id, [movement])
        tables.observer.committed(row.parent.owner_id, before, row.parent)
        return True

    def land_caption(self, claim: Claim, delivery: CaptionDelivery) -> Sequence[OutputId] | None:
        tables, held = self._tables, claim.output.credits_reserved
        row, output = self._held(claim)
        if row is None or output is None:
            return None
        landed = tables.end(
            row,
            output,
            status=OutputStatus.COMPLETED,
            provider=delivery.provider,
            quality=delivery.quality,
            size=delivery.size,
            text=delivery.text,
            usage=delivery.usage,
            credits_charged=output.credits_charged + held,
        )
        waited = [one for one in row.parent.outputs if one.waits and one.unfinished]
        for one in waited:
            row.hidden[one.slot].queued_at = tables.now()
        free = [replace(one, waits=False, queued_at=tables.now()) for one in waited]
        before = tables.put(row, [landed, *free])
        assert isinstance(row.parent, Post)
        row.parent = replace(row.parent, landed_caption=delivery.text)
        tables.move(
            claim.parent.owner_id,
            [captured(claim.output.id, claim.output.attempt, held, charged=held)],
        )
        tables.observer.committed(row.parent.owner_id, before, row.parent)
        return [one.id for one in waited]

    def fail(self, claim: Claim, error: GenerationError) -> bool:
        row, output = self._held(claim)
        if row is None or output is None:
            return False
        self._fail(row, output, error)
        return True

    def end_overdue(self, *, max_queued: timedelta, limit: int) -> Sequence[OutputId]:
        now = self._tables.now()
        overdue = [
            (row, output)
            for row, output in self._unfinished(self._tables)
            if rules.is_overdue(row.state(output), now, max_queued=max_queued)
        ]
        parent_ids = list(dict.fromkeys(row.parent.id for row, _ in overdue))[:limit]
        ended = [(row, output) for row, output in overdue if row.parent.id in parent_ids]
        for row, output in ended:
            unknown = rules.is_outcome_unknown(output.runs)
            self._fail(row, output, rules.overdue_error(outcome_unknown=unknown))
        return [output.id for _, output in ended]

    def may_be_claimed(self, row: Row, output: Output) -> bool:
        return rules.is_claimable(row.state(output), self._tables.now())

    def is_unchanged(self, waiting: Waiting, row: Row, output: Output) -> bool:
        lease_until = row.hidden[output.slot].lease_until
        return rules.is_unchanged(waiting, fence=output.fence, lease_until=lease_until)

    def holds(self, claim: Claim, output: Output) -> bool:
        return rules.may_write(claim.output, output)

    def _fail(self, row: Row, output: Output, error: GenerationError) -> None:
        tables = self._tables
        failed = tables.end_early(row, output, status=OutputStatus.FAILED, error=error)
        others = tables.end_with_caption(row, [failed])
        before = tables.put(row, [failed, *tables.cancel(row, others)])
        tables.settle(row.parent, [output, *others])
        tables.observer.committed(row.parent.owner_id, before, row.parent)

    def _insert(self, claim: Claim, records: Sequence[ImageRecord]) -> None:
        images = self._tables.images
        for record in records:
            if record.image.id in images:
                raise WrittenTwice(record.image.id)
            images[record.image.id] = claim.parent.owner_id, record

    def _find(
        self, output_id: OutputId, tables: Tables, *, owner_id: ViewerId
    ) -> tuple[Row, Output] | tuple[None, None]:
        parent_id, slot = parent_of_output(output_id)
        row = tables.parents.get(parent_id)
        if row is None or row.parent.owner_id != owner_id:
            return None, None
        output = row.parent.output(slot)
        return (row, output) if output else (None, None)

    def _held(self, claim: Claim) -> tuple[Row, Output] | tuple[None, None]:
        owner_id = claim.parent.owner_id
        row, output = self._find(claim.output.id, self._tables, owner_id=owner_id)
        if row is None or output is None or not self.holds(claim, output):
            return None, None
        return row, output

    def _unfinished(self, tables: Tables) -> list[tuple[Row, Output]]:
        return [
            (row, output)
            for row in tables.parents.values()
            for output in row.parent.entries
            if output.unfinished
        ]


def _reported(report: Report) -> dict[str, Any]:
    return {one.name: getattr(report, one.name) for one in fields(Report)}


def _waiting(row: Row, output: Output) -> Waiting:
    return Waiting(
        output_id=output.id,
        attempt=output.attempt,
        viewer_id=row.parent.owner_id,
        model_id=output.model_id,
        fence=output.fence,
        lease_until=row.hidden[output.slot].lease_until,
    )


def _candidate(row: Row, output: Output) -> rules.Candidate:
    return rules.Candidate(
        parent_id=row.parent.id,
        slot=output.slot,
        viewer_id=row.parent.owner_id,
        model_id=output.model_id,
        state=row.state(output),
    )
