"""How mutations are sent: once, as duplicates, interrupted, or repeated until they are answered.

What was asked and answered is kept for the checker; nothing is judged here.
"""

import asyncio
import itertools
import json
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import time
from typing import Any, Final

import httpx2

from tests.clients import Data
from tests.http import open_http
from tests.resilience.evidence import SentMutation

_TURN: Final = """
fragment TurnState on Turn {
  id turnIndex userMessage status
  selectedModels { id }
  outputs { id status attempt images { id } error { code retryable } }
}
"""

_POST: Final = """
fragment PostState on Post { id userMessage status outputs { id status attempt images { id } } }
"""
_EITHER: Final = "turn { ...TurnState } post { ...PostState }"


def _mutation(name: str, kind: str, fields: str) -> str:
    return (
        f"mutation Ask($input: {kind}!) {{ {name}(input: $input) "
        f"{{ userErrors {{ code path }} {fields} }} }}"
    )


MUTATIONS: Final = {
    "startConversation": _TURN
    + _mutation("startConversation", "StartConversationInput", "cursor turn { ...TurnState }"),
    "sendEdit": _TURN + _mutation("sendEdit", "SendEditInput", "cursor turn { ...TurnState }"),
    "retryOutput": _TURN
    + _POST
    + _mutation("retryOutput", "RetryOutputInput", f"cursor output {{ id attempt }} {_EITHER}"),
    "cancelOutput": _TURN
    + _POST
    + _mutation("cancelOutput", "CancelOutputInput", f"output {{ id attempt status }} {_EITHER}"),
    "cancelTurn": _TURN + _mutation("cancelTurn", "CancelTurnInput", "turn { ...TurnState }"),
    "generatePost": _POST + _mutation("generatePost", "GeneratePostInput", "post { ...PostState }"),
    "regenerateCaption": _POST
    + _mutation("regenerateCaption", "RegenerateCaptionInput", "post { ...PostState }"),
    "cancelPost": _POST + _mutation("cancelPost", "CancelPostInput", "post { ...PostState }"),
    "deletePost": _mutation("deletePost", "DeletePostInput", "deletedPostId"),
    "deleteConversation": _mutation(
        "deleteConversation", "DeleteConversationInput", "deletedConversationId"
    ),
}
READ: Final = {
    "turn": _TURN + "query Read($id: ID!) { found: turn(id: $id) { ...TurnState } }",
    "post": _POST + "query Read($id: ID!) { found: post(id: $id) { ...PostState } }",
}
ANSWER_SECONDS: Final = 30.0
_CUT_AFTER_SECONDS: Final = (0.002, 0.15)
_MOST_TRIES: Final = 40
_PAUSE_SECONDS: Final = (0.2, 0.8)

Router = Callable[[], str]
"""The address of one of the API processes, as a balancer chooses."""


def round_robin(urls: Sequence[str]) -> Router:
    return itertools.cycle(urls).__next__


class MutationSender:
    """Sends requests for viewers."""

    def __init__(self, *, route: Router, token: Callable[[str], str]) -> None:
        self.asked: list[SentMutation] = []
        self._route = route
        self._token = token
        # One for everybody: the tokens travel with each request.
        self._http = open_http(
            timeout=ANSWER_SECONDS,
            limits=httpx2.Limits(max_connections=200, max_keepalive_connections=20),
        )

    async def aclose(self) -> None:
        await self._http.aclose()

    async def once(
        self, viewer: str, mutation: str, input: Data, *, http: httpx2.AsyncClient | None = None
    ) -> SentMutation:
        """Send it once, whatever the result. `http`: by this client instead of the common one."""
        asked = SentMutation(viewer=viewer, mutation=mutation, input=input, sent_at=time())
        self.asked.append(asked)
        try:
            answer = await self._post(http or self._http, viewer, MUTATIONS[mutation], input=input)
        except (httpx2.HTTPError, json.JSONDecodeError) as error:
            asked.failure = type(error).__name__
            return asked
        except asyncio.CancelledError:
            asked.failure = "cut"
            raise
        asked.answered_at = time()
        if "errors" in answer:
            asked.failure = answer["errors"][0]["extensions"]["code"]
        else:
            asked.payload = answer["data"][mutation]
            asked.refusals = [error["code"] for error in answer["data"][mutation]["userErrors"]]
        return asked

    async def keyed(
        self, viewer: str, mutation: str, input: Data, *, choice: random.Random, twins: int = 1
    ) -> SentMutation | None:
        """Send it under its key: `count` at once, then again until it is answered.

        None if there is no response after many tries.
        """
        if choice.random() < 0.15:
            await self._cut_off(viewer, mutation, input, choice)
        first = await asyncio.gather(*(self.once(viewer, mutation, input) for _ in range(twins)))
        # An accepted one says more than a refused one.
        answered = sorted(
            (one for one in first if not one.failure), key=lambda one: not one.acknowledged
        )
        for _ in range(_MOST_TRIES):
            if answered:
                break
            await asyncio.sleep(choice.uniform(*_PAUSE_SECONDS))
            again = await self.once(viewer, mutation, input)
            answered = [] if again.failure else [again]
        if answered and choice.random() < 0.15:
            # A client that has lost the response sends the request again although there was one.
            await self.once(viewer, mutation, input)
        return answered[0] if answered else None

    async def read(self, viewer: str, parent_id: str) -> Data | None:
        """The current turn or post; None if it cannot be read."""
        try:
            answer = await self._post(
                self._http, viewer, READ[parent_id.partition("_")[0]], id=parent_id
            )
        except (httpx2.HTTPError, json.JSONDecodeError):
            return None
        found: Data | None = answer.get("data", {}).get("found") if "errors" not in answer else None
        return found

    async def _cut_off(
        self, viewer: str, mutation: str, input: Data, choice: random.Random
    ) -> None:
        # A cancelled request leaves unclosed what its client's pool was about to close.
        async with open_http() as http:
            with suppress(TimeoutError):
                async with asyncio.timeout(choice.uniform(*_CUT_AFTER_SECONDS)):
                    await self.once(viewer, mutation, input, http=http)

    async def _post(
        self, http: httpx2.AsyncClient, viewer: str, query: str, **variables: Any
    ) -> Data:
        response = await http.post(
            f"{self._route()}/graphql",
            json={"query": query, "variables": variables},
            headers={"authorization": f"Bearer {self._token(viewer)}"},
        )
        answer: Data = response.json()
        return answer
