"""The writer of captions by Gemini's models, on `streamGenerateContent`."""

from collections.abc import Sequence
from typing import Final

from domain.captions import CaptionRequest
from domain.errors import GenerationFailed
from providers.captions import CaptionEndpoint, instruct, max_tokens_for, words_for
from providers.endpoints import endpoint_of
from providers.failures import BAD_RESPONSE
from providers.gemini.answers import GeminiAnswer
from providers.gemini.failures import explain_answer
from providers.lenient import Fields, is_yes, text_of
from providers.polling import Pace
from providers.references import Reference, References
from providers.streaming_json import InlineJson
from providers.synchronous.dialect import CaptionDialect
from providers.synchronous.writer import SynchronousWriter

PAUSE_SECONDS: Final = 60.0
"""How long an answer that has begun may be silent."""
_WHOLE: Final = "STOP"


class GeminiWriter(SynchronousWriter):
    """A `CaptionWriter` on `streamGenerateContent`."""

    def __init__(
        self,
        references: References,
        *,
        key: str,
        url: str,
        max_concurrent_runs: int,
        pace: Pace | None = None,
    ) -> None:
        root = url.rstrip("/")

        def url_of(request: CaptionRequest) -> str:
            name, _ = endpoint_of(request, CaptionEndpoint)
            return f"{root}/v1beta/models/{name}:streamGenerateContent?alt=sse"

        dialect = CaptionDialect(
            name="gemini",
            key=key,
            headers={"x-goog-api-key": key},
            pause_seconds=PAUSE_SECONDS,
            failure=explain_answer,
            url=url_of,
            body=body_of,
            reply=lambda _, leave_out: GeminiCaption(leave_out),
        )
        super().__init__(dialect, references, max_concurrent_runs=max_concurrent_runs, pace=pace)


def body_of(request: CaptionRequest, references: Sequence[Reference]) -> Fields:
    _, endpoint = endpoint_of(request, CaptionEndpoint)
    config: dict[str, object] = {"maxOutputTokens": max_tokens_for(request, endpoint)}
    if endpoint.effort is not None:
        config["thinkingConfig"] = {"thinkingLevel": endpoint.effort}
    parts: list[Fields] = [{"text": words_for(request)}]
    parts += [
        {"inlineData": {"mimeType": reference.content_type, "data": reference.as_base64()}}
        for reference in references
    ]
    return {
        "systemInstruction": {"parts": [{"text": instruct(request)}]},
        "contents": [{"role": "user", "parts": parts}],
        "generationConfig": config,
    }


class GeminiCaption(GeminiAnswer[str]):
    """The answer to one run."""

    @property
    def text(self) -> str:
        is_withheld = self._block or self._known_end is not None
        return "" if is_withheld else "".join(self._texts)

    @property
    def is_cut(self) -> bool:
        return any(finish != _WHOLE for finish in self._finishes)

    @property
    def has_result(self) -> bool:
        # An incomplete caption is none: it counts once it is known to be complete.
        return bool(self._finishes and self.text)

    @property
    def has_ended(self) -> bool:
        return self.is_ending

    def failure(self) -> GenerationFailed:
        """Why there is no caption."""
        return self.explain_end(BAD_RESPONSE)

    def _take_part(self, _document: InlineJson, part: Fields, /) -> list[str]:
        text = "" if is_yes(part.get("thought")) else text_of(part.get("text"))
        if not text:
            return []
        self._texts.append(text)
        return [self.text]
