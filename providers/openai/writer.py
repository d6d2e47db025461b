"""The writer of captions by OpenAI's chat models, at OpenAI or at Azure."""

from functools import partial
from typing import Final

from providers.captions import CaptionEndpoint
from providers.lenient import Fields
from providers.openai.backends import Backend, Verb
from providers.openai.failures import error_in, explain_answer, explain_error
from providers.polling import Pace
from providers.references import References
from providers.synchronous.chat import ChatWords, chat_dialect
from providers.synchronous.writer import SynchronousWriter


class OpenAIWriter(SynchronousWriter):
    """A `CaptionWriter` on chat completions."""

    def __init__(
        self,
        references: References,
        backend: Backend,
        *,
        max_concurrent_runs: int,
        pace: Pace | None = None,
    ) -> None:
        dialect = chat_dialect(
            backend.provider,
            key=backend.key,
            headers=backend.headers,
            url=partial(backend.url, Verb.WRITE),
            model_name=backend.model_name,
            words=_WORDS,
        )
        super().__init__(dialect, references, max_concurrent_runs=max_concurrent_runs, pace=pace)


def _options(endpoint: CaptionEndpoint, max_tokens: int) -> Fields:
    options: dict[str, object] = {
        "max_completion_tokens": max_tokens,
        "stream_options": {"include_usage": True},
    }
    if endpoint.effort is not None:
        options["reasoning_effort"] = endpoint.effort
    return options


_WORDS: Final = ChatWords(
    options=_options,
    error_in=error_in,
    explain_error=explain_error,
    explain_answer=explain_answer,
)
