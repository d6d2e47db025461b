"""Idempotency keys: a request that is sent again has its effect once.

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
    """Of the input: the same for the same input only."""


@dataclass(frozen=True, slots=True)
class IdempotencyRecord:
    """What came of the request that used a key first."""

    mutation: str
    fingerprint: str
    parent_id: ParentId
    """Of the turn that it made, or of the output's."""
    slot: int | None
    """The output's, where it was about one."""

    def is_for(self, key: IdempotencyKey) -> bool:
        return (self.mutation, self.fingerprint) == (key.mutation, key.fingerprint)


def key_of(mutation: str, value: str | None, command: Any) -> IdempotencyKey | None:
    """The key under which a command came, a dataclass; None where it came under none."""
    if value is None:
        return None
    if not 1 <= len(value) <= MAX_KEY_LENGTH:
        raise BadUserInput(f"An idempotency key must have 1 to {MAX_KEY_LENGTH} characters.")
    facts = json.dumps(_given(asdict(command)), sort_keys=True, separators=(",", ":"))
    return IdempotencyKey(value, mutation, sha256(facts.encode()).hexdigest())


def _given(value: Any) -> Any:
    """Without what was left out: a field that is added later changes no older fingerprint."""
    if isinstance(value, dict):
        return {name: _given(one) for name, one in value.items() if one is not None}
    if isinstance(value, list | tuple):
        return [_given(one) for one in value]
    return value.value if isinstance(value, Enum) else value
