"""Choices: the output of each turn that the viewer continues from, and what they say of models."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from domain.errors import BadUserInput, UserErrorCode
from domain.ids import as_turn_id, parent_of_output, parse_output_id
from domain.model_stats import MAX_DAYS, ModelStats, total
from domain.outputs import Output
from domain.ports.choices import ChoiceRepository
from domain.ports.model_stats import ModelStatsRepository
from domain.ports.turns import TurnRepository
from domain.refusals import refuse
from domain.turns import ChooseOutput, Turn
from domain.viewers import Viewer


@dataclass(frozen=True, slots=True)
class ChoiceService:
    turns: TurnRepository
    choices: ChoiceRepository
    stats: ModelStatsRepository

    async def choose(self, viewer: Viewer, command: ChooseOutput) -> tuple[Turn, Output]:
        """Mark an output that has an image, in place of any other one of its turn; or take the mark
        back. What is as wanted already stays as it is.
        """
        output_id = parse_output_id(command.output_id)
        parent_id, slot = parent_of_output(output_id) if output_id else (None, 0)
        turn_id = as_turn_id(parent_id) if parent_id else None
        if turn_id is None:
            refuse(*_NOT_FOUND)
        await self.choices.choose(viewer.id, turn_id, slot, chosen=command.chosen)
        turn = (await self.turns.get_many(viewer.id, [turn_id])).get(turn_id)
        output = turn.output(slot) if turn else None
        if turn is None or output is None:
            refuse(*_NOT_FOUND)
        if command.chosen and not output.chosen:
            message = (
                "This output has not finished yet."
                if output.unfinished
                else "This output has no image."
            )
            refuse(UserErrorCode.REFERENCE_NOT_READY, message, "outputId")
        return turn, output

    async def model_stats(self, viewer: Viewer, *, days: int) -> Sequence[ModelStats]:
        """What became of the outputs of turns that began on the last `days` days, in UTC, today
        included: one for each model. Raise BadUserInput unless there are 1 to `MAX_DAYS`.
        """
        if not 1 <= days <= MAX_DAYS:
            raise BadUserInput(f"`days` takes 1 to {MAX_DAYS}.")
        first = datetime.now(UTC).date() - timedelta(days=days - 1)
        return total(await self.stats.list_since(viewer.id, first))


_NOT_FOUND = (UserErrorCode.NOT_FOUND, "There is no such output.", "outputId")
