"""The provider of Wavespeed's models."""

from collections.abc import Collection
from typing import Final

from providers.http import MAX_BYTES
from providers.polled.provider import PolledProvider
from providers.polling import Pace
from providers.references import References
from providers.wavespeed.wire import WavespeedDialect

URL: Final = "https://api.wavespeed.ai/api/v3"
RESULT_HOSTS: Final = (
    ".wavespeed.ai",
    "d1q70pf5vjeyhc.cloudfront.net",
    "d2h7xmz5gqybh9.cloudfront.net",
    "d2p7pge43lyniu.cloudfront.net",
)
"""Wavespeed lists its hosts nowhere: these are the ones in its own samples and clients."""


class WavespeedProvider(PolledProvider):
    """A `Provider` on Wavespeed's predictions."""

    def __init__(
        self,
        references: References,
        *,
        key: str,
        url: str = URL,
        max_concurrent_runs: int,
        result_hosts: Collection[str] = RESULT_HOSTS,
        pace: Pace | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        super().__init__(
            WavespeedDialect(),
            references,
            key=key,
            url=url,
            max_concurrent_runs=max_concurrent_runs,
            result_hosts=result_hosts,
            pace=pace,
            max_bytes=max_bytes,
        )
