"""The root fields that plan a turn or a post."""

from typing import Annotated

import strawberry

from domain import turns
from schema.companions import with_companion
from schema.context import Info
from schema.plans import PlanTurnInput, TurnPlan
from schema.posts import PlanPostInput


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

    @strawberry.field(
        graphql_type=TurnPlan,
        description="A dry run of `generatePost`: what the post would cost, the caption included, "
        "what each model would be given, and what it would be refused for. Changes nothing.",
    )
    async def plan_post(
        self,
        info: Info,
        input: Annotated[PlanPostInput, strawberry.argument(description="The post to plan.")],
    ) -> turns.TurnPlan:
        plan, found = await info.context.services.posts.plan(
            info.context.viewer, input.to_command()
        )
        return with_companion(plan, tuple(found))
