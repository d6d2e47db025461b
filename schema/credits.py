"""The credits of a viewer."""

from typing import ClassVar

import strawberry

from domain.credits import Account


@strawberry.type(description="The credits of a viewer.")
class Credits:
    source: ClassVar[type] = Account

    balance: int = strawberry.field(
        description="All credits that the viewer owns, including the reserved ones."
    )
    reserved: int = strawberry.field(
        description="The credits that are reserved for outputs that have not ended."
    )
    available: int = strawberry.field(
        description="The credits that can be spent: `balance` minus `reserved`."
    )
    daily_limit: int | None = strawberry.field(
        description="How many credits the operator lets the viewer spend on a day, from 00:00 UTC. "
        "Null: all that are available."
    )
    spent_today: int | None = strawberry.field(
        description="What counts towards `dailyLimit`: the credits that were reserved today, "
        "without those that were released again. Null where there is no limit."
    )
