"""Outputs, whatever they belong to: run one again, and cancel one."""

from collections.abc import Sequence
from dataclasses import dataclass

from domain.changes import Bookmark
from domain.conflicts import Conflict
from domain.errors import UserErrorCode
from domain.execution.image_writer import ImageWriter
from domain.idempotency import IdempotencyKey, IdempotencyRecord
from domain.ids import output_id_of, parent_of_output, parse_output_id
from domain.models import ModelRegistry
from domain.outputs import Output
from domain.parents import Parent
from domain.planning import plan_retry
from domain.ports.outputs import OutputRepository
from domain.posts import as_post
from domain.refusals import Refusals, refuse
from domain.rules import may_be_retried
from domain.services.accounts import AccountService
from domain.services.canceller import OutputCanceller
from domain.services.commands import CommandService, Written, refuse_deleted_result
from domain.turns import PlannedOutput, RetryOutput
from domain.viewers import Viewer


@dataclass(frozen=True, slots=True)
class _PlannedRetry:
    """`planned` None: no model can run."""

    output: Output
    planned: PlannedOutput | None

    @property
    def outputs(self) -> Sequence[PlannedOutput]:
        return [self.planned] if self.planned else []


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputService:
    outputs: OutputRepository
    commands: CommandService
    accounts: AccountService
    registry: ModelRegistry
    canceller: OutputCanceller
    image_writer: ImageWriter

    async def retry(self, viewer: Viewer, command: RetryOutput) -> tuple[Parent, Output, Bookmark]:
        """Run a failed or cancelled output again, as its next attempt.

        A subscription that starts from the bookmark misses nothing.
        """
        old_preview_keys: list[str] = []

        async def write(
            plan: _PlannedRetry, key: IdempotencyKey | None
        ) -> Written[tuple[Parent, Output, Bookmark]] | Conflict:
            output = plan.output
            assert plan.planned is not None
            written = await self.outputs.retry(
                viewer.id,
                output,
                planned=plan.planned,
                max_active_outputs=self.accounts.max_active_outputs,
                key=key,
            )
            if isinstance(written, Conflict):
                return written
            parent, cluster_time = written
            if output.preview is not None:
                old_preview_keys.append(output.preview.key)
            queued = _output_at(parent, output.slot)
            return Written((parent, queued, Bookmark(cluster_time)), queued=[queued])

        retried = await self.commands.run(
            viewer,
            "retryOutput",
            command,
            plan=self._plan_retry,
            write=write,
            answer=self._load_retried,
        )
        if old_preview_keys:
            await self.image_writer.delete(old_preview_keys)
        return retried

    async def cancel(self, viewer: Viewer, raw_output_id: str) -> tuple[Parent, Output]:
        """End an output that has not ended. Its siblings go on."""
        parent, output = await self._find(viewer, raw_output_id)
        cancelled = await self.canceller.cancel(viewer, parent, [output], noun="output")
        return cancelled, _output_at(cancelled, output.slot)

    async def _find(self, viewer: Viewer, raw_output_id: str) -> tuple[Parent, Output]:
        output_id = parse_output_id(raw_output_id)
        found = await self.outputs.find_parent(viewer.id, output_id) if output_id else None
        output = found[0].output(parent_of_output(output_id)[1]) if found and output_id else None
        if found is None or output is None:
            refuse(UserErrorCode.NOT_FOUND, "There is no such output.", "outputId")
        return found[0], output

    async def _load_retried(
        self, viewer: Viewer, record: IdempotencyRecord
    ) -> tuple[Parent, Output, Bookmark]:
        """What was retried under a key, as it is now."""
        assert record.slot is not None
        output_id = output_id_of(record.parent_id, record.slot)
        found = await self.outputs.find_parent(viewer.id, output_id)
        if found is None:
            refuse_deleted_result()
        parent, cluster_time = found
        return parent, _output_at(parent, record.slot), Bookmark(cluster_time)

    async def _plan_retry(
        self, viewer: Viewer, command: RetryOutput, refusals: Refusals
    ) -> _PlannedRetry:
        parent, output = await self._find(viewer, command.output_id)
        if not may_be_retried(output.status):
            message = "Only a failed or cancelled output can be retried."
            refusals.add(UserErrorCode.NOT_RETRYABLE, message, "outputId")
        post = as_post(parent)
        if post is not None and post.lacks_caption:
            message = "This post has no caption to make images from: use regenerateCaption."
            refusals.add(UserErrorCode.NOT_RETRYABLE, message, "outputId")
        planned = plan_retry(
            parent, output, command.model_id, registry=self.registry, refusals=refusals
        )
        return _PlannedRetry(output, planned)


def _output_at(parent: Parent, slot: int) -> Output:
    output = parent.output(slot)
    assert output is not None
    return output
