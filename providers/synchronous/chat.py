"""OpenAI's chat completions, which other providers have adopted: requests for captions, and
answers, which are one object with a message, or events with its pieces.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from domain.captions import CaptionRequest
from domain.errors import GenerationFailed
from domain.outputs import Usage
from providers.captions import CaptionEndpoint, instruct, max_tokens_for, words_for
from providers.endpoints import endpoint_of
from providers.failures import BAD_RESPONSE, REFUSED, REFUSING_ENDS
from providers.http import Answer
from providers.lenient import Fields, items_of, object_of, objects_of, text_of
from providers.references import Reference
from providers.streaming_json import InlineJson
from providers.synchronous.dialect import CaptionDialect, LeaveOut
from providers.usage import usage_of

PAUSE_SECONDS: Final = 60.0
"""How long an answer that has begun may be silent."""
MAX_TEXT_LENGTH: Final = 20_000
"""More than any caption has: the answer of a model that does not stop is not read further."""

_FAILED: Final = "error"
_CUT: Final = "length"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatWords:
    """The differences between providers that answer in this shape."""

    options: Callable[[CaptionEndpoint, int], Fields]
    """The parameters of writing, with at most this many tokens."""
    error_in: Callable[[Fields], Fields | None]
    explain_error: Callable[[Fields, LeaveOut], GenerationFailed]
    explain_answer: Callable[[Answer, LeaveOut], GenerationFailed]


def chat_dialect(
    name: str,
    *,
    key: str,
    headers: Mapping[str, str],
    url: Callable[[str], str],
    words: ChatWords,
    model_name: Callable[[str], str] = str,
) -> CaptionDialect:
    """How a provider with chat completions is called. `url` is the address for each model, and
    `model_name` the model's name there.
    """

    def url_of(request: CaptionRequest) -> str:
        model, _ = endpoint_of(request, CaptionEndpoint)
        return url(model)

    def body_of(request: CaptionRequest, references: Sequence[Reference]) -> Fields:
        model, endpoint = endpoint_of(request, CaptionEndpoint)
        return {
            "model": model_name(model),
            "messages": _messages_for(request, references),
            "stream": True,
            **words.options(endpoint, max_tokens_for(request, endpoint)),
        }

    return CaptionDialect(
        name=name,
        key=key,
        headers=headers,
        pause_seconds=PAUSE_SECONDS,
        failure=words.explain_answer,
        url=url_of,
        body=body_of,
        reply=lambda _, leave_out: ChatReply(leave_out, words=words),
    )


def _messages_for(request: CaptionRequest, references: Sequence[Reference]) -> list[Fields]:
    """The task, then the message with the references' images."""
    content: list[Fields] = [{"type": "text", "text": words_for(request)}]
    content += [
        {"type": "image_url", "image_url": {"url": reference.as_link()}} for reference in references
    ]
    return [
        {"role": "system", "content": instruct(request)},
        {"role": "user", "content": content},
    ]


class ChatReply:
    """The answer to one run."""

    def __init__(self, leave_out: LeaveOut, *, words: ChatWords) -> None:
        self._leave_out = leave_out
        self._words = words
        self._pieces: list[str] = []
        self._length = 0
        self._refusal = ""
        self._finish = ""
        self._native_finish = ""
        """The reason in the words of the provider to which OpenRouter has passed the request on."""
        self._is_answered = False
        self._has_ended = False
        self.usage: Usage | None = None

    @property
    def text(self) -> str:
        return "" if self._is_refused else "".join(self._pieces)

    @property
    def is_cut(self) -> bool:
        return self._finish == _CUT or self._is_endless

    @property
    def has_result(self) -> bool:
        return self.is_whole and bool(self.text)

    @property
    def is_empty(self) -> bool:
        # An incomplete caption is none: it counts once it is known to be complete.
        return not self.is_whole

    @property
    def is_whole(self) -> bool:
        return bool(self._finish) or self._has_ended or self._is_endless

    @property
    def is_ending(self) -> bool:
        return self.is_whole

    @property
    def has_ended(self) -> bool:
        return (bool(self._finish) and self.usage is not None) or self._is_endless

    def take(self, _document: InlineJson, fields: Fields, /) -> list[str]:
        """Take in a message, or a piece of it. Return everything that is written so far if there is
        more.
        """
        self.usage = (
            usage_of(
                fields.get("usage"),
                input_name="prompt_tokens",
                output_names=("completion_tokens",),
                total_name="total_tokens",
            )
            or self.usage
        )
        length = self._length
        for choice in objects_of(fields.get("choices"))[:1]:
            self._take_choice(choice)
        error = self._words.error_in(fields)
        if error is not None or self._finish == _FAILED:
            raise self._words.explain_error(error or {}, self._leave_out)
        return [self.text] if self._length > length else []

    def end(self) -> None:
        self._has_ended = self._is_answered

    def failure(self) -> GenerationFailed:
        """Why there is no caption."""
        ends = ", ".join(filter(None, dict.fromkeys([self._finish, self._native_finish])))
        if self._is_refused:
            return REFUSED.failure(f"refused inside a good answer, {ends or 'no reason'}")
        return BAD_RESPONSE.failure(f"no caption, {ends or 'no reason'}")

    @property
    def _is_endless(self) -> bool:
        return self._length >= MAX_TEXT_LENGTH

    @property
    def _is_refused(self) -> bool:
        return bool(self._refusal or REFUSING_ENDS & {self._finish, self._native_finish})

    def _take_choice(self, choice: Fields) -> None:
        self._is_answered = True
        is_whole = "message" in choice
        message = object_of(choice.get("message") if is_whole else choice.get("delta"))
        self._refusal += text_of(message.get("refusal"))
        for piece in _texts_in(message.get("content")) or _texts_in(choice.get("text")):
            self._pieces.append(piece)
            self._length += len(piece)
        self._finish = text_of(choice.get("finish_reason")) or self._finish
        self._native_finish = text_of(choice.get("native_finish_reason")) or self._native_finish
        self._has_ended = self._has_ended or is_whole


def _texts_in(content: object) -> list[str]:
    """A text, or the texts among the parts of a content."""
    parts = (
        text_of(part.get("text")) if isinstance(part, dict) else text_of(part)
        for part in items_of(content)
    )
    return [part for part in parts if part]
