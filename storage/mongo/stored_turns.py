"""Turns as documents, outputs embedded: one document is what is read, written and watched."""

from typing import ClassVar

from domain.stored import Coded, Derived, Key, One, Property, Stored
from domain.turns import Turn, TurnStatus, WaitingEdit
from storage.mongo.stored_outputs import StoredError
from storage.mongo.stored_parents import PARENT_FIELDS


class StoredWaitingEdit(Stored, WaitingEdit):
    __slots__ = ("companion", "record")
    kind = WaitingEdit
    fields: ClassVar = {
        "selected_models": Derived(
            lambda record: _names(record["selectedModels"]), ("selectedModels",)
        ),
        "previous_output_ids": Derived(
            lambda record: _names(record["previousOutputIds"]), ("previousOutputIds",)
        ),
        "max_credits": Key("maxCredits"),
    }


class StoredTurn(Stored, Turn):
    __slots__ = ("companion", "record")
    kind = Turn
    fields: ClassVar = PARENT_FIELDS | {
        "turn_index": Key("turnIndex"),
        "status": Coded("status", TurnStatus),
        "waiting": One("waiting", StoredWaitingEdit),
        "failure": One("failure", StoredError),
        "error": Property(("status", "outputs.error", "failure")),
        "chosen_output": Property(("outputs",)),
    }


read_turn = StoredTurn.of


def _names(stored: list[str] | None) -> tuple[str, ...] | None:
    return None if stored is None else tuple(stored)
