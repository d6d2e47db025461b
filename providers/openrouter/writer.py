"""The writer of captions by the chat models that OpenRouter passes requests on to."""

from typing import Final

from providers.captions import CaptionEndpoint
from providers.lenient import Fields
from providers.openrouter.failures import error_in, explain_answer, explain_error
from providers.polling import Pace
from providers.references import References
from providers.synchronous.chat import ChatWords, chat_dialect
from providers.synchronous.writer import SynchronousWriter


class OpenRouterWriter(SynchronousWriter):
    """A `CaptionWriter` on chat completions."""

    def __init__(
        self,
        references: References,
        *,
        key: str,
        url: str,
        max_concurrent_runs: int,
        pace: Pace | None = None,
    ) -> None:
        address = f"{url.rstrip('/')}/chat/completions"
        dialect = chat_dialect(
            "openrouter",
            key=key,
            headers={"authorization": f"Bearer {key}"},
            url=lambda _: address,
            words=_WORDS,
        )
        super().__init__(dialect, references, max_concurrent_runs=max_concurrent_runs, pace=pace)


def _options(endpoint: CaptionEndpoint, max_tokens: int) -> Fields:
    options: dict[str, object] = {"max_tokens": max_tokens}
    if endpoint.effort is not None:
        options["reasoning"] = {"effort": endpoint.effort, "exclude": True}
    return options


_WORDS: Final = ChatWords(
    options=_options,
    error_in=error_in,
    explain_error=explain_error,
    explain_answer=explain_answer,
)
