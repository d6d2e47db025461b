"""Credits: what a viewer has, what is reserved for unfinished outputs, and every movement.

The ledger is the account: the sums of its entries are `balance` and `reserved` at every instant. An
attempt of an output is reserved once, and then captured once or released once.
"""

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Final, Protocol

from domain.ids import OutputId, ViewerId

MAX_BALANCE: Final = 2**31 - 1
"""What GraphQL's `Int` can show."""


class Priced(Protocol):
    """What has a price in credits."""

    @property
    def credits(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Account:
    """What a viewer owns, how much of it is reserved, and how many outputs are unfinished."""

    viewer_id: ViewerId
    balance: int
    reserved: int
    active_outputs: int
    daily_limit: int | None = None
    """What operators let the viewer spend on a day, by UTC; None: all that is there."""
    spent_today: int | None = None
    """What was reserved today and is not free again; None where there is no limit."""

    @property
    def available(self) -> int:
        return self.balance - self.reserved

    @property
    def left_today(self) -> int | None:
        """What of the limit is left. None where there is none."""
        if self.daily_limit is None:
            return None
        return max(self.daily_limit - (self.spent_today or 0), 0)


class MovementKind(StrEnum):
    GRANT = "GRANT"
    RESERVE = "RESERVE"
    CAPTURE = "CAPTURE"
    RELEASE = "RELEASE"
    FORFEIT = "FORFEIT"


@dataclass(frozen=True, slots=True)
class Movement:
    """One line of the ledger: what it adds to an account."""

    kind: MovementKind
    cause: str
    """What the credits were moved for. Together with the kind it makes the entry's id, so that no
    entry is written twice.
    """
    balance: int
    reserved: int
    active_outputs: int


def granted(credits: int, *, key: str) -> Movement:
    """Grant credits. `key` is the operator's idempotency key."""
    return Movement(MovementKind.GRANT, key, credits, 0, 0)


def reserved(output_id: OutputId, attempt: int, credits: int) -> Movement:
    return Movement(MovementKind.RESERVE, _cause(output_id, attempt), 0, credits, 1)


def captured(output_id: OutputId, attempt: int, credits: int, *, charged: int) -> Movement:
    """Charge for what was delivered, and release the rest of what was reserved."""
    return Movement(MovementKind.CAPTURE, _cause(output_id, attempt), -charged, -credits, -1)


def released(output_id: OutputId, attempt: int, credits: int) -> Movement:
    return Movement(MovementKind.RELEASE, _cause(output_id, attempt), 0, -credits, -1)


def settled(
    output_id: OutputId, attempt: int, credits: int, *, delivered: int, asked: int
) -> Movement:
    """Charge for what an output has delivered that ends before it has delivered all."""
    if not delivered:
        return released(output_id, attempt, credits)
    charged = charge_for(credits, delivered=delivered, asked=asked)
    return captured(output_id, attempt, credits, charged=charged)


def forfeited(account: Account, *, key: str) -> Movement:
    """Forfeit everything that is left in the account of a deleted viewer."""
    return Movement(
        MovementKind.FORFEIT, key, -account.balance, -account.reserved, -account.active_outputs
    )


def charge_for(credits: int, *, delivered: int, asked: int) -> int:
    """The part of what was reserved for `asked` images that `delivered` images cost."""
    return credits * min(delivered, asked) // asked


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditsOfDay:
    """The movements in a viewer's account on one day, by UTC."""

    day: date
    granted: int
    reserved: int
    charged: int
    released: int
    """Reserved credits that were released, also where a part of them was charged."""


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """An account that does not agree with its ledger or its outputs."""

    viewer_id: ViewerId
    what: str
    account: int
    elsewhere: int


@dataclass(frozen=True, slots=True)
class Proof:
    """The result of comparing accounts with ledger and outputs, all as of one moment."""

    accounts: int
    movements: int
    balance: int
    reserved: int
    active_outputs: int
    discrepancies: tuple[Discrepancy, ...]


def _cause(output_id: OutputId, attempt: int) -> str:
    return f"{output_id} {attempt}"
