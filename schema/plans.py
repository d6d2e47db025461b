"""A dry run of a turn: what it would cost, and what each model would be given."""

from collections.abc import Sequence
from typing import Self

import strawberry

from domain import errors, models, turns
from domain.models import AspectRatio
from schema.errors import UserError
from schema.models import ImageModel
from schema.outputs import Reference
from schema.scalars import given
from schema.turns import GenerationOptions, to_turn_request


@strawberry.input(description="A turn as it could be asked for.")
class PlanTurnInput:
    user_message: str = strawberry.field(description="What to make or to change.")
    conversation_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET,
        description="The conversation that the turn would go on; left out, a new one.",
    )
    source_image_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET,
        description="What a new conversation would begin with; of no meaning where one goes on.",
    )
    selected_models: list[strawberry.ID] | None = strawberry.field(
        default=strawberry.UNSET, description="As in the mutation."
    )
    manual_reference_ids: list[strawberry.ID] | None = strawberry.field(
        default=strawberry.UNSET, description="As in the mutation."
    )
    previous_output_ids: list[strawberry.ID] | None = strawberry.field(
        default=strawberry.UNSET,
        description="As in `sendEdit`; of no meaning for a new conversation.",
    )
    aspect_ratio: AspectRatio | None = strawberry.field(
        default=strawberry.UNSET, description="As in the mutation."
    )
    resolution: models.Resolution | None = strawberry.field(
        default=strawberry.UNSET, description="As in the mutation."
    )
    options: GenerationOptions | None = strawberry.field(
        default=strawberry.UNSET, description="As in the mutation."
    )

    def to_command(self) -> turns.PlanTurn:
        previous = given(self.previous_output_ids)
        return turns.PlanTurn(
            conversation_id=given(self.conversation_id),
            source_image_id=given(self.source_image_id),
            turn=to_turn_request(
                user_message=self.user_message,
                selected_models=self.selected_models,
                manual_reference_ids=self.manual_reference_ids,
                aspect_ratio=self.aspect_ratio,
                resolution=self.resolution,
                options=self.options,
            ),
            previous_output_ids=tuple(previous) if previous is not None else None,
        )


@strawberry.type(description="One model's part of a turn that has not been asked for.")
class ModelPlan:
    model: ImageModel = strawberry.field(
        description="The model that would run: an editing sibling may have taken the place of the "
        "one asked for."
    )
    requested_model_id: strawberry.ID = strawberry.field(description="The one asked for.")
    credits: int = strawberry.field(description="What its images would cost.")
    references: list[Reference] = strawberry.field(
        description="What it would be given: those of the turn's that it takes."
    )
    dropped_references: list[Reference] = strawberry.field(
        description="What it would not be given, because it takes fewer."
    )

    @classmethod
    def of(cls, planned: turns.PlannedOutput) -> Self:
        return cls(
            model=ImageModel.of(planned.model),
            requested_model_id=strawberry.ID(planned.requested_model_id),
            credits=planned.credits,
            references=[Reference.of(one) for one in planned.references],
            dropped_references=[Reference.of(one) for one in planned.dropped_references],
        )


@strawberry.type(description="What a turn would be, if it were asked for now.")
class TurnPlan:
    credits: int = strawberry.field(description="What it would cost in all.")
    references: list[Reference] = strawberry.field(
        description="The turn's references, numbered: @Image1 is the first."
    )
    models: list[ModelPlan] = strawberry.field(
        description="One for each chosen model that could run."
    )
    user_errors: list[UserError] = strawberry.field(
        description="All that the mutation would refuse it for; empty where it would be done."
    )

    @classmethod
    def of(cls, plan: turns.TurnPlan, found: Sequence[errors.UserError]) -> Self:
        return cls(
            credits=plan.credits,
            references=[Reference.of(one) for one in plan.references],
            models=[ModelPlan.of(planned) for planned in plan.outputs],
            user_errors=[UserError.of(error) for error in found],
        )
