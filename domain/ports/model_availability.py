"""Which models and providers are switched off or withdrawn."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from domain.ids import ModelId
from domain.registry import Withdrawal


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchedOff:
    """A model or a provider that an operator has switched off."""

    name: str
    """The model's id or the provider's name."""
    reason: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    withdrawn: Collection[Withdrawal]
    """Each is forgotten after an hour."""
    off: Collection[SwitchedOff]


class ModelAvailabilityRepository(Protocol):
    async def withdraw(self, model_id: ModelId, provider: str) -> None: ...

    async def find_unavailable(self) -> Unavailable: ...

    async def switch_off(self, name: str, *, reason: str) -> None:
        """Switch it off; if it is off already, only the reason changes."""

    async def switch_on(self, name: str) -> bool:
        """Allow it again, also where it was withdrawn. False if it was neither switched off nor
        withdrawn.
        """
