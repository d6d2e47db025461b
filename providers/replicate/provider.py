"""The provider of Replicate's models."""

from typing import Final

from providers.http import MAX_BYTES
from providers.polled.provider import PolledProvider
from providers.polling import Pace
from providers.references import References
from providers.replicate.wire import ReplicateDialect

URL: Final = "https://api.replicate.com/v1"
RESULT_HOSTS: Final = ("replicate.delivery", ".replicate.delivery")


class ReplicateProvider(PolledProvider):
    """A `Provider` on Replicate's predictions."""

    def __init__(
        self,
        references: References,
        *,
        key: str,
        url: str = URL,
        max_concurrent_runs: int,
        pace: Pace | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        super().__init__(
            ReplicateDialect(),
            references,
            key=key,
            url=url,
            max_concurrent_runs=max_concurrent_runs,
            result_hosts=RESULT_HOSTS,
            pace=pace,
            max_bytes=max_bytes,
        )
