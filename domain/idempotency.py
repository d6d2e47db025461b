"""Idempotency keys: a request that is repeated takes effect once.

A key belongs to its viewer, and to the first input that was accepted under it.
"""

import json
from dataclasses import asdict, dataclass
from enum import Enum
from hashlib import sha256
from typing import Any, Final

from domain.errors import BadUserInput
from domain.ids import ParentId

MAX_KEY_LENGTH: Final = 255


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    value: str
    mutation: str
    fingerprint: str
    """A digest of the input. Different inputs have different fingerprints."""


@dataclass(frozen=True, slots=True)
class IdempotencyRecord:
    """The result of the request that first used a key."""

    mutation: str
    fingerprint: str
    parent_id: ParentId
    """The turn or post that the request made, or that its output belongs to."""
    slot: int | None
    """The output, where the request was about one."""

    def is_for(self, key: IdempotencyKey) -> bool:
        return (self.mutation, self.fingerprint) == (key.mutation, key.fingerprint)


def key_of(mutation: str, value: str | None, command: Any) -> IdempotencyKey | None:
    """The idempotency key of a command, which is a dataclass; None where the client gave none."""
    if value is None:
        return None
    if not 1 <= len(value) <= MAX_KEY_LENGTH:
        raise BadUserInput(f"An idempotency key must have 1 to {MAX_KEY_LENGTH} characters.")
    facts = json.dumps(_given(asdict(command)), sort_keys=True, separators=(",", ":"))
    return IdempotencyKey(value, mutation, sha256(facts.encode()).hexdigest())


def _given(value: Any) -> Any:
    """Fields that were left out do not count, so that a field that is added later changes no older
    fingerprint.
    """
    if isinstance(value, dict):
        return {name: _given(one) for name, one in value.items() if one is not None}
    if isinstance(value, list | tuple):
        return [_given(item) for item in value]
    return value.value if isinstance(value, Enum) else value
