"""The root field that plans a turn."""

from typing import Annotated

import strawberry

from domain import turns
from schema.companions import with_companion
from schema.context import Info
from schema.plans import PlanTurnInput, TurnPlan


@strawberry.type
class PlanQueries:
    @strawberry.field(
        graphql_type=TurnPlan,
        description="A dry run of `startConversation` or `sendEdit`: what the turn would cost, "
        "what each model would be given, and what it would be refused for. Changes "
        "nothing.",
    )
    async def plan_turn(
        self,
        info: Info,
        input: Annotated[PlanTurnInput, strawberry.argument(description="The turn to plan.")],
    ) -> turns.TurnPlan:
        plan, found = await info.context.services.plans.plan(
            info.context.viewer, input.to_command()
        )
        return with_companion(plan, tuple(found))
