"""Models that providers have dropped."""

from datetime import UTC, datetime

from domain.ids import ModelId
from domain.registry import Withdrawal


def withdrawn(*names: str, providers: tuple[str, ...] = ("local",)) -> list[Withdrawal]:
    now = datetime.now(UTC)
    return [Withdrawal(ModelId(name), provider, now) for name in names for provider in providers]
