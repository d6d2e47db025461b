"""What is measured: GraphQL documents as an app has them, and the records that answer them."""

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from domain.ids import (
    ConversationId,
    ViewerId,
    new_conversation_id,
    new_image_id,
    output_id_of,
    turn_id_of,
)

Record = dict[str, Any]

_TURN: Final = """
fragment TurnParts on Turn {
  __typename id turnIndex userMessage status createdAt completedAt
  outputs { ...OutputParts }
}
fragment OutputParts on Output {
  id status progress text
  model { id label }
  preview { index url }
  error { code message retryable }
  images { id width height thumbhash small: url(width: 256) url(width: $width) @include(if: $full) }
  credits: creditsCharged
  queuedAt completedAt @skip(if: $brief)
}
"""
_DECLARED: Final = "$width: Int = 512, $full: Boolean = true, $brief: Boolean = false"
FOLLOW: Final = (
    f"subscription Follow($id: ID!, $after: String, {_DECLARED}) {{"
    " turnUpdated(conversationId: $id, after: $after) {"
    " cursor changed: changedOutputs { id } turn { ...TurnParts } } }" + _TURN
).replace("Boolean =", "Boolean! =")
CONVERSATION: Final = (
    f"query Conversation($id: ID!, $last: Int = 20, {_DECLARED}) {{"
    " conversation(id: $id) { id title turnCount aspectRatio updatedAt"
    " turns(last: $last) { nodes { ...TurnParts } } } }" + _TURN
).replace("Boolean =", "Boolean! =")
IMAGES: Final = """
query Images($first: Int = 50, $width: Int = 256) {
  viewer { id images(first: $first) {
    nodes { id width height thumbhash createdAt favourite prompt origin
      thumbnail: url(width: $width) model { id label } }
    pageInfo { hasNextPage endCursor }
  } }
}
"""
START: Final = """
mutation Start($input: StartConversationInput!) {
  startConversation(input: $input) {
    conversation { id title } turn { id status outputs { id status } } cursor
    userErrors { code message path }
  }
}
"""
MODELS: Final = ("local-silver", "local-ink", "rehearsal-slow", "rehearsal-fast")


class Records:
    """Makes records as storage writes them: three outputs with an image, one that has failed."""

    def __init__(self, owner_id: ViewerId) -> None:
        self._owner_id = owner_id
        self._now = datetime.now(UTC)

    def conversation(self, *, turns: int) -> tuple[Record, list[Record]]:
        conversation_id = new_conversation_id()
        return {
            "_id": conversation_id,
            "ownerId": self._owner_id,
            "title": "A lighthouse in a storm, seen from the sea",
            "sourceImage": self.image(None),
            "aspectRatio": "3:2",
            "resolution": "ONE_K",
            "turnCount": turns,
            "words": ["lighthouse", "storm"],
            "version": turns,
            "createdAt": self._now,
            "updatedAt": self._tick(),
        }, [self._turn(conversation_id, index) for index in range(turns)]

    def gallery(self, turns: list[Record]) -> list[Record]:
        """The records of the turns' images."""
        return [
            {
                "_id": image["id"],
                **{key: value for key, value in image.items() if key != "id"},
                "ownerId": self._owner_id,
                "prompt": turn["userMessage"],
                "madeFrom": [],
                "favourite": False,
            }
            for turn in turns
            for output in turn["outputs"]
            for image in output["images"]
        ]

    def _turn(self, conversation_id: ConversationId, index: int) -> Record:
        turn_id = turn_id_of(conversation_id, index)
        reference = {"origin": "PREVIOUS_TURN", "image": self.image(None)}
        return {
            "_id": turn_id,
            "ownerId": self._owner_id,
            "turnIndex": index,
            "userMessage": "Make the waves higher, and let the light fall on the rocks.",
            "selectedModels": list(MODELS),
            "references": [reference],
            "previousWereNamed": False,
            "aspectRatio": "3:2",
            "resolution": "ONE_K",
            "options": {
                "imagesPerModel": 1,
                "previews": 2,
                "quality": None,
                "format": None,
                "width": None,
                "height": None,
                "seed": None,
                "negativePrompt": None,
            },
            "status": "COMPLETED",
            "outputs": [
                self._output(turn_id, slot, model=model, reference=reference)
                for slot, model in enumerate(MODELS, start=1)
            ],
            "version": 9,
            "createdAt": self._tick(),
            "updatedAt": self._tick(),
            "completedAt": self._tick(),
        }

    def _output(self, turn_id: Any, slot: int, *, model: str, reference: Record) -> Record:
        failed = slot == len(MODELS)
        image = self.image(output_id_of(turn_id, slot), model)
        return {
            "slot": slot,
            "attempt": 1,
            "fence": 1,
            "version": 4,
            "model": model,
            "requestedModel": model,
            "status": "FAILED" if failed else "COMPLETED",
            "progress": None,
            "queuePosition": None,
            "preview": None,
            "images": [] if failed else [image],
            "references": [reference],
            "text": None,
            "usage": {"inputTokens": 300, "outputTokens": 1290, "totalTokens": 1590},
            "error": {"code": "CONTENT_REFUSED", "retryable": False} if failed else None,
            "runs": [{"provider": "rehearsal", "tries": 1, "refused": False, "job": {"id": "j1"}}],
            "creditsReserved": 0,
            "creditsCharged": 0 if failed else 4,
            "leaseUntil": None,
            "notBefore": None,
            "deadlineSeconds": 120.0,
            "deadlineAt": self._tick(),
            "queuedAt": self._tick(),
            "startedAt": self._tick(),
            "completedAt": self._tick(),
        }

    def image(self, output_id: str | None, model: str | None = None) -> Record:
        name = secrets.token_hex(20)
        return {
            "id": new_image_id(),
            "key": f"images/{name[:2]}/{name}.png",
            "width": 1536,
            "height": 1024,
            "contentType": "image/png",
            "byteSize": 1_834_211,
            "thumbhash": "1QcSHQRnh493V4dIh4eXh1h4kJUI",
            "renditionWidths": [256, 512, 1024],
            "origin": "OUTPUT" if output_id else "UPLOAD",
            "model": model,
            "seed": "1234567",
            "outputId": output_id,
            "createdAt": self._tick(),
        }

    def _tick(self) -> datetime:
        self._now += timedelta(milliseconds=7)
        return self._now
