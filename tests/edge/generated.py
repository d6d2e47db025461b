"""Generated documents of the schema, and generated records of conversations, turns and images."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final

from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    get_named_type,
    is_composite_type,
)

from domain.errors import GenerationErrorCode
from domain.ids import (
    ConversationId,
    ParentId,
    ViewerId,
    new_conversation_id,
    new_image_id,
    new_post_id,
    output_id_of,
    turn_id_of,
)
from domain.images import ImageOrigin
from domain.models import ImageFormat, Quality, Resolution
from domain.outputs import OutputStatus
from domain.references import ReferenceOrigin
from domain.turns import TurnStatus

Record = dict[str, Any]

MODELS: Final = ("local-silver", "local-ink", "img-nano-banana-pro", "a-model-of-before")
TEXTS: Final = ("", "a red fox", 'quotes " and \\ and é and 狐', "two\nlines", "\u2028 \x00")

_VARIABLES: Final = {
    "yes": "$yes: Boolean! = true",
    "no": "$no: Boolean! = false",
    "width": "$width: Int = 500",
    "conversation": "$conversation: ID!",
    "turn": "$turn: ID!",
    "post": "$post: ID!",
    "image": "$image: ID!",
    "output": "$output: ID!",
}
_DIRECTIVES: Final = (
    *[""] * 8,
    "@include(if: $yes)",
    "@skip(if: $no)",
    "@include(if: true)",
    "@skip(if: true)",
    "@include(if: $no)",
)


class Records:
    """Records as storage writes them, in every state; some as no version of it would."""

    def __init__(self, random: Random, owner_id: ViewerId) -> None:
        self._random = random
        self._owner_id = owner_id

    def conversation(self) -> tuple[Record, list[Record]]:
        conversation_id = new_conversation_id()
        turns = [self.turn(conversation_id, index) for index in range(self._random.randint(1, 4))]
        return {
            "_id": conversation_id,
            "ownerId": self._owner_id,
            "title": self._text(),
            "sourceImage": self._perhaps(self.image()),
            "aspectRatio": self._one(["16:9", "1:1", "21:9"]),
            "resolution": self._one(Resolution).value,
            "turnCount": len(turns),
            "words": [],
            "version": 1,
            "createdAt": self._instant(),
            "updatedAt": self._instant(),
        }, turns

    def turn(self, conversation_id: ConversationId, index: int) -> Record:
        turn_id = turn_id_of(conversation_id, index)
        status = {"turnIndex": index, "status": self._one(TurnStatus).value}
        return {**self._parent(turn_id, first_slot=1), **status}

    def post(self) -> Record:
        return {
            **self._parent(new_post_id(), first_slot=0),
            "caption": self._perhaps(self._text()),
            "captionOptions": {
                "language": self._one([None, "en", "pt-BR"]),
                "maxLength": self._random.randint(50, 2_200),
                "hashtags": self._random.randint(0, 10),
                "tone": self._perhaps(self._text()),
            },
            "referencePrompts": self._some(TEXTS),
        }

    def _parent(self, parent_id: ParentId, *, first_slot: int) -> Record:
        last_slot = self._random.randint(1, 4)
        return {
            "_id": parent_id,
            "ownerId": self._owner_id,
            "userMessage": self._text(),
            "selectedModels": self._some(MODELS),
            "references": self._references(),
            "previousWereNamed": self._one([True, False]),
            "aspectRatio": self._one(["16:9", "1:1", "21:9"]),
            "resolution": self._one(Resolution).value,
            "options": {
                "imagesPerModel": self._random.randint(1, 4),
                "previews": self._random.randint(0, 3),
                "quality": self._perhaps(self._one(Quality).value),
                "format": self._perhaps(self._one(ImageFormat).value),
                "width": self._perhaps(self._random.randint(64, 4096)),
                "height": self._perhaps(self._random.randint(64, 4096)),
                "seed": self._perhaps(str(self._random.getrandbits(60))),
                "negativePrompt": self._perhaps(self._text()),
                **self._one([{}, {"earlierMessages": None}, {"earlierMessages": True}]),
                **self._mask(),
            },
            "outputs": [self.output(parent_id, slot) for slot in range(first_slot, last_slot + 1)],
            "version": self._random.randint(1, 50),
            "createdAt": self._instant(),
            "updatedAt": self._instant(),
            "completedAt": self._perhaps(self._instant()),
        }

    def output(self, parent_id: ParentId, slot: int) -> Record:
        output_id = output_id_of(parent_id, slot)
        return {
            "slot": slot,
            "attempt": self._random.randint(1, 3),
            "fence": self._random.randint(0, 9),
            "version": self._random.randint(1, 30),
            "model": self._one(MODELS),
            "requestedModel": self._one(MODELS),
            "status": self._one(OutputStatus).value,
            "progress": self._one([None, 0.0, 1.0, 0.1 + 0.2, self._random.random()]),
            "queuePosition": self._perhaps(self._random.randint(0, 99)),
            "preview": self._perhaps(
                {"index": 1, "key": "previews/ab/abc.webp", "width": 64, "height": 48}
            ),
            "images": [
                {**self.image(), "outputId": output_id} for _ in range(self._random.randint(0, 2))
            ],
            "references": self._references(),
            **self._report(),
            "text": self._perhaps(self._text()),
            "usage": self._perhaps(
                {
                    "inputTokens": self._perhaps(self._random.randint(0, 9999)),
                    "outputTokens": self._perhaps(self._random.randint(0, 9999)),
                    "totalTokens": self._perhaps(self._random.randint(0, 9999)),
                }
            ),
            **self._drift(),
            "error": self._perhaps(
                {
                    "code": self._one(GenerationErrorCode).value,
                    "retryable": self._one([True, False]),
                }
            ),
            "runs": [],
            "creditsReserved": self._random.randint(0, 40),
            "creditsCharged": self._random.randint(0, 40),
            "leaseUntil": None,
            "notBefore": None,
            "deadlineSeconds": 60.0,
            "deadlineAt": None,
            "queuedAt": self._instant(),
            "startedAt": self._perhaps(self._instant()),
            "completedAt": self._perhaps(self._instant()),
            **self._one([{}, {"chosen": False}, {"chosen": True}]),
        }

    def _report(self) -> Record:
        """Outputs of earlier releases have none."""
        words = {"provider": "fal", "quality": "high", "size": "1024x1024"}
        known = {name: self._perhaps(word) for name, word in words.items()}
        return known if self._random.random() < 0.7 else {}

    def _mask(self) -> Record:
        """Turns of earlier releases have none."""
        given = {"mask": self.image(), "feather": 7, "keepOutside": self._one([True, False])}
        kinds: list[Record] = [{}, dict.fromkeys(given), given]
        return kinds[self._random.randrange(3)]

    def _drift(self) -> Record:
        drift = {"changed": 0.25, "outsideMask": self._one([None, 0.0, 0.125])}
        kinds: list[Record] = [{}, {"drift": None}, {"drift": drift}]
        return kinds[self._random.randrange(3)]

    def image(self) -> Record:
        name = f"{self._random.getrandbits(160):040x}"
        return {
            "id": new_image_id(),
            "key": f"images/{name[:2]}/{name}.png",
            "width": self._random.randint(1, 9999),
            "height": self._random.randint(1, 9999),
            "contentType": "image/png",
            "byteSize": self._random.randint(1, 2**31 - 1),
            "thumbhash": self._perhaps("1QcSHQRnh493V4dIh4eXh1h4kJUI"),
            "renditionWidths": self._one([[], [256], [256, 512, 1024]]),
            "origin": self._one(ImageOrigin).value,
            "model": self._perhaps(self._one(MODELS)),
            "seed": self._perhaps("17"),
            "outputId": None,
            "createdAt": self._instant(),
        }

    def image_records(self, parents: Iterable[Record]) -> list[Record]:
        """The gallery's records of the images of these turns and posts."""
        known: list[str] = []
        records: list[Record] = []
        for parent in parents:
            for output in parent["outputs"]:
                for image in output["images"]:
                    record = {**image, "_id": image["id"], "ownerId": self._owner_id}
                    del record["id"]
                    record["prompt"] = self._perhaps(self._text())
                    record["madeFrom"] = self._some(known)[:3]
                    if self._random.random() < 0.8:
                        record["favourite"] = self._one([True, False])
                    records.append(record)
                    known.append(image["id"])
        return records

    def spoil(self, turn: Record) -> Record:
        """Set something to a value that its field does not promise."""
        output = self._one(turn["outputs"])
        place, key, value = self._one(
            [
                (turn, "status", "NO_SUCH_STATUS"),
                (turn, "userMessage", None),
                (turn, "turnIndex", 2**31),
                (turn, "aspectRatio", None),
                (turn, "createdAt", None),
                (turn, "completedAt", "yesterday"),
                (turn, "outputs", None),
                (turn["options"], "quality", "SUPERB"),
                (turn["options"], "width", 1.5),
                (output, "progress", float("nan")),
                (output, "progress", "half"),
                (output, "slot", None),
                (output, "images", [None]),
                (output, "creditsReserved", "3"),
                (output, "error", {"code": "NO_SUCH_CODE", "retryable": 1}),
                (output, "requestedModel", 7),
                (output, "text", 7),
            ]
        )
        place[key] = value
        return turn

    def _references(self) -> list[Record]:
        return [
            {"origin": self._one(ReferenceOrigin).value, "image": self.image()}
            for _ in range(self._random.randint(0, 2))
        ]

    def _one(self, choices: Iterable[Any]) -> Any:
        return self._random.choice(list(choices))

    def _some(self, choices: Iterable[Any]) -> list[Any]:
        known = list(choices)
        return self._random.sample(known, self._random.randint(0, len(known)))

    def _perhaps(self, value: object) -> Any:
        return self._random.choice([value, None])

    def _text(self) -> str:
        return self._random.choice(TEXTS)

    def _instant(self) -> datetime:
        begin = datetime(2026, 1, 1, tzinfo=UTC)
        return begin + timedelta(milliseconds=self._random.randint(0, 10**10))


class Documents:
    """Operations of the schema that select at random, down to a depth."""

    def __init__(
        self, random: Random, schema: GraphQLSchema, *, without: frozenset[str] = frozenset()
    ) -> None:
        self._random = random
        self._schema = schema
        self._without = without
        self._fragments: dict[str, str] = {}

    def operation(self, kind: str, root: str, returned: str, *, depth: int) -> str:
        """A query or subscription of one root field, which returns this type, or a field below it
        does.
        """
        self._fragments = {}
        selected = self._selection(self._schema.type_map[returned], depth)
        closing = "}" * (1 + root.count("{"))
        text = "\n".join([f"{root} {selected} {closing}", *self._fragments.values()])
        used = [one for name, one in _VARIABLES.items() if re.search(rf"\${name}\b", text)]
        declared = f"({', '.join(used)})" if used else ""
        return f"{kind} {declared} {{ {text}"

    def _selection(self, kind: Any, depth: int) -> str:
        parts = [self._part(kind, depth) for _ in range(self._random.randint(1, 4))]
        return "{ " + " ".join([*parts, "__typename"]) + " }"

    def _part(self, kind: Any, depth: int) -> str:
        chance = self._random.random()
        if chance < 0.1 and depth > 0:
            return f"... {self._directive()} {self._selection(kind, depth - 1)}"
        if chance < 0.2 and depth > 0:
            name = f"F{len(self._fragments)}"
            self._fragments[name] = ""  # its number is taken
            inner = self._selection(kind, depth - 1)
            self._fragments[name] = f"fragment {name} on {kind.name} {inner}"
            return f"...{name} {self._directive()}"
        if isinstance(kind, GraphQLInterfaceType) and chance < 0.7:
            concrete = self._random.choice(self._schema.get_possible_types(kind))
            return f"... on {concrete.name} {self._selection(concrete, depth)}"
        return self._field(kind, depth)

    def _field(self, kind: GraphQLObjectType | GraphQLInterfaceType, depth: int) -> str:
        names = [
            name
            for name, field in kind.fields.items()
            if f"{kind.name}.{name}" not in self._without
            and (depth > 0 or not is_composite_type(get_named_type(field.type)))
        ]
        if not names:
            return "__typename"
        name = self._random.choice(names)
        field = kind.fields[name]
        arguments = self._arguments(field)
        inner = get_named_type(field.type)
        below = self._selection(inner, depth - 1) if is_composite_type(inner) else ""
        # The alias names what is selected, so that no two fields of one key differ.
        alias = ""
        if self._random.random() < 0.3 or arguments or below:
            alias = f"{name}_{self._random.getrandbits(40):x}: "
        return f"{alias}{name}{arguments} {self._directive()} {below}"

    def _arguments(self, field: GraphQLField) -> str:
        given: list[str] = []
        for name, argument in field.args.items():
            kind = get_named_type(argument.type)
            required = argument.type != kind
            if not required and self._random.random() < 0.5:
                continue
            if isinstance(kind, GraphQLEnumType):
                value = self._random.choice(list(kind.values))
            elif name == "width":
                value = self._random.choice(["$width", "1", "300", "null", "2000"])
            elif name in ("first", "last"):
                value = str(self._random.randint(1, 5))
            elif kind.name == "Boolean":
                value = self._random.choice(["true", "false", "null", "$yes"])
            else:
                continue
            given.append(f"{name}: {value}")
        names = [one.partition(":")[0] for one in given]
        if "first" in names and "last" in names:
            given = [one for one in given if not one.startswith("last")]
        return f"({', '.join(given)})" if given else ""

    def _directive(self) -> str:
        return self._random.choice(_DIRECTIVES)
