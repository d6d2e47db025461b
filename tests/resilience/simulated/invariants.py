"""The invariants, checked at every commit, bill and response: credits agree with the ledger, no
provider is asked twice, nothing stays unfinished, what was acknowledged exists, and a key has one
effect.

The invariants know the domain's values only, not how the model keeps its rows: a model or a service
that is wrong is found by what it does. Each violation is one sentence.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from domain import rules
from domain.credits import MovementKind, charge_for
from domain.errors import GenerationErrorCode
from domain.ids import OutputId, ParentId, ViewerId
from domain.outputs import Output, OutputStatus
from domain.parents import Parent
from domain.posts import as_post
from domain.turns import as_turn
from tests.resilience.simulated.model.tables import Hold, Tables
from tests.resilience.simulated.vendor import Bill, Vendor, family
from tests.resilience.simulated.world import Process, World

_ENDS: Final = {
    OutputStatus.COMPLETED: MovementKind.CAPTURE,
    OutputStatus.FAILED: MovementKind.RELEASE,
    OutputStatus.CANCELLED: MovementKind.RELEASE,
}


@dataclass(slots=True)
class Invariants:
    """Watches commits as `tables.Observer`, bills, bytes; collects violations."""

    world: World
    tables: Tables
    vendor: Vendor
    bytes_kept: dict[str, bytes]
    lease_seconds: float
    violations: list[str] = field(default_factory=list)
    made: dict[str, list[ParentId]] = field(default_factory=lambda: defaultdict(list))
    """By the words of the request: each request has words of its own."""
    ended: dict[Bill, Output] = field(default_factory=dict)
    """How each attempt ended. Also those that have been deleted."""
    deleted: dict[Bill, OutputId] = field(default_factory=dict)
    parents_deleted: set[ParentId] = field(default_factory=set)
    _sure: "Invariants | None" = None
    """What was known when the database fell behind."""

    def object(self, sentence: str) -> None:
        self.world.note("INVARIANT", sentence)
        self.violations.append(f"{self.world.now:.3f} s: {sentence}")

    # Commits

    def committed(self, viewer_id: ViewerId, before: Parent | None, after: Parent | None) -> None:
        if before is None or after is None or _moves_money(before, after):
            self._check_account(viewer_id)
        if after is None:
            if before is not None:
                self._check_deletion(before)
            return
        if before is None:
            self.made[after.user_message].append(after.id)
        turn = as_turn(after)
        if turn and turn.status is not rules.derive_status(one.status for one in turn.outputs):
            self.object(f"{turn.id} is {turn.status}, which its outputs are not")
        for output in after.entries:
            earlier = before.output(output.slot) if before else None
            if earlier is not output:
                self._check_step(after, earlier, output)

    def claimed(self, output: Output, before: Hold | None) -> None:
        """Nothing is taken from a worker that lives and reaches the database."""
        post = as_post(self.tables.parents[output.parent_id].parent)
        if post is not None and post.landed_caption is None and not output.is_caption:
            self.object(f"{output.id} is begun before its caption is there")
        if before is None:
            return
        if before.until > self.tables.now():
            self.object(f"{output.id} is claimed while its lease is alive")
        worker = before.worker
        if not isinstance(worker, Process) or not worker.is_alive or worker.is_frozen:
            return
        # It has renewed its lease before, and nothing has kept it from doing so again.
        if worker.hurt_at < before.until.timestamp() - 1.5 * self.lease_seconds:
            self.object(f"{output.id} is taken from {worker}, which is well")

    def fell_behind(self) -> None:
        self._sure = replace(
            self,
            made=defaultdict(list, {key: list(ids) for key, ids in self.made.items()}),
            ended=dict(self.ended),
            deleted=dict(self.deleted),
            parents_deleted=set(self.parents_deleted),
        )

    def rolled_back(self) -> None:
        assert self._sure is not None
        self.made, self.ended = self._sure.made, self._sure.ended
        self.deleted = self._sure.deleted
        self.parents_deleted = self._sure.parents_deleted

    def _check_account(self, viewer_id: ViewerId) -> None:
        """The account, the ledger's sum and the credits of running outputs agree."""
        lines = [line for owner, line in self.tables.ledger.values() if owner == viewer_id]
        account = self.tables.accounts[viewer_id]
        stated = account.balance, account.reserved, account.active_outputs
        summed = (
            sum(line.balance for line in lines),
            sum(line.reserved for line in lines),
            sum(line.active_outputs for line in lines),
        )
        if stated != summed:
            self.object(f"{viewer_id} has {stated}, the ledger says {summed}")
        running = [
            output.credits_reserved
            for row in self.tables.parents.values()
            if row.parent.owner_id == viewer_id
            for output in row.parent.entries
            if output.unfinished
        ]
        if stated[1:] != (sum(running), len(running)):
            self.object(f"{viewer_id} has {stated}, the outputs hold {running}")
        if account.available < 0:
            self.object(f"{viewer_id} has spent more than there was: {stated}")

    def _check_step(self, parent: Parent, before: Output | None, after: Output) -> None:
        """An output goes forward within an attempt, and ends once."""
        if before is not None and after.attempt == before.attempt:
            if not rules.may_become(before.status, after.status):
                self.object(
                    f"{after.id} goes from {before.status} to {after.status} within an attempt"
                )
            if after.fence < before.fence:
                self.object(f"the fence of {after.id} goes back")
        elif before is not None and (
            after.attempt != before.attempt + 1
            or not (rules.may_be_retried(before.status) or _may_be_rewritten(before))
        ):
            self.object(f"{after.id} begins attempt {after.attempt} in {before.status}")
        known = before.images if before is not None and after.attempt == before.attempt else ()
        if after.images[: len(known)] != known:
            self.object(f"{after.id} has lost images that had landed")
        if after.unfinished:
            self._check_shown(parent, after)
            return
        if after.images and after.status is not OutputStatus.COMPLETED:
            self.object(f"{after.id} is {after.status}, with images")
        bill = bill_for(parent, after)
        self.ended[bill] = after
        self._check_money(after.id, after.attempt, _ENDS[after.status])
        if after.status is OutputStatus.COMPLETED and after.is_caption:
            self._check_caption(parent, after, bill)
        elif after.status is OutputStatus.COMPLETED:
            self._check_landing(parent, after, bill)
        elif after.is_caption:
            self._check_what_waited(parent, after)
        if after.error is not None:
            self._check_error(bill, after, after.error.code)

    def _check_error(self, bill: Bill, output: Output, code: GenerationErrorCode) -> None:
        if code is GenerationErrorCode.INTERNAL:
            self.object(f"{output.id} ended with INTERNAL: our own fault")
        deadline_at = self.tables.parents[output.parent_id].hidden[output.slot].deadline_at
        is_early = deadline_at is not None and deadline_at > self.tables.now()
        if code is GenerationErrorCode.TIMED_OUT and is_early:
            self.object(f"{output.id} timed out before its deadline")
        if code is GenerationErrorCode.OUTCOME_UNKNOWN and not is_early:
            self.vendor.uncertain.add(bill)  # The deadline came before the answer.

    def _check_money(self, output_id: OutputId, attempt: int, end: MovementKind) -> None:
        """Each attempt is reserved once, and then captured or released once."""
        cause = f"{output_id} {attempt}"
        kinds = [kind for kind in MovementKind if (cause, kind) in self.tables.ledger]
        if kinds != sorted([MovementKind.RESERVE, end], key=list(MovementKind).index):
            self.object(f"{output_id} in attempt {attempt} ended with {kinds}")
            return
        _, reserve = self.tables.ledger[cause, MovementKind.RESERVE]
        _, line = self.tables.ledger[cause, end]
        if line.reserved != -reserve.reserved or -line.balance > reserve.reserved:
            self.object(f"{output_id} in attempt {attempt} reserved {reserve}, then {line}")

    def _check_shown(self, parent: Parent, output: Output) -> None:
        """Images of a running output are those of this attempt, and of each run only once."""
        bill = bill_for(parent, output)
        for image in output.images:
            if image.id not in self.tables.images:
                self.object(f"{image.id} of {output.id} has no record")
            if not self.bytes_kept.get(image.key, b"").endswith(str(bill).encode()):
                self.object(f"{output.id} shows {image.id}, which was made for something else")
        if len(output.images) > sum(run.landed for run in output.runs):
            self.object(f"{output.id} has more images than runs that have landed")

    def _check_landing(self, parent: Parent, output: Output, bill: Bill) -> None:
        """What landed is this attempt's own, has records and bytes, and is paid for as it is."""
        cause = f"{output.id} {output.attempt}", MovementKind.CAPTURE
        if cause in self.tables.ledger:
            _, line = self.tables.ledger[cause]
            asked = parent.options.images_per_model
            price = charge_for(-line.reserved, delivered=len(output.images), asked=asked)
            if (-line.balance, output.credits_charged) != (price, price):
                self.object(f"{output.id} costs {price}, {line} was charged")
        if not output.images:
            self.object(f"{output.id} is COMPLETED without an image")
        for image in output.images:
            if image.id not in self.tables.images:
                self.object(f"{image.id} of {output.id} has no record")
            if missing := [key for key in image.keys if key not in self.bytes_kept]:
                self.object(f"{image.id} of {output.id} lands without bytes: {missing}")
            elif not self.bytes_kept[image.key].endswith(str(bill).encode()):
                self.object(f"{output.id} shows a picture that was made for something else")

    def _check_caption(self, parent: Parent, output: Output, bill: Bill) -> None:
        """A caption is that of this attempt, is paid for, and no image waits for it."""
        _, line = self.tables.ledger[f"{output.id} {output.attempt}", MovementKind.CAPTURE]
        if line.balance != line.reserved or output.credits_charged < -line.balance:
            self.object(f"{output.id} was charged {line}")
        if not (output.text or "").endswith(str(bill)):
            self.object(f"{output.id} has words that were written for something else")
        if any(one.waits and one.unfinished for one in parent.outputs):
            self.object(f"an output of {parent.id} waits although there is a caption")

    def _check_what_waited(self, parent: Parent, caption: Output) -> None:
        """What waits for a caption ends with it, and nothing is charged for it."""
        if any(one.waits and one.unfinished for one in parent.outputs):
            self.object(f"an output of {parent.id} waits, but {caption.id} has ended")

    def _check_deletion(self, parent: Parent) -> None:
        self.parents_deleted.add(parent.id)
        for output in parent.entries:
            if output.unfinished:
                end = MovementKind.CAPTURE if output.images else MovementKind.RELEASE
                self._check_money(output.id, output.attempt, end)
                self.deleted[bill_for(parent, output)] = output.id

    # The vendor and the object store

    def check_bill(self, bill: Bill) -> None:
        """An attempt is not submitted twice to a vendor."""
        for (paid, run), count in self.vendor.bills.items():
            if paid == bill and count > 1:
                self.object(f"the vendor was paid {count} times for run {run} of {bill}")

    def check_cancelled(self, bill: Bill) -> None:
        for row in self.tables.parents.values():
            for output in row.parent.outputs:
                if output.unfinished and bill_for(row.parent, output) == bill:
                    self.object(f"the job of {output.id} is cancelled, but still wanted")

    def check_discarded(self, keys: Iterable[str]) -> None:
        """Nothing refers to bytes that are deleted."""
        gone = set(keys)
        for lost in gone.intersection(self._keys_referred_to()):
            self.object(f"{lost} is deleted, but still referred to")

    def _keys_referred_to(self) -> Iterator[str]:
        for _, record in self.tables.images.values():
            yield from record.image.keys
        for row in self.tables.parents.values():
            for reference in row.parent.references:
                yield from reference.image.keys
            for output in row.parent.outputs:
                if output.preview is not None:
                    yield output.preview.key

    # In the end

    def check_the_end(self) -> None:
        for viewer_id in self.tables.accounts:
            self._check_account(viewer_id)
        for key in set(self._keys_referred_to()) - set(self.bytes_kept):
            self.object(f"{key} is referred to, but has no bytes")
        for words, ids in self.made.items():
            if len(ids) > 1:
                self.object(f"one request was done {len(ids)} times: {words}")
        for bill, output in self.ended.items():
            self._check_outcome(bill, output)
        self._check_owners()

    def _check_outcome(self, bill: Bill, output: Output) -> None:
        code = output.error.code if output.error else None
        if code is GenerationErrorCode.OUTCOME_UNKNOWN and bill not in self.vendor.uncertain:
            self.object(f"{output.id} ended with OUTCOME_UNKNOWN, but nothing had happened")
        paid_for = output.model_id.startswith(("queue", "direct"))
        was_paid = any(paid == bill for paid, _ in self.vendor.bills)
        if output.status is OutputStatus.COMPLETED and paid_for and not was_paid:
            self.object(f"{output.id} landed, but no job was taken for it")

    def _check_owners(self) -> None:
        for conversation in self.tables.conversations.values():
            turns = self.tables.turns_of(conversation.id)
            if [turn.turn_index for turn in turns] != list(range(conversation.turn_count)):
                self.object(f"{conversation.id} counts {conversation.turn_count} turns: {turns}")
        for parent_id, row in self.tables.parents.items():
            turn = as_turn(row.parent)
            if turn is not None and turn.conversation_id not in self.tables.conversations:
                self.object(f"{parent_id} is there, its conversation is not")


def _moves_money(before: Parent, after: Parent) -> bool:
    return any(
        (one.status, one.credits_reserved) != (other.status, other.credits_reserved)
        for one, other in zip(before.outputs, after.outputs, strict=True)
    )


def _may_be_rewritten(output: Output) -> bool:
    """A caption may be written again because it is not liked."""
    return output.is_caption and not output.unfinished


def bill_for(parent: Parent, output: Output) -> Bill:
    return Bill(parent.user_message, family(output.model_id), output.attempt)
